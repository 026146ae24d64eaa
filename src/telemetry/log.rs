//! Diagnostics on stderr.

use std::io;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

use crate::config::{Log, LogFormat, LogLevel};
use crate::otlp::Nanos;

/// Makes `tracing` write to stderr as `log` says. What the libraries say is shown from warnings on: at their
/// finer levels they describe every frame.
///
/// # Errors
/// When the process has a subscriber already.
pub fn init(log: &Log) -> Result<(), TryInitError> {
    let level = level(log.level);
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target(env!("CARGO_CRATE_NAME"), level);
    let lines = fmt::layer().with_writer(io::stderr).with_target(false);
    let lines = match log.format {
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
        LogFormat::Text => lines.with_ansi(false).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter)).try_init()
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Between two lines that say the same.
const PAUSE: Nanos = 10_000_000_000;

/// A warning that may come thousands of times a second: said at once, then at most every 10 s with a count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repeated {
    last: Option<Nanos>,
    unsaid: u64,
}

impl Repeated {
    /// Counts one more at `now`. When it is time for a line, returns how many it stands for, this one included.
    pub fn note(&mut self, now: Nanos) -> Option<u64> {
        self.unsaid += 1;
        if self.last.is_some_and(|last| now.saturating_sub(last) < PAUSE) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_warning_is_said_at_once_and_then_every_ten_seconds_with_a_count() {
        let second = 1_000_000_000;
        let mut warning = Repeated::default();
        let said: Vec<_> =
            [0, 1, 5, 9, 10, 11, 19, 60].into_iter().map(|at| warning.note(at * second)).collect();
        assert_eq!(said, [Some(1), None, None, None, Some(4), None, None, Some(3)]);
    }

    #[test]
    fn a_clock_that_goes_back_says_nothing_twice() {
        let mut warning = Repeated::default();
        assert_eq!(warning.note(50_000_000_000), Some(1));
        assert_eq!(warning.note(1), None);
    }
}
