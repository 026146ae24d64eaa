//! The demo.
mod counts;
mod finding;
mod http;
pub mod sink;
pub mod traffic;
