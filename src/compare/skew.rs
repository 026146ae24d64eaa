//! Brings clocks into line and says who waited for whom.
//!
//! Between two processes only durations can be trusted. A remote span is moved by the least that puts it inside
//! the client span which waited for it; what runs below it moves along.

use super::column::Column;
use super::tree::{FAR, NONE, Node};
use crate::otlp::span::Kind;

/// Nanoseconds by which ends may differ that are meant to be one.
const TOLERANCE: i64 = 1_000_000;

/// Settles start, end, parent and the flags of every node, callers first. Returns the largest correction between
/// two clocks, in nanoseconds.
pub(crate) fn settle(nodes: &mut Column<Node>) -> u64 {
    let answers = answers(nodes);
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
        let is_message = caller.kind == Kind::Producer || node.kind == Kind::Consumer;
        let is_answer = node.is_remote && caller.kind == Kind::Client && !is_message;
        // Where the client span does not say how long the answer was waited for, whoever is open around it does.
        let around = if is_answer && was_closed_early(whole_caller, caller.is_error, &node) {
            open.nearest(&wholes, node.caller, whole_caller.end)
        } else {
            NONE
        };
        let waits_for_answer = is_answer && around == NONE;
        let bounds =
            if around == NONE { whole_caller } else { Whole { end: wholes[around].end, ..whole_caller } };
        let mut placed = place(&node, waits_for_answer, is_message, bounds, inherited);
        if node.kind == Kind::Client && !node.is_remote {
            placed.end = end_of_call(&placed, answers[number], whole_caller);
        }
        largest = largest.max(placed.correction);
        shifts.push(placed.shift);
        // A helper span that was closed too early still hands its children to whoever is open around it.
        let parent = if around != NONE {
            around
        } else if placed.start >= whole_caller.end && !is_message && !waits_for_answer {
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
        let is_on_a_clock_of_its_own = node.is_remote && !is_message && !waits_for_answer;
        let settled = &mut nodes[number];
        settled.adrift = if is_on_a_clock_of_its_own { adrift(&placed, bounds) } else { 0 };
        settled.parent = parent;
        settled.is_cut = placed.is_cut;
        settled.is_blocking = is_blocking;
        settled.start = if placed.is_cut { caller.start } else { placed.start };
        settled.end = placed.end.min(limit).max(settled.start);
        open.push(&wholes, number, node.caller);
    }
    largest
}

/// For each client span, when what answered it ran, on the clock of whoever answered; of several the last.
fn answers(nodes: &Column<Node>) -> Column<Option<(i64, i64)>> {
    let mut answers: Column<Option<(i64, i64)>> = Column::filled(None, nodes.as_slice().len());
    for node in nodes.iter().skip(1) {
        if node.is_remote && node.kind != Kind::Consumer && nodes[node.caller].kind == Kind::Client {
            let answer = &mut answers[node.caller];
            *answer = (*answer).max(Some((node.end, node.start)));
        }
    }
    answers
}

/// Whether a client span was ended as soon as it began and did not fail, so that it says nothing about how long its caller
/// waited. One that was open for longer may be of a call that was given up, since another was answered first.
fn was_closed_early(client: Whole, has_failed: bool, answer: &Node) -> bool {
    let (waited, took) = (client.end - client.start, answer.end - answer.start);
    !has_failed && waited < TOLERANCE && took > 20 * TOLERANCE
}

/// When a call was over: where its client span outlives the work around it, and lasts more than twice as long as what
/// answered it within that work, nobody ended it when the answer came.
fn end_of_call(placed: &Placed, answer: Option<(i64, i64)>, caller: Whole) -> i64 {
    let Some((answer_end, answer_start)) = answer.filter(|_| !ends_within(placed.end, caller)) else {
        return placed.end;
    };
    let took = answer_end - answer_start;
    // The client span's start is on its caller's clock, whatever the answer's is: where both cannot be the same, only how
    // long the answer took is known.
    let earliest = placed.start.saturating_add(took);
    let (start, end) = (answer_start.saturating_add(placed.shift), answer_end.saturating_add(placed.shift));
    let answered = if start < placed.start || end > placed.end { earliest } else { end };
    let is_broken = placed.end - placed.start > took.saturating_mul(2).saturating_add(TOLERANCE);
    if is_broken && answered <= caller.end { answered } else { placed.end }
}

