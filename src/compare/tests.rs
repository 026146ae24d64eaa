//! The worked examples of the specification, with its numbers.

mod invariants;
mod programs;

use super::testing::{TraceSpec, culprit_of, span_id, verdict_of};
use super::*;
use crate::otlp::span::Kind;

/// Milliseconds.
const MS: i64 = 1000;

/// web asks pre, pre asks inference; inference works `own` microseconds longer than 175 ms.
fn chain(own: i64) -> TraceSpec {
    chain_on_clock(own, 0)
}

/// The same, pre and inference on a clock that is `offset` microseconds ahead.
fn chain_on_clock(own: i64, offset: i64) -> TraceSpec {
    let on = |start, end| (start + offset, end + offset);
    TraceSpec::default()
        .server((1, 0), ("web", "POST /predict"), (0, 260 * MS + own))
        .client((2, 1), ("web", "POST"), (5 * MS, 255 * MS + own))
        .server((3, 2), ("pre", "preprocess"), on(8 * MS, 250 * MS + own))
        .client((4, 3), ("pre", "POST"), on(60 * MS, 245 * MS + own))
        .server((5, 4), ("inference", "predict"), on(65 * MS, 240 * MS + own))
}

fn check(fast: &TraceSpec, slow: &TraceSpec, service: &str, category: Category, delta_ms: f64) -> Verdict {
    let verdict = verdict_of(std::slice::from_ref(fast), slow);
    let culprit = culprit_of(&verdict);
    let found = (culprit.service.as_str(), culprit.category, culprit.delta_ms);
    assert_eq!(found, (service, category, delta_ms), "{}", verdict.explanation);
    assert!((0.0..=0.95).contains(&culprit.confidence));
    verdict
}

fn reason_of(verdict: &Verdict) -> Reason {
    match &verdict.outcome {
        Outcome::Inconclusive(reason) => *reason,
        Outcome::Identified(culprit) => panic!("{culprit:?}"),
    }
}

#[test]
fn e1_the_deepest_service_that_grew_is_named_and_its_callers_only_waited() {
    let verdict = check(&chain(0), &chain(1_207_384), "inference", Category::OwnTime, 1207.384);
    let culprit = culprit_of(&verdict);
    assert_eq!((culprit.share, culprit.operation.as_str(), culprit.span_id), (1.0, "predict", span_id(5)));
    assert_eq!(verdict.candidates.len(), 1, "web and pre have nothing of it");
    assert_eq!(
        verdict.explanation,
        "inference +1207 ms of +1207 ms (100.0%): 185 ms -> 1392 ms, mostly own time in \"predict\"; \
         this trace 1467 ms, fast reference 260 ms (1 of 1). web and pre only waited"
    );
    assert_eq!(
        verdict.baseline.map(|reference| (reference.duration, reference.count)),
        Some((260_000_000, 1))
    );
}

#[test]
fn e1_the_phase_between_two_events_is_named() {
    let events = |spec: TraceSpec, own: i64| {
        spec.with(|span| {
            span.events = vec![
                (66 * MS, "File saved"),
                (69 * MS, "Starting inference"),
                (238 * MS + own, "Inference completed"),
            ];
        })
    };
    let verdict = verdict_of(&[events(chain(0), 0)], &events(chain(1_207_384), 1_207_384));
    let phase = culprit_of(&verdict).phase.clone();
    assert_eq!(phase.as_deref(), Some("Starting inference -> Inference completed"));
}

/// orders asks its database `calls` times, 5 ms each.
fn n_plus_one(calls: i64) -> TraceSpec {
    let end = (2 + calls * 6) * MS;
    let mut spec = TraceSpec::default().server((1, 0), ("orders", "GET /orders"), (0, end));
    for call in 0..calls {
        let start = (1 + call * 6) * MS;
        let id = 2 + u64::try_from(call).expect("positive");
        spec = spec
            .client((id, 1), ("orders", "SELECT orders"), (start, start + 5 * MS))
            .with(|span| span.attributes = vec![("db.system", "postgresql")]);
    }
    spec
}

