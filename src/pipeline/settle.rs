//! Decides one lot of due traces, ends the hold on them, and sends off what is kept.

use super::recent::RecentDecision;
use super::stamp::trace_states;
use super::{Analysis, Deliver, InLot, Outgoing, Pipeline};
use crate::assemble::{Decision, Due, DueTraces, Kept, Trace};
use crate::compare::{self, Outcome, Reason, Verdict};
use crate::decide::entry::{self, Entry};
use crate::decide::sample::Sampled;
use crate::decide::{Candidate, Judged, Judgement, RouteId, Shape};
use crate::enrich;
use crate::otlp::Nanos;
use crate::otlp::span::SpanView;
use crate::telemetry::metrics::{Class, Decided, DropReason, Tally, Trigger};

/// What was decided for one trace of a lot, and what the next steps need.
struct Settled {
    decided: Decided,
    decision: Decision,
    /// `None` for a trace that nobody could judge: it has no readable entry span.
    judged: Option<Judged>,
    /// The whole trace as it was looked at, where it was.
    looked_at: Option<(Trace, Entry)>,
}

impl Pipeline {
    /// Decides the traces of a lot and settles them under one lock; then learns from them, compares the slow ones
    /// and delivers what is kept, all in the order of the lot.
    pub(super) fn settle(&self, now: Nanos, lot: &DueTraces, deliver: Deliver<'_>) {
        if lot.traces.is_empty() {
            return;
        }
        let _moving = self.metrics.movements.begin();
        let settled: Vec<Settled> =
            lot.traces.iter().map(|due| self.decide(now, InLot { due, lot })).collect();
        let mut kept = Vec::new();
        let mut not_sampled = 0;
        let decisions = settled.iter().map(|settled| {
            (settled.decision, settled.looked_at.as_ref().map_or(0, |(trace, _)| trace.len()))
        });
        self.assembler.settle(lot, decisions, |index, spans, trace| {
            let is_copied = settled.get(index).is_some_and(|settled| settled.has_all(spans));
            if trace.is_none() && !is_copied {
                not_sampled += u64::from(spans);
            }
            kept.extend(trace.map(|trace| (index, trace)));
        });
        self.count(now, lot, &settled, not_sampled);
        self.recent.note(lot.traces.iter().zip(&settled).map(|(due, settled)| settled.recent(now, due)));
        let mut kept = kept.into_iter().peekable();
        for (index, (due, mut settled)) in lot.traces.iter().zip(settled).enumerate() {
            let trace = kept.next_if(|(kept, _)| *kept == index).map(|(_, trace)| trace);
            self.learn(now, &settled);
            let looked_at = settled.looked_at.take().map(|(trace, _)| trace);
            if let Decision::Kept(_) = settled.decision
                && let Some(trace) = trace.or(looked_at)
            {
                self.send(now, due.trigger, &settled, trace, deliver);
            }
        }
    }

    /// Counts the decisions of a lot, and the spans that are dropped by them.
    fn count(&self, now: Nanos, lot: &DueTraces, settled: &[Settled], not_sampled: u64) {
        self.metrics.dropped_spans.add(DropReason::NotSampled, not_sampled);
        let (mut triggers, mut decided) = (Tally::default(), Tally::default());
        let mut of_other_routes = 0;
        for (due, settled) in lot.traces.iter().zip(settled) {
            triggers.add(due.trigger, 1);
            decided.add(settled.decided, 1);
            of_other_routes += u64::from(settled.judged.is_some_and(|judged| judged.route == RouteId::OTHER));
        }
        self.metrics.other_route_traces.increment(of_other_routes);
        self.metrics.decisions.add_all(&triggers);
        self.metrics.traces.add_all(&decided);
        let lateness = lot.traces.iter().map(|due| now.saturating_sub(due.due_at));
        self.metrics.decision_lateness.record(lateness);
    }

