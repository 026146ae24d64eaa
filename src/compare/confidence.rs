//! How sure a verdict is.

use serde::{Deserialize, Serialize};

use super::Category;
use super::blame::Blamed;
use super::judge::Evidence;

/// Nobody is ever surer than this.
const MOST_CONFIDENCE: f64 = 0.95;
/// Where spans of the trace are missing, not surer than this; nor where a service sent none at all and few references
/// say that it does otherwise.
const MOST_CONFIDENCE_IN_PART: f64 = 0.6;

/// What few references leave of it. Simulated routes always have more, so this is supposed and not fitted.
const ONE_REFERENCE: f64 = 0.8;
const FEW_REFERENCES: f64 = 0.9;
const ENOUGH_REFERENCES: usize = 8;

/// What evidence can lack, in words.
pub const LACKS: [&str; 5] = [
    "of all time that is weighed",
    "of the distance to the second service",
    "of what the entry span took longer",
    "of the shape",
    "of clocks that agree",
];

/// The numbers of the model: how likely a verdict of each category is right when nothing is lacking, as the logarithm of
/// the odds, and what each lack takes off that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numbers {
    /// In the order of [`Category`].
    pub base: [f64; 9],
    /// In the order of [`LACKS`]; none is below 0.
    pub lacks: [f64; LACKS.len()],
    /// What a draw between two ends of an edge leaves of it, below 1.
    pub draw: f64,
}

/// `cargo run --release --example judge -- --fit` derives these numbers from simulated systems and prints this table;
/// `docs/accuracy.md` says how well they keep their word.
const FITTED: Numbers = Numbers {
    base: [5.64, 4.92, 4.6, 6.92, 4.82, 6.02, 5.64, 4.92, 4.11],
    lacks: [2.04, 3.23, 1.92, 0.91, 0.0],
    draw: 0.97,
};

/// What the confidence in a named service rests on: all that the trace, its references and the traffic say of how good
/// the evidence is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Grounds {
    /// The service's part of all time that is weighed, 0..=1.
    pub share: f64,
    /// How far the second service is behind, in parts of the first, 0..=1.
    pub margin: f64,
    /// The service's part of what the entry span lasted longer than the linked reference's, 0..=1.
    pub coverage: f64,
    /// How much of the trace is there, 0..=1.
    pub completeness: f64,
    /// How alike the shapes of the trace and of its references are, 0..=1.
    pub likeness: f64,
    /// How many references there are.
    pub references: usize,
    /// Whether clocks differ so much that they blur what is compared.
    pub has_skew: bool,
    /// Whether nothing speaks for one end of the edge it was waited on more than for the other.
    pub is_draw: bool,
    /// Whether the service sent no span where it was waited for.
    pub is_unseen: bool,
}

impl Grounds {
    /// The confidence in a verdict of this category, 0..=0.95, in hundredths.
    pub fn confidence(&self, category: Category) -> f64 {
        self.confidence_by(&FITTED, category)
    }

    /// The same by other numbers.
    pub fn confidence_by(&self, numbers: &Numbers, category: Category) -> f64 {
        let draw = if self.is_draw { numbers.draw } else { 1.0 };
        // Nobody knows what missing spans would have said: what they leave with a larger share is not the surer for it.
        // That a service which always answered is silent now is no gap but what happened: all 2,848 such verdicts on
        // simulated systems were right.
        let is_silent = self.is_unseen && self.references < ENOUGH_REFERENCES;
        let is_whole = self.completeness >= 1.0 && !is_silent;
        let most = if is_whole { MOST_CONFIDENCE } else { MOST_CONFIDENCE_IN_PART };
        let few = match self.references {
            0 | 1 => ONE_REFERENCE,
            2..ENOUGH_REFERENCES => FEW_REFERENCES,
            _ => 1.0,
        };
        let right = self.right(numbers, category).min(MOST_CONFIDENCE);
        let confidence = right * self.completeness * few * draw;
        (confidence.clamp(0.0, most) * 100.0).round() / 100.0
    }

