//! Both receivers on ports of their own, a pipeline that remembers what it got, and plain clients.

use std::io::Write as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use laggard::otlp::codec::Body;
use laggard::otlp::services::opentelemetry::proto::collector::trace::v1::trace_service_client::TraceServiceClient;
use laggard::otlp::wire::{put_bytes, put_fixed64, put_uint};
use laggard::receive::auth::Tokens;
use laggard::receive::connection::Patience;
use laggard::receive::cors::Origins;
use laggard::receive::passthrough::Relay;
use laggard::receive::tls::ServerTls;
use laggard::receive::{Accept, Intake, Refused, grpc, http as otlp_http};
use laggard::telemetry::metrics::Metrics;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

pub(crate) const PROTOBUF: &str = "application/x-protobuf";
pub(crate) const JSON: &str = "application/json";
pub(crate) const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// How a receiver under test differs from the usual one.
pub(crate) struct Setup {
    pub(crate) max_request_size: u64,
    pub(crate) max_in_flight: u64,
    pub(crate) patience: Patience,
    pub(crate) relay: Option<Box<dyn FnOnce(Arc<Metrics>) -> Relay>>,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) tokens: Option<Tokens>,
    pub(crate) origins: Option<Origins>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            max_request_size: 1 << 20,
            max_in_flight: 4 << 20,
            patience: Patience::default(),
            relay: None,
            tls: None,
            tokens: None,
            origins: None,
        }
    }
}

/// Both receivers.
pub(crate) struct Receiver {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) intake: Arc<Intake>,
    pub(crate) metrics: Arc<Metrics>,
    /// What the pipeline answers instead of taking spans.
    pub(crate) refuse: Arc<Mutex<Option<Refused>>>,
    taken: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Spans that the pipeline has got since the start.
    spans: Arc<AtomicU64>,
    shutdown: CancellationToken,
    servers: JoinSet<()>,
}

impl Receiver {
    pub(crate) async fn start(setup: Setup) -> Self {
        Self::start_on("127.0.0.1:0", setup).await
    }

    pub(crate) async fn start_on(address: &str, setup: Setup) -> Self {
        let metrics = Arc::new(Metrics::default());
        let taken: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let refuse: Arc<Mutex<Option<Refused>>> = Arc::default();
        let spans: Arc<AtomicU64> = Arc::default();
        let accept: Accept = Arc::new({
            let (taken, refuse, spans) = (taken.clone(), refuse.clone(), spans.clone());
            move |batch, request, _| {
                if let Some(refused) = *refuse.lock().unwrap() {
                    return Err(refused);
                }
                assert!(!batch.spans.is_empty(), "a request without spans reached the pipeline");
                spans.fetch_add(batch.spans.len() as u64, Ordering::Relaxed);
                taken.lock().unwrap().extend(batch.spans.iter().map(|span| span.body.of(request).to_vec()));
                Ok(())
            }
        });
        let mut intake = Intake::new(accept, setup.max_request_size, setup.max_in_flight, metrics.clone())
            .with_patience(setup.patience)
            .with_tls(setup.tls)
            .with_tokens(setup.tokens)
            .with_origins(setup.origins);
        if let Some(relay) = setup.relay {
            intake = intake.with_relay(relay(metrics.clone()));
        }
        let intake = Arc::new(intake);
        let shutdown = CancellationToken::new();
        let mut servers = JoinSet::new();
        let grpc_listener = TcpListener::bind(address).await.expect("a port");
        let http_listener = TcpListener::bind(address).await.expect("a port");
        let (grpc, http) = (grpc_listener.local_addr().unwrap(), http_listener.local_addr().unwrap());
        servers.spawn(grpc::serve(grpc_listener, intake.clone(), shutdown.clone().cancelled_owned()));
        servers.spawn(otlp_http::serve(http_listener, intake.clone(), shutdown.clone().cancelled_owned()));
        Self { grpc, http, intake, metrics, refuse, taken, spans, shutdown, servers }
    }

