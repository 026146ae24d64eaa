//! What `/metrics` says, and the identity that must hold on it.

use std::collections::BTreeMap;

/// One scrape: each series with its value, both as they stand in the exposition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrape(BTreeMap<String, String>);

impl Scrape {
    /// Reads a Prometheus text exposition.
    pub fn of(exposition: &str) -> Self {
        let series = exposition.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let parsed = series.map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a series and its value");
            (name.to_owned(), value.to_owned())
        });
        Self(parsed.collect())
    }

    /// The value of one series that counts, such as `laggard_dropped_spans_total{reason="late"}`.
    pub fn value(&self, series: &str) -> u64 {
        let value = self.0.get(series).unwrap_or_else(|| panic!("no series {series} in {:#?}", self.0));
        value.parse().unwrap_or_else(|_| panic!("{series} counts nothing: {value}"))
    }

    /// The sum over all labels of one metric.
    pub fn total(&self, metric: &str) -> u64 {
        let series: Vec<&String> =
            self.0.keys().filter(|series| series.split('{').next() == Some(metric)).collect();
        assert!(!series.is_empty(), "no metric {metric}");
        series.into_iter().map(|series| self.value(series)).sum()
    }

    /// Spans on each side of `accepted = sent + dropped + held + queued`.
    pub fn identity(&self) -> (u64, u64) {
        let accepted = self.total("laggard_receiver_accepted_spans_total");
        let accounted = self.total("laggard_exporter_sent_spans_total")
            + self.total("laggard_dropped_spans_total")
            + self.total("laggard_held_spans")
            + self.total("laggard_queued_spans");
        (accepted, accounted)
    }

    /// Spans that are undecided or unacknowledged.
    pub fn moving(&self) -> u64 {
        self.total("laggard_held_spans") + self.total("laggard_queued_spans")
    }
}
