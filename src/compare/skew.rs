//! Brings clocks into line and says who waited for whom.
//!
//! Between two processes only durations can be trusted. A remote span is moved by the least that puts it inside
//! the client span which waited for it; what runs below it moves along.

use super::column::Column;
use super::tree::{FAR, NONE, Node};
use crate::otlp::span::Kind;

/// Settles start, end, parent and the flags of every node, callers first. Returns the largest correction between
/// two clocks, in nanoseconds.
pub(crate) fn settle(nodes: &mut Column<Node>) -> u64 {
    let mut shifts = Column::with_capacity(nodes.as_slice().len());
    let mut open = StillOpen::default();
    let mut largest = 0;
    for number in 0..nodes.length() {
        if number == 0 {
            shifts.push(0);
            open.push_entry();
            continue;
        }
        let node = nodes[number];
        let caller = nodes[node.caller];
        let inherited: i64 = shifts[node.caller];
        let placed = place(&node, &caller, inherited);
        largest = largest.max(placed.correction);
        shifts.push(placed.shift);
        let is_message = caller.kind == Kind::Producer || node.kind == Kind::Consumer;
        let waits_for_answer = node.is_remote && caller.kind == Kind::Client && !is_message;
        // A helper span that was closed too early still hands its children to whoever is open around it.
        let parent = if placed.start >= caller.end && !is_message && !waits_for_answer {
            open.nearest(nodes, node.caller, placed.start)
        } else {
            node.caller
        };
        let settled = &mut nodes[number];
        (settled.start, settled.end, settled.is_cut) = (placed.start, placed.end, placed.is_cut);
        settled.parent = if parent == NONE { node.caller } else { parent };
        let parent = nodes[nodes[number].parent];
        nodes[number].is_blocking =
            !is_message && (waits_for_answer || was_waited_for(placed.start, placed.end, &parent));
        open.push(nodes, number, node.caller);
    }
    largest
}

struct Placed {
    start: i64,
    end: i64,
    shift: i64,
    correction: u64,
    is_cut: bool,
}

fn place(node: &Node, caller: &Node, inherited: i64) -> Placed {
    // Clamped, so that absurd times at any depth cannot add up beyond an i64.
    let at = |shift: i64, correction: i64| Placed {
        start: (node.start + shift).clamp(-FAR, FAR),
        end: (node.end + shift).clamp(-FAR, FAR),
        shift,
        correction: correction.unsigned_abs(),
        is_cut: false,
    };
    let is_message = caller.kind == Kind::Producer || node.kind == Kind::Consumer;
    if !node.is_remote || is_message {
        return at(inherited, 0);
    }
    let fits = node.end - node.start <= caller.end - caller.start;
    if caller.kind != Kind::Client {
        // Without a client span only a start before its caller's is surely the clock's fault.
        let early = caller.start - (node.start + inherited);
        return if early > 0 && fits { at(inherited + early, early) } else { at(inherited, 0) };
    }
    // Its host may share the caller's host's error or have none: whichever needs less correction is right.
    let correction = |shift: i64| {
        let (start, end) = (node.start + shift, node.end + shift);
        let (first, second) = if fits { (start, end) } else { (end, start) };
        // Fitting: start no earlier and end no later. Too long: it must cover the client span instead.
        let (first_bound, second_bound) =
            if fits { (caller.start, caller.end) } else { (caller.end, caller.start) };
        if first < first_bound {
            first_bound - first
        } else if second > second_bound {
            second_bound - second
        } else {
            0
        }
    };
    let (raw, moved) = (correction(0), correction(inherited));
    let (shift, correction) = if raw.abs() < moved.abs() { (raw, raw) } else { (inherited + moved, moved) };
    if fits {
        at(shift, correction)
    } else {
        // The client did wait, until the answer or until it gave up.
        Placed {
            start: caller.start,
            end: caller.end,
            shift,
            correction: correction.unsigned_abs(),
            is_cut: true,
        }
    }
}

/// A parent cannot have waited for what began after its end, or went on well after it.
fn was_waited_for(start: i64, end: i64, parent: &Node) -> bool {
    const TOLERANCE: i64 = 1_000_000;
    let slack = TOLERANCE.max((parent.end - parent.start) / 100);
    start < parent.end && end <= parent.end + slack
}

/// Finds the nearest ancestor that ends after a given moment, in logarithmic time at any depth: each node
/// points to its nearest ancestor that ends later than itself, and far up that chain (Myers' skew-binary jumps).
#[derive(Default)]
struct StillOpen {
    later: Column<u32>,
    jump: Column<u32>,
    depth: Column<u32>,
}

impl StillOpen {
    fn push_entry(&mut self) {
        self.later.push(0);
        self.jump.push(0);
        self.depth.push(0);
    }

    fn push(&mut self, nodes: &Column<Node>, number: u32, caller: u32) {
        let later = self.nearest(nodes, caller, nodes[number].end);
        if later == NONE {
            self.later.push(number);
            self.jump.push(number);
            self.depth.push(0);
            return;
        }
        let jump = self.jump[later];
        let equal_steps =
            self.depth[later] - self.depth[jump] == self.depth[jump] - self.depth[self.jump[jump]];
        self.later.push(later);
        self.jump.push(if equal_steps { self.jump[jump] } else { later });
        self.depth.push(self.depth[later] + 1);
    }

    /// The nearest of `from` and its ancestors that ends after `moment`.
    fn nearest(&self, nodes: &Column<Node>, from: u32, moment: i64) -> u32 {
        let mut at = from;
        loop {
            if nodes[at].end > moment {
                return at;
            }
            let jump = self.jump[at];
            // Ends only grow along the chain, so nothing is missed below a jump that does not end after it.
            at = if jump != at && nodes[jump].end <= moment { jump } else { self.later[at] };
            if nodes[at].end <= moment && self.later[at] == at {
                return NONE;
            }
        }
    }
}
