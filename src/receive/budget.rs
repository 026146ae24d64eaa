//! The bytes of all requests that are being read, under one limit.
//!
//! A request that finds no room waits for it, for a moment and in order, before it is read on: meanwhile its bytes stay
//! with the sender, whom the windows of its connection hold back. Whoever has been admitted never waits for more,
//! since others may be waiting for what it holds; what it needs beyond its announced size is there at once or not at all.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge};
use tokio::sync::{Mutex, Notify, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::Refused;

/// What limits all requests together.
const MAX_IN_FLIGHT: &str = "receive.max_in_flight";

/// Of the whole, one part in so many is left to requests that have been admitted: to be decompressed, and for tables.
const GROWTH: usize = 4;

/// Bytes of requests that wait, which have to be read to know how large these are. They are beside the budget: a part
/// of what connections may read ahead.
pub(super) const LOBBY: u32 = 2 << 20;

/// How many bytes there are, and how many are taken.
pub struct Budget {
    total: usize,
    used: AtomicUsize,
    gauge: Gauge,
    /// What is left of [`LOBBY`]; who comes when nothing is waits before anything of it is read.
    lobby: Semaphore,
    waiters: AtomicUsize,
    /// Held by the first of those who wait; the others queue for it.
    turn: Mutex<()>,
    /// Told whenever bytes are given back, to whom has the turn.
    freed: Notify,
    delayed: Counter,
}

/// Bytes taken from a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    budget: &'a Budget,
    held: usize,
    /// Its place in the lobby.
    seat: Option<SemaphorePermit<'a>>,
    /// Whether it has waited.
    is_delayed: bool,
}

impl Budget {
    /// A budget of `total` bytes; `gauge` shows how many are taken, and `delayed` counts requests that waited.
    pub fn new(total: u64, gauge: Gauge, delayed: Counter) -> Self {
        Self {
            total: usize::try_from(total).unwrap_or(usize::MAX),
            used: AtomicUsize::new(0),
            gauge,
            lobby: Semaphore::new(LOBBY as usize),
            waiters: AtomicUsize::new(0),
            turn: Mutex::new(()),
            freed: Notify::new(),
            delayed,
        }
    }

    /// A permit of no bytes.
    pub fn permit(&self) -> Permit<'_> {
        Permit { budget: self, held: 0, seat: None, is_delayed: false }
    }

    /// The bytes that are taken.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    fn take(&self, bytes: usize) -> Result<(), Refused> {
        self.take_if(bytes, |sum| sum <= self.total)
    }

    /// For a new request, which leaves some room to those that are there, unless there are none.
    fn admit(&self, bytes: usize) -> Result<(), Refused> {
        let for_new = (self.total - self.total / GROWTH).max(bytes.min(self.total));
        self.take_if(bytes, |sum| sum <= for_new)
    }

    fn take_if(&self, bytes: usize, is_right: impl Fn(usize) -> bool) -> Result<(), Refused> {
        let add = |used: usize| used.checked_add(bytes).filter(|sum| is_right(*sum));
        let taken = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        taken.map_err(|_| Refused::Overload)?;
        // Differences, not values: two threads could show theirs in the wrong order.
        self.gauge.increment(bytes as f64);
        Ok(())
    }

    async fn wait(&self, bytes: usize) {
        let _queued = Queued::new(&self.waiters);
        let _turn = self.turn.lock().await;
        while self.admit(bytes).is_err() {
            self.freed.notified().await;
        }
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
        self.gauge.decrement(bytes as f64);
        self.freed.notify_one();
    }
}

/// One who waits, until it is dropped.
struct Queued<'a>(&'a AtomicUsize);

