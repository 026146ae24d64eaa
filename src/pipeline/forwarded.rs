//! Which references have been forwarded, so that each is forwarded once.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::otlp::TraceId;

/// So many are remembered at most; a reference is cited for minutes, not for as long as it takes to cite ten thousand.
const REMEMBERED: usize = 10_000;

/// The latest references that have left.
#[derive(Debug)]
pub(super) struct Forwarded {
    limit: usize,
    /// A std mutex: taken for one look-up a verdict.
    latest: Mutex<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    ids: HashSet<TraceId>,
    order: VecDeque<TraceId>,
}

impl Forwarded {
    /// Remembers what fits so many bytes.
    pub(super) fn within(bytes: u64) -> Self {
        let mut limit = REMEMBERED;
        while bytes_for(limit) > bytes {
            limit -= limit.div_ceil(8);
        }
        Self { limit, latest: Mutex::default() }
    }

    /// Notes that a trace leaves; returns whether it had not left before.
    pub(super) fn is_first(&self, id: TraceId) -> bool {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.ids.contains(&id) {
            return false;
        }
        if latest.order.len() >= self.limit
            && let Some(oldest) = latest.order.pop_front()
        {
            latest.ids.remove(&oldest);
        }
        if latest.order.len() < self.limit {
            latest.order.push_back(id);
            latest.ids.insert(id);
        }
        true
    }

    /// Whether a trace is remembered to have left.
    pub(super) fn contains(&self, id: TraceId) -> bool {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.ids.contains(&id)
    }

    /// What is remembered, the oldest first.
    pub(super) fn ids(&self) -> Vec<TraceId> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.order.iter().copied().collect()
    }

    /// Bytes taken from the allocator.
    pub(super) fn used_bytes(&self) -> u64 {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let places = latest.ids.capacity() * (size_of::<TraceId>() + 1) * 8 / 7
            + latest.order.capacity() * size_of::<TraceId>();
        places as u64
    }
}

/// What remembering so many takes at most.
fn bytes_for(ids: usize) -> u64 {
    if ids == 0 {
        return 0;
    }
    // Both grow by doubling; the set leaves an eighth of its places vacant, and where ids come and go it grows once
    // more than they need.
    let set = (ids * 8 / 7 + 1).next_power_of_two().max(4) * 2 * (size_of::<TraceId>() + 1) + 16;
    let order = ids.next_power_of_two().max(4) * size_of::<TraceId>();
    (set + order) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_first_once_and_the_memory_of_it_is_bounded() {
        let id = |n: u64| TraceId::from_slice(&[[7; 8], n.to_be_bytes()].concat()).expect("not zero");
        let forwarded = Forwarded::within(1 << 30);
        assert!(!forwarded.contains(id(0)), "asking is not leaving");
        assert!(forwarded.is_first(id(0)));
        assert!(forwarded.contains(id(0)));
        assert!(!forwarded.is_first(id(0)));
        for n in 1..=REMEMBERED as u64 {
            assert!(forwarded.is_first(id(n)));
        }
        assert!(forwarded.is_first(id(0)), "forgotten after so many others");
    }

    #[test]
    fn with_little_memory_fewer_are_remembered() {
        let id = |n: u64| TraceId::from_slice(&[[7; 8], n.to_be_bytes()].concat()).expect("not zero");
        for bytes in [1_000, 10_000, 100_000, 700_000] {
            let forwarded = Forwarded::within(bytes);
            assert!((0..20_000).all(|n| forwarded.is_first(id(n))));
            let used = forwarded.used_bytes();
            assert!(used <= bytes && used > bytes / 5, "{used} of {bytes}");
        }
    }
}
