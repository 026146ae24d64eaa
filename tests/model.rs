//! The pipeline against a naive reference: random interleavings of arrivals, splits, duplicates, late spans, overflow,
//! oversized traces, time and shutdown, on virtual time. What leaves, what is dropped and what is held must be the
//! same after every step.
#![allow(clippy::panic, clippy::indexing_slicing, reason = "a test that fails says why")]

#[path = "model/reference.rs"]
mod reference;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use laggard::config::{Config, DecisionCache, OnOverflow, Threshold};
use laggard::otlp::Nanos;
use laggard::otlp::batch::Batch;
use laggard::otlp::wire::{put_bytes, put_fixed64, put_uint};
use laggard::pipeline::{Limits, Outgoing, Pipeline};
use laggard::telemetry::metrics::Metrics;
use reference::{Left, Reference, Rules};

const SECOND: Nanos = 1_000_000_000;

/// Seeds of one run; `MODEL_SEEDS=FIRST..END` runs others.
const SEEDS: std::ops::Range<u64> = 0..1_000;
const STEPS: u32 = 40;

/// A span as it is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    trace: u64,
    span: u64,
    is_root: bool,
    is_server: bool,
    is_error: bool,
    start: Nanos,
    end: Nanos,
    padding: usize,
}

impl Sent {
    fn trace_id(self) -> [u8; 16] {
        // Sampling goes by the low bytes.
        let low = (self.trace + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(self.trace + 1).to_be_bytes());
        id[8..].copy_from_slice(&(low ^ low >> 29).to_be_bytes());
        id
    }

    fn body(self) -> Vec<u8> {
        let mut body = Vec::new();
        put_bytes(&mut body, 1, &self.trace_id());
        put_bytes(&mut body, 2, &(self.span + 1).to_be_bytes());
        if !self.is_root {
            put_bytes(&mut body, 4, &[0xee; 8]);
        }
        put_bytes(&mut body, 5, &vec![b'n'; self.padding]);
        put_uint(&mut body, 6, if self.is_server { 2 } else { 1 });
        put_fixed64(&mut body, 7, self.start);
        put_fixed64(&mut body, 8, self.end);
        if self.is_error {
            put_bytes(&mut body, 15, &[0x18, 2]);
        }
        body
    }
}

/// A `ResourceSpans` for each span, of one of three services.
fn request(spans: &[Sent]) -> Vec<u8> {
    let mut request = Vec::new();
    for span in spans {
        let (mut name, mut attribute, mut resource, mut scope, mut around) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        put_bytes(&mut name, 1, format!("service-{}", span.span % 3).as_bytes());
        put_bytes(&mut attribute, 1, b"service.name");
        put_bytes(&mut attribute, 2, &name);
        put_bytes(&mut resource, 1, &attribute);
        put_bytes(&mut scope, 2, &span.body());
        put_bytes(&mut around, 1, &resource);
        put_bytes(&mut around, 2, &scope);
        put_bytes(&mut request, 1, &around);
    }
    request
}

/// Numbers that a seed makes.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end
    }

    fn one_in(&mut self, number: u64) -> bool {
        self.below(number) == 0
    }
}

