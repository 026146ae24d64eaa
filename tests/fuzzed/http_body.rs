//! Requests to both receivers: headers, compression and framing around a body of any bytes.

use std::cell::RefCell;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use laggard::receive::{Accept, Intake, grpc, http as otlp_http};
use laggard::telemetry::metrics::Metrics;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

const LIMIT: usize = 64 << 10;
const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

thread_local! {
    static RIG: RefCell<Rig> = RefCell::new(Rig::start());
}

/// The first byte says how the rest is sent; the answer must be that to the plain bytes, however they travelled.
pub(crate) fn check(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    RIG.with_borrow_mut(|rig| {
        let kind = if mode & 8 == 0 { PROTOBUF } else { JSON };
        match mode & 7 {
            0 => drop(rig.post(kind, "", rest)),
            1 => rig.check_compressed(kind, "gzip", rest, plain(flate2::bufread::MultiGzDecoder::new(rest))),
            2 => rig.check_compressed(kind, "zstd", rest, unzstd(rest)),
            3 => {
                let gzip = gzip(rest);
                rig.check_compressed(kind, "gzip", &gzip, Plain::of(rest));
            }
            4 => {
                let zstd = zstd::stream::encode_all(rest, 1).expect("in memory");
                rig.check_compressed(kind, "zstd", &zstd, Plain::of(rest));
            }
            5 => rig.check_head(rest),
            6 => rig.check_call(rest),
            _ => rig.check_raw(rest),
        }
    });
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Vec::new();
    let mut encoder = flate2::bufread::GzEncoder::new(bytes, flate2::Compression::fast());
    encoder.read_to_end(&mut gzip).expect("in memory");
    gzip
}

/// What a body is without its compression.
enum Plain {
    Bytes(Vec<u8>),
    TooLarge,
    Damaged,
}

impl Plain {
    fn of(bytes: &[u8]) -> Self {
        if bytes.len() > LIMIT { Self::TooLarge } else { Self::Bytes(bytes.to_vec()) }
    }
}

fn plain(decoder: impl Read) -> Plain {
    let mut bytes = Vec::new();
    match decoder.take(LIMIT as u64 + 1).read_to_end(&mut bytes) {
        _ if bytes.len() > LIMIT => Plain::TooLarge,
        Ok(_) => Plain::Bytes(bytes),
        Err(_) => Plain::Damaged,
    }
}

fn unzstd(bytes: &[u8]) -> Plain {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).expect("in memory");
    decoder.window_log_max(25).expect("a window");
    plain(decoder)
}

/// Both receivers, and a connection to each that is made again when it has ended.
struct Rig {
    runtime: Runtime,
    http: SocketAddr,
    grpc: SocketAddr,
    connection: Option<TcpStream>,
    calls: Option<http2::SendRequest<Full<Bytes>>>,
    tasks: JoinSet<()>,
}

/// An answer over HTTP/1.1.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    kind: String,
    body: Vec<u8>,
}

