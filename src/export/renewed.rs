//! What is made again now and then, since a name is resolved only when a connection is made.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A connection is replaced after this, so that a name which resolves to another address is followed.
const RENEW_AFTER: Duration = Duration::from_mins(5);

/// A connection, or a pool of them, with a way to make another one.
pub(super) struct Renewed<T> {
    connect: Box<dyn Fn() -> T + Send + Sync>,
    /// Held for a look at it only; requests go over a clone.
    current: Mutex<Option<(T, Instant)>>,
}

impl<T: Clone> Renewed<T> {
    pub(super) fn new(connect: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self { connect: Box::new(connect), current: Mutex::new(None) }
    }

    /// The present one. Requests that are under way keep the one that they have until they are answered.
    pub(super) fn get(&self) -> T {
        self.drop_if_older_than(RENEW_AFTER);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.get_or_insert_with(|| ((self.connect)(), Instant::now())).0.clone()
    }

    /// Lets the next request have a new one, unless the present one is younger than `age`.
    ///
    /// A peer that has vanished answers nothing, and the operating system takes many minutes to notice.
    pub(super) fn drop_if_older_than(&self, age: Duration) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.take_if(|(_, since)| since.elapsed() >= age);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::advance;

    use super::*;

    // LIB-12, F10.
    #[tokio::test(start_paused = true)]
    async fn a_name_is_resolved_anew_every_five_minutes_and_after_a_silence() {
        let made = AtomicUsize::new(0);
        let renewed = Renewed::new(move || made.fetch_add(1, Ordering::Relaxed));
        assert_eq!((renewed.get(), renewed.get()), (0, 0));
        let second = Duration::from_secs(1);
        advance(RENEW_AFTER.saturating_sub(second)).await;
        assert_eq!(renewed.get(), 0);
        advance(second).await;
        assert_eq!((renewed.get(), renewed.get()), (1, 1));
        renewed.drop_if_older_than(Duration::from_secs(5));
        assert_eq!(renewed.get(), 1, "another request has renewed it already");
        advance(Duration::from_secs(5)).await;
        renewed.drop_if_older_than(Duration::from_secs(5));
        assert_eq!(renewed.get(), 2);
    }
}
