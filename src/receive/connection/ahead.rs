//! How far senders may run ahead: the bytes that a connection takes before a request asks for them.
//!
//! They lie in buffers of hyper and h2, where no budget of ours is asked, so each connection is given a window when it
//! is accepted, and all windows together stay within one sum. The first connections get windows in which most
//! requests arrive in one piece; the more there are, the less each later one gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// No connection gets more: the requests of most senders fit.
const MOST: usize = 2 << 20;
/// None gets less: HTTP/2 lets a peer send so much before it has heard of any window.
pub(super) const LEAST: usize = 64 << 10;
/// Of what is left, a new connection gets one part in so many.
const PARTS: usize = 8;

/// What all connections of a receiver may have sent ahead together.
#[derive(Debug)]
pub(crate) struct Ahead {
    left: AtomicUsize,
}

/// What one connection may have sent ahead; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Window {
    from: Arc<Ahead>,
    taken: usize,
    /// Bytes.
    pub(super) size: usize,
}

impl Ahead {
    /// Windows of `bytes` together. Once these are given away each further connection still gets the least window.
    pub(crate) fn new(bytes: u64) -> Self {
        Self { left: AtomicUsize::new(usize::try_from(bytes).unwrap_or(usize::MAX)) }
    }

    /// The window of a new connection.
    pub(super) fn window(self: &Arc<Self>) -> Window {
        let size = |left: usize| (left / PARTS).clamp(LEAST, MOST);
        let left = self
            .left
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| Some(left.saturating_sub(size(left))))
            .unwrap_or_else(|left| left);
        Window { from: self.clone(), taken: size(left).min(left), size: size(left) }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.from.left.fetch_add(self.taken, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_shrink_as_connections_come_and_are_given_back_as_they_go() {
        let ahead = Arc::new(Ahead::new(16 << 20));
        let windows: Vec<_> = (0..400).map(|_| ahead.window()).collect();
        let sizes: Vec<_> = windows.iter().map(|window| window.size).collect();
        assert_eq!(sizes.first(), Some(&(2 << 20)));
        assert!(sizes.is_sorted_by(|earlier, later| earlier >= later), "{sizes:?}");
        assert_eq!(sizes.last(), Some(&LEAST));
        assert_eq!(windows.iter().map(|window| window.taken).sum::<usize>(), 16 << 20);
        drop(windows);
        assert_eq!(ahead.window().size, 2 << 20);
    }

    #[test]
    fn no_connection_gets_more_than_one_can_use() {
        assert_eq!(Arc::new(Ahead::new(u64::MAX)).window().size, MOST);
    }
}
