use serde_json::{Value, json};

use super::*;
use crate::otlp::attribute::AnyValue;
use crate::otlp::span::Kind;

fn read_json(value: &Value) -> Content {
    read(value.to_string().as_bytes()).expect("readable")
}

/// What tells a span from another: service, name, kind, own id, parent's id, start, end, whether it failed.
type Row = (String, String, Kind, String, Option<String>, u64, u64, bool);

fn rows(trace: &Trace) -> Vec<Row> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let row = |index| {
        let span = trace.span(index).expect("in the trace");
        let head = span.head;
        let (id, parent) = (head.span_id.to_string(), head.parent_id.map(|id| id.to_string()));
        (
            text(trace.service_of(index)),
            text(span.name()),
            head.kind,
            id,
            parent,
            head.start,
            head.end,
            head.is_error,
        )
    };
    let mut rows: Vec<Row> = (0..trace.len()).map(row).collect();
    rows.sort_by_key(|row| (row.5, std::cmp::Reverse(row.6)));
    rows
}

/// The value of an attribute of the only span.
fn attribute_of<'a>(trace: &'a Trace, key: &str) -> Option<AnyValue<'a>> {
    let span = trace.span(0).expect("has one");
    span.attributes().find(|attribute| attribute.key == key.as_bytes()).map(|attribute| attribute.value)
}

fn jaeger_span(change: impl FnOnce(&mut Value)) -> Value {
    let mut span = json!({
        "traceID": "abc", "spanID": "1", "operationName": "run", "references": [],
        "startTime": 1_000, "duration": 25, "tags": [], "logs": [], "processID": "p1",
    });
    change(&mut span);
    json!({"data": [{"traceID": "abc", "spans": [span], "processes": {"p1": {
        "serviceName": "api", "tags": [{"key": "host.name", "type": "string", "value": "node-1"}],
    }}}]})
}

#[test]
fn a_jaeger_span_keeps_its_times_ids_and_process() {
    let content = read_json(&jaeger_span(|_| ()));
    let trace = content.traces.first().expect("one trace");
    assert_eq!(trace.id().to_string(), "00000000000000000000000000000abc", "64 bits and fewer are padded");
    let expected = ("api", "run", Kind::Internal, "0000000000000001", 1_000_000, 1_025_000);
    let all = rows(trace);
    let (service, name, kind, id, parent, start, end, is_error) = &all[0];
    assert_eq!((service.as_str(), name.as_str(), *kind, id.as_str(), *start, *end), expected);
    assert_eq!((parent, *is_error), (&None, false));
    let resource: Vec<_> = trace.resource_attributes(0).map(|attribute| attribute.key).collect();
    assert_eq!(resource, [&b"service.name"[..], b"host.name"]);
}

#[test]
fn jaeger_tags_are_kind_status_and_typed_attributes() {
    for (tag, expected) in [
        (json!({"key": "error", "type": "bool", "value": true}), true),
        (json!({"key": "error", "type": "string", "value": "true"}), true),
        (json!({"key": "error", "type": "bool", "value": false}), false),
        (json!({"key": "otel.status_code", "type": "string", "value": "ERROR"}), true),
        (json!({"key": "otel.status_code", "type": "string", "value": "OK"}), false),
    ] {
        let content = read_json(&jaeger_span(|span| span["tags"] = json!([tag])));
        assert_eq!(rows(&content.traces[0])[0].7, expected, "{tag}");
    }
    let content = read_json(&jaeger_span(|span| {
        span["tags"] = json!([
            {"key": "span.kind", "type": "string", "value": "server"},
            {"key": "number", "type": "int64", "value": "9007199254740993"},
            {"key": "ratio", "type": "float64", "value": 0.5},
            {"key": "yes", "type": "bool", "value": true},
            {"key": "odd", "type": "int64", "value": "many"},
        ]);
    }));
    let trace = &content.traces[0];
    assert_eq!(rows(trace)[0].2, Kind::Server);
    for (key, expected) in [
        ("number", Some(AnyValue::Int(9_007_199_254_740_993))),
        ("ratio", Some(AnyValue::Double(0.5))),
        ("yes", Some(AnyValue::Bool(true))),
        ("odd", Some(AnyValue::String(b"many"))),
        ("span.kind", None),
    ] {
        assert_eq!(attribute_of(trace, key), expected, "{key}");
    }
}

