//! What only the whole process shows: what its log says and does not say, and how it lives with few file descriptors.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::net::TcpStream;
use tonic::Status;

use super::ourselves::Between;
use super::support::backend::{Answer, Backend};
use super::support::{eventually, http};
use super::tls::Files;

/// Every secret, and every value of a sender, begins with this.
const MARK: &str = "do-not-log-";

/// The program, with its log.
struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    grpc: SocketAddr,
    http: SocketAddr,
    admin: SocketAddr,
}

impl Process {
    /// Started by a shell with `limits`, as `ulimit` takes them.
    async fn start(limits: &str, config: &Path) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", &format!("{limits} exec \"$0\" run --config \"$1\""), env!("CARGO_BIN_EXE_laggard")])
            .arg(config)
            .stderr(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let written = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                written.lock().expect("no panic").push(line);
            }
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process =
            Self { child, log, reader: Some(reader), grpc: nowhere, http: nowhere, admin: nowhere };
        (process.grpc, process.http, process.admin) = eventually("it says where it listens", async || {
            let log = process.log();
            let line = log.iter().find(|line| line.contains("listening for OTLP"))?;
            let address = |port| line.split_once(port)?.1.split_once('"')?.0.parse().ok();
            Some((address("\"grpc\":\"")?, address("\"http\":\"")?, address("\"admin\":\"")?))
        })
        .await;
        process
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().expect("no panic").clone()
    }

    async fn post(&self, path: &str, headers: &[&str], body: &[u8]) -> u16 {
        http::post(self.http, path, headers, body).await.expect("an answer").status
    }

    /// Ends as by SIGTERM; the whole log.
    fn end(mut self) -> (ExitStatus, Vec<String>) {
        let terminate = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(terminate.expect("kill runs").success());
        let ended = self.child.wait().expect("it ends");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no panic");
        }
        (ended, self.log())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail where it has ended by itself, as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(files: &Files, endpoint: &str, rest: &str) -> std::path::PathBuf {
    files.write(
        "laggard.yaml",
        &format!(
            "receive:\n  grpc: {{endpoint: 127.0.0.1:0}}\n  http: {{endpoint: 127.0.0.1:0}}\n{rest}\n\
             slow: {{threshold: 1ms}}\nassemble: {{decision_wait_after_root_received: 10ms}}\n\
             shutdown: {{delay: 0s}}\n\
             export:\n  endpoint: \"{endpoint}\"\n  batch: {{timeout: 10ms}}\n\
             \x20 headers: {{x-api-key: \"{MARK}header-of-ours\"}}\n"
        ),
    )
}

fn trace(number: u8) -> String {
    format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"cart"}}}},
        {{"key":"os.user","value":{{"stringValue":"{MARK}resource-attribute"}}}}]}},"scopeSpans":[{{"spans":[
        {{"traceId":"{number:032x}","spanId":"0102030405060708","name":"GET /cart","kind":2,
        "startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000009000000000",
        "attributes":[{{"key":"enduser.id","value":{{"stringValue":"{MARK}attribute"}}}}],
        "events":[{{"name":"e","attributes":[{{"key":"exception.message","value":{{"stringValue":"{MARK}event"}}}}]}}],
        "traceState":"{MARK}state=1"}}]}}]}}]}}"#
    )
}

