//! One span, read from its bytes: the head in one pass, attributes and events only when asked for.
//!
//! Field numbers follow `opentelemetry/proto/trace/v1/trace.proto`.

use super::attribute::{Attribute, attributes};
pub use super::depth::MAX_ATTRIBUTE_DEPTH;
use super::wire::{self, Malformed, Value};
use super::{Nanos, SpanId, TraceId, depth};

/// Field numbers of `Span` that others write.
pub mod field {
    /// `trace_state`, a string.
    pub const TRACE_STATE: u32 = 3;
    /// `attributes`, repeated `KeyValue`.
    pub const ATTRIBUTES: u32 = 9;
    /// `links`, repeated `Span.Link`.
    pub const LINKS: u32 = 13;
}

/// Keys of fields: number and wire type, as they stand on the wire.
mod key {
    const VARINT: u32 = 0;
    const FIXED64: u32 = 1;
    const BYTES: u32 = 2;
    const FIXED32: u32 = 5;

    // Of `Span`.
    pub(super) const TRACE_ID: u32 = 1 << 3 | BYTES;
    pub(super) const SPAN_ID: u32 = 2 << 3 | BYTES;
    pub(super) const TRACE_STATE: u32 = 3 << 3 | BYTES;
    pub(super) const PARENT_SPAN_ID: u32 = 4 << 3 | BYTES;
    pub(super) const NAME: u32 = 5 << 3 | BYTES;
    pub(super) const KIND: u32 = 6 << 3 | VARINT;
    pub(super) const START: u32 = 7 << 3 | FIXED64;
    pub(super) const END: u32 = 8 << 3 | FIXED64;
    pub(super) const ATTRIBUTE: u32 = 9 << 3 | BYTES;
    pub(super) const DROPPED_ATTRIBUTES: u32 = 10 << 3 | VARINT;
    pub(super) const EVENT: u32 = 11 << 3 | BYTES;
    pub(super) const DROPPED_EVENTS: u32 = 12 << 3 | VARINT;
    pub(super) const LINK: u32 = 13 << 3 | BYTES;
    pub(super) const DROPPED_LINKS: u32 = 14 << 3 | VARINT;
    pub(super) const STATUS: u32 = 15 << 3 | BYTES;
    pub(super) const FLAGS: u32 = 16 << 3 | FIXED32;
    /// No key of `flags`, or of a field of a span before it, is greater.
    pub(super) const LAST_KNOWN: u32 = 16 << 3 | 7;
}

/// The role of a span, `Span.SpanKind`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Not said, or a value newer than this code.
    #[default]
    Unspecified = 0,
    /// Work inside a service.
    Internal = 1,
    /// The answering side of a call.
    Server = 2,
    /// The asking side of a call.
    Client = 3,
    /// Puts a message somewhere.
    Producer = 4,
    /// Takes a message and works on it.
    Consumer = 5,
}

impl Kind {
    fn from_wire(value: u64) -> Self {
        match enumeration(value) {
            1 => Kind::Internal,
            2 => Kind::Server,
            3 => Kind::Client,
            4 => Kind::Producer,
            5 => Kind::Consumer,
            _ => Kind::Unspecified,
        }
    }

    /// Whether a request enters a service through such a span.
    pub fn is_entry(self) -> bool {
        matches!(self, Kind::Server | Kind::Consumer)
    }
}

/// What the stages need of every span; read in one pass, 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanHead {
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// Its own identity.
    pub span_id: SpanId,
    /// The span it was called from; `None` at a root.
    pub parent_id: Option<SpanId>,
    /// Nanoseconds since the Unix epoch, as the sender's clock had it.
    pub start: Nanos,
    /// Nanoseconds since the Unix epoch; may lie before `start`.
    pub end: Nanos,
    /// The role.
    pub kind: Kind,
    /// Whether the status code is ERROR.
    pub is_error: bool,
}

impl SpanHead {
    /// Nanoseconds from start to end; 0 where these cannot be believed.
    pub fn duration(&self) -> Nanos {
        if self.has_credible_times() { self.end - self.start } else { 0 }
    }
}

/// Why a span is refused while the rest of its request is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanFault {
    /// The trace id is not 16 bytes, or all zero.
    #[error("trace_id must be 16 bytes and not all zero")]
    TraceId,
    /// The span id is not 8 bytes, or all zero.
    #[error("span_id must be 8 bytes and not all zero")]
    SpanId,
    /// The parent id is neither empty nor 8 bytes.
    #[error("parent_span_id must be empty or 8 bytes")]
    ParentSpanId,
    /// An attribute nests too deep.
    #[error("attributes must not nest deeper than {MAX_ATTRIBUTE_DEPTH} arrays or maps")]
    TooDeep,
}

