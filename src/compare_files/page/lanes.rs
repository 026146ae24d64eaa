//! Both waterfalls on one time axis: a line a call, the fast span above, the slow one below, joined.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::Escaped;
use crate::assemble::Trace;
use crate::compare::Outcome;
use crate::compare::explain::time;
use crate::compare_files::report::Report;
use crate::otlp::Nanos;
use crate::otlp::span::{Event, SpanHead};
use crate::waterfall::layout::{self, Layout, Row};
use crate::waterfall::pairs;

/// More spans than this of a trace are not drawn but counted.
const MAX_ROWS: usize = 300;

/// More events of a span than this are not listed but counted.
const MAX_EVENTS: usize = 20;

/// The axis in units of the drawing.
const WIDTH: f64 = 1000.0;

/// So many ticks at most.
const TICKS: u64 = 7;

/// A span is as long as the other one up to this share of the axis.
const SAME: u64 = 100;

/// Indentation ends here, so that names keep their room.
const MAX_DEPTH: usize = 12;

/// The section with both traces.
pub(super) fn write(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    let comparison = report.comparison;
    let culprit = match &comparison.verdict.outcome {
        Outcome::Identified(culprit) => Some(culprit.span_id),
        Outcome::Inconclusive(_) => None,
    };
    let fast = layout::of(&comparison.fast.trace, comparison.fast.entry, None, MAX_ROWS);
    let slow = layout::of(&report.slow.trace, report.slow.entry, culprit, MAX_ROWS);
    let length = fast.axis.length.max(slow.axis.length);
    writeln!(
        out,
        "<section id=\"waterfall\">\n<h2>Both traces on one time axis</h2>\n<ul class=\"legend\">\
         <li><i class=\"fast\"></i>fast</li><li><i class=\"slow\"></i>slow</li>{}\
         <li><i class=\"own\"></i>solid: own time</li><li><i class=\"wait\"></i>pale: waiting for its calls</li></ul>\n\
         <p class=\"only\"><label><input type=\"checkbox\" id=\"only\"> Only calls that took longer or shorter</label></p>\n\
         <div class=\"lanes\">\n<div class=\"axis\" aria-hidden=\"true\"><span class=\"ticks\">",
        if culprit.is_some() { "<li><i class=\"culprit\"></i>culprit</li>" } else { "" }
    )?;
    let step = tick(length);
    for at in (0..=length / step).map(|number| number * step) {
        let place = percent(at, length);
        // The label of a tick at the end would stand beyond it.
        let class = if place > 92.0 { " class=\"end\"" } else { "" };
        write!(out, "<span{class} style=\"left:{place:.2}%\">{}</span>", short(at))?;
    }
    writeln!(out, "</span></div>\n<ol role=\"list\" style=\"--step:{:.3}%\">", percent(step, length))?;
    for pair in pairs::of(&fast.rows, &slow.rows) {
        let fast = pair.fast.and_then(|at| Half::of(&comparison.fast.trace, &fast, at));
        let slow = pair.slow.and_then(|at| Half::of(&report.slow.trace, &slow, at));
        Line { fast, slow, depth: pair.depth, length }.write(out)?;
    }
    writeln!(out, "</ol>\n</div>")?;
    if fast.hidden + slow.hidden > 0 {
        writeln!(
            out,
            "<p class=\"hint\">Not drawn, for they are shorter: {} spans of the fast trace and {} of the slow one.</p>",
            fast.hidden, slow.hidden
        )?;
    }
    writeln!(out, "</section>")
}

/// What is said of a span, a line each.
type Fact = fn(&Half<'_>) -> Vec<String>;

/// A span on one side of a line.
struct Half<'a> {
    trace: &'a Trace,
    row: &'a Row<'a>,
    /// Where the time axis begins.
    zero: Nanos,
}

/// The same call in both traces, or a call that only one of them has.
struct Line<'a> {
    fast: Option<Half<'a>>,
    slow: Option<Half<'a>>,
    depth: usize,
    length: Nanos,
}

