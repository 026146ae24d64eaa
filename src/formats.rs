//! Files of traces as people download them, turned into traces: OTLP/JSON in any of its wrappers, OTLP protobuf,
//! Jaeger JSON and Zipkin v2 JSON. Which one it is, the content tells.
//!
//! Foreign spans are rewritten as OTLP, so that whatever reads traces reads one format. A span that cannot be
//! read costs that span. Bounded: the caller bounds the content, JSON is walked without recursion down to the
//! spans, and a span nests at most as deep as `serde_json` goes, 128.

mod halves;
mod jaeger;
mod request;
mod values;
mod zipkin;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::assemble::Trace;
use crate::otlp::{batch, json};

/// What there could have been.
const EXPECTED: &str = "expected traces as OTLP (JSON or protobuf), Jaeger JSON or Zipkin v2 JSON";

/// Zipkin nests its lists of traces once; more is no format.
const MAX_LISTS: usize = 2;

/// At most so many keys of an unknown document are named.
const SHOWN_KEYS: usize = 5;

/// The content of a file.
#[derive(Debug)]
pub(crate) struct Content {
    /// By trace id.
    pub(crate) traces: Vec<Trace>,
    /// How many spans could not be read.
    pub(crate) refused: u64,
    /// What is wrong with the first of them.
    pub(crate) fault: Option<String>,
}

/// Reads the traces of a file, decompressed. Several JSON documents behind each other, as one a line, are one file.
///
/// # Errors
/// A sentence that says what was found instead.
pub(crate) fn read(content: &[u8]) -> Result<Content, String> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let text = content.trim_ascii();
    let Some(first) = text.first() else { return Err(format!("is empty; {EXPECTED}")) };
    let looks_like_json = matches!(first, b'{' | b'[');
    // A request in protobuf begins with a line feed, and the length behind it can look like a bracket.
    if !looks_like_json || content.first() == Some(&b'\n') {
        match protobuf(content) {
            Ok(read) if !looks_like_json || !read.traces.is_empty() => return Ok(read),
            Err(problem) if !looks_like_json => return Err(problem),
            _ => {}
        }
    }
    let decoded = documents(&json::mend(content))?;
    let mut read = protobuf(&decoded.request)?;
    read.refused += decoded.refused;
    read.fault = decoded.fault.or(read.fault);
    Ok(read)
}

fn protobuf(request: &[u8]) -> Result<Content, String> {
    let is_text = request.iter().take(64).all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    let is_json = || serde_json::from_slice::<serde::de::IgnoredAny>(request).is_ok();
    let found = match is_text {
        true if is_json() => "JSON that is no object and no list",
        true => "text that is no JSON",
        false => "bytes that are no OTLP protobuf",
    };
    let wrong = || format!("holds {found}; {EXPECTED}");
    let mut batch = batch::Batch::default();
    batch.read(request).map_err(|_| wrong())?;
    let traces = Trace::all_in(request).map_err(|_| wrong())?;
    if is_text && traces.is_empty() && !request.is_empty() {
        return Err(wrong());
    }
    Ok(Content { traces, refused: batch.refused, fault: batch.fault.map(|fault| fault.to_string()) })
}

/// Every document of a JSON text, as one encoded request.
fn documents(text: &str) -> Result<json::Decoded, String> {
    let mut all = json::Decoded::default();
    let documents = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    for (number, document) in documents.enumerate() {
        let decoded = match document {
            Ok(raw) => self::document(raw.get(), MAX_LISTS),
            Err(error) => Err(format!("holds broken JSON: {error}")),
        };
        let decoded = decoded.map_err(|problem| match number {
            0 => problem,
            _ => format!("{problem} (document {})", number + 1),
        })?;
        append(&mut all, decoded);
    }
    Ok(all)
}

fn append(all: &mut json::Decoded, more: json::Decoded) {
    all.request.extend_from_slice(&more.request);
    all.refused += more.refused;
    all.fault = all.fault.take().or(more.fault);
}

/// The keys by which one document is told from another.
#[derive(Default, Deserialize)]
struct Envelope<'a> {
    /// OTLP: a request, or what Tempo gives for one trace.
    #[serde(borrow, alias = "resource_spans", alias = "batches", rename = "resourceSpans")]
    resource_spans: Option<&'a RawValue>,
    /// Around OTLP: Tempo's second version.
    #[serde(borrow)]
    trace: Option<&'a RawValue>,
    /// Around OTLP: Jaeger's third version.
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    /// Around Jaeger's traces: its API, and the download of its page.
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    /// Of one trace of Jaeger.
    #[serde(borrow)]
    spans: Option<&'a RawValue>,
    /// Of one span of Zipkin.
    #[serde(borrow, rename = "traceId")]
    trace_id: Option<&'a RawValue>,
}

fn document(text: &str, lists: usize) -> Result<json::Decoded, String> {
    if text.starts_with('[') {
        return list(text, lists);
    }
    if !text.starts_with('{') {
        return Err(format!("holds {} as JSON; {EXPECTED}", shortened(text)));
    }
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| format!("holds {error}"))?;
    if envelope.resource_spans.is_some() {
        return json::to_protobuf(text.as_bytes()).map_err(|error| format!("is {error}"));
    }
    if let Some(wrapped) = envelope.trace.or(envelope.result).filter(|_| lists > 0) {
        return document(wrapped.get(), lists - 1);
    }
    if let Some(data) = envelope.data {
        let traces: Vec<&RawValue> = serde_json::from_str(data.get())
            .map_err(|_| "holds \"data\" that is not Jaeger's list of traces".to_owned())?;
        let mut all = json::Decoded::default();
        for trace in traces {
            append(&mut all, jaeger::decode(trace.get())?);
        }
        return Ok(all);
    }
    if envelope.spans.is_some() {
        return jaeger::decode(text);
    }
    if envelope.trace_id.is_some() {
        return zipkin::decode(&[text]);
    }
    Err(format!("holds JSON with {}; {EXPECTED}", keys_of(text)))
}

/// A list of Zipkin's spans, or of such lists, or of any documents.
fn list(text: &str, lists: usize) -> Result<json::Decoded, String> {
    let elements: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|error| format!("holds broken JSON: {error}"))?;
    if elements.iter().all(|element| is_zipkin_span(element.get())) {
        let spans: Vec<&str> = elements.iter().map(|element| element.get()).collect();
        return zipkin::decode(&spans);
    }
    if lists == 0 {
        return Err(format!("holds lists in lists in lists; {EXPECTED}"));
    }
    let mut all = json::Decoded::default();
    for element in elements {
        append(&mut all, document(element.get(), lists - 1)?);
    }
    Ok(all)
}

fn is_zipkin_span(text: &str) -> bool {
    text.starts_with('{')
        && serde_json::from_str(text).is_ok_and(|envelope: Envelope<'_>| {
            envelope.trace_id.is_some() && envelope.spans.is_none() && envelope.resource_spans.is_none()
        })
}

/// The first keys of an object, for a message.
fn keys_of(text: &str) -> String {
    let keys: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(text).unwrap_or_default();
    let shown: Vec<String> = keys.keys().take(SHOWN_KEYS).map(|key| shortened(&format!("{key:?}"))).collect();
    match keys.len() {
        0 => "no key".to_owned(),
        count if count > SHOWN_KEYS => format!("the keys {} and more", shown.join(", ")),
        1 => format!("the key {}", shown.concat()),
        _ => format!("the keys {}", shown.join(", ")),
    }
}

/// At most 40 characters.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
