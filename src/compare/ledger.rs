//! A trace reduced to exclusive critical-path time per path of calls.
//!
//! A path of calls holds only the spans that cross a process border: the entry span, calls, and what answered them.
//! INTERNAL spans are folded into the span that they refine, so wrapping or splitting work inside a service changes
//! no entry. Order, ids and timing of siblings do not matter.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::calls::Calls;
use super::column::Column;
use super::sweep::Path;
use super::tree::{NONE, Tree, hash_of};

/// More paths than this are lumped together per service, the shortest first.
const MAX_ENTRIES: usize = 4096;

/// Whose time an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// A service at work: it was entered here.
    Work,
    /// A service waiting for an answer: time of a call outside of what answered it.
    Call,
}

/// One path of calls. Times are nanoseconds, summed over all its instances.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// The same for the same path in every trace.
    pub(crate) key: u64,
    /// Of the last two elements of the path, for paths that gained or lost a hop.
    pub(crate) suffix: u64,
    /// The key of the path without its last element; the entry span's is its own.
    pub(crate) parent: u64,
    /// The kind of work that it is, on whatever path.
    pub(crate) item: u64,
    pub(crate) side: Side,
    /// Hash of the templated name.
    pub(crate) name: u64,
    /// [`super::tree::Service::id`].
    pub(crate) service: u64,
    /// Of a call: who answered it, if a span of theirs is here.
    pub(crate) callee: Option<u64>,
    /// Of a call that failed and that nobody answered: hash of what the peer may be called as a service.
    pub(crate) peer: Option<u64>,
    /// Of the entry span's time, spent here.
    pub(crate) on_path: u64,
    /// Spent here, on the path or not.
    pub(crate) alone: u64,
    /// From start to end.
    pub(crate) total: u64,
    pub(crate) instances: u32,
    pub(crate) on_path_instances: u32,
    pub(crate) errors: u32,
    /// Failed, and nothing that it waited for did.
    pub(crate) failed_itself: u32,
    /// Failed, and its answer was cut off or is not here.
    pub(crate) gave_up: u32,
    /// The node with most time on the path.
    pub(crate) longest: u32,
    /// Its time on the path.
    longest_time: u64,
}

/// The entries of one trace.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    /// Ordered by key.
    pub(crate) entries: Vec<Entry>,
    /// Indices of `entries`, callers before those they call.
    pub(crate) outward: Vec<u32>,
    /// Service ids with their names, ordered by id.
    pub(crate) services: Vec<(u64, String)>,
    /// The entry span's duration in nanoseconds.
    pub(crate) duration: u64,
    /// Start of the entry span to the last end, in nanoseconds.
    pub(crate) envelope: u64,
    /// Spans of the trace that could not be put in their places.
    pub(crate) broken: usize,
}

impl Ledger {
    pub(crate) fn of(tree: &Tree<'_>, path: &Path, calls: &Calls) -> Self {
        let count = tree.nodes.as_slice().len();
        let mut rows: Vec<Entry> = Vec::new();
        let mut by_key: HashMap<u64, u32, FixedState> =
            HashMap::with_capacity_and_hasher(count.min(64), FixedState::default());
        let mut row_of: Column<u32> = Column::filled(NONE, count);
        let mut is_on_path = Column::filled(false, count);
        for number in 0..tree.nodes.length() {
            let base = calls.base[number];
            if base == number {
                let next = u32::try_from(rows.len()).unwrap_or(NONE);
                let at = *by_key.entry(calls.key[number]).or_insert(next);
                row_of[number] = at;
                let instance = || Entry::first(tree, calls, number);
                match rows.get_mut(at as usize) {
                    Some(row) => row.add(&instance()),
                    None => rows.push(instance()),
                }
            }
            let Some(row) = rows.get_mut(row_of[base] as usize) else { continue };
            let own = path.own[number];
            row.alone = row.alone.saturating_add(path.alone[number]);
            row.errors += u32::from(tree.nodes[number].is_error && base == number);
            if own == 0 {
                continue;
            }
            row.on_path = row.on_path.saturating_add(own);
            row.on_path_instances += u32::from(!is_on_path[base]);
            is_on_path[base] = true;
            // Of equals the one that stands further up in the trace.
            let is_longer =
                own > row.longest_time || (own == row.longest_time && base < calls.base[row.longest]);
            if is_longer {
                (row.longest_time, row.longest) = (own, number);
            }
        }
        let (entries, outward) = ordered(&lumped(rows));
        let mut services: Vec<_> =
            tree.services.iter().map(|service| (service.id, service.name.clone())).collect();
        services.sort_unstable();
        let duration = tree.entry().duration();
        Self { entries, outward, services, duration, envelope: tree.envelope, broken: tree.broken() }
    }

