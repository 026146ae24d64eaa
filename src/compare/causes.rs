//! What each path of a slow trace has too much, and who owns it.

mod extra;

use super::edges::Ends;
use super::ledger::{Entry, Ledger, Side};
use super::traffic::{Part, WHOLE};
use super::{Category, failures, pairing};
use crate::baseline::floors::{Floor, Floors, absent_floor};
pub(super) use extra::extra_time;

/// One path of calls, slow beside normal. Times are nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Index into the slow ledger's entries; `None` for a path that only the linked reference has.
    pub(crate) slow: Option<usize>,
    /// The key under which references know it.
    pub(crate) reference_key: u64,
    /// On the path, in the linked reference.
    pub(crate) fast_time: u64,
    /// On the path, in the slow trace.
    pub(crate) slow_time: u64,
    /// Above what is normal.
    pub(crate) excess: u64,
    /// The part of `excess` that stems from more calls, and whose it is.
    pub(crate) extra: Option<Share>,
    /// Whose the rest is.
    pub(crate) rest: Share,
    /// Whether it is a call without an answer that references have an answer to.
    pub(crate) misses_answer: bool,
    /// A wait that could be either end's.
    pub(crate) wait: Option<Wait>,
}

/// A wait between two services, and how far it could be theirs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub(crate) caller: u64,
    pub(crate) callee: u64,
    pub(crate) ends: Ends,
}

/// Some time of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) service: u64,
    pub(crate) category: Category,
    /// Above what is normal, in nanoseconds.
    pub(crate) time: u64,
    /// How much that weighs when services are ranked.
    pub(crate) weight: Part,
}

impl Share {
    /// The time by its weight.
    pub(crate) fn weighed(&self) -> u64 {
        let weighed = u128::from(self.time) * u128::from(self.weight) / u128::from(WHOLE);
        u64::try_from(weighed).unwrap_or(u64::MAX)
    }
}

impl Row {
    /// What the slow trace has more than the linked reference, in nanoseconds.
    pub(crate) fn delta(&self) -> i128 {
        i128::from(self.slow_time) - i128::from(self.fast_time)
    }

    /// The delta by owner; the parts add up to it exactly.
    pub(crate) fn deltas(&self) -> impl Iterator<Item = (Share, i128)> {
        let delta = self.delta();
        let extra = self.extra.map(|extra| {
            // A path above its floor is above its reference, or the noise of the reference alone decides.
            let part = delta.max(0) * i128::from(extra.time) / i128::from(self.excess.max(1));
            (extra, part)
        });
        let rest = delta - extra.map_or(0, |(_, part)| part);
        extra.into_iter().chain([(self.rest, rest)])
    }
}

/// What is found out about the paths of one slow trace, callers before those they call.
struct Ancestry<'a> {
    slow: &'a Ledger,
    linked: &'a Ledger,
    floors: Vec<Option<&'a Floor>>,
    /// For each entry, the entry of the path around it.
    parents: Vec<usize>,
    /// Where more calls began that led here, and by how many times they grew there, in thousandths.
    origins: Vec<Option<(usize, u64)>>,
    /// Who failed first, where an entry failed.
    failed: Vec<Option<u64>>,
    /// Who below each took longest more than is normal, where nobody there failed.
    dawdlers: Vec<Option<u64>>,
    /// Nanoseconds that each took longer because less of what it did ran at once.
    lost: Vec<u64>,
}

/// Every path of the slow trace, then those that only the linked reference has.
pub(crate) fn rows(slow: &Ledger, linked: &Ledger, floors: &Floors) -> Vec<Row> {
    let keys = pairing::pair(slow, linked, floors);
    let mut ancestry = Ancestry::new(slow, linked, floors, &keys);
    ancestry.find_origins();
    let mut rows: Vec<Row> = Vec::with_capacity(keys.len());
    for (at, (entry, key)) in slow.entries.iter().zip(&keys).enumerate() {
        rows.push(ancestry.row(at, entry, *key));
    }
    let mut known = keys;
    known.sort_unstable();
    for entry in &linked.entries {
        if known.binary_search(&entry.key).is_err() {
            let (service, category) = natural(entry, None);
            rows.push(Row {
                slow: None,
                reference_key: entry.key,
                fast_time: entry.on_path,
                slow_time: 0,
                excess: 0,
                extra: None,
                rest: Share { service, category, time: 0, weight: WHOLE },
                misses_answer: false,
                wait: None,
            });
        }
    }
    rows
}