struct Run {
    random: Random,
    now: Nanos,
    pipeline: Pipeline,
    metrics: Arc<Metrics>,
    reference: Reference,
    /// Where what is held is bounded.
    limit: Option<u64>,
    sent: Vec<Sent>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let limit = random.one_in(3).then_some(700 << 10);
        let mut config = Config::default();
        config.slow.threshold = Threshold::Fixed(std::time::Duration::from_secs(1));
        config.sample.healthy = 0.5;
        config.sample.references = false;
        // Where traces come again as new ones, what was decided early could not be told from what is held.
        let remembers = limit.is_some() || !random.one_in(4);
        config.assemble.decision_cache = DecisionCache {
            sampled: if remembers { 100_000 } else { 0 },
            dropped: if remembers { 100_000 } else { 0 },
        };
        if random.one_in(3) {
            config.assemble.maximum_trace_size = 1_000 + random.below(40_000);
        }
        if random.one_in(3) {
            config.assemble.on_overflow = OnOverflow::Refuse;
        }
        // Which shard a trace is in is random, and so is then which one is decided early.
        let shards = if limit.is_some() { 1 } else { 1 << random.below(4) };
        let limits = Limits { held: limit.unwrap_or(1 << 30), baseline: 1 << 20, tables: 64 << 20 };
        let metrics = Arc::new(Metrics::new().expect("fixed buckets"));
        let pipeline = Pipeline::new(&config, limits, shards, Arc::clone(&metrics));
        let reference = Reference::new(Rules {
            wait: 30 * SECOND,
            wait_after_root: 10 * SECOND,
            maximum_trace_size: config.assemble.maximum_trace_size,
            remembers,
            slow: SECOND,
        });
        Self { random, now: 1_000 * SECOND, pipeline, metrics, reference, limit, sent: Vec::new() }
    }

    fn run(&mut self) {
        for step in 0..STEPS {
            match self.random.below(10) {
                0 => self.pass(SECOND),
                1 => self.pass(9 * SECOND),
                2 if step % 8 == 0 => self.pass(40 * SECOND),
                _ => self.arrive(),
            }
        }
        self.check_metrics();
        let mut out = Vec::new();
        self.pipeline.decide_all(self.now, &mut |outgoing| out.push(outgoing));
        self.reference.decide_all();
        self.check(&out);
        assert_eq!((self.reference.held_traces(), self.reference.held_spans()), (0, 0));
        self.check_metrics();
        self.pipeline.publish();
    }

    /// Time, in steps as long as a look at what is due may be late.
    fn pass(&mut self, nanos: Nanos) {
        self.now += nanos;
        let mut out = Vec::new();
        self.pipeline.decide_due(self.now, &mut |outgoing| out.push(outgoing));
        self.reference.decide_due(self.now);
        self.check(&out);
    }

    fn arrive(&mut self) {
        let count = 1 + self.random.below(6);
        let spans: Vec<Sent> = (0..count).map(|_| self.span()).collect();
        let request = request(&spans);
        let mut batch = Batch::default();
        batch.read(&request).expect("valid");
        let before = self.pipeline.held();
        let mut out = Vec::new();
        let taken = self.pipeline.accept(self.now, &batch, &request, &mut |outgoing| out.push(outgoing));
        if taken.is_err() {
            assert!(self.limit.is_some() && out.is_empty(), "refused: {taken:?}");
            assert_eq!(self.pipeline.held(), before, "a refused request leaves nothing behind");
            return;
        }
        let held = self.pipeline.held();
        let most = if self.limit.is_some() { usize::MAX } else { 0 };
        self.reference.store(self.now, &spans, most, (held.traces, held.spans), &left(&out));
        self.sent.extend(spans);
        self.check(&out);
    }

    fn span(&mut self) -> Sent {
        if self.random.one_in(8) && !self.sent.is_empty() {
            let which = self.random.below(self.sent.len() as u64);
            return self.sent[usize::try_from(which).expect("an index")];
        }
        let random = &mut self.random;
        let start = 1_000 * SECOND + random.below(1_000) * 1_000_000;
        let lasting = if random.one_in(4) { 500 } else { 10 } + random.below(800);
        let padding = random.below(if self.limit.is_some() { 40_000 } else { 300 });
        Sent {
            // Traces come in waves, so that some are met again after their decision.
            trace: self.sent.len() as u64 / 40 * 8 + random.below(12),
            span: self.sent.len() as u64 * 8 + random.below(8),
            is_root: random.one_in(4),
            is_server: random.one_in(2),
            is_error: random.one_in(12),
            start,
            end: start + lasting * 1_000_000,
            padding: usize::try_from(padding).expect("small"),
        }
    }

    fn check(&mut self, out: &[Outgoing]) {
        self.reference.check(&left(out));
        let held = self.pipeline.held();
        assert_eq!((held.traces, held.spans), (self.reference.held_traces(), self.reference.held_spans()));
        let accounted = self.reference.delivered + self.reference.dropped + held.spans;
        assert_eq!(self.sent.len() as u64, accounted, "accepted = sent + dropped + held");
        if let Some(limit) = self.limit {
            self.pipeline.publish();
            assert!(self.pipeline.held_bytes() <= limit, "{} of {limit}", self.pipeline.held_bytes());
        }
    }

    fn check_metrics(&self) {
        let page = self.metrics.render();
        let counted: u64 = page
            .lines()
            .filter(|line| line.starts_with("laggard_dropped_spans_total{"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum();
        assert_eq!(counted, self.reference.dropped, "laggard_dropped_spans_total");
    }
}

fn left(out: &[Outgoing]) -> Vec<Left> {
    let left = out.iter().map(|outgoing| Left {
        id: outgoing.trace.id().bytes().to_vec(),
        class: outgoing.class,
        spans: outgoing.trace.heads().map(|head| head.span_id.bytes().to_vec()).collect(),
    });
    left.collect()
}

fn run(seed: u64) {
    let outcome = catch_unwind(AssertUnwindSafe(|| Run::new(seed).run()));
    if let Err(panic) = outcome {
        eprintln!("the seed is {seed}");
        resume_unwind(panic);
    }
}

#[test]
fn the_pipeline_does_what_a_map_of_vectors_does() {
    let seeds = std::env::var("MODEL_SEEDS").ok().map_or(SEEDS, |text| {
        let (first, end) = text.split_once("..").expect("FIRST..END");
        first.parse().expect("a number")..end.parse().expect("a number")
    });
    seeds.for_each(run);
}
