//! Destinations that are no OTLP backends, or broken ones.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::StreamBody;
use laggard::telemetry::metrics::Class;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::backend::{Answer, Backend};
use super::frames::{END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, fields, frame};
use super::rig::{Rig, chunk, to};

/// An HTTP server that answers its first request with `first` and each further one with an OTLP success.
struct Raw {
    endpoint: String,
    requests: Arc<AtomicUsize>,
    _server: JoinSet<()>,
}

impl Raw {
    async fn start(first: fn() -> Response) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        let app = axum::Router::new().fallback(move |request: Request| {
            let count = Arc::clone(&count);
            async move {
                let mut body = request.into_body().into_data_stream();
                while let Some(Ok(_)) = futures_util::StreamExt::next(&mut body).await {}
                if count.fetch_add(1, Ordering::SeqCst) == 0 { first() } else { success() }
            }
        });
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await.expect("serves until it is dropped") });
        Self { endpoint, requests, _server: server }
    }
}

fn response(headers: &[(&'static str, &str)], frames: Vec<Frame<Bytes>>) -> Response {
    let mut response = Response::builder();
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let frames = frames.into_iter().map(Ok::<_, Infallible>);
    response.body(Body::new(StreamBody::new(tokio_stream::iter(frames)))).expect("valid")
}

fn trailers(status: &str, details: Option<&str>) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().expect("valid"));
    if let Some(details) = details {
        trailers.insert("grpc-status-details-bin", details.parse().expect("valid"));
    }
    Frame::trailers(trailers)
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

fn message(length: u32, bytes: usize) -> Frame<Bytes> {
    let mut frame = vec![0];
    frame.extend(length.to_be_bytes());
    frame.resize(5 + bytes, 0);
    Frame::data(frame.into())
}

fn success() -> Response {
    response(&[GRPC], vec![message(0, 0), trailers("0", None)])
}

async fn assert_first_answer(first: fn() -> Response, is_retried: bool, what: &str) {
    let raw = Raw::start(first).await;
    let (channel, config) = to(raw.endpoint.clone());
    let mut rig = Rig::new(channel, config);
    rig.push(chunk(0, 2, Class::Slow));
    rig.drain().await;
    let expected = if is_retried { (2, 2, 0) } else { (1, 0, 2) };
    let requests = raw.requests.load(Ordering::SeqCst);
    assert_eq!((requests, rig.sent(), rig.dropped("rejected")), expected, "{what}");
}

// F7.
#[tokio::test]
async fn details_that_are_no_base64_cost_nothing_but_themselves() {
    let in_headers = || response(&[GRPC, ("grpc-status", "14"), ("grpc-status-details-bin", "!!!")], vec![]);
    assert_first_answer(in_headers, true, "in headers").await;
    let in_trailers = || response(&[GRPC], vec![trailers("14", Some("!!!"))]);
    assert_first_answer(in_trailers, true, "in trailers").await;
    let with_success = || response(&[GRPC], vec![message(0, 0), trailers("0", Some("!!!"))]);
    let raw = Raw::start(with_success).await;
    let (channel, config) = to(raw.endpoint.clone());
    let mut rig = Rig::new(channel, config);
    rig.push(chunk(0, 2, Class::Slow));
    rig.drain().await;
    assert_eq!(rig.sent(), 2);
}

// C5, F7.
#[tokio::test]
async fn an_answer_above_four_mebibytes_is_not_read_and_not_asked_for_again() {
    let announced = || response(&[GRPC], vec![message(u32::MAX, 100)]);
    assert_first_answer(announced, false, "announced").await;
    let sent = || response(&[GRPC], vec![message(4 << 20, 5 << 20), trailers("0", None)]);
    assert_first_answer(sent, false, "sent").await;
    let head_in_pieces = || {
        let head = [0_u8, 0xff, 0xff, 0xff, 0xff];
        let frames = head.map(|byte| Frame::data(Bytes::from(vec![byte])));
        response(&[GRPC], frames.into())
    };
    assert_first_answer(head_in_pieces, false, "head in pieces").await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again() {
    let no_trailers = || response(&[GRPC], vec![message(0, 0)]);
    assert_first_answer(no_trailers, true, "no trailers").await;
    let nothing = || response(&[GRPC], vec![]);
    assert_first_answer(nothing, true, "nothing").await;
}

// F8.
#[tokio::test]
async fn an_answer_that_is_no_grpc_is_judged_by_its_http_status() {
    let html = || response(&[("content-type", "text/html")], vec![Frame::data("<html>".into())]);
    assert_first_answer(html, false, "a captive portal").await;
    for (status, is_retried) in [
        (400, false),
        (401, false),
        (404, false),
        (429, true),
        (500, false),
        (502, true),
        (503, true),
        (504, true),
    ] {
        let first = match status {
            400 => || with_status(400),
            401 => || with_status(401),
            404 => || with_status(404),
            429 => || with_status(429),
            500 => || with_status(500),
            502 => || with_status(502),
            503 => || with_status(503),
            _ => || with_status(504),
        };
        assert_first_answer(first, is_retried, &status.to_string()).await;
    }
    let moved = || {
        let mut response = with_status(307);
        response.headers_mut().insert("location", "http://127.0.0.1:1/".parse().expect("valid"));
        response
    };
    assert_first_answer(moved, false, "a redirect").await;
}

fn with_status(status: u16) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status.try_into().expect("valid");
    response
}

// R13, C15, F1, F13.
#[tokio::test]
async fn connections_that_are_closed_without_an_answer_are_made_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let address: SocketAddr = listener.local_addr().expect("bound");
    let (channel, config) = to(format!("http://{address}"));
    let mut rig = Rig::new(channel, config);
    rig.push(chunk(0, 4, Class::Slow));
    for bytes in [0, 24, 200] {
        let (mut socket, _) = listener.accept().await.expect("connects");
        let mut read = vec![0; bytes];
        socket.read_exact(&mut read).await.expect("sends a request");
    }
    drop(listener);
    let backend = Backend::start_at(address, |_| Answer::Take).await;
    rig.drain().await;
    assert_eq!((rig.sent(), backend.received().len()), (4, 1));
}

