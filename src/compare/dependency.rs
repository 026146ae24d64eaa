//! What an uninstrumented peer is called, from the attributes of the span that called it.

use super::memo::Memo;
use super::tree::{Node, Tree, hash_of};
use crate::otlp::attribute::{AnyValue, Attribute};
use crate::template::template;

/// The peer of a call that no span answered, such as `postgresql orders@db-1`.
pub(crate) fn of(tree: &Tree<'_>, call: &Node) -> Option<String> {
    Peer::read(tree.trace.span(call.span as usize)?.attributes()).name()
}

/// The hash of the same name, templated; 0 where there is none.
pub(crate) fn hash(tree: &Tree<'_>, call: &Node, memo: &mut Memo) -> u64 {
    let Some(span) = tree.trace.span(call.span as usize) else { return 0 };
    let peer = Peer::read(span.attributes());
    memo.hash(&peer, || peer.name().map_or(0, |name| hash_of(&*template(&name))))
}

/// What the peer of a call may be called as a service: as the call says, or the first part of the host that it went to.
pub(crate) fn service(tree: &Tree<'_>, call: &Node) -> Option<String> {
    let peer = Peer::read(tree.trace.span(call.span as usize)?.attributes());
    Some(peer.service_name()?.to_owned())
}

/// The attributes that name a peer, old and new conventions.
#[derive(Default, Hash)]
struct Peer<'a> {
    service: Option<&'a str>,
    database: Option<&'a str>,
    namespace: Option<&'a str>,
    messaging: Option<&'a str>,
    destination: Option<&'a str>,
    model_provider: Option<&'a str>,
    rpc: Option<&'a str>,
    rpc_service: Option<&'a str>,
    address: Option<&'a str>,
    port: Option<i64>,
    url: Option<&'a str>,
}

impl<'a> Peer<'a> {
    fn read(attributes: impl Iterator<Item = Attribute<'a>>) -> Self {
        let mut peer = Self::default();
        for attribute in attributes {
            if let (b"server.port" | b"net.peer.port", AnyValue::Int(port)) = (attribute.key, attribute.value)
            {
                peer.port = Some(port);
                continue;
            }
            let slot = match attribute.key {
                b"service.peer.name" | b"peer.service" => &mut peer.service,
                b"db.system.name" | b"db.system" => &mut peer.database,
                b"db.namespace" | b"db.name" => &mut peer.namespace,
                b"messaging.system" => &mut peer.messaging,
                b"messaging.destination.name" | b"messaging.destination" => &mut peer.destination,
                b"gen_ai.provider.name" | b"gen_ai.system" => &mut peer.model_provider,
                b"rpc.system.name" | b"rpc.system" => &mut peer.rpc,
                b"rpc.service" => &mut peer.rpc_service,
                b"server.address" | b"net.peer.name" => &mut peer.address,
                b"url.full" | b"http.url" => &mut peer.url,
                _ => continue,
            };
            let value = attribute.value.as_str().filter(|text| !text.is_empty());
            // Of an attribute in both conventions the first that stands there counts.
            *slot = slot.or(value);
        }
        peer
    }

    fn service_name(&self) -> Option<&'a str> {
        self.service.or_else(|| {
            let host = self.address.or_else(|| self.url.and_then(host))?;
            host.split(['.', ':']).next()
        })
    }

    fn name(&self) -> Option<String> {
        if let Some(service) = self.service {
            return Some(service.to_owned());
        }
        let at = |system: &str, part: Option<&str>| {
            let mut name = system.to_owned();
            if let Some(part) = part {
                name.push(' ');
                name.push_str(part);
            }
            if let Some(address) = self.address {
                name.push(if part.is_some() { '@' } else { ' ' });
                name.push_str(address);
            }
            name
        };
        if let Some(system) = self.database {
            return Some(at(system, self.namespace));
        }
        if let Some(system) = self.messaging {
            return Some(at(system, self.destination));
        }
        if let Some(provider) = self.model_provider {
            return Some(provider.to_owned());
        }
        if let Some(system) = self.rpc {
            return Some(at(system, self.rpc_service));
        }
        match (self.address, self.port) {
            (Some(address), Some(port)) => Some(format!("{address}:{port}")),
            (Some(address), None) => Some(address.to_owned()),
            (None, _) => self.url.and_then(host).map(str::to_owned),
        }
    }
}

/// The host of a URL, with its port, without credentials.
fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    (!host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(attributes: &[(&'static str, &'static str)]) -> Option<String> {
        Peer::read(
            attributes.iter().map(|(key, value)| Attribute {
                key: key.as_bytes(),
                value: AnyValue::String(value.as_bytes()),
            }),
        )
        .name()
    }

    #[test]
    fn the_first_convention_that_names_a_peer_wins() {
        for (attributes, expected) in [
            (&[("peer.service", "billing"), ("db.system", "mysql")][..], Some("billing")),
            (
                &[("server.address", "db-1"), ("db.system.name", "postgresql"), ("db.namespace", "orders")],
                Some("postgresql orders@db-1"),
            ),
            (&[("db.system", "redis"), ("net.peer.name", "cache")], Some("redis cache")),
            (&[("messaging.system", "kafka"), ("messaging.destination.name", "paid")], Some("kafka paid")),
            (&[("gen_ai.provider.name", "openai"), ("server.address", "api")], Some("openai")),
            (&[("url.full", "https://user:key@pay.example:8443/v1?x=1")], Some("pay.example:8443")),
            (&[("server.address", "10.0.0.1")], Some("10.0.0.1")),
            (&[("http.request.method", "GET")], None),
        ] {
            assert_eq!(name_of(attributes).as_deref(), expected, "{attributes:?}");
        }
    }
}
