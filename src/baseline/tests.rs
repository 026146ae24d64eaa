//! What may become normal, how soon, and what a slow trace is held against, on virtual time.

use super::*;
use crate::compare::testing::{TraceSpec, analysis, culprit_of, entry_of};
use crate::compare::{Comparer, Outcome, Reason, Verdict};
use crate::config::Config;
use crate::decide::RouteId;
use store::Store;

const SECOND: Nanos = 1_000_000_000;
const MINUTE: Nanos = 60 * SECOND;
/// Nanoseconds of a microsecond.
const MICRO: Nanos = 1_000;
/// Microseconds.
const MS: i64 = 1_000;

/// web works for 80 ms and asks cart, which works for `cart` microseconds.
fn page(cart: i64) -> TraceSpec {
    TraceSpec::default()
        .server((1, 0), ("web", "GET /"), (0, 90 * MS + cart))
        .client((2, 1), ("web", "GET /cart"), (40 * MS, 50 * MS + cart))
        .server((3, 2), ("cart", "GET /cart"), (45 * MS, 45 * MS + cart))
}

/// What cart normally works, in microseconds, and three times as much: too little for the page to become slow by it.
const NORMAL: i64 = 5 * MS;
const FAULTY: i64 = 3 * NORMAL;

struct Learner {
    comparer: Comparer,
    now: Nanos,
    /// Nanoseconds from one trace to the next.
    pause: Nanos,
    traces: u64,
}

impl Learner {
    fn every(pause: Nanos) -> Self {
        let config = Config::default();
        let comparer = Comparer::new(&config.compare, &config.baseline, &config.slow.learned, 64 << 20);
        Self { comparer, now: 1_000 * MINUTE, pause, traces: 0 }
    }

    fn learn(&mut self, spec: &TraceSpec) {
        self.now += self.pause;
        self.traces += 1;
        let trace = spec.build(u8::try_from(self.traces % 200 + 1).expect("small"));
        self.comparer.learn(self.now, RouteId::OTHER, &trace, entry_of(&trace), true);
    }

    /// A page on which cart works about so long: up to a tenth less.
    fn learn_page(&mut self, cart: i64) {
        let less = cart / 100 * i64::try_from(self.traces * 7 % 11).expect("small");
        self.learn(&page(cart - less));
    }

    fn learn_for(&mut self, duration: Nanos, cart: i64) {
        let until = self.now + duration;
        while self.now < until {
            self.learn_page(cart);
        }
    }

    fn store(&self) -> &Store {
        self.comparer.learned().0
    }

    fn references(&self) -> References {
        let trace = page(NORMAL).build(1);
        let shape = analysis(&trace).expect("valid times").shape;
        self.store().references(self.now, RouteId::OTHER, &shape).expect("was taught")
    }

    /// What cart normally works at most, in microseconds.
    fn floor(&self) -> i64 {
        let trace = page(NORMAL).build(1);
        let ledger = analysis(&trace).expect("valid times").ledger;
        let cart = ledger.entries.iter().find(|entry| ledger.service_name(entry.service) == Some("cart"));
        let floor = self.references().floors.get(cart.expect("is called").key).copied();
        i64::try_from(floor.expect("was called").on_path / MICRO).expect("small")
    }

    fn verdict(&self, slow: &TraceSpec) -> Verdict {
        let slow = slow.build(255);
        self.comparer.compare(self.now, RouteId::OTHER, &slow, entry_of(&slow), SECOND)
    }
}

/// Feeds so many seconds of fault, on all pages or on every second, then none until the ring is a new one, and looks all
/// the time.
fn assert_teaches_nothing(learner: &mut Learner, seconds: u64, is_half: bool) {
    let (began, allowed) = (learner.now, NORMAL * 13 / 10);
    let a_ring = 48 * learner.pause + 2 * QUARANTINE;
    while learner.now < began + seconds * SECOND + a_ring {
        let is_faulty =
            learner.now < began + seconds * SECOND && !(is_half && learner.traces.is_multiple_of(2));
        learner.learn_page(if is_faulty { FAULTY } else { NORMAL });
        let (floor, passed) = (learner.floor(), (learner.now - began) / SECOND);
        assert!(floor <= allowed, "{floor} us after {passed} s, of which {seconds} faulty, half: {is_half}");
    }
}

#[test]
fn a_fault_that_is_shorter_than_accept_after_teaches_no_floor() {
    // Two or three traces in a row are chance, however odd.
    let often: &[u64] = &[2, 30, 45, 55, 70, 120];
    for (history, pause, faults) in [(10, 2, often), (60, 2, often), (60, 20, &[20, 300])] {
        for is_half in [false, true] {
            let mut learner = Learner::every(pause * SECOND);
            learner.learn_for(history * MINUTE, NORMAL);
            for seconds in faults {
                assert_teaches_nothing(&mut learner, *seconds, is_half);
            }
            // What was left of a fault in the percentiles of its bucket is one bucket of an hour.
            learner.learn_for(30 * MINUTE, NORMAL);
            assert_teaches_nothing(&mut learner, 30 * 60, is_half);
        }
    }
}

