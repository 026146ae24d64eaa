//! What a run has lost.

use crate::telemetry::metrics::DropReason;

/// Accepted spans that did not reach the destination though nobody decided to drop them, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// The queue had no room.
    pub queue_full: u64,
    /// The destination failed for too long.
    pub retry_expired: u64,
    /// The destination refused them for good.
    pub rejected: u64,
    /// The process had to end.
    pub shutdown: u64,
}

impl Losses {
    /// All of them.
    pub fn spans(&self) -> u64 {
        let Self { queue_full, retry_expired, rejected, shutdown } = self;
        queue_full + retry_expired + rejected + shutdown
    }

    pub(super) fn add(&mut self, reason: DropReason, spans: u64) {
        match reason {
            DropReason::QueueFull => self.queue_full += spans,
            DropReason::RetryExpired => self.retry_expired += spans,
            DropReason::Rejected => self.rejected += spans,
            DropReason::Shutdown => self.shutdown += spans,
            DropReason::NotSampled | DropReason::Late | DropReason::Memory => {}
        }
    }
}
