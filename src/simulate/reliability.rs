//! Whether a confidence of x means right x of the time.

use std::io::{self, Write};

const BINS: usize = 10;

/// Verdicts in ten bins of confidence.
#[derive(Clone, Debug, Default)]
pub struct Reliability {
    bins: [Bin; BINS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    count: u64,
    right: u64,
    confidence: f64,
}

impl Reliability {
    /// Counts a verdict.
    pub fn add(&mut self, confidence: f64, is_right: bool) {
        let bin = &mut self.bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
        bin.count += 1;
        bin.right += u64::from(is_right);
        bin.confidence += confidence;
    }

    /// Counts what another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (bin, more) in self.bins.iter_mut().zip(&other.bins) {
            bin.count += more.count;
            bin.right += more.right;
            bin.confidence += more.confidence;
        }
    }

    /// Expected calibration error: how far confidence and truth are apart in a bin, weighted by its verdicts, 0..=1.
    pub fn error(&self) -> f64 {
        let all: u64 = self.bins.iter().map(|bin| bin.count).sum();
        let off: f64 = self.bins.iter().map(|bin| (bin.confidence - bin.right as f64).abs()).sum();
        if all == 0 { 0.0 } else { off / all as f64 }
    }

    /// The share of all verdicts that were right, 0..=1. Where it is high, saying just this of every verdict has hardly
    /// any error either: a small error alone does not show that confidence tells verdicts apart.
    pub fn right(&self) -> f64 {
        let sum = |of: fn(&Bin) -> u64| self.bins.iter().map(of).sum::<u64>();
        sum(|bin| bin.right) as f64 / (sum(|bin| bin.count) as f64).max(1.0)
    }

    /// Writes the bins and the error, as markdown.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "| confidence | verdicts | mean confidence | right | |\n|---|---:|---:|---:|---|")?;
        for (number, bin) in self.bins.iter().enumerate().filter(|(_, bin)| bin.count > 0) {
            let (from, to) = (number as f64 / BINS as f64, (number + 1) as f64 / BINS as f64);
            let right = bin.right as f64 / bin.count as f64;
            let mean = bin.confidence / bin.count as f64;
            let bar = "#".repeat((right * 40.0).round() as usize);
            writeln!(out, "| {from:.1}-{to:.1} | {} | {mean:.3} | {right:.3} | `{bar}` |", bin.count)?;
        }
        writeln!(out, "\nExpected calibration error: {:.4}; right: {:.4} of all.", self.error(), self.right())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_that_keeps_its_word_has_no_error() {
        let mut reliability = Reliability::default();
        for number in 0..10 {
            reliability.add(0.75, number < 7);
        }
        assert!((reliability.error() - 0.05).abs() < 1e-9);
        let mut sure = Reliability::default();
        sure.add(0.95, false);
        assert!((sure.error() - 0.95).abs() < 1e-9);
        sure.merge(&reliability);
        assert!((sure.error() - (0.95 + 0.5) / 11.0).abs() < 1e-9);
    }
}