#[test]
fn a_fault_in_the_first_minutes_teaches_no_floor_either() {
    for seconds in [10, 30, 120] {
        let mut learner = Learner::every(SECOND);
        learner.learn_for(MINUTE, NORMAL);
        assert_teaches_nothing(&mut learner, seconds, false);
    }
}

#[test]
fn what_lasts_longer_than_accept_after_becomes_normal() {
    for is_half in [false, true] {
        let mut learner = Learner::every(2 * SECOND);
        learner.learn_for(150 * MINUTE, NORMAL);
        let began = learner.now;
        while learner.floor() < FAULTY * 9 / 10 {
            assert!(learner.now < began + 80 * MINUTE, "still unusual, half: {is_half}");
            learner.learn_page(if is_half && learner.traces.is_multiple_of(2) { NORMAL } else { FAULTY });
        }
        let minutes = (learner.now - began) / MINUTE;
        assert!((55..=72).contains(&minutes), "accepted after {minutes} minutes, half: {is_half}");
    }
}

/// The same page, all its times divided or multiplied.
fn scaled(spec: &TraceSpec, by: impl Fn(i64) -> i64) -> TraceSpec {
    let mut spec = spec.clone();
    for span in &mut spec.spans {
        (span.start, span.end) = (by(span.start), by(span.end));
    }
    spec
}

// D13.
#[test]
fn one_absurd_trace_changes_no_floor_no_verdict_and_no_linked_reference() {
    let instant = scaled(&page(NORMAL), |_| 0);
    let eternal = scaled(&page(NORMAL), |time| time.saturating_mul(1_000_000));
    let slow = page(400 * MS);
    for count in [3, 5, 7, 8, 12, 19, 20, 31, 32, 60] {
        let taught = |poison: Option<(u64, &TraceSpec)>| {
            let mut learner = Learner::every(2 * SECOND);
            for number in 0..count {
                match poison {
                    Some((at, absurd)) if at == number => learner.learn(absurd),
                    _ => learner.learn_page(NORMAL),
                }
            }
            learner.store().trust(learner.now);
            learner
        };
        let clean = taught(None);
        let culprit = culprit_of(&clean.verdict(&slow)).clone();
        for absurd in [&instant, &eternal] {
            for at in [0, 1, count / 2, count - 1] {
                let poisoned = taught(Some((at, absurd)));
                let what = format!("the {at}th of {count}, {} us", absurd.spans[0].end);
                let (floor, expected) = (poisoned.floor(), clean.floor());
                assert!(floor.abs_diff(expected) <= 200, "{floor} us instead of {expected}: {what}");
                let linked = poisoned.references().linked.ledger.duration;
                assert!((90_000 * MICRO..=95_000 * MICRO).contains(&linked), "{linked} ns linked: {what}");
                let verdict = poisoned.verdict(&slow);
                let found = culprit_of(&verdict);
                assert_eq!((&found.service, found.category), (&culprit.service, culprit.category), "{what}");
                assert!((found.delta_ms - culprit.delta_ms).abs() < 1.0, "{what}");
                let other = poisoned.verdict(&page(NORMAL + 12 * MS));
                assert_eq!(other.outcome, Outcome::Inconclusive(Reason::NotSlower), "{what}");
            }
        }
    }
}

// D13.
#[test]
fn the_linked_reference_is_from_the_middle_and_recent_while_traffic_flows() {
    // A tenth of all pages take a third longer and a tenth a third less, which is not yet slow.
    let mut learner = Learner::every(SECOND);
    let mut linked_since = learner.now;
    for number in 0..4_000_u64 {
        let cart = match number * 7 % 10 {
            0 => NORMAL + 30 * MS,
            1 => NORMAL - 4 * MS,
            _ => NORMAL,
        };
        learner.learn_page(cart);
        if number < 10 {
            continue;
        }
        let linked = learner.references().linked;
        let duration = linked.ledger.duration;
        assert!((93_000 * MICRO..=96_000 * MICRO).contains(&duration), "{duration} ns after {number} traces");
        assert!(linked.since >= linked_since);
        linked_since = linked.since;
        let age = learner.now - linked_since;
        assert!(age <= 6 * MINUTE, "{age} ns old");
    }
    assert!(linked_since > learner.now - 6 * MINUTE);
}

#[test]
fn a_route_that_is_seldom_called_links_nothing_from_the_edge_either() {
    let mut learner = Learner::every(20 * MINUTE);
    for _ in 0..40 {
        learner.learn_page(NORMAL);
    }
    let before = learner.references().linked.ledger.duration;
    learner.learn(&page(NORMAL + 30 * MS));
    assert_eq!(learner.references().linked.ledger.duration, before);
    for _ in 0..8 {
        learner.learn_page(NORMAL);
    }
    assert!(learner.references().linked.since > learner.now - 4 * 60 * MINUTE);
}
