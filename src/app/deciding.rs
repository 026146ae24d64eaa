//! Deciding what is due, on time under any load: on threads of its own, which the operating system gives their share of
//! the processor however many requests wait for theirs; and where these threads fall behind all the same, whoever
//! brings more spans decides as many first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::time::sleep;

use super::Clock;
use crate::assemble::DueTraces;
use crate::export::{Chunk, Queue};
use crate::otlp::Nanos;
use crate::otlp::batch::Batch;
use crate::pipeline::{LOT_BYTES, NoRoom, Outgoing, Pipeline};
use crate::receive::Refused;

/// How often traces are looked at that are due: a decision may be behind by this much.
const TICK: Duration = Duration::from_millis(100);

/// Nanoseconds between two looks for what is to be forgotten.
const HOUSEKEEPING: Nanos = 1_000_000_000;

/// Between two looks whether there is room.
const PAUSE: Duration = Duration::from_millis(5);

/// Nanoseconds that a decision waits for room in the queue at most: more than the queue has room for would be lost
/// though the destination takes it. A decision must not be later than a second; half of that is for making it.
const PATIENCE: Nanos = 500_000_000;

/// Nanoseconds of lateness from which on receivers help.
const BEHIND: Nanos = 300_000_000;

/// What it takes to decide traces.
#[derive(Debug)]
pub(super) struct Deciding {
    clock: Clock,
    pipeline: Arc<Pipeline>,
    queue: Arc<Queue>,
    /// For each thread, whether it is.
    is_behind: Box<[AtomicBool]>,
    /// The shard that the next helper begins with.
    next: AtomicUsize,
}

impl Deciding {
    /// On at most `threads` threads.
    pub(super) fn new(clock: Clock, pipeline: Arc<Pipeline>, queue: Arc<Queue>, threads: usize) -> Arc<Self> {
        let is_behind = (0..threads.min(pipeline.shards())).map(|_| AtomicBool::new(false)).collect();
        Arc::new(Self { clock, pipeline, queue, is_behind, next: AtomicUsize::new(0) })
    }

    /// How many threads there are to be.
    pub(super) fn threads(&self) -> usize {
        self.is_behind.len()
    }

    /// Takes the spans of a request.
    pub(super) fn accept(&self, batch: &Batch, request: &[u8]) -> Result<(), Refused> {
        if self.is_behind.iter().any(|is_behind| is_behind.load(Ordering::Relaxed)) {
            self.help(batch.spans.len() as u64);
        }
        let mut deliver = |outgoing| self.push(&outgoing);
        self.pipeline.accept(self.clock.now(), batch, request, &mut deliver).map_err(
            |no_room| match no_room {
                NoRoom::Now => Refused::Overload,
                NoRoom::Ever => Refused::TooLarge("memory_limit"),
            },
        )
    }

    /// Decides traces of about so many spans, if so many are due and have room.
    pub(super) fn help(&self, spans: u64) {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let shards = self.pipeline.shards();
        let mut lot = DueTraces::default();
        let mut decided = 0;
        for shard in 0..shards {
            let shard = first.wrapping_add(shard) % shards;
            while decided < spans && self.lot(self.clock.now(), shard, &mut lot) == After::Perhaps {
                decided += lot.traces.iter().map(|due| u64::from(due.spans)).sum::<u64>();
            }
        }
    }

