//! Both edges as an operator configures them: one sidecar sends to another by OTLP/HTTP over mTLS, with a token, and
//! their files change meanwhile.

#[path = "edges/ourselves.rs"]
mod ourselves;
#[path = "edges/process.rs"]
mod process;
#[path = "support/support.rs"]
mod support;
#[path = "support/tls.rs"]
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use laggard::app::{App, Clock};
use laggard::config::memory::Budgets;
use laggard::config::{Compression, Config, Protocol, ReceiverTls, Threshold};
use laggard::export::Destination;
use support::backend::{Answer, Backend};
use support::metrics::Scrape;
use support::sidecar::{Sidecar, assert_identity};
use support::spans::TraceBuilder;
use support::{eventually, http};
use tls::{Authority, Files, Identity};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// How often files are looked at here.
const RELOAD: Duration = Duration::from_millis(20);

/// What both sidecars are configured with.
struct Secrets {
    files: Files,
    token: &'static str,
}

impl Secrets {
    /// Writes everything anew, as by an operator who trusts nothing that was there before.
    fn write(&self) {
        let (servers, clients) = (Authority::new(), Authority::new());
        self.pair("server", &servers.issue("second.example"));
        self.pair("client", &clients.issue("first.example"));
        self.files.write("servers.pem", &servers.pem());
        self.files.write("clients.pem", &clients.pem());
    }

    fn pair(&self, name: &str, identity: &Identity) {
        self.files.write(&format!("{name}.pem"), &identity.cert);
        self.files.write(&format!("{name}-key.pem"), &identity.key);
    }

    fn of_the_second(&self, config: &mut Config) {
        config.receive.auth.bearer_token_file = self.files.write("tokens", self.token);
        config.receive.tls = ReceiverTls {
            cert_file: self.files.path("server.pem"),
            key_file: self.files.path("server-key.pem"),
            client_ca_file: self.files.path("clients.pem"),
            reload_interval: RELOAD,
        };
    }

    fn of_the_first(&self, config: &mut Config) {
        config.receive.tls.reload_interval = RELOAD;
        config.export.headers.insert("Authorization".to_owned(), format!("Bearer {}", self.token));
        config.export.tls.ca_file = self.files.path("servers.pem");
        config.export.tls.cert_file = self.files.path("client.pem");
        config.export.tls.key_file = self.files.path("client-key.pem");
        "second.example".clone_into(&mut config.export.tls.server_name);
    }
}

impl Secrets {
    /// Whether a new connection to the second sidecar works with the files as they are now.
    async fn can_connect(&self, address: SocketAddr) -> bool {
        let mut config = Config::default();
        config.export.endpoint = format!("https://{address}");
        config.export.protocol = Protocol::HttpProtobuf;
        self.of_the_first(&mut config);
        let destination = Destination::new(&config.export, Arc::new(|| 0));
        let Destination::Http(client) = destination.expect("the files are right") else { return false };
        let answer = client.post("/v1/traces", "application/x-protobuf", Bytes::new()).await;
        answer.is_ok_and(|answer| answer.status == 200)
    }
}

async fn scrape(app: &laggard::app::Addresses) -> Scrape {
    Scrape::of(&http::get(app.admin, "/metrics").await.expect("an answer").text())
}

// R25, G3.
#[tokio::test(flavor = "multi_thread")]
async fn traces_and_metrics_pass_two_sidecars_over_mtls_while_every_secret_is_exchanged() {
    let secrets = Secrets { files: Files::new(), token: "token-of-the-first" };
    secrets.write();
    let backend = Backend::start(|_| Answer::Take).await;

    let mut config = Config::default();
    config.receive.grpc.endpoint.set_port(0);
    config.receive.http.endpoint.set_port(0);
    config.telemetry.admin.endpoint.set_port(0);
    config.assemble.decision_wait_after_root_received = Duration::from_millis(50);
    config.slow.threshold = Threshold::Fixed(Duration::from_millis(600));
    config.export.endpoint = backend.endpoint();
    config.export.batch.timeout = Duration::from_millis(10);
    config.shutdown.delay = Duration::ZERO;
    secrets.of_the_second(&mut config);
    let (budgets, _) = Budgets::divide(&config, 64 << 20);
    let second = App::bind(config, budgets, Clock::start()).await.expect("right");
    let addresses = second.addresses();
    let (stop, stopped) = oneshot::channel::<()>();
    let mut serving = JoinSet::new();
    serving.spawn(second.run(async { drop(stopped.await) }));

    let mut first = Sidecar::start_before(backend, |config| {
        config.export.endpoint = format!("https://{}", addresses.http);
        config.export.protocol = Protocol::HttpProtobuf;
        config.export.compression = Compression::Zstd;
        secrets.of_the_first(config);
    })
    .await;

    for number in 1..=3 {
        let trace = TraceBuilder::inference(number, 775);
        first.send_trace(&trace).await;
        first.delivered(&trace, 5).await;
        // The backend speaks traces only, and it is the one to say so.
        let headers = ["Content-Type: application/json"];
        let answer =
            http::post(first.addresses.http, "/v1/metrics", &headers, b"{}").await.expect("an answer");
        assert_eq!(answer.status, 415, "{}", answer.text());
        secrets.write();
        eventually("whoever connects anew needs the new secrets", async || {
            secrets.can_connect(addresses.http).await.then_some(())
        })
        .await;
    }
    // Half of a change is a mistake that is counted and costs nothing.
    secrets.files.write("server.pem", "half");
    eventually("a file that cannot be used is counted", async || {
        (scrape(&addresses).await.total("laggard_reload_failures_total") > 0).then_some(())
    })
    .await;
    let refused = "laggard_receiver_refused_requests_total";
    assert_eq!(scrape(&addresses).await.total(refused), 0);
    let trace = TraceBuilder::inference(4, 775);
    first.send_trace(&trace).await;
    first.delivered(&trace, 5).await;

    first.end().await;
    let settled = eventually("the second sidecar has sent everything", async || {
        let scrape = scrape(&addresses).await;
        (scrape.moving() == 0).then_some(scrape)
    })
    .await;
    assert_identity(&settled);
    drop(stop);
    assert_eq!(serving.join_next().await.expect("started").expect("no panic").losses.spans(), 0);
}
