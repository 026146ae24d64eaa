//! Certificates made for a test, and TLS in front of a server that speaks none.

#![allow(dead_code, reason = "each test crate that includes this file uses a part of it")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use laggard::secrets::pem;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Issues certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, both PEM.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("valid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("random")).expect("signed"))
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// For a DNS name or an IP address.
    pub(crate) fn issue(&self, name: &str) -> Identity {
        let key = KeyPair::generate().expect("random");
        let params = CertificateParams::new([name.to_owned()]).expect("valid");
        let cert = params.signed_by(&key, &self.0).expect("signed");
        Identity { cert: cert.pem(), key: key.serialize_pem() }
    }
}

/// A certificate with its key, and files that cannot be used beside it.
pub(crate) struct UnfitFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    /// Of another certificate with the same name.
    pub(crate) other_key: PathBuf,
    pub(crate) empty: PathBuf,
    pub(crate) absent: PathBuf,
    _files: Files,
}

impl UnfitFiles {
    pub(crate) fn new() -> Self {
        let (authority, files) = (Authority::new(), Files::new());
        let (ours, other) = (authority.issue("a.example"), authority.issue("a.example"));
        Self {
            cert: files.write("cert.pem", &ours.cert),
            key: files.write("key.pem", &ours.key),
            other_key: files.write("other.pem", &other.key),
            empty: files.write("empty.pem", ""),
            absent: files.path("absent"),
            _files: files,
        }
    }
}

/// A folder of files for configuration keys.
pub(crate) struct Files(tempfile::TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// Writes a file whole, as a rename does, and returns its path.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let (path, next) = (self.path(name), self.path(".next"));
        std::fs::write(&next, content).expect("writes");
        std::fs::rename(next, &path).expect("renames");
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        Path::new(self.0.path()).join(name)
    }
}

/// What a server with this identity speaks, to clients of `clients` only where that is given.
pub(crate) fn server(identity: &Identity, clients: Option<&Authority>, protocols: &[&str]) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(pem::provider());
    let builder = builder.with_safe_default_protocol_versions().expect("supported");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let roots = pem::authorities("ca", authority.pem().as_bytes()).expect("valid");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), pem::provider());
            builder.with_client_cert_verifier(verifier.build().expect("valid"))
        }
    };
    let certs = pem::certificates("cert", identity.cert.as_bytes()).expect("valid");
    let key = pem::private_key("key", identity.key.as_bytes()).expect("valid");
    let mut config = builder.with_single_cert(certs, key).expect("a pair");
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

/// Takes TLS off and hands on to a plain server; ends when it is dropped.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Front {
    pub(crate) async fn start(config: ServerConfig, plain: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.local_addr().expect("bound");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("accepts");
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    let Ok(mut secure) = acceptor.accept(stream).await else { return };
                    let mut plain = TcpStream::connect(plain).await.expect("listens");
                    // How a connection ends is not what is tested here.
                    let _ = tokio::io::copy_bidirectional(&mut secure, &mut plain).await;
                });
            }
        });
        Self { address, _serving: serving }
    }
}
