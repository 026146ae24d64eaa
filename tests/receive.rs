//! The receivers over real sockets: exact statuses, good spans byte for byte, and a good request afterwards.
//!
//! Names of rows (R1, A6, ...) are those of the conformance and fault tables that this suite follows.

#![allow(
    clippy::format_push_string,
    clippy::panic,
    clippy::type_complexity,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and a table of cases is clearest where it stands"
)]

#[path = "receive/auth.rs"]
mod auth;
#[path = "receive/connection.rs"]
mod connection;
#[path = "receive/cors.rs"]
mod cors;
#[path = "support/frames.rs"]
mod frames;
#[path = "receive/grpc.rs"]
mod grpc;
#[path = "receive/harness.rs"]
mod harness;
#[path = "receive/http.rs"]
mod http;
#[path = "receive/http2.rs"]
mod http2;
#[path = "receive/payload.rs"]
mod payload;
#[path = "receive/relay.rs"]
mod relay;
#[path = "receive/relay_http.rs"]
mod relay_http;
#[path = "support/tls.rs"]
mod tls;
#[path = "receive/tls.rs"]
mod tls_receive;