    /// Decides what is due, again and again until `stop` has no sender any more, in every shard whose number is
    /// `thread` more than a multiple of the number of threads.
    pub(super) fn run(&self, thread: usize, stop: &Receiver<()>) {
        let mut lot = DueTraces::default();
        let mut ticked_at = 0;
        let mut after = After::Nothing;
        loop {
            let pause = match after {
                After::Perhaps => Duration::ZERO,
                After::NoRoom => PAUSE,
                After::Nothing => TICK,
            };
            if stop.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            // One lot of each shard in turn, so that none has to wait until another has none left.
            after = After::Nothing;
            let mut latest = 0;
            for shard in (thread..self.pipeline.shards()).step_by(self.threads()) {
                let after_it = self.lot(self.clock.now(), shard, &mut lot);
                after = after.max(after_it);
                // Who waits for room is not behind.
                if after_it != After::NoRoom {
                    let now = self.clock.now();
                    let late = lot.traces.iter().map(|due| now.saturating_sub(due.due_at));
                    latest = late.max().unwrap_or(0).max(latest);
                }
            }
            if let Some(is_behind) = self.is_behind.get(thread) {
                is_behind.store(latest > BEHIND, Ordering::Relaxed);
            }
            let now = self.clock.now();
            if thread == 0 && now.saturating_sub(ticked_at) >= HOUSEKEEPING {
                ticked_at = now;
                self.pipeline.tick(now);
            }
        }
    }

    /// Decides a lot of a shard, of what is due at `now`; where the queue has no room for it, of what can wait no longer.
    fn lot(&self, now: Nanos, shard: usize, lot: &mut DueTraces) -> After {
        let room = self.queue.claim(LOT_BYTES);
        let due_by = if room.is_some() { now } else { now.saturating_sub(PATIENCE) };
        let mut deliver = |outgoing| self.push(&outgoing);
        match self.pipeline.decide_lot_in(shard, (now, due_by), lot, &mut deliver) {
            true => After::Perhaps,
            false if room.is_none() => After::NoRoom,
            false => After::Nothing,
        }
    }

    /// Decides all that is held, as fast as the queue gets room for it.
    pub(super) async fn decide_rest(&self) {
        loop {
            let Some(room) = self.queue.claim(LOT_BYTES) else {
                sleep(PAUSE).await;
                continue;
            };
            let is_any = self.pipeline.decide_some(self.clock.now(), &mut |outgoing| self.push(&outgoing));
            drop(room);
            if !is_any {
                return;
            }
        }
    }

    /// Decides all that is held, whether there is room for it or not.
    pub(super) fn decide_rest_at_once(&self) {
        self.pipeline.decide_all(self.clock.now(), &mut |outgoing| self.push(&outgoing));
    }

    /// Queues what leaves. A full queue has counted what it refused.
    fn push(&self, outgoing: &Outgoing) {
        let push = |chunk| {
            if self.queue.push(chunk).is_err() {
                tracing::debug!(trace_id = %outgoing.trace.id(), "the export queue is full");
            }
        };
        if outgoing.is_reference {
            Chunk::of_reference(&outgoing.trace).for_each(push);
        } else {
            Chunk::of(&outgoing.trace, outgoing.class).for_each(push);
        }
    }
}

