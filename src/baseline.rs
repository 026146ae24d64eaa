//! The fast traces that slow ones are compared with: for each route and shape a ring of the latest ledgers, and one
//! whole trace near their median.

pub(crate) mod floors;
mod saved;
pub(crate) mod store;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::assemble::Trace;
use crate::compare::analysis::{Analysis, Operation};
use crate::compare::ledger::Ledger;
use crate::compare::shape::ShapeSet;
use crate::otlp::{Nanos, SpanId};
use floors::{Floors, Past};
pub(crate) use saved::{Copied, SavedBaseline};

/// References are taken at most so often, so that a burst does not fill the ring with one moment.
const BETWEEN_REFERENCES: Nanos = 1_000_000_000;

/// The linked reference is renewed once it is so old.
const RENEW_AFTER: Nanos = 5 * 60 * 1_000_000_000;

/// A reference for a full ring waits so long, and for so many others: if a fault is what made it as it is, that shows
/// until then.
const QUARANTINE: Nanos = 60 * 1_000_000_000;
const QUARANTINE_REFERENCES: usize = 8;

/// So many references wait at most.
const MAX_WAITING: usize = 64;

/// A reference to be.
pub(crate) struct Lesson<'a> {
    pub(crate) trace: &'a Trace,
    /// Index of its entry span.
    pub(crate) entry: usize,
    pub(crate) analysis: &'a Analysis<'a>,
    /// The kinds of work in it that took unusually long.
    pub(crate) long: Vec<u64>,
    /// Whether some of these kinds of work take long in most traces now.
    pub(crate) is_fault: &'a dyn Fn(&[u64]) -> bool,
}

/// What a slow trace is compared with.
#[derive(Clone, Debug)]
pub(crate) struct References {
    /// The one whose numbers the explanation states.
    pub(crate) linked: Arc<Linked>,
    /// What is normal among all of them.
    pub(crate) floors: Arc<Floors>,
    /// How alike their shape is, 0..=1.
    pub(crate) likeness: f64,
}

/// A whole reference trace with its analysis.
#[derive(Debug)]
pub(crate) struct Linked {
    pub(crate) trace: Arc<Trace>,
    pub(crate) entry: usize,
    pub(crate) span_id: SpanId,
    pub(crate) ledger: Ledger,
    pub(crate) operations: Vec<Operation>,
    since: Nanos,
}

impl Linked {
    /// `None` where span `entry` is not in the trace.
    pub(crate) fn new(now: Nanos, trace: Arc<Trace>, entry: usize, analysis: &Analysis<'_>) -> Option<Self> {
        let span_id = trace.span(entry)?.head.span_id;
        let operations = analysis.operations();
        Some(Self { trace, entry, span_id, ledger: analysis.ledger.clone(), operations, since: now })
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + self.trace.size()
            + self.ledger.size()
            + self.operations.capacity() * size_of::<Operation>()
    }
}

/// A reference that is not in the ring yet.
#[derive(Debug)]
struct Waiting {
    since: Nanos,
    past: Past,
    long: Vec<u64>,
}

/// The references of one route and shape.
#[derive(Debug)]
pub(crate) struct Baseline {
    shape: ShapeSet,
    ring: VecDeque<Past>,
    /// References that may turn out to be the beginning of a fault.
    waiting: VecDeque<Waiting>,
    linked: Option<Arc<Linked>>,
    /// Worked out when first asked for after the ring changed.
    floors: Option<Arc<Floors>>,
    latest: Nanos,
}

impl Baseline {
    pub(crate) fn new(shape: ShapeSet) -> Self {
        Self { shape, ring: VecDeque::new(), waiting: VecDeque::new(), linked: None, floors: None, latest: 0 }
    }

