//! A destination that is this very process: what is sent there would come in again, for ever.
//!
//! Where addresses tell, the process does not start. Where they do not (a proxy, a Service in front of it, a name that
//! resolves later), each request carries the number of its process, and a receiver takes none that carries its own.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use http::HeaderMap;
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::ChannelError;
use crate::config::Export;
use crate::config::destination::{Destination, reaches};

/// What carries the number of the process that has sent a request.
pub const HEADER: &str = "laggard-instance";

/// So long a name is waited for: a start does not depend on DNS.
const PATIENCE: Duration = Duration::from_secs(1);

/// The number of a process, which is no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance(String);

impl Instance {
    /// Another one each time.
    pub fn random() -> Self {
        // The standard library seeds each of these anew.
        let [high, low] = [(); 2].map(|()| RandomState::new().hash_one(()));
        Self(format!("{high:016x}{low:016x}"))
    }

    /// Has every request to the destination carry it.
    pub fn mark(&self, config: &mut Export) {
        config.headers.insert(HEADER.to_owned(), self.0.clone());
    }

    /// Whether a request with these headers comes from here.
    pub fn has_sent(&self, headers: &HeaderMap) -> bool {
        headers.get_all(HEADER).iter().any(|value| value == self.0.as_str())
    }
}

/// Refuses a destination that can only be one of `own`, the sockets that this process listens on. Waits for DNS a second
/// at most, and takes no answer for none.
///
/// # Errors
/// [`ChannelError::Ourselves`].
pub async fn refuse(config: &Export, own: &[(&'static str, SocketAddr)]) -> Result<(), ChannelError> {
    let Some(destination) = Destination::parse(&config.endpoint, config.protocol) else { return Ok(()) };
    let addresses = match destination.address() {
        Some(ip) => vec![SocketAddr::new(ip, destination.port)],
        None => match timeout(PATIENCE, lookup_host((destination.host.as_str(), destination.port))).await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        },
    };
    // With one address elsewhere, it may be that one which is meant.
    if !addresses.iter().all(|address| is_ours(&address.ip())) {
        return Ok(());
    }
    let met = own.iter().find(|(_, own)| addresses.iter().any(|address| reaches(*address, *own, is_ours)));
    met.map_or(Ok(()), |(key, address)| {
        Err(ChannelError::Ourselves { endpoint: config.endpoint.clone(), key, address: *address })
    })
}

/// Whether an address is one of this machine's: others cannot be bound to. Nothing is sent.
fn is_ours(ip: &IpAddr) -> bool {
    UdpSocket::bind((*ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_own_requests_and_no_others() {
        let (ours, other) = (Instance::random(), Instance::random());
        let headers = |instance: &Instance| {
            let mut export = Export::default();
            instance.mark(&mut export);
            super::super::channel::headers(&export).expect("valid")
        };
        assert!(ours.has_sent(&headers(&ours)) && !ours.has_sent(&headers(&other)));
        assert!(!ours.has_sent(&HeaderMap::new()));
    }

    // F14.
    #[tokio::test]
    async fn a_destination_that_resolves_to_one_of_our_ports_is_refused_and_any_other_is_not() {
        let any: SocketAddr = "0.0.0.0:4317".parse().expect("an address");
        let loopback: SocketAddr = "127.0.0.1:4318".parse().expect("an address");
        let own = [("receive.grpc.endpoint", any), ("receive.http.endpoint", loopback)];
        let mut refused = vec!["http://localhost:4317", "http://127.9.9.9:4317", "http://127.1:4318"];
        // An address of this machine that is not loopback, where it has one: the way out is looked up, nothing is sent.
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
        let outward = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
        let outward = outward.map(|address| (format!("http://{}:4317", address.ip()), address.ip())).ok();
        let outward = outward.filter(|(_, ip)| !ip.is_loopback()).map(|(endpoint, _)| endpoint);
        refused.extend(outward.as_deref());
        for endpoint in refused {
            let config = Export { endpoint: endpoint.to_owned(), ..Export::default() };
            let error = refuse(&config, &own).await.expect_err(endpoint).to_string();
            let expected = "export.endpoint: must not be a port of our own, receive.";
            assert!(error.starts_with(expected) && error.ends_with(endpoint), "{error}");
        }
        for endpoint in [
            "http://localhost:4319",
            "http://127.0.0.2:4318",
            "http://192.0.2.1:4317",
            "http://nowhere.invalid:4317",
        ] {
            let config = Export { endpoint: endpoint.to_owned(), ..Export::default() };
            assert_eq!(refuse(&config, &own).await, Ok(()), "{endpoint}");
        }
    }
}
