//! One shard of the held traces: its table, its spans and the moments at which its traces are due.
//!
//! Both waits are constant, so traces become due in the order in which they were queued and two queues replace a
//! timer wheel. Everything here runs under the shard's lock, in time proportional to the spans handed in.

use std::collections::VecDeque;
use std::ops::Range;

use hashbrown::HashTable;

use crate::otlp::batch::{Batch, BatchSpan};
use crate::otlp::span::{Kind, read_head};
use crate::otlp::{Nanos, TraceId};
use crate::telemetry::metrics::Trigger;

use super::decisions::{Decision, Decisions};
use super::origins::Origins;
use super::segments::{Address, Record, Segments, SlotRef, record_size};
use super::slots::Slots;
use super::trace::Trace;
use super::{Due, DueTraces, HeldTrace, Lot, Settings};

/// So many moments of traces that are gone cost less than looking for them.
const FEW_DEADLINES: usize = 1024;

/// A moment at which a trace is due, unless it was decided before.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: Nanos,
    slot: SlotRef,
}

#[derive(Debug)]
pub(super) struct Shard {
    /// Slot numbers by trace id; the hash is the one that picked the shard.
    table: HashTable<u32>,
    slots: Slots,
    segments: Segments,
    origins: Origins,
    /// By `decision_wait`, from each trace's first span.
    waiting: VecDeque<Deadline>,
    /// By `decision_wait_after_root_received`, from each trace's first root.
    rooted: VecDeque<Deadline>,
    /// Traces that have reached `maximum_trace_size`.
    oversized: Vec<Deadline>,
    decisions: Decisions,
    spans: u64,
}

/// A span handed to a shard that belongs to a trace already decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct LateSpan {
    /// Its place in `Batch::spans`.
    pub(super) span: u32,
    pub(super) decision: Decision,
}

/// A span of a batch on its way into a shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// Of its trace id.
    pub(super) hash: u64,
    /// Its place in `Batch::spans`.
    pub(super) span: u32,
}

impl Shard {
    pub(super) fn new(settings: &Settings, shards: usize) -> Self {
        Self {
            table: HashTable::new(),
            slots: Slots::default(),
            segments: Segments::default(),
            origins: Origins::default(),
            waiting: VecDeque::new(),
            rooted: VecDeque::new(),
            oversized: Vec::new(),
            decisions: Decisions::new(settings.remember_kept / shards, settings.remember_dropped / shards),
            spans: 0,
        }
    }

    /// Stores the spans of `batch` that `arrivals` name. `scope_hashes` are those of `batch.scopes` from the first
    /// number of `scopes` on, and `scope_origins` is scratch space.
    pub(super) fn store(
        &mut self,
        now: Nanos,
        settings: &Settings,
        (batch, request): (&Batch, &[u8]),
        (arrivals, scopes, scope_hashes): (&[Arrival], Range<usize>, &[u64]),
        scope_origins: &mut Vec<u32>,
        late: &mut Vec<LateSpan>,
    ) {
        scope_origins.clear();
        scope_origins.resize(scopes.len(), u32::MAX);
        let mut last: Option<(TraceId, SlotRef)> = None;
        for arrival in arrivals {
            let Some(span) = batch.spans.get(arrival.span as usize) else { continue };
            let id = span.head.trace_id;
            let slot = match last {
                Some((last_id, slot)) if last_id == id => slot,
                _ => match self.find(arrival.hash, id) {
                    Some(slot) => slot,
                    None => {
                        if let Some(decision) = self.decisions.find(id, arrival.hash) {
                            late.push(LateSpan { span: arrival.span, decision });
                            continue;
                        }
                        self.open(now, settings, arrival.hash, id)
                    }
                },
            };
            last = Some((id, slot));
            let origin = self.origin(batch, span.scope as usize, scopes.start, scope_hashes, scope_origins);
            self.append(now, settings, slot, origin, span, request);
        }
    }

    #[inline]
    fn find(&self, hash: u64, id: TraceId) -> Option<SlotRef> {
        let index =
            *self.table.find(hash, |index| self.slots.at(*index).is_some_and(|slot| slot.id == id))?;
        Some(SlotRef { index, generation: self.slots.at(index)?.generation })
    }

