//! How soon a kind of work or a wait counts as normal, and what one absurd trace does.

use super::*;
use crate::compare::testing::{TraceSpec, analysis};
use crate::config;

const SECOND: Nanos = 1_000_000_000;
const MINUTE: Nanos = 60 * SECOND;
/// Microseconds.
const MS: i64 = 1_000;

/// web asks cart, and waits `wait` microseconds for it beside what cart works.
fn page(wait: i64) -> TraceSpec {
    TraceSpec::default()
        .server((1, 0), ("web", "GET /"), (0, 50 * MS + wait))
        .client((2, 1), ("web", "GET /cart"), (10 * MS, 30 * MS + wait))
        .server((3, 2), ("cart", "GET /cart"), (10 * MS + wait, 30 * MS + wait))
}

const NORMAL: i64 = 4 * MS;

struct Watch {
    traffic: Traffic,
    now: Nanos,
    traces: u64,
}

impl Watch {
    fn new() -> Self {
        Self { traffic: Traffic::new(&config::Learned::default()), now: 1_000 * MINUTE, traces: 0 }
    }

    /// One trace every other second.
    fn see(&mut self, wait: i64) {
        self.now += 2 * SECOND;
        self.traces += 1;
        let less = wait / 100 * i64::try_from(self.traces * 7 % 11).expect("small");
        let trace = page(wait - less).build(1);
        self.traffic.observe(self.now, &analysis(&trace).expect("valid times"));
    }

    fn see_for(&mut self, duration: Nanos, wait: i64) {
        let until = self.now + duration;
        while self.now < until {
            self.see(wait);
        }
    }

    /// The longest wait for cart that is normal, in milliseconds.
    fn normal(&self) -> Nanos {
        let trace = page(NORMAL).build(1);
        let ledger = analysis(&trace).expect("valid times").ledger;
        let wait = ledger.entries.iter().find(|entry| entry.side == crate::compare::ledger::Side::Call);
        let tables = self.traffic.tables();
        let item = tables.items.get(&wait.expect("cart is called").item).expect("was seen");
        item.normal.threshold().expect("was learned") / 1_000_000
    }

    fn edge(&self) -> Recent {
        let tables = self.traffic.tables();
        tables.edges.values().next().expect("cart was called").at(self.now)
    }
}

#[test]
fn a_fault_that_is_shorter_than_accept_after_does_not_make_a_long_wait_normal() {
    for history in [10, 60, 120] {
        for is_half in [false, true] {
            let mut watch = Watch::new();
            watch.see_for(history * MINUTE, NORMAL);
            let until = watch.now + 30 * MINUTE;
            while watch.now < until {
                let is_faulty = !(is_half && watch.traces.is_multiple_of(2));
                watch.see(if is_faulty { 3 * NORMAL } else { NORMAL });
                assert!(watch.normal() <= 4, "{} ms, after {history} minutes of normal", watch.normal());
            }
            assert_eq!(watch.edge().oddness(), WHOLE);
        }
    }
}

#[test]
fn a_wait_that_has_been_longer_for_accept_after_is_normal() {
    let mut watch = Watch::new();
    watch.see_for(200 * MINUTE, NORMAL);
    let began = watch.now;
    while watch.normal() < 5 {
        watch.see(NORMAL * 3 / 2);
    }
    let minutes = (watch.now - began) / MINUTE;
    assert!((55..=65).contains(&minutes), "accepted after {minutes} minutes");
    watch.see_for(5 * MINUTE, NORMAL * 3 / 2);
    assert_eq!(watch.edge().oddness(), 0);
}

#[test]
fn one_absurd_wait_neither_becomes_normal_nor_outweighs_all_others() {
    for absurd in [-20 * MS, 1_000_000_000_000] {
        for before in [30, 100, 1_000] {
            let mut watch = Watch::new();
            watch.see_for(before * 2 * SECOND, NORMAL);
            let (normal, excess) = (watch.normal(), watch.edge().excess_of_one());
            watch.see(absurd);
            watch.see_for(30 * SECOND, NORMAL);
            assert!(watch.normal().abs_diff(normal) <= 1, "{absurd} us");
            assert!(watch.edge().oddness() < FAULT / 2, "{absurd} us");
            // Nanoseconds; a fault adds milliseconds to every call.
            let now = watch.edge().excess_of_one();
            assert!(now < excess + 2_500_000, "{now} ns after {excess} ns");
        }
    }
}

#[test]
fn many_waits_that_are_a_thousand_times_as_long_soon_count_in_full() {
    let mut watch = Watch::new();
    watch.see_for(10 * MINUTE, NORMAL);
    watch.see_for(3 * MINUTE, 1_000 * NORMAL);
    let excess = watch.edge().excess_of_one();
    assert!(excess > 3_000_000_000, "{excess} ns");
}

/// web asks cart so many times, and waits `wait` microseconds each time beside what cart works.
fn pages(times: u64, wait: i64) -> TraceSpec {
    let each = 20 * MS + wait;
    let whole = i64::try_from(times).expect("small") * each + 20 * MS;
    (0..times).fold(TraceSpec::default().server((1, 0), ("web", "GET /"), (0, whole)), |spec, number| {
        let start = 10 * MS + i64::try_from(number).expect("small") * each;
        spec.client((10 + 2 * number, 1), ("web", "GET /cart"), (start, start + each)).server(
            (11 + 2 * number, 10 + 2 * number),
            ("cart", "GET /cart"),
            (start + wait, start + each),
        )
    })
}

#[test]
fn one_trace_of_many_long_waits_is_no_fault_of_the_traffic() {
    let mut watch = Watch::new();
    watch.see_for(10 * MINUTE, NORMAL);
    let trace = pages(100, 50 * NORMAL).build(1);
    let long = watch.traffic.observe(watch.now, &analysis(&trace).expect("valid times"));
    assert!(!long.is_empty());
    assert!(!watch.traffic.is_fault(watch.now, &long));
    assert!(watch.edge().oddness() < FAULT, "{}", watch.edge().oddness());
    // Three of them are.
    for _ in 0..2 {
        watch.traffic.observe(watch.now, &analysis(&trace).expect("valid times"));
    }
    assert!(watch.edge().long > FAULT_CALLS);
}
