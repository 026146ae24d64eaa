//! Certificates and keys from PEM text, and what TLS is made with.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::FileError;

/// The cryptography of all TLS here: named in each place, so that it cannot depend on what else is linked.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificates in `pem`, at least one; `key` is the configuration key that names the file.
///
/// # Errors
/// When there is none, or one that is no PEM.
pub fn certificates(key: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.ok().filter(|certificates| !certificates.is_empty());
    certificates.ok_or_else(|| FileError::new(key, "must hold PEM certificates"))
}

/// The first private key in `pem`.
///
/// # Errors
/// When there is none.
pub fn private_key(key: &'static str, pem: &[u8]) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| FileError::new(key, "must hold a PEM private key"))
}

/// The certificates in `pem` as what others must chain to.
///
/// # Errors
/// When there is none, or one that cannot be such an authority.
pub fn authorities(key: &'static str, pem: &[u8]) -> Result<RootCertStore, FileError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(key, pem)? {
        store.add(certificate).map_err(|error| {
            FileError::new(key, format!("must hold certificates of authorities: {error}"))
        })?;
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn certificates_and_keys_are_found_in_pem_text() {
        let (certificate, key) = pem();
        let both = format!("a comment\n{certificate}{key}{certificate}");
        assert_eq!(certificates("a.cert_file", both.as_bytes()).map(|found| found.len()), Ok(2));
        assert!(private_key("a.key_file", both.as_bytes()).is_ok());
        assert_eq!(authorities("a.ca_file", certificate.as_bytes()).map(|store| store.len()), Ok(1));
    }

    #[test]
    fn what_is_wrong_names_the_key_and_not_the_content() {
        let (certificate, key) = pem();
        let cut = &certificate[..certificate.len() / 2];
        for text in ["", "nonsense", cut, &key] {
            let error = certificates("a.cert_file", text.as_bytes()).expect_err("no certificates");
            assert_eq!(error.to_string(), "a.cert_file: must hold PEM certificates");
        }
        for text in ["", "nonsense", &certificate] {
            let error = private_key("a.key_file", text.as_bytes()).expect_err("no key");
            assert_eq!(error.to_string(), "a.key_file: must hold a PEM private key");
        }
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = authorities("a.ca_file", no_certificate.as_bytes()).expect_err("no certificate");
        assert!(
            error.to_string().starts_with("a.ca_file: must hold certificates of authorities: "),
            "{error}"
        );
    }
}