// F9.
#[tokio::test]
async fn f9_streams_and_connections_that_the_destination_ends_are_made_again() {
    // Both frames carry such a code.
    const NO_ERROR: [u8; 4] = [0, 0, 0, 0];
    const INTERNAL: [u8; 4] = [0, 0, 0, 2];
    const REFUSED: [u8; 4] = [0, 0, 0, 7];
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let address: SocketAddr = listener.local_addr().expect("bound");
    let (channel, config) = to(format!("http://{address}"));
    let mut rig = Rig::new(channel, config);
    rig.push(chunk(0, 4, Class::Slow));
    let answered = fields(&[(":status", "200"), ("content-type", "application/grpc")]);
    let going_away = [0_u32.to_be_bytes(), NO_ERROR].concat();
    for end in [
        frame(GOAWAY, 0, 0, &going_away),
        frame(RST_STREAM, 0, 1, &REFUSED),
        [frame(HEADERS, END_HEADERS, 1, &answered), frame(RST_STREAM, 0, 1, &INTERNAL)].concat(),
        [frame(HEADERS, END_HEADERS, 1, &answered), frame(GOAWAY, 0, 0, &going_away)].concat(),
    ] {
        let (socket, _) = listener.accept().await.expect("connects");
        let mut frames = Frames::serve(socket).await;
        while frames.next().await.expect("a request").flags & END_STREAM == 0 {}
        frames.send(&end).await;
    }
    drop(listener);
    let backend = Backend::start_at(address, |_| Answer::Take).await;
    rig.drain().await;
    assert_eq!((rig.sent(), backend.received().len()), (4, 1));
}

// F10.
#[tokio::test]
async fn f10_a_name_that_does_not_resolve_costs_nothing_but_time() {
    // Two dots in a row are in no name, so nobody is asked.
    let (channel, config) = to("http://no..name:4317".to_owned());
    let mut rig = Rig::new(channel, config);
    rig.push(chunk(0, 4, Class::Slow));
    while rig.value("laggard_exporter_failed_requests_total{code=\"UNAVAILABLE\"}") < 2 {
        tokio::task::yield_now().await;
    }
    rig.assert_identity();
    assert_eq!(rig.queue.spans(), 4);
    rig.cut_off().await;
}

// F10.
#[tokio::test]
async fn f10_of_several_addresses_one_that_answers_is_enough() {
    // Usually ::1 is tried first, and nobody is there.
    let backend = Backend::start(|_| Answer::Take).await;
    let (channel, config) = to(backend.endpoint().replace("127.0.0.1", "localhost"));
    let mut rig = Rig::new(channel, config);
    rig.push(chunk(0, 4, Class::Slow));
    rig.drain().await;
    assert_eq!(rig.sent(), 4);
}

// F7.
#[tokio::test]
async fn headers_that_are_too_long_are_a_failure_of_the_connection() {
    let huge = || {
        let details = "QUFB".repeat(30_000);
        response(&[GRPC, ("grpc-status", "14"), ("grpc-status-details-bin", &details)], vec![])
    };
    assert_first_answer(huge, true, "120 kB of details").await;
}
