//! Draws one trace for a terminal: a line a span, in the order of the calls, on one time axis.
//!
//! ```text
//! # own time, - children                 0      1,207.4 ms
//! web-server inference-span              ----------------- 1,207.4 ms
//!   web-server POST                      ----------------- 1,198.2 ms
//!     pre-processor preprocess-request   ###########------ 1,197.3 ms  <-- culprit
//! ```

pub(crate) mod layout;
pub(crate) mod pairs;

use std::io::{self, Write};

use unicode_width::UnicodeWidthChar;

use crate::assemble::Trace;
use crate::otlp::{Nanos, SpanId};
use layout::{Axis, Layout, Row};
use pairs::Pair;

/// More spans than this are not drawn but counted on a last line.
pub const MAX_ROWS: usize = 40;

/// Narrower than this nothing can be read; such widths are taken as this one.
const MIN_WIDTH: usize = 48;

const LEGEND: &str = "# own time, - children";
const MARKER: &str = "  <-- culprit";

/// One trace to draw.
#[derive(Clone, Copy, Debug)]
pub struct Waterfall<'a> {
    /// The trace.
    pub trace: &'a Trace,
    /// The index of its entry span, whose start and end are the ends of the time axis.
    pub entry: usize,
    /// The span to mark.
    pub culprit: Option<SpanId>,
    /// Columns; no line is longer.
    pub width: usize,
}

/// One line of a drawing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Printable characters only, at most [`Waterfall::width`] columns.
    pub text: String,
    /// Whether it is the line of the culprit.
    pub is_culprit: bool,
}

impl Waterfall<'_> {
    /// Writes the drawing, a newline after each line. With `colour` the culprit's line stands out by an
    /// escape sequence too, which only a terminal understands.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut (impl Write + ?Sized), colour: bool) -> io::Result<()> {
        for line in self.lines() {
            if colour && line.is_culprit {
                writeln!(out, "\x1b[1;31m{}\x1b[0m", line.text)?;
            } else {
                writeln!(out, "{}", line.text)?;
            }
        }
        Ok(())
    }

    /// The drawing, a line a span.
    fn lines(&self) -> Vec<Line> {
        let layout = layout::of(self.trace, self.entry, self.culprit, MAX_ROWS);
        let columns = Columns::of(self.width, layout.axis.length, &[&layout]);
        let mut lines = vec![columns.head(layout.axis)];
        lines.extend(layout.rows.iter().map(|row| columns.line(row, layout.axis)));
        lines.extend(more(layout.hidden));
        lines
    }
}

/// Two waterfalls in the same columns on axes of the same length, each of `width` columns: the lines of the fast and of
/// the slow trace. Side by side, a call that both have stands in the same line of both.
pub fn two(fast: Waterfall<'_>, slow: Waterfall<'_>, width: usize, is_side_by_side: bool) -> [Vec<Line>; 2] {
    let layouts = [fast, slow].map(|one| layout::of(one.trace, one.entry, one.culprit, MAX_ROWS));
    let [of_fast, of_slow] = &layouts;
    let length = of_fast.axis.length.max(of_slow.axis.length);
    let columns = Columns::of(width, length, &[of_fast, of_slow]);
    let pairs = if is_side_by_side { pairs::of(&of_fast.rows, &of_slow.rows) } else { Vec::new() };
    let lines = |layout: &Layout<'_>, half: fn(&Pair) -> Option<usize>| {
        let axis = Axis { length, ..layout.axis };
        let mut lines = vec![columns.head(axis)];
        let line = |row: Option<&Row<'_>>| row.map_or_else(Line::default, |row| columns.line(row, axis));
        if is_side_by_side {
            lines.extend(pairs.iter().map(|pair| line(half(pair).and_then(|row| layout.rows.get(row)))));
        } else {
            lines.extend(layout.rows.iter().map(|row| line(Some(row))));
        }
        lines.extend(more(layout.hidden));
        lines
    };
    [lines(of_fast, |pair| pair.fast), lines(of_slow, |pair| pair.slow)]
}

fn more(hidden: usize) -> Option<Line> {
    let plural = if hidden == 1 { "" } else { "s" };
    let text = format!("... {} more span{plural}", thousands(hidden as u64));
    (hidden > 0).then_some(Line { text, is_culprit: false })
}

