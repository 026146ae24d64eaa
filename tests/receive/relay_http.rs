//! Metrics, logs and profiles, where the destination speaks HTTP.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use laggard::config::{Compression, Export, Passthrough, Protocol};
use laggard::export::Destination;
use laggard::otlp::codec::Body;
use laggard::otlp::services::opentelemetry::proto::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use laggard::receive::passthrough::Relay;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::*;

/// What the destination got: path, `Content-Type`, `Content-Encoding`, body.
type Got = Arc<Mutex<Vec<(String, String, String, Vec<u8>)>>>;

struct Relayed {
    receiver: Receiver,
    got: Got,
    _destination: JoinSet<()>,
}

impl Relayed {
    /// A receiver whose destination gives this answer.
    async fn start(
        status: u16,
        headers: &'static [(&'static str, &'static str)],
        body: &'static [u8],
        compression: Compression,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/otlp", listener.local_addr().unwrap());
        let got = Got::default();
        let seen = got.clone();
        let app = axum::Router::new().fallback(move |request: Request| {
            let seen = seen.clone();
            async move {
                let (head, request) = request.into_parts();
                let header =
                    |name| head.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
                let (kind, encoding) = (header("content-type"), header("content-encoding"));
                let path = head.uri.path().to_owned();
                let got = axum::body::to_bytes(request, 1 << 20).await.unwrap();
                seen.lock().unwrap().push((path, kind, encoding, got.to_vec()));
                let mut answer = Response::builder().status(status);
                for (name, value) in headers {
                    answer = answer.header(*name, *value);
                }
                answer.body(axum::body::Body::from(body)).unwrap()
            }
        });
        let mut servers = JoinSet::new();
        servers.spawn(async { axum::serve(listener, app).await.expect("serves") });
        let export = Export {
            endpoint,
            protocol: Protocol::HttpProtobuf,
            compression,
            timeout: Duration::from_secs(20),
            ..Export::default()
        };
        let Ok(Destination::Http(client)) = Destination::new(&export, Arc::new(|| 0)) else {
            panic!("valid")
        };
        let relay: Box<dyn FnOnce(_) -> _> =
            Box::new(move |metrics| Relay::over_http(client, Passthrough::default(), metrics));
        let receiver = Receiver::start(Setup { relay: Some(relay), ..Setup::default() }).await;
        Self { receiver, got, _destination: servers }
    }

    async fn over_grpc(&self) -> Result<Body, tonic::Status> {
        let mut client =
            MetricsServiceClient::connect(format!("http://{}", self.receiver.grpc)).await.unwrap();
        client.export(Body((&b"metrics"[..]).into())).await.map(tonic::Response::into_inner)
    }
}

// R21.
#[tokio::test]
async fn every_signal_is_posted_to_its_path_and_json_too() {
    let relayed = Relayed::start(200, &[("content-type", PROTOBUF)], b"\x0a\x00", Compression::None).await;
    assert_eq!(&*relayed.over_grpc().await.unwrap().0, b"\x0a\x00");
    for path in ["/v1/metrics", "/v1/logs", "/v1development/profiles"] {
        let got = post(&relayed.receiver, path, &[("content-type", PROTOBUF)], b"body").await;
        assert_eq!((got.status, got.header("content-type"), &*got.body), (200, PROTOBUF, &b"\x0a\x00"[..]));
        let got = post(&relayed.receiver, path, &[("content-type", JSON)], b"{ }").await;
        assert_eq!((got.status, got.header("content-type"), &*got.body), (200, JSON, &b"{}"[..]));
    }
    let expected = |path: &str, kind: &str, body: &[u8]| {
        (format!("/otlp{path}"), kind.to_owned(), String::new(), body.to_vec())
    };
    let mut all = vec![expected("/v1/metrics", PROTOBUF, b"metrics")];
    for path in ["/v1/metrics", "/v1/logs", "/v1development/profiles"] {
        all.extend([expected(path, PROTOBUF, b"body"), expected(path, JSON, b"{ }")]);
    }
    assert_eq!(*relayed.got.lock().unwrap(), all);
    relayed.receiver.finish().await;
}

#[tokio::test]
async fn bodies_are_compressed_as_the_export_is() {
    let relayed = Relayed::start(200, &[], b"", Compression::Gzip).await;
    let got = post(&relayed.receiver, "/v1/logs", &[("content-type", PROTOBUF)], b"body").await;
    assert_eq!((got.status, &*got.body), (200, &b""[..]));
    let (_, _, encoding, body) = relayed.got.lock().unwrap()[0].clone();
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::bufread::MultiGzDecoder::new(&body[..]), &mut plain).unwrap();
    assert_eq!((encoding.as_str(), &plain[..]), ("gzip", &b"body"[..]));
}

#[tokio::test]
async fn a_refusal_is_passed_on_with_its_hint_and_a_redirect_is_none() {
    let hint: &[(&str, &str)] = &[("retry-after", "7")];
    for (status, headers, http, retry_after, code) in [
        (400, &[][..], 400, "", Code::InvalidArgument),
        (401, &[], 401, "", Code::Unauthenticated),
        (403, &[], 403, "", Code::PermissionDenied),
        (404, &[], 404, "", Code::Unimplemented),
        (413, &[], 413, "", Code::ResourceExhausted),
        (429, hint, 429, "7", Code::Unavailable),
        (500, hint, 500, "", Code::Internal),
        (503, hint, 503, "7", Code::Unavailable),
        (503, &[], 503, "", Code::Unavailable),
        (302, &[("location", "http://127.0.0.1:1/")], 500, "", Code::Internal),
        (200, &[("content-type", "text/html")], 500, "", Code::Internal),
    ] {
        let relayed = Relayed::start(status, headers, b"because", Compression::None).await;
        let got = post(&relayed.receiver, "/v1/metrics", &[("content-type", PROTOBUF)], b"x").await;
        assert_eq!((got.status, got.header("retry-after")), (http, retry_after), "{status}");
        let refused = relayed.over_grpc().await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (code, "because"), "{status}");
        let delay = refused.get_details_retry_info().and_then(|info| info.retry_delay);
        assert_eq!(delay, (!retry_after.is_empty()).then(|| Duration::from_secs(7)), "{status}");
        let series = "laggard_passthrough_requests_total{signal=\"metrics\",outcome=\"failed\"}";
        assert_eq!(relayed.receiver.metric(series), 2);
        relayed.receiver.finish().await;
    }
}

#[tokio::test]
async fn a_request_without_bytes_says_so_to_the_destination() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let export = Export { endpoint, protocol: Protocol::HttpProtobuf, ..Export::default() };
    let Ok(Destination::Http(client)) = Destination::new(&export, Arc::new(|| 0)) else { panic!("valid") };
    let relay: Box<dyn FnOnce(_) -> _> =
        Box::new(move |metrics| Relay::over_http(client, Passthrough::default(), metrics));
    let receiver = Receiver::start(Setup { relay: Some(relay), ..Setup::default() }).await;
    let destination = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        String::from_utf8(head).unwrap()
    };
    let headers = [("content-type", PROTOBUF)];
    let (head, answer) = tokio::join!(destination, post(&receiver, "/v1/metrics", &headers, b""));
    assert_eq!(answer.status, 200);
    assert!(head.starts_with("POST /v1/metrics HTTP/1.1\r\n"), "{head}");
    assert_eq!(head.matches("content-length: 0\r\n").count(), 1, "{head}");
    receiver.finish().await;
}