    /// The entry with this key.
    pub(crate) fn entry(&self, key: u64) -> Option<&Entry> {
        self.entries.get(self.position(key)?)
    }

    /// Where in `entries` this key stands.
    pub(crate) fn position(&self, key: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&key, |entry| entry.key).ok()
    }

    /// The name of a service of this trace.
    pub(crate) fn service_name(&self, id: u64) -> Option<&str> {
        let at = self.services.binary_search_by_key(&id, |service| service.0).ok()?;
        self.services.get(at).map(|service| service.1.as_str())
    }

    /// Bytes on the heap.
    pub(crate) fn size(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.outward.capacity() * size_of::<u32>()
            + self
                .services
                .iter()
                .map(|service| size_of::<(u64, String)>() + service.1.capacity())
                .sum::<usize>()
    }
}

/// Bounds the entries. They come, and stay, callers before those they call.
fn lumped(mut entries: Vec<Entry>) -> Vec<Entry> {
    if entries.len() <= MAX_ENTRIES {
        return entries;
    }
    entries.sort_by_key(|entry| (std::cmp::Reverse(entry.on_path), entry.key));
    let tail = entries.split_off(MAX_ENTRIES / 2);
    for mut row in tail {
        row.key = hash_of(("lumped", row.service));
        row.suffix = row.key;
        row.parent = row.key;
        (row.side, row.callee) = (Side::Work, None);
        match entries.iter_mut().rev().find(|entry| entry.key == row.key) {
            Some(lump) => lump.add(&row),
            None => entries.push(row),
        }
    }
    entries.sort_by_key(|entry| entry.key);
    entries
}

/// The entries ordered by key, and in which order they came.
fn ordered(entries: &[Entry]) -> (Vec<Entry>, Vec<u32>) {
    let mut by_key: Vec<(u64, u32)> = entries.iter().map(|entry| entry.key).zip(0..).collect();
    by_key.sort_unstable();
    let mut outward = vec![0; entries.len()];
    for (place, (_, came)) in (0..).zip(&by_key) {
        if let Some(slot) = outward.get_mut(*came as usize) {
            *slot = place;
        }
    }
    let entries = by_key.iter().filter_map(|(_, came)| entries.get(*came as usize).copied()).collect();
    (entries, outward)
}

impl Entry {
    /// An instance, its time on the path not yet counted.
    fn first(tree: &Tree<'_>, calls: &Calls, number: u32) -> Self {
        let node = &tree.nodes[number];
        let around = calls.base[node.caller];
        let callee = calls.callee[number].map(|callee| tree.services[callee].id);
        let is_call = calls.is_call[number];
        let gave_up = is_call && node.is_error && (callee.is_none() || calls.has_cut_answer[number]);
        Self {
            key: calls.key[number],
            suffix: hash_of((calls.last_element[around], calls.last_element[number])),
            parent: calls.key[around],
            item: calls.item[number],
            side: if is_call { Side::Call } else { Side::Work },
            name: node.name,
            service: tree.service(node).id,
            callee,
            peer: calls.peer[number],
            on_path: 0,
            alone: 0,
            total: node.duration(),
            instances: 1,
            on_path_instances: 0,
            errors: 0,
            failed_itself: u32::from(calls.fails_itself[number]),
            gave_up: u32::from(gave_up),
            longest: number,
            longest_time: 0,
        }
    }

    fn add(&mut self, other: &Entry) {
        // Spans may claim to have lasted for centuries.
        self.on_path = self.on_path.saturating_add(other.on_path);
        self.alone = self.alone.saturating_add(other.alone);
        self.total = self.total.saturating_add(other.total);
        self.instances += other.instances;
        self.on_path_instances += other.on_path_instances;
        self.errors += other.errors;
        self.failed_itself += other.failed_itself;
        self.gave_up += other.gave_up;
        if other.longest_time > self.longest_time {
            (self.longest_time, self.longest) = (other.longest_time, other.longest);
        }
    }
}
