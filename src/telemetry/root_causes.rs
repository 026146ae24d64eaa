//! Which service costs whom how much: two metrics whose labels are names of services, so their number is bounded here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use crate::compare::{Category, Culprit};

/// So many entry services, and so many culprits, have series of their own: the first that are named.
const NAMES: usize = 50;

/// Series of both metrics together.
const SERIES: usize = 500;

/// Names beyond the limits.
const OTHER: &str = "_other";

/// The longest name in bytes.
const LONGEST: usize = 256;

/// Kept back for traces of which neither name has a series: one for each category.
const RESERVED: usize = 9;

/// Verdicts counted by who was slow and who was the cause.
#[derive(Debug, Default)]
pub struct RootCauses {
    /// A std mutex: held for one count a verdict.
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    entries: BTreeSet<String>,
    services: BTreeSet<String>,
    series: BTreeMap<(String, String, Category), Cost>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    traces: u64,
    seconds: f64,
}

impl RootCauses {
    /// Counts a slow trace that `culprit` was named for.
    pub fn add(&self, entry_service: &str, culprit: &Culprit) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let cost = counts.cost(entry_service, &culprit.service, culprit.category);
        cost.traces += 1;
        cost.seconds += culprit.delta_ms / 1e3;
    }

    /// The text exposition.
    pub fn render(&self) -> String {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = String::new();
        let mut metric = |name: &str, help: &str, value: &dyn Fn(&Cost) -> String| {
            page.extend(["# HELP ", name, " ", help, "\n# TYPE ", name, " counter\n"]);
            for ((entry, service, category), cost) in &counts.series {
                page.extend([name, "{entry_service=\""]);
                put_escaped(&mut page, entry);
                page.push_str("\",service=\"");
                put_escaped(&mut page, service);
                let written = writeln!(page, "\",category=\"{}\"}} {}", category.as_str(), value(cost));
                debug_assert!(written.is_ok(), "writing to a string does not fail");
            }
            page.push('\n');
        };
        metric(
            "laggard_root_cause_traces_total",
            "Slow traces by the service they entered and the service that made them slow",
            &|cost| cost.traces.to_string(),
        );
        metric(
            "laggard_root_cause_delay_seconds_total",
            "Added latency by the service that traces entered and the service that made them slow",
            &|cost| cost.seconds.to_string(),
        );
        page
    }
}

impl Counts {
    fn cost(&mut self, entry: &str, service: &str, category: Category) -> &mut Cost {
        let key = (named(&mut self.entries, entry), named(&mut self.services, service), category);
        let has_room = self.series.len() < SERIES / 2 - RESERVED;
        let key = if has_room || self.series.contains_key(&key) {
            key
        } else {
            (OTHER.to_owned(), OTHER.to_owned(), category)
        };
        self.series.entry(key).or_default()
    }
}

/// `name`, if it is one of the first.
fn named(known: &mut BTreeSet<String>, name: &str) -> String {
    let name = name.get(..name.floor_char_boundary(LONGEST)).unwrap_or(name);
    if known.contains(name) {
        return name.to_owned();
    }
    if known.len() >= NAMES {
        return OTHER.to_owned();
    }
    known.insert(name.to_owned());
    name.to_owned()
}

fn put_escaped(page: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => page.push_str("\\\\"),
            '"' => page.push_str("\\\""),
            '\n' => page.push_str("\\n"),
            other => page.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Grounds;
    use crate::otlp::SpanId;

    fn culprit(service: &str, category: Category) -> Culprit {
        Culprit {
            service: service.to_owned(),
            category,
            confidence: 0.9,
            grounds: Box::new(Grounds::default()),
            delta_ms: 250.0,
            share: 1.0,
            operation: String::new(),
            instance: None,
            dependency: None,
            phase: None,
            span_id: SpanId::from_slice(&[1; 8]).expect("not zero"),
        }
    }

    #[test]
    fn traces_and_their_delay_are_counted_by_both_ends_and_names_are_escaped() {
        let causes = RootCauses::default();
        for _ in 0..2 {
            causes.add("we\"b", &culprit("d\\b\n", Category::OwnTime));
        }
        let page = causes.render();
        let labels = r#"{entry_service="we\"b",service="d\\b\n",category="own_time"}"#;
        assert!(page.contains(&format!("laggard_root_cause_traces_total{labels} 2\n")), "{page}");
        assert!(page.contains(&format!("laggard_root_cause_delay_seconds_total{labels} 0.5\n")), "{page}");
    }

    // D12.
    #[test]
    fn there_are_never_more_than_five_hundred_series_and_nothing_is_uncounted() {
        let causes = RootCauses::default();
        for entry in 0..100 {
            for service in 0..100 {
                let category = if service % 2 == 0 { Category::Retry } else { Category::NewPath };
                causes.add(&format!("e{entry}"), &culprit(&format!("s{service}"), category));
            }
        }
        let page = causes.render();
        let series: Vec<&str> = page.lines().filter(|line| line.starts_with("laggard_")).collect();
        assert!((400..=SERIES).contains(&series.len()), "{}", series.len());
        let total = |name: &str| -> f64 {
            let values = series.iter().filter(|line| line.starts_with(name));
            values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        assert!((total("laggard_root_cause_traces_total") - 10_000.0).abs() < 0.1);
        assert!((total("laggard_root_cause_delay_seconds_total") - 2_500.0).abs() < 0.1);
    }
}
