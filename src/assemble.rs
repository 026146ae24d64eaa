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
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use foldhash::fast::RandomState;

use decisions::Decisions;
pub use decisions::{Decision, Kept, Stamp};
use segments::{HEADER_SIZE, SEGMENT_SIZE, SlotRef};
use shard::{Arrival, LateSpan, Shard};
pub use trace::Trace;

use crate::otlp::batch::{Batch, BatchSpan, Stretch};
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

    /// Remembers fewer past decisions where they would take more than `bytes` on so many shards; returns whether it
    /// had to.
    pub fn fit_decisions(&mut self, bytes: u64, shards: usize) -> bool {
        let (kept, dropped) = (self.remember_kept, self.remember_dropped);
        let fits = |settings: &Self| {
            let (kept, dropped) = (settings.remember_kept / shards, settings.remember_dropped / shards);
            shards as u64 * Decisions::bytes_for(kept, dropped) <= bytes
        };
        while !fits(self) && self.remember_kept + self.remember_dropped > 0 {
            self.remember_kept -= self.remember_kept.div_ceil(8);
            self.remember_dropped -= self.remember_dropped.div_ceil(8);
        }
        (kept, dropped) != (self.remember_kept, self.remember_dropped)
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
    /// Nanoseconds that its root lasted; `None` where there is no root, one without credible times, or one of kind
    /// CLIENT: then the whole trace has to be looked at.
    pub root: Option<Nanos>,
    root_span: Stretch,
    service: Stretch,
}

/// How much is handed out at once: the last trace may go beyond it.
#[derive(Clone, Copy, Debug)]
pub struct Lot {
    /// Traces.
    pub traces: usize,
    /// Bytes that they take where they are held.
    pub bytes: u64,
}

impl Lot {
    /// Everything there is.
    pub const ALL: Self = Self { traces: usize::MAX, bytes: u64::MAX };

    /// Whether `out` can take one more.
    pub fn has_room(self, out: &DueTraces) -> bool {
        out.traces.len() < self.traces && out.held < self.bytes
    }
}

