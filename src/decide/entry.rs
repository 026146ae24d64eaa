//! The entry span: the span that a trace is timed by.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use crate::assemble::Trace;
use crate::otlp::span::{Kind, SpanHead};
use crate::otlp::{Nanos, SpanId};

/// Where a trace was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The entry span's place in the trace.
    pub span: usize,
    /// Whether the trace has a root.
    pub has_root: bool,
    /// How many parents are named but absent.
    pub absent_parents: usize,
    /// Nanoseconds from the first start to the last end, of spans whose times can be believed.
    pub envelope: Nanos,
}

/// The entry span of a trace: its root; where the root is a CLIENT span with exactly one SERVER or CONSUMER span
/// topmost below it, that one; without a root, the longest SERVER or CONSUMER span whose parent is absent; without
/// such a one, the earliest span with an absent parent, and in a circle of parents the earliest span.
///
/// `None` for a trace without spans. The answer does not depend on the order of spans.
pub fn find(trace: &Trace) -> Option<Entry> {
    let heads: Vec<&SpanHead> = trace.heads().collect();
    let present: HashSet<SpanId> = heads.iter().map(|head| head.span_id).collect();
    let absent: HashSet<SpanId> =
        heads.iter().filter_map(|head| head.parent_id).filter(|parent| !present.contains(parent)).collect();
    let is_local_root = |head: &SpanHead| head.parent_id.is_some_and(|parent| absent.contains(&parent));

    let root = longest(&heads, |head| head.parent_id.is_none());
    let span = match root {
        Some(root) if heads.get(root).is_some_and(|head| head.kind == Kind::Client) => {
            only_entry_below(&heads, root).unwrap_or(root)
        }
        Some(root) => root,
        None => longest(&heads, |head| head.kind.is_entry() && is_local_root(head))
            .or_else(|| earliest(&heads, is_local_root))
            .or_else(|| earliest(&heads, |_| true))?,
    };
    let timed = || heads.iter().filter(|head| head.has_credible_times());
    let first = timed().map(|head| head.start).min().unwrap_or(0);
    let last = timed().map(|head| head.end).max().unwrap_or(0);
    Some(Entry {
        span,
        has_root: root.is_some(),
        absent_parents: absent.len(),
        envelope: last.saturating_sub(first),
    })
}

fn longest(heads: &[&SpanHead], is_eligible: impl Fn(&SpanHead) -> bool) -> Option<usize> {
    let eligible = heads.iter().enumerate().filter(|(_, head)| is_eligible(head));
    eligible
        .min_by_key(|(_, head)| (Reverse(head.duration()), head.start, head.span_id))
        .map(|(index, _)| index)
}

fn earliest(heads: &[&SpanHead], is_eligible: impl Fn(&SpanHead) -> bool) -> Option<usize> {
    let eligible = heads.iter().enumerate().filter(|(_, head)| is_eligible(head));
    eligible
        .min_by_key(|(_, head)| (head.start, Reverse(head.duration()), head.span_id))
        .map(|(index, _)| index)
}

/// The SERVER or CONSUMER span below `root` that is above all others, if there is exactly one.
fn only_entry_below(heads: &[&SpanHead], root: usize) -> Option<usize> {
    let mut children: HashMap<SpanId, Vec<usize>> = HashMap::new();
    for (index, head) in heads.iter().enumerate() {
        if let Some(parent) = head.parent_id {
            children.entry(parent).or_default().push(index);
        }
    }
    let mut found: Option<SpanId> = None;
    let mut open = vec![root];
    while let Some(index) = open.pop() {
        // Taken out, so that a circle of parents, or two spans of one id, are walked once.
        for child in children.remove(&heads.get(index)?.span_id).unwrap_or_default() {
            let head = heads.get(child)?;
            if !head.kind.is_entry() {
                open.push(child);
            } else if found.replace(head.span_id).is_some_and(|other| other != head.span_id) {
                return None;
            }
        }
    }
    // It may have come twice.
    let found = found?;
    longest(heads, |head| head.span_id == found && head.kind.is_entry())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::TraceId;

    /// `(id, parent, kind, start, end)`, a nanosecond after the beginning of time; 0 is no parent.
    fn trace(spans: &[(u8, u8, Kind, u64, u64)]) -> Trace {
        let id = TraceId::from_slice(&[1; 16]).expect("not zero");
        let mut trace = Trace::new(id);
        for (span, parent, kind, start, end) in spans.iter().copied() {
            let head = SpanHead {
                trace_id: id,
                span_id: SpanId::from_slice(&[span; 8]).expect("not zero"),
                parent_id: SpanId::from_slice(&[parent; 8]),
                start: start + 1,
                end: end + 1,
                kind,
                is_error: false,
            };
            trace.push_span(head, &[], 0).expect("small");
        }
        trace
    }

    fn check(spans: &[(u8, u8, Kind, u64, u64)], expected: usize) {
        let entry = find(&trace(spans)).expect("has spans");
        assert_eq!(entry.span, expected, "{spans:?}");
        let mut reversed = spans.to_vec();
        reversed.reverse();
        let entry = find(&trace(&reversed)).expect("has spans");
        assert_eq!(entry.span, spans.len() - 1 - expected, "reversed {spans:?}");
    }

    // D1.
    #[test]
    fn the_root_is_the_entry_and_the_longest_of_several() {
        check(&[(1, 0, Kind::Server, 0, 9), (2, 1, Kind::Server, 0, 99)], 0);
        check(&[(1, 0, Kind::Server, 0, 9), (2, 0, Kind::Internal, 0, 10)], 1);
    }

    #[test]
    fn below_a_client_root_the_only_server_is_the_entry() {
        check(&[(1, 0, Kind::Client, 0, 9), (2, 1, Kind::Internal, 0, 9), (3, 2, Kind::Server, 1, 8)], 2);
        check(&[(1, 0, Kind::Client, 0, 9), (2, 1, Kind::Server, 0, 3), (3, 1, Kind::Server, 4, 8)], 0);
        check(&[(1, 0, Kind::Client, 0, 9), (2, 1, Kind::Server, 0, 9), (3, 2, Kind::Server, 1, 8)], 1);
        check(&[(1, 0, Kind::Client, 0, 9)], 0);
        check(&[(1, 0, Kind::Client, 0, 9), (2, 1, Kind::Server, 1, 7), (2, 1, Kind::Server, 1, 8)], 2);
    }

    // D1.
    #[test]
    fn without_a_root_the_longest_server_with_an_absent_parent_is_the_entry() {
        let spans = [(2, 9, Kind::Server, 0, 5), (3, 8, Kind::Consumer, 0, 7), (4, 7, Kind::Client, 0, 99)];
        check(&spans, 1);
        let entry = find(&trace(&spans)).expect("has spans");
        assert_eq!((entry.has_root, entry.absent_parents, entry.envelope), (false, 3, 99));
        check(&[(2, 9, Kind::Client, 3, 5), (3, 9, Kind::Client, 1, 2)], 1);
    }

    // D2.
    #[test]
    fn a_circle_of_parents_has_an_entry() {
        check(&[(1, 2, Kind::Server, 5, 9), (2, 1, Kind::Server, 1, 9)], 1);
        check(&[(1, 1, Kind::Server, 5, 9)], 0);
    }
}
