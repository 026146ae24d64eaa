//! What names come to, worked out once for each name of a trace that has few.

use super::tree::hash_of;

/// Names that are remembered at once; which one a further name displaces follows from its content.
const PLACES: usize = 64;

/// Hashes by what they were worked out from.
#[derive(Debug)]
pub(crate) struct Memo {
    places: [(u64, u64); PLACES],
}

impl Memo {
    pub(crate) fn new() -> Self {
        Self { places: [(0, 0); PLACES] }
    }

    /// What `work_out` says of this content, which must be the same each time.
    pub(crate) fn hash(&mut self, content: impl std::hash::Hash, work_out: impl FnOnce() -> u64) -> u64 {
        // No content's key is that of an empty place.
        let key = hash_of(content) | 1;
        let at = usize::try_from(key >> 32).unwrap_or(0) % PLACES;
        let Some(place) = self.places.get_mut(at) else { return work_out() };
        if place.0 != key {
            *place = (key, work_out());
        }
        place.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_told_apart_and_each_keeps_its_hash() {
        let mut memo = Memo::new();
        for number in (0..10_000_u64).chain(0..10_000) {
            assert_eq!(memo.hash(number % 500, || number % 500 + 7), number % 500 + 7);
        }
    }

    #[test]
    fn what_is_met_again_is_not_worked_out_again() {
        let mut memo = Memo::new();
        let mut worked = 0;
        for _ in 0..3 {
            memo.hash("SELECT", || {
                worked += 1;
                5
            });
        }
        assert_eq!(worked, 1);
    }
}
