//! A verdict as JSON: one object, the same wherever one is printed.

use serde::Serialize;

use super::{Candidate, Culprit, Outcome, Verdict};
use crate::otlp::{Nanos, TraceId};

/// What is printed of a verdict; what does not apply is left out.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    trace_id: String,
    route: &'a str,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold_ms: Option<f64>,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(flatten)]
    culprit: Option<CulpritRecord<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<BaselineRecord>,
    candidates: Vec<CandidateRecord<'a>>,
    explanation: &'a str,
}

#[derive(Debug, Serialize)]
struct CulpritRecord<'a> {
    service: &'a str,
    category: &'static str,
    confidence: f64,
    delta_ms: f64,
    share: f64,
    operation: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dependency: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'a str>,
    span_id: String,
}

#[derive(Debug, Serialize)]
struct BaselineRecord {
    trace_id: String,
    duration_ms: f64,
    count: usize,
}

#[derive(Debug, Serialize)]
struct CandidateRecord<'a> {
    service: &'a str,
    delta_ms: f64,
    share: f64,
}

impl<'a> Record<'a> {
    /// What is printed of the verdict on trace `id` of `route`.
    pub fn of(id: TraceId, route: &'a str, verdict: &'a Verdict) -> Self {
        let (name, reason, culprit) = match &verdict.outcome {
            Outcome::Identified(culprit) => ("identified", None, Some(CulpritRecord::of(culprit))),
            Outcome::Inconclusive(reason) => ("inconclusive", Some(reason.as_str()), None),
        };
        Self {
            trace_id: id.to_string(),
            route,
            duration_ms: milliseconds(verdict.duration),
            threshold_ms: (verdict.threshold > 0).then(|| milliseconds(verdict.threshold)),
            verdict: name,
            reason,
            culprit,
            baseline: verdict.baseline.as_ref().map(|reference| BaselineRecord {
                trace_id: reference.trace_id.to_string(),
                duration_ms: milliseconds(reference.duration),
                count: reference.count,
            }),
            candidates: verdict.candidates.iter().map(CandidateRecord::of).collect(),
            explanation: &verdict.explanation,
        }
    }
}

impl<'a> CulpritRecord<'a> {
    fn of(culprit: &'a Culprit) -> Self {
        Self {
            service: &culprit.service,
            category: culprit.category.as_str(),
            confidence: culprit.confidence,
            delta_ms: culprit.delta_ms,
            share: thousandths(culprit.share),
            operation: &culprit.operation,
            instance: culprit.instance.as_deref(),
            dependency: culprit.dependency.as_deref(),
            phase: culprit.phase.as_deref(),
            span_id: culprit.span_id.to_string(),
        }
    }
}

impl<'a> CandidateRecord<'a> {
    fn of(candidate: &'a Candidate) -> Self {
        Self {
            service: &candidate.service,
            delta_ms: candidate.delta_ms,
            share: thousandths(candidate.share),
        }
    }
}

fn milliseconds(nanos: Nanos) -> f64 {
    nanos as f64 / 1e6
}

fn thousandths(share: f64) -> f64 {
    (share * 1000.0).round() / 1000.0
}
