//! The way of a span from its request to the export queue: assemble, decide, compare, enrich.
//!
//! One object, without tasks, I/O or a clock of its own: `run` drives it with arrivals and ticks, `replay` with
//! recorded requests on event time, tests with whatever time they like.

mod forwarded;
mod learned;
mod overflow;
mod recent;
mod settle;
mod stamp;
mod tables;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use forwarded::Forwarded;
pub use learned::Restored;
use overflow::{Room, slices};
use recent::Recent;
pub use recent::{Explained, RecentDecision, RecentVerdict, RouteNow};
use tables::Shares;

use crate::assemble::{Assembler, Due, DueTraces, Held, Lot, Settings, Stored, Trace};
use crate::compare::{Comparer, Verdict};
use crate::config::{Config, OnOverflow};
use crate::decide::{Decider, RouteId};
use crate::otlp::batch::Batch;
use crate::otlp::{Nanos, TraceId};
pub use crate::snapshot::Unreadable;
use crate::telemetry::metrics::{Class, DropReason, Late, Metrics, Part, RouteState, Trigger};

/// Traces decided under one pair of locks: enough that the locks cost nothing, few enough that arrivals in the same
/// shard hardly wait, and that the copies made of them are small beside what is held.
const LOT: Lot = Lot { traces: 256, bytes: LOT_BYTES };

/// Bytes of the traces that are decided at once; the last of them may go beyond.
pub const LOT_BYTES: u64 = 1 << 20;

/// The stages between receiving and exporting.
#[derive(Debug)]
pub struct Pipeline {
    assembler: Assembler,
    decider: Decider,
    comparer: Comparer,
    forwarded: Forwarded,
    recent: Recent,
    enrich: crate::config::Enrich,
    dry_run: bool,
    send_references: bool,
    on_overflow: OnOverflow,
    /// Nanoseconds after which what was learned is forgotten.
    time_to_live: Nanos,
    room: Room,
    publishing: Mutex<()>,
    /// Whether the log says that there is no place for more routes.
    lacks_routes: AtomicBool,
    metrics: Arc<Metrics>,
}

/// What the stages may use, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Held traces.
    pub held: u64,
    /// Baselines.
    pub baseline: u64,
    /// Past decisions, routes, and what is normal between services.
    pub tables: u64,
}

/// A trace, or a part of one, on its way out.
#[derive(Debug)]
pub struct Outgoing {
    /// Enriched, and stamped where it was sampled.
    pub trace: Trace,
    /// Why it leaves.
    pub class: Class,
    /// Whether it is the copy of a reference that a verdict cites; such copies stand outside the accounting identity.
    pub is_reference: bool,
    /// What the comparison said, for traces worth a verdict.
    pub analysis: Option<Analysis>,
}

/// A verdict and what it is about.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// The trace.
    pub id: TraceId,
    /// Its route.
    pub route: RouteId,
    /// The verdict.
    pub verdict: Verdict,
}

/// Takes what leaves, in the order in which it was decided.
pub type Deliver<'a> = &'a mut dyn FnMut(Outgoing);

/// Why a request is not taken, where `on_overflow` is `refuse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// There will be room once held traces are decided.
    #[error("no memory for more held traces now")]
    Now,
    /// It is larger than all that may be held.
    #[error("the request is larger than the memory for held traces")]
    Ever,
}

