//! How an https destination is verified, and how we prove to it who we are.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::config::ExporterTls;
use crate::secrets::{FileError, Named, Reload, Reloaded, pem};

const CA_FILE: &str = "export.tls.ca_file";
const CERT_FILE: &str = "export.tls.cert_file";
const KEY_FILE: &str = "export.tls.key_file";

/// TLS towards the destination; cheap to clone, the clones share what was read.
#[derive(Clone, Debug)]
pub(super) struct ClientTls {
    config: Arc<Reloaded<ClientConfig>>,
    server_name: Option<ServerName<'static>>,
}

impl ClientTls {
    /// As `config` has it.
    ///
    /// # Errors
    /// What is wrong with its files, or with the system's certificates where those are needed.
    pub(super) fn new(config: &ExporterTls) -> Result<Self, FileError> {
        let given =
            [(CA_FILE, &config.ca_file), (CERT_FILE, &config.cert_file), (KEY_FILE, &config.key_file)];
        let files: Vec<_> = given
            .into_iter()
            .filter(|(_, path)| !path.as_os_str().is_empty())
            .map(|(key, path)| Named { key, path: path.clone() })
            .collect();
        let keys: Vec<_> = files.iter().map(|file| file.key).collect();
        let is_unverified = config.insecure_skip_verify;
        let make = move |contents: &[Vec<u8>]| {
            let of = |key| keys.iter().zip(contents).find(|(other, _)| **other == key).map(|(_, pem)| &**pem);
            client_config(of(CA_FILE), of(CERT_FILE).zip(of(KEY_FILE)), is_unverified)
        };
        let server_name = match config.server_name.as_str() {
            "" => None,
            name => Some(ServerName::try_from(name.to_owned()).map_err(|_| {
                FileError::new("export.tls.server_name", "must be a DNS name or an IP address")
            })?),
        };
        Ok(Self { config: Arc::new(Reloaded::new(files, make)?), server_name })
    }

    /// As the files have it now.
    pub(super) fn config(&self) -> ClientConfig {
        (*self.config.current()).clone()
    }

    /// The name to expect in the destination's certificate, where it is not the endpoint's host.
    pub(super) fn server_name(&self) -> Option<ServerName<'static>> {
        self.server_name.clone()
    }

    /// What is to be looked at now and then.
    pub(super) fn files(&self) -> Arc<dyn Reload> {
        Arc::clone(&self.config) as Arc<dyn Reload>
    }
}

fn client_config(
    ca: Option<&[u8]>,
    identity: Option<(&[u8], &[u8])>,
    is_unverified: bool,
) -> Result<ClientConfig, FileError> {
    let provider = pem::provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| FileError::new("export.tls", error.to_string()))?;
    let builder = if is_unverified {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified { provider }))
    } else {
        let roots = ca.map_or_else(system_authorities, |ca| pem::authorities(CA_FILE, ca))?;
        builder.with_root_certificates(roots)
    };
    let Some((cert, key)) = identity else { return Ok(builder.with_no_client_auth()) };
    let (cert, key) = (pem::certificates(CERT_FILE, cert)?, pem::private_key(KEY_FILE, key)?);
    builder
        .with_client_auth_cert(cert, key)
        .map_err(|error| FileError::new(KEY_FILE, format!("must belong to {CERT_FILE}: {error}")))
}

fn system_authorities() -> Result<RootCertStore, FileError> {
    let mut store = RootCertStore::empty();
    // Some of a system's certificates may be of a kind that nobody accepts any more.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        return Err(FileError::new(CA_FILE, "must be given, since this system has no certificates to trust"));
    }
    Ok(store)
}

/// Accepts any certificate, as `export.tls.insecure_skip_verify` asks for; only that the peer has the key to it
/// is still verified.
#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
