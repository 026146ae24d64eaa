//! Jaeger JSON: what its API answers, which its page hands out for download.
//!
//! <https://github.com/jaegertracing/jaeger-idl/blob/main/proto/api_v2/model.proto>, in the JSON of its query service:
//! microseconds, hexadecimal ids, tags with types, processes by name.

use std::borrow::Cow;
use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::request::Request;
use super::values::{self, StatusTags, attribute, text_attribute};
use crate::otlp::json;

/// One trace down to its spans, which are text still.
#[derive(Deserialize)]
struct JaegerTrace<'a> {
    #[serde(borrow, default)]
    spans: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    processes: Option<BTreeMap<Cow<'a, str>, Process<'a>>>,
}

#[derive(Deserialize)]
struct Process<'a> {
    #[serde(borrow, default, rename = "serviceName")]
    service_name: Cow<'a, str>,
    #[serde(borrow, default)]
    tags: Option<Vec<Tag<'a>>>,
}

#[derive(Deserialize)]
struct Tag<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    value: serde_json::Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JaegerSpan<'a> {
    #[serde(borrow, rename = "traceID")]
    trace_id: Cow<'a, str>,
    #[serde(borrow, rename = "spanID")]
    span_id: Cow<'a, str>,
    /// Of versions before there were references.
    #[serde(borrow, default, rename = "parentSpanID")]
    parent_span_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    operation_name: Cow<'a, str>,
    #[serde(borrow, default)]
    references: Option<Vec<Reference<'a>>>,
    start_time: u64,
    duration: u64,
    #[serde(borrow, default)]
    tags: Option<Vec<Tag<'a>>>,
    #[serde(borrow, default)]
    logs: Option<Vec<Log<'a>>>,
    #[serde(borrow, default, rename = "processID")]
    process_id: Option<Cow<'a, str>>,
    /// As it is stored, each span has its process itself.
    #[serde(borrow, default)]
    process: Option<Process<'a>>,
}

#[derive(Deserialize)]
struct Reference<'a> {
    #[serde(borrow, default, rename = "refType")]
    kind: Cow<'a, str>,
    #[serde(borrow, default, rename = "traceID")]
    trace_id: Cow<'a, str>,
    #[serde(borrow, default, rename = "spanID")]
    span_id: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Log<'a> {
    #[serde(default)]
    timestamp: u64,
    #[serde(borrow, default)]
    fields: Option<Vec<Tag<'a>>>,
}

/// One element of `data`.
///
/// # Errors
/// A sentence where it is no trace of Jaeger's.
pub(super) fn decode(text: &str) -> Result<json::Decoded, String> {
    let trace: JaegerTrace<'_> =
        serde_json::from_str(text).map_err(|error| format!("holds a Jaeger trace that is none: {error}"))?;
    let processes = trace.processes.unwrap_or_default();
    let mut request = Request::default();
    for raw in trace.spans.unwrap_or_default() {
        let span: JaegerSpan<'_> = match serde_json::from_str(raw.get()) {
            Ok(span) => span,
            Err(error) => {
                request.refuse(format!("a Jaeger span: {error}"));
                continue;
            }
        };
        let (id, embedded) = match (&span.process, &span.process_id) {
            (Some(process), _) => (process.service_name.as_ref(), Some(process)),
            (None, Some(id)) => (id.as_ref(), None),
            (None, None) => ("", None),
        };
        let process = embedded.or(processes.get(id));
        let service = process.map_or("", |process| process.service_name.as_ref()).to_owned();
        let attributes = || process.and_then(|process| process.tags.as_deref()).map_or(Vec::new(), all);
        match otlp(&span) {
            Ok(otlp) => request.push(otlp, &service, id, attributes),
            Err(problem) => request.refuse(format!("Jaeger span {}: {problem}", span.span_id)),
        }
    }
    Ok(request.encode())
}

