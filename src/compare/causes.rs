//! What each path of a slow trace has too much, and who owns it.

use super::edges::Ends;
use super::ledger::{Entry, Ledger, Side};
use super::traffic::{Part, WHOLE};
use super::{Category, failures, pairing};
use crate::baseline::floors::{Floor, Floors, absent_floor};

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
        Self {
            slow,
            linked,
            floors: keys.iter().map(|key| floors.get(*key)).collect(),
            failed: failures::origins(slow, &parents),
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

    fn origin(&self, at: usize) -> Option<(usize, u64)> {
        self.origins.get(at).copied().flatten()
    }

    /// Of a chain of paths that are new or are called more often, the one where the calls grew most is to blame.
    fn find_origins(&mut self) {
        for at in self.slow.outward.iter().map(|at| *at as usize) {
            let Some(entry) = self.entry(at) else { continue };
            let parent = self.parent(at);
            let around = if parent == at { None } else { self.origin(parent) };
            let own = match self.floor(at) {
                // A path never seen came with the first call that led to it.
                None => Some((at, 0)),
                Some(floor) if entry.instances > floor.instances => {
                    let grew = u64::from(entry.instances) * 1000 / u64::from(floor.instances.max(1));
                    let around = match (self.entry(parent), self.floor(parent)) {
                        (Some(entry), Some(floor)) => {
                            u64::from(entry.instances) * 1000 / u64::from(floor.instances.max(1))
                        }
                        _ => 1000,
                    };
                    Some((at, grew * 1000 / around.max(1)))
                }
                Some(_) => None,
            };
            let origin = own.map(|own| match around {
                Some(around) if around.1 >= own.1 => around,
                _ => own,
            });
            if let Some(slot) = self.origins.get_mut(at) {
                *slot = origin;
            }
        }
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

    /// The part of an excess that stems from calls that references do not make, or not so often.
    fn extra(&self, at: usize, entry: &Entry, excess: u64) -> Option<Share> {
        let (origin_at, _) = self.origin(at)?;
        let origin = self.entry(origin_at)?;
        let caller =
            self.entry(self.parent(origin_at)).filter(|_| origin.side == Side::Work).unwrap_or(origin);
        let floor = self.floor(at);
        let failed = || self.failed.get(origin_at).copied().flatten().unwrap_or(origin.service);
        let (service, category) = match self.floor(origin_at) {
            Some(known) if is_retry(origin, known) => (failed(), Category::Retry),
            Some(_) => (caller.service, Category::ExtraCalls),
            // Calls of the same kind are made there that were answered: this is one of them that was not.
            None if is_given_up(origin) => match failures::silent(origin, self.slow, self.linked) {
                Some(silent) => (silent, Category::Timeout),
                None => (caller.service, Category::NewPath),
            },
            None if self.calls_more(origin) => (caller.service, Category::ExtraCalls),
            None => (caller.service, Category::NewPath),
        };
        let time = match floor {
            // Calls that failed before one succeeded are those of who failed, however long each took.
            _ if category == Category::Retry => excess,
            None => excess,
            Some(floor) => {
                // Of more calls that run beside one another only a part lies on the path.
                let time = u128::from(extra_time(entry, floor)) * u128::from(entry.on_path)
                    / u128::from(entry.alone.max(1));
                excess.min(u64::try_from(time).unwrap_or(u64::MAX))
            }
        };
        Some(Share { service, category, time, weight: WHOLE })
    }

    /// Whether a new kind of call stands for more calls to a service that was called from here before.
    fn calls_more(&self, origin: &Entry) -> bool {
        let calls = |ledger: &Ledger| -> u64 {
            let same = ledger.entries.iter().filter(|entry| {
                entry.side == Side::Call
                    && entry.parent == origin.parent
                    && entry.service == origin.service
                    && entry.callee == origin.callee
            });
            same.map(|entry| u64::from(entry.instances)).sum()
        };
        let before = calls(self.linked);
        origin.side == Side::Call && origin.callee.is_some() && before > 0 && calls(self.slow) > before
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

    /// The nearest path around this one that took longer as a whole.
    fn slower_ancestor(&self, at: usize) -> Option<&'a Entry> {
        let mut at = at;
        loop {
            let around = self.parent(at);
            if around == at {
                return None;
            }
            let entry = self.entry(around)?;
            if entry.total > self.floor(around)?.total {
                return Some(entry);
            }
            at = around;
        }
    }
}

/// Nanoseconds that the calls which references do not make would take, each as long as it normally does.
fn extra_time(entry: &Entry, floor: &Floor) -> u64 {
    let calls = u64::from(entry.instances.saturating_sub(floor.instances));
    calls.saturating_mul(floor.alone_of_one)
}

/// Whether calls are made more often because some of them failed: about as many as there are more.
fn is_retry(call: &Entry, floor: &Floor) -> bool {
    let more = call.instances.saturating_sub(floor.instances);
    call.side == Side::Call && call.errors > 0 && call.errors * 2 >= more
}

fn is_given_up(call: &Entry) -> bool {
    call.gave_up > 0 && call.gave_up * 2 >= call.instances
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
