//! Which path of a slow trace is which path of its references, where the calls around it changed.

use hashbrown::HashMap;

use super::ledger::{Entry, Ledger, Side};
use crate::baseline::floors::Floors;

/// For the entries of a slow ledger, in order, the key under which references know them.
pub(crate) fn pair(slow: &Ledger, linked: &Ledger, floors: &Floors) -> Vec<u64> {
    let is_known = |entry: &&Entry| linked.entry(entry.key).is_some() || floors.get(entry.key).is_some();
    let mut keys: Vec<u64> = slow.entries.iter().map(|entry| entry.key).collect();
    if slow.entries.iter().all(|entry| is_known(&entry)) {
        return keys;
    }
    let gone = || linked.entries.iter().filter(|entry| slow.entry(entry.key).is_none());
    let new = || slow.entries.iter().filter(|entry| !is_known(entry));
    // A call whose answer is missing on one side is still the same call.
    let call = |entry: &Entry| (entry.parent, entry.service, entry.name);
    let asks = |entry: &&Entry| entry.side == Side::Call;
    let calls = unique(gone().filter(asks), call);
    let new_calls = unique(new().filter(asks), call);
    // A path that gained or lost a hop further up still ends alike.
    let suffixes = unique(gone(), |entry| entry.suffix);
    let new_suffixes = unique(new(), |entry| entry.suffix);
    // So does work that is reached another way, through a proxy or a client of another name.
    let works = |entry: &&Entry| entry.side == Side::Work;
    let items = unique(gone().filter(works), |entry| entry.item);
    let new_items = unique(new().filter(works), |entry| entry.item);
    for (entry, key) in slow.entries.iter().zip(&mut keys) {
        let same_call = calls
            .get(&call(entry))
            .zip(new_calls.get(&call(entry)))
            .and_then(|(gone, new)| gone.zip(*new))
            .filter(|(gone, new)| gone.callee.is_some() != new.callee.is_some());
        let same_end = suffixes
            .get(&entry.suffix)
            .zip(new_suffixes.get(&entry.suffix))
            .and_then(|(gone, new)| gone.zip(*new));
        let same_item =
            items.get(&entry.item).zip(new_items.get(&entry.item)).and_then(|(gone, new)| gone.zip(*new));
        if let Some((gone, _)) = same_call.or(same_end).or(same_item).filter(|(_, new)| new.key == entry.key)
        {
            *key = gone.key;
        }
    }
    keys
}

/// Entries by what `of` says of them; `None` where several say the same.
fn unique<'e, K: std::hash::Hash + Eq>(
    entries: impl Iterator<Item = &'e Entry>,
    of: impl Fn(&Entry) -> K,
) -> HashMap<K, Option<&'e Entry>, foldhash::fast::FixedState> {
    let mut unique = HashMap::with_hasher(foldhash::fast::FixedState::default());
    for entry in entries {
        unique.entry(of(entry)).and_modify(|known| *known = None).or_insert(Some(entry));
    }
    unique
}
