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

/// One number for each closed bucket, the oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Usual {
    closed: VecDeque<Bucket>,
    /// How often the buckets have been joined two and two, each time doubling their length.
    joined: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Bucket {
    number: u64,
    /// How much it counts: the nanoseconds that it lasted, at most those of a full bucket, so that neither a pause
    /// nor a sparse route makes one count for many.
    weight: Nanos,
}

impl Usual {
    /// Nanoseconds that the open bucket lasts at least, where one of a long history lasts `full`.
    ///
    /// A young history has short buckets; whenever there are 24 of them they are joined to 12 of twice the length.
    pub(super) fn bucket(&self, full: Nanos) -> Nanos {
        let first = (full / SHORTER_AT_FIRST).max(1);
        first.saturating_mul(1 << self.joined.min(32)).min(full)
    }

    /// Whether a bucket can be closed without taking memory.
    pub(super) fn has_room(&self) -> bool {
        self.closed.capacity() > 0
    }

    /// Takes the number of a bucket that has ended and lasted so long. Where no memory may be taken, the oldest one
    /// makes room.
    pub(super) fn close(&mut self, number: u64, lasted: Nanos, full: Nanos, may_grow: bool) {
        let is_full = self.closed.len() == self.closed.capacity();
        if !may_grow && is_full && self.closed.pop_front().is_none() {
            return;
        }
        let window = full.saturating_mul(BUCKETS as u64);
        if self.closed.len() == BUCKETS {
            if self.bucket(full) < full && self.weight() < window {
                self.join();
            } else {
                self.closed.pop_front();
            }
        }
        self.closed.push_back(Bucket { number, weight: lasted.clamp(1, full) });
        while let Some(oldest) = self.closed.front()
            && self.weight() - oldest.weight >= window
        {
            self.closed.pop_front();
        }
    }

    fn join(&mut self) {
        let (pairs, _) = self.closed.make_contiguous().as_chunks::<2>();
        let join = |[earlier, later]: &[Bucket; 2]| Bucket {
            number: earlier.number.midpoint(later.number),
            weight: earlier.weight.saturating_add(later.weight),
        };
        self.closed = pairs.iter().map(join).collect();
        self.joined += 1;
    }

    fn weight(&self) -> Nanos {
        self.closed.iter().fold(0, |weight, bucket| weight.saturating_add(bucket.weight))
    }

    /// Whether it can have been counted, and not made up by whoever wrote a file.
    pub(super) fn is_sound(&self) -> bool {
        self.closed.len() <= BUCKETS && self.joined <= 64
    }

    /// Whether no bucket has ended yet.
    pub(super) fn is_empty(&self) -> bool {
        self.closed.is_empty()
    }

    /// The median of the closed buckets, by time. While they span less than 24 full ones a lower rank stands for it, so
    /// that a change in a short history is not accepted much sooner than in a long one.
    pub(super) fn value(&self, full: Nanos) -> Option<u64> {
        let mut sorted: Vec<Bucket> = self.closed.iter().copied().collect();
        sorted.sort_unstable_by_key(|bucket| bucket.number);
        let weight = self.weight();
        let accepted = full.saturating_mul(BUCKETS_TO_ACCEPT);
        let rank = weight.saturating_sub(accepted).max(weight / 5).min(weight / 2);
        let mut below = 0_u64;
        for bucket in &sorted {
            below = below.saturating_add(bucket.weight);
            if below > rank {
                return Some(bucket.number);
            }
        }
        None
    }

    /// Bytes taken from the allocator.
    pub(super) fn allocated(&self) -> u64 {
        (self.closed.capacity() * size_of::<Bucket>()) as u64
    }
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
    fn four_fifths_of_a_short_history_have_to_change() {
        let mut usual = Usual::default();
        for _ in 0..3 {
            usual.close(1, 25, FULL, true);
        }
        let accepted = (1..24).find(|_| {
            usual.close(3, 25, FULL, true);
            usual.value(FULL) == Some(3)
        });
        assert_eq!(accepted, Some(12));
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

    #[test]
    fn a_long_pause_counts_as_one_bucket() {
        let mut usual = Usual::default();
        usual.close(9, 1_000 * FULL, FULL, true);
        for _ in 0..3 {
            usual.close(1, FULL, FULL, true);
        }
        assert_eq!(usual.value(FULL), Some(1));
    }
}
