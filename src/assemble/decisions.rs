//! Past decisions, remembered for spans that come late.
//!
//! Each side has two generations of equal size: when the young one is full it becomes the old one, and what was
//! old is forgotten. So between half of the configured number and all of it is remembered, in the order of decisions,
//! without a list to maintain. A dropped trace costs 8 bytes: a 64-bit hash of its id stands for it, and two ids
//! of a million share one with a probability below one in ten million.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::otlp::TraceId;
use crate::telemetry::metrics::Class;

/// What a sampled trace's spans are stamped with, in their `tracestate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// T of consistent probability sampling, 56 bits.
    pub threshold: u64,
    /// R, 56 bits: tells which incoming thresholds can be true.
    pub randomness: u64,
}

/// What happened to a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It was forwarded.
    Kept(Kept),
    /// It was dropped.
    Dropped,
}

/// How a trace was forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Why.
    pub class: Class,
    /// What was stamped on its spans.
    pub stamp: Option<Stamp>,
}

/// A kept trace, with the hash of its id: a table that grows asks for it.
#[derive(Clone, Copy, Debug)]
struct Remembered {
    hash: u64,
    id: TraceId,
    kept: Kept,
}

#[derive(Debug)]
pub(super) struct Decisions {
    kept: [HashTable<Remembered>; 2],
    dropped: [HashTable<u64>; 2],
    kept_limit: usize,
    dropped_limit: usize,
}

impl Decisions {
    /// Remembers at most so many of each.
    pub(super) fn new(kept: usize, dropped: usize) -> Self {
        Self {
            kept: [HashTable::new(), HashTable::new()],
            dropped: [HashTable::new(), HashTable::new()],
            kept_limit: kept / 2,
            dropped_limit: dropped / 2,
        }
    }

    /// Remembers a decision; `hash` is that of `id`.
    pub(super) fn remember(&mut self, id: TraceId, hash: u64, decision: Decision) {
        match decision {
            Decision::Kept(kept) if self.kept_limit > 0 => {
                let [young, old] = &mut self.kept;
                if young.len() >= self.kept_limit {
                    std::mem::swap(young, old);
                    young.clear();
                }
                young.insert_unique(hash, Remembered { hash, id, kept }, |other| other.hash);
            }
            Decision::Dropped if self.dropped_limit > 0 => {
                let [young, old] = &mut self.dropped;
                if young.len() >= self.dropped_limit {
                    std::mem::swap(young, old);
                    young.clear();
                }
                young.insert_unique(hash, hash, |hash| *hash);
            }
            _ => {}
        }
    }

    /// What happened to a trace, if it is remembered; `hash` is that of `id`.
    #[inline]
    pub(super) fn find(&self, id: TraceId, hash: u64) -> Option<Decision> {
        if self.dropped.iter().any(|dropped| dropped.find(hash, |other| *other == hash).is_some()) {
            return Some(Decision::Dropped);
        }
        let mut found = self.kept.iter().filter_map(|kept| kept.find(hash, |other| other.id == id));
        found.next().map(|found| Decision::Kept(found.kept))
    }

    /// Bytes taken from the allocator.
    pub(super) fn allocated(&self) -> u64 {
        let kept: usize = self.kept.iter().map(HashTable::allocation_size).sum();
        let dropped: usize = self.dropped.iter().map(HashTable::allocation_size).sum();
        (kept + dropped) as u64
    }

    /// What remembering so many takes at most.
    pub(super) fn bytes_for(kept: usize, dropped: usize) -> u64 {
        let table = |entries: usize, size: usize| match entries / 2 {
            0 => 0,
            // A table has a power of two of places, an eighth of them vacant, a byte more for each and a group at its end.
            entries => 2 * ((entries * 8 / 7 + 1).next_power_of_two().max(4) * (size + 1) + 16),
        };
        (table(kept, size_of::<Remembered>()) + table(dropped, size_of::<u64>())) as u64
    }
}

/// The hash of a trace id, which also picks its shard.
pub(super) fn hash_of(hasher: &RandomState, id: TraceId) -> u64 {
    hasher.hash_one(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> TraceId {
        let mut bytes = [1; 16];
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        TraceId::from_slice(&bytes).expect("not zero")
    }

    #[test]
    fn at_least_the_latest_half_is_remembered_and_the_size_is_bounded() {
        let kept =
            Decision::Kept(Kept { class: Class::Slow, stamp: Some(Stamp { threshold: 5, randomness: 6 }) });
        for decision in [Decision::Dropped, kept] {
            let mut decisions = Decisions::new(100, 100);
            for number in 0..10_000 {
                decisions.remember(id(number), number.wrapping_mul(0x9e37_79b9_7f4a_7c15), decision);
            }
            let hash = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            for number in 9_951..10_000 {
                assert_eq!(decisions.find(id(number), hash(number)), Some(decision));
            }
            assert_eq!(decisions.find(id(9_800), hash(9_800)), None);
            assert!(decisions.allocated() <= Decisions::bytes_for(100, 100), "{}", decisions.allocated());
        }
    }

    #[test]
    fn what_remembering_takes_is_known_before() {
        for limit in [2, 7, 100, 1_000, 28_671, 28_672, 28_673, 100_000] {
            let mut decisions = Decisions::new(limit, limit);
            for number in 0..2 * limit as u64 {
                let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                decisions.remember(id(number), hash, Decision::Dropped);
                let kept = Kept { class: Class::Slow, stamp: None };
                decisions.remember(id(number), hash, Decision::Kept(kept));
            }
            let (taken, bound) = (decisions.allocated(), Decisions::bytes_for(limit, limit));
            assert!(taken <= bound && bound <= 2 * taken, "{limit}: {taken} of {bound}");
        }
    }
}
