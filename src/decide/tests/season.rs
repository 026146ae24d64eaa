//! Weeks of traffic that has days, nights, weekends and a heavy tail, on virtual time.

use super::*;

const MINUTE: Nanos = 60 * SECOND;
const HOUR: Nanos = 60 * MINUTE;
const DAY: Nanos = 24 * HOUR;

/// Deterministic noise (`SplitMix64`).
struct Noise(u64);

impl Noise {
    /// 0..1.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ bits >> 31) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Log-normal with a spread of 0.5, and in one of a hundred cases a Pareto tail beyond.
    fn factor(&mut self) -> f64 {
        let normal = (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0;
        let usual = (0.5 * normal).exp();
        if self.uniform() < 0.01 { usual * 2.0 / (1.0 - self.uniform()).powf(0.7) } else { usual }
    }
}

/// Slower by up to 30 % at noon than at dusk and dawn, and faster by as much at midnight.
fn season(now: Nanos) -> f64 {
    let day = (now % DAY) as f64 / DAY as f64;
    1.0 - 0.3 * (day * std::f64::consts::TAU).cos()
}

/// Between two traces: at night and on the last two days of a week it takes longer.
fn pause(now: Nanos, average: Nanos) -> Nanos {
    let busy = season(now) * if now / DAY % 7 >= 5 { 0.4 } else { 1.0 };
    nanos(average as f64 / busy)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and far below 2^63")]
pub(in crate::decide) fn nanos(float: f64) -> Nanos {
    float as Nanos
}

/// The share of slow traces by stretches of `step`, after the first day; `slower` multiplies durations.
fn shares(days: u64, average: Nanos, step: Nanos, slower: impl Fn(Nanos) -> f64) -> Vec<f64> {
    let mut case = Case::new(&config::Slow::default());
    let (mut noise, mut now) = (Noise(1), 0);
    let mut counts = vec![(0_u32, 0_u32); usize::try_from((days - 1) * DAY / step).expect("few")];
    while now < days * DAY {
        let duration = 80.0 * MILLI as f64 * season(now) * noise.factor() * slower(now);
        let judged = case.judge(now, "page", nanos(duration), 1);
        if let Some(at) = now.checked_sub(DAY) {
            let (slow, all) = &mut counts[usize::try_from(at / step).expect("few")];
            *slow += u32::from(judged.decided == Decided::Slow);
            *all += 1;
        }
        now += pause(now, average);
    }
    counts.into_iter().map(|(slow, all)| f64::from(slow) / f64::from(all.max(1))).collect()
}

#[test]
fn over_weeks_of_days_and_nights_a_few_of_a_hundred_traces_are_slow() {
    let days = shares(15, 10 * SECOND, DAY, |_| 1.0);
    assert!(days.iter().all(|share| (0.015..0.045).contains(share)), "by day: {days:?}");
    let hours = shares(8, 5 * SECOND, HOUR, |_| 1.0);
    let worst = hours.iter().copied().fold(0.0, f64::max);
    // The mornings get slower by up to 8 % an hour, and the median is an hour behind.
    assert!(worst < 0.09, "in the worst hour: {worst}");
}

#[test]
fn a_sparse_route_stays_sane_too() {
    let weeks = shares(57, 10 * MINUTE, 7 * DAY, |_| 1.0);
    assert!(weeks.iter().all(|share| (0.005..0.08).contains(share)), "by week: {weeks:?}");
}

#[test]
fn faults_of_half_an_hour_each_day_stay_visible_and_teach_nothing() {
    let is_faulty = |now: Nanos| now % DAY >= 15 * HOUR && now % DAY < 15 * HOUR + 30 * MINUTE;
    let halves = shares(6, 2 * SECOND, 30 * MINUTE, |now| if is_faulty(now) { 3.0 } else { 1.0 });
    for (at, share) in halves.iter().enumerate() {
        let is_fault = at % 48 == 30;
        if is_fault {
            // Three times the median is just above the threshold, so about half of them are beyond it.
            assert!(*share > 0.4, "half hour {at}: {share}");
        } else {
            assert!(*share < 0.1, "half hour {at}: {share}");
        }
    }
}
