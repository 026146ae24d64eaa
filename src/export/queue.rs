//! Decided traces that wait for the destination: bounded in bytes, and the one place where the exporter's side
//! of the accounting identity is kept.
//!
//! A span counts as queued from its push until the destination has acknowledged it or it is counted as dropped,
//! in flight included. Copies of reference traces take room and are sent, but stand outside the identity.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::batch::Batch;
use super::chunk::Chunk;
use super::journal::{Answer, Journal};
use super::losses::Losses;
use crate::config::BatchLimits;
use crate::telemetry::metrics::{DropReason, Metrics, Part};

/// The queue has no room for a chunk of this class; its spans have been counted as dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the export queue is full")]
pub struct Full;

/// The queue between deciding and the destination.
#[derive(Debug)]
pub struct Queue {
    size: u64,
    metrics: Arc<Metrics>,
    journal: Journal,
    state: Mutex<State>,
    pushed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Chunk>,
    waiting_spans: usize,
    waiting_bytes: u64,
    /// Waiting and in flight, without references.
    spans: u64,
    /// Waiting and in flight, overhead included.
    bytes: u64,
    /// Of what is being decided.
    claimed: u64,
}

/// Room for traces that are being decided, given back when it is dropped: by then they are queued.
#[derive(Debug)]
pub struct Claim<'a> {
    queue: &'a Queue,
    bytes: u64,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.claimed = state.claimed.saturating_sub(self.bytes);
    }
}

/// Bytes that a request has beside those of the queue, until it is dropped.
#[derive(Debug)]
pub(super) struct Copied<'a> {
    queue: &'a Queue,
    bytes: u64,
}

impl Drop for Copied<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.bytes = state.bytes.saturating_sub(self.bytes);
        self.queue.publish(&state);
    }
}

/// How much waits, measured in batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    Nothing,
    LessThanABatch,
    ABatch,
}

impl Queue {
    /// A queue of at most `size` bytes.
    pub fn new(size: u64, metrics: Arc<Metrics>) -> Self {
        metrics.budget_bytes.set(Part::Queue, size);
        Self { size, metrics, journal: Journal::default(), state: Mutex::default(), pushed: Notify::new() }
    }

    /// Takes `chunk`, or counts its spans as dropped; never waits.
    ///
    /// # Errors
    /// [`Full`] when it would fill the queue beyond what its class may: 80 % of the size for healthy, learning,
    /// late and reference spans, 90 % for errors, 100 % for slow ones.
    pub fn push(&self, chunk: Chunk) -> Result<(), Full> {
        let mut state = self.lock();
        let bytes = state.bytes.saturating_add(chunk.charge());
        if bytes > chunk.admitted_up_to(self.size) {
            drop(state);
            if !chunk.reference {
                self.lost(u64::from(chunk.spans), DropReason::QueueFull, None);
            }
            return Err(Full);
        }
        state.bytes = bytes;
        if !chunk.reference {
            state.spans += u64::from(chunk.spans);
        }
        state.waiting_spans += chunk.spans as usize;
        state.waiting_bytes += chunk.bytes.len() as u64;
        state.waiting.push_back(chunk);
        self.publish(&state);
        drop(state);
        self.pushed.notify_one();
        Ok(())
    }

