//! Which end of an edge owns a wait, and how much the time of each path weighs when services are ranked.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::Category;
use super::causes::{Row, Wait};
use super::edges::{Edges, Ends};
use super::ledger::{Entry, Ledger, Side};
use super::traffic::{Look, Part, WHOLE};

/// Time that is unusual for this trace alone, while its like in all other traces is as always, weighs so much: it
/// counts where nothing else is found, and gives way to what is out of order everywhere.
const ACCIDENT: Part = WHOLE / 6;

/// Weighs each path's time by how far its kind of work is out of order in all traffic, and judges waits from both
/// ends.
pub(super) fn weigh(rows: &mut [Row], slow: &Ledger, look: &Look) {
    let in_trace = Edges::of_trace(rows.iter().filter_map(|row| {
        let (entry, edge) = edge(row, slow)?;
        Some((edge, row.rest.time, u64::from(entry.instances)))
    }));
    for row in &mut *rows {
        let Some(at) = row.slow else { continue };
        let odd = look.oddness.get(at).copied().unwrap_or(WHOLE);
        if is_merely_slower(row.rest.category) {
            row.rest.weight = ACCIDENT + odd * (WHOLE - ACCIDENT) / WHOLE;
        }
        let Some((_, (caller, callee))) = edge(row, slow) else { continue };
        let in_traffic = look.edges.ends(caller, callee);
        row.wait = in_trace.ends(caller, callee).map(|ends| {
            let odd = look.edges.oddness(caller, callee).unwrap_or(0);
            Wait { caller, callee, ends: in_traffic.map_or(ends, |traffic| traffic.with(ends, odd)) }
        });
    }
    let ranks = ranks(rows);
    let top =
        ranks.iter().max_by_key(|(service, rank)| (**rank, Reverse(**service))).map(|(service, _)| *service);
    for row in rows {
        let Some(wait) = row.wait.filter(Wait::suspects_caller) else { continue };
        let is_callers =
            Some(wait.caller) == top || (Some(wait.callee) != top && wait.ends.caller > wait.ends.callee);
        let part = if is_callers { wait.ends.caller } else { wait.ends.callee };
        if is_callers {
            row.rest.service = wait.caller;
            row.rest.category = Category::Saturation;
        }
        row.rest.weight = row.rest.weight * part / WHOLE;
    }
}

/// The edge that a row's time was waited on.
fn edge<'l>(row: &Row, slow: &'l Ledger) -> Option<(&'l Entry, (u64, u64))> {
    let entry = slow.entries.get(row.slow?)?;
    let is_wait = row.rest.category == Category::NetworkQueue && entry.side == Side::Call;
    is_wait.then_some((entry, (entry.service, row.rest.service)))
}

/// More calls, new calls and calls in a row are what this trace did; how long such calls take says nothing of it.
fn is_merely_slower(category: Category) -> bool {
    matches!(
        category,
        Category::OwnTime
            | Category::NetworkQueue
            | Category::Dependency
            | Category::Timeout
            | Category::Saturation
    )
}

/// Two ends of an edge that differ by less than this part of what speaks for them are in a draw.
const DRAW: Part = 10;

impl Wait {
    /// Whether hardly anything speaks for one end more than for the other.
    pub(super) fn is_draw(&self) -> bool {
        let Ends { caller, callee } = self.ends;
        caller.abs_diff(callee) <= caller.max(callee) / DRAW
    }

    fn suspects_caller(&self) -> bool {
        !self.is_draw() && self.ends.caller > 0
    }
}

