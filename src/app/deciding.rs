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
use crate::pipeline::{NoRoom, Outgoing, Pipeline};
use crate::receive::Refused;

/// How often traces are looked at that are due: a decision may be behind by this much.
const TICK: Duration = Duration::from_millis(100);

/// Between two looks whether there is room.
const PAUSE: Duration = Duration::from_millis(5);

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

    /// Decides traces of about so many spans, if so many are due.
    pub(super) fn help(&self, spans: u64) {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let shards = self.pipeline.shards();
        let mut lot = DueTraces::default();
        let mut decided = 0;
        for shard in 0..shards {
            let shard = first.wrapping_add(shard) % shards;
            while decided < spans && self.lot(shard, &mut lot) {
                decided += lot.traces.iter().map(|due| u64::from(due.spans)).sum::<u64>();
            }
        }
    }

    /// Decides what is due, again and again until `stop` has no sender any more, in every shard whose number is
    /// `thread` more than a multiple of the number of threads.
    pub(super) fn run(&self, thread: usize, stop: &Receiver<()>) {
        let mut lot = DueTraces::default();
        let mut ticked_at = 0;
        let mut has_more = false;
        loop {
            let pause = if has_more { Duration::ZERO } else { TICK };
            if stop.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            // One lot of each shard in turn, so that none has to wait until another has none left.
            has_more = false;
            let mut latest = 0;
            for shard in (thread..self.pipeline.shards()).step_by(self.threads()) {
                has_more |= self.lot(shard, &mut lot);
                let now = self.clock.now();
                let late = lot.traces.iter().map(|due| now.saturating_sub(due.due_at));
                latest = late.max().unwrap_or(0).max(latest);
            }
            if let Some(is_behind) = self.is_behind.get(thread) {
                is_behind.store(latest > BEHIND, Ordering::Relaxed);
            }
            let now = self.clock.now();
            if thread == 0 && (!has_more || now.saturating_sub(ticked_at) > BEHIND) {
                ticked_at = now;
                self.pipeline.tick(now);
            }
        }
    }

    /// Decides a lot of a shard, if anything of it is due; returns whether there may be more.
    fn lot(&self, shard: usize, lot: &mut DueTraces) -> bool {
        self.pipeline.decide_lot_in(shard, self.clock.now(), lot, &mut |outgoing| self.push(&outgoing))
    }

    /// Decides all that is held, as fast as the queue gets room for it: of what is held and kept, more than it has room
    /// for would be lost though the destination takes it.
    pub(super) async fn decide_rest(&self) {
        while self.pipeline.decide_some(self.clock.now(), &mut |outgoing| self.push(&outgoing)) {
            while !self.queue.is_roomy() {
                sleep(PAUSE).await;
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::app::exposition::tests::{request, stages, total};

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
