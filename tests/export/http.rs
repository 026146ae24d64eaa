//! OTLP/HTTP: the destination as it should be, and everything that it can do wrong.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use futures_util::StreamExt;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::StreamBody;
use laggard::config::{BatchLimits, Compression, Export, Protocol};
use laggard::export::{Chunk, Destination};
use laggard::telemetry::metrics::Class;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::rig::{Rig, chunk, config, names, partial};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    path: String,
    headers: HeaderMap,
    /// As it travelled.
    body: Bytes,
}

impl Received {
    fn plain(&self) -> Vec<u8> {
        match self.headers.get("content-encoding").map(|value| value.to_str().expect("text")) {
            None => self.body.to_vec(),
            Some("gzip") => {
                let mut plain = Vec::new();
                let mut decoder = flate2::bufread::MultiGzDecoder::new(&self.body[..]);
                std::io::Read::read_to_end(&mut decoder, &mut plain).expect("gzip");
                plain
            }
            Some(_) => zstd::bulk::decompress(&self.body, 1 << 20).expect("zstd"),
        }
    }
}

/// An HTTP server that answers the first requests as it is told to and each further one with an OTLP success.
pub(crate) struct Server {
    endpoint: String,
    received: watch::Sender<Vec<Received>>,
    _server: JoinSet<()>,
}

type Answering = Box<dyn FnMut(&Received) -> Option<Response> + Send>;

/// Towards a server that takes its time.
fn over_http(endpoint: &str) -> Export {
    Export {
        endpoint: endpoint.to_owned(),
        protocol: Protocol::HttpProtobuf,
        timeout: Duration::from_mins(1),
        ..config()
    }
}

impl Server {
    /// `None` never answers.
    async fn start(answering: impl FnMut(&Received) -> Option<Response> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let endpoint = format!("http://{}/otlp/", listener.local_addr().expect("bound"));
        Self::start_on(listener, endpoint, answering)
    }

    fn start_on(
        listener: TcpListener,
        endpoint: String,
        answering: impl FnMut(&Received) -> Option<Response> + Send + 'static,
    ) -> Self {
        let received = watch::Sender::new(Vec::new());
        let answering: Arc<Mutex<Answering>> = Arc::new(Mutex::new(Box::new(answering)));
        let all = received.clone();
        let app = axum::Router::new().fallback(move |request: Request| {
            let (answering, all) = (Arc::clone(&answering), all.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 24).await.expect("a body");
                let received = Received { path: head.uri.path().to_owned(), headers: head.headers, body };
                let answer = (answering.lock().expect("not poisoned"))(&received);
                all.send_modify(|all| all.push(received));
                match answer {
                    Some(answer) => answer,
                    None => std::future::pending().await,
                }
            }
        });
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await.expect("serves until it is dropped") });
        Self { endpoint, received, _server: server }
    }

    pub(crate) async fn taking_everything() -> Self {
        Self::start(|_| Some(success())).await
    }

    async fn answering_first(first: impl FnOnce() -> Response + Send + 'static) -> Self {
        let mut first = Some(first);
        Self::start(move |_| Some(first.take().map_or_else(success, |first| first()))).await
    }

    fn config(&self) -> Export {
        over_http(&self.endpoint)
    }

    pub(crate) fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// What came in so far, in order.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.borrow().clone()
    }
}

fn rig(config: Export) -> Rig {
    let now = Arc::new(|| 100_000_000_000);
    Rig::new(Destination::new(&config, now).expect("valid"), config)
}

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).expect("valid")
}

fn success() -> Response {
    answer(200, &[PROTOBUF], "")
}

/// A body without an end.
fn endless() -> Body {
    let frames = tokio_stream::iter(std::iter::repeat(()));
    Body::new(StreamBody::new(
        frames.map(|()| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; 64 << 10])))),
    ))
}

async fn assert_first_answer(first: fn() -> Response, is_retried: bool, code: &str, what: &str) {
    let server = Server::answering_first(first).await;
    let mut rig = rig(server.config());
    rig.push(chunk(0, 1, Class::Slow));
    rig.drain().await;
    let expected = if is_retried { (2, 1, 0) } else { (1, 0, 1) };
    assert_eq!((server.received().len(), rig.sent(), rig.dropped("rejected")), expected, "{what}");
    let series = format!("laggard_exporter_failed_requests_total{{code=\"{code}\"}}");
    assert_eq!(rig.value(&series), 1, "{what}");
}

