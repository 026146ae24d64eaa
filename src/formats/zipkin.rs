//! Zipkin v2 JSON, <https://zipkin.io/zipkin-api/#/default/post_spans>: a list of spans with microseconds,
//! annotations, tags of text, and both ends of a call under one id.

use std::borrow::Cow;
use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use serde::Deserialize;

use super::request::Request;
use super::values::{self, StatusTags, attribute, text_attribute};
use crate::otlp::json;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ZipkinSpan<'a> {
    #[serde(borrow)]
    trace_id: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    parent_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    timestamp: Option<u64>,
    #[serde(default)]
    duration: Option<u64>,
    #[serde(borrow, default)]
    local_endpoint: Option<Endpoint<'a>>,
    #[serde(borrow, default)]
    remote_endpoint: Option<Endpoint<'a>>,
    #[serde(borrow, default)]
    annotations: Option<Vec<Annotation<'a>>>,
    #[serde(borrow, default)]
    tags: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
    /// Only the first version has these.
    #[serde(default)]
    binary_annotations: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint<'a> {
    #[serde(borrow, default)]
    service_name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    ipv4: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    ipv6: Option<Cow<'a, str>>,
    #[serde(default)]
    port: Option<u16>,
}

#[derive(Deserialize)]
struct Annotation<'a> {
    #[serde(default)]
    timestamp: u64,
    #[serde(borrow, default)]
    value: Cow<'a, str>,
}

/// Reads spans, each a JSON object.
///
/// # Errors
/// A sentence where they are of Zipkin's first version.
pub(super) fn decode(spans: &[&str]) -> Result<json::Decoded, String> {
    let mut request = Request::default();
    for text in spans {
        let span: ZipkinSpan<'_> = match serde_json::from_str(text) {
            Ok(span) => span,
            Err(error) => {
                request.refuse(format!("a Zipkin span: {error}"));
                continue;
            }
        };
        if span.binary_annotations.is_some() {
            return Err("holds Zipkin JSON of version 1; only version 2 is read".to_owned());
        }
        let local = span.local_endpoint.as_ref();
        let service = local.and_then(|endpoint| endpoint.service_name.as_deref()).unwrap_or_default();
        let address = local.and_then(Endpoint::address);
        let resource = || address.map(|address| vec![text_attribute("host.ip", address)]).unwrap_or_default();
        match otlp(&span) {
            Ok(otlp) => request.push(otlp, service, address.unwrap_or_default(), resource),
            Err(problem) => request.refuse(format!("Zipkin span {}: {problem}", span.id)),
        }
    }
    Ok(request.encode())
}

fn otlp(span: &ZipkinSpan<'_>) -> Result<Span, &'static str> {
    const TOO_LATE: &str = "timestamp and duration must be microseconds before the year 2554";
    let parent = span.parent_id.as_deref().filter(|parent| !parent.is_empty());
    let start = span.timestamp.filter(|micros| *micros > 0).ok_or("has no timestamp")?;
    let start = values::nanos(start).ok_or(TOO_LATE)?;
    let length = values::nanos(span.duration.unwrap_or(0)).ok_or(TOO_LATE)?;
    let mut otlp = Span {
        trace_id: values::id::<16>(&span.trace_id).ok_or("traceId must be at most 32 hexadecimal digits")?,
        span_id: values::id::<8>(&span.id).ok_or("id must be at most 16 hexadecimal digits")?,
        parent_span_id: match parent {
            Some(parent) => {
                values::id::<8>(parent).ok_or("parentId must be at most 16 hexadecimal digits")?
            }
            None => Vec::new(),
        },
        name: span.name.as_deref().unwrap_or_default().to_owned(),
        kind: kind(span.kind.as_deref().unwrap_or_default()) as i32,
        start_time_unix_nano: start,
        end_time_unix_nano: start.checked_add(length).ok_or(TOO_LATE)?,
        events: span.annotations.iter().flatten().filter_map(event).collect(),
        ..Span::default()
    };
    let mut status = StatusTags::default();
    for (key, value) in span.tags.iter().flatten() {
        if !status.take(key, value) {
            otlp.attributes.push(text_attribute(key, value));
        }
    }
    otlp.status = status.status();
    if let Some(remote) = &span.remote_endpoint {
        if let Some(service) = remote.service_name.as_deref().filter(|service| !service.is_empty()) {
            otlp.attributes.push(text_attribute("peer.service", service));
        }
        if let Some(address) = remote.address() {
            otlp.attributes.push(text_attribute("network.peer.address", address));
        }
        if let Some(port) = remote.port {
            otlp.attributes.push(attribute("network.peer.port", Value::IntValue(i64::from(port))));
        }
    }
    Ok(otlp)
}

impl Endpoint<'_> {
    fn address(&self) -> Option<&str> {
        self.ipv4.as_deref().or(self.ipv6.as_deref()).filter(|address| !address.is_empty())
    }
}

fn kind(name: &str) -> SpanKind {
    match name {
        "SERVER" => SpanKind::Server,
        "CLIENT" => SpanKind::Client,
        "PRODUCER" => SpanKind::Producer,
        "CONSUMER" => SpanKind::Consumer,
        _ => SpanKind::Internal,
    }
}

fn event(annotation: &Annotation<'_>) -> Option<Event> {
    Some(Event {
        time_unix_nano: values::nanos(annotation.timestamp)?,
        name: annotation.value.clone().into_owned(),
        ..Event::default()
    })
}
