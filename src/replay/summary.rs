//! What a replay would have kept, dropped and named, for people.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use crate::compare::{Outcome, Verdict};
use crate::telemetry::metrics::Metrics;

/// Counts of one replay.
#[derive(Debug, Default)]
pub(super) struct Summary {
    files: u64,
    read: Read,
    /// What the metrics said when warming was over.
    before: BTreeMap<String, u64>,
    routes: BTreeMap<String, BTreeMap<String, u64>>,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Read {
    pub(super) spans: u64,
    /// Spans that no receiver would have taken.
    pub(super) refused: u64,
    /// Spans for which there was no room.
    pub(super) no_room: u64,
}

const TRACES: &str = "laggard_traces_total{decision=\"";

impl Summary {
    /// What has been counted so far was only to warm.
    pub(super) fn forget(&mut self, metrics: &Metrics) {
        self.before = decided(metrics);
    }

    pub(super) fn is_first_file(&self) -> bool {
        self.files == 0
    }

    pub(super) fn count_file(&mut self, read: Read) {
        self.files += 1;
        self.read.spans += read.spans;
        self.read.refused += read.refused;
        self.read.no_room += read.no_room;
    }

    pub(super) fn count_verdict(&mut self, route: &str, verdict: &Verdict) {
        let outcome = match &verdict.outcome {
            Outcome::Identified(culprit) => culprit.service.clone(),
            Outcome::Inconclusive(reason) => format!("({})", reason.as_str()),
        };
        *self.routes.entry(route.to_owned()).or_default().entry(outcome).or_default() += 1;
    }

    /// Writes the summary.
    pub(super) fn write(&self, metrics: &Metrics, took: Duration, out: &mut dyn Write) -> io::Result<()> {
        let Read { spans, refused, no_room } = self.read;
        let seconds = took.as_secs_f64();
        let speed = spans as f64 / seconds.max(1e-9);
        writeln!(out, "{spans} spans in {seconds:.2} s, {speed:.0} spans/s")?;
        if refused > 0 {
            writeln!(out, "{refused} spans refused: no valid ids, or attributes nested too deep")?;
        }
        if no_room > 0 {
            writeln!(out, "{no_room} spans lost for lack of memory: assemble.on_overflow is refuse")?;
        }
        let decided = decided(metrics);
        let count = |decision: &str| {
            let before = self.before.get(decision).copied().unwrap_or(0);
            decided.get(decision).copied().unwrap_or(0).saturating_sub(before)
        };
        let kept: u64 = ["slow", "error", "healthy", "learning"].iter().map(|class| count(class)).sum();
        writeln!(
            out,
            "traces: {kept} kept ({} slow, {} error, {} healthy, {} learning), {} dropped",
            count("slow"),
            count("error"),
            count("healthy"),
            count("learning"),
            count("dropped"),
        )?;
        for (route, outcomes) in &self.routes {
            let mut outcomes: Vec<(&str, u64)> =
                outcomes.iter().map(|(outcome, count)| (outcome.as_str(), *count)).collect();
            outcomes.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
            let total: u64 = outcomes.iter().map(|(_, count)| count).sum();
            let outcomes: Vec<String> =
                outcomes.iter().map(|(outcome, count)| format!("{outcome} {count}")).collect();
            writeln!(out, "{route}: {total} verdicts: {}", outcomes.join(", "))?;
        }
        Ok(())
    }
}

/// Decided traces by decision, as `/metrics` has them.
fn decided(metrics: &Metrics) -> BTreeMap<String, u64> {
    let page = metrics.render();
    let series = page.lines().filter_map(|line| {
        let (decision, count) = line.strip_prefix(TRACES)?.split_once("\"} ")?;
        Some((decision.to_owned(), count.parse().ok()?))
    });
    series.collect()
}