    fn decide(&self, now: Nanos, InLot { due, lot }: InLot<'_>) -> Settled {
        let mut looked = None;
        // Judged by its root alone, if that is enough.
        if let Some(duration) = due.root
            && let Some(span) = SpanView::read(lot.root_span(due))
        {
            let candidate = Candidate {
                id: due.id,
                service: lot.service(due),
                span,
                duration,
                has_error: due.has_error,
                has_root: true,
                is_fragment: false,
            };
            match self.decider.judge(now, &candidate, Shape::Unknown) {
                Judgement::Decided(judged) => {
                    let settled = self.sampled(judged, due.id, std::iter::once(span.trace_state()), None);
                    // What the root's word drops is dropped whatever its other spans say. What it keeps is stamped with
                    // the highest threshold of all, also where the root itself has none.
                    if !settled.is_stamped() {
                        return settled;
                    }
                    let Some(trace) = self.assembler.copy(lot, due) else { return settled };
                    let Some(entry) = entry::find(&trace) else { return settled };
                    let states = trace_states(&trace, entry.span);
                    let states = states.iter().map(Vec::as_slice);
                    return self.sampled(judged, due.id, states, Some((trace, entry)));
                }
                Judgement::Look { is_sampled } => looked = Some(is_sampled),
            }
        }
        let Some(trace) = self.assembler.copy(lot, due) else { return Settled::unreadable() };
        let Some(entry) = entry::find(&trace) else { return Settled::unreadable() };
        let Some(span) = trace.span(entry.span) else { return Settled::unreadable() };
        // A root that does not say when it was is no better than none.
        let is_untimed = !span.head.has_credible_times();
        let has_root = entry.has_root && !is_untimed;
        let candidate = Candidate {
            id: due.id,
            service: trace.service_of(entry.span),
            span,
            duration: if has_root { span.head.duration() } else { entry.envelope },
            has_error: span.head.is_error || trace.heads().any(|head| head.is_error && head.kind.is_entry()),
            has_root,
            is_fragment: is_untimed || (!has_root && entry.absent_parents > 1),
        };
        // Of a client's root nobody has asked yet whether learning looks at it; without any root it does not.
        let known = |is_sampled| Shape::Known { shape: compare::shape(&trace, entry.span).0, is_sampled };
        let shape = match looked {
            Some(is_sampled) => known(is_sampled),
            None if candidate.has_root => Shape::Unknown,
            None => known(false),
        };
        let judged = match self.decider.judge(now, &candidate, shape) {
            Judgement::Look { is_sampled } => self.decider.judge(now, &candidate, known(is_sampled)),
            decided @ Judgement::Decided(_) => decided,
        };
        // A known shape is decided.
        let Judgement::Decided(judged) = judged else { return Settled::unreadable() };
        let states = match judged.decided {
            Decided::Healthy | Decided::Error => trace_states(&trace, entry.span),
            _ => Vec::new(),
        };
        self.sampled(judged, due.id, states.iter().map(Vec::as_slice), Some((trace, entry)))
    }

