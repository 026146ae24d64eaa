//! Where inside one span the added time was spent: between which two of its events.
//!
//! Only own time counts: a call between two events is its callee's.

use std::collections::BTreeMap;

use super::analysis::Analysis;
use crate::baseline::Linked;
use crate::template::template;

/// SDKs keep at most so many events of a span; more are not looked at.
const MAX_EVENTS: usize = 128;

/// The phase that holds at least half of what the node spent more than its like in the reference.
/// `reference_key` is the key under which the reference knows the path of the node.
pub(crate) fn decisive(
    analysis: &Analysis<'_>,
    linked: &Linked,
    number: u32,
    reference_key: u64,
) -> Option<String> {
    let slow = phases(analysis, number);
    if slow.len() < 2 {
        return None;
    }
    let fast = like(linked, analysis.tree.nodes[number].name, reference_key);
    let fast = fast.map_or_else(BTreeMap::new, |(analysis, number)| phases(&analysis, number));
    let sum = |phases: &BTreeMap<String, u64>| phases.values().sum::<u64>();
    let added = sum(&slow).checked_sub(sum(&fast)).filter(|added| *added > 0)?;
    let grown = |label: &str, length: u64| length.saturating_sub(fast.get(label).copied().unwrap_or(0));
    let (label, length) =
        slow.iter().max_by_key(|(label, length)| (grown(label, **length), std::cmp::Reverse(*label)))?;
    (grown(label, *length) >= added.div_ceil(2)).then(|| label.clone())
}

/// The span of the reference that did the same work, in an analysis of its own.
fn like(linked: &Linked, name: u64, key: u64) -> Option<(Analysis<'_>, u32)> {
    let at =
        linked.operations.binary_search_by_key(&(key, name), |operation| (operation.key, operation.name));
    let operation = linked.operations.get(at.ok()?)?;
    // The same trace is numbered the same way again.
    Some((Analysis::of(&linked.trace, linked.entry)?, operation.longest))
}

/// Nanoseconds of the node's own time on the path, by what happened before and after.
fn phases(analysis: &Analysis<'_>, number: u32) -> BTreeMap<String, u64> {
    let tree = &analysis.tree;
    let node = &tree.nodes[number];
    let Some(span) = tree.trace.span(node.span as usize) else { return BTreeMap::new() };
    let mut marks: Vec<(i64, String)> = span
        .events()
        .take(MAX_EVENTS)
        .map(|event| {
            let since_start = i64::try_from(event.time.saturating_sub(span.head.start)).unwrap_or(i64::MAX);
            let moment = node.start.saturating_add(since_start).min(node.end);
            (moment, template(&String::from_utf8_lossy(event.name)).into_owned())
        })
        .collect();
    marks.sort();
    let mut lengths = BTreeMap::new();
    let mut occurrences: BTreeMap<String, u32> = BTreeMap::new();
    let windows = analysis.path.own_windows(tree, number);
    let mut from = (node.start, "start".to_owned());
    for until in marks.into_iter().chain([(node.end, "end".to_owned())]) {
        let mut label = format!("{} -> {}", from.1, until.1);
        let occurrence = occurrences.entry(label.clone()).or_default();
        *occurrence += 1;
        if *occurrence > 1 {
            label = format!("{label} #{occurrence}");
        }
        let overlaps = windows.iter().map(|(start, end)| (*end).min(until.0) - (*start).max(from.0));
        let length: i64 = overlaps.filter(|length| *length > 0).sum();
        lengths.insert(label, u64::try_from(length).unwrap_or(0));
        from = until;
    }
    lengths
}
