//! Spans that a recording holds twice: whoever recorded it took a retried request for a new one.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

use crate::otlp::span::SpanHead;

/// Spans remembered in each of two generations; 8 bytes each and some overhead.
const GENERATION: usize = 1 << 20;

/// The latest spans by a hash of their identity: between one and two generations of them.
#[derive(Default)]
pub(super) struct Repeats {
    young: HashTable<u64>,
    old: HashTable<u64>,
    hasher: RandomState,
}

impl Repeats {
    /// Whether a span of this identity was among the latest.
    pub(super) fn is_repeated(&mut self, span: &SpanHead) -> bool {
        // Zipkin gives both sides of a call one id.
        let hash = self.hasher.hash_one((span.trace_id, span.span_id, span.kind.is_entry()));
        let is_it = |known: &u64| *known == hash;
        if self.young.find(hash, is_it).is_some() || self.old.find(hash, is_it).is_some() {
            return true;
        }
        if self.young.len() >= GENERATION {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert_unique(hash, hash, |known| *known);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::span::Kind;
    use crate::otlp::{SpanId, TraceId};

    fn head(id: u64, kind: Kind) -> SpanHead {
        SpanHead {
            trace_id: TraceId::from_slice(&[1; 16]).expect("not zero"),
            span_id: SpanId::from_slice(&id.to_be_bytes()).expect("not zero"),
            parent_id: None,
            start: 1,
            end: 2,
            kind,
            is_error: false,
        }
    }

    #[test]
    fn a_span_is_repeated_when_one_of_its_id_and_side_was_among_the_latest() {
        let mut repeats = Repeats::default();
        assert!(!repeats.is_repeated(&head(1, Kind::Client)));
        assert!(!repeats.is_repeated(&head(1, Kind::Server)), "the other side of a call");
        assert!(repeats.is_repeated(&head(1, Kind::Client)));
        for id in 2..=2 * GENERATION as u64 + 1 {
            assert!(!repeats.is_repeated(&head(id, Kind::Client)));
        }
        assert!(!repeats.is_repeated(&head(1, Kind::Client)), "forgotten");
        assert!(repeats.young.len() <= GENERATION && repeats.old.len() <= GENERATION);
    }
}
