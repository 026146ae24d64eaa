//! Counts by duration, on a scale whose steps grow with the duration: 32 to a doubling, so a percentile is off by
//! 3 % at most. Only steps that were hit take memory: a route's durations hit about a hundred of 1,900.

use serde::{Deserialize, Serialize};

use crate::otlp::Nanos;

/// A histogram of durations.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Histogram {
    /// Sorted by step.
    steps: Vec<(u16, u32)>,
    count: u64,
}

/// The latest durations, by their steps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Latest {
    /// A ring.
    steps: [u16; LATEST],
    /// How many were seen; counts on from twice [`LATEST`] again when it is three times as many.
    seen: u16,
}

/// A percentile is worked out of so many durations at least.
pub(super) const LATEST: usize = 20;

const STEP_BITS: u32 = 5;

/// No histogram counts so long that it has more.
const MOST_COUNTED: u64 = 1 << 60;

impl Histogram {
    /// Counts one duration in nanoseconds. Where no memory may be taken for one more step, the nearest one counts it.
    pub(super) fn add(&mut self, duration: Nanos, may_grow: bool) {
        let step = step_of(duration);
        let place = match self.steps.binary_search_by_key(&step, |(step, _)| *step) {
            Ok(place) => place,
            Err(place) if may_grow || self.steps.len() < self.steps.capacity() => {
                self.steps.insert(place, (step, 0));
                place
            }
            Err(place) => self.nearest(place, step),
        };
        if let Some((_, count)) = self.steps.get_mut(place) {
            *count = count.saturating_add(1);
            self.count += 1;
        }
    }

    /// Of the steps before and at `place` the one nearer to `step`.
    fn nearest(&self, place: usize, step: u16) -> usize {
        let distance =
            |place: usize| self.steps.get(place).map_or(u16::MAX, |(known, _)| known.abs_diff(step));
        let before = place.saturating_sub(1);
        if distance(before) <= distance(place) { before } else { place }
    }

    /// How many durations were counted.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The longest duration of the step that the nearest rank of `share`, 0..1, falls into; `None` when empty.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count is smaller than the count"
    )]
    pub(super) fn percentile(&self, share: f64) -> Option<Nanos> {
        let rank = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (step, count) in &self.steps {
            seen += u64::from(*count);
            if seen >= rank {
                return Some(end_of(*step));
            }
        }
        None
    }

    /// Whether it can have been counted, and not made up by whoever wrote a file.
    pub(super) fn is_sound(&self) -> bool {
        let counted = self.steps.iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
        // A step's count saturates, the sum of all does not.
        self.steps.is_sorted_by(|(one, _), (next, _)| one < next)
            && self.steps.last().is_none_or(|(last, _)| *last <= step_of(Nanos::MAX))
            && (counted..=MOST_COUNTED).contains(&self.count)
            && self.steps.is_empty() == (self.count == 0)
    }

    pub(super) fn clear(&mut self) {
        self.steps.clear();
        self.count = 0;
    }

    /// Bytes taken from the allocator.
    pub(super) fn allocated(&self) -> u64 {
        (self.steps.capacity() * size_of::<(u16, u32)>()) as u64
    }
}

impl Latest {
    /// Takes one more in.
    pub(super) fn push(&mut self, duration: Nanos) {
        let place = usize::from(self.seen) % LATEST;
        if let Some(step) = self.steps.get_mut(place) {
            *step = step_of(duration);
        }
        self.seen += 1;
        if usize::from(self.seen) == 3 * LATEST {
            self.seen -= self.seen / 3;
        }
    }

    /// Whether there are as many as a percentile needs.
    pub(super) fn is_full(&self) -> bool {
        usize::from(self.seen) >= LATEST
    }

