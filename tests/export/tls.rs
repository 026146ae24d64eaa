//! TLS towards the destination, over gRPC and over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use laggard::config::{Export, ExporterTls, Protocol};
use laggard::export::Destination;
use laggard::secrets::Reload;
use laggard::telemetry::metrics::Class;

use super::backend::{Answer, Backend};
use super::http::Server;
use super::rig::{Rig, chunk, config};
use super::tls::{Authority, Files, Front, Identity, UnfitFiles, server};

const PROTOCOLS: [Protocol; 2] = [Protocol::Grpc, Protocol::HttpProtobuf];

/// A destination behind TLS that takes everything.
struct Secure {
    protocol: Protocol,
    front: Front,
    plain: Plain,
}

enum Plain {
    Grpc(Backend),
    Http(Server),
}

impl Plain {
    fn address(&self) -> SocketAddr {
        let endpoint = match self {
            Self::Grpc(backend) => backend.endpoint(),
            Self::Http(server) => server.endpoint(),
        };
        endpoint.trim_start_matches("http://").trim_end_matches("/otlp/").parse().expect("an address")
    }
}

impl Secure {
    async fn start(
        protocol: Protocol,
        identity: &Identity,
        clients: Option<&Authority>,
        versions: &[&str],
    ) -> Self {
        let plain = match protocol {
            Protocol::Grpc => Plain::Grpc(Backend::start(|_| Answer::Take).await),
            Protocol::HttpProtobuf => Plain::Http(Server::taking_everything().await),
        };
        let front = Front::start(server(identity, clients, versions), plain.address()).await;
        Self { protocol, front, plain }
    }

    fn config(&self, tls: ExporterTls) -> Export {
        Export {
            endpoint: format!("https://{}", self.front.address),
            protocol: self.protocol,
            timeout: Duration::from_mins(1),
            tls,
            ..config()
        }
    }

    fn requests(&self) -> usize {
        match &self.plain {
            Plain::Grpc(backend) => backend.received().len(),
            Plain::Http(server) => server.received().len(),
        }
    }

    fn rig(&self, tls: ExporterTls) -> (Rig, Option<Arc<dyn Reload>>) {
        let config = self.config(tls);
        let destination = Destination::new(&config, Arc::new(|| 0)).expect("valid");
        let files = destination.files();
        (Rig::new(destination, config), files)
    }

    async fn assert_reached(&self, tls: ExporterTls, what: &str) {
        let before = self.requests();
        let (mut rig, _) = self.rig(tls);
        rig.push(chunk(0, 3, Class::Slow));
        rig.drain().await;
        assert_eq!((rig.sent(), self.requests() - before), (3, 1), "{what} {:?}", self.protocol);
    }

    /// The connection fails again and again, and nothing is lost meanwhile.
    async fn assert_not_reached(&self, tls: ExporterTls, what: &str) {
        let (mut rig, _) = self.rig(tls);
        rig.push(chunk(0, 3, Class::Slow));
        failures(&rig, 3).await;
        rig.assert_identity();
        assert_eq!((rig.queue.spans(), self.requests()), (3, 0), "{what} {:?}", self.protocol);
    }
}

async fn failures(rig: &Rig, count: u64) {
    while rig.value("laggard_exporter_failed_requests_total{code=\"UNAVAILABLE\"}") < count {
        tokio::task::yield_now().await;
    }
}

// C11, F1, G4.
#[tokio::test]
async fn a_destination_is_trusted_by_its_authority_and_its_name() {
    let (authority, files) = (Authority::new(), Files::new());
    let ca_file = files.write("ca.pem", &authority.pem());
    let other_ca = files.write("other.pem", &Authority::new().pem());
    let trusting = |ca_file: &std::path::PathBuf, server_name: &str| ExporterTls {
        ca_file: ca_file.clone(),
        server_name: server_name.to_owned(),
        ..ExporterTls::default()
    };
    for protocol in PROTOCOLS {
        let by_address =
            Secure::start(protocol, &authority.issue("127.0.0.1"), None, &["h2", "http/1.1"]).await;
        by_address.assert_not_reached(trusting(&other_ca, ""), "another authority").await;
        by_address.assert_not_reached(ExporterTls::default(), "the system's authorities").await;
        by_address.assert_not_reached(trusting(&ca_file, "collector.example"), "another name").await;
        by_address.assert_reached(trusting(&ca_file, ""), "its address").await;
        let by_name =
            Secure::start(protocol, &authority.issue("collector.example"), None, &["h2", "http/1.1"]).await;
        by_name.assert_not_reached(trusting(&ca_file, ""), "an address it does not have").await;
        by_name.assert_reached(trusting(&ca_file, "collector.example"), "its name").await;
    }
}

