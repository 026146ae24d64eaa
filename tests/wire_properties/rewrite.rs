//! Takes encoded OTLP apart and puts it together changed, with prost's reader: nothing of ours is involved.

use proptest::prelude::*;
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field,
};

/// The messages inside an `ExportTraceServiceRequest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Request,
    ResourceSpans,
    Resource,
    EntityRef,
    ScopeSpans,
    Scope,
    Span,
    Event,
    Link,
    Status,
    KeyValue,
    AnyValue,
    ArrayValue,
    KeyValueList,
}

/// What a length-delimited field holds.
enum Content {
    Message(Message),
    Text,
    Bytes,
}

impl Message {
    fn content(self, number: u32) -> Content {
        use Message as M;
        let inner = match (self, number) {
            (M::Request, 1) => M::ResourceSpans,
            (M::ResourceSpans, 1) => M::Resource,
            (M::ResourceSpans, 2) => M::ScopeSpans,
            (M::ScopeSpans, 1) => M::Scope,
            (M::ScopeSpans, 2) => M::Span,
            (M::Resource, 3) => M::EntityRef,
            (M::Span, 11) => M::Event,
            (M::Span, 13) => M::Link,
            (M::Span, 15) => M::Status,
            (M::Resource | M::KeyValueList, 1) | (M::Scope | M::Event, 3) | (M::Link, 4) | (M::Span, 9) => {
                M::KeyValue
            }
            (M::KeyValue, 2) | (M::ArrayValue, 1) => M::AnyValue,
            (M::AnyValue, 5) => M::ArrayValue,
            (M::AnyValue, 6) => M::KeyValueList,
            (M::ResourceSpans | M::ScopeSpans | M::Link, 3)
            | (M::EntityRef, 1..=4)
            | (M::Scope, 1 | 2)
            | (M::Span, 3 | 5)
            | (M::Event | M::Status, 2)
            | (M::KeyValue | M::AnyValue, 1) => return Content::Text,
            _ => return Content::Bytes,
        };
        Content::Message(inner)
    }
}

/// A change to an encoded message; what a rewriter does not implement stays as it is.
pub(crate) trait Edit {
    /// Between two fields, before the first and behind the last.
    fn gap(&mut self, _out: &mut Vec<u8>) {}
    /// The bytes of a string field.
    fn text(&mut self, _text: &mut Vec<u8>) {}
    /// The bytes of an inner message, after the edits inside it.
    fn message(&mut self, _content: &mut Vec<u8>) {}
}

/// Applies `edit` everywhere in an encoded `message`; the lengths around what changed are right again.
pub(crate) fn rewrite(encoded: &[u8], message: Message, edit: &mut impl Edit) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields(encoded).expect("a valid message") {
        edit.gap(&mut out);
        let Some(payload) = field.payload else {
            out.extend_from_slice(field.raw);
            continue;
        };
        let payload = match message.content(field.number) {
            Content::Message(inner) => {
                let mut content = rewrite(payload, inner, edit);
                edit.message(&mut content);
                content
            }
            Content::Text => {
                let mut text = payload.to_vec();
                edit.text(&mut text);
                text
            }
            Content::Bytes => payload.to_vec(),
        };
        put(&mut out, field.number, &payload);
    }
    edit.gap(&mut out);
    out
}

/// A top-level field; `payload` of a length-delimited one.
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    pub(crate) raw: &'a [u8],
    pub(crate) payload: Option<&'a [u8]>,
}

/// The top-level fields of a message; `None` where prost finds it malformed.
pub(crate) fn fields(message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let start = rest;
        let (number, wire_type) = decode_key(&mut rest).ok()?;
        let mut payload = rest;
        skip_field(wire_type, number, &mut rest, DecodeContext::default()).ok()?;
        let payload = if wire_type == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut payload).ok()?).ok()?;
            payload.get(..length)
        } else {
            None
        };
        let (raw, _) = start.split_at(start.len() - rest.len());
        fields.push(Field { number, raw, payload });
    }
    Some(fields)
}

/// Appends a length-delimited field.
pub(crate) fn put(out: &mut Vec<u8>, number: u32, payload: &[u8]) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(payload.len() as u64, out);
    out.extend_from_slice(payload);
}

/// Puts unknown fields into every gap, one after the other and round again.
pub(crate) struct Unknown {
    pub(crate) fields: Vec<Vec<u8>>,
    pub(crate) next: usize,
}

impl Edit for Unknown {
    fn gap(&mut self, out: &mut Vec<u8>) {
        if let Some(field) = self.fields.get(self.next % self.fields.len().max(1)) {
            out.extend_from_slice(field);
        }
        self.next += 1;
    }
}

/// Makes the strings whose turn it is invalid UTF-8, of the same length.
pub(crate) struct InvalidText {
    pub(crate) turns: Vec<bool>,
    pub(crate) next: usize,
    pub(crate) hits: usize,
}

impl Edit for InvalidText {
    fn text(&mut self, text: &mut Vec<u8>) {
        let turn = self.turns.get(self.next % self.turns.len().max(1)).copied().unwrap_or(false);
        self.next += 1;
        if turn && !text.is_empty() {
            text.fill(0xff);
            self.hits += 1;
        }
    }
}

/// Cuts one inner message short, wherever it lies, by a share of its length in 256ths.
pub(crate) struct Truncated {
    pub(crate) message: usize,
    pub(crate) share: u8,
    pub(crate) next: usize,
}

impl Edit for Truncated {
    fn message(&mut self, content: &mut Vec<u8>) {
        if self.next == self.message {
            content.truncate(content.len() * usize::from(self.share) / 256);
        }
        self.next += 1;
    }
}

/// One field that OTLP does not know, of any wire type; its key and numbers need not be as short as possible.
pub(crate) fn unknown_fields() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![Just(17_u32), 100..200_u32, Just((1 << 29) - 1)];
    let leaf = (number.clone(), 0..4_u8, any::<u64>(), prop::collection::vec(any::<u8>(), 0..12)).prop_map(
        |(number, wire_type, value, payload)| {
            let mut out = Vec::new();
            match wire_type {
                0 => {
                    encode_key(number, WireType::Varint, &mut out);
                    encode_varint(value, &mut out);
                }
                1 => {
                    encode_key(number, WireType::SixtyFourBit, &mut out);
                    out.extend(value.to_le_bytes());
                }
                2 => put(&mut out, number, &payload),
                _ => {
                    encode_key(number, WireType::ThirtyTwoBit, &mut out);
                    out.extend([1, 2, 3, 4]);
                }
            }
            out
        },
    );
    let long = Just(vec![0x90, 0x87, 0x80, 0x00, 0x80, 0x80, 0x00]);
    prop_oneof![6 => leaf, 1 => long].prop_recursive(4, 16, 4, move |inner| {
        (number.clone(), prop::collection::vec(inner, 0..4)).prop_map(|(number, content)| {
            let mut out = Vec::new();
            encode_key(number, WireType::StartGroup, &mut out);
            out.extend(content.concat());
            encode_key(number, WireType::EndGroup, &mut out);
            out
        })
    })
}
