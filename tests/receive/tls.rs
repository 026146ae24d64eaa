//! TLS on both ports: who gets in, who does not, and certificates that change.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use laggard::config::{Export, ExporterTls, Protocol, ReceiverTls};
use laggard::export::{Channel, Destination, HttpClient};
use laggard::otlp::codec::Body;
use laggard::otlp::services::opentelemetry::proto::collector::trace::v1::trace_service_client::TraceServiceClient;
use laggard::receive::connection::Patience;
use laggard::receive::tls::ServerTls;
use laggard::secrets::{Reload, pem};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::*;
use crate::tls::{Authority, Files, UnfitFiles};

/// Certificates of a receiver, and what its clients need.
struct Secure {
    receiver: Receiver,
    authority: Authority,
    files: Files,
    reload: Arc<dyn Reload>,
}

impl Secure {
    /// Lets in only who has a certificate of `clients`, where that is given.
    async fn start(clients: Option<&Authority>, patience: Patience) -> Self {
        let (authority, files) = (Authority::new(), Files::new());
        let identity = authority.issue("127.0.0.1");
        let config = ReceiverTls {
            cert_file: files.write("cert.pem", &identity.cert),
            key_file: files.write("key.pem", &identity.key),
            client_ca_file: clients
                .map_or_else(Default::default, |clients| files.write("clients.pem", &clients.pem())),
            ..ReceiverTls::default()
        };
        let tls = ServerTls::new(&config).expect("right").expect("given");
        let reload = tls.files();
        let receiver = Receiver::start(Setup { tls: Some(tls), patience, ..Setup::default() }).await;
        Self { receiver, authority, files, reload }
    }

    /// What a client is configured with that trusts `authority`.
    fn trusting(&self, authority: &Authority) -> ExporterTls {
        ExporterTls { ca_file: self.files.write("ca.pem", &authority.pem()), ..ExporterTls::default() }
    }

    async fn assert_open(&self, tls: &ExporterTls) {
        assert_eq!(self.over_grpc(&grpc_client(self.receiver.grpc, tls)).await, Ok(()));
        assert_eq!(self.over_http(&http_client(self.receiver.http, tls)).await, Ok(()));
        assert_eq!(self.receiver.taken(), [span(1), span(1)]);
    }

    async fn assert_closed(&self, tls: &ExporterTls) {
        assert!(self.over_grpc(&grpc_client(self.receiver.grpc, tls)).await.is_err());
        assert!(self.over_http(&http_client(self.receiver.http, tls)).await.is_err());
        assert_eq!(self.receiver.taken().len(), 0);
    }

    async fn over_grpc(&self, channel: &Channel) -> Result<(), tonic::Code> {
        let request = Body(request(&[span(1)]).into());
        let answer = TraceServiceClient::new(channel.clone()).export(request).await;
        answer.map(|answer| assert_eq!(answer.into_inner().0, Bytes::new())).map_err(|status| status.code())
    }

    async fn over_http(&self, client: &HttpClient) -> Result<(), String> {
        let answer = client.post("/v1/traces", PROTOBUF, request(&[span(1)]).into()).await;
        answer.map(|answer| assert_eq!(answer.status, 200)).map_err(|error| error.to_string())
    }

    async fn end(self) {
        self.receiver.shut_down().join_all().await;
    }
}

fn export(address: SocketAddr, protocol: Protocol, tls: &ExporterTls) -> Export {
    Export {
        endpoint: format!("https://{address}"),
        protocol,
        timeout: Duration::from_mins(1),
        tls: tls.clone(),
        ..Export::default()
    }
}

fn grpc_client(address: SocketAddr, tls: &ExporterTls) -> Channel {
    laggard::export::channel(&export(address, Protocol::Grpc, tls)).expect("valid")
}

fn http_client(address: SocketAddr, tls: &ExporterTls) -> HttpClient {
    let export = export(address, Protocol::HttpProtobuf, tls);
    let Ok(Destination::Http(client)) = Destination::new(&export, Arc::new(|| 0)) else { panic!("valid") };
    client
}

/// Shakes hands, offering `protocols`.
async fn shake_hands(
    address: SocketAddr,
    authority: &Authority,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let roots = pem::authorities("ca", authority.pem().as_bytes()).expect("valid");
    let builder = ClientConfig::builder_with_provider(pem::provider());
    let builder = builder.with_safe_default_protocol_versions().expect("supported");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await.expect("a connection");
    TlsConnector::from(Arc::new(config)).connect(ServerName::from(address.ip()), stream).await
}

// R25.
#[tokio::test]
async fn r25_both_ports_speak_tls_to_whoever_trusts_them() {
    let secure = Secure::start(None, Patience::default()).await;
    secure.assert_open(&secure.trusting(&secure.authority)).await;
    secure.assert_closed(&secure.trusting(&Authority::new())).await;
    secure.end().await;
}

