//! Gathers the spans of each trace over many requests, bounded in bytes, until the trace is due.
//!
//! A trace is handed out for its decision with what its slot says and a copy of its root span ([`Due`]); most
//! decisions need no more. Whoever decides then settles it: the spans are freed, and the decision is remembered
//! for spans that come late.

mod decisions;
mod origins;
mod segments;
mod shard;
mod slots;
pub mod trace;

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

pub use decisions::{Decision, Kept, Stamp};
use segments::SlotRef;
use shard::{Arrival, LateSpan, Shard};
pub use trace::Trace;

use crate::otlp::batch::{Batch, Stretch};
use crate::otlp::{Nanos, TraceId};
use crate::telemetry::metrics::Trigger;

/// All held traces.
#[derive(Debug)]
pub struct Assembler {
    settings: Settings,
    /// A std mutex: it is never held across an await or a call into another stage, and contention is rare since a
    /// request takes each lock once.
    shards: Box<[Mutex<Shard>]>,
    /// Bytes of all shards, kept beside them so that the budget is checked without their locks.
    allocated: AtomicU64,
}

/// How long and how much is held.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Nanoseconds from a trace's first span to its decision.
    pub wait: Nanos,
    /// Nanoseconds from its root to its decision.
    pub wait_after_root: Nanos,
    /// Bytes at which a trace is decided at once.
    pub maximum_trace_size: u64,
    /// Kept traces that are remembered for late spans.
    pub remember_kept: usize,
    /// Dropped traces that are remembered for late spans.
    pub remember_dropped: usize,
    hasher: RandomState,
}

impl Settings {
    /// From the configuration's `assemble` section.
    pub fn new(config: &crate::config::Assemble) -> Self {
        Self {
            wait: nanos(config.decision_wait),
            wait_after_root: nanos(config.decision_wait_after_root_received),
            maximum_trace_size: config.maximum_trace_size,
            remember_kept: config.decision_cache.sampled,
            remember_dropped: config.decision_cache.dropped,
            // Trace ids are chosen by whoever sends them; a random seed keeps them from choosing collisions.
            hasher: RandomState::default(),
        }
    }

    fn hash(&self, id: TraceId) -> u64 {
        decisions::hash_of(&self.hasher, id)
    }
}

fn nanos(duration: std::time::Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}

/// A trace that is due.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    slot: SlotRef,
    /// Its id.
    pub id: TraceId,
    /// Why it is due.
    pub trigger: Trigger,
    /// Since when, in nanoseconds.
    pub due_at: Nanos,
    /// How many spans it has.
    pub spans: u32,
    /// Whether its root, or a SERVER or CONSUMER span, has status ERROR.
    pub has_error: bool,
    /// Nanoseconds that its root lasted; `None` where there is no root, or one of kind CLIENT: then the entry span
    /// has to be looked for in the whole trace.
    pub root: Option<Nanos>,
    root_span: Stretch,
    service: Stretch,
}

/// Traces that are due, of one shard. Reuse it: [`Assembler::due`] clears it first.
#[derive(Debug, Default)]
pub struct DueTraces {
    /// In the order in which they became due.
    pub traces: Vec<Due>,
    shard: usize,
    bytes: Vec<u8>,
}

impl DueTraces {
    /// The root span's body; empty where there is none.
    pub fn root_span(&self, due: &Due) -> &[u8] {
        due.root_span.of(&self.bytes)
    }

    /// The root span's `service.name`; empty where there is none.
    pub fn service(&self, due: &Due) -> &[u8] {
        due.service.of(&self.bytes)
    }

    fn keep(&mut self, bytes: &[u8]) -> Stretch {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        // One lot of root spans ends far below 4 GiB: a span is shorter than a request.
        Stretch::since(start, &self.bytes).unwrap_or_default()
    }
}

