//! Our reader and writer of OTLP bytes against prost as the oracle.
//!
//! prost decodes every string, attribute, event and link; we walk what we need and carry the rest. So the
//! properties are: what prost accepts we accept, and read alike; what we accept beyond that is malformed
//! only inside what we carry (`oracle::Skeleton`), or text that is not UTF-8.

#[path = "wire_properties/messages.rs"]
mod messages;
#[path = "wire_properties/oracle.rs"]
mod oracle;
#[path = "wire_properties/rewrite.rs"]
mod rewrite;

use laggard::assemble::Trace;
use laggard::otlp::attribute;
use laggard::otlp::batch::Batch;
use laggard::otlp::sound;
use laggard::otlp::span::{self, SpanFault, SpanView};
use laggard::otlp::wire;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use oracle::{by_trace, check_attributes, check_bytes, check_heads, check_round_trip, expected_head};
use prop::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use prost::Message as _;
use rewrite::{InvalidText, Message, Truncated, Unknown, rewrite};

fn cases(cases: u32) -> ProptestConfig {
    // A failing case is written beside this file, to be committed with its fix.
    let persistence = FileFailurePersistence::WithSource("regressions");
    ProptestConfig { cases, failure_persistence: Some(Box::new(persistence)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(256))]

    // PB-12.
    #[test]
    fn heads_are_those_that_prost_reads(request in messages::requests(3)) {
        let encoded = request.encode_to_vec();
        let mut batch = Batch::default();
        batch.read(&encoded).expect("what prost writes");
        check_heads(&batch, &request)?;
    }

    #[test]
    fn names_attributes_and_events_are_those_that_prost_reads(oracle in messages::spans()) {
        let body = oracle.encode_to_vec();
        if let Some(span) = SpanView::read(&body) {
            prop_assert_eq!(span.name(), oracle.name.as_bytes());
            prop_assert_eq!(span.trace_state(), oracle.trace_state.as_bytes());
            check_attributes(span.attributes(), &oracle.attributes)?;
            let events: Vec<_> = span.events().collect();
            prop_assert_eq!(events.len(), oracle.events.len());
            for (event, oracle) in events.iter().zip(&oracle.events) {
                prop_assert_eq!((event.time, event.name), (oracle.time_unix_nano, oracle.name.as_bytes()));
                check_attributes(attribute::attributes(event.body, 3), &oracle.attributes)?;
            }
        } else {
            prop_assert!(expected_head(&oracle).is_err());
        }
    }

    // R9, PB-11, B13, FAULT-C10.
    #[test]
    fn traces_keep_every_span_byte_for_byte_under_its_resource_and_scope(
        request in messages::requests(4),
        unknown in vec(rewrite::unknown_fields(), 0..24),
    ) {
        let mut edit = Unknown { fields: unknown, next: 0 };
        let encoded = rewrite(&request.encode_to_vec(), Message::Request, &mut edit);
        prop_assert_eq!(ExportTraceServiceRequest::decode(&encoded[..]), Ok(request.clone()));
        check_round_trip(&encoded)?;

        let mut batch = Batch::default();
        batch.read(&encoded).expect("valid with unknown fields too");
        check_heads(&batch, &request)?;
        let expected = by_trace(&request);
        for trace in Trace::all_in(&encoded).expect("valid") {
            let spans = &expected[&trace.id()];
            prop_assert_eq!(trace.len(), spans.len());
            for (index, oracle) in spans.iter().enumerate() {
                let span = trace.span(index).expect("as many as expected");
                check_attributes(span.attributes(), &oracle.attributes)?;
            }
        }
    }

    #[test]
    fn resources_are_read_from_the_trace_as_prost_reads_them(request in messages::requests(3)) {
        for trace in Trace::all_in(&request.encode_to_vec()).expect("valid") {
            let mut resources = Vec::new();
            for resource_spans in &request.resource_spans {
                let attributes = resource_spans.resource.as_ref().map_or(&[][..], |r| &r.attributes[..]);
                for span in resource_spans.scope_spans.iter().flat_map(|scope| &scope.spans) {
                    if expected_head(span).is_ok_and(|head| head.trace_id == trace.id()) {
                        resources.push(attributes);
                    }
                }
            }
            for (index, attributes) in resources.iter().enumerate() {
                let resource = trace.resource_of(index).expect("every span has one");
                check_attributes(trace.resource_attributes(resource), attributes)?;
            }
        }
    }

    #[test]
    fn text_that_is_not_utf8_changes_nothing_else_and_leaves_as_it_came(
        request in messages::requests(3),
        turns in vec(any::<bool>(), 1..9),
    ) {
        let mut edit = InvalidText { turns, next: 0, hits: 0 };
        let encoded = rewrite(&request.encode_to_vec(), Message::Request, &mut edit);
        let oracle = ExportTraceServiceRequest::decode(&encoded[..]);
        prop_assert_eq!(oracle.is_err(), edit.hits > 0, "prost is the stricter one here");
        let mut batch = Batch::default();
        batch.read(&encoded).expect("text is carried, not judged");
        check_heads(&batch, &request)?;
        check_round_trip(&encoded)?;
    }

    #[test]
    fn a_message_cut_short_anywhere_inside_is_judged_as_prost_does_or_carried(
        request in messages::requests(3),
        message in 0..60_usize,
        share in any::<u8>(),
    ) {
        let mut edit = Truncated { message, share, next: 0 };
        check_bytes(&rewrite(&request.encode_to_vec(), Message::Request, &mut edit))?;
    }

    #[test]
    fn fields_are_the_whole_message_and_nothing_else(
        fields in vec(rewrite::unknown_fields(), 0..20),
    ) {
        let message = fields.concat();
        let raw: Result<Vec<_>, _> = wire::fields(&message).map(|field| field.map(|f| f.raw)).collect();
        let oracle: Vec<_> = rewrite::fields(&message).expect("valid").iter().map(|field| field.raw).collect();
        prop_assert_eq!(raw, Ok(oracle));
    }

    #[test]
    fn writers_write_what_prost_writes(
        number in 1..1_u32 << 29,
        value in any::<u64>(),
        float in any::<f64>(),
        payload in vec(any::<u8>(), 0..300),
    ) {
        let (mut ours, mut oracle) = (Vec::new(), Vec::new());
        wire::put_uint(&mut ours, number, value);
        prost::encoding::uint64::encode(number, &value, &mut oracle);
        wire::put_fixed64(&mut ours, number, value);
        prost::encoding::fixed64::encode(number, &value, &mut oracle);
        wire::put_double(&mut ours, number, float);
        prost::encoding::double::encode(number, &float, &mut oracle);
        let before = ours.len();
        wire::put_bytes(&mut ours, number, &payload);
        prost::encoding::bytes::encode(number, &payload, &mut oracle);
        prop_assert_eq!(wire::length_delimited_size(number, payload.len()), ours.len() - before);
        prop_assert_eq!(ours, oracle);
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn a_request_cut_at_any_byte_is_accepted_exactly_where_prost_accepts_it(
        request in messages::requests(2),
    ) {
        let encoded = request.encode_to_vec();
        let mut batch = Batch::default();
        for length in 0..encoded.len() {
            let cut = &encoded[..length];
            let oracle = ExportTraceServiceRequest::decode(cut);
            prop_assert_eq!(batch.read(cut).is_ok(), oracle.is_ok(), "{} bytes", length);
            prop_assert_eq!(Trace::all_in(cut).is_ok(), oracle.is_ok(), "{} bytes", length);
        }
    }

    #[test]
    fn a_span_cut_at_any_byte_is_accepted_exactly_where_prost_accepts_it(
        oracle in messages::spans(),
    ) {
        let body = oracle.encode_to_vec();
        for length in 0..body.len() {
            let cut = &body[..length];
            let read = span::read_head(cut);
            match Span::decode(cut) {
                Ok(oracle) => prop_assert_eq!(read, Ok(expected_head(&oracle)), "{} bytes", length),
                Err(_) => prop_assert!(read.is_err(), "{} bytes", length),
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(2_000))]

    // PB-12.
    #[test]
    fn random_bytes_are_judged_as_prost_does_or_carried(bytes in vec(any::<u8>(), 0..120)) {
        check_bytes(&bytes)?;
        check_bytes(&enclosed(&bytes))?;
    }

    #[test]
    fn random_fields_are_judged_as_prost_does_or_carried(bytes in random_fields()) {
        check_bytes(&bytes)?;
        check_bytes(&enclosed(&bytes))?;
    }

    #[test]
    fn a_span_that_is_sound_is_one_that_prost_decodes(
        oracle in messages::spans(),
        flips in vec((any::<prop::sample::Index>(), 0..8_u32), 0..4),
    ) {
        let mut body = oracle.encode_to_vec();
        prop_assert!(sound::span(&body), "what prost encodes is sound");
        for (at, bit) in flips {
            let at = at.index(body.len());
            body[at] ^= 1 << bit;
        }
        prop_assert!(!sound::span(&body) || Span::decode(&body[..]).is_ok(), "{body:02x?}");
    }

    #[test]
    fn a_flipped_byte_is_judged_as_prost_does_or_carried(
        span in messages::spans(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut request = enclosed(&span.encode_to_vec());
        let at = at.index(request.len());
        request[at] = byte;
        check_bytes(&request)?;
    }
}

/// `Span` fields of every number and wire type in use, well-formed one by one, at random otherwise.
fn random_fields() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        vec(any::<u8>(), 0..10),
        (1..3_u8).prop_map(|byte| vec![byte; 16]),
        (1..3_u8).prop_map(|byte| vec![byte; 8]),
        vec((1..4_u8, 0..4_u8).prop_map(|(number, value)| [number << 3, value]), 0..3)
            .prop_map(|fields| fields.concat()),
    ];
    // Only the low half of an enumeration counts.
    let value = prop_oneof![any::<u64>(), (0..7_u64).prop_map(|low| 1 << 40 | low)];
    let field = (1..18_u32, 0..6_u8, value, payload).prop_map(|(number, wire_type, value, payload)| {
        let mut out = Vec::new();
        match wire_type {
            0 => wire::put_uint(&mut out, number, value),
            1 => wire::put_uint(&mut out, number, value & 7),
            2 => wire::put_fixed64(&mut out, number, value),
            _ => wire::put_bytes(&mut out, number, &payload),
        }
        out
    });
    vec(field, 0..12).prop_map(|fields| fields.concat())
}

// PB-5.
#[test]
fn a_hundred_thousand_levels_cost_the_span_and_no_more() {
    const DEPTH: usize = 100_000;
    for map in [false, true] {
        let deep = nested_attribute(DEPTH, map);
        for (number, inside) in [(9, 0), (11, 3), (13, 4)] {
            let mut body = valid_ids();
            let mut content = deep.clone();
            if inside > 0 {
                content = Vec::new();
                rewrite::put(&mut content, inside, &deep);
            }
            rewrite::put(&mut body, number, &content);
            assert_eq!(span::read_head(&body), Ok(Err(SpanFault::TooDeep)), "field {number}, map {map}");
        }
    }
    let groups = [vec![0x8b, 0x01], vec![0x0b; DEPTH], vec![0x0c; DEPTH], vec![0x8c, 0x01]].concat();
    let body = [valid_ids(), groups].concat();
    assert!(span::read_head(&body).expect("an unknown field").is_ok());
    check_round_trip(&enclosed(&body)).expect("carried");
    let trace = Trace::all_in(&enclosed(&body)).expect("valid").remove(0);
    assert_eq!(trace.span(0).map(|span| span.body), Some(&body[..]));
}

#[test]
fn a_deep_resource_or_scope_costs_the_spans_below_it_and_no_others() {
    for map in [false, true] {
        for depth in [64, 65, 100_000] {
            let expected = if depth <= 64 { 0 } else { 2 };
            let deep = nested_attribute(depth, map);
            let (mut resource, mut scope) = (Vec::new(), Vec::new());
            rewrite::put(&mut resource, 1, &deep);
            rewrite::put(&mut scope, 3, &deep);
            let beside = enclosed(&valid_ids());
            for (of_resource, of_scope) in [(Some(&resource), None), (None, Some(&scope))] {
                let mut scope_spans = Vec::new();
                rewrite::put(&mut scope_spans, 2, &valid_ids());
                if let Some(scope) = of_scope {
                    rewrite::put(&mut scope_spans, 1, scope);
                }
                rewrite::put(&mut scope_spans, 2, &valid_ids());
                let mut resource_spans = Vec::new();
                rewrite::put(&mut resource_spans, 2, &scope_spans);
                if let Some(resource) = of_resource {
                    rewrite::put(&mut resource_spans, 1, resource);
                }
                let mut request = beside.clone();
                rewrite::put(&mut request, 1, &resource_spans);
                let mut batch = Batch::default();
                batch.read(&request).expect("protobuf");
                assert_eq!(batch.refused, expected, "depth {depth}, map {map}");
                assert_eq!(batch.fault, (expected > 0).then_some(SpanFault::TooDeep));
                assert_eq!(batch.spans.len(), 3 - usize::from(expected > 0) * 2);
            }
        }
    }
}

/// A request of this one span, without a resource.
fn enclosed(span: &[u8]) -> Vec<u8> {
    let (mut scope_spans, mut resource_spans, mut request) = (Vec::new(), Vec::new(), Vec::new());
    rewrite::put(&mut scope_spans, 2, span);
    rewrite::put(&mut resource_spans, 2, &scope_spans);
    rewrite::put(&mut request, 1, &resource_spans);
    request
}

fn valid_ids() -> Vec<u8> {
    let mut body = Vec::new();
    rewrite::put(&mut body, 1, &[1; 16]);
    rewrite::put(&mut body, 2, &[2; 8]);
    body
}

/// A `KeyValue` of so many arrays or maps inside one another. The bytes stand in reverse until the end, so
/// that each level only adds its head.
fn nested_attribute(depth: usize, map: bool) -> Vec<u8> {
    let mut reversed = Vec::new();
    let enclose = |reversed: &mut Vec<u8>, number: u32| {
        let mut head = Vec::new();
        wire::put_length(&mut head, number, reversed.len());
        reversed.extend(head.iter().rev());
    };
    for _ in 0..depth {
        if map {
            enclose(&mut reversed, 2);
        }
        enclose(&mut reversed, 1);
        enclose(&mut reversed, if map { 6 } else { 5 });
    }
    enclose(&mut reversed, 2);
    reversed.reverse();
    reversed
}
