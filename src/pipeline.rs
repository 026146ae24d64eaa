//! The way of a span from its request to the export queue: assemble, decide, compare, enrich.
//!
//! One object, without tasks, I/O or a clock of its own: `run` drives it with arrivals and ticks, `replay` with
//! recorded requests on event time, tests with whatever time they like.

mod forwarded;
mod overflow;
mod recent;
mod settle;
mod stamp;

use std::sync::Arc;

use forwarded::Forwarded;
use recent::Recent;
pub use recent::{RecentDecision, RecentVerdict, RouteNow};

use crate::assemble::{Assembler, Due, DueTraces, Held, Settings, Stored, Trace};
use crate::compare::{Comparer, Verdict};
use crate::config::{Config, OnOverflow};
use crate::decide::{Decider, RouteId};
use crate::otlp::batch::Batch;
use crate::otlp::{Nanos, TraceId};
use crate::telemetry::metrics::{Class, DropReason, Late, Metrics, Part, RouteState, Trigger};

/// Traces decided under one pair of locks: enough that the locks cost nothing, few enough that arrivals in the same
/// shard hardly wait.
const DECIDE_AT_ONCE: usize = 256;

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
    held_limit: u64,
    metrics: Arc<Metrics>,
}

/// What the stages may use, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Held traces.
    pub held: u64,
    /// Baselines.
    pub baseline: u64,
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

/// No room for a request, where `on_overflow` is `refuse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory for more held traces")]
pub struct NoRoom;

impl Pipeline {
    /// `shards` is how many locks held traces are spread over.
    pub fn new(config: &Config, limits: Limits, shards: usize, metrics: Arc<Metrics>) -> Self {
        metrics.budget_bytes.set(Part::Held, limits.held);
        metrics.budget_bytes.set(Part::Baseline, limits.baseline);
        Self {
            assembler: Assembler::new(Settings::new(&config.assemble), shards),
            decider: Decider::new(&config.slow, &config.sample)
                .forgetting_after(config.baseline.time_to_live),
            comparer: Comparer::new(&config.compare, &config.baseline, &config.slow.learned, limits.baseline),
            forwarded: Forwarded::default(),
            recent: Recent::default(),
            enrich: config.enrich.clone(),
            dry_run: config.sample.dry_run,
            send_references: config.sample.references,
            on_overflow: config.assemble.on_overflow,
            held_limit: limits.held,
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
        if self.on_overflow == OnOverflow::Refuse
            && self.assembler.held_bytes_with(request.len()) > self.held_limit
        {
            return Err(NoRoom);
        }
        let stored = self.assembler.store(now, batch, request);
        let has_oversized = stored.has_oversized;
        self.late(stored, deliver);
        if has_oversized {
            self.decide_due(now, deliver);
        }
        self.make_room(now, deliver);
        Ok(())
    }

    /// Decides every trace that is due at `now`.
    pub fn decide_due(&self, now: Nanos, deliver: Deliver<'_>) {
        let mut due = DueTraces::default();
        for shard in 0..self.assembler.shards() {
            loop {
                self.assembler.due(shard, now, DECIDE_AT_ONCE, &mut due);
                let count = due.traces.len();
                self.settle(now, &due, deliver);
                if count < DECIDE_AT_ONCE {
                    break;
                }
            }
        }
    }

    /// Decides every held trace, due or not: the process, or the recording, is ending.
    pub fn decide_all(&self, now: Nanos, deliver: Deliver<'_>) {
        let mut due = DueTraces::default();
        for shard in 0..self.assembler.shards() {
            loop {
                self.assembler.early(shard, Trigger::Shutdown, DECIDE_AT_ONCE, &mut due);
                if due.traces.is_empty() {
                    break;
                }
                self.settle(now, &due, deliver);
            }
        }
    }

    /// Does what has to be done now and then, and publishes what is held and used.
    pub fn tick(&self, now: Nanos) {
        self.comparer.tick(now);
        self.decider.tick(now);
        self.publish();
    }

    /// Publishes what is held and used.
    pub fn publish(&self) {
        let held = self.held();
        let held_bytes = self.assembler.held_bytes();
        self.metrics.held_spans.set(held.spans as f64);
        self.metrics.held_traces.set(held.traces as f64);
        self.metrics.held_bytes.set(held_bytes as f64);
        self.metrics.used_bytes.set(Part::Held, held_bytes);
        self.metrics.used_bytes.set(Part::Baseline, self.comparer.used_bytes());
        self.metrics.used_bytes.set(
            Part::Tables,
            held.remembered_bytes
                + self.decider.used_bytes()
                + self.comparer.table_bytes()
                + self.recent.used_bytes(),
        );
        self.metrics.references.set(self.comparer.references() as f64);
        let (learned, learning) = self.decider.routes_by_state();
        self.metrics.routes.set(RouteState::Learned, learned as u64);
        self.metrics.routes.set(RouteState::Learning, learning as u64);
    }

    /// What is held undecided.
    pub fn held(&self) -> Held {
        self.assembler.held()
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
