//! All baselines, bounded in bytes: the routes not asked for longest are forgotten first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::{Baseline, Copied, Lesson, References, SavedBaseline};
use crate::assemble::Trace;
use crate::compare::shape::{Shape, ShapeSet};
use crate::decide::RouteId;
use crate::otlp::{Nanos, TraceId};

/// Shapes of a route that have a baseline; of more, the one that learned longest ago makes room. Deciding tells
/// fewer apart: a threshold for many shapes at once is a wide one, references for many shapes at once are none.
const SHAPES_PER_ROUTE: usize = 32;

/// Shapes that share less than this cannot be compared.
pub(crate) const LEAST_LIKENESS: f64 = 0.5;

/// Why there is nothing to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// The route has no references.
    NoBaseline,
    /// It has none of a similar shape.
    Mismatch,
}

/// The baselines of every route. Each route has a lock of its own, held for one lookup or one lesson.
#[derive(Debug)]
pub(crate) struct Store {
    routes: Cache<RouteId, Arc<Mutex<Route>>>,
    /// Whole reference traces by id, as long as a baseline holds them.
    linked: Mutex<HashMap<TraceId, Weak<Trace>, FixedState>>,
    references_per_shape: usize,
    time_to_live: Nanos,
}

#[derive(Debug, Default)]
struct Route {
    shapes: Vec<(Shape, Baseline)>,
}

