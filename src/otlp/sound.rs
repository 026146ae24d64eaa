//! Whether a strict reader would take a span: one that decodes every field it knows, checks that text is UTF-8, and
//! limits how deep messages nest.
//!
//! Spans that are not sound are forwarded as they came, for lenient readers do take them, but never in one request
//! with others: a strict reader refuses a request whole. Only spans that are kept are looked at, on their way out.

use super::wire::{self, Value};

/// What a field of a message holds.
enum Type {
    Varint,
    Fixed32,
    Fixed64,
    Bytes,
    Text,
    Message(&'static Schema),
    /// Nobody knows.
    Unknown,
}

/// The fields of a message, from number 1 on.
struct Schema(&'static [Type]);

use Type::{Bytes, Fixed32, Fixed64, Message, Text, Unknown, Varint};

// What encloses spans is looked at without them.
static RESOURCE_SPANS: Schema = Schema(&[Message(&RESOURCE), Unknown, Text]);
static RESOURCE: Schema = Schema(&[Message(&KEY_VALUE), Varint, Message(&ENTITY_REF)]);
static ENTITY_REF: Schema = Schema(&[Text, Text, Text, Text]);
static SCOPE_SPANS: Schema = Schema(&[Message(&SCOPE), Unknown, Text]);
static SCOPE: Schema = Schema(&[Text, Text, Message(&KEY_VALUE), Varint]);
static SPAN: Schema = Schema(&[
    Bytes,
    Bytes,
    Text,
    Bytes,
    Text,
    Varint,
    Fixed64,
    Fixed64,
    Message(&KEY_VALUE),
    Varint,
    Message(&EVENT),
    Varint,
    Message(&LINK),
    Varint,
    Message(&STATUS),
    Fixed32,
]);
static EVENT: Schema = Schema(&[Fixed64, Text, Message(&KEY_VALUE), Varint]);
static LINK: Schema = Schema(&[Bytes, Bytes, Text, Message(&KEY_VALUE), Varint, Fixed32]);
static STATUS: Schema = Schema(&[Unknown, Text, Varint]);
static KEY_VALUE: Schema = Schema(&[Text, Message(&ANY_VALUE), Varint]);
static ANY_VALUE: Schema =
    Schema(&[Text, Varint, Varint, Fixed64, Message(&ARRAY_VALUE), Message(&KEY_VALUE_LIST), Bytes, Varint]);
static ARRAY_VALUE: Schema = Schema(&[Message(&ANY_VALUE)]);
static KEY_VALUE_LIST: Schema = Schema(&[Message(&KEY_VALUE)]);

/// Messages inside one another, counted from the span or what encloses it. Readers stop at 100 from the request on,
/// which is three messages further out.
const MAX_DEPTH: usize = 96;

/// Whether a span's body is sound.
pub fn span(body: &[u8]) -> bool {
    is_sound(body, &SPAN, MAX_DEPTH)
}

/// Whether a `ResourceSpans` without its scopes is sound.
pub fn resource(content: &[u8]) -> bool {
    is_sound(content, &RESOURCE_SPANS, MAX_DEPTH)
}

/// Whether a `ScopeSpans` without its spans is sound.
pub fn scope(content: &[u8]) -> bool {
    is_sound(content, &SCOPE_SPANS, MAX_DEPTH)
}

/// Recurses at most `depth` times.
fn is_sound(message: &[u8], schema: &Schema, depth: usize) -> bool {
    let Some(deeper) = depth.checked_sub(1) else { return false };
    wire::fields(message).all(|field| {
        let Ok(field) = field else { return false };
        let place = (field.number as usize).checked_sub(1);
        match (place.and_then(|place| schema.0.get(place)), field.value) {
            (Some(Message(inner)), Value::Bytes(content)) => is_sound(content, inner, deeper),
            (Some(Text), Value::Bytes(text)) => std::str::from_utf8(text).is_ok(),
            (Some(Bytes), Value::Bytes(_))
            | (Some(Varint), Value::Varint(_))
            | (Some(Fixed32), Value::Fixed32(_))
            | (Some(Fixed64), Value::Fixed64(_)) => true,
            // Groups are long deprecated, and not every reader can skip one.
            (None | Some(Unknown), value) => value != Value::Group,
            (Some(_), _) => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::wire::{put_bytes, put_fixed64, put_uint};
    use super::*;

    fn span_with(number: u32, content: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        put_bytes(&mut body, 1, &[1; 16]);
        put_bytes(&mut body, 2, &[2; 8]);
        put_uint(&mut body, 6, 2);
        put_fixed64(&mut body, 7, 100);
        put_bytes(&mut body, number, content);
        body
    }

    fn attribute(value: &[u8]) -> Vec<u8> {
        let mut key_value = Vec::new();
        put_bytes(&mut key_value, 1, b"key");
        put_bytes(&mut key_value, 2, value);
        key_value
    }

    fn nested(depth: usize) -> Vec<u8> {
        let mut value = Vec::new();
        for _ in 0..depth {
            let mut list = Vec::new();
            put_bytes(&mut list, 1, &value);
            value.clear();
            put_bytes(&mut value, 5, &list);
        }
        attribute(&value)
    }

    #[test]
    fn a_span_as_sdks_send_it_is_sound() {
        assert!(span(&span_with(5, "caf\u{e9}".as_bytes())));
        assert!(span(&span_with(9, &attribute(&[0x0a, 1, b'x']))));
        assert!(span(&span_with(99, b"\xff")), "nobody knows what an unknown field holds");
        assert!(span(&span_with(9, &nested(40))));
    }

    #[test]
    fn what_strict_readers_refuse_is_not() {
        let cases = [
            ("a name that is not UTF-8", span_with(5, b"\xff\xfe")),
            ("a tracestate that is not UTF-8", span_with(3, b"\xff")),
            ("a value that is not UTF-8", span_with(9, &attribute(&[0x0a, 1, 0xff]))),
            ("a value of another wire type", span_with(9, &attribute(&[0x08, 1]))),
            ("an attribute that is no message", span_with(9, b"\x0a")),
            ("an event that is no message", span_with(11, b"\xff")),
            ("64 nested arrays", span_with(9, &nested(64))),
            ("a group", [span_with(5, b"x"), vec![0xa3, 0x06, 0xa4, 0x06]].concat()),
        ];
        for (what, body) in cases {
            assert!(!span(&body), "{what}");
        }
    }

    #[test]
    fn what_encloses_spans_is_judged_alike() {
        let mut content = Vec::new();
        put_bytes(&mut content, 1, &{
            let mut resource = Vec::new();
            put_bytes(&mut resource, 1, &attribute(&[0x0a, 1, b'x']));
            resource
        });
        assert!(resource(&content));
        put_bytes(&mut content, 3, b"\xff");
        assert!(!resource(&content) && !scope(&content));
    }
}
