//! CPU nanoseconds a span of each stage, beside decoding the same requests with prost: `cargo bench --bench stages`. With
//! `-- flat` the cost from a thousand to a million traces in flight, with `-- cores` two threads beside one.

#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

#[path = "support/cores.rs"]
mod cores;
#[path = "support/measure.rs"]
mod measure;
#[path = "support/traffic.rs"]
mod traffic;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use laggard::config::Config;
use laggard::otlp::Nanos;
use laggard::otlp::batch::Batch;
use laggard::pipeline::{Limits, Pipeline};
use laggard::telemetry::metrics::Metrics;
use measure::Series;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use rustix::time::{ClockId, clock_gettime};
use traffic::{Requests, SMALL, SPANS_PER_TRACE, TYPICAL};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ROUNDS: usize = 21;
const SPANS_A_ROUND: u64 = 20_480;

/// On the stages' clock. Learning looks at a fixed number of traces a second, whatever their rate.
const SPANS_A_SECOND: u64 = 100_000;

fn main() {
    // What cargo adds begins with a hyphen.
    match std::env::args().skip(1).find(|argument| !argument.starts_with('-')).as_deref() {
        Some("flat") => return flat(),
        Some("cores") => return cores::compare(),
        _ => {}
    }
    println!("CPU ns a span, medians of {ROUNDS} interleaved rounds\n");
    measure(Requests::from_collector(TYPICAL, 512), 512, 100_000);
    measure(Requests::from_collector(SMALL, 512), 512, 100_000);
    measure(Requests::from_collector(SMALL, 512), 512, 1_000_000);
    measure(Requests::from_services(TYPICAL, 16), 16, 100_000);
}

/// The cost of a lean span while a thousand to a million traces are in flight; the last takes 3 GB.
fn flat() {
    println!("CPU ns a span, medians of {ROUNDS} rounds\n");
    println!("| traces in flight | walk | store | decide and drop 95 % | encode the kept 5 % | all four |");
    println!("|---|---|---|---|---|---|");
    for traces in [1_000, 10_000, 100_000, 1_000_000] {
        let mut requests = Requests::from_collector(SMALL, 512);
        let (series, _) = series(&mut requests, 512, traces * SPANS_PER_TRACE as u64);
        let costs: Vec<f64> = series.iter().skip(1).map(Series::median).collect();
        let cells: Vec<_> = costs.iter().map(|cost| format!("{cost:.0}")).collect();
        println!("| {traces} | {} | {:.0} |", cells.join(" | "), costs.iter().sum::<f64>());
    }
}

/// What each stage costs for requests of so many spans while so many spans are held.
fn series(requests: &mut Requests, spans: u64, held: u64) -> ([Series; 5], Rig) {
    let mut rig = Rig::new(spans, held);
    // Until traces leave as fast as they come.
    let mut warm_up = Costs::new();
    for _ in 0..2 * held / spans {
        rig.take(requests.next_request(), &mut warm_up);
    }
    let mut series =
        ["prost: decode and drop", "walk", "store", "decide and drop 95 %", "encode the kept 5 %"]
            .map(Series::new);
    for _ in 0..ROUNDS {
        let mut costs = Costs::new();
        for _ in 0..SPANS_A_ROUND / spans {
            rig.take(requests.next_request(), &mut costs);
        }
        for (series, nanoseconds) in series.iter_mut().zip(costs.nanoseconds) {
            series.note(nanoseconds, SPANS_A_ROUND);
        }
    }
    (series, rig)
}

/// Measures requests of so many spans while so many spans are held.
fn measure(mut requests: Requests, spans: u64, held: u64) {
    let wire = requests.next_request().len() as u64 / spans;
    let (series, rig) = series(&mut requests, spans, held);
    let kept = 100.0 * rig.kept as f64 / rig.decided() as f64;
    println!("{spans} spans a request, {wire} B each; {held} spans held, {kept:.1} % kept");
    let [prost, ..] = &series;
    for stage in &series {
        let (least, most) = stage.range();
        println!(
            "  {:<24} {:>7.1}   ({least:.1} to {most:.1})   {:.3} of prost",
            stage.name(),
            stage.median(),
            stage.times(prost)
        );
    }
    let ours: f64 = series.iter().skip(1).map(Series::median).sum();
    println!("  {:<24} {ours:>7.1}   {:.3} of prost\n", "all four", ours / prost.median());
}

/// Nanoseconds by stage.
struct Costs {
    nanoseconds: [u64; 5],
}

impl Costs {
    fn new() -> Self {
        Self { nanoseconds: [0; 5] }
    }
}

/// The stages, driven by hand on a clock of their own.
struct Rig {
    pipeline: Pipeline,
    batch: Batch,
    now: Nanos,
    interval: Nanos,
    spans: u64,
    out: Vec<u8>,
    taken: u64,
    kept: u64,
}

impl Rig {
    fn new(spans: u64, held: u64) -> Self {
        let interval = spans * 1_000_000_000 / SPANS_A_SECOND;
        let wait = held * 1_000_000_000 / SPANS_A_SECOND;
        let mut config = Config::default();
        config.assemble.decision_wait_after_root_received = Duration::from_nanos(wait);
        let limits = Limits { held: 4 << 30, baseline: 64 << 20, tables: 64 << 20 };
        let pipeline = Pipeline::new(&config, limits, 1, Arc::new(Metrics::default()));
        Self {
            pipeline,
            batch: Batch::default(),
            now: 0,
            interval,
            spans,
            out: Vec::new(),
            taken: 0,
            kept: 0,
        }
    }

    fn take(&mut self, request: &[u8], costs: &mut Costs) {
        self.now += self.interval;
        let [prost, walk, store, decide, encode] = &mut costs.nanoseconds;
        timed(prost, || {
            drop(black_box(ExportTraceServiceRequest::decode(black_box(request)).expect("valid")));
        });
        timed(walk, || self.batch.read(black_box(request)).expect("valid"));
        let mut kept = Vec::with_capacity(64);
        timed(store, || {
            let accepted =
                self.pipeline.accept(self.now, &self.batch, request, &mut |outgoing| kept.push(outgoing));
            accepted.expect("room");
        });
        timed(decide, || self.pipeline.decide_due(self.now, &mut |outgoing| kept.push(outgoing)));
        self.out.clear();
        timed(encode, || kept.iter().for_each(|outgoing| outgoing.trace.encode(&mut self.out)));
        self.taken += self.spans;
        self.kept += kept.iter().map(|outgoing| outgoing.trace.len() as u64).sum::<u64>();
    }

    fn decided(&self) -> u64 {
        self.taken - self.pipeline.held().spans
    }
}

fn timed(total: &mut u64, work: impl FnOnce()) {
    let before = thread_time();
    work();
    *total += thread_time() - before;
}

/// CPU time of this thread: what others do on the machine does not count.
fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