/// Reads the head of a span in one pass over its top-level fields.
///
/// The outer error is a message that is no protobuf and spoils its whole request; the inner one costs only
/// this span. Of a repeated singular field the last one counts, as protobuf has it.
#[inline]
pub fn read_head(body: &[u8]) -> Result<Result<SpanHead, SpanFault>, Malformed> {
    let mut trace_id: &[u8] = &[];
    let mut span_id: &[u8] = &[];
    let mut parent_id: &[u8] = &[];
    let mut start = 0;
    let mut end = 0;
    let mut kind = Kind::Unspecified;
    let mut status_code = 0;
    let mut too_deep = false;
    let mut fields = wire::fields(body);
    while !fields.is_at_end() {
        let key = fields.key()?;
        match key {
            key::TRACE_ID => trace_id = fields.bytes()?,
            key::SPAN_ID => span_id = fields.bytes()?,
            key::PARENT_SPAN_ID => parent_id = fields.bytes()?,
            key::KIND => kind = Kind::from_wire(fields.varint()?),
            key::START => start = fields.fixed64()?,
            key::END => end = fields.fixed64()?,
            key::ATTRIBUTE => too_deep |= depth::nests_too_deep(fields.bytes()?)?,
            // Events and links carry attributes of their own.
            key::EVENT => too_deep |= depth::attributes_nest_too_deep(fields.bytes()?, 3)?,
            key::LINK => too_deep |= depth::attributes_nest_too_deep(fields.bytes()?, 4)?,
            // Status messages in one span are merged: one without a code leaves the code as it was.
            key::STATUS => status_code = last_status_code(fields.bytes()?, status_code)?,
            key::TRACE_STATE | key::NAME => drop(fields.bytes()?),
            key::DROPPED_ATTRIBUTES | key::DROPPED_EVENTS | key::DROPPED_LINKS => drop(fields.varint()?),
            key::FLAGS => drop(fields.fixed32()?),
            // A field that we know, of another wire type.
            _ if key <= key::LAST_KNOWN => return Err(Malformed),
            _ => fields.skip_value(key)?,
        }
    }
    Ok(check_ids(trace_id, span_id, parent_id).and_then(|(trace_id, span_id, parent_id)| {
        if too_deep {
            return Err(SpanFault::TooDeep);
        }
        Ok(SpanHead { trace_id, span_id, parent_id, start, end, kind, is_error: status_code == 2 })
    }))
}

fn check_ids(
    trace_id: &[u8],
    span_id: &[u8],
    parent_id: &[u8],
) -> Result<(TraceId, SpanId, Option<SpanId>), SpanFault> {
    let trace_id = TraceId::from_slice(trace_id).ok_or(SpanFault::TraceId)?;
    let span_id = SpanId::from_slice(span_id).ok_or(SpanFault::SpanId)?;
    // An all-zero parent is a root, as W3C Trace Context has it.
    if !matches!(parent_id.len(), 0 | 8) {
        return Err(SpanFault::ParentSpanId);
    }
    Ok((trace_id, span_id, SpanId::from_slice(parent_id)))
}

/// Enumerations and 32-bit numbers are the low half of what stands there.
fn enumeration(value: u64) -> u64 {
    value & u64::from(u32::MAX)
}

fn last_status_code(status: &[u8], mut code: u64) -> Result<u64, Malformed> {
    for field in wire::fields(status) {
        let field = field?;
        if field.number == 3 {
            code = enumeration(field.value.varint()?);
        }
    }
    Ok(code)
}

/// A span whose head has been read, with the rest of it at hand.
#[derive(Clone, Copy, Debug)]
pub struct SpanView<'a> {
    /// Ids, times, kind and status.
    pub head: SpanHead,
    /// The span message as it came.
    pub body: &'a [u8],
}

impl<'a> SpanView<'a> {
    /// Reads a span that was accepted before; `None` for bytes that would have been refused.
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let head = read_head(body).ok()?.ok()?;
        Some(Self { head, body })
    }

    /// The name's bytes; usually, but not surely, UTF-8.
    pub fn name(&self) -> &'a [u8] {
        self.last_bytes(5)
    }

    /// The `tracestate` header's bytes.
    pub fn trace_state(&self) -> &'a [u8] {
        self.last_bytes(field::TRACE_STATE)
    }

    /// The attributes, in the order in which they stand; malformed ones are left out.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        attributes(self.body, field::ATTRIBUTES)
    }

    /// The events, in the order in which they stand; malformed ones are left out.
    pub fn events(&self) -> impl Iterator<Item = Event<'a>> + use<'a> {
        wire::messages(self.body, 11).map(|body| {
            let mut event = Event { time: 0, name: &[], body };
            for field in wire::fields(body).map_while(Result::ok) {
                match (field.number, field.value) {
                    (1, Value::Fixed64(time)) => event.time = time,
                    (2, Value::Bytes(name)) => event.name = name,
                    _ => {}
                }
            }
            event
        })
    }

    fn last_bytes(&self, number: u32) -> &'a [u8] {
        wire::messages(self.body, number).last().unwrap_or(&[])
    }
}

