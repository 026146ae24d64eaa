//! Configuration files: the example, and what is said of each mistake.

#[path = "config/edges.rs"]
mod edges;
#[path = "config/sense.rs"]
mod sense;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use laggard::config::units::{Budget, MemoryLimit};
use laggard::config::{Config, Problems, RouteOverride, Threshold, load, load_for_replay};
use serde_yaml::{Mapping, Value};

const EXAMPLE: &str = include_str!("../config.example.yaml");

fn load_text(text: &str, env: &[(&str, &str)]) -> Result<Config, Problems> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("laggard.yaml");
    fs::write(&path, text).expect("writes");
    let env: BTreeMap<_, _> = env.iter().copied().collect();
    let result = load(Some(&path), &|name| env.get(name).map(|value| (*value).to_owned()));
    result.map_err(|problems| Problems { file: "laggard.yaml".to_owned(), ..problems })
}

/// `yaml` gives exactly these lines, each after the file's name.
fn check(yaml: &str, expected: &[&str]) {
    let said = match load_text(yaml, &[("LINES", "a\nb")]) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    };
    let said: Vec<&str> =
        said.lines().map(|line| line.strip_prefix("laggard.yaml:").expect("the file's name")).collect();
    assert_eq!(said, expected, "\n{yaml}");
}

/// The same for a configuration that is right but for `yaml`.
fn check_with_destination(yaml: &str, expected: &[&str]) {
    check(&with_destination(yaml), expected);
}

/// `yaml` with the one key that is required.
fn with_destination(yaml: &str) -> String {
    format!("{yaml}\nexport: {{endpoint: 'http://collector:4317'}}")
}

// === the example ===

#[test]
fn the_example_is_the_default() {
    assert_eq!(load_text(EXAMPLE, &[]).map_err(|problems| problems.to_string()), Ok(Config::default()));
}

#[test]
fn another_yaml_reader_reads_the_same_from_the_example() {
    assert_eq!(serde_yaml::from_str::<Config>(EXAMPLE).expect("valid"), Config::default());
}

#[test]
fn the_example_has_every_key_there_is() {
    let example: Value = serde_yaml::from_str(EXAMPLE).expect("valid");
    let mut mappings = Vec::new();
    collect_mappings(&example, &mut Vec::new(), &mut mappings);
    assert!(mappings.len() > 20, "found only {mappings:?}");
    for path in mappings {
        if path == ["export", "headers"] {
            continue;
        }
        let mut changed = example.clone();
        let mapping = mapping_at(&mut changed, &path);
        let keys: BTreeSet<String> =
            mapping.keys().map(|key| key.as_str().expect("text").to_owned()).collect();
        mapping.insert("zzz".into(), 1.into());
        assert_eq!(known_keys(&serde_yaml::to_string(&changed).expect("writes")), keys, "in {path:?}");
    }
}

#[test]
fn the_example_names_every_key_of_a_route() {
    let line = EXAMPLE.lines().find(|line| line.trim_start().starts_with("routes:")).expect("routes");
    let routes = "export: {endpoint: 'http://collector:4317'}\nslow: {routes: [{ignore: true, zzz: 1}]}";
    for key in known_keys(routes) {
        assert!(line.contains(&format!("{key}:")), "{key} is missing in {line}");
    }
}

fn collect_mappings(value: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let Value::Mapping(mapping) = value else { return };
    found.push(path.clone());
    for (key, value) in mapping {
        path.push(key.as_str().expect("text").to_owned());
        collect_mappings(value, path, found);
        path.pop();
    }
}

fn mapping_at<'v>(value: &'v mut Value, path: &[String]) -> &'v mut Mapping {
    let found = path.iter().fold(value, |value, key| &mut value[key.as_str()]);
    found.as_mapping_mut().expect("a mapping")
}

/// The keys that are listed where `zzz` is refused.
fn known_keys(yaml: &str) -> BTreeSet<String> {
    let problems = load_text(yaml, &[]).expect_err("zzz is no key");
    assert_eq!(problems.list.len(), 1, "{problems}");
    let problem = problems.list.first().expect("one");
    let known = problem.rule.strip_prefix("must be one of ").expect("a list of keys");
    known.split(", ").map(str::to_owned).collect()
}

// === values ===