// C10, G7.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_value_of_a_sender_is_in_the_log() {
    let mut refusals = 0;
    let backend = Backend::start(move |_| {
        refusals += 1;
        match refusals {
            1 => Answer::Refuse(Status::invalid_argument("no")),
            2 => Answer::Refuse(Status::unauthenticated("no")),
            3 => Answer::Refuse(Status::unavailable("later")),
            _ => Answer::Take,
        }
    })
    .await;
    let files = Files::new();
    let tokens = files.write("tokens", &format!("{MARK}token\n"));
    let rest = format!(
        "  auth: {{bearer_token_file: {}}}\ntelemetry: {{admin: {{endpoint: 127.0.0.1:0}}, log: {{level: trace}}}}",
        tokens.display()
    );
    let process = Process::start("", &config(&files, &backend.endpoint(), &rest)).await;
    let token = format!("authorization: Bearer {MARK}token");
    let other = format!("x-other: {MARK}header-of-a-sender");
    let json = "content-type: application/json";
    for number in 1..=5 {
        assert_eq!(process.post("/v1/traces", &[&token, &other, json], trace(number).as_bytes()).await, 200);
        backend.wait_for(usize::from(number)).await;
    }
    let guess = format!("authorization: Bearer {MARK}guess");
    let bad_value = trace(9).replace("\"kind\":2", &format!("\"kind\":\"{MARK}kind\""));
    let garbage = format!("{{\"resourceSpans\":\"{MARK}garbage\"}}");
    let path = format!("/{MARK}path");
    for (path, headers, body, status) in [
        ("/v1/traces", &[&guess, json][..], trace(8), 401),
        ("/v1/traces", &[&token, json], bad_value, 200),
        ("/v1/traces", &[&token, json], garbage, 400),
        ("/v1/traces", &[&token, &other], trace(8), 415),
        ("/v1/metrics", &[&token, json], trace(8), 415),
        ("/v1/metrics", &[&token, "content-type: application/x-protobuf"], trace(8), 404),
        (&path, &[&token, json], trace(8), 404),
    ] {
        assert_eq!(process.post(path, headers, body.as_bytes()).await, status, "{path}");
    }
    let (ended, log) = process.end();
    assert!(ended.success(), "{ended}");
    assert!(log.iter().any(|line| line.contains("lost spans")), "refusals are told: {log:#?}");
    let told: Vec<_> = log.iter().filter(|line| line.contains(MARK)).collect();
    assert!(told.is_empty(), "{told:#?}");
    // They were really sent.
    assert!(backend.received().iter().any(|received| {
        received
            .metadata
            .get("x-api-key")
            .is_some_and(|value| value.to_str().unwrap_or_default().starts_with(MARK))
    }));
}

// A17.
#[tokio::test(flavor = "multi_thread")]
async fn without_file_descriptors_nobody_is_accepted_and_with_them_everybody_again() {
    let backend = Backend::start(|_| Answer::Take).await;
    let files = Files::new();
    let rest = "telemetry: {admin: {endpoint: 127.0.0.1:0}}";
    let process = Process::start("ulimit -n 48;", &config(&files, &backend.endpoint(), rest)).await;
    let mut connections = Vec::new();
    for _ in 0..60 {
        connections.push(TcpStream::connect(process.http).await.expect("the kernel takes it"));
    }
    eventually("a connection cannot be accepted", async || {
        let log = process.log();
        log.iter().any(|line| line.contains("cannot accept a connection")).then_some(())
    })
    .await;
    drop(connections);
    let status = process.post("/v1/traces", &["content-type: application/json"], trace(1).as_bytes()).await;
    assert_eq!(status, 200);
    let (ended, log) = process.end();
    assert!(ended.success(), "{ended}");
    // One line a minute, however often it fails.
    let told = log.iter().filter(|line| line.contains("cannot accept a connection")).count();
    assert_eq!(told, 1);
}