/// Who owns time of a path that is merely slower than it was, and what that is called.
fn natural(entry: &Entry, reference: Option<&Entry>) -> (u64, Category) {
    let callee = entry.callee.or(reference.and_then(|reference| reference.callee));
    match (entry.side, callee) {
        (Side::Work, _) => (entry.service, Category::OwnTime),
        (Side::Call, Some(callee)) if entry.gave_up > 0 => (callee, Category::Timeout),
        (Side::Call, Some(callee)) => (callee, Category::NetworkQueue),
        (Side::Call, None) if entry.gave_up > 0 => (entry.service, Category::Timeout),
        (Side::Call, None) => (entry.service, Category::Dependency),
    }
}

impl<'a> Ancestry<'a> {
    fn new(slow: &'a Ledger, linked: &'a Ledger, floors: &'a Floors, keys: &[u64]) -> Self {
        let parents = slow.entries.iter().enumerate();
        let parents: Vec<usize> =
            parents.map(|(at, entry)| slow.position(entry.parent).unwrap_or(at)).collect();
        let floors: Vec<Option<&Floor>> = keys.iter().map(|key| floors.get(*key)).collect();
        Self {
            slow,
            linked,
            lost: lost(slow, &floors, &parents),
            dawdlers: failures::dawdlers(slow, &floors, &parents),
            floors,
            failed: failures::origins(slow, linked, &parents),
            parents,
            origins: vec![None; slow.entries.len()],
        }
    }

    fn entry(&self, at: usize) -> Option<&'a Entry> {
        self.slow.entries.get(at)
    }

    fn floor(&self, at: usize) -> Option<&'a Floor> {
        self.floors.get(at).copied().flatten()
    }

    fn parent(&self, at: usize) -> usize {
        self.parents.get(at).copied().unwrap_or(at)
    }

    fn dawdler(&self, at: usize) -> Option<u64> {
        self.dawdlers.get(at).copied().flatten()
    }

    fn origin(&self, at: usize) -> Option<(usize, u64)> {
        self.origins.get(at).copied().flatten()
    }

    fn row(&self, at: usize, entry: &Entry, key: u64) -> Row {
        let reference = self.linked.entry(key);
        let floor = self.floor(at);
        let normal = floor.map_or(absent_floor(), |floor| floor.on_path);
        let excess = entry.on_path.saturating_sub(normal);
        let extra = self.extra(at, entry, excess).filter(|extra| extra.time > 0);
        let left = excess - extra.map_or(0, |extra| extra.time);
        let (service, category) = self.rest(at, entry, reference, left);
        let rest = Share { service, category, time: left, weight: WHOLE };
        Row {
            slow: Some(at),
            reference_key: key,
            fast_time: reference.map_or(0, |reference| reference.on_path),
            slow_time: entry.on_path,
            excess,
            extra,
            rest,
            misses_answer: entry.callee.is_none() && reference.is_some_and(|known| known.callee.is_some()),
            wait: None,
        }
    }

    /// Who owns what does not stem from more calls: `excess`.
    fn rest(&self, at: usize, entry: &Entry, reference: Option<&Entry>, excess: u64) -> (u64, Category) {
        let natural = natural(entry, reference);
        let Some(floor) = self.floor(at) else { return natural };
        let slower = entry.alone.saturating_sub(extra_time(entry, floor)).saturating_sub(floor.alone);
        if excess > 0 && slower < excess / 2 {
            // No call of it took longer, only less of it ran beside other work: whoever started it is to blame.
            if let Some(caller) = self.slower_ancestor(at) {
                return (caller.service, Category::LostConcurrency);
            }
        }
        let around = self.parent(at);
        let was_cut = around != at && self.entry(around).is_some_and(|call| call.gave_up > 0);
        match natural {
            (service, Category::OwnTime) if was_cut => (service, Category::Timeout),
            natural => natural,
        }
    }

    /// Of the paths around this one, who took longer most without what it called or its own work having taken longer; of
    /// equals the nearest. By a little, paths take longer by chance.
    fn slower_ancestor(&self, at: usize) -> Option<&'a Entry> {
        let mut at = at;
        let mut most: Option<(u64, &'a Entry)> = None;
        loop {
            let around = self.parent(at);
            let Some((entry, lost)) = self.entry(around).zip(self.lost.get(around)).filter(|_| around != at)
            else {
                return most.map(|(_, entry)| entry);
            };
            if *lost > most.map_or(0, |(lost, _)| lost) {
                most = Some((*lost, entry));
            }
            at = around;
        }
    }
}

