//! Spans of another format, put together as one OTLP request.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

use super::halves;
use super::values::text_attribute;
use crate::otlp::batch::field;
use crate::otlp::{json, wire};

/// Who sent a span: the key under which its resource is kept.
pub(super) type Sender = (String, String);

/// A span and who sent it.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) span: Span,
    pub(super) sender: Sender,
}

/// Spans with their resources.
#[derive(Debug, Default)]
pub(super) struct Request {
    spans: Vec<Sent>,
    resources: BTreeMap<Sender, Vec<KeyValue>>,
    refused: u64,
    fault: Option<String>,
}

impl Request {
    /// Takes a span of `service`; `which` tells instances of one service apart, `attributes` are its resource's.
    pub(super) fn push(
        &mut self,
        span: Span,
        service: &str,
        which: &str,
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) {
        let sender = (service.to_owned(), which.to_owned());
        self.resources.entry(sender.clone()).or_insert_with(|| {
            let mut all = vec![text_attribute("service.name", service)];
            all.extend(attributes());
            all
        });
        self.spans.push(Sent { span, sender });
    }

    /// Counts a span that cannot be read.
    pub(super) fn refuse(&mut self, fault: String) {
        self.refused += 1;
        self.fault.get_or_insert(fault);
    }

    /// The request, encoded.
    pub(super) fn encode(mut self) -> json::Decoded {
        halves::split(&mut self.spans);
        let mut by_sender: BTreeMap<Sender, Vec<Span>> = BTreeMap::new();
        for Sent { span, sender } in self.spans {
            by_sender.entry(sender).or_default().push(span);
        }
        let mut request = Vec::new();
        for (sender, spans) in by_sender {
            let attributes = self.resources.remove(&sender).unwrap_or_default();
            let resource_spans = ResourceSpans {
                resource: Some(Resource { attributes, ..Resource::default() }),
                scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
                ..ResourceSpans::default()
            };
            wire::put_bytes(&mut request, field::RESOURCE_SPANS, &resource_spans.encode_to_vec());
        }
        json::Decoded { request, refused: self.refused, fault: self.fault }
    }
}