#[test]
fn every_kind_of_value_is_read() {
    let config = load_text(
        r#"
memory_limit: 80%
receive:
  grpc: {endpoint: "0.0.0.0:4317"}
  max_in_flight: 16MiB
assemble:
  decision_wait: 1m30s
  on_overflow: refuse
slow:
  threshold: 300ms
  learned: {percentile: 99, factor: 2}
  routes:
    - {service: checkout, route: "POST /cart/*", threshold: 1.5s}
    - service: "health*"
      ignore: true
sample:
  healthy: 12.5%
baseline:
# its keys are commented out
#  time_to_live: 1h
enrich: {attributes: [service, delta_ms]}
export:
  endpoint: http://collector:4317
  headers: {x-tenant: 1, authorization: "Bearer $$1"}
"#,
        &[],
    )
    .expect("valid");
    assert_eq!(config.memory_limit, MemoryLimit::Given(Budget::Share(0.8)));
    assert_eq!(config.receive.grpc.endpoint.to_string(), "0.0.0.0:4317");
    assert_eq!(config.receive.max_in_flight, Budget::Bytes(16 << 20));
    assert_eq!(config.assemble.decision_wait, Duration::from_secs(90));
    assert_eq!(config.slow.threshold, Threshold::Fixed(Duration::from_millis(300)));
    let route = RouteOverride { service: "health*".to_owned(), ignore: true, ..RouteOverride::default() };
    assert_eq!(config.slow.routes[1], route);
    assert_eq!(config.slow.routes[0].threshold, Some(Duration::from_millis(1500)));
    assert_eq!(config.sample, laggard::config::Sample { healthy: 0.125, ..Config::default().sample });
    assert_eq!(config.baseline, Config::default().baseline);
    assert_eq!(config.export.headers["x-tenant"], "1");
    assert_eq!(config.export.headers["authorization"], "Bearer $1");
}

