//! Spans on their way to the destination, as they lie in the queue and in requests.

use bytes::Bytes;

use crate::assemble::Trace;
use crate::telemetry::metrics::Class;

/// What a waiting chunk costs beside its bytes: its place in a table that grows by doubling.
const OVERHEAD: u64 = 2 * size_of::<Chunk>() as u64;

/// Spans that were decided together, mostly one trace.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Encoded `resource_spans` fields of an `ExportTraceServiceRequest`; requests are their concatenation.
    pub bytes: Bytes,
    /// How many spans these are.
    pub spans: u32,
    /// Why they are forwarded.
    pub class: Class,
    /// A copy of a reference trace that a verdict cites: outside the identity, whatever its class.
    pub reference: bool,
    /// A strict destination may refuse it, and with it the whole request that it is in: it leaves in one of its own.
    pub alone: bool,
}

impl Chunk {
    /// The spans of `trace`, forwarded for the reason `class`: those that any destination takes, then the others.
    pub fn of(trace: &Trace, class: Class) -> impl Iterator<Item = Self> {
        let soundness = trace.soundness();
        [true, false].into_iter().filter_map(move |wanted| {
            let spans = soundness.iter().filter(|is_sound| **is_sound == wanted).count();
            if spans == 0 {
                return None;
            }
            let mut bytes = Vec::new();
            trace.encode_where(&mut bytes, |span| soundness.get(span) == Some(&wanted));
            // What the buffer has grown beyond its content would be held, but not counted.
            bytes.shrink_to_fit();
            let spans = u32::try_from(spans).unwrap_or(u32::MAX);
            Some(Self { bytes: Bytes::from(bytes), spans, class, reference: false, alone: !wanted })
        })
    }

    /// A copy of a reference trace that a verdict cites.
    pub fn of_reference(trace: &Trace) -> impl Iterator<Item = Self> {
        Self::of(trace, Class::Healthy).map(|chunk| Self { reference: true, ..chunk })
    }

    /// What it takes of the queue's size, in bytes.
    pub fn charge(&self) -> u64 {
        self.bytes.len() as u64 + OVERHEAD
    }

    /// The fill up to which the queue takes it: what matters most finds room longest.
    pub(super) fn admitted_up_to(&self, size: u64) -> u64 {
        match self.class {
            _ if self.reference => size - size / 5,
            Class::Slow => size,
            Class::Error => size - size / 10,
            Class::Healthy | Class::Learning | Class::Late => size - size / 5,
        }
    }
}
