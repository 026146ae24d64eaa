//! Spans that stay open for as long as somebody else has something to say, or nothing: streams and long polls. How long
//! they last says nothing about work.

use std::ops::ControlFlow;

use crate::otlp::attribute::{AnyValue, Attribute, attributes};
use crate::otlp::span::{Event, Kind, SpanView};

/// SDKs keep at most so many events of a span; more are not looked at.
const MAX_EVENTS: usize = 128;

/// Where `Event.attributes` stands.
const EVENT_ATTRIBUTES: u32 = 3;

/// Whether a span says of itself that it is a stream or a long poll:
///
/// - a request that was turned into a WebSocket (status 101, a `ws` or `wss` scheme, protocol `websocket`);
/// - server-sent events, where headers are captured (`accept` of the request, `content-type` of the response);
/// - a streaming RPC, by its kind (`grpc.method.kind`) or by a second message in one direction (events `rpc.message`,
///   formerly `message`);
/// - asking for messages (`messaging.operation.type` = `receive`, SQS `ReceiveMessage`), which waits for one.
///
/// Formerly `messaging.operation` = `receive` stood on spans of whoever works on a message as well, so it counts on CLIENT
/// spans only. Follows the semantic conventions' stable names and the older ones beside them.
pub(crate) fn is_stream(span: &SpanView<'_>) -> bool {
    let mut poll = Poll::default();
    let is_said = span.attributes().any(|attribute| says_stream(&attribute, span.head.kind, &mut poll));
    is_said || poll.is_sqs() || has_second_message(span.events().take(MAX_EVENTS))
}

fn says_stream(attribute: &Attribute<'_>, kind: Kind, poll: &mut Poll) -> bool {
    let value = attribute.value;
    let is_text = |text: &str| value.any_text(|value| value.eq_ignore_ascii_case(text.as_bytes()));
    match attribute.key {
        b"http.response.status_code" | b"http.status_code" => value == AnyValue::Int(101) || is_text("101"),
        b"url.scheme" | b"http.scheme" => is_text("ws") || is_text("wss"),
        b"network.protocol.name" => is_text("websocket"),
        b"http.request.header.accept"
        | b"http.response.header.content-type"
        | b"http.response.header.content_type" => value.any_text(is_event_stream),
        b"grpc.method.kind" | b"rpc.grpc.kind" => value.any_text(|kind| kind.ends_with(b"_streaming")),
        b"messaging.operation.type" => is_text("receive"),
        b"messaging.operation" => kind == Kind::Client && is_text("receive"),
        b"rpc.system" | b"rpc.system.name" => {
            poll.is_aws = is_text("aws-api");
            false
        }
        b"rpc.method" => {
            poll.is_receive = value.any_text(|method| method.ends_with(b"ReceiveMessage"));
            false
        }
        _ => false,
    }
}