impl Pipeline {
    /// `shards` is how many locks held traces are spread over.
    pub fn new(config: &Config, limits: Limits, shards: usize, metrics: Arc<Metrics>) -> Self {
        let mut settings = Settings::new(&config.assemble);
        let shards = Assembler::shards_for(shards);
        let shares = Shares::of(limits.tables);
        if settings.fit_decisions(shares.decisions, shards) {
            tracing::warn!(
                sampled = settings.remember_kept,
                dropped = settings.remember_dropped,
                "assemble.decision_cache is cut to these numbers to fit the memory limit"
            );
        }
        metrics.budget_bytes.set(Part::Held, limits.held);
        metrics.budget_bytes.set(Part::Tables, limits.tables);
        metrics.budget_bytes.set(Part::Baseline, limits.baseline);
        Self {
            assembler: Assembler::new(settings, shards),
            decider: Decider::new(&config.slow, &config.sample)
                .forgetting_after(config.baseline.time_to_live)
                .within(shares.routes),
            comparer: Comparer::new(&config.compare, &config.baseline, &config.slow.learned, limits.baseline)
                .within(shares.traffic),
            forwarded: Forwarded::within(shares.forwarded),
            recent: Recent::within(shares.recent),
            enrich: config.enrich.clone(),
            dry_run: config.sample.dry_run,
            send_references: config.sample.references,
            on_overflow: config.assemble.on_overflow,
            time_to_live: Nanos::try_from(config.baseline.time_to_live.as_nanos()).unwrap_or(Nanos::MAX),
            room: Room::new(limits.held),
            publishing: Mutex::new(()),
            lacks_routes: AtomicBool::new(false),
            metrics,
        }
    }

    /// Takes the spans of `batch`, which was read from `request`, as arrived at `now`.
    ///
    /// # Errors
    /// [`NoRoom`] where arrivals are refused on overflow; nothing of the request is taken then.
    pub fn accept(
        &self,
        now: Nanos,
        batch: &Batch,
        request: &[u8],
        deliver: Deliver<'_>,
    ) -> Result<(), NoRoom> {
        let _whole = match self.on_overflow {
            OnOverflow::Decide => None,
            OnOverflow::Refuse => {
                let bytes =
                    self.assembler.bytes_for(batch.spans.len(), request.len() + batch.enclosing.len());
                Some(self.room.take(bytes, &self.assembler)?)
            }
        };
        for (spans, bytes) in slices(batch) {
            let slice = (self.on_overflow == OnOverflow::Decide).then(|| {
                let claim = self.room.claim(self.assembler.bytes_for(spans.len(), bytes));
                self.make_room(now, deliver);
                claim
            });
            let stored = self.assembler.store(now, batch, request, spans);
            drop(slice);
            let has_oversized = stored.has_oversized;
            self.late(stored, deliver);
            if has_oversized {
                self.decide_oversized(now, deliver);
            }
        }
        if self.on_overflow == OnOverflow::Decide {
            self.make_room(now, deliver);
        }
        Ok(())
    }

    /// Decides every trace that is due at `now`.
    pub fn decide_due(&self, now: Nanos, deliver: Deliver<'_>) {
        for shard in 0..self.shards() {
            self.decide_due_in(shard, now, deliver);
        }
    }

    /// Decides every trace of one shard that is due at `now`.
    pub fn decide_due_in(&self, shard: usize, now: Nanos, deliver: Deliver<'_>) {
        let mut due = DueTraces::default();
        while self.decide_lot_in(shard, (now, now), &mut due, deliver) {}
    }

    /// Decides what has grown too large, and nothing whose time has come: whoever decides that may have to wait for room.
    fn decide_oversized(&self, now: Nanos, deliver: Deliver<'_>) {
        let mut due = DueTraces::default();
        for shard in 0..self.shards() {
            while self.decide_lot_in(shard, (now, 0), &mut due, deliver) {}
        }
    }

    /// Decides, at `now`, some traces of one shard that were due at `due_by`, about [`LOT_BYTES`] of them; `lot` says
    /// which afterwards. Returns whether there may be more.
    pub fn decide_lot_in(
        &self,
        shard: usize,
        (now, due_by): (Nanos, Nanos),
        lot: &mut DueTraces,
        deliver: Deliver<'_>,
    ) -> bool {
        self.assembler.due(shard, due_by, LOT, lot);
        self.settle(now, lot, deliver);
        !LOT.has_room(lot)
    }

    /// How many parts the held traces are in; each can be decided by another thread.
    pub fn shards(&self) -> usize {
        self.assembler.shards()
    }