#[test]
fn variables_stand_anywhere_in_a_value_and_cannot_add_keys() {
    let yaml = "
receive: {grpc: {endpoint: ${env:IP:-127.0.0.1}:4317}} # ${env:NOT_SET} in a comment
assemble: {decision_cache: {sampled: ${env:COUNT}}}
export: {endpoint: \"${env:DESTINATION}\", headers: {token: ${env:TOKEN}}}
";
    let env = [("IP", "10.0.0.7"), ("COUNT", "7"), ("DESTINATION", "http://a:1"), ("TOKEN", "b, c: d} # e")];
    let config = load_text(yaml, &env).expect("valid");
    assert_eq!(config.receive.grpc.endpoint.to_string(), "10.0.0.7:4317");
    assert_eq!(config.assemble.decision_cache.sampled, 7);
    assert_eq!(config.export.endpoint, "http://a:1");
    assert_eq!(config.export.headers["token"], "b, c: d} # e");
}

// R14.
#[test]
fn the_file_decides_where_traces_go_and_else_the_environment() {
    let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:4317");
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317");
    for (yaml, env, expected) in [
        ("export: {endpoint: 'http://file:4317'}", &[general, traces][..], "http://file:4317"),
        ("", &[general, traces], "http://traces:4317"),
        ("", &[general], "http://general:4317"),
        ("export: {endpoint: ''}", &[general], "http://general:4317"),
        ("", &[general, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")], "http://general:4317"),
    ] {
        assert_eq!(load_text(yaml, env).expect("valid").export.endpoint, expected);
    }
    let problems = load_text("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector")]).expect_err("no URL");
    assert_eq!(
        problems.to_string(),
        "laggard.yaml: OTEL_EXPORTER_OTLP_ENDPOINT: must be a URL such as http://collector:4317, without a path, \
         got collector"
    );
    let config =
        load(None, &|name| (name == general.0).then(|| general.1.to_owned())).expect("no file needed");
    assert_eq!(config.export.endpoint, general.1);
    let problems = load(None, &|_| None).expect_err("nobody says where to");
    assert_eq!(
        problems.to_string(),
        "environment:1:1: export.endpoint: must say where traces go, or OTEL_EXPORTER_OTLP_ENDPOINT must, got nothing"
    );
    assert_eq!(load_for_replay(None, &|_| None).expect("nothing is sent"), Config::default());
}

// === mistakes ===

#[test]
fn all_mistakes_are_told_at_once() {
    check(
        "receive:
  grpc: {endpoint: localhost:4317, tls: {}}
  max_request_size: 64
asemble:
  decision_wait: 30s
slow:
  treshold: 1s
  learned: {percentile: 40, factor: fast}
  routes:
    - {threshold: 30, ignore: maybe}
    - [a]
sample: {healthy: 5, errors: 200%}
sample: {}
export:
  protocol: http
  headers: {authorization: \"a\\nb\", \"not a name\": b, te: c, key-bin: d}
  queue: {size: ${env:NOT_SET}}
  retry: {initial_interval: 40s}
",
        &[
            "2:20: receive.grpc.endpoint: must be an IP address and a port such as 127.0.0.1:4317, got localhost:4317",
            "2:36: receive.grpc.tls: must be one of endpoint, got tls",
            "3:21: receive.max_request_size: must be a size such as 64MiB, got 64",
            "4:1: asemble: must be one of memory_limit, receive, assemble, slow, sample, baseline, compare, enrich, \
             export, passthrough, shutdown, telemetry, got asemble, did you mean `assemble`?",
            "7:3: slow.treshold: must be one of threshold, learned, routes, got treshold, did you mean `threshold`?",
            "8:25: slow.learned.percentile: must be from 50 to 99.9, got 40",
            "8:37: slow.learned.factor: must be a number, got fast",
            "10:19: slow.routes[0].threshold: must be a duration such as 10s, got 30",
            "10:31: slow.routes[0].ignore: must be true or false, got maybe",
            "11:7: slow.routes[1]: must be a mapping, got a list",
            "12:19: sample.healthy: must be a share from 0% to 100%, got 5",
            "12:30: sample.errors: must be a share from 0% to 100%, got 200%",
            "13:1: sample: must be given once, is given in line 12 already, got a second sample",
            "15:3: export.endpoint: must say where traces go, or OTEL_EXPORTER_OTLP_ENDPOINT must, got nothing",
            "15:13: export.protocol: must be one of grpc, http/protobuf, got http",
            "16:28: export.headers.authorization: must be visible ASCII, got a value that is not shown",
            "16:50: export.headers.not a name: must be the name of an HTTP header, got a value that is not shown",
            "16:57: export.headers.te: must be left to the protocol, which sets it, got a value that is not shown",
            "16:69: export.headers.key-bin: must not end in -bin, which gRPC keeps for binary values, got a value \
             that is not shown",
            "17:17: export.queue.size: needs the environment variable NOT_SET, which is not set, got ${env:NOT_SET}",
            "18:29: export.retry.max_interval: must be at least export.retry.initial_interval (40s), got 30s",
        ],
    );
}

#[test]
fn text_that_is_no_plain_yaml_is_told_with_what_stands_before_it() {
    check(
        "compare: {max_spans: many}\nslow: [a",
        &[
            "1:22: compare.max_spans: must be a whole number from 0 to 18446744073709551615, got many",
            "2:7: slow: must be a mapping, got a list",
            "3:1: slow: must be valid YAML: while parsing a flow sequence, expected ',' or ']'",
        ],
    );
    check_with_destination(
        "compare: &a {max_spans: 3}\nbaseline: *a",
        &["2:11: baseline: must be written out, without YAML aliases, got an alias"],
    );
    check_with_destination(
        "sample: {dry_run: !!bool true}",
        &["1:19: sample.dry_run: must be without a YAML tag, got true"],
    );
    check_with_destination(
        "? [a]\n: {b: c}\n? {d: e}\n: f",
        &[
            "1:3: must have keys that are plain text, got a list",
            "3:3: must have keys that are plain text, got a mapping",
        ],
    );
    check_with_destination(
        "compare: {max_spans: ${env:LINES}}",
        &[
            "1:22: compare.max_spans: needs the environment variable LINES without line breaks, got ${env:LINES}",
        ],
    );
    check(
        "export: {endpoint: 'http://collector:4317'}\n---\nsample: {healthy: 5}",
        &["2:1: must be a single YAML document, got a second one"],
    );
    check("[]", &["1:1: must be a mapping, got a list"]);
}

#[test]
fn what_nests_or_repeats_without_end_is_refused() {
    let deep = format!("slow: {}{}", "[".repeat(40), "]".repeat(40));
    let problems = load_text(&deep, &[]).expect_err("too deep");
    assert!(problems.to_string().contains("must not nest deeper than 32 levels"), "{problems}");

    assert!(load_text(&"- ".repeat(60_000), &[]).is_err());

    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]";
    let problems = load_text(bomb, &[]).expect_err("aliases");
    assert!(problems.to_string().contains("without YAML aliases"), "{problems}");

    let long = format!("# {}", "x".repeat(128 << 10));
    let problems = load_text(&long, &[]).expect_err("too long");
    assert_eq!(problems.to_string(), "laggard.yaml: must be at most 128.0 KiB long");

    let wrong = format!("slow: {{routes: [{}]}}", "1,".repeat(1000));
    let problems = load_text(&wrong, &[]).expect_err("no routes");
    assert!((100..110).contains(&problems.list.len()), "{}", problems.list.len());
}

#[test]
fn a_file_that_is_no_text_is_told_as_a_whole() {
    let missing = load(Some("/does/not/exist.yaml".as_ref()), &|_| None).expect_err("no such file");
    assert_eq!(
        missing.to_string(),
        "/does/not/exist.yaml: cannot be read: No such file or directory (os error 2)"
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("binary");
    fs::write(&path, [0xff, 0xfe, 0x00]).expect("writes");
    let problems = load(Some(&path), &|_| None).expect_err("no text");
    assert_eq!(problems.list[0].to_string(), "must be UTF-8 text");
}

#[test]
fn a_value_in_quotes_or_without_content_is_told_as_it_is() {
    for (yaml, expected) in [
        ("sample: {dry_run: 'true'}", "1:19: sample.dry_run: must be true or false, got \"true\""),
        ("sample:\n  dry_run:", "2:3: sample.dry_run: must be true or false, got nothing"),
        ("sample:\n  healthy:", "2:3: sample.healthy: must be a share from 0% to 100%, got nothing"),
        (
            "assemble: {on_overflow: decied}",
            "1:25: assemble.on_overflow: must be one of decide, refuse, got decied, did you mean `decide`?",
        ),
        (
            "assemble: {on_overflow: [a]}",
            "1:25: assemble.on_overflow: must be one of decide, refuse, got a list",
        ),
        ("enrich: {attributes: service}", "1:22: enrich.attributes: must be a list, got service"),
        ("telemetry: {log: {format: xml}}", "1:27: telemetry.log.format: must be one of json, text, got xml"),
        (
            "slow: {learned: {min_traces: 5000000000}}",
            "1:30: slow.learned.min_traces: must be a whole number from 0 to 4294967295, got 5000000000",
        ),
        ("memory_limit: 99999TiB", "1:15: memory_limit: must be at most 64.0 TiB, got 99999TiB"),
        ("slow: {learned: {factor: .inf}}", "1:26: slow.learned.factor: must be a number, got .inf"),
        (
            "slow: {threshold: soon}",
            "1:19: slow.threshold: must be learned, or a duration such as 300ms, got soon",
        ),
        (
            "memory_limit: 1024",
            "1:15: memory_limit: must be auto, a size such as 512MiB, or a share of the cgroup's limit such as 80%, \
             got 1024",
        ),
    ] {
        check_with_destination(yaml, &[expected]);
    }
}

#[test]
fn ranges_are_checked() {
    for (yaml, expected) in [
        ("assemble: {decision_wait: 0s}", "1:27: assemble.decision_wait: must be more than 0s, got 0s"),
        ("baseline: {time_to_live: 400d}", "1:26: baseline.time_to_live: must be at most 365d, got 400d"),
        (
            "slow: {learned: {percentile: 99.95}}",
            "1:30: slow.learned.percentile: must be from 50 to 99.9, got 99.95",
        ),
        ("slow: {learned: {factor: 0.9}}", "1:26: slow.learned.factor: must be from 1 to 1000, got 0.9"),
        ("slow: {learned: {min_traces: 0}}", "1:30: slow.learned.min_traces: must be at least 1, got 0"),
        ("slow: {threshold: 0ms}", "1:19: slow.threshold: must be more than 0s, got 0ms"),
        (
            "slow: {routes: [{service: a}]}",
            "1:17: slow.routes[0]: must have a threshold, or ignore: true, got a mapping",
        ),
        (
            "slow: {routes: [{threshold: 1s, ignore: true}]}",
            "1:29: slow.routes[0].threshold: must be left out where ignore is true, got 1s",
        ),
        (
            "baseline: {references_per_shape: 0}",
            "1:34: baseline.references_per_shape: must be from 1 to 1024, got 0",
        ),
        ("receive: {max_request_size: 0B}", "1:29: receive.max_request_size: must be more than 0B, got 0B"),
        (
            "receive: {max_request_size: 3GiB}",
            "1:29: receive.max_request_size: must be at most 2GiB, got 3GiB",
        ),
    ] {
        check_with_destination(yaml, &[expected]);
    }
}

#[test]
fn keys_that_must_agree_are_checked_together() {
    for (yaml, expected) in [
        (
            "assemble: {decision_wait: 5s}",
            "1:27: assemble.decision_wait_after_root_received: must be at most assemble.decision_wait (5s), got 10s",
        ),
        (
            "receive: {http: {endpoint: '0.0.0.0:4317'}}",
            "1:28: receive.http.endpoint: must be another address than receive.grpc.endpoint (127.0.0.1:4317), got \
             \"0.0.0.0:4317\"",
        ),
        (
            "memory_limit: 1GiB\nexport: {queue: {size: 75%}, endpoint: 'http://a:1'}",
            "2:24: export.queue.size: must leave room for held traces, at most 80% together with \
             receive.max_in_flight and baseline.max_size, got 75%",
        ),
        (
            "memory_limit: 64MiB\nexport: {queue: {size: 65MiB}, endpoint: 'http://a:1'}",
            "2:24: export.queue.size: must fit into memory_limit (64.0 MiB here), got 65MiB",
        ),
        (
            "memory_limit: 64MiB\nexport: {queue: {size: 60MiB}, endpoint: 'http://a:1'}",
            "2:24: export.queue.size: must leave room for held traces, at most 51.2 MiB together with \
             receive.max_in_flight and baseline.max_size, got 60MiB",
        ),
        (
            "memory_limit: 32MiB\nreceive: {max_request_size: 64MiB}\nexport: {endpoint: 'http://a:1'}",
            "2:29: receive.max_request_size: must fit into memory_limit (32.0 MiB here), got 64MiB",
        ),
        (
            "export: {queue: {size: 1MiB}, batch: {max_size: 2MiB}, endpoint: 'http://a:1'}",
            "1:49: export.batch.max_size: must be at most export.queue.size (1.0 MiB), got 2MiB",
        ),
        (
            "memory_limit: 1MiB\nexport: {endpoint: 'http://a:1'}",
            "1:15: memory_limit: must be at least 16.0 MiB, got 1MiB",
        ),
        (
            "export: {endpoint: 'http://localhost:4317'}",
            "1:20: export.endpoint: must not be a port of our own, receive.grpc.endpoint is 127.0.0.1:4317, got \
             \"http://localhost:4317\"",
        ),
        (
            "export: {endpoint: 'http://user:secret@collector:4317'}",
            "1:20: export.endpoint: must be a URL such as http://collector:4317, without a path, got a value that is \
             not shown",
        ),
    ] {
        check(
            &if yaml.contains("endpoint: 'http://") { yaml.to_owned() } else { with_destination(yaml) },
            &[expected],
        );
    }
    // A small limit that comes with the machine cuts defaults, and is no mistake.
    assert!(load_text("memory_limit: 16MiB\nexport: {endpoint: 'http://a:1'}", &[]).is_ok());
}

#[test]
fn a_wrong_value_gives_one_problem_and_hides_no_other() {
    check_with_destination(
        "assemble: {decision_wait: 3, decision_wait_after_root_received: 50s}\nslow: {routes: [1, {service: a}]}",
        &[
            "1:27: assemble.decision_wait: must be a duration such as 10s, got 3",
            "2:17: slow.routes[0]: must be a mapping, got 1",
        ],
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(
        edits in proptest::collection::vec((0..EXAMPLE.len(), "[ -~\\n\\t\u{0}\u{85}\u{f0000}]{0,3}"), 1..20)
    ) {
        let mut text = EXAMPLE.to_owned();
        for (at, edit) in edits {
            // The example is ASCII, what has been put in may not be.
            let at = (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.insert_str(at, &edit);
        }
        if let Err(problems) = load_text(&text, &[]) {
            proptest::prop_assert!(!problems.list.is_empty());
            proptest::prop_assert_eq!(problems.to_string().lines().count(), problems.list.len());
        }
    }
}
