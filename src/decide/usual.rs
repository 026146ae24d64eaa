//! What is usual of a number that is measured again and again: the median over 24 buckets of time.
//!
//! Half of that time must have changed before the median follows, so what lasts shorter than 12 buckets teaches
//! nothing, and what lasts longer becomes the new normal.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::otlp::Nanos;

/// Closed buckets remembered.
const BUCKETS: usize = 24;

/// Buckets that have to change before the median does.
pub(super) const BUCKETS_TO_ACCEPT: u64 = BUCKETS as u64 / 2;

/// The first buckets are shorter by this factor, so that what happens in the first minutes is told apart too.
const SHORTER_AT_FIRST: u64 = 12;

/// After so many joins the next buckets are twice as long: half of those there are have been joined by then.
const JOINED_TO_DOUBLE: u32 = 12;

/// After so many all buckets are full ones.
const MOST_JOINED: u32 = 64 * JOINED_TO_DOUBLE;

/// Of so many short buckets the median is a guess that the next ones may correct upwards.
const BUCKETS_TO_GUESS: usize = 4;

/// One number for each closed bucket, the oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Usual {
    closed: VecDeque<Bucket>,
    /// How often two buckets have been joined; twelve times double their length.
    joined: u32,
    /// What was usual at first: the lowest median so far. Until there are 24 full buckets it stands for the time before
    /// the first one, so that a fault in a young history has to last as long as in an old one to be accepted.
    at_first: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Bucket {
    number: u64,
    /// How much it counts: the nanoseconds that it lasted.
    weight: Nanos,
}

impl Usual {
    /// Nanoseconds that the open bucket lasts at least, where one of a long history lasts `full`.
    ///
    /// A young history has short buckets; where there are 24 of them, two are joined to make room for one more.
    pub(super) fn bucket(&self, full: Nanos) -> Nanos {
        let first = (full / SHORTER_AT_FIRST).max(1);
        first.saturating_mul(1 << (self.joined / JOINED_TO_DOUBLE).min(32)).min(full)
    }

    /// Whether a bucket can be closed without taking memory.
    pub(super) fn has_room(&self) -> bool {
        self.closed.capacity() > 0
    }

    /// Takes the number of a bucket that has ended and counts for `weight` nanoseconds. Where no memory may be taken,
    /// the oldest one makes room.
    pub(super) fn close(&mut self, number: u64, weight: Nanos, full: Nanos, may_grow: bool) {
        let is_first = self.closed.is_empty() && self.joined == 0;
        let is_full = self.closed.len() == self.closed.capacity();
        if !may_grow && is_full {
            if self.closed.pop_front().is_none() {
                return;
            }
            // What there is room for is all the history that there will be.
            self.at_first = None;
        }
        let window = full.saturating_mul(BUCKETS as u64);
        if self.closed.len() == BUCKETS {
            if self.bucket(full) < full && self.weight() < window {
                self.join(full);
            } else {
                self.closed.pop_front();
            }
        }
        self.closed.push_back(Bucket { number, weight: weight.max(1) });
        while let Some(oldest) = self.closed.front()
            && self.weight() - oldest.weight >= window
        {
            self.closed.pop_front();
        }
        self.note_what_was_usual_at_first(is_first, window);
    }

    fn note_what_was_usual_at_first(&mut self, is_first: bool, window: Nanos) {
        if self.weight() >= window {
            self.at_first = None;
        } else if self.at_first.is_some() || is_first {
            let median = median(self.closed.iter().copied(), |weight| weight.saturating_sub(1) / 2);
            let is_guess = self.joined == 0 && self.closed.len() <= BUCKETS_TO_GUESS;
            self.at_first = if is_guess { median } else { self.at_first.min(median) };
        }
    }

    /// Joins the two neighbours that are most alike, so that what was before a change stays apart from what came after.
    fn join(&mut self, full: Nanos) {
        let most = full.saturating_mul(2);
        let pairs = self.closed.iter().zip(self.closed.iter().skip(1)).enumerate();
        let alike = pairs.min_by_key(|(_, (earlier, later))| {
            (earlier.weight.saturating_add(later.weight) > most, earlier.number.abs_diff(later.number))
        });
        let Some(at) = alike.map(|(at, _)| at) else { return };
        if let Some(later) = self.closed.remove(at + 1)
            && let Some(earlier) = self.closed.get_mut(at)
        {
            earlier.number = earlier.number.midpoint(later.number);
            earlier.weight = earlier.weight.saturating_add(later.weight);
        }
        self.joined += 1;
    }

