//! The comparison as a whole: what to compare with, what came of it, and how it reads.

use std::sync::Arc;

use super::analysis::Analysis;
use super::blame::{self, Findings};
use super::confidence::Grounds;
use super::judge::{Evidence, Judgement, Slower, Why, ratio};
use super::traffic::{Look, Traffic};
use super::{Candidate, Culprit, Outcome, Reason, Reference, Verdict, culprit, explain, phase};
use crate::assemble::Trace;
use crate::baseline::store::{Absence, Store};
use crate::baseline::{Lesson, References};
use crate::config;
use crate::decide::RouteId;
use crate::otlp::{Nanos, TraceId};

/// At most so many candidates are named.
const CANDIDATES: usize = 5;

/// Learns references and compares slow traces with them. Shared by threads; each route has a lock of its own, held
/// for one lookup or one lesson.
#[derive(Debug)]
pub struct Comparer {
    baselines: Store,
    traffic: Traffic,
    minimum_share: f64,
    max_spans: usize,
}

impl Comparer {
    /// Keeps at most `max_bytes` of references; what is normal between services is learned and forgotten as
    /// `learned` says.
    pub fn new(
        compare: &config::Compare,
        baseline: &config::Baseline,
        learned: &config::Learned,
        max_bytes: u64,
    ) -> Self {
        Self {
            traffic: Traffic::new(learned),
            baselines: Store::new(baseline.references_per_shape, baseline.time_to_live, max_bytes),
            minimum_share: compare.minimum_share,
            max_spans: compare.max_spans,
        }
    }

    /// Keeps what is known of work and of waits within so many bytes; references have a limit of their own.
    #[must_use]
    pub fn within(mut self, bytes: u64) -> Self {
        self.traffic.keep_within(bytes);
        self
    }

    /// Learns from one of a fair sample of all traces, slow or not: how long services wait on each other, and where
    /// `is_reference`, what its route normally looks like, unless a reference was taken less than a second ago.
    /// The caller has checked that a reference was not slow and that its entry span has no error. `now` is event
    /// time and never falls.
    pub fn learn(&self, now: Nanos, route: RouteId, trace: &Trace, entry: usize, is_reference: bool) {
        if trace.len() > self.max_spans {
            return;
        }
        if let Some(analysis) = Analysis::of(trace, entry) {
            let long = self.traffic.observe(now, &analysis);
            if is_reference {
                let is_fault = &|items: &[u64]| self.traffic.is_fault(now, items);
                self.baselines.learn(
                    now,
                    route,
                    Lesson { trace, entry, analysis: &analysis, long, is_fault },
                );
            }
        }
    }

    /// Trusts what was learned so far as normal, however short the time it was learned in.
    pub fn trust(&self, now: Nanos) {
        self.baselines.trust(now);
    }

    /// Why this slow trace took longer than the references of its route. `entry` is the index of its entry span,
    /// `threshold` what its duration exceeded.
    pub fn compare(
        &self,
        now: Nanos,
        route: RouteId,
        trace: &Trace,
        entry: usize,
        threshold: Nanos,
    ) -> Verdict {
        if trace.len() > self.max_spans {
            return without_references(trace, entry, threshold, Reason::LimitExceeded);
        }
        let Some(analysis) = Analysis::of(trace, entry) else {
            return without_references(trace, entry, threshold, Reason::IncompleteTrace);
        };
        match self.baselines.references(now, route, &analysis.shape) {
            Ok(references) => {
                let settings =
                    Settings { slower: Slower::Surely, minimum_share: self.minimum_share, threshold };
                let look = self.traffic.look(now, &analysis.ledger);
                verdict(&analysis, &references, Some(&look), settings)
            }
            Err(Absence::NoBaseline) => without_references(trace, entry, threshold, Reason::NoBaseline),
            Err(Absence::Mismatch) => match explain::torn(&analysis.tree) {
                // What makes other calls may be what is left of a trace like the others.
                Some(explanation) => Verdict {
                    explanation,
                    ..without_references(trace, entry, threshold, Reason::IncompleteTrace)
                },
                None => without_references(trace, entry, threshold, Reason::BaselineMismatch),
            },
        }
    }

    /// The whole reference trace that a verdict cites, while a baseline still holds it.
    pub fn reference(&self, id: TraceId) -> Option<Arc<Trace>> {
        self.baselines.trace(id)
    }

    /// How many references are held.
    pub fn references(&self) -> u64 {
        self.baselines.count()
    }

    /// How many references a route has.
    pub fn references_of(&self, route: RouteId) -> u64 {
        self.baselines.count_of(route)
    }

