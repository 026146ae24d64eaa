//! The exporter against a backend that does everything a backend can do wrong.

#[path = "support/backend.rs"]
mod backend;
#[path = "support/frames.rs"]
mod frames;
#[path = "export/hostile.rs"]
mod hostile;
#[path = "export/http.rs"]
mod http;
#[path = "export/log.rs"]
mod log;
#[path = "export/retry.rs"]
mod retry;
#[path = "export/rig.rs"]
mod rig;
#[path = "export/time.rs"]
mod time;
#[path = "support/tls.rs"]
mod tls;
#[path = "export/tls.rs"]
mod tls_export;

use backend::{Answer, Backend, script};
use laggard::config::{BatchLimits, Compression, Export};
use laggard::export::{Chunk, Losses, channel};
use laggard::telemetry::metrics::Class;
use rig::{Rig, chunk, config, names, partial, to};

#[tokio::test]
async fn what_is_pushed_arrives_byte_for_byte() {
    for compression in [Compression::Auto, Compression::None, Compression::Gzip, Compression::Zstd] {
        let backend = Backend::start(|_| Answer::Take).await;
        let (_, config) = to(backend.endpoint());
        let config = Export { compression, ..config };
        let mut rig = Rig::new(channel(&config).expect("valid"), config);
        let chunks: Vec<Chunk> = (0..20).map(|seed| chunk(seed, 1 + seed % 3, Class::Slow)).collect();
        for chunk in &chunks {
            rig.push(chunk.clone());
        }
        rig.drain().await;
        let pushed: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect();
        assert_eq!(backend.all_bytes(), pushed, "{compression:?}");
        let sent = rig.value("laggard_exporter_sent_spans_total{class=\"slow\"}");
        assert_eq!(sent, 39, "the answer was understood, {compression:?}");
        let encoding = backend.received()[0].metadata.get("grpc-encoding").cloned();
        let expected = match compression {
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
            Compression::Auto | Compression::None => None,
        };
        assert_eq!(encoding.as_ref().map(|e| e.to_str().expect("text")), expected, "{compression:?}");
    }
}

// R14.
#[tokio::test]
async fn requests_carry_the_configured_headers_and_say_who_we_are() {
    let backend = Backend::start(|_| Answer::Take).await;
    let (_, mut config) = to(backend.endpoint());
    config.headers.insert("X-Api-Key".to_owned(), "secret".to_owned());
    let mut rig = Rig::new(channel(&config).expect("valid"), config);
    rig.push(chunk(0, 1, Class::Slow));
    rig.drain().await;
    let metadata = &backend.received()[0].metadata;
    assert_eq!(metadata.get("x-api-key").expect("sent"), "secret");
    let agent = metadata.get("user-agent").expect("sent").to_str().expect("text");
    assert!(agent.starts_with(concat!("Laggard/", env!("CARGO_PKG_VERSION"))), "{agent}");
}

#[tokio::test]
async fn spans_are_counted_as_sent_by_class_and_references_apart() {
    let backend = Backend::start(|_| Answer::Take).await;
    let (channel, config) = to(backend.endpoint());
    let mut rig = Rig::new(channel, config);
    let classes = [Class::Slow, Class::Error, Class::Healthy, Class::Learning, Class::Late];
    for (seed, class) in (0..).zip(classes) {
        rig.push(chunk(seed, 1 + seed, class));
    }
    rig.push(Chunk { reference: true, ..chunk(9, 7, Class::Healthy) });
    rig.drain().await;
    for (count, class) in (1..).zip(["slow", "error", "healthy", "learning", "late"]) {
        let series = format!("laggard_exporter_sent_spans_total{{class=\"{class}\"}}");
        assert_eq!(rig.value(&series), count, "{class}");
    }
    assert_eq!(rig.value("laggard_reference_spans_sent_total"), 7);
    assert_eq!(rig.value("laggard_exporter_last_success_timestamp_seconds"), 100);
    assert_eq!(names(&backend.all_bytes()).len(), 22);
}

#[tokio::test]
async fn chunks_share_requests_up_to_the_limits_and_a_larger_one_is_split() {
    let backend = Backend::start(|_| Answer::Take).await;
    let (channel, config) = to(backend.endpoint());
    let batch = BatchLimits { max_spans: 4, ..BatchLimits::default() };
    let mut rig = Rig::new(channel, Export { batch, ..config });
    let chunks = [chunk(0, 2, Class::Slow), chunk(1, 2, Class::Slow), chunk(2, 9, Class::Error)];
    for chunk in &chunks {
        rig.push(chunk.clone());
    }
    rig.drain().await;
    let mut sizes: Vec<usize> = backend.received().iter().map(|r| names(&r.body).len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 4, 4, 4]);
    let mut arrived = names(&backend.all_bytes());
    let mut pushed: Vec<String> = chunks.iter().flat_map(|chunk| names(&chunk.bytes)).collect();
    arrived.sort();
    pushed.sort();
    assert_eq!(arrived, pushed);
}

