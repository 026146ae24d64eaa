//! What was learned survives a restart of the process.

#[path = "support/support.rs"]
mod support;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use laggard::otlp::TraceId;
use laggard::otlp::codec::Body;
use laggard::otlp::services::opentelemetry::proto::collector::trace::v1::trace_service_client::TraceServiceClient;
use support::backend::{Answer, Backend};
use support::metrics::Scrape;
use support::spans::{Arrived, TraceBuilder, arrived};
use support::{eventually, http};

/// The sidecar as a process of its own.
struct Process {
    child: Child,
    log: std::io::Lines<BufReader<ChildStderr>>,
    /// What it has logged so far.
    said: Vec<String>,
    grpc: String,
    admin: SocketAddr,
}

impl Process {
    fn start(config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_laggard"))
            .args(["run", "--config"])
            .arg(config)
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let mut said = Vec::new();
        let listening = loop {
            let line = log.next().expect("it says where it listens").expect("text");
            said.push(line.clone());
            if line.contains("\"grpc\":\"") {
                break line;
            }
        };
        let address = |key: &str| {
            let (_, rest) = listening.split_once(&format!("\"{key}\":\"")).expect("named");
            rest.split_once('"').expect("quoted").0.to_owned()
        };
        let (grpc, admin) = (address("grpc"), address("admin").parse().expect("an address"));
        Self { child, log, said, grpc, admin }
    }

    async fn send(&self, traces: impl Iterator<Item = TraceBuilder>) {
        let mut client = TraceServiceClient::connect(format!("http://{}", self.grpc)).await.expect("listens");
        for trace in traces {
            client.export(Body(trace.request().into())).await.expect("acknowledged");
        }
    }

    async fn decided(&self, count: u64) {
        eventually("all is decided and sent", async || {
            let page = http::get(self.admin, "/metrics").await.expect("an answer").text();
            let scrape = Scrape::of(&page);
            // A scrape reads one counter after the other: what moves meanwhile is seen twice or not at all.
            let (accepted, counted) = scrape.identity();
            (scrape.total("laggard_traces_total") == count && scrape.moving() == 0 && accepted == counted)
                .then_some(())
        })
        .await;
    }

    /// Ends it as Kubernetes does; returns all that it has logged.
    async fn end(self) -> Vec<String> {
        self.end_by("-TERM").await
    }

    async fn end_by(mut self, signal: &str) -> Vec<String> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill runs").success());
        tokio::task::spawn_blocking(move || {
            self.said.extend(self.log.by_ref().map_while(Result::ok));
            assert_eq!(self.child.wait().expect("it ends").code(), Some(0), "{:?}", self.said);
            std::mem::take(&mut self.said)
        })
        .await
        .expect("no panic")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail where it has ended by itself, as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn entry_of(backend: &Backend, trace: &TraceBuilder) -> Arrived {
    let spans = arrived(&backend.all_bytes()).into_iter();
    let mut roots = spans.filter(|found| found.span.parent_span_id.is_empty());
    roots.find(|found| found.span.trace_id == trace.trace_id()).expect("its root was sent")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_trace_right_after_a_restart_is_compared_with_what_was_fast_before() {
    let backend = Backend::start(|_| Answer::Take).await;
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (config, file) = (folder.path().join("laggard.yaml"), folder.path().join("learned"));
    let text = format!(
        "receive: {{grpc: {{endpoint: 127.0.0.1:0}}, http: {{endpoint: 127.0.0.1:0}}}}\n\
         assemble: {{decision_wait_after_root_received: 100ms}}\n\
         sample: {{healthy: 0%, references: false}}\n\
         baseline: {{snapshot_file: {}}}\n\
         export: {{endpoint: '{}'}}\n\
         shutdown: {{delay: 0s}}\n\
         telemetry: {{admin: {{endpoint: 127.0.0.1:0}}}}\n",
        file.display(),
        backend.endpoint()
    );
    std::fs::write(&config, text).expect("a writable directory");

    let process = Process::start(&config);
    process.send((1..=30).map(|number| TraceBuilder::inference(number, 50 + number % 5))).await;
    process.decided(30).await;
    let said = process.end().await;
    assert!(said.iter().any(|line| line.contains("what was learned is kept in")), "{said:?}");
    assert!(said.iter().all(|line| !line.contains("WARN")), "{said:?}");

    let process = Process::start(&config);
    let slow = TraceBuilder::inference(100, 775);
    process.send(std::iter::once(slow.clone())).await;
    process.decided(1).await;
    // Its terminal was closed: no reason to lose anything.
    process.end_by("-HUP").await;
    let entry = entry_of(&backend, &slow);
    assert_eq!(entry.text("root_cause.verdict"), Some("identified"), "{entry:?}");
    assert_eq!(entry.text("root_cause.service"), Some("pre-processor"));
    let cited = entry.text("root_cause.baseline.trace_id").and_then(TraceId::from_hex).expect("a trace");
    let taught = (1..=30).map(|number| TraceBuilder::inference(number, 0).trace_id());
    assert!(taught.into_iter().any(|id| id == cited.bytes()), "{cited}");

    let mut damaged = std::fs::read(&file).expect("it is there");
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&file, damaged).expect("it can be written");
    let process = Process::start(&config);
    let slow = TraceBuilder::inference(101, 775);
    process.send(std::iter::once(slow.clone())).await;
    process.decided(1).await;
    let said = process.end().await;
    let warnings: Vec<&String> = said.iter().filter(|line| line.contains("WARN")).collect();
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    let expected = format!(
        "baseline.snapshot_file: {} must be whole, and is cut off or damaged; starting with nothing learned",
        file.display()
    );
    assert!(warning.contains(&expected), "{warning}");
    let entry = entry_of(&backend, &slow);
    assert_eq!(entry.text("root_cause.reason"), Some("no_baseline"));
}
