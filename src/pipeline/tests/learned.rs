use proptest::prelude::*;

use super::*;

const HOUR: Nanos = 3_600 * SECOND;

fn start_of(trace: u32) -> Nanos {
    fast(trace).start
}

fn saved(case: &Case, now: Nanos) -> Vec<u8> {
    let mut file = Vec::new();
    case.pipeline.save(now, &mut file).expect("memory");
    file
}

fn taught(traces: u32) -> Case {
    let mut case = Case::new(|config| config.sample.healthy = 0.0);
    healthy(&mut case, 1, traces);
    case
}

fn new() -> Case {
    Case::new(|config| config.sample.healthy = 0.0)
}

/// The verdict on a trace whose `db` is slow, and the reference that leaves with it.
fn slow(case: &mut Case, trace: u32) -> (Option<Verdict>, bool) {
    let out = case.call(Call { callee: 900 * MILLI, ..fast(trace) });
    let verdict = out.iter().find_map(|outgoing| outgoing.analysis.as_ref());
    (verdict.map(|analysis| analysis.verdict.clone()), out.iter().any(|outgoing| outgoing.is_reference))
}

#[test]
fn the_first_slow_trace_after_a_restart_gets_the_verdict_that_it_would_have_got_before() {
    let mut before = taught(60);
    let file = saved(&before, start_of(61));
    let mut after = new();
    let restored = after.pipeline.restore(start_of(61), &file).expect("whole");
    assert_eq!((restored.routes, restored.baselines, restored.left_out), (1, 1, 0), "{restored:?}");
    assert_eq!(after.pipeline.routes()[0].references, before.pipeline.routes()[0].references);
    assert_eq!(saved(&after, start_of(61)).len(), file.len(), "nothing is lost on the way");

    let (expected, sends_reference) = slow(&mut before, 100);
    let (found, sends_it_too) = slow(&mut after, 100);
    let verdict = found.clone().expect("slow at once");
    let Outcome::Identified(culprit) = &verdict.outcome else { panic!("{verdict:?}") };
    assert_eq!(culprit.service, "db");
    assert_eq!((found, sends_it_too), (expected, sends_reference));
}

#[test]
fn a_reference_that_left_before_the_restart_does_not_leave_again() {
    let mut before = taught(60);
    assert!(slow(&mut before, 100).1);
    let mut after = new();
    after.pipeline.restore(start_of(101), &saved(&before, start_of(101))).expect("whole");
    let (verdict, sends_reference) = slow(&mut after, 101);
    assert!(verdict.is_some_and(|verdict| verdict.baseline.is_some()) && !sends_reference);
}

#[test]
fn learning_goes_on_where_it_stopped() {
    let mut before = taught(600);
    let mut after = new();
    after.pipeline.restore(start_of(601), &saved(&before, start_of(601))).expect("whole");
    for case in [&mut before, &mut after] {
        healthy(case, 601, 600);
    }
    let [one, other] = [&before, &after].map(|case| {
        let route = &case.pipeline.routes()[0];
        (route.report.threshold, route.report.traces, route.report.shapes.len(), route.references)
    });
    assert_eq!(one, other);
}

#[test]
fn what_is_older_than_its_time_to_live_is_forgotten() {
    let case = taught(60);
    let file = saved(&case, start_of(61));
    for (later, routes) in [(5 * HOUR, 1), (7 * HOUR, 0)] {
        let after = new();
        let restored = after.pipeline.restore(start_of(61) + later, &file).expect("whole");
        assert_eq!((restored.routes, restored.baselines), (routes, routes), "after {later} ns");
        assert_eq!(after.pipeline.routes().len() as u64, routes);
    }
    // The file is young, what it is about is not.
    let file = saved(&case, start_of(61) + 7 * HOUR);
    let restored = new().pipeline.restore(start_of(61) + 7 * HOUR, &file).expect("whole");
    assert_eq!((restored.routes, restored.baselines, restored.items), (0, 0, 0));
}

#[test]
fn a_clock_that_was_set_back_does_not_stop_learning() {
    let mut case = new();
    case.pipeline.restore(start_of(0), &saved(&taught(600), start_of(601))).expect("whole");
    let before = case.pipeline.routes()[0].references;
    assert!(before > 0);
    healthy(&mut case, 1, 120);
    assert!(slow(&mut case, 121).0.is_some());
    let linked = slow(&mut case, 122).0.and_then(|verdict| verdict.baseline).expect("compared");
    assert!(linked.count > 0);
}

#[test]
fn rules_come_from_the_configuration_and_not_from_the_file() {
    let file = saved(&taught(60), start_of(61));
    let case = Case::new(|config| {
        config.slow.routes = vec![crate::config::RouteOverride {
            service: "web".to_owned(),
            ignore: true,
            ..crate::config::RouteOverride::default()
        }];
    });
    case.pipeline.restore(start_of(61), &file).expect("whole");
    assert_eq!(case.pipeline.routes()[0].report.basis, crate::decide::Basis::Ignored);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// The checksum says that a file is as it was written, not that it makes sense.
    #[test]
    fn a_file_that_is_damaged_and_sealed_again_harms_nobody(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        static FILE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| saved(&taught(40), start_of(41)));
        let mut file = FILE.clone();
        let end = file.len() - 4;
        for (at, byte) in damage {
            file[12 + at.index(end - 12)] = byte;
        }
        let checksum = crc32fast::hash(&file[..end]);
        file[end..].copy_from_slice(&checksum.to_le_bytes());
        let mut case = new();
        drop(case.pipeline.restore(start_of(41), &file));
        healthy(&mut case, 42, 30);
        slow(&mut case, 100);
        case.pipeline.tick(start_of(101));
        case.pipeline.save(start_of(101), std::io::sink()).expect("written");
    }
}
