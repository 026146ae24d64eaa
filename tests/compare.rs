//! `laggard compare`, seen from outside: formats, answers, and what it says when there is none.

#[path = "support/otlp_json.rs"]
mod otlp_json;
#[path = "compare/page.rs"]
mod page;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use otlp_json::{Origin, resource_spans};
use page::page;
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
    let origin = Origin { trace: number, epoch: EPOCH };
    let web = [
        origin.span((1, 0), "inference-span", 2, (0, own + 432)),
        origin.span((2, 1), "POST", 3, (5, own + 428)),
    ];
    let pre = [
        origin.span((3, 2), "preprocess-request", 2, (6, own + 427)),
        origin.span((4, 3), "POST", 3, (own, own + 425)),
    ];
    let inference = [origin.span((5, 4), "inference-service-post", 2, (own + 1, own + 424))];
    json!({ "resourceSpans": [
        resource_spans("web-server", &web),
        resource_spans("pre-processor", &pre),
        resource_spans("inference-server", &inference),
    ] })
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
        "pre-processor made it slow (own_time, confidence 0.76)\n",
        "pre-processor +775 ms of +775 ms (100.0%): 38.0 ms -> 813 ms, mostly own time in\n\"preprocess-request\"; this trace 1247 ms",
        "service            fast ms   slow ms   added ms    share\n",
        "pre-processor       38.000   813.000   +775.000   100.0%\n",
        "inference-server   425.000   425.000      0.000     0.0%\n",
        "<-- culprit",
        "\nfast\n",
        "\nslow\n",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    assert!(!text.contains('\x1b'), "a file gets no colours");
}

fn text_at(columns: &str, fast: &Path, slow: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_laggard"));
    command.arg("compare").args([fast, slow]).env_clear().env("COLUMNS", columns);
    String::from_utf8(command.output().expect("the program starts").stdout).expect("text")
}

#[test]
fn waterfalls_stand_side_by_side_where_there_is_room_on_one_scale() {
    let (fast, slow) = (example("fast.otlp.json"), example("slow.otlp.json"));
    let wide = text_at("150", &fast, &slow);
    let rows: Vec<&str> = wide
        .lines()
        .filter(|line| line.matches("preprocess-req").count() == 2 && line.contains(" | "))
        .collect();
    assert_eq!(rows.len(), 1, "the same call is on one line of both: {wide}");
    assert!(rows[0].contains("467.2 ms") && rows[0].ends_with("1,198.2 ms  <-- culprit"), "{wide}");
    assert!(wide.lines().all(|line| line.chars().count() <= 150), "{wide}");
    let narrow = text_at("50", &fast, &slow);
    let expected = "\
service        fast ms   slow ms   added ms   share
pre-proce...    45.850   775.229   +729.379   99.7%
inference...   421.300   422.967     +1.667    0.2%
web-server       8.950     9.188     +0.238    0.0%

fast
# own time, - ... 1,207.4 ms
web-server inf... ---        476.1 ms
  pre-processo... ---        467.2 ms
    inference-... ###        421.3 ms

slow
# own time, - ... 1,207.4 ms
web-server inf... -------- 1,207.4 ms
  pre-processo... #####--- 1,198.2 ms  <-- culprit
    inference-...      ###   423.0 ms
";
    assert!(narrow.ends_with(expected), "{narrow}");
}

#[test]
fn names_cannot_steer_a_terminal() {
    let files = Files::new();
    let hostile =
        |number, own| trace(number, own).to_string().replace("pre-processor", r"pre\u001b[2J\u202e");
    let fast = files.write("fast.json", hostile(1, 40));
    let slow = files.write("slow.json", hostile(2, 815));
    let text = text_at("100", &fast, &slow);
    assert!(text.starts_with(r"pre\u{1b}[2J\u{202e} made it slow"), "{text}");
    assert!(!text.contains(['\x1b', '\u{202e}']), "{text}");
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

/// A file of `tests/files`: the running example, a fast and a slow trace.
fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(name)
}

#[test]
fn the_running_example_has_the_same_answer_and_numbers_in_every_format() {
    let files = Files::new();
    let gzip = |name: &str| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&fs::read(example(name)).expect("there")).expect("memory");
        files.write(&format!("{name}.gz"), gzip.finish().expect("memory"))
    };
    let expected = compare(&example("fast.otlp.json"), &example("slow.otlp.json"));
    assert_eq!(expected["service"], "pre-processor");
    assert_eq!(expected["phase"], "start -> successful_response");
    let rows = |key: &str| -> Vec<Value> {
        expected["services"].as_array().expect("a list").iter().map(|row| row[key].clone()).collect()
    };
    assert_eq!(rows("service"), ["pre-processor", "inference-server", "web-server"]);
    assert_eq!(rows("slow_ms"), [775.229, 422.967, 9.188], "checked by hand in the design");
    assert_eq!(rows("fast_ms"), [45.85, 421.3, 8.95]);
    for format in ["otlp", "tempo", "tempo-v2", "jaeger", "zipkin"] {
        let (fast, slow) = (format!("fast.{format}.json"), format!("slow.{format}.json"));
        assert_eq!(compare(&example(&fast), &example(&slow)), expected, "{format}");
        assert_eq!(compare(&gzip(&fast), &gzip(&slow)), expected, "{format}, gzip");
        assert_eq!(compare(&example("fast.otlp.json"), &example(&slow)), expected, "OTLP and {format}");
    }
}

