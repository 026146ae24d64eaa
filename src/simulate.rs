//! Systems with known faults: random services whose every request is known, with one thing going wrong.
//!
//! It is how rules are compared and confidence is fitted: a [`judge::Case`] is sent through the real pipeline, and the
//! verdicts are held against what was injected. The demonstration shows a system made by hand. All follows from a seed.

#![allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "it runs in tests, measurements and the demonstration only, on its own data: a wrong index or number is a \
              bug to stop at"
)]

pub mod encode;
pub mod fault;
pub mod fit;
pub mod judge;
pub mod plot;
pub mod random;
pub mod reliability;
pub mod report;
pub mod results;
pub mod run;
pub mod system;
