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
    let mut wholes = Column::with_capacity(nodes.as_slice().len());
    let mut open = StillOpen::default();
    let mut largest = 0;
    for number in 0..nodes.length() {
        let node = nodes[number];
        if number == 0 {
            shifts.push(0);
            wholes.push(Whole { start: node.start, end: node.end, limit: FAR });
            open.push_entry();
            continue;
        }
        let caller = nodes[node.caller];
        let whole_caller: Whole = wholes[node.caller];
        let inherited: i64 = shifts[node.caller];
        let placed = place(&node, caller.kind, whole_caller, inherited);
        largest = largest.max(placed.correction);
        shifts.push(placed.shift);
        let is_message = caller.kind == Kind::Producer || node.kind == Kind::Consumer;
        let waits_for_answer = node.is_remote && caller.kind == Kind::Client && !is_message;
        // A helper span that was closed too early still hands its children to whoever is open around it.
        let parent = if placed.start >= whole_caller.end && !is_message && !waits_for_answer {
            open.nearest(&wholes, node.caller, placed.start)
        } else {
            node.caller
        };
        let parent = if parent == NONE { node.caller } else { parent };
        let whole_parent = wholes[parent];
        let is_blocking = !is_message
            && (waits_for_answer || was_waited_for(placed.start, placed.end, whole_parent))
            // What is done for a caller that has given up is done for nobody.
            && placed.start < whole_parent.limit;
        let limit = match (is_blocking, placed.is_cut) {
            (false, _) => FAR,
            (true, false) => whole_parent.limit,
            (true, true) => whole_parent.limit.min(caller.end),
        };
        wholes.push(Whole { start: placed.start, end: placed.end, limit });
        let settled = &mut nodes[number];
        settled.parent = parent;
        settled.is_cut = placed.is_cut;
        settled.is_blocking = is_blocking;
        settled.start = if placed.is_cut { caller.start } else { placed.start };
        settled.end = placed.end.min(limit).max(settled.start);
        open.push(&wholes, number, node.caller);
    }
    largest
}

/// When a span ran, and how long anybody waited for it: a caller that gives up does so for all that is done for it.
#[derive(Clone, Copy)]
struct Whole {
    start: i64,
    end: i64,
    limit: i64,
}

struct Placed {
    start: i64,
    end: i64,
    shift: i64,
    correction: u64,
    is_cut: bool,
}

fn place(node: &Node, kind: Kind, caller: Whole, inherited: i64) -> Placed {
    // Clamped, so that absurd times at any depth cannot add up beyond an i64.
    let at = |shift: i64, correction: i64| Placed {
        start: (node.start + shift).clamp(-FAR, FAR),
        end: (node.end + shift).clamp(-FAR, FAR),
        shift,
        correction: correction.unsigned_abs(),
        is_cut: false,
    };
    let is_message = kind == Kind::Producer || node.kind == Kind::Consumer;
    if !node.is_remote || is_message {
        return at(inherited, 0);
    }
    let fits = node.end - node.start <= caller.end - caller.start;
    if kind != Kind::Client {
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
    // Too long, and the client did wait: until the answer or until it gave up.
    Placed { is_cut: !fits, ..at(shift, correction) }
}

/// A parent cannot have waited for what began after its end, or went on well after it.
fn was_waited_for(start: i64, end: i64, parent: Whole) -> bool {
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

    fn push(&mut self, wholes: &Column<Whole>, number: u32, caller: u32) {
        let later = self.nearest(wholes, caller, wholes[number].end);
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
    fn nearest(&self, wholes: &Column<Whole>, from: u32, moment: i64) -> u32 {
        let mut at = from;
        loop {
            if wholes[at].end > moment {
                return at;
            }
            let jump = self.jump[at];
            // Ends only grow along the chain, so nothing is missed below a jump that does not end after it.
            at = if jump != at && wholes[jump].end <= moment { jump } else { self.later[at] };
            if wholes[at].end <= moment && self.later[at] == at {
                return NONE;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::compare::Category;
    use crate::compare::testing::{TraceSpec, culprit_of, verdict_of};

    const MS: i64 = 1000;

    /// web asks cart and gives up after 100 ms; cart goes on, first asking stock for `asking` milliseconds.
    fn given_up(asking: i64) -> TraceSpec {
        let ends = asking + 20;
        let waited = ends.min(100);
        let spec = TraceSpec::default()
            .server((1, 0), ("web", "GET /"), (0, (waited + 20) * MS))
            .client((2, 1), ("web", "GET /cart"), (5 * MS, (waited + 5) * MS))
            .with(|span| span.is_error = ends > 100)
            .server((3, 2), ("cart", "GET /cart"), (6 * MS, (ends + 4) * MS))
            .client((4, 3), ("cart", "GET /stock"), (10 * MS, (asking + 10) * MS))
            .server((5, 4), ("stock", "GET /stock"), (11 * MS, (asking + 9) * MS));
        spec.client((6, 3), ("cart", "SELECT"), ((asking + 12) * MS, (ends + 2) * MS))
    }

    #[test]
    fn a_call_that_runs_on_when_a_caller_further_up_gives_up_was_waited_for_until_then() {
        let verdict = verdict_of(&[given_up(5)], &given_up(500));
        let culprit = culprit_of(&verdict);
        assert_eq!((culprit.service.as_str(), culprit.category), ("stock", Category::OwnTime));
    }

    #[test]
    fn what_begins_after_the_caller_gave_up_takes_no_time_of_anybody() {
        let slow = given_up(500).with(|span| (span.start, span.end) = (106 * MS, 119 * MS));
        let verdict = verdict_of(&[given_up(5)], &slow);
        assert_eq!(verdict.candidates.len(), 1, "{:?}", verdict.candidates);
        assert_eq!(culprit_of(&verdict).service, "stock");
    }
}
