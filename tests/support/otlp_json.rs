//! Traces as OTLP/JSON, written down span by span.

use serde_json::{Value, json};

/// The trace that spans are of, and the moment that their times count from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) trace: u64,
    /// Nanoseconds.
    pub(crate) epoch: u64,
}

impl Origin {
    /// A span; parent 0 is none, `kind` is the protocol's number, times are milliseconds.
    pub(crate) fn span(
        self,
        (id, parent): (u64, u64),
        name: &str,
        kind: u64,
        (start, end): (u64, u64),
    ) -> Value {
        let at = |ms: u64| (self.epoch + ms * 1_000_000).to_string();
        let parent = if parent == 0 { String::new() } else { format!("{parent:016x}") };
        json!({
            "traceId": format!("{:032x}", self.trace), "spanId": format!("{id:016x}"), "parentSpanId": parent,
            "name": name, "kind": kind, "startTimeUnixNano": at(start), "endTimeUnixNano": at(end),
        })
    }
}

/// The spans of one service, an element of `resourceSpans`.
pub(crate) fn resource_spans(service: &str, spans: &[Value]) -> Value {
    json!({
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
        "scopeSpans": [{"spans": spans}],
    })
}
