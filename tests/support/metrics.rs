//! What `/metrics` says, and the identity that must hold on it.

use std::collections::BTreeMap;

/// One scrape: each series, as it stands in the exposition, with its value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Reads a Prometheus text exposition.
    pub fn of(exposition: &str) -> Self {
        let series = exposition.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let parsed = series.map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a series and its value");
            (name.to_owned(), value.parse().expect("a number"))
        });
        Self(parsed.collect())
    }

    /// The value of one series, such as `laggard_dropped_spans_total{reason="late"}`.
    pub fn value(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no series {series} in {:#?}", self.0))
    }

    /// The sum over all labels of one metric.
    pub fn total(&self, metric: &str) -> f64 {
        let mut values = self
            .0
            .iter()
            .filter(|(name, _)| name.split('{').next() == Some(metric))
            .map(|(_, value)| value)
            .peekable();
        assert!(values.peek().is_some(), "no metric {metric}");
        values.sum()
    }

    /// Spans on each side of `accepted = sent + dropped + held + queued`.
    pub fn identity(&self) -> (f64, f64) {
        let accepted = self.total("laggard_receiver_accepted_spans_total");
        let accounted = self.total("laggard_exporter_sent_spans_total")
            + self.total("laggard_dropped_spans_total")
            + self.total("laggard_held_spans")
            + self.total("laggard_queued_spans");
        (accepted, accounted)
    }

    /// Spans that are undecided or unacknowledged.
    pub fn moving(&self) -> f64 {
        self.total("laggard_held_spans") + self.total("laggard_queued_spans")
    }
}
