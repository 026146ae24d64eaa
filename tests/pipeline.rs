//! The sidecar over real sockets, from a sender's request to the destination's.

#[path = "support/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use laggard::app::Ended;
use laggard::assemble::Trace;
use laggard::config::units::Budget;
use laggard::export::Losses;
use laggard::otlp::TraceId;
use laggard::otlp::codec::Body;
use laggard::otlp::services::opentelemetry::proto::collector::trace::v1::trace_service_client::TraceServiceClient;
use laggard::telemetry::metrics::{DropReason, Labels as _, Refusal};
use opentelemetry::Context;
use opentelemetry::trace::{SpanKind, TraceContextExt};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use support::backend::{Answer, Backend, Received};
use support::eventually;
use support::sdk::SdkService;
use support::sidecar::Sidecar;
use support::spans::{Arrived, TraceBuilder};

/// Milliseconds that the pre-processor works on a request.
const FAST: u64 = 50;
const SLOW: u64 = 775;

/// Sends fast traces until a reference can be had of them.
async fn teach(sidecar: &mut Sidecar) -> u64 {
    for number in 1_000..1_020 {
        sidecar.send_trace(&TraceBuilder::inference(number, FAST + number % 5)).await;
    }
    sidecar.decided(20).await;
    20
}

fn entry_of(spans: &[Arrived]) -> &Arrived {
    spans.iter().find(|found| found.span.parent_span_id.is_empty()).expect("a root")
}

