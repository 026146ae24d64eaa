//! A threshold learned from durations, on the time that callers bring.
//!
//! Durations fall into buckets of time; a closed bucket leaves one number, its percentile. The threshold is a factor
//! times the median of the last 24. Half of them must have changed before the median follows, so a slowdown that is
//! shorter than `accept_after` (12 buckets) stays slow and teaches nothing, and a longer one becomes the new normal.
//!
//! A bucket with fewer traces than a percentile needs is filled up with those before it: a route with one trace a minute
//! accepts what lasts as soon as one with ten a second. A young history is supposed to go back further than it does.
//!
//! What a route begins with is taken for normal, a fault too: in its first bucket (25 s where `accept_after` is an hour)
//! the threshold follows whatever the route does, and what begins in the second one is normal when the third has closed.
//! Where 20 traces take longer than two buckets, a fault is told from that beginning if it comes after the tenth trace. So two
//! minutes and ten traces are enough to know a route.

use serde::{Deserialize, Serialize};

use super::histogram::{Histogram, LATEST, Latest};
use super::usual::{BUCKETS_TO_ACCEPT, Usual};
use crate::config;
use crate::otlp::Nanos;

/// A percentile is worked out of so many durations at least.
pub(super) const MIN_BUCKET_TRACES: u64 = LATEST as u64;

/// How a threshold is learned; from `slow.learned`.
#[derive(Clone, Copy, Debug)]
pub struct Learning {
    /// 0..1.
    percentile: f64,
    factor: f64,
    minimum: Nanos,
    min_traces: u64,
    /// Nanoseconds that a bucket of a long history stays open at least.
    pub(super) bucket: Nanos,
    /// Nanoseconds.
    pub(super) accept_after: Nanos,
    /// Nanoseconds after which a route or shape without traces gives its place away.
    pub(super) forget_after: Nanos,
    /// Whether there is memory left for more to be told apart.
    pub(crate) may_grow: bool,
}

impl Learning {
    /// From the configuration.
    pub fn new(learned: &config::Learned) -> Self {
        let accept_after = Nanos::try_from(learned.accept_after.as_nanos()).unwrap_or(Nanos::MAX);
        Self {
            percentile: learned.percentile / 100.0,
            factor: learned.factor,
            minimum: Nanos::try_from(learned.minimum.as_nanos()).unwrap_or(Nanos::MAX),
            min_traces: u64::from(learned.min_traces),
            bucket: (accept_after / BUCKETS_TO_ACCEPT).max(1),
            accept_after,
            forget_after: 6 * 3_600_000_000_000,
            may_grow: true,
        }
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the factor is positive, and a float cast saturates"
    )]
    fn threshold(&self, percentile: Nanos) -> Nanos {
        ((percentile as f64 * self.factor) as Nanos).max(self.minimum)
    }
}

/// The durations of one route or shape.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Durations {
    open: Histogram,
    opened_at: Option<Nanos>,
    /// For a bucket with fewer durations than a percentile needs.
    latest: Latest,
    /// The percentiles of closed buckets.
    closed: Usual,
    #[serde(skip)]
    threshold: Option<Nanos>,
    /// The open bucket is looked at again when it holds so many: each look walks the histogram.
    #[serde(skip)]
    look_again_at: u64,
}

impl Durations {
    /// Counts a duration in nanoseconds, seen at `now`.
    pub fn add(&mut self, now: Nanos, duration: Nanos, learning: &Learning) {
        let opened_at = *self.opened_at.get_or_insert(now);
        let lasted = now.saturating_sub(opened_at);
        if lasted >= self.closed.bucket(learning.bucket)
            && self.latest.is_full()
            && (learning.may_grow || self.closed.has_room())
        {
            self.close(now, lasted, learning);
        }
        self.open.add(duration, learning.may_grow);
        self.latest.push(duration);
        self.look_at_open(learning);
    }

    /// Until a bucket has closed, the open one says what is normal.
    fn look_at_open(&mut self, learning: &Learning) {
        let count = self.open.count();
        if self.closed.is_empty() && count >= learning.min_traces.max(self.look_again_at) {
            self.look_again_at = count + count / 16;
            self.threshold = self.percentile_of_open(learning).map(|p| learning.threshold(p));
        }
    }

