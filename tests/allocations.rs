//! What the held traces cost the allocator: nothing per span, and little more memory than the wire's bytes.

#[path = "../benches/support/traffic.rs"]
mod traffic;

use std::sync::{Mutex, PoisonError};

use laggard::assemble::{Assembler, Decision, DueTraces, Lot, Settings};
use laggard::config::{Assemble, DecisionCache};
use laggard::otlp::Nanos;
use laggard::otlp::batch::Batch;
use traffic::{Requests, SPANS_PER_TRACE};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// dhat counts for the whole process, so the tests take turns.
static TURN: Mutex<()> = Mutex::new(());

const SPANS: usize = 512;
const MILLISECOND: Nanos = 1_000_000;

/// A sidecar's way with spans, without its sockets.
struct Sidecar {
    assembler: Assembler,
    batch: Batch,
    due: DueTraces,
    now: Nanos,
}

impl Sidecar {
    fn new(shards: usize) -> Self {
        // The warm-up makes several times as many decisions, so that this table has its size.
        let decision_cache = DecisionCache { sampled: 0, dropped: 400 };
        let config = Assemble { decision_cache, ..Assemble::default() };
        let assembler = Assembler::new(Settings::new(&config), shards);
        Self { assembler, batch: Batch::default(), due: DueTraces::default(), now: 0 }
    }

    fn store(&mut self, request: &[u8]) {
        self.now += 100 * MILLISECOND;
        self.batch.read(request).expect("valid");
        let stored = self.assembler.store(self.now, &self.batch, request, 0..self.batch.spans.len());
        assert_eq!(stored.late_dropped, 0);
    }

    /// Drops all traces that are due; returns their spans.
    fn decide(&mut self) -> u64 {
        let mut dropped = 0;
        for shard in 0..self.assembler.shards() {
            self.assembler.due(shard, self.now, Lot::ALL, &mut self.due);
            let decisions = self.due.traces.iter().map(|_| (Decision::Dropped, 0));
            self.assembler.settle(&self.due, decisions, |_, spans, _| dropped += u64::from(spans));
        }
        dropped
    }
}

#[test]
fn a_span_is_read_stored_and_dropped_without_an_allocation() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let _profiler = dhat::Profiler::builder().testing().build();
    for (mut requests, shards, rounds) in [
        (Requests::from_collector(traffic::TYPICAL, SPANS), 1, 200),
        (Requests::from_collector(traffic::SMALL, SPANS), 4, 200),
        (Requests::from_services(traffic::TYPICAL, 16), 4, 3_000),
    ] {
        let mut sidecar = Sidecar::new(shards);
        // Ten seconds pass before the first trace is due, and tables reach their size after some more.
        for _ in 0..400 + rounds {
            sidecar.store(requests.next_request());
            sidecar.decide();
        }
        let before = dhat::HeapStats::get().total_blocks;
        let mut dropped = 0;
        for _ in 0..rounds {
            sidecar.store(requests.next_request());
            dropped += sidecar.decide();
        }
        let allocations = dhat::HeapStats::get().total_blocks - before;
        assert!(dropped > 40_000, "{dropped} spans");
        // A segment comes and goes now and then, hundreds of spans at a time.
        assert!(allocations * 1_000 <= dropped, "{allocations} for {dropped} spans on {shards} shards");
    }
}

#[test]
fn held_spans_take_at_most_a_third_more_than_their_bytes_on_the_wire_and_all_of_it_is_counted() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let _profiler = dhat::Profiler::builder().testing().build();
    for shards in [1, 8] {
        let mut requests = Requests::from_collector(traffic::TYPICAL, SPANS);
        let mut sidecar = Sidecar::new(shards);
        let before = dhat::HeapStats::get().curr_bytes as u64;
        let mut wire = 0;
        for _ in 0..99 {
            let request = requests.next_request();
            wire += request.len() as u64;
            sidecar.store(request);
        }
        let held = sidecar.assembler.held();
        assert_eq!((held.spans, held.traces), (99 * 512, 99 * 512 / SPANS_PER_TRACE as u64));
        let counted = sidecar.assembler.held_bytes();
        let ratio = counted as f64 / wire as f64;
        assert!(ratio <= 1.35, "{ratio:.3} on {shards} shards");

        let allocated = dhat::HeapStats::get().curr_bytes as u64 - before;
        // Beside what is held stand the tables of one request, up to some 300 kB.
        let uncounted = allocated.saturating_sub(counted);
        assert!(uncounted < 400_000 && counted < allocated + 100_000, "counted {counted} of {allocated}");
    }
}
