//! What `sample.references`, `sample.dry_run` and `slow.routes` promise, sentence by sentence.

use super::*;
use crate::config::{RouteOverride, Threshold};
use crate::otlp::attribute::AnyValue;
use crate::otlp::tracestate;

fn slow_one(trace: u32) -> Call {
    Call { callee: 900 * MILLI, ..fast(trace) }
}

fn attribute<'a>(trace: &'a Trace, key: &str) -> Option<AnyValue<'a>> {
    (0..trace.len()).find_map(|span| {
        let found = trace.span(span)?.attributes().find(|attribute| attribute.key == key.as_bytes())?;
        Some(found.value)
    })
}

/// With `ot` on every span.
fn with_ot(call: Call) -> Vec<u8> {
    let request = request(call);
    let mut out = Vec::new();
    for mut trace in Trace::all_in(&request).expect("valid") {
        for span in 0..trace.len() {
            let body = tracestate::rewrite(
                trace.span(span).expect("in range").body,
                b"ot=th:1;rv:f0000000000000,a=1",
            );
            trace.replace_body(span, &body.expect("valid")).expect("small");
        }
        trace.encode(&mut out);
    }
    out
}

#[test]
fn a_cited_reference_that_was_dropped_leaves_once_as_it_came_but_for_its_mark() {
    let mut case = Case::new(|config| {
        config.sample.healthy = 0.0;
        config.slow.threshold = Threshold::Fixed(std::time::Duration::from_millis(300));
    });
    for trace in 1..=20 {
        case.accept(fast(trace).start, &with_ot(fast(trace)));
        assert!(case.decide(fast(trace).start + 11 * SECOND).is_empty(), "dropped");
    }
    let dropped = case.counted("laggard_dropped_spans_total{reason=\"not_sampled\"}");
    let out = case.call(slow_one(100));
    let [reference, own] = &out[..] else { panic!("{out:?}") };
    assert!(reference.is_reference && !own.is_reference);
    assert_eq!(attribute(&reference.trace, "root_cause.reference"), Some(AnyValue::Bool(true)));
    assert_eq!(attribute(&reference.trace, "root_cause.verdict"), None);
    for span in 0..reference.trace.len() {
        let state = reference.trace.span(span).expect("in range").trace_state();
        assert_eq!(state, b"ot=th:1;rv:f0000000000000,a=1", "a reference's tracestate is its own");
    }
    assert_eq!(
        case.counted("laggard_dropped_spans_total{reason=\"not_sampled\"}"),
        dropped,
        "outside the identity"
    );
    assert_eq!(case.call(slow_one(101)).len(), 1, "once");
}

#[test]
fn a_cited_reference_that_was_kept_does_not_leave_again() {
    let mut case = Case::new(|config| {
        config.sample.healthy = 1.0;
        config.slow.threshold = Threshold::Fixed(std::time::Duration::from_millis(300));
    });
    assert_eq!(healthy(&mut case, 1, 20).len(), 20);
    let out = case.call(slow_one(100));
    let [own] = &out[..] else { panic!("{out:?}") };
    assert!(own.analysis.as_ref().is_some_and(|analysis| analysis.verdict.baseline.is_some()));
}

#[test]
fn a_dry_run_decides_counts_and_enriches_as_ever_and_sends_no_copies() {
    let run = |dry_run| {
        let mut case = Case::new(|config| {
            config.sample.healthy = 0.25;
            config.sample.dry_run = dry_run;
            config.slow.threshold = Threshold::Fixed(std::time::Duration::from_millis(300));
        });
        let mut out = healthy(&mut case, 1, 60);
        out.extend(case.call(slow_one(100)));
        out.extend(case.call(Call { is_error: true, ..fast(101) }));
        // Spans that come late.
        out.extend((1..=60).flat_map(|trace| case.accept(3_000 * SECOND, &request(fast(trace)))));
        let decided = ["slow", "error", "healthy", "dropped"]
            .map(|decision| case.counted(&format!("laggard_traces_total{{decision=\"{decision}\"}}")));
        let root_causes = case.counted("laggard_root_cause_traces_total");
        let verdict = out.iter().find_map(|outgoing| outgoing.analysis.clone()).expect("one is slow").verdict;
        let enriched = out.iter().find(|outgoing| outgoing.class == Class::Slow).expect("one is slow");
        let service = attribute(&enriched.trace, "root_cause.service").and_then(AnyValue::as_str);
        assert_eq!(service, Some("db"));
        (decided, root_causes, verdict, case, out)
    };
    let (decided, root_causes, verdict, _, _) = run(false);
    let (as_decided, as_root_causes, as_verdict, case, out) = run(true);
    assert_eq!((as_decided, as_root_causes, as_verdict), (decided, root_causes, verdict));
    assert!(decided[3] > 30, "{decided:?}");
    assert_eq!(case.counted("laggard_dropped_spans_total"), 0);
    assert!(out.iter().all(|outgoing| !outgoing.is_reference));
    assert_eq!(out.iter().map(|outgoing| outgoing.trace.len() as u64).sum::<u64>(), case.accepted);
}

fn with_rule(rule: RouteOverride) -> Case {
    Case::new(|config| {
        config.sample.healthy = 0.5;
        config.slow.threshold = Threshold::Fixed(std::time::Duration::from_millis(300));
        config.slow.routes =
            vec![rule, RouteOverride { threshold: Some(SECOND_LONG), ..RouteOverride::default() }];
    })
}

const SECOND_LONG: std::time::Duration = std::time::Duration::from_secs(1);

#[test]
fn an_ignored_route_is_never_slow_and_sampled_as_healthy_ones_are_and_its_errors_are_kept() {
    let mut case =
        with_rule(RouteOverride { service: "w*".to_owned(), ignore: true, ..RouteOverride::default() });
    let out: Vec<_> =
        (1..=200).flat_map(|trace| case.call(Call { callee: 60 * SECOND, ..fast(trace) })).collect();
    assert!((70..=130).contains(&out.len()), "{} of 200", out.len());
    for outgoing in &out {
        assert_eq!((outgoing.class, outgoing.analysis.is_some()), (Class::Healthy, false));
        assert_eq!(outgoing.trace.span(0).expect("has spans").trace_state(), b"ot=th:8");
    }
    let out = case.call(Call { is_error: true, callee: 60 * SECOND, ..fast(300) });
    assert_eq!((out[0].class, out[0].analysis.is_some()), (Class::Error, false));
}

#[test]
fn of_the_rules_for_a_route_the_first_one_counts() {
    for (service, route, slow) in [
        ("web", "web call", true),
        ("w*", "*", true),
        ("", "", true),
        ("web", "call", false),
        ("we", "", false),
    ] {
        let threshold = Some(std::time::Duration::from_millis(90));
        let mut case = with_rule(RouteOverride {
            service: service.to_owned(),
            route: route.to_owned(),
            threshold,
            ignore: false,
        });
        let out = case.call(Call { callee: 75 * MILLI, own: 25 * MILLI, ..fast(1) });
        let is_slow = out.iter().any(|outgoing| outgoing.class == Class::Slow);
        assert_eq!(is_slow, slow, "{service} {route}");
        let out = case.call(Call { callee: 500 * MILLI, ..fast(2) });
        let is_slow = out.iter().any(|outgoing| outgoing.class == Class::Slow);
        assert_eq!(is_slow, slow, "otherwise the second rule: {service} {route}");
    }
}
