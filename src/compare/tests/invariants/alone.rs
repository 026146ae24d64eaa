//! Of one trace, and of two traces whatever they are.

use super::*;
use crate::assemble::Trace;
use crate::compare::testing::{analysis, compared_traces};
use crate::compare::tests::programs;

/// The spans in another order.
fn turned(spec: &TraceSpec, turn: prop::sample::Index) -> TraceSpec {
    let mut turned = spec.clone();
    let middle = turn.index(turned.spans.len());
    turned.spans.rotate_left(middle);
    turned.spans[middle..].reverse();
    turned
}

proptest! {
    #![proptest_config(cases(192))]

    /// (1)
    #[test]
    fn the_critical_path_covers_every_moment_of_the_entry_span_once(spec in programs::wild()) {
        let trace = spec.build(1);
        let Some(analysis) = analysis(&trace) else { return Ok(()) };
        let nodes = &analysis.tree.nodes;
        let windows = |number| analysis.path.own_windows(&analysis.tree, number);
        let mut pieces: Vec<(i64, i64)> = (0..nodes.length()).flat_map(windows).collect();
        pieces.sort_unstable();
        let entry = analysis.tree.entry();
        let mut covered = entry.start;
        for (from, until) in pieces {
            prop_assert_eq!(from, covered);
            covered = until;
        }
        prop_assert_eq!(covered, entry.end);
        let own: u64 = analysis.path.own.iter().sum();
        let on_path: u64 = analysis.ledger.entries.iter().map(|entry| entry.on_path).sum();
        prop_assert_eq!((own, on_path), (entry.duration(), entry.duration()));
    }

    /// (6)
    #[test]
    fn time_on_the_path_is_within_self_time_and_that_within_the_duration(spec in programs::wild()) {
        let trace = spec.build(1);
        let Some(analysis) = analysis(&trace) else { return Ok(()) };
        for number in 0..analysis.tree.nodes.length() {
            let (own, alone) = (analysis.path.own[number], analysis.path.alone[number]);
            let duration = analysis.tree.nodes[number].duration();
            prop_assert!(own <= alone && alone <= duration, "{own} {alone} {duration}");
        }
    }

    /// (2)
    #[test]
    fn what_services_added_sums_up_to_what_the_request_took_longer(
        fast in programs::wild(), slow in programs::wild(), same in programs::any(), other in programs::any(),
    ) {
        let (same, other) = (same.trace(), other.trace());
        for (fast, slow) in [(&fast, &slow), (&same, &other), (&fast, &same)] {
            let Some(compared) = compared(std::slice::from_ref(fast), slow) else { continue };
            prop_assert_eq!(compared.deltas().values().sum::<i128>(), compared.added);
        }
    }

    /// (23), (24)
    #[test]
    fn a_verdict_names_a_service_of_one_of_the_traces_and_its_figures_are_parts_of_a_whole(
        fast in programs::wild(), slow in programs::wild(),
    ) {
        let Some(compared) = compared(std::slice::from_ref(&fast), &slow) else { return Ok(()) };
        check_figures(&compared.verdict, [&fast, &slow])?;
    }

    /// (3), (12)
    #[test]
    fn neither_the_order_of_spans_nor_their_ids_matter(
        fast in programs::any(), slow in programs::any(), salt in any::<u64>(),
        turn in any::<prop::sample::Index>(),
    ) {
        let (fast, slow) = (fast.trace(), slow.trace());
        let expected = compare(&fast, &slow);
        let other = turned(&renamed(&slow, salt), turn);
        let found = compare(&renamed(&fast, salt ^ 0x55), &other);
        prop_assert_eq!(said(&found.verdict), said(&expected.verdict));
        prop_assert_eq!(found.deltas(), expected.deltas());
        prop_assert_eq!(found.verdict.explanation, expected.verdict.explanation);
        if let (Outcome::Identified(found), Outcome::Identified(expected)) =
            (&found.verdict.outcome, &expected.verdict.outcome)
        {
            let place = |spec: &TraceSpec, id| {
                let span = spec.spans.iter().find(|span| span_id(span.id) == id).expect("a span of it");
                (span.service.clone(), span.name.clone(), span.start, span.end)
            };
            prop_assert_eq!(place(&other, found.span_id), place(&slow, expected.span_id));
        }
    }

    /// (3)
    // FAULT-C3.
    #[test]
    fn order_does_not_even_matter_of_spans_that_share_ids(
        fast in programs::wild(), slow in programs::wild(), turn in any::<prop::sample::Index>(),
    ) {
        let fast = std::slice::from_ref(&fast);
        let Some(expected) = compared(fast, &slow) else { return Ok(()) };
        let found = compared(fast, &turned(&slow, turn)).expect("it was valid before");
        prop_assert_eq!(&found.verdict, &expected.verdict);
        prop_assert_eq!(found.deltas(), expected.deltas());
    }

    /// (4), (14)
    // FAULT-C4.
    #[test]
    fn neither_the_time_of_day_nor_spans_that_came_twice_matter(
        fast in programs::wild(), slow in programs::wild(), shift in 0..1_i64 << 40,
    ) {
        let fast = std::slice::from_ref(&fast);
        let Some(expected) = compared(fast, &slow) else { return Ok(()) };
        let later = each(&slow, |span| (span.start, span.end) = (span.start + shift, span.end + shift));
        let mut twice = slow.clone();
        twice.spans.extend(slow.spans.iter().rev().cloned());
        for same in [later, twice] {
            let found = compared(fast, &same).expect("it was valid before");
            prop_assert_eq!(&found.verdict, &expected.verdict);
            prop_assert_eq!(found.deltas(), expected.deltas());
        }
    }

    /// (13)
    #[test]
    fn how_spans_are_batched_does_not_matter(
        fast in programs::any(), slow in programs::any(), parts in 1..6_usize,
    ) {
        let (fast, slow) = (fast.trace().build(1), slow.trace());
        // The last part first; each repeats the resources of its spans.
        let mut request = Vec::new();
        for part in (0..parts).rev() {
            let spans = slow.spans.iter().skip(part).step_by(parts).cloned().collect();
            TraceSpec { spans }.build(200).encode(&mut request);
        }
        let batched = Trace::all_in(&request).expect("encoded by us").remove(0);
        let verdict = |slow: &Trace| {
            compared_traces(std::slice::from_ref(&fast), slow).expect("valid times").verdict
        };
        prop_assert_eq!(verdict(&batched), verdict(&slow.build(200)));
    }

    /// (11)
    #[test]
    fn a_trace_is_not_slower_than_itself(spec in programs::wild(), operation in programs::any()) {
        for spec in [spec, operation.trace()] {
            let Some(compared) = compared(std::slice::from_ref(&spec), &spec) else { continue };
            prop_assert_eq!(said(&compared.verdict).0, Err(Reason::NotSlower));
            prop_assert!(compared.deltas().values().all(|delta| *delta == 0));
        }
    }
}
