//! What holds for every pair of traces. The numbers are those of the specification's list.

mod alone;
mod changes;
mod extremes;
mod traffic;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::programs::Operation;
use crate::compare::testing::{Compared, SpanSpec, TraceSpec, compared, span_id};
use crate::compare::{Category, Outcome, Reason, Verdict};

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn compare(fast: &TraceSpec, slow: &TraceSpec) -> Compared {
    compared(std::slice::from_ref(fast), slow).expect("its times are valid")
}

/// What a verdict says of services, without ids.
type Said = (Result<(String, Category, f64, f64, f64), Reason>, Vec<(String, f64, f64)>);

fn said(verdict: &Verdict) -> Said {
    let outcome = match &verdict.outcome {
        Outcome::Identified(culprit) => Ok((
            culprit.service.clone(),
            culprit.category,
            culprit.delta_ms,
            culprit.share,
            culprit.confidence,
        )),
        Outcome::Inconclusive(reason) => Err(*reason),
    };
    let candidates = verdict.candidates.iter();
    (outcome, candidates.map(|one| (one.service.clone(), one.delta_ms, one.share)).collect())
}

/// The service that is named, if one is.
fn named(verdict: &Verdict) -> Option<&str> {
    match &verdict.outcome {
        Outcome::Identified(culprit) => Some(&culprit.service),
        Outcome::Inconclusive(_) => None,
    }
}

fn confidence(verdict: &Verdict) -> f64 {
    match &verdict.outcome {
        Outcome::Identified(culprit) => culprit.confidence,
        Outcome::Inconclusive(_) => 0.0,
    }
}

/// Two requests of one structure, the second slower by a second in one place, and whose place that is.
fn with_a_fault(
    operations: impl Strategy<Value = Operation>,
) -> impl Strategy<Value = (Operation, Operation, &'static str)> {
    (operations, any::<prop::sample::Index>()).prop_map(|(fast, which)| {
        let (slow, service) = fast.slowed(which, FAULT);
        (fast, slow, service)
    })
}

/// Microseconds.
const FAULT: i64 = 1_000_000;

/// All spans changed by `change`.
fn each(spec: &TraceSpec, mut change: impl FnMut(&mut SpanSpec)) -> TraceSpec {
    let mut spec = spec.clone();
    spec.spans.iter_mut().for_each(&mut change);
    spec
}

/// The clocks of services other than the one that was entered differ by so many microseconds.
fn on_other_clocks(spec: &TraceSpec, offsets: &[i64; 5]) -> TraceSpec {
    let entry = spec.spans[0].service.clone();
    let mut clocks: BTreeMap<String, i64> = BTreeMap::new();
    each(spec, |span| {
        let next = offsets[clocks.len() % offsets.len()];
        let offset =
            if span.service == entry { 0 } else { *clocks.entry(span.service.clone()).or_insert(next) };
        span.start += offset;
        span.end += offset;
    })
}

/// Every id replaced by another.
fn renamed(spec: &TraceSpec, salt: u64) -> TraceSpec {
    // Odd, so that it is a bijection; 0 stays 0, which is no id.
    let other = |id: u64| id.wrapping_mul(salt | 1);
    each(spec, |span| (span.id, span.parent) = (other(span.id), other(span.parent)))
}

/// The service is one of the traces', and every share is a part of a whole.
fn check_figures(verdict: &Verdict, traces: [&TraceSpec; 2]) -> Result<(), TestCaseError> {
    for candidate in &verdict.candidates {
        prop_assert!((0.0..=1.0).contains(&candidate.share), "{candidate:?}");
    }
    if let Outcome::Identified(culprit) = &verdict.outcome {
        let mut spans = traces.iter().flat_map(|trace| &trace.spans);
        prop_assert!(spans.any(|span| span.service == culprit.service), "{culprit:?}");
        // Of what is above normal; of all that was added, which is written, it may be less.
        prop_assert!(culprit.grounds.share >= 0.5, "{verdict:?}");
        let share = verdict.candidates.iter().find(|one| one.service == culprit.service).map(|one| one.share);
        prop_assert_eq!(share, Some(culprit.share), "a share is the same wherever it is stated");
        prop_assert!((0.3..=1.0).contains(&culprit.share), "{culprit:?}");
        prop_assert!((0.0..=0.95).contains(&culprit.confidence), "{culprit:?}");
    }
    Ok(())
}
