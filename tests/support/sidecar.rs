//! The sidecar in this process, with a backend of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use laggard::app::{Addresses, App, Clock, Ended};
use laggard::config::memory::Budgets;
use laggard::config::{Config, Threshold};
use laggard::otlp::codec::Body;
use laggard::otlp::services::opentelemetry::proto::collector::trace::v1::trace_service_client::TraceServiceClient;
use laggard::telemetry::metrics::Metrics;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::backend::{Answer, Backend, Received};
use super::metrics::Scrape;
use super::spans::{Arrived, TraceBuilder, arrived};
use super::{eventually, http};

/// What a test gives the sidecar to live on, unless its configuration says otherwise.
const MEMORY_LIMIT: u64 = 64 << 20;

/// A running sidecar. End it with [`Sidecar::end`], which holds the accounting identity against `/metrics`.
pub struct Sidecar {
    pub addresses: Addresses,
    pub backend: Backend,
    metrics: Arc<Metrics>,
    client: TraceServiceClient<Channel>,
    stop: oneshot::Sender<()>,
    serving: JoinSet<Ended>,
}

impl Sidecar {
    /// With a backend that takes everything. Traces above 300 ms are slow, no other is kept, and a decision falls
    /// soon after the root, unless `change` says otherwise.
    pub async fn start(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_before(Backend::start(|_| Answer::Take).await, change).await
    }

    /// With this backend.
    pub async fn start_before(backend: Backend, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.receive.grpc.endpoint.set_port(0);
        config.receive.http.endpoint.set_port(0);
        config.telemetry.admin.endpoint.set_port(0);
        config.assemble.decision_wait = Duration::from_secs(30);
        config.assemble.decision_wait_after_root_received = Duration::from_millis(200);
        config.slow.threshold = Threshold::Fixed(Duration::from_millis(600));
        config.sample.healthy = 0.0;
        config.export.endpoint = backend.endpoint();
        config.export.retry.initial_interval = Duration::from_millis(50);
        config.export.batch.timeout = Duration::from_millis(10);
        config.shutdown.delay = Duration::ZERO;
        config.shutdown.drain_timeout = Duration::from_secs(10);
        change(&mut config);

        let (budgets, _) = Budgets::divide(&config, MEMORY_LIMIT);
        let app = App::bind(config, budgets, Clock::start()).await.expect("free ports");
        let addresses = app.addresses();
        let metrics = app.metrics();
        let (stop, stopped) = oneshot::channel();
        let mut serving = JoinSet::new();
        serving.spawn(app.run(async { drop(stopped.await) }));
        let client = TraceServiceClient::connect(format!("http://{}", addresses.grpc)).await;
        Self { addresses, backend, metrics, client: client.expect("it listens"), stop, serving }
    }

    /// Sends a request over gRPC; the receiver acknowledges it.
    pub async fn send(&mut self, request: Vec<u8>) {
        let answer = self.client.export(Body(Bytes::from(request))).await;
        assert_eq!(answer.expect("acknowledged").into_inner().0, Bytes::new());
    }

    /// Posts a request over HTTP; the receiver acknowledges it.
    pub async fn post(&self, request: &[u8]) {
        let headers = ["Content-Type: application/x-protobuf"];
        let answer =
            http::post(self.addresses.http, "/v1/traces", &headers, request).await.expect("an answer");
        assert_eq!((answer.status, answer.body.as_slice()), (200, &[][..]), "{}", answer.text());
    }

    /// Sends a trace, all of it in one request.
    pub async fn send_trace(&mut self, trace: &TraceBuilder) {
        self.send(trace.request()).await;
    }

    /// What `/metrics` says now.
    pub async fn scrape(&self) -> Scrape {
        let answer = http::get(self.addresses.admin, "/metrics").await.expect("an answer");
        assert_eq!(answer.status, 200);
        Scrape::of(&answer.text())
    }

    /// Waits until `count` traces have been decided, whatever was decided.
    pub async fn decided(&self, count: u64) {
        eventually(&format!("{count} traces are decided"), async || {
            let decided = self.scrape().await.total("laggard_traces_total");
            assert!(decided <= count, "{decided} traces are decided, {count} were sent");
            (decided == count).then_some(())
        })
        .await;
    }

    /// Waits until the backend has so many spans of the trace, and returns all that it has.
    pub async fn delivered(&self, trace: &TraceBuilder, count: usize) -> Vec<Arrived> {
        eventually(&format!("{count} spans of the trace are delivered"), async || {
            let spans = self.delivered_now(trace);
            (spans.len() >= count).then_some(spans)
        })
        .await
    }

    /// The spans of the trace that the backend has now.
    pub fn delivered_now(&self, trace: &TraceBuilder) -> Vec<Arrived> {
        let spans = arrived(&self.backend.all_bytes());
        spans.into_iter().filter(|found| found.span.trace_id == trace.trace_id()).collect()
    }

    /// Waits until nothing moves, and returns what `/metrics` says then.
    pub async fn settled(&self) -> Scrape {
        eventually("everything is decided and sent", async || {
            let scrape = self.scrape().await;
            (scrape.moving() == 0).then_some(scrape)
        })
        .await
    }

    /// Waits until nothing moves, holds the accounting identity, ends the sidecar and holds it again.
    pub async fn end(self) -> Vec<Received> {
        assert_identity(&self.settled().await);
        let (ended, received) = self.stop().await;
        assert_eq!(ended, Ended::default());
        received
    }

    /// Ends the sidecar with what it holds, as SIGTERM does, and holds the accounting identity.
    pub async fn stop(mut self) -> (Ended, Vec<Received>) {
        drop(self.stop);
        let ended = self.serving.join_next().await.expect("it was started").expect("it does not panic");
        let scrape = Scrape::of(&self.metrics.render());
        assert_identity(&scrape);
        assert_eq!(scrape.moving(), 0, "an ended sidecar holds nothing");
        (ended, self.backend.received())
    }
}

/// `accepted = sent + dropped + held + queued`, in spans; exact while nothing is moving.
pub fn assert_identity(scrape: &Scrape) {
    let (accepted, accounted) = scrape.identity();
    assert_eq!(accepted, accounted, "accepted = sent + dropped + held + queued: {scrape:#?}");
}
