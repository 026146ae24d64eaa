//! The demo.
pub mod sink;
pub mod traffic;
