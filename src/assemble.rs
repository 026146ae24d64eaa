//! Gathers the spans of each trace over many requests, bounded in bytes, until the trace is due.

pub mod trace;

pub use trace::Trace;
