//! Traces whose entry span is not their root.

use super::*;
use crate::otlp::SpanId;

/// As [`Case::call`], but it is `browser` that calls `web`, and sends a span too.
fn visited(case: &mut Case, call: Call) -> Vec<Outgoing> {
    let Call { trace, start, own, callee, .. } = call;
    let (asked, end) = (start + own, start + own + callee);
    let request = [
        resource_spans("browser", trace, &[(1, 0, 3, start, end)], false),
        resource_spans("web", trace, &[(2, 1, 2, start, end), (3, 2, 3, asked, end)], false),
        resource_spans("db", trace, &[(4, 3, 2, asked, end)], false),
    ];
    let mut out = case.accept(start, &request.concat());
    out.extend(case.decide(start + 11 * SECOND));
    out
}

/// They never became references, so each slow one was `no_baseline`.
#[test]
fn a_trace_whose_root_is_a_clients_has_references() {
    let mut case = Case::new(|_| {});
    for trace in 1..=30 {
        visited(&mut case, fast(trace));
    }
    let out = visited(&mut case, Call { callee: 900 * MILLI, ..fast(31) });
    let slow = out.iter().find(|outgoing| outgoing.class == Class::Slow).expect("it is slow");
    let verdict = &slow.analysis.as_ref().expect("analysed").verdict;
    let Outcome::Identified(culprit) = &verdict.outcome else { panic!("{verdict:?}") };
    assert_eq!((culprit.service.as_str(), Some(culprit.span_id)), ("db", SpanId::from_slice(&[4; 8])));
}
