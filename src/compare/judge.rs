//! Whether one service can be named, and how sure that is.

use super::Reason;
use super::analysis::Analysis;
use super::blame::{Blamed, Findings};
use super::confidence::Grounds;
use super::tree::Service;
use crate::baseline::References;

/// Of the entry span's added time, the named service must explain so much.
const LEAST_COVERAGE: f64 = 0.3;
/// The second service must be so far behind the first.
const LEAST_MARGIN: f64 = 0.1;
/// So much of the trace must be there.
const LEAST_COMPLETENESS: f64 = 0.5;
/// Clocks that differ by more of the entry span than this make an answer less sure.
const SKEW_SHARE: u64 = 20;
/// So do clocks that differ by more than this, in nanoseconds.
const SKEW_LIMIT: u64 = 1_000_000_000;
pub(super) const MILLISECOND: u64 = 1_000_000;

/// How strict "slower" is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slower {
    /// By a fifth, 10 ms and more than references vary.
    Surely,
    /// By a twentieth and 1 ms: somebody has said that this trace is slow.
    AsTold,
}

/// Inputs of a judgement.
#[derive(Clone, Copy)]
pub(crate) struct Evidence<'a> {
    pub(crate) analysis: &'a Analysis<'a>,
    pub(crate) references: &'a References,
    pub(crate) findings: &'a Findings,
    pub(crate) slower: Slower,
    pub(crate) minimum_share: f64,
}

/// The service to name, or why there is none.
pub(crate) enum Judgement<'a> {
    /// This one, and what speaks for it.
    Name(&'a Blamed, Grounds),
    /// None.
    Abstain(Why<'a>),
}

/// Why nobody is named, with what was found out on the way to that.
#[derive(Clone, Copy)]
pub(crate) enum Why<'a> {
    /// There is no more to it.
    Plain(Reason),
    /// `async_only`: streams and long polls took more of the added time than any service.
    Open,
    /// `incomplete_trace`: calls ended before their answers.
    Unanswered,
    /// `incomplete_trace`: a message was answered by a message, and nothing says whether that was waited for.
    Replies,
    /// `incomplete_trace`: this service, which always works here, has no span.
    Absent(&'a str),
    /// `incomplete_trace`: the reference lacks spans that this trace has.
    BrokenReference,
    /// `tie`: this service ran at once with the first one, and took as much longer.
    AtOnce(&'a str),
}

impl Why<'_> {
    /// The reason that the verdict states.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Why::Plain(reason) => reason,
            Why::Open => Reason::AsyncOnly,
            Why::Unanswered | Why::Replies | Why::Absent(_) | Why::BrokenReference => Reason::IncompleteTrace,
            Why::AtOnce(_) => Reason::Tie,
        }
    }
}

impl<'a> Evidence<'a> {
    /// Nanoseconds that the entry span lasted longer than the linked reference's.
    pub(crate) fn added(&self) -> u64 {
        self.analysis.ledger.duration.saturating_sub(self.references.linked.ledger.duration)
    }

    /// Nanoseconds that a service has more than in the linked reference, of what the entry span has more.
    pub(crate) fn added_by(&self, service: &Blamed) -> u64 {
        u64::try_from(service.delta.max(0)).unwrap_or(u64::MAX).min(self.added())
    }

    /// A service's score: no more than the entry span's added time can fall to it.
    pub(crate) fn score(&self, service: &Blamed) -> u64 {
        service.score.min(self.added())
    }

    /// What a service is ranked by, with the same bound.
    pub(crate) fn rank(&self, service: &Blamed) -> u64 {
        service.rank.min(self.added())
    }

    /// Whether a service added so nearly as much as the first one that which of them it is cannot be told.
    pub(crate) fn is_near(&self, service: &Blamed) -> bool {
        let first = self.findings.services.first().map_or(0, |first| self.added_by(first));
        ratio(first.saturating_sub(self.added_by(service)), first) < LEAST_MARGIN
    }

