//! Laggard.

pub mod admin;
pub mod assemble;
mod baseline;
pub mod cli;
pub mod compare;
pub mod config;
pub mod decide;
pub mod demo;
pub mod enrich;
pub mod export;
pub mod otlp;
pub mod pipeline;
pub mod receive;
pub mod telemetry;
pub mod template;
pub mod waterfall;
