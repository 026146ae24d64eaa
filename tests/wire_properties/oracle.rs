//! What prost says our reader has to answer, and the checks against it.

use std::collections::BTreeMap;

use laggard::assemble::Trace;
use laggard::otlp::attribute::{self, AnyValue, Attribute};
use laggard::otlp::batch::Batch;
use laggard::otlp::span::{Kind, SpanFault, SpanHead, SpanView};
use laggard::otlp::{SpanId, TraceId};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use proptest::prelude::*;
use prost::{DecodeError, Message};

use crate::rewrite;

/// The part of a request that we judge: the rest is carried as it is, so it may be anything.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Skeleton {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(bytes = "vec", tag = "1")]
    resource: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
    #[prost(bytes = "vec", tag = "3")]
    schema_url: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(bytes = "vec", tag = "1")]
    scope: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<SkeletonSpan>,
    #[prost(bytes = "vec", tag = "3")]
    schema_url: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct SkeletonSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    trace_state: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    name: Vec<u8>,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
    #[prost(bytes = "vec", repeated, tag = "9")]
    attributes: Vec<Vec<u8>>,
    #[prost(uint32, tag = "10")]
    dropped_attributes_count: u32,
    #[prost(bytes = "vec", repeated, tag = "11")]
    events: Vec<Vec<u8>>,
    #[prost(uint32, tag = "12")]
    dropped_events_count: u32,
    #[prost(bytes = "vec", repeated, tag = "13")]
    links: Vec<Vec<u8>>,
    #[prost(uint32, tag = "14")]
    dropped_links_count: u32,
    #[prost(message, optional, tag = "15")]
    status: Option<SkeletonStatus>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct SkeletonStatus {
    #[prost(int32, tag = "3")]
    code: i32,
}

/// Any bytes at all: what prost accepts we accept and read alike, and what we accept has a sound skeleton.
pub(crate) fn check_bytes(bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut batch = Batch::default();
    let ours = batch.read(bytes);
    prop_assert_eq!(Trace::all_in(bytes).is_ok(), ours.is_ok());
    if let Ok(request) = ExportTraceServiceRequest::decode(bytes) {
        prop_assert_eq!(ours, Ok(()), "prost accepts it");
        check_heads(&batch, &request)?;
        let accepted = spans(&request).filter(|span| expected_head(span).is_ok());
        for (span, oracle) in batch.spans.iter().zip(accepted) {
            check_attributes(attribute::attributes(span.body.of(bytes), 9), &oracle.attributes)?;
        }
    }
    if ours.is_err() {
        return Ok(());
    }
    if let Err(error) = Skeleton::decode(bytes) {
        prop_assert!(is_about_groups(&error), "{error}, yet accepted");
    }
    for span in &batch.spans {
        let view = SpanView::read(span.body.of(bytes)).expect("accepted a moment ago");
        // Whatever the parts are, walking them ends.
        let _ = (view.name(), view.attributes().count(), view.events().count());
    }
    check_round_trip(bytes)
}

/// Unknown groups are skipped with a counter at any depth; prost stops at 100 levels and pairs the inner
/// ends with their starts. OTLP has no groups, so this is about bytes that nobody reads.
fn is_about_groups(error: &DecodeError) -> bool {
    let error = error.to_string();
    error.contains("recursion limit") || error.contains("unexpected end group tag")
}

/// The spans of `batch` are those of `request` that may be taken, in order; the others are counted.
pub(crate) fn check_heads(batch: &Batch, request: &ExportTraceServiceRequest) -> Result<(), TestCaseError> {
    let expected: Vec<_> = spans(request).map(expected_head).collect();
    let heads: Vec<_> = batch.spans.iter().map(|span| span.head).collect();
    prop_assert_eq!(heads, expected.iter().filter_map(|head| head.ok()).collect::<Vec<_>>());
    let faults: Vec<_> = expected.iter().filter_map(|head| head.err()).collect();
    prop_assert_eq!((batch.refused, batch.fault), (faults.len() as u64, faults.first().copied()));
    Ok(())
}

/// What [`laggard::otlp::span::read_head`] has to answer.
pub(crate) fn expected_head(span: &Span) -> Result<SpanHead, SpanFault> {
    let parent_id = match &span.parent_span_id[..] {
        [] => None,
        parent if parent.len() == 8 => SpanId::from_slice(parent),
        _ => return Err(first_fault(span).unwrap_or(SpanFault::ParentSpanId)),
    };
    Ok(SpanHead {
        trace_id: TraceId::from_slice(&span.trace_id).ok_or(SpanFault::TraceId)?,
        span_id: SpanId::from_slice(&span.span_id).ok_or(SpanFault::SpanId)?,
        parent_id,
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        kind: match span.kind {
            1 => Kind::Internal,
            2 => Kind::Server,
            3 => Kind::Client,
            4 => Kind::Producer,
            5 => Kind::Consumer,
            _ => Kind::Unspecified,
        },
        is_error: span.status.as_ref().is_some_and(|status| status.code == 2),
    })
}

