//! Makes the allocator give memory back once a flood is over.
//!
//! mimalloc returns pages to the system a second after they were freed, but looks for such pages only in the course of
//! some ten thousand slow allocations, or when a thread ends. A process that falls idle after a flood makes neither,
//! and would keep what the flood took for good.

use std::thread;

/// What has to be free before it is worth a thread.
const WORTHWHILE: u64 = 16 << 20;

/// Ticks between two attempts: longer than pages rest before they are given back.
const TICKS: u32 = 30;

/// Watches how much is held.
#[derive(Debug, Default)]
pub(super) struct GiveBack {
    /// The most that was held since memory was last given back.
    most: u64,
    /// Ticks since less was held than that.
    ticks: u32,
    /// Attempts still to be made: pages of the last moments are not ripe in the first.
    attempts: u32,
}

impl GiveBack {
    /// To be called at every tick with the bytes held; returns whether memory should be given back now.
    pub(super) fn is_due(&mut self, held: u64) -> bool {
        self.most = self.most.max(held);
        if self.most - held > WORTHWHILE && held < self.most / 2 {
            self.most = held;
            self.attempts = 3;
            self.ticks = 0;
        }
        if self.attempts == 0 {
            return false;
        }
        self.ticks += 1;
        if self.ticks < TICKS {
            return false;
        }
        self.ticks = 0;
        self.attempts -= 1;
        true
    }
}

/// Starts a thread that ends at once.
pub(super) fn give_back() {
    // It has to allocate something to be known to the allocator. If it cannot be started, memory is given back later.
    let thread = thread::Builder::new().spawn(|| drop(std::hint::black_box(vec![0_u8; 64])));
    drop(thread.map(thread::JoinHandle::join));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_some_times_after_a_flood_and_not_in_steady_state() {
        let mut watch = GiveBack::default();
        let mut due = |held: u64, ticks: u32| (0..ticks).filter(|_| watch.is_due(held)).count();
        assert_eq!(due(100 << 20, 100), 0);
        assert_eq!(due(60 << 20, 100), 0, "what comes and goes in traffic");
        assert_eq!(due(1 << 20, 29), 0, "pages are not ripe yet");
        assert_eq!(due(1 << 20, 1_000), 3);
        assert_eq!(due(1 << 20, 1_000), 0);
    }
}
