//! The shape of a trace: which calls first leave the service that the request entered.

use serde::{Deserialize, Serialize};

use super::tree::{Tree, hash_of};
use crate::assemble::Trace;
use crate::otlp::span::Kind;

/// Traces of one shape called the same operations of other services, in any order and number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape(pub u64);

/// The shape of `trace` below span `entry`; the default one where that span has no credible times.
pub fn shape(trace: &Trace, entry: usize) -> Shape {
    Tree::build(trace, entry).map_or(Shape::default(), |tree| ShapeSet::of(&tree).shape())
}

/// The calls that a shape stands for, so that two shapes can be likened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShapeSet {
    /// Ordered hashes.
    calls: Vec<u64>,
    /// How many calls failed and have no answer, so that nobody knows which of the others they would have been.
    failed: usize,
}

impl ShapeSet {
    /// More different calls than this are not told apart.
    const LIMIT: usize = 128;

    pub(crate) fn of(tree: &Tree<'_>) -> Self {
        let nodes = &tree.nodes;
        let mut is_inside = super::column::Column::with_capacity(nodes.as_slice().len());
        let mut calls = Vec::new();
        let mut failed = 0;
        let mut is_answered = super::column::Column::filled(false, nodes.as_slice().len());
        for node in nodes.iter().skip(1).filter(|node| node.is_remote) {
            is_answered[node.caller] = true;
        }
        for number in 0..nodes.length() {
            let node = &nodes[number];
            let caller = &nodes[node.caller];
            let around = number == 0 || is_inside[node.caller];
            is_inside.push(around && !node.is_remote);
            if is_inside[number] && node.kind == Kind::Client && node.is_error && !is_answered[number] {
                failed += 1;
            }
            // Whether a message has been worked on by now says nothing about the request.
            let is_message = caller.kind == Kind::Producer || node.kind == Kind::Consumer;
            if number != 0 && around && node.is_remote && !is_message {
                calls.push(hash_of((tree.service(node).id, node.kind as u8, node.name)));
            }
        }
        calls.sort_unstable();
        calls.dedup();
        calls.truncate(Self::LIMIT);
        Self { calls, failed }
    }

    pub(crate) fn shape(&self) -> Shape {
        Shape(hash_of(&self.calls))
    }

    /// Whether nothing is called.
    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// How like a reference of this shape a slow trace of that one is: the size of what both call over the size of
    /// what either calls, 0..=1. A call of the slow trace that failed without an answer stands for one that it lacks.
    pub(crate) fn likeness(&self, slow: &Self) -> f64 {
        let shared = self.calls.iter().filter(|call| slow.calls.binary_search(call).is_ok()).count();
        let together = self.calls.len() + slow.calls.len() - shared;
        let stands_for = slow.failed.min(self.calls.len() - shared);
        if together == 0 { 1.0 } else { (shared + stands_for) as f64 / together as f64 }
    }

    /// Bytes on the heap.
    pub(crate) fn size(&self) -> usize {
        self.calls.capacity() * size_of::<u64>()
    }
}
