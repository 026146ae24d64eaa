//! What happens when held traces have used up their budget: some are decided early, by the same rules, or what arrives
//! is refused.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Deliver, LOT, NoRoom, Pipeline};
use crate::assemble::{Assembler, DueTraces, SPAN_OVERHEAD};
use crate::otlp::Nanos;
use crate::otlp::batch::Batch;
use crate::telemetry::metrics::Trigger;

/// A request is stored in slices of about so many bytes, so that neither its size nor that of a trace in it can push
/// what is held far beyond its limit.
const SLICE: usize = 1 << 20;

/// What may be held, and what those who are about to store have claimed of it.
#[derive(Debug)]
pub(super) struct Room {
    limit: u64,
    claimed: AtomicU64,
}

/// A part of a [`Room`], given back when it is dropped: by then it counts as held.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    room: &'a Room,
    bytes: u64,
}

impl Room {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, claimed: AtomicU64::new(0) }
    }

    /// Claims `bytes`, whether there are as many or not: whoever does has to make room.
    pub(super) fn claim(&self, bytes: u64) -> Claim<'_> {
        self.claimed.fetch_add(bytes, Ordering::AcqRel);
        Claim { room: self, bytes }
    }

    /// Claims `bytes` if they are there.
    pub(super) fn take(&self, bytes: u64, assembler: &Assembler) -> Result<Claim<'_>, NoRoom> {
        if bytes > self.limit {
            return Err(NoRoom::Ever);
        }
        let claim = self.claim(bytes);
        // Two that claim at once can both be refused, but never both be taken into the room of one.
        if self.lacks(assembler) { Err(NoRoom::Now) } else { Ok(claim) }
    }

    /// Whether more is held and claimed than may be.
    fn lacks(&self, assembler: &Assembler) -> bool {
        assembler.held_bytes().saturating_add(self.claimed.load(Ordering::Acquire)) > self.limit
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.room.claimed.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Pipeline {
    /// Decides held traces until they fit their budget. The task that brought too much does this work itself, so
    /// whoever sends faster than we can decide is slowed down by just that.
    pub(super) fn make_room(&self, now: Nanos, deliver: Deliver<'_>) {
        let mut due = DueTraces::default();
        while self.room.lacks(&self.assembler) {
            for shard in self.assembler.fullest_shards() {
                self.assembler.early(shard, Trigger::Memory, LOT, &mut due);
                if !due.traces.is_empty() {
                    break;
                }
            }
            if due.traces.is_empty() {
                // What is left is being decided by others.
                return;
            }
            self.settle(now, &due, deliver);
        }
    }
}

/// The spans of a batch in slices, and the bytes of each slice.
pub(super) fn slices(batch: &Batch) -> impl Iterator<Item = (Range<usize>, usize)> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let start = next;
        let (mut bytes, mut cost, mut scope) = (0, 0, None);
        while cost < SLICE
            && let Some(span) = batch.spans.get(next)
        {
            bytes += span.body.length() as usize;
            if scope != Some(span.scope) {
                scope = Some(span.scope);
                bytes += enclosing(batch, span.scope);
            }
            next += 1;
            cost = bytes + (next - start) * SPAN_OVERHEAD;
        }
        (next > start).then_some((start..next, bytes))
    })
}

/// Bytes of what encloses the spans of a scope.
fn enclosing(batch: &Batch, scope: u32) -> usize {
    let Some(scope) = batch.scopes.get(scope as usize) else { return 0 };
    let resource = batch.resources.get(scope.resource as usize).map_or(0, |resource| resource.length());
    scope.content.length() as usize + resource as usize
}