#[tokio::test]
async fn what_is_pushed_is_posted_byte_for_byte_below_the_base_url() {
    for (compression, encoding) in [
        (Compression::Auto, None),
        (Compression::None, None),
        (Compression::Gzip, Some("gzip")),
        (Compression::Zstd, Some("zstd")),
    ] {
        let server = Server::start(|_| Some(success())).await;
        let mut config = Export { compression, ..server.config() };
        config.headers.insert("X-Api-Key".to_owned(), "secret".to_owned());
        let mut rig = rig(config);
        let chunks: Vec<Chunk> = (0..20).map(|seed| chunk(seed, 1 + seed % 3, Class::Slow)).collect();
        for chunk in &chunks {
            rig.push(chunk.clone());
        }
        rig.drain().await;
        let pushed: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect();
        let received = server.received();
        assert_eq!(received.iter().flat_map(Received::plain).collect::<Vec<_>>(), pushed, "{compression:?}");
        let header = |name| received[0].headers.get(name).map(|value| value.to_str().expect("text"));
        assert_eq!(received[0].path, "/otlp/v1/traces");
        assert_eq!(header("content-type"), Some("application/x-protobuf"));
        assert_eq!(header("content-encoding"), encoding, "{compression:?}");
        assert_eq!(header("x-api-key"), Some("secret"));
        assert_eq!(header("user-agent"), Some(concat!("Laggard/", env!("CARGO_PKG_VERSION"))));
    }
}

// R11, C1, C13, F4.
#[tokio::test]
async fn each_status_is_retried_or_not_as_the_specification_has_it() {
    assert_first_answer(|| answer(301, &[], ""), false, "http_other", "301").await;
    assert_first_answer(|| answer(400, &[], ""), false, "http_400", "400").await;
    assert_first_answer(|| answer(401, &[], ""), false, "http_401", "401").await;
    assert_first_answer(|| answer(403, &[], ""), false, "http_403", "403").await;
    assert_first_answer(|| answer(404, &[], ""), false, "http_404", "404").await;
    assert_first_answer(|| answer(408, &[], ""), false, "http_other", "408").await;
    assert_first_answer(|| answer(413, &[], ""), false, "http_413", "413, one span").await;
    assert_first_answer(|| answer(429, &[], ""), true, "http_429", "429").await;
    assert_first_answer(|| answer(500, &[], ""), false, "http_500", "500").await;
    assert_first_answer(|| answer(501, &[], ""), false, "http_other", "501").await;
    assert_first_answer(|| answer(502, &[], ""), true, "http_502", "502").await;
    assert_first_answer(|| answer(503, &[], ""), true, "http_503", "503").await;
    assert_first_answer(|| answer(504, &[], ""), true, "http_504", "504").await;
    let later = || answer(429, &[("retry-after", "0")], "");
    assert_first_answer(later, true, "http_429", "Retry-After in seconds").await;
    let past = || answer(503, &[("retry-after", "Sun, 06 Nov 1969 08:49:37 GMT")], "");
    assert_first_answer(past, true, "http_503", "Retry-After in the past").await;
    let garbage = || answer(503, &[("retry-after", "whenever")], "");
    assert_first_answer(garbage, true, "http_503", "Retry-After that is garbage").await;
}

#[tokio::test]
async fn a_pause_that_is_demanded_beyond_the_last_attempt_costs_the_batch_at_once() {
    let date = || answer(503, &[("retry-after", "Thu, 01 Jan 1970 00:03:40 GMT")], "");
    for demand in [date as fn() -> Response, || answer(429, &[("retry-after", "120")], "")] {
        let server = Server::answering_first(demand).await;
        let mut config = server.config();
        config.retry.max_elapsed_time = Duration::from_secs(100);
        let mut rig = rig(config);
        rig.push(chunk(0, 3, Class::Slow));
        rig.drain().await;
        assert_eq!((server.received().len(), rig.dropped("retry_expired")), (1, 3));
    }
}

// R12.
#[tokio::test]
async fn a_partial_success_is_never_sent_again_and_what_it_rejects_is_counted() {
    for (response, rejected) in [
        (Vec::new(), 0),
        (vec![0x0a, 0x00], 0),
        (partial(0, "spans of the future"), 0),
        (partial(2, "two were bad"), 2),
        (partial(-1, "odd"), 0),
        (partial(i64::MAX, ""), 5),
        (b"\xff\xff".to_vec(), 0),
    ] {
        let start = response[..response.len().min(20)].to_vec();
        let server = Server::start(move |_| Some(answer(200, &[PROTOBUF], response.clone()))).await;
        let mut rig = rig(server.config());
        rig.push(chunk(0, 3, Class::Slow));
        rig.push(chunk(1, 2, Class::Error));
        rig.drain().await;
        assert_eq!(server.received().len(), 1, "{start:?}");
        assert_eq!((rig.sent(), rig.dropped("rejected")), (5 - rejected, rejected), "{start:?}");
    }
    let server = Server::start(|_| Some(answer(204, &[], ""))).await;
    let mut rig = rig(server.config());
    rig.push(chunk(0, 3, Class::Slow));
    rig.drain().await;
    assert_eq!((server.received().len(), rig.sent()), (1, 3));
}

