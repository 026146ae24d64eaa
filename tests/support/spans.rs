//! Traces as tests write them down, and as they come back.

use std::ops::Range;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, status};
use prost::Message;

/// When every trace begins, Unix nanoseconds.
const EPOCH: u64 = 1_700_000_000_000_000_000;

/// One trace to send. Span ids are small numbers, times milliseconds from its beginning.
#[derive(Clone, Debug)]
pub struct TraceBuilder {
    number: u64,
    spans: Vec<(&'static str, Span)>,
}

impl TraceBuilder {
    /// The trace with this number; equal numbers give equal trace ids.
    pub fn new(number: u64) -> Self {
        Self { number, spans: Vec::new() }
    }

    /// A request of the running example: `pre-processor` works `own` milliseconds on it.
    pub fn inference(number: u64, own: u64) -> Self {
        Self::new(number)
            .root("web-server", "inference-span", 0..own + 432)
            .client(2, 1, "web-server", "POST", 5..own + 428)
            .server(3, 2, "pre-processor", "preprocess-request", 6..own + 427)
            .client(4, 3, "pre-processor", "POST", own..own + 425)
            .server(5, 4, "inference-server", "inference-service-post", own + 1..own + 424)
    }

    /// Span 1, a SERVER span without a parent.
    pub fn root(self, service: &'static str, name: &str, during: Range<u64>) -> Self {
        self.span(SpanKind::Server, 1, 0, service, name, during)
    }

    /// A SERVER span.
    pub fn server(self, id: u64, parent: u64, service: &'static str, name: &str, during: Range<u64>) -> Self {
        self.span(SpanKind::Server, id, parent, service, name, during)
    }

    /// A CLIENT span.
    pub fn client(self, id: u64, parent: u64, service: &'static str, name: &str, during: Range<u64>) -> Self {
        self.span(SpanKind::Client, id, parent, service, name, during)
    }

    /// An INTERNAL span.
    pub fn internal(
        self,
        id: u64,
        parent: u64,
        service: &'static str,
        name: &str,
        during: Range<u64>,
    ) -> Self {
        self.span(SpanKind::Internal, id, parent, service, name, during)
    }

    fn span(
        mut self,
        kind: SpanKind,
        id: u64,
        parent: u64,
        service: &'static str,
        name: &str,
        during: Range<u64>,
    ) -> Self {
        let span = Span {
            trace_id: self.trace_id(),
            span_id: self.span_id(id),
            parent_span_id: if parent == 0 { Vec::new() } else { self.span_id(parent) },
            name: name.to_owned(),
            kind: kind.into(),
            start_time_unix_nano: EPOCH + during.start * 1_000_000,
            end_time_unix_nano: EPOCH + during.end * 1_000_000,
            ..Span::default()
        };
        self.spans.push((service, span));
        self
    }

    /// Gives the last span status ERROR.
    pub fn error(self) -> Self {
        self.with(|span| {
            span.status = Some(Status { code: status::StatusCode::Error.into(), ..Status::default() });
        })
    }

    /// Gives the last span a text attribute.
    pub fn attribute(self, key: &str, value: &str) -> Self {
        self.with(|span| span.attributes.push(text(key, value)))
    }

    /// Changes the last span.
    pub fn with(mut self, change: impl FnOnce(&mut Span)) -> Self {
        let (_, last) = self.spans.last_mut().expect("a span comes first");
        change(last);
        self
    }

    /// Its trace id. The low half looks random, as sampling needs it.
    pub fn trace_id(&self) -> Vec<u8> {
        let low = (self.number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        [(self.number + 1).to_be_bytes(), (low ^ (low >> 32)).to_be_bytes()].concat()
    }

    /// The id of the span with this small number.
    pub fn span_id(&self, id: u64) -> Vec<u8> {
        ((self.number + 1) << 16 | id).to_be_bytes().to_vec()
    }

    /// Its spans, in the order in which they were written down.
    pub fn spans(&self) -> impl Iterator<Item = &Span> {
        self.spans.iter().map(|(_, span)| span)
    }

    /// All spans in one request.
    pub fn request(&self) -> Vec<u8> {
        encode(self.spans.iter())
    }

    /// The spans with these small numbers in one request.
    pub fn request_of(&self, ids: &[u64]) -> Vec<u8> {
        let wanted: Vec<Vec<u8>> = ids.iter().map(|id| self.span_id(*id)).collect();
        encode(self.spans.iter().filter(|(_, span)| wanted.contains(&span.span_id)))
    }

    /// A request for each service, as their SDKs send them.
    pub fn requests_by_service(&self) -> Vec<Vec<u8>> {
        let mut services: Vec<&str> = self.spans.iter().map(|(service, _)| *service).collect();
        services.sort_unstable();
        services.dedup();
        let of = |service| encode(self.spans.iter().filter(move |(found, _)| *found == service));
        services.into_iter().map(of).collect()
    }

    /// A request for each span.
    pub fn requests_by_span(&self) -> Vec<Vec<u8>> {
        self.spans.iter().map(|span| encode([span].into_iter())).collect()
    }
}

/// One `ResourceSpans` a service, in the order of the services' first spans.
fn encode<'a>(spans: impl Iterator<Item = &'a (&'static str, Span)>) -> Vec<u8> {
    let mut by_service: Vec<(&str, Vec<Span>)> = Vec::new();
    for (service, span) in spans {
        match by_service.iter_mut().find(|(found, _)| found == service) {
            Some((_, spans)) => spans.push(span.clone()),
            None => by_service.push((service, vec![span.clone()])),
        }
    }
    let resource_spans = |(service, spans)| ResourceSpans {
        resource: Some(Resource { attributes: vec![text("service.name", service)], ..Resource::default() }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope { name: "tests".to_owned(), ..InstrumentationScope::default() }),
            spans,
            schema_url: "https://opentelemetry.io/schemas/1.37.0".to_owned(),
        }],
        schema_url: String::new(),
    };
    ExportTraceServiceRequest { resource_spans: by_service.into_iter().map(resource_spans).collect() }
        .encode_to_vec()
}

/// A text attribute.
pub fn text(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

/// A span that came out, with the service that recorded it.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrived {
    pub service: String,
    pub span: Span,
}

impl Arrived {
    /// The text value of an attribute.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.value(key)? {
            any_value::Value::StringValue(text) => Some(text),
            _ => None,
        }
    }

    /// The floating point value of an attribute.
    pub fn double(&self, key: &str) -> Option<f64> {
        match self.value(key)? {
            any_value::Value::DoubleValue(number) => Some(*number),
            _ => None,
        }
    }

    /// The value of an attribute.
    pub fn value(&self, key: &str) -> Option<&any_value::Value> {
        let found = self.span.attributes.iter().find(|attribute| attribute.key == key)?;
        found.value.as_ref()?.value.as_ref()
    }
}

/// The spans of an encoded request, as prost reads it.
pub fn arrived(request: &[u8]) -> Vec<Arrived> {
    let request = ExportTraceServiceRequest::decode(request).expect("what comes out is protobuf");
    let mut arrived = Vec::new();
    for resource in request.resource_spans {
        let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        let service = attributes.iter().find(|attribute| attribute.key == "service.name");
        let service = match service.and_then(|found| found.value.as_ref()?.value.as_ref()) {
            Some(any_value::Value::StringValue(name)) => name.clone(),
            _ => String::new(),
        };
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        arrived.extend(spans.map(|span| Arrived { service: service.clone(), span }));
    }
    arrived
}
