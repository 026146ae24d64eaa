//! What the process says of itself.

mod labels;
pub mod lateness;
pub mod log;
pub mod metrics;
pub mod movements;
pub mod process;
pub(crate) mod repeated;
pub mod root_causes;
