//! Fits the numbers of the confidence: logistic regression on what a verdict shows of itself.

use std::io::{self, Write};

use super::reliability::Sample;
use crate::compare::confidence::{LACKS, Numbers};

const CATEGORIES: usize = 9;
const COUNT: usize = CATEGORIES + LACKS.len();
/// Odds of 20 to 1: what a category is supposed to have until verdicts say otherwise.
const SUPPOSED: f64 = 3.0;
/// As many verdicts as it takes to say otherwise. Those of one case are alike, so they are not as many as they look.
const RIDGE: f64 = 20.0;
/// A draw leaves at most so much of the confidence: it is less sure than what is no draw, however few there were to
/// be measured.
const MOST_OF_A_DRAW: f64 = 0.98;

/// The numbers under which what came of these verdicts is most likely.
pub fn fit(samples: &[Sample]) -> Numbers {
    let inputs: Vec<([f64; COUNT], bool)> = samples.iter().map(|one| (inputs(one), one.is_right)).collect();
    let mut is_free = [true; COUNT];
    let mut numbers = newton(&inputs, is_free);
    // What would make a verdict surer by lacking says nothing that is true elsewhere.
    while let Some(at) = (CATEGORIES..COUNT).find(|at| is_free[*at] && numbers[*at] < 0.0) {
        is_free[at] = false;
        numbers = newton(&inputs, is_free);
    }
    let (base, lacks) = numbers.split_at(CATEGORIES);
    let rounded = |number: &f64| (number * 100.0).round() / 100.0;
    let mut fitted = Numbers { base: [0.0; CATEGORIES], lacks: [0.0; LACKS.len()], draw: 0.0 };
    fitted.base.iter_mut().zip(base).for_each(|(slot, number)| *slot = rounded(number));
    fitted.lacks.iter_mut().zip(lacks).for_each(|(slot, number)| *slot = rounded(number));
    fitted.draw = rounded(&draw(samples));
    fitted
}

/// What a draw leaves of the share of verdicts that are right.
fn draw(samples: &[Sample]) -> f64 {
    let right = |is_draw: bool| {
        let of = samples.iter().filter(|sample| sample.grounds.is_draw == is_draw);
        let (right, all) =
            of.fold((0.0, 0.0), |(right, all), one| (right + f64::from(u8::from(one.is_right)), all + 1.0));
        (right + RIDGE) / (all + RIDGE)
    };
    (right(true) / right(false)).clamp(0.0, MOST_OF_A_DRAW)
}

fn inputs(sample: &Sample) -> [f64; COUNT] {
    let mut inputs = [0.0; COUNT];
    inputs[sample.category as usize] = 1.0;
    inputs[CATEGORIES..].iter_mut().zip(sample.grounds.lacks()).for_each(|(slot, lack)| *slot = -lack);
    inputs
}

/// Newton's method, which ends where the likelihood is greatest; what is not free stays 0.
fn newton(samples: &[([f64; COUNT], bool)], is_free: [bool; COUNT]) -> [f64; COUNT] {
    let supposed: [f64; COUNT] = std::array::from_fn(|at| if at < CATEGORIES { SUPPOSED } else { 0.0 });
    let mut numbers = supposed;
    for _ in 0..20 {
        let mut gradient: [f64; COUNT] = std::array::from_fn(|at| RIDGE * (supposed[at] - numbers[at]));
        let mut curvature = [[0.0; COUNT]; COUNT];
        for (at, row) in curvature.iter_mut().enumerate() {
            row[at] = RIDGE;
        }
        for (inputs, is_right) in samples {
            let expected = logistic(&numbers, inputs);
            let off = f64::from(u8::from(*is_right)) - expected;
            let weight = expected * (1.0 - expected);
            for at in (0..COUNT).filter(|at| is_free[*at] && inputs[*at] != 0.0) {
                gradient[at] += off * inputs[at];
                for other in (0..COUNT).filter(|other| is_free[*other]) {
                    curvature[at][other] += weight * inputs[at] * inputs[other];
                }
            }
        }
        let step = solve(curvature, gradient);
        let before = likelihood(samples, &numbers, &supposed);
        // A full step can lead too far where the odds are high; a part of it never leads astray.
        let steps = (0..20).map(|halvings| 0.5_f64.powi(halvings));
        let moved = |part: f64| -> [f64; COUNT] { std::array::from_fn(|at| numbers[at] + part * step[at]) };
        let better = steps.map(moved).find(|moved| likelihood(samples, moved, &supposed) > before);
        let Some(better) = better else { break };
        numbers = better;
    }
    numbers
}

