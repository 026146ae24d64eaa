//! Metrics, logs and profiles.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use laggard::config::{Compression, Passthrough};
use laggard::otlp::codec::Body;
use laggard::otlp::services::opentelemetry::proto::collector as services;
use laggard::receive::passthrough::Relay;
use laggard::telemetry::metrics::Metrics;
use services::logs::v1::logs_service_client::LogsServiceClient;
use services::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use services::metrics::v1::metrics_service_client::MetricsServiceClient;
use services::metrics::v1::metrics_service_server::{MetricsService, MetricsServiceServer};
use services::profiles::v1development::profiles_service_client::ProfilesServiceClient;
use services::profiles::v1development::profiles_service_server::{ProfilesService, ProfilesServiceServer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::harness::*;

/// Answers every signal with what it is told to, and remembers what it got.
#[derive(Clone)]
struct Destination {
    answer: Result<Body, Status>,
    got: Arc<Mutex<Vec<Body>>>,
}

impl Destination {
    fn export(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        self.got.lock().unwrap().push(request.into_inner());
        self.answer.clone().map(Response::new)
    }
}

#[tonic::async_trait]
impl MetricsService for Destination {
    async fn export(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        self.export(request)
    }
}

#[tonic::async_trait]
impl LogsService for Destination {
    async fn export(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        self.export(request)
    }
}

#[tonic::async_trait]
impl ProfilesService for Destination {
    async fn export(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        self.export(request)
    }
}

struct Relayed {
    receiver: Receiver,
    got: Arc<Mutex<Vec<Body>>>,
    _destination: JoinSet<()>,
}

impl Relayed {
    /// A receiver whose destination gives `answer`.
    async fn start(answer: Result<Body, Status>, signals: Passthrough) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got: Arc<Mutex<Vec<Body>>> = Arc::default();
        let destination = Destination { answer, got: got.clone() };
        let router = Server::builder()
            .add_service(
                MetricsServiceServer::new(destination.clone()).accept_compressed(CompressionEncoding::Gzip),
            )
            .add_service(
                LogsServiceServer::new(destination.clone()).accept_compressed(CompressionEncoding::Gzip),
            )
            .add_service(
                ProfilesServiceServer::new(destination).accept_compressed(CompressionEncoding::Gzip),
            );
        let mut servers = JoinSet::new();
        servers.spawn(async {
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            router.serve_with_incoming(incoming).await.expect("serves");
        });
        let receiver =
            Receiver::start(Setup { relay: Some(relay_to(address.port(), signals)), ..Setup::default() });
        Self { receiver: receiver.await, got, _destination: servers }
    }

    fn counted(&self, signal: &str, outcome: &str) -> u64 {
        let series =
            format!("laggard_passthrough_requests_total{{signal=\"{signal}\",outcome=\"{outcome}\"}}");
        self.receiver.metric(&series)
    }

    async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.receiver.grpc)).unwrap();
        endpoint.connect().await.expect("a connection")
    }

    async fn metrics(&self) -> Result<Body, Status> {
        let mut client = MetricsServiceClient::new(self.channel().await);
        client.export(Body((&b"metrics"[..]).into())).await.map(Response::into_inner)
    }
}

fn relay_to(port: u16, signals: Passthrough) -> Box<dyn FnOnce(Arc<Metrics>) -> Relay> {
    Box::new(move |metrics| {
        let channel = Channel::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect_lazy();
        Relay::new(channel, Compression::Gzip, Duration::from_secs(20), signals, metrics)
    })
}

