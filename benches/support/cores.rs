//! Two threads that receive and decide as the sidecar's do, beside one.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use laggard::config::Config;
use laggard::otlp::batch::Batch;
use laggard::pipeline::{Limits, Pipeline};
use laggard::telemetry::metrics::Metrics;
use rustix::time::{ClockId, clock_gettime};

use crate::measure::Series;
use crate::traffic::{Requests, TYPICAL};

const ROUNDS: usize = 11;
const SPANS: u64 = 512;
/// Of each thread, in one round.
const REQUESTS: u64 = 400;
/// So much time passes on the pipeline's clock with each request.
const INTERVAL: u64 = 5_000_000;
/// As `run` has with two cores.
const SHARDS: usize = 8;

/// Prints spans a second of one thread and of two; and of two that share nothing but the machine, which is what two can do
/// on it at most. Only the work on spans counts, not making them: with two cores to themselves, two threads are at it
/// nearly all the time.
pub(crate) fn compare() {
    let mut series = ["one thread", "two threads", "two that share nothing"].map(Series::new);
    let mut rigs = [(1, 1), (1, 2), (2, 2)].map(|(pipelines, threads)| (Rig::new(pipelines), threads));
    for round in 0..=ROUNDS {
        for ((rig, threads), series) in rigs.iter_mut().zip(&mut series) {
            let nanoseconds = rig.round(*threads);
            // The first round warms up.
            if round > 0 {
                series.note(nanoseconds, SPANS * REQUESTS * *threads as u64);
            }
        }
    }
    let [one, two, apart] = &series;
    println!("spans of 640 B, 512 a request, medians of {ROUNDS} interleaved rounds\n");
    for series in &series {
        println!("  {:<23} {:.2} million spans a second", series.name(), 1_000.0 / series.median());
    }
    println!("  two threads do {:.2} times the work of one,", one.times(two));
    println!("  two that share nothing {:.2} times", one.times(apart));
}

struct Rig {
    pipelines: Vec<Work>,
    requests: [Requests; 2],
}

/// What threads work on.
struct Work {
    pipeline: Pipeline,
    now: AtomicU64,
}

impl Rig {
    fn new(pipelines: usize) -> Self {
        let mut config = Config::default();
        config.assemble.decision_wait_after_root_received = Duration::from_secs(1);
        let limits = Limits { held: 4 << 30, baseline: 64 << 20, tables: 64 << 20 };
        let pipeline = || Pipeline::new(&config, limits, SHARDS, Arc::new(Metrics::default()));
        let pipelines = (0..pipelines).map(|_| Work { pipeline: pipeline(), now: AtomicU64::new(0) });
        let requests = [0, 1_000_000_000].map(|first| {
            let mut requests = Requests::from_collector(TYPICAL, 512);
            // Each sends traces of its own.
            requests.skip_to(first);
            requests
        });
        Self { pipelines: pipelines.collect(), requests }
    }

    /// Wall-clock nanoseconds that it took so many threads, each with requests of its own, of the longest.
    fn round(&mut self, threads: usize) -> u64 {
        let pipelines = &self.pipelines;
        thread::scope(|scope| {
            let working: Vec<_> = (0..threads)
                .zip(&mut self.requests)
                .zip(pipelines.iter().cycle())
                .map(|((thread, requests), at)| {
                    // Each decides its share of the shards of the pipeline it works on.
                    let (first, step) = (thread / pipelines.len(), threads / pipelines.len());
                    scope.spawn(move || at.take(requests, (first, step)))
                })
                .collect();
            working.into_iter().map(|thread| thread.join().expect("works")).max().unwrap_or(0)
        })
    }
}

impl Work {
    fn take(&self, requests: &mut Requests, (first, step): (usize, usize)) -> u64 {
        let mut batch = Batch::default();
        let mut taken = 0;
        for _ in 0..REQUESTS {
            let request = requests.next_request();
            let before = time();
            let now = self.now.fetch_add(INTERVAL, Ordering::Relaxed);
            batch.read(black_box(request)).expect("valid");
            let accepted =
                self.pipeline.accept(now, &batch, request, &mut |outgoing| drop(black_box(outgoing)));
            accepted.expect("room");
            for shard in (first..SHARDS).step_by(step) {
                self.pipeline.decide_due_in(shard, now, &mut |outgoing| drop(black_box(outgoing)));
            }
            taken += time() - before;
        }
        taken
    }
}

fn time() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
