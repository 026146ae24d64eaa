//! What the counters may take in memory, and what they take.

use super::{Item, MAX_EDGES, MAX_ITEMS, Tables, Traffic};
use crate::compare::edges::EDGE_SIZE;

/// More than one call can make what is known of a kind of work grow by.
const STEP: u64 = 16 << 10;

impl Traffic {
    /// Keeps the counters within so many bytes: what has no room is not looked at.
    pub(crate) fn keep_within(&mut self, bytes: u64) {
        self.limit = bytes;
    }
}

impl Tables {
    /// Whether what is known of a kind of work may take `more` bytes, and those that one call takes.
    pub(super) fn is_roomy(&self, more: u64, limit: u64) -> bool {
        self.used().saturating_add(more + STEP) <= limit
    }

    /// Whether one more kind of work may be looked at. A quarter is left to those that are known already: they have more
    /// to learn.
    pub(super) fn takes_item(&self, limit: u64) -> bool {
        let doubled =
            if self.items.len() == self.items.capacity() { self.items.allocation_size() } else { 0 };
        self.items.len() < MAX_ITEMS && self.is_roomy(doubled as u64, limit / 4 * 3)
    }

    /// Whether one more edge may be counted.
    pub(super) fn takes_edge(&self, limit: u64) -> bool {
        let doubled =
            if self.edges.len() == self.edges.capacity() { self.edges.allocation_size() } else { 0 };
        self.edges.len() < MAX_EDGES && self.is_roomy(doubled as u64, limit)
    }

    /// Counts anew, and gives back the places of what was forgotten.
    pub(super) fn shrink(&mut self) {
        self.items.shrink_to(self.items.len() * 2);
        self.edges.shrink_to(self.edges.len() * 2);
        self.learned = self.items.values().map(|item: &Item| item.normal.allocated()).sum();
    }

    /// Bytes in use; of what was put together of the edges, as many as there can be.
    pub(super) fn used(&self) -> u64 {
        let places = self.items.allocation_size() + self.edges.allocation_size();
        self.learned + (places + self.edges.len() * EDGE_SIZE) as u64
    }
}
