//! The oracle is the generated message of another implementation: what it reads must be what it read before
//! and our attributes.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span, Status,
    span::{Event, Link},
};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::compare::{Category, Culprit, Grounds, Reason};
use crate::otlp::TraceId;

const TRACE: [u8; 16] = [7; 16];
const ENTRY: [u8; 8] = [1; 8];
const OTHER: [u8; 8] = [2; 8];

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn span(id: [u8; 8]) -> Span {
    Span { trace_id: TRACE.to_vec(), span_id: id.to_vec(), name: "run".to_owned(), ..Span::default() }
}

fn request(services: Vec<(&str, Vec<Span>)>) -> ExportTraceServiceRequest {
    let resource_spans = services
        .into_iter()
        .map(|(service, spans)| ResourceSpans {
            resource: Some(Resource {
                attributes: vec![text("service.name", service)],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        })
        .collect();
    ExportTraceServiceRequest { resource_spans }
}

fn trace_of(request: &ExportTraceServiceRequest) -> Trace {
    Trace::all_in(&request.encode_to_vec()).expect("valid").remove(0)
}

fn encoded(trace: &Trace) -> Vec<u8> {
    let mut out = Vec::new();
    trace.encode(&mut out);
    out
}

/// Every span by service, as the other implementation reads it.
fn spans(trace: &Trace) -> Vec<(String, Span)> {
    let request = ExportTraceServiceRequest::decode(encoded(trace).as_slice()).expect("valid");
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        let service = match of_resource.resource.expect("one").attributes.remove(0).value.expect("one").value
        {
            Some(Value::StringValue(service)) => service,
            other => panic!("{other:?}"),
        };
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push((service.clone(), span));
        }
    }
    spans
}

fn reference() -> Reference {
    Reference {
        trace_id: TraceId::from_slice(&[9; 16]).expect("not zero"),
        span_id: SpanId::from_slice(&[8; 8]).expect("not zero"),
        duration: 401_500_000,
        count: 32,
    }
}

fn identified() -> Verdict {
    Verdict {
        outcome: Outcome::Identified(Culprit {
            service: "pre-processor".to_owned(),
            category: Category::OwnTime,
            confidence: 0.9,
            grounds: Box::new(Grounds::default()),
            delta_ms: 775.229,
            share: 0.97,
            operation: "preprocess-request".to_owned(),
            instance: Some("pod-3".to_owned()),
            dependency: None,
            phase: None,
            span_id: SpanId::from_slice(&OTHER).expect("not zero"),
        }),
        duration: 1_207_384_000,
        threshold: 480_000_000,
        baseline: Some(reference()),
        candidates: Vec::new(),
        explanation: "pre-processor added 775.229 ms".to_owned(),
    }
}

fn inconclusive() -> Verdict {
    Verdict { outcome: Outcome::Inconclusive(Reason::Tie), ..identified() }
}

fn two_spans() -> ExportTraceServiceRequest {
    request(vec![("web-server", vec![span(ENTRY)]), ("pre-processor", vec![span(OTHER)])])
}

fn link() -> Link {
    Link {
        trace_id: vec![9; 16],
        span_id: vec![8; 8],
        attributes: vec![attribute(REFERENCE, Value::BoolValue(true))],
        ..Link::default()
    }
}

fn write_all(trace: &mut Trace, verdict: &Verdict) {
    write(trace, 0, verdict, &Enrich::default()).expect("fits");
}

#[test]
fn an_identified_verdict_is_written_with_the_documented_names_and_types() {
    let mut trace = trace_of(&two_spans());
    write_all(&mut trace, &identified());
    let spans = spans(&trace);
    let expected = vec![
        text("root_cause.service", "pre-processor"),
        text("root_cause.verdict", "identified"),
        text("root_cause.category", "own_time"),
        attribute("root_cause.confidence", Value::DoubleValue(0.9)),
        attribute("root_cause.delta_ms", Value::DoubleValue(775.229)),
        attribute("root_cause.share", Value::DoubleValue(0.97)),
        text("root_cause.operation", "preprocess-request"),
        text("root_cause.instance", "pod-3"),
        text("root_cause.span_id", "0202020202020202"),
        attribute("root_cause.threshold_ms", Value::DoubleValue(480.0)),
        text("root_cause.baseline.trace_id", "09090909090909090909090909090909"),
        attribute("root_cause.baseline.duration_ms", Value::DoubleValue(401.5)),
        attribute("root_cause.baseline.count", Value::IntValue(32)),
        text("root_cause.explanation", "pre-processor added 775.229 ms"),
    ];
    assert_eq!(spans[0].1, Span { attributes: expected, links: vec![link()], ..span(ENTRY) });
    let mark = attribute("root_cause.culprit", Value::BoolValue(true));
    assert_eq!(spans[1].1, Span { attributes: vec![mark], ..span(OTHER) });
}