    /// What the pipeline has got since the last call.
    pub(crate) fn taken(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.taken.lock().unwrap())
    }

    /// The value of a series, given as it stands in the exposition.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().expect("a whole number")
    }

    /// Waits until a series has a value, however long that takes.
    pub(crate) async fn until(&self, series: &str, is_right: impl Fn(u64) -> bool) {
        while !is_right(self.metric(series)) {
            tokio::task::yield_now().await;
        }
    }

    /// Spans acknowledged and spans refused for `reason`, on `transport`.
    pub(crate) fn counted(&self, transport: &str, reason: &str) -> (u64, u64) {
        let accepted = format!("laggard_receiver_accepted_spans_total{{transport=\"{transport}\"}}");
        let refused =
            format!("laggard_receiver_refused_spans_total{{transport=\"{transport}\",reason=\"{reason}\"}}");
        (self.metric(&accepted), self.metric(&refused))
    }

    pub(crate) fn refused_requests(&self, transport: &str, reason: &str) -> u64 {
        self.metric(&format!(
            "laggard_receiver_refused_requests_total{{transport=\"{transport}\",reason=\"{reason}\"}}"
        ))
    }

    /// A good request on both ports is still taken, nothing is left over, and the servers end.
    pub(crate) async fn finish(mut self) {
        self.taken();
        *self.refuse.lock().unwrap() = None;
        let before = self.counted("grpc", "malformed").0 + self.counted("http", "malformed").0;
        let request = request(&[span(1), span(2)]);
        let answer =
            self.client().await.export(Body(request.clone().into())).await.expect("the probe is good");
        assert_eq!(answer.into_inner().0, Bytes::new());
        let answer = post(&self, "/v1/traces", &[("content-type", PROTOBUF)], &request).await;
        assert_eq!((answer.status, &*answer.body), (200, &b""[..]));
        assert_eq!(self.taken(), [span(1), span(2), span(1), span(2)]);
        let after = self.counted("grpc", "malformed").0 + self.counted("http", "malformed").0;
        assert_eq!(after - before, 4);
        self.until("laggard_used_bytes{part=\"in_flight\"}", |bytes| bytes == 0).await;
        assert_eq!(
            after,
            self.spans.load(Ordering::Relaxed),
            "what is counted as accepted, and nothing else, was taken"
        );
        self.shutdown.cancel();
        while let Some(ended) = self.servers.join_next().await {
            ended.expect("no server panics");
        }
    }

    /// Asks the servers to end and returns them.
    pub(crate) fn shut_down(self) -> JoinSet<()> {
        self.shutdown.cancel();
        self.servers
    }

    pub(crate) async fn client(&self) -> TraceServiceClient<Channel> {
        TraceServiceClient::connect(format!("http://{}", self.grpc)).await.expect("a connection")
    }
}

/// A span with ids made of `id`.
pub(crate) fn span(id: u8) -> Vec<u8> {
    let mut span = Vec::new();
    put_bytes(&mut span, 1, &[id; 16]);
    put_bytes(&mut span, 2, &[id; 8]);
    put_bytes(&mut span, 5, b"name");
    put_uint(&mut span, 6, 2);
    put_fixed64(&mut span, 7, 1_700_000_000_000_000_000);
    put_fixed64(&mut span, 8, 1_700_000_000_100_000_000);
    span
}

/// A request with `spans` in one scope.
pub(crate) fn request(spans: &[Vec<u8>]) -> Vec<u8> {
    let mut scope = Vec::new();
    for span in spans {
        put_bytes(&mut scope, 2, span);
    }
    let mut resource = Vec::new();
    put_bytes(&mut resource, 2, &scope);
    let mut request = Vec::new();
    put_bytes(&mut request, 1, &resource);
    request
}

/// The same span and request as JSON; the bytes of the span are those of [`span`].
pub(crate) fn json_request(ids: &[u8]) -> String {
    let spans: Vec<_> = ids
        .iter()
        .map(|id| {
            let hex = format!("{id:02x}");
            format!(
                r#"{{"traceId":"{}","spanId":"{}","name":"name","kind":2,"startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000100000000"}}"#,
                hex.repeat(16),
                hex.repeat(8)
            )
        })
        .collect();
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#, spans.join(","))
}

/// A request of about `size` bytes with one span.
pub(crate) fn large_request(size: usize) -> Vec<u8> {
    let mut span = span(9);
    put_bytes(&mut span, 5, &vec![b'x'; size]);
    request(&[span])
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).expect("in memory")
}

