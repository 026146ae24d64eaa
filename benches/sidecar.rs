//! The whole sidecar beside a server that receives the same bytes and does nothing: `cargo bench --bench sidecar`.
//!
//! Each runs in a process of its own on one CPU; the generator and the destination share the other. Rounds are
//! interleaved: first the one receives for some seconds, then the other, which is also given the time to decide and
//! forward all of it. Both receive the same spans at the same rate. `BESIDE` names another build of `laggard`, which is
//! measured in the same rounds, and `LOAD` picks loads by a part of their names, without the memory.

#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]
#![allow(clippy::disallowed_methods, reason = "paces real requests by the clock")]

#[path = "support/measure.rs"]
mod measure;
#[path = "support/processes.rs"]
mod processes;
#[path = "support/traffic.rs"]
mod traffic;

use std::env;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use laggard::otlp::codec::Body;
use laggard::otlp::services::opentelemetry::proto::collector::trace::v1 as service;
use measure::Series;
use processes::{Process, await_listener, become_pinned, cpus, free_address, metric, pin};
use service::trace_service_client::TraceServiceClient;
use service::trace_service_server::{TraceService, TraceServiceServer};
use tonic::codec::CompressionEncoding::Gzip;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use traffic::{Requests, SMALL, Shape, TYPICAL};

const LAGGARD: &str = env!("CARGO_BIN_EXE_laggard");
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
const LARGEST_REQUEST: usize = 64 << 20;

/// How the spans come.
struct Load {
    name: &'static str,
    shape: Shape,
    spans: usize,
    spans_a_second: u32,
    gzip: bool,
}

const LOADS: [Load; 4] = [
    Load { name: "512 spans a request", shape: TYPICAL, spans: 512, spans_a_second: 80_000, gzip: false },
    Load { name: "512, lean spans", shape: SMALL, spans: 512, spans_a_second: 80_000, gzip: false },
    Load { name: "16 spans a request", shape: TYPICAL, spans: 16, spans_a_second: 24_000, gzip: false },
    Load { name: "512, gzip", shape: TYPICAL, spans: 512, spans_a_second: 40_000, gzip: true },
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["null-server", address] => null_server(address.parse()?),
        ["pinned", cpu, program, ..] => {
            become_pinned(cpu.parse()?, program, arguments.get(3..).unwrap_or_default())
        }
        _ => compare(),
    }
}

fn compare() -> anyhow::Result<()> {
    let (measured, others) = cpus()?;
    pin(others)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if measured == others {
        println!("only one CPU: the generator shares it, which spoils caches");
    }
    println!("CPU ns a span of the whole process, medians of {ROUNDS} interleaved rounds\n");
    let only = env::var("LOAD").unwrap_or_default();
    for load in LOADS.iter().filter(|load| load.name.contains(&only)) {
        runtime.block_on(cpu_a_span(load, measured))?;
    }
    if !only.is_empty() {
        return Ok(());
    }
    println!("\nresident bytes a held span\n");
    for shape in [TYPICAL, SMALL] {
        runtime.block_on(memory_a_span(shape, measured))?;
    }
    Ok(())
}

async fn cpu_a_span(load: &Load, cpu: usize) -> anyhow::Result<()> {
    let null = Target::null(Some(cpu)).await?;
    let mut sidecars = vec![("laggard", Sidecar::start(LAGGARD, cpu, "2s", "1s").await?)];
    if let Ok(beside) = env::var("BESIDE") {
        sidecars.push(("beside", Sidecar::start(&beside, cpu, "2s", "1s").await?));
    }
    let mut requests = match load.spans {
        512 => Requests::from_collector(load.shape, load.spans),
        _ => Requests::from_services(load.shape, load.spans),
    };
    let wire = requests.next_request().len() / load.spans;
    let mut of_null = Series::new("null server");
    let mut of_sidecars: Vec<_> = sidecars.iter().map(|(name, _)| Series::new(name)).collect();
    // The first round warms up.
    for round in 0..=ROUNDS {
        let before = null.process.cpu_time()?;
        let spans = null.send(load, &mut requests, ROUND).await?;
        if round > 0 {
            of_null.note(null.process.cpu_time()? - before, spans);
        }
        for (series, (_, sidecar)) in of_sidecars.iter_mut().zip(&sidecars) {
            let before = sidecar.target.process.cpu_time()?;
            let spans = sidecar.target.send(load, &mut requests, ROUND).await?;
            sidecar.await_empty().await?;
            if round > 0 {
                series.note(sidecar.target.process.cpu_time()? - before, spans);
            }
        }
    }
    let kept = sidecars.first().map_or(Ok(0.0), |(_, sidecar)| sidecar.kept())?;
    println!("{}, {wire} B a span, {} spans/s, {kept:.1} % kept", load.name, load.spans_a_second);
    for series in std::iter::once(&of_null).chain(&of_sidecars) {
        let (least, most) = series.range();
        println!(
            "  {:<12} {:>7.0}   ({least:.0} to {most:.0})   {:.2} million spans a CPU second   {:.2} of the null server",
            series.name(),
            series.median(),
            1_000.0 / series.median(),
            series.times(&of_null)
        );
    }
    println!();
    Ok(())
}

