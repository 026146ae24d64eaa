//! Chance with an address: every draw is a function of a seed and of where it is drawn, so that the same request can
//! be run again with one thing changed and all else equal.

use crate::otlp::Nanos;

/// splitmix64 from a seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Chance at a place: `path` says where, below `seed`.
    pub fn at(seed: u64, path: u64) -> Self {
        Self(mix(seed, path))
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.0)
    }

    /// 0 up to, but not, 1.
    pub fn unit(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// 0 up to, but not, `limit`; 0 where that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.number() % (limit as u64).max(1)) as usize
    }

    /// Whether something of this probability happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Evenly between two numbers.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Evenly between the logarithms of two positive numbers.
    pub fn log_between(&mut self, low: f64, high: f64) -> f64 {
        self.between(low.ln(), high.ln()).exp()
    }

    /// About 0 with a deviation of 1: the sum of twelve even draws, which needs no tables and has no far tails.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

/// How long something takes: lognormal around a median, with a heavy tail once in a while.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency {
    /// Nanoseconds.
    pub median: f64,
    /// The deviation of its logarithm.
    pub sigma: f64,
    /// How often it is a Pareto multiple of itself.
    pub tail: f64,
}

impl Latency {
    /// Nanoseconds.
    pub fn draw(&self, random: &mut Random) -> Nanos {
        let mut nanos = self.median * (self.sigma * random.normal()).exp();
        if random.chance(self.tail) {
            nanos *= (1.0 - random.unit()).powf(-1.0 / 1.5).min(30.0);
        }
        nanos as Nanos
    }
}

/// Two numbers into one that tells nothing of either.
pub fn mix(one: u64, other: u64) -> u64 {
    scramble(
        one.rotate_left(23) ^ other.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x632b_e59b_d9b4_e019),
    )
}

fn scramble(mut mixed: u64) -> u64 {
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_depend_on_seed_and_place_alone() {
        let draws = |seed, place| -> Vec<u64> {
            let mut random = Random::at(seed, place);
            (0..4).map(|_| random.number()).collect()
        };
        assert_eq!(draws(1, 2), draws(1, 2));
        assert_ne!(draws(1, 2), draws(2, 1));
        assert_ne!(draws(1, 2), draws(1, 3));
    }

    #[test]
    fn a_latency_keeps_its_median_whatever_its_tail() {
        let latency = Latency { median: 1e6, sigma: 0.3, tail: 0.05 };
        let mut random = Random::new(1);
        let mut drawn: Vec<Nanos> = (0..10_001).map(|_| latency.draw(&mut random)).collect();
        drawn.sort_unstable();
        assert!((950_000..1_060_000).contains(&drawn[5_000]), "{}", drawn[5_000]);
        assert!(drawn[10_000] > 5_000_000, "{}", drawn[10_000]);
    }
}
