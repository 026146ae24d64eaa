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
    before: Counts,
    /// Whether thresholds are learned.
    learns: bool,
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
    /// Spans that had been read before.
    pub(super) repeated: u64,
}

/// Figures of `/metrics`, by series.
type Counts = BTreeMap<String, u64>;

const LEARNED: &str = "laggard_routes{state=\"learned\"}";
const LATE: [&str; 2] =
    ["laggard_late_spans_total{decision=\"sampled\"}", "laggard_late_spans_total{decision=\"dropped\"}"];

impl Summary {
    /// `learns` says whether thresholds are learned.
    pub(super) fn new(learns: bool) -> Self {
        Self { learns, ..Self::default() }
    }

    /// What has been counted so far was only to warm.
    pub(super) fn forget(&mut self, metrics: &Metrics) {
        self.before = counts(metrics);
    }

    pub(super) fn is_first_file(&self) -> bool {
        self.files == 0
    }

    pub(super) fn count_file(&mut self, read: Read) {
        self.files += 1;
        self.read.spans += read.spans;
        self.read.refused += read.refused;
        self.read.no_room += read.no_room;
        self.read.repeated += read.repeated;
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
        let Read { spans, refused, no_room, repeated } = self.read;
        let seconds = took.as_secs_f64();
        let speed = spans as f64 / seconds.max(1e-9);
        writeln!(out, "{spans} spans in {seconds:.2} s, {speed:.0} spans/s")?;
        if refused > 0 {
            writeln!(out, "{refused} spans refused: no valid ids, or attributes nested too deep")?;
        }
        if no_room > 0 {
            writeln!(out, "{no_room} spans lost for lack of memory: assemble.on_overflow is refuse")?;
        }
        if repeated > 0 {
            writeln!(out, "{repeated} spans came again, with a trace id and span id that had come before")?;
        }
        let counts = counts(metrics);
        let since = |series: &str| {
            let before = self.before.get(series).copied().unwrap_or(0);
            counts.get(series).copied().unwrap_or(0).saturating_sub(before)
        };
        let count = |decision: &str| since(&format!("laggard_traces_total{{decision=\"{decision}\"}}"));
        let [late_kept, late_dropped] = LATE.map(since);
        if late_kept + late_dropped > 0 {
            writeln!(
                out,
                "{} spans came after their trace was decided, so no verdict saw them: {late_kept} kept, \
                 {late_dropped} dropped with it",
                late_kept + late_dropped
            )?;
        }
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
        let (learned, new) = (counts.get(LEARNED).copied().unwrap_or(0), since(LEARNED));
        if self.learns && new * 2 > learned {
            writeln!(
                out,
                "what is normal for {new} of {learned} routes was learned from these files themselves, so what is slow \
                 in much of them is not seen; teach it with --warm FILE"
            )?;
        }
        Ok(())
    }
}

/// Every count of `/metrics`.
fn counts(metrics: &Metrics) -> Counts {
    let page = metrics.render();
    let series = page.lines().filter_map(|line| {
        let (series, count) = line.rsplit_once(' ')?;
        Some((series.to_owned(), count.parse().ok()?))
    });
    series.collect()
}