fn otlp(span: &JaegerSpan<'_>) -> Result<Span, &'static str> {
    const TOO_LATE: &str = "startTime and duration must be microseconds before the year 2554";
    let trace_id = values::id::<16>(&span.trace_id).ok_or("traceID must be at most 32 hexadecimal digits")?;
    let span_id = values::id::<8>(&span.span_id).ok_or("spanID must be at most 16 hexadecimal digits")?;
    let start = values::nanos(span.start_time).ok_or(TOO_LATE)?;
    let end = values::nanos(span.duration).and_then(|length| start.checked_add(length)).ok_or(TOO_LATE)?;
    let (parent_span_id, links) = relations(span, &trace_id);
    let mut otlp = Span {
        trace_id,
        span_id,
        parent_span_id,
        name: span.operation_name.clone().into_owned(),
        kind: SpanKind::Internal as i32,
        start_time_unix_nano: start,
        end_time_unix_nano: end,
        links,
        events: span.logs.iter().flatten().filter_map(event).collect(),
        ..Span::default()
    };
    let mut status = StatusTags::default();
    for tag in span.tags.iter().flatten() {
        if tag.key == "span.kind" {
            otlp.kind = kind(tag.value.as_str().unwrap_or_default()) as i32;
        } else if !status.take(&tag.key, &tag.text()) {
            otlp.attributes.push(tag.attribute());
        }
    }
    otlp.status = status.status();
    Ok(otlp)
}

/// The parent is what the span is a child of; without such, what it follows, as Jaeger's page has it. The others
/// are links.
fn relations(span: &JaegerSpan<'_>, trace: &[u8]) -> (Vec<u8>, Vec<Link>) {
    let ids = |reference: &Reference<'_>| {
        Some((values::id::<16>(&reference.trace_id)?, values::id::<8>(&reference.span_id)?))
    };
    let references: Vec<_> = span
        .references
        .iter()
        .flatten()
        .filter_map(|reference| Some((reference.kind.as_ref(), ids(reference)?)))
        .collect();
    let of_kind = |wanted: &str| {
        references.iter().position(|(kind, (of_trace, _))| *kind == wanted && of_trace == trace)
    };
    let parent = of_kind("CHILD_OF").or_else(|| of_kind("FOLLOWS_FROM"));
    let own = span.parent_span_id.as_deref().and_then(values::id::<8>);
    let mut parent_id = own.unwrap_or_default();
    let mut links = Vec::new();
    for (place, (kind, (trace_id, span_id))) in references.into_iter().enumerate() {
        if Some(place) == parent {
            parent_id = span_id;
            continue;
        }
        let kind = if kind == "CHILD_OF" { "child_of" } else { "follows_from" };
        let attributes = vec![text_attribute("opentracing.ref_type", kind)];
        links.push(Link { trace_id, span_id, attributes, ..Link::default() });
    }
    (parent_id, links)
}

fn kind(name: &str) -> SpanKind {
    match name {
        "server" => SpanKind::Server,
        "client" => SpanKind::Client,
        "producer" => SpanKind::Producer,
        "consumer" => SpanKind::Consumer,
        _ => SpanKind::Internal,
    }
}

/// A log entry is named by its field `event`, or by its message.
fn event(log: &Log<'_>) -> Option<Event> {
    let fields = log.fields.as_deref().unwrap_or_default();
    let name = ["event", "message"].into_iter().find_map(|key| fields.iter().find(|field| field.key == key));
    let others = fields.iter().filter(|field| name.is_none_or(|name| !std::ptr::eq(*field, name)));
    Some(Event {
        time_unix_nano: values::nanos(log.timestamp)?,
        name: name.map_or_else(|| "log".to_owned(), Tag::text),
        attributes: others.map(Tag::attribute).collect(),
        ..Event::default()
    })
}

fn all(tags: &[Tag<'_>]) -> Vec<KeyValue> {
    tags.iter().filter(|tag| tag.key != "service.name").map(Tag::attribute).collect()
}

impl Tag<'_> {
    fn text(&self) -> String {
        match &self.value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// By its type; a value that is not of its type is text.
    fn attribute(&self) -> KeyValue {
        let text = || Value::StringValue(self.text());
        let value = match self.kind.as_ref() {
            "bool" => self.text().parse().map_or_else(|_| text(), Value::BoolValue),
            "int64" => self.text().parse().map_or_else(|_| text(), Value::IntValue),
            "float64" => self.text().parse().map_or_else(|_| text(), Value::DoubleValue),
            _ => text(),
        };
        attribute(&self.key, value)
    }
}
