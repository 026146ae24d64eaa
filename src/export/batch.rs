//! Puts chunks together into requests, and takes requests that are too large apart: always between spans.

use bytes::Bytes;

use super::chunk::Chunk;
use crate::assemble::Trace;
use crate::config::BatchLimits;
use crate::otlp::batch::Batch as Table;
use crate::otlp::wire::Malformed;
use crate::telemetry::metrics::Class;

/// One request to the destination, and whose spans are in it.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    body: Bytes,
    parts: Vec<Part>,
}

/// A stretch of a batch whose spans are counted alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Bytes of the batch's body.
    length: usize,
    /// What it takes of the queue's size.
    charge: u64,
    /// How many spans.
    pub(super) spans: u32,
    /// Why they are forwarded.
    pub(super) class: Class,
    /// Outside the identity.
    pub(super) reference: bool,
}

impl Batch {
    /// The requests for `chunks`, which the queue took together: one, unless a single chunk is above the limits.
    pub(super) fn form(chunks: Vec<Chunk>, limits: &BatchLimits) -> Vec<Self> {
        let parts: Vec<Part> = chunks.iter().map(Part::of).collect();
        let body = match <[Chunk; 1]>::try_from(chunks) {
            Ok([chunk]) => chunk.bytes,
            Err(chunks) => {
                let mut body = Vec::with_capacity(chunks.iter().map(|chunk| chunk.bytes.len()).sum());
                for chunk in &chunks {
                    body.extend_from_slice(&chunk.bytes);
                }
                Bytes::from(body)
            }
        };
        let batch = Self { body, parts };
        match batch.parts.as_slice() {
            [] => Vec::new(),
            [part] if part.spans as usize > limits.max_spans || batch.body.len() as u64 > limits.max_size => {
                batch.split(limits.max_spans, limits.max_size)
            }
            _ => vec![batch],
        }
    }

    /// The encoded `ExportTraceServiceRequest`.
    pub(super) fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// Whose spans these are.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// How many spans, without those of references.
    pub(super) fn counted_spans(&self) -> u64 {
        self.parts.iter().filter(|part| !part.reference).map(|part| u64::from(part.spans)).sum()
    }

    /// What it takes of the queue's size.
    pub(super) fn charge(&self) -> u64 {
        self.parts.iter().map(|part| part.charge).sum()
    }

    /// Two batches of about half the spans each; itself again when it has only one span.
    pub(super) fn halve(self) -> Result<[Self; 2], Self> {
        let spans: usize = self.parts.iter().map(|part| part.spans as usize).sum();
        if self.parts.len() > 1 {
            let mut before = 0;
            let cut = self.parts.iter().position(|part| {
                before += part.spans as usize;
                before >= spans.div_ceil(2)
            });
            let at = cut.map_or(1, |cut| cut + 1).min(self.parts.len() - 1);
            return Ok(self.cut_before(at));
        }
        <[Self; 2]>::try_from(self.clone().split(spans.div_ceil(2), u64::MAX)).map_err(|_| self)
    }

    /// Two batches: the first `at` parts, and the others.
    fn cut_before(mut self, at: usize) -> [Self; 2] {
        let others = self.parts.split_off(at);
        let rest = self.body.split_off(self.parts.iter().map(|part| part.length).sum());
        [self, Self { body: rest, parts: others }]
    }

    /// Takes a batch of one part apart, so that each piece is within both limits or a single span.
    fn split(self, max_spans: usize, max_size: u64) -> Vec<Self> {
        let (Some(whole), Ok(pieces)) =
            (self.parts.first().copied(), pieces(&self.body, max_spans, max_size))
        else {
            return vec![self];
        };
        let count = pieces.len();
        let (mut spans, mut charge) = (whole.spans, whole.charge);
        let mut batches = Vec::with_capacity(count);
        for (index, (body, piece_spans)) in pieces.into_iter().enumerate() {
            // Each piece repeats its resource and scope, so the charge is spread and the last one bears what is
            // left: in sum they release exactly what the whole took.
            let is_last = index + 1 == count;
            let part = Part {
                length: body.len(),
                charge: if is_last { charge } else { charge.min(body.len() as u64) },
                spans: if is_last { spans } else { spans.min(piece_spans) },
                ..whole
            };
            charge -= part.charge;
            spans -= part.spans;
            batches.push(Self { body, parts: vec![part] });
        }
        if batches.is_empty() { vec![self] } else { batches }
    }
}