// R12, F6.
#[tokio::test]
async fn r12_f6_a_partial_success_in_json_counts_as_well() {
    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
    for (response, rejected) in [
        ("{}", 0),
        (r#"{"partialSuccess":{}}"#, 0),
        (r#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"two were bad"}}"#, 2),
        (r#"{"partialSuccess":{"rejectedSpans":9}}"#, 5),
        ("nonsense", 0),
    ] {
        let server = Server::start(move |_| Some(answer(200, &[JSON], response))).await;
        let mut rig = rig(server.config());
        rig.push(chunk(0, 3, Class::Slow));
        rig.push(chunk(1, 2, Class::Error));
        rig.drain().await;
        assert_eq!(server.received().len(), 1, "{response}");
        assert_eq!((rig.sent(), rig.dropped("rejected")), (5 - rejected, rejected), "{response}");
    }
}

// R14.
#[tokio::test]
async fn r14_the_url_for_traces_that_the_environment_gives_is_used_as_it_is() {
    for path in ["/", "/api/spans", "/v1/traces/"] {
        let server = Server::start(|_| Some(success())).await;
        let endpoint = server.endpoint.trim_end_matches("/otlp/").to_owned();
        let mut rig = rig(Export { endpoint, traces_path: path.to_owned(), ..server.config() });
        rig.push(chunk(0, 1, Class::Slow));
        rig.drain().await;
        assert_eq!((rig.sent(), &*server.received()[0].path), (1, path));
    }
}

// F12.
#[tokio::test]
async fn a_batch_that_is_too_large_is_halved_until_it_is_taken() {
    let server = Server::start(|received| {
        let names = names(&received.body);
        let is_too_large = names.len() > 2 || names.contains(&"span 3 of 0".to_owned());
        Some(if is_too_large { answer(413, &[], "too large") } else { success() })
    })
    .await;
    let mut rig = rig(server.config());
    rig.push(chunk(0, 5, Class::Slow));
    rig.push(chunk(1, 5, Class::Error));
    rig.drain().await;
    assert_eq!((rig.sent(), rig.dropped("rejected")), (9, 1));
}

// C5, F7.
#[tokio::test]
async fn of_an_answer_only_so_much_is_read_and_its_status_stands() {
    let ok = || answer(200, &[PROTOBUF], endless());
    assert_first_answer(ok, false, "RESOURCE_EXHAUSTED", "an endless success").await;
    assert_first_answer(|| answer(400, &[], endless()), false, "http_400", "an endless refusal").await;
    assert_first_answer(|| answer(503, &[], endless()), true, "http_503", "an endless overload").await;
    let head = || answer(503, &[("x-long", &"x".repeat(200_000))], "");
    assert_first_answer(head, true, "UNAVAILABLE", "a head of 200 kB").await;
}

// C9, F8.
#[tokio::test]
async fn redirects_are_not_followed_and_pages_for_people_are_no_success() {
    let elsewhere = Server::start(|_| Some(success())).await;
    let location = elsewhere.endpoint.clone();
    for status in [301, 302, 307, 308] {
        let location = location.clone();
        let moved = move || answer(status, &[("location", &location)], "");
        let server = Server::answering_first(moved).await;
        let mut rig = rig(server.config());
        rig.push(chunk(0, 2, Class::Slow));
        rig.drain().await;
        assert_eq!((server.received().len(), rig.dropped("rejected")), (1, 2), "{status}");
    }
    assert_eq!(elsewhere.received().len(), 0);
    let html = || answer(200, &[("content-type", "text/html")], "<html>");
    assert_first_answer(html, false, "http_other", "a captive portal").await;
}

// C16.
#[tokio::test]
async fn a_destination_that_is_away_or_silent_gets_everything_once_it_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let address = listener.local_addr().expect("bound");
    let endpoint = format!("http://{address}");
    let config = Export {
        timeout: Duration::from_millis(200),
        batch: BatchLimits { timeout: Duration::ZERO, ..BatchLimits::default() },
        ..over_http(&endpoint)
    };
    drop(listener);
    let mut rig = rig(config);
    rig.push(chunk(0, 3, Class::Slow));
    let failed = |code| format!("laggard_exporter_failed_requests_total{{code=\"{code}\"}}");
    while rig.value(&failed("UNAVAILABLE")) < 3 {
        tokio::task::yield_now().await;
    }
    rig.assert_identity();
    let listener = TcpListener::bind(address).await.expect("still free");
    let mut requests = 0;
    let server = Server::start_on(listener, endpoint, move |_| {
        requests += 1;
        (requests > 1).then(success)
    });
    rig.drain().await;
    assert_eq!((rig.sent(), server.received().len()), (3, 2));
    assert_eq!(rig.value(&failed("DEADLINE_EXCEEDED")), 1);
}

// C15.
#[tokio::test]
async fn connections_that_are_closed_without_an_answer_are_made_again() {
    use tokio::io::AsyncReadExt;

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let address = listener.local_addr().expect("bound");
    let endpoint = format!("http://{address}");
    let mut rig = rig(over_http(&endpoint));
    rig.push(chunk(0, 4, Class::Slow));
    for bytes in [0, 24, 200] {
        let (mut socket, _) = listener.accept().await.expect("connects");
        let mut read = vec![0; bytes];
        socket.read_exact(&mut read).await.expect("sends a request");
    }
    let server = Server::start_on(listener, endpoint, |_| Some(success()));
    rig.drain().await;
    assert_eq!((rig.sent(), server.received().len()), (4, 1));
}