#[test]
fn an_inconclusive_verdict_has_a_reason_and_no_service() {
    let mut trace = trace_of(&two_spans());
    let verdict = Verdict { baseline: None, threshold: 0, ..inconclusive() };
    write_all(&mut trace, &verdict);
    let spans = spans(&trace);
    let expected = vec![
        text("root_cause.verdict", "inconclusive"),
        text("root_cause.reason", "tie"),
        text("root_cause.explanation", "pre-processor added 775.229 ms"),
    ];
    assert_eq!(spans[0].1, Span { attributes: expected, ..span(ENTRY) });
    assert_eq!(spans[1].1, span(OTHER));
}

#[test]
fn only_the_configured_attributes_are_written() {
    let mut trace = trace_of(&two_spans());
    let config = Enrich { attributes: vec![Word::Service, Word::Baseline] };
    write(&mut trace, 0, &identified(), &config).expect("fits");
    let keys: Vec<_> = spans(&trace)[0].1.attributes.iter().map(|a| a.key.clone()).collect();
    assert_eq!(
        keys,
        [
            "root_cause.service",
            "root_cause.baseline.trace_id",
            "root_cause.baseline.duration_ms",
            "root_cause.baseline.count"
        ]
    );
}

#[test]
fn a_culprit_that_is_the_entry_span_carries_both() {
    let mut trace = trace_of(&two_spans());
    let mut verdict = identified();
    if let Outcome::Identified(culprit) = &mut verdict.outcome {
        culprit.span_id = SpanId::from_slice(&ENTRY).expect("not zero");
        culprit.service = "web-server".to_owned();
    }
    write_all(&mut trace, &verdict);
    let spans = spans(&trace);
    let marks = |span: &Span| span.attributes.iter().filter(|a| a.key == CULPRIT).count();
    assert_eq!((marks(&spans[0].1), marks(&spans[1].1)), (1, 0));
    assert!(spans[0].1.attributes.contains(&text("root_cause.service", "web-server")));
}

#[test]
fn of_two_ends_with_one_span_id_the_culprits_own_is_marked() {
    let mut trace = trace_of(&request(vec![
        ("web-server", vec![span(ENTRY), span(OTHER)]),
        ("pre-processor", vec![span(OTHER)]),
    ]));
    write_all(&mut trace, &identified());
    let marked: Vec<_> = spans(&trace)
        .into_iter()
        .filter(|(_, span)| span.attributes.iter().any(|a| a.key == CULPRIT))
        .map(|(service, _)| service)
        .collect();
    assert_eq!(marked, ["pre-processor"]);
}

