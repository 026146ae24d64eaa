//! Traces as the tests of this stage write them down.

use std::collections::BTreeMap;

use super::analysis::Analysis;
use super::blame::{self, Findings};
use super::comparer::{Comparer, Settings, verdict_on};
use super::judge::Slower;
use super::{Culprit, Outcome, Reason, Verdict};
use crate::assemble::Trace;
use crate::baseline::floors::{Floors, Past};
use crate::baseline::{Linked, References};
use crate::config::Config;
use crate::decide::{RouteId, entry};
use crate::otlp::span::{Kind, SpanView};
use crate::otlp::wire::{put_bytes, put_fixed64, put_uint};
use crate::otlp::{SpanId, TraceId};

const EPOCH: u64 = 1_700_000_000_000_000_000;

/// One span; times are microseconds.
#[derive(Clone, Debug)]
pub(crate) struct SpanSpec {
    pub(crate) id: u64,
    pub(crate) parent: u64,
    pub(crate) service: String,
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) is_error: bool,
    pub(crate) attributes: Vec<(&'static str, &'static str)>,
    pub(crate) events: Vec<(i64, &'static str)>,
}

/// A trace to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct TraceSpec {
    pub(crate) spans: Vec<SpanSpec>,
}

impl TraceSpec {
    fn add(
        mut self,
        kind: Kind,
        (id, parent): (u64, u64),
        who: (&str, &str),
        (start, end): (i64, i64),
    ) -> Self {
        self.spans.push(SpanSpec {
            id,
            parent,
            service: who.0.to_owned(),
            kind,
            name: who.1.to_owned(),
            start,
            end,
            is_error: false,
            attributes: Vec::new(),
            events: Vec::new(),
        });
        self
    }

    pub(crate) fn server(self, ids: (u64, u64), who: (&str, &str), during: (i64, i64)) -> Self {
        self.add(Kind::Server, ids, who, during)
    }

    pub(crate) fn client(self, ids: (u64, u64), who: (&str, &str), during: (i64, i64)) -> Self {
        self.add(Kind::Client, ids, who, during)
    }

    pub(crate) fn internal(self, ids: (u64, u64), who: (&str, &str), during: (i64, i64)) -> Self {
        self.add(Kind::Internal, ids, who, during)
    }

    pub(crate) fn of_kind(self, kind: Kind, ids: (u64, u64), who: (&str, &str), during: (i64, i64)) -> Self {
        self.add(kind, ids, who, during)
    }

    /// Changes the span added last.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut SpanSpec)) -> Self {
        change(self.spans.last_mut().expect("a span was added"));
        self
    }

    pub(crate) fn error(self) -> Self {
        self.with(|span| span.is_error = true)
    }

    pub(crate) fn build(&self, id: u8) -> Trace {
        let trace_id = TraceId::from_slice(&[id; 16]).expect("not zero");
        let mut trace = Trace::new(trace_id);
        let mut scopes: BTreeMap<&str, u32> = BTreeMap::new();
        for span in &self.spans {
            let scope = *scopes.entry(&span.service).or_insert_with(|| {
                let mut content = Vec::new();
                put_bytes(&mut content, 1, &attribute_field(1, "service.name", &span.service));
                let resource = trace.push_resource(&content).expect("small");
                trace.push_scope(&[], resource).expect("small")
            });
            let body = span.encode(trace_id);
            let head = SpanView::read(&body).expect("valid").head;
            trace.push_span(head, &body, scope).expect("small");
        }
        trace
    }
}

impl SpanSpec {
    fn encode(&self, trace_id: TraceId) -> Vec<u8> {
        let at = |micros: i64| EPOCH.wrapping_add_signed(micros * 1000);
        let mut body = Vec::new();
        put_bytes(&mut body, 1, trace_id.bytes());
        put_bytes(&mut body, 2, &self.id.to_be_bytes());
        if self.parent != 0 {
            put_bytes(&mut body, 4, &self.parent.to_be_bytes());
        }
        put_bytes(&mut body, 5, self.name.as_bytes());
        put_uint(&mut body, 6, self.kind as u64);
        put_fixed64(&mut body, 7, at(self.start));
        put_fixed64(&mut body, 8, at(self.end));
        for (key, value) in &self.attributes {
            body.extend_from_slice(&attribute_field(9, key, value));
        }
        for (time, name) in &self.events {
            let mut event = Vec::new();
            put_fixed64(&mut event, 1, at(*time));
            put_bytes(&mut event, 2, name.as_bytes());
            put_bytes(&mut body, 11, &event);
        }
        if self.is_error {
            put_bytes(&mut body, 15, &[0x18, 2]);
        }
        body
    }
}

fn attribute_field(number: u32, key: &str, value: &str) -> Vec<u8> {
    let (mut any, mut key_value, mut field) = (Vec::new(), Vec::new(), Vec::new());
    put_bytes(&mut any, 1, value.as_bytes());
    put_bytes(&mut key_value, 1, key.as_bytes());
    put_bytes(&mut key_value, 2, &any);
    put_bytes(&mut field, number, &key_value);
    field
}