/// The bodies of a trace's spans, by span id, as they stand on the wire.
fn bodies(requests: &[u8], trace: &TraceBuilder) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let traces = Trace::all_in(requests).expect("protobuf");
    let found = traces.iter().find(|found| found.id().bytes().as_slice() == trace.trace_id());
    let found = found.expect("the trace is there");
    let spans = (0..found.len()).filter_map(|index| found.span(index));
    spans.map(|span| (span.head.span_id.bytes().to_vec(), span.body.to_vec())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_three_services_over_many_requests_and_both_ports_leave_as_one_trace() {
    let mut sidecar = Sidecar::start(|_| ()).await;
    let trace = TraceBuilder::inference(1, SLOW);
    // Children first, the root last, as it happens.
    for (index, request) in trace.requests_by_span().into_iter().rev().enumerate() {
        if index % 2 == 0 {
            sidecar.send(request).await;
        } else {
            sidecar.post(&request).await;
        }
    }
    let spans = sidecar.delivered(&trace, 5).await;
    let mut services: Vec<&str> = spans.iter().map(|found| found.service.as_str()).collect();
    services.sort_unstable();
    assert_eq!(services, ["inference-server", "pre-processor", "pre-processor", "web-server", "web-server"]);
    let received = sidecar.end().await;
    assert_eq!(received.len(), 1, "one decision, one request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_trace_leaves_with_the_service_that_made_it_slow() {
    let mut sidecar = Sidecar::start(|_| ()).await;
    let taught = teach(&mut sidecar).await;
    let trace = TraceBuilder::inference(1, SLOW);
    for request in trace.requests_by_service() {
        sidecar.send(request).await;
    }
    let spans = sidecar.delivered(&trace, 5).await;
    let entry = entry_of(&spans);
    assert_eq!(entry.text("root_cause.verdict"), Some("identified"));
    assert_eq!(entry.text("root_cause.service"), Some("pre-processor"));
    assert_eq!(entry.text("root_cause.operation"), Some("preprocess-request"));
    assert_eq!(entry.double("root_cause.threshold_ms"), Some(600.0));
    let delta = entry.double("root_cause.delta_ms").expect("a number");
    assert!((720.0..=725.0).contains(&delta), "{delta} ms");
    assert!(entry.text("root_cause.explanation").expect("a sentence").contains("pre-processor"));

    let baseline = entry.text("root_cause.baseline.trace_id").expect("a reference").to_owned();
    let link = TraceId::from_slice(&entry.span.links[0].trace_id).expect("a valid id").to_string();
    assert_eq!(link, baseline);
    let culprits: Vec<&Arrived> =
        spans.iter().filter(|found| found.value("root_cause.culprit").is_some()).collect();
    assert_eq!(culprits.len(), 1);
    assert_eq!(culprits[0].span.name, "preprocess-request");

    let scrape = sidecar.settled().await;
    assert_eq!(scrape.value(r#"laggard_verdicts_total{verdict="identified",reason=""}"#), 1);
    assert_eq!(scrape.value(r#"laggard_exporter_sent_spans_total{class="slow"}"#), 5);
    assert_eq!(scrape.value(r#"laggard_dropped_spans_total{reason="not_sampled"}"#), taught * 5);
    // The reference that the verdict points to is forwarded too, so that the link leads somewhere.
    eventually("the reference is sent", async || {
        (sidecar.scrape().await.value("laggard_reference_spans_sent_total") == 5).then_some(())
    })
    .await;
    sidecar.end().await;
}

// D14.
#[tokio::test(flavor = "multi_thread")]
async fn a_fast_error_is_kept_and_not_compared() {
    let mut sidecar = Sidecar::start(|_| ()).await;
    let error = TraceBuilder::inference(1, FAST).error();
    let healthy = TraceBuilder::inference(2, FAST);
    sidecar.send_trace(&error).await;
    sidecar.send_trace(&healthy).await;
    let spans = sidecar.delivered(&error, 5).await;
    for found in &spans {
        assert!(found.span.attributes.is_empty() && found.span.links.is_empty(), "{found:?}");
        assert_eq!(found.span.trace_state, "");
    }
    sidecar.decided(2).await;
    let scrape = sidecar.settled().await;
    assert_eq!(sidecar.delivered_now(&healthy), []);
    assert_eq!(scrape.value(r#"laggard_traces_total{decision="error"}"#), 1);
    assert_eq!(scrape.value(r#"laggard_traces_total{decision="dropped"}"#), 1);
    sidecar.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_healthy_traces_the_consistent_share_is_kept_and_stamped() {
    let mut sidecar = Sidecar::start(|config| config.sample.healthy = 0.25).await;
    let traces: Vec<TraceBuilder> = (0..100).map(|number| TraceBuilder::inference(number, FAST)).collect();
    for trace in &traces {
        sidecar.send_trace(trace).await;
    }
    sidecar.decided(100).await;
    sidecar.settled().await;
    // A quarter is kept: the randomness, the low 56 bits of the trace id, is at least three quarters.
    let is_kept = |trace: &TraceBuilder| trace.trace_id()[9] >= 0xc0;
    let kept = traces.iter().filter(|trace| is_kept(trace)).count();
    assert!((10..40).contains(&kept), "{kept} of 100");
    for trace in &traces {
        let spans = sidecar.delivered_now(trace);
        assert_eq!(spans.len(), if is_kept(trace) { 5 } else { 0 });
        assert!(spans.iter().all(|found| found.span.trace_state == "ot=th:c"), "{spans:?}");
    }
    sidecar.end().await;
}

// D6.
#[tokio::test(flavor = "multi_thread")]
async fn late_spans_follow_the_decision_on_their_trace() {
    // Else the dropped trace may be sent after all, as the reference of the kept one.
    let mut sidecar = Sidecar::start(|config| config.sample.references = false).await;
    let kept = TraceBuilder::inference(1, SLOW);
    let dropped = TraceBuilder::inference(2, FAST);
    for trace in [&kept, &dropped] {
        sidecar.send(trace.request_of(&[1, 2, 3])).await;
    }
    sidecar.decided(2).await;
    for trace in [&kept, &dropped] {
        sidecar.send(trace.request_of(&[4, 5])).await;
    }
    sidecar.delivered(&kept, 5).await;
    let scrape = sidecar.settled().await;
    assert_eq!(scrape.value(r#"laggard_late_spans_total{decision="sampled"}"#), 2);
    assert_eq!(scrape.value(r#"laggard_late_spans_total{decision="dropped"}"#), 2);
    assert_eq!(scrape.value(r#"laggard_exporter_sent_spans_total{class="late"}"#), 2);
    assert_eq!(scrape.value(r#"laggard_dropped_spans_total{reason="late"}"#), 2);
    assert_eq!(sidecar.delivered_now(&dropped), []);
    sidecar.end().await;
}

// OTLP-G13.
#[tokio::test(flavor = "multi_thread")]
async fn ending_decides_and_sends_what_is_held() {
    let mut sidecar = Sidecar::start(|config| {
        config.assemble.decision_wait_after_root_received = Duration::from_secs(30);
    })
    .await;
    let slow = TraceBuilder::inference(1, SLOW);
    sidecar.send_trace(&slow).await;
    sidecar.send_trace(&TraceBuilder::inference(2, FAST)).await;
    let scrape = sidecar.scrape().await;
    assert_eq!(scrape.value("laggard_held_traces"), 2);
    support::sidecar::assert_identity(&scrape);
    let (ended, received) = sidecar.stop().await;
    assert_eq!(ended, Ended::default());
    assert_eq!(bodies(&all(&received), &slow).len(), 5);
}

/// It was decided at once, and what the queue had no room for was lost beside a destination that took everything.
#[tokio::test(flavor = "multi_thread")]
async fn ending_sends_what_is_held_though_the_queue_is_smaller() {
    let mut sidecar = Sidecar::start(|config| {
        config.assemble.decision_wait_after_root_received = Duration::from_secs(30);
    })
    .await;
    // Of 64 MiB the queue has a fifth.
    for number in 0..24 {
        let trace = TraceBuilder::inference(number, SLOW);
        let trace =
            trace.with(|span| span.attributes.push(support::spans::text("body", &"x".repeat(900_000))));
        sidecar.send_trace(&trace).await;
    }
    let accepted = sidecar.scrape().await.value("laggard_held_spans");
    let (ended, received) = sidecar.stop().await;
    assert_eq!(ended, Ended::default());
    assert_eq!(support::spans::arrived(&all(&received)).len() as u64, accepted);
}

/// They were decided at once, and those that the queue had no room for were lost beside a destination that took everything.
// E2.
#[tokio::test(flavor = "multi_thread")]
async fn large_traces_that_are_due_together_are_all_sent_though_the_queue_is_smaller() {
    let backend = Backend::start(|_| Answer::TakeAfter(Duration::from_millis(20))).await;
    let mut sidecar = Sidecar::start_before(backend, |config| {
        config.assemble.decision_wait_after_root_received = Duration::from_secs(1);
        config.export.queue.size = Budget::Bytes(2 << 20);
    })
    .await;
    let traces: Vec<_> = (0..6).map(|number| TraceBuilder::inference(number, SLOW)).collect();
    for trace in &traces {
        let large = support::spans::text("body", &"x".repeat(700_000));
        let trace = trace.clone().with(|span| span.attributes.push(large));
        sidecar.send(trace.request_of(&[2, 3, 4, 5])).await;
    }
    // From its root on each is waited for equally long.
    for trace in &traces {
        sidecar.send(trace.request_of(&[1])).await;
    }
    sidecar.decided(6).await;
    let scrape = sidecar.settled().await;
    assert_eq!(scrape.value(r#"laggard_dropped_spans_total{reason="queue_full"}"#), 0);
    assert_eq!(scrape.value(r#"laggard_decisions_total{trigger="root"}"#), 6);
    for trace in &traces {
        assert_eq!(sidecar.delivered_now(trace).len(), 5);
    }
    sidecar.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_leave_in_time_is_counted_as_lost() {
    let backend = Backend::start(|_| Answer::Never).await;
    let mut sidecar =
        Sidecar::start_before(backend, |config| config.shutdown.drain_timeout = Duration::from_millis(200))
            .await;
    sidecar.send_trace(&TraceBuilder::inference(1, SLOW)).await;
    let (ended, _) = sidecar.stop().await;
    assert_eq!(ended, Ended { losses: Losses { shutdown: 5, ..Losses::default() } });
}

// R9, SAMPLING-10.
#[tokio::test(flavor = "multi_thread")]
async fn a_span_leaves_byte_for_byte_as_it_came_with_ours_appended() {
    let mut sidecar = Sidecar::start(|_| ()).await;
    teach(&mut sidecar).await;
    let trace = TraceBuilder::inference(1, SLOW).attribute("customer", "42").with(|span| {
        span.flags = 0x101;
        span.trace_state = "vendor=1".to_owned();
        span.dropped_events_count = 3;
    });
    // A field of tomorrow's protocol, behind the known ones of the root span.
    let unknown = [0xfa, 0x3f, 3, 1, 2, 3];
    let sent: BTreeMap<Vec<u8>, Vec<u8>> = bodies(&trace.request(), &trace);
    let request = with_unknown_field(&trace, &unknown);
    sidecar.send(request).await;
    sidecar.delivered(&trace, 5).await;

    let received = bodies(&all(&sidecar.end().await), &trace);
    assert_eq!(received.len(), 5);
    for (id, body) in &received {
        let mut before = sent[id].clone();
        if *id == trace.span_id(1) {
            before.extend_from_slice(&unknown);
        }
        let appended = body.strip_prefix(before.as_slice()).expect("nothing before its end has changed");
        let ours = Span::decode(appended).expect("whole fields");
        let only_ours =
            Span { attributes: ours.attributes.clone(), links: ours.links.clone(), ..Span::default() };
        assert_eq!(ours, only_ours);
        assert!(ours.attributes.iter().all(|attribute| attribute.key.starts_with("root_cause.")));
        let marked = [trace.span_id(1), trace.span_id(3)].contains(id);
        assert_eq!(
            !appended.is_empty(),
            marked,
            "only the entry span and the culprit say more than they did"
        );
    }
}

/// The request of a trace whose root span has `unknown` behind its known fields.
fn with_unknown_field(trace: &TraceBuilder, unknown: &[u8]) -> Vec<u8> {
    let mut traces = Trace::all_in(&trace.request()).expect("protobuf");
    let changed = traces.first_mut().expect("one trace");
    let root = [changed.span(0).expect("the root").body, unknown].concat();
    changed.replace_body(0, &root).expect("small");
    let mut request = Vec::new();
    changed.encode(&mut request);
    request
}

fn all(received: &[Received]) -> Vec<u8> {
    received.iter().flat_map(|received| received.body.to_vec()).collect()
}

/// Records a slow request of two services and returns its trace id.
fn record_slow(web_server: &SdkService, pre_processor: &SdkService) -> Vec<u8> {
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let lasting = Duration::from_millis;
    let entry =
        web_server.record(&Context::new(), ("inference-span", SpanKind::Server), start, lasting(1_207));
    let call = web_server.record(&entry, ("POST", SpanKind::Client), start, lasting(1_200));
    pre_processor.record(&call, ("preprocess-request", SpanKind::Server), start, lasting(1_198));
    for service in [pre_processor, web_server] {
        service.flush();
    }
    entry.span().span_context().trace_id().to_bytes().to_vec()
}

async fn arrives_from_the_sdk(sidecar: Sidecar, trace_id: Vec<u8>) {
    let spans = eventually("the SDK's spans are delivered", async || {
        let mut spans = support::spans::arrived(&sidecar.backend.all_bytes());
        spans.retain(|found| found.span.trace_id == trace_id);
        (spans.len() == 3).then_some(spans)
    })
    .await;
    let entry = entry_of(&spans);
    assert_eq!((entry.service.as_str(), entry.span.name.as_str()), ("web-server", "inference-span"));
    assert_eq!(entry.text("root_cause.verdict"), Some("inconclusive"));
    assert_eq!(entry.text("root_cause.reason"), Some("no_baseline"));
    assert_eq!(sidecar.scrape().await.total("laggard_receiver_accepted_spans_total"), 3);
    sidecar.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_opentelemetry_sdk_is_understood_over_grpc() {
    let sidecar = Sidecar::start(|_| ()).await;
    let endpoint = format!("http://{}", sidecar.addresses.grpc);
    let trace_id = record_slow(
        &SdkService::over_grpc("web-server", &endpoint),
        &SdkService::over_grpc("pre-processor", &endpoint),
    );
    arrives_from_the_sdk(sidecar, trace_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_opentelemetry_sdk_is_understood_over_http() {
    let sidecar = Sidecar::start(|_| ()).await;
    let endpoint = format!("http://{}", sidecar.addresses.http);
    let recorded = tokio::task::spawn_blocking(move || {
        record_slow(
            &SdkService::over_http("web-server", &endpoint),
            &SdkService::over_http("pre-processor", &endpoint),
        )
    });
    let trace_id = recorded.await.expect("it does not panic");
    arrives_from_the_sdk(sidecar, trace_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_makes_the_binary_send_what_it_holds_and_end_with_zero() {
    let backend = Backend::start(|_| Answer::Take).await;
    let directory = tempfile::tempdir().expect("a writable directory");
    let config = directory.path().join("laggard.yaml");
    let text = format!(
        "receive: {{grpc: {{endpoint: 127.0.0.1:0}}, http: {{endpoint: 127.0.0.1:0}}}}\n\
         slow: {{threshold: 600ms}}\n\
         export: {{endpoint: \"{}\"}}\n\
         shutdown: {{delay: 0s}}\n\
         telemetry: {{admin: {{endpoint: 127.0.0.1:0}}}}\n",
        backend.endpoint()
    );
    std::fs::write(&config, text).expect("a writable directory");
    let laggard = Command::new(env!("CARGO_BIN_EXE_laggard"))
        .args(["run", "--config"])
        .arg(&config)
        .stderr(Stdio::piped())
        .spawn();
    let mut laggard = Running(laggard.expect("it starts"));
    let mut log = BufReader::new(laggard.0.stderr.take().expect("a pipe")).lines();
    let grpc = log
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("\"grpc\":\"")?.1.split_once('"')?.0.to_owned()))
        .expect("one of the first log lines says where it listens");

    let trace = TraceBuilder::inference(1, SLOW);
    let mut client = TraceServiceClient::connect(format!("http://{grpc}")).await.expect("it listens");
    client.export(Body(trace.request().into())).await.expect("acknowledged");
    assert_eq!(backend.received().len(), 0, "it is held");

    let terminate = Command::new("kill").args(["-TERM", &laggard.0.id().to_string()]).status();
    assert!(terminate.expect("kill runs").success());
    let ended =
        tokio::task::spawn_blocking(move || laggard.0.wait()).await.expect("no panic").expect("it ends");
    assert_eq!(ended.code(), Some(0));
    assert_eq!(bodies(&backend.all_bytes(), &trace).len(), 5);
    let last = log.map_while(Result::ok).last().expect("it says how it ended");
    assert!(last.contains("every accepted span was sent"), "{last}");
}

#[test]
fn the_table_of_losses_has_every_reason() {
    let table = include_str!("../docs/losses.md");
    for reason in DropReason::ALL
        .iter()
        .map(|reason| reason.as_str())
        .chain(Refusal::ALL.iter().map(|reason| reason.as_str()))
    {
        assert!(table.contains(&format!("\n| `{reason}` |")), "{reason}");
    }
}

/// The label names and their values that a line of the table of metrics has after its first column.
fn documented(labels: &str) -> BTreeMap<String, Vec<String>> {
    let labels = labels.split(';').filter(|label| !label.trim().is_empty());
    let named = labels.map(|label| {
        let (name, values) = label.split_once(':').unwrap_or((label, ""));
        let mut values: Vec<String> = values
            .split(',')
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
            .collect();
        values.sort();
        (name.trim().trim_matches('`').to_owned(), values)
    });
    named.collect()
}

/// The same of the series of a metric in a scrape.
fn scraped(page: &str, metric: &str) -> BTreeMap<String, Vec<String>> {
    let mut labels: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let series =
        page.lines().filter_map(|line| line.strip_prefix(metric)?.strip_prefix('{')?.split_once('}'));
    for pair in series.flat_map(|(pairs, _)| pairs.split(',')) {
        let (name, value) = pair.split_once('=').expect("a label");
        let values = labels.entry(name.to_owned()).or_default();
        let value = value.trim_matches('"').to_owned();
        if !values.contains(&value) {
            values.push(value);
            values.sort();
        }
    }
    labels
}

#[tokio::test]
async fn the_table_of_metrics_is_what_a_fresh_sidecar_shows() {
    let sidecar = Sidecar::start(|_| {}).await;
    let page = support::http::get(sidecar.addresses.admin, "/metrics").await.expect("an answer").text();
    let rows = include_str!("../docs/metrics.md").lines().filter_map(|line| line.strip_prefix("| `"));
    let table: BTreeMap<&str, _> = rows
        .map(|row| {
            let mut columns = row.split('|');
            let name = columns.next().expect("a name").trim().trim_end_matches('`');
            (name, documented(columns.next().expect("its labels")))
        })
        .collect();
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    assert_eq!(
        table.keys().copied().collect::<Vec<_>>(),
        types.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    );
    for (name, labels) in table {
        let found = scraped(&page, name);
        if name.starts_with("laggard_root_cause_") {
            assert!(found.is_empty(), "{name}");
            continue;
        }
        assert_eq!(found.keys().collect::<Vec<_>>(), labels.keys().collect::<Vec<_>>(), "{name}");
        for (label, values) in labels.iter().filter(|(_, values)| !values.is_empty()) {
            assert_eq!(found.get(label), Some(values), "{name}: {label}");
        }
    }
    sidecar.end().await;
}

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where it has ended by itself, as it should.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
