//! The keys of both edges: where traces go, and who may send them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use laggard::config::{Compression, Config, Protocol};

use super::{check, load_text, with_destination};

// F14.
#[test]
fn over_http_the_endpoint_is_a_base_url() {
    for endpoint in ["http://collector:4318", "https://api.example.com/otlp", "http://collector/"] {
        let yaml = format!("export: {{endpoint: '{endpoint}', protocol: http/protobuf}}");
        let found = load_text(&yaml, &[]).map(|config| (config.export.endpoint, config.export.protocol));
        assert_eq!(found, Ok((endpoint.to_owned(), Protocol::HttpProtobuf)));
    }
    check(
        "export: {protocol: http/protobuf, endpoint: 'http://collector:4318/v1/traces'}",
        &["1:45: export.endpoint: must be a base URL such as http://collector:4318, to which /v1/traces is \
           appended, got \
           \"http://collector:4318/v1/traces\""],
    );
    check(
        "export: {protocol: http/protobuf, endpoint: 'http://localhost:4318/otlp'}",
        &[
            "1:45: export.endpoint: must not be a port of our own, receive.http.endpoint is 127.0.0.1:4318, got \
           \"http://localhost:4318/otlp\"",
        ],
    );
}

// R14.
#[test]
fn the_environments_url_for_traces_is_whole_and_the_general_one_is_a_base() {
    let yaml = "export: {protocol: http/protobuf}";
    for (variable, value) in [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318/otlp/v1/traces"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/otlp"),
    ] {
        let found = load_text(yaml, &[(variable, value)]).map(|config| config.export.endpoint);
        assert_eq!(found, Ok("http://collector:4318/otlp".to_owned()), "{variable}");
    }
    // R14: it is used as it is, whatever its path, and without one that is the root.
    for (whole, base, path) in [
        ("http://collector:4318/otlp/v1/traces", "http://collector:4318/otlp", "/v1/traces"),
        ("http://collector:4318/v1/traces", "http://collector:4318", "/v1/traces"),
        ("https://collector/api/spans", "https://collector", "/api/spans"),
        ("http://collector:4318", "http://collector:4318", "/"),
        ("http://collector:4318/v1/traces/", "http://collector:4318", "/v1/traces/"),
    ] {
        let export = load_text(yaml, &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", whole)]).expect("right").export;
        assert_eq!((&*export.endpoint, &*export.traces_path), (base, path), "{whole}");
    }
    let with_query = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318/a?b")];
    let problems = load_text(yaml, &with_query).expect_err("a query is nothing that we send").to_string();
    assert!(problems.starts_with("laggard.yaml: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: must be "), "{problems}");
    let over_grpc = load_text("", &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4317")]);
    assert_eq!(over_grpc.expect("right").export.endpoint, "http://collector:4317");
}

/// Every variable that has a key, each for a destination over HTTP.
const VARIABLES: [(&str, &str); 8] = [
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector/otlp"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=s3cret,x-scope=a%20b"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/tls/ca.pem"),
    ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/tls/ours.pem"),
    ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/tls/ours.key"),
];

// R14.
#[test]
fn the_environment_says_how_its_destination_is_reached() {
    let mut expected = Config::default();
    let export = &mut expected.export;
    "https://collector/otlp".clone_into(&mut export.endpoint);
    export.protocol = Protocol::HttpProtobuf;
    export.headers = [("x-api-key", "s3cret"), ("x-scope", "a b")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    export.timeout = Duration::from_millis(2500);
    export.compression = Compression::Gzip;
    export.tls.ca_file = "/tls/ca.pem".into();
    export.tls.cert_file = "/tls/ours.pem".into();
    export.tls.key_file = "/tls/ours.key".into();
    assert_eq!(load_text("", &VARIABLES), Ok(expected));

    let traces = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "700");
    let export = load_text("export: {compression: none}", &[&VARIABLES[..], &[traces]].concat())
        .expect("right")
        .export;
    assert_eq!((export.compression, export.timeout), (Compression::None, Duration::from_millis(700)));
    let unused = ["OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_TIMEOUT"];
    assert_eq!(export.unused_variables, unused, "the file and the variable for traces win");
}

// R14.
#[test]
fn variables_that_mean_nothing_here_are_known_by_name() {
    let empty = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "");
    let file = load_text("export: {endpoint: 'http://file:4317'}", &[&VARIABLES[..], &[empty]].concat());
    let mut expected: Vec<_> = VARIABLES.iter().map(|(name, _)| (*name).to_owned()).collect();
    expected.sort();
    let export = file.expect("the file says it all").export;
    assert_eq!((&*export.endpoint, export.protocol), ("http://file:4317", Protocol::Grpc));
    assert_eq!(export.unused_variables, expected);
    assert_eq!(export.headers, BTreeMap::new());
    assert_eq!(export.tls.ca_file, Path::new(""));

    let others = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs:4317"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "a=b"),
    ];
    let unused = load_text("", &others).expect("right").export.unused_variables;
    assert_eq!(unused, others.map(|(name, _)| name)[1..]);
}