pub(crate) fn span_id(id: u64) -> SpanId {
    SpanId::from_slice(&id.to_be_bytes()).expect("not zero")
}

/// All that came of one comparison.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) verdict: Verdict,
    pub(crate) findings: Findings,
    /// Nanoseconds that the slow entry span lasted longer than the linked one.
    pub(crate) added: i128,
}

impl Compared {
    /// What the linked trace and the slow one differ by, by service, in nanoseconds; nothing is left out.
    pub(crate) fn deltas(&self) -> BTreeMap<String, i128> {
        let mut deltas = BTreeMap::new();
        for service in &self.findings.services {
            *deltas.entry(service.name.clone()).or_default() += service.delta;
        }
        deltas
    }
}

/// Compares `slow` with traces like `fast`, the first of them linked; `None` where an entry span has no credible times.
pub(crate) fn compared(fast: &[TraceSpec], slow: &TraceSpec) -> Option<Compared> {
    let slow = slow.build(200);
    let fast: Vec<Trace> = (1..).zip(fast).map(|(id, spec)| spec.build(id)).collect();
    compared_traces(&fast, &slow)
}

/// The same, of traces in hand.
pub(crate) fn compared_traces(fast: &[Trace], slow: &Trace) -> Option<Compared> {
    let slow = analysis(slow)?;
    let analysed: Vec<Analysis<'_>> = fast.iter().map(analysis).collect::<Option<_>>()?;
    let pasts: Vec<Past> = analysed.iter().map(|analysis| Past::of(&analysis.ledger)).collect();
    let (trace, first) = (&fast[0], &analysed[0]);
    let linked = Linked::new(0, trace.clone().into(), entry_of(trace), first).expect("has an entry");
    let references = References {
        linked: linked.into(),
        floors: Floors::of(pasts.iter()).into(),
        likeness: first.shape.likeness(&slow.shape),
    };
    let settings = Settings { slower: Slower::Surely, minimum_share: 0.5, threshold: 0 };
    let findings = blame::findings(&slow, &first.ledger, &references.floors, None);
    let verdict = verdict_on(&slow, &references, &findings, settings);
    let added = i128::from(slow.ledger.duration) - i128::from(first.ledger.duration);
    Some(Compared { verdict, findings, added })
}

/// `None` where the entry span has no credible times.
pub(crate) fn analysis(trace: &Trace) -> Option<Analysis<'_>> {
    Analysis::of(trace, entry_of(trace))
}

pub(crate) fn entry_of(trace: &Trace) -> usize {
    entry::find(trace).expect("has spans").span
}

/// The verdict on `slow`, with traces like `fast` as references and the first of them linked.
pub(crate) fn verdict_of(fast: &[TraceSpec], slow: &TraceSpec) -> Verdict {
    compared(fast, slow).expect("valid times").verdict
}

/// The same as `run` finds it: traces like `fast`, one a second, then some like those of `lately` at once.
pub(crate) fn verdict_in_traffic(fast: &[TraceSpec], lately: &[TraceSpec], slow: &TraceSpec) -> Verdict {
    const SECOND: u64 = 1_000_000_000;
    const NORMAL: u8 = 24;
    let config = Config::default();
    let comparer = Comparer::new(&config.compare, &config.baseline, &config.slow.learned, 64 << 20);
    let mut now = EPOCH;
    let learn = |now, id: u8, spec: &TraceSpec, is_reference| {
        let trace = spec.build(id);
        comparer.learn(now, RouteId::OTHER, &trace, entry_of(&trace), is_reference);
    };
    for (id, spec) in (1..=NORMAL).zip(fast.iter().cycle()) {
        now += SECOND;
        learn(now, id, spec, true);
    }
    comparer.trust(now);
    now += SECOND;
    for (id, spec) in (100..).zip(lately) {
        learn(now, id, spec, false);
    }
    let slow = slow.build(200);
    comparer.compare(now, RouteId::OTHER, &slow, entry_of(&slow), SECOND)
}

/// The verdicts of both: of two traces alone, and of `run`.
pub(crate) fn both_verdicts(fast: &[TraceSpec], slow: &TraceSpec) -> [Verdict; 2] {
    [verdict_of(fast, slow), verdict_in_traffic(fast, &[], slow)]
}

/// Who is named, or why nobody is.
pub(crate) fn named(verdict: &Verdict) -> Result<&str, Reason> {
    match &verdict.outcome {
        Outcome::Identified(culprit) => Ok(&culprit.service),
        Outcome::Inconclusive(reason) => Err(*reason),
    }
}

/// The culprit of a verdict that has one.
pub(crate) fn culprit_of(verdict: &Verdict) -> &Culprit {
    match &verdict.outcome {
        Outcome::Identified(culprit) => culprit,
        Outcome::Inconclusive(reason) => {
            panic!("{reason:?}: {} {:?}", verdict.explanation, verdict.candidates)
        }
    }
}
