//! Where a trace does not show what took the time: spans that never came, answers that outlive their calls, messages that
//! were answered by messages, clocks that nobody can set right. Nobody is named for what may be another's.

use super::Category;
use super::Reason;
use super::blame::Blamed;
use super::judge::{Evidence, MILLISECOND, Why};
use super::tree::Tree;
use crate::otlp::span::Kind;

/// A message that comes back over more services than this is no reply.
const LONGEST_ROUND_TRIP: usize = 64;

impl<'a> Evidence<'a> {
    /// Why what looks like the top service's time may be another's, if it may.
    pub(super) fn hidden(&self, top: &Blamed) -> Option<Why<'a>> {
        if self.rests_on_missing_answer(top) {
            return Some(self.incomplete());
        }
        match top.category {
            Category::OwnTime => self.hidden_own_time(top),
            Category::NewPath | Category::ExtraCalls => {
                self.rests_on_a_broken_reference().then_some(Why::BrokenReference)
            }
            Category::NetworkQueue | Category::Dependency => {
                self.is_below_an_answer_nobody_awaited(top).then_some(Why::Unanswered)
            }
            _ => None,
        }
    }

    /// The same of what looks like the service's own time.
    fn hidden_own_time(&self, top: &Blamed) -> Option<Why<'a>> {
        if self.may_be_work_astray(top) {
            return Some(self.incomplete());
        }
        if let Some(absent) = self.absent_below(top) {
            return Some(Why::Absent(absent));
        }
        if self.may_be_answers() {
            return Some(Why::Unanswered);
        }
        if self.may_be_replies(top) {
            return Some(Why::Replies);
        }
        self.may_be_adrift(top).then_some(Why::Plain(Reason::ClockSkew))
    }

    /// Why a trace that lacks spans cannot be judged.
    pub(super) fn incomplete(&self) -> Why<'a> {
        if self.may_be_answers() { Why::Unanswered } else { Why::Plain(Reason::IncompleteTrace) }
    }

    /// The answer that says most about the top score was given by a span that never came, and nothing says why.
    fn rests_on_missing_answer(&self, top: &Blamed) -> bool {
        !matches!(top.category, Category::Timeout | Category::Retry)
            && self.findings.row_of(top).is_some_and(|row| row.misses_answer)
    }

    /// Spans whose parents never came took so long that what looks like the service's own time may be theirs.
    fn may_be_work_astray(&self, top: &Blamed) -> bool {
        self.analysis.tree.astray >= self.score(top).div_ceil(2)
    }

    /// Who always works below the top service, without a client span in between, and here has no span: whether it was not
    /// asked, or its span is lost and the time was its, nothing says.
    fn absent_below(&self, top: &Blamed) -> Option<&'a str> {
        let Self { findings, references, .. } = self;
        let own = findings.rows.iter().filter(|row| {
            row.rest.service == top.id && row.rest.category == Category::OwnTime && row.rest.time > 0
        });
        let (mut hidden, mut who) = (0_u64, None);
        for row in own {
            let absent = findings.absent.iter().find(|absent| absent.around == row.reference_key);
            if let Some(absent) = absent {
                hidden = hidden.saturating_add(row.rest.time);
                who = who.or_else(|| references.linked.ledger.service_name(absent.service));
            }
        }
        who.filter(|_| hidden >= self.score(top).div_ceil(2))
    }

    /// Calls that the reference does not show may be calls whose spans it lacks: it has broken ones, more than this trace.
    fn rests_on_a_broken_reference(&self) -> bool {
        let linked = &self.references.linked.ledger;
        !self.references.floors.are_known() && linked.broken > self.analysis.tree.broken()
    }

    /// What looks like the top service's own time may be time that it waited for answers, which went on for as much
    /// longer after its client spans had ended without a failure, and did not in the linked reference.
    fn may_be_answers(&self) -> bool {
        let Some(top) = self.findings.services.first().filter(|top| top.category == Category::OwnTime) else {
            return false;
        };
        self.has_grown(self.least_hidden(top), |tree| beyond_their_calls(tree, top.id))
    }

    /// A wait inside of an answer that outlived its call by as much, and did not fail: the clock that both were measured
    /// by was set in between, or the caller had long turned to something else.
    fn is_below_an_answer_nobody_awaited(&self, top: &Blamed) -> bool {
        let row = self.findings.row_of(top);
        let entry = row.and_then(|row| self.analysis.ledger.entries.get(row.slow?));
        let Some(entry) = entry else { return false };
        let tree = &self.analysis.tree;
        let least = self.least_hidden(top);
        let mut at = entry.longest;
        while at != 0 {
            if beyond_its_call(tree, at).is_some_and(|beyond| beyond >= least) {
                return true;
            }
            at = tree.nodes[at].caller;
        }
        false
    }

    /// What looks like the top service's own time may be time that it waited for a message which another service sent in
    /// return for one of its own, and which came by as much later than in the linked reference. No span says so.
    fn may_be_replies(&self, top: &Blamed) -> bool {
        self.has_grown(self.least_hidden(top), |tree| longest_round_trip(tree, top.id))
    }

    /// What looks like the service's own time may be time that it waited for others, which grew as much: by their clocks
    /// they ended after it, and no client span says whether they did.
    fn may_be_adrift(&self, top: &Blamed) -> bool {
        let Self { analysis, findings, .. } = self;
        let (tree, ledger) = (&analysis.tree, &analysis.ledger);
        let adrift = tree
            .nodes
            .iter()
            .zip(0..)
            .filter(|(node, _)| node.adrift > 0 && tree.service(&tree.nodes[node.caller]).id == top.id);
        let mut paths: Vec<usize> =
            adrift.filter_map(|(_, number)| ledger.position(analysis.calls.key[number])).collect();
        paths.sort_unstable();
        paths.dedup();
        let grew = paths.into_iter().filter_map(|at| {
            let (entry, row) = (ledger.entries.get(at)?, findings.rows.get(at)?);
            let normal = self.references.floors.get(row.reference_key).map_or(0, |floor| floor.total);
            Some(entry.total.saturating_sub(normal))
        });
        let grew = grew.fold(0_u64, u64::saturating_add);
        grew > 0 && grew >= self.score(top).div_ceil(2)
    }

    /// Nanoseconds from which on another explanation counts: half of what the service is charged with.
    fn least_hidden(&self, top: &Blamed) -> u64 {
        self.score(top).div_ceil(2).max(MILLISECOND)
    }

    /// Whether `measure` says by `least` more of this trace than of the linked reference.
    fn has_grown(&self, least: u64, measure: impl Fn(&Tree<'_>) -> u64) -> bool {
        let here = measure(&self.analysis.tree);
        if here < least {
            return false;
        }
        let linked = &self.references.linked;
        let usual = Tree::build(&linked.trace, linked.entry).map_or(0, |tree| measure(&tree));
        here.saturating_sub(usual) >= least
    }
}

