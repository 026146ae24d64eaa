//! The floods: more, or larger, or stranger than what is usual.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use laggard::otlp::codec::Body;
use laggard::otlp::services::opentelemetry::proto::collector::trace::v1::trace_service_client::TraceServiceClient;
use laggard::otlp::wire::{put_bytes, put_fixed64, put_uint};
use tokio::sync::Semaphore;
use tonic::transport::Channel;

use crate::traffic::{Requests, TYPICAL};

const MILLION: u64 = 1_000_000;

/// How long the floods go on that have no end of their own.
const LONG: Duration = Duration::from_secs(20);

/// Spans of a request of those floods.
const SPANS: usize = 512;

/// Connections of an open loop.
const CONNECTIONS: usize = 64;

/// Open requests on each connection of the open loop that speaks gRPC.
const STREAMS: usize = 16;

/// Where floods go.
pub(crate) struct Target {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    /// Spans a second that it takes from senders who wait for its answers, where that is known.
    pub(crate) capacity: Option<u64>,
}

pub(crate) struct Flood {
    pub(crate) name: &'static str,
    /// `assemble.on_overflow`.
    pub(crate) on_overflow: &'static str,
    /// Whether it shows what the target can take.
    pub(crate) is_capacity: bool,
    /// Sends it; returns the spans that were offered, where that is more than was sent, else 0.
    pub(crate) send: fn(&Target) -> u64,
}

pub(crate) const FLOODS: &[Flood] = &[
    Flood {
        name: "a million traces of one span",
        on_overflow: "decide",
        is_capacity: false,
        send: one_span_traces,
    },
    Flood {
        name: "one trace of a million spans",
        on_overflow: "decide",
        is_capacity: false,
        send: one_trace,
    },
    Flood {
        name: "requests of 100,000 tiny traces",
        on_overflow: "decide",
        is_capacity: false,
        send: tiny_spans,
    },
    Flood { name: "16 senders who wait", on_overflow: "decide", is_capacity: true, send: closed_loop },
    Flood {
        name: "ten times that, HTTP, `decide`",
        on_overflow: "decide",
        is_capacity: false,
        send: open_loop,
    },
    Flood {
        name: "ten times that, HTTP, `refuse`",
        on_overflow: "refuse",
        is_capacity: false,
        send: open_loop,
    },
    Flood {
        name: "ten times that, gRPC, `decide`",
        on_overflow: "decide",
        is_capacity: false,
        send: open_loop_grpc,
    },
    Flood {
        name: "ten times that, gRPC, `refuse`",
        on_overflow: "refuse",
        is_capacity: false,
        send: open_loop_grpc,
    },
];

/// The head of a request.
fn head(request: &[u8]) -> String {
    format!(
        "POST /v1/traces HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
        request.len()
    )
}

/// Posts a request; returns whether it was taken.
fn post(stream: &mut TcpStream, request: &[u8]) -> bool {
    stream.write_all(head(request).as_bytes()).and_then(|()| stream.write_all(request)).expect("sends");
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).expect("answers");
        assert!(read > 0, "the connection stays open");
        answer.extend_from_slice(buffer.get(..read).unwrap_or(&[]));
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
        });
        if body.len() >= length.unwrap_or(0) {
            return head.starts_with("HTTP/1.1 200");
        }
    }
}

