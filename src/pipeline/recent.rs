//! The latest decisions and verdicts, for whoever asks why a trace was kept or dropped.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Analysis, Pipeline};
use crate::assemble::{Decision, HeldTrace};
use crate::decide::{Judged, RouteReport};
use crate::otlp::{Nanos, TraceId};
use crate::telemetry::metrics::{Decided, Trigger};

/// So many kept traces are remembered at most, and as many dropped ones: neither kind displaces the other.
const DECISIONS: usize = 8_192;

/// So many verdicts are remembered whole at most.
const VERDICTS: usize = 256;

/// What a verdict takes in bytes, about.
const VERDICT_SIZE: usize = 2_048;

/// What was decided for a trace, and by what.
#[derive(Clone, Copy, Debug)]
pub struct RecentDecision {
    /// The trace.
    pub id: TraceId,
    /// When, in nanoseconds since the Unix epoch.
    pub at: Nanos,
    /// Why then.
    pub trigger: Trigger,
    /// How many spans it had.
    pub spans: u32,
    /// What became of it; in a dry run what would have.
    pub decided: Decided,
    /// Whether it was forwarded, and with which stamp.
    pub decision: Decision,
    /// The grounds.
    pub judged: Option<Judged>,
}

/// A verdict with the names that it needs to be read.
#[derive(Clone, Debug)]
pub struct RecentVerdict {
    /// When, in nanoseconds since the Unix epoch.
    pub at: Nanos,
    /// `SERVICE ROUTE`.
    pub route: String,
    /// The verdict.
    pub analysis: Analysis,
}

/// What is known of a trace that was decided.
#[derive(Clone, Debug)]
pub struct Explained {
    /// What was decided for it.
    pub decision: RecentDecision,
    /// The verdict on it.
    pub verdict: Option<RecentVerdict>,
    /// Whether it was dropped, and a copy of it was forwarded all the same, because a verdict cites it.
    pub is_forwarded_as_reference: bool,
}

/// What is known of a route, and how many references it has.
#[derive(Clone, Debug)]
pub struct RouteNow {
    /// What is known.
    pub report: RouteReport,
    /// Its references.
    pub references: u64,
}

impl Pipeline {
    /// What is known of each route.
    pub fn routes(&self) -> Vec<RouteNow> {
        let reports = self.decider.reports().into_iter();
        reports
            .map(|report| RouteNow { references: self.comparer.references_of(report.id), report })
            .collect()
    }

    /// The latest verdicts, at most `count`, the newest first.
    pub fn verdicts(&self, count: usize) -> Vec<RecentVerdict> {
        self.recent.verdicts(count)
    }

    /// What is known of a trace that is not decided yet.
    pub fn find_held(&self, id: TraceId) -> Option<HeldTrace> {
        self.assembler.find(id)
    }

    /// What was decided for a trace, while it is remembered, and what came of it.
    pub fn explain(&self, id: TraceId) -> Option<Explained> {
        let decision = self.recent.decision(id)?;
        // A trace that was kept is remembered as forwarded too, so that no copy of it follows.
        let is_forwarded_as_reference = decision.decision == Decision::Dropped && self.forwarded.contains(id);
        Some(Explained { decision, verdict: self.recent.verdict(id), is_forwarded_as_reference })
    }
}

/// Bounded memory of what was decided last.
#[derive(Debug)]
pub(super) struct Recent {
    /// Std mutexes: taken once a lot, and once a verdict.
    kept: Mutex<VecDeque<RecentDecision>>,
    dropped: Mutex<VecDeque<RecentDecision>>,
    verdicts: Mutex<VecDeque<RecentVerdict>>,
    /// How many of each are remembered.
    decision_limit: usize,
    verdict_limit: usize,
}

impl Recent {
    /// Remembers what fits so many bytes.
    pub(super) fn within(bytes: u64) -> Self {
        let places = |bytes: u64, size: usize| usize::try_from(bytes).unwrap_or(usize::MAX) / size;
        let decisions = places(bytes / 4 * 3, 2 * size_of::<RecentDecision>());
        // A queue grows by doubling, from four.
        let decision_limit = if decisions < 4 { 0 } else { DECISIONS.min(1 << decisions.ilog2()) };
        let verdict_limit = VERDICTS.min(places(bytes / 4, VERDICT_SIZE));
        Self {
            kept: Mutex::default(),
            dropped: Mutex::default(),
            verdicts: Mutex::default(),
            decision_limit,
            verdict_limit,
        }
    }

