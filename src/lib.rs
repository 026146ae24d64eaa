//! Laggard.

pub mod assemble;
pub mod compare;
pub mod config;
pub mod otlp;
pub mod telemetry;