/// For each entry of `slow`, by how many nanoseconds it took longer that neither what it called took longer nor its own
/// work: what used to run at once and no longer does.
fn lost(slow: &Ledger, floors: &[Option<&Floor>], parents: &[usize]) -> Vec<u64> {
    let longer = |entry: &Entry, floor: Option<&Floor>| {
        let (total, alone) = floor.map_or((0, 0), |floor| (floor.total, floor.alone));
        (entry.total.saturating_sub(total), entry.alone.saturating_sub(alone))
    };
    let mut below = vec![0_u64; slow.entries.len()];
    for (at, ((entry, floor), around)) in slow.entries.iter().zip(floors).zip(parents).enumerate() {
        if let Some(below) = below.get_mut(*around).filter(|_| *around != at) {
            *below = below.saturating_add(longer(entry, *floor).0);
        }
    }
    let entries = slow.entries.iter().zip(floors).zip(below);
    let lost = entries.map(|((entry, floor), below)| {
        let (total, alone) = longer(entry, *floor);
        total.saturating_sub(below).saturating_sub(alone)
    });
    lost.collect()
}

#[cfg(test)]
mod tests {
    use crate::compare::Category;
    use crate::compare::testing::{TraceSpec, culprit_of, verdict_of};

    const MS: i64 = 1000;

    /// web asks stock at these times, and each answer takes `length` milliseconds.
    fn asking(starts: &[i64], length: i64) -> TraceSpec {
        let last = starts.iter().max().copied().unwrap_or(0);
        let mut spec = TraceSpec::default().server((1, 0), ("web", "GET /"), (0, (last + length + 5) * MS));
        for (id, start) in (1..).zip(starts) {
            let during = (start * MS, (start + length) * MS);
            spec = spec.client((id * 2, 1), ("web", "GET"), during).server(
                (id * 2 + 1, id * 2),
                ("stock", "GET /stock"),
                during,
            );
        }
        spec
    }

    #[test]
    fn more_calls_beside_the_first_ones_cost_no_more_than_they_take_of_the_path() {
        // Each answer takes ten times as long, and whoever waits long asks a second time meanwhile.
        let verdict = verdict_of(&[asking(&[5, 6, 7], 20)], &asking(&[5, 6, 7, 8, 9, 10, 11, 12], 200));
        let culprit = culprit_of(&verdict);
        assert_eq!((culprit.service.as_str(), culprit.category), ("stock", Category::OwnTime));
    }

    #[test]
    fn calls_in_a_row_are_the_callers_even_where_there_is_one_more_of_them() {
        let verdict = verdict_of(&[asking(&[5, 6, 7, 8], 30)], &asking(&[5, 35, 65, 95, 96], 30));
        let culprit = culprit_of(&verdict);
        assert_eq!((culprit.service.as_str(), culprit.category), ("web", Category::LostConcurrency));
    }

    /// web asks stock four times, `apart` milliseconds after one another, and stock asks price, which takes `length`.
    fn asking_in_turn(apart: i64, length: i64) -> TraceSpec {
        let mut spec =
            TraceSpec::default().server((1, 0), ("web", "GET /"), (0, (3 * apart + length + 6) * MS));
        for call in 0..4 {
            let at = |more: i64| ((call * apart + 1 + more) * MS, (call * apart + 5 - more + length) * MS);
            let id = 10 * (1 + u64::try_from(call).expect("positive"));
            spec = spec
                .client((id, 1), ("web", "GET"), at(0))
                .server((id + 1, id), ("stock", "GET /stock"), at(1))
                .client((id + 2, id + 1), ("stock", "GET"), at(1))
                .server((id + 3, id + 2), ("price", "GET /price"), at(2));
        }
        spec
    }

