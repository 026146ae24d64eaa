//! OTLP/JSON in, protobuf out: the one form of input that is decoded into objects, one span at a time.
//!
//! Accepts whatever the OTLP specification, proto3's JSON mapping or the Collector accepts, and also what trace
//! viewers hand out for download: `batches`, `instrumentationLibrarySpans`, ids in base64. A span that none of
//! them would take is refused alone. Bounded in every direction: the envelope and unknown fields are read
//! without recursion, attributes nest at most [`MAX_ATTRIBUTE_DEPTH`] deep, and the output is about as large
//! as the input.
//!
//! [`MAX_ATTRIBUTE_DEPTH`]: super::span::MAX_ATTRIBUTE_DEPTH

mod messages;
mod object;
mod scalar;

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde::de::MapAccess;
use serde_json::value::RawValue;

use self::object::{Entry, Message};
use super::batch::field;
use super::span::SpanFault;
use super::{SpanId, TraceId, wire};

/// Field number of `schema_url` in `ResourceSpans` and `ScopeSpans`.
const SCHEMA_URL: u32 = 3;

/// A request as protobuf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// An encoded `ExportTraceServiceRequest` with the spans that could be read.
    pub request: Vec<u8>,
    /// How many spans could not be read.
    pub refused: u64,
    /// What is wrong with the first of them: the field, the rule and the value found.
    pub fault: Option<String>,
}

/// The whole text is unusable: no JSON, or not the envelope of a trace request.
#[derive(Debug, thiserror::Error)]
#[error("not an OTLP/JSON trace request: {0}")]
pub struct JsonError(String);

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        Self(scalar::line(&error.to_string()))
    }
}

/// Reads an `ExportTraceServiceRequest` (or the alike `TracesData`) in OTLP's JSON encoding.
///
/// Invalid UTF-8 and lone surrogates become U+FFFD, unknown fields are ignored, `null` is the default value, and
/// of a field that stands twice the last one counts.
///
/// # Errors
/// [`JsonError`] when the text is no JSON object, or the lists down to the spans are not lists.
pub fn to_protobuf(json: &[u8]) -> Result<Decoded, JsonError> {
    let text = scalar::mend(json);
    let envelope: Request<'_> = object::read(&text)?.unwrap_or_default();
    let mut decoded = Decoded::default();
    for resource_spans in &envelope.resource_spans {
        decoded.put_resource_spans(resource_spans);
    }
    Ok(decoded)
}

/// The text with U+FFFD for what is no UTF-8 and for escapes of lone surrogates, which Go and JavaScript write.
pub(crate) fn mend(json: &[u8]) -> Cow<'_, str> {
    scalar::mend(json)
}

/// The request down to its spans, which are text still.
#[derive(Default)]
struct Request<'a> {
    resource_spans: Vec<ResourceSpans<'a>>,
}

#[derive(Default)]
struct ResourceSpans<'a> {
    resource: Option<&'a str>,
    scopes: Vec<ScopeSpans<'a>>,
    schema_url: String,
}

#[derive(Default)]
struct ScopeSpans<'a> {
    scope: Option<&'a str>,
    spans: Vec<&'a RawValue>,
    schema_url: String,
}

impl<'de> Message<'de> for Request<'de> {
    fn set<A: MapAccess<'de>>(&mut self, key: &str, entry: Entry<'_, A>) -> Result<(), A::Error> {
        match key {
            "resourceSpans" | "resource_spans" | "batches" => self.resource_spans = entry.list()?,
            _ => entry.ignore()?,
        }
        Ok(())
    }
}

impl<'de> Message<'de> for ResourceSpans<'de> {
    fn set<A: MapAccess<'de>>(&mut self, key: &str, entry: Entry<'_, A>) -> Result<(), A::Error> {
        match key {
            "resource" => self.resource = entry.raw()?,
            "scopeSpans"
            | "scope_spans"
            | "instrumentationLibrarySpans"
            | "instrumentation_library_spans" => self.scopes = entry.list()?,
            "schemaUrl" | "schema_url" => self.schema_url = entry.text()?.unwrap_or_default(),
            _ => entry.ignore()?,
        }
        Ok(())
    }
}

