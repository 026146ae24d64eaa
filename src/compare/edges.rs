//! Waits between services, counted over all traffic: which edges are odd now, and which service explains that best.
//!
//! One edge cannot say which of its ends makes it slow. A slow network or a full queue at the callee makes all its
//! callers wait; a starved caller waits on all its callees; the other end's other edges stay as they were.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::analysis::Analysis;
use super::column::Column;
use super::tree::hash_of;
use crate::config;
use crate::decide::threshold::{Durations, Learning};
use crate::otlp::Nanos;
use crate::otlp::span::Kind;

/// Kinds of waits whose normal length is remembered, and edges that are counted; further ones are not looked at.
const MAX_ITEMS: usize = 8_192;
const MAX_EDGES: usize = 4_096;
/// How fast the counters forget: half in this time, in nanoseconds.
const HALF_LIFE: Nanos = 120_000_000_000;
/// Fewer recent calls on an edge say nothing about it.
const ENOUGH_CALLS: f64 = 10.0;
/// An edge is odd when more of its calls than this wait longer than is normal; 5 % do when all is well.
const ODD_SHARE: f64 = 0.25;
/// What was counted is put together anew at most so often, in nanoseconds.
const BETWEEN_VIEWS: Nanos = 1_000_000_000;
/// Shares are in millionths.
pub(crate) const WHOLE: u64 = 1_000_000;

type Map<K, V> = HashMap<K, V, FixedState>;

/// The counters. One lock, held for one trace's calls or one look.
#[derive(Debug)]
pub(crate) struct Edges {
    learning: Learning,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    /// How long calls of one operation of one service to another wait when all is well.
    normal: Map<u64, Durations>,
    /// By caller and callee.
    edges: Map<(u64, u64), Recent>,
    view: Option<(Nanos, Arc<View>)>,
}

/// Calls of the last minutes.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    calls: f64,
    odd: f64,
    at: Nanos,
}

impl Recent {
    fn at(self, now: Nanos) -> Self {
        let half_lives = now.saturating_sub(self.at) as f64 / HALF_LIFE as f64;
        let kept = (-half_lives).exp2();
        Self { calls: self.calls * kept, odd: self.odd * kept, at: self.at.max(now) }
    }
}

/// One call that was answered.
struct Wait {
    caller: u64,
    callee: u64,
    /// The kind of wait that it is compared with.
    item: u64,
    /// Nanoseconds of the call outside of what answered it.
    time: Nanos,
}

impl Edges {
    pub(crate) fn new(learned: &config::Learned) -> Self {
        let learning = Learning::new(&config::Learned {
            percentile: 95.0,
            factor: 1.0,
            minimum: std::time::Duration::ZERO,
            min_traces: 10,
            accept_after: learned.accept_after,
        });
        Self { learning, tables: Mutex::default() }
    }

    /// Counts the calls of a trace, slow or not.
    pub(crate) fn observe(&self, now: Nanos, analysis: &Analysis<'_>) {
        let waits = waits(analysis);
        let mut tables = self.tables();
        for wait in waits {
            tables.count(now, &wait, &self.learning);
        }
    }

    /// What the edges look like now.
    pub(crate) fn view(&self, now: Nanos) -> Arc<View> {
        let mut tables = self.tables();
        if let Some((at, view)) = &tables.view
            && now < at.saturating_add(BETWEEN_VIEWS)
        {
            return Arc::clone(view);
        }
        let view = Arc::new(View::of(now, &tables.edges));
        tables.view = Some((now, Arc::clone(&view)));
        view
    }

    /// Forgets edges that nobody has called for long.
    pub(crate) fn tick(&self, now: Nanos) {
        let mut tables = self.tables();
        tables.edges.retain(|_, recent| recent.at(now).calls >= 0.01);
    }

    /// Bytes in use.
    pub(crate) fn used_bytes(&self) -> u64 {
        let tables = self.tables();
        let normal: u64 = tables.normal.values().map(Durations::allocated).sum();
        let fixed = tables.normal.capacity() * size_of::<(u64, Durations)>()
            + tables.edges.capacity() * size_of::<((u64, u64), Recent)>();
        normal + fixed as u64
    }

