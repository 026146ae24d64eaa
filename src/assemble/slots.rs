//! What is known of each held trace without looking at its spans.

use crate::otlp::span::{Kind, SpanHead};
use crate::otlp::{Nanos, SpanId, TraceId};

use super::segments::{Address, SlotRef};

/// Bytes of a slot, and of its number among the vacant ones.
pub(super) const SLOT_SIZE: usize = size_of::<Slot>() + size_of::<u32>();

/// Slots come and go in chunks of this many, so that a table that has been large is given back.
const CHUNK: usize = 256;

/// How many segments a slot remembers its bytes in; traces in more are forgotten record by record.
const PLACES: usize = 4;

/// One held trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) id: TraceId,
    /// Counts the uses of slots, so that an old reference to this one is recognised; 0 in a vacant slot.
    pub(super) generation: u32,
    /// When its first span came.
    pub(super) since: Nanos,
    /// Its newest record.
    pub(super) last: Address,
    /// The longest root span, if any has arrived.
    pub(super) root: Option<Root>,
    pub(super) spans: u32,
    /// Bytes of its records.
    pub(super) bytes: u64,
    /// Whether a SERVER or CONSUMER span has status ERROR.
    pub(super) has_error: bool,
    /// Whether it has been handed out for a decision.
    pub(super) is_deciding: bool,
    /// Bytes by segment; `(u32::MAX, _)` is a vacant place.
    places: [(u32, u32); PLACES],
    /// Whether there were more segments than places.
    pub(super) is_scattered: bool,
}

/// The root span of a trace; of several the longest, then the earliest, then the one with the smallest id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) address: Address,
    pub(super) start: Nanos,
    pub(super) duration: Nanos,
    pub(super) span_id: SpanId,
    pub(super) kind: Kind,
    pub(super) is_error: bool,
    pub(super) has_credible_times: bool,
}

impl Root {
    fn is_before(&self, other: &Self) -> bool {
        let key = |root: &Self| (std::cmp::Reverse(root.duration), root.start, root.span_id);
        key(self) < key(other)
    }
}

impl Slot {
    fn new(id: TraceId, generation: u32, since: Nanos) -> Self {
        Self {
            id,
            generation,
            since,
            last: Address::NONE,
            root: None,
            spans: 0,
            bytes: 0,
            has_error: false,
            is_deciding: false,
            places: [(u32::MAX, 0); PLACES],
            is_scattered: false,
        }
    }

    /// Takes note of a span that has been appended. Returns whether it is the first root.
    #[inline]
    pub(super) fn note(&mut self, head: &SpanHead, address: Address, size: u32) -> bool {
        self.last = address;
        self.spans += 1;
        self.note_place(address.segment, size);
        self.has_error |= head.is_error && head.kind.is_entry();
        if head.parent_id.is_some() {
            return false;
        }
        let root = Root {
            address,
            start: head.start,
            duration: head.duration(),
            span_id: head.span_id,
            kind: head.kind,
            is_error: head.is_error,
            has_credible_times: head.has_credible_times(),
        };
        let is_first = self.root.is_none();
        if self.root.is_none_or(|known| root.is_before(&known)) {
            self.root = Some(root);
        }
        is_first
    }

    /// Takes note that `size` bytes lie in `segment`.
    #[inline]
    pub(super) fn note_place(&mut self, segment: u32, size: u32) {
        self.bytes += u64::from(size);
        for place in &mut self.places {
            if place.0 == segment || place.0 == u32::MAX {
                place.0 = segment;
                place.1 += size;
                return;
            }
        }
        self.is_scattered = true;
    }

    /// Where its bytes lie; all of them unless it is scattered.
    pub(super) fn places(&self) -> impl Iterator<Item = (u32, u32)> + use<> {
        self.places.into_iter().take_while(|place| place.0 != u32::MAX)
    }

    /// Forgets where its bytes lie, before they are moved.
    pub(super) fn clear_places(&mut self) {
        self.places = [(u32::MAX, 0); PLACES];
        self.is_scattered = false;
        self.bytes = 0;
    }
}

#[derive(Debug)]
struct Chunk {
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    used: usize,
}

/// The slots of one shard.
#[derive(Debug, Default)]
pub(super) struct Slots {
    chunks: Vec<Chunk>,
    /// No chunk before this one has room.
    first_with_room: usize,
    used: usize,
    next_generation: u32,
}