/// `text/event-stream`, with parameters or without. An `accept` that takes other types as well leaves it open what comes.
fn is_event_stream(header: &[u8]) -> bool {
    let essence = header.split(|byte| *byte == b';').next().unwrap_or(header);
    essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

/// What an AWS SDK says of a call.
#[derive(Default)]
struct Poll {
    is_aws: bool,
    is_receive: bool,
}

impl Poll {
    fn is_sqs(&self) -> bool {
        self.is_aws && self.is_receive
    }
}

/// A call and its answer are one message each way; whoever sends a second one streams.
fn has_second_message<'a>(mut events: impl Iterator<Item = Event<'a>>) -> bool {
    let second = events.try_fold([0_u32; 2], |mut seen, event| {
        if !matches!(event.name, b"message" | b"rpc.message") {
            return ControlFlow::Continue(seen);
        }
        let mut direction = None;
        let mut number = 0;
        for attribute in attributes(event.body, EVENT_ATTRIBUTES) {
            match (attribute.key, attribute.value) {
                (b"rpc.message.type" | b"message.type", AnyValue::String(b"SENT")) => direction = Some(0),
                (b"rpc.message.type" | b"message.type", AnyValue::String(b"RECEIVED")) => direction = Some(1),
                (b"rpc.message.id" | b"message.id", AnyValue::Int(id)) => number = id,
                _ => {}
            }
        }
        let Some(count) = direction.and_then(|direction: usize| seen.get_mut(direction)) else {
            return ControlFlow::Continue(seen);
        };
        *count += 1;
        // Of many messages an SDK keeps the last events, so their number may say what their count does not.
        if *count > 1 || number > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(seen) }
    });
    second.is_break()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::wire::{put_bytes, put_uint};

    fn text(text: &str) -> Vec<u8> {
        let mut value = Vec::new();
        put_bytes(&mut value, 1, text.as_bytes());
        value
    }

    fn int(number: u64) -> Vec<u8> {
        let mut value = Vec::new();
        put_uint(&mut value, 3, number);
        value
    }

    fn array(texts: &[&str]) -> Vec<u8> {
        let (mut list, mut value) = (Vec::new(), Vec::new());
        for item in texts {
            put_bytes(&mut list, 1, &text(item));
        }
        put_bytes(&mut value, 5, &list);
        value
    }

    fn put_attribute(out: &mut Vec<u8>, field: u32, key: &str, value: &[u8]) {
        let mut attribute = Vec::new();
        put_bytes(&mut attribute, 1, key.as_bytes());
        put_bytes(&mut attribute, 2, value);
        put_bytes(out, field, &attribute);
    }

    /// Whether a span with these attributes, and with these messages sent and received, is a stream.
    fn check(kind: Kind, attributes: &[(&str, Vec<u8>)], messages: &[(&str, u64)], expected: bool) {
        for (name, prefix) in [("message", ""), ("rpc.message", "rpc.")] {
            let mut body = Vec::new();
            put_bytes(&mut body, 1, &[1; 16]);
            put_bytes(&mut body, 2, &[2; 8]);
            put_uint(&mut body, 6, kind as u64);
            for (key, value) in attributes {
                put_attribute(&mut body, 9, key, value);
            }
            for (direction, id) in messages {
                let mut event = Vec::new();
                put_bytes(&mut event, 2, name.as_bytes());
                put_attribute(&mut event, 3, &format!("{prefix}message.type"), &text(direction));
                put_attribute(&mut event, 3, &format!("{prefix}message.id"), &int(*id));
                put_bytes(&mut body, 11, &event);
            }
            let span = SpanView::read(&body).expect("valid");
            assert_eq!(is_stream(&span), expected, "{attributes:?} {messages:?}");
        }
    }

    #[test]
    fn what_spans_say_of_streams_and_long_polls_is_heard() {
        for attributes in [
            vec![("http.response.status_code", int(101))],
            vec![("http.status_code", int(101))],
            vec![("http.scheme", text("ws"))],
            vec![("url.scheme", text("wss"))],
            vec![("network.protocol.name", text("websocket"))],
            vec![("http.response.header.content-type", array(&["text/event-stream; charset=utf-8"]))],
            vec![("http.response.header.content_type", text("text/event-stream"))],
            vec![("http.request.header.accept", array(&["Text/Event-Stream"]))],
            vec![("grpc.method.kind", text("server_streaming"))],
            vec![("messaging.operation.type", text("receive"))],
            vec![("rpc.method", text("ReceiveMessage")), ("rpc.system", text("aws-api"))],
            vec![("rpc.system.name", text("aws-api")), ("rpc.method", text("SQS/ReceiveMessage"))],
        ] {
            check(Kind::Server, &attributes, &[], true);
        }
        check(Kind::Client, &[("messaging.operation", text("receive"))], &[], true);
    }

    #[test]
    fn plain_calls_and_work_on_messages_are_none() {
        for attributes in [
            vec![],
            vec![("http.response.status_code", int(200)), ("url.scheme", text("https"))],
            vec![("http.response.header.content-type", array(&["application/json"]))],
            vec![("http.request.header.accept", array(&["application/json, text/event-stream"]))],
            vec![("grpc.method.kind", text("unary"))],
            vec![("messaging.operation.type", text("process"))],
            vec![("messaging.operation", text("receive"))],
            vec![("rpc.method", text("ReceiveMessage")), ("rpc.system", text("grpc"))],
            vec![("rpc.method", text("GetItem")), ("rpc.system", text("aws-api"))],
        ] {
            check(Kind::Consumer, &attributes, &[], false);
        }
    }

    #[test]
    fn a_second_message_in_one_direction_makes_a_stream() {
        check(Kind::Server, &[], &[("RECEIVED", 1), ("SENT", 1)], false);
        check(Kind::Server, &[], &[("RECEIVED", 1), ("SENT", 1), ("SENT", 2)], true);
        check(Kind::Client, &[], &[("SENT", 1), ("SENT", 1)], true);
        check(Kind::Client, &[], &[("RECEIVED", 700)], true);
        check(Kind::Client, &[], &[("DROPPED", 7), ("DROPPED", 8)], false);
    }
}