#[test]
fn jaeger_logs_are_events_named_by_their_field() {
    let content = read_json(&jaeger_span(|span| {
        span["logs"] = json!([
            {"timestamp": 1_005, "fields": [{"key": "event", "type": "string", "value": "cache miss"}]},
            {"timestamp": 1_006, "fields": [{"key": "message", "type": "string", "value": "gave up"}]},
            {"timestamp": 1_007, "fields": []},
        ]);
    }));
    let span = content.traces[0].span(0).expect("has one");
    let events: Vec<_> = span.events().map(|event| (event.time, event.name.to_vec())).collect();
    let expected = [(1_005_000, "cache miss"), (1_006_000, "gave up"), (1_007_000, "log")];
    assert_eq!(events, expected.map(|(time, name)| (time, name.as_bytes().to_vec())));
}

#[test]
fn a_jaeger_parent_is_what_it_is_a_child_of_before_what_it_follows() {
    let reference =
        |kind: &str, trace: &str, span: &str| json!({"refType": kind, "traceID": trace, "spanID": span});
    for (references, old, parent) in [
        (json!([reference("FOLLOWS_FROM", "abc", "7"), reference("CHILD_OF", "abc", "8")]), None, Some("8")),
        (json!([reference("FOLLOWS_FROM", "abc", "7")]), None, Some("7")),
        (json!([reference("CHILD_OF", "def", "8")]), None, None),
        (json!([]), Some("9"), Some("9")),
    ] {
        let content = read_json(&jaeger_span(|span| {
            span["references"] = references.clone();
            span["parentSpanID"] = json!(old);
        }));
        let found = rows(&content.traces[0])[0].4.clone();
        assert_eq!(found, parent.map(|parent| format!("{parent:0>16}")), "{references}");
    }
}

fn zipkin_span(id: &str, service: &str, kind: &str, start: u64, duration: u64) -> Value {
    json!({
        "traceId": "5af7183fb1d4cf5f", "id": id, "kind": kind, "name": "get /things", "timestamp": start,
        "duration": duration, "localEndpoint": {"serviceName": service},
    })
}

#[test]
fn a_zipkin_span_that_both_ends_share_becomes_a_call_and_its_answer() {
    let mut answer = zipkin_span("b", "backend", "SERVER", 20, 50);
    answer["shared"] = json!(true);
    answer["parentId"] = json!("a");
    let mut call = zipkin_span("b", "frontend", "CLIENT", 10, 80);
    call["parentId"] = json!("a");
    let mut work = zipkin_span("c", "backend", "", 30, 10);
    work["parentId"] = json!("b");
    let mut connect = zipkin_span("d", "frontend", "", 11, 5);
    connect["parentId"] = json!("b");
    let root = zipkin_span("a", "frontend", "SERVER", 1, 99);
    for spans in [json!([root, call, answer, work, connect]), json!([connect, work, answer, call, root])] {
        let content = read_json(&spans);
        let found: Vec<_> =
            rows(&content.traces[0]).into_iter().map(|row| (row.0, row.2, row.3, row.4)).collect();
        let id = |id: &str| format!("{id:0>16}");
        let new = "fffffffffffffff4".to_owned();
        let expected = [
            ("frontend", Kind::Server, id("a"), None),
            ("frontend", Kind::Client, id("b"), Some(id("a"))),
            ("frontend", Kind::Internal, id("d"), Some(id("b"))),
            ("backend", Kind::Server, new.clone(), Some(id("b"))),
            ("backend", Kind::Internal, id("c"), Some(new)),
        ];
        let expected = expected.map(|(service, kind, id, parent)| (service.to_owned(), kind, id, parent));
        assert_eq!(found, expected);
    }
}

#[test]
fn zipkin_says_errors_peers_and_events_its_own_way() {
    let mut span = zipkin_span("a", "api", "CLIENT", 10, 5);
    span["tags"] = json!({"error": "connection refused", "http.method": "GET"});
    span["remoteEndpoint"] = json!({"serviceName": "mysql", "ipv4": "10.0.0.7", "port": 3306});
    span["annotations"] = json!([{"timestamp": 12, "value": "retry"}]);
    let content = read_json(&json!([[span]]));
    let trace = &content.traces[0];
    assert!(rows(trace)[0].7, "an error tag with any text is an error");
    assert_eq!(attribute_of(trace, "peer.service"), Some(AnyValue::String(b"mysql")));
    assert_eq!(attribute_of(trace, "http.method"), Some(AnyValue::String(b"GET")));
    assert_eq!(attribute_of(trace, "network.peer.port"), Some(AnyValue::Int(3306)));
    let events: Vec<_> = trace.span(0).expect("one").events().map(|event| event.time).collect();
    assert_eq!(events, [12_000]);
}