#[test]
fn the_waiting_client_span_is_marked_where_the_culprit_sent_none() {
    let mut trace = trace_of(&request(vec![("web-server", vec![span(ENTRY), span(OTHER)])]));
    write_all(&mut trace, &identified());
    let marks = |(_, span): &(String, Span)| span.attributes.iter().filter(|a| a.key == CULPRIT).count();
    assert_eq!(spans(&trace).iter().map(marks).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn what_an_earlier_hop_wrote_is_replaced() {
    let own_link = Link { trace_id: vec![3; 16], span_id: vec![3; 8], ..Link::default() };
    let entry = Span {
        attributes: vec![
            text("root_cause.service", "stale"),
            text("http.route", "/"),
            text("root_cause.from_a_newer_version", "stale"),
            attribute(CULPRIT, Value::BoolValue(true)),
        ],
        links: vec![own_link.clone(), Link { trace_id: vec![4; 16], ..link() }],
        ..span(ENTRY)
    };
    let other = Span { attributes: vec![attribute(CULPRIT, Value::BoolValue(true))], ..span(OTHER) };
    let mut trace = trace_of(&request(vec![("web-server", vec![entry, other])]));
    write_all(&mut trace, &inconclusive());
    let spans = spans(&trace);
    let keys: Vec<_> = spans[0].1.attributes.iter().map(|a| a.key.as_str()).collect();
    assert_eq!(keys[..3], ["http.route", "root_cause.verdict", "root_cause.reason"]);
    assert_eq!(spans[0].1.links, [own_link, link()]);
    assert_eq!(spans[1].1, span(OTHER));
}

#[test]
fn strings_are_cut_at_256_bytes_between_characters() {
    let mut trace = trace_of(&two_spans());
    let explanation = format!("{}\u{e9}more", "x".repeat(255));
    write_all(&mut trace, &Verdict { explanation, ..inconclusive() });
    let written = text("root_cause.explanation", &"x".repeat(255));
    assert!(spans(&trace)[0].1.attributes.contains(&written));
}

#[test]
fn a_reference_copy_is_marked_once() {
    let mut trace = trace_of(&two_spans());
    mark_reference(&mut trace, 0).expect("fits");
    let once = encoded(&trace);
    mark_reference(&mut trace, 0).expect("fits");
    assert_eq!(encoded(&trace), once);
    let mark = attribute("root_cause.reference", Value::BoolValue(true));
    assert_eq!(spans(&trace)[0].1, Span { attributes: vec![mark], ..span(ENTRY) });
}

fn any_attribute() -> impl Strategy<Value = KeyValue> {
    let value = prop_oneof![
        ".{0,20}".prop_map(Value::StringValue),
        any::<bool>().prop_map(Value::BoolValue),
        any::<i64>().prop_map(Value::IntValue),
        (-1e9..1e9).prop_map(Value::DoubleValue),
    ];
    ("[a-z.]{0,12}", value).prop_map(|(key, value)| attribute(&key, value))
}

prop_compose! {
    fn any_span()(
        id in 1_u8..5,
        name in ".{0,12}",
        trace_state in "[a-z=,]{0,12}",
        flags in any::<u32>(),
        times in any::<(u64, u64)>(),
        kind in -1..99,
        attributes in prop::collection::vec(any_attribute(), 0..4),
        of_event in prop::collection::vec(any_attribute(), 0..2),
        of_link in prop::collection::vec(any_attribute(), 0..2),
        dropped in any::<u32>(),
        status in 0..3,
    ) -> Span {
        Span {
            trace_state,
            flags,
            name,
            kind,
            start_time_unix_nano: times.0,
            end_time_unix_nano: times.1,
            attributes,
            dropped_attributes_count: dropped,
            events: vec![Event { attributes: of_event, ..Event::default() }],
            links: vec![Link { attributes: of_link, ..Link::default() }],
            status: Some(Status { code: status, ..Status::default() }),
            ..span([id; 8])
        }
    }
}

proptest! {
    /// (25) of the invariants of a verdict; the others are in `compare`.
    #[test]
    fn a_body_stays_as_it_was_with_ours_behind_it_and_a_second_write_changes_nothing(
        all in prop::collection::vec(any_span(), 1..6),
        entry in any::<prop::sample::Index>(),
        unknown in prop::collection::vec(any::<u8>(), 0..16),
        named in any::<bool>(),
    ) {
        let entry = entry.index(all.len());
        let mut trace = trace_of(&request(vec![("web-server", all)]));
        for index in 0..trace.len() {
            let mut body = trace.span(index).expect("there").body.to_vec();
            wire::put_bytes(&mut body, 1000, &unknown);
            trace.replace_body(index, &body).expect("fits");
        }
        let before: Vec<Vec<u8>> =
            (0..trace.len()).map(|index| trace.span(index).expect("there").body.to_vec()).collect();
        let verdict = if named { identified() } else { inconclusive() };
        write(&mut trace, entry, &verdict, &Enrich::default()).expect("fits");
        for (index, before) in before.iter().enumerate() {
            let after = trace.span(index).expect("there").body;
            prop_assert!(after.starts_with(before));
            let read = Span::decode(after).expect("valid");
            let mut expected = Span::decode(before.as_slice()).expect("valid");
            let added = read.attributes.get(expected.attributes.len()..).expect("only grows");
            prop_assert!(added.iter().all(|a| a.key.starts_with("root_cause.")));
            prop_assert_eq!(index == entry, added.iter().any(|a| a.key == "root_cause.verdict"));
            expected.attributes.extend_from_slice(added);
            if index == entry {
                expected.links.push(link());
            }
            prop_assert_eq!(read, expected);
        }
        let once = encoded(&trace);
        write(&mut trace, entry, &verdict, &Enrich::default()).expect("fits");
        prop_assert_eq!(encoded(&trace), once);
    }
}
