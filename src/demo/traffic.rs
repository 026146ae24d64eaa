//! The running example: three services that answer requests, until an instance of one of them turns slow.
//!
//! What a request leaves behind is the simulator's answer, as for the systems on which verdicts are measured. Here is
//! how it gets out: each instance exports its own spans, in its own requests, when its own batch is due, as OpenTelemetry
//! SDKs do, so a child comes before its parent and the spans of one trace come in pieces. The same seed gives the same
//! traffic.

mod scenario;

use crate::otlp::{Nanos, TraceId};
use crate::simulate::encode::encode_instance;
use crate::simulate::random::{Random, mix};
use crate::simulate::run::{Moment, SimulatedSpan, run};
use crate::simulate::system::System;
use scenario::fault;
pub use scenario::{ADDED, CULPRIT, INSTANCES, system};

const MILLISECOND: Nanos = 1_000_000;

/// From one user request to the next, on average.
pub const REQUEST_INTERVAL: Nanos = 50 * MILLISECOND;

/// From one export of an SDK to the next.
const BATCH_DELAY: Nanos = 200 * MILLISECOND;

/// How much later than that it is for each next instance, so that they do not all export at once.
const APART: Nanos = 30 * MILLISECOND;

/// An instance of a service, which sends its own spans.
#[derive(Debug)]
struct Instance<'s> {
    service: usize,
    replica: usize,
    batch_delay: Nanos,
    /// Spans that have not been exported yet.
    pending: Vec<(TraceId, SimulatedSpan<'s>)>,
    next_export: Nanos,
}

/// One export request of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export<'s> {
    /// The service that sends it.
    pub service: &'s str,
    /// An encoded `ExportTraceServiceRequest`.
    pub request: Vec<u8>,
}

/// Generates the traffic. It reads no clock: who calls it says how late it is.
#[derive(Debug)]
pub struct Traffic<'s> {
    system: &'s System,
    random: Random,
    instances: Vec<Instance<'s>>,
    next_request: Nanos,
    slow_from: Nanos,
}

impl<'s> Traffic<'s> {
    /// Traffic of `system`, which is [`system`], from `start` on, Unix nanoseconds. An instance of [`CULPRIT`] is slow for
    /// requests that begin at `slow_from` or later.
    pub fn new(system: &'s System, seed: u64, start: Nanos, slow_from: Nanos) -> Self {
        let all = system.services.iter().enumerate();
        let all = all.flat_map(|(service, about)| (0..about.replicas).map(move |replica| (service, replica)));
        let instances = (0..).zip(all).map(|(number, (service, replica))| {
            let batch_delay = BATCH_DELAY + number * APART;
            Instance { service, replica, batch_delay, pending: Vec::new(), next_export: start + batch_delay }
        });
        Self {
            system,
            random: Random::new(seed),
            instances: instances.collect(),
            next_request: start,
            slow_from,
        }
    }

    /// What the services have exported until `now`, since the last call. A request shows up when it has ended.
    pub fn until(&mut self, now: Nanos) -> Vec<Export<'s>> {
        while self.next_request <= now {
            let start = self.next_request;
            // Give or take 30 %.
            self.next_request +=
                REQUEST_INTERVAL / 10 * 7 + self.random.number() % (REQUEST_INTERVAL / 10 * 6);
            self.answer(start);
        }
        let system = self.system;
        self.instances.iter_mut().filter_map(|instance| instance.export(system, now)).collect()
    }

    /// Hands out the spans of one request that a user makes at `start`.
    fn answer(&mut self, start: Nanos) {
        let route = self.system.draw_route(&mut self.random);
        let Some((operation, _)) = self.system.routes.get(route) else { return };
        let seed = self.random.number();
        let halves = [self.random.number(), self.random.number()].map(u64::to_be_bytes);
        let Some(id) = TraceId::from_slice(halves.as_flattened()) else { return };
        let moment = Moment { seed, start, progress: 0.0, operation: *operation, calm: None };
        let fault = Some(fault()).filter(|_| start >= self.slow_from);
        for mut span in run(self.system, fault.as_ref(), moment).spans {
            // Numbers from 1 are no ids that anybody would take for real.
            let of = |id| if id == 0 { 0 } else { mix(seed, id) | 1 };
            (span.id, span.parent) = (of(span.id), of(span.parent));
            let is_its = |one: &&mut Instance<'_>| (one.service, one.replica) == (span.service, span.replica);
            if let Some(instance) = self.instances.iter_mut().find(is_its) {
                instance.pending.push((id, span));
            }
        }
    }
}

