//! The keys of both edges: where traces go, and who may send them.

use laggard::config::Protocol;

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
