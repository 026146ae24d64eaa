//! Writes a verdict into the spans of its trace.
//!
//! A span body stays as it came; what we say is appended to it. Keys of ours that a span already has are taken
//! out first, so that the last hop wins and writing twice changes nothing more.

mod attributes;

use crate::assemble::Trace;
use crate::compare::{Outcome, Reference, Verdict};
use crate::config::{Enrich, EnrichAttribute as Word};
use crate::otlp::attribute::{AnyValue, attributes};
use crate::otlp::span::{SpanView, field};
use crate::otlp::wire::{self, Malformed};
use crate::otlp::{Nanos, SpanId};
use attributes::{double, int, string, truth};

/// Every attribute of ours begins with this.
const NAMESPACE: &[u8] = b"root_cause.";
/// On the culprit span.
const CULPRIT: &str = "root_cause.culprit";
/// On the entry span of a forwarded reference trace, and on the link that points to one.
const REFERENCE: &str = "root_cause.reference";

/// Field numbers of `Span.Link`.
mod link {
    pub(super) const TRACE_ID: u32 = 1;
    pub(super) const SPAN_ID: u32 = 2;
    pub(super) const ATTRIBUTES: u32 = 4;
}

/// Writes `verdict` into `trace`: attributes and a link to the reference on the span with the index `entry`,
/// `root_cause.culprit` on the culprit span.
///
/// Of the attributes only those that `config` names are written; the link and the culprit's mark always are.
///
/// # Errors
/// [`Malformed`] when the trace would grow beyond 4 GiB.
pub fn write(trace: &mut Trace, entry: usize, verdict: &Verdict, config: &Enrich) -> Result<(), Malformed> {
    let culprits = culprit_spans(trace, verdict);
    let mut body = Vec::new();
    for index in 0..trace.len() {
        let Some(span) = trace.span(index) else { continue };
        let is_culprit = culprits.contains(&index);
        if index == entry {
            let stale = |field: &wire::Field<'_>| {
                is_attribute(field, |key| key.starts_with(NAMESPACE)) || is_our_link(field)
            };
            copy_without(span.body, stale, &mut body)?;
            put_verdict(&mut body, verdict, config);
        } else if is_culprit || has_attribute(span, CULPRIT) {
            copy_without(span.body, |field| is_attribute(field, |key| key == CULPRIT.as_bytes()), &mut body)?;
        } else {
            continue;
        }
        if is_culprit {
            truth(&mut body, field::ATTRIBUTES, CULPRIT);
        }
        trace.replace_body(index, &body)?;
    }
    Ok(())
}

/// Marks the span with the index `entry` as the entry span of a forwarded reference trace.
///
/// # Errors
/// [`Malformed`] when the trace would grow beyond 4 GiB.
pub fn mark_reference(trace: &mut Trace, entry: usize) -> Result<(), Malformed> {
    let Some(span) = trace.span(entry) else { return Ok(()) };
    let mut body = Vec::new();
    copy_without(span.body, |field| is_attribute(field, |key| key == REFERENCE.as_bytes()), &mut body)?;
    truth(&mut body, field::ATTRIBUTES, REFERENCE);
    trace.replace_body(entry, &body)
}

/// The spans to mark: those with the culprit's id, and where ids are shared by both ends of a call (as Zipkin
/// has it) only the culprit's own end.
fn culprit_spans(trace: &Trace, verdict: &Verdict) -> Vec<usize> {
    let Outcome::Identified(culprit) = &verdict.outcome else { return Vec::new() };
    let same_id: Vec<usize> = spans_with_id(trace, culprit.span_id).collect();
    let of_service = |span: &usize| service_of(trace, *span) == Some(culprit.service.as_str());
    if same_id.iter().any(of_service) { same_id.into_iter().filter(of_service).collect() } else { same_id }
}

fn spans_with_id(trace: &Trace, id: SpanId) -> impl Iterator<Item = usize> {
    trace.heads().enumerate().filter(move |(_, head)| head.span_id == id).map(|(index, _)| index)
}

fn service_of(trace: &Trace, span: usize) -> Option<&str> {
    let resource = trace.resource_of(span)?;
    let name = trace.resource_attributes(resource).filter(|a| a.key == b"service.name").last()?;
    name.value.as_str()
}

