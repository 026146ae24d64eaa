//! Which span stands for a named service, and what it is called.

use super::analysis::Analysis;
use super::blame::Blamed;
use super::causes::Row;
use super::tree::Node;
use super::{Category, dependency};
use crate::baseline::Linked;
use crate::otlp::attribute::AnyValue;

/// The node to point at, and its operation.
pub(crate) struct Place<'a> {
    pub(crate) number: u32,
    pub(crate) node: &'a Node,
    pub(crate) operation: String,
}

/// The span of the blamed service where most of its added time was spent; where it sent none, the one that waited.
pub(crate) fn place<'a>(
    analysis: &'a Analysis<'_>,
    linked: &Linked,
    blamed: &Blamed,
    row: &Row,
) -> Option<Place<'a>> {
    let tree = &analysis.tree;
    let entry = analysis.ledger.entries.get(row.slow?)?;
    let grown = match blamed.category {
        Category::OwnTime | Category::Timeout | Category::Dependency => {
            grown_most(analysis, linked, entry.key, row.reference_key)
        }
        _ => None,
    };
    let mut number = grown.unwrap_or(entry.longest);
    if tree.service(&tree.nodes[number]).id != blamed.id {
        number = answer(analysis, entry.key, blamed.id)
            .or_else(|| ancestor_of(analysis, number, blamed.id))
            .unwrap_or(number);
    }
    let node = &tree.nodes[number];
    Some(Place { number, node, operation: tree.name(node).into_owned() })
}

/// The operation within an entry that takes most time more than in the linked reference.
fn grown_most(analysis: &Analysis<'_>, linked: &Linked, key: u64, reference_key: u64) -> Option<u32> {
    let operations = analysis.operations();
    let fast = |name: u64| {
        let of = (reference_key, name);
        let at =
            linked.operations.binary_search_by_key(&of, |operation| (operation.key, operation.name)).ok()?;
        Some(linked.operations.get(at)?.on_path)
    };
    let grown = operations.iter().filter(|operation| operation.key == key).map(|operation| {
        let before = fast(operation.name).unwrap_or(0);
        (i128::from(operation.on_path) - i128::from(before), operation.name, operation.longest)
    });
    grown.max().map(|(.., longest)| longest)
}

/// The longest span of `service` that answered a call of the entry with this key.
fn answer(analysis: &Analysis<'_>, key: u64, service: u64) -> Option<u32> {
    let tree = &analysis.tree;
    let answers = (1..tree.nodes.length()).filter(|number| {
        let node = &tree.nodes[*number];
        let asking = analysis.calls.base[node.caller];
        node.is_remote && analysis.calls.key[asking] == key && tree.service(node).id == service
    });
    answers.max_by_key(|number| (tree.nodes[*number].duration(), std::cmp::Reverse(*number)))
}

/// The nearest span around `number` that is of `service`.
fn ancestor_of(analysis: &Analysis<'_>, number: u32, service: u64) -> Option<u32> {
    let tree = &analysis.tree;
    let mut number = number;
    while number != 0 {
        number = tree.nodes[number].caller;
        if tree.service(&tree.nodes[number]).id == service {
            return Some(number);
        }
    }
    None
}

/// What the culprit's resource says it is: pod, instance or host.
pub(crate) fn instance(analysis: &Analysis<'_>, node: &Node) -> Option<String> {
    let trace = analysis.tree.trace;
    let resource = trace.resource_of(node.span as usize)?;
    let mut best: Option<(u8, &[u8])> = None;
    for attribute in trace.resource_attributes(resource) {
        let rank = match attribute.key {
            b"k8s.pod.name" => 0,
            b"service.instance.id" => 1,
            b"host.name" => 2,
            _ => continue,
        };
        if let AnyValue::String(value) = attribute.value
            && !value.is_empty()
            && best.is_none_or(|(known, _)| rank < known)
        {
            best = Some((rank, value));
        }
    }
    best.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
}

/// The uninstrumented peer that the culprit waited for.
pub(crate) fn peer(analysis: &Analysis<'_>, blamed: &Blamed, row: &Row) -> Option<String> {
    if !matches!(blamed.category, Category::Dependency | Category::Timeout) {
        return None;
    }
    let entry = analysis.ledger.entries.get(row.slow?)?;
    if entry.callee.is_some() || entry.service != blamed.id {
        return None;
    }
    let tree = &analysis.tree;
    let call = analysis.calls.base[entry.longest];
    dependency::of(tree, &tree.nodes[call])
}