/// Resident memory while nothing is due yet, and later, when traces have come and gone for twice as long as they are
/// held.
async fn memory_a_span(shape: Shape, cpu: usize) -> anyhow::Result<()> {
    let load = Load { name: "memory", shape, spans: 512, spans_a_second: 60_000, gzip: false };
    for (state, wait, seconds) in [("filling up", "120s", 5), ("steady", "5s", 15)] {
        let sidecar = Sidecar::start(LAGGARD, cpu, wait, wait).await?;
        let mut requests = Requests::from_collector(shape, load.spans);
        let wire = requests.next_request().len() as f64 / load.spans as f64;
        // The connection's buffers and the tables of a request are no cost of a held span.
        let early = sidecar.target.send(&load, &mut requests, Duration::from_millis(500)).await?;
        let before = sidecar.target.process.resident()?;
        sidecar.target.send(&load, &mut requests, Duration::from_secs(seconds)).await?;
        let resident = sidecar.target.process.resident()? - before;
        let held = metric(sidecar.admin, "laggard_held_spans")?;
        let counted = metric(sidecar.admin, "laggard_held_bytes")? / held;
        let resident = resident as f64 / (held - early as f64);
        println!(
            "{state:>10}, {wire:.0} B on the wire, {held:.0} spans held: {resident:.0} B resident, {:.2} times the wire; \
             {counted:.0} B as laggard counts, {:.2} times",
            resident / wire,
            counted / wire
        );
    }
    Ok(())
}

/// A process that spans are sent to.
struct Target {
    process: Process,
    client: TraceServiceClient<Channel>,
}

impl Target {
    async fn new(process: Process, address: SocketAddr) -> anyhow::Result<Self> {
        await_listener(address)?;
        let channel = Channel::from_shared(format!("http://{address}"))?.connect().await?;
        let client = TraceServiceClient::new(channel).accept_compressed(Gzip);
        Ok(Self { process, client })
    }

    /// A server that does nothing, on this CPU or where the generator is.
    async fn null(cpu: Option<usize>) -> anyhow::Result<Self> {
        let address = free_address()?;
        let this = this_program()?;
        let mut command = Command::new(&this);
        if let Some(cpu) = cpu {
            command.args(["pinned", &cpu.to_string(), &this]);
        }
        command.args(["null-server", &address.to_string()]);
        Self::new(Process::start(&mut command)?, address).await
    }

    /// Sends requests at the load's pace for some time; returns the spans sent, all acknowledged.
    async fn send(&self, load: &Load, requests: &mut Requests, time: Duration) -> anyhow::Result<u64> {
        let mut client = self.client.clone();
        if load.gzip {
            client = client.send_compressed(Gzip);
        }
        let pace = Duration::from_secs(1) * u32::try_from(load.spans)? / load.spans_a_second;
        let count = u32::try_from(time.as_nanos() / pace.as_nanos())?;
        let start = Instant::now();
        for number in 0..count {
            let body = Bytes::copy_from_slice(requests.next_request());
            tokio::time::sleep_until((start + pace * number).into()).await;
            client.export(Request::new(Body(body))).await?;
        }
        let late = start.elapsed().saturating_sub(pace * count);
        if late > time / 10 {
            println!("  (the generator needed {late:.1?} longer: the rate was lower)");
        }
        Ok(u64::from(count) * load.spans as u64)
    }
}

/// The program under test, and its destination.
struct Sidecar {
    target: Target,
    admin: SocketAddr,
    _destination: Target,
    _directory: tempfile::TempDir,
}

impl Sidecar {
    async fn start(program: &str, cpu: usize, wait: &str, wait_after_root: &str) -> anyhow::Result<Self> {
        let destination_address = free_address()?;
        let this = this_program()?;
        let mut command = Command::new(&this);
        command.args(["null-server", &destination_address.to_string()]);
        let destination = Target::new(Process::start(&mut command)?, destination_address).await?;

        let (grpc, http, admin) = (free_address()?, free_address()?, free_address()?);
        let directory = tempfile::tempdir()?;
        let config = format!(
            "memory_limit: 4GiB\n\
             receive: {{grpc: {{endpoint: '{grpc}'}}, http: {{endpoint: '{http}'}}}}\n\
             assemble: {{decision_wait: {wait}, decision_wait_after_root_received: {wait_after_root}}}\n\
             export: {{endpoint: 'http://{destination_address}'}}\n\
             telemetry: {{admin: {{endpoint: '{admin}'}}, log: {{level: warn}}}}\n"
        );
        let config = processes::write(directory.path(), "config.yaml", &config)?;
        let mut command = Command::new(&this);
        command.args(["pinned", &cpu.to_string(), program, "run", "--config", &config]);
        let process = Process::start(&mut command)?;
        let target = Target::new(process, grpc).await.context("laggard did not start")?;
        Ok(Self { target, admin, _destination: destination, _directory: directory })
    }

    /// Percent of the spans that were forwarded.
    fn kept(&self) -> anyhow::Result<f64> {
        let sent = metric(self.admin, "laggard_exporter_sent_spans_total")?;
        Ok(100.0 * sent / metric(self.admin, "laggard_receiver_accepted_spans_total")?)
    }

    /// Waits until everything is decided and forwarded.
    async fn await_empty(&self) -> anyhow::Result<()> {
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if metric(self.admin, "laggard_held_spans")? + metric(self.admin, "laggard_queued_spans")? == 0.0
            {
                return Ok(());
            }
        }
        anyhow::bail!("laggard still holds spans after 20 s")
    }
}

fn this_program() -> anyhow::Result<String> {
    let path = env::current_exe()?;
    path.into_os_string().into_string().ok().context("the program's path is no text")
}

/// Receives as laggard does, and drops the bytes.
fn null_server(address: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let service =
        TraceServiceServer::new(Nothing).max_decoding_message_size(LARGEST_REQUEST).accept_compressed(Gzip);
    Ok(runtime.block_on(Server::builder().add_service(service).serve(address))?)
}

struct Nothing;

#[tonic::async_trait]
impl TraceService for Nothing {
    async fn export(&self, _request: Request<Body>) -> Result<Response<Body>, Status> {
        Ok(Response::new(Body::default()))
    }
}
