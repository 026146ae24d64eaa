//! Arbitrary OTLP requests, as prost knows them.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prop::collection::vec;
use proptest::prelude::*;

/// Requests of up to `groups` resources, scopes in each and spans in each of those; every field is used.
pub(crate) fn requests(groups: usize) -> impl Strategy<Value = ExportTraceServiceRequest> {
    vec(resource_spans(groups), 0..=groups)
        .prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

fn resource_spans(groups: usize) -> impl Strategy<Value = ResourceSpans> {
    let entity = (text(), text(), vec(text(), 0..3), vec(text(), 0..2)).prop_map(
        |(schema_url, r#type, id_keys, description_keys)| EntityRef {
            schema_url,
            r#type,
            id_keys,
            description_keys,
        },
    );
    let resource = (attributes(), any::<u32>(), vec(entity, 0..2)).prop_map(
        |(attributes, dropped_attributes_count, entity_refs)| Resource {
            attributes,
            dropped_attributes_count,
            entity_refs,
        },
    );
    (prop::option::of(resource), vec(scope_spans(groups), 0..=groups), text())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url })
}

fn scope_spans(groups: usize) -> impl Strategy<Value = ScopeSpans> {
    let scope = (text(), text(), attributes(), any::<u32>()).prop_map(
        |(name, version, attributes, dropped_attributes_count)| InstrumentationScope {
            name,
            version,
            attributes,
            dropped_attributes_count,
        },
    );
    (prop::option::of(scope), vec(spans(), 0..=groups), text())
        .prop_map(|(scope, spans, schema_url)| ScopeSpans { scope, spans, schema_url })
}

/// Spans of few traces, so that traces reach over scopes and resources; some ids are not valid.
pub(crate) fn spans() -> impl Strategy<Value = Span> {
    let identity = (id(16), id(8), prop_oneof![2 => Just(Vec::new()), 3 => id(8)], text(), any::<u32>());
    let times = (any::<u64>(), any::<u64>());
    let names = (text(), prop_oneof![4 => 0..6, 1 => any::<i32>()]);
    let lists = (attributes(), vec(events(), 0..3), vec(links(), 0..2), any::<[u32; 3]>());
    (identity, times, names, lists, prop::option::of(status())).prop_map(
        |(
            (trace_id, span_id, parent_span_id, trace_state, flags),
            (start_time_unix_nano, end_time_unix_nano),
            (name, kind),
            (attributes, events, links, dropped),
            status,
        )| {
            let [dropped_attributes_count, dropped_events_count, dropped_links_count] = dropped;
            Span {
                trace_id,
                span_id,
                trace_state,
                parent_span_id,
                flags,
                name,
                kind,
                start_time_unix_nano,
                end_time_unix_nano,
                attributes,
                dropped_attributes_count,
                events,
                dropped_events_count,
                links,
                dropped_links_count,
                status,
            }
        },
    )
}

fn status() -> impl Strategy<Value = Status> {
    (text(), prop_oneof![4 => 0..4, 1 => any::<i32>()]).prop_map(|(message, code)| Status { message, code })
}

fn events() -> impl Strategy<Value = Event> {
    (any::<u64>(), text(), attributes(), any::<u32>()).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    )
}

fn links() -> impl Strategy<Value = Link> {
    (id(16), id(8), text(), attributes(), any::<u32>(), any::<u32>()).prop_map(
        |(trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count,
            flags,
        },
    )
}

fn id(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        20 => (1..4_u8).prop_map(move |byte| vec![byte; length]),
        5 => vec(any::<u8>(), length),
        1 => Just(vec![0; length]),
        1 => vec(any::<u8>(), 0..2 * length),
    ]
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec(key_values(values()), 0..4)
}

fn key_values(values: impl Strategy<Value = AnyValue>) -> impl Strategy<Value = KeyValue> {
    (text(), prop::option::of(values), prop_oneof![3 => Just(0), 1 => any::<i32>()])
        .prop_map(|(key, value, key_strindex)| KeyValue { key, value, key_strindex })
}

fn values() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        Just(None),
        text().prop_map(|text| Some(Value::StringValue(text))),
        // Long enough to be looked into for its depth.
        "[a-z]{250,300}".prop_map(|text| Some(Value::StringValue(text))),
        any::<bool>().prop_map(|truth| Some(Value::BoolValue(truth))),
        any::<i64>().prop_map(|number| Some(Value::IntValue(number))),
        // A NaN is not equal to itself, which equality of messages needs.
        any::<f64>()
            .prop_filter("NaN", |number| !number.is_nan())
            .prop_map(|number| { Some(Value::DoubleValue(number)) }),
        vec(any::<u8>(), 0..20).prop_map(|bytes| Some(Value::BytesValue(bytes))),
        any::<i32>().prop_map(|index| Some(Value::StringValueStrindex(index))),
    ];
    leaf.prop_map(|value| AnyValue { value }).prop_recursive(4, 12, 3, |inner| {
        let array = vec(inner.clone(), 0..3).prop_map(|values| Value::ArrayValue(ArrayValue { values }));
        let map = vec(key_values(inner), 0..3).prop_map(|values| Value::KvlistValue(KeyValueList { values }));
        prop_oneof![array, map].prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(String::new()), 6 => "[a-z./]{1,12}", 1 => "\\PC{1,6}"]
}
