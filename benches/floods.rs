//! What the process takes under floods, beside its memory limit: `cargo bench --bench floods`.
//!
//! Each flood goes to a sidecar of its own, a real process over real sockets, with a destination that takes
//! everything. `LAGGARD` names another executable, `FLOOD` picks one flood by its first word.
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement that cannot be made says why, and one that can is printed"
)]

#[path = "../tests/support/backend.rs"]
mod backend;
#[path = "support/traffic.rs"]
mod traffic;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use backend::{Answer, Backend};
use laggard::otlp::wire::{put_bytes, put_fixed64, put_uint};
use traffic::{Requests, TYPICAL};

const MEMORY_LIMIT: u64 = 512 << 20;
const MIB: f64 = (1 << 20) as f64;
const MILLION: u64 = 1_000_000;

/// Sends to the ports that speak HTTP and reads `/metrics`.
struct Sidecar {
    process: Child,
    http: SocketAddr,
    admin: SocketAddr,
}

#[tokio::main]
async fn main() {
    let only = std::env::var("FLOOD").unwrap_or_default();
    println!("memory_limit {} MiB; RSS in MiB", MEMORY_LIMIT >> 20);
    for (name, flood) in [
        ("million traces of one span", one_span_traces as fn(SocketAddr)),
        ("one trace of a million spans", one_trace),
        ("large requests of tiny spans", tiny_spans),
        ("everything that 16 senders can send for 20 s", everything),
    ] {
        if !name.starts_with(&only) {
            continue;
        }
        let backend = Backend::start(|_| Answer::Take).await;
        let sidecar = Sidecar::start(&backend.endpoint());
        let before = sidecar.memory("VmRSS:");
        let http = sidecar.http;
        let started = Instant::now();
        tokio::task::spawn_blocking(move || flood(http)).await.expect("floods");
        let took = started.elapsed();
        let page = sidecar.metrics();
        let peak = sidecar.memory("VmHWM:");
        println!(
            "{name}: idle {before:.0}, peak {peak:.0}, {:+.0} over the limit",
            peak - MEMORY_LIMIT as f64 / MIB
        );
        println!(
            "  took {:.1} s, accepted {} spans, refused {} requests",
            took.as_secs_f64(),
            total(&page, "laggard_receiver_accepted_spans_total"),
            total(&page, "laggard_receiver_refused_requests_total")
        );
        Sidecar::report(&page);
        let page = sidecar.until_idle().await;
        let after = sidecar.memory("VmRSS:");
        println!(
            "  idle again {after:.0}, peak {:.0}, decision lateness p99 <= {} s",
            sidecar.memory("VmHWM:"),
            lateness(&page)
        );
        Sidecar::report(&page);
        let accepted = total(&page, "laggard_receiver_accepted_spans_total");
        let accounted: f64 = [
            "laggard_exporter_sent_spans_total",
            "laggard_dropped_spans_total",
            "laggard_held_spans",
            "laggard_queued_spans",
        ]
        .iter()
        .map(|name| total(&page, name))
        .sum();
        assert!(
            (accepted - accounted).abs() < 0.5,
            "accepted {accepted} = sent + dropped + held + queued {accounted}"
        );
    }
}

