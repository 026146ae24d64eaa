//! The sidecar over real sockets, from a sender's request to the destination's.

#[path = "support/support.rs"]
mod support;