    #[test]
    fn calls_in_a_row_are_of_who_makes_them_even_where_what_is_called_took_a_little_longer() {
        let verdict = verdict_of(&[asking_in_turn(0, 100)], &asking_in_turn(130, 125));
        let culprit = culprit_of(&verdict);
        assert_eq!((culprit.service.as_str(), culprit.category), ("web", Category::LostConcurrency));
    }

    /// web asks stock, which looks into its cache; where `misses`, stock asks its database each time, and web asks stock
    /// a second time meanwhile.
    fn asked_again(misses: bool) -> TraceSpec {
        let more = if misses { 300 * MS } else { 0 };
        let mut spec = TraceSpec::default().server((1, 0), ("web", "GET /"), (0, 30 * MS + more));
        let starts: &[i64] = if misses { &[5, 55] } else { &[5] };
        for (id, start) in (1..).zip(starts) {
            let (id, start) = (id * 10, start * MS);
            spec = spec
                .client((id, 1), ("web", "GET"), (start, 25 * MS + more))
                .server((id + 1, id), ("stock", "GET /stock"), (start, start + 20 * MS + more))
                .client((id + 2, id + 1), ("stock", "GET"), (start + MS, start + 2 * MS));
            if misses {
                let during = (start + 3 * MS, start + 3 * MS + more);
                spec = spec.client((id + 3, id + 1), ("stock", "SELECT"), during);
            }
        }
        spec
    }

    /// web asks stock, which asks price three times; where `in_turn`, one after the other, and web asks stock a second time
    /// meanwhile.
    fn asked_again_in_turn(in_turn: bool) -> TraceSpec {
        let (length, calls) = if in_turn { (160, 2) } else { (60, 1) };
        let mut spec = TraceSpec::default().server((1, 0), ("web", "GET /"), (0, (length + 20) * MS));
        for call in 0..calls {
            let (id, start) = (10 * (1 + call), 5 + 50 * i64::try_from(call).expect("small"));
            let end = length + 15 - i64::from(call > 0);
            spec = spec.client((id, 1), ("web", "GET"), (start * MS, end * MS)).server(
                (id + 1, id),
                ("stock", "GET /stock"),
                ((start + 1) * MS, (end - 1) * MS),
            );
            for (asked, id) in (0..).zip(id + 2..id + 5) {
                let from = start + 3 + if in_turn { 50 * asked } else { 0 };
                spec = spec.client(
                    (id, 10 * (1 + call) + 1),
                    ("stock", "SELECT"),
                    (from * MS, (from + 50) * MS),
                );
            }
        }
        spec
    }

    #[test]
    fn a_second_call_beside_the_first_is_no_reason_for_what_makes_the_first_one_long() {
        let verdict = verdict_of(&[asked_again_in_turn(false)], &asked_again_in_turn(true));
        let culprit = culprit_of(&verdict);
        assert_eq!((culprit.service.as_str(), culprit.category), ("stock", Category::LostConcurrency));
    }

    #[test]
    fn what_the_first_call_does_as_well_does_not_stem_from_the_second() {
        let verdict = verdict_of(&[asked_again(false)], &asked_again(true));
        let culprit = culprit_of(&verdict);
        assert_eq!((culprit.service.as_str(), culprit.category), ("stock", Category::NewPath));
    }

    #[test]
    fn one_failure_among_many_more_calls_is_not_why_they_are_made() {
        let starts: Vec<i64> = (0..40).map(|call| 5 + call * 10).collect();
        let mut slow = asking(&starts, 9);
        for span in &mut slow.spans[1..3] {
            span.is_error = true;
        }
        let verdict = verdict_of(&[asking(&starts[..3], 9)], &slow);
        let culprit = culprit_of(&verdict);
        assert_eq!((culprit.service.as_str(), culprit.category), ("web", Category::ExtraCalls));
    }
}