impl Slots {
    /// A fresh slot for `id`, whose first span came at `since`.
    pub(super) fn insert(&mut self, id: TraceId, since: Nanos) -> SlotRef {
        while self.chunks.get(self.first_with_room).is_some_and(|chunk| chunk.used == CHUNK) {
            self.first_with_room += 1;
        }
        if self.first_with_room == self.chunks.len() {
            self.chunks.push(Chunk {
                slots: Vec::with_capacity(CHUNK),
                vacant: Vec::with_capacity(CHUNK),
                used: 0,
            });
        }
        self.next_generation = self.next_generation.wrapping_add(1).max(1);
        let generation = self.next_generation;
        let base = self.first_with_room * CHUNK;
        let Some(chunk) = self.chunks.get_mut(self.first_with_room) else {
            unreachable!("the chunk was pushed above");
        };
        let slot = Slot::new(id, generation, since);
        let within = if let Some(within) = chunk.vacant.pop() {
            if let Some(place) = chunk.slots.get_mut(within as usize) {
                *place = slot;
            }
            within as usize
        } else {
            chunk.slots.push(slot);
            chunk.slots.len() - 1
        };
        chunk.used += 1;
        self.used += 1;
        SlotRef { index: u32::try_from(base + within).unwrap_or(u32::MAX), generation }
    }

    /// The slot, unless it is used by another trace by now.
    #[inline]
    pub(super) fn get(&self, slot: SlotRef) -> Option<&Slot> {
        self.at(slot.index).filter(|found| found.generation == slot.generation)
    }

    /// The slot, unless it is used by another trace by now.
    #[inline]
    pub(super) fn get_mut(&mut self, slot: SlotRef) -> Option<&mut Slot> {
        let index = slot.index as usize;
        self.chunks
            .get_mut(index / CHUNK)?
            .slots
            .get_mut(index % CHUNK)
            .filter(|found| found.generation == slot.generation)
    }

    /// The trace in this place.
    #[inline]
    pub(super) fn at(&self, index: u32) -> Option<&Slot> {
        let index = index as usize;
        self.chunks.get(index / CHUNK)?.slots.get(index % CHUNK).filter(|found| found.generation != 0)
    }

    /// Frees a slot; chunks at the end that hold nothing go back to the allocator.
    pub(super) fn remove(&mut self, slot: SlotRef) {
        let index = slot.index as usize;
        let Some(chunk) = self.chunks.get_mut(index / CHUNK) else { return };
        let Some(found) = chunk.slots.get_mut(index % CHUNK) else { return };
        if found.generation != slot.generation {
            return;
        }
        found.generation = 0;
        chunk.used -= 1;
        chunk.vacant.push(u32::try_from(index % CHUNK).unwrap_or(0));
        self.used -= 1;
        self.first_with_room = self.first_with_room.min(index / CHUNK);
        // One empty chunk stays, so that a trace that comes and goes costs no allocation.
        while let [.., before, last] = self.chunks.as_slice()
            && before.used == 0
            && last.used == 0
        {
            self.chunks.pop();
        }
        if self.chunks.len() * 4 < self.chunks.capacity() {
            self.chunks.shrink_to(self.chunks.len() * 2);
        }
    }

    /// How many traces are held.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// Bytes taken from the allocator.
    pub(super) fn allocated(&self) -> u64 {
        let chunks = self.chunks.len() * CHUNK * SLOT_SIZE;
        (chunks + self.chunks.capacity() * size_of::<Chunk>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> TraceId {
        let mut bytes = [1; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        TraceId::from_slice(&bytes).expect("not zero")
    }

    #[test]
    fn a_freed_slot_is_used_again_and_its_old_reference_finds_nothing() {
        let mut slots = Slots::default();
        let first = slots.insert(id(1), 0);
        slots.remove(first);
        let second = slots.insert(id(2), 0);
        assert_eq!(second.index, first.index);
        assert!(slots.get(first).is_none());
        assert_eq!(slots.get(second).map(|slot| slot.id), Some(id(2)));
    }

    #[test]
    fn a_table_that_was_large_is_given_back() {
        let mut slots = Slots::default();
        let all: Vec<_> = (0..10_000).map(|number| slots.insert(id(number), 0)).collect();
        let large = slots.allocated();
        for slot in all {
            slots.remove(slot);
        }
        assert_eq!(slots.len(), 0);
        assert!(slots.allocated() * 30 < large, "{} of {large}", slots.allocated());
    }
}