    fn open(&mut self, now: Nanos, settings: &Settings, hash: u64, id: TraceId) -> SlotRef {
        let slot = self.slots.insert(id, now);
        let slots = &self.slots;
        self.table.insert_unique(hash, slot.index, |index| {
            slots.at(*index).map_or(0, |slot| settings.hash(slot.id))
        });
        self.waiting.push_back(Deadline { at: now.saturating_add(settings.wait), slot });
        slot
    }

    #[inline]
    fn origin(
        &mut self,
        batch: &Batch,
        scope: usize,
        first: usize,
        hashes: &[u64],
        known: &mut [u32],
    ) -> u32 {
        let Some(place) = known.get_mut(scope - first) else { return u32::MAX };
        if *place == u32::MAX {
            let Some(found) = batch.scopes.get(scope) else { return u32::MAX };
            let resource = batch
                .resources
                .get(found.resource as usize)
                .map_or(&[][..], |resource| resource.of(&batch.enclosing));
            let hash = hashes.get(scope - first).copied().unwrap_or(0);
            *place = self.origins.intern(hash, resource, found.content.of(&batch.enclosing));
        }
        *place
    }

    #[inline]
    fn append(
        &mut self,
        now: Nanos,
        settings: &Settings,
        slot: SlotRef,
        origin: u32,
        span: &BatchSpan,
        request: &[u8],
    ) {
        let Some(found) = self.slots.get_mut(slot) else { return };
        let body = span.body.of(request);
        let address = self.segments.append(Record { previous: found.last, slot, origin, body });
        let size = record_size(body);
        let is_first_root = found.note(&span.head, address, size);
        self.spans += 1;
        if is_first_root {
            self.rooted.push_back(Deadline { at: now.saturating_add(settings.wait_after_root), slot });
        }
        if found.bytes >= settings.maximum_trace_size
            && found.bytes - u64::from(size) < settings.maximum_trace_size
        {
            self.oversized.push(Deadline { at: now, slot });
        }
        if self.origins.is_new_to(origin, self.segments.sequence(address.segment)) {
            self.segments.refer(address.segment, origin);
        }
    }

    /// Whether a trace has reached `maximum_trace_size` and waits for its decision.
    pub(super) fn has_oversized(&self) -> bool {
        !self.oversized.is_empty()
    }

    /// Hands out traces that are due at `now`, until `out` is full: first those that grew too large, then by time.
    pub(super) fn due(&mut self, now: Nanos, limit: Lot, out: &mut DueTraces) {
        while limit.has_room(out)
            && let Some(deadline) = self.oversized.pop()
        {
            self.hand_out(deadline, Trigger::Size, out);
        }
        for trigger in [Trigger::Root, Trigger::Wait] {
            while limit.has_room(out)
                && let Some(deadline) = self.queue(trigger).front().copied()
                && deadline.at <= now
            {
                self.queue(trigger).pop_front();
                self.hand_out(deadline, trigger, out);
            }
        }
    }

    /// Hands out traces whatever their deadline, until `out` is full: those with a root first, the oldest first.
    pub(super) fn early(&mut self, trigger: Trigger, limit: Lot, out: &mut DueTraces) {
        for queue in [Trigger::Root, Trigger::Wait] {
            while limit.has_room(out)
                && let Some(deadline) = self.queue(queue).pop_front()
            {
                self.hand_out(deadline, trigger, out);
            }
        }
    }

    fn queue(&mut self, trigger: Trigger) -> &mut VecDeque<Deadline> {
        if trigger == Trigger::Root { &mut self.rooted } else { &mut self.waiting }
    }

