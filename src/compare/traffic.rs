//! How calls have been of late, counted over all traffic: which kinds of work and which edges between services take
//! unusually long now. What happens to many traces at once is a fault; what happens to one is an accident.

mod room;
mod saved;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
pub(crate) use saved::{SavedEdge, SavedItem};
use serde::{Deserialize, Serialize};

use super::analysis::Analysis;
use super::column::Column;
use super::edges::Edges;
use super::ledger::Ledger;
use crate::config;
use crate::decide::threshold::{Durations, Learning};
use crate::otlp::Nanos;
use crate::otlp::span::Kind;

/// Kinds of work whose normal length is remembered, and edges that are counted; further ones are not looked at.
const MAX_ITEMS: usize = 8_192;
const MAX_EDGES: usize = 4_096;
/// How fast the counters forget: half in this time, in nanoseconds, so that a fault shows soon.
const HALF_LIFE: Nanos = 30_000_000_000;
/// Where so few calls are left, more slowly, so that what is seldom called is not forgotten at once.
const FEW_CALLS: f64 = 20.0;
const HALF_LIFE_OF_FEW: Nanos = 600_000_000_000;
/// What was counted on edges is put together anew at most so often, in nanoseconds.
const BETWEEN_LOOKS: Nanos = 1_000_000_000;
/// Of which nothing is left counts as not called.
const NO_CALLS: f64 = 0.01;
/// Before anything was counted, so many calls are supposed, of which so many took long: one call that did is then
/// already suspicious, and one that did not is not.
const SUPPOSED_CALLS: f64 = 4.0;
const SUPPOSED_LONG: f64 = 0.5;
/// Of one trace so many calls of a kind count: one that makes hundreds of long calls is still one trace, and no fault of
/// the traffic.
const CALLS_OF_ONE_TRACE: u32 = 2;
/// Where all calls are shorter than this, in nanoseconds, one is not yet absurd for taking ten times as long.
const LEAST_USUAL: f64 = 1_000_000.0;
/// A twentieth of all calls takes longer than 95 % of them do; from so much more on all is out of order.
const LONG_WHEN_WELL: f64 = 0.10;
const LONG_WHEN_ODD: f64 = 0.30;

/// What is so far out of order, in more than a call or two, is no reference.
const FAULT: Part = WHOLE / 2;
const FAULT_CALLS: f64 = 3.0;

/// A part of a whole, in millionths.
pub(crate) type Part = u64;
/// All of it.
pub(crate) const WHOLE: Part = 1_000_000;

type Map<K, V> = HashMap<K, V, FixedState>;

/// The counters. One lock, held for one trace's calls or one look.
#[derive(Debug)]
pub(crate) struct Traffic {
    learning: Learning,
    /// Bytes.
    limit: u64,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    /// By [`super::ledger::Entry::item`].
    items: Map<u64, Item>,
    /// By caller and callee.
    edges: Map<(u64, u64), Recent>,
    looked: Option<(Nanos, Arc<Edges>)>,
    /// Bytes that the items have taken from the allocator.
    learned: u64,
}

/// One kind of work, or of wait.
#[derive(Debug, Default)]
struct Item {
    /// How long it takes when all is well.
    normal: Durations,
    recent: Recent,
}

/// Calls of the last minutes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Recent {
    calls: f64,
    long: f64,
    /// Nanoseconds above what is normal.
    excess: f64,
    at: Nanos,
}

impl Recent {
    /// What is left of it at `now`.
    fn at(self, now: Nanos) -> Self {
        let passed = now.saturating_sub(self.at) as f64;
        let kept = |half_life: Nanos| (-passed / half_life as f64).exp2();
        let kept = kept(HALF_LIFE).max(kept(HALF_LIFE_OF_FEW).min(FEW_CALLS / self.calls.max(1.0)));
        Self {
            calls: self.calls * kept,
            long: self.long * kept,
            excess: self.excess * kept,
            at: self.at.max(now),
        }
    }

    /// Counts a call that took `excess` longer than `normal`, both in nanoseconds. However long one takes, it counts for
    /// no more than ten of those before it: many that are as long soon count in full, and one alone does not outweigh
    /// all others for as long as it is remembered.
    fn count(&mut self, now: Nanos, excess: Nanos, normal: Nanos) {
        *self = self.at(now);
        let usual = if self.long > 0.0 { self.excess / self.long } else { 0.0 };
        let most = 10.0 * usual.max(normal as f64).max(LEAST_USUAL);
        self.calls += 1.0;
        self.long += if excess > 0 { 1.0 } else { 0.0 };
        self.excess += (excess as f64).min(most);
    }

    /// Nanoseconds above what is normal, of the mean call.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and a cast saturates"
    )]
    pub(crate) fn excess_of_one(self) -> Nanos {
        (self.excess / self.calls.max(1.0)) as Nanos
    }

    pub(crate) fn calls(self) -> f64 {
        self.calls
    }

    /// How far it is out of order: nothing when no more calls take long than when all is well.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a million")]
    pub(crate) fn oddness(self) -> Part {
        let long = (self.long + SUPPOSED_LONG) / (self.calls + SUPPOSED_CALLS);
        let part = (long - LONG_WHEN_WELL) / (LONG_WHEN_ODD - LONG_WHEN_WELL);
        (part.clamp(0.0, 1.0) * WHOLE as f64) as Part
    }
}

