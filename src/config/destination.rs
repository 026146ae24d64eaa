//! `export.endpoint`, taken apart.

use std::net::{IpAddr, SocketAddr};

use http::Uri;

use super::Protocol;

/// What is appended to the base URL of a destination that speaks HTTP.
pub(super) const TRACES: &str = "/v1/traces";

/// `http://HOST:PORT` or `https://HOST:PORT`; over HTTP a base URL, which may have a path and leave out the port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Destination {
    host: String,
    port: u16,
    /// Whether TLS is spoken.
    pub(super) is_secure: bool,
}

impl Destination {
    /// Reads a URL that has what `protocol` needs, and nothing more.
    pub(super) fn parse(endpoint: &str, protocol: Protocol) -> Option<Self> {
        let is_over_http = protocol == Protocol::HttpProtobuf;
        let uri: Uri = endpoint.parse().ok()?;
        let own_port = match uri.scheme_str()? {
            "https" => Some(443),
            "http" if is_over_http => Some(80),
            "http" => None,
            _ => return None,
        };
        let is_base = uri.path() == "/" || is_over_http && !is_whole(uri.path());
        let is_bare = is_base && uri.query().is_none() && !endpoint.contains(['@', '#', '?']);
        let names_a_port = uri.authority()?.as_str().len() > uri.host()?.len();
        let port = if names_a_port { uri.port_u16() } else { own_port }.filter(|port| *port != 0)?;
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_secure = uri.scheme_str() == Some("https");
        (is_bare && !host.is_empty()).then_some(Self { host, port, is_secure })
    }

    /// Whether what is sent there comes back to the listener at `own`, as far as the text can tell.
    pub(super) fn reaches(&self, own: SocketAddr) -> bool {
        let listens = own.ip().to_canonical();
        let on_loopback = listens.is_loopback() || listens.is_unspecified();
        let meets = if self.host.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
            on_loopback
        } else if let Ok(ip) = self.host.parse::<IpAddr>() {
            let ip = ip.to_canonical();
            // Connecting to the unspecified address connects to loopback.
            ip == listens
                || (ip.is_unspecified() && on_loopback)
                || (ip.is_loopback() && listens.is_unspecified())
        } else {
            false
        };
        self.port == own.port() && meets
    }
}

/// Whether a path has what will be appended to it.
fn is_whole(path: &str) -> bool {
    path.trim_end_matches('/').ends_with(TRACES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over_grpc(endpoint: &str) -> Option<Destination> {
        Destination::parse(endpoint, Protocol::Grpc)
    }

    #[test]
    fn a_destination_is_a_url_with_a_port() {
        for right in ["http://collector:4317", "https://10.0.0.1:4317/", "http://[::1]:4317", "https://a"] {
            assert!(over_grpc(right).is_some(), "{right}");
        }
        for wrong in [
            "",
            "collector:4317",
            "http://collector",
            "http://collector:0",
            "http://collector:99999",
            "http://:4317",
            "ftp://collector:4317",
            "http://collector:4317/v1/traces",
            "http://collector:4317?a=b",
            "http://collector:4317#a",
            "http://user:password@collector:4317",
        ] {
            assert_eq!(over_grpc(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn over_http_a_destination_is_a_base_url() {
        let over_http = |endpoint| Destination::parse(endpoint, Protocol::HttpProtobuf);
        for (right, port) in [
            ("http://collector:4318", 4318),
            ("http://collector:4318/", 4318),
            ("http://collector/otlp", 80),
            ("https://api.example.com", 443),
            ("https://[::1]/otlp/", 443),
        ] {
            assert_eq!(over_http(right).map(|destination| destination.port), Some(port), "{right}");
        }
        for wrong in [
            "collector:4318",
            "http://collector:99999",
            "http://collector:",
            "http://collector:4318/v1/traces",
            "http://collector:4318/otlp/v1/traces/",
            "http://collector:4318?a=b",
            "http://collector:4318/otlp?",
            "http://user:password@collector:4318",
        ] {
            assert_eq!(over_http(wrong), None, "{wrong}");
        }
        let own = over_http("http://127.0.0.1:4318/otlp").expect("a destination");
        assert!(own.reaches("0.0.0.0:4318".parse().expect("an address")));
    }

    // F14.
    #[test]
    fn a_destination_that_is_our_own_port_is_recognised() {
        for (endpoint, own, expected) in [
            ("http://127.0.0.1:4317", "127.0.0.1:4317", true),
            ("http://localhost:4317", "127.0.0.1:4317", true),
            ("http://LOCALHOST.:4317", "0.0.0.0:4317", true),
            ("http://127.0.0.1:4317", "0.0.0.0:4317", true),
            ("http://0.0.0.0:4317", "127.0.0.1:4317", true),
            ("http://[::1]:4317", "[::]:4317", true),
            ("http://[::ffff:127.0.0.1]:4317", "127.0.0.1:4317", true),
            ("http://127.0.0.1:14317", "127.0.0.1:4317", false),
            ("http://10.0.0.9:4317", "127.0.0.1:4317", false),
            ("http://10.0.0.9:4317", "0.0.0.0:4317", false),
            ("http://collector:4317", "0.0.0.0:4317", false),
        ] {
            let destination = over_grpc(endpoint).expect("a destination");
            assert_eq!(destination.reaches(own.parse().expect("an address")), expected, "{endpoint} {own}");
        }
    }
}