    fn sampled<'a>(
        &self,
        judged: Judged,
        id: crate::otlp::TraceId,
        trace_states: impl Iterator<Item = &'a [u8]>,
        looked_at: Option<(Trace, Entry)>,
    ) -> Settled {
        let class = match judged.decided {
            Decided::Slow => Class::Slow,
            Decided::Error => Class::Error,
            Decided::Learning => Class::Learning,
            Decided::Healthy | Decided::Dropped => Class::Healthy,
        };
        let (decided, decision) = match self.decider.sample(id, judged.decided, trace_states) {
            Sampled::Kept { stamp } => {
                let stamp = stamp.filter(|_| !self.dry_run);
                (judged.decided, Decision::Kept(Kept { class, stamp }))
            }
            Sampled::Dropped if self.dry_run => {
                (Decided::Dropped, Decision::Kept(Kept { class, stamp: None }))
            }
            Sampled::Dropped => (Decided::Dropped, Decision::Dropped),
        };
        Settled { decided, decision, judged: Some(judged), looked_at }
    }

    fn learn(&self, now: Nanos, settled: &Settled) {
        let (Some(judged), Some((trace, entry))) = (&settled.judged, &settled.looked_at) else { return };
        if !judged.is_sampled {
            return;
        }
        let is_reference = judged.is_reference && judged.route != RouteId::OTHER;
        if let Decision::Kept(_) = settled.decision
            && is_reference
        {
            self.forwarded.is_first(trace.id());
        }
        self.comparer.learn(now, judged.route, trace, entry.span, is_reference);
    }

    /// Enriches a kept trace and delivers it, behind the reference that its verdict points to.
    fn send(&self, now: Nanos, trigger: Trigger, settled: &Settled, mut trace: Trace, deliver: Deliver<'_>) {
        let Decision::Kept(kept) = settled.decision else { return };
        if let Some(stamped) = kept.stamp {
            self.stamp(&mut trace, stamped);
        }
        let mut entry_service = String::new();
        let analysis = settled.judged.filter(|judged| judged.is_notable).and_then(|judged| {
            // Spans may have come since it was looked at.
            let entry = entry::find(&trace)?;
            entry_service = String::from_utf8_lossy(trace.service_of(entry.span)).into_owned();
            let verdict = self.verdict(now, trigger, &judged, &trace, &entry);
            let enriched = enrich::write(&mut trace, entry.span, &verdict, &self.enrich);
            debug_assert!(enriched.is_ok(), "a held span was read before");
            Some(Analysis { id: trace.id(), route: judged.route, verdict })
        });
        if let Some(analysis) = &analysis {
            let reason = match &analysis.verdict.outcome {
                Outcome::Identified(culprit) => {
                    self.metrics.root_causes.add(&entry_service, culprit);
                    None
                }
                Outcome::Inconclusive(reason) => Some(*reason),
            };
            self.metrics.verdicts.add(reason, 1);
            self.recent.note_verdict(now, &self.route_name(analysis.route), analysis);
            self.send_reference(&analysis.verdict, deliver);
        }
        deliver(Outgoing { trace, class: kept.class, is_reference: false, analysis });
    }

    fn verdict(
        &self,
        now: Nanos,
        trigger: Trigger,
        judged: &Judged,
        trace: &Trace,
        entry: &Entry,
    ) -> Verdict {
        let threshold = judged.threshold.unwrap_or(0);
        let inconclusive = |reason| compare::without_references(trace, entry.span, threshold, reason);
        match trigger {
            Trigger::Memory if !entry.has_root => inconclusive(Reason::Overload),
            Trigger::Size => inconclusive(Reason::LimitExceeded),
            _ if !entry.has_root => inconclusive(Reason::IncompleteTrace),
            _ if judged.decided == Decided::Learning => inconclusive(Reason::NoBaseline),
            _ => self.comparer.compare(now, judged.route, trace, entry.span, threshold),
        }
    }

    fn send_reference(&self, verdict: &Verdict, deliver: Deliver<'_>) {
        let Some(reference) = verdict.baseline.as_ref().filter(|_| self.send_references && !self.dry_run)
        else {
            return;
        };
        let Some(trace) = self.comparer.reference(reference.trace_id) else { return };
        if !self.forwarded.is_first(reference.trace_id) {
            return;
        }
        let mut copy = Trace::clone(&trace);
        let entry = (0..copy.len())
            .find(|span| copy.span(*span).is_some_and(|span| span.head.span_id == reference.span_id));
        if let Some(entry) = entry
            && enrich::mark_reference(&mut copy, entry).is_ok()
        {
            deliver(Outgoing { trace: copy, class: Class::Healthy, is_reference: true, analysis: None });
        }
    }
}

impl Settled {
    fn is_stamped(&self) -> bool {
        matches!(self.decision, Decision::Kept(Kept { stamp: Some(_), .. }))
    }

    fn recent(&self, now: Nanos, due: &Due) -> RecentDecision {
        RecentDecision {
            id: due.id,
            at: now,
            trigger: due.trigger,
            spans: due.spans,
            decided: self.decided,
            decision: self.decision,
            judged: self.judged,
        }
    }

    /// Whether it is kept, and the copy that was looked at has all its spans.
    fn has_all(&self, spans: u32) -> bool {
        let looked_at = self.looked_at.as_ref().is_some_and(|(trace, _)| trace.len() == spans as usize);
        looked_at && self.decision != Decision::Dropped
    }

    /// A held trace always has spans that were read before, so this is never met; if it is, the trace is kept.
    fn unreadable() -> Self {
        debug_assert!(false, "a held trace has an entry span");
        Self {
            decided: Decided::Learning,
            decision: Decision::Kept(Kept { class: Class::Learning, stamp: None }),
            judged: None,
            looked_at: None,
        }
    }
}
