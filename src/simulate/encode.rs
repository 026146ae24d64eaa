//! A simulated request as the OTLP bytes that its services would send, each on its own clock.

use super::run::{Peer, Request, SimulatedSpan};
use super::system::{Style, System};
use crate::otlp::TraceId;
use crate::otlp::span::Kind;
use crate::otlp::wire::{length_delimited_size, put_bytes, put_fixed64, put_length, put_uint};

/// Appends an `ExportTraceServiceRequest` with the spans of one trace, one `ResourceSpans` an instance.
pub fn encode(system: &System, id: TraceId, request: &Request<'_>, out: &mut Vec<u8>) {
    let mut spans: Vec<&SimulatedSpan<'_>> = request.spans.iter().collect();
    spans.sort_by_key(|span| (span.service, span.replica));
    for spans in spans.chunk_by(|a, b| (a.service, a.replica) == (b.service, b.replica)) {
        let spans: Vec<_> = spans.iter().map(|span| (id, *span)).collect();
        encode_instance(system, &spans, out);
    }
}

/// Appends a `ResourceSpans` with spans of one instance, each with the id of its trace.
pub fn encode_instance(system: &System, spans: &[(TraceId, &SimulatedSpan<'_>)], out: &mut Vec<u8>) {
    let Some((_, SimulatedSpan { service, replica, .. })) = spans.first() else { return };
    let name = &system.services[*service].name;
    put_message(out, 1, |out| {
        put_message(out, 1, |out| {
            put_attribute(out, 1, "service.name", name);
            put_attribute(out, 1, "k8s.pod.name", &format!("{name}-{replica}"));
        });
        put_message(out, 2, |out| {
            for (id, span) in spans {
                put_message(out, 2, |out| put_span(system, *id, span, out));
            }
        });
    });
}

fn put_span(system: &System, id: TraceId, span: &SimulatedSpan<'_>, out: &mut Vec<u8>) {
    let service = &system.services[span.service];
    let skew = service.skew.get(span.replica).copied().unwrap_or(0);
    let mut start = span.start.saturating_add_signed(skew);
    let end = span.end.saturating_add_signed(skew);
    if service.is_coarse {
        start -= start % 1_000_000;
    }
    put_bytes(out, 1, id.bytes());
    put_bytes(out, 2, &span.id.to_be_bytes());
    if span.parent != 0 {
        put_bytes(out, 4, &span.parent.to_be_bytes());
    }
    put_bytes(out, 5, span.name.as_bytes());
    put_uint(out, 6, span.kind as u64);
    put_fixed64(out, 7, start);
    put_fixed64(out, 8, end);
    put_attributes(system, span, service.style, out);
    for (time, name) in &span.events {
        put_message(out, 11, |out| {
            put_fixed64(out, 1, time.saturating_add_signed(skew));
            put_bytes(out, 2, name.as_bytes());
        });
    }
    if span.is_error {
        put_bytes(out, 15, &[0x18, 2]);
    }
}

fn put_attributes(system: &System, span: &SimulatedSpan<'_>, style: Style, out: &mut Vec<u8>) {
    let is_old = style == Style::OldHttp;
    let address = if is_old { "net.peer.name" } else { "server.address" };
    let database = if is_old { "db.system" } else { "db.system.name" };
    let mut put = |key: &str, text: &str| put_attribute(out, 9, key, text);
    match (span.kind, style) {
        (Kind::Internal, _) => {}
        (Kind::Producer | Kind::Consumer, _) => {
            put("messaging.system", "kafka");
            put("messaging.destination.name", "orders");
        }
        _ if matches!(span.peer, Peer::Database(_) | Peer::Cache) => {}
        (_, Style::Rpc) => {
            put("rpc.system", "grpc");
            put("rpc.method", last_part(span.name));
        }
        (kind, _) => {
            let (method, path) = span.route.split_once(' ').unwrap_or((span.route, ""));
            put(if is_old { "http.method" } else { "http.request.method" }, method);
            if kind == Kind::Server {
                put("http.route", path);
            }
        }
    }
    match span.peer {
        Peer::None => {}
        Peer::Service(service) => put(address, &system.services[service].name),
        Peer::Database(number) => {
            put(database, "postgresql");
            put(address, &format!("db-{number}"));
        }
        Peer::Cache => {
            put(database, "redis");
            put(address, "cache");
        }
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn put_attribute(out: &mut Vec<u8>, field: u32, key: &str, text: &str) {
    let value = length_delimited_size(1, text.len());
    put_length(out, field, length_delimited_size(1, key.len()) + length_delimited_size(2, value));
    put_bytes(out, 1, key.as_bytes());
    put_length(out, 2, value);
    put_bytes(out, 1, text.as_bytes());
}

/// Appends a message field whose length is known only once `put` has written it.
fn put_message(out: &mut Vec<u8>, field: u32, put: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put(out);
    let length = out.len() - start;
    put_length(out, field, length);
    // The key and the length stand behind what they belong before.
    out[start..].rotate_left(length);
}