/// Whether a lot is followed by more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum After {
    /// Nothing else is due.
    Nothing,
    /// Whatever is due waits for room in the queue.
    NoRoom,
    /// There may be more.
    Perhaps,
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::app::exposition::tests::{request, stages, total};
    use crate::config::Config;
    use crate::export::Losses;
    use crate::otlp::wire::put_bytes;
    use crate::pipeline::Limits;
    use crate::telemetry::metrics::Metrics;

    fn accept(deciding: &Deciding, number: u64) {
        let request = request(number);
        let mut batch = Batch::default();
        batch.read(&request).expect("valid");
        deciding.accept(&batch, &request).expect("there is room");
    }

    #[test]
    fn a_thread_decides_what_is_due_and_ends_with_its_signal() {
        let (pipeline, queue, metrics) = stages();
        let deciding = Deciding::new(Clock::start(), Arc::clone(&pipeline), queue, 1);
        accept(&deciding, 0);
        let (stop, stopped) = mpsc::channel();
        thread::scope(|scope| {
            let deciding = &deciding;
            let ended = scope.spawn(move || deciding.run(0, &stopped));
            while pipeline.held().spans > 0 {
                thread::yield_now();
            }
            drop(stop);
            ended.join().expect("it does not panic");
        });
        assert_eq!(total(&metrics.render(), "laggard_decisions_total{trigger=\"wait\"}"), 10);
    }

    /// Forty traces of 200 KB, all kept and due at once, and a queue of 4 MiB before a destination of which nothing is seen.
    fn more_than_the_queue() -> (Arc<Deciding>, Arc<Queue>) {
        let mut config = Config::default();
        config.assemble.decision_wait = Duration::ZERO;
        config.sample.healthy = 1.0;
        let metrics = Arc::new(Metrics::default());
        let limits = Limits { held: 1 << 30, baseline: 1 << 20, tables: 1 << 20 };
        let pipeline = Arc::new(Pipeline::new(&config, limits, 4, Arc::clone(&metrics)));
        let queue = Arc::new(Queue::new(4 << 20, metrics));
        let deciding = Deciding::new(Clock::start(), pipeline, Arc::clone(&queue), 1);
        for trace in 1_u64..=40 {
            let (mut span, mut scope, mut resource, mut request) = (vec![], vec![], vec![], vec![]);
            put_bytes(&mut span, 1, &[[7; 8], trace.to_be_bytes()].concat());
            put_bytes(&mut span, 2, &[1; 8]);
            put_bytes(&mut span, 5, &vec![b'n'; 200_000]);
            put_bytes(&mut scope, 2, &span);
            put_bytes(&mut resource, 2, &scope);
            put_bytes(&mut request, 1, &resource);
            let mut batch = Batch::default();
            batch.read(&request).expect("valid");
            deciding.accept(&batch, &request).expect("there is room");
        }
        (deciding, queue)
    }

    fn decide_what_has_room(deciding: &Deciding, now: Nanos) {
        let mut lot = DueTraces::default();
        for shard in 0..deciding.pipeline.shards() {
            while deciding.lot(now, shard, &mut lot) == After::Perhaps {}
        }
    }

    // E2.
    #[test]
    fn what_is_due_together_is_decided_as_fast_as_the_queue_gets_room() {
        let (deciding, queue) = more_than_the_queue();
        let now = deciding.clock.now();
        let mut rounds = 0;
        let mut losses = Losses::default();
        while deciding.pipeline.held().spans > 0 {
            rounds += 1;
            assert!(rounds < 10, "each time there is room for something");
            decide_what_has_room(&deciding, now + rounds);
            assert!(queue.bytes() <= 3 << 20, "{} of 4 MiB", queue.bytes());
            // What a destination has taken is gone as well.
            losses = queue.abandon();
        }
        assert_eq!(losses, Losses { shutdown: 40, ..Losses::default() });
        assert!(rounds > 2);
    }

    #[test]
    fn a_decision_waits_for_room_no_longer_than_its_patience() {
        let (deciding, queue) = more_than_the_queue();
        let now = deciding.clock.now();
        decide_what_has_room(&deciding, now);
        let held = deciding.pipeline.held().spans;
        assert!(held > 0 && held < 40);
        decide_what_has_room(&deciding, now + PATIENCE / 2);
        assert_eq!(deciding.pipeline.held().spans, held);
        decide_what_has_room(&deciding, now + PATIENCE);
        assert_eq!(deciding.pipeline.held().spans, 0);
        assert!(queue.abandon().queue_full > 0, "the destination took nothing in that time");
    }

    // E5.
    #[test]
    fn whoever_brings_spans_decides_as_many_where_the_threads_are_behind() {
        let (pipeline, queue, metrics) = stages();
        let deciding = Deciding::new(Clock::start(), Arc::clone(&pipeline), queue, 2);
        let decided = || total(&metrics.render(), "laggard_decisions_total{trigger=\"wait\"}");
        for number in 0..20 {
            accept(&deciding, number);
        }
        assert_eq!((decided(), pipeline.held().spans), (0, 200), "nobody decides by itself");
        deciding.is_behind[1].store(true, Ordering::Relaxed);
        for number in 20..40 {
            accept(&deciding, number);
        }
        assert!(pipeline.held().spans <= 210, "{}: no more are held than before", pipeline.held().spans);
        assert!(decided() >= 190);
    }
}