#[test]
fn e2_more_calls_are_the_callers() {
    let verdict = verdict_of(&[n_plus_one(3)], &n_plus_one(60));
    let culprit = culprit_of(&verdict);
    assert_eq!((culprit.service.as_str(), culprit.category), ("orders", Category::ExtraCalls));
    assert!(verdict.explanation.contains("mostly more calls in"), "{}", verdict.explanation);
}

fn payment(first_fails: bool) -> TraceSpec {
    let retry = if first_fails { 500 * MS } else { 0 };
    let mut spec = TraceSpec::default().server((1, 0), ("checkout", "POST /pay"), (0, 50 * MS + retry));
    if first_fails {
        spec = spec
            .client((2, 1), ("checkout", "pay"), (5 * MS, 505 * MS))
            .error()
            .server((3, 2), ("payment", "pay"), (6 * MS, 504 * MS))
            .error();
    }
    spec.client((4, 1), ("checkout", "pay"), (5 * MS + retry, 45 * MS + retry)).server(
        (5, 4),
        ("payment", "pay"),
        (6 * MS + retry, 44 * MS + retry),
    )
}

#[test]
fn e3_failed_calls_that_are_tried_again_are_the_callees() {
    check(&payment(false), &payment(true), "payment", Category::Retry, 500.0);
}

#[test]
fn e4_what_nobody_waited_for_has_no_time() {
    let fast = TraceSpec::default()
        .server((1, 0), ("w", "GET /"), (0, 40 * MS))
        .server((2, 1), ("audit", "log"), (10 * MS, 400 * MS))
        .internal((3, 1), ("db", "query"), (20 * MS, 30 * MS));
    let slow = TraceSpec::default()
        .server((1, 0), ("w", "GET /"), (0, 100 * MS))
        .server((2, 1), ("audit", "log"), (10 * MS, 400 * MS))
        .internal((3, 1), ("db", "query"), (20 * MS, 90 * MS));
    let verdict = check(&fast, &slow, "db", Category::OwnTime, 60.0);
    assert_eq!(verdict.candidates.len(), 1);
}

fn parallel(a: i64, b: i64) -> TraceSpec {
    TraceSpec::default()
        .server((1, 0), ("web", "GET /"), (0, (a.max(b) + 1) * MS))
        .client((2, 1), ("web", "a"), (0, a * MS))
        .server((3, 2), ("a", "a"), (0, a * MS))
        .client((4, 1), ("web", "b"), (0, b * MS))
        .server((5, 4), ("b", "b"), (0, b * MS))
}

#[test]
fn e5_a_branch_that_overtakes_another_gets_no_more_than_the_entry_span_lost() {
    check(&parallel(50, 60), &parallel(150, 60), "a", Category::OwnTime, 90.0);
}

#[test]
fn e6_a_branch_that_grows_behind_another_slows_nothing() {
    assert_eq!(reason_of(&verdict_of(&[parallel(50, 60)], &parallel(55, 60))), Reason::NotSlower);
}

/// web asks three services in turn; each answers in 15 ms, and is waited for `waits` milliseconds beyond.
fn gaps(waits: [i64; 3]) -> TraceSpec {
    let mut spec = TraceSpec::default();
    let mut at = MS;
    let mut calls = Vec::new();
    for (id, (wait, name)) in (1_u64..).zip(waits.into_iter().zip(["a", "b", "c"])) {
        let end = at + (15 + wait) * MS;
        calls.push((id, name, at, end));
        at = end + MS;
    }
    spec = spec.server((1, 0), ("web", "GET /"), (0, at));
    for (id, name, start, end) in calls {
        spec = spec.client((id * 10, 1), ("web", "GET"), (start, end)).server(
            (id * 10 + 1, id * 10),
            (name, "GET /x"),
            (end - 17 * MS, end - 2 * MS),
        );
    }
    spec
}

#[test]
fn e7_one_long_wait_is_its_callees() {
    let verdict = check(&gaps([5, 5, 5]), &gaps([5, 305, 5]), "b", Category::NetworkQueue, 300.0);
    assert_eq!(culprit_of(&verdict).span_id, span_id(21));
}