    fn weight(&self) -> Nanos {
        self.closed.iter().fold(0, |weight, bucket| weight.saturating_add(bucket.weight))
    }

    /// Whether it can have been counted, and not made up by whoever wrote a file.
    pub(super) fn is_sound(&self) -> bool {
        self.closed.len() <= BUCKETS && self.joined <= MOST_JOINED
    }

    /// Whether no bucket has ended yet.
    pub(super) fn is_empty(&self) -> bool {
        self.closed.is_empty()
    }

    /// The median of 24 full buckets, by time; those before the first one are supposed to be as it was at first.
    pub(super) fn value(&self, full: Nanos) -> Option<u64> {
        let window = full.saturating_mul(BUCKETS as u64);
        let before =
            self.at_first.map(|number| Bucket { number, weight: window.saturating_sub(self.weight()) });
        let accepted = full.saturating_mul(BUCKETS_TO_ACCEPT);
        median(self.closed.iter().copied().chain(before), |weight| {
            if weight < window { weight / 2 } else { weight - accepted }
        })
    }

    /// Bytes taken from the allocator.
    pub(super) fn allocated(&self) -> u64 {
        (self.closed.capacity() * size_of::<Bucket>()) as u64
    }
}

/// The number that `rank` of the weight is below, or at.
fn median(buckets: impl Iterator<Item = Bucket>, rank: impl Fn(Nanos) -> Nanos) -> Option<u64> {
    let mut sorted: Vec<Bucket> = buckets.collect();
    sorted.sort_unstable_by_key(|bucket| bucket.number);
    let weight = sorted.iter().fold(0_u64, |weight, bucket| weight.saturating_add(bucket.weight));
    let rank = rank(weight);
    let mut below = 0_u64;
    let found = sorted.iter().find(|bucket| {
        below = below.saturating_add(bucket.weight);
        below > rank
    });
    found.map(|bucket| bucket.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Nanos = 300;

    #[test]
    fn buckets_start_short_and_grow_to_their_full_length() {
        let mut usual = Usual::default();
        let mut lengths = vec![usual.bucket(FULL)];
        for _ in 0..100 {
            usual.close(7, usual.bucket(FULL), FULL, true);
            lengths.push(usual.bucket(FULL));
        }
        lengths.dedup();
        assert_eq!(lengths, [25, 50, 100, 200, 300]);
        assert_eq!((usual.closed.len(), usual.value(FULL)), (BUCKETS, Some(7)));
    }

    #[test]
    fn half_of_a_long_history_has_to_change() {
        let mut usual = Usual::default();
        for _ in 0..100 {
            usual.close(1, FULL, FULL, true);
        }
        for changed in 1..=BUCKETS_TO_ACCEPT {
            usual.close(3, FULL, FULL, true);
            assert_eq!(usual.value(FULL), Some(if changed < BUCKETS_TO_ACCEPT { 1 } else { 3 }));
        }
    }

    #[test]
    fn a_change_in_a_short_history_has_to_last_as_long_as_in_a_long_one() {
        for before in [4, 10, 30, 100, 400] {
            let mut usual = Usual::default();
            for _ in 0..before {
                usual.close(1, usual.bucket(FULL), FULL, true);
            }
            let mut changed = 0;
            while usual.value(FULL) == Some(1) {
                let lasted = usual.bucket(FULL);
                usual.close(3, lasted, FULL, true);
                changed += lasted;
            }
            let accepted = FULL * BUCKETS_TO_ACCEPT;
            assert!((accepted - FULL..=accepted + FULL).contains(&changed), "{before}: {changed}");
        }
    }

    #[test]
    fn what_began_slow_becomes_normal_as_soon_as_most_of_it_was() {
        let mut usual = Usual::default();
        for _ in 0..6 {
            usual.close(9, 25, FULL, true);
        }
        for _ in 0..5 {
            usual.close(1, 25, FULL, true);
            assert_eq!(usual.value(FULL), Some(9));
        }
        usual.close(1, 25, FULL, true);
        assert_eq!(usual.value(FULL), Some(1));
    }

    #[test]
    fn without_memory_there_are_as_many_buckets_as_there_were() {
        let mut usual = Usual::default();
        usual.close(1, FULL, FULL, false);
        assert!(usual.is_empty());
        usual.close(1, FULL, FULL, true);
        let allocated = usual.allocated();
        for number in 2..100 {
            usual.close(number, FULL, FULL, false);
        }
        assert_eq!(usual.allocated(), allocated);
        assert!(usual.value(FULL) > Some(90));
    }
}
