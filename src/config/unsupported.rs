//! What the configuration describes and this version does not do yet.
//!
//! A key that was ignored could leave a port open that its operator believes closed, so each of these must stay
//! at its default. Whoever builds one deletes its line.

use super::{Config, Protocol};

/// A dotted key, and whether it is set to more than this version does.
type Unsupported = (&'static str, fn(&Config) -> bool);

/// Every such key.
pub(super) const UNSUPPORTED: &[Unsupported] = &[
    ("receive.http.cors.allowed_origins", |config| !config.receive.http.cors.allowed_origins.is_empty()),
    ("receive.tls.cert_file", |config| !config.receive.tls.cert_file.as_os_str().is_empty()),
    ("receive.tls.key_file", |config| !config.receive.tls.key_file.as_os_str().is_empty()),
    ("receive.tls.client_ca_file", |config| !config.receive.tls.client_ca_file.as_os_str().is_empty()),
    ("receive.tls.reload_interval", |config| {
        config.receive.tls.reload_interval != super::ReceiverTls::default().reload_interval
    }),
    ("receive.auth.bearer_token_file", |config| {
        !config.receive.auth.bearer_token_file.as_os_str().is_empty()
    }),
    ("export.endpoint", |config| config.export.endpoint.to_ascii_lowercase().starts_with("https:")),
    ("export.protocol", |config| config.export.protocol == Protocol::HttpProtobuf),
    ("export.tls.ca_file", |config| !config.export.tls.ca_file.as_os_str().is_empty()),
    ("export.tls.cert_file", |config| !config.export.tls.cert_file.as_os_str().is_empty()),
    ("export.tls.key_file", |config| !config.export.tls.key_file.as_os_str().is_empty()),
    ("export.tls.server_name", |config| !config.export.tls.server_name.is_empty()),
    ("export.tls.insecure_skip_verify", |config| config.export.tls.insecure_skip_verify),
];
