//! Consistent probability sampling: every sampler that sees a trace's randomness decides alike, and the threshold
//! that is stamped on kept spans lets a backend count what was dropped.
//!
//! Follows OpenTelemetry's `TraceState` probability sampling and W3C Trace Context level 2: a trace is kept iff its
//! 56-bit randomness R is at least the threshold T.

use crate::assemble::Stamp;
use crate::otlp::TraceId;
use crate::otlp::tracestate::{self, OtState};

/// Whether a trace stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampled {
    /// It does.
    Kept {
        /// What to write on each of its spans; `None` leaves them as they are.
        stamp: Option<Stamp>,
    },
    /// It does not.
    Dropped,
}

/// Samples a trace with probability `share`, 0..=1, given the `tracestate`s of its spans, the entry span's first.
///
/// Of different thresholds the highest counts; one that cannot be read, or that would have dropped the trace before it
/// came here, is not believed. The randomness is what the entry span says, and where it says nothing that of the trace
/// id, whatever other spans say: most traces are dropped without a look at those.
pub fn sample<'a>(id: TraceId, share: f64, trace_states: impl Iterator<Item = &'a [u8]>) -> Sampled {
    let mut thresholds = Vec::new();
    let mut explicit: Option<u64> = None;
    for (place, state) in trace_states.map(tracestate::read).enumerate() {
        let OtState { threshold, randomness, .. } = state;
        thresholds.extend(threshold);
        explicit = explicit.or(randomness.filter(|_| place == 0));
    }
    let randomness = explicit.unwrap_or_else(|| id.randomness());
    let incoming = thresholds.into_iter().filter(|threshold| *threshold <= randomness).max();
    let threshold = threshold_of(share).max(incoming.unwrap_or(0));
    if randomness >= threshold && share > 0.0 {
        Sampled::Kept { stamp: Some(Stamp { threshold, randomness }) }
    } else {
        Sampled::Dropped
    }
}

/// T for a probability: (1 - p) x 2^56.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and 2^56, where floats hold what a share needs"
)]
fn threshold_of(share: f64) -> u64 {
    ((1.0 - share) * (1_u64 << 56) as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGEST: u64 = (1 << 56) - 1;

    fn id(randomness: u64) -> TraceId {
        let mut bytes = [0xff; 16];
        bytes[8..].copy_from_slice(&(randomness | 0xff << 56).to_be_bytes());
        TraceId::from_slice(&bytes).expect("not zero")
    }

    /// The threshold that a trace was kept with.
    fn threshold(randomness: u64, share: f64, states: &[&'static str]) -> Option<u64> {
        match sample(id(randomness), share, states.iter().map(|state| state.as_bytes())) {
            Sampled::Kept { stamp } => Some(stamp.expect("stamped").threshold),
            Sampled::Dropped => None,
        }
    }

    #[test]
    fn a_trace_is_kept_from_the_threshold_on() {
        let tenth = threshold(LARGEST, 0.1, &[]).expect("kept");
        assert_eq!(tenth >> 8, 0xe6_6666_6666_6666 >> 8);
        assert_eq!(threshold(tenth, 0.1, &[]), Some(tenth));
        assert_eq!(threshold(tenth - 1, 0.1, &[]), None);
    }

    #[test]
    fn everything_and_nothing() {
        assert_eq!(threshold(0, 1.0, &[]), Some(0));
        assert_eq!(threshold(LARGEST, 0.0, &[]), None);
    }

    #[test]
    fn of_different_values_the_entry_spans_randomness_and_the_highest_threshold_count() {
        assert_eq!(threshold(0, 0.5, &["ot=rv:ffffffffffffff"]), Some(1 << 55));
        assert_eq!(threshold(0, 0.5, &["", "ot=rv:ffffffffffffff"]), None);
        assert_eq!(threshold(LARGEST, 0.5, &["", "ot=rv:00000000000000"]), Some(1 << 55));
        assert_eq!(threshold(LARGEST, 0.5, &["ot=rv:00000000000000", "ot=rv:ffffffffffffff"]), None);
        assert_eq!(threshold(LARGEST, 0.5, &["ot=th:4", "ot=th:c", ""]), Some(0xc0_0000_0000_0000));
    }

    // SAMPLING-2.
    #[test]
    fn who_was_sampled_harder_before_stays_with_that_threshold() {
        let before = "ot=th:c";
        assert_eq!(threshold(0xc0_0000_0000_0000, 0.5, &[before]), Some(0xc0_0000_0000_0000));
        assert_eq!(threshold(0xff_ffff_ffff_ffff, 0.1, &[before]).map(|t| t >> 40), Some(0xe666));
        assert_eq!(threshold(0xc0_0000_0000_0000, 0.1, &[before]), None, "ours is the higher one");
    }

    // SAMPLING-5.
    #[test]
    fn a_threshold_that_cannot_be_true_or_read_is_not_believed() {
        assert_eq!(threshold(1 << 55, 0.5, &["ot=th:c"]), Some(1 << 55));
        assert_eq!(threshold(1 << 55, 0.5, &["ot=th:XYZ"]), Some(1 << 55));
        assert_eq!(threshold((1 << 55) - 1, 0.5, &["ot=th:c"]), None, "decided by ours");
    }

    #[test]
    fn every_sampler_with_the_same_share_keeps_the_same_traces_and_a_higher_one_all_of_them() {
        for n in 0..10_000_u64 {
            let randomness = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8;
            let [small, large] = [0.1, 0.3].map(|share| threshold(randomness, share, &[]).is_some());
            assert!(large || !small);
        }
    }

    /// How many traces a kept one stands for.
    fn adjusted(threshold: u64) -> f64 {
        (1_u64 << 56) as f64 / ((1_u64 << 56) - threshold) as f64
    }

    #[test]
    fn it_is_the_same_whether_other_spans_are_looked_at_or_not() {
        let states = [
            "",
            "a=1",
            "ot=x:1",
            "ot=rv:40000000000000",
            "ot=rv:c0000000000000",
            "ot=th:c",
            "ot=th:1;rv:90000000000000",
        ];
        for root in states {
            for child in states {
                for randomness in (0..64).map(|n| n << 50) {
                    let [alone, together] =
                        [&[root][..], &[root, child]].map(|states| threshold(randomness, 0.5, states));
                    assert_eq!(alone.is_some(), together.is_some(), "{root} {child} {randomness:x}");
                    assert!(together >= alone, "{root} {child} {randomness:x}");
                }
            }
        }
    }

    // SAMPLING-9.
    #[test]
    fn adjusted_counts_add_up_to_what_there_was() {
        for share in [0.5, 0.05, 0.01] {
            let (mut before, mut after, mut variance) = (0.0, 0.0, 0.0);
            for n in 1..=100_000_u64 {
                // Half of them were sampled before, one in four.
                let randomness = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8;
                let was_sampled = n.is_multiple_of(2);
                if was_sampled && randomness < 0xc0_0000_0000_0000 {
                    continue;
                }
                let (state, weight) = if was_sampled { ("ot=th:c", 4.0) } else { ("", 1.0) };
                before += weight;
                let kept = threshold(randomness, share, &[state]);
                after += kept.map_or(0.0, adjusted);
                // Of a trace of this weight that is kept with probability p, and then stands for weight / p.
                let probability = (share * weight).min(1.0);
                variance += weight * weight * (1.0 - probability) / probability;
            }
            let sigma = f64::sqrt(variance);
            assert!((after - before).abs() < 3.0 * sigma, "{share}: {before} -> {after}, sigma {sigma}");
        }
    }
}