/// A span event, `Span.Event`.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Nanoseconds since the Unix epoch.
    pub time: Nanos,
    /// The name's bytes.
    pub name: &'a [u8],
    /// The event message as it came.
    pub body: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::super::wire::{put_bytes, put_fixed64, put_uint};
    use super::*;

    fn span_with(extra: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut span = Vec::new();
        put_bytes(&mut span, 1, &[1; 16]);
        put_bytes(&mut span, 2, &[2; 8]);
        put_bytes(&mut span, 5, b"run");
        put_uint(&mut span, 6, 2);
        put_fixed64(&mut span, 7, 100);
        put_fixed64(&mut span, 8, 350);
        extra(&mut span);
        span
    }

    #[test]
    fn the_head_holds_ids_times_kind_and_status() {
        let body = span_with(|span| {
            put_bytes(span, 4, &[3; 8]);
            put_bytes(span, 15, &[0x18, 2]);
        });
        let span = SpanView::read(&body).expect("valid");
        assert_eq!(span.head.parent_id, SpanId::from_slice(&[3; 8]));
        assert_eq!((span.head.kind, span.head.is_error), (Kind::Server, true));
        assert_eq!(span.head.duration(), 250);
        assert_eq!(span.name(), b"run");
    }

    #[test]
    fn status_messages_of_one_span_are_merged() {
        for (statuses, expected) in [
            ([&[0x18, 2][..], &[0x12, 1, b'm']], true), // ERROR, then one with a text only
            ([&[0x18, 2], &[0x18, 0]], false),
            ([&[0x18, 1], &[0x18, 2]], true),
        ] {
            let body = span_with(|span| statuses.iter().for_each(|status| put_bytes(span, 15, status)));
            assert_eq!(SpanView::read(&body).expect("valid").head.is_error, expected, "{statuses:?}");
        }
    }

    #[test]
    fn an_enumeration_is_the_low_half_of_its_varint() {
        let mut status = Vec::new();
        put_uint(&mut status, 3, 7 << 32 | 2);
        let body = span_with(|span| {
            put_uint(span, 6, 1 << 32 | 3);
            put_bytes(span, 15, &status);
        });
        let head = SpanView::read(&body).expect("valid").head;
        assert_eq!((head.kind, head.is_error), (Kind::Client, true));
    }

    // PB-4, FAULT-C9.
    #[test]
    fn an_end_before_the_start_is_a_duration_of_zero() {
        let body = span_with(|span| put_fixed64(span, 8, 1));
        assert_eq!(SpanView::read(&body).expect("valid").head.duration(), 0);
    }

    // FAULT-C1, FAULT-C2.
    #[test]
    fn each_bad_id_is_named() {
        let cases: [(u32, &[u8], SpanFault); 7] = [
            (1, &[1; 8], SpanFault::TraceId),
            (1, &[0; 16], SpanFault::TraceId),
            (1, &[1; 17], SpanFault::TraceId),
            (2, &[], SpanFault::SpanId),
            (2, &[0; 8], SpanFault::SpanId),
            (4, &[1; 3], SpanFault::ParentSpanId),
            (4, &[1; 16], SpanFault::ParentSpanId),
        ];
        for (number, bytes, fault) in cases {
            let body = span_with(|span| put_bytes(span, number, bytes));
            assert_eq!(read_head(&body), Ok(Err(fault)), "field {number} = {bytes:?}");
        }
    }

    // FAULT-C2.
    #[test]
    fn a_parent_of_zeros_is_a_root() {
        let body = span_with(|span| put_bytes(span, 4, &[0; 8]));
        assert_eq!(SpanView::read(&body).expect("valid").head.parent_id, None);
    }

    #[test]
    fn a_known_field_of_another_wire_type_is_malformed() {
        for number in [1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 15, 16] {
            let body = span_with(|span| put_uint(span, number, 1));
            assert_eq!(read_head(&body), Err(Malformed), "field {number}");
        }
        for number in [6, 10, 12, 14] {
            let body = span_with(|span| put_bytes(span, number, b"x"));
            assert_eq!(read_head(&body), Err(Malformed), "field {number}");
        }
    }
}
