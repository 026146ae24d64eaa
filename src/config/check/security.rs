//! The rules of who may send, and of TLS: which keys need one another.

use std::path::{Path, PathBuf};

use rustls::pki_types::ServerName;

use super::Findings;
use crate::config::destination::Destination;
use crate::config::{Config, ExporterTls, ReceiverTls};

/// A file, under its key; an empty path where none is given.
type Keyed<'a> = (&'static str, &'a PathBuf);

fn receiver_files(tls: &ReceiverTls) -> [Keyed<'_>; 3] {
    [
        ("receive.tls.cert_file", &tls.cert_file),
        ("receive.tls.key_file", &tls.key_file),
        ("receive.tls.client_ca_file", &tls.client_ca_file),
    ]
}

fn exporter_files(tls: &ExporterTls) -> [Keyed<'_>; 3] {
    [
        ("export.tls.ca_file", &tls.ca_file),
        ("export.tls.cert_file", &tls.cert_file),
        ("export.tls.key_file", &tls.key_file),
    ]
}

impl Config {
    /// The files of certificates, keys and tokens that are given, with their keys: `run` needs them to start.
    pub fn secret_files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let tokens = ("receive.auth.bearer_token_file", &self.receive.auth.bearer_token_file);
        let files = receiver_files(&self.receive.tls)
            .into_iter()
            .chain([tokens])
            .chain(exporter_files(&self.export.tls));
        files.map(|(key, path)| (key, path.as_path())).filter(|(_, path)| is_given(path))
    }
}

impl Findings {
    pub(super) fn origins(&mut self, config: &Config) {
        let rule =
            "must be an origin such as https://app.example.com, in which one * stands for any text, or *";
        for (index, origin) in config.receive.http.cors.allowed_origins.iter().enumerate() {
            let key = format!("receive.http.cors.allowed_origins[{index}]");
            self.rule(is_origin(origin), key, rule, origin);
        }
    }

    pub(super) fn receiver_tls(&mut self, config: &Config) {
        let [cert, key, client_ca] = receiver_files(&config.receive.tls);
        self.needs(cert, key);
        self.needs(key, cert);
        self.needs(client_ca, cert);
    }

    pub(super) fn exporter_tls(&mut self, config: &Config) {
        let tls = &config.export.tls;
        let files = exporter_files(tls);
        let Some(destination) = Destination::parse(&config.export.endpoint, config.export.protocol) else {
            return;
        };
        if !destination.is_secure {
            const RULE: &str = "needs an https endpoint";
            for (key, path) in files {
                self.rule_with(!is_given(path), key, &["export.endpoint"], RULE, path.display());
            }
            let name = &tls.server_name;
            self.rule_with(name.is_empty(), "export.tls.server_name", &["export.endpoint"], RULE, name);
            let key = "export.tls.insecure_skip_verify";
            self.rule_with(!tls.insecure_skip_verify, key, &["export.endpoint"], RULE, true);
            return;
        }
        let [ca, cert, key] = files;
        self.needs(cert, key);
        self.needs(key, cert);
        let rule = "must be left out where export.tls.insecure_skip_verify is true";
        let is_contradictory = tls.insecure_skip_verify && is_given(ca.1);
        self.rule_with(!is_contradictory, ca.0, &["export.tls.insecure_skip_verify"], rule, ca.1.display());
        let name = tls.server_name.as_str();
        let is_name = name.is_empty() || ServerName::try_from(name).is_ok();
        self.rule(is_name, "export.tls.server_name", "must be a DNS name or an IP address", name);
    }

    /// `file` needs `other`.
    fn needs(&mut self, file: Keyed<'_>, other: Keyed<'_>) {
        let holds = !is_given(file.1) || is_given(other.1);
        let rule = format!("needs {} beside it", other.0);
        self.rule_with(holds, file.0, &[other.0], rule, file.1.display());
    }
}

/// As a browser states it, a scheme and a host with perhaps a port and nothing behind it; or a pattern of that.
fn is_origin(text: &str) -> bool {
    let is_pattern = text.matches('*').count() <= 1;
    let Some((scheme, host)) = text.split_once("://") else { return text == "*" };
    let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let is_host = host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@\\".contains(&byte));
    is_pattern && is_scheme && is_host && !scheme.is_empty() && !host.is_empty()
}

fn is_given(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}