    /// Nothing panics under the lock; if it did, counters would at worst be one short.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn count(&mut self, now: Nanos, wait: &Wait, learning: &Learning) {
        if self.normal.len() >= MAX_ITEMS && !self.normal.contains_key(&wait.item) {
            return;
        }
        let normal = self.normal.entry(wait.item).or_default();
        let threshold = normal.threshold();
        normal.add(now, wait.time, learning);
        let Some(threshold) = threshold else { return };
        let edge = (wait.caller, wait.callee);
        if self.edges.len() >= MAX_EDGES && !self.edges.contains_key(&edge) {
            return;
        }
        let recent = self.edges.entry(edge).or_default();
        *recent = recent.at(now);
        recent.calls += 1.0;
        recent.odd += if wait.time > threshold { 1.0 } else { 0.0 };
    }
}

fn waits(analysis: &Analysis<'_>) -> Vec<Wait> {
    let Analysis { tree, path, calls, .. } = analysis;
    let mut times: Column<Nanos> = Column::filled(0, tree.nodes.as_slice().len());
    for number in 0..tree.nodes.length() {
        times[calls.base[number]] += path.alone[number];
    }
    let answered = (1..tree.nodes.length()).filter_map(|number| {
        let node = &tree.nodes[number];
        let callee = calls.callee[number].filter(|_| node.kind != Kind::Producer)?;
        let (caller, callee) = (tree.service(node).id, tree.services[callee].id);
        Some(Wait { caller, callee, item: hash_of((caller, node.name, callee)), time: times[number] })
    });
    answered.collect()
}

/// Which edges are odd at one moment.
#[derive(Debug, Default)]
pub(crate) struct View {
    edges: Map<(u64, u64), ()>,
    services: Map<u64, Around>,
    odd: u64,
}

/// The edges of one service.
#[derive(Clone, Copy, Debug, Default)]
struct Around {
    incoming: u64,
    odd_incoming: u64,
    outgoing: u64,
    odd_outgoing: u64,
}

/// Which part of a wait could be whose, in millionths; both can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) caller: u64,
    pub(crate) callee: u64,
}

impl View {
    fn of(now: Nanos, edges: &Map<(u64, u64), Recent>) -> Self {
        let mut view = Self::default();
        for ((caller, callee), recent) in edges {
            let recent = recent.at(now);
            if recent.calls < ENOUGH_CALLS {
                continue;
            }
            let odd = u64::from(recent.odd > recent.calls * ODD_SHARE);
            view.edges.insert((*caller, *callee), ());
            view.odd += odd;
            let around = view.services.entry(*callee).or_default();
            around.incoming += 1;
            around.odd_incoming += odd;
            let around = view.services.entry(*caller).or_default();
            around.outgoing += 1;
            around.odd_outgoing += odd;
        }
        view
    }

    /// How far a wait of `caller` on `callee` could be either's; `None` where too few calls were seen.
    pub(crate) fn shares(&self, caller: u64, callee: u64) -> Option<Shares> {
        self.edges.get(&(caller, callee))?;
        let (caller, callee) = (self.services.get(&caller)?, self.services.get(&callee)?);
        let most = caller.explains(self.odd).max(callee.explains(self.odd)).max(1);
        let share = |odd: u64, all: u64, explains: u64| odd * WHOLE / all.max(1) * explains / most;
        Some(Shares {
            caller: share(caller.odd_outgoing, caller.outgoing, caller.explains(self.odd)),
            callee: share(callee.odd_incoming, callee.incoming, callee.explains(self.odd)),
        })
    }
}

impl Around {
    /// How well this service explains which edges are odd, in millionths: how many of its edges are, times how many
    /// of all odd ones are its.
    fn explains(&self, odd_in_all: u64) -> u64 {
        let part = |odd: u64, all: u64| WHOLE * odd / all.max(1) * odd / odd_in_all.max(1);
        let both = part(self.odd_incoming + self.odd_outgoing, self.incoming + self.outgoing);
        part(self.odd_incoming, self.incoming).max(part(self.odd_outgoing, self.outgoing)).max(both)
    }
}