    /// Copies what a decision needs to know of a trace, its slot and its root span, unless the trace is gone or
    /// already handed out.
    fn hand_out(&mut self, deadline: Deadline, trigger: Trigger, out: &mut DueTraces) {
        let Some(slot) = self.slots.get_mut(deadline.slot) else { return };
        if std::mem::replace(&mut slot.is_deciding, true) {
            return;
        }
        let slot = *slot;
        let root = slot.root.and_then(|root| Some((root, self.segments.record(root.address)?)));
        let service = root.and_then(|(_, record)| self.origins.get(record.origin));
        let (root_span, service) = (
            out.keep(root.map_or(&[], |(_, record)| record.body)),
            out.keep(service.map_or(&[], |origin| origin.service())),
        );
        out.traces.push(Due {
            slot: deadline.slot,
            id: slot.id,
            trigger,
            due_at: deadline.at,
            spans: slot.spans,
            has_error: slot.has_error || slot.root.is_some_and(|root| root.is_error),
            root: slot
                .root
                .filter(|root| root.kind != Kind::Client && root.has_credible_times)
                .map(|root| root.duration),
            root_span,
            service,
        });
        out.held += slot.bytes;
    }

    /// What is known of a trace that is held; `hash` is of its id.
    pub(super) fn look_up(&self, hash: u64, id: TraceId) -> Option<HeldTrace> {
        let found = self.slots.get(self.find(hash, id)?)?;
        Some(HeldTrace { since: found.since, spans: found.spans, has_root: found.root.is_some() })
    }

    /// How many spans a trace has.
    pub(super) fn spans_of(&self, slot: SlotRef) -> u32 {
        self.slots.get(slot).map_or(0, |found| found.spans)
    }

    /// Copies a trace out; it stays held.
    pub(super) fn copy(&self, slot: SlotRef) -> Option<Trace> {
        let found = self.slots.get(slot)?;
        // The headers of its records are about as large as what encloses its spans.
        let bytes = usize::try_from(found.bytes).unwrap_or(0);
        let mut trace = Trace::with_capacity(found.id, found.spans as usize, bytes);
        let mut addresses = Vec::with_capacity(found.spans as usize);
        let mut next = found.last;
        while next != Address::NONE
            && let Some(record) = self.segments.record(next)
        {
            addresses.push(next);
            next = record.previous;
        }
        // Origin number, its scope and its resource in the trace.
        let mut scopes: Vec<(u32, u32, u32)> = Vec::new();
        for address in addresses.into_iter().rev() {
            let record = self.segments.record(address)?;
            let head = read_head(record.body).ok()?.ok()?;
            let scope = match scopes.iter().find(|(origin, ..)| *origin == record.origin) {
                Some((_, scope, _)) => *scope,
                None => {
                    let origin = self.origins.get(record.origin)?;
                    let same_resource = scopes.iter().find(|(other, ..)| {
                        self.origins.get(*other).is_some_and(|other| other.resource() == origin.resource())
                    });
                    let resource = match same_resource {
                        Some((.., resource)) => *resource,
                        None => trace.push_resource(origin.resource()).ok()?,
                    };
                    let scope = trace.push_scope(origin.scope(), resource).ok()?;
                    scopes.push((record.origin, scope, resource));
                    scope
                }
            };
            trace.push_span(head, record.body, scope).ok()?;
        }
        Some(trace)
    }

    /// Frees a trace and remembers what became of it. Returns its spans.
    pub(super) fn settle(&mut self, settings: &Settings, slot: SlotRef, decision: Decision) -> u32 {
        let Some(found) = self.slots.get(slot).copied() else { return 0 };
        let hash = settings.hash(found.id);
        self.decisions.remember(found.id, hash, decision);
        self.forget_bytes(slot);
        if let Ok(entry) = self.table.find_entry(hash, |index| *index == slot.index) {
            entry.remove();
        }
        self.slots.remove(slot);
        self.spans -= u64::from(found.spans);
        found.spans
    }

    fn forget_bytes(&mut self, slot: SlotRef) {
        let Some(found) = self.slots.get(slot).copied() else { return };
        let origins = &mut self.origins;
        let mut release = |origin| origins.release(origin);
        if !found.is_scattered {
            for (segment, size) in found.places() {
                self.segments.forget(segment, size, &mut release);
            }
            return;
        }
        let mut next = found.last;
        while next != Address::NONE
            && let Some(record) = self.segments.record(next)
        {
            let (segment, size) = (next.segment, record.size());
            next = record.previous;
            self.segments.forget(segment, size, &mut release);
        }
    }