/// How wide each column is.
struct Columns {
    name: usize,
    bar: usize,
    duration: usize,
    /// Of the axis; it says how exact durations are.
    length: Nanos,
}

impl Columns {
    /// Columns in which all rows of `layouts` fit.
    fn of(width: usize, length: Nanos, layouts: &[&Layout<'_>]) -> Self {
        let rows = || layouts.iter().flat_map(|layout| &layout.rows);
        let marker = if rows().any(|row| row.is_culprit) { MARKER.len() } else { 0 };
        let duration = rows().map(|row| milliseconds(row.duration, length).len()).max().unwrap_or(0);
        // Two blanks stand between the three columns.
        let free = width.max(MIN_WIDTH).saturating_sub(marker + duration + 2);
        let wanted = rows().map(|row| columns_of(&row.label(free))).max().unwrap_or(0);
        let name = wanted.max(LEGEND.len()).min(free * 7 / 10);
        Self { name, bar: free - name, duration, length }
    }

    /// The line above all spans.
    fn head(&self, axis: Axis) -> Line {
        let total = milliseconds(axis.length, self.length);
        // Where there is no room for both ends of the axis, its length is what counts.
        let zero = if total.len() + 2 > self.bar { "" } else { "0" };
        let width = self.bar.saturating_sub(zero.len());
        let text = format!("{} {zero}{total:>width$}", fit(LEGEND, self.name));
        Line { text, is_culprit: false }
    }

    fn line(&self, row: &Row<'_>, axis: Axis) -> Line {
        let name = fit(&row.label(self.name), self.name);
        let bar = bar(row, axis, self.bar);
        let duration = milliseconds(row.duration, self.length);
        let marker = if row.is_culprit { MARKER } else { "" };
        let text = format!("{name} {bar} {duration:>width$}{marker}", width = self.duration);
        Line { text, is_culprit: row.is_culprit }
    }
}

/// The cells of one span: `#` where it works itself, `-` where a child of it is at work. A span that begins
/// before or ends after the axis has `<` or `>` at that end.
fn bar(row: &Row<'_>, axis: Axis, width: usize) -> String {
    let last = width.saturating_sub(1);
    let begin = axis.cell(row.start, width).min(last);
    let end = axis.cell(row.end, width).max(begin + 1);
    // How many more children are at work in a cell than in the one before it.
    let mut steps = vec![0_i64; width + 1];
    for (start, end) in &row.children {
        for (moment, step) in [(*start, 1), (*end, -1)] {
            if let Some(cell) = steps.get_mut(axis.cell(moment, width)) {
                *cell += step;
            }
        }
    }
    let mut at_work = 0;
    let mut cells = String::with_capacity(width);
    for (cell, step) in steps.iter().take(width).enumerate() {
        at_work += step;
        cells.push(match cell {
            _ if cell < begin || cell >= end => ' ',
            0 if row.start < axis.start => '<',
            _ if cell == last && row.end > axis.end() => '>',
            _ if at_work > 0 => '-',
            _ => '#',
        });
    }
    cells
}

/// `1,207.4 ms`; three decimals where the whole axis is shorter than 10 ms.
fn milliseconds(nanos: Nanos, axis: Nanos) -> String {
    let (unit, digits) = if axis < 10_000_000 { (1_000, 3) } else { (100_000, 1) };
    let rounded = (u128::from(nanos) + unit / 2) / unit;
    let per_millisecond = 1_000_000 / unit;
    let whole = u64::try_from(rounded / per_millisecond).unwrap_or(u64::MAX);
    format!("{}.{:0digits$} ms", thousands(whole), rounded % per_millisecond)
}

/// `1,207`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `text` in exactly `width` columns: padded, or cut with three dots at its end.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let columns = columns_of(text);
    if columns <= width {
        return format!("{text}{:padding$}", "", padding = width - columns);
    }
    let room = width.saturating_sub(3);
    let mut fitted = String::with_capacity(width);
    let mut used = 0;
    for character in text.chars() {
        let next = used + character.width().unwrap_or(0);
        if next > room {
            break;
        }
        used = next;
        fitted.push(character);
    }
    // A wide character that did not fit leaves a column over.
    let dots = width - used;
    fitted.push_str(&".".repeat(dots.min(3)));
    fitted.push_str(&" ".repeat(dots.saturating_sub(3)));
    fitted
}

