//! Which end of a wait between two services explains it better.
//!
//! One edge cannot say which of its ends makes it slow. A slow network or a full queue at the callee makes all its
//! callers wait; a starved caller waits on all its callees; the other end's other edges stay as they were.

use std::collections::BTreeMap;

use super::traffic::{Part, Recent, WHOLE};

/// Fewer recent calls on an edge say nothing about it.
const ENOUGH_CALLS: f64 = 10.0;

/// Bytes of an edge here.
pub(super) const EDGE_SIZE: usize = size_of::<Edge>();

/// An edge on which calls wait a fifth as much too long as on another speaks as loudly as that one; below it less:
/// a caller that is starved of 5 s is not the one whose other calls are 1 ms late.
const AS_LOUD: u128 = 5;

/// The edges of one trace, or of all traffic where they were called often enough of late.
#[derive(Debug, Default)]
pub(crate) struct Edges {
    /// Ordered by caller and callee.
    edges: Vec<Edge>,
    /// Whether a caller is suspected only for what its other edges show: in one trace there is always one that is
    /// odd, which says nothing of its ends.
    caller_needs_witness: bool,
}

#[derive(Debug)]
struct Edge {
    caller: u64,
    callee: u64,
    oddness: Part,
    /// Nanoseconds above what is normal, of the mean call.
    excess: u64,
}

/// Edges of one service in one direction, or all: how many, and their oddness together.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    count: u64,
    odd: u64,
}

/// How much of a wait could be whose, in millionths; both can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) caller: Part,
    pub(crate) callee: Part,
}

impl Ends {
    /// What the traffic says, as far as it finds this edge odd, and for the rest what the trace itself says: when a
    /// fault begins, and where it strikes one call of many, the traffic does not know of it.
    pub(crate) fn with(self, trace: Self, oddness: Part) -> Self {
        let mixed = |traffic: Part, trace: Part| (traffic * oddness + trace * (WHOLE - oddness)) / WHOLE;
        Self { caller: mixed(self.caller, trace.caller), callee: mixed(self.callee, trace.callee) }
    }
}

impl Edges {
    /// The waits of one trace: caller, callee, how much too long they were in all, in nanoseconds, and how many.
    pub(crate) fn of_trace(waits: impl Iterator<Item = ((u64, u64), u64, u64)>) -> Self {
        let mut edges: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
        for (edge, excess, calls) in waits {
            let sum = edges.entry(edge).or_default();
            *sum = (sum.0.saturating_add(excess), sum.1.saturating_add(calls));
        }
        let edges = edges.into_iter().map(|((caller, callee), (excess, calls))| {
            let oddness = if excess > 0 { WHOLE } else { 0 };
            Edge { caller, callee, oddness, excess: excess / calls.max(1) }
        });
        Self { edges: edges.collect(), caller_needs_witness: true }
    }

    /// How far an edge is out of order; `None` where too few calls were seen.
    pub(crate) fn oddness(&self, caller: u64, callee: u64) -> Option<Part> {
        Some(self.find(caller, callee)?.oddness)
    }

    fn find(&self, caller: u64, callee: u64) -> Option<&Edge> {
        let at = self.edges.binary_search_by_key(&(caller, callee), |edge| (edge.caller, edge.callee));
        self.edges.get(at.ok()?)
    }

    /// From caller, callee and calls of each edge.
    pub(crate) fn of(edges: impl Iterator<Item = ((u64, u64), Recent)>) -> Self {
        let mut all: Vec<Edge> = edges
            .filter(|(_, recent)| recent.calls() >= ENOUGH_CALLS)
            .map(|((caller, callee), recent)| {
                let (oddness, excess) = (recent.oddness(), recent.excess_of_one());
                Edge { caller, callee, oddness, excess }
            })
            .collect();
        all.sort_unstable_by_key(|edge| (edge.caller, edge.callee));
        Self { edges: all, caller_needs_witness: false }
    }

    /// Whose a wait of `caller` on `callee` could be; `None` where too few calls were seen.
    pub(crate) fn ends(&self, caller: u64, callee: u64) -> Option<Ends> {
        let edge = self.find(caller, callee)?;
        let excess = u128::from(edge.excess.max(1));
        let mut all = Sum::default();
        // Into and out of the caller, and of the callee.
        let [mut caller_in, mut caller_out, mut callee_in, mut callee_out] = [Sum::default(); 4];
        for edge in &self.edges {
            let loudness =
                (u128::from(edge.excess) * AS_LOUD * u128::from(WHOLE) / excess).min(u128::from(WHOLE));
            let odd = edge.oddness * u64::try_from(loudness).unwrap_or(WHOLE) / WHOLE;
            all.add(odd);
            for (sum, is_its) in [
                (&mut caller_in, edge.callee == caller),
                (&mut caller_out, edge.caller == caller),
                (&mut callee_in, edge.callee == callee),
                (&mut callee_out, edge.caller == callee),
            ] {
                if is_its {
                    sum.add(odd);
                }
            }
        }
        let of_caller = explains(caller_in, caller_out, all);
        let of_callee = explains(callee_in, callee_out, all);
        let most = of_caller.max(of_callee).max(1);
        if self.caller_needs_witness {
            caller_out.odd -= edge.oddness;
        }
        Some(Ends {
            caller: caller_out.mean() * of_caller / most,
            callee: callee_in.mean() * of_callee / most,
        })
    }
}

impl Sum {
    fn add(&mut self, odd: Part) {
        self.count += 1;
        self.odd += odd;
    }

    fn mean(self) -> Part {
        self.odd / self.count.max(1)
    }

    fn with(self, other: Self) -> Self {
        Self { count: self.count + other.count, odd: self.odd + other.odd }
    }
}

/// How well a service explains which edges are odd: how odd its edges are, times how much of all oddness is theirs;
/// those into it, those out of it, or both.
fn explains(into: Sum, out: Sum, all: Sum) -> Part {
    let part = |sum: Sum| {
        let product = u128::from(sum.mean()) * u128::from(sum.odd) / u128::from(all.odd.max(1));
        u64::try_from(product).unwrap_or(WHOLE)
    };
    part(into).max(part(out)).max(part(into.with(out)))
}
