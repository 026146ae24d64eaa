//! What the log says of losses.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use laggard::config::{BatchLimits, Export};
use laggard::telemetry::metrics::Class;
use serde_json::Value;
use tokio::time::sleep;
use tonic::Status;

use super::backend::{Answer, Backend};
use super::rig::{Rig, chunk};

/// Takes the lines of one test.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The spans, the reason and the destination's words of each line on lost spans.
    fn losses(&self) -> Vec<(u64, String, String)> {
        let bytes = self.0.lock().expect("no panic");
        let lines = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>();
        let lines = lines
            .map(|line| line.expect("JSON"))
            .filter(|line| line.get("message").is_some_and(|message| message == "lost spans"));
        let text =
            |line: &Value, key: &str| line.get(key).and_then(Value::as_str).expect("a text").to_owned();
        lines
            .map(|line| {
                let spans = line.get("spans").and_then(Value::as_u64).expect("a number");
                (spans, text(&line, "reason"), text(&line, "answer"))
            })
            .collect()
    }
}

// C13.
#[tokio::test(start_paused = true)]
async fn batches_that_are_lost_together_are_all_told_of_though_nothing_is_lost_after_them() {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone());
    let _told = tracing::subscriber::set_default(lines.finish());
    // Tests beside this one have no subscriber, and what they met first may be remembered as of interest to nobody.
    tracing::callsite::rebuild_interest_cache();
    let (_backend, channel, _) =
        Backend::in_memory(|_| Answer::Refuse(Status::invalid_argument("no, thanks")));
    let batch = BatchLimits { max_spans: 90, ..BatchLimits::default() };
    let mut rig = Rig::new(channel, Export { batch, ..Export::default() });
    for seed in 0..5 {
        rig.push(chunk(seed, 90, Class::Slow));
    }
    let line = |spans| (spans, "rejected".to_owned(), "no, thanks".to_owned());
    while rig.queue.spans() > 0 {
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(log.losses(), [line(90)]);
    sleep(Duration::from_secs(75)).await;
    assert_eq!(log.losses(), [line(90), line(360)]);
    sleep(Duration::from_mins(5)).await;
    assert_eq!(log.losses().len(), 2);
    rig.drain().await;
}