fn columns_of(text: &str) -> usize {
    text.chars().map(|character| character.width().unwrap_or(0)).sum()
}

/// Appends what can be shown of a name from the wire, up to `limit` columns: controls, and characters that take
/// no column (some of them turn the direction of the text), are written as escapes.
pub(crate) fn push_printable(out: &mut String, name: &[u8], limit: usize) {
    // No character is longer than four bytes, none that is shown takes no column.
    let bytes = name.get(..name.len().min(limit.saturating_mul(4).saturating_add(4))).unwrap_or(&[]);
    let mut columns = 0;
    for character in String::from_utf8_lossy(bytes).chars() {
        if columns > limit {
            return;
        }
        if let Some(width @ 1..) = character.width() {
            out.push(character);
            columns += width;
        } else {
            let before = out.len();
            out.extend(character.escape_default());
            columns += out.len() - before;
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use prost::Message;

    use super::*;

    /// Id, parent (0 for none), service, name, start and end in microseconds.
    type Drawn<'a> = (u8, u8, &'a str, &'a str, u64, u64);

    fn trace(spans: &[Drawn<'_>]) -> Trace {
        let resource_spans = |&(id, parent, service, name, start, end): &Drawn<'_>| {
            let service = AnyValue { value: Some(any_value::Value::StringValue(service.to_owned())) };
            let service =
                KeyValue { key: "service.name".to_owned(), value: Some(service), ..Default::default() };
            let span = Span {
                trace_id: vec![1; 16],
                span_id: vec![id; 8],
                parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
                name: name.to_owned(),
                start_time_unix_nano: (1_000_000 + start) * 1_000,
                end_time_unix_nano: (1_000_000 + end) * 1_000,
                ..Span::default()
            };
            ResourceSpans {
                resource: Some(Resource { attributes: vec![service], ..Resource::default() }),
                scope_spans: vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }],
                ..ResourceSpans::default()
            }
        };
        let request =
            ExportTraceServiceRequest { resource_spans: spans.iter().map(resource_spans).collect() };
        Trace::all_in(&request.encode_to_vec()).expect("protobuf").remove(0)
    }

    fn draw(spans: &[Drawn<'_>], culprit: u8, width: usize) -> String {
        let waterfall =
            Waterfall { trace: &trace(spans), entry: 0, culprit: SpanId::from_slice(&[culprit; 8]), width };
        let mut out = Vec::new();
        waterfall.write(&mut out, false).expect("a Vec takes all");
        String::from_utf8(out).expect("text")
    }

    const SLOW: [Drawn<'_>; 5] = [
        (1, 0, "web-server", "inference-span", 0, 1_207_384),
        (2, 1, "web-server", "POST", 5_000, 1_203_196),
        (3, 2, "pre-processor", "preprocess-request", 5_400, 1_202_700),
        (4, 3, "pre-processor", "POST", 767_000, 1_190_500),
        (5, 4, "inference-server", "inference-service-post", 767_300, 1_190_267),
    ];

    #[test]
    fn the_slow_trace_of_the_design_shows_who_worked_and_who_waited() {
        let expected = "\
# own time, - children                 0      1,207.4 ms
web-server inference-span              ----------------- 1,207.4 ms
  web-server POST                      ----------------- 1,198.2 ms
    pre-processor preprocess-request   ###########------ 1,197.3 ms  <-- culprit
      pre-processor POST                          ------   423.5 ms
        inference-server inference-...            ######   423.0 ms
";
        assert_eq!(draw(&SLOW, 3, 80), expected);
    }

    #[test]
    fn a_terminal_gets_the_culprit_in_colour_and_nothing_else() {
        let slow = trace(&SLOW);
        let waterfall = Waterfall { trace: &slow, entry: 0, culprit: SpanId::from_slice(&[3; 8]), width: 80 };
        let mut out = Vec::new();
        waterfall.write(&mut out, true).expect("a Vec takes all");
        let coloured = String::from_utf8(out).expect("text");
        assert_eq!(coloured.replace("\x1b[1;31m", "").replace("\x1b[0m", ""), draw(&SLOW, 3, 80));
        let marked: Vec<&str> = coloured.lines().filter(|line| line.contains('\x1b')).collect();
        assert_eq!(marked.len(), 1);
        assert!(marked[0].contains("preprocess-request"), "{marked:?}");
    }

    #[test]
    fn no_line_is_wider_than_asked_whatever_the_names() {
        let long = "x".repeat(5_000);
        let spans =
            [(1, 0, long.as_str(), long.as_str(), 0, 10), (2, 1, "\u{65e5}\u{672c}", long.as_str(), 2, 5)];
        for width in [48, 49, 80, 200] {
            for line in draw(&spans, 2, width).lines() {
                assert!(columns_of(line) <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn what_could_steer_a_terminal_is_escaped() {
        let drawn = draw(&[(1, 0, "a\x1b[2Jb", "line\nfeed \u{202e}txt", 0, 100)], 0, 120);
        let row = drawn.lines().nth(1).expect("one span");
        assert!(row.starts_with(r"a\u{1b}[2Jb line\nfeed \u{202e}txt #"), "{row}");
    }

    #[test]
    fn spans_outside_of_the_entry_span_are_cut_at_the_ends_of_the_axis() {
        let spans = [
            (1, 9, "web", "entry", 1_000, 2_000),
            (2, 1, "skewed", "before", 0, 400),
            (3, 1, "worker", "after", 1_500, 900_000),
            (4, 1, "backwards", "ends first", 1_600, 1_100),
        ];
        let expected = "\
# own time, - children 0                     1.000 ms
web entry              ###############---------------   1.000 ms
  skewed before        <                                0.400 ms
  worker after                        ##############> 898.500 ms
  backwards ends first                   #              0.000 ms
";
        assert_eq!(draw(&spans, 0, 64), expected);
    }

    #[test]
    fn a_large_trace_keeps_the_culprit_its_callers_and_the_longest_spans() {
        let mut spans = vec![(1, 0, "web", "entry", 0, 1_000)];
        for id in 2..=200 {
            spans.push((id, 1, "web", "call", 0, 1_000 - u64::from(id)));
        }
        spans.push((201, 200, "db", "short", 10, 11));
        let drawn = draw(&spans, 201, 80);
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines.len(), 1 + MAX_ROWS + 1);
        assert_eq!(lines[41], "... 161 more spans");
        assert!(
            lines.iter().any(|line| line.contains("db short") && line.ends_with("<-- culprit")),
            "{drawn}"
        );
    }

    #[test]
    fn a_child_that_outlasts_its_parent_is_drawn() {
        let drawn = draw(&[(1, 0, "web", "entry", 0, 10), (2, 1, "worker", "later", 5, 10_000)], 0, 80);
        assert_eq!(drawn.lines().count(), 3, "{drawn}");
    }

    #[test]
    fn spans_that_call_each_other_in_a_circle_are_drawn_once() {
        let drawn =
            draw(&[(1, 2, "a", "one", 0, 10), (2, 1, "b", "two", 1, 9), (3, 3, "c", "self", 2, 3)], 0, 80);
        for name in ["a one", "b two", "c self"] {
            assert_eq!(drawn.matches(name).count(), 1, "{drawn}");
        }
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_calls_needs_no_deep_stack() {
        let ids: Vec<[u8; 8]> = (1..=100_000_u64).map(u64::to_be_bytes).collect();
        let mut chain = Trace::new(crate::otlp::TraceId::from_slice(&[1; 16]).expect("not zero"));
        let resource = chain.push_resource(&[]).expect("small");
        let scope = chain.push_scope(&[], resource).expect("small");
        for (index, id) in ids.iter().enumerate() {
            let span = Span {
                trace_id: vec![1; 16],
                span_id: id.to_vec(),
                parent_span_id: if index == 0 { Vec::new() } else { ids[index - 1].to_vec() },
                end_time_unix_nano: 1_000,
                ..Span::default()
            };
            let body = span.encode_to_vec();
            let head = crate::otlp::span::read_head(&body).expect("protobuf").expect("valid");
            chain.push_span(head, &body, scope).expect("small");
        }
        let last = SpanId::from_slice(&ids[99_999]);
        let lines = Waterfall { trace: &chain, entry: 0, culprit: last, width: 80 }.lines();
        assert_eq!(lines.len(), 1 + MAX_ROWS + 1);
        assert!(lines.iter().any(|line| line.is_culprit));
    }
}
