//! The critical path: for every moment of the entry span, the one span that was working while all above it waited.
//!
//! Swept backwards from each span's end. Of the calls that were running, the earliest begun takes the time back to
//! its start; where none was running, the time is the span's own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::column::Column;
use super::tree::{Children, Tree};

/// How much of the entry span's time falls to each span.
#[derive(Debug)]
pub(crate) struct Path {
    /// Nanoseconds of the entry span that each node spent itself; they add up to the entry span's duration.
    pub(crate) own: Column<u64>,
    /// Nanoseconds that each node spent itself, on the path or not: its duration without those of what it waited for.
    pub(crate) alone: Column<u64>,
    /// The part of each node that lies on the path.
    pub(crate) windows: Column<Option<Window>>,
    children: Children,
}

/// From, until.
pub(crate) type Window = (i64, i64);

impl Path {
    /// Sweeps every node of `tree`: O(k log k) for k calls of one span, no recursion.
    pub(crate) fn of(tree: &Tree<'_>) -> Self {
        let nodes = &tree.nodes;
        let mut children = Children::of(nodes.iter().map(|node| node.parent));
        for number in 0..nodes.length() {
            children.of_parent_mut(number).sort_unstable_by_key(|child| Reverse(nodes[*child].end));
        }
        let count = nodes.as_slice().len();
        let mut path = Self {
            own: Column::filled(0, count),
            alone: Column::filled(0, count),
            windows: Column::filled(None, count),
            children,
        };
        let entry = tree.entry();
        if nodes.length() > 0 {
            path.windows[0] = Some((entry.start, entry.end));
        }
        let mut running = BinaryHeap::new();
        // Parents stand before their children, so each window is known when its node is reached.
        for number in 0..nodes.length() {
            let whole = (nodes[number].start, nodes[number].end);
            let window = path.windows[number];
            if let Some(window) = window {
                let mut own = 0;
                let Self { windows, children, .. } = &mut path;
                sweep(tree, children.of_parent(number), window, &mut running, |piece| match piece {
                    Piece::Own(window) => own += length(window),
                    Piece::Call(child, window) => windows[child] = Some(window),
                });
                path.own[number] = own;
            }
            path.alone[number] = if window == Some(whole) {
                path.own[number]
            } else {
                let mut alone = 0;
                sweep(tree, path.children.of_parent(number), whole, &mut running, |piece| {
                    if let Piece::Own(window) = piece {
                        alone += length(window);
                    }
                });
                alone
            };
        }
        path
    }

    /// The stretches in which a node on the path worked itself, the last first.
    pub(crate) fn own_windows(&self, tree: &Tree<'_>, number: u32) -> Vec<Window> {
        let mut own = Vec::new();
        if let Some(window) = self.windows[number] {
            sweep(tree, self.children.of_parent(number), window, &mut BinaryHeap::new(), |piece| {
                if let Piece::Own(window) = piece {
                    own.push(window);
                }
            });
        }
        own
    }
}

fn length((from, until): Window) -> u64 {
    u64::try_from(until - from).unwrap_or(0)
}

enum Piece {
    Own(Window),
    Call(u32, Window),
}

/// What runs at the moment the sweep has reached: the earliest start first; among equals content decides,
/// the span id only between spans that are otherwise the same.
type Running = BinaryHeap<Reverse<(i64, u64, u64, u8, Option<crate::otlp::SpanId>, u32)>>;

fn sweep(
    tree: &Tree<'_>,
    by_end: &[u32],
    (from, until): Window,
    running: &mut Running,
    mut emit: impl FnMut(Piece),
) {
    running.clear();
    let mut waiting = by_end.iter().copied().filter(|child| tree.nodes[*child].is_blocking).peekable();
    let mut now = until;
    while now > from {
        while let Some(child) = waiting.next_if(|child| tree.nodes[*child].end >= now) {
            let node = &tree.nodes[child];
            if node.start < now {
                let service = tree.service(node).id;
                running.push(Reverse((
                    node.start,
                    service,
                    node.name,
                    node.kind as u8,
                    tree.span_id(node),
                    child,
                )));
            }
        }
        if let Some(Reverse((start, .., child))) = running.pop() {
            if start < now {
                let start = start.max(from);
                emit(Piece::Call(child, (start, now)));
                now = start;
            } else {
                // All others began later still, and the sweep only goes back.
                running.clear();
            }
            continue;
        }
        match waiting.peek().map(|child| tree.nodes[*child].end).filter(|end| *end > from) {
            Some(end) => {
                emit(Piece::Own((end, now)));
                now = end;
            }
            None => break,
        }
    }
    if now > from {
        emit(Piece::Own((from, now)));
    }
}