#[test]
fn standard_input_is_one_of_the_files() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_laggard"));
    command.args(["compare", "-"]).arg(example("slow.zipkin.json")).args(["--format", "json"]).env_clear();
    command.stdin(fs::File::open(example("fast.jaeger.json")).expect("there"));
    let output = command.output().expect("the program starts");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["service"], "pre-processor");
}

#[test]
fn spans_that_cannot_be_read_are_said() {
    let files = Files::new();
    let mut slow: Value =
        serde_json::from_slice(&fs::read(example("slow.zipkin.json")).expect("there")).expect("JSON");
    slow.as_array_mut().expect("a list").push(json!({"traceId": "1", "id": "none"}));
    let slow = files.write("slow.json", slow.to_string());
    check(
        &[&example("fast.zipkin.json"), &slow],
        0,
        &["slow.json: 1 span cannot be read and left out: Zipkin span none"],
    );
    let warnings = compare(&example("fast.zipkin.json"), &slow)["warnings"].to_string();
    assert!(warnings.contains("slow.json: 1 span cannot be read and left out"), "{warnings}");
    assert_eq!(compare(&example("fast.zipkin.json"), &example("slow.zipkin.json"))["warnings"], Value::Null);
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
    let without = |name: &str, mut trace: Value, (service, span): (usize, usize)| {
        trace["resourceSpans"][service]["scopeSpans"][0]["spans"]
            .as_array_mut()
            .expect("a list")
            .remove(span);
        files.write(name, trace.to_string())
    };
    let mut entry = trace(3, 815);
    entry["resourceSpans"].as_array_mut().expect("a list").truncate(1);
    let entry_only = files.write("entry.json", entry.to_string());
    let torn = without("torn.json", trace(3, 815), (0, 1));
    let torn_fast = without("torn-fast.json", trace(3, 40), (0, 1));
    let rootless = without("rootless.json", trace(3, 40), (0, 0));
    for (fast, slow, reason, sentence) in [
        (
            &fast,
            &other_route,
            "baseline_mismatch",
            "SLOW is a trace of web-server GET /health, FAST of web-server inference-span",
        ),
        (&fast, &stranger, "baseline_mismatch", "FAST and SLOW have no service in common"),
        (
            &fast,
            &entry_only,
            "baseline_mismatch",
            "SLOW makes none of the calls that FAST makes, so their times cannot be compared",
        ),
        (
            &fast,
            &torn,
            "incomplete_trace",
            "of SLOW, 3 of 4 spans are not below the entry span or have no credible times, and what is left makes other \
             calls than fast traces do",
        ),
        (
            &torn_fast,
            &slow,
            "incomplete_trace",
            "FAST lacks spans, and what is left of it makes other calls than SLOW does",
        ),
        (&rootless, &slow, "incomplete_trace", "FAST has no root span"),
        (
            &slow,
            &fast,
            "not_slower",
            "SLOW is the faster one: it took 472 ms, FAST 1247 ms; are they swapped?",
        ),
    ] {
        let output = check(&[fast, slow, &"--format", &"json"], 0, &[]);
        assert!(output.stderr.is_empty(), "it is said once");
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!((&answer["verdict"], &answer["reason"]), (&json!("inconclusive"), &json!(reason)));
        assert_eq!(answer["explanation"], sentence);
    }
}

#[test]
fn a_trace_that_is_hardly_slower_has_no_culprit() {
    let files = Files::new();
    let fast = files.write("fast.json", trace(1, 40).to_string());
    let answer = compare(&fast, &files.write("slow.json", trace(2, 50).to_string()));
    assert_eq!((&answer["verdict"], &answer["reason"]), (&json!("inconclusive"), &json!("not_slower")));
    assert_eq!(
        answer["explanation"],
        "+10.0 ms is too little to ask why; up to +23.6 ms may be chance: this trace 482 ms, fast reference 472 ms"
    );
    let answer = compare(&fast, &files.write("same.json", trace(3, 40).to_string()));
    assert_eq!(
        answer["explanation"],
        "not slower than its references: this trace 472 ms, fast reference 472 ms"
    );
}

