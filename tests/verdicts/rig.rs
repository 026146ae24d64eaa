//! The stages from assembling to enriching, and `laggard compare`, given traces as text.

use std::sync::Arc;
use std::time::Duration;

use laggard::cli::{CompareArgs, Format};
use laggard::compare::{Culprit, Outcome, Reason, Verdict};
use laggard::compare_files::{self, Look};
use laggard::config::{Config, Threshold};
use laggard::otlp::batch::Batch;
use laggard::pipeline::{Limits, Outgoing, Pipeline};
use laggard::telemetry::metrics::Metrics;
use prost::Message as _;
use serde_json::Value;

use super::notation::{self, EPOCH};

const SECOND: u64 = 1_000_000_000;

/// A trace that takes longer is slow, in milliseconds.
pub(crate) const THRESHOLD: u64 = 250;

/// How many references are taught.
pub(crate) const REFERENCES: u64 = 12;

/// The stages of the sidecar on a clock of their own.
pub(crate) struct Sidecar {
    pipeline: Pipeline,
    metrics: Arc<Metrics>,
    now: u64,
    traces: u64,
    accepted: u64,
    delivered: u64,
}

impl Sidecar {
    pub(crate) fn new() -> Self {
        Self::with(|_, _| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config, &mut Limits)) -> Self {
        let mut config = Config::default();
        config.slow.threshold = Threshold::Fixed(Duration::from_millis(THRESHOLD));
        let mut limits = Limits { held: 64 << 20, baseline: 16 << 20, tables: 64 << 20 };
        change(&mut config, &mut limits);
        let metrics = Arc::new(Metrics::default());
        let pipeline = Pipeline::new(&config, limits, 1, Arc::clone(&metrics));
        Self { pipeline, metrics, now: EPOCH, traces: 0, accepted: 0, delivered: 0 }
    }

    /// One that has seen some traces like this.
    pub(crate) fn taught(fast: &str) -> Self {
        let mut sidecar = Self::new();
        sidecar.teach(fast);
        sidecar
    }

    pub(crate) fn teach(&mut self, fast: &str) {
        for _ in 0..REFERENCES {
            self.send(fast);
        }
    }

    /// What becomes of a trace once all waits are over.
    pub(crate) fn send(&mut self, trace: &str) -> Vec<Outgoing> {
        let mut out = Vec::new();
        self.accept(trace, &mut out);
        self.now += 40 * SECOND;
        let before = out.len();
        self.pipeline.decide_due(self.now, &mut |outgoing| out.push(outgoing));
        self.check(out.get(before..).unwrap_or_default());
        out
    }

    /// Takes a trace in, and returns its number.
    pub(crate) fn accept(&mut self, trace: &str, out: &mut Vec<Outgoing>) -> u64 {
        self.traces += 1;
        let request = notation::request(trace, self.traces, self.now - EPOCH).encode_to_vec();
        let mut batch = Batch::default();
        batch.read(&request).expect("valid");
        let before = out.len();
        let taken = self.pipeline.accept(self.now, &batch, &request, &mut |outgoing| out.push(outgoing));
        taken.expect("room");
        self.accepted += batch.spans.len() as u64;
        self.check(out.get(before..).unwrap_or_default());
        self.traces
    }

    /// `accepted = delivered + dropped + held`, in spans, after every step.
    fn check(&mut self, out: &[Outgoing]) {
        let own = out.iter().filter(|outgoing| !outgoing.is_reference);
        self.delivered += own.map(|outgoing| outgoing.trace.len() as u64).sum::<u64>();
        let page = self.metrics.render();
        let dropped = page.lines().filter(|line| line.starts_with("laggard_dropped_spans_total{"));
        let dropped: u64 = dropped.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
        assert_eq!(self.accepted, self.delivered + dropped + self.pipeline.held().spans);
    }

    /// The verdict on a slow trace.
    pub(crate) fn verdict(&mut self, slow: &str) -> Verdict {
        let out = self.send(slow);
        let verdict = out.into_iter().find_map(|outgoing| outgoing.analysis).map(|found| found.verdict);
        verdict.expect("the trace is slow")
    }

    pub(crate) fn culprit(&mut self, slow: &str) -> Culprit {
        let verdict = self.verdict(slow);
        match verdict.outcome {
            Outcome::Identified(culprit) => culprit,
            Outcome::Inconclusive(reason) => {
                panic!("{}: {} {:?}", reason.as_str(), verdict.explanation, verdict.candidates)
            }
        }
    }

    pub(crate) fn reason(&mut self, slow: &str) -> Reason {
        let verdict = self.verdict(slow);
        match verdict.outcome {
            Outcome::Inconclusive(reason) => reason,
            Outcome::Identified(culprit) => panic!("{culprit:?}"),
        }
    }
}

/// What `laggard compare --format json` answers, and what it warns of.
pub(crate) fn compared(fast: &str, slow: &str) -> (Value, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str, number| {
        let path = directory.path().join(name);
        std::fs::write(&path, notation::request(text, number, 0).encode_to_vec()).expect("written");
        path
    };
    let (fast, slow) = (write("fast.binpb", fast, 1), write("slow.binpb", slow, 2));
    let args = CompareArgs { fast, slow, format: Format::Json, trace_id: None };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    compare_files::run(&args, Look { width: 100, colour: false }, &mut out, &mut err).expect("an answer");
    (serde_json::from_slice(&out).expect("JSON"), String::from_utf8(err).expect("text"))
}
