//! What an operator reads of the destination in the log, at a bounded rate.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// One line a minute of each kind; the counters have the rest.
const EVERY: Duration = Duration::from_mins(1);
/// Of what the destination says, in characters.
const LONGEST_MESSAGE: usize = 500;

/// Remembers when a line of each kind was last written.
#[derive(Debug, Default)]
pub(super) struct Journal {
    retried: Throttle,
    dropped: Throttle,
    partial: Throttle,
}

impl Journal {
    /// The destination failed and will be tried again.
    pub(super) fn retried(&self, code: &str, message: &str) {
        if self.retried.is_due() {
            tracing::warn!(
                code,
                answer = cut(message),
                "the destination failed, its batch will be sent again"
            );
        }
    }

    /// Spans were given up.
    pub(super) fn dropped(&self, spans: u64, reason: &str, code: &str, message: &str) {
        if self.dropped.is_due() {
            tracing::error!(spans, reason, code, answer = cut(message), "dropped a batch of spans");
        }
    }

    /// The destination took a batch, but said something about it.
    pub(super) fn partial(&self, rejected: u64, message: &str) {
        if self.partial.is_due() {
            tracing::warn!(rejected, answer = cut(message), "the destination took a batch only in part");
        }
    }

    /// The destination took a batch.
    pub(super) fn succeeded(&self) {
        if self.retried.reset() {
            tracing::info!("the destination takes spans again");
        }
    }
}

/// Control characters are escaped, so that a destination cannot write lines of its own into the log.
fn cut(message: &str) -> String {
    message.chars().take(LONGEST_MESSAGE).flat_map(char::escape_debug).collect()
}

#[derive(Debug, Default)]
struct Throttle {
    last: Mutex<Option<Instant>>,
}

impl Throttle {
    fn is_due(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= EVERY);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }

    /// Whether there was a line since the last reset.
    fn reset(&self) -> bool {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_kind_of_line_is_due_once_a_minute() {
        let throttle = Throttle::default();
        assert!(throttle.is_due() && !throttle.is_due());
        tokio::time::advance(EVERY).await;
        assert!(throttle.is_due());
        assert!(throttle.reset() && !throttle.reset() && throttle.is_due());
    }

    #[test]
    fn messages_are_cut_and_escaped() {
        assert_eq!(cut("a\n\u{1b}[31mb"), "a\\n\\u{1b}[31mb");
        assert_eq!(cut(&"x".repeat(3 << 20)).len(), LONGEST_MESSAGE);
    }
}
