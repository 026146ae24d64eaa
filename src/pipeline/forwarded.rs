//! Which references have been forwarded, so that each is forwarded once.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::otlp::TraceId;

/// So many are remembered; a reference is cited for minutes, not for as long as it takes to cite ten thousand.
const REMEMBERED: usize = 10_000;

/// The latest references that have left.
#[derive(Debug, Default)]
pub(super) struct Forwarded {
    /// A std mutex: taken for one look-up a verdict.
    latest: Mutex<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    ids: HashSet<TraceId>,
    order: VecDeque<TraceId>,
}

impl Forwarded {
    /// Notes that a trace leaves; returns whether it had not left before.
    pub(super) fn is_first(&self, id: TraceId) -> bool {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if !latest.ids.insert(id) {
            return false;
        }
        latest.order.push_back(id);
        if latest.order.len() > REMEMBERED
            && let Some(oldest) = latest.order.pop_front()
        {
            latest.ids.remove(&oldest);
        }
        true
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_first_once_and_the_memory_of_it_is_bounded() {
        let id = |n: u64| TraceId::from_slice(&[[7; 8], n.to_be_bytes()].concat()).expect("not zero");
        let forwarded = Forwarded::default();
        assert!(forwarded.is_first(id(0)));
        assert!(!forwarded.is_first(id(0)));
        for n in 1..=REMEMBERED as u64 {
            assert!(forwarded.is_first(id(n)));
        }
        assert!(forwarded.is_first(id(0)), "forgotten after so many others");
    }
}