    /// Claims room for about so many bytes of traces of any class; `None` where they are to wait with their decision.
    ///
    /// Half of the queue is for them. The rest is for the last of them, which may go beyond, and for what cannot wait:
    /// late spans, and what is decided early.
    pub fn claim(&self, bytes: u64) -> Option<Claim<'_>> {
        let mut state = self.lock();
        let taken = state.bytes + state.claimed;
        if taken > 0 && taken.saturating_add(bytes) > self.size / 2 {
            return None;
        }
        state.claimed += bytes;
        Some(Claim { queue: self, bytes })
    }

    /// Spans that are waiting or in flight, without references: `queued` of the identity.
    pub fn spans(&self) -> u64 {
        self.lock().spans
    }

    /// Bytes that are waiting or in flight, references and overhead included.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Gives up what is left and counts it as dropped at shutdown; returns what was lost in all.
    ///
    /// To be called when [`super::run`] has ended, by itself or because its time was over.
    pub fn abandon(&self) -> Losses {
        let _moving = self.metrics.movements.begin();
        let mut state = self.lock();
        let left = std::mem::take(&mut *state).spans;
        self.publish(&state);
        drop(state);
        self.lost(left, DropReason::Shutdown, None);
        self.journal.total()
    }

    /// Completes after a push; pushes since the last call are not missed.
    pub(super) async fn pushed(&self) {
        self.pushed.notified().await;
    }

    /// A quarter of the queue is a batch however small that is: half of it is all that decisions do not wait with.
    pub(super) fn fill(&self, limits: &BatchLimits) -> Fill {
        let state = self.lock();
        if state.waiting.is_empty() {
            Fill::Nothing
        } else if state.waiting_spans >= limits.max_spans
            || state.waiting_bytes >= limits.max_size.min(self.size / 4)
        {
            Fill::ABatch
        } else {
            Fill::LessThanABatch
        }
    }

    /// Takes the oldest chunks that fit one batch together, or the oldest alone where that is too large or must be.
    pub(super) fn take(&self, limits: &BatchLimits) -> Vec<Chunk> {
        let mut state = self.lock();
        let (mut spans, mut bytes) = (0, 0);
        let fitting = state.waiting.iter().take_while(|chunk| {
            spans += chunk.spans as usize;
            bytes += chunk.bytes.len() as u64;
            !chunk.alone && spans <= limits.max_spans && bytes <= limits.max_size
        });
        let count = fitting.count().max(1).min(state.waiting.len());
        let taken: Vec<Chunk> = state.waiting.drain(..count).collect();
        state.waiting_spans -= taken.iter().map(|chunk| chunk.spans as usize).sum::<usize>();
        state.waiting_bytes -= taken.iter().map(|chunk| chunk.bytes.len() as u64).sum::<u64>();
        if state.waiting.is_empty() {
            state.waiting.shrink_to(1024);
        }
        taken
    }

    /// Counts `batch` as sent, but `rejected` of its spans as dropped: the destination took the request and
    /// refused these, for what it says in `message`, and does not say which.
    pub(super) fn acknowledged(&self, batch: &Batch, rejected: u64, message: &str) {
        let _moving = self.metrics.movements.begin();
        let mut rejected_left = rejected;
        let mut refuse = |spans: u64| {
            let refused = rejected_left.min(spans);
            rejected_left -= refused;
            refused
        };
        let mut lost = 0;
        for part in batch.parts().iter().filter(|part| !part.reference) {
            let refused = refuse(u64::from(part.spans));
            lost += refused;
            self.metrics.sent_spans.add(part.class, u64::from(part.spans) - refused);
        }
        for part in batch.parts().iter().filter(|part| part.reference) {
            let refused = refuse(u64::from(part.spans));
            self.metrics.reference_spans_sent.increment(u64::from(part.spans) - refused);
        }
        if rejected == 0 && !message.is_empty() {
            self.journal.remarked(message);
        }
        let answer = (lost > 0).then(|| Answer { code: "OK", message: message.to_owned() });
        self.lost(lost, DropReason::Rejected, answer);
        self.release(batch);
    }

    /// Counts `batch` as dropped after its last `answer`.
    pub(super) fn dropped(&self, batch: &Batch, reason: DropReason, answer: Answer) {
        let _moving = self.metrics.movements.begin();
        self.lost(batch.counted_spans(), reason, Some(answer));
        self.release(batch);
    }

    /// Counts `bytes` as taken that a request has beside those which wait here: its compressed form.
    pub(super) fn copy(&self, bytes: u64) -> Copied<'_> {
        let mut state = self.lock();
        state.bytes += bytes;
        self.publish(&state);
        Copied { queue: self, bytes }
    }

    /// What the log says.
    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The one way out for spans that are not sent: no loss is counted without being told, or told without being
    /// counted.
    fn lost(&self, spans: u64, reason: DropReason, answer: Option<Answer>) {
        self.metrics.dropped_spans.add(reason, spans);
        self.journal.lost(spans, reason, answer);
    }

    fn release(&self, batch: &Batch) {
        let mut state = self.lock();
        state.spans = state.spans.saturating_sub(batch.counted_spans());
        state.bytes = state.bytes.saturating_sub(batch.charge());
        self.publish(&state);
    }

    fn publish(&self, state: &State) {
        self.metrics.queued_spans.set(state.spans as f64);
        self.metrics.queued_bytes.set(state.bytes as f64);
        self.metrics.used_bytes.set(Part::Queue, state.bytes);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is a few additions that cannot panic, so a poisoned state is still consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::assemble::Trace;
    use crate::telemetry::metrics::Class;

    fn chunk(class: Class, spans: u32) -> Chunk {
        Chunk { bytes: Bytes::from(vec![0; 100]), spans, class, reference: false, alone: false }
    }

    /// A queue with room for ten chunks.
    fn queue() -> (Queue, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::default());
        (Queue::new(10 * chunk(Class::Slow, 1).charge(), Arc::clone(&metrics)), metrics)
    }

    fn limits(max_spans: usize, max_size: u64) -> BatchLimits {
        BatchLimits { max_spans, max_size, ..BatchLimits::default() }
    }

    fn dropped(metrics: &Metrics, reason: &str) -> String {
        let series = format!("laggard_dropped_spans_total{{reason=\"{reason}\"}} ");
        let text = metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(series.as_str()));
        line.expect("present from the start").to_owned()
    }

    #[test]
    fn the_compressed_form_of_a_request_takes_room_while_it_is_open() {
        let (queue, metrics) = queue();
        let room = queue.size - chunk(Class::Slow, 1).charge();
        let copy = queue.copy(room + 1);
        assert_eq!(queue.push(chunk(Class::Slow, 1)), Err(Full));
        assert!(metrics.render().contains(&format!("laggard_used_bytes{{part=\"queue\"}} {}\n", room + 1)));
        drop(copy);
        assert_eq!((queue.bytes(), queue.push(chunk(Class::Slow, 1))), (0, Ok(())));
    }

    // F2.
    #[test]
    fn each_class_finds_room_up_to_its_share() {
        for (class, room) in [
            (Class::Healthy, 8),
            (Class::Learning, 8),
            (Class::Late, 8),
            (Class::Error, 9),
            (Class::Slow, 10),
        ] {
            let (queue, metrics) = queue();
            for _ in 0..room {
                assert_eq!(queue.push(chunk(class, 3)), Ok(()), "{class:?}");
            }
            assert_eq!(queue.push(chunk(class, 3)), Err(Full), "{class:?}");
            assert_eq!((queue.spans(), dropped(&metrics, "queue_full").as_str()), (3 * room, "3"));
            assert_eq!(queue.journal().total(), Losses { queue_full: 3, ..Losses::default() });
        }
    }

    #[test]
    fn a_full_share_still_takes_what_matters_more() {
        let (queue, _) = queue();
        while queue.push(chunk(Class::Healthy, 1)).is_ok() {}
        assert_eq!(queue.push(chunk(Class::Error, 1)), Ok(()));
        assert_eq!(queue.push(chunk(Class::Error, 1)), Err(Full));
        assert_eq!(queue.push(chunk(Class::Slow, 1)), Ok(()));
        assert_eq!(queue.push(chunk(Class::Slow, 1)), Err(Full));
    }

    #[test]
    fn references_take_room_but_stand_outside_the_identity() {
        let (queue, metrics) = queue();
        let reference = Chunk { reference: true, ..chunk(Class::Slow, 5) };
        for _ in 0..8 {
            assert_eq!(queue.push(reference.clone()), Ok(()));
        }
        assert_eq!(queue.push(reference.clone()), Err(Full));
        assert_eq!((queue.spans(), queue.bytes()), (0, 8 * reference.charge()));
        assert_eq!(dropped(&metrics, "queue_full"), "0");
    }

    #[test]
    fn what_is_in_flight_counts_until_it_is_settled() {
        let (queue, metrics) = queue();
        for class in [Class::Slow, Class::Healthy] {
            queue.push(chunk(class, 4)).expect("room");
        }
        let batches = Batch::form(queue.take(&limits(100, 1000)), &limits(100, 1000));
        assert_eq!((queue.spans(), batches.len()), (8, 1));
        queue.acknowledged(&batches[0], 5, "no");
        assert_eq!((queue.spans(), queue.bytes()), (0, 0));
        let text = metrics.render();
        assert!(text.contains("laggard_exporter_sent_spans_total{class=\"slow\"} 0"), "{text}");
        assert!(text.contains("laggard_exporter_sent_spans_total{class=\"healthy\"} 3"), "{text}");
        assert_eq!(dropped(&metrics, "rejected"), "5");
        assert_eq!(queue.abandon(), Losses { rejected: 5, ..Losses::default() });
    }

    #[test]
    fn more_rejected_spans_than_were_sent_are_those_that_were_sent() {
        let (queue, metrics) = queue();
        queue.push(chunk(Class::Slow, 4)).expect("room");
        queue.push(Chunk { reference: true, ..chunk(Class::Healthy, 2) }).expect("room");
        let batches = Batch::form(queue.take(&limits(100, 1000)), &limits(100, 1000));
        queue.acknowledged(&batches[0], 5, "no");
        assert_eq!(dropped(&metrics, "rejected"), "4");
        assert!(metrics.render().contains("laggard_reference_spans_sent_total 1"));
    }

    #[test]
    fn a_batch_is_taken_up_to_its_limits() {
        let (queue, _) = queue();
        for spans in [2, 2, 9, 1] {
            queue.push(chunk(Class::Slow, spans)).expect("room");
        }
        let taken = |limits: &BatchLimits| queue.take(limits).iter().map(|c| c.spans).collect::<Vec<_>>();
        assert_eq!(queue.fill(&limits(14, 1000)), Fill::ABatch);
        assert_eq!(queue.fill(&limits(15, 401)), Fill::LessThanABatch);
        assert_eq!(queue.fill(&limits(15, 400)), Fill::ABatch);
        assert_eq!(taken(&limits(4, 1000)), [2, 2]);
        assert_eq!(taken(&limits(4, 1000)), [9]);
        assert_eq!(taken(&limits(4, 1000)), [1]);
        assert!(taken(&limits(4, 1000)).is_empty());
        assert_eq!(queue.fill(&limits(1, 1)), Fill::Nothing);
        for _ in 0..4 {
            queue.push(chunk(Class::Slow, 0)).expect("room for spans in flight too");
        }
        assert_eq!(taken(&limits(4, 250)).len(), 2);
    }

    #[test]
    fn half_of_it_is_for_what_is_being_decided_and_a_quarter_is_a_batch() {
        let (queue, _) = queue();
        let (whole, all) = (queue.size, limits(100, 1 << 20));
        let first = queue.claim(whole / 2).expect("it is empty");
        assert!(queue.claim(1).is_none(), "another is deciding");
        drop(first);
        for _ in 0..2 {
            queue.push(chunk(Class::Slow, 1)).expect("room");
        }
        assert_eq!(queue.fill(&all), Fill::LessThanABatch);
        for _ in 2..4 {
            queue.push(chunk(Class::Slow, 1)).expect("room");
        }
        assert!(queue.claim(whole / 10).is_some() && queue.claim(whole / 10 + 1).is_none());
        while queue.fill(&all) == Fill::LessThanABatch {
            queue.push(chunk(Class::Slow, 1)).expect("room");
        }
        assert!(queue.lock().waiting_bytes >= whole / 4 && queue.lock().waiting_bytes < whole / 4 + 100);
        queue.abandon();
        assert!(queue.claim(whole).is_some(), "what is larger than half is decided once it is empty");
    }

    #[test]
    fn what_is_abandoned_is_counted() {
        let (queue, metrics) = queue();
        queue.push(chunk(Class::Slow, 4)).expect("room");
        queue.push(chunk(Class::Slow, 3)).expect("room");
        let in_flight = queue.take(&limits(4, 1000));
        assert_eq!(queue.abandon(), Losses { shutdown: 7, ..Losses::default() });
        drop(in_flight);
        assert_eq!((queue.spans(), queue.bytes(), dropped(&metrics, "shutdown").as_str()), (0, 0, "7"));
    }

    #[test]
    fn what_a_strict_destination_may_refuse_leaves_alone() {
        use crate::otlp::wire::put_bytes;
        let request = |names: &[&[u8]]| {
            let mut scope = Vec::new();
            for (id, name) in (1..).zip(names) {
                let mut span = Vec::new();
                put_bytes(&mut span, 1, &[7; 16]);
                put_bytes(&mut span, 2, &[id; 8]);
                put_bytes(&mut span, 5, name);
                put_bytes(&mut scope, 2, &span);
            }
            let mut resource_spans = Vec::new();
            put_bytes(&mut resource_spans, 2, &scope);
            let mut request = Vec::new();
            put_bytes(&mut request, 1, &resource_spans);
            Trace::all_in(&request).expect("protobuf").remove(0)
        };
        let chunks: Vec<_> = Chunk::of(&request(&[b"good", b"\xff", b"fine"]), Class::Slow).collect();
        let parts: Vec<_> = chunks.iter().map(|chunk| (chunk.spans, chunk.alone)).collect();
        assert_eq!(parts, [(2, false), (1, true)]);
        assert_eq!(Chunk::of(&request(&[b"good"]), Class::Slow).count(), 1);

        let (queue, _) = queue();
        let alone = Chunk { alone: true, ..chunk(Class::Slow, 3) };
        for chunk in [chunk(Class::Slow, 1), alone, chunk(Class::Slow, 2), chunk(Class::Slow, 4)] {
            queue.push(chunk).expect("room");
        }
        let taken: Vec<Vec<u32>> = std::iter::repeat_with(|| queue.take(&limits(100, 10_000)))
            .map(|chunks| chunks.iter().map(|chunk| chunk.spans).collect())
            .take_while(|spans: &Vec<u32>| !spans.is_empty())
            .collect();
        assert_eq!(taken, [vec![1], vec![3], vec![2, 4]]);
    }
}
