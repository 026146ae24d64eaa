//! How soon a slowdown becomes the new normal: by how much traffic there is, how long a route was known before, and how
//! much slower it got.

use super::*;

const SECOND: Nanos = 1_000_000_000;
const MINUTE: Nanos = 60 * SECOND;
const MILLI: Nanos = 1_000_000;

/// Between two traces, and so many minutes of history.
const PERIODS: [Nanos; 8] =
    [SECOND / 10, SECOND, 5 * SECOND, 7 * SECOND, 10 * SECOND, 20 * SECOND, 30 * SECOND, MINUTE];
const HISTORIES: [u64; 9] = [2, 5, 10, 20, 30, 60, 120, 240, 600];

/// What happens to a route.
#[derive(Clone, Copy, Debug)]
struct Fault {
    percent: u64,
    /// One of so many traces meets it.
    one_in: u64,
}

const ALL_THREE_TIMES: Fault = Fault { percent: 300, one_in: 1 };
const HALF_THREE_TIMES: Fault = Fault { percent: 300, one_in: 2 };
const ALL_HALF_AS_SLOW_AGAIN: Fault = Fault { percent: 150, one_in: 1 };

/// Minutes after which a fault is no longer slow; `None` where it is after three hours. `pause` is the time between two
/// traces, which last 91 to 100 ms when all is well.
fn accepted_after(fault: Fault, history: u64, mut pause: impl FnMut() -> Nanos) -> Option<u64> {
    let learning = Learning::new(&config::Learned::default());
    let mut durations = Durations::default();
    let begin = history * MINUTE;
    let (mut now, mut traces) = (0, 0_u64);
    let mut accepted = None;
    while now < begin + 180 * MINUTE {
        let is_faulty = now >= begin && traces.is_multiple_of(fault.one_in);
        let percent = if is_faulty { fault.percent } else { 100 };
        // Between what is normal and what is not, with the factor that a threshold is above either.
        let is_slow = durations.threshold().is_none_or(|threshold| threshold < fault.percent * MILLI);
        if now >= begin {
            accepted = accepted.filter(|_| !is_slow).or((!is_slow).then_some((now - begin) / MINUTE));
        }
        durations.add(now, (91 + traces % 10) * percent * MILLI / 100, &learning);
        traces += 1;
        now += pause();
    }
    accepted
}

/// With so few traces before it a fault is a part of the first look at a route.
fn is_known(period: Nanos, history: u64) -> bool {
    history * MINUTE / period >= 10
}

#[test]
fn whatever_lasts_an_hour_becomes_normal_and_nothing_that_is_shorter_does() {
    for fault in [ALL_THREE_TIMES, HALF_THREE_TIMES, ALL_HALF_AS_SLOW_AGAIN] {
        for period in PERIODS {
            let accepted = HISTORIES.map(|history| accepted_after(fault, history, || period));
            // What a route was like before its twentieth trace is told apart by ten traces, not by minutes.
            let latest = 65 + 10 * period / MINUTE;
            for (history, accepted) in HISTORIES.into_iter().zip(accepted) {
                let is_right = accepted.is_some_and(|minutes| (55..=latest).contains(&minutes));
                let what =
                    format!("{fault:?} at a trace each {} s after {history} minutes", period as f64 / 1e9);
                assert!(is_right || !is_known(period, history), "{what}: {accepted:?}");
            }
        }
    }
}

#[test]
fn what_a_route_began_with_is_normal_until_it_has_been_better_for_as_long() {
    for (period, history) in [(10 * SECOND, 1), (20 * SECOND, 2), (MINUTE, 5)] {
        assert!(!is_known(period, history));
        let accepted = accepted_after(ALL_THREE_TIMES, history, || period).expect("accepted");
        assert!(accepted * MINUTE <= 20 * period, "a trace each {} s: {accepted}", period / SECOND);
    }
}

/// How long, in milliseconds, traces that take 16 times as long are slow, if they begin after so many seconds and go on
/// for `lasts` of them.
fn slow_for(period: Nanos, begin: u64, lasts: u64) -> u64 {
    let learning = Learning::new(&config::Learned::default());
    let mut durations = Durations::default();
    let mut slow = 0;
    for now in (0..(begin + lasts) * SECOND).step_by(usize::try_from(period).expect("64 bits")) {
        let duration = if now >= begin * SECOND { 800 } else { 50 } * MILLI;
        slow += u64::from(durations.threshold().is_some_and(|threshold| duration > threshold));
        durations.add(now, duration, &learning);
    }
    slow * period / MILLI
}

#[test]
fn what_begins_in_the_first_two_buckets_is_normal_soon_and_what_begins_later_is_slow_for_an_hour() {
    for period in [SECOND / 20, SECOND] {
        // In the first one as soon as the percentile follows.
        assert!((500..4_000).contains(&slow_for(period, 10, 3600)), "{}", slow_for(period, 10, 3600));
        // In the second one until the third has closed, after 75 s.
        for begin in [30, 40] {
            let slow = slow_for(period, begin, 3600) / 1000;
            assert!((74 - begin..=77 - begin).contains(&slow), "{begin}: {slow}");
        }
        for begin in [51, 70, 90, 120] {
            assert!(slow_for(period, begin, 3500) >= 3_499_000, "{begin}");
        }
    }
    for (period, begin) in [(3, 76), (5, 51), (10, 101)] {
        let slow = slow_for(period * SECOND, begin, 3500) / 1000;
        assert!(slow >= 3400, "a trace each {period} s, from {begin} s on: {slow}");
    }
}

#[test]
fn traces_that_come_by_chance_are_learned_at_the_same_pace() {
    for period in [SECOND, 5 * SECOND, 10 * SECOND, 20 * SECOND] {
        for history in [10, 30, 120, 600] {
            for seed in 1..=5_u64 {
                let mut random = seed;
                let mut pause = || {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    // Exponential, as between independent requests.
                    let uniform = ((random >> 11) + 1) as f64 / (1_u64 << 53) as f64;
                    crate::decide::tests::nanos(-uniform.ln() * period as f64)
                };
                for fault in [ALL_THREE_TIMES, ALL_HALF_AS_SLOW_AGAIN] {
                    let accepted = accepted_after(fault, history, &mut pause);
                    let what = format!("{fault:?}, {} s, {history} minutes, seed {seed}", period / SECOND);
                    assert!(
                        accepted.is_some_and(|minutes| (54..=66).contains(&minutes)),
                        "{what}: {accepted:?}"
                    );
                }
            }
        }
    }
}
