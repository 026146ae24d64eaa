//! A destination that is the sidecar itself.

use std::net::SocketAddr;
use std::time::Duration;

use laggard::app::{App, Clock};
use laggard::config::memory::Budgets;
use laggard::config::{Config, Protocol};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::support::http;
use super::support::sidecar::Sidecar;
use super::support::spans::TraceBuilder;

/// Something in between, as a Service of Kubernetes is: no address tells where it leads.
pub(super) struct Between {
    address: SocketAddr,
    target: watch::Sender<Option<SocketAddr>>,
    _forwarding: JoinSet<()>,
}

impl Between {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (target, leads_to) = watch::channel(None);
        let mut forwarding = JoinSet::new();
        forwarding.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut here, _)) = listener.accept().await {
                let mut leads_to = leads_to.clone();
                connections.spawn(async move {
                    let target: Option<SocketAddr> =
                        *leads_to.wait_for(Option::is_some).await.expect("the test lives");
                    let mut there =
                        TcpStream::connect(target.expect("waited for")).await.expect("it listens");
                    drop(copy_bidirectional(&mut here, &mut there).await);
                });
            }
        });
        Self { address, target, _forwarding: forwarding }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn lead_to(&self, address: SocketAddr) {
        self.target.send_replace(Some(address));
    }
}

// F14.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_to_who_sent_it_is_refused_for_good_and_counted_once() {
    for (protocol, relayed) in [(Protocol::Grpc, 400), (Protocol::HttpProtobuf, 508)] {
        let between = Between::start().await;
        let mut sidecar = Sidecar::start(|config| {
            config.export.endpoint = between.endpoint();
            config.export.protocol = protocol;
        })
        .await;
        between.lead_to(match protocol {
            Protocol::Grpc => sidecar.addresses.grpc,
            Protocol::HttpProtobuf => sidecar.addresses.http,
        });
        // Larger than what the receiver lets come before it has looked.
        let trace = TraceBuilder::inference(1, 775).attribute("large", &"x".repeat(2 << 20));
        sidecar.send_trace(&trace).await;
        let scrape = sidecar.settled().await;
        assert_eq!(scrape.total("laggard_receiver_accepted_spans_total"), 5);
        assert_eq!(scrape.value("laggard_dropped_spans_total{reason=\"rejected\"}"), 5);
        assert_eq!(scrape.total("laggard_exporter_failed_requests_total"), 1, "it is not sent again");
        let headers = ["Content-Type: application/x-protobuf"];
        let answer =
            http::post(sidecar.addresses.http, "/v1/metrics", &headers, b"").await.expect("an answer");
        assert_eq!(answer.status, relayed, "{}", answer.text());
        let (ended, received) = sidecar.stop().await;
        assert_eq!((ended.losses.rejected, ended.losses.spans(), received.len()), (5, 5, 0));
    }
}

// F14.
#[tokio::test]
async fn a_destination_that_is_one_of_our_ports_is_refused_at_start_and_one_without_an_address_is_not() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound");
    let config = |host: &str| {
        let mut config = Config::default();
        config.receive.grpc.endpoint = free;
        config.receive.http.endpoint.set_port(0);
        config.telemetry.admin.endpoint.set_port(0);
        config.export.endpoint = format!("http://{host}:{}", free.port());
        config.export.timeout = Duration::from_secs(1);
        config
    };
    let bind = async |config: Config| {
        let (budgets, _) = Budgets::divide(&config, 64 << 20);
        App::bind(config, budgets, Clock::start()).await.map(|_| ()).map_err(|error| error.to_string())
    };
    for host in ["localhost", "127.1", "2130706433"] {
        let expected = format!(
            "export.endpoint: must not be a port of our own, receive.grpc.endpoint is {free}, got http://{host}:{}",
            free.port()
        );
        assert_eq!(bind(config(host)).await, Err(expected));
    }
    assert_eq!(bind(config("nowhere.invalid")).await, Ok(()));
}
