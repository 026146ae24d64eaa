//! The same with the counters of all traffic, by which the wait between two services is given to one of them.

use super::*;
use crate::compare::testing::verdict_in_traffic;
use crate::compare::tests::programs;

fn verdict(fast: &Operation, slow: &TraceSpec, lately: &[TraceSpec]) -> Verdict {
    verdict_in_traffic(&[fast.trace()], lately, slow)
}

proptest! {
    #![proptest_config(cases(24))]

    /// (3), (12), (14): with counters.
    #[test]
    fn counters_do_not_see_order_ids_or_duplicates_either(
        (fast, slow, _) in with_a_fault(programs::any()), salt in any::<u64>(),
    ) {
        let slow = slow.trace();
        let mut other = renamed(&slow, salt);
        other.spans.extend(other.spans.clone());
        other.spans.reverse();
        let [expected, found] = [slow, other].map(|slow| verdict(&fast, &slow, &vec![slow.clone(); 6]));
        prop_assert_eq!(said(&found), said(&expected));
    }

    /// (9), (19): with counters, whether or not other traces have the fault, and whatever else they have.
    #[test]
    fn one_delay_is_its_services_with_counters_too(
        (fast, slow, service) in with_a_fault(programs::in_turn()), which in any::<prop::sample::Index>(),
    ) {
        let slow = slow.trace();
        let others = fast.slowed(which, FAULT).0.trace();
        for lately in [vec![], vec![slow.clone(); 8], vec![others; 8]] {
            let verdict = verdict(&fast, &slow, &lately);
            let (named, _, delta_ms, share, _) = said(&verdict).0.expect("a culprit");
            prop_assert_eq!((named.as_str(), delta_ms, share), (service, 1000.0, 1.0));
        }
    }

    /// (15): with counters.
    #[test]
    fn counters_do_not_see_clocks(
        (fast, slow, service) in with_a_fault(programs::in_turn()),
        offsets in prop::array::uniform5(-1_i64 << 45..1 << 45),
    ) {
        let slow = on_other_clocks(&slow.trace(), &offsets);
        let verdict = verdict(&fast, &slow, &vec![slow.clone(); 6]);
        prop_assert_eq!(named(&verdict), Some(service), "{}", verdict.explanation);
    }

    /// (20): with counters.
    #[test]
    fn a_longer_delay_is_never_another_services_with_counters_too(
        fast in programs::any(), which in any::<prop::sample::Index>(), by in 60_000..400_000_i64,
        more in 0..400_000_i64,
    ) {
        let (slow, service) = fast.slowed(which, by);
        let (slower, _) = fast.slowed(which, by + more);
        let [before, after] = [slow, slower].map(|slow| {
            let slow = slow.trace();
            verdict(&fast, &slow, &vec![slow.clone(); 6])
        });
        if named(&before) == Some(service) {
            prop_assert_eq!(named(&after), Some(service), "{}", after.explanation);
        }
    }

    /// (23), (24): with counters.
    #[test]
    fn with_counters_too_a_verdict_names_a_service_of_the_traces(
        fast in programs::wild(), slow in programs::wild(), lately in prop::collection::vec(programs::wild(), 0..6),
    ) {
        let verdict = verdict_in_traffic(std::slice::from_ref(&fast), &lately, &slow);
        check_figures(&verdict, [&fast, &slow])?;
    }
}
