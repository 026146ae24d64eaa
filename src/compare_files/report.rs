//! The answer as text, for a terminal, and as JSON.

use std::io::{self, Write};

use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use super::traces::Found;
use super::{Comparison, Look};
use crate::assemble::Trace;
use crate::compare::explain::time;
use crate::compare::record::Record;
use crate::compare::{Culprit, Outcome};
use crate::otlp::Nanos;
use crate::waterfall::{Line, Waterfall};

/// Narrower than this, two waterfalls stand below each other instead of side by side.
const SIDE_BY_SIDE: usize = 140;

/// Between two waterfalls.
const GAP: &str = " | ";

pub(super) struct Report<'a> {
    pub(super) slow: &'a Found,
    pub(super) comparison: &'a Comparison,
}

#[derive(Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    verdict: Record<'a>,
    fast: TraceJson,
    slow: TraceJson,
    services: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct TraceJson {
    trace_id: String,
    duration_ms: f64,
    spans: usize,
}

/// A service's time on the critical path.
#[derive(Serialize)]
struct Row<'a> {
    service: &'a str,
    fast_ms: f64,
    slow_ms: f64,
    added_ms: f64,
    /// Of all added time, 0..=1.
    share: f64,
}

impl Report<'_> {
    pub(super) fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let verdict = &self.comparison.verdict;
        let fast = &self.comparison.fast;
        let json = Json {
            verdict: Record::of(self.slow.trace.id(), &self.slow.route_name, verdict),
            fast: trace_json(&fast.trace, fast.ledger.duration),
            slow: trace_json(&self.slow.trace, verdict.duration),
            services: self.rows(),
        };
        serde_json::to_writer_pretty(&mut *out, &json)?;
        writeln!(out)
    }

    pub(super) fn write_text(&self, look: Look, out: &mut dyn Write) -> io::Result<()> {
        let Comparison { verdict, fast, fast_id, .. } = self.comparison;
        let bold = |text: &str| if look.colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
        let headline = match &verdict.outcome {
            Outcome::Identified(culprit) => {
                let Culprit { service, category, confidence, .. } = culprit;
                format!("{service} made it slow ({}, confidence {confidence:.2})", category.as_str())
            }
            Outcome::Inconclusive(reason) => format!("inconclusive ({})", reason.as_str()),
        };
        writeln!(out, "{}", bold(&headline))?;
        writeln!(out, "{}", verdict.explanation)?;
        writeln!(out)?;
        writeln!(out, "route  {}", self.slow.route_name)?;
        let of = |count: usize| if count > 1 { format!(", 1 of {count}") } else { String::new() };
        let count = verdict.baseline.as_ref().map_or(0, |reference| reference.count);
        writeln!(out, "fast   {fast_id}  {}{}", time(fast.ledger.duration), of(count))?;
        writeln!(out, "slow   {}  {}", self.slow.trace.id(), time(verdict.duration))?;
        writeln!(out)?;
        self.write_table(out)?;
        writeln!(out)?;
        self.write_waterfalls(look, out)
    }

    fn rows(&self) -> Vec<Row<'_>> {
        let Comparison { findings, verdict, fast, .. } = self.comparison;
        let added = verdict.duration as f64 - fast.ledger.duration as f64;
        let mut rows: Vec<Row<'_>> = findings
            .services
            .iter()
            .map(|service| {
                let (fast_ms, slow_ms) = (milliseconds(service.fast), milliseconds(service.slow));
                let added_ms = service.delta as f64 / 1e6;
                let share = if added > 0.0 { (added_ms * 1e6 / added).clamp(0.0, 1.0) } else { 0.0 };
                let share = (share * 1000.0).round() / 1000.0;
                Row { service: &service.name, fast_ms, slow_ms, added_ms, share }
            })
            .collect();
        rows.sort_by(|a, b| b.added_ms.total_cmp(&a.added_ms).then(a.service.cmp(b.service)));
        rows
    }

    /// Exclusive time on the critical path: each column adds up to its trace's duration.
    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = self.rows();
        let name = rows.iter().map(|row| row.service.width()).max().unwrap_or(0).max("service".len());
        let pad = |text: &str| " ".repeat(name.saturating_sub(text.width()));
        writeln!(
            out,
            "service{}  {:>12}  {:>12}  {:>12}  {:>6}",
            pad("service"),
            "fast ms",
            "slow ms",
            "added ms",
            "share"
        )?;
        for row in rows {
            let Row { service, fast_ms, slow_ms, added_ms, share } = row;
            let share = format!("{:.1}%", share * 100.0);
            writeln!(
                out,
                "{service}{}  {fast_ms:>12.3}  {slow_ms:>12.3}  {added_ms:>+12.3}  {share:>6}",
                pad(service)
            )?;
        }
        Ok(())
    }

    fn write_waterfalls(&self, look: Look, out: &mut dyn Write) -> io::Result<()> {
        let culprit = match &self.comparison.verdict.outcome {
            Outcome::Identified(culprit) => Some(culprit.span_id),
            Outcome::Inconclusive(_) => None,
        };
        let fast = &self.comparison.fast;
        let is_wide = look.width >= SIDE_BY_SIDE;
        let width = if is_wide { (look.width - GAP.len()) / 2 } else { look.width };
        let fast = Waterfall { trace: &fast.trace, entry: fast.entry, culprit: None, width };
        let slow = Waterfall { trace: &self.slow.trace, entry: self.slow.entry, culprit, width };
        if !is_wide {
            writeln!(out, "fast")?;
            fast.write(out, look.colour)?;
            writeln!(out, "\nslow")?;
            return slow.write(out, look.colour);
        }
        let (fast, slow) = (fast.lines(), slow.lines());
        writeln!(out, "fast{}{GAP}slow", " ".repeat(width - "fast".len()))?;
        for at in 0..fast.len().max(slow.len()) {
            let left = fast.get(at).map_or("", |line| line.text.as_str());
            let blank = " ".repeat(width.saturating_sub(left.width()));
            let right = slow.get(at).map_or(String::new(), |line| coloured(line, look.colour));
            writeln!(out, "{}", format!("{left}{blank}{GAP}{right}").trim_end())?;
        }
        Ok(())
    }
}

fn coloured(line: &Line, colour: bool) -> String {
    if colour && line.is_culprit { format!("\x1b[1;31m{}\x1b[0m", line.text) } else { line.text.clone() }
}

fn trace_json(trace: &Trace, duration: Nanos) -> TraceJson {
    TraceJson { trace_id: trace.id().to_string(), duration_ms: milliseconds(duration), spans: trace.len() }
}

fn milliseconds(nanos: Nanos) -> f64 {
    nanos as f64 / 1e6
}