// R14, C10.
#[test]
fn what_is_wrong_with_a_variable_names_it_and_tells_no_header() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
    for (variable, value, expected) in [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "5s", "must be a whole number of milliseconds, got 5s"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "must be more than 0s, got 0s"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            "http/json",
            "must be one of grpc, http/protobuf, got http/json",
        ),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "br", "must be one of none, gzip, zstd, got br"),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "x-api-key: s3cret",
            "must be NAME=VALUE pairs with commas between them, values percent-encoded, got a value that is not shown",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "te=s3cret",
            "must be left to the protocol, which sets it, got a value that is not shown",
        ),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem", "needs an https endpoint, got /ca.pem"),
    ] {
        let problems = load_text("", &[endpoint, (variable, value)]).expect_err(value).to_string();
        assert_eq!(problems, format!("laggard.yaml: {variable}: {expected}"));
    }
}

#[test]
fn origins_are_what_browsers_state_or_patterns_of_it() {
    let with = |origin: &str| {
        with_destination(&format!(
            "receive: {{http: {{cors: {{allowed_origins: ['https://a', '{origin}']}}}}}}"
        ))
    };
    for right in
        ["*", "http://localhost:3000", "https://*.example.com", "capacitor://localhost", "http://[::1]:80"]
    {
        assert!(load_text(&with(right), &[]).is_ok(), "{right}");
    }
    for wrong in
        ["app.example.com", "https://a.example/", "https://*.*.example", "https://", "://a", "https://a b"]
    {
        check(
            &with(wrong),
            &[&format!(
                "1:56: receive.http.cors.allowed_origins[1]: must be an origin such as https://app.example.com, in \
                 which one * stands for any text, or *, got \"{wrong}\""
            )],
        );
    }
}

#[test]
fn tls_for_senders_needs_a_whole_pair() {
    let yaml =
        "receive: {tls: {cert_file: a.pem, key_file: b.pem, client_ca_file: c.pem, reload_interval: 10s}}";
    assert!(load_text(&with_destination(yaml), &[]).is_ok());
    for (tls, expected) in [
        ("cert_file: a.pem", "1:28: receive.tls.cert_file: needs receive.tls.key_file beside it, got a.pem"),
        ("key_file: b.pem", "1:27: receive.tls.key_file: needs receive.tls.cert_file beside it, got b.pem"),
        (
            "client_ca_file: c.pem",
            "1:33: receive.tls.client_ca_file: needs receive.tls.cert_file beside it, got c.pem",
        ),
    ] {
        check(&with_destination(&format!("receive: {{tls: {{{tls}}}}}")), &[expected]);
    }
}

#[test]
fn tls_towards_the_destination_needs_an_https_endpoint_and_whole_pairs() {
    let tls = "ca_file: a.pem, cert_file: b.pem, key_file: c.pem, server_name: collector.example";
    for endpoint in ["https://a:1", "HTTPS://a"] {
        assert!(load_text(&format!("export: {{endpoint: '{endpoint}', tls: {{{tls}}}}}"), &[]).is_ok());
    }
    assert!(load_text("export: {endpoint: 'https://a', tls: {insecure_skip_verify: true}}", &[]).is_ok());
    for (tls, expected) in [
        ("cert_file: b.pem", "1:52: export.tls.cert_file: needs export.tls.key_file beside it, got b.pem"),
        ("key_file: c.pem", "1:51: export.tls.key_file: needs export.tls.cert_file beside it, got c.pem"),
        (
            "server_name: 'a b'",
            "1:54: export.tls.server_name: must be a DNS name or an IP address, got \"a b\"",
        ),
        (
            "insecure_skip_verify: true, ca_file: a.pem",
            "1:78: export.tls.ca_file: must be left out where export.tls.insecure_skip_verify is true, got a.pem",
        ),
    ] {
        check(&format!("export: {{endpoint: 'https://a:1', tls: {{{tls}}}}}"), &[expected]);
    }
    for (tls, expected) in [
        ("ca_file: a.pem", "1:49: export.tls.ca_file: needs an https endpoint, got a.pem"),
        ("server_name: a", "1:53: export.tls.server_name: needs an https endpoint, got a"),
        (
            "insecure_skip_verify: true",
            "1:62: export.tls.insecure_skip_verify: needs an https endpoint, got true",
        ),
    ] {
        check(&format!("export: {{endpoint: 'http://a:1', tls: {{{tls}}}}}"), &[expected]);
    }
}
