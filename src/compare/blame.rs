//! From paths to services: how much of the added time falls to each, and where it was spent.

use std::collections::BTreeMap;

use super::Category;
use super::analysis::Analysis;
use super::causes::{self, Row};
use super::ledger::{Entry, Ledger, Side};
use super::traffic::Look;
use super::{streams, waits};
use crate::baseline::floors::Floors;

/// Where the added time of one slow trace went.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) rows: Vec<Row>,
    /// The highest rank first; of equal ones by name.
    pub(crate) services: Vec<Blamed>,
    /// Calls that were answered in every reference and have no answer here.
    pub(crate) missing: usize,
    /// Work of others that every reference has, and that this trace does not have, while it has the work around it.
    pub(crate) absent: Vec<Absent>,
    /// Nanoseconds above what is normal that streams and long polls took: nobody's time.
    pub(crate) open: u64,
}

/// Work that has no span here. No client span says whether it was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Absent {
    /// The key under which references know the work that it is usually done for.
    pub(crate) around: u64,
    /// Whose it is.
    pub(crate) service: u64,
}

/// One service. Times are nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Blamed {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// Time above what is normal.
    pub(crate) score: u64,
    /// The same, weighed by how far it is out of order in all traffic: what services are ranked by.
    pub(crate) rank: u64,
    /// Time more than in the linked reference; over all services these add up to the entry spans' difference.
    pub(crate) delta: i128,
    /// On the path in the linked reference.
    pub(crate) fast: u64,
    /// On the path in the slow trace: `fast` and `delta` together.
    pub(crate) slow: u64,
    /// The same, with calls that another service is to blame for.
    pub(crate) spent: u64,
    /// What most of the score is.
    pub(crate) category: Category,
    /// The row with most of that.
    pub(crate) row: usize,
}

/// Compares a trace with the linked reference and with what is normal and, where all traffic is seen, with what that says.
pub(crate) fn findings(
    analysis: &Analysis<'_>,
    linked: &Ledger,
    floors: &Floors,
    look: Option<&Look>,
) -> Findings {
    let slow = &analysis.ledger;
    let mut rows = causes::rows(slow, linked, floors);
    let open = streams::set_aside(&mut rows, analysis);
    if let Some(look) = look {
        waits::weigh(&mut rows, slow, look);
    }
    waits::give_fans_to_their_caller(&mut rows, slow);
    let missing = rows.iter().filter(|row| row.misses_answer).filter_map(|row| {
        let floor = floors.get(row.reference_key)?;
        let calls = slow.entries.get(row.slow?)?;
        // A call that was given up says itself why it has no answer.
        floor.is_always_there.then_some((calls.instances - calls.gave_up) as usize)
    });
    let missing = missing.sum();
    let services = by_service(&rows, slow, linked);
    let absent = absent(&rows, slow, linked, floors);
    Findings { rows, services, missing, absent, open }
}

/// Work right below other work that every reference has on its path, and nothing in its place here.
fn absent(rows: &[Row], slow: &Ledger, linked: &Ledger, floors: &Floors) -> Vec<Absent> {
    let is_work_below = |ledger: &Ledger, entry: &Entry| {
        entry.side == Side::Work
            && entry.parent != entry.key
            && ledger.entry(entry.parent).is_some_and(|around| around.side == Side::Work)
    };
    let replaced = rows.iter().filter_map(|row| {
        let entry = slow.entries.get(row.slow?)?;
        (floors.get(row.reference_key).is_none() && is_work_below(slow, entry)).then_some(entry.parent)
    });
    let mut replaced: Vec<u64> = replaced.collect();
    replaced.sort_unstable();
    let gone = rows.iter().filter(|row| row.slow.is_none());
    let absent = gone.filter_map(|row| {
        let (entry, floor) = (linked.entry(row.reference_key)?, floors.get(row.reference_key)?);
        let is_missed = floor.is_always_there && floor.on_path > 0 && is_work_below(linked, entry);
        (is_missed && replaced.binary_search(&entry.parent).is_err())
            .then_some(Absent { around: entry.parent, service: entry.service })
    });
    absent.collect()
}

fn by_service(rows: &[Row], slow: &Ledger, linked: &Ledger) -> Vec<Blamed> {
    struct Sum {
        score: u64,
        rank: u64,
        delta: i128,
        fast: u64,
        slow: i128,
        spent: u64,
        categories: BTreeMap<Category, (u64, u64, usize)>,
    }
    let mut sums: BTreeMap<u64, Sum> = BTreeMap::new();
    let mut sum_of = |service: u64, add: &mut dyn FnMut(&mut Sum)| {
        add(sums.entry(service).or_insert_with(|| Sum {
            score: 0,
            rank: 0,
            delta: 0,
            fast: 0,
            slow: 0,
            spent: 0,
            categories: BTreeMap::new(),
        }));
    };
    for (at, row) in rows.iter().enumerate() {
        sum_of(row.rest.service, &mut |sum| {
            sum.fast += row.fast_time;
            sum.slow += i128::from(row.fast_time);
            sum.spent += row.slow_time;
        });
        for (share, delta) in row.deltas() {
            sum_of(share.service, &mut |sum| {
                sum.slow += delta;
                sum.score += share.time;
                sum.rank += share.weighed();
                sum.delta += delta;
                let (time, most, best) = sum.categories.entry(share.category).or_insert((0, 0, at));
                *time += share.time;
                if share.time > *most {
                    (*most, *best) = (share.time, at);
                }
            });
        }
    }
    let mut services: Vec<Blamed> = sums
        .into_iter()
        .filter_map(|(id, sum)| {
            let name = slow.service_name(id).or_else(|| linked.service_name(id))?.to_owned();
            let (category, (.., row)) = sum
                .categories
                .iter()
                .max_by_key(|(category, (time, ..))| (*time, std::cmp::Reverse(**category)))?;
            let (category, row) = (*category, *row);
            let Sum { score, rank, delta, fast, slow, spent, .. } = sum;
            let slow = u64::try_from(slow).unwrap_or(0);
            Some(Blamed { id, name, score, rank, delta, fast, slow, spent, category, row })
        })
        .collect();
    services.sort_by(|a, b| b.rank.cmp(&a.rank).then_with(|| a.name.cmp(&b.name)).then(a.id.cmp(&b.id)));
    services
}

impl Findings {
    /// The row that names the category of a service.
    pub(crate) fn row_of(&self, service: &Blamed) -> Option<&Row> {
        self.rows.get(service.row)
    }
}