/// Nanoseconds by which work of another process, that its caller had time to wait for, ends after its caller did: either
/// nobody waited for it, or that process's clock is ahead. Without a client span nobody can know which.
fn adrift(placed: &Placed, caller: Whole) -> u64 {
    let had_time = placed.end - placed.start <= caller.end - caller.start;
    if !had_time || ends_within(placed.end, caller) {
        return 0;
    }
    u64::try_from(placed.end - caller.end).unwrap_or(0)
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

fn place(node: &Node, waits_for_answer: bool, is_message: bool, caller: Whole, inherited: i64) -> Placed {
    // Clamped, so that absurd times at any depth cannot add up beyond an i64.
    let at = |shift: i64, correction: i64| Placed {
        start: (node.start + shift).clamp(-FAR, FAR),
        end: (node.end + shift).clamp(-FAR, FAR),
        shift,
        correction: correction.unsigned_abs(),
        is_cut: false,
    };
    if !node.is_remote || is_message {
        return at(inherited, 0);
    }
    let fits = node.end - node.start <= caller.end - caller.start;
    if !waits_for_answer {
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
    start < parent.end && ends_within(end, parent)
}

fn ends_within(end: i64, parent: Whole) -> bool {
    end <= parent.end + TOLERANCE.max((parent.end - parent.start) / 100)
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
    use crate::compare::testing::{TraceSpec, both_verdicts, culprit_of, named, verdict_of};
    use crate::compare::{Category, Reason};

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

    const HOUR: i64 = 3_600_000;

    /// web asks cart, which takes `work` milliseconds and whose clock is `ahead` by some, and web has no client span.
    fn without_client(work: i64, ahead: i64) -> TraceSpec {
        let on = |start: i64, end: i64| ((start + ahead) * MS, (end + ahead) * MS);
        TraceSpec::default()
            .server((1, 0), ("web", "GET /"), (0, (30 + work) * MS))
            .server((2, 1), ("cart", "GET /cart"), on(10, 10 + work))
            .client((3, 2), ("cart", "SELECT"), on(12, 15))
    }

    #[test]
    fn without_a_client_span_a_clock_that_is_behind_or_a_little_ahead_changes_no_verdict() {
        for ahead in [-HOUR, -3_000, -300, -20, -5, -1, 0, 5, 15] {
            for usual in [0, ahead] {
                let (fast, slow) = ([without_client(80, usual)], without_client(400, ahead));
                for verdict in both_verdicts(&fast, &slow) {
                    assert_eq!(named(&verdict), Ok("cart"), "{usual} {ahead}: {}", verdict.explanation);
                }
            }
        }
    }

    #[test]
    fn without_a_client_span_nobody_is_named_for_what_a_clock_ahead_puts_behind_its_caller() {
        for ahead in [30, 50, 300, 3_000, HOUR, 24 * HOUR] {
            for usual in [0, ahead] {
                for slow in [120, 400] {
                    let (fast, slow) = ([without_client(80, usual)], without_client(slow, ahead));
                    for verdict in both_verdicts(&fast, &slow) {
                        let sentence = &verdict.explanation;
                        assert_eq!(named(&verdict), Err(Reason::ClockSkew), "{usual} {ahead}: {sentence}");
                        assert!(sentence.contains("clocks") && !sentence.contains(" 0.000 ms"), "{sentence}");
                    }
                }
            }
        }
    }

    /// web works some milliseconds and leaves an audit to others, which begins late and takes some.
    fn audited(work: i64, audit: i64) -> TraceSpec {
        TraceSpec::default().server((1, 0), ("web", "GET /"), (0, (100 + work) * MS)).server(
            (2, 1),
            ("audit", "POST /log"),
            ((90 + work) * MS, (90 + work + audit) * MS),
        )
    }

    #[test]
    fn work_that_goes_on_behind_its_caller_hides_nothing_unless_it_grew_as_much() {
        for audit in [50, 60, 9_000] {
            let verdict = verdict_of(&[audited(0, 50)], &audited(300, audit));
            assert_eq!(named(&verdict), Ok("web"), "{audit}: {}", verdict.explanation);
        }
        let verdict = verdict_of(&[audited(0, 50)], &audited(300, 350));
        assert_eq!(named(&verdict), Err(Reason::ClockSkew));
    }

    /// web asks cart, then stock; cart takes `work` milliseconds, and its clock is `ahead` by some.
    fn called(work: i64, ahead: i64, change: impl FnOnce(&mut (i64, i64))) -> TraceSpec {
        let mut client = (5 * MS, (15 + work) * MS);
        change(&mut client);
        let on = |start: i64, end: i64| ((start + ahead) * MS, (end + ahead) * MS);
        TraceSpec::default()
            .server((1, 0), ("web", "GET /"), (0, (60 + work) * MS))
            .client((2, 1), ("web", "GET /cart"), client)
            .server((3, 2), ("cart", "GET /cart"), on(10, 10 + work))
            .client((4, 1), ("web", "GET /stock"), ((20 + work) * MS, (50 + work) * MS))
            .server((5, 4), ("stock", "GET /stock"), ((21 + work) * MS, (49 + work) * MS))
    }

    #[test]
    fn a_client_span_that_nobody_ended_in_time_or_that_was_ended_too_early_blames_nobody_wrongly() {
        let fast = [called(30, 0, |_| {})];
        let breaks: [fn(&mut (i64, i64)); 4] = [
            |client| client.1 = client.0,
            |client| client.1 = client.0 + MS / 2,
            |client| client.1 += 5_000 * MS,
            |client| client.1 += 24 * HOUR * MS,
        ];
        for (number, change) in breaks.into_iter().enumerate() {
            for ahead in [0, -HOUR] {
                let slow = called(500, ahead, change);
                for verdict in both_verdicts(&fast, &slow) {
                    let culprit = culprit_of(&verdict);
                    let found = (culprit.service.as_str(), culprit.category);
                    assert_eq!(
                        found,
                        ("cart", Category::OwnTime),
                        "{number} {ahead}: {}",
                        verdict.explanation
                    );
                }
            }
        }
        // Of one that was open for a while nobody can know whether it was given up.
        for ahead in [0, -HOUR, HOUR] {
            let early = verdict_of(&fast, &called(500, ahead, |client| client.1 = client.0 + 20 * MS));
            assert_eq!(named(&early), Err(Reason::IncompleteTrace), "{}", early.explanation);
            assert!(early.explanation.contains("ended before their answers"), "{}", early.explanation);
        }
        let absurd = verdict_of(&fast, &called(500, 0, |client| client.1 = 1 << 50));
        assert_eq!(named(&absurd), Err(Reason::IncompleteTrace));
        assert!(absurd.explanation.contains("no credible times"), "{}", absurd.explanation);
        // On a clock that is ahead the answer may as well be work that nobody waited for, unless a span holds it.
        for (change, expected) in
            breaks.into_iter().zip([Err(Reason::ClockSkew), Err(Reason::ClockSkew), Ok("cart")])
        {
            let verdict = verdict_of(&fast, &called(500, HOUR, change));
            assert_eq!(named(&verdict), expected, "{}", verdict.explanation);
        }
    }

    /// web sends cart something, waits for a while, and works on alone; cart works on it for longer.
    fn sent(work: i64, waited: i64) -> TraceSpec {
        TraceSpec::default()
            .server((1, 0), ("web", "GET /"), (0, (50 + work) * MS))
            .client((2, 1), ("web", "POST /cart"), (5 * MS, 5 * MS + waited))
            .server((3, 2), ("cart", "POST /cart"), (5 * MS, 900 * MS))
    }

    #[test]
    fn what_is_sent_without_waiting_for_the_answer_is_no_cause() {
        for waited in [MS / 2, 3 * MS, 20 * MS] {
            let verdict = verdict_of(&[sent(0, waited)], &sent(400, waited));
            assert_eq!(named(&verdict), Ok("web"), "{}", verdict.explanation);
        }
    }
}
