//! Verdicts on simulated systems with known faults: what must not get worse.
//!
//! A small fixed part of what `examples/judge.rs` measures; `docs/accuracy.md` has the large runs.

use std::sync::Arc;

use laggard::simulate::fault::Scenario;
use laggard::simulate::judge::Case;
use laggard::simulate::report::Tally;
use laggard::simulate::results::CaseResult;
use laggard::telemetry::metrics::Metrics;

/// Cases of each scenario.
const CASES: u64 = 3;

fn judge(scenario: Scenario) -> Tally {
    let metrics = Arc::new(Metrics::default());
    let mut tally = Tally::default();
    let (mut accepted, mut forwarded) = (0, 0);
    for seed in 0..CASES {
        let case = Case::random(scenario, seed).expect("the scenario fits into one of many systems");
        let judged = case.judge(&metrics);
        accepted += judged.spans;
        forwarded += judged.forwarded;
        tally.add(&CaseResult::of(seed, &case, judged));
    }
    check_identity(&metrics, accepted, forwarded);
    tally
}

/// `accepted = sent + dropped + held + queued`, in spans: there is no queue here, and nothing is held in the end.
fn check_identity(metrics: &Metrics, accepted: u64, forwarded: u64) {
    let page = metrics.render();
    let of = |name: &str| -> u64 {
        let series = page.lines().filter(|line| line.starts_with(name));
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    let dropped = of("laggard_dropped_spans_total{");
    assert!(accepted > 1_000 && forwarded > 0 && dropped > 0, "{accepted} {forwarded} {dropped}");
    assert_eq!(accepted, forwarded + dropped);
}

#[test]
fn what_a_fault_adds_is_found_in_every_category_and_laid_to_the_right_service() {
    let mut all = Tally::default();
    for scenario in Scenario::PLAIN {
        let tally = judge(scenario);
        // How much serial calls add is up to the system, so not every category has traces of every strength here.
        let cell = tally.cell(&[scenario], 0.0);
        assert!(cell.slow > 0, "{}: {cell:?}", scenario.as_str());
        all.merge(&tally);
    }
    let cell = all.cell(&Scenario::PLAIN, 0.5);
    assert!(cell.precision().is_some_and(|precision| precision >= 0.95), "{cell:?}");
    assert!(cell.recall().is_some_and(|recall| recall >= 0.8), "{cell:?}");
}

#[test]
fn the_same_seed_gives_the_same_verdicts() {
    let metrics = Arc::new(Metrics::default());
    let case = || Case::random(Scenario::NetworkQueue, 7).expect("it fits");
    let [one, other] = [case().judge(&metrics), case().judge(&metrics)];
    assert_eq!(one, other);
    check_identity(&metrics, one.spans + other.spans, one.forwarded + other.forwarded);
}

#[test]
fn a_fault_in_one_instance_leaves_requests_to_the_others_as_they_were() {
    let metrics = Arc::new(Metrics::default());
    let sick = (0..20)
        .find_map(|seed| Case::random(Scenario::OwnTime, seed).filter(|case| case.fault.replica.is_some()));
    let judged = sick.expect("some fault is in one instance").judge(&metrics);
    assert!((1..60).contains(&judged.met.len()), "{}", judged.met.len());
    check_identity(&metrics, judged.spans, judged.forwarded);
}