impl Sidecar {
    fn start(destination: &str) -> Self {
        let [grpc, http, admin] = [(); 3].map(|()| free_address());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("laggard.yaml");
        let config = format!(
            "memory_limit: {}MiB\nreceive: {{grpc: {{endpoint: \"{grpc}\"}}, http: {{endpoint: \"{http}\"}}}}\n\
             telemetry: {{admin: {{endpoint: \"{admin}\"}}, log: {{level: warn}}}}\nexport: {{endpoint: \"{destination}\"}}\n",
            MEMORY_LIMIT >> 20
        );
        fs::write(&file, config).expect("writes");
        let executable =
            std::env::var("LAGGARD").unwrap_or_else(|_| env!("CARGO_BIN_EXE_laggard").to_owned());
        let process = Command::new(executable)
            .args(["run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .expect("starts");
        let mut sidecar = Self { process, http, admin };
        while TcpStream::connect(http).is_err() || TcpStream::connect(admin).is_err() {
            assert!(sidecar.process.try_wait().is_ok_and(|ended| ended.is_none()), "it has ended");
            thread::sleep(Duration::from_millis(20));
        }
        sidecar
    }

    /// A line of `/proc/PID/status`, in MiB.
    fn memory(&self, line: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let found = status.lines().find_map(|found| found.strip_prefix(line)).expect("Linux has it");
        found.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let mut stream = TcpStream::connect(self.admin).expect("listens");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("asks");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("answers");
        let lines = page.lines().filter_map(|line| line.rsplit_once(' '));
        lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    async fn until_idle(&self) -> BTreeMap<String, f64> {
        for _ in 0..120 {
            let page = self.metrics();
            if total(&page, "laggard_held_spans") + total(&page, "laggard_queued_spans") < 0.5 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        // Freed pages go back to the system after a moment.
        tokio::time::sleep(Duration::from_secs(12)).await;
        self.metrics()
    }

    fn report(page: &BTreeMap<String, f64>) {
        for name in [
            "laggard_used_bytes",
            "laggard_dropped_spans_total",
            "laggard_decisions_total",
            "laggard_exporter_sent_spans_total",
        ] {
            let series = page.iter().filter(|(series, value)| series.starts_with(name) && **value > 0.0);
            let scale = if name == "laggard_used_bytes" { MIB } else { 1.0 };
            let shown: Vec<_> = series
                .map(|(series, value)| format!("{} {:.1}", &series[name.len()..], value / scale))
                .collect();
            println!("    {name}: {}", shown.join(", "));
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn total(page: &BTreeMap<String, f64>, name: &str) -> f64 {
    page.iter().filter(|(series, _)| series.split('{').next() == Some(name)).map(|(_, value)| value).sum()
}

/// The bound of the first bucket that holds 99 % of all decisions.
fn lateness(page: &BTreeMap<String, f64>) -> f64 {
    let count = total(page, "laggard_decision_lateness_seconds_count");
    let buckets = page.iter().filter_map(|(series, value)| {
        let bound =
            series.strip_prefix("laggard_decision_lateness_seconds_bucket{le=\"")?.strip_suffix("\"}")?;
        Some((bound.parse::<f64>().unwrap_or(f64::INFINITY), *value))
    });
    let enough = buckets.filter(|(_, below)| *below >= 0.99 * count);
    enough.map(|(bound, _)| bound).fold(f64::INFINITY, f64::min)
}

/// Posts a request; returns whether it was taken.
fn post(stream: &mut TcpStream, request: &[u8]) -> bool {
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
        request.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(request)).expect("sends");
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

fn one_span_traces(to: SocketAddr) {
    let mut stream = TcpStream::connect(to).expect("listens");
    for first in (0..MILLION).step_by(1_000) {
        let request = request((first..first + 1_000).map(|trace| (trace, 0)), 200);
        assert!(post(&mut stream, &request));
    }
}

fn one_trace(to: SocketAddr) {
    let mut stream = TcpStream::connect(to).expect("listens");
    for first in (0..MILLION).step_by(2_000) {
        let request = request((first..first + 2_000).map(|span| (7, span)), 300);
        assert!(post(&mut stream, &request));
    }
}

/// Twenty requests of half a million spans, each of which is a trace, from four senders at once; some are refused.
fn tiny_spans(to: SocketAddr) {
    thread::scope(|scope| {
        for sender in 0..4 {
            scope.spawn(move || {
                let mut stream = TcpStream::connect(to).expect("listens");
                for number in 0..5 {
                    let first = (sender * 5 + number) * MILLION;
                    let request = request((first..first + MILLION / 10).map(|trace| (trace, 0)), 0);
                    post(&mut stream, &request);
                }
            });
        }
    });
}

fn everything(to: SocketAddr) {
    let until = Instant::now() + Duration::from_secs(20);
    thread::scope(|scope| {
        for sender in 0..16 {
            scope.spawn(move || {
                let mut stream = TcpStream::connect(to).expect("listens");
                let mut requests = Requests::from_collector(TYPICAL, 512);
                // Each sends traces of its own.
                requests.skip_to(sender * 1_000_000);
                while Instant::now() < until {
                    if !post(&mut stream, requests.next_request()) {
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            });
        }
    });
}
