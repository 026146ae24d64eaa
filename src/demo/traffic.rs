//! The running example: three services that answer requests, until one of them turns slow.
//!
//! Each service exports its own spans, in its own requests, when its own batch is due, as OpenTelemetry SDKs do: a
//! child comes before its parent, and the spans of one trace come in pieces. The same seed gives the same traffic.

mod scenario;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use crate::otlp::Nanos;
use scenario::{Call, PRE_PROCESSOR, ROUTES, Route, text};

const MICROSECOND: Nanos = 1_000;
const MILLISECOND: Nanos = 1_000_000;

/// The service that turns slow.
pub const CULPRIT: &str = "pre-processor";

/// How much longer it then works on a request.
pub const ADDED: Nanos = 725 * MILLISECOND;

/// From one user request to the next, on average.
pub const REQUEST_INTERVAL: Nanos = 50 * MILLISECOND;

/// A request waits this long on the network each way, at least.
const NETWORK: Nanos = 300 * MICROSECOND;

/// A service that sends spans.
#[derive(Debug)]
struct Service {
    name: &'static str,
    /// From one export of its SDK to the next.
    batch_delay: Nanos,
    /// Spans that have not been exported yet.
    pending: Vec<Span>,
    next_export: Nanos,
}

/// One export request of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Who sends it.
    pub service: &'static str,
    /// An encoded `ExportTraceServiceRequest`.
    pub request: Vec<u8>,
}

/// Generates the traffic. It reads no clock: who calls it says how late it is.
#[derive(Debug)]
pub struct Traffic {
    random: Random,
    services: [Service; 3],
    next_request: Nanos,
    slow_from: Nanos,
    slow_share: u64,
}

impl Traffic {
    /// Traffic from `start` on, Unix nanoseconds. Of the requests that begin at `slow_from` or later and take part
    /// in it, one in `slow_share` meets a slow [`CULPRIT`].
    pub fn new(seed: u64, start: Nanos, slow_from: Nanos, slow_share: u64) -> Self {
        let service = |name, milliseconds: Nanos| Service {
            name,
            batch_delay: milliseconds * MILLISECOND,
            pending: Vec::new(),
            next_export: start + milliseconds * MILLISECOND,
        };
        Self {
            random: Random(seed),
            services: [service("web-server", 300), service(CULPRIT, 200), service("inference-server", 250)],
            next_request: start,
            slow_from,
            slow_share: slow_share.max(1),
        }
    }

    /// What the services have exported until `now`, since the last call. A request shows up when it has ended.
    pub fn until(&mut self, now: Nanos) -> Vec<Export> {
        while self.next_request <= now {
            let start = self.next_request;
            self.next_request += self.random.around(REQUEST_INTERVAL, 30);
            self.answer(start);
        }
        self.services.iter_mut().filter_map(|service| service.export(now)).collect()
    }

    /// Adds the spans of one request that a user makes at `start`.
    fn answer(&mut self, start: Nanos) {
        let route = self.route();
        let is_slow = start >= self.slow_from && self.random.below(self.slow_share) == 0;
        let trace_id = [self.random.next(), self.random.next()].map(u64::to_be_bytes).concat();

        // On the way in: when each part receives its request, and when it calls the next part.
        let mut now = start;
        let mut calls = Vec::with_capacity(route.parts.len());
        for part in route.parts {
            let received = now;
            now += self.random.around(part.before, 6);
            if is_slow && part.service == PRE_PROCESSOR {
                now += self.random.around(ADDED, 3);
            }
            let called = now;
            now += self.network();
            let [server_id, client_id] = [self.random.span_id(), self.random.span_id()];
            calls.push(Call {
                part,
                server_id,
                client_id,
                received,
                called,
                returned: called,
                ended: called,
            });
        }
        // On the way out: the innermost part answers first.
        let mut callee_ended = None;
        for call in calls.iter_mut().rev() {
            if let Some(ended) = callee_ended {
                call.returned = ended + self.network();
            }
            call.ended = call.returned + self.random.around(call.part.after, 6);
            callee_ended = Some(call.ended);
        }
        let callees = route.parts.iter().skip(1).map(Some).chain([None]);
        let mut caller_id = Vec::new();
        for (call, callee) in calls.into_iter().zip(callees) {
            let Some(service) = self.services.get_mut(call.part.service) else { continue };
            service.pending.push(call.server_span(&trace_id, caller_id, route.method));
            if let Some(callee) = callee {
                service.pending.push(call.client_span(&trace_id, callee, route.method));
            }
            caller_id = call.client_id;
        }
    }

    fn route(&mut self) -> &'static Route {
        let mut chosen = self.random.below(ROUTES.iter().map(|route| route.weight).sum());
        for route in &ROUTES {
            match chosen.checked_sub(route.weight) {
                Some(rest) => chosen = rest,
                None => return route,
            }
        }
        let [first, ..] = &ROUTES;
        first
    }

    fn network(&mut self) -> Nanos {
        NETWORK + self.random.below(NETWORK)
    }
}