/// The logarithm of how likely what happened is, and of how plausible the numbers are.
fn likelihood(samples: &[([f64; COUNT], bool)], numbers: &[f64; COUNT], supposed: &[f64; COUNT]) -> f64 {
    let happened = samples.iter().map(|(inputs, is_right)| {
        let expected = logistic(numbers, inputs);
        (if *is_right { expected } else { 1.0 - expected }).max(1e-12).ln()
    });
    let away = numbers.iter().zip(supposed).map(|(number, supposed)| (number - supposed).powi(2));
    happened.sum::<f64>() - RIDGE / 2.0 * away.sum::<f64>()
}

fn logistic(numbers: &[f64; COUNT], inputs: &[f64; COUNT]) -> f64 {
    let z: f64 = numbers.iter().zip(inputs).map(|(number, input)| number * input).sum();
    1.0 / (1.0 + (-z).exp())
}

/// Gaussian elimination; the ridge keeps the pivots of this symmetric matrix positive.
fn solve(mut matrix: [[f64; COUNT]; COUNT], mut right: [f64; COUNT]) -> [f64; COUNT] {
    for column in 0..COUNT {
        for row in column + 1..COUNT {
            let factor = matrix[row][column] / matrix[column][column];
            let above = matrix[column];
            matrix[row].iter_mut().zip(above).for_each(|(cell, above)| *cell -= factor * above);
            right[row] -= factor * right[column];
        }
    }
    for row in (0..COUNT).rev() {
        for at in row + 1..COUNT {
            right[row] -= matrix[row][at] * right[at];
        }
        right[row] /= matrix[row][row];
    }
    right
}

/// Writes the numbers as they stand in the code.
pub fn write(numbers: &Numbers, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "const FITTED: Numbers = Numbers {{")?;
    writeln!(out, "    base: {:?},", numbers.base)?;
    writeln!(out, "    lacks: {:?},", numbers.lacks)?;
    writeln!(out, "    draw: {:?},", numbers.draw)?;
    writeln!(out, "}};")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Category, Grounds};
    use crate::simulate::random::Random;

    fn samples(is_right: impl Fn(&Sample, &mut Random) -> bool) -> Vec<Sample> {
        let mut random = Random::new(1);
        let sample = |_| {
            let category = if random.chance(0.5) { Category::OwnTime } else { Category::Retry };
            let grounds = Grounds {
                share: random.between(0.5, 1.0),
                margin: random.unit(),
                completeness: 1.0,
                likeness: 1.0,
                ..Grounds::default()
            };
            let sample = Sample { category, grounds, is_right: false };
            Sample { is_right: is_right(&sample, &mut random), ..sample }
        };
        (0..20_000).map(sample).collect()
    }

    #[test]
    fn a_known_rule_is_found_again() {
        let fitted = fit(&samples(|sample, random| {
            let base = if sample.category == Category::Retry { 0.0 } else { 3.0 };
            random.chance(1.0 / (1.0 + (2.0 * (1.0 - sample.grounds.margin) - base).exp()))
        }));
        let difference = fitted.base[Category::OwnTime as usize] - fitted.base[Category::Retry as usize];
        assert!((difference - 3.0).abs() < 0.25, "{fitted:?}");
        assert!((fitted.lacks[1] - 2.0).abs() < 0.3, "{fitted:?}");
    }

    #[test]
    fn nothing_that_is_lacking_makes_a_verdict_surer() {
        let fitted = fit(&samples(|sample, random| random.chance(1.5 - sample.grounds.share)));
        assert!(fitted.lacks.iter().all(|number| *number >= 0.0), "{fitted:?}");
        assert!(fitted.draw < 1.0);
    }
}
