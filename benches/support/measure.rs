//! Medians of interleaved rounds: on a machine whose speed drifts, only what ran side by side can be compared.

/// What one kind of work cost in each round, in nanoseconds a span.
#[derive(Debug)]
pub(crate) struct Series {
    name: &'static str,
    costs: Vec<f64>,
}

impl Series {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, costs: Vec::new() }
    }

    /// Notes a round in which `spans` took `nanoseconds`; a round without spans is left out.
    pub(crate) fn note(&mut self, nanoseconds: u64, spans: u64) {
        if spans > 0 {
            self.costs.push(nanoseconds as f64 / spans as f64);
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn median(&self) -> f64 {
        median(self.costs.clone())
    }

    /// The median over rounds of this cost as a multiple of another in the same round.
    pub(crate) fn times(&self, other: &Self) -> f64 {
        median(self.costs.iter().zip(&other.costs).map(|(own, other)| own / other).collect())
    }

    /// The cheapest and the dearest round.
    pub(crate) fn range(&self) -> (f64, f64) {
        let least = self.costs.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.costs.iter().copied().fold(0.0, f64::max))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