impl Rig {
    fn start() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let accept: Accept = Arc::new(|batch, _, _| {
            assert!(!batch.spans.is_empty());
            Ok(())
        });
        let metrics = Arc::new(Metrics::default());
        let intake = Arc::new(Intake::new(accept, LIMIT as u64, 64 << 20, metrics));
        let mut tasks = JoinSet::new();
        let [http, grpc] = runtime.block_on(async {
            let http = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let grpc = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let addresses = [&http, &grpc].map(|listener| listener.local_addr().expect("bound"));
            tasks.spawn(otlp_http::serve(http, intake.clone(), std::future::pending()));
            tasks.spawn(grpc::serve(grpc, intake, std::future::pending()));
            addresses
        });
        Self { runtime, http, grpc, connection: None, calls: None, tasks }
    }

    fn check_compressed(&mut self, kind: &str, encoding: &str, body: &[u8], plain: Plain) {
        let answer = self.post(kind, encoding, body);
        match plain {
            _ if body.len() > LIMIT => assert_eq!(answer.status, 413),
            Plain::TooLarge => assert_eq!(answer.status, 413),
            // It is unpacked in one piece: what is damaged may say first that it has more than fits.
            Plain::Damaged if encoding == "zstd" => assert!(matches!(answer.status, 400 | 413), "{answer:?}"),
            Plain::Damaged => assert_eq!(answer.status, 400, "{encoding}: {answer:?}"),
            Plain::Bytes(plain) => assert_eq!(answer, self.post(kind, "", &plain), "{encoding}"),
        }
    }

    /// POSTs `body`; the answer is one that OTLP knows, in the encoding of the request.
    fn post(&mut self, kind: &str, encoding: &str, body: &[u8]) -> Answer {
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\ncontent-encoding: {encoding}\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        let message = [head.as_bytes(), body].concat();
        let answer = self.exchange(&message);
        assert_eq!(answer.kind, kind);
        match answer.status {
            200 if body.is_empty() && kind == PROTOBUF => assert!(answer.body.is_empty()),
            200 if kind == JSON => drop(json(&answer.body)),
            200 => {}
            400 | 413 if kind == JSON => {
                let status = json(&answer.body);
                let code = if answer.status == 400 { 3 } else { 8 };
                assert_eq!(status.get("code").and_then(serde_json::Value::as_i64), Some(code));
            }
            400 | 413 => {
                let status = tonic_types::Status::decode(&*answer.body).expect("a google.rpc.Status");
                assert_eq!(status.code, if answer.status == 400 { 3 } else { 8 });
            }
            status => panic!("{status} for {body:02x?}"),
        }
        answer
    }

    /// `rest` is two header values, each up to a line's end, and a body.
    fn check_head(&mut self, rest: &[u8]) {
        let mut parts = rest.splitn(3, |byte| *byte == b'\n');
        let mut value = || {
            let part = parts.next().unwrap_or_default();
            let visible = |byte: &u8| *byte >= b' ' && *byte != 0x7f;
            part.iter().copied().filter(visible).collect::<Vec<u8>>()
        };
        let (kind, encoding) = (value(), value());
        let body = parts.next().unwrap_or_default();
        let head = [
            b"POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: ",
            &kind[..],
            b"\r\ncontent-encoding: ",
            &encoding[..],
            format!("\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(),
            body,
        ]
        .concat();
        let answer = self.exchange(&head);
        assert!(matches!(answer.status, 200 | 400 | 413 | 415 | 431), "{answer:?}");
    }

    /// `rest` is the whole body of a gRPC call.
    fn check_call(&mut self, rest: &[u8]) {
        let code = self.call(rest);
        if let Some(([flag, a, b, c, d], message)) = rest.split_first_chunk::<5>()
            && *flag == 0
            && u32::from_be_bytes([*a, *b, *c, *d]) as usize == message.len()
            && message.len() <= LIMIT
        {
            let expected = if self.post(PROTOBUF, "", message).status == 200 { 0 } else { 3 };
            assert_eq!(code, expected);
        } else {
            assert!(matches!(code, 8 | 13), "{code} for {rest:02x?}");
        }
    }

    fn call(&mut self, body: &[u8]) -> i32 {
        let request = http::Request::post(format!(
            "http://{}/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            self.grpc
        ));
        let request = request.header("content-type", "application/grpc");
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).expect("a request");
        let (calls, tasks, address) = (&mut self.calls, &mut self.tasks, self.grpc);
        let headers = self.runtime.block_on(async {
            if calls.as_ref().is_none_or(http2::SendRequest::is_closed) {
                let stream = TcpStream::connect(address).await.expect("the receiver is there");
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
                tasks.spawn(async { drop(connection.await) });
                *calls = Some(sender);
            }
            let sender = calls.as_mut().expect("connected");
            sender.ready().await.expect("a connection");
            let (head, mut body) = sender.send_request(request).await.expect("an answer").into_parts();
            let mut headers = head.headers;
            while let Some(frame) = body.frame().await {
                if let Ok(trailers) = frame.expect("an answer").into_trailers() {
                    headers.extend(trailers);
                }
            }
            headers
        });
        headers.get("grpc-status").and_then(|code| code.to_str().ok()?.parse().ok()).expect("a code")
    }

    /// Any bytes on a connection; the receiver answers or closes it, and serves the next one.
    fn check_raw(&mut self, bytes: &[u8]) {
        let address = if bytes.len().is_multiple_of(2) { self.http } else { self.grpc };
        self.runtime.block_on(async {
            let mut stream = TcpStream::connect(address).await.expect("the receiver is there");
            // It may close the connection before it has everything.
            drop(stream.write_all(bytes).await);
            drop(stream.shutdown().await);
            drop(stream.read_to_end(&mut Vec::new()).await);
        });
        assert_eq!(self.post(JSON, "", b"{}").status, 200);
    }

    fn exchange(&mut self, message: &[u8]) -> Answer {
        let connection = &mut self.connection;
        self.runtime.block_on(async {
            if let Some(stream) = connection
                && let Some((answer, is_reusable)) = send(stream, message).await
            {
                if !is_reusable {
                    *connection = None;
                }
                return answer;
            }
            let mut stream = TcpStream::connect(self.http).await.expect("the receiver is there");
            stream.set_nodelay(true).expect("a socket");
            let (answer, is_reusable) = send(&mut stream, message).await.expect("an answer");
            *connection = is_reusable.then_some(stream);
            answer
        })
    }
}

fn json(body: &[u8]) -> serde_json::Value {
    serde_json::from_slice(body).expect("JSON")
}

/// `None` where the connection has ended, as it may after a while.
async fn send(stream: &mut TcpStream, message: &[u8]) -> Option<(Answer, bool)> {
    stream.write_all(message).await.ok()?;
    let mut read = Vec::new();
    let end = loop {
        if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(read[..end].to_vec()).expect("text");
    let header = |name: &str| {
        let mut lines = head.lines();
        lines
            .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
            .unwrap_or_default()
    };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let length: usize = header("content-length").parse().unwrap_or(0);
    while read.len() < end + length {
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
    assert_eq!(read.len(), end + length, "one answer to one request");
    let answer = Answer { status, kind: header("content-type"), body: read[end..].to_vec() };
    Some((answer, header("connection") != "close"))
}