    /// Decides every held trace, due or not: the process, or the recording, is ending.
    pub fn decide_all(&self, now: Nanos, deliver: Deliver<'_>) {
        while self.decide_some(now, deliver) {}
    }

    /// Decides some of all that is held, about [`LOT_BYTES`]; returns whether there was any.
    pub fn decide_some(&self, now: Nanos, deliver: Deliver<'_>) -> bool {
        let mut due = DueTraces::default();
        for shard in 0..self.assembler.shards() {
            self.assembler.early(shard, Trigger::Shutdown, LOT, &mut due);
            if !due.traces.is_empty() {
                self.settle(now, &due, deliver);
                return true;
            }
        }
        false
    }

    /// Does what has to be done now and then: forgets what is old.
    pub fn tick(&self, now: Nanos) {
        self.comparer.tick(now);
        let is_full = self.decider.tick(now);
        let was_full = self.lacks_routes.swap(is_full, Ordering::Relaxed);
        if is_full && !was_full {
            let (learned, learning) = self.decider.routes_by_state();
            tracing::warn!(
                routes = learned + learning,
                "there is no place for more routes: traces of further ones are judged together, as `_other`, and compared \
                 with nothing; do their names hold ids, or is memory_limit too small for so many?"
            );
        }
    }

    /// Publishes what is held and used.
    pub fn publish(&self) {
        // Of two at once, the one that looked first must not be the one that is seen.
        let _alone = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.held();
        let held_bytes = self.assembler.held_bytes();
        self.metrics.held_spans.set(held.spans as f64);
        self.metrics.held_traces.set(held.traces as f64);
        self.metrics.held_bytes.set(held_bytes as f64);
        self.metrics.used_bytes.set(Part::Held, held_bytes);
        self.metrics.used_bytes.set(Part::Baseline, self.comparer.used_bytes());
        let tables = held.remembered_bytes
            + self.decider.used_bytes()
            + self.comparer.table_bytes()
            + self.recent.used_bytes()
            + self.forwarded.used_bytes();
        self.metrics.used_bytes.set(Part::Tables, tables);
        self.metrics.references.set(self.comparer.references() as f64);
        let (learned, learning) = self.decider.routes_by_state();
        self.metrics.routes.set(RouteState::Learned, learned as u64);
        self.metrics.routes.set(RouteState::Learning, learning as u64);
    }

    /// What is held undecided.
    pub fn held(&self) -> Held {
        self.assembler.held()
    }

    /// Bytes taken for what is held undecided, overhead included.
    pub fn held_bytes(&self) -> u64 {
        self.assembler.held_bytes()
    }

    /// `SERVICE ROUTE`, as people read it.
    pub fn route_name(&self, route: RouteId) -> String {
        self.decider.route_name(route)
    }

    /// Trusts what was learned so far as normal, however short the time it was learned in.
    pub fn trust_learned(&self, now: Nanos) {
        self.decider.trust_shapes();
        self.comparer.trust(now);
    }

    fn late(&self, stored: Stored, deliver: Deliver<'_>) {
        if stored.late_dropped > 0 {
            self.metrics.late_spans.add(Late::Dropped, stored.late_dropped);
            self.metrics.dropped_spans.add(DropReason::Late, stored.late_dropped);
        }
        if stored.late_roots > 0 {
            self.metrics.late_roots.increment(stored.late_roots);
        }
        for (mut trace, kept) in stored.late {
            self.metrics.late_spans.add(Late::Sampled, trace.len() as u64);
            if let Some(stamp) = kept.stamp {
                self.stamp(&mut trace, stamp);
            }
            deliver(Outgoing { trace, class: Class::Late, is_reference: false, analysis: None });
        }
    }
}

/// A trace that is due, with the lot it came in.
#[derive(Clone, Copy, Debug)]
struct InLot<'a> {
    due: &'a Due,
    lot: &'a DueTraces,
}

#[cfg(test)]
mod tests;
