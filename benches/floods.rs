//! What the process takes under floods, and afterwards, beside its memory limit: `cargo bench --bench floods`.
//!
//! Each flood goes to a sidecar of its own, a real process over real sockets, with a destination that takes
//! everything; senders, sidecar and destination share all CPUs. `LIMIT` names one memory limit in MiB, `FLOOD` picks floods
//! by their first words, `LAGGARD` is another executable, and `DETAILS=1` says what each part of the process used.
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a measurement that cannot be made says why, and one that can is printed"
)]

#[path = "../tests/support/backend.rs"]
mod backend;
#[path = "support/flooding.rs"]
mod flooding;
#[path = "support/traffic.rs"]
mod traffic;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use backend::{Answer, Backend};
use flooding::{FLOODS, Flood, Target};

/// In MiB.
const MEMORY_LIMITS: [u64; 3] = [64, 256, 512];

/// A process that falls idle is given so long to give memory back, once it holds nothing.
const REST: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() {
    let only = env::var("FLOOD").unwrap_or_default();
    let limits = match env::var("LIMIT") {
        Ok(limit) => vec![limit.parse().expect("LIMIT is a number of MiB")],
        Err(_) => MEMORY_LIMITS.to_vec(),
    };
    println!(
        "RSS in MiB: before, at its peak and how far that is from the limit, and {} s after the last span\n",
        REST.as_secs()
    );
    println!("| limit | flood | before | peak | over | after | accepted spans/s | refused | late by, p99 |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for limit in limits {
        // Spans a second that the sidecar takes when senders wait for it; floods behind that one go by it.
        let mut capacity = None;
        for flood in FLOODS {
            if flood.name.starts_with(&only) || (flood.is_capacity && only.starts_with("ten times")) {
                let rate = measure(limit, flood, capacity).await;
                if flood.is_capacity {
                    capacity = Some(rate);
                }
            }
        }
    }
}

/// Floods a sidecar and prints a row; returns the spans accepted per second.
async fn measure(limit: u64, flood: &Flood, capacity: Option<u64>) -> u64 {
    let backend = Backend::start(|_| Answer::Take).await;
    let sidecar = Sidecar::start(limit, flood.on_overflow, &backend.endpoint());
    let before = sidecar.memory("VmRSS:");
    let target = Target { http: sidecar.http, grpc: sidecar.grpc, capacity };
    let started = Instant::now();
    let send = flood.send;
    let offered = tokio::task::spawn_blocking(move || send(&target)).await.expect("floods");
    let took = started.elapsed().as_secs_f64();
    let page = sidecar.metrics();
    let accepted = total(&page, "laggard_receiver_accepted_spans_total");
    sidecar.details(&page);
    let page = sidecar.until_idle().await;
    sidecar.details(&page);
    let (peak, after) = (sidecar.memory("VmHWM:"), sidecar.memory("VmRSS:"));
    println!(
        "| {limit} | {}{} | {before:.0} | {peak:.0} | {:+.0} | {after:.0} | {:.0} | {} | {} s |",
        flood.name,
        if offered > 0 { format!(", {:.0} spans/s offered", offered as f64 / took) } else { String::new() },
        peak - limit as f64,
        accepted / took,
        total(&page, "laggard_receiver_refused_requests_total"),
        lateness(&page)
    );
    let accounted: f64 = [
        "laggard_exporter_sent_spans_total",
        "laggard_dropped_spans_total",
        "laggard_held_spans",
        "laggard_queued_spans",
    ]
    .iter()
    .map(|name| total(&page, name))
    .sum();
    let accepted_in_all = total(&page, "laggard_receiver_accepted_spans_total");
    assert!(
        (accepted_in_all - accounted).abs() < 0.5,
        "accepted {accepted_in_all} = sent + dropped + held + queued {accounted}"
    );
    (accepted / took) as u64
}

/// The program under test.
struct Sidecar {
    process: Child,
    grpc: SocketAddr,
    http: SocketAddr,
    admin: SocketAddr,
}

impl Sidecar {
    fn start(limit: u64, on_overflow: &str, destination: &str) -> Self {
        let [grpc, http, admin] = [(); 3].map(|()| free_address());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("laggard.yaml");
        let config = format!(
            "memory_limit: {limit}MiB\n\
             receive: {{grpc: {{endpoint: \"{grpc}\"}}, http: {{endpoint: \"{http}\"}}}}\n\
             assemble: {{on_overflow: {on_overflow}}}\n\
             telemetry: {{admin: {{endpoint: \"{admin}\"}}, log: {{level: error}}}}\n\
             export: {{endpoint: \"{destination}\"}}\n"
        );
        fs::write(&file, config).expect("writes");
        let executable = env::var("LAGGARD").unwrap_or_else(|_| env!("CARGO_BIN_EXE_laggard").to_owned());
        let process = Command::new(executable)
            .args(["run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .expect("starts");
        let mut sidecar = Self { process, grpc, http, admin };
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
        for _ in 0..240 {
            let page = self.metrics();
            if total(&page, "laggard_held_spans") + total(&page, "laggard_queued_spans") < 0.5 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        tokio::time::sleep(REST).await;
        self.metrics()
    }

    fn details(&self, page: &BTreeMap<String, f64>) {
        if env::var("DETAILS").is_err() {
            return;
        }
        println!("RSS {:.0}, peak {:.0}", self.memory("VmRSS:"), self.memory("VmHWM:"));
        for name in [
            "laggard_used_bytes",
            "laggard_dropped_spans_total",
            "laggard_decisions_total",
            "laggard_exporter_sent_spans_total",
            "laggard_receiver_refused_requests_total",
        ] {
            let series = page.iter().filter(|(series, value)| series.starts_with(name) && **value > 0.0);
            let scale = if name == "laggard_used_bytes" { f64::from(1 << 20) } else { 1.0 };
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
