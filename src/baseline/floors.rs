//! What is normal for each path of calls among a ring of references.

use serde::{Deserialize, Serialize};

use crate::compare::ledger::Ledger;
use crate::otlp::Nanos;

/// Below so many references a percentile says nothing yet.
const ENOUGH: usize = 8;

/// Of a few values, this part more than the highest may be chance.
const MARGIN: u64 = 5;

/// Nothing that is read from a file took longer, in nanoseconds: 104 days.
const LONGEST: Nanos = 1 << 53;

/// One reference in the ring: what its ledger says, without names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Past {
    pub(crate) duration: Nanos,
    rows: Box<[PastRow]>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct PastRow {
    key: u64,
    on_path: Nanos,
    alone: Nanos,
    total: Nanos,
    instances: u32,
}

impl PastRow {
    /// Nanoseconds, of the mean call.
    fn alone_of_one(&self) -> Nanos {
        self.alone / u64::from(self.instances.max(1))
    }
}

impl Past {
    pub(crate) fn of(ledger: &Ledger) -> Self {
        let rows = ledger.entries.iter().map(|entry| PastRow {
            key: entry.key,
            on_path: entry.on_path,
            alone: entry.alone,
            total: entry.total,
            instances: entry.instances,
        });
        Self { duration: ledger.duration, rows: rows.collect() }
    }

    /// What was read from a file. Whatever times that says, a ring of them can be summed up.
    pub(crate) fn restored(mut self) -> Self {
        self.duration = self.duration.min(LONGEST);
        for row in &mut self.rows {
            for time in [&mut row.on_path, &mut row.alone, &mut row.total] {
                *time = (*time).min(LONGEST);
            }
        }
        self
    }

    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.rows)
    }
}

/// What is normal for one path of calls; times are nanoseconds of one trace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    pub(crate) key: u64,
    /// On the critical path: the 95th percentile.
    pub(crate) on_path: Nanos,
    /// On the path or not: the 95th percentile.
    pub(crate) alone: Nanos,
    /// From start to end: the 95th percentile.
    pub(crate) total: Nanos,
    /// How often it is called: the 95th percentile.
    pub(crate) instances: u32,
    /// Of one call, on the path or not: the mean.
    pub(crate) alone_of_one: Nanos,
    /// Whether every reference has it.
    pub(crate) is_always_there: bool,
}

/// What is normal for a route and shape.
#[derive(Clone, Debug)]
pub(crate) struct Floors {
    /// How many references there are.
    pub(crate) count: usize,
    /// The 95th percentile of the entry span's duration, in nanoseconds.
    pub(crate) duration: Nanos,
    rows: Vec<Floor>,
}

impl Floors {
    /// Whether there are enough references for percentiles; of fewer, what is normal is a guess.
    pub(crate) fn are_known(&self) -> bool {
        self.count >= ENOUGH
    }

    pub(crate) fn of<'p>(ring: impl Iterator<Item = &'p Past> + Clone) -> Self {
        let count = ring.clone().count();
        let mut rows: Vec<PastRow> = ring.clone().flat_map(|past| past.rows.iter().copied()).collect();
        rows.sort_by_key(|row| row.key);
        let rows = rows.chunk_by(|a, b| a.key == b.key).filter_map(|same| Floor::of(same, count)).collect();
        Self { count, duration: floor(ring.map(|past| past.duration), count), rows }
    }

    /// What is normal for this path; `None` where no reference has it.
    pub(crate) fn get(&self, key: u64) -> Option<&Floor> {
        self.rows.get(self.rows.binary_search_by_key(&key, |row| row.key).ok()?)
    }

    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.rows.capacity() * size_of::<Floor>()
    }
}

impl Floor {
    /// From the references that have the path, of `count` in all.
    fn of(same: &[PastRow], count: usize) -> Option<Self> {
        let first = same.first()?;
        let absent = count.saturating_sub(same.len());
        let padded = |value: fn(&PastRow) -> Nanos| {
            floor(same.iter().map(value).chain(std::iter::repeat_n(0, absent)), count)
        };
        let instances = same.iter().map(|row| u64::from(row.instances));
        let most = high(instances.chain(std::iter::repeat_n(0, absent)));
        Some(Self {
            key: first.key,
            on_path: padded(|row| row.on_path),
            alone: padded(|row| row.alone),
            total: padded(|row| row.total),
            instances: u32::try_from(most).unwrap_or(u32::MAX),
            alone_of_one: quantile(same.iter().map(PastRow::alone_of_one), 1, 2),
            is_always_there: absent <= usize::from(count >= ENOUGH),
        })
    }
}

/// What nearly all values do not exceed; of few values, with a margin: a fifth of it, at least a millisecond.
fn floor(values: impl Iterator<Item = Nanos>, count: usize) -> Nanos {
    let high = high(values);
    if count >= ENOUGH { high } else { high.saturating_add(absent_floor().max(high / MARGIN)) }
}

/// What a path may exceed the highest of a few references by, in percent and at least in nanoseconds.
pub(crate) fn margin() -> (u64, Nanos) {
    (100 / MARGIN, absent_floor())
}

/// The 95th percentile, but never the highest of three and more: one trace alone, however odd, says nothing of what is
/// normal.
fn high(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    let count = values.len();
    let rank = (count * 95).div_ceil(100).min(if count < 3 { count } else { count - 1 });
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// What a path that no reference has must exceed, in nanoseconds.
pub(crate) fn absent_floor() -> Nanos {
    1_000_000
}

/// The smallest value that at least `part` of `whole` of all values do not exceed; 0 without values.
pub(crate) fn quantile(values: impl Iterator<Item = u64>, part: usize, whole: usize) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    let rank = (values.len() * part).div_ceil(whole).max(1);
    values.get(rank - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        assert_eq!(quantile([4, 1, 3, 2].into_iter(), 1, 2), 2);
        assert_eq!(quantile(1..=32, 95, 100), 31);
        assert_eq!(quantile(1..=8, 95, 100), 8);
        assert_eq!(quantile([7].into_iter(), 1, 4), 7);
        assert_eq!(quantile(std::iter::empty(), 1, 2), 0);
    }

    #[test]
    fn a_few_references_get_a_margin_and_many_a_percentile() {
        assert_eq!(floor([10_000_000, 20_000_000].into_iter(), 2), 24_000_000);
        assert_eq!(floor([1_000_000].into_iter(), 1), 2_000_000);
        assert_eq!(floor(1..=40, 40), 38);
    }

    #[test]
    fn the_highest_of_three_and_more_references_is_no_floor() {
        for count in 3..=40 {
            let with_one_more = floor(std::iter::repeat_n(5_000_000, count - 1).chain([u64::MAX]), count);
            assert_eq!(with_one_more, if count < ENOUGH { 6_000_000 } else { 5_000_000 }, "{count}");
        }
    }
}