// R12, C4, F6.
#[tokio::test]
async fn a_partial_success_is_never_sent_again_and_what_it_rejects_is_counted() {
    let cases = [
        (Vec::new(), 0),
        (vec![0x0a, 0x00], 0),
        (partial(0, "spans of the future"), 0),
        (partial(2, "two were bad"), 2),
        (partial(5, ""), 5),
        (partial(-1, "odd"), 0),
        (partial(6, "more than there were"), 5),
        (partial(i64::MAX, ""), 5),
        (partial(1, &"x".repeat(3 << 20)), 1),
        (b"\xff\xff".to_vec(), 0),
    ];
    for (response, rejected) in cases {
        let backend = Backend::start(script([Answer::Respond(response.clone())])).await;
        let (channel, config) = to(backend.endpoint());
        let mut rig = Rig::new(channel, config);
        rig.push(chunk(0, 3, Class::Slow));
        rig.push(chunk(1, 2, Class::Error));
        rig.drain().await;
        let start = &response[..response.len().min(20)];
        assert_eq!(backend.received().len(), 1, "{start:?}");
        assert_eq!((rig.sent(), rig.dropped("rejected")), (5 - rejected, rejected), "{start:?}");
    }
}

// C6, F12.
#[tokio::test]
async fn a_batch_that_is_too_large_is_halved_until_it_is_taken() {
    let too_large = || Answer::Refuse(tonic::Status::resource_exhausted("too large"));
    let backend = Backend::start(
        move |received| {
            if names(&received.body).len() > 2 { too_large() } else { Answer::Take }
        },
    )
    .await;
    let (channel, config) = to(backend.endpoint());
    let mut rig = Rig::new(channel, config);
    for seed in 0..3 {
        rig.push(chunk(seed, 5, Class::Slow));
    }
    rig.drain().await;
    let taken: Vec<String> = backend
        .received()
        .iter()
        .map(|received| names(&received.body))
        .filter(|names| names.len() <= 2)
        .flatten()
        .collect();
    let pushed: Vec<String> = (0..3).flat_map(|seed| names(&chunk(seed, 5, Class::Slow).bytes)).collect();
    assert_eq!(taken, pushed);
    assert_eq!((rig.sent(), rig.dropped("rejected")), (15, 0));
}

// C6.
#[tokio::test]
async fn a_span_that_is_too_large_by_itself_is_dropped_and_the_others_are_not() {
    let backend = Backend::start(|received| {
        let has_it = names(&received.body).contains(&"span 3 of 0".to_owned());
        if has_it { Answer::Refuse(tonic::Status::resource_exhausted("too large")) } else { Answer::Take }
    })
    .await;
    let (channel, config) = to(backend.endpoint());
    let mut rig = Rig::new(channel, config);
    rig.push(chunk(0, 7, Class::Slow));
    rig.drain().await;
    assert_eq!((rig.sent(), rig.dropped("rejected")), (6, 1));
}

// C16.
#[tokio::test]
async fn a_backend_that_is_down_at_first_gets_everything_once_it_is_up() {
    let address = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("free port");
        listener.local_addr().expect("bound")
    };
    let (channel, config) = to(format!("http://{address}"));
    let mut rig = Rig::new(channel, config);
    for seed in 0..5 {
        rig.push(chunk(seed, 3, Class::Slow));
    }
    while rig.value("laggard_exporter_failed_requests_total{code=\"UNAVAILABLE\"}") < 3 {
        tokio::task::yield_now().await;
    }
    rig.assert_identity();
    assert_eq!(rig.queue.spans(), 15);
    let backend = Backend::start_at(address, |_| Answer::Take).await;
    rig.drain().await;
    assert_eq!((rig.sent(), names(&backend.all_bytes()).len()), (15, 15));
}

// C7, F3.
#[tokio::test]
async fn a_slow_backend_has_several_requests_open_at_once() {
    let backend = Backend::start(|_| Answer::Hold).await;
    let (channel, config) = to(backend.endpoint());
    let batch = BatchLimits { max_spans: 1, ..BatchLimits::default() };
    let mut rig = Rig::new(channel, Export { batch, ..config });
    for seed in 0..12 {
        rig.push(chunk(seed, 1, Class::Slow));
    }
    backend.wait_for(8).await;
    assert_eq!(rig.queue.spans(), 12, "what is in flight is still queued");
    backend.release();
    rig.drain().await;
    assert_eq!(rig.sent(), 12);
}

#[tokio::test]
async fn when_its_time_is_over_what_is_left_is_counted_as_lost_at_shutdown() {
    let backend = Backend::start(|_| Answer::Never).await;
    let (channel, config) = to(backend.endpoint());
    let mut rig = Rig::new(channel, Export { batch: BatchLimits { max_spans: 2, ..config.batch }, ..config });
    for seed in 0..20 {
        rig.push(chunk(seed, 2, Class::Slow));
    }
    backend.wait_for(1).await;
    rig.cut_off().await;
    assert_eq!(rig.queue.spans(), 40);
    assert_eq!(rig.queue.abandon(), Losses { shutdown: 40, ..Losses::default() });
    assert_eq!((rig.queue.spans(), rig.queue.bytes(), rig.dropped("shutdown")), (0, 0, 40));
    rig.assert_identity();
}

#[tokio::test]
async fn an_exporter_without_work_ends_at_once() {
    let mut rig = Rig::new(to("http://127.0.0.1:1".to_owned()).0, config());
    rig.drain().await;
}