    /// Takes a reference for the ring of `capacity`, unless the last one is too recent or it shows a fault. Returns
    /// the trace that became the linked one, if it did.
    pub(crate) fn learn(&mut self, now: Nanos, capacity: usize, lesson: Lesson<'_>) -> Option<Arc<Linked>> {
        let Lesson { trace, entry, analysis, long, is_fault } = lesson;
        if !self.ring.is_empty() && now < self.latest.saturating_add(BETWEEN_REFERENCES) {
            return None;
        }
        self.release(now, capacity, is_fault);
        if is_fault(&long) {
            return None;
        }
        self.latest = now;
        let past = Past::of(&analysis.ledger);
        if self.ring.len() < capacity {
            self.admit(past, capacity);
        } else if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(Waiting { since: now, past, long });
        }
        if !self.is_better_link(now, capacity, analysis.ledger.duration) {
            return None;
        }
        let linked = Arc::new(Linked::new(now, Arc::new(trace.clone()), entry, analysis)?);
        self.linked = Some(Arc::clone(&linked));
        Some(linked)
    }

    /// Lets those into the ring that have waited long enough. Whatever is part of a fault now, and began to wait before
    /// anybody could know, leaves.
    fn release(&mut self, now: Nanos, capacity: usize, is_fault: &dyn Fn(&[u64]) -> bool) {
        self.waiting.retain(|waiting| !is_fault(&waiting.long));
        while self.waiting.len() > QUARANTINE_REFERENCES
            && let Some(first) =
                self.waiting.pop_front_if(|first| now >= first.since.saturating_add(QUARANTINE))
        {
            self.admit(first.past, capacity);
        }
    }

    /// Lets all into the ring that wait: none of them was part of a fault.
    pub(crate) fn trust(&mut self, capacity: usize) {
        while let Some(first) = self.waiting.pop_front() {
            self.admit(first.past, capacity);
        }
    }

    fn admit(&mut self, past: Past, capacity: usize) {
        while self.ring.len() >= capacity.max(1) {
            self.ring.pop_front();
        }
        self.ring.push_back(past);
        self.floors = None;
    }

    /// Nearer the median while the ring fills; later only when the linked one is due for renewal: first one from
    /// the middle fifth of the ring, then one from its middle half. What lies further out is never what a slow trace
    /// should be held against, however old the linked one is; the ring follows the traffic, and its middle with it.
    fn is_better_link(&self, now: Nanos, capacity: usize, duration: Nanos) -> bool {
        let Some(linked) = &self.linked else { return true };
        let percentile = |share| floors::quantile(self.ring.iter().map(|past| past.duration), share, 100);
        let age = now.saturating_sub(linked.since);
        if age >= RENEW_AFTER {
            return (percentile(25)..=percentile(75)).contains(&duration);
        }
        if age >= RENEW_AFTER / 5 * 4 {
            return (percentile(40)..=percentile(60)).contains(&duration);
        }
        let median = percentile(50);
        self.ring.len() < capacity && median.abs_diff(duration) < median.abs_diff(linked.ledger.duration)
    }

    /// What to compare a trace of shape `shape` with.
    pub(crate) fn references(&mut self, shape: &ShapeSet) -> Option<References> {
        let linked = self.linked.clone()?;
        let floors = Arc::clone(self.floors.get_or_insert_with(|| Arc::new(Floors::of(self.ring.iter()))));
        Some(References { linked, floors, likeness: self.shape.likeness(shape) })
    }

    /// It counts as having learned at `now`.
    pub(crate) fn renew(&mut self, now: Nanos) {
        self.latest = self.latest.max(now);
    }

    /// When it last learned.
    pub(crate) fn latest(&self) -> Nanos {
        self.latest
    }

    /// How many references there are.
    pub(crate) fn count(&self) -> usize {
        self.ring.len()
    }

    /// The calls of its shape.
    pub(crate) fn shape(&self) -> &ShapeSet {
        &self.shape
    }

    /// Bytes, on the heap and off it.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>()
            + self.shape.size()
            + self.ring.iter().map(Past::size).sum::<usize>()
            + self.waiting.iter().map(Waiting::size).sum::<usize>()
            + self.linked.as_ref().map_or(0, |linked| linked.size())
            + self.floors.as_ref().map_or(0, |floors| floors.size())
    }
}

impl Waiting {
    fn size(&self) -> usize {
        size_of::<Self>() + self.past.size() + self.long.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests;
