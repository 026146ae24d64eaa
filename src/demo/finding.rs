//! What laggard wrote onto a slow trace, read from the trace as it arrived, and how it is shown.

use std::io::{self, Write};

use crate::assemble::Trace;
use crate::otlp::SpanId;
use crate::otlp::attribute::AnyValue;
use crate::waterfall::Waterfall;

/// Columns of a plain terminal.
const WIDTH: usize = 80;

/// The attributes of one enriched trace.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    /// The index of the entry span, which carries them.
    entry: usize,
    /// The span that carries `root_cause.culprit`.
    culprit: Option<SpanId>,
    /// `root_cause.*` of the entry span, in the order in which they stand.
    attributes: Vec<(String, String)>,
}

impl Finding {
    /// Reads what was written onto `trace`; `None` where nothing was.
    pub(super) fn of(trace: &Trace) -> Option<Self> {
        let spans = || (0..trace.len()).filter_map(|index| Some((index, trace.span(index)?)));
        let (entry, span) =
            spans().find(|(_, span)| span.attributes().any(|found| found.key == b"root_cause.verdict"))?;
        let attributes = span.attributes().filter_map(|found| {
            let key = std::str::from_utf8(found.key).ok()?;
            key.starts_with("root_cause.").then(|| (key.to_owned(), shown(found.value)))
        });
        let is_marked = |key: &[u8], value| key == b"root_cause.culprit" && value == AnyValue::Bool(true);
        let culprit =
            spans().find(|(_, span)| span.attributes().any(|found| is_marked(found.key, found.value)));
        let culprit = culprit.map(|(_, span)| span.head.span_id);
        Some(Self { entry, culprit, attributes: attributes.collect() })
    }

    /// The value of an attribute.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.attributes.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    /// The named service.
    pub(super) fn service(&self) -> Option<&str> {
        self.get("root_cause.service")
    }

    /// The name of the entry span.
    pub(super) fn entry_name<'a>(&self, trace: &'a Trace) -> &'a [u8] {
        trace.span(self.entry).map_or(&[], |span| span.name())
    }

    /// Draws the trace, then lists what was written onto it and how to search for it.
    pub(super) fn show(&self, trace: &Trace, out: &mut dyn Write, colour: bool) -> io::Result<()> {
        writeln!(out, "Trace {}, as the backend received it:\n", trace.id())?;
        Waterfall { trace, entry: self.entry, culprit: self.culprit, width: WIDTH }.write(out, colour)?;
        writeln!(out, "\nThe verdict:\n")?;
        for line in wrapped(self.get("root_cause.explanation").unwrap_or("none"), WIDTH - 2) {
            writeln!(out, "  {line}")?;
        }
        writeln!(out, "\nWritten onto its entry span, beside a link to the fast trace:\n")?;
        for (key, value) in &self.attributes {
            if key != "root_cause.explanation" {
                writeln!(out, "  {key:<31} {value}")?;
            }
        }
        if let Some(service) = self.service() {
            writeln!(out, "\nTo find such traces in the backend of your choice, search for\n")?;
            writeln!(out, "  {:<53} (Jaeger: tags)", format!("root_cause.service={service}"))?;
            let traceql = format!("{{ span.root_cause.service = \"{service}\" }}");
            writeln!(out, "  {traceql:<53} (Tempo: TraceQL)")?;
            writeln!(out, "  {:<53} (Datadog)", format!("@root_cause.service:{service}"))?;
        }
        Ok(())
    }
}

fn shown(value: AnyValue<'_>) -> String {
    match value {
        AnyValue::String(text) => String::from_utf8_lossy(text).into_owned(),
        AnyValue::Bool(truth) => truth.to_string(),
        AnyValue::Int(number) => number.to_string(),
        AnyValue::Double(number) => format!("{number:.3}"),
        AnyValue::Empty | AnyValue::Array(_) | AnyValue::Other => String::new(),
    }
}

/// `text` in lines of at most `width` columns where its words allow it.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::traffic::{CULPRIT, Traffic, system};
    use super::*;
    use crate::otlp::span::field;
    use crate::otlp::wire::put_bytes;

    /// A trace of the generator whose first span carries `attributes`, encoded `KeyValue`s.
    fn trace(attributes: &[(&str, &[u8])]) -> Trace {
        let system = system();
        let export = Traffic::new(&system, 1, 0, u64::MAX).until(2_000_000_000).remove(0);
        let mut trace = Trace::all_in(&export.request).expect("protobuf").remove(0);
        let mut body = trace.span(0).expect("not empty").body.to_vec();
        for (key, value) in attributes {
            let mut attribute = Vec::new();
            put_bytes(&mut attribute, 1, key.as_bytes());
            put_bytes(&mut attribute, 2, value);
            put_bytes(&mut body, field::ATTRIBUTES, &attribute);
        }
        trace.replace_body(0, &body).expect("small");
        trace
    }

    fn text(value: &str) -> Vec<u8> {
        let mut any = Vec::new();
        put_bytes(&mut any, 1, value.as_bytes());
        any
    }

    #[test]
    fn a_trace_that_was_not_enriched_is_no_finding() {
        assert_eq!(Finding::of(&trace(&[])), None);
        assert_eq!(Finding::of(&trace(&[("root_cause.reference", &[0x10, 1])])), None);
    }

    #[test]
    fn everything_that_was_written_is_shown() {
        let trace = trace(&[
            ("root_cause.service", &text(CULPRIT)),
            ("root_cause.verdict", &text("identified")),
            ("root_cause.culprit", &[0x10, 1]),
            ("root_cause.explanation", &text("it took longer")),
        ]);
        let finding = Finding::of(&trace).expect("enriched");
        assert_eq!(finding.service(), Some(CULPRIT));
        let mut out = Vec::new();
        finding.show(&trace, &mut out, false).expect("a Vec takes all");
        let shown = String::from_utf8(out).expect("text");
        for part in [
            "<-- culprit",
            "\n  it took longer\n",
            "\n  root_cause.verdict              identified\n",
            "\n  root_cause.service=pre-processor ",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        assert!(shown.lines().all(|line| line.len() <= WIDTH), "{shown}");
    }

    #[test]
    fn lines_break_between_words_only() {
        assert_eq!(wrapped("aa bb  cc dddddddd e", 5), ["aa bb", "cc", "dddddddd", "e"]);
    }
}
