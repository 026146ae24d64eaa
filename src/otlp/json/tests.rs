//! The table of what must be taken and what must not, row by row.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::TracesData;

use super::super::batch::Batch;
use super::*;

const IDS: &str = r#""traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708""#;

/// A request of one span with `fields` behind its ids.
fn request(fields: &str) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{IDS},{fields}}}]}}]}}]}}"#)
}

fn attribute(value: &str) -> String {
    request(&format!(r#""attributes":[{{"key":"k",{value}}}]"#))
}

fn decode(json: impl AsRef<[u8]>) -> (Vec<Span>, Decoded) {
    let decoded = to_protobuf(json.as_ref()).expect("a request");
    // TracesData and ExportTraceServiceRequest have the same encoding.
    let request = TracesData::decode(&*decoded.request).expect("protobuf");
    let scopes = request.resource_spans.into_iter().flat_map(|r| r.scope_spans);
    let spans: Vec<Span> = scopes.flat_map(|scope| scope.spans).collect();
    let mut batch = Batch::default();
    batch.read(&decoded.request).expect("protobuf");
    assert_eq!((batch.spans.len(), batch.refused), (spans.len(), 0), "nothing more to refuse");
    (spans, decoded)
}

fn span(json: impl AsRef<[u8]>) -> Span {
    let (mut spans, decoded) = decode(&json);
    let json = String::from_utf8_lossy(json.as_ref()).into_owned();
    assert_eq!((spans.len(), decoded.fault), (1, None), "{json}");
    spans.remove(0)
}

fn value(value: &str) -> Option<Value> {
    let mut span = span(attribute(value));
    span.attributes.remove(0).value.and_then(|value| value.value)
}

fn fault(json: &str) -> String {
    let (spans, decoded) = decode(json);
    assert_eq!((spans.len(), decoded.refused), (0, 1), "{json}");
    decoded.fault.expect("a fault")
}

fn nested(depth: usize, open: &str, close: &str) -> String {
    let value = format!("{}{}", open.repeat(depth), close.repeat(depth));
    attribute(&format!(r#""value":{{{value}}}"#))
}

fn arrays(depth: usize) -> String {
    nested(depth, r#""arrayValue":{"values":[{"#, "}]}")
}

fn maps(depth: usize) -> String {
    nested(depth, r#""kvlistValue":{"values":[{"key":"k","value":{"#, "}}]}")
}

// R8, B15.
#[test]
fn every_field_has_its_place() {
    let json = format!(
        r#"{{"resourceSpans":[{{
            "resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"cart"}}}}],
                "droppedAttributesCount":1,"entityRefs":[{{"schemaUrl":"u","type":"t","idKeys":["i"],"descriptionKeys":["d"]}}]}},
            "scopeSpans":[{{
                "scope":{{"name":"s","version":"1","attributes":[{{"key":"a"}}],"droppedAttributesCount":2}},
                "spans":[{{{IDS},"parentSpanId":"1112131415161718","traceState":"a=b","flags":257,"name":"n","kind":2,
                    "startTimeUnixNano":"1","endTimeUnixNano":"2","attributes":[{{"key":"a","value":{{"boolValue":true}}}}],
                    "droppedAttributesCount":3,"droppedEventsCount":4,"droppedLinksCount":5,
                    "events":[{{"timeUnixNano":"6","name":"e","attributes":[{{"key":"b"}}],"droppedAttributesCount":7}}],
                    "links":[{{{IDS},"traceState":"c=d","attributes":[{{"key":"c"}}],"droppedAttributesCount":8,"flags":9}}],
                    "status":{{"message":"m","code":2}}}}],
                "schemaUrl":"scope url"}}],
            "schemaUrl":"resource url"}}]}}"#
    );
    let decoded = to_protobuf(json.as_bytes()).expect("valid");
    let request = TracesData::decode(&*decoded.request).expect("protobuf");
    let seen = format!("{request:?}");
    let resource = &request.resource_spans[0];
    let scope = &resource.scope_spans[0];
    let span = &scope.spans[0];
    assert_eq!((&*resource.schema_url, &*scope.schema_url), ("resource url", "scope url"));
    let entity = &resource.resource.as_ref().expect("a resource").entity_refs[0];
    assert_eq!((&*entity.schema_url, &*entity.r#type), ("u", "t"));
    assert_eq!((&*entity.id_keys, &*entity.description_keys), (&["i".into()][..], &["d".into()][..]));
    assert_eq!((span.flags, span.kind, span.start_time_unix_nano, span.end_time_unix_nano), (257, 2, 1, 2));
    assert_eq!((&*span.trace_state, &*span.name, &*span.links[0].trace_state), ("a=b", "n", "c=d"));
    assert_eq!(
        (span.trace_id.len(), span.span_id.len(), &*span.parent_span_id),
        (16, 8, &b"\x11\x12\x13\x14\x15\x16\x17\x18"[..])
    );
    assert_eq!((span.events[0].time_unix_nano, &*span.events[0].name, span.links[0].flags), (6, "e", 9));
    assert_eq!(span.status.as_ref().map(|status| (&*status.message, status.code)), Some(("m", 2)));
    for count in [1, 2, 3, 7, 8] {
        assert!(seen.contains(&format!("dropped_attributes_count: {count}")), "{count} in {seen}");
    }
    assert_eq!((span.dropped_events_count, span.dropped_links_count), (4, 5));
    for key in ["service.name", "a", "b", "c"] {
        assert!(seen.contains(&format!("key: {key:?}")), "{key} in {seen}");
    }
}

// JSON-1.
#[test]
fn nothing_and_null_are_the_default() {
    for json in [
        "{}",
        r#"{"resourceSpans":null}"#,
        r#"{"resourceSpans":[]}"#,
        r#"{"resourceSpans":[{}]}"#,
        r#"{"resourceSpans":[{"resource":null,"scopeSpans":null,"schemaUrl":null}]}"#,
        r#"{"resourceSpans":[{"scopeSpans":[{"scope":null,"spans":null}]}]}"#,
    ] {
        let (spans, decoded) = decode(json);
        assert_eq!((spans.len(), decoded.refused), (0, 0), "{json}");
    }
    for field in [
        "attributes",
        "events",
        "links",
        "status",
        "name",
        "traceState",
        "kind",
        "flags",
        "startTimeUnixNano",
        "endTimeUnixNano",
        "parentSpanId",
        "droppedAttributesCount",
        "unknown",
    ] {
        let json = request(&format!(r#""{field}":null"#));
        assert_eq!(span(&json), span(request(r#""unknown":{"a":[1]}"#)), "{field}");
    }
}

// JSON-2.
#[test]
fn values_are_read_by_variant() {
    let empty_list = Value::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue::default());
    let empty_map = Value::KvlistValue(opentelemetry_proto::tonic::common::v1::KeyValueList::default());
    let bytes = Some(Value::BytesValue(vec![0xfb, 0xff]));
    let cases: [(&str, Option<Value>); 22] = [
        (r#""value":null"#, None),
        (r#""value":{}"#, None),
        (r#""other":1"#, None),
        (r#""value":{"futureValue":[{}]}"#, None),
        (r#""value":{"stringValue":null}"#, None),
        (r#""value":{"arrayValue":{}}"#, Some(empty_list.clone())),
        (r#""value":{"arrayValue":{"values":null}}"#, Some(empty_list)),
        (r#""value":{"kvlistValue":{}}"#, Some(empty_map)),
        (r#""value":{"intValue":"-9223372036854775808"}"#, Some(Value::IntValue(i64::MIN))),
        (r#""value":{"intValue":9223372036854775807}"#, Some(Value::IntValue(i64::MAX))),
        (r#""value":{"intValue":1e3}"#, Some(Value::IntValue(1000))),
        (r#""value":{"intValue":12.0}"#, Some(Value::IntValue(12))),
        (r#""value":{"intValue":-0}"#, Some(Value::IntValue(0))),
        (r#""value":{"doubleValue":"1.5"}"#, Some(Value::DoubleValue(1.5))),
        (r#""value":{"doubleValue":2}"#, Some(Value::DoubleValue(2.0))),
        (r#""value":{"doubleValue":"-Infinity"}"#, Some(Value::DoubleValue(f64::NEG_INFINITY))),
        (r#""value":{"bytesValue":"+/8="}"#, bytes.clone()),
        (r#""value":{"bytesValue":"-_8="}"#, bytes.clone()),
        (r#""value":{"bytesValue":"-_8"}"#, bytes),
        (r#""value":{"boolValue":false}"#, Some(Value::BoolValue(false))),
        (r#""value":{"intValue":1,"stringValue":"last"}"#, Some(Value::StringValue("last".into()))),
        (r#""value":{"string_value":"old"}"#, Some(Value::StringValue("old".into()))),
    ];
    for (json, expected) in cases {
        assert_eq!(value(json), expected, "{json}");
    }
    assert!(matches!(value(r#""value":{"doubleValue":"NaN"}"#), Some(Value::DoubleValue(n)) if n.is_nan()));
}

// JSON-3, B14.
#[test]
fn times_are_exact_in_every_spelling() {
    let cases = [
        ("\"18446744073709551615\"", u64::MAX),
        ("18446744073709551615", u64::MAX),
        ("1700000000123456789", 1_700_000_000_123_456_789),
        ("1700000000123456789.0", 1_700_000_000_123_456_789),
        ("1.5e18", 1_500_000_000_000_000_000),
        ("\"1.700000000123456789e18\"", 1_700_000_000_123_456_789),
        ("1000e-3", 1),
        ("0e999999999", 0),
    ];
    for (text, time) in cases {
        assert_eq!(
            span(request(&format!(r#""startTimeUnixNano":{text}"#))).start_time_unix_nano,
            time,
            "{text}"
        );
    }
}

// JSON-4.
#[test]
fn enums_are_taken_by_number_and_by_name() {
    for (kind, number) in [("2", 2), ("\"2\"", 2), ("\"SPAN_KIND_SERVER\"", 2), ("99", 99), ("-1", -1)] {
        assert_eq!(span(request(&format!(r#""kind":{kind}"#))).kind, number, "{kind}");
    }
    let status = span(request(r#""status":{"code":"STATUS_CODE_ERROR"}"#)).status;
    assert_eq!(status.map(|status| status.code), Some(2));
}

// JSON-7.
#[test]
fn ids_of_either_case_and_roots_in_either_spelling_are_taken() {
    let upper = request("\"a\":0").replace("0a0b0c0d0e0f", "0A0B0C0D0E0F");
    assert_eq!(span(upper), span(request("\"a\":0")));
    assert_eq!(span(request(r#""parentSpanId":"""#)).parent_span_id, b"");
    assert_eq!(span(request(r#""parentSpanId":"0000000000000000""#)).parent_span_id, [0; 8]);
    let snake = request("\"a\":0")
        .replace("traceId", "trace_id")
        .replace("spanId", "span_id")
        .replace("resourceSpans", "resource_spans")
        .replace("scopeSpans", "scope_spans");
    assert_eq!(span(snake), span(request("\"a\":0")));
}

#[test]
fn downloads_of_trace_viewers_are_taken() {
    let json = r#"{"batches":[{"instrumentationLibrarySpans":[{"instrumentationLibrary":{"name":"s"},"spans":[
        {"traceId":"AQIDBAUGBwgJCgsMDQ4PEA==","spanId":"AQIDBAUGBwg=","kind":"SPAN_KIND_CLIENT"}]}]}]}"#;
    let span = span(json);
    assert_eq!(
        (&*span.trace_id, &*span.span_id, span.kind),
        (&(1..=16).collect::<Vec<u8>>()[..], &(1..=8).collect::<Vec<u8>>()[..], 3)
    );
}

// JSON-5.
#[test]
fn of_a_field_that_stands_twice_the_last_counts() {
    assert_eq!(span(request(r#""name":"a","name":"b""#)).name, "b");
    let twice =
        request("\"a\":0").replace(r#""scopeSpans":["#, r#""scopeSpans":[{"spans":[{}]}],"scopeSpans":["#);
    assert_eq!(decode(twice).1.refused, 0);
}

// JSON-6.
#[test]
fn text_that_is_no_unicode_is_mended() {
    for (escaped, text) in [
        (r"\ud83d\ude00", "\u{1f600}"),
        (r"a\ud800b", "a\u{fffd}b"),
        (r"\udc00\ud800", "\u{fffd}\u{fffd}"),
        (r"\ud800\ud83d\ude00", "\u{fffd}\u{1f600}"),
        (r"\\ud800", r"\ud800"),
        (r"\uD800", "\u{fffd}"),
    ] {
        assert_eq!(span(request(&format!(r#""name":"{escaped}""#))).name, text, "{escaped}");
    }
    let mut bytes = request(r#""name":"a?b""#).into_bytes();
    let at = bytes.iter().position(|&byte| byte == b'?').expect("a mark");
    bytes[at] = 0xff;
    assert_eq!(span(bytes).name, "a\u{fffd}b");
}

// JSON-9.
#[test]
fn sixty_four_levels_pass_and_the_next_costs_the_span() {
    // prost itself decodes no more than 47 levels, so the levels are counted on the wire.
    for depth in [46, 48, 64] {
        for (json, is_map, list) in [(arrays(depth), false, 5), (maps(depth), true, 6)] {
            let decoded = to_protobuf(json.as_bytes()).expect("a request");
            let mut batch = Batch::default();
            batch.read(&decoded.request).expect("protobuf");
            let attribute = wire::messages(batch.spans[0].body.of(&decoded.request), 9).next().expect("one");
            let mut inside = wire::messages(attribute, 2).next();
            let mut levels = 0;
            while let Some(entries) = inside.and_then(|value| wire::messages(value, list).next()) {
                inside = wire::messages(entries, 1).next();
                if is_map {
                    inside = inside.and_then(|entry| wire::messages(entry, 2).next());
                }
                levels += 1;
            }
            assert_eq!((levels, batch.refused, decoded.refused), (depth, 0, 0), "{json}");
        }
    }
    for depth in [65, 1_000, 100_000] {
        for json in [arrays(depth), maps(depth)] {
            assert!(fault(&json).ends_with("must not nest deeper than 64 arrays or maps"), "{depth}");
        }
    }
}

// JSON-13.
#[test]
fn unknown_fields_nest_as_deep_as_they_like() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    span(request(&format!(r#""unknown":{deep}"#)));
    fault(&request(&format!(r#""name":{deep}"#)));
    assert!(to_protobuf(deep.as_bytes()).is_err());
    assert_eq!(decode(format!(r#"{{"unknown":{deep}}}"#)).1, Decoded::default());
}

// OTLP-G5, JSON-8, B14.
#[test]
fn a_span_that_cannot_be_read_is_named_by_field_rule_and_value() {
    let cases = [
        (
            attribute(r#""value":{"boolValue":"true"}"#),
            "attributes: value: boolValue: must be true or false, got \"true\"",
        ),
        (
            attribute(r#""value":{"intValue":1.5}"#),
            "attributes: value: intValue: must be a whole number from -2^63 to 2^63 - 1, got 1.5",
        ),
        (
            attribute(r#""value":{"intValue":9223372036854775808}"#),
            "attributes: value: intValue: must be a whole number from -2^63 to 2^63 - 1, got 9223372036854775808",
        ),
        (
            attribute(r#""value":{"doubleValue":1e400}"#),
            "attributes: value: doubleValue: must be a number, \"NaN\", \"Infinity\" or \"-Infinity\", got 1e400",
        ),
        (
            attribute(r#""value":{"bytesValue":"?"}"#),
            "attributes: value: bytesValue: must be base64, got \"?\"",
        ),
        (
            request(r#""startTimeUnixNano":"-1""#),
            "startTimeUnixNano: must be a whole number from 0 to 2^64 - 1, got \"-1\"",
        ),
        (
            request(r#""endTimeUnixNano":18446744073709551616"#),
            "endTimeUnixNano: must be a whole number from 0 to 2^64 - 1, got 18446744073709551616",
        ),
        (request(r#""flags":-1"#), "flags: must be a whole number from 0 to 2^32 - 1, got -1"),
        (
            request(r#""kind":"SERVER""#),
            "kind: must be a number or the name of one of its values, got \"SERVER\"",
        ),
        (request(r#""name":5"#), "name: must be a string, got 5"),
        (request(r#""events":{}"#), "events: invalid type: map, expected a list of objects"),
        (
            request(r#""traceId":"0x02030405060708090a0b0c0d0e0f10""#),
            "traceId: must be hexadecimal digits, got \"0x02030405060708090a0b0c0d0e0f10\"",
        ),
        (request(r#""traceId":"abc""#), "traceId: must be hexadecimal digits, got \"abc\""),
        (request(r#""traceId":"0102030405060708""#), "trace_id must be 16 bytes and not all zero"),
        (
            request(r#""traceId":"00000000000000000000000000000000""#),
            "trace_id must be 16 bytes and not all zero",
        ),
        (request(r#""traceId":"""#), "trace_id must be 16 bytes and not all zero"),
        (request(r#""spanId":"0000000000000000""#), "span_id must be 8 bytes and not all zero"),
        (request(r#""parentSpanId":"01""#), "parent_span_id must be empty or 8 bytes"),
    ];
    for (json, expected) in cases {
        assert_eq!(fault(&json), expected, "{json}");
    }
    assert!(fault(&request(&format!(r#""flags":{}"#, "9".repeat(1_000_000)))).len() < 120);
    assert!(fault(&request(&format!(r#""events":"{}""#, "x".repeat(1_000_000)))).len() <= 503);
    assert_eq!(
        fault(&request("\"flags\":{\n\"\u{7f}\":1}")),
        "flags: must be a whole number from 0 to 2^32 - 1, got { \" \":1}"
    );
}

// JSON-8.
#[test]
fn one_bad_span_is_refused_alone() {
    let good = format!("{{{IDS}}}");
    let json =
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{good},{{"name":1}},5,{good}]}}]}}]}}"#);
    let (spans, decoded) = decode(json);
    assert_eq!((spans.len(), decoded.refused), (2, 2));
    assert_eq!(decoded.fault.as_deref(), Some("name: must be a string, got 1"));
}

#[test]
fn a_bad_resource_or_scope_costs_what_it_encloses() {
    let good = format!("{{{IDS}}}");
    for (head, fault) in [
        (
            r#""resource":{"attributes":5}"#,
            "resource: attributes: invalid type: integer `5`, expected a list of objects",
        ),
        (r#""resource":7"#, "resource: invalid type: integer `7`, expected an object"),
    ] {
        let json = format!(
            r#"{{"resourceSpans":[{{{head},"scopeSpans":[{{"spans":[{good},{good}]}}]}},{{"scopeSpans":[{{"spans":[{good}]}}]}}]}}"#
        );
        let (spans, decoded) = decode(json);
        assert_eq!((spans.len(), decoded.refused, decoded.fault.as_deref()), (1, 2, Some(fault)));
    }
    let json = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"scope":{{"name":1}},"spans":[{good}]}},{{"spans":[{good}]}}]}}]}}"#
    );
    let (spans, decoded) = decode(json);
    assert_eq!(
        (spans.len(), decoded.refused, decoded.fault.as_deref()),
        (1, 1, Some("scope: name: must be a string, got 1"))
    );
}

// JSON-10.
#[test]
fn what_is_no_request_is_refused_whole() {
    let good = request("\"a\":0");
    let cases = [
        "",
        "[]",
        "\"x\"",
        "5",
        "{",
        "\u{feff}{}",
        r#"{"resourceSpans":5}"#,
        r#"{"resourceSpans":[5]}"#,
        r#"{"resourceSpans":[{"scopeSpans":{}}]}"#,
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":{}}]}]}"#,
        &format!("{good}x"),
        &good[..good.len() - 1],
        &request("\"a\":01"),
        &request("\"a\":'x'"),
    ]
    .map(str::to_owned);
    for json in cases {
        assert!(to_protobuf(json.as_bytes()).is_err(), "{json}");
    }
    assert!(to_protobuf(format!(" {good}\n").as_bytes()).is_ok());
    let long = format!(r#"{{"resourceSpans":"{}"}}"#, "x".repeat(1_000_000));
    assert!(to_protobuf(long.as_bytes()).expect_err("no list").to_string().len() < 600);
}
