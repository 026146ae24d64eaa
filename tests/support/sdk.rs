//! The OpenTelemetry Rust SDK as a client: a service that records spans and exports them over OTLP.

use std::time::{Duration, SystemTime};

use opentelemetry::Context;
use opentelemetry::trace::{Span, SpanKind, TraceContextExt, Tracer, TracerProvider};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

/// One instrumented service.
pub struct SdkService {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl SdkService {
    /// A service that exports to `http://HOST:PORT` over gRPC. Call it inside a multi-threaded runtime.
    pub fn over_grpc(name: &'static str, endpoint: &str) -> Self {
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
        Self::new(name, exporter.expect("a valid endpoint"))
    }

    /// A service that posts protobuf to `http://HOST:PORT/v1/traces`. Call it outside of asynchronous code: the
    /// blocking HTTP client starts a runtime of its own.
    pub fn over_http(name: &'static str, endpoint: &str) -> Self {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{endpoint}/v1/traces"))
            .build();
        Self::new(name, exporter.expect("a valid endpoint"))
    }

    fn new(name: &'static str, exporter: SpanExporter) -> Self {
        let provider = SdkTracerProvider::builder()
            .with_resource(Resource::builder().with_service_name(name).build())
            .with_batch_exporter(exporter)
            .build();
        let tracer = provider.tracer("laggard-tests");
        Self { provider, tracer }
    }

    /// Records a span below `parent` and returns the context to call others with.
    pub fn record(
        &self,
        parent: &Context,
        (name, kind): (&'static str, SpanKind),
        start: SystemTime,
        lasting: Duration,
    ) -> Context {
        let builder = self.tracer.span_builder(name).with_kind(kind).with_start_time(start);
        let mut span = builder.start_with_context(&self.tracer, parent);
        span.end_with_timestamp(start + lasting);
        Context::new().with_remote_span_context(span.span_context().clone())
    }

    /// Exports what was recorded; blocks until it is acknowledged.
    pub fn flush(&self) {
        self.provider.force_flush().expect("the receiver acknowledges");
    }
}