    /// What the model is fitted to: how likely such a verdict is right, 0..=1, with nothing taken off.
    pub fn right(&self, numbers: &Numbers, category: Category) -> f64 {
        let base = numbers.base.get(category as usize).copied().unwrap_or(0.0);
        let lack = self.lacks().iter().zip(numbers.lacks).map(|(lack, weight)| lack * weight).sum::<f64>();
        logistic(base - lack)
    }

    /// What the evidence lacks, in the order of [`LACKS`], each 0 where nothing is lacking and 1 where all is.
    pub fn lacks(&self) -> [f64; LACKS.len()] {
        [
            1.0 - self.share,
            1.0 - self.margin,
            1.0 - self.coverage,
            1.0 - self.likeness,
            if self.has_skew { 1.0 } else { 0.0 },
        ]
    }
}

fn logistic(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

impl Evidence<'_> {
    /// What speaks for naming `top`, beside the parts that the judge has worked out.
    pub(super) fn grounds(&self, top: &Blamed, share: f64, margin: f64, coverage: f64) -> Grounds {
        let row = self.findings.row_of(top);
        Grounds {
            share,
            margin,
            coverage,
            completeness: self.completeness(),
            likeness: self.references.likeness,
            references: self.references.floors.count,
            has_skew: self.has_skew(),
            is_draw: row.and_then(|row| row.wait).is_some_and(|wait| wait.is_draw()),
            is_unseen: row.is_some_and(|row| row.misses_answer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Grounds = Grounds {
        share: 1.0,
        margin: 1.0,
        coverage: 1.0,
        completeness: 1.0,
        likeness: 1.0,
        references: 32,
        has_skew: false,
        is_draw: false,
        is_unseen: false,
    };

    const CATEGORIES: [Category; 9] = [
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

    #[test]
    fn nothing_that_evidence_lacks_makes_a_verdict_surer() {
        for category in CATEGORIES {
            let sure = WHOLE.confidence(category);
            assert!((0.5..=0.95).contains(&sure), "{category:?}: {sure}");
            for tenths in 0..10 {
                let (less, more) = (f64::from(tenths) / 10.0, f64::from(tenths + 1) / 10.0);
                let changes: [fn(&mut Grounds, f64); 5] = [
                    |grounds, to| grounds.share = to,
                    |grounds, to| grounds.margin = to,
                    |grounds, to| grounds.coverage = to,
                    |grounds, to| grounds.likeness = to,
                    |grounds, to| grounds.completeness = to,
                ];
                for change in changes {
                    let [less, more] = [less, more].map(|to| {
                        let mut grounds = WHOLE;
                        change(&mut grounds, to);
                        grounds.confidence(category)
                    });
                    assert!((0.0..=0.95).contains(&less) && less <= more, "{category:?}: {less} {more}");
                }
            }
            for references in 1..40 {
                let with = |references| Grounds { references, ..WHOLE }.confidence(category);
                assert!(with(references) <= with(references + 1));
            }
            assert!(Grounds { has_skew: true, ..WHOLE }.confidence(category) <= sure);
        }
    }

    #[test]
    fn a_draw_is_less_sure_and_so_is_what_spans_are_missing_for() {
        for category in CATEGORIES {
            assert!(Grounds { is_draw: true, ..WHOLE }.confidence(category) < WHOLE.confidence(category));
            let silent = |references| Grounds { is_unseen: true, references, ..WHOLE }.confidence(category);
            assert!(silent(7) <= 0.6 && silent(8) > 0.6);
            assert!(Grounds { completeness: 0.99, ..WHOLE }.confidence(category) <= 0.6);
        }
    }

    #[test]
    fn the_numbers_of_the_model_keep_it_monotone() {
        assert!(FITTED.lacks.iter().all(|number| *number >= 0.0));
        assert!((0.5..1.0).contains(&FITTED.draw));
    }
}
