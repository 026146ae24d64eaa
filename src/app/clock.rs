//! The one clock: read here, passed on as an argument.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::otlp::Nanos;

/// Unix time that never jumps: the wall clock is read once, and what has passed since is measured monotonically.
/// A corrected wall clock, a leap second or a paused machine then makes no trace due early or late.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    unix_at_start: Nanos,
}

impl Clock {
    /// Starts at the wall clock's time.
    #[allow(clippy::disallowed_methods, reason = "this is the place where the clock is read")]
    pub fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            started: Instant::now(),
            unix_at_start: Nanos::try_from(unix.as_nanos()).unwrap_or(Nanos::MAX),
        }
    }

    /// Nanoseconds since the Unix epoch.
    pub fn now(&self) -> Nanos {
        let passed = Nanos::try_from(self.started.elapsed().as_nanos()).unwrap_or(Nanos::MAX);
        self.unix_at_start.saturating_add(passed)
    }

    /// Waits until `moment`, nanoseconds since the Unix epoch.
    pub async fn wait_until(&self, moment: Nanos) {
        tokio::time::sleep(Duration::from_nanos(moment.saturating_sub(self.now()))).await;
    }
}