/// An answer over HTTP/1.1.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

/// POST on a connection of its own.
pub(crate) async fn post(receiver: &Receiver, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(receiver.http).await.expect("a connection");
    exchange(&mut stream, "POST", path, headers, body).await
}

/// One request and its answer.
pub(crate) async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut message = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n");
    for (name, value) in headers {
        message.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers.iter().any(|(name, _)| *name == "content-length" || *name == "transfer-encoding") {
        message.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    message.push_str("\r\n");
    // In one write: a second one would wait for the acknowledgement of the first.
    let message = [message.as_bytes(), body].concat();
    stream.write_all(&message).await.expect("written");
    read_answer(stream).await
}

pub(crate) async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    let head = String::from_utf8(head).expect("text");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
    }
    let length = headers.get("content-length").map_or(0, |value| value.to_str().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.expect("a body");
    Answer { status, headers, body }
}

/// Whether the peer closes the connection, after whatever it still sends.
pub(crate) async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    // A reset is an end as well.
    drop(stream.read_to_end(&mut rest).await);
    true
}

/// What came back from a raw HTTP/2 request.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl RawAnswer {
    /// The gRPC status, from wherever it stands.
    pub(crate) fn grpc(&self) -> tonic::Status {
        tonic::Status::from_header_map(&self.headers).expect("a gRPC status")
    }
}

/// One HTTP/2 request whose body is these frames.
pub(crate) async fn raw_http2(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    frames: &[Vec<u8>],
) -> RawAnswer {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let frames = frames
        .iter()
        .map(|frame| Ok::<_, std::convert::Infallible>(http_body::Frame::data(Bytes::from(frame.clone()))));
    let body = StreamBody::new(tokio_stream::iter(frames.collect::<Vec<_>>()));
    let mut request = Request::post(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(body).expect("a request")).await.expect("an answer");
    let (head, mut body) = response.into_parts();
    let mut headers = head.headers;
    let mut data = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        match frame.into_data() {
            Ok(bytes) => data.extend_from_slice(&bytes),
            Err(frame) => headers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    RawAnswer { status: head.status.as_u16(), headers, body: data.into() }
}

/// A gRPC message with its prefix.
pub(crate) fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut framed = vec![flag];
    framed.extend(u32::try_from(message.len()).expect("small").to_be_bytes());
    framed.extend_from_slice(message);
    framed
}

/// A gRPC call whose message arrives only in part.
pub(crate) struct SlowCall {
    frames: mpsc::Sender<Result<http_body::Frame<Bytes>, std::convert::Infallible>>,
    response: Pin<Box<dyn Future<Output = hyper::Result<http::Response<hyper::body::Incoming>>>>>,
    _driver: JoinSet<()>,
}

/// Begins a call of the trace service.
pub(crate) async fn raw_grpc(receiver: &Receiver) -> SlowCall {
    let stream = TcpStream::connect(receiver.grpc).await.expect("a connection");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    let mut driver = JoinSet::new();
    driver.spawn(async { drop(connection.await) });
    let (frames, body) = mpsc::channel(1);
    let body = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(body));
    let request = Request::post(format!("http://{}{EXPORT}", receiver.grpc))
        .header("content-type", "application/grpc")
        .body(body)
        .expect("a request");
    let response = Box::pin(async move { sender.send_request(request).await });
    SlowCall { frames, response, _driver: driver }
}

impl SlowCall {
    /// Sends all but the last byte of a good message.
    pub(crate) async fn half_sent(&mut self) {
        let mut message = framed(0, &request(&[span(1)]));
        message.pop();
        self.frames.send(Ok(http_body::Frame::data(message.into()))).await.expect("a connection");
        // The request leaves once its answer is asked for.
        let now = std::future::ready(());
        tokio::select! {
            biased;
            _ = &mut self.response => panic!("answered too early"),
            () = now => {}
        }
    }

    pub(crate) async fn status(self) -> tonic::Code {
        let response = self.response.await.expect("an answer");
        tonic::Status::from_header_map(response.headers()).expect("a gRPC status").code()
    }
}
