//! Whether spans are on their way from one side of the accounting identity to the other, so that a scrape knows
//! whether it has caught some in between.
//!
//! Nothing waits here: who moves spans counts twice, and who reads tries again.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// How many movements have begun and ended. One is a request, a lot of decided traces, or a batch: never a span.
#[derive(Debug, Default)]
pub struct Movements {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A movement under way, until it is dropped.
#[derive(Debug)]
pub struct Movement<'a>(&'a Movements);

/// A moment in which nothing moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Still(u64);

impl Movements {
    /// Begins one. They may be within each other.
    pub fn begin(&self) -> Movement<'_> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        // Whoever sees a count of this movement sees that it has begun.
        fence(Ordering::SeqCst);
        Movement(self)
    }

    /// `None` while there are any.
    pub fn still(&self) -> Option<Still> {
        // In this order: what has ended by then had begun.
        let ended = self.ended.load(Ordering::Acquire);
        let begun = self.begun.load(Ordering::Acquire);
        (begun == ended).then_some(Still(begun))
    }

    /// Whether none has begun since, so that all that was read in between belongs together.
    pub fn are_still_since(&self, still: Still) -> bool {
        fence(Ordering::SeqCst);
        self.begun.load(Ordering::Relaxed) == still.0
    }
}

impl Drop for Movement<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_is_under_way_or_has_begun_since_is_seen() {
        let movements = Movements::default();
        let still = movements.still().expect("nothing moves");
        assert!(movements.are_still_since(still));
        let outer = movements.begin();
        let inner = movements.begin();
        drop(outer);
        assert_eq!(movements.still(), None);
        drop(inner);
        assert!(movements.still().is_some_and(|now| now != still));
        assert!(!movements.are_still_since(still));
    }

    #[test]
    fn two_counts_that_move_together_are_never_read_apart() {
        let (movements, [a, b]) = (Movements::default(), [(); 2].map(|()| AtomicU64::new(0)));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let _moving = movements.begin();
                        a.fetch_add(1, Ordering::Relaxed);
                        b.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            while a.load(Ordering::Relaxed) < 40_000 {
                let Some(still) = movements.still() else { continue };
                let read = (a.load(Ordering::Relaxed), b.load(Ordering::Relaxed));
                if movements.are_still_since(still) {
                    assert_eq!(read.0, read.1);
                }
            }
        });
    }
}
