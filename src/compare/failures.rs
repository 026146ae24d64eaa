//! Who failed first: an error goes up from where it began through all who waited for it, and a call that was given up
//! has nobody below it who could say whose it was.

use std::cmp::Reverse;

use super::causes::extra_time;
use super::ledger::{Entry, Ledger, Side};
use super::tree::hash_of;
use crate::baseline::floors::Floor;

/// For each entry of `slow`, the service that failed where the errors of the entry began; `None` where nothing did.
/// `parents` are the entries around each; whoever answers in `linked` may be who did not answer here.
pub(super) fn origins(slow: &Ledger, linked: &Ledger, parents: &[usize]) -> Vec<Option<u64>> {
    let mut found = vec![Below::default(); slow.entries.len()];
    // From the back, so that all below an entry is known when it is reached.
    for at in slow.outward.iter().rev().map(|at| *at as usize) {
        let (Some(entry), Some(below)) = (slow.entries.get(at), found.get(at).copied()) else { continue };
        let origin = below.origin_of(entry, || silent(entry, slow, linked));
        if let Some(slot) = found.get_mut(at) {
            slot.origin = origin;
        }
        let around = parents.get(at).copied().filter(|around| *around != at);
        if let Some(around) = around.and_then(|around| found.get_mut(around)) {
            around.calls += 1;
            if origin.is_some() {
                (around.errors, around.worst) = (around.errors, around.worst).max((entry.errors, origin));
            }
        }
    }
    found.into_iter().map(|below| below.origin).collect()
}

/// What is known about the paths right below one.
#[derive(Clone, Copy, Default)]
struct Below {
    calls: u32,
    /// Where the errors of the one with most of them began.
    worst: Option<u64>,
    errors: u32,
    origin: Option<u64>,
}

impl Below {
    fn origin_of(self, entry: &Entry, silent: impl FnOnce() -> Option<u64>) -> Option<u64> {
        let is_passed_on = entry.failed_itself * 2 < entry.errors;
        match entry.side {
            // The answer says more than the call does.
            Side::Call if entry.errors > 0 => self.worst.or_else(silent).or(Some(entry.service)),
            Side::Work if entry.errors > 0 && is_passed_on => self.worst.or(Some(entry.service)),
            Side::Work if entry.errors > 0 => Some(entry.service),
            // A proxy that calls one service and need not think an error of it its own.
            _ if self.calls == 1 => self.worst,
            _ => None,
        }
    }
}

/// For each entry, the service that took longest more than is normal among the paths below; `None` where one of these failed.
/// Whoever was asked may only have waited for others, until nobody waited for it any more.
pub(super) fn dawdlers(slow: &Ledger, floors: &[Option<&Floor>], parents: &[usize]) -> Vec<Option<u64>> {
    let mut slowest = vec![Slowest::default(); slow.entries.len()];
    // From the back, so that all below an entry is known when it is reached.
    for (place, at) in slow.outward.iter().map(|at| *at as usize).enumerate().rev() {
        let (Some(entry), Some(below)) = (slow.entries.get(at), slowest.get(at).copied()) else { continue };
        let around = parents.get(at).copied().filter(|around| *around != at);
        let Some(around) = around.and_then(|around| slowest.get_mut(around)) else { continue };
        let floor = floors.get(at).copied().flatten();
        let normal = floor.map_or(0, |floor| floor.alone.saturating_add(extra_time(entry, floor)));
        let longer = entry.alone.saturating_sub(normal);
        let owner = if entry.side == Side::Work { Some(entry.service) } else { entry.callee };
        // Of equals the one that stands further up in the trace.
        let own = (longer > 0).then_some((longer, Reverse(place), owner));
        around.most = around.most.max(below.most).max(own);
        around.has_failed |= below.has_failed || entry.errors > 0;
    }
    slowest.into_iter().map(|below| below.most.filter(|_| !below.has_failed)?.2).collect()
}

/// What is known about all paths below one.
#[derive(Clone, Copy, Default)]
struct Slowest {
    /// Nanoseconds above normal, where in the trace, and whose.
    most: Option<(u64, Reverse<usize>, Option<u64>)>,
    has_failed: bool,
}