    /// Those before the `newest` ones, if it is full.
    pub(super) fn before(&self, newest: usize) -> impl Iterator<Item = Nanos> {
        let oldest = usize::from(self.seen) % LATEST;
        let count = LATEST.saturating_sub(newest);
        self.steps.iter().cycle().skip(oldest).take(count).map(|step| end_of(*step))
    }

    /// The longest of the first half, when it has just become full for the first time.
    pub(super) fn longest_of_first_half(&self) -> Option<Nanos> {
        let half = self.steps.get(..LATEST / 2).filter(|_| usize::from(self.seen) == LATEST)?;
        half.iter().max().map(|step| end_of(*step))
    }

    /// Whether it can have been counted, and not made up by whoever wrote a file.
    pub(super) fn is_sound(&self) -> bool {
        usize::from(self.seen) < 3 * LATEST && self.steps.iter().all(|step| *step <= step_of(Nanos::MAX))
    }
}

/// Steps below 2^5 ns are one nanosecond wide; above, the leading bit and the next five tell the step.
fn step_of(duration: Nanos) -> u16 {
    let octave = (duration | 1).ilog2();
    let step = if octave < STEP_BITS {
        duration
    } else {
        let within = (duration >> (octave - STEP_BITS)) & ((1 << STEP_BITS) - 1);
        (u64::from(octave - STEP_BITS + 1) << STEP_BITS) + within
    };
    u16::try_from(step).unwrap_or(u16::MAX)
}

/// The longest duration of a step.
fn end_of(step: u16) -> Nanos {
    let (octave, within) = (u32::from(step) >> STEP_BITS, u64::from(step) & ((1 << STEP_BITS) - 1));
    if octave == 0 {
        return within;
    }
    let width = 1_u64 << (octave - 1);
    (((1 << STEP_BITS) + within) << (octave - 1)).saturating_add(width - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_holds_what_it_was_made_from() {
        for duration in (0..5_000).chain((0..64).map(|bit| 1 << bit)).chain([u64::MAX, 123_456_789]) {
            let end = end_of(step_of(duration));
            assert!(end >= duration, "{duration} ends at {end}");
            assert!(end - duration <= duration / 32, "{duration} ends at {end}");
        }
    }

    #[test]
    fn a_percentile_is_that_of_the_sorted_durations_within_a_step() {
        let mut histogram = Histogram::default();
        for duration in (1..=1_000).rev() {
            histogram.add(duration * 1_000, true);
        }
        for (share, exact) in [(0.5, 500_000), (0.95, 950_000), (0.999, 999_000), (1.0, 1_000_000)] {
            let found = histogram.percentile(share).expect("not empty");
            assert!((exact..=exact + exact / 32).contains(&found), "{share}: {found}");
        }
        assert_eq!(Histogram::default().percentile(0.5), None);
    }

    #[test]
    fn the_latest_durations_come_back_in_their_order() {
        let mut latest = Latest::default();
        for duration in 1..=200_u64 {
            // Each is a step of its own.
            latest.push(duration % 60);
            assert_eq!((latest.is_full(), latest.is_sound()), (duration >= 20, true));
            assert_eq!(latest.longest_of_first_half(), (duration == 20).then_some(10));
            if duration >= 20 {
                let before: Vec<_> = latest.before(5).collect();
                let expected: Vec<_> = (duration - 19..duration - 4).map(|duration| duration % 60).collect();
                assert_eq!(before, expected, "after {duration}");
            }
        }
        assert_eq!(latest.before(usize::MAX).count(), 0);
    }

    #[test]
    fn without_memory_the_nearest_step_counts() {
        let mut histogram = Histogram::default();
        histogram.add(5, false);
        assert_eq!((histogram.count(), histogram.allocated()), (0, 0));
        histogram.add(1_000, true);
        let allocated = histogram.allocated();
        for n in 0..1_000_000 {
            histogram.add(n * n, false);
        }
        assert_eq!((histogram.count(), histogram.allocated()), (1_000_001, allocated));
        assert!(histogram.is_sound());
    }
}