    /// The baselines, and what is normal between services, as they survive a restart.
    pub(crate) fn learned(&self) -> (&Store, &Traffic) {
        (&self.baselines, &self.traffic)
    }

    /// More spans than this nobody compares.
    pub(crate) fn max_spans(&self) -> usize {
        self.max_spans
    }

    /// Bytes that they take.
    pub fn used_bytes(&self) -> u64 {
        self.baselines.used_bytes()
    }

    /// Bytes that the counters of waits between services take.
    pub fn table_bytes(&self) -> u64 {
        self.traffic.used_bytes()
    }

    /// Forgets what is due to be forgotten.
    pub fn tick(&self, now: Nanos) {
        self.traffic.tick(now);
        self.baselines.run_pending_tasks(now);
    }
}

/// How one comparison is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) slower: Slower,
    pub(crate) minimum_share: f64,
    pub(crate) threshold: Nanos,
}

/// The verdict on an analysed trace; `look` where all traffic is seen.
pub(crate) fn verdict(
    analysis: &Analysis<'_>,
    references: &References,
    look: Option<&Look>,
    settings: Settings,
) -> Verdict {
    let linked = &references.linked.ledger;
    let findings = blame::findings(analysis, linked, &references.floors, look);
    verdict_on(analysis, references, &findings, settings)
}

/// The same, with what has already been found out.
pub(crate) fn verdict_on(
    analysis: &Analysis<'_>,
    references: &References,
    findings: &Findings,
    settings: Settings,
) -> Verdict {
    let Settings { slower, minimum_share, threshold } = settings;
    let evidence = Evidence { analysis, references, findings, slower, minimum_share };
    let (outcome, explanation) = match evidence.judge() {
        Judgement::Name(blamed, grounds) => match named(&evidence, blamed, grounds) {
            Some(culprit) => {
                let explanation = explain::identified(&evidence, blamed, &culprit);
                (Outcome::Identified(culprit), explanation)
            }
            None => abstain(&evidence, Why::Plain(Reason::IncompleteTrace)),
        },
        Judgement::Abstain(why) => abstain(&evidence, why),
    };
    let linked = &references.linked;
    Verdict {
        outcome,
        duration: analysis.ledger.duration,
        threshold,
        baseline: Some(Reference {
            trace_id: linked.trace.id(),
            span_id: linked.span_id,
            duration: linked.ledger.duration,
            count: references.floors.count,
        }),
        candidates: candidates(&evidence),
        explanation,
    }
}

fn abstain(evidence: &Evidence<'_>, why: Why<'_>) -> (Outcome, String) {
    (Outcome::Inconclusive(why.reason()), explain::inconclusive(evidence, why))
}

fn named(evidence: &Evidence<'_>, blamed: &blame::Blamed, grounds: Grounds) -> Option<Culprit> {
    let Evidence { analysis, references, findings, .. } = *evidence;
    let row = findings.row_of(blamed)?;
    let place = culprit::place(analysis, &references.linked, blamed, row)?;
    Some(Culprit {
        service: blamed.name.clone(),
        category: blamed.category,
        confidence: grounds.confidence(blamed.category),
        grounds: Box::new(grounds),
        delta_ms: added_ms(evidence, blamed),
        share: ratio(evidence.added_by(blamed), evidence.added()),
        operation: place.operation,
        instance: culprit::instance(analysis, place.node),
        dependency: culprit::peer(analysis, blamed, row),
        phase: phase::decisive(analysis, &references.linked, place.number, row.reference_key),
        span_id: analysis.tree.span_id(place.node)?,
    })
}

fn added_ms(evidence: &Evidence<'_>, blamed: &blame::Blamed) -> f64 {
    evidence.added_by(blamed) as f64 / 1e6
}

fn candidates(evidence: &Evidence<'_>) -> Vec<Candidate> {
    let services = evidence.findings.services.iter().filter(|service| service.score > 0);
    services
        .take(CANDIDATES)
        .map(|service| Candidate {
            service: service.name.clone(),
            delta_ms: added_ms(evidence, service),
            share: ratio(evidence.added_by(service), evidence.added()),
        })
        .collect()
}

/// The verdict on a trace that could not be compared.
pub(crate) fn without_references(trace: &Trace, entry: usize, threshold: Nanos, reason: Reason) -> Verdict {
    let duration = trace.span(entry).map_or(0, |span| span.head.duration());
    Verdict {
        outcome: Outcome::Inconclusive(reason),
        duration,
        threshold,
        baseline: None,
        candidates: Vec::new(),
        explanation: explain::without_references(reason, duration),
    }
}