/// Traces that are due, of one shard. Reuse it: [`Assembler::due`] clears it first.
#[derive(Debug, Default)]
pub struct DueTraces {
    /// In the order in which they became due.
    pub traces: Vec<Due>,
    /// Bytes that they take where they are held.
    pub held: u64,
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
    /// Late spans of kept traces, those of one trace together, and how these were kept.
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

/// The header of a record, and for a span that is a trace of its own its slot and two moments, all in tables that grow
/// by doubling.
pub const SPAN_OVERHEAD: usize = HEADER_SIZE + 2 * (slots::SLOT_SIZE + 48);

/// A table that one huge request has grown is given back.
const KEEP_ARRIVALS: usize = 1 << 14;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Assembler {
    /// `shards` must be what [`Assembler::shards_for`] makes of it.
    pub fn new(settings: Settings, shards: usize) -> Self {
        let count = Self::shards_for(shards);
        let shards: Box<[_]> = (0..count).map(|_| Mutex::new(Shard::new(&settings, count))).collect();
        Self { settings, shards, allocated: AtomicU64::new(0) }
    }

    /// A power of two: `shards` rounded up.
    pub fn shards_for(shards: usize) -> usize {
        shards.clamp(1, 256).next_power_of_two()
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Stores those `spans` of `batch`, which was read from `request`, as arrived at `now`.
    pub fn store(&self, now: Nanos, batch: &Batch, request: &[u8], spans: Range<usize>) -> Stored {
        SCRATCH.with_borrow_mut(|scratch| self.store_with(now, (batch, request), spans, scratch))
    }

    fn store_with(
        &self,
        now: Nanos,
        (batch, request): (&Batch, &[u8]),
        spans: Range<usize>,
        scratch: &mut Scratch,
    ) -> Stored {
        let mut stored = Stored::default();
        let first = spans.start;
        let spans = batch.spans.get(spans).unwrap_or(&[]);
        let scopes = spans.first().map_or(0, |span| span.scope as usize)
            ..spans.last().map_or(0, |span| span.scope as usize + 1);
        scratch.scope_hashes.clear();
        scratch.scope_hashes.extend(batch.scopes.get(scopes.clone()).unwrap_or(&[]).iter().map(|scope| {
            let resource =
                batch.resources.get(scope.resource as usize).map_or(&[][..], |r| r.of(&batch.enclosing));
            origins::Origins::hash(&self.settings.hasher, resource, scope.content.of(&batch.enclosing))
        }));
        scratch.arrivals.resize_with(self.shards.len(), Vec::new);
        for (number, span) in (u32::try_from(first).unwrap_or(u32::MAX)..).zip(spans) {
            let hash = self.settings.hash(span.head.trace_id);
            if let Some(arrivals) = scratch.arrivals.get_mut(self.shard_of(hash)) {
                arrivals.push(Arrival { hash, span: number });
            }
        }
        // First the shards that nobody is in, then the others: two requests at once hardly wait for each other.
        for get in [try_lock as Get, |shard| Some(lock(shard))] {
            for (shard, arrivals) in self.shards.iter().zip(&mut scratch.arrivals) {
                if arrivals.is_empty() {
                    continue;
                }
                let Some(mut shard) = get(shard) else { continue };
                let before = shard.allocated();
                shard.store(
                    now,
                    &self.settings,
                    (batch, request),
                    (arrivals, scopes.clone(), &scratch.scope_hashes),
                    &mut scratch.scope_origins,
                    &mut scratch.late,
                );
                stored.has_oversized |= shard.has_oversized();
                self.note_allocated(before, shard.allocated());
                drop(shard);
                arrivals.clear();
                arrivals.shrink_to(KEEP_ARRIVALS);
            }
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

    /// Fills `out` with traces of a shard that are due at `now`. Each is handed out once, and stays held until it is
    /// settled.
    pub fn due(&self, shard: usize, now: Nanos, limit: Lot, out: &mut DueTraces) {
        self.hand_out(shard, out, |shard, out| shard.due(now, limit, out));
    }

    /// Fills `out` with traces of a shard before they are due: those with a root first, the oldest first.
    pub fn early(&self, shard: usize, trigger: Trigger, limit: Lot, out: &mut DueTraces) {
        self.hand_out(shard, out, |shard, out| shard.early(trigger, limit, out));
    }

    fn hand_out(&self, shard: usize, out: &mut DueTraces, fill: impl FnOnce(&mut Shard, &mut DueTraces)) {
        out.traces.clear();
        out.bytes.clear();
        out.held = 0;
        out.shard = shard;
        if let Some(shard) = self.shards.get(shard) {
            fill(&mut lock(shard), out);
        }
    }

    /// A copy of a trace that was handed out; it stays held.
    pub fn copy(&self, from: &DueTraces, due: &Due) -> Option<Trace> {
        lock(self.shards.get(from.shard)?).copy(due.slot)
    }

    /// Ends the hold on traces that were handed out, under one lock. `decisions` has for each how many spans of it the
    /// caller has copied already. Calls `each` with the place of every trace in `from` and the spans it has by now;
    /// and with a copy where it is kept and the caller has none, or one that lacks spans which came since.
    pub fn settle(
        &self,
        from: &DueTraces,
        decisions: impl Iterator<Item = (Decision, usize)>,
        mut each: impl FnMut(usize, u32, Option<Trace>),
    ) {
        let Some(shard) = self.shards.get(from.shard) else { return };
        let mut shard = lock(shard);
        let before = shard.allocated();
        for (index, (due, (decision, copied))) in from.traces.iter().zip(decisions).enumerate() {
            // A trace that was handed out is held until here, so there is always something to copy.
            let trace = match decision {
                Decision::Kept(_) if shard.spans_of(due.slot) as usize != copied => shard.copy(due.slot),
                _ => None,
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

    /// What holding `spans` spans with so many bytes takes at most: each may open a trace, and each shard a segment.
    pub fn bytes_for(&self, spans: usize, bytes: usize) -> u64 {
        let segments = self.shards.len().min(spans) * SEGMENT_SIZE;
        (bytes + spans * SPAN_OVERHEAD + segments) as u64
    }

    /// The shards, those that hold most bytes first.
    pub fn fullest_shards(&self) -> impl Iterator<Item = usize> + use<> {
        let sizes = self.shards.iter().map(|shard| lock(shard).allocated());
        let mut sizes: Vec<_> = sizes.zip(0..).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes.into_iter().map(|(_, shard)| shard)
    }

    /// What is known of a trace that is held.
    pub fn find(&self, id: TraceId) -> Option<HeldTrace> {
        let hash = self.settings.hash(id);
        lock(self.shards.get(self.shard_of(hash))?).look_up(hash, id)
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

/// An undecided trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldTrace {
    /// When its first span came.
    pub since: Nanos,
    /// How many have come.
    pub spans: u32,
    /// Whether a root is among them.
    pub has_root: bool,
}

/// A panic under the lock leaves a shard that is at worst miscounted, and losing every span after it would be worse.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

type Get = fn(&Mutex<Shard>) -> Option<MutexGuard<'_, Shard>>;

/// `None` while another thread has it.
fn try_lock(shard: &Mutex<Shard>) -> Option<MutexGuard<'_, Shard>> {
    match shard.try_lock() {
        Ok(shard) => Some(shard),
        Err(TryLockError::Poisoned(shard)) => Some(shard.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Sorts late spans by what became of their traces; those of kept traces go on as small traces of their own.
fn late_spans(batch: &Batch, request: &[u8], late: &mut Vec<LateSpan>, stored: &mut Stored) {
    let trace_of = |late: &LateSpan| batch.spans.get(late.span as usize).map(|span| span.head.trace_id);
    late.sort_unstable_by_key(|late| (trace_of(late), late.span));
    for of_trace in late.chunk_by(|a, b| trace_of(a) == trace_of(b)) {
        let spans = of_trace.iter().filter_map(|late| batch.spans.get(late.span as usize));
        stored.late_roots += spans.clone().filter(|span| span.head.parent_id.is_none()).count() as u64;
        let Some(LateSpan { decision: Decision::Kept(kept), .. }) = of_trace.first() else {
            stored.late_dropped += of_trace.len() as u64;
            continue;
        };
        let Some(id) = of_trace.first().and_then(trace_of) else { continue };
        let mut part = Part { trace: Trace::new(id), resource: None, scope: None };
        for span in spans {
            let pushed = part.push(batch, request, span);
            debug_assert!(pushed.is_some(), "a span of a batch has a scope and a resource");
        }
        stored.late.push((part.trace, *kept));
    }
    late.clear();
    late.shrink_to(KEEP_ARRIVALS);
}

/// A part of a batch that becomes a trace. Its spans come in the batch's order, so what encloses them does too.
struct Part {
    trace: Trace,
    /// Of the last span, its number in the batch and in the trace.
    resource: Option<(u32, u32)>,
    scope: Option<(u32, u32)>,
}

impl Part {
    fn push(&mut self, batch: &Batch, request: &[u8], span: &BatchSpan) -> Option<()> {
        let scope = match self.scope {
            Some((number, scope)) if number == span.scope => scope,
            _ => {
                let found = batch.scopes.get(span.scope as usize)?;
                let resource = match self.resource {
                    Some((number, resource)) if number == found.resource => resource,
                    _ => {
                        let content = batch.resources.get(found.resource as usize)?.of(&batch.enclosing);
                        self.trace.push_resource(content).ok()?
                    }
                };
                self.resource = Some((found.resource, resource));
                let scope = self.trace.push_scope(found.content.of(&batch.enclosing), resource).ok()?;
                self.scope = Some((span.scope, scope));
                scope
            }
        };
        self.trace.push_span(span.head, span.body.of(request), scope).ok()
    }
}

#[cfg(test)]
mod tests;