impl<'s> Instance<'s> {
    /// What has ended by `now`, in the order in which it ended, when this instance's batch is due.
    fn export(&mut self, system: &'s System, now: Nanos) -> Option<Export<'s>> {
        if now < self.next_export {
            return None;
        }
        while self.next_export <= now {
            self.next_export += self.batch_delay;
        }
        let mut spans: Vec<_> = self.pending.extract_if(.., |(_, span)| span.end <= now).collect();
        if spans.is_empty() {
            return None;
        }
        spans.sort_by_key(|(_, span)| span.end);
        let spans: Vec<_> = spans.iter().map(|(id, span)| (*id, span)).collect();
        let mut request = Vec::new();
        encode_instance(system, &spans, &mut request);
        Some(Export { service: &system.services.get(self.service)?.name, request })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::Span;
    use prost::Message as _;

    use super::*;
    use crate::assemble::Trace;
    use crate::otlp::span::Kind;

    const START: Nanos = 1_700_000_000_000_000_000;
    const SECOND: Nanos = 1_000_000_000;

    /// Ten seconds of traffic in steps of a tenth, slow in the second half: who sent it, and what.
    fn exports() -> Vec<(String, Vec<u8>)> {
        let system = system();
        let mut traffic = Traffic::new(&system, 1, START, START + 5 * SECOND);
        let exports = (0..=100).flat_map(|step| traffic.until(START + step * SECOND / 10));
        exports.map(|export| (export.service.to_owned(), export.request)).collect()
    }

    fn decoded(request: &[u8]) -> ExportTraceServiceRequest {
        ExportTraceServiceRequest::decode(request).expect("protobuf")
    }

    fn traces() -> BTreeMap<TraceId, Vec<Span>> {
        let mut traces: BTreeMap<TraceId, Vec<Span>> = BTreeMap::new();
        for (_, request) in exports() {
            let request = decoded(&request);
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
    fn each_request_holds_one_instances_spans_in_the_order_in_which_they_ended() {
        let mut pods = std::collections::BTreeSet::new();
        for (service, request) in exports() {
            let request = decoded(&request);
            assert_eq!(request.resource_spans.len(), 1);
            let part = &request.resource_spans[0];
            let ends: Vec<u64> =
                part.scope_spans[0].spans.iter().map(|span| span.end_time_unix_nano).collect();
            assert!(ends.is_sorted());
            let pod = format!("{:?}", part.resource.as_ref().expect("there").attributes[1].value);
            assert!(pod.contains(&service), "{pod}");
            pods.insert(pod);
        }
        assert_eq!(pods.len(), 2 + INSTANCES);
    }

    #[test]
    fn a_trace_comes_in_several_requests() {
        let mut requests: BTreeMap<TraceId, usize> = BTreeMap::new();
        for (_, request) in exports() {
            for trace in Trace::all_in(&request).expect("protobuf") {
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
    fn only_the_culprits_own_time_grows_and_only_from_its_moment_on_in_one_instance() {
        let (mut slow, mut later) = (0, 0);
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
            assert_eq!((client.kind, client.name.as_str()), (Kind::Client as i32, "POST"));
            let is_later = entry.start_time_unix_nano >= START + 5 * SECOND;
            later += usize::from(is_later);
            if own > 100 {
                assert!(is_later && (755..795).contains(&own), "{own} ms");
                slow += 1;
            } else {
                assert!((35..65).contains(&own), "{own} ms");
            }
        }
        assert!((later / 5..later / 2).contains(&slow), "{slow} of {later}");
    }
}
