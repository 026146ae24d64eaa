//! What a route has learned, as it survives a restart.

use serde::{Deserialize, Serialize};

use super::super::shapes::Shapes;
use super::super::threshold::Durations;
use super::{RouteId, Routes, SEPARATOR};
use crate::otlp::Nanos;

/// No key is longer, in bytes: a service's name, a kind and a route, each of them bounded.
const LONGEST_KEY: usize = 1_280;

/// One route; rules that the configuration gives are not part of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SavedRoute {
    pub(crate) id: RouteId,
    /// Empty for [`RouteId::OTHER`].
    key: String,
    last_seen: Nanos,
    traces: u64,
    durations: Durations,
    shapes: Shapes,
}

impl Routes {
    /// The numbers of all routes.
    pub(in crate::decide) fn ids(&self) -> Vec<RouteId> {
        let mut ids: Vec<RouteId> = self.by_key.values().copied().chain([RouteId::OTHER]).collect();
        ids.sort_unstable();
        ids
    }

    /// Whether there is a route with this number, other than that of all others.
    pub(in crate::decide) fn knows(&self, route: RouteId) -> bool {
        self.routes.contains_key(&route)
    }

    /// What is written of some routes.
    pub(in crate::decide) fn save(&self, ids: &[RouteId]) -> Vec<SavedRoute> {
        let keys = self.by_key.iter().filter(|(_, id)| ids.binary_search(id).is_ok());
        let known = keys.filter_map(|(key, id)| Some((key.as_str(), *id, self.routes.get(id)?)));
        let is_other_used = self.other.traces > 0 && ids.contains(&RouteId::OTHER);
        let other = is_other_used.then_some(("", RouteId::OTHER, &self.other));
        let saved = known.chain(other).map(|(key, id, route)| SavedRoute {
            id,
            key: key.to_owned(),
            last_seen: route.last_seen,
            traces: route.traces,
            durations: route.durations.clone(),
            shapes: route.shapes.clone(),
        });
        saved.collect()
    }

    /// Takes back what was written before a restart, at `now`; returns whether the route is known from then on. One
    /// that has been idle for too long, or that could not have been written, is not.
    pub(in crate::decide) fn restore(&mut self, now: Nanos, saved: SavedRoute) -> bool {
        let SavedRoute { id, key, last_seen, traces, durations, shapes } = saved;
        if now.saturating_sub(last_seen) >= self.learning.forget_after || traces > 1 << 60 {
            return false;
        }
        let (durations, shapes) =
            (durations.restored(now, &self.learning), shapes.restored(now, &self.learning));
        let (Some(durations), Some(shapes)) = (durations, shapes) else { return false };
        let taken = durations.allocated() + shapes.allocated();
        if !self.is_roomy(taken) {
            return false;
        }
        let route = if id == RouteId::OTHER {
            &mut self.other
        } else {
            let is_taken = self.routes.contains_key(&id) || self.by_key.contains_key(&key);
            let mut parts = key.splitn(3, SEPARATOR);
            let (Some(service), Some(_), Some(route)) = (parts.next(), parts.next(), parts.next()) else {
                return false;
            };
            if is_taken || key.len() > LONGEST_KEY || self.insert(id, &key, service, route).is_none() {
                return false;
            }
            self.routes.get_mut(&id).unwrap_or(&mut self.other)
        };
        let before = route.allocated;
        route.allocated += taken;
        self.space.note(before, route.allocated);
        (route.durations, route.shapes) = (durations, shapes);
        (route.last_seen, route.traces) = (last_seen.min(now), traces);
        true
    }
}
