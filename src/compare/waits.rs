//! Which end of an edge owns a wait.

use std::collections::BTreeMap;

use super::Category;
use super::causes::{Ends, Row};
use super::edges::{Shares, View, WHOLE};
use super::ledger::{Ledger, Side};

/// Judges waits from both ends, by what all traffic shows. Both ends are ranked with the whole wait times their
/// share; it then falls in full to the end that ranks higher.
pub(super) fn judge(rows: &mut [Row], slow: &Ledger, edges: &View) {
    for row in &mut *rows {
        let Some(entry) = row.slow.and_then(|at| slow.entries.get(at)) else { continue };
        if row.rest.category != Category::NetworkQueue || entry.side != Side::Call {
            continue;
        }
        let (caller, callee) = (entry.service, row.rest.service);
        row.ends = edges.shares(caller, callee).map(|shares| Ends { caller, callee, shares });
    }
    let ranks = ranks(rows);
    let rank = |service: &u64| ranks.get(service).copied().unwrap_or(0);
    for row in rows {
        let Some(ends) = row.ends else { continue };
        if ends.shares.caller > 0 && rank(&ends.caller) > rank(&ends.callee) {
            row.rest.service = ends.caller;
            row.rest.category = Category::Saturation;
        }
    }
}

/// The time that could be each service's.
fn ranks(rows: &[Row]) -> BTreeMap<u64, u64> {
    let mut ranks: BTreeMap<u64, u64> = BTreeMap::new();
    let mut add = |service: u64, time: u64, share: u64| {
        let time = u128::from(time) * u128::from(share) / u128::from(WHOLE);
        *ranks.entry(service).or_default() += u64::try_from(time).unwrap_or(u64::MAX);
    };
    for row in rows {
        if let Some(extra) = row.extra {
            add(extra.service, extra.time, WHOLE);
        }
        match row.ends {
            // Where nothing tells the ends apart it is the callee's.
            Some(ends) if ends.is_draw() => add(ends.callee, row.rest.time, WHOLE),
            Some(Ends { caller, callee, shares }) => {
                let Shares { caller: of_caller, callee: of_callee } = shares;
                add(caller, row.rest.time, of_caller);
                add(callee, row.rest.time, of_callee);
            }
            None => add(row.rest.service, row.rest.time, WHOLE),
        }
    }
    ranks
}

/// One edge cannot say which of its ends is slow; the others of the same caller can. Where a caller waits longer on
/// most of its callees at once, and on none of them alone, it is itself that is slow to notice the answers.
pub(super) fn give_fans_to_their_caller(rows: &mut [Row], slow: &Ledger) {
    let entry_service =
        slow.outward.first().and_then(|at| slow.entries.get(*at as usize)).map(|entry| entry.service);
    let mut callers: BTreeMap<u64, BTreeMap<u64, u64>> = BTreeMap::new();
    let caller_of = |row: &Row| {
        let entry = slow.entries.get(row.slow?)?;
        let is_wait = row.rest.category == Category::NetworkQueue && entry.side == Side::Call;
        (is_wait && row.ends.is_none()).then_some(entry.service)
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
