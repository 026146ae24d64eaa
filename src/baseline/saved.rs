//! A baseline as it survives a restart: the ring without names, and the linked reference as it came in. What was read
//! out of that trace is read out of it again.

use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::floors::Past;
use super::{Baseline, Linked};
use crate::assemble::Trace;
use crate::compare::analysis::Analysis;
use crate::compare::shape::ShapeSet;
use crate::decide::RouteId;
use crate::otlp::{Nanos, SpanId};

/// One baseline. References that still wait for their place in the ring are not part of it: they are of the last
/// minute.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedBaseline<'a> {
    pub(crate) route: RouteId,
    shape: ShapeSet,
    ring: Vec<Past>,
    pub(crate) latest: Nanos,
    #[serde(borrow)]
    linked: Option<SavedLinked<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedLinked<'a> {
    since: Nanos,
    entry: [u8; 8],
    /// An encoded `ExportTraceServiceRequest`.
    #[serde(borrow, serialize_with = "as_bytes")]
    request: &'a [u8],
}

/// What is written of a baseline, taken at once.
#[derive(Debug)]
pub(crate) struct Copied {
    shape: ShapeSet,
    ring: Vec<Past>,
    latest: Nanos,
    linked: Option<Arc<Linked>>,
}

impl Baseline {
    pub(super) fn copied(&self) -> Copied {
        let ring = self.ring.iter().cloned().collect();
        Copied { shape: self.shape.clone(), ring, latest: self.latest, linked: self.linked.clone() }
    }

    /// What was read from a file at `now`; `None` where it can never have been written.
    pub(super) fn restored(
        now: Nanos,
        capacity: usize,
        max_spans: usize,
        saved: SavedBaseline<'_>,
    ) -> Option<Self> {
        let SavedBaseline { route: _, shape, mut ring, latest, linked } = saved;
        let linked = match linked {
            Some(linked) => Some(Arc::new(linked.restored(now, max_spans, &shape)?)),
            None => None,
        };
        ring.drain(..ring.len().saturating_sub(capacity));
        let ring = ring.into_iter().map(Past::restored).collect();
        Some(Self { ring, linked, latest: latest.min(now), ..Self::new(shape) })
    }
}

impl Copied {
    /// Writes it as one of `route`.
    pub(crate) fn write<E>(
        self,
        route: RouteId,
        write: impl FnOnce(SavedBaseline<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { shape, ring, latest, linked } = self;
        let mut request = Vec::new();
        let linked = linked.map(|linked| {
            linked.trace.encode(&mut request);
            (linked.since, *linked.span_id.bytes())
        });
        let linked = linked.map(|(since, entry)| SavedLinked { since, entry, request: &request });
        write(SavedBaseline { route, shape, ring, latest, linked })
    }
}

impl SavedLinked<'_> {
    fn restored(&self, now: Nanos, max_spans: usize, shape: &ShapeSet) -> Option<Linked> {
        let mut traces = Trace::all_in(self.request).ok()?;
        let trace = traces.pop().filter(|trace| traces.is_empty() && trace.len() <= max_spans)?;
        let entry = SpanId::from_slice(&self.entry)?;
        let entry = trace.heads().position(|head| head.span_id == entry)?;
        let analysis = Analysis::of(&trace, entry).filter(|analysis| analysis.shape == *shape)?;
        Linked::new(self.since.min(now), Arc::new(trace.clone()), entry, &analysis)
    }
}

/// Else a sequence of numbers is written, to the same effect and much slower.
fn as_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}