// R21, OTLP-G14, B16.
#[tokio::test]
async fn b16_other_signals_reach_the_destination_and_its_answer_the_sender() {
    let answer = Body((&b"\x0a\x02\x08\x05"[..]).into());
    let relayed = Relayed::start(Ok(answer.clone()), Passthrough::default()).await;
    let channel = relayed.channel().await;
    let body = |text: &'static [u8]| Body(text.into());
    let got = MetricsServiceClient::new(channel.clone()).export(body(b"metrics")).await.unwrap().into_inner();
    assert_eq!(got, answer);
    LogsServiceClient::new(channel.clone()).export(body(b"logs")).await.unwrap();
    ProfilesServiceClient::new(channel).export(body(b"profiles")).await.unwrap();
    for (path, text) in
        [("/v1/metrics", b"METRICS "), ("/v1/logs", b"LOGS    "), ("/v1development/profiles", b"PROFILES")]
    {
        let headers = [("content-type", PROTOBUF), ("content-encoding", "gzip")];
        let got = post(&relayed.receiver, path, &headers, &gzip(text)).await;
        assert_eq!((got.status, got.header("content-type"), &*got.body), (200, PROTOBUF, &*answer.0));
    }
    let got: Vec<_> = relayed.got.lock().unwrap().iter().map(|body| body.0.to_vec()).collect();
    let texts: [&[u8]; 6] = [b"metrics", b"logs", b"profiles", b"METRICS ", b"LOGS    ", b"PROFILES"];
    assert_eq!(got, texts);
    for signal in ["metrics", "logs", "profiles"] {
        assert_eq!(relayed.counted(signal, "ok"), 2);
    }
    assert_eq!(relayed.receiver.counted("grpc", "malformed"), (0, 0));
    relayed.receiver.finish().await;
}

#[tokio::test]
async fn the_destinations_refusal_is_passed_on_with_its_details() {
    let retry = |code| {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(2_500)));
        Status::with_error_details(code, "no", details)
    };
    for (status, http, retry_after) in [
        (Status::invalid_argument("no"), 400, ""),
        (Status::unauthenticated("no"), 401, ""),
        (Status::permission_denied("no"), 403, ""),
        (Status::unimplemented("no"), 404, ""),
        (Status::resource_exhausted("no"), 413, ""),
        (retry(Code::ResourceExhausted), 429, "3"),
        (retry(Code::Unavailable), 503, "3"),
        (Status::unavailable("no"), 503, ""),
        (Status::internal("no"), 500, ""),
    ] {
        let relayed = Relayed::start(Err(status.clone()), Passthrough::default()).await;
        let got = relayed.metrics().await.unwrap_err();
        assert_eq!((got.code(), got.message()), (status.code(), "no"));
        assert_eq!(got.details(), status.details());
        let answer = post(&relayed.receiver, "/v1/metrics", &[("content-type", PROTOBUF)], b"x").await;
        assert_eq!((answer.status, answer.header("retry-after")), (http, retry_after), "{status:?}");
        assert_eq!(relayed.counted("metrics", "failed"), 2);
        relayed.receiver.finish().await;
    }
}

#[tokio::test]
async fn an_absent_destination_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let relay = Some(relay_to(port, Passthrough::default()));
    let receiver = Receiver::start(Setup { relay, ..Setup::default() }).await;
    let answer = post(&receiver, "/v1/logs", &[("content-type", PROTOBUF)], b"x").await;
    assert_eq!(answer.status, 503);
    receiver.finish().await;
}

// R21, OTLP-G14.
#[tokio::test]
async fn what_cannot_be_relayed_is_refused() {
    let signals = Passthrough { metrics: true, logs: false, profiles: true };
    let relayed = Relayed::start(Ok(Body::default()), signals).await;
    let json = post(&relayed.receiver, "/v1/metrics", &[("content-type", JSON)], b"{}").await;
    assert_eq!((json.status, json.header("content-type")), (415, JSON));
    assert_eq!(relayed.counted("metrics", "refused"), 1);
    let off = post(&relayed.receiver, "/v1/logs", &[("content-type", PROTOBUF)], b"x").await;
    assert_eq!(off.status, 404);
    let mut client = LogsServiceClient::new(relayed.channel().await);
    assert_eq!(client.export(Body::default()).await.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(relayed.counted("logs", "refused"), 2);
    relayed.receiver.intake.drain();
    assert_eq!(relayed.metrics().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(relayed.counted("metrics", "refused"), 2);
    assert_eq!(relayed.got.lock().unwrap().len(), 0);
}
