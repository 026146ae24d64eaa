//! Of a request and the same request with something changed.

use super::*;
use crate::compare::testing::analysis;
use crate::compare::tests::programs::{self, Style};
use crate::otlp::span::Kind;

/// Nanoseconds on the critical path by service.
fn totals(spec: &TraceSpec) -> BTreeMap<String, u64> {
    let trace = spec.build(1);
    let ledger = analysis(&trace).expect("valid times").ledger;
    let mut totals = BTreeMap::new();
    for entry in &ledger.entries {
        let name = ledger.service_name(entry.service).expect("known").to_owned();
        *totals.entry(name).or_default() += entry.on_path;
    }
    totals.retain(|_, total| *total > 0);
    totals
}

proptest! {
    #![proptest_config(cases(96))]

    /// (9), (19)
    #[test]
    fn one_delay_where_everything_is_in_turn_is_its_services_and_nobody_elses(
        (fast, slow, service) in with_a_fault(programs::in_turn()),
    ) {
        let Compared { verdict, findings, added } = compare(&fast.trace(), &slow.trace());
        prop_assert_eq!(added, i128::from(FAULT) * 1000);
        let (outcome, _) = said(&verdict);
        let (named, category, delta_ms, share, _) = outcome.expect("a culprit");
        prop_assert_eq!((named.as_str(), category), (service, Category::OwnTime));
        prop_assert_eq!((delta_ms, share), (1000.0, 1.0));
        for other in findings.services.iter().filter(|other| other.name != service) {
            prop_assert_eq!((other.score, other.delta), (0, 0), "{}", other.name);
        }
    }

    /// (5)
    #[test]
    fn all_times_so_many_times_as_long_are_deltas_so_many_times_as_large(
        (fast, slow, _) in with_a_fault(programs::in_turn()), k in 2..20_i64,
    ) {
        let before = compare(&fast.trace(), &slow.trace());
        let after = compare(&fast.scaled(k).trace(), &slow.scaled(k).trace());
        let scaled = before.deltas().into_iter().map(|(name, delta)| (name, delta * i128::from(k)));
        prop_assert_eq!(after.deltas(), scaled.collect::<BTreeMap<_, _>>());
        prop_assert_eq!(named(&after.verdict), named(&before.verdict));
    }

    /// (5): where calls are made at once, waits that were below 1 ms are above it when scaled.
    #[test]
    fn all_times_so_many_times_as_long_have_the_same_culprit(
        (fast, slow, service) in with_a_fault(programs::any()), k in 2..20_i64,
    ) {
        let after = compare(&fast.scaled(k).trace(), &slow.scaled(k).trace());
        prop_assert_eq!(named(&after.verdict), Some(service));
    }

    /// (7)
    #[test]
    fn a_boundary_that_moves_a_little_moves_no_total_by_more_than_twice_that(
        fast in programs::in_turn(), which in any::<prop::sample::Index>(), by in -400..400_i64,
        is_start in any::<bool>(),
    ) {
        let before = fast.trace();
        let mut after = before.clone();
        // The entry span's own borders are the length of the request.
        prop_assume!(before.spans.len() > 1);
        let span = &mut after.spans[1 + which.index(before.spans.len() - 1)];
        *(if is_start { &mut span.start } else { &mut span.end }) += by;
        prop_assume!(span.start < span.end);
        let (before, after) = (totals(&before), totals(&after));
        for service in before.keys().chain(after.keys()) {
            let of = |totals: &BTreeMap<String, u64>| totals.get(service).copied().unwrap_or(0);
            let moved = of(&before).abs_diff(of(&after));
            prop_assert!(moved <= 2 * by.unsigned_abs() * 1000, "{service}: {moved} ns, moved by {by} us");
        }
    }

    /// (8)
    #[test]
    fn what_nobody_waited_for_may_be_there_or_not((fast, slow, _) in with_a_fault(programs::any())) {
        let without = Style { drops_messages: true, ..Style::default() };
        let expected = compare(&fast.trace(), &slow.trace());
        let found = compare(&fast.trace_as(without), &slow.trace_as(without));
        prop_assert_eq!(said(&found.verdict), said(&expected.verdict));
        prop_assert_eq!(found.verdict.explanation, expected.verdict.explanation);
    }

    /// (10)
    #[test]
    fn a_delay_beside_other_calls_slows_the_request_by_no_more_than_itself(
        (fast, slow, service) in with_a_fault(programs::any()),
    ) {
        let Compared { verdict, added, .. } = compare(&fast.trace(), &slow.trace());
        prop_assert!((0..=i128::from(FAULT) * 1000).contains(&added), "{added}");
        for candidate in &verdict.candidates {
            prop_assert!(candidate.delta_ms <= added as f64 / 1e6, "{candidate:?}");
        }
        // A second outlasts whatever ran beside it, so the request is slower and this service is why.
        prop_assert_eq!(named(&verdict), Some(service), "{}", verdict.explanation);
    }

    /// (15)
    // FAULT-C8.
    #[test]
    fn clocks_that_differ_by_anything_change_no_delta(
        (fast, slow, service) in with_a_fault(programs::in_turn()),
        offsets in prop::array::uniform5(prop_oneof![-3_000..3_000_i64, -1_i64 << 45..1 << 45]),
    ) {
        let expected = compare(&fast.trace(), &slow.trace());
        let found = compare(&fast.trace(), &on_other_clocks(&slow.trace(), &offsets));
        prop_assert_eq!(found.deltas(), expected.deltas());
        prop_assert_eq!(named(&found.verdict), Some(service));
    }

    /// (16)
    #[test]
    fn swapped_traces_have_swapped_deltas(
        (fast, slow, _) in with_a_fault(programs::in_turn()), which in any::<prop::sample::Index>(),
        by in 0..50_000_i64,
    ) {
        let (fast, slow) = (fast.slowed(which, by).0.trace(), slow.trace());
        let there = compare(&fast, &slow).deltas();
        let back = compare(&slow, &fast).deltas();
        let negated = back.into_iter().map(|(name, delta)| (name, -delta)).collect::<BTreeMap<_, _>>();
        prop_assert_eq!(there, negated);
    }

    /// (17)
    #[test]
    fn a_span_around_another_changes_no_total(
        operation in programs::any(), which in any::<prop::sample::Index>(),
    ) {
        let plain = operation.trace();
        let mut wrapped = plain.clone();
        // The entry span stays the one that was entered.
        prop_assume!(wrapped.spans.len() > 1);
        let inner = &mut wrapped.spans[1 + which.index(plain.spans.len() - 1)];
        let outer = SpanSpec { id: u64::MAX, kind: Kind::Internal, name: "outer".into(), ..inner.clone() };
        inner.parent = outer.id;
        wrapped.spans.push(outer);
        prop_assert_eq!(totals(&wrapped), totals(&plain));
    }

    /// (18)
    #[test]
    fn work_in_two_spans_of_the_same_service_changes_no_total(operation in programs::any()) {
        let split = operation.trace_as(Style { splits_work: true, ..Style::default() });
        prop_assert_eq!(totals(&split), totals(&operation.trace()));
    }

    /// (20): of delays beyond what one reference lets pass as noise.
    #[test]
    fn a_longer_delay_never_counts_less_and_never_for_another_service(
        fast in programs::any(), which in any::<prop::sample::Index>(), by in 60_000..400_000_i64,
        more in 0..400_000_i64,
    ) {
        let (slow, service) = fast.slowed(which, by);
        let (slower, _) = fast.slowed(which, by + more);
        let score = |compared: &Compared| {
            compared.findings.services.iter().find(|one| one.name == service).map_or(0, |one| one.score)
        };
        let [before, after] = [slow, slower].map(|slow| compare(&fast.trace(), &slow.trace()));
        prop_assert!(score(&after) >= score(&before), "{} {}", score(&before), score(&after));
        if named(&before.verdict) == Some(service) {
            prop_assert_eq!(named(&after.verdict), Some(service), "{}", after.verdict.explanation);
        }
    }

    /// (21)
    #[test]
    fn more_references_like_the_first_change_nothing_but_their_number(
        (fast, slow, _) in with_a_fault(programs::any()), more in 2..8_usize,
    ) {
        let (fast, slow) = (fast.trace(), slow.trace());
        let one = compare(&fast, &slow);
        let many = compared(&vec![fast; more], &slow).expect("valid times");
        prop_assert_eq!(many.deltas(), one.deltas());
        prop_assert_eq!(&many.verdict.candidates, &one.verdict.candidates);
        prop_assert_eq!(named(&many.verdict), named(&one.verdict));
        let count = many.verdict.baseline.as_ref().map(|reference| reference.count);
        prop_assert_eq!(count, Some(more));
        prop_assert!(confidence(&many.verdict) >= confidence(&one.verdict));
    }

    /// (22)
    #[test]
    fn missing_spans_make_nobody_surer(
        (fast, slow, _) in with_a_fault(programs::any()),
        missing in prop::collection::vec(any::<bool>(), 40),
    ) {
        let (fast, whole) = (fast.trace(), slow.trace());
        let mut part = whole.clone();
        let mut missing = missing.into_iter().cycle();
        part.spans.retain(|span| span.parent == 0 || missing.next() == Some(false));
        let [whole, part] = [whole, part].map(|slow| compare(&fast, &slow).verdict);
        prop_assert!(
            confidence(&part) <= confidence(&whole), "{} {}", part.explanation, whole.explanation
        );
    }
}
