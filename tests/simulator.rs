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
    for seed in 0..CASES {
        let case = Case::random(scenario, seed).expect("the scenario fits into one of many systems");
        tally.add(&CaseResult::of(seed, &case, case.judge(&metrics)));
    }
    tally
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
    assert_eq!(case().judge(&metrics), case().judge(&metrics));
}

#[test]
fn a_fault_in_one_instance_leaves_requests_to_the_others_as_they_were() {
    let metrics = Arc::new(Metrics::default());
    let sick = (0..20)
        .find_map(|seed| Case::random(Scenario::OwnTime, seed).filter(|case| case.fault.replica.is_some()));
    let judged = sick.expect("some fault is in one instance").judge(&metrics);
    assert!((1..60).contains(&judged.met.len()), "{}", judged.met.len());
}
