//! Pauses, timeouts and renewals, on a paused clock and pipes in memory.

use std::time::Duration;

use laggard::config::{BatchLimits, Export};
use laggard::telemetry::metrics::Class;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::backend::{Answer, Backend, Received, script};
use super::rig::{Rig, chunk, names};

const SECOND: Duration = Duration::from_secs(1);

fn unavailable() -> Answer {
    Answer::Refuse(Status::unavailable("down"))
}

fn later(delay: Duration) -> Answer {
    let details = ErrorDetails::with_retry_info(Some(delay));
    Answer::Refuse(Status::with_error_details(Code::Unavailable, "later", details))
}

fn gaps(received: &[Received]) -> Vec<Duration> {
    received.iter().zip(received.iter().skip(1)).map(|(before, after)| after.at - before.at).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_leaves_when_it_is_full_or_its_time_is_over() {
    let (backend, channel, _) = Backend::in_memory(|_| Answer::Take);
    let batch = BatchLimits { max_spans: 4, timeout: SECOND, ..BatchLimits::default() };
    let mut rig = Rig::new(channel, Export { batch, ..Export::default() });
    let start = Instant::now();
    rig.push(chunk(0, 2, Class::Slow));
    sleep(SECOND / 2).await;
    rig.push(chunk(1, 2, Class::Slow));
    let received = backend.wait_for(1).await;
    assert_eq!((received[0].at - start, names(&received[0].body).len()), (SECOND / 2, 4));
    rig.push(chunk(2, 1, Class::Slow));
    sleep(SECOND / 2).await;
    rig.push(chunk(3, 1, Class::Slow));
    let received = backend.wait_for(2).await;
    let gap = gaps(&received)[0];
    assert!((SECOND..SECOND + SECOND / 100).contains(&gap), "{gap:?}");
    assert_eq!(names(&received[1].body).len(), 2);
    rig.drain().await;
}

// C3.
#[tokio::test(start_paused = true)]
async fn pauses_grow_within_their_jitter() {
    let (backend, channel, _) = Backend::in_memory(script(vec![unavailable(); 5]));
    let mut rig = Rig::new(channel, Export::default());
    rig.push(chunk(0, 1, Class::Slow));
    let received = backend.wait_for(6).await;
    for (gap, interval) in gaps(&received).into_iter().zip([5.0, 7.5, 11.25, 16.875, 25.3125]) {
        let share = gap.as_secs_f64() / interval;
        assert!((0.49..1.51).contains(&share), "{gap:?} instead of about {interval} s");
    }
    rig.drain().await;
    assert_eq!(rig.sent(), 1);
}

// C2.
#[tokio::test(start_paused = true)]
async fn a_demanded_pause_is_kept_and_capped() {
    let (backend, channel, _) = Backend::in_memory(script([later(60 * SECOND), later(3600 * SECOND)]));
    let retry = laggard::config::Retry {
        max_elapsed_time: Duration::from_hours(2),
        ..laggard::config::Retry::default()
    };
    let mut rig = Rig::new(channel, Export { retry, ..Export::default() });
    rig.push(chunk(0, 1, Class::Slow));
    let gaps = gaps(&backend.wait_for(3).await);
    assert!((60 * SECOND..=91 * SECOND).contains(&gaps[0]), "{gaps:?}");
    assert!((300 * SECOND..=451 * SECOND).contains(&gaps[1]), "{gaps:?}");
    rig.drain().await;
}

// F2.
#[tokio::test(start_paused = true)]
async fn a_backend_that_stays_down_costs_the_batch_when_its_time_is_over() {
    let (backend, channel, _) = Backend::in_memory(|_| unavailable());
    let mut rig = Rig::new(channel, Export::default());
    let start = Instant::now();
    rig.push(chunk(0, 3, Class::Slow));
    while rig.queue.spans() > 0 {
        sleep(SECOND).await;
    }
    assert_eq!(rig.dropped("retry_expired"), 3);
    let last = backend.received().last().expect("tried").at - start;
    assert!((299 * SECOND..302 * SECOND).contains(&last), "{last:?}");
    rig.push(chunk(1, 2, Class::Slow));
    rig.cut_off().await;
    rig.assert_identity();
}

#[tokio::test(start_paused = true)]
async fn a_demand_beyond_the_last_attempt_costs_the_batch_at_once() {
    let (backend, channel, _) = Backend::in_memory(script([later(299 * SECOND), later(10 * SECOND)]));
    let mut rig = Rig::new(channel, Export::default());
    rig.push(chunk(0, 3, Class::Slow));
    rig.drain().await;
    assert_eq!((backend.received().len(), rig.dropped("retry_expired")), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_our_own_pauses_but_not_those_that_are_demanded() {
    for (answer, pause) in [(unavailable(), Duration::ZERO), (later(60 * SECOND), 60 * SECOND)] {
        let (backend, channel, _) = Backend::in_memory(script([answer]));
        let mut rig = Rig::new(channel, Export::default());
        rig.push(chunk(0, 3, Class::Slow));
        while rig.value("laggard_exporter_failed_requests_total") == 0 {
            sleep(SECOND / 100).await;
        }
        let start = Instant::now();
        rig.drain().await;
        assert_eq!(rig.sent(), 3);
        assert_eq!(backend.received().len(), 2);
        let waited = start.elapsed();
        assert!(waited >= pause && waited <= pause * 3 / 2 + SECOND, "{waited:?}");
    }
}

// F11.
#[tokio::test(start_paused = true)]
async fn a_backend_that_never_answers_is_tried_again_on_another_connection() {
    let (backend, channel, connections) = Backend::in_memory(script([Answer::Never]));
    let mut rig = Rig::new(channel, Export::default());
    rig.push(chunk(0, 2, Class::Slow));
    let gap = gaps(&backend.wait_for(2).await)[0];
    assert!((7 * SECOND..=13 * SECOND).contains(&gap), "timeout and pause, got {gap:?}");
    rig.drain().await;
    assert_eq!((rig.sent(), *connections.lock().expect("not poisoned")), (2, 2));
    assert_eq!(rig.value("laggard_exporter_failed_requests_total{code=\"DEADLINE_EXCEEDED\"}"), 1);
}

// F3.
#[tokio::test(start_paused = true)]
async fn an_answer_within_the_timeout_is_waited_for() {
    let (backend, channel, _) = Backend::in_memory(script([Answer::TakeAfter(4 * SECOND)]));
    let mut rig = Rig::new(channel, Export::default());
    rig.push(chunk(0, 2, Class::Slow));
    rig.drain().await;
    assert_eq!((rig.sent(), backend.received().len()), (2, 1));
}

// LIB-12.
#[tokio::test(start_paused = true)]
async fn a_connection_is_used_for_five_minutes_and_then_renewed() {
    let (backend, channel, connections) = Backend::in_memory(|_| Answer::Take);
    let mut rig = Rig::new(channel, Export::default());
    for (minutes, expected) in [(0, 1), (4, 1), (2, 2), (4, 2), (2, 3)] {
        sleep(minutes * 60 * SECOND).await;
        let before = backend.received().len();
        rig.push(chunk(0, 1, Class::Slow));
        backend.wait_for(before + 1).await;
        assert_eq!(*connections.lock().expect("not poisoned"), expected);
    }
    rig.drain().await;
}

// C7, F2.
#[tokio::test(start_paused = true)]
async fn while_eight_requests_are_open_the_ninth_waits() {
    let (backend, channel, _) = Backend::in_memory(|_| Answer::Hold);
    let batch = BatchLimits { max_spans: 1, ..BatchLimits::default() };
    let mut rig = Rig::new(channel, Export { batch, timeout: 60 * SECOND, ..Export::default() });
    for seed in 0..12 {
        rig.push(chunk(seed, 1, Class::Slow));
    }
    sleep(10 * SECOND).await;
    assert_eq!(backend.received().len(), 8);
    backend.release();
    rig.drain().await;
    assert_eq!((rig.sent(), backend.received().len()), (12, 12));
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_no_batch_to_fill() {
    let (_backend, channel, _) = Backend::in_memory(|_| Answer::Take);
    let batch = BatchLimits { timeout: 60 * SECOND, ..BatchLimits::default() };
    let mut rig = Rig::new(channel, Export { batch, ..Export::default() });
    rig.push(chunk(0, 1, Class::Slow));
    sleep(SECOND).await;
    let start = Instant::now();
    rig.drain().await;
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    assert_eq!(rig.sent(), 1);
}
