//! What an operator reads of the destination and of lost spans in the log: at a bounded rate, and without a gap, as
//! each line tells what was lost since the one before it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::losses::Losses;
use crate::telemetry::metrics::{DropReason, Labels as _};
use crate::telemetry::repeated::Repeated;

/// Of what the destination says, in characters.
const LONGEST_MESSAGE: usize = 500;

/// Remembers when a line of each kind was last written, what it did not tell, and what the whole run has lost.
#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    retried: Repeated,
    remarked: Repeated,
    /// Whether the last line on the destination's health says that it failed.
    is_failing: bool,
    queue_full: Loss,
    retry_expired: Loss,
    rejected: Loss,
    total: Losses,
}

/// Why spans were lost that were in a request: the last answer to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// The name of a gRPC code.
    pub(super) code: &'static str,
    /// In the words of the destination, or in ours when it did not answer.
    pub(super) message: String,
}

/// One line of the log.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// Lost since the last line with this reason.
    spans: u64,
    reason: DropReason,
    /// The latest.
    answer: Option<Answer>,
}

impl Journal {
    /// The destination failed and will be tried again.
    pub(super) fn retried(&self, code: &str, message: &str) {
        let mut state = self.lock();
        if let Some(failures) = state.retried.note(1, Instant::now()) {
            state.is_failing = true;
            drop(state);
            let answer = cut(message);
            tracing::warn!(code, answer, failures, "the destination failed, its batch will be sent again");
        }
    }

    /// The destination took a batch.
    pub(super) fn succeeded(&self) {
        if std::mem::take(&mut self.lock().is_failing) {
            tracing::info!("the destination takes spans again");
        }
    }

    /// The destination took a batch as a whole, and said something about it.
    pub(super) fn remarked(&self, message: &str) {
        let remarks = self.lock().remarked.note(1, Instant::now());
        if let Some(remarks) = remarks {
            tracing::warn!(answer = cut(message), remarks, "the destination took a batch with a remark");
        }
    }

    /// Spans were lost: in a request when there is an `answer` to it, and else for want of room.
    pub(super) fn lost(&self, spans: u64, reason: DropReason, answer: Option<Answer>) {
        let line = self.lock().lost(spans, reason, answer, Instant::now());
        line.into_iter().for_each(Line::write);
    }

    /// Writes what no line was due for when it happened, where one is due now.
    pub(super) fn catch_up(&self) {
        let lines = self.lock().unsaid(Instant::now());
        lines.into_iter().for_each(Line::write);
    }

