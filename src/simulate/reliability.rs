//! Whether a confidence of x means right x of the time.

use std::io::{self, Write};

use super::judge::Named;
use crate::compare::{Category, Grounds};

/// One named service, and whether it was right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// What it was named for.
    pub category: Category,
    /// What the confidence rests on.
    pub grounds: Grounds,
    /// Whether it was right.
    pub is_right: bool,
}

impl Sample {
    /// Of a verdict.
    pub fn of(named: &Named) -> Self {
        Self { category: named.category, grounds: named.grounds, is_right: named.is_right }
    }

    /// The confidence that the verdict has.
    pub fn confidence(&self) -> f64 {
        self.grounds.confidence(self.category)
    }
}

const BINS: usize = 10;

/// Verdicts in ten bins of confidence.
#[derive(Clone, Debug, Default)]
pub struct Reliability {
    bins: [Bin; BINS],
    /// Sums of squared differences and of logarithms of what was said of what happened.
    brier: f64,
    log: f64,
}

/// Verdicts of about the same confidence.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bin {
    /// How many.
    pub count: u64,
    /// How many of them were right.
    pub right: u64,
    /// The sum of their confidence.
    confidence: f64,
}

impl Bin {
    /// The mean confidence of its verdicts.
    pub fn confidence(&self) -> f64 {
        self.confidence / self.count.max(1) as f64
    }

    /// The share of its verdicts that were right.
    pub fn right(&self) -> f64 {
        self.right as f64 / self.count.max(1) as f64
    }
}

impl Reliability {
    /// Of what `confidence` says of each sample.
    pub fn of(samples: &[Sample], confidence: impl Fn(&Sample) -> f64) -> Self {
        let mut reliability = Self::default();
        for sample in samples {
            reliability.add(confidence(sample), sample.is_right);
        }
        reliability
    }

    fn add(&mut self, confidence: f64, is_right: bool) {
        let bin = &mut self.bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
        bin.count += 1;
        bin.right += u64::from(is_right);
        bin.confidence += confidence;
        let said = if is_right { confidence } else { 1.0 - confidence };
        self.brier += (1.0 - said) * (1.0 - said);
        self.log -= said.clamp(0.01, 0.99).ln();
    }

    /// Those bins that have verdicts.
    pub fn bins(&self) -> impl Iterator<Item = (f64, &Bin)> {
        let bins = self.bins.iter().enumerate().filter(|(_, bin)| bin.count > 0);
        bins.map(|(number, bin)| (number as f64 / BINS as f64, bin))
    }

    /// Expected calibration error: how far confidence and truth are apart in a bin, weighted by its verdicts, 0..=1.
    pub fn error(&self) -> f64 {
        let off: f64 = self.bins.iter().map(|bin| (bin.confidence - bin.right as f64).abs()).sum();
        off / self.count().max(1) as f64
    }

    /// How many verdicts there are.
    pub fn count(&self) -> u64 {
        self.bins.iter().map(|bin| bin.count).sum()
    }

    /// The share of all verdicts that were right, 0..=1. Where it is high, saying just this of every verdict has hardly
    /// any calibration error either: a small one alone does not show that confidence tells verdicts apart.
    pub fn right(&self) -> f64 {
        self.bins.iter().map(|bin| bin.right).sum::<u64>() as f64 / self.count().max(1) as f64
    }

    /// Writes the bins, as markdown.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "| confidence | verdicts | mean confidence | right |\n|---|---:|---:|---:|")?;
        for (from, bin) in self.bins() {
            let to = from + 1.0 / BINS as f64;
            let (count, confidence, right) = (bin.count, bin.confidence(), bin.right());
            writeln!(out, "| {from:.1}-{to:.1} | {count} | {confidence:.3} | {right:.3} |")?;
        }
        Ok(())
    }

    /// Writes the header of a table of scores, as markdown.
    pub fn write_score_header(out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "| | calibration error | Brier score | log score |\n|---|---:|---:|---:|")
    }

    /// Writes what it is worth as a row of such a table. Less is better in each column.
    pub fn write_scores(&self, label: &str, out: &mut dyn Write) -> io::Result<()> {
        let count = self.count().max(1) as f64;
        let (brier, log) = (self.brier / count, self.log / count);
        writeln!(out, "| {label} | {:.4} | {brier:.4} | {log:.4} |", self.error())
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
        assert!((reliability.right() - 0.7).abs() < 1e-9);
        let mut sure = Reliability::default();
        sure.add(0.95, false);
        assert!((sure.error() - 0.95).abs() < 1e-9);
        assert!(sure.brier > 0.9 && reliability.brier / 10.0 < 0.22);
    }
}