    /// Remembers the decisions of one lot.
    pub(super) fn note(&self, decisions: impl Iterator<Item = RecentDecision>) {
        let (mut kept, mut dropped) = (lock(&self.kept), lock(&self.dropped));
        for decision in decisions {
            match decision.decision {
                Decision::Kept(_) => push(&mut kept, decision, self.decision_limit),
                Decision::Dropped => push(&mut dropped, decision, self.decision_limit),
            }
        }
    }

    /// Remembers a verdict.
    pub(super) fn note_verdict(&self, at: Nanos, route: &str, analysis: &Analysis) {
        let verdict = RecentVerdict { at, route: route.to_owned(), analysis: analysis.clone() };
        push(&mut lock(&self.verdicts), verdict, self.verdict_limit);
    }

    /// The latest decision on a trace.
    pub(super) fn decision(&self, id: TraceId) -> Option<RecentDecision> {
        [&self.kept, &self.dropped]
            .into_iter()
            .find_map(|decisions| lock(decisions).iter().rev().find(|decision| decision.id == id).copied())
    }

    /// The verdict on a trace.
    pub(super) fn verdict(&self, id: TraceId) -> Option<RecentVerdict> {
        lock(&self.verdicts).iter().rev().find(|verdict| verdict.analysis.id == id).cloned()
    }

    /// The latest verdicts, at most `count`, the newest first.
    pub(super) fn verdicts(&self, count: usize) -> Vec<RecentVerdict> {
        lock(&self.verdicts).iter().rev().take(count).cloned().collect()
    }

    /// Bytes taken, those of verdicts about.
    pub(super) fn used_bytes(&self) -> u64 {
        let decisions = lock(&self.kept).capacity() + lock(&self.dropped).capacity();
        (decisions * size_of::<RecentDecision>() + lock(&self.verdicts).len() * VERDICT_SIZE) as u64
    }
}

fn push<T>(ring: &mut VecDeque<T>, value: T, limit: usize) {
    if ring.len() >= limit {
        ring.pop_front();
    }
    if ring.len() < limit {
        ring.push_back(value);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks; if it did, what they guard would still be whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::Kept;
    use crate::telemetry::metrics::Class;

    fn decision(number: u64, decision: Decision) -> RecentDecision {
        RecentDecision {
            id: id(number),
            at: number,
            trigger: Trigger::Root,
            spans: 1,
            decided: Decided::Healthy,
            decision,
            judged: None,
        }
    }

    fn id(number: u64) -> TraceId {
        TraceId::from_slice(&[[7; 8], number.to_be_bytes()].concat()).expect("not zero")
    }

    #[test]
    fn dropped_traces_do_not_displace_kept_ones_and_both_are_bounded() {
        let recent = Recent::within(1 << 30);
        let kept = Decision::Kept(Kept { class: Class::Slow, stamp: None });
        recent.note([decision(0, kept)].into_iter());
        recent.note((1..100_000).map(|number| decision(number, Decision::Dropped)));
        assert_eq!(recent.decision(id(0)).map(|decision| decision.at), Some(0));
        assert!(recent.decision(id(1)).is_none());
        assert!(recent.decision(id(99_999)).is_some());
        assert!(recent.used_bytes() < 3 << 20, "{}", recent.used_bytes());
    }

    #[test]
    fn with_little_memory_less_is_remembered() {
        for bytes in [0, 1, 1_000, 10_000, 100_000, 700_000, 2_000_000] {
            let recent = Recent::within(bytes);
            recent.note((1..20_000).map(|number| decision(number, Decision::Dropped)));
            let kept = Decision::Kept(Kept { class: Class::Slow, stamp: None });
            recent.note((1..20_000).map(|number| decision(number, kept)));
            let used = recent.used_bytes();
            assert!(used <= bytes && (bytes < 10_000 || used > bytes / 5), "{used} of {bytes}");
        }
    }
}
