//! What senders do to time, and what a long run takes.

use super::*;
use crate::compare::Reason;
use crate::config::DecisionCache;

const DAY: Nanos = 86_400 * SECOND;

// FAULT-C7.
#[test]
fn a_trace_is_decided_by_when_it_came_whatever_it_says_of_its_time() {
    let now = 20_000 * DAY;
    for (start, own) in [
        (now - 7 * DAY, MILLI),
        (now + DAY, MILLI),
        (now - 5 * 3_600 * SECOND, 5 * 3_600 * SECOND),
        (0, now),
        (u64::MAX - SECOND, SECOND),
    ] {
        let mut case = Case::new(|_| ());
        case.accept(now, &request(Call { trace: 1, start, own, callee: 0, is_error: false }));
        assert!(case.decide(now + 10 * SECOND - 1).is_empty(), "{start}");
        let out = case.decide(now + 10 * SECOND);
        assert_eq!(out.len(), 1, "{start}: nothing is known of its route, so it is kept");
        let late = case.accept(now + DAY, &resource_spans("db", 1, &[(9, 2, 2, start, start)], false));
        assert_eq!(late.first().map(|late| late.class), Some(Class::Late), "{start}");
    }
}

// E6.
#[test]
fn a_week_of_traffic_takes_no_more_memory_than_three_days_of_it() {
    // So little that every table is full within three days.
    let limits = Limits { held: 1 << 30, baseline: 1 << 20, tables: 1 << 20 };
    let mut case = Case::within(limits, |config| {
        config.assemble.decision_cache = DecisionCache { sampled: 500, dropped: 500 }
    });
    let (mut out, mut after_days) = (Vec::new(), Vec::new());
    for (trace, now) in (1_u32..).zip((DAY..8 * DAY).step_by(20_000_000_000)) {
        // One in a hundred is slow, and one of the twenty services has errors.
        let own = if trace % 100 == 7 { 900 * MILLI } else { (50 + u64::from(trace % 13)) * MILLI };
        let service = format!("service-{}", trace % 20);
        let spans = [(1, 0, 2, now, now + own), (2, 1, 3, now, now + own / 2)];
        let request = resource_spans(&service, trace, &spans, trace % 20 == 3);
        assert!(case.try_accept(now, &request, &mut out));
        case.pipeline.decide_due(now, &mut |outgoing| out.push(outgoing));
        if now % DAY == 0 {
            case.check(std::mem::take(&mut out));
            case.pipeline.tick(now);
            let used = ["baseline", "tables", "held"]
                .map(|part| case.counted(&format!("laggard_used_bytes{{part=\"{part}\"}}")));
            after_days.push(used.iter().sum::<u64>());
        }
    }
    let [early, late] = [after_days[3], after_days[6]];
    assert!(late <= early + early / 50, "by day: {after_days:?}");
}

#[test]
fn a_trace_whose_root_says_no_credible_times_is_judged_by_its_spans_and_is_no_reference() {
    let start = 1_000 * SECOND;
    let broken = [(start, 0), (0, 0), (0, start), (start, start - 1), (start, u64::MAX)];
    for (trace, (from, to)) in (1..).zip(broken) {
        for took in [MILLI, 5 * SECOND] {
            let mut case = Case::new(|config| {
                config.sample.healthy = 0.0;
                config.slow.threshold =
                    crate::config::Threshold::Fixed(std::time::Duration::from_millis(300));
            });
            let root = resource_spans("web", trace, &[(1, 0, 2, from, to)], false);
            let call = resource_spans("db", trace, &[(2, 1, 2, start, start + took)], false);
            case.accept(start, &[root, call].concat());
            let kept = case.decide(start + 60 * SECOND);
            assert_eq!(kept.len(), usize::from(took > SECOND), "{from} {to} {took}");
            for outgoing in kept {
                let verdict = outgoing.analysis.expect("slow traces are compared").verdict;
                assert_eq!(verdict.outcome, Outcome::Inconclusive(Reason::IncompleteTrace));
            }
            let decision = case.pipeline.explain(id(trace)).expect("just made").decision;
            let judged = decision.judged.expect("its spans say how long it took");
            assert_eq!((judged.duration, judged.has_root, judged.is_reference), (took, false, false));
        }
    }
}