#[test]
fn e7_long_waits_on_all_callees_are_the_callers() {
    check(&gaps([5, 5, 5]), &gaps([305, 305, 305]), "web", Category::Saturation, 900.0);
}

#[test]
fn e8_a_callee_that_never_answered_is_named_with_doubt() {
    let fast = payment(false);
    let slow = TraceSpec::default()
        .server((1, 0), ("checkout", "POST /pay"), (0, 1010 * MS))
        .client((4, 1), ("checkout", "pay"), (5 * MS, 1005 * MS))
        .error();
    let verdict = verdict_of(&[fast], &slow);
    let culprit = culprit_of(&verdict);
    assert_eq!((culprit.service.as_str(), culprit.category), ("payment", Category::Timeout));
    assert_eq!(culprit.span_id, span_id(4), "the span that waited");
    assert!(culprit.confidence <= 0.6);
}

#[test]
fn without_a_failure_a_missing_answer_is_an_incomplete_trace() {
    let slow = TraceSpec::default().server((1, 0), ("checkout", "POST /pay"), (0, 1010 * MS)).client(
        (4, 1),
        ("checkout", "pay"),
        (5 * MS, 1005 * MS),
    );
    assert_eq!(reason_of(&verdict_of(&[payment(false)], &slow)), Reason::IncompleteTrace);
}

#[test]
fn e9_another_clock_changes_neither_verdict_nor_delta() {
    for offset in [-3_000_000, 3_000_000, 86_400_000_000] {
        check(&chain(0), &chain_on_clock(1_207_384, offset), "inference", Category::OwnTime, 1207.384);
    }
}

#[test]
fn e11_a_call_after_a_cache_miss_is_a_new_path_of_the_caller() {
    let fast = TraceSpec::default()
        .server((1, 0), ("catalog", "GET /item"), (0, 5 * MS))
        .client((2, 1), ("catalog", "GET"), (MS, 3 * MS))
        .with(|span| span.attributes = vec![("db.system", "redis")]);
    let slow = TraceSpec::default()
        .server((1, 0), ("catalog", "GET /item"), (0, 86 * MS))
        .client((2, 1), ("catalog", "GET"), (MS, 3 * MS))
        .with(|span| span.attributes = vec![("db.system", "redis")])
        .client((3, 1), ("catalog", "SELECT"), (4 * MS, 84 * MS))
        .with(|span| span.attributes = vec![("db.system", "postgresql")]);
    check(&fast, &slow, "catalog", Category::NewPath, 81.0);
}

/// checkout asks for three quotes of 100 ms each, `step` milliseconds after one another.
fn quotes(step: i64) -> TraceSpec {
    let mut spec =
        TraceSpec::default().server((1, 0), ("checkout", "POST /order"), (0, (100 + 2 * step + 2) * MS));
    for call in 0..3 {
        let start = (1 + call * step) * MS;
        let id = 10 + 10 * u64::try_from(call).expect("positive");
        spec = spec.client((id, 1), ("checkout", "quote"), (start, start + 100 * MS)).server(
            (id + 1, id),
            ("shipping", "quote"),
            (start + MS, start + 99 * MS),
        );
    }
    spec
}

#[test]
fn e12_calls_that_no_longer_run_at_once_are_the_callers() {
    check(&quotes(0), &quotes(100), "checkout", Category::LostConcurrency, 200.0);
}

#[test]
fn the_same_trace_is_not_slower() {
    assert_eq!(reason_of(&verdict_of(&[chain(0)], &chain(0))), Reason::NotSlower);
}

#[test]
fn longer_work_behind_the_answer_is_async_only() {
    let with_message = |end: i64| {
        chain(0).of_kind(Kind::Producer, (8, 1), ("web", "publish"), (MS, 2 * MS)).of_kind(
            Kind::Consumer,
            (9, 8),
            ("mailer", "receive"),
            (3 * MS, end),
        )
    };
    let verdict = verdict_of(&[with_message(300 * MS)], &with_message(3000 * MS));
    assert_eq!(reason_of(&verdict), Reason::AsyncOnly);
}

