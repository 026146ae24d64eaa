//! How late decisions are: a histogram of its own, since the exporter's would keep every value, 24 bytes each, until
//! somebody reads the page.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::otlp::Nanos;

/// The highest value of each bucket but the last, in nanoseconds, and as the page has it in seconds.
const BOUNDS: [(Nanos, &str); 9] = [
    (10_000_000, "0.01"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (10_000_000_000, "10"),
    (60_000_000_000, "60"),
];

/// `laggard_decision_lateness_seconds`.
#[derive(Debug, Default)]
pub struct Lateness {
    /// Those of [`BOUNDS`], and one for whatever is above.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
}

impl Lateness {
    /// Counts decisions that were made so many nanoseconds after they were due. Those that were made together are counted
    /// together, since threads share what they add to.
    pub fn record(&self, lateness: impl Iterator<Item = Nanos>) {
        let mut counts = [0; BOUNDS.len() + 1];
        let mut sum: Nanos = 0;
        for late in lateness {
            let bucket = BOUNDS.iter().position(|(bound, _)| late <= *bound).unwrap_or(BOUNDS.len());
            if let Some(count) = counts.get_mut(bucket) {
                *count += 1;
            }
            sum = sum.wrapping_add(late);
        }
        for (bucket, count) in self.buckets.iter().zip(counts) {
            if count > 0 {
                bucket.fetch_add(count, Ordering::Relaxed);
            }
        }
        self.sum.fetch_add(sum, Ordering::Relaxed);
    }

    /// The text exposition.
    pub fn render(&self) -> String {
        const NAME: &str = "laggard_decision_lateness_seconds";
        let mut page = format!(
            "# HELP {NAME} How far behind the moment it was due a decision was made\n# TYPE {NAME} histogram\n"
        );
        let mut count = 0;
        let bounds = BOUNDS.iter().map(|(_, seconds)| *seconds).chain(["+Inf"]);
        for (bucket, bound) in self.buckets.iter().zip(bounds) {
            count += bucket.load(Ordering::Relaxed);
            let written = writeln!(page, "{NAME}_bucket{{le=\"{bound}\"}} {count}");
            debug_assert!(written.is_ok(), "writing to a string does not fail");
        }
        let seconds = self.sum.load(Ordering::Relaxed) as f64 / 1e9;
        page + &format!("{NAME}_sum {seconds}\n{NAME}_count {count}\n\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_in_every_bucket_from_its_own_on() {
        let lateness = Lateness::default();
        lateness.record([0, 10_000_000, 10_000_001].into_iter());
        lateness.record([60_000_000_000, 60_000_000_001].into_iter());
        let page = lateness.render();
        for line in [
            "_bucket{le=\"0.01\"} 2",
            "_bucket{le=\"0.05\"} 3",
            "_bucket{le=\"10\"} 3",
            "_bucket{le=\"60\"} 4",
            "_bucket{le=\"+Inf\"} 5",
            "_sum 120.020000002",
            "_count 5",
        ] {
            let line = format!("laggard_decision_lateness_seconds{line}\n");
            assert!(page.contains(&line), "{line}{page}");
        }
    }
}
