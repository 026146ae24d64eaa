//! What Laggard relies on of the OpenTelemetry protocol: bytes in, bytes out.
//!
//! Nothing here allocates per span or per attribute, and every function is total: malformed input is an
//! error value. This module uses nothing else of the crate.

pub mod attribute;
pub mod batch;
pub mod codec;
mod depth;
pub mod ids;
pub mod json;
pub mod sound;
pub mod span;
mod times;
pub mod tracestate;
pub mod wire;

pub use ids::{SpanId, TraceId};

/// Nanoseconds, either since the Unix epoch or as a length of time; which one, the name at hand says.
pub type Nanos = u64;

/// The generated gRPC glue of the four OTLP services, one module per protobuf package.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod services {
    tonic::include_proto!("services");
}