impl Service {
    /// What has ended by `now`, in the order in which it ended, when this service's batch is due.
    fn export(&mut self, now: Nanos) -> Option<Export> {
        if now < self.next_export {
            return None;
        }
        while self.next_export <= now {
            self.next_export += self.batch_delay;
        }
        let mut spans: Vec<Span> =
            self.pending.extract_if(.., |span| span.end_time_unix_nano <= now).collect();
        if spans.is_empty() {
            return None;
        }
        spans.sort_by_key(|span| span.end_time_unix_nano);
        let resource = Resource {
            attributes: vec![
                text("service.name", self.name),
                text("service.instance.id", &format!("{}-1", self.name)),
                text("telemetry.sdk.language", "rust"),
            ],
            ..Resource::default()
        };
        let scope =
            InstrumentationScope { name: "laggard-demo".to_owned(), ..InstrumentationScope::default() };
        let scope_spans = ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() };
        let resource_spans =
            ResourceSpans { resource: Some(resource), scope_spans: vec![scope_spans], ..Default::default() };
        let request = ExportTraceServiceRequest { resource_spans: vec![resource_spans] };
        Some(Export { service: self.name, request: request.encode_to_vec() })
    }
}

/// splitmix64: all that a demonstration needs of chance.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 up to, but not, `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// `middle` give or take at most `percent` of it.
    fn around(&mut self, middle: Nanos, percent: u64) -> Nanos {
        let reach = middle * percent / 100;
        middle - reach + self.below(2 * reach + 1)
    }

    fn span_id(&mut self) -> Vec<u8> {
        self.next().to_be_bytes().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::assemble::Trace;
    use crate::otlp::TraceId;
    use crate::otlp::span::Kind;

    const START: Nanos = 1_700_000_000_000_000_000;
    const SECOND: Nanos = 1_000_000_000;

    /// Ten seconds of traffic in steps of a tenth, slow in the second half.
    fn exports() -> Vec<Export> {
        let mut traffic = Traffic::new(1, START, START + 5 * SECOND, 1);
        (0..=100).flat_map(|step| traffic.until(START + step * SECOND / 10)).collect()
    }

    fn traces() -> BTreeMap<TraceId, Vec<Span>> {
        let mut traces: BTreeMap<TraceId, Vec<Span>> = BTreeMap::new();
        for export in exports() {
            let request = ExportTraceServiceRequest::decode(export.request.as_slice()).expect("protobuf");
            for span in request.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans) {
                let id = TraceId::from_slice(&span.trace_id).expect("valid");
                traces.entry(id).or_default().push(span);
            }
        }
        traces
    }

    #[test]
    fn the_same_seed_gives_the_same_traffic() {
        assert_eq!(exports(), exports());
    }

    #[test]
    fn each_request_holds_one_services_spans_in_the_order_in_which_they_ended() {
        for export in exports() {
            let request = ExportTraceServiceRequest::decode(export.request.as_slice()).expect("protobuf");
            assert_eq!(request.resource_spans.len(), 1);
            let ends: Vec<u64> = request.resource_spans[0].scope_spans[0]
                .spans
                .iter()
                .map(|span| span.end_time_unix_nano)
                .collect();
            assert!(ends.is_sorted());
        }
    }

    #[test]
    fn a_trace_comes_in_several_requests() {
        let mut requests: BTreeMap<TraceId, usize> = BTreeMap::new();
        for export in exports() {
            for trace in Trace::all_in(&export.request).expect("protobuf") {
                *requests.entry(trace.id()).or_default() += 1;
            }
        }
        assert!(requests.len() > 100, "{} traces", requests.len());
        assert!(requests.values().filter(|count| **count > 1).count() > 100);
    }

    #[test]
    fn a_child_fits_inside_its_parent() {
        for spans in traces().values() {
            for child in spans {
                let parent = spans.iter().find(|parent| parent.span_id == child.parent_span_id);
                let Some(parent) = parent else { continue };
                assert!(parent.start_time_unix_nano <= child.start_time_unix_nano, "{parent:?} {child:?}");
                assert!(parent.end_time_unix_nano >= child.end_time_unix_nano, "{parent:?} {child:?}");
            }
        }
    }

    #[test]
    fn only_the_culprits_own_time_grows_and_only_from_its_moment_on() {
        let mut slow = 0;
        for spans in traces().values() {
            let server = |operation: &str| spans.iter().find(|span| span.name == operation);
            let (Some(entry), Some(culprit)) = (server("inference-span"), server("preprocess-request"))
            else {
                continue;
            };
            let milliseconds =
                |span: &Span| (span.end_time_unix_nano - span.start_time_unix_nano) / MILLISECOND;
            let below = spans.iter().find(|s| s.parent_span_id == culprit.span_id).map_or(0, milliseconds);
            let own = milliseconds(culprit) - below;
            let client = spans.iter().find(|s| s.parent_span_id == entry.span_id).expect("it calls");
            assert!(milliseconds(entry) - milliseconds(client) < 12);
            assert_eq!(client.kind, Kind::Client as i32);
            if entry.start_time_unix_nano < START + 5 * SECOND {
                assert!((40..60).contains(&own), "{own} ms");
            } else {
                assert!((740..820).contains(&own), "{own} ms");
                slow += 1;
            }
        }
        assert!(slow > 20, "{slow}");
    }
}