    /// What the run has lost so far.
    pub(super) fn total(&self) -> Losses {
        self.lock().total
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that changes it can panic, so a poisoned state is still consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lost(&mut self, spans: u64, reason: DropReason, answer: Option<Answer>, now: Instant) -> Option<Line> {
        if spans == 0 {
            return None;
        }
        self.total.add(reason, spans);
        let loss = match reason {
            DropReason::QueueFull => &mut self.queue_full,
            DropReason::RetryExpired => &mut self.retry_expired,
            DropReason::Rejected => &mut self.rejected,
            // Dropped on purpose, or told by the last line of all.
            DropReason::NotSampled | DropReason::Late | DropReason::Memory | DropReason::Shutdown => {
                return None;
            }
        };
        let answer = answer.map(|answer| Answer { message: cut(&answer.message), ..answer });
        let spans = loss.spans.note(spans, now);
        loss.answer = answer;
        Some(Line { spans: spans?, reason, answer: loss.answer.take() })
    }

    fn unsaid(&mut self, now: Instant) -> Vec<Line> {
        let losses = [
            (DropReason::QueueFull, &mut self.queue_full),
            (DropReason::RetryExpired, &mut self.retry_expired),
            (DropReason::Rejected, &mut self.rejected),
        ];
        let lines = losses.into_iter().filter_map(|(reason, loss)| {
            Some(Line { spans: loss.spans.take_due(now)?, reason, answer: loss.answer.take() })
        });
        lines.collect()
    }
}

/// What is lost for one reason and not told yet.
#[derive(Debug, Default)]
struct Loss {
    spans: Repeated,
    answer: Option<Answer>,
}

impl Line {
    fn write(self) {
        let Self { spans, reason, answer } = self;
        let reason = reason.as_str();
        match answer {
            Some(Answer { code, message }) => {
                tracing::error!(spans, reason, code, answer = message, "lost spans");
            }
            None => tracing::error!(spans, reason, "lost spans"),
        }
    }
}

/// Control characters are escaped, so that a destination cannot write lines of its own into the log.
fn cut(message: &str) -> String {
    message.chars().take(LONGEST_MESSAGE).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn answer(message: &str) -> Answer {
        Answer { code: "UNAVAILABLE", message: message.to_owned() }
    }

    #[test]
    fn losses_that_come_too_soon_for_a_line_are_in_the_next_of_their_reason() {
        let (mut state, start) = (State::default(), Instant::now());
        let line = |spans, reason, answer| Some(Line { spans, reason, answer });
        let expired = DropReason::RetryExpired;
        assert_eq!(
            state.lost(90, expired, Some(answer("one")), start),
            line(90, expired, Some(answer("one")))
        );
        assert_eq!(state.lost(200, expired, Some(answer("two")), start), None);
        assert_eq!(state.lost(7, DropReason::QueueFull, None, start), line(7, DropReason::QueueFull, None));
        assert_eq!(state.lost(160, expired, Some(answer("three")), start + 59 * SECOND), None);
        assert_eq!(
            state.lost(4, expired, Some(answer("4")), start + 60 * SECOND),
            line(364, expired, Some(answer("4")))
        );
    }

    #[test]
    fn what_is_unsaid_is_said_once_when_a_line_is_due_though_nothing_more_is_lost() {
        let (mut state, start) = (State::default(), Instant::now());
        assert_eq!(state.unsaid(start), []);
        for (spans, reason) in [(1, DropReason::QueueFull), (2, DropReason::Rejected)] {
            state.lost(10, reason, None, start).expect("the first is said at once");
            state.lost(spans, reason, Some(answer("no")), start + SECOND);
        }
        assert_eq!(state.unsaid(start + 59 * SECOND), []);
        let lines = [(1, DropReason::QueueFull), (2, DropReason::Rejected)].map(|(spans, reason)| Line {
            spans,
            reason,
            answer: Some(answer("no")),
        });
        assert_eq!(state.unsaid(start + 60 * SECOND), lines);
        assert_eq!(state.unsaid(start + 200 * SECOND), []);
    }

    #[test]
    fn the_total_has_every_loss_whether_it_got_a_line_or_not() {
        let (mut state, start) = (State::default(), Instant::now());
        for (spans, reason) in
            [(1, DropReason::QueueFull), (2, DropReason::RetryExpired), (4, DropReason::Rejected)]
        {
            state.lost(spans, reason, None, start);
            state.lost(10 * spans, reason, None, start);
        }
        state.lost(8, DropReason::Shutdown, None, start);
        let total = Losses { queue_full: 11, retry_expired: 22, rejected: 44, shutdown: 8 };
        assert_eq!((state.total, total.spans()), (total, 85));
    }

    // F13.
    #[test]
    fn a_destination_that_comes_and_goes_is_told_of_once_a_minute() {
        let journal = Journal::default();
        journal.retried("UNAVAILABLE", "");
        assert!(journal.lock().is_failing);
        journal.succeeded();
        journal.retried("UNAVAILABLE", "");
        assert!(!journal.lock().is_failing, "no line, so none is taken back");
    }

    // B8.
    #[test]
    fn messages_are_cut_and_escaped() {
        assert_eq!(cut("a\n\u{1b}[31mb"), "a\\n\\u{1b}[31mb");
        assert_eq!(cut(&"x".repeat(3 << 20)).len(), LONGEST_MESSAGE);
    }
}