impl Line<'_> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Some(shown) = self.slow.as_ref().or(self.fast.as_ref()) else { return Ok(()) };
        let (service, name) = (text(shown.row.service), text(shown.row.name));
        let is_culprit = shown.row.is_culprit;
        let (class, badge) = match (&self.fast, &self.slow) {
            _ if is_culprit => ("culprit", "<b class=\"badge\">culprit</b>"),
            (None, _) => ("new", "<b class=\"badge\">only in slow</b>"),
            (_, None) => ("gone", "<b class=\"badge\">only in fast</b>"),
            _ if self.is_same() => ("same", ""),
            _ => ("other", ""),
        };
        let mark = if is_culprit { " aria-current=\"true\"" } else { "" };
        writeln!(
            out,
            "<li class=\"{class}\" style=\"--depth:{}\"{mark}><details><summary>\
             <span class=\"name\"><bdi class=\"service\">{}</bdi> <bdi>{}</bdi> {badge}</span>\
             <span class=\"lane\">{}</span><span class=\"numbers\">{}</span></summary>",
            self.depth.min(MAX_DEPTH),
            Escaped(&service),
            Escaped(&name),
            self.drawing(),
            self.numbers()
        )?;
        self.write_more(out)?;
        writeln!(out, "</details></li>")
    }

    fn is_same(&self) -> bool {
        let duration = |half: &Option<Half<'_>>| half.as_ref().map_or(0, |half| half.row.duration);
        duration(&self.fast).abs_diff(duration(&self.slow)) <= self.length / SAME
    }

    /// The bars and what joins them; what it shows is said in numbers too.
    fn drawing(&self) -> String {
        let mut svg = String::from(
            "<svg viewBox=\"0 0 1000 34\" preserveAspectRatio=\"none\" aria-hidden=\"true\" focusable=\"false\">",
        );
        let ends = |half: &Half<'_>| (self.x(half, half.row.start), self.x(half, half.row.end));
        if let (Some(fast), Some(slow)) = (&self.fast, &self.slow) {
            let ((f0, f1), (s0, s1)) = (ends(fast), ends(slow));
            let _ = write!(svg, "<path class=\"join\" d=\"M{f0:.1} 11L{f1:.1} 11L{s1:.1} 21L{s0:.1} 21Z\"/>");
        }
        for (half, class, top) in [(&self.fast, "fast", 3), (&self.slow, "slow", 21)] {
            let Some(half) = half else { continue };
            let (start, end) = ends(half);
            let mut bar = |class: &str, start: f64, end: f64, least: f64| {
                let start = start.min(WIDTH - least);
                let width = (end - start).max(least);
                let _ = write!(
                    svg,
                    "<rect class=\"{class}\" x=\"{start:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{}\"/>",
                    if top == 3 { 8 } else { 10 }
                );
            };
            bar(&format!("{class} wait"), start, end, 3.0);
            for (from, to) in half.row.own() {
                bar(class, self.x(half, from), self.x(half, to), 1.0);
            }
        }
        svg.push_str("</svg>");
        svg
    }

    /// Where a moment lies, cut at the ends of the axis.
    fn x(&self, half: &Half<'_>, moment: Nanos) -> f64 {
        percent(moment.saturating_sub(half.zero).min(self.length), self.length) * WIDTH / 100.0
    }

    fn numbers(&self) -> String {
        let took = |half: &Option<Half<'_>>| half.as_ref().map(|half| half.row.duration);
        match (took(&self.fast), took(&self.slow)) {
            (Some(fast), Some(slow)) if self.is_same() => {
                format!("<span>{} to {}</span> <b>as before</b>", time(fast), time(slow))
            }
            (Some(fast), Some(slow)) => {
                let sign = if slow >= fast { '+' } else { '-' };
                format!(
                    "<span>{} to {}</span> <b>{sign}{}</b>",
                    time(fast),
                    time(slow),
                    time(slow.abs_diff(fast))
                )
            }
            (None, Some(one)) | (Some(one), None) => format!("<span>{}</span>", time(one)),
            (None, None) => String::new(),
        }
    }

    /// What opens below a line.
    fn write_more(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "<table class=\"more\"><thead><tr><th></th><th scope=\"col\">Fast</th><th scope=\"col\">Slow</th></tr></thead>\
             <tbody>"
        )?;
        let halves = [self.fast.as_ref(), self.slow.as_ref()];
        let facts: [(&str, Fact); 6] = [
            ("Starts after", |half| vec![time(half.row.start.saturating_sub(half.zero))]),
            ("Lasts", |half| vec![time(half.row.duration)]),
            ("Own time", |half| vec![time(half.row.own().iter().map(|(start, end)| end - start).sum())]),
            ("Status", |half| {
                let is_error = half.head().is_some_and(|head| head.is_error);
                vec![if is_error { "error" } else { "no error" }.to_owned()]
            }),
            ("Span id", |half| half.head().map(|head| head.span_id.to_string()).into_iter().collect()),
            ("Events", |half| half.events()),
        ];
        for (term, fact) in facts {
            let said = halves.map(|half| half.map(fact).unwrap_or_default());
            if said.iter().all(Vec::is_empty) {
                continue;
            }
            write!(out, "<tr><th scope=\"row\">{term}</th>")?;
            for lines in said {
                let lines: Vec<String> = lines.iter().map(|line| Escaped(line).to_string()).collect();
                write!(
                    out,
                    "<td>{}</td>",
                    if lines.is_empty() { "-".to_owned() } else { lines.join("<br>") }
                )?;
            }
            writeln!(out, "</tr>")?;
        }
        writeln!(out, "</tbody></table>")
    }
}

