//! What is normal in all traffic, as it survives a restart.

use serde::{Deserialize, Serialize};

use super::{Item, NO_CALLS, Recent, Traffic};
use crate::decide::threshold::Durations;
use crate::otlp::Nanos;

/// Nobody counts so many calls; what a file says beyond was made up.
const MOST_COUNTED: f64 = 1e15;
/// Nor are they longer in all, in nanoseconds.
const LONGEST: f64 = 1e30;

/// One kind of work, or of wait.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SavedItem {
    item: u64,
    normal: Durations,
    recent: Recent,
}

/// One caller and callee.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SavedEdge {
    caller: u64,
    callee: u64,
    recent: Recent,
}

impl Traffic {
    /// The kinds of work that there are.
    pub(crate) fn items_to_save(&self) -> Vec<u64> {
        let mut items: Vec<u64> = self.tables().items.keys().copied().collect();
        items.sort_unstable();
        items
    }

    /// What is written of some kinds of work.
    pub(crate) fn save_items(&self, items: &[u64]) -> Vec<SavedItem> {
        let tables = self.tables();
        let known = items.iter().filter_map(|item| Some((*item, tables.items.get(item)?)));
        known
            .map(|(item, known)| SavedItem { item, normal: known.normal.clone(), recent: known.recent })
            .collect()
    }

    /// What is written of all edges.
    pub(crate) fn save_edges(&self) -> Vec<SavedEdge> {
        let tables = self.tables();
        let mut edges: Vec<SavedEdge> = tables
            .edges
            .iter()
            .map(|((caller, callee), recent)| SavedEdge { caller: *caller, callee: *callee, recent: *recent })
            .collect();
        edges.sort_unstable_by_key(|edge| (edge.caller, edge.callee));
        edges
    }

    /// Takes back what was written before a restart, at `now`; returns whether it is known from then on. What has not
    /// been called since `oldest`, or could not have been written, is not.
    pub(crate) fn restore_item(&self, now: Nanos, oldest: Nanos, saved: SavedItem) -> bool {
        // What is still being learned has not been counted yet.
        if saved.recent.calls > 0.0 && saved.recent.at < oldest {
            return false;
        }
        let (normal, recent) = (saved.normal.restored(now, &self.learning), saved.recent.restored(now));
        let (Some(normal), Some(recent)) = (normal, recent) else { return false };
        let mut tables = self.tables();
        let has_room = tables.takes_item(self.limit) && tables.is_roomy(normal.allocated(), self.limit);
        if !has_room || tables.items.contains_key(&saved.item) {
            return false;
        }
        tables.learned += normal.allocated();
        tables.items.insert(saved.item, Item { normal, recent });
        true
    }

    /// The same for an edge; of a long pause nothing is left.
    pub(crate) fn restore_edge(&self, now: Nanos, saved: &SavedEdge) -> bool {
        let Some(recent) = saved.recent.restored(now) else { return false };
        let mut tables = self.tables();
        if !tables.takes_edge(self.limit) || recent.at(now).calls < NO_CALLS {
            return false;
        }
        tables.edges.insert((saved.caller, saved.callee), recent).is_none()
    }
}

impl Recent {
    /// What was read from a file at `now`; `None` where it is no count.
    fn restored(mut self, now: Nanos) -> Option<Self> {
        // The clock may have been set back.
        self.at = self.at.min(now);
        let is_sound = (0.0..MOST_COUNTED).contains(&self.calls)
            && (0.0..=self.calls).contains(&self.long)
            && (0.0..LONGEST).contains(&self.excess);
        is_sound.then_some(self)
    }
}
