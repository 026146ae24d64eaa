//! Spans that share an id: Zipkin lets the two ends of a call report one span together. Here each gets its own.

use std::collections::{HashMap, HashSet};

use foldhash::fast::FixedState;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::request::Sent;

type Ids = (Vec<u8>, Vec<u8>);

/// Both ends of one call, as places in the list of spans.
#[derive(Default)]
struct Halves {
    asks: Option<usize>,
    answers: Option<usize>,
}

/// Gives the answering half of each shared span an id of its own, below the asking half, and takes along the spans
/// that were called from it.
pub(super) fn split(spans: &mut [Sent]) {
    let mut halves: HashMap<Ids, Halves, FixedState> = HashMap::default();
    for (place, sent) in spans.iter().enumerate() {
        let half = halves.entry(ids_of(sent)).or_default();
        if sent.span.kind == SpanKind::Client as i32 || sent.span.kind == SpanKind::Producer as i32 {
            half.asks.get_or_insert(place);
        } else if sent.span.kind == SpanKind::Server as i32 || sent.span.kind == SpanKind::Consumer as i32 {
            half.answers.get_or_insert(place);
        }
    }
    let mut taken: HashSet<Ids, FixedState> = halves.keys().cloned().collect();
    // Ids of the shared spans: who asked, and the answering half's new id.
    let mut moved: HashMap<Ids, (String, String, Vec<u8>), FixedState> = HashMap::default();
    let mut answering: Vec<(usize, Vec<u8>)> = Vec::new();
    // In the order of the file, so that the same file gives the same ids.
    for place in 0..spans.len() {
        let Some(sent) = spans.get(place) else { continue };
        let ids = ids_of(sent);
        let Some(Halves { asks: Some(asks), answers: Some(answers) }) = halves.get(&ids) else { continue };
        let (Some(asking), true) = (spans.get(*asks), *answers == place) else { continue };
        let new = unused_id(&ids, &mut taken);
        moved.insert(ids, (asking.sender.0.clone(), sent.sender.0.clone(), new.clone()));
        answering.push((place, new));
    }
    for sent in spans.iter_mut() {
        let parent = (sent.span.trace_id.clone(), sent.span.parent_span_id.clone());
        let Some((asked, answered, new)) = moved.get(&parent) else { continue };
        // What the caller did meanwhile stays below its own half.
        if sent.sender.0 != *asked || asked == answered {
            sent.span.parent_span_id.clone_from(new);
        }
    }
    for (place, new) in answering {
        if let Some(sent) = spans.get_mut(place) {
            sent.span.parent_span_id = std::mem::replace(&mut sent.span.span_id, new);
        }
    }
}

fn ids_of(sent: &Sent) -> Ids {
    (sent.span.trace_id.clone(), sent.span.span_id.clone())
}

/// The same for the same id, with every bit turned, and counted on from there while it is in use.
fn unused_id((trace, span): &Ids, taken: &mut HashSet<Ids, FixedState>) -> Vec<u8> {
    let mut id = span.iter().fold(0_u64, |id, byte| id << 8 | u64::from(*byte));
    id = !id;
    loop {
        let ids = (trace.clone(), id.to_be_bytes().to_vec());
        if id != 0 && taken.insert(ids.clone()) {
            return ids.1;
        }
        id = id.wrapping_add(1);
    }
}