impl Store {
    pub(crate) fn new(references_per_shape: usize, time_to_live: Duration, max_bytes: u64) -> Self {
        let routes = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, route: &Arc<Mutex<Route>>| u32::try_from(lock(route).size()).unwrap_or(u32::MAX))
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(time_to_live)
            .build();
        Self {
            routes,
            linked: Mutex::default(),
            references_per_shape,
            time_to_live: u64::try_from(time_to_live.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// Takes a trace as a reference of its route and shape.
    pub(crate) fn learn(&self, now: Nanos, route: RouteId, lesson: Lesson<'_>) {
        let known = self.routes.get(&route).unwrap_or_default();
        let linked = {
            let mut known = lock(&known);
            known.baseline_of(&lesson.analysis.shape).learn(now, self.references_per_shape, lesson)
        };
        if let Some(linked) = linked {
            let mut index = lock(&self.linked);
            index.retain(|_, trace| trace.strong_count() > 0);
            index.insert(linked.trace.id(), Arc::downgrade(&linked.trace));
        }
        // Put back so that it is weighed anew and its time to live starts again.
        self.routes.insert(route, known);
    }

    /// The routes that have baselines.
    pub(crate) fn routes_to_save(&self) -> Vec<RouteId> {
        self.routes.iter().map(|(route, _)| *route).collect()
    }

    /// What is written of the baselines of a route.
    pub(crate) fn save(&self, route: RouteId) -> Vec<Copied> {
        let Some(route) = self.routes.get(&route) else { return Vec::new() };
        let route = lock(&route);
        route.shapes.iter().map(|(_, baseline)| baseline.copied()).collect()
    }

    /// Takes back what was written before a restart, at `now`; returns whether the baseline is there from then on. One
    /// that is too old, or that could not have been written, is not.
    pub(crate) fn restore(&self, now: Nanos, max_spans: usize, saved: SavedBaseline<'_>) -> bool {
        let route = saved.route;
        if route == RouteId::OTHER || saved.latest < now.saturating_sub(self.time_to_live) {
            return false;
        }
        let restored = Baseline::restored(now, self.references_per_shape, max_spans, saved);
        let Some(baseline) = restored else { return false };
        let linked = baseline.linked.clone();
        let known = self.routes.get(&route).unwrap_or_default();
        {
            let mut known = lock(&known);
            let id = baseline.shape().shape();
            if known.shapes.len() >= SHAPES_PER_ROUTE || known.shapes.iter().any(|(known, _)| *known == id) {
                return false;
            }
            known.shapes.push((id, baseline));
        }
        if let Some(linked) = linked {
            lock(&self.linked).insert(linked.trace.id(), Arc::downgrade(&linked.trace));
        }
        self.routes.insert(route, known);
        true
    }

    /// What to compare a trace of this route and shape with.
    pub(crate) fn references(
        &self,
        now: Nanos,
        route: RouteId,
        shape: &ShapeSet,
    ) -> Result<References, Absence> {
        let route = self.routes.get(&route).ok_or(Absence::NoBaseline)?;
        let mut route = lock(&route);
        route.references(now.saturating_sub(self.time_to_live), shape)
    }

    /// Takes all that waits: it was no fault. What was learned so far counts as learned at `now`.
    pub(crate) fn trust(&self, now: Nanos) {
        for (_, route) in &self.routes {
            let mut route = lock(&route);
            let capacity = self.references_per_shape;
            route.baselines_mut().for_each(|baseline| {
                baseline.trust(capacity);
                baseline.renew(now);
            });
        }
    }

    /// A whole reference trace, while a baseline still holds it.
    pub(crate) fn trace(&self, id: TraceId) -> Option<Arc<Trace>> {
        lock(&self.linked).get(&id)?.upgrade()
    }

    /// How many references there are in all.
    pub(crate) fn count(&self) -> u64 {
        let count = self.routes.iter().map(|(_, route)| lock(&route).count()).sum::<usize>();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// How many references a route has.
    pub(crate) fn count_of(&self, route: RouteId) -> u64 {
        let count = self.routes.get(&route).map_or(0, |route| lock(&route).count());
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// Bytes in use.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.routes.weighted_size()
    }

    /// Does what is due: evicts, expires, counts.
    pub(crate) fn run_pending_tasks(&self, now: Nanos) {
        for (_, route) in &self.routes {
            lock(&route).forget_before(now.saturating_sub(self.time_to_live));
        }
        self.routes.run_pending_tasks();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks; if it did, what they guard would still be whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Route {
    fn forget_before(&mut self, moment: Nanos) {
        self.shapes.retain(|(_, baseline)| baseline.latest() >= moment);
    }

    fn baseline_of(&mut self, shape: &ShapeSet) -> &mut Baseline {
        let id = shape.shape();
        if let Some(at) = self.shapes.iter().position(|(known, _)| *known == id) {
            return &mut self.shapes.get_mut(at).expect("it was just found there").1;
        }
        if self.shapes.len() >= SHAPES_PER_ROUTE {
            let oldest = (0..).zip(&self.shapes).min_by_key(|(_, (_, baseline))| baseline.latest());
            if let Some(oldest) = oldest.map(|(at, _)| at) {
                self.shapes.swap_remove(oldest);
            }
        }
        &mut self.shapes.push_mut((id, Baseline::new(shape.clone()))).1
    }

    /// What has learned nothing since `oldest` counts as forgotten.
    fn references(&mut self, oldest: Nanos, shape: &ShapeSet) -> Result<References, Absence> {
        let id = shape.shape();
        let mut alive = self.shapes.iter_mut().filter(|(_, baseline)| baseline.latest() >= oldest);
        if let Some((_, same)) = alive.find(|(known, _)| *known == id) {
            return same.references(shape).ok_or(Absence::NoBaseline);
        }
        let alive = self.shapes.iter_mut().map(|(_, baseline)| baseline);
        let nearest = alive
            .filter(|baseline| baseline.latest() >= oldest)
            .map(|baseline| (baseline.shape().likeness(shape), baseline))
            // Of equally near ones the fuller.
            .max_by(|(a, one), (b, other)| a.total_cmp(b).then(one.count().cmp(&other.count())));
        match nearest {
            None => Err(Absence::NoBaseline),
            Some((likeness, _)) if likeness < LEAST_LIKENESS => Err(Absence::Mismatch),
            Some((_, baseline)) => baseline.references(shape).ok_or(Absence::NoBaseline),
        }
    }

    fn baselines_mut(&mut self) -> impl Iterator<Item = &mut Baseline> {
        self.shapes.iter_mut().map(|(_, baseline)| baseline)
    }

    fn count(&self) -> usize {
        self.shapes.iter().map(|(_, baseline)| baseline.count()).sum()
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.shapes.iter().map(|(_, baseline)| baseline.size()).sum::<usize>()
    }
}
