//! `export.endpoint`, taken apart.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::Uri;

use super::Protocol;

/// What is appended to the base URL of a destination that speaks HTTP.
pub(super) const TRACES: &str = "/v1/traces";

/// `http://HOST:PORT` or `https://HOST:PORT`; over HTTP a base URL, which may have a path and leave out the port.
#[derive(Debug, PartialEq, Eq)]
pub struct Destination {
    /// A name or an address, without brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
    /// Whether TLS is spoken.
    pub is_secure: bool,
}

impl Destination {
    /// Reads a URL that has what `protocol` needs, and nothing more.
    pub fn parse(endpoint: &str, protocol: Protocol) -> Option<Self> {
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
        if self.host.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
            let listens = own.ip().to_canonical();
            return self.port == own.port() && (listens.is_loopback() || listens.is_unspecified());
        }
        self.address().is_some_and(|ip| reaches(SocketAddr::new(ip, self.port), own, IpAddr::is_loopback))
    }

    /// The host's address, where it is one and not a name: in any form that the operating system's resolver takes for one,
    /// such as `127.1` or `0x7f000001`.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok().or_else(|| numeric(&self.host).map(IpAddr::V4))
    }
}

/// Whether a connection to `address` is made to the listener at `own`; `is_ours` tells addresses of this machine.
pub fn reaches(address: SocketAddr, own: SocketAddr, is_ours: impl Fn(&IpAddr) -> bool) -> bool {
    let (ip, listens) = (address.ip().to_canonical(), own.ip().to_canonical());
    // Connecting to the unspecified address connects to loopback.
    let on_loopback = listens.is_loopback() || listens.is_unspecified();
    // Who listens on every address of IPv4 leaves those of IPv6 to others.
    let on_every = listens.is_unspecified() && (own.is_ipv6() || ip.is_ipv4());
    let meets = ip == listens || (ip.is_unspecified() && on_loopback) || (on_every && is_ours(&ip));
    address.port() == own.port() && meets
}

/// One to four numbers, decimal, octal or hexadecimal, of which the last one fills all that is left: `inet_aton`.
fn numeric(host: &str) -> Option<Ipv4Addr> {
    let numbers: Vec<u32> = host.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = numbers.split_last()?;
    let octets = first.iter().map(|number| u8::try_from(*number)).collect::<Result<Vec<_>, _>>().ok()?;
    let mut bytes = last.to_be_bytes();
    let (taken, left) = bytes.split_at_mut_checked(octets.len())?;
    if left.is_empty() || taken.iter().any(|byte| *byte != 0) {
        return None;
    }
    taken.copy_from_slice(&octets);
    Some(Ipv4Addr::from(bytes))
}

fn number(text: &str) -> Option<u32> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = match (hexadecimal, text.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        _ => (text, 10),
    };
    // A sign is nothing that the resolver takes.
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, radix).ok())?
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
            ("http://[::ffff:7f00:1]:4317", "127.0.0.1:4317", true),
            ("http://[0:0:0:0:0:0:0:1]:4317", "[::1]:4317", true),
            ("http://[::]:4317", "127.0.0.1:4317", true),
            ("http://127.1:4317", "127.0.0.1:4317", true),
            ("http://127.0.1:4317", "127.0.0.1:4317", true),
            ("http://2130706433:4317", "127.0.0.1:4317", true),
            ("http://0x7f000001:4317", "127.0.0.1:4317", true),
            ("http://0X7F.0.0.0x1:4317", "0.0.0.0:4317", true),
            ("http://0177.0.0.1:4317", "127.0.0.1:4317", true),
            ("http://017700000001:4317", "127.0.0.1:4317", true),
            ("http://0:4317", "127.0.0.1:4317", true),
            ("http://0.0:4317", "127.0.0.1:4317", true),
            ("http://127.0.0.1:4317", "[::]:4317", true),
            ("http://[::1]:4317", "0.0.0.0:4317", false),
            ("http://127.2:4317", "127.0.0.1:4317", false),
            ("http://127.1:4318", "127.0.0.1:4317", false),
            ("http://256.1:4317", "127.0.0.1:4317", false),
            ("http://127.0.0.256:4317", "127.0.0.1:4317", false),
            ("http://127.0.0.0.1:4317", "0.0.0.0:4317", false),
            ("http://0x100000000:4317", "127.0.0.1:4317", false),
            ("http://089.1:4317", "0.0.0.0:4317", false),
            ("http://0x:4317", "0.0.0.0:4317", false),
            ("http://127..1:4317", "0.0.0.0:4317", false),
            ("http://cafe:4317", "0.0.0.0:4317", false),
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
