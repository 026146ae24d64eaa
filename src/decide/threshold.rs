//! A threshold learned from durations, on the time that callers bring.
//!
//! Durations fall into buckets of time; a closed bucket leaves one number, its percentile. The threshold is a factor
//! times the median of the last 24. Half of them must have changed before the median follows, so a slowdown that is
//! shorter than `accept_after` (12 buckets) stays slow and teaches nothing, and a longer one becomes the new normal.

use std::collections::VecDeque;

use super::histogram::Histogram;
use crate::config;
use crate::otlp::Nanos;

/// Closed buckets remembered.
const BUCKETS: usize = 24;

/// Closed buckets to `accept_after`.
const BUCKETS_TO_ACCEPT: usize = BUCKETS / 2;

/// A bucket with fewer durations stays open.
const MIN_BUCKET_TRACES: u64 = 20;

/// How a threshold is learned; from `slow.learned`.
#[derive(Clone, Copy, Debug)]
pub struct Learning {
    /// 0..1.
    percentile: f64,
    factor: f64,
    minimum: Nanos,
    min_traces: u64,
    /// Nanoseconds that a bucket stays open at least.
    bucket: Nanos,
    /// Nanoseconds.
    pub(super) accept_after: Nanos,
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
            bucket: (accept_after / BUCKETS_TO_ACCEPT as u64).max(1),
            accept_after,
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
#[derive(Clone, Debug, Default)]
pub struct Durations {
    open: Histogram,
    opened_at: Option<Nanos>,
    /// The percentiles of closed buckets, the oldest first.
    closed: VecDeque<Nanos>,
    threshold: Option<Nanos>,
    /// The open bucket is looked at again when it holds so many: each look walks the histogram.
    look_again_at: u64,
}

impl Durations {
    /// Counts a duration in nanoseconds, seen at `now`.
    pub fn add(&mut self, now: Nanos, duration: Nanos, learning: &Learning) {
        let opened_at = *self.opened_at.get_or_insert(now);
        if now.saturating_sub(opened_at) >= learning.bucket && self.open.count() >= MIN_BUCKET_TRACES {
            self.close(now, learning);
        }
        self.open.add(duration);
        let count = self.open.count();
        if self.closed.is_empty() && count >= learning.min_traces.max(self.look_again_at) {
            self.look_again_at = count + count / 16;
            self.threshold = self.open.percentile(learning.percentile).map(|p| learning.threshold(p));
        }
    }

    /// Nanoseconds above which a duration is slow; `None` until there were enough.
    pub fn threshold(&self) -> Option<Nanos> {
        self.threshold
    }

    /// Bytes taken from the allocator.
    pub fn allocated(&self) -> u64 {
        (self.closed.capacity() * size_of::<Nanos>()) as u64 + self.open.allocated()
    }

    fn close(&mut self, now: Nanos, learning: &Learning) {
        let Some(percentile) = self.open.percentile(learning.percentile) else { return };
        if self.closed.len() == BUCKETS {
            self.closed.pop_front();
        }
        self.closed.push_back(percentile);
        self.open.clear();
        self.opened_at = Some(now);
        self.threshold = self.usual().map(|percentile| learning.threshold(percentile));
    }

    /// The median of the closed buckets. While there are fewer than 24, a lower rank stands for it, so that a
    /// slowdown in a short history is not accepted much sooner than in a full one.
    fn usual(&self) -> Option<Nanos> {
        let mut sorted: Vec<Nanos> = self.closed.iter().copied().collect();
        sorted.sort_unstable();
        let closed = sorted.len();
        let rank = closed.saturating_sub(BUCKETS_TO_ACCEPT).max(closed / 4).min(closed / 2);
        sorted.get(rank).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Nanos = 60_000_000_000;
    const MILLI: Nanos = 1_000_000;

    fn learning() -> Learning {
        Learning::new(&config::Learned::default())
    }

    /// Ten durations a minute, 91 to 100 ms times `percent` / 100, from one minute to another.
    fn feed(durations: &mut Durations, minutes: std::ops::Range<u64>, percent: u64) {
        for minute in minutes {
            for n in 0..10 {
                durations.add(minute * MINUTE + n, (91 + n) * percent * MILLI / 100, &learning());
            }
        }
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
    fn three_times_slower_is_still_slow_after_half_an_hour() {
        for history in [30, 60, 120, 300] {
            let mut durations = Durations::default();
            feed(&mut durations, 0..history, 100);
            feed(&mut durations, history..history + 30, 300);
            assert!(threshold_ms(&durations) < 130, "after {history} minutes of normal traffic");
        }
    }

    #[test]
    fn half_as_slow_again_is_accepted_after_an_hour() {
        let mut durations = Durations::default();
        feed(&mut durations, 0..240, 100);
        let accepted = (0..120).find(|minute| {
            feed(&mut durations, 240 + minute..241 + minute, 150);
            threshold_ms(&durations) > 150
        });
        assert!((55..=65).contains(&accepted.expect("accepted")), "after {accepted:?} minutes");
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
