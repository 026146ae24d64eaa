//! Time that says nothing about work: streams stay open, and long polls wait, for as long as somebody else pleases.

use super::analysis::Analysis;
use super::causes::Row;
use super::ledger::{Entry, Side};
use crate::decide::stream;

/// Of shorter stretches, in parts of the entry span, nobody asks what they are: they decide nothing.
const MATERIAL: u64 = 20;

/// The entries of the slow trace's ledger that are streams or long polls, as their longest instance says, or the other
/// side of its call.
fn streams(analysis: &Analysis<'_>) -> Vec<usize> {
    let entries = analysis.ledger.entries.iter().enumerate();
    let material = entries.filter(|(_, entry)| {
        u128::from(entry.on_path) * u128::from(MATERIAL) >= u128::from(analysis.ledger.duration)
    });
    material.filter(|(_, entry)| is_stream(analysis, entry)).map(|(at, _)| at).collect()
}

fn is_stream(analysis: &Analysis<'_>, entry: &Entry) -> bool {
    let Analysis { tree, calls, .. } = analysis;
    let says = |number: u32| {
        let span = tree.trace.span(tree.nodes[number].span as usize);
        span.is_some_and(|span| stream::is_stream(&span))
    };
    let base = calls.base[entry.longest];
    // Spans between a call and its base, of a driver inside a client, may say more.
    if says(base) || says(entry.longest) {
        return true;
    }
    match entry.side {
        Side::Work => base != 0 && says(calls.base[tree.nodes[base].caller]),
        Side::Call => (1..tree.nodes.length()).any(|number| {
            let node = &tree.nodes[number];
            node.is_remote && calls.base[node.caller] == base && says(number)
        }),
    }
}

/// Takes the time of streams and long polls from those whose it would be. Returns how many nanoseconds above normal
/// that is in all.
pub(super) fn set_aside(rows: &mut [Row], analysis: &Analysis<'_>) -> u64 {
    let mut open = 0_u64;
    let streams = streams(analysis);
    for row in rows {
        if row.slow.is_none_or(|at| streams.binary_search(&at).is_err()) {
            continue;
        }
        open = open.saturating_add(row.excess);
        row.rest.time = 0;
        if let Some(extra) = &mut row.extra {
            extra.time = 0;
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use crate::compare::testing::{TraceSpec, both_verdicts, culprit_of};
    use crate::compare::{Category, Outcome, Reason, Verdict};
    use crate::otlp::span::Kind;

    const MS: i64 = 1000;

    const POLL: (&str, &str) = ("messaging.operation.type", "receive");
    const SOCKET: (&str, &str) = ("http.response.status_code", "101");

    /// web asks for a message, then cart; both take milliseconds longer than 20.
    fn polling(poll: i64, cart: i64) -> TraceSpec {
        let asked = (25 + poll) * MS;
        TraceSpec::default()
            .server((1, 0), ("web", "GET /"), (0, asked + (30 + cart) * MS))
            .client((2, 1), ("web", "orders receive"), (5 * MS, asked))
            .with(|span| span.attributes.push(POLL))
            .client((3, 1), ("web", "GET /cart"), (asked + 2 * MS, asked + (24 + cart) * MS))
            .server((4, 3), ("cart", "GET /cart"), (asked + 3 * MS, asked + (23 + cart) * MS))
    }

    /// web reads a stream of feed, for which feed asks store; which take milliseconds longer than 20. Only one side says
    /// that it is a stream.
    fn streaming(feed: i64, store: i64, asking_says: bool) -> TraceSpec {
        let end = (50 + feed + store) * MS;
        TraceSpec::default()
            .server((1, 0), ("web", "GET /"), (0, end + 10 * MS))
            .client((2, 1), ("web", "GET /feed"), (5 * MS, end))
            .with(|span| span.attributes.extend(asking_says.then_some(SOCKET)))
            .server((3, 2), ("feed", "GET /feed"), (6 * MS, end - MS))
            .with(|span| span.attributes.extend((!asking_says).then_some(SOCKET)))
            .client((4, 3), ("feed", "GET /store"), (8 * MS, (30 + store) * MS))
            .server((5, 4), ("store", "GET /store"), (9 * MS, (29 + store) * MS))
    }

    fn check(fast: &TraceSpec, slow: &TraceSpec, expected: Option<(&str, Category)>) {
        let fast = std::slice::from_ref(fast);
        for verdict in both_verdicts(fast, slow) {
            match expected {
                Some(expected) => {
                    let culprit = culprit_of(&verdict);
                    assert_eq!((culprit.service.as_str(), culprit.category), expected);
                }
                None => check_open(&verdict),
            }
        }
    }

    fn check_open(verdict: &Verdict) {
        assert_eq!(verdict.outcome, Outcome::Inconclusive(Reason::AsyncOnly), "{}", verdict.explanation);
        assert!(verdict.explanation.starts_with("streams or long polls"), "{}", verdict.explanation);
    }

    #[test]
    fn nobody_is_blamed_for_a_message_that_came_late() {
        check(&polling(0, 0), &polling(400, 0), None);
        check(&polling(0, 0), &polling(400, 100), None);
    }

    #[test]
    fn nobody_is_blamed_for_a_message_that_came_late_where_asking_for_it_is_a_consumers_span() {
        let consuming = |mut spec: TraceSpec| {
            spec.spans[1].kind = Kind::Consumer;
            spec
        };
        check(&consuming(polling(0, 0)), &consuming(polling(400, 0)), None);
        let cart = Some(("cart", Category::OwnTime));
        check(&consuming(polling(0, 0)), &consuming(polling(100, 400)), cart);
    }

    #[test]
    fn a_slow_call_beside_a_long_poll_is_found() {
        let cart = Some(("cart", Category::OwnTime));
        check(&polling(0, 0), &polling(0, 400), cart);
        check(&polling(0, 0), &polling(100, 400), cart);
        check(&polling(20_000, 0), &polling(20_000, 6_000), cart);
    }

    #[test]
    fn nobody_is_blamed_for_a_stream_that_stayed_open_whichever_side_says_so() {
        for asking_says in [true, false] {
            check(&streaming(0, 0, asking_says), &streaming(400, 0, asking_says), None);
        }
    }

    #[test]
    fn a_slow_call_inside_of_a_stream_is_found() {
        for asking_says in [true, false] {
            let slow = streaming(100, 400, asking_says);
            check(&streaming(0, 0, asking_says), &slow, Some(("store", Category::OwnTime)));
        }
    }
}
