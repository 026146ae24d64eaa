//! A simulated request as the OTLP bytes that its services would send, each on its own clock.

use std::collections::BTreeMap;

use super::run::{Peer, Request, SimulatedSpan};
use super::system::{Style, System};
use crate::otlp::TraceId;
use crate::otlp::span::Kind;
use crate::otlp::wire::{put_bytes, put_fixed64, put_uint};

/// Appends an `ExportTraceServiceRequest` with the spans of one trace, one `ResourceSpans` an instance.
pub fn encode(system: &System, id: TraceId, request: &Request<'_>, out: &mut Vec<u8>) {
    let mut by_instance: BTreeMap<(usize, usize), Vec<&SimulatedSpan<'_>>> = BTreeMap::new();
    for span in &request.spans {
        by_instance.entry((span.service, span.replica)).or_default().push(span);
    }
    for ((service, replica), spans) in by_instance {
        let name = &system.services[service].name;
        let mut resource = Vec::new();
        put_attribute(&mut resource, 1, "service.name", name);
        put_attribute(&mut resource, 1, "k8s.pod.name", &format!("{name}-{replica}"));
        let mut scope = Vec::new();
        for span in spans {
            put_bytes(&mut scope, 2, &body(system, id, span));
        }
        let mut content = Vec::new();
        put_bytes(&mut content, 1, &resource);
        put_bytes(&mut content, 2, &scope);
        put_bytes(out, 1, &content);
    }
}

fn body(system: &System, id: TraceId, span: &SimulatedSpan<'_>) -> Vec<u8> {
    let service = &system.services[span.service];
    let skew = service.skew.get(span.replica).copied().unwrap_or(0);
    let mut start = span.start.saturating_add_signed(skew);
    let end = span.end.saturating_add_signed(skew);
    if service.is_coarse {
        start -= start % 1_000_000;
    }
    let mut body = Vec::with_capacity(256);
    put_bytes(&mut body, 1, id.bytes());
    put_bytes(&mut body, 2, &span.id.to_be_bytes());
    if span.parent != 0 {
        put_bytes(&mut body, 4, &span.parent.to_be_bytes());
    }
    put_bytes(&mut body, 5, span.name.as_bytes());
    put_uint(&mut body, 6, span.kind as u64);
    put_fixed64(&mut body, 7, start);
    put_fixed64(&mut body, 8, end);
    for (key, value) in attributes(system, span, service.style) {
        put_attribute(&mut body, 9, key, &value);
    }
    if span.is_error {
        put_bytes(&mut body, 15, &[0x18, 2]);
    }
    body
}

fn attributes(system: &System, span: &SimulatedSpan<'_>, style: Style) -> Vec<(&'static str, String)> {
    let is_old = style == Style::OldHttp;
    let address = if is_old { "net.peer.name" } else { "server.address" };
    let mut attributes = match (span.kind, style) {
        (Kind::Internal, _) => Vec::new(),
        (Kind::Producer | Kind::Consumer, _) => {
            vec![
                ("messaging.system", "kafka".to_owned()),
                ("messaging.destination.name", "orders".to_owned()),
            ]
        }
        _ if matches!(span.peer, Peer::Database(_) | Peer::Cache) => Vec::new(),
        (_, Style::Rpc) => {
            vec![("rpc.system", "grpc".to_owned()), ("rpc.method", last_part(span.name).to_owned())]
        }
        (kind, _) => {
            let method = if is_old { "http.method" } else { "http.request.method" };
            let mut attributes = vec![(method, "GET".to_owned())];
            if kind == Kind::Server {
                attributes.push(("http.route", span.name.trim_start_matches("GET ").to_owned()));
            }
            attributes
        }
    };
    match span.peer {
        Peer::None => {}
        Peer::Service(service) => {
            attributes.push((address, system.services[service].name.clone()));
        }
        Peer::Database(database) => {
            let key = if is_old { "db.system" } else { "db.system.name" };
            attributes.push((key, "postgresql".to_owned()));
            attributes.push((address, format!("db-{database}")));
        }
        Peer::Cache => {
            attributes.push((if is_old { "db.system" } else { "db.system.name" }, "redis".to_owned()));
            attributes.push((address, "cache".to_owned()));
        }
    }
    attributes
}

fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn put_attribute(out: &mut Vec<u8>, field: u32, key: &str, text: &str) {
    let mut value = Vec::with_capacity(text.len() + 4);
    put_bytes(&mut value, 1, text.as_bytes());
    let mut attribute = Vec::with_capacity(key.len() + value.len() + 6);
    put_bytes(&mut attribute, 1, key.as_bytes());
    put_bytes(&mut attribute, 2, &value);
    put_bytes(out, field, &attribute);
}