#[tokio::test]
async fn each_port_offers_the_versions_of_http_that_it_speaks() {
    let secure = Secure::start(None, Patience::default()).await;
    let (grpc, http) = (secure.receiver.grpc, secure.receiver.http);
    for (address, offered, agreed) in [
        (grpc, &["h2"][..], Some("h2")),
        (grpc, &["http/1.1", "h2"], Some("h2")),
        (grpc, &[], None),
        (http, &["http/1.1", "h2"], Some("h2")),
        (http, &["http/1.1"], Some("http/1.1")),
        (http, &[], None),
    ] {
        let stream = shake_hands(address, &secure.authority, offered).await.expect("a handshake");
        let found = stream.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        assert_eq!(found.as_deref(), agreed, "{offered:?}");
    }
    assert!(shake_hands(grpc, &secure.authority, &["http/1.1"]).await.is_err());
    let mut stream = shake_hands(http, &secure.authority, &["http/1.1"]).await.expect("a handshake");
    for _ in 0..2 {
        let headers = [("content-type", PROTOBUF)];
        let answer = exchange(&mut stream, "POST", "/v1/traces", &headers, &request(&[span(3)])).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(secure.receiver.taken(), [span(3), span(3)]);
    drop(stream);
    secure.end().await;
}

#[tokio::test]
async fn a_refusal_that_comes_before_the_whole_request_is_read_by_its_sender() {
    let secure = Secure::start(None, Patience::default()).await;
    let mut stream = shake_hands(secure.receiver.http, &secure.authority, &["http/1.1"]).await.expect("TLS");
    let headers = [("content-type", PROTOBUF)];
    let answer = exchange(&mut stream, "POST", "/v1/traces", &headers, &large_request(2 << 20)).await;
    assert_eq!((answer.status, answer.header("content-type")), (413, PROTOBUF));
    drop(stream);
    secure.end().await;
}

// G1.
#[tokio::test]
async fn g1_what_is_no_tls_is_closed_and_costs_nobody_else_anything() {
    let secure = Secure::start(None, Patience::default()).await;
    for address in [secure.receiver.grpc, secure.receiver.http] {
        for bytes in [
            &b"POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            // A record of TLS 1.0 with a handshake that no version has.
            b"\x16\x03\x01\x00\x05\x7f\x00\x00\x01\x00",
        ] {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            stream.write_all(bytes).await.expect("written");
            let mut answer = Vec::new();
            // An alert, or a reset.
            drop(stream.read_to_end(&mut answer).await);
            assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
        }
    }
    secure.assert_open(&secure.trusting(&secure.authority)).await;
    secure.end().await;
}

// G2.
#[tokio::test]
async fn g2_only_clients_of_the_configured_authority_get_in() {
    let clients = Authority::new();
    let secure = Secure::start(Some(&clients), Patience::default()).await;
    let nobody = secure.trusting(&secure.authority);
    secure.assert_closed(&nobody).await;
    for (issuer, is_known) in [(&secure.authority, false), (&clients, true)] {
        let identity = issuer.issue("sender.example");
        let tls = ExporterTls {
            cert_file: secure.files.write("sender.pem", &identity.cert),
            key_file: secure.files.write("sender-key.pem", &identity.key),
            ..nobody.clone()
        };
        if is_known {
            secure.assert_open(&tls).await;
        } else {
            secure.assert_closed(&tls).await;
        }
    }
    secure.end().await;
}

// G1, G2.
#[tokio::test]
async fn g1_g2_handshakes_that_fail_are_counted_by_their_reason() {
    let secure = Secure::start(Some(&Authority::new()), Patience::default()).await;
    let counted = async |transport: &str, reason: &str| {
        let series = format!(
            "laggard_receiver_failed_handshakes_total{{transport=\"{transport}\",reason=\"{reason}\"}}"
        );
        secure.receiver.until(&series, |failures| failures > 0).await;
    };
    let (grpc, http) = (secure.receiver.grpc, secure.receiver.http);
    let mut stream = TcpStream::connect(http).await.expect("a connection");
    stream.write_all(b"POST /v1/traces HTTP/1.1\r\n").await.expect("written");
    counted("http", "no_tls").await;
    drop(TcpStream::connect(grpc).await.expect("a connection"));
    counted("grpc", "closed").await;
    shake_hands(grpc, &secure.authority, &["http/1.1"]).await.expect_err("it speaks HTTP/2 only");
    counted("grpc", "incompatible").await;
    shake_hands(http, &Authority::new(), &[]).await.expect_err("nobody that is trusted");
    counted("http", "refused").await;
    let mut tls = secure.trusting(&secure.authority);
    assert!(secure.over_http(&http_client(http, &tls)).await.is_err());
    counted("http", "no_certificate").await;
    let identity = secure.authority.issue("sender.example");
    tls.cert_file = secure.files.write("sender.pem", &identity.cert);
    tls.key_file = secure.files.write("sender-key.pem", &identity.key);
    assert!(secure.over_grpc(&grpc_client(grpc, &tls)).await.is_err());
    counted("grpc", "bad_certificate").await;
    secure.end().await;

    let hurry = Patience { idle: Duration::from_millis(20), ..Patience::default() };
    let secure = Secure::start(None, hurry).await;
    let silent = TcpStream::connect(secure.receiver.http).await.expect("a connection");
    let late = "laggard_receiver_failed_handshakes_total{transport=\"http\",reason=\"timed_out\"}";
    secure.receiver.until(late, |failures| failures == 1).await;
    drop(silent);
    secure.end().await;
}

// R25, G3.
#[tokio::test]
async fn g3_new_certificates_are_for_new_connections_and_old_ones_go_on() {
    let secure = Secure::start(None, Patience::default()).await;
    let tls = secure.trusting(&secure.authority);
    let channel = grpc_client(secure.receiver.grpc, &tls);
    let mut stream = shake_hands(secure.receiver.http, &secure.authority, &["http/1.1"]).await.expect("TLS");
    assert_eq!(secure.over_grpc(&channel).await, Ok(()));

    let next = Authority::new();
    let identity = next.issue("127.0.0.1");
    secure.files.write("cert.pem", &identity.cert);
    let error = secure.reload.reload().expect_err("the old key").to_string();
    let expected = format!(
        "receive.tls.key_file: {}: must belong to receive.tls.cert_file",
        secure.files.path("key.pem").display()
    );
    assert!(error.starts_with(&expected), "{error}");
    secure.receiver.taken();
    secure.assert_open(&tls).await;
    secure.files.write("key.pem", &identity.key);
    assert_eq!(secure.reload.reload(), Ok(true));

    assert_eq!(secure.over_grpc(&channel).await, Ok(()));
    let headers = [("content-type", PROTOBUF)];
    let answer = exchange(&mut stream, "POST", "/v1/traces", &headers, &request(&[span(1)])).await;
    assert_eq!(answer.status, 200);
    secure.receiver.taken();
    secure.assert_closed(&tls).await;
    secure.assert_open(&secure.trusting(&next)).await;
    drop((channel, stream));
    secure.end().await;
}

#[tokio::test]
async fn a_handshake_that_does_not_come_holds_a_connection_only_so_long() {
    let patience = Patience { connections: 1, idle: Duration::from_millis(200), ..Patience::default() };
    let secure = Secure::start(None, patience).await;
    let mut silent = TcpStream::connect(secure.receiver.http).await.expect("a connection");
    let mut half = TcpStream::connect(secure.receiver.grpc).await.expect("a connection");
    half.write_all(b"\x16\x03\x01\x02\x00\x01").await.expect("written");
    // Both have the only connection of their port.
    secure.assert_open(&secure.trusting(&secure.authority)).await;
    assert!(is_closed(&mut silent).await && is_closed(&mut half).await);
    secure.end().await;
}

#[tokio::test]
async fn a_receiver_that_ends_waits_for_no_handshake() {
    let secure = Secure::start(None, Patience::default()).await;
    let mut silent = TcpStream::connect(secure.receiver.http).await.expect("a connection");
    secure.assert_open(&secure.trusting(&secure.authority)).await;
    secure.end().await;
    assert!(is_closed(&mut silent).await);
}

#[test]
fn files_that_cannot_be_used_are_named_with_their_key() {
    let UnfitFiles { cert, key, other_key, empty, absent, .. } = &UnfitFiles::new();
    let none = &std::path::PathBuf::new();
    for (cert_file, key_file, client_ca_file, at_fault, expected) in [
        (absent, key, none, ("cert_file", absent), "cannot be read: "),
        (cert, absent, none, ("key_file", absent), "cannot be read: "),
        (empty, key, none, ("cert_file", empty), "must hold PEM certificates"),
        (cert, empty, none, ("key_file", empty), "must hold a PEM private key"),
        (cert, other_key, none, ("key_file", other_key), "must belong to receive.tls.cert_file: "),
        (cert, key, empty, ("client_ca_file", empty), "must hold PEM certificates"),
    ] {
        let config = ReceiverTls {
            cert_file: cert_file.clone(),
            key_file: key_file.clone(),
            client_ca_file: client_ca_file.clone(),
            ..ReceiverTls::default()
        };
        let error = ServerTls::new(&config).expect_err("unusable").to_string();
        let expected = format!("receive.tls.{}: {}: {expected}", at_fault.0, at_fault.1.display());
        assert!(error.starts_with(&expected) && error.lines().count() == 1, "{error}");
    }
    assert!(ServerTls::new(&ReceiverTls::default()).expect("right").is_none());
}
