//! What makes two requests the same kind of work: the entry service, the span's kind and its protocol's own route.
//!
//! Follows the semantic conventions' stable names and the older ones beside them, so that a fleet that is half
//! migrated has one key. What clients choose, such as paths and message ids, is never part of it.

use std::borrow::Cow;

use crate::otlp::attribute::AnyValue;
use crate::otlp::span::{Kind, SpanView};
use crate::template::template;

/// The longest route in bytes; the rest is cut off.
const LONGEST: usize = 256;

/// The attributes that a route is made of.
#[derive(Default)]
struct Parts<'a> {
    method: Option<&'a str>,
    old_method: Option<&'a str>,
    route: Option<&'a str>,
    rpc_service: Option<&'a str>,
    rpc_method: Option<&'a str>,
    operation: Option<&'a str>,
    old_operation: Option<&'a str>,
    destination_template: Option<&'a str>,
    destination: Option<&'a str>,
    is_passing_destination: bool,
}

impl<'a> Parts<'a> {
    fn of(span: &SpanView<'a>) -> Self {
        let mut parts = Self::default();
        for attribute in span.attributes() {
            let place = match attribute.key {
                b"http.request.method" => &mut parts.method,
                b"http.method" => &mut parts.old_method,
                b"http.route" => &mut parts.route,
                b"rpc.service" => &mut parts.rpc_service,
                b"rpc.method" => &mut parts.rpc_method,
                b"messaging.operation.name" => &mut parts.operation,
                b"messaging.operation" => &mut parts.old_operation,
                b"messaging.destination.template" => &mut parts.destination_template,
                b"messaging.destination.name" | b"messaging.destination" => &mut parts.destination,
                b"messaging.destination.temporary" | b"messaging.destination.anonymous" => {
                    parts.is_passing_destination |= attribute.value == AnyValue::Bool(true);
                    continue;
                }
                _ => continue,
            };
            *place = attribute.value.as_str().filter(|value| !value.is_empty()).or(*place);
        }
        parts
    }
}

/// Writes the route of an entry span: `POST /cart/{id}`, `shop.Cart/Add`, `process orders`, or its templated name.
pub(super) fn put_route(span: &SpanView<'_>, out: &mut String) {
    let parts = Parts::of(span);
    let start = out.len();
    if let Some(method) = parts.method.or(parts.old_method) {
        put_http(method, parts.route, span, out);
    } else if let Some(method) = parts.rpc_method {
        // Newer conventions have the service inside the method.
        if let Some(service) = parts.rpc_service.filter(|_| !method.contains('/')) {
            out.push_str(service);
            out.push('/');
        }
        out.push_str(method);
    } else if let Some(destination) =
        parts.destination_template.or(parts.destination.filter(|_| !parts.is_passing_destination))
    {
        out.push_str(parts.operation.or(parts.old_operation).unwrap_or("process"));
        out.push(' ');
        out.push_str(destination);
    } else {
        out.push_str(&template(&name_of(span)));
    }
    if out.len() - start > LONGEST {
        out.truncate(floor_char_boundary(out, start + LONGEST));
    }
}

fn put_http(method: &str, route: Option<&str>, span: &SpanView<'_>, out: &mut String) {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    let method = KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(method)).unwrap_or(method);
    out.push_str(method);
    if let Some(route) = route {
        out.push(' ');
        // The convention forbids a raw path here, and instrumentations write one all the same.
        out.push_str(route.split(['?', '#']).next().unwrap_or(route));
        return;
    }
    // Without a route the name is `GET`, or `GET` and whatever the instrumentation saw fit.
    let name = name_of(span);
    let rest = name.strip_prefix(method).unwrap_or(&name).trim();
    if !rest.is_empty() {
        out.push(' ');
        out.push_str(&template(rest.split(['?', '#']).next().unwrap_or(rest)));
    }
}

fn name_of<'a>(span: &SpanView<'a>) -> Cow<'a, str> {
    String::from_utf8_lossy(span.name())
}

/// How the kind stands in a route's key; a SERVER and an INTERNAL span of one name are not the same work.
pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Unspecified => "unspecified",
        Kind::Internal => "internal",
        Kind::Server => "server",
        Kind::Client => "client",
        Kind::Producer => "producer",
        Kind::Consumer => "consumer",
    }
}

fn floor_char_boundary(text: &str, mut index: usize) -> usize {
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::wire::put_bytes;

    fn route(name: &str, attributes: &[(&str, &str)]) -> String {
        let mut body = Vec::new();
        put_bytes(&mut body, 1, &[1; 16]);
        put_bytes(&mut body, 2, &[1; 8]);
        put_bytes(&mut body, 5, name.as_bytes());
        for (key, value) in attributes {
            let mut any_value = Vec::new();
            match *value {
                "true" => any_value.extend([0x10, 1]),
                text => put_bytes(&mut any_value, 1, text.as_bytes()),
            }
            let mut key_value = Vec::new();
            put_bytes(&mut key_value, 1, key.as_bytes());
            put_bytes(&mut key_value, 2, &any_value);
            put_bytes(&mut body, 9, &key_value);
        }
        let mut out = String::new();
        put_route(&SpanView::read(&body).expect("valid"), &mut out);
        out
    }

    // R16.
    #[test]
    fn old_and_new_conventions_make_one_route() {
        for (old, new, expected) in [
            (
                &[("http.method", "POST"), ("http.route", "/cart/{id}")][..],
                &[("http.request.method", "POST"), ("http.route", "/cart/{id}")][..],
                "POST /cart/{id}",
            ),
            (
                &[("rpc.service", "shop.Cart"), ("rpc.method", "Add")],
                &[("rpc.system.name", "grpc"), ("rpc.method", "shop.Cart/Add")],
                "shop.Cart/Add",
            ),
            (
                &[("messaging.operation", "process"), ("messaging.destination", "orders")],
                &[("messaging.operation.name", "process"), ("messaging.destination.name", "orders")],
                "process orders",
            ),
        ] {
            assert_eq!(route("any", old), expected);
            assert_eq!(route("any", new), expected);
        }
    }

    #[test]
    fn what_clients_choose_is_not_part_of_a_route() {
        assert_eq!(route("GET /users/42?x=1", &[("http.method", "GET")]), "GET /users/{}");
        assert_eq!(route("GET", &[("http.method", "get"), ("http.target", "/users/42")]), "GET");
        assert_eq!(route("x", &[("http.method", "GET"), ("http.route", "/a?b=c")]), "GET /a");
        assert_eq!(route("job 17", &[]), "job {}");
        let passing =
            [("messaging.destination.name", "amq.gen-x"), ("messaging.destination.temporary", "true")];
        assert_eq!(route("reply 8", &passing), "reply {}");
    }

    #[test]
    fn a_long_route_is_cut_between_characters() {
        let long = "\u{20ac}".repeat(200);
        let cut = route("x", &[("rpc.method", &long)]);
        assert_eq!(cut.len(), 255);
    }
}