/// The time that could be each service's, weighed: a wait counts for both its ends, with what each of them explains
/// of all that is odd.
fn ranks(rows: &[Row]) -> BTreeMap<u64, u64> {
    let mut ranks: BTreeMap<u64, u64> = BTreeMap::new();
    let mut add = |service: u64, time: u64, part: Part| {
        let time = u128::from(time) * u128::from(part) / u128::from(WHOLE);
        *ranks.entry(service).or_default() += u64::try_from(time).unwrap_or(u64::MAX);
    };
    for row in rows {
        if let Some(extra) = row.extra {
            add(extra.service, extra.time, extra.weight);
        }
        let weighed = row.rest.weighed();
        match row.wait {
            Some(wait) if wait.suspects_caller() => {
                add(wait.caller, weighed, wait.ends.caller);
                add(wait.callee, weighed, wait.ends.callee);
            }
            Some(wait) => add(wait.callee, weighed, WHOLE),
            None => add(row.rest.service, weighed, WHOLE),
        }
    }
    ranks
}

/// One edge cannot say which of its ends is slow; the others of the same caller can, where the traffic does not. Where a caller waits longer on
/// most of its callees at once, and on none of them alone, it is itself that is slow to notice the answers.
pub(super) fn give_fans_to_their_caller(rows: &mut [Row], slow: &Ledger) {
    let entry_service =
        slow.outward.first().and_then(|at| slow.entries.get(*at as usize)).map(|entry| entry.service);
    let mut callers: BTreeMap<u64, BTreeMap<u64, u64>> = BTreeMap::new();
    let caller_of = |row: &Row| {
        let entry = slow.entries.get(row.slow?)?;
        let is_wait = row.rest.category == Category::NetworkQueue && entry.side == Side::Call;
        (is_wait && row.wait.is_none_or(|wait| wait.is_draw())).then_some(entry.service)
    };
    for row in rows.iter() {
        if let Some(caller) = caller_of(row) {
            *callers.entry(caller).or_default().entry(row.rest.service).or_default() += row.rest.time;
        }
    }
    callers.retain(|caller, callees| {
        let enough = if Some(*caller) == entry_service { 3 } else { 2 };
        let grown = callees.values().filter(|time| **time > 0).count();
        let total: u64 = callees.values().sum();
        let largest = callees.values().copied().max().unwrap_or(0);
        callees.len() >= enough && grown * 10 >= callees.len() * 6 && largest * 10 <= total * 8
    });
    for row in rows {
        if let Some(caller) = caller_of(row).filter(|caller| callers.contains_key(caller)) {
            row.rest.service = caller;
            row.rest.category = Category::Saturation;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::compare::Category;
    use crate::compare::testing::{TraceSpec, both_verdicts, culprit_of, verdict_of};

    const MS: i64 = 1000;

    /// web asks cart, which asks stock and then price, and waits `on` so many milliseconds before each of them begins.
    fn waiting(on: [i64; 2]) -> TraceSpec {
        let (first, second) = (40 + on[0], 40 + on[1]);
        let end = 10 + first + second;
        let mut spec = TraceSpec::default()
            .server((1, 0), ("web", "GET /"), (0, (end + 10) * MS))
            .client((2, 1), ("web", "GET"), (3 * MS, (end + 5) * MS))
            .server((3, 2), ("cart", "GET /cart"), (4 * MS, (end + 4) * MS));
        for (id, name, start, length, wait) in
            [(4, "stock", 8, first, on[0]), (6, "price", 8 + first, second, on[1])]
        {
            spec = spec.client((id, 3), ("cart", name), (start * MS, (start + length) * MS)).server(
                (id + 1, id),
                (name, "GET"),
                ((start + wait + 1) * MS, (start + length - 1) * MS),
            );
        }
        spec
    }

    #[test]
    fn who_waits_on_all_of_its_callees_is_to_blame_even_where_it_waits_longer_on_one() {
        let fast = [waiting([0, 0])];
        for on in [[100, 100], [120, 80], [70, 130]] {
            for verdict in both_verdicts(&fast, &waiting(on)) {
                let culprit = culprit_of(&verdict);
                let found = (culprit.service.as_str(), culprit.category);
                assert_eq!(found, ("cart", Category::Saturation), "{on:?}");
            }
        }
        let verdict = verdict_of(&fast, &waiting([200, 0]));
        assert_eq!(culprit_of(&verdict).service, "stock");
    }
}
