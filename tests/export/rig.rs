//! A queue with an exporter behind it, and the accounts to check.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use laggard::config::{Export, Retry};
use laggard::export::{self, Channel, Chunk, Destination, Queue};
use laggard::telemetry::metrics::{Class, Metrics};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// What the exporter's clock says: 100 seconds after the epoch.
const NOW: u64 = 100_000_000_000;

pub(crate) struct Rig {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) queue: Arc<Queue>,
    running: JoinSet<()>,
    drain: Option<oneshot::Sender<()>>,
    pushed: u64,
}

impl Rig {
    pub(crate) fn new(destination: impl Into<Destination>, config: Export) -> Self {
        let metrics = Arc::new(Metrics::default());
        let queue = Arc::new(Queue::new(64 << 20, Arc::clone(&metrics)));
        let (drain, drained) = oneshot::channel();
        let mut running = JoinSet::new();
        let destination = destination.into();
        running.spawn(export::run(
            Arc::clone(&queue),
            destination,
            config,
            Arc::clone(&metrics),
            Arc::new(|| NOW),
            async move { drop(drained.await) },
        ));
        Self { metrics, queue, running, drain: Some(drain), pushed: 0 }
    }

    pub(crate) fn push(&mut self, chunk: Chunk) {
        if !chunk.reference {
            self.pushed += u64::from(chunk.spans);
        }
        self.queue.push(chunk).expect("room");
    }

    /// Lets everything leave and checks the accounts.
    pub(crate) async fn drain(&mut self) {
        self.drain.take().map(|drain| drain.send(()));
        self.running.join_next().await.expect("runs").expect("no panic");
        assert_eq!((self.queue.spans(), self.queue.bytes()), (0, 0));
        self.assert_identity();
    }

    /// Ends the exporter where it is, as a deadline does.
    pub(crate) async fn cut_off(&mut self) {
        self.running.shutdown().await;
    }

    /// `pushed = sent + dropped + queued`.
    pub(crate) fn assert_identity(&self) {
        let sent = self.value("laggard_exporter_sent_spans_total{");
        let dropped = self.value("laggard_dropped_spans_total{");
        let queued = self.value("laggard_queued_spans ");
        assert_eq!(queued, self.queue.spans());
        assert_eq!(self.pushed, sent + dropped + queued, "{}", self.metrics.render());
    }

    pub(crate) fn sent(&self) -> u64 {
        self.value("laggard_exporter_sent_spans_total{")
    }

    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        self.value(&format!("laggard_dropped_spans_total{{reason=\"{reason}\"}}"))
    }

    /// The sum of the series whose line begins with `prefix`.
    pub(crate) fn value(&self, prefix: &str) -> u64 {
        let text = self.metrics.render();
        let values = text.lines().filter(|line| line.starts_with(prefix));
        values.map(|line| line.rsplit(' ').next().expect("a value").parse::<u64>().expect("whole")).sum()
    }
}

/// Retries at once and for ever.
pub(crate) fn config() -> Export {
    let retry = Retry {
        initial_interval: Duration::from_millis(1),
        max_interval: Duration::from_millis(5),
        max_elapsed_time: Duration::from_mins(10),
    };
    Export { retry, ..Export::default() }
}

/// A destination on a socket.
pub(crate) fn to(endpoint: String) -> (Channel, Export) {
    let config = Export { endpoint, timeout: Duration::from_mins(1), ..config() };
    (export::channel(&config).expect("valid"), config)
}

/// One resource with so many spans, which `seed` tells apart from other chunks.
pub(crate) fn chunk(seed: u8, spans: u8, class: Class) -> Chunk {
    let span = |index: u8| Span {
        trace_id: vec![seed + 1; 16],
        span_id: vec![index + 1; 8],
        name: format!("span {index} of {seed}"),
        ..Span::default()
    };
    let scope = ScopeSpans { spans: (0..spans).map(span).collect(), ..ScopeSpans::default() };
    let resource = ResourceSpans {
        scope_spans: vec![scope],
        schema_url: "https://opentelemetry.io/schemas/1.44.0".to_owned(),
        ..ResourceSpans::default()
    };
    let bytes = ExportTraceServiceRequest { resource_spans: vec![resource] }.encode_to_vec();
    Chunk { bytes: Bytes::from(bytes), spans: u32::from(spans), class, reference: false, alone: false }
}

/// The names of the spans of an encoded request, in order.
pub(crate) fn names(request: &[u8]) -> Vec<String> {
    let request = ExportTraceServiceRequest::decode(request).expect("valid");
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).map(|span| span.name).collect()
}

/// An encoded `ExportTraceServiceResponse` with a partial success.
pub(crate) fn partial(rejected: i64, message: &str) -> Vec<u8> {
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceResponse,
    };
    let partial = ExportTracePartialSuccess { rejected_spans: rejected, error_message: message.to_owned() };
    ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec()
}