#[test]
fn two_services_that_grew_alike_are_a_tie() {
    let both = |more: i64| {
        TraceSpec::default()
            .server((1, 0), ("web", "GET /"), (0, (101 + 2 * more) * MS))
            .client((2, 1), ("web", "a"), (0, (50 + more) * MS))
            .server((3, 2), ("a", "a"), (0, (50 + more) * MS))
            .client((4, 1), ("web", "b"), ((50 + more) * MS, (100 + 2 * more) * MS))
            .server((5, 4), ("b", "b"), ((50 + more) * MS, (100 + 2 * more) * MS))
    };
    let verdict = verdict_of(&[both(0)], &both(200));
    assert_eq!(reason_of(&verdict), Reason::Tie);
    assert!(verdict.explanation.starts_with("a (+200 ms) and b (+200 ms)"), "{}", verdict.explanation);
}

// D10.
#[test]
fn a_service_without_a_name_is_never_named() {
    let nameless = |own: i64| {
        let mut spec = chain(own);
        spec.spans[4].service = "unknown_service:java".to_owned();
        spec
    };
    assert_eq!(reason_of(&verdict_of(&[nameless(0)], &nameless(500_000))), Reason::UnknownService);
}

// D9.
#[test]
fn a_slow_database_is_a_dependency_of_the_service_that_asked_it() {
    let query = |took: i64| {
        TraceSpec::default()
            .server((1, 0), ("orders", "GET /orders"), (0, (took + 10) * MS))
            .client((2, 1), ("orders", "SELECT orders"), (5 * MS, (took + 5) * MS))
            .with(|span| {
                span.attributes = vec![
                    ("db.system.name", "postgresql"),
                    ("db.namespace", "orders"),
                    ("server.address", "db"),
                ];
            })
    };
    let verdict = check(&query(10), &query(300), "orders", Category::Dependency, 290.0);
    assert_eq!(culprit_of(&verdict).dependency.as_deref(), Some("postgresql orders@db"));
}

#[test]
fn a_child_of_a_helper_span_that_was_closed_too_early_is_waited_for() {
    let helper = |work: i64| {
        TraceSpec::default()
            .server((1, 0), ("pay", "POST /pay"), (0, (work + 20) * MS))
            .internal((2, 1), ("pay", "helper"), (MS, 2 * MS))
            .internal((3, 2), ("pay", "charge"), (5 * MS, (work + 5) * MS))
    };
    let verdict = check(&helper(10), &helper(300), "pay", Category::OwnTime, 290.0);
    assert_eq!(culprit_of(&verdict).operation, "charge");
}

/// web asks x and five others, one after the other; each takes the milliseconds given for it.
fn six_callees(x: i64, others: i64) -> TraceSpec {
    let mut spec = TraceSpec::default().server((1, 0), ("web", "GET /"), (0, (x + 5 * others) * MS));
    let mut start = 0;
    for (id, name) in (2..).zip(["x", "a", "b", "c", "d", "e"]) {
        let end = start + if name == "x" { x } else { others } * MS;
        spec = spec.server((id, 1), (name, "work"), (start, end));
        start = end;
    }
    spec
}

#[test]
fn of_few_references_a_name_needs_most_of_all_the_added_time() {
    // Only x is beyond its floor. It has 80 of 175 ms; with 100 of 195 ms it has more than half.
    let fast = six_callees(100, 100);
    assert_eq!(reason_of(&verdict_of(std::slice::from_ref(&fast), &six_callees(180, 119))), Reason::Diffuse);
    check(&fast, &six_callees(200, 119), "x", Category::OwnTime, 100.0);
}

#[test]
fn where_it_is_known_what_is_normal_a_name_needs_most_of_what_is_not() {
    let mut fast = vec![six_callees(100, 100); 30];
    fast.extend([six_callees(100, 119), six_callees(100, 119)]);
    let verdict = verdict_of(&fast, &six_callees(180, 119));
    assert_eq!(culprit_of(&verdict).service, "x");
    assert!((culprit_of(&verdict).share - 80.0 / 175.0).abs() < 1e-9);
}
