//! `laggard compare`, seen from outside: formats, answers, and what it says when there is none.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

const EPOCH: u64 = 1_700_000_000_000_000_000;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).expect("written");
        path
    }
}

/// The running example: pre-processor works `own` milliseconds.
fn trace(number: u64, own: u64) -> Value {
    let spans = [
        ("web-server", "0000000000000001", "", "inference-span", 2, 0, own + 432),
        ("web-server", "0000000000000002", "0000000000000001", "POST", 3, 5, own + 428),
        ("pre-processor", "0000000000000003", "0000000000000002", "preprocess-request", 2, 6, own + 427),
        ("pre-processor", "0000000000000004", "0000000000000003", "POST", 3, own, own + 425),
        (
            "inference-server",
            "0000000000000005",
            "0000000000000004",
            "inference-service-post",
            2,
            own + 1,
            own + 424,
        ),
    ];
    let resource_spans = spans.map(|(service, id, parent, name, kind, start, end)| {
        json!({
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
            "scopeSpans": [{"spans": [{
                "traceId": format!("{number:032x}"), "spanId": id, "parentSpanId": parent, "name": name, "kind": kind,
                "startTimeUnixNano": (EPOCH + start * 1_000_000).to_string(),
                "endTimeUnixNano": (EPOCH + end * 1_000_000).to_string(),
            }]}],
        })
    });
    json!({ "resourceSpans": resource_spans })
}

fn laggard(args: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_laggard"));
    command.arg("compare").env_clear();
    command.args(args.iter().map(AsRef::as_ref));
    command.output().expect("the program starts")
}