    /// Gives memory back after decisions: empties segments that are mostly holes, and shrinks tables.
    pub(super) fn tidy(&mut self, settings: &Settings) {
        let origins = &mut self.origins;
        let mut release = |origin| origins.release(origin);
        self.segments.sweep(&mut release);
        if self.slots.len() == 0 {
            self.segments.close(&mut release);
        }
        self.forget_stale();
        self.origins.tidy();
        for segment in self.segments.sparse() {
            self.compact(segment);
        }
        if self.table.len() * 4 < self.table.capacity() {
            let slots = &self.slots;
            self.table.shrink_to(self.table.len() * 2, |index| {
                slots.at(*index).map_or(0, |slot| settings.hash(slot.id))
            });
        }
        for queue in [&mut self.waiting, &mut self.rooted] {
            if queue.len() * 4 < queue.capacity() {
                queue.shrink_to(queue.len() * 2);
            }
        }
    }

    /// Forgets moments of traces that were decided before them, once they are most of what is queued: after a flood
    /// they would take room for as long as the wait lasts.
    fn forget_stale(&mut self) {
        let slots = &self.slots;
        for queue in [&mut self.waiting, &mut self.rooted] {
            if queue.len() > 2 * slots.len() + FEW_DEADLINES || slots.len() == 0 {
                queue.retain(|deadline| slots.get(deadline.slot).is_some());
            }
        }
    }

    /// Moves every trace with a record in `segment` to the end of the open segment, whole, so that only its own chain
    /// has to be linked anew.
    fn compact(&mut self, segment: u32) {
        let mut slots = Vec::new();
        let mut offset = 0;
        while let Some((record, next)) = self.segments.walk(segment, offset) {
            if self.slots.get(record.slot).is_some() && slots.last() != Some(&record.slot) {
                slots.push(record.slot);
            }
            offset = next;
        }
        slots.sort_unstable_by_key(|slot| slot.index);
        slots.dedup();
        for slot in slots {
            self.relocate(slot);
        }
    }

    fn relocate(&mut self, slot: SlotRef) {
        let Some(found) = self.slots.get(slot).copied() else { return };
        let mut bytes = Vec::with_capacity(usize::try_from(found.bytes).unwrap_or(0));
        let mut records = Vec::with_capacity(found.spans as usize);
        let mut left = Vec::with_capacity(found.spans as usize);
        let mut next = found.last;
        while next != Address::NONE
            && let Some(record) = self.segments.record(next)
        {
            let start = bytes.len();
            bytes.extend_from_slice(record.body);
            left.push((next.segment, record.size()));
            records.push((next, record.origin, start..bytes.len()));
            next = record.previous;
        }
        let Some(target) = self.slots.get_mut(slot) else { return };
        target.clear_places();
        target.last = Address::NONE;
        for (old, origin, body) in records.into_iter().rev() {
            let body = bytes.get(body).unwrap_or(&[]);
            let address = self.segments.append(Record { previous: target.last, slot, origin, body });
            target.last = address;
            target.note_place(address.segment, record_size(body));
            if let Some(root) = &mut target.root
                && root.address == old
            {
                root.address = address;
            }
            if self.origins.is_new_to(origin, self.segments.sequence(address.segment)) {
                self.segments.refer(address.segment, origin);
            }
        }
        // Only now: the segments they leave may hold the last references to their origins.
        let origins = &mut self.origins;
        for (segment, size) in left {
            self.segments.forget(segment, size, &mut |origin| origins.release(origin));
        }
    }

    pub(super) fn traces(&self) -> u64 {
        self.slots.len() as u64
    }

    pub(super) fn spans(&self) -> u64 {
        self.spans
    }

    /// Bytes taken from the allocator for held traces.
    pub(super) fn allocated(&self) -> u64 {
        let deadlines = self.waiting.capacity() + self.rooted.capacity() + self.oversized.capacity();
        self.segments.allocated()
            + self.slots.allocated()
            + self.origins.allocated()
            + self.table.allocation_size() as u64
            + (deadlines * size_of::<Deadline>()) as u64
    }

    /// Bytes taken from the allocator for past decisions.
    pub(super) fn remembered(&self) -> u64 {
        self.decisions.allocated()
    }
}
