//! `export.endpoint`, taken apart.

use std::net::{IpAddr, SocketAddr};

use http::Uri;

/// `http://HOST:PORT` or `https://HOST:PORT`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Destination {
    host: String,
    port: u16,
}

impl Destination {
    /// Reads a URL that has a scheme, a host and a port, and nothing more.
    pub(super) fn parse(endpoint: &str) -> Option<Self> {
        let uri: Uri = endpoint.parse().ok()?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let is_bare = uri.path() == "/" && uri.query().is_none() && !endpoint.contains(['@', '#']);
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().filter(|port| *port != 0)?;
        (is_http && is_bare && !host.is_empty()).then_some(Self { host, port })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_url_with_a_port() {
        for right in ["http://collector:4317", "https://10.0.0.1:4317/", "http://[::1]:4317"] {
            assert!(Destination::parse(right).is_some(), "{right}");
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
            assert_eq!(Destination::parse(wrong), None, "{wrong}");
        }
    }

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
            let destination = Destination::parse(endpoint).expect("a destination");
            assert_eq!(destination.reaches(own.parse().expect("an address")), expected, "{endpoint} {own}");
        }
    }
}
