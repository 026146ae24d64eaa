//! TLS on the ports of the receivers, and whom it lets in.
//!
//! Each connection gets the certificates as they are when it begins, and keeps them until it ends.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::config::ReceiverTls;
use crate::secrets::{FileError, Named, Reload, Reloaded, pem};
use crate::telemetry::metrics::{Handshake, Labels, Metrics, Transport};
use crate::telemetry::repeated::Repeated;

const CERT_FILE: &str = "receive.tls.cert_file";
const KEY_FILE: &str = "receive.tls.key_file";
const CLIENT_CA_FILE: &str = "receive.tls.client_ca_file";

/// A handshake takes a few round trips; who takes longer holds a connection that others could use.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// TLS for senders; cheap to clone, the clones share what was read.
#[derive(Clone, Debug)]
pub struct ServerTls(Arc<Reloaded<Configs>>);

/// What each port speaks.
struct Configs {
    grpc: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
}

impl ServerTls {
    /// As `config` has it; `None` where it has no certificate.
    ///
    /// # Errors
    /// What is wrong with its files.
    pub fn new(config: &ReceiverTls) -> Result<Option<Self>, FileError> {
        if config.cert_file.as_os_str().is_empty() {
            return Ok(None);
        }
        let named = |key, path: &PathBuf| Named { key, path: path.clone() };
        let mut files = vec![named(CERT_FILE, &config.cert_file), named(KEY_FILE, &config.key_file)];
        if !config.client_ca_file.as_os_str().is_empty() {
            files.push(named(CLIENT_CA_FILE, &config.client_ca_file));
        }
        Ok(Some(Self(Arc::new(Reloaded::new(files, configs)?))))
    }

    /// For one of the ports.
    pub(crate) fn port(&self, transport: Transport, metrics: &Arc<Metrics>) -> Port {
        Port { tls: self.clone(), transport, metrics: Arc::clone(metrics), failures: Arc::default() }
    }

    /// What is to be looked at now and then.
    pub fn files(&self) -> Arc<dyn Reload> {
        Arc::clone(&self.0) as Arc<dyn Reload>
    }
}

/// TLS on one port.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    tls: ServerTls,
    transport: Transport,
    metrics: Arc<Metrics>,
    /// Peers that failed: their number is theirs to choose.
    failures: Arc<Mutex<Repeated>>,
}

impl Port {
    /// Counts peers that speak no TLS, or of whom we want to know nothing, and tells of them now and then. Probes and scans
    /// that say nothing are not worth a line.
    fn complain(&self, error: &io::Error) {
        self.metrics.failed_handshakes.add(self.transport, failure(error), 1);
        if error.kind() != io::ErrorKind::InvalidData {
            tracing::debug!(%error, "a connection ended before TLS was agreed on");
            return;
        }
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner).note(1, Instant::now());
        if let Some(failures) = failures {
            let port = self.transport.as_str();
            tracing::warn!(%error, port, failures, "closed a connection that does not meet receive.tls");
        }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let configs = self.tls.0.current();
        TlsAcceptor::from(Arc::clone(match self.transport {
            Transport::Grpc => &configs.grpc,
            Transport::Http => &configs.http,
        }))
    }
}

/// `stream` once hands are shaken, where `port` asks for that, within `patience`.
pub(crate) async fn secured<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    port: Option<&Port>,
    patience: Duration,
) -> io::Result<Either<S, Box<TlsStream<S>>>> {
    let Some(port) = port else { return Ok(Either::Left(stream)) };
    let secured = timeout(patience.min(HANDSHAKE), port.acceptor().accept(stream)).await;
    let secured = secured.map_err(|_| io::ErrorKind::TimedOut.into()).and_then(|secured| secured);
    let secured = secured.inspect_err(|error| port.complain(error))?;
    Ok(Either::Right(Box::new(secured)))
}

fn failure(error: &io::Error) -> Handshake {
    match error.get_ref().and_then(|cause| cause.downcast_ref()) {
        Some(rustls::Error::InvalidMessage(_)) => Handshake::NoTls,
        Some(rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol) => {
            Handshake::Incompatible
        }
        Some(rustls::Error::NoCertificatesPresented) => Handshake::NoCertificate,
        Some(rustls::Error::InvalidCertificate(_)) => Handshake::BadCertificate,
        Some(rustls::Error::AlertReceived(_)) => Handshake::Refused,
        Some(_) => Handshake::Other,
        None if error.kind() == io::ErrorKind::TimedOut => Handshake::TimedOut,
        None => Handshake::Closed,
    }
}

fn configs(contents: &[Vec<u8>]) -> Result<Configs, FileError> {
    let content = |index: usize| contents.get(index).map(Vec::as_slice);
    let provider = pem::provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| FileError::new("receive.tls", error.to_string()))?;
    let builder = match content(2) {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let roots = Arc::new(pem::authorities(CLIENT_CA_FILE, authorities)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(
                verifier.map_err(|error| FileError::new(CLIENT_CA_FILE, error.to_string()))?,
            )
        }
    };
    let certificates = pem::certificates(CERT_FILE, content(0).unwrap_or_default())?;
    let key = pem::private_key(KEY_FILE, content(1).unwrap_or_default())?;
    let config = builder
        .with_single_cert(certificates, key)
        .map_err(|error| FileError::new(KEY_FILE, format!("must belong to {CERT_FILE}: {error}")))?;
    let speaking = |protocols: &[&str]| {
        let mut config = config.clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    };
    Ok(Configs { grpc: speaking(&["h2"]), http: speaking(&["h2", "http/1.1"]) })
}
