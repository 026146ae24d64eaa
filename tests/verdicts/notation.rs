//! Traces as text: a span a line, the called below the caller and further in.
//!
//! ```text
//! web       server  /pay  0..300
//!   web     client  pay   10..290  error server.address=pay
//!     pay   server  pay   12..288  pod=pay-1 clock=-3000
//! ```
//!
//! Service, kind, name (`_` is a blank), from and until in milliseconds; then what else there is: `error`, an attribute,
//! `pod` of its resource, `clock` in milliseconds off, `event=NAME@MS`, `id`, `parent` (0 is none, 99 is absent).

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

pub(crate) const EPOCH: u64 = 1_700_000_000_000_000_000;

/// The request that holds the spans of `text` as trace `number`, begun so many nanoseconds after [`EPOCH`].
pub(crate) fn request(text: &str, number: u64, begun: u64) -> ExportTraceServiceRequest {
    // Ids are spread as random ones are, for sampling goes by them.
    let low = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let trace_id = [number.to_be_bytes(), low.to_be_bytes()].concat();
    let mut above: Vec<(usize, u64)> = Vec::new();
    let mut resource_spans = Vec::new();
    for (line, next) in text.lines().filter(|line| !line.trim().is_empty()).zip(1..) {
        let depth = line.len() - line.trim_start().len();
        above.retain(|(other, _)| *other < depth);
        let parent = above.last().map_or(0, |(_, id)| *id);
        let mut written = Written::read(line, begun);
        let id = written.id.unwrap_or(next);
        above.push((depth, id));
        let parent = written.parent.unwrap_or(parent);
        written.span.trace_id.clone_from(&trace_id);
        written.span.span_id = id.to_be_bytes().to_vec();
        written.span.parent_span_id = if parent == 0 { Vec::new() } else { parent.to_be_bytes().to_vec() };
        let resource = Resource { attributes: written.resource, ..Resource::default() };
        resource_spans.push(ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans { spans: vec![written.span], ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        });
    }
    ExportTraceServiceRequest { resource_spans }
}

struct Written {
    span: Span,
    resource: Vec<KeyValue>,
    id: Option<u64>,
    parent: Option<u64>,
}

impl Written {
    fn read(line: &str, begun: u64) -> Self {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [service, kind, name, during, rest @ ..] = &words[..] else { panic!("{line}") };
        let (from, until) = during.split_once("..").expect("from and until");
        let kind = match *kind {
            "internal" => SpanKind::Internal,
            "server" => SpanKind::Server,
            "client" => SpanKind::Client,
            "producer" => SpanKind::Producer,
            "consumer" => SpanKind::Consumer,
            "unspecified" => SpanKind::Unspecified,
            other => panic!("{other} is no kind"),
        };
        let clock: f64 = rest.iter().find_map(|word| word.strip_prefix("clock=")).map_or(0.0, number);
        let at = |ms: f64| (EPOCH + begun).wrapping_add_signed(((ms + clock) * 1e6).round() as i64);
        let mut written = Self {
            span: Span {
                name: name.replace('_', " "),
                kind: kind as i32,
                start_time_unix_nano: at(number(from)),
                end_time_unix_nano: at(number(until)),
                ..Span::default()
            },
            resource: vec![attribute("service.name", service)],
            id: None,
            parent: None,
        };
        for word in rest {
            match word.split_once('=') {
                None if *word == "error" => {
                    written.span.status = Some(Status { code: 2, ..Status::default() });
                }
                Some(("pod", pod)) => written.resource.push(attribute("k8s.pod.name", pod)),
                Some(("clock", _)) => {}
                Some(("event", event)) => {
                    let (name, ms) = event.split_once('@').expect("a name and a time");
                    let time_unix_nano = at(number(ms));
                    let event = Event { name: name.replace('_', " "), time_unix_nano, ..Event::default() };
                    written.span.events.push(event);
                }
                Some(("id", id)) => written.id = id.parse().ok(),
                Some(("parent", parent)) => written.parent = parent.parse().ok(),
                Some(("link", span)) => {
                    let span: u64 = span.parse().expect("a number");
                    let (trace_id, span_id) = (vec![7; 16], span.to_be_bytes().to_vec());
                    written.span.links.push(Link { trace_id, span_id, ..Link::default() });
                }
                Some((key, value)) => written.span.attributes.push(attribute(key, value)),
                None => panic!("{word} in {line}"),
            }
        }
        written
    }
}

fn number(text: &str) -> f64 {
    text.parse().expect("a number")
}

fn attribute(key: &str, text: &str) -> KeyValue {
    // Of these conventions only ports and codes are numbers.
    let value = match text.parse() {
        Ok(number) => Value::IntValue(number),
        Err(_) => Value::StringValue(text.to_owned()),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