impl<'a> Half<'a> {
    fn of(trace: &'a Trace, layout: &'a Layout<'a>, row: usize) -> Option<Self> {
        Some(Self { trace, row: layout.rows.get(row)?, zero: layout.axis.start })
    }

    fn head(&self) -> Option<SpanHead> {
        Some(self.trace.span(self.row.span)?.head)
    }

    /// Moments within the span, and what they are called.
    fn events(&self) -> Vec<String> {
        let Some(span) = self.trace.span(self.row.span) else { return Vec::new() };
        let mut events = span.events();
        let event = |event: Event<'_>| {
            format!("{} {}", time(event.time.saturating_sub(self.row.start)), text(event.name))
        };
        let mut lines: Vec<String> = events.by_ref().take(MAX_EVENTS).map(event).collect();
        let more = events.count();
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        lines
    }
}

fn text(bytes: &[u8]) -> String {
    const LONGEST: usize = 200;
    let mut text =
        String::from_utf8_lossy(bytes.get(..bytes.len().min(LONGEST * 4)).unwrap_or(bytes)).into_owned();
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

fn percent(part: Nanos, whole: Nanos) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

/// A round step of 1, 2 or 5, so that there are at most [`TICKS`] of them.
fn tick(length: Nanos) -> Nanos {
    let decades = std::iter::successors(Some(1_u64), |decade| decade.checked_mul(10));
    let steps = decades.flat_map(|decade| [1, 2, 5].map(|digit| decade.saturating_mul(digit)));
    steps.into_iter().find(|step| length / step <= TICKS).unwrap_or(u64::MAX)
}

/// A tick's label, as short as it can be.
fn short(nanos: Nanos) -> String {
    let trimmed = |value: f64| format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned();
    match nanos {
        0 => "0".to_owned(),
        10_000_000_000.. => format!("{} s", trimmed(nanos as f64 / 1e9)),
        1_000.. => format!("{} ms", trimmed(nanos as f64 / 1e6)),
        _ => format!("{nanos} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        for (length, expected, label) in [
            (1_207_384_000, 200_000_000, "200 ms"),
            (7, 1, "1 ns"),
            (10_500, 2_000, "0.002 ms"),
            (95_000_000_000, 20_000_000_000, "20 s"),
            (u64::MAX, 5_000_000_000_000_000_000, "5000000000 s"),
        ] {
            let step = tick(length);
            assert_eq!((step, short(step).as_str()), (expected, label));
        }
    }
}
