//! What the three services do: the routes, and the spans that a request leaves behind.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::{Span, Status, status};

use crate::otlp::Nanos;

const MICROSECOND: Nanos = 1_000;

pub(super) const WEB_SERVER: usize = 0;
pub(super) const PRE_PROCESSOR: usize = 1;
pub(super) const INFERENCE_SERVER: usize = 2;

/// One service's part in answering a request: it works, calls the next part where there is one, works again.
pub(super) struct Part {
    pub(super) service: usize,
    pub(super) operation: &'static str,
    pub(super) path: &'static str,
    pub(super) before: Nanos,
    pub(super) after: Nanos,
}

/// What a user may ask for.
pub(super) struct Route {
    pub(super) method: &'static str,
    /// How many of ten requests take it.
    pub(super) weight: u64,
    pub(super) parts: &'static [Part],
}

pub(super) const ROUTES: [Route; 3] = [
    Route {
        method: "POST",
        weight: 6,
        parts: &[
            Part {
                service: WEB_SERVER,
                operation: "inference-span",
                path: "/inference",
                before: 5_000 * MICROSECOND,
                after: 3_500 * MICROSECOND,
            },
            Part {
                service: PRE_PROCESSOR,
                operation: "preprocess-request",
                path: "/preprocess",
                before: 40_000 * MICROSECOND,
                after: 10_000 * MICROSECOND,
            },
            Part {
                service: INFERENCE_SERVER,
                operation: "inference-service-post",
                path: "/infer",
                before: 422_967 * MICROSECOND,
                after: 0,
            },
        ],
    },
    Route {
        method: "POST",
        weight: 2,
        parts: &[
            Part {
                service: WEB_SERVER,
                operation: "preview-span",
                path: "/preview",
                before: 4_000 * MICROSECOND,
                after: 3_000 * MICROSECOND,
            },
            Part {
                service: PRE_PROCESSOR,
                operation: "preview-request",
                path: "/preview",
                before: 35_000 * MICROSECOND,
                after: 0,
            },
        ],
    },
    Route {
        method: "GET",
        weight: 2,
        parts: &[
            Part {
                service: WEB_SERVER,
                operation: "models-span",
                path: "/models",
                before: 3_000 * MICROSECOND,
                after: 2_000 * MICROSECOND,
            },
            Part {
                service: INFERENCE_SERVER,
                operation: "models-get",
                path: "/models",
                before: 20_000 * MICROSECOND,
                after: 0,
            },
        ],
    },
];

/// How one part of a request went.
pub(super) struct Call {
    pub(super) part: &'static Part,
    pub(super) server_id: Vec<u8>,
    /// Of the call to the next part.
    pub(super) client_id: Vec<u8>,
    pub(super) received: Nanos,
    pub(super) called: Nanos,
    pub(super) returned: Nanos,
    pub(super) ended: Nanos,
}

impl Call {
    pub(super) fn server_span(&self, trace_id: &[u8], caller_id: Vec<u8>, method: &str) -> Span {
        let mut attributes = vec![
            text("http.request.method", method),
            text("http.route", self.part.path),
            number("http.response.status_code", 200),
        ];
        let mut events = Vec::new();
        let mut event = |time, name: &str| {
            events.push(Event { time_unix_nano: time, name: name.to_owned(), ..Event::default() });
        };
        match self.part.operation {
            "preprocess-request" => {
                attributes.push(number("downstream.status_code", 200));
                event(self.returned, "successful_response");
            }
            "inference-service-post" => {
                let worked = self.ended - self.received;
                event(self.received + worked / 50, "File saved");
                event(self.received + worked / 40, "Starting inference");
                event(self.ended - worked / 100, "Inference completed");
            }
            _ => {}
        }
        Span {
            trace_id: trace_id.to_vec(),
            span_id: self.server_id.clone(),
            parent_span_id: caller_id,
            name: self.part.operation.to_owned(),
            kind: SpanKind::Server.into(),
            start_time_unix_nano: self.received,
            end_time_unix_nano: self.ended,
            attributes,
            events,
            status: Some(Status { code: status::StatusCode::Ok.into(), ..Status::default() }),
            ..Span::default()
        }
    }

    pub(super) fn client_span(&self, trace_id: &[u8], callee: &Part, method: &str) -> Span {
        Span {
            trace_id: trace_id.to_vec(),
            span_id: self.client_id.clone(),
            parent_span_id: self.server_id.clone(),
            name: method.to_owned(),
            kind: SpanKind::Client.into(),
            start_time_unix_nano: self.called,
            end_time_unix_nano: self.returned,
            attributes: vec![text("http.request.method", method), text("url.path", callee.path)],
            ..Span::default()
        }
    }
}

pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, any_value::Value::IntValue(value))
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
