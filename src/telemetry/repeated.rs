//! Lines of the log for what may come thousands of times a second.

use std::time::Duration;

use tokio::time::Instant;

/// However often it happens.
const BETWEEN_LINES: Duration = Duration::from_mins(1);

/// Says when a line is due: at once, and then once a minute with a count.
#[derive(Debug, Default)]
pub(crate) struct Repeated {
    last: Option<Instant>,
    unsaid: u64,
}

impl Repeated {
    /// Counts `count` more at `now`. When it is time for a line, returns how many it stands for, these included.
    pub(crate) fn note(&mut self, count: u64, now: Instant) -> Option<u64> {
        self.unsaid = self.unsaid.saturating_add(count);
        self.take_due(now)
    }

    /// When there is something to say and it is time for a line, returns how many it stands for.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<u64> {
        let is_early = self.last.is_some_and(|last| now.saturating_duration_since(last) < BETWEEN_LINES);
        if is_early || self.unsaid == 0 {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}