    /// What was read from a file at `now`, ready to go on; `None` where it can never have been written. The
    /// threshold is worked out anew: the settings may have changed meanwhile.
    pub(crate) fn restored(mut self, now: Nanos, learning: &Learning) -> Option<Self> {
        if !self.open.is_sound() || !self.latest.is_sound() || !self.closed.is_sound() {
            return None;
        }
        // The clock may have been set back.
        self.opened_at = self.opened_at.map(|opened_at| opened_at.min(now));
        self.threshold = self.closed_threshold(learning);
        self.look_at_open(learning);
        Some(self)
    }

    /// Nanoseconds above which a duration is slow; `None` until there were enough.
    pub fn threshold(&self) -> Option<Nanos> {
        self.threshold
    }

    /// Bytes taken from the allocator.
    pub fn allocated(&self) -> u64 {
        self.closed.allocated() + self.open.allocated()
    }

    fn close(&mut self, now: Nanos, lasted: Nanos, learning: &Learning) {
        for duration in self.latest.before(usize::try_from(self.open.count()).unwrap_or(usize::MAX)) {
            self.open.add(duration, learning.may_grow);
        }
        let Some(percentile) = self.percentile_of_open(learning) else { return };
        // Buckets end with the first trace beyond their end, and where traces are few that is long after it: the next
        // one begins where this one should have ended.
        let beyond = lasted % self.closed.bucket(learning.bucket);
        // Neither a pause nor a route with few traces makes one bucket count for many.
        let weight = (lasted - beyond).min(learning.bucket);
        self.closed.close(percentile, weight, learning.bucket, learning.may_grow);
        self.open.clear();
        self.opened_at = Some(now - beyond);
        self.threshold = self.closed_threshold(learning);
    }

    /// Of the very first durations the first half alone can have come before a fault.
    fn percentile_of_open(&self, learning: &Learning) -> Option<Nanos> {
        let percentile = self.open.percentile(learning.percentile)?;
        Some(self.latest.longest_of_first_half().map_or(percentile, |longest| percentile.min(longest)))
    }

    fn closed_threshold(&self, learning: &Learning) -> Option<Nanos> {
        self.closed.value(learning.bucket).map(|percentile| learning.threshold(percentile))
    }
}

#[cfg(test)]
mod pace;

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Nanos = 60_000_000_000;
    const MILLI: Nanos = 1_000_000;

    fn learning() -> Learning {
        Learning::new(&config::Learned::default())
    }

    fn threshold_ms(durations: &Durations) -> u64 {
        durations.threshold().expect("learned") / MILLI
    }

    #[test]
    fn nothing_is_slow_before_min_traces_and_the_open_bucket_counts_from_then_on() {
        let mut durations = Durations::default();
        for n in 0..19 {
            durations.add(n, 100 * MILLI, &learning());
            assert_eq!(durations.threshold(), None);
        }
        durations.add(19, 100 * MILLI, &learning());
        assert!((119..=124).contains(&threshold_ms(&durations)));
    }

    #[test]
    fn a_threshold_is_never_below_the_minimum() {
        let mut durations = Durations::default();
        for n in 0..20 {
            durations.add(n, 1_000, &learning());
        }
        assert_eq!(durations.threshold(), Some(10 * MILLI));
    }

    #[test]
    fn a_long_pause_counts_as_one_bucket() {
        let mut durations = Durations::default();
        let feed = |durations: &mut Durations, minutes: std::ops::Range<u64>, millis| {
            for minute in minutes {
                for n in 0..10 {
                    durations.add(minute * MINUTE + n, millis * MILLI, &learning());
                }
            }
        };
        feed(&mut durations, 0..120, 100);
        feed(&mut durations, 120..170, 300);
        // The last slow bucket lasts a night.
        feed(&mut durations, 1_000..1_120, 100);
        assert!(threshold_ms(&durations) < 130);
        feed(&mut durations, 1_120..1_170, 300);
        assert!(threshold_ms(&durations) < 130);
    }

    #[test]
    fn a_sparse_route_learns_too() {
        let mut durations = Durations::default();
        for hour in 0..200 {
            durations.add(hour * 60 * MINUTE, 100 * MILLI, &learning());
        }
        assert!((119..=124).contains(&threshold_ms(&durations)));
    }
}