/// What became of a request's spans.
#[derive(Debug, Default)]
pub struct Stored {
    /// Late spans of kept traces, and how these were kept.
    pub late: Vec<(Trace, Kept)>,
    /// Late spans of dropped traces.
    pub late_dropped: u64,
    /// Roots among the late spans.
    pub late_roots: u64,
    /// Whether a trace has grown to `maximum_trace_size`: decide what is due now.
    pub has_oversized: bool,
}

/// Tables of [`Assembler::store`], reused by each thread from request to request.
#[derive(Debug, Default)]
struct Scratch {
    scope_hashes: Vec<u64>,
    scope_origins: Vec<u32>,
    /// Per shard, the spans that go there.
    arrivals: Vec<Vec<Arrival>>,
    late: Vec<LateSpan>,
}

/// A table that one huge request has grown is given back.
const KEEP_ARRIVALS: usize = 1 << 14;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Assembler {
    /// `shards` is rounded up to a power of two.
    pub fn new(settings: Settings, shards: usize) -> Self {
        let count = shards.clamp(1, 256).next_power_of_two();
        let shards: Box<[_]> = (0..count).map(|_| Mutex::new(Shard::new(&settings, count))).collect();
        Self { settings, shards, allocated: AtomicU64::new(0) }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Stores the spans of `batch`, which was read from `request`, as arrived at `now`.
    pub fn store(&self, now: Nanos, batch: &Batch, request: &[u8]) -> Stored {
        SCRATCH.with_borrow_mut(|scratch| self.store_with(now, batch, request, scratch))
    }

    fn store_with(&self, now: Nanos, batch: &Batch, request: &[u8], scratch: &mut Scratch) -> Stored {
        let mut stored = Stored::default();
        scratch.scope_hashes.clear();
        scratch.scope_hashes.extend(batch.scopes.iter().map(|scope| {
            let resource =
                batch.resources.get(scope.resource as usize).map_or(&[][..], |r| r.of(&batch.enclosing));
            origins::Origins::hash(&self.settings.hasher, resource, scope.content.of(&batch.enclosing))
        }));
        scratch.arrivals.resize_with(self.shards.len(), Vec::new);
        for (number, span) in (0_u32..).zip(&batch.spans) {
            let hash = self.settings.hash(span.head.trace_id);
            if let Some(arrivals) = scratch.arrivals.get_mut(self.shard_of(hash)) {
                arrivals.push(Arrival { hash, span: number });
            }
        }
        for (shard, arrivals) in self.shards.iter().zip(&mut scratch.arrivals) {
            if arrivals.is_empty() {
                continue;
            }
            let mut shard = lock(shard);
            let before = shard.allocated();
            shard.store(
                now,
                &self.settings,
                (batch, request),
                (arrivals, &scratch.scope_hashes),
                &mut scratch.scope_origins,
                &mut scratch.late,
            );
            stored.has_oversized |= shard.has_oversized();
            self.note_allocated(before, shard.allocated());
            drop(shard);
            arrivals.clear();
            arrivals.shrink_to(KEEP_ARRIVALS);
        }
        if !scratch.late.is_empty() {
            late_spans(batch, request, &mut scratch.late, &mut stored);
        }
        stored
    }

    // Not the lowest and highest bits: those find the place in the shard's table.
    fn shard_of(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.shards.len() - 1)
    }

    /// Fills `out` with traces of a shard that are due at `now`, at most `limit`. Each is handed out once, and stays
    /// held until it is settled.
    pub fn due(&self, shard: usize, now: Nanos, limit: usize, out: &mut DueTraces) {
        self.hand_out(shard, out, |shard, out| shard.due(now, limit, out));
    }

    /// Fills `out` with traces of a shard before they are due, at most `limit`: those with a root first, the oldest
    /// first.
    pub fn early(&self, shard: usize, trigger: Trigger, limit: usize, out: &mut DueTraces) {
        self.hand_out(shard, out, |shard, out| shard.early(trigger, limit, out));
    }

    fn hand_out(&self, shard: usize, out: &mut DueTraces, fill: impl FnOnce(&mut Shard, &mut DueTraces)) {
        out.traces.clear();
        out.bytes.clear();
        out.shard = shard;
        if let Some(shard) = self.shards.get(shard) {
            fill(&mut lock(shard), out);
        }
    }

    /// A copy of a trace that was handed out; it stays held.
    pub fn copy(&self, from: &DueTraces, due: &Due) -> Option<Trace> {
        lock(self.shards.get(from.shard)?).copy(due.slot)
    }

    /// Ends the hold on traces that were handed out, under one lock. Calls `each` with every trace of `from`, its
    /// decision and the spans it has by now; with `Some(trace)` where it was kept.
    pub fn settle(
        &self,
        from: &DueTraces,
        decisions: impl Iterator<Item = Decision>,
        mut each: impl FnMut(usize, u32, Option<Trace>),
    ) {
        let Some(shard) = self.shards.get(from.shard) else { return };
        let mut shard = lock(shard);
        let before = shard.allocated();
        for (index, (due, decision)) in from.traces.iter().zip(decisions).enumerate() {
            // A trace that was handed out is held until here, so there is always something to copy.
            let trace = match decision {
                Decision::Kept(_) => shard.copy(due.slot),
                Decision::Dropped => None,
            };
            let spans = shard.settle(&self.settings, due.slot, decision);
            each(index, spans, trace);
        }
        shard.tidy(&self.settings);
        self.note_allocated(before, shard.allocated());
    }

    fn note_allocated(&self, before: u64, after: u64) {
        if after >= before {
            self.allocated.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.allocated.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// Bytes taken for held traces, overhead included.
    pub fn held_bytes(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }

    /// An upper bound of what will be held after a request of so many bytes: each shard may open a segment.
    pub fn held_bytes_with(&self, request: usize) -> u64 {
        let segments = self.shards.len() * segments::SEGMENT_SIZE;
        self.held_bytes() + (2 * request + segments) as u64
    }

    /// The shard that holds most bytes.
    pub fn fullest_shard(&self) -> usize {
        let sizes = self.shards.iter().map(|shard| lock(shard).allocated());
        sizes.enumerate().max_by_key(|(_, size)| *size).map_or(0, |(shard, _)| shard)
    }

    /// Held spans, held traces, and bytes taken for past decisions.
    pub fn held(&self) -> Held {
        self.shards.iter().map(lock).fold(Held::default(), |held, shard| Held {
            spans: held.spans + shard.spans(),
            traces: held.traces + shard.traces(),
            remembered_bytes: held.remembered_bytes + shard.remembered(),
        })
    }
}

/// What [`Assembler::held`] counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Spans of undecided traces.
    pub spans: u64,
    /// Undecided traces.
    pub traces: u64,
    /// Bytes of past decisions.
    pub remembered_bytes: u64,
}

/// A panic under the lock leaves a shard that is at worst miscounted, and losing every span after it would be worse.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sorts late spans by what became of their traces; those of kept traces go on as small traces of their own.
fn late_spans(batch: &Batch, request: &[u8], late: &mut Vec<LateSpan>, stored: &mut Stored) {
    for LateSpan { span, decision } in late.drain(..) {
        let Some(span) = batch.spans.get(span as usize) else { continue };
        stored.late_roots += u64::from(span.head.parent_id.is_none());
        let Decision::Kept(kept) = decision else {
            stored.late_dropped += 1;
            continue;
        };
        let mut trace = Trace::new(span.head.trace_id);
        let pushed = batch.scopes.get(span.scope as usize).and_then(|scope| {
            let resource = batch.resources.get(scope.resource as usize)?.of(&batch.enclosing);
            let resource = trace.push_resource(resource).ok()?;
            let scope = trace.push_scope(scope.content.of(&batch.enclosing), resource).ok()?;
            trace.push_span(span.head, span.body.of(request), scope).ok()
        });
        debug_assert!(pushed.is_some(), "a span of a batch has a scope and a resource");
        stored.late.push((trace, kept));
    }
}

#[cfg(test)]
mod tests;