/// A call of `web` to `db`, made so many times, 20 ms each.
fn calls(number: u64, count: u64) -> Value {
    let origin = Origin { trace: number, epoch: EPOCH };
    let mut web = vec![origin.span((1, 0), "GET /", 2, (0, 20 * count + 10))];
    web.extend((0..count).map(|n| origin.span((10 + n, 1), "GET", 3, (5 + 20 * n, 25 + 20 * n))));
    let answer = |n: u64| origin.span((1000 + n, 10 + n), "GET /item", 2, (6 + 20 * n, 24 + 20 * n));
    let stock: Vec<Value> = (0..count).map(answer).collect();
    json!({ "resourceSpans": [resource_spans("web", &web), resource_spans("stock", &stock)] })
}

#[test]
fn time_of_more_calls_is_marked_in_the_table_as_that_of_who_made_them() {
    let files = Files::new();
    let fast = files.write("fast.json", calls(1, 1).to_string());
    let slow = files.write("slow.json", calls(2, 21).to_string());
    let answer = compare(&fast, &slow);
    assert_eq!((&answer["service"], &answer["category"]), (&json!("web"), &json!("extra_calls")));
    assert_eq!(answer["services"][0]["share"], answer["share"]);
    assert_eq!(answer["candidates"][0]["share"], answer["share"], "one definition");
    let text = String::from_utf8(laggard(&[&fast, &slow]).stdout).expect("text");
    let expected = "\
service   fast ms   slow ms   added ms    share
web        10.000   410.000   +400.000   100.0% *
stock      20.000    20.000      0.000     0.0% *
* 400.000 ms of calls count for web, which is to blame for them, not for who made or answered them
";
    assert!(text.contains(expected), "{text}");
    let page = page(&fast, &slow);
    assert!(page.contains("<bdi>web</bdi> *</th>"), "{page}");
    assert!(page.contains("* 400.000 ms of calls count for web, which is to blame for them"), "{page}");
}

#[test]
fn a_fast_trace_that_failed_is_used_with_a_warning() {
    let files = Files::new();
    let mut failed = trace(1, 40);
    failed["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["status"] = json!({"code": 2});
    let fast = files.write("fast.json", failed.to_string());
    let slow = files.write("slow.json", trace(2, 815).to_string());
    check(&[&fast, &slow], 0, &["a trace of FAST has an error where a service was entered"]);
    // One that also did less may have been fast for that.
    let mut less = calls(1, 1);
    less["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["status"] = json!({"code": 2});
    less["resourceSpans"][0]["scopeSpans"][0]["spans"]
        .as_array_mut()
        .expect("a list")
        .push(Origin { trace: 1, epoch: EPOCH }.span((5, 1), "SELECT", 3, (1, 2)));
    let mut whole = calls(2, 1);
    whole["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["endTimeUnixNano"] =
        json!((EPOCH + 200_000_000).to_string());
    whole["resourceSpans"][0]["scopeSpans"][0]["spans"]
        .as_array_mut()
        .expect("a list")
        .push(Origin { trace: 2, epoch: EPOCH }.span((5, 1), "UPDATE", 3, (30, 190)));
    let answer =
        compare(&files.write("less.json", less.to_string()), &files.write("whole.json", whole.to_string()));
    assert_eq!(answer["reason"], "baseline_mismatch", "{answer}");
    assert!(answer["explanation"].as_str().is_some_and(|said| said.starts_with("FAST failed")), "{answer}");
}

#[test]
fn unreadable_input_ends_with_65_and_one_sentence() {
    let files = Files::new();
    let fast = files.write("fast.json", trace(1, 40).to_string());
    for (content, words) in [
        (&b"{\"resourceSpans\": [}"[..], "holds broken JSON: expected value at line 1 column 20"),
        (b"{\"resourceSpans\": 1}", "is not an OTLP/JSON trace request"),
        (
            b"hello",
            "holds text that is no JSON; expected traces as OTLP (JSON or protobuf), Jaeger JSON or Zipkin",
        ),
        (b"{\"resourceSpans\": []}", "holds no span with valid ids"),
        (
            b"[{\"traceId\": \"1\", \"id\": \"1\"}]",
            "holds no span that can be read: Zipkin span 1: has no timestamp",
        ),
        (b"", "is empty"),
    ] {
        let output = check(&[&fast, &files.write("bad", content)], 65, &["laggard: ", "bad: ", words]);
        assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
    }
    check(&[&fast, &files.write("cut.gz", b"\x1f\x8b\x08\x00cut")], 65, &["cut.gz cannot be read: "]);
    check(&[&fast, &files.0.path().join("absent")], 65, &["absent cannot be read: No such file"]);
    check(&[&fast, &fast], 65, &["holds only the slow trace"]);
}