impl Part {
    fn of(chunk: &Chunk) -> Self {
        Self {
            length: chunk.bytes.len(),
            charge: chunk.charge(),
            spans: chunk.spans,
            class: chunk.class,
            reference: chunk.reference,
        }
    }
}

/// The spans of `request` in order, in pieces within the limits, and how many spans each has.
fn pieces(request: &[u8], max_spans: usize, max_size: u64) -> Result<Vec<(Bytes, u32)>, Malformed> {
    /// The key and the longest length of a field.
    const FIELD_HEAD: u64 = 6;
    let mut table = Table::default();
    table.read(request)?;
    let mut pieces = Vec::new();
    let mut piece: Option<Piece> = None;
    for span in &table.spans {
        let scope = table.scopes.get(span.scope as usize).ok_or(Malformed)?;
        let scope_content = scope.content.of(&table.enclosing);
        let resource_content =
            table.resources.get(scope.resource as usize).ok_or(Malformed)?.of(&table.enclosing);
        let body = span.body.of(request);
        let cost = |piece: Option<&Piece>| {
            let mut cost = FIELD_HEAD + body.len() as u64;
            if piece.is_none_or(|piece| piece.scope != Some(span.scope)) {
                cost += FIELD_HEAD + scope_content.len() as u64;
            }
            if piece.is_none_or(|piece| piece.resource != Some(scope.resource)) {
                cost += FIELD_HEAD + resource_content.len() as u64;
            }
            cost
        };
        if piece.as_ref().is_some_and(|p| p.trace.len() >= max_spans || p.size + cost(Some(p)) > max_size) {
            pieces.extend(piece.take().map(Piece::encode));
        }
        let size = cost(piece.as_ref());
        let piece = piece.get_or_insert_with(|| Piece::new(Trace::new(span.head.trace_id)));
        piece.size += size;
        if piece.resource != Some(scope.resource) {
            piece.resource = Some(scope.resource);
            piece.resource_index = piece.trace.push_resource(resource_content)?;
        }
        if piece.scope != Some(span.scope) {
            piece.scope = Some(span.scope);
            piece.scope_index = piece.trace.push_scope(scope_content, piece.resource_index)?;
        }
        piece.trace.push_span(span.head, body, piece.scope_index)?;
    }
    pieces.extend(piece.map(Piece::encode));
    Ok(pieces)
}

/// A piece that is being filled, and what encloses its last span: in the request, and in the piece.
struct Piece {
    trace: Trace,
    /// An upper bound of its encoded size.
    size: u64,
    resource: Option<u32>,
    resource_index: u32,
    scope: Option<u32>,
    scope_index: u32,
}

impl Piece {
    fn new(trace: Trace) -> Self {
        Self { trace, size: 0, resource: None, resource_index: 0, scope: None, scope_index: 0 }
    }

    fn encode(self) -> (Bytes, u32) {
        let mut out = Vec::new();
        self.trace.encode(&mut out);
        (Bytes::from(out), u32::try_from(self.trace.len()).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::wire::put_bytes;

    fn span(id: u8, size: usize) -> Vec<u8> {
        let mut span = Vec::new();
        put_bytes(&mut span, 1, &[9; 16]);
        put_bytes(&mut span, 2, &[id; 8]);
        put_bytes(&mut span, 5, &vec![b'x'; size]);
        span
    }

    /// One resource with two scopes of half the spans each, then another resource with one span.
    fn chunk(ids: u8, size: usize, class: Class) -> Chunk {
        let scope = |name: &[u8], ids: std::ops::Range<u8>| {
            let mut scope = Vec::new();
            put_bytes(&mut scope, 1, name);
            for id in ids {
                put_bytes(&mut scope, 2, &span(id, size));
            }
            put_bytes(&mut scope, 3, b"scope url");
            scope
        };
        let mut bytes = Vec::new();
        let mut resource = Vec::new();
        put_bytes(&mut resource, 1, b"\x0a\x00");
        put_bytes(&mut resource, 2, &scope(b"\x0a\x01a", 1..1 + ids / 2));
        put_bytes(&mut resource, 2, &scope(b"\x0a\x01b", 1 + ids / 2..1 + ids));
        put_bytes(&mut resource, 3, b"resource url");
        put_bytes(&mut bytes, 1, &resource);
        let mut resource = Vec::new();
        put_bytes(&mut resource, 2, &scope(b"\x0a\x01c", 1 + ids..2 + ids));
        put_bytes(&mut bytes, 1, &resource);
        Chunk { bytes: Bytes::from(bytes), spans: u32::from(ids) + 1, class, reference: false, alone: false }
    }

    fn limits(max_spans: usize, max_size: u64) -> BatchLimits {
        BatchLimits { max_spans, max_size, ..BatchLimits::default() }
    }

    /// Each span of a request with the bytes of its resource and scope.
    fn spans(request: &[u8]) -> Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> {
        let mut table = Table::default();
        table.read(request).expect("valid");
        assert_eq!(table.refused, 0);
        let enclosing = |span: &crate::otlp::batch::BatchSpan| {
            let scope = table.scopes[span.scope as usize];
            let resource = table.resources[scope.resource as usize];
            (
                resource.of(&table.enclosing).to_vec(),
                scope.content.of(&table.enclosing).to_vec(),
                span.body.of(request).to_vec(),
            )
        };
        table.spans.iter().map(enclosing).collect()
    }

    fn all_spans(batches: &[Batch]) -> Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> {
        batches.iter().flat_map(|batch| spans(&batch.body)).collect()
    }

    #[test]
    fn chunks_are_joined_by_concatenation() {
        let chunks = vec![chunk(2, 5, Class::Slow), chunk(4, 5, Class::Error)];
        let joined = [chunks[0].bytes.as_ref(), chunks[1].bytes.as_ref()].concat();
        let batches = Batch::form(chunks, &limits(100, 1 << 20));
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].body, joined);
        assert_eq!(batches[0].counted_spans(), 8);
    }

