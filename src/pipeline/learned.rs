//! What was learned, written down before a restart and taken back after it.

use std::io::{self, Write};

use super::Pipeline;
use crate::otlp::{Nanos, TraceId};
use crate::snapshot::{Record, Snapshot, Unreadable, Writer};

/// Routes, and kinds of work, copied under one lock: copying them takes far below a millisecond.
const ROUTES_AT_ONCE: usize = 16;
const ITEMS_AT_ONCE: usize = 512;

/// What was taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Routes with their thresholds.
    pub routes: u64,
    /// Baselines: the references of one shape.
    pub baselines: u64,
    /// Kinds of work.
    pub items: u64,
    /// What was too old, or had no room, of all these.
    pub left_out: u64,
}

impl Pipeline {
    /// Writes down what was learned up to `now`. The locks that decisions need are held for a few entries each, and
    /// never while `out` is written to.
    pub fn save(&self, now: Nanos, out: impl Write) -> io::Result<()> {
        let mut writer = Writer::start(out, now)?;
        for ids in self.decider.routes_to_save().chunks(ROUTES_AT_ONCE) {
            for route in self.decider.save(ids) {
                writer.record(&Record::Route(Box::new(route)))?;
            }
        }
        let (baselines, traffic) = self.comparer.learned();
        for route in baselines.routes_to_save() {
            for baseline in baselines.save(route) {
                baseline.write(route, |baseline| writer.record(&Record::Baseline(baseline)))?;
            }
        }
        for items in traffic.items_to_save().chunks(ITEMS_AT_ONCE) {
            writer.record(&Record::Items(traffic.save_items(items)))?;
        }
        writer.record(&Record::Edges(traffic.save_edges()))?;
        let forwarded = self.forwarded.ids().iter().map(|id| *id.bytes()).collect();
        writer.record(&Record::Forwarded(forwarded))?;
        writer.finish()?.flush()
    }

    /// Takes back at `now` what was written down before a restart, as far as it is not too old and there is room. To be
    /// called before anything is learned.
    ///
    /// # Errors
    /// [`Unreadable`] where `file` is not what [`Pipeline::save`] wrote; nothing is taken then.
    pub fn restore(&self, now: Nanos, file: &[u8]) -> Result<Restored, Unreadable> {
        let snapshot = Snapshot::open(file)?;
        let oldest = now.saturating_sub(self.time_to_live);
        let mut restored = Restored::default();
        if snapshot.header.saved_at < oldest {
            restored.left_out = snapshot.records().count() as u64;
            return Ok(restored);
        }
        let (baselines, traffic) = self.comparer.learned();
        for record in snapshot.records() {
            match record {
                Record::Route(route) => {
                    let is_taken = self.decider.restore(now, *route);
                    restored.count(|restored| &mut restored.routes, is_taken);
                }
                Record::Baseline(baseline) => {
                    let is_taken = self.decider.knows(baseline.route)
                        && baselines.restore(now, self.comparer.max_spans(), baseline);
                    restored.count(|restored| &mut restored.baselines, is_taken);
                }
                Record::Items(items) => {
                    for item in items {
                        let is_taken = traffic.restore_item(now, oldest, item);
                        restored.count(|restored| &mut restored.items, is_taken);
                    }
                }
                Record::Edges(edges) => {
                    for edge in edges {
                        // Of most that were called minutes ago nothing is left: not worth telling.
                        traffic.restore_edge(now, &edge);
                    }
                }
                Record::Forwarded(ids) => {
                    for id in ids.iter().filter_map(|id| TraceId::from_slice(id)) {
                        self.forwarded.is_first(id);
                    }
                }
            }
        }
        Ok(restored)
    }
}

impl Restored {
    fn count(&mut self, what: impl Fn(&mut Self) -> &mut u64, is_taken: bool) {
        if is_taken {
            *what(self) += 1;
        } else {
            self.left_out += 1;
        }
    }
}
