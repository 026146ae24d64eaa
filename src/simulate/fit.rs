//! Fits the few numbers of a model of confidence: logistic regression on what a verdict shows of itself.

use std::io::{self, Write};

use super::judge::Named;
use crate::compare::Category;

/// Nobody is ever surer than this.
const MOST: f64 = 0.95;
/// In the order of their declaration, which is that of the inputs.
const CATEGORY: [Category; CATEGORIES] = [
    Category::OwnTime,
    Category::NetworkQueue,
    Category::Saturation,
    Category::Dependency,
    Category::ExtraCalls,
    Category::Retry,
    Category::Timeout,
    Category::NewPath,
    Category::LostConcurrency,
];
const CATEGORIES: usize = 9;
/// One number a category, then those of `share`, `margin`, `penalty` and `slowdown`.
const NUMBERS: usize = CATEGORIES + 4;
/// Keeps numbers that little evidence speaks of near 0.
const RIDGE: f64 = 2.0;

/// One verdict and whether it was right.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    inputs: [f64; NUMBERS],
    is_right: bool,
}

impl Sample {
    /// From a verdict. `penalty` is what today's rule takes off the share: absent spans, unlike references, skew.
    pub fn of(named: &Named) -> Self {
        let mut inputs = [0.0; NUMBERS];
        inputs[named.category as usize] = 1.0;
        let penalty = (named.confidence / named.share.clamp(0.01, MOST)).clamp(0.05, 1.0);
        inputs[CATEGORIES] = named.share;
        inputs[CATEGORIES + 1] = named.margin;
        inputs[CATEGORIES + 2] = penalty.ln();
        inputs[CATEGORIES + 3] = named.slowdown.clamp(1.0, 20.0).ln();
        Self { inputs, is_right: named.is_right }
    }

    /// Whether the verdict was right.
    pub fn is_right(&self) -> bool {
        self.is_right
    }
}

/// Numbers fitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    numbers: [f64; NUMBERS],
}

impl Model {
    /// By Newton's method, which ends where the likelihood is greatest.
    pub fn fit(samples: &[Sample]) -> Self {
        let mut numbers = [0.0; NUMBERS];
        for _ in 0..25 {
            let mut gradient = numbers.map(|number| -RIDGE * number);
            let mut curvature = [[0.0; NUMBERS]; NUMBERS];
            for (at, row) in curvature.iter_mut().enumerate() {
                row[at] = RIDGE;
            }
            for sample in samples {
                let expected = logistic(&numbers, &sample.inputs);
                let off = f64::from(u8::from(sample.is_right)) - expected;
                let weight = expected * (1.0 - expected);
                for (at, input) in sample.inputs.iter().enumerate().filter(|(_, input)| **input != 0.0) {
                    gradient[at] += off * input;
                    for (other, second) in sample.inputs.iter().enumerate() {
                        curvature[at][other] += weight * input * second;
                    }
                }
            }
            let step = solve(curvature, gradient);
            numbers.iter_mut().zip(step).for_each(|(number, step)| *number += step.clamp(-2.0, 2.0));
        }
        Self { numbers }
    }

    /// The confidence in a verdict, 0..=0.95, rounded as verdicts have it.
    pub fn confidence(&self, sample: &Sample) -> f64 {
        (logistic(&self.numbers, &sample.inputs).min(MOST) * 100.0).round() / 100.0
    }

    /// Writes the rule with its numbers.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "confidence = min({MOST}, 1 / (1 + exp(-z))), z = base(category)")?;
        let names = ["share", "margin", "ln(penalty)", "ln(slowdown), slowdown within 1..=20"];
        for (name, number) in names.iter().zip(&self.numbers[CATEGORIES..]) {
            writeln!(out, "  {number:+.3} * {name}")?;
        }
        for (category, number) in CATEGORY.iter().zip(&self.numbers) {
            writeln!(out, "  base({}) = {number:.3}", category.as_str())?;
        }
        Ok(())
    }
}

fn logistic(numbers: &[f64; NUMBERS], inputs: &[f64; NUMBERS]) -> f64 {
    let z: f64 = numbers.iter().zip(inputs).map(|(number, input)| number * input).sum();
    1.0 / (1.0 + (-z).exp())
}

/// Gaussian elimination; the ridge keeps the pivots of this symmetric matrix positive.
fn solve(mut matrix: [[f64; NUMBERS]; NUMBERS], mut right: [f64; NUMBERS]) -> [f64; NUMBERS] {
    for column in 0..NUMBERS {
        for row in column + 1..NUMBERS {
            let factor = matrix[row][column] / matrix[column][column];
            let above = matrix[column];
            matrix[row].iter_mut().zip(above).for_each(|(cell, above)| *cell -= factor * above);
            right[row] -= factor * right[column];
        }
    }
    for row in (0..NUMBERS).rev() {
        for at in row + 1..NUMBERS {
            right[row] -= matrix[row][at] * right[at];
        }
        right[row] /= matrix[row][row];
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::random::Random;

    #[test]
    fn a_known_rule_is_found_again() {
        let mut random = Random::new(1);
        let samples: Vec<Sample> = (0..20_000)
            .map(|_| {
                let category = if random.chance(0.5) { Category::OwnTime } else { Category::Retry };
                let named = Named {
                    service: String::new(),
                    category,
                    confidence: 0.5,
                    is_right: false,
                    is_category_right: false,
                    share: random.between(0.5, 1.0),
                    margin: random.unit(),
                    slowdown: 1.0,
                    references: 32,
                };
                let base = if category == Category::Retry { -2.0 } else { 1.0 };
                let truth = 1.0 / (1.0 + (-(base + 2.0 * named.margin)).exp());
                Sample::of(&Named { is_right: random.chance(truth), ..named })
            })
            .collect();
        let model = Model::fit(&samples);
        let difference = model.numbers[Category::OwnTime as usize] - model.numbers[Category::Retry as usize];
        assert!((difference - 3.0).abs() < 0.2, "{difference}");
        assert!((model.numbers[CATEGORIES + 1] - 2.0).abs() < 0.25, "{:?}", model.numbers);
    }
}