    #[test]
    fn a_chunk_above_a_limit_is_split_between_spans_and_each_piece_keeps_what_encloses_it() {
        let whole = chunk(10, 50, Class::Slow);
        for limits in [limits(3, 1 << 20), limits(1, 1 << 20), limits(100, 300), limits(4, 200)] {
            let batches = Batch::form(vec![whole.clone()], &limits);
            assert!(batches.len() > 1);
            assert_eq!(all_spans(&batches), spans(&whole.bytes), "{limits:?}");
            for batch in &batches {
                assert!(spans(&batch.body).len() <= limits.max_spans);
                assert!(batch.body.len() as u64 <= limits.max_size, "{limits:?}");
                assert_eq!(batch.counted_spans(), spans(&batch.body).len() as u64);
            }
            assert_eq!(batches.iter().map(Batch::charge).sum::<u64>(), whole.charge());
        }
    }

    #[test]
    fn a_span_that_is_too_large_by_itself_goes_alone() {
        let batches = Batch::form(vec![chunk(2, 500, Class::Slow)], &limits(100, 300));
        assert_eq!(batches.iter().map(Batch::counted_spans).collect::<Vec<_>>(), [1, 1, 1]);
    }

    #[test]
    fn a_split_of_a_chunk_that_is_within_the_limits_is_none() {
        let whole = chunk(2, 5, Class::Slow);
        let batches = Batch::form(vec![whole.clone()], &limits(3, whole.bytes.len() as u64));
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].body, whole.bytes);
    }

    #[test]
    fn halving_ends_at_single_spans_and_loses_nothing() {
        let chunks = vec![chunk(4, 5, Class::Slow), chunk(1, 5, Class::Error), chunk(2, 5, Class::Slow)];
        let charge: u64 = chunks.iter().map(Chunk::charge).sum();
        let whole = Batch::form(chunks, &limits(100, 1 << 20)).remove(0);
        let (mut work, mut singles) = (vec![whole.clone()], Vec::new());
        while let Some(batch) = work.pop() {
            match batch.halve() {
                Ok([first, second]) => work.extend([second, first]),
                Err(single) => singles.push(single),
            }
        }
        assert!(singles.iter().all(|single| spans(&single.body).len() == 1 && single.counted_spans() == 1));
        assert_eq!(all_spans(&singles), spans(&whole.body));
        assert_eq!(singles.iter().map(Batch::charge).sum::<u64>(), charge);
        let slow = singles.iter().filter(|single| single.parts[0].class == Class::Slow).count();
        assert_eq!(slow, 8);
    }

    #[test]
    fn the_first_halving_is_about_even() {
        let chunks = vec![chunk(2, 5, Class::Slow); 4];
        let whole = Batch::form(chunks, &limits(100, 1 << 20)).remove(0);
        let halves = whole.halve().expect("many spans");
        assert_eq!(halves.map(|half| half.counted_spans()), [6, 6]);
    }
}