/// Nanoseconds that answers to calls of a service went on after these calls had ended well.
fn beyond_their_calls(tree: &Tree<'_>, service: u64) -> u64 {
    let of_service = |number: &u32| tree.service(&tree.nodes[tree.nodes[*number].caller]).id == service;
    let answers = (0..tree.nodes.length()).filter(of_service);
    answers.filter_map(|number| beyond_its_call(tree, number)).fold(0, u64::saturating_add)
}

/// Nanoseconds that an answer went on after its call had ended well.
fn beyond_its_call(tree: &Tree<'_>, answer: u32) -> Option<u64> {
    let node = &tree.nodes[answer];
    let call = &tree.nodes[node.caller];
    let took = tree.trace.span(node.span as usize).map_or(0, |span| span.head.duration());
    (node.is_cut && !call.is_error).then(|| took.saturating_sub(call.duration()))
}

/// Nanoseconds from when a service sent a message until it began to work on one that others sent in return, while the work
/// that had sent the first was still going on: the longest such time.
fn longest_round_trip(tree: &Tree<'_>, service: u64) -> u64 {
    let is_its = |number: u32| tree.service(&tree.nodes[number]).id == service;
    let head = |number: u32| tree.trace.span(tree.nodes[number].span as usize).map(|span| span.head);
    let round_trip = |reply: u32| {
        let mut sent = tree.nodes[reply].caller;
        let mut hops = 0;
        while !is_its(sent) {
            hops += 1;
            if sent == 0 || hops > LONGEST_ROUND_TRIP {
                return None;
            }
            sent = tree.nodes[sent].caller;
        }
        let is_message = hops > 0 && tree.nodes[sent].kind == Kind::Producer;
        // All three are of one service, so their own clock is the one to read.
        let (sent, around, came) = (head(sent)?, head(tree.nodes[sent].caller)?, head(reply)?);
        (is_message && came.start < around.end).then(|| came.start.saturating_sub(sent.start))
    };
    let replies = (1..tree.nodes.length()).filter(|number| {
        let node = &tree.nodes[*number];
        node.kind == Kind::Consumer && node.is_remote && is_its(*number)
    });
    replies.filter_map(round_trip).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use crate::compare::Reason;
    use crate::compare::testing::{TraceSpec, both_verdicts, named, verdict_of};
    use crate::otlp::span::Kind;

    const MS: i64 = 1000;

    /// web asks cart, which asks stock, which asks price: server spans only. cart and price take milliseconds more.
    fn served(cart: i64, price: i64) -> TraceSpec {
        let more = cart + price;
        TraceSpec::default()
            .server((1, 0), ("web", "GET /"), (0, (100 + more) * MS))
            .server((2, 1), ("cart", "GET /cart"), (10 * MS, (90 + more) * MS))
            .server((3, 2), ("stock", "GET /stock"), ((20 + cart) * MS, (70 + more) * MS))
            .server((4, 3), ("price", "GET /price"), ((30 + cart) * MS, (50 + more) * MS))
    }

    #[test]
    fn nobody_is_named_for_the_time_of_work_that_has_no_span_here_and_always_had_one() {
        type Damage = fn(&mut TraceSpec, usize);
        let damages: [(&str, Damage); 4] = [
            ("lost", |slow, at| drop(slow.spans.remove(at))),
            ("ends before it starts", |slow, at| slow.spans[at].end = slow.spans[at].start - MS),
            ("its own parent", |slow, at| slow.spans[at].parent = slow.spans[at].id),
            ("in a circle", |slow, at| slow.spans[at].parent = slow.spans.last().expect("has spans").id),
        ];
        for (damage, break_it) in damages {
            for (at, absent, mut slow) in [(1, "cart", served(300, 0)), (3, "price", served(0, 300))] {
                break_it(&mut slow, at);
                for verdict in both_verdicts(&[served(0, 0)], &slow) {
                    let sentence = &verdict.explanation;
                    assert_eq!(
                        named(&verdict),
                        Err(Reason::IncompleteTrace),
                        "{absent} {damage}: {sentence}"
                    );
                }
            }
        }
        let mut slow = served(0, 300);
        slow.spans.truncate(3);
        let sentence = verdict_of(&[served(0, 0)], &slow).explanation;
        assert!(
            sentence.contains("price, which the references always call, has no usable span here"),
            "{sentence}"
        );
    }

    #[test]
    fn work_that_is_whole_or_that_another_does_instead_hides_nothing() {
        for verdict in both_verdicts(&[served(0, 0)], &served(300, 0)) {
            assert_eq!(named(&verdict), Ok("cart"), "{}", verdict.explanation);
        }
        let mut slow = served(300, 0);
        slow.spans[2].service = "spare".to_owned();
        slow.spans[3].service = "cost".to_owned();
        let verdict = verdict_of(&[served(0, 0)], &slow);
        assert_ne!(named(&verdict), Err(Reason::IncompleteTrace), "{}", verdict.explanation);
    }

    #[test]
    fn calls_are_not_new_because_the_reference_lost_the_spans_of_who_made_them() {
        let mut fast = served(0, 0);
        fast.spans.remove(1);
        let verdict = verdict_of(&[fast], &served(300, 0));
        assert_eq!(named(&verdict), Err(Reason::IncompleteTrace), "{}", verdict.explanation);
    }

    /// web sends an order and works on the answer that worker sends, when it comes after `working` more milliseconds.
    fn ordered(working: i64, own: i64) -> TraceSpec {
        let end = 80 + working + own;
        TraceSpec::default()
            .server((1, 0), ("web", "GET /"), (0, end * MS))
            .of_kind(Kind::Producer, (2, 1), ("web", "orders publish"), (5 * MS, 7 * MS))
            .of_kind(Kind::Consumer, (3, 2), ("worker", "orders process"), (12 * MS, (62 + working) * MS))
            .of_kind(
                Kind::Producer,
                (4, 3),
                ("worker", "replies publish"),
                ((61 + working) * MS, (62 + working) * MS),
            )
            .of_kind(
                Kind::Consumer,
                (5, 4),
                ("web", "replies process"),
                ((67 + working) * MS, (70 + working) * MS),
            )
    }

    #[test]
    fn nobody_is_named_where_a_message_may_have_been_waited_for_until_a_message_answered_it() {
        for verdict in both_verdicts(&[ordered(0, 0)], &ordered(300, 0)) {
            assert_eq!(named(&verdict), Err(Reason::IncompleteTrace), "{}", verdict.explanation);
            assert!(verdict.explanation.contains("was answered by a message"), "{}", verdict.explanation);
        }
        for verdict in both_verdicts(&[ordered(0, 0)], &ordered(0, 300)) {
            assert_eq!(named(&verdict), Ok("web"), "the reply came as soon as ever: {}", verdict.explanation);
        }
    }

    /// web asks cart, which takes `work` milliseconds more, half of it before it asks stock. While stock answers, the
    /// clock of cart is set by `step` milliseconds.
    fn stepped(work: i64, step: i64) -> TraceSpec {
        let asked = 20 + work / 2;
        TraceSpec::default()
            .server((1, 0), ("web", "GET /"), (0, (80 + work) * MS))
            .client((2, 1), ("web", "GET"), (5 * MS, (75 + work) * MS))
            .server((3, 2), ("cart", "GET /cart"), (6 * MS, (74 + work + step) * MS))
            .client((4, 3), ("cart", "GET"), (asked * MS, (asked + 24 + step) * MS))
            .server((5, 4), ("stock", "GET /stock"), ((asked + 2) * MS, (asked + 22) * MS))
    }

    #[test]
    fn nobody_is_named_where_a_clock_was_set_while_the_request_ran() {
        for verdict in both_verdicts(&[stepped(0, 0)], &stepped(300, 5000)) {
            assert!(named(&verdict).is_err(), "{}", verdict.explanation);
        }
        for verdict in both_verdicts(&[stepped(0, 0)], &stepped(300, 0)) {
            assert_eq!(named(&verdict), Ok("cart"), "{}", verdict.explanation);
        }
    }
}