fn first_fault(span: &Span) -> Option<SpanFault> {
    if TraceId::from_slice(&span.trace_id).is_none() {
        return Some(SpanFault::TraceId);
    }
    SpanId::from_slice(&span.span_id).is_none().then_some(SpanFault::SpanId)
}

/// The spans that may be taken, by trace.
pub(crate) fn by_trace(request: &ExportTraceServiceRequest) -> BTreeMap<TraceId, Vec<&Span>> {
    let mut traces: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for span in spans(request) {
        if let Ok(head) = expected_head(span) {
            traces.entry(head.trace_id).or_default().push(span);
        }
    }
    traces
}

fn spans(request: &ExportTraceServiceRequest) -> impl Iterator<Item = &Span> {
    request.resource_spans.iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans)
}

/// Keys and values are equal, in order.
pub(crate) fn check_attributes<'a>(
    ours: impl Iterator<Item = Attribute<'a>>,
    oracle: &[KeyValue],
) -> Result<(), TestCaseError> {
    let ours: Vec<_> = ours
        .map(|attribute| match attribute.value {
            // Its bytes are read when somebody asks what is in it.
            AnyValue::Array(_) => Attribute { value: AnyValue::Array(&[]), ..attribute },
            _ => attribute,
        })
        .collect();
    let oracle: Vec<_> = oracle
        .iter()
        .map(|attribute| Attribute {
            key: attribute.key.as_bytes(),
            value: match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
                None => AnyValue::Empty,
                Some(Value::StringValue(text)) => AnyValue::String(text.as_bytes()),
                Some(Value::BoolValue(truth)) => AnyValue::Bool(*truth),
                Some(Value::IntValue(number)) => AnyValue::Int(*number),
                Some(Value::DoubleValue(number)) => AnyValue::Double(*number),
                Some(Value::ArrayValue(_)) => AnyValue::Array(&[]),
                Some(_) => AnyValue::Other,
            },
        })
        .collect();
    // By text, because a NaN is not equal to itself.
    prop_assert_eq!(format!("{ours:?}"), format!("{oracle:?}"));
    Ok(())
}

/// Taken apart into traces and written again, every span stands byte for byte under the bytes of its
/// resource and of its scope, in order, and what stood together stands together.
pub(crate) fn check_round_trip(request: &[u8]) -> Result<(), TestCaseError> {
    let Some(expected) = flatten(request) else { return Ok(()) };
    let mut expected_by_trace: BTreeMap<TraceId, Vec<Flat>> = BTreeMap::new();
    for span in expected {
        if let Some(accepted) = SpanView::read(&span.body) {
            expected_by_trace.entry(accepted.head.trace_id).or_default().push(span);
        }
    }
    let mut joined = Vec::new();
    let mut count = 0;
    for trace in Trace::all_in(request).expect("accepted before") {
        let mut encoded = Vec::new();
        trace.encode(&mut encoded);
        let mut expected = expected_by_trace.remove(&trace.id()).unwrap_or_default();
        let mut written = flatten(&encoded).expect("valid where the request is");
        renumber(&mut expected);
        renumber(&mut written);
        prop_assert_eq!(written, expected);
        joined.extend(encoded);
        count += trace.len();
    }
    prop_assert!(expected_by_trace.is_empty());
    prop_assert_eq!(flatten(&joined).expect("a concatenation of requests is one").len(), count);
    Ok(())
}

/// A span and everything around it that is not a span.
#[derive(Debug, PartialEq)]
struct Flat {
    group: (usize, usize),
    resource: Vec<u8>,
    scope: Vec<u8>,
    body: Vec<u8>,
}

fn flatten(request: &[u8]) -> Option<Vec<Flat>> {
    let mut spans = Vec::new();
    for (resource_index, resource_spans) in children(request, 1)?.into_iter().enumerate() {
        let resource = without(resource_spans, 2)?;
        for (scope_index, scope_spans) in children(resource_spans, 2)?.into_iter().enumerate() {
            let scope = without(scope_spans, 2)?;
            for body in children(scope_spans, 2)? {
                spans.push(Flat {
                    group: (resource_index, scope_index),
                    resource: resource.clone(),
                    scope: scope.clone(),
                    body: body.to_vec(),
                });
            }
        }
    }
    Some(spans)
}

fn children(message: &[u8], number: u32) -> Option<Vec<&[u8]>> {
    let fields = rewrite::fields(message)?;
    Some(
        fields.into_iter().filter(|field| field.number == number).filter_map(|field| field.payload).collect(),
    )
}

fn without(message: &[u8], number: u32) -> Option<Vec<u8>> {
    let fields = rewrite::fields(message)?;
    Some(fields.iter().filter(|field| field.number != number).flat_map(|field| field.raw).copied().collect())
}

/// Counts resources, and scopes in each, from 0 in order of appearance.
fn renumber(spans: &mut [Flat]) {
    let mut last = None;
    let mut next = (0, 0);
    for span in spans {
        if let Some((resource, scope)) = last {
            if span.group.0 != resource {
                next = (next.0 + 1, 0);
            } else if span.group.1 != scope {
                next.1 += 1;
            }
        }
        last = Some(span.group);
        span.group = next;
    }
}
