//! (26): whatever comes, there is an answer.

use super::*;
use crate::assemble::Trace;
use crate::compare::Comparer;
use crate::compare::testing::{analysis, compared_traces};
use crate::compare::tests::programs;
use crate::config::Config;
use crate::decide::{RouteId, entry};
use crate::otlp::span::Kind;

/// More than any trace has.
const MANY: u64 = 100_000;

/// The trace with its spans' times replaced.
fn at_times(trace: &Trace, times: &[(u64, u64)]) -> Trace {
    let mut changed = Trace::new(trace.id());
    let resource = changed.push_resource(&[]).expect("small");
    let scope = changed.push_scope(&[], resource).expect("small");
    for (index, (start, end)) in (0..trace.len()).zip(times.iter().cycle()) {
        let span = trace.span(index).expect("one of its spans");
        let mut head = span.head;
        (head.start, head.end) = (*start, *end);
        changed.push_span(head, span.body, scope).expect("small");
    }
    changed
}

/// What `run` does with two traces, the first of them fast.
fn compare_as_run_does(fast: &Trace, slow: &Trace) -> Option<Verdict> {
    let config = Config::default();
    let comparer = Comparer::new(&config.compare, &config.baseline, &config.slow.learned, 1 << 20);
    let (of_fast, of_slow) = (entry::find(fast)?.span, entry::find(slow)?.span);
    comparer.learn(1, RouteId::OTHER, fast, of_fast, true);
    comparer.learn(u64::MAX, RouteId::OTHER, slow, of_slow, false);
    Some(comparer.compare(u64::MAX, RouteId::OTHER, slow, of_slow, 1))
}

fn any_time() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(1 << 63),
        any::<u64>(),
        1_700_000_000_000_000_000..1_700_000_001_000_000_000_u64
    ]
}

/// Children of one span, or each the child of the one before; the last one takes `last` microseconds longer.
fn many(is_chain: bool, last: i64) -> Trace {
    let mut spec = TraceSpec::default();
    let count = MANY.cast_signed();
    for id in 1..=MANY {
        let at = id.cast_signed();
        let (parent, during) = match (id, is_chain) {
            (1, _) => (0, (0, 2 * count + last)),
            (_, true) => (id - 1, (at, 2 * count - at + last)),
            (_, false) => (1, (at, at + 1 + if id == MANY { last } else { 0 })),
        };
        let kind = if id % 2 == 0 { Kind::Client } else { Kind::Server };
        let service = if is_chain { ["a", "b", "c"][(id / 2 % 3) as usize] } else { "a" };
        spec = spec.of_kind(kind, (id, parent), (service, "work"), during);
    }
    spec.build(if last > 0 { 2 } else { 1 })
}

// D5.
#[test]
fn a_hundred_thousand_children_are_compared() {
    let [fast, slow] = [0, FAULT].map(|last| many(false, last));
    let verdict = compared_traces(&[fast], &slow).expect("valid times").verdict;
    assert_eq!(named(&verdict), Some("a"), "{}", verdict.explanation);
}

// D4.
#[test]
fn a_chain_of_a_hundred_thousand_spans_is_compared() {
    let [fast, slow] = [0, FAULT].map(|last| many(true, last));
    let verdict = compared_traces(&[fast], &slow).expect("valid times").verdict;
    assert!(named(&verdict).is_some(), "{}", verdict.explanation);
}

proptest! {
    #![proptest_config(cases(192))]

    // FAULT-C6, FAULT-C9.
    #[test]
    fn absurd_times_have_an_answer_in_which_time_is_neither_lost_nor_made(
        fast in programs::wild(), slow in programs::wild(),
        times in prop::collection::vec((any_time(), any_time()), 1..30),
    ) {
        let (fast, slow) = (fast.build(1), at_times(&slow.build(2), &times));
        compare_as_run_does(&fast, &slow);
        compare_as_run_does(&slow, &fast);
        let Some(analysis) = analysis(&slow) else { return Ok(()) };
        prop_assert_eq!(analysis.path.own.iter().sum::<u64>(), analysis.tree.entry().duration());
    }

    #[test]
    fn broken_bytes_have_an_answer(
        fast in programs::wild(), slow in programs::any(),
        breaks in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut request = Vec::new();
        slow.trace().build(2).encode(&mut request);
        for (at, byte) in breaks {
            let at = at.index(request.len());
            request[at] = byte;
        }
        for slow in Trace::all_in(&request).unwrap_or_default() {
            compare_as_run_does(&fast.build(1), &slow);
            compare_as_run_does(&slow, &fast.build(1));
        }
    }
}