// F14, E8.
#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_leads_back_is_named_once_however_much_comes_back() {
    let (between, files) = (Between::start().await, Files::new());
    let rest = "telemetry: {admin: {endpoint: 127.0.0.1:0}}";
    let process = Process::start("", &config(&files, &between.endpoint(), rest)).await;
    between.lead_to(process.grpc);
    for number in 1..=3 {
        let json = "content-type: application/json";
        assert_eq!(process.post("/v1/traces", &[json], trace(number).as_bytes()).await, 200);
        eventually("it has come back", async || {
            let page = http::get(process.admin, "/metrics").await?.text();
            page.contains(&format!("{{reason=\"rejected\"}} {number}\n")).then_some(())
        })
        .await;
    }
    let (ended, log) = process.end();
    assert!(ended.success(), "{ended}");
    let told: Vec<_> = log.iter().filter(|line| line.contains("leads back to this process")).collect();
    assert_eq!(told.len(), 1, "{log:#?}");
    let lost = log.iter().find(|line| line.contains("lost spans")).expect("what is lost is told");
    assert!(lost.contains("FAILED_PRECONDITION") && lost.contains("its export.endpoint"), "{lost}");
    assert!(log.last().is_some_and(|line| line.contains("\"rejected\":3")), "{log:#?}");
}

// E8.
#[tokio::test(flavor = "multi_thread")]
async fn senders_of_nothing_but_garbage_do_not_fill_the_log() {
    let backend = Backend::start(|_| Answer::Take).await;
    let files = Files::new();
    let rest = "telemetry: {admin: {endpoint: 127.0.0.1:0}}";
    let process = Process::start("", &config(&files, &backend.endpoint(), rest)).await;
    let before = process.log().len();
    for number in 0..300 {
        let bodies: [(&str, &[u8], u16); 4] = [
            ("application/json", b"[]", 400),
            ("application/json", br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0"}]}]}]}"#, 200),
            ("application/x-protobuf", b"\x0a\xff", 400),
            ("text/plain", b"spans", 415),
        ];
        let (content_type, body, status) = bodies[number % bodies.len()];
        let header = format!("content-type: {content_type}");
        assert_eq!(process.post("/v1/traces", &[&header], body).await, status);
    }
    let during = process.log().len() - before;
    assert!(during <= 4, "{during} lines: {:#?}", process.log());
    let (ended, _) = process.end();
    assert!(ended.success(), "{ended}");
}

// E7.
#[tokio::test(flavor = "multi_thread")]
async fn without_memory_the_process_aborts_and_starts_again() {
    let backend = Backend::start(|_| Answer::Take).await;
    let files = Files::new();
    let snapshot = files.write("snapshot", "");
    std::fs::remove_file(&snapshot).expect("it was just written");
    let rest = format!(
        "memory_limit: 1GiB\nbaseline: {{snapshot_file: {}}}\ntelemetry: {{admin: {{endpoint: 127.0.0.1:0}}}}",
        snapshot.display()
    );
    let config = config(&files, &backend.endpoint(), &rest);
    let text = std::fs::read_to_string(&config).expect("it was just written");
    std::fs::write(&config, text.replace("decision_wait_after_root_received: 10ms", "decision_wait: 1h"))
        .expect("writes");
    // Less address space than it was told that there is memory.
    let mut process = Process::start("ulimit -v 400000;", &config).await;
    let spans: String = (1..=2_000)
        .map(|span| {
            let name = "n".repeat(1_000);
            format!(r#"{{"traceId":"{span:032x}","spanId":"{span:016x}","parentSpanId":"0102030405060708","name":"{name}"}}"#)
        })
        .collect::<Vec<_>>()
        .join(",");
    let mut number = 0;
    while process.child.try_wait().expect("it is ours").is_none() {
        number += 1;
        assert!(number < 1_000, "it has taken more than there is");
        // Each span its own, as long as it is there to be sent to.
        let spans = spans.replace("\"traceId\":\"0000", &format!("\"traceId\":\"{number:04x}"));
        let body = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
        let sent =
            http::post(process.http, "/v1/traces", &["content-type: application/json"], body.as_bytes());
        drop(sent.await);
    }
    let ended = process.child.wait().expect("it has ended");
    assert!(!ended.success(), "{ended}");
    let again = Process::start("", &config).await;
    let json = ["content-type: application/json"];
    assert_eq!(again.post("/v1/traces", &json, trace(1).as_bytes()).await, 200);
    let (ended, _) = again.end();
    assert!(ended.success(), "{ended}");
}
