//! The metrics page, of one moment: counted while no span is on its way from one side of the accounting identity to the
//! other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::pipeline::Pipeline;
use crate::telemetry::metrics::Metrics;

/// How often such a moment is looked for. A process that is never still gives its page all the same, off by what is on
/// its way.
const TRIES: u32 = 50;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(1);

/// Makes pages, one at a time: who asks while others wait for one gets the next one with them, so that no number of
/// scrapers costs more than one of them.
#[derive(Debug)]
pub(super) struct Pages {
    pipeline: Arc<Pipeline>,
    metrics: Arc<Metrics>,
    begun: AtomicU64,
    latest: Mutex<Page>,
}

/// A page, and how many had been begun with it.
#[derive(Debug, Default)]
struct Page {
    number: u64,
    text: String,
}

impl Pages {
    pub(super) fn new(pipeline: Arc<Pipeline>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { pipeline, metrics, begun: AtomicU64::new(0), latest: Mutex::default() })
    }

    /// A page that is made from now on.
    pub(super) async fn next(&self) -> String {
        let begun_before = self.begun.load(Ordering::SeqCst);
        let mut latest = self.latest.lock().await;
        if latest.number <= begun_before {
            latest.number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            latest.text = self.make().await;
        }
        latest.text.clone()
    }

    /// The page, within a tenth of a second.
    async fn make(&self) -> String {
        for _ in 0..TRIES {
            if let Some(page) = of_one_moment(&self.pipeline, &self.metrics) {
                return page;
            }
            sleep(PAUSE).await;
        }
        page(&self.pipeline, &self.metrics)
    }
}

/// The page, unless spans have moved meanwhile.
fn of_one_moment(pipeline: &Pipeline, metrics: &Metrics) -> Option<String> {
    let still = metrics.movements.still()?;
    let page = page(pipeline, metrics);
    metrics.movements.are_still_since(still).then_some(page)
}

fn page(pipeline: &Pipeline, metrics: &Metrics) -> String {
    pipeline.publish();
    metrics.render()
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;
    use crate::app::{Clock, deciding::Deciding};
    use crate::config::{Config, Threshold};
    use crate::export::Queue;
    use crate::otlp::batch::Batch;
    use crate::otlp::wire::put_bytes;
    use crate::pipeline::Limits;
    use crate::telemetry::metrics::Transport;

    const SENDERS: u64 = 3;
    const REQUESTS: u64 = 400;

    /// Everything is due at once, and half of it is kept.
    pub(in crate::app) fn stages() -> (Arc<Pipeline>, Arc<Queue>, Arc<Metrics>) {
        let mut config = Config::default();
        config.assemble.decision_wait = Duration::ZERO;
        config.slow.threshold = Threshold::Fixed(Duration::from_secs(1));
        config.sample.healthy = 0.5;
        let metrics = Arc::new(Metrics::default());
        let limits = Limits { held: 1 << 30, baseline: 1 << 20, tables: 1 << 20 };
        let pipeline = Pipeline::new(&config, limits, 4, Arc::clone(&metrics));
        (Arc::new(pipeline), Arc::new(Queue::new(1 << 30, Arc::clone(&metrics))), metrics)
    }

    /// One span each of ten traces.
    pub(in crate::app) fn request(number: u64) -> Vec<u8> {
        let mut scope = Vec::new();
        for trace in number * 10..number * 10 + 10 {
            let mut span = Vec::new();
            let mixed = (trace + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            put_bytes(&mut span, 1, &[[7; 8], mixed.to_be_bytes()].concat());
            put_bytes(&mut span, 2, &[1; 8]);
            put_bytes(&mut scope, 2, &span);
        }
        let (mut resource, mut request) = (Vec::new(), Vec::new());
        put_bytes(&mut resource, 2, &scope);
        put_bytes(&mut request, 1, &resource);
        request
    }

    pub(in crate::app) fn total(page: &str, name: &str) -> u64 {
        let lines = page.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
        lines.map(|(_, value)| value.parse::<u64>().expect("a count")).sum()
    }

    fn assert_identity(page: &str) {
        let [accepted, sent, dropped, held, queued] = [
            "laggard_receiver_accepted_spans_total{",
            "laggard_exporter_sent_spans_total{",
            "laggard_dropped_spans_total{",
            "laggard_held_spans",
            "laggard_queued_spans",
        ]
        .map(|name| total(page, name));
        assert_eq!(accepted, sent + dropped + held + queued, "{sent} {dropped} {held} {queued}");
    }

    #[test]
    fn a_page_of_one_moment_is_exact_while_spans_come_and_are_decided() {
        let (pipeline, queue, metrics) = stages();
        let deciding = Deciding::new(Clock::start(), Arc::clone(&pipeline), Arc::clone(&queue), 2);
        let sending = AtomicU64::new(SENDERS);
        thread::scope(|scope| {
            for sender in 0..SENDERS {
                let (deciding, metrics, sending) = (&deciding, &metrics, &sending);
                scope.spawn(move || {
                    for number in 0..REQUESTS {
                        let request = request(sender * REQUESTS + number);
                        let mut batch = Batch::default();
                        batch.read(&request).expect("valid");
                        let moving = metrics.movements.begin();
                        deciding.accept(&batch, &request).expect("there is room");
                        metrics.accepted_spans.add(Transport::Http, 10);
                        drop(moving);
                        deciding.help(5);
                    }
                    sending.fetch_sub(1, Ordering::Relaxed);
                });
            }
            while sending.load(Ordering::Relaxed) > 0 {
                if let Some(page) = of_one_moment(&pipeline, &metrics) {
                    assert_identity(&page);
                }
            }
        });
        let page = of_one_moment(&pipeline, &metrics).expect("nothing moves any more");
        assert_identity(&page);
        assert_eq!(total(&page, "laggard_receiver_accepted_spans_total{"), SENDERS * REQUESTS * 10);
        assert!(total(&page, "laggard_queued_spans") > 0, "some are kept");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_is_never_still_gives_its_page_all_the_same() {
        let (pipeline, _, metrics) = stages();
        let _moving = metrics.movements.begin();
        assert!(of_one_moment(&pipeline, &metrics).is_none());
        let page = Pages::new(pipeline, Arc::clone(&metrics)).next().await;
        assert!(page.contains("laggard_held_spans 0\n"));
    }

    // E9.
    #[tokio::test(start_paused = true)]
    async fn a_hundred_who_ask_at_once_get_pages_made_after_they_asked_at_the_cost_of_two() {
        let (pipeline, _, metrics) = stages();
        let _moving = metrics.movements.begin();
        let pages = Pages::new(pipeline, Arc::clone(&metrics));
        let first = pages.next();
        let others = futures_util::future::join_all((0..100).map(|_| async {
            metrics.accepted_spans.add(Transport::Http, 1);
            pages.next().await
        }));
        let (_, others) = futures_util::future::join(first, others).await;
        assert!(others.iter().all(|page| total(page, "laggard_receiver_accepted_spans_total{") == 100));
        assert_eq!(pages.begun.load(Ordering::Relaxed), 2);
    }
}