    /// Names a service or says why none can be.
    pub(crate) fn judge(&self) -> Judgement<'a> {
        if !self.is_slower(self.analysis.ledger.duration, self.references.linked.ledger.duration) {
            let (slow, fast) = (self.analysis.ledger.envelope, self.references.linked.ledger.envelope);
            return Judgement::Abstain(match self.is_slower(slow, fast) {
                true if self.is_mostly_open() => Why::Open,
                true => Why::Plain(Reason::AsyncOnly),
                false => Why::Plain(Reason::NotSlower),
            });
        }
        if self.completeness() < LEAST_COMPLETENESS {
            return Judgement::Abstain(self.incomplete());
        }
        let services = &self.findings.services;
        if self.is_mostly_open() {
            return Judgement::Abstain(Why::Open);
        }
        let Some(top) = services.first().filter(|top| top.score > 0) else {
            return Judgement::Abstain(self.or_skew(Reason::Diffuse));
        };
        if let Some(why) = self.hidden(top) {
            return Judgement::Abstain(why);
        }
        let score = self.score(top);
        let second = services.get(1).map_or(0, |second| self.rank(second));
        let share = ratio(self.rank(top), services.iter().map(|service| self.rank(service)).sum());
        let coverage = ratio(score, self.added());
        let margin = ratio(self.rank(top).saturating_sub(second), self.rank(top));
        if share < self.minimum_share.min(0.5) && margin >= LEAST_MARGIN {
            return Judgement::Abstain(self.or_skew(Reason::Diffuse));
        }
        if !Service::is_known(&top.name) {
            return Judgement::Abstain(Why::Plain(Reason::UnknownService));
        }
        let is_even = margin < LEAST_MARGIN;
        if is_even && self.has_skew() {
            return Judgement::Abstain(Why::Plain(Reason::ClockSkew));
        }
        if let Some(other) = self.rival(top) {
            return Judgement::Abstain(Why::AtOnce(other));
        }
        if is_even {
            return Judgement::Abstain(Why::Plain(Reason::Tie));
        }
        // The share is of what is above normal. Of the time added in all, which `root_cause.share` states, much can be
        // ordinary; but where nobody knows yet what is normal, that must bear the name out too.
        let stated = ratio(self.added_by(top), self.added());
        let is_normal_known = self.references.floors.are_known();
        let least_stated = if is_normal_known { LEAST_COVERAGE } else { self.minimum_share };
        if share < self.minimum_share || coverage < LEAST_COVERAGE || stated < least_stated {
            return Judgement::Abstain(self.or_skew(Reason::Diffuse));
        }
        Judgement::Name(top, self.grounds(top, share, margin, coverage))
    }

    /// Whether streams and long polls took more of the added time than any service.
    fn is_mostly_open(&self) -> bool {
        let open = self.findings.open.min(self.added());
        open > self.findings.services.first().map_or(0, |top| self.score(top))
    }

    fn is_slower(&self, slow: u64, fast: u64) -> bool {
        let is_longer = slow.saturating_sub(fast) > self.least_added(fast);
        let is_told = self.slower == Slower::AsTold;
        is_longer && (is_told || self.analysis.ledger.duration.max(slow) > self.references.floors.duration)
    }

    /// What must be exceeded beyond `fast` to be slower, nanoseconds.
    pub(crate) fn least_added(&self, fast: u64) -> u64 {
        match self.slower {
            Slower::Surely => (fast / 5).max(10 * MILLISECOND),
            Slower::AsTold => (fast / 20).max(MILLISECOND),
        }
    }

    /// How much of the trace is there, 0..=1.
    pub(crate) fn completeness(&self) -> f64 {
        let tree = &self.analysis.tree;
        let absent = tree.orphans + self.findings.missing;
        (1.0 - absent as f64 / tree.spans.max(1) as f64).max(0.0)
    }

    /// Nanoseconds by which clocks differ, or would have to.
    pub(crate) fn skew(&self) -> u64 {
        let tree = &self.analysis.tree;
        tree.nodes.iter().map(|node| node.adrift).fold(tree.skew, u64::max)
    }

    pub(super) fn has_skew(&self) -> bool {
        let tree = &self.analysis.tree;
        tree.skew > SKEW_LIMIT || tree.skew > self.analysis.ledger.duration / SKEW_SHARE
    }

    fn or_skew(&self, reason: Reason) -> Why<'a> {
        Why::Plain(if self.has_skew() { Reason::ClockSkew } else { reason })
    }
}

/// 0 where there is nothing to divide by.
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
