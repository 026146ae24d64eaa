//! The bytes of all requests that are being read, under one limit.
//!
//! Nothing waits for room: a sender that is refused can wait better than we can, since it holds the request
//! anyway.

use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::Gauge;

use super::Refused;

/// What limits all requests together.
const MAX_IN_FLIGHT: &str = "receive.max_in_flight";

/// How many bytes there are, and how many are taken.
pub struct Budget {
    total: usize,
    used: AtomicUsize,
    gauge: Gauge,
}

/// Bytes taken from a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    budget: &'a Budget,
    held: usize,
}

impl Budget {
    /// A budget of `total` bytes; `gauge` shows how many are taken.
    pub fn new(total: u64, gauge: Gauge) -> Self {
        Self { total: usize::try_from(total).unwrap_or(usize::MAX), used: AtomicUsize::new(0), gauge }
    }

    /// A permit of no bytes.
    pub fn permit(&self) -> Permit<'_> {
        Permit { budget: self, held: 0 }
    }

    /// The bytes that are taken.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    fn take(&self, bytes: usize) -> Result<(), Refused> {
        let add = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.total);
        let taken = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        taken.map_err(|_| Refused::Overload)?;
        // Differences, not values: two threads could show theirs in the wrong order.
        self.gauge.increment(bytes as f64);
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
        self.gauge.decrement(bytes as f64);
    }
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budget").field("total", &self.total).field("used", &self.used).finish_non_exhaustive()
    }
}

impl Permit<'_> {
    /// The bytes that it holds.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Grows it to `bytes`, unless it holds as many already.
    ///
    /// # Errors
    /// [`Refused::TooLarge`] when so many could never fit, [`Refused::Overload`] when they do not fit now.
    pub fn cover(&mut self, bytes: usize) -> Result<(), Refused> {
        let Some(more) = bytes.checked_sub(self.held).filter(|more| *more > 0) else { return Ok(()) };
        if bytes > self.budget.total {
            return Err(Refused::TooLarge(MAX_IN_FLIGHT));
        }
        self.budget.take(more)?;
        self.held = bytes;
        Ok(())
    }

    /// Gives back `bytes` of what it holds.
    pub fn release(&mut self, bytes: usize) {
        let bytes = bytes.min(self.held);
        self.held -= bytes;
        self.budget.give_back(bytes);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.held > 0 {
            self.budget.give_back(self.held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_fits_is_too_large_and_what_does_not_fit_now_is_overload() {
        let budget = Budget::new(100, Gauge::noop());
        let mut first = budget.permit();
        let mut second = budget.permit();
        assert_eq!(first.cover(101), Err(Refused::TooLarge(MAX_IN_FLIGHT)));
        assert_eq!(first.cover(60), Ok(()));
        assert_eq!(first.cover(10), Ok(()), "it holds more already");
        assert_eq!(second.cover(41), Err(Refused::Overload));
        assert_eq!(second.cover(40), Ok(()));
        assert_eq!((first.held(), second.held(), budget.used()), (60, 40, 100));
    }

    #[test]
    fn a_permit_gives_everything_back() {
        let budget = Budget::new(100, Gauge::noop());
        let mut permit = budget.permit();
        permit.cover(80).expect("fits");
        permit.release(30);
        assert_eq!(budget.used(), 50);
        assert_eq!(permit.cover(101), Err(Refused::TooLarge(MAX_IN_FLIGHT)));
        drop(permit);
        assert_eq!(budget.used(), 0);
    }
}
