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
use crate::waterfall::{self, Line, Waterfall};

/// Narrower than this, two waterfalls stand below each other instead of side by side.
const SIDE_BY_SIDE: usize = 140;

/// Between two waterfalls.
const GAP: &str = " | ";

/// Between two columns of the table.
const BETWEEN_COLUMNS: usize = 3;

/// Shorter, names of services cannot be told apart.
const LEAST_NAME: usize = 12;

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
    /// What the reader should know of the files; left out where there is nothing.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Serialize)]
struct TraceJson {
    trace_id: String,
    duration_ms: f64,
    spans: usize,
}

/// A service's time on the critical path.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    pub(super) service: &'a str,
    pub(super) fast_ms: f64,
    pub(super) slow_ms: f64,
    pub(super) added_ms: f64,
    /// Of all added time, 0..=1; 0 where none was added.
    pub(super) share: f64,
    /// Milliseconds of calls that others answered and this service is to blame for; below 0 where it is the other way round.
    #[serde(skip)]
    pub(super) blamed_ms: f64,
}

impl Report<'_> {
    pub(super) fn write_json(&self, warnings: &[String], out: &mut dyn Write) -> io::Result<()> {
        let verdict = &self.comparison.verdict;
        let fast = &self.comparison.fast;
        let json = Json {
            verdict: Record::of(self.slow.trace.id(), &self.slow.route_name, verdict),
            fast: trace_json(&fast.trace, fast.ledger.duration),
            slow: trace_json(&self.slow.trace, verdict.duration),
            services: self.rows(),
            warnings,
        };
        serde_json::to_writer_pretty(&mut *out, &json)?;
        writeln!(out)
    }

    /// The answer in a few words.
    pub(super) fn headline(&self) -> String {
        match &self.comparison.verdict.outcome {
            Outcome::Identified(culprit) => {
                let Culprit { service, category, confidence, .. } = culprit;
                format!("{service} made it slow ({}, confidence {confidence:.2})", category.as_str())
            }
            Outcome::Inconclusive(reason) => format!("inconclusive ({})", reason.as_str()),
        }
    }

    pub(super) fn write_text(&self, look: Look, out: &mut dyn Write) -> io::Result<()> {
        let Comparison { verdict, fast, fast_id, .. } = self.comparison;
        let headline = printable(&self.headline());
        if look.colour {
            writeln!(out, "\x1b[1m{headline}\x1b[0m")?;
        } else {
            writeln!(out, "{headline}")?;
        }
        for line in wrapped(&printable(&verdict.explanation), look.width) {
            writeln!(out, "{line}")?;
        }
        writeln!(out)?;
        writeln!(out, "route  {}", printable(&self.slow.route_name))?;
        let of = |count: usize| if count > 1 { format!(", 1 of {count}") } else { String::new() };
        let count = verdict.baseline.as_ref().map_or(0, |reference| reference.count);
        writeln!(out, "fast   {fast_id}  {}{}", time(fast.ledger.duration), of(count))?;
        writeln!(out, "slow   {}  {}", self.slow.trace.id(), time(verdict.duration))?;
        writeln!(out)?;
        self.write_table(look, out)?;
        writeln!(out)?;
        self.write_waterfalls(look, out)
    }

    /// A row a service, the one that added most first.
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        let Comparison { findings, verdict, fast, .. } = self.comparison;
        let added = verdict.duration as f64 - fast.ledger.duration as f64;
        let is_named = matches!(verdict.outcome, Outcome::Identified(_));
        let mut rows: Vec<Row<'_>> = findings
            .services
            .iter()
            .map(|service| {
                // Where nobody is named, calls are nobody's but of those who answered them.
                let slow = if is_named { service.slow } else { service.spent };
                let (fast_ms, slow_ms) = (milliseconds(service.fast), milliseconds(slow));
                let added_ms = (i128::from(slow) - i128::from(service.fast)) as f64 / 1e6;
                let share = if added > 0.0 { (added_ms * 1e6 / added).clamp(0.0, 1.0) } else { 0.0 };
                let share = (share * 1000.0).round() / 1000.0;
                let blamed_ms = (i128::from(slow) - i128::from(service.spent)) as f64 / 1e6;
                Row { service: &service.name, fast_ms, slow_ms, added_ms, share, blamed_ms }
            })
            .collect();
        rows.sort_by(|a, b| b.added_ms.total_cmp(&a.added_ms).then(a.service.cmp(b.service)));
        rows
    }

    /// Whether there is added time to have a share of.
    pub(super) fn is_slower(&self) -> bool {
        self.comparison.verdict.duration > self.comparison.fast.ledger.duration
    }

    /// Exclusive time on the critical path: each column adds up to its trace's duration.
    fn write_table(&self, look: Look, out: &mut dyn Write) -> io::Result<()> {
        let mut lines = vec![["service", "fast ms", "slow ms", "added ms", "share"].map(str::to_owned)];
        let is_slower = self.is_slower();
        let rows = self.rows();
        lines.extend(rows.iter().map(|row| {
            let Row { service, fast_ms, slow_ms, added_ms, share, .. } = row;
            let share = if is_slower { format!("{:.1}%", share * 100.0) } else { "-".to_owned() };
            let [fast, slow] = [fast_ms, slow_ms].map(|ms| format!("{ms:.3}"));
            [printable(service), fast, slow, signed(*added_ms), share]
        }));
        let widest: [usize; 5] = std::array::from_fn(|at| {
            lines.iter().filter_map(|line| Some(line.get(at)?.width())).max().unwrap_or(0)
        });
        let [name, numbers @ ..] = widest;
        let wanted: usize = numbers.iter().map(|widest| widest + BETWEEN_COLUMNS).sum();
        // Names give way first, as far as they can still be told apart.
        let name = name.min(look.width.saturating_sub(wanted).max(LEAST_NAME));
        let marks = std::iter::once(false).chain(rows.iter().map(Row::is_moved));
        for ([service, cells @ ..], is_marked) in lines.iter().zip(marks) {
            let mut text = waterfall::fit(service, name);
            for (cell, widest) in cells.iter().zip(numbers) {
                text.extend(std::iter::repeat_n(' ', widest + BETWEEN_COLUMNS - cell.width()));
                text.push_str(cell);
            }
            writeln!(out, "{text}{}", if is_marked { " *" } else { "" })?;
        }
        for line in footnote(&rows).iter().flat_map(|note| wrapped(note, look.width)) {
            writeln!(out, "{line}")?;
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
        let [fast, slow] = waterfall::two(fast, slow, width, is_wide);
        if !is_wide {
            for (name, lines) in [("fast", fast), ("\nslow", slow)] {
                writeln!(out, "{name}")?;
                for line in &lines {
                    writeln!(out, "{}", coloured(line, look.colour))?;
                }
            }
            return Ok(());
        }
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

impl Row<'_> {
    /// Whether it says something else of the service than who answered says.
    pub(super) fn is_moved(&self) -> bool {
        self.blamed_ms.abs() >= 0.001
    }
}

/// Which service counts with time of calls that another one answered.
pub(super) fn footnote(rows: &[Row<'_>]) -> Option<String> {
    let most = rows.iter().max_by(|a, b| a.blamed_ms.total_cmp(&b.blamed_ms)).filter(|row| row.is_moved())?;
    let service = printable(most.service);
    Some(format!(
        "* {:.3} ms of calls count for {service}, which is to blame for them, not for who made or answered them",
        most.blamed_ms
    ))
}

/// Milliseconds with their sign; what rounds to nothing has none.
fn signed(ms: f64) -> String {
    if ms.abs() < 0.0005 { "0.000".to_owned() } else { format!("{ms:+.3}") }
}

/// Nothing of it can steer a terminal.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    waterfall::push_printable(&mut printable, text.as_bytes(), usize::MAX);
    printable
}

/// Broken at blanks, so that no line is wider; a longer word has a line of its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
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