// C11.
#[tokio::test]
async fn an_unverified_destination_is_reached_only_when_that_is_asked_for() {
    let identity = Authority::new().issue("elsewhere.example");
    for protocol in PROTOCOLS {
        let secure = Secure::start(protocol, &identity, None, &["h2"]).await;
        secure.assert_not_reached(ExporterTls::default(), "verified").await;
        let unverified = ExporterTls { insecure_skip_verify: true, ..ExporterTls::default() };
        secure.assert_reached(unverified, "unverified").await;
    }
}

// C11.
#[tokio::test]
async fn a_destination_that_asks_who_we_are_is_told() {
    let (authority, clients, files) = (Authority::new(), Authority::new(), Files::new());
    let ca_file = files.write("ca.pem", &authority.pem());
    for protocol in PROTOCOLS {
        let secure =
            Secure::start(protocol, &authority.issue("127.0.0.1"), Some(&clients), &["h2", "http/1.1"]).await;
        let nobody = ExporterTls { ca_file: ca_file.clone(), ..ExporterTls::default() };
        secure.assert_not_reached(nobody.clone(), "nobody").await;
        for (issuer, is_known) in [(&authority, false), (&clients, true)] {
            let identity = issuer.issue("laggard.example");
            let tls = ExporterTls {
                cert_file: files.write("cert.pem", &identity.cert),
                key_file: files.write("key.pem", &identity.key),
                ..nobody.clone()
            };
            if is_known {
                secure.assert_reached(tls, "a client that is known").await;
            } else {
                secure.assert_not_reached(tls, "a client of another authority").await;
            }
        }
    }
}

// C11.
#[tokio::test]
async fn files_that_change_count_from_the_next_connection_on() {
    let (authority, files) = (Authority::new(), Files::new());
    for protocol in PROTOCOLS {
        let secure = Secure::start(protocol, &authority.issue("127.0.0.1"), None, &["h2", "http/1.1"]).await;
        let ca_file = files.write("ca.pem", &Authority::new().pem());
        let (mut rig, reload) = secure.rig(ExporterTls { ca_file, ..ExporterTls::default() });
        let reload = reload.expect("https");
        rig.push(chunk(0, 3, Class::Slow));
        failures(&rig, 2).await;
        files.write("ca.pem", "half a file");
        let error = reload.reload().expect_err("no certificates").to_string();
        let path = files.path("ca.pem").display().to_string();
        assert_eq!(error, format!("export.tls.ca_file: {path}: must hold PEM certificates"));
        files.write("ca.pem", &authority.pem());
        assert_eq!(reload.reload(), Ok(true));
        rig.drain().await;
        assert_eq!((rig.sent(), secure.requests()), (3, 1), "{protocol:?}");
    }
}

// C14.
#[tokio::test]
async fn http_1_1_is_spoken_where_the_destination_knows_nothing_newer() {
    let (authority, files) = (Authority::new(), Files::new());
    let tls = ExporterTls { ca_file: files.write("ca.pem", &authority.pem()), ..ExporterTls::default() };
    for versions in [&["http/1.1"][..], &[]] {
        let secure =
            Secure::start(Protocol::HttpProtobuf, &authority.issue("127.0.0.1"), None, versions).await;
        secure.assert_reached(tls.clone(), "HTTP/1.1").await;
    }
}

// C11.
#[tokio::test]
async fn tls_is_not_given_up_where_the_destination_speaks_none() {
    for protocol in PROTOCOLS {
        let mut secure = Secure::start(protocol, &Authority::new().issue("a.example"), None, &[]).await;
        secure.front.address = secure.plain.address();
        let unverified = ExporterTls { insecure_skip_verify: true, ..ExporterTls::default() };
        secure.assert_not_reached(unverified, "plain text").await;
    }
}

#[test]
fn files_that_cannot_be_used_are_named_with_their_key() {
    let UnfitFiles { cert, key, other_key, empty, absent, .. } = &UnfitFiles::new();
    let none = &std::path::PathBuf::new();
    for (ca_file, cert_file, key_file, at_fault, expected) in [
        (absent, none, none, ("ca_file", absent), "cannot be read: "),
        (empty, none, none, ("ca_file", empty), "must hold PEM certificates"),
        (none, empty, key, ("cert_file", empty), "must hold PEM certificates"),
        (none, cert, empty, ("key_file", empty), "must hold a PEM private key"),
        (none, cert, other_key, ("key_file", other_key), "must belong to export.tls.cert_file: "),
    ] {
        let tls = ExporterTls {
            ca_file: ca_file.clone(),
            cert_file: cert_file.clone(),
            key_file: key_file.clone(),
            ..ExporterTls::default()
        };
        let config = Export { endpoint: "https://collector:4317".to_owned(), tls, ..config() };
        let error = Destination::new(&config, Arc::new(|| 0)).expect_err("unusable").to_string();
        let expected = format!("export.tls.{}: {}: {expected}", at_fault.0, at_fault.1.display());
        assert!(error.starts_with(&expected) && error.lines().count() == 1, "{error}");
    }
}
