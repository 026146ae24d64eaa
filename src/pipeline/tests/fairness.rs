//! What one sender's flood does to the traces of others, and what is left of it.

use super::*;

const LIMIT: u64 = 8 << 20;

/// A trace may take a quarter of what is held.
fn case() -> Case {
    Case::with_held_limit(LIMIT, |config| {
        config.assemble.maximum_trace_size = LIMIT / 4;
        config.sample.healthy = 0.0;
    })
}

/// Spans of trace 7 without a root, a request of them.
fn of_the_huge_trace(number: u64) -> Vec<u8> {
    let start = 1_000 * SECOND + number;
    let spans: Vec<_> = (2..=200).map(|span| (span, 1, 3, start, start + MILLI)).collect();
    resource_spans("huge", 7, &spans, false)
}

// D5.
#[test]
fn one_huge_trace_does_not_starve_the_others() {
    let mut case = case();
    let mut bytes = 0;
    for number in 0..2_000_u32 {
        let now = 1_000 * SECOND + u64::from(number) * 10 * MILLI;
        let huge = of_the_huge_trace(u64::from(number));
        bytes += huge.len() as u64;
        case.accept(now, &huge);
        case.accept(now, &request(fast(1_000 + number)));
        case.decide(now);
        assert!(case.pipeline.held_bytes() <= LIMIT);
    }
    assert!(bytes > 3 * LIMIT, "{bytes}");
    case.decide(2_000 * SECOND);
    let decided = |trigger| case.counted(&format!("laggard_decisions_total{{trigger=\"{trigger}\"}}"));
    assert_eq!((decided("size"), decided("memory")), (1, 0), "nobody else pays for it");
    assert_eq!(decided("root"), 2_000, "each of the others is decided when it is due");
    let late = case.counted("laggard_late_spans_total");
    assert!(late > 300_000, "all that comes later goes its way at once: {late}");
}

// E3.
#[test]
fn after_a_flood_what_is_held_returns_to_what_it_was() {
    let mut case = case();
    case.call(fast(1));
    let (idle, tables) = (case.pipeline.held_bytes(), case.counted("laggard_budget_bytes{part=\"tables\"}"));
    for first in (0..60_000_u32).step_by(100) {
        let flood: Vec<u8> = (first..first + 100).flat_map(|trace| request(fast(100 + trace))).collect();
        case.accept(5_000_000 * SECOND, &flood);
    }
    assert!(case.pipeline.held_bytes() > LIMIT / 2);
    case.decide(6_000_000 * SECOND);
    case.call(fast(2));
    case.pipeline.tick(6_000_100 * SECOND);
    assert_eq!(
        case.pipeline.held(),
        Held { remembered_bytes: case.pipeline.held().remembered_bytes, ..Held::default() }
    );
    assert!(case.pipeline.held_bytes() <= idle + (512 << 10), "{} of {idle}", case.pipeline.held_bytes());
    let used = case.counted("laggard_used_bytes{part=\"tables\"}");
    assert!(used <= tables, "past decisions stay, within their budget: {used} of {tables}");
}