#[test]
fn a_span_that_cannot_be_read_costs_that_span() {
    let mut without_time = zipkin_span("b", "api", "SERVER", 10, 5);
    without_time["timestamp"] = Value::Null;
    let too_late = zipkin_span("c", "api", "SERVER", u64::MAX, 5);
    let mut no_id = zipkin_span("", "api", "SERVER", 10, 5);
    no_id["tags"] = json!({});
    let content =
        read_json(&json!([zipkin_span("a", "api", "SERVER", 10, 5), without_time, too_late, no_id]));
    assert_eq!((content.traces[0].len(), content.refused), (1, 3));
    assert_eq!(content.fault.as_deref(), Some("Zipkin span b: has no timestamp"));
    let mut jaeger = jaeger_span(|_| ());
    let spans = jaeger["data"][0]["spans"].as_array_mut().expect("a list");
    spans.push(json!({"traceID": "abc", "spanID": "xyz", "startTime": 1, "duration": 1}));
    spans.push(json!({"traceID": "abc", "spanID": "2", "startTime": -1, "duration": 1}));
    let content = read_json(&jaeger);
    assert_eq!((content.traces[0].len(), content.refused), (1, 2));
    assert_eq!(
        content.fault.as_deref(),
        Some("Jaeger span xyz: spanID must be at most 16 hexadecimal digits")
    );
}

#[test]
fn protobuf_is_known_even_where_it_begins_like_json() {
    // A first `ResourceSpans` of 123 bytes: a line feed, then what reads as an opening brace.
    let mut span = zipkin_span("a", "api", "SERVER", 10, 5);
    let request = (0..64).find_map(|length| {
        span["name"] = json!("x".repeat(length));
        let request = documents(&json!([span]).to_string()).expect("valid").request;
        request.starts_with(b"\n{").then_some(request)
    });
    let content = read(&request.expect("some name has the right length")).expect("readable");
    assert_eq!(content.traces.len(), 1);
}

#[test]
fn what_is_no_trace_is_named() {
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (content, expected) in [
        ("", "is empty; expected traces as"),
        ("hello", "holds text that is no JSON"),
        ("null", "holds JSON that is no object and no list"),
        ("\u{1}\u{2}\u{3}", "holds bytes that are no OTLP protobuf"),
        ("{\"resourceSpans\": [}", "holds broken JSON: expected value at line 1 column 20"),
        ("[1, 2]", "holds 1 as JSON"),
        ("{}", "holds JSON with no key"),
        (r#"{"panels": [], "uid": 1}"#, r#"holds JSON with the keys "panels", "uid"; expected"#),
        (r#"{"data": {"a": 1}}"#, "holds \"data\" that is not Jaeger's list of traces"),
        (r#"{"data": null, "errors": []}"#, r#"the keys "data", "errors""#),
        (
            r#"[{"traceId": "1", "id": "1", "binaryAnnotations": [], "timestamp": 1}]"#,
            "holds Zipkin JSON of version 1",
        ),
        (r#"{"trace": {"trace": {"trace": {"trace": {}}}}}"#, "the key \"trace\""),
        (&nested, "holds lists in lists in lists"),
    ] {
        let problem = read(content.as_bytes()).expect_err(expected);
        assert!(problem.contains(expected), "{problem}");
        assert!(!problem.contains('\n') && problem.len() < 250, "{problem}");
    }
}

#[test]
fn documents_may_stand_behind_each_other_and_begin_with_a_byte_order_mark() {
    let one = jaeger_span(|_| ());
    let other = json!([zipkin_span("a", "api", "SERVER", 10, 5)]);
    let content = read(format!("\u{feff}{one}\n{other:#}\n").as_bytes()).expect("readable");
    assert_eq!(content.traces.len(), 2);
    let problem = read(format!("{one}\n{{\"a\":1}}").as_bytes()).expect_err("not a trace");
    assert!(problem.ends_with("(document 2)"), "{problem}");
}

#[test]
fn broken_unicode_costs_a_character_and_no_span() {
    let mut text = jaeger_span(|span| span["operationName"] = json!("a?b")).to_string().into_bytes();
    let at = text.windows(3).position(|part| part == b"a?b").expect("there") + 1;
    text[at] = 0xff;
    assert_eq!(rows(&read(&text).expect("readable").traces[0])[0].1, "a\u{fffd}b");
    let text =
        jaeger_span(|span| span["operationName"] = json!("LONE")).to_string().replace("LONE", "a\\ud800");
    assert_eq!(rows(&read(text.as_bytes()).expect("readable").traces[0])[0].1, "a\u{fffd}");
}
