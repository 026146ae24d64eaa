//! Past decisions, remembered for spans that come late.
//!
//! Each side has two generations of equal size: when the young one is full it becomes the old one, and what was
//! old is forgotten. So between half of the configured number and all of it is remembered, in the order of decisions,
//! without a list to maintain. A dropped trace costs 8 bytes: a 64-bit hash of its id stands for it, and two ids
//! of a million share one with a probability below one in ten million.

use std::collections::HashMap;
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

#[derive(Debug)]
pub(super) struct Decisions {
    kept: [HashMap<TraceId, Kept, RandomState>; 2],
    dropped: [HashTable<u64>; 2],
    kept_limit: usize,
    dropped_limit: usize,
}

impl Decisions {
    /// Remembers at most so many of each.
    pub(super) fn new(kept: usize, dropped: usize) -> Self {
        Self {
            kept: [HashMap::default(), HashMap::default()],
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
                young.insert(id, kept);
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
        self.kept.iter().find_map(|kept| kept.get(&id)).copied().map(Decision::Kept)
    }

    /// Bytes taken from the allocator.
    pub(super) fn allocated(&self) -> u64 {
        let kept: usize =
            self.kept.iter().map(|kept| kept.capacity() * (size_of::<(TraceId, Kept)>() + 1)).sum();
        let dropped: usize =
            self.dropped.iter().map(|dropped| dropped.capacity() * (size_of::<u64>() + 1)).sum();
        (kept + dropped) as u64
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
            assert!(decisions.allocated() < 20_000, "{}", decisions.allocated());
        }
    }
}