impl<'de> Message<'de> for ScopeSpans<'de> {
    fn set<A: MapAccess<'de>>(&mut self, key: &str, entry: Entry<'_, A>) -> Result<(), A::Error> {
        match key {
            "scope" | "instrumentationLibrary" | "instrumentation_library" => self.scope = entry.raw()?,
            "spans" => self.spans = entry.raw_list()?,
            "schemaUrl" | "schema_url" => self.schema_url = entry.text()?.unwrap_or_default(),
            _ => entry.ignore()?,
        }
        Ok(())
    }
}

impl Decoded {
    fn put_resource_spans(&mut self, resource_spans: &ResourceSpans<'_>) {
        // What encloses spans and cannot be read costs the spans it encloses, and no others.
        let resource: Option<Resource> = match read_optional(resource_spans.resource, "resource") {
            Ok(resource) => resource,
            Err(fault) => {
                let spans = resource_spans.scopes.iter().map(|scope| scope.spans.len()).sum();
                return self.refuse(spans, &fault);
            }
        };
        let mut body = Vec::new();
        if let Some(resource) = resource {
            wire::put_bytes(&mut body, field::HEAD, &resource.encode_to_vec());
        }
        for scope_spans in &resource_spans.scopes {
            self.put_scope_spans(scope_spans, &mut body);
        }
        if !resource_spans.schema_url.is_empty() {
            wire::put_bytes(&mut body, SCHEMA_URL, resource_spans.schema_url.as_bytes());
        }
        wire::put_bytes(&mut self.request, field::RESOURCE_SPANS, &body);
    }

    fn put_scope_spans(&mut self, scope_spans: &ScopeSpans<'_>, out: &mut Vec<u8>) {
        let scope: Option<InstrumentationScope> = match read_optional(scope_spans.scope, "scope") {
            Ok(scope) => scope,
            Err(fault) => return self.refuse(scope_spans.spans.len(), &fault),
        };
        let mut body = Vec::new();
        if let Some(scope) = scope {
            wire::put_bytes(&mut body, field::HEAD, &scope.encode_to_vec());
        }
        for raw in &scope_spans.spans {
            match read_span(raw.get()) {
                Ok(span) => wire::put_bytes(&mut body, field::CHILDREN, &span.encode_to_vec()),
                Err(fault) => self.refuse(1, &fault),
            }
        }
        if !scope_spans.schema_url.is_empty() {
            wire::put_bytes(&mut body, SCHEMA_URL, scope_spans.schema_url.as_bytes());
        }
        wire::put_bytes(out, field::CHILDREN, &body);
    }

    fn refuse(&mut self, spans: usize, fault: &str) {
        if spans > 0 {
            self.refused += spans as u64;
            self.fault.get_or_insert_with(|| scalar::line(fault));
        }
    }
}

fn read_optional<M: for<'de> Message<'de>>(raw: Option<&str>, name: &str) -> Result<Option<M>, String> {
    let Some(raw) = raw else { return Ok(None) };
    object::read(raw).map_err(|error| format!("{name}: {}", without_position(&error)))
}

fn read_span(raw: &str) -> Result<Span, String> {
    let span: Span = object::read(raw).map_err(|error| without_position(&error))?.unwrap_or_default();
    TraceId::from_slice(&span.trace_id).ok_or(SpanFault::TraceId).map_err(|fault| fault.to_string())?;
    SpanId::from_slice(&span.span_id).ok_or(SpanFault::SpanId).map_err(|fault| fault.to_string())?;
    if !matches!(span.parent_span_id.len(), 0 | 8) {
        return Err(SpanFault::ParentSpanId.to_string());
    }
    Ok(span)
}

/// The message without line and column, which would count from the start of the span.
fn without_position(error: &serde_json::Error) -> String {
    let mut message = error.to_string();
    if let Some(position) = message.rfind(" at line ") {
        message.truncate(position);
    }
    message
}

#[cfg(test)]
mod tests;
