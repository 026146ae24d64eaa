//! Whatever is sent, no part uses more than its budget, by what `/metrics` says.

use super::*;
use crate::config::memory::Budgets;

const MINUTE: Nanos = 60 * SECOND;

fn case(memory_limit: u64) -> Case {
    let (budgets, _) = Budgets::divide(&Config::default(), memory_limit);
    let limits = Limits { held: budgets.held, baseline: budgets.baseline, tables: budgets.tables };
    Case::within(limits, |config| config.sample.healthy = 0.0)
}

/// Used and budget of a part.
fn part(case: &Case, part: &str) -> (u64, u64) {
    case.pipeline.publish();
    let label = format!("{{part=\"{part}\"}}");
    (
        case.counted(&format!("laggard_used_bytes{label}")),
        case.counted(&format!("laggard_budget_bytes{label}")),
    )
}

fn check(case: &Case, what: &str) {
    for name in ["held", "baseline", "tables"] {
        let (used, budget) = part(case, name);
        assert!(used <= budget, "{name} uses {used} of {budget} after {what}");
    }
    let (_, budget) = part(case, "tables");
    let (pipeline, shares) = (&case.pipeline, Shares::of(budget));
    for (name, used, share) in [
        ("decisions", pipeline.held().remembered_bytes, shares.decisions),
        ("routes", pipeline.decider.used_bytes(), shares.routes),
        ("traffic", pipeline.comparer.table_bytes(), shares.traffic),
        ("recent", pipeline.recent.used_bytes(), shares.recent),
        ("forwarded", pipeline.forwarded.used_bytes(), shares.forwarded),
    ] {
        assert!(used <= share, "{name}: {used} of {share} after {what}");
    }
}

/// One trace of two spans of two services.
fn send(case: &mut Case, trace: u32, now: Nanos, [caller, callee]: [&str; 2], duration: Nanos) {
    let mut request = resource_spans(
        caller,
        trace,
        &[(1, 0, 2, now, now + duration), (2, 1, 3, now, now + duration)],
        false,
    );
    request.extend(resource_spans(callee, trace, &[(3, 2, 2, now, now + duration)], false));
    let mut out = Vec::new();
    assert!(case.try_accept(now, &request, &mut out));
    case.pipeline.decide_due(now + 11 * SECOND, &mut |outgoing| out.push(outgoing));
    case.check(out);
}

/// `number` in letters: digits would be templated away.
fn letters(number: u32) -> String {
    number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
}

/// Durations from microseconds to minutes.
fn any_duration(number: u32) -> Nanos {
    1_000 << (number.wrapping_mul(0x9e37_79b9) >> 27) | u64::from(number % 1_000)
}

// D10.
#[test]
fn names_without_end_fit_the_budgets() {
    for memory_limit in [4 << 20, 16 << 20, 64 << 20] {
        let mut case = case(memory_limit);
        for trace in 0..4_000 {
            let name = letters(trace);
            // New routes, then new callees of one route, then new callers of many.
            let names = match trace % 4 {
                0 => [name.as_str(), "db"],
                1 => ["web", name.as_str()],
                2 => [name.as_str(), name.as_str()],
                _ => ["web", "db"],
            };
            send(&mut case, trace, u64::from(trace) * SECOND, names, any_duration(trace));
            if trace % 200 == 0 {
                case.pipeline.tick(u64::from(trace) * SECOND);
                check(&case, &format!("{trace} traces with {memory_limit} bytes"));
            }
        }
        let (used, budget) = part(&case, "tables");
        assert!(used > budget / 20, "{used} of {budget}: nothing was learned");
    }
}

#[test]
fn what_is_known_learns_on_within_the_budgets() {
    let mut case = case(4 << 20);
    for trace in 0..6_000 {
        let name = letters(trace % 60);
        let callee = letters(trace / 60 % 9);
        send(&mut case, trace, u64::from(trace) * MINUTE / 20, [&name, &callee], any_duration(trace));
        if trace % 300 == 0 {
            case.pipeline.tick(u64::from(trace) * MINUTE / 20);
            check(&case, &format!("{trace} traces"));
        }
    }
    let routes = case.pipeline.routes();
    assert!(routes.len() > 5 && routes.iter().all(|route| route.report.threshold.is_some()), "{routes:?}");
    assert!(routes.iter().any(|route| route.report.name == "_other"), "{routes:?}");
}

#[test]
fn what_was_kept_with_more_memory_is_taken_back_as_far_as_it_fits() {
    let mut large = case(256 << 20);
    for trace in 0..3_000 {
        let name = letters(trace % 500);
        send(&mut large, trace, u64::from(trace) * SECOND, [&name, &name], any_duration(trace));
    }
    let mut file = Vec::new();
    large.pipeline.save(3_000 * SECOND, &mut file).expect("memory");
    for memory_limit in [1 << 20, 8 << 20, 64 << 20, 256 << 20] {
        let case = case(memory_limit);
        let restored = case.pipeline.restore(3_000 * SECOND, &file).expect("whole");
        case.pipeline.tick(3_000 * SECOND);
        check(&case, &format!("a restart with {memory_limit} bytes"));
        assert_eq!(restored.left_out == 0, memory_limit == 256 << 20, "{restored:?}");
    }
}