/// Who did not answer a call that was given up: who its peer is called after, or who answers such calls otherwise.
pub(super) fn silent(call: &Entry, slow: &Ledger, linked: &Ledger) -> Option<u64> {
    if call.callee.is_some() {
        return call.callee;
    }
    let mut services = slow.services.iter().chain(&linked.services);
    if let Some((id, _)) = services.find(|(_, name)| Some(hash_of(name.as_str())) == call.peer) {
        return Some(*id);
    }
    let alike = slow.entries.iter().chain(&linked.entries).filter(|other| {
        other.side == Side::Call
            && (other.parent, other.service, other.name) == (call.parent, call.service, call.name)
    });
    let mut callees = alike.filter_map(|other| other.callee);
    let first = callees.next()?;
    callees.all(|other| other == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use crate::compare::Category;
    use crate::compare::testing::{TraceSpec, culprit_of, verdict_of};

    const MS: i64 = 1000;

    /// web asks cart, cart asks stock; where `fails`, stock and with it cart fail once, after 80 ms, and cart is tried
    /// again.
    fn passed_on(fails: bool, proxy_fails: bool) -> TraceSpec {
        let again = if fails { 100 * MS } else { 0 };
        let mut spec = TraceSpec::default().server((1, 0), ("web", "GET /"), (0, 50 * MS + again));
        let mut attempt = |first: u64, start: i64, length: i64, fails: bool| {
            let at = |from: i64, until: i64| (start + from * MS, start + (length - until) * MS);
            let marked = fails && proxy_fails;
            spec = std::mem::take(&mut spec)
                .client((first, 1), ("web", "GET"), at(0, 0))
                .with(|span| span.is_error = fails)
                .server((first + 1, first), ("cart", "GET /cart"), at(1, 1))
                .with(|span| span.is_error = marked)
                .client((first + 2, first + 1), ("cart", "GET"), at(2, 2))
                .with(|span| span.is_error = marked)
                .server((first + 3, first + 2), ("stock", "GET /stock"), at(3, 3))
                .with(|span| span.is_error = fails);
        };
        if fails {
            attempt(10, 5 * MS, 90, true);
        }
        attempt(20, 5 * MS + again, 40, false);
        spec
    }

    #[test]
    fn failed_calls_are_of_the_deepest_service_that_failed_not_of_those_that_passed_it_on() {
        let verdict = verdict_of(&[passed_on(false, true)], &passed_on(true, true));
        let culprit = culprit_of(&verdict);
        assert_eq!((culprit.service.as_str(), culprit.category), ("stock", Category::Retry));
    }

    #[test]
    fn a_proxy_that_passes_an_error_on_without_a_mark_did_not_fail() {
        let verdict = verdict_of(&[passed_on(false, false)], &passed_on(true, false));
        assert_eq!(culprit_of(&verdict).service, "stock");
    }

    /// web asks stock twice by calls of one name; where `is_silent`, the second is given up after 300 ms.
    fn asked_twice(is_silent: bool, peer: Option<&'static str>) -> TraceSpec {
        let more = if is_silent { 300 * MS } else { 0 };
        let spec = TraceSpec::default()
            .server((1, 0), ("web", "GET /"), (0, 50 * MS + more))
            .client((2, 1), ("web", "GET"), (5 * MS, 15 * MS))
            .server((3, 2), ("stock", "GET /stock"), (6 * MS, 14 * MS))
            .client((4, 1), ("web", "GET"), (20 * MS, 30 * MS + more))
            .with(|span| span.is_error = is_silent)
            .with(|span| span.attributes.extend(peer.map(|peer| ("server.address", peer))));
        if is_silent { spec } else { spec.server((5, 4), ("stock", "GET /stock"), (21 * MS, 29 * MS)) }
    }

    /// web asks stock; where `is_silent`, it asks again after 100 ms, and gives both calls up after 300 ms.
    fn hedged(is_silent: bool) -> TraceSpec {
        let more = if is_silent { 300 * MS } else { 0 };
        let spec = TraceSpec::default()
            .server((1, 0), ("web", "GET /"), (0, 50 * MS + more))
            .client((2, 1), ("web", "GET"), (5 * MS, 15 * MS + more))
            .with(|span| span.is_error = is_silent)
            .with(|span| span.attributes.push(("server.address", "10.0.0.7")));
        if !is_silent {
            return spec.server((3, 2), ("stock", "GET /stock"), (6 * MS, 14 * MS));
        }
        spec.client((4, 1), ("web", "GET"), (105 * MS, 15 * MS + more))
            .error()
            .with(|span| span.attributes.push(("server.address", "10.0.0.7")))
    }

    #[test]
    fn calls_that_were_made_again_and_all_given_up_are_of_whoever_answers_them_otherwise() {
        let verdict = verdict_of(&[hedged(false)], &hedged(true));
        let culprit = culprit_of(&verdict);
        assert_eq!((culprit.service.as_str(), culprit.category), ("stock", Category::Timeout));
        assert!(culprit.confidence <= 0.6, "it sent no span");
    }

    #[test]
    fn one_call_of_several_that_nobody_answered_is_of_whoever_answers_the_others() {
        for peer in [None, Some("stock"), Some("stock.shop.svc.cluster.local:8080")] {
            let verdict = verdict_of(&[asked_twice(false, peer)], &asked_twice(true, peer));
            let culprit = culprit_of(&verdict);
            assert_eq!(
                (culprit.service.as_str(), culprit.category),
                ("stock", Category::Timeout),
                "{peer:?}"
            );
        }
    }

    /// web asks cart and gives up after 200 ms, twice, where stock, which cart asks, takes that long; what web no longer
    /// waits for is cancelled, or goes on.
    fn given_up_twice(is_slow: bool, goes_on: i64) -> TraceSpec {
        let lost = if is_slow { 2 * 200 } else { 0 };
        let mut spec = TraceSpec::default().server((1, 0), ("web", "GET /"), (0, (lost + 70) * MS));
        let mut attempt = |first: u64, start: i64, length: i64, fails: bool| {
            let more = if fails { goes_on } else { 0 };
            let during = |by: i64, more: i64| ((start + by) * MS, (start + length - by + more) * MS);
            spec = std::mem::take(&mut spec)
                .client((first, 1), ("web", "GET"), during(0, 0))
                .with(|span| span.is_error = fails)
                .server((first + 1, first), ("cart", "GET /cart"), during(1, more))
                .client((first + 2, first + 1), ("cart", "GET"), during(5, more))
                .server((first + 3, first + 2), ("stock", "GET /stock"), during(6, more));
        };
        if is_slow {
            attempt(10, 5, 200, true);
            attempt(20, 205, 200, true);
        }
        attempt(30, 5 + lost, 50, false);
        spec
    }

    #[test]
    fn calls_that_were_given_up_are_of_who_was_waited_for_in_the_end_and_not_of_who_waited_too() {
        for goes_on in [0, 300] {
            let verdict = verdict_of(&[given_up_twice(false, 0)], &given_up_twice(true, goes_on));
            assert_eq!(culprit_of(&verdict).service, "stock", "{goes_on}: {}", verdict.explanation);
        }
    }
}