fn has_attribute(span: SpanView<'_>, key: &str) -> bool {
    span.attributes().any(|attribute| attribute.key == key.as_bytes())
}

/// Fills `out` with the fields of `body` but those that are `stale`.
fn copy_without(
    body: &[u8],
    stale: impl Fn(&wire::Field<'_>) -> bool,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    out.clear();
    for field in wire::fields(body) {
        let field = field?;
        if !stale(&field) {
            out.extend_from_slice(field.raw);
        }
    }
    Ok(())
}

fn is_attribute(field: &wire::Field<'_>, is_ours: impl Fn(&[u8]) -> bool) -> bool {
    field.number == field::ATTRIBUTES && attributes(field.raw, field::ATTRIBUTES).any(|a| is_ours(a.key))
}

fn is_our_link(field: &wire::Field<'_>) -> bool {
    field.number == field::LINKS
        && wire::messages(field.raw, field::LINKS)
            .flat_map(|link| attributes(link, link::ATTRIBUTES))
            .any(|a| a.key == REFERENCE.as_bytes() && a.value == AnyValue::Bool(true))
}

fn put_verdict(out: &mut Vec<u8>, verdict: &Verdict, config: &Enrich) {
    for word in &config.attributes {
        put_attribute(out, verdict, *word);
    }
    if let Some(reference) = &verdict.baseline {
        put_link(out, reference);
    }
}

fn put_attribute(out: &mut Vec<u8>, verdict: &Verdict, word: Word) {
    let number = field::ATTRIBUTES;
    match (word, &verdict.outcome) {
        (Word::Verdict, Outcome::Identified(_)) => string(out, number, "root_cause.verdict", "identified"),
        (Word::Verdict, Outcome::Inconclusive(_)) => {
            string(out, number, "root_cause.verdict", "inconclusive");
        }
        (Word::Reason, Outcome::Inconclusive(reason)) => {
            string(out, number, "root_cause.reason", reason.as_str());
        }
        (Word::ThresholdMs, _) if verdict.threshold > 0 => {
            double(out, number, "root_cause.threshold_ms", milliseconds(verdict.threshold));
        }
        (Word::Baseline, _) => {
            let Some(reference) = &verdict.baseline else { return };
            string(out, number, "root_cause.baseline.trace_id", &reference.trace_id.to_string());
            double(out, number, "root_cause.baseline.duration_ms", milliseconds(reference.duration));
            int(out, number, "root_cause.baseline.count", reference.count as u64);
        }
        (Word::Explanation, _) => string(out, number, "root_cause.explanation", &verdict.explanation),
        (_, Outcome::Identified(culprit)) => {
            let mut optional = |key, value: &Option<String>| {
                if let Some(value) = value {
                    string(out, number, key, value);
                }
            };
            match word {
                Word::Instance => optional("root_cause.instance", &culprit.instance),
                Word::Dependency => optional("root_cause.dependency", &culprit.dependency),
                Word::Phase => optional("root_cause.phase", &culprit.phase),
                Word::Service => string(out, number, "root_cause.service", &culprit.service),
                Word::Category => string(out, number, "root_cause.category", culprit.category.as_str()),
                Word::Confidence => double(out, number, "root_cause.confidence", culprit.confidence),
                Word::DeltaMs => double(out, number, "root_cause.delta_ms", culprit.delta_ms),
                Word::Share => double(out, number, "root_cause.share", culprit.share),
                Word::Operation => string(out, number, "root_cause.operation", &culprit.operation),
                Word::SpanId => string(out, number, "root_cause.span_id", &culprit.span_id.to_string()),
                Word::Verdict | Word::Reason | Word::ThresholdMs | Word::Baseline | Word::Explanation => {}
            }
        }
        (_, Outcome::Inconclusive(_)) => {}
    }
}

fn put_link(out: &mut Vec<u8>, reference: &Reference) {
    let mut content = Vec::new();
    wire::put_bytes(&mut content, link::TRACE_ID, reference.trace_id.bytes());
    wire::put_bytes(&mut content, link::SPAN_ID, reference.span_id.bytes());
    truth(&mut content, link::ATTRIBUTES, REFERENCE);
    wire::put_bytes(out, field::LINKS, &content);
}

fn milliseconds(nanos: Nanos) -> f64 {
    nanos as f64 / 1e6
}

#[cfg(test)]
mod tests;