/// What all traffic says about one trace.
#[derive(Debug)]
pub(crate) struct Look {
    /// For each entry of the ledger, how far its kind of work is out of order now.
    pub(crate) oddness: Vec<Part>,
    pub(crate) edges: Arc<Edges>,
}

impl Traffic {
    pub(crate) fn new(learned: &config::Learned) -> Self {
        let learning = Learning::new(&config::Learned {
            percentile: 95.0,
            factor: 1.0,
            minimum: std::time::Duration::ZERO,
            min_traces: 10,
            accept_after: learned.accept_after,
        });
        Self { learning, limit: u64::MAX, tables: Mutex::default() }
    }

    /// Counts the work and the calls of a trace, slow or not. Returns the kinds of work that took unusually long.
    pub(crate) fn observe(&self, now: Nanos, analysis: &Analysis<'_>) -> Vec<u64> {
        let Analysis { tree, path, calls, .. } = analysis;
        let mut times: Column<Nanos> = Column::filled(0, tree.nodes.as_slice().len());
        for number in 0..tree.nodes.length() {
            let time = &mut times[calls.base[number]];
            *time = time.saturating_add(path.alone[number]);
        }
        let mut long = Vec::new();
        let mut counted: Map<u64, u32> = Map::with_hasher(FixedState::default());
        let mut tables = self.tables();
        for number in 0..tree.nodes.length() {
            if calls.base[number] != number {
                continue;
            }
            let of_this_trace = counted.entry(calls.item[number]).or_default();
            *of_this_trace += 1;
            if *of_this_trace > CALLS_OF_ONE_TRACE {
                continue;
            }
            let usual = tables.count_item(now, calls.item[number], times[number], self);
            if usual.is_some_and(|usual| times[number] > usual) {
                long.push(calls.item[number]);
            }
            let node = &tree.nodes[number];
            let callee = calls.callee[number].filter(|_| node.kind != Kind::Producer);
            if let (Some(usual), Some(callee)) = (usual, callee) {
                let edge = (tree.service(node).id, tree.services[callee].id);
                tables.count_edge(now, edge, times[number], usual, self.limit);
            }
        }
        long.sort_unstable();
        long.dedup();
        long
    }

    /// Whether one of these kinds of work is out of order now.
    pub(crate) fn is_fault(&self, now: Nanos, items: &[u64]) -> bool {
        let tables = self.tables();
        let mut recent =
            items.iter().filter_map(|item| tables.items.get(item)).map(|item| item.recent.at(now));
        recent.any(|recent| recent.long >= FAULT_CALLS && recent.oddness() >= FAULT)
    }

    /// What is known now about the work in a ledger.
    pub(crate) fn look(&self, now: Nanos, ledger: &Ledger) -> Look {
        let mut tables = self.tables();
        let oddness = ledger.entries.iter().map(|entry| {
            let recent = tables.items.get(&entry.item).map(|item| item.recent).unwrap_or_default();
            recent.at(now).oddness()
        });
        let oddness = oddness.collect();
        Look { oddness, edges: tables.edges(now) }
    }

    /// Forgets what has not been called for long.
    pub(crate) fn tick(&self, now: Nanos) {
        let mut tables = self.tables();
        tables.edges.retain(|_, recent| recent.at(now).calls >= NO_CALLS);
        if tables.items.len() >= MAX_ITEMS / 2 || !tables.is_roomy(0, self.limit / 2) {
            tables.items.retain(|_, item| item.recent.at(now).calls >= NO_CALLS);
            tables.shrink();
        }
    }

    /// Bytes in use.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.tables().used()
    }

    /// Nothing panics under the lock; if it did, counters would at worst be one short.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// What was usual before, in nanoseconds; `None` while nobody knows.
    fn count_item(&mut self, now: Nanos, item: u64, time: Nanos, traffic: &Traffic) -> Option<Nanos> {
        if !self.takes_item(traffic.limit) && !self.items.contains_key(&item) {
            return None;
        }
        let mut learning = traffic.learning;
        learning.may_grow = self.is_roomy(0, traffic.limit);
        let item = self.items.entry(item).or_default();
        let usual = item.normal.threshold();
        let before = item.normal.allocated();
        item.normal.add(now, time, &learning);
        self.learned = self.learned + item.normal.allocated() - before;
        if let Some(usual) = usual {
            item.recent.count(now, time.saturating_sub(usual), usual);
        }
        usual
    }

    fn count_edge(&mut self, now: Nanos, edge: (u64, u64), time: Nanos, usual: Nanos, limit: u64) {
        if self.takes_edge(limit) || self.edges.contains_key(&edge) {
            self.edges.entry(edge).or_default().count(now, time.saturating_sub(usual), usual);
        }
    }

    fn edges(&mut self, now: Nanos) -> Arc<Edges> {
        if let Some((at, edges)) = &self.looked
            && now < at.saturating_add(BETWEEN_LOOKS)
        {
            return Arc::clone(edges);
        }
        let edges = Arc::new(Edges::of(self.edges.iter().map(|(edge, recent)| (*edge, recent.at(now)))));
        self.looked = Some((now, Arc::clone(&edges)));
        edges
    }
}

#[cfg(test)]
mod tests;