impl<'a> Queued<'a> {
    fn new(waiters: &'a AtomicUsize) -> Self {
        waiters.fetch_add(1, Ordering::AcqRel);
        Self(waiters)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
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

    /// Takes `bytes` for a request of that size as soon as there is room, behind those who came before.
    ///
    /// # Errors
    /// [`Refused::TooLarge`] when so many could never fit, [`Refused::Overload`] when they did not within `patience`, or
    /// when it holds some already and the rest does not fit now.
    pub async fn announce(&mut self, bytes: usize, patience: Duration) -> Result<(), Refused> {
        if bytes > self.budget.total {
            return Err(Refused::TooLarge(MAX_IN_FLIGHT));
        }
        if self.held > 0 {
            return self.cover(bytes);
        }
        let is_queue_empty = self.budget.waiters.load(Ordering::Acquire) == 0;
        if !is_queue_empty || self.budget.admit(bytes).is_err() {
            self.note_delay();
            timeout(patience, self.budget.wait(bytes)).await.map_err(|_| Refused::Overload)?;
        }
        self.held = bytes;
        self.seat = None;
        Ok(())
    }

    fn note_delay(&mut self) {
        if !std::mem::replace(&mut self.is_delayed, true) {
            self.budget.delayed.increment(1);
        }
    }

    /// Whether it has a place in the lobby.
    pub fn sits(&self) -> bool {
        self.seat.is_some()
    }

    /// Takes a place in the lobby, for at most `bytes` that have to be read before [`Permit::announce`].
    ///
    /// # Errors
    /// [`Refused::Overload`] when there was none within `patience`.
    pub async fn sit(&mut self, bytes: u32, patience: Duration) -> Result<(), Refused> {
        let bytes = bytes.min(LOBBY);
        let seat = match self.budget.lobby.try_acquire_many(bytes) {
            Ok(seat) => Ok(seat),
            Err(_) => {
                self.note_delay();
                let seat = timeout(patience, self.budget.lobby.acquire_many(bytes)).await;
                seat.map_err(|_| Refused::Overload)?
            }
        };
        // It is never closed.
        self.seat = seat.ok();
        Ok(())
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
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    /// Long enough that no test sees its end.
    const LONG: Duration = Duration::from_hours(1);

    fn budget(total: u64) -> Budget {
        Budget::new(total, Gauge::noop(), Counter::noop())
    }

    #[test]
    fn what_never_fits_is_too_large_and_what_does_not_fit_now_is_overload() {
        let budget = budget(100);
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
        let budget = budget(100);
        let mut permit = budget.permit();
        permit.cover(80).expect("fits");
        permit.release(30);
        assert_eq!(budget.used(), 50);
        assert_eq!(permit.cover(101), Err(Refused::TooLarge(MAX_IN_FLIGHT)));
        drop(permit);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn new_requests_wait_in_order_and_leave_room_to_those_that_are_there() {
        let budget = budget(100);
        let (mut first, mut large, mut small) = (budget.permit(), budget.permit(), budget.permit());
        assert_eq!(first.announce(60, LONG).now_or_never(), Some(Ok(())));
        {
            let mut large = pin!(large.announce(70, LONG));
            assert_eq!(large.as_mut().now_or_never(), None, "a quarter is left to the first");
            let mut small = pin!(small.announce(5, LONG));
            assert_eq!(small.as_mut().now_or_never(), None, "it would fit, but the large one came before");
            assert_eq!(first.cover(100), Ok(()), "who is there needs no turn");
            first.release(95);
            assert_eq!(large.now_or_never(), Some(Ok(())));
            assert_eq!(small.as_mut().now_or_never(), None);
            drop(first);
            assert_eq!(small.now_or_never(), Some(Ok(())));
        }
        assert_eq!(budget.used(), 75);
    }

    #[tokio::test]
    async fn a_request_that_needs_nearly_everything_gets_it_once_it_is_alone() {
        let budget = budget(100);
        let (mut first, mut large) = (budget.permit(), budget.permit());
        first.announce(1, LONG).now_or_never().expect("at once").expect("fits");
        {
            let mut large = pin!(large.announce(100, LONG));
            assert_eq!(large.as_mut().now_or_never(), None);
            drop(first);
            assert_eq!(large.now_or_never(), Some(Ok(())));
        }
        let never = budget.permit().announce(101, LONG).now_or_never();
        assert_eq!(never, Some(Err(Refused::TooLarge(MAX_IN_FLIGHT))));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_its_patience_or_keeps_a_place_in_the_queue() {
        let budget = budget(100);
        let mut first = budget.permit();
        first.announce(75, LONG).await.expect("fits");
        let mut second = budget.permit();
        let mut third = budget.permit();
        assert_eq!(second.announce(10, Duration::from_secs(1)).await, Err(Refused::Overload));
        assert_eq!(third.announce(10, LONG).now_or_never(), None, "it goes away while it waits");
        drop(first);
        assert_eq!(second.announce(10, LONG).now_or_never(), Some(Ok(())), "nobody is before it");
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_to_know_its_size_waits_in_a_lobby_of_its_own_and_leaves_it_with_its_announcement() {
        let budget = budget(100);
        let (mut first, mut second) = (budget.permit(), budget.permit());
        first.sit(LOBBY / 2, LONG).await.expect("there are places");
        second.sit(u32::MAX, Duration::from_secs(1)).await.expect_err("the first has half of it");
        second.sit(LOBBY / 2, LONG).await.expect("there is one");
        assert_eq!(budget.used(), 0);
        let mut third = budget.permit();
        {
            let mut third = pin!(third.sit(1, LONG));
            assert_eq!(third.as_mut().now_or_never(), None);
            first.announce(10, LONG).await.expect("fits");
            assert_eq!(third.now_or_never(), Some(Ok(())));
        }
        drop((second, third));
        assert_eq!(budget.lobby.available_permits(), LOBBY as usize);
        assert_eq!(budget.used(), 10);
    }
}