fn compare(fast: &Path, slow: &Path) -> Value {
    let output = laggard(&[&fast, &slow, &"--format", &"json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The program ends with `code` and says something with `words` in it on stderr.
fn check(args: &[&dyn AsRef<std::ffi::OsStr>], code: i32, words: &[&str]) -> Output {
    let output = laggard(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
    output
}

#[test]
fn the_service_that_grew_is_named_with_its_numbers() {
    let files = Files::new();
    let fast = files.write("fast.json", trace(1, 40).to_string());
    let slow = files.write("slow.json", trace(2, 815).to_string());
    let answer = compare(&fast, &slow);
    assert_eq!(answer["verdict"], "identified");
    assert_eq!((&answer["service"], &answer["category"]), (&json!("pre-processor"), &json!("own_time")));
    assert_eq!((&answer["delta_ms"], &answer["share"]), (&json!(775.0), &json!(1.0)));
    assert_eq!(
        (&answer["fast"]["duration_ms"], &answer["slow"]["duration_ms"]),
        (&json!(472.0), &json!(1247.0))
    );
    assert_eq!(
        (&answer["slow"]["spans"], &answer["fast"]["trace_id"]),
        (&json!(5), &json!(format!("{:032x}", 1)))
    );
    let services = answer["services"].as_array().expect("a list");
    let sum = |key: &str| services.iter().filter_map(|row| row[key].as_f64()).sum::<f64>();
    assert_eq!((sum("fast_ms"), sum("slow_ms"), sum("added_ms")), (472.0, 1247.0, 775.0));
    assert_eq!(services[0]["service"], "pre-processor");
}

#[test]
fn text_has_the_sentence_the_table_and_both_waterfalls() {
    let files = Files::new();
    let fast = files.write("fast.json", trace(1, 40).to_string());
    let slow = files.write("slow.json", trace(2, 815).to_string());
    let output = laggard(&[&fast, &slow]);
    let text = String::from_utf8(output.stdout).expect("text");
    for part in [
        "pre-processor made it slow (own_time, confidence 0.80)\n",
        "pre-processor +775 ms of +775 ms (100.0%): own time 36.0 ms -> 811 ms in \"preprocess-request\"",
        "service                fast ms       slow ms      added ms   share\n",
        "pre-processor           38.000       813.000      +775.000  100.0%\n",
        "inference-server       425.000       425.000        +0.000    0.0%\n",
        "<-- culprit",
        "\nfast\n",
        "\nslow\n",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    assert!(!text.contains('\x1b'), "a file gets no colours");
}

#[test]
fn every_form_of_the_same_trace_gives_the_same_answer() {
    let files = Files::new();
    let slow = files.write("slow.json", trace(2, 815).to_string());
    let expected = compare(&files.write("fast.json", trace(1, 40).to_string()), &slow);

    let mut tempo = trace(1, 40);
    tempo["batches"] = tempo["resourceSpans"].take();
    tempo.as_object_mut().expect("an object").remove("resourceSpans");
    let lines: Vec<String> = trace(1, 40)["resourceSpans"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|part| json!({ "resourceSpans": [part] }).to_string())
        .collect();
    let protobuf =
        laggard::otlp::json::to_protobuf(trace(1, 40).to_string().as_bytes()).expect("valid").request;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(trace(1, 40).to_string().as_bytes()).expect("memory");
    for (name, content) in [
        ("tempo.json", tempo.to_string().into_bytes()),
        ("pretty.json", serde_json::to_vec_pretty(&trace(1, 40)).expect("JSON")),
        ("lines.jsonl", lines.join("\n").into_bytes()),
        ("trace.binpb", protobuf),
        ("trace.json.gz", gzip.finish().expect("memory")),
    ] {
        assert_eq!(compare(&files.write(name, content), &slow), expected, "{name}");
    }
}

#[test]
fn many_fast_traces_are_many_references() {
    let files = Files::new();
    let fast: Vec<String> = (10..20).map(|number| trace(number, 30 + number).to_string()).collect();
    let fast = files.write("fast.jsonl", fast.join("\n"));
    let answer = compare(&fast, &files.write("slow.json", trace(2, 815).to_string()));
    assert_eq!(answer["baseline"]["count"], 10);
    assert_eq!(answer["baseline"]["duration_ms"], 476.0, "the median");
    assert_eq!(answer["service"], "pre-processor");
}

#[test]
fn of_several_slow_traces_one_has_to_be_named() {
    let files = Files::new();
    let fast = files.write("fast.json", trace(1, 40).to_string());
    let slow = files.write("slow.jsonl", format!("{}\n{}\n", trace(2, 815), trace(3, 50)));
    let first = format!("{:032x}", 2);
    check(&[&fast, &slow], 64, &["holds 2 traces, so --trace-id must say which one", &first, "1247 ms"]);
    check(&[&fast, &slow, &"--trace-id", &format!("{:032x}", 9)], 64, &["holds no trace", &first]);
    let output = check(&[&fast, &slow, &"--trace-id", &first], 0, &[]);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("pre-processor made it slow"));
}

#[test]
fn what_cannot_be_compared_is_said_in_a_sentence_and_gives_no_verdict() {
    let files = Files::new();
    let fast = files.write("fast.json", trace(1, 40).to_string());
    let slow = files.write("slow.json", trace(2, 815).to_string());
    let renamed = |from: &str, to: &str| trace(3, 815).to_string().replace(from, to);
    let other_route = files.write("route.json", renamed("inference-span", "GET /health"));
    let stranger = files.write(
        "stranger.json",
        renamed("web-server", "a").replace("pre-processor", "b").replace("inference-server", "c"),
    );
    for (fast, slow, reason, sentence) in [
        (
            &fast,
            &other_route,
            "baseline_mismatch",
            "SLOW is a trace of web-server GET /health, FAST of web-server inference-span",
        ),
        (&fast, &stranger, "baseline_mismatch", "FAST and SLOW have no service in common"),
        (&slow, &fast, "not_slower", "FAST took 1247 ms, SLOW 472 ms: are they swapped?"),
    ] {
        let output = check(&[fast, slow, &"--format", &"json"], 0, &[sentence]);
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!((&answer["verdict"], &answer["reason"]), (&json!("inconclusive"), &json!(reason)));
        assert_eq!(answer["explanation"], sentence);
    }
}

#[test]
fn a_fast_trace_that_failed_is_used_with_a_warning() {
    let files = Files::new();
    let mut failed = trace(1, 40);
    failed["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["status"] = json!({"code": 2});
    let fast = files.write("fast.json", failed.to_string());
    let slow = files.write("slow.json", trace(2, 815).to_string());
    check(&[&fast, &slow], 0, &["a trace of FAST has an error on its entry span"]);
}

#[test]
fn unreadable_input_ends_with_65_and_one_sentence() {
    let files = Files::new();
    let fast = files.write("fast.json", trace(1, 40).to_string());
    for (content, words) in [
        (&b"{\"resourceSpans\": [}"[..], "not an OTLP/JSON trace request"),
        (b"hello", "neither OTLP/JSON nor OTLP protobuf"),
        (b"{}", "holds no span with valid ids"),
        (b"", "holds no span with valid ids"),
    ] {
        let output = check(&[&fast, &files.write("bad", content)], 65, &["laggard: ", "bad: ", words]);
        assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
    }
    check(&[&fast, &files.0.path().join("absent")], 65, &["absent cannot be read: No such file"]);
    check(&[&fast, &fast], 65, &["holds only the slow trace"]);
}