/// Spans of `size` bytes or a little more, in one request.
fn request(spans: impl Iterator<Item = (u64, u64)>, size: usize) -> Vec<u8> {
    let mut scope = Vec::new();
    for (trace, span) in spans {
        let mut body = Vec::new();
        let mixed = (trace + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        put_bytes(&mut body, 1, &[(trace + 1).to_be_bytes(), (mixed ^ mixed >> 31).to_be_bytes()].concat());
        put_bytes(&mut body, 2, &(span + 1).to_be_bytes());
        if span > 0 {
            put_bytes(&mut body, 4, &1_u64.to_be_bytes());
        }
        if size > 40 {
            put_uint(&mut body, 6, 2);
            put_fixed64(&mut body, 7, 1_793_491_200_000_000_000);
            put_fixed64(&mut body, 8, 1_793_491_200_080_000_000 + mixed % 10_000_000);
            let padding = vec![b'n'; size.saturating_sub(body.len() + 2)];
            put_bytes(&mut body, 5, &padding);
        }
        put_bytes(&mut scope, 2, &body);
    }
    let (mut name, mut attribute, mut resource, mut around, mut request) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    put_bytes(&mut name, 1, b"flood");
    put_bytes(&mut attribute, 1, b"service.name");
    put_bytes(&mut attribute, 2, &name);
    put_bytes(&mut resource, 1, &attribute);
    put_bytes(&mut around, 1, &resource);
    put_bytes(&mut around, 2, &scope);
    put_bytes(&mut request, 1, &around);
    request
}

fn one_span_traces(to: &Target) -> u64 {
    let mut stream = TcpStream::connect(to.http).expect("listens");
    for first in (0..MILLION).step_by(1_000) {
        let request = request((first..first + 1_000).map(|trace| (trace, 0)), 200);
        assert!(post(&mut stream, &request));
    }
    0
}

fn one_trace(to: &Target) -> u64 {
    let mut stream = TcpStream::connect(to.http).expect("listens");
    for first in (0..MILLION).step_by(2_000) {
        let request = request((first..first + 2_000).map(|span| (7, span)), 300);
        assert!(post(&mut stream, &request));
    }
    0
}

/// Two million spans, each of which is a trace, from four senders at once; some requests are refused.
fn tiny_spans(to: &Target) -> u64 {
    let to = to.http;
    thread::scope(|scope| {
        for sender in 0..4 {
            scope.spawn(move || {
                for number in 0..5 {
                    let first = (sender * 5 + number) * MILLION;
                    let request = request((first..first + MILLION / 10).map(|trace| (trace, 0)), 0);
                    // One that is refused before it has arrived costs its connection.
                    let mut stream = TcpStream::connect(to).expect("listens");
                    post(&mut stream, &request);
                }
            });
        }
    });
    0
}

/// As much as 16 senders can send.
fn closed_loop(to: &Target) -> u64 {
    let (to, until) = (to.http, Instant::now() + LONG);
    thread::scope(|scope| {
        for sender in 0..16 {
            scope.spawn(move || {
                let mut stream = TcpStream::connect(to).expect("listens");
                let mut requests = Requests::from_collector(TYPICAL, SPANS);
                // Each sends traces of its own.
                requests.skip_to(sender * 1_000_000);
                while Instant::now() < until {
                    if !post(&mut stream, requests.next_request()) {
                        thread::sleep(Duration::from_millis(100));
                        stream = TcpStream::connect(to).expect("listens");
                    }
                }
            });
        }
    });
    0
}

/// When requests are due, at ten times the capacity.
struct Schedule {
    started: Instant,
    a_second: u64,
    offered: u64,
}

impl Schedule {
    fn new(to: &Target) -> Self {
        let capacity = to.capacity.expect("the flood before it shows the capacity");
        Self { started: Instant::now(), a_second: 10 * capacity / SPANS as u64, offered: 0 }
    }

    fn is_over(&self) -> bool {
        self.started.elapsed() >= LONG
    }

    /// Requests that have become due since the last call.
    fn due(&mut self) -> u64 {
        let milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due = milliseconds * self.a_second / 1_000;
        let new = due - self.offered;
        self.offered = due;
        new
    }

    fn offered_spans(&self) -> u64 {
        self.offered * SPANS as u64
    }
}

/// A connection on which requests leave without waiting for answers.
struct Pipelined {
    to: SocketAddr,
    stream: TcpStream,
    /// What of the last request has not left yet.
    rest: Vec<u8>,
}

impl Pipelined {
    fn new(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).expect("listens");
        stream.set_nonblocking(true).expect("sets");
        Self { to, stream, rest: Vec::new() }
    }

    /// Writes what it can and reads what has come; a connection that was ended is made anew, and what was under way on
    /// it is the sender's loss. Returns whether anything moved.
    fn drive(&mut self) -> bool {
        let mut answers = [0; 1 << 14];
        let written = if self.rest.is_empty() { Ok(0) } else { self.stream.write(&self.rest) };
        let read = self.stream.read(&mut answers);
        let is_waiting = |result: &std::io::Result<usize>| {
            result.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        };
        let is_ended = matches!(read, Ok(0))
            || [&written, &read].iter().any(|result| result.is_err() && !is_waiting(result));
        if is_ended {
            *self = Self::new(self.to);
            return true;
        }
        self.rest.drain(..*written.as_ref().unwrap_or(&0));
        written.is_ok_and(|bytes| bytes > 0) || read.is_ok()
    }
}

/// Ten times what the target can take, on connections whose senders do not wait: a request that is due while none of
/// them can take it is the sender's loss.
fn open_loop(to: &Target) -> u64 {
    let mut schedule = Schedule::new(to);
    let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| Pipelined::new(to.http)).collect();
    let mut requests = Requests::from_collector(TYPICAL, SPANS);
    while !schedule.is_over() {
        let mut due = schedule.due();
        let mut has_moved = false;
        for connection in &mut connections {
            if due > 0 && connection.rest.is_empty() {
                let request = requests.next_request();
                connection.rest.extend_from_slice(head(request).as_bytes());
                connection.rest.extend_from_slice(request);
                due -= 1;
            }
            has_moved |= connection.drive();
        }
        if !has_moved {
            thread::sleep(Duration::from_millis(1));
        }
    }
    schedule.offered_spans()
}

/// The same over gRPC, with as many open requests as senders would rather have than wait.
fn open_loop_grpc(to: &Target) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    let mut schedule = Schedule::new(to);
    let uri = format!("http://{}", to.grpc);
    runtime.block_on(async {
        let mut links = Vec::new();
        for _ in 0..CONNECTIONS {
            let channel = Channel::from_shared(uri.clone()).expect("a URI").connect().await.expect("listens");
            links.push((TraceServiceClient::new(channel), Arc::new(Semaphore::new(STREAMS))));
        }
        let mut requests = Requests::from_collector(TYPICAL, SPANS);
        let mut next = 0;
        while !schedule.is_over() {
            for _ in 0..schedule.due().min(CONNECTIONS as u64) {
                next += 1;
                let (client, streams) = &links[next % CONNECTIONS];
                let Ok(permit) = streams.clone().try_acquire_owned() else { continue };
                let (mut client, body) = (client.clone(), Bytes::copy_from_slice(requests.next_request()));
                tokio::spawn(async move {
                    // Whatever the answer is: nobody waits for it.
                    drop(client.export(Body(body)).await);
                    drop(permit);
                });
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    schedule.offered_spans()
}
