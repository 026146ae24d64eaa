//! `laggard replay`, seen from outside: its lines, its summary, its time, and what it says of bad input.

#[path = "support/otlp_json.rs"]
mod otlp_json;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use otlp_json::{Origin, resource_spans};
use serde_json::{Value, json};

const EPOCH: u64 = 1_700_000_000_000_000_000;
const DAY: u64 = 86_400;

/// A call of `web` to `db`, begun `at` milliseconds after `day`, in which `db` works `work` milliseconds.
fn request(number: u64, day: u64, at: u64, work: u64) -> String {
    // Ids that differ by one alone would all be sampled alike.
    let trace = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let origin = Origin { trace, epoch: EPOCH + day * DAY * 1_000_000_000 + at * 1_000_000 };
    let web =
        vec![origin.span((1, 0), "GET /", 2, (0, work + 20)), origin.span((2, 1), "GET", 3, (5, work + 15))];
    let db = [origin.span((3, 2), "query", 2, (6, work + 14))];
    json!({ "resourceSpans": [resource_spans("web", &web), resource_spans("db", &db)] }).to_string()
}

/// `count` requests, two a second.
fn traffic(first: u64, count: u64, day: u64, work: u64) -> String {
    let lines = (0..count).map(|n| request(first + n, day, n * 500, work + n % 7));
    lines.collect::<Vec<_>>().join("\n")
}

struct Case {
    directory: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, content).expect("written");
        path
    }

    fn replay(&self, args: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_laggard"));
        command.arg("replay").env_clear().current_dir(&self.directory);
        command.args(args.iter().map(AsRef::as_ref));
        command.output().expect("the program starts")
    }
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

fn succeeded(output: Output) -> (Vec<Value>, String) {
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(0), "{said}");
    (lines(&output.stdout), said)
}

#[test]
fn each_slow_trace_gives_one_line_with_all_its_fields() {
    let case = Case::new();
    let warm = case.file("warm.jsonl", traffic(1, 60, 0, 30));
    let fault = case.file("fault.jsonl", traffic(100, 4, 0, 30) + "\n" + &request(200, 0, 2_500, 400));
    let (lines, said) = succeeded(case.replay(&[&"--warm", &warm, &fault]));
    let [line] = &lines[..] else { panic!("one trace is slow: {lines:?}") };
    for (key, expected) in [
        ("trace_id", json!(format!("{:032x}", 200_u64.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))),
        ("route", json!("web GET /")),
        ("duration_ms", json!(420.0)),
        ("verdict", json!("identified")),
        ("service", json!("db")),
        ("category", json!("own_time")),
        ("operation", json!("query")),
        ("span_id", json!(format!("{:016x}", 3))),
    ] {
        assert_eq!(line[key], expected, "{key}");
    }
    assert!(line["threshold_ms"].as_f64().is_some_and(|ms| (50.0..100.0).contains(&ms)));
    assert!(line["confidence"].as_f64().is_some_and(|confidence| (0.5..=0.95).contains(&confidence)));
    assert_eq!(
        line["delta_ms"].as_f64().map(f64::round),
        line["candidates"][0]["delta_ms"].as_f64().map(f64::round)
    );
    assert!(line["baseline"]["count"].as_u64().is_some_and(|count| count > 8));
    assert!(line["explanation"].as_str().is_some_and(|text| text.starts_with("db +")));
    assert!(line.get("reason").is_none());
    assert!(said.contains("15 spans in ") && said.contains(" spans/s"), "{said}");
    assert!(said.contains("web GET /: 1 verdicts: db 1"), "{said}");
    assert!(said.contains("(1 slow, 0 error,"), "{said}");
    let counts: Vec<u64> = said
        .lines()
        .find_map(|line| line.strip_prefix("traces: "))
        .map(|line| {
            line.split(|letter: char| !letter.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
        })
        .expect("a summary");
    let [kept, slow, error, healthy, learning, dropped] = counts[..] else { panic!("{said}") };
    assert_eq!((kept, kept + dropped), (slow + error + healthy + learning, 5), "{said}");
}

#[test]
fn a_root_with_absurd_times_blames_nobody_and_lets_nothing_learned_expire() {
    let case = Case::new();
    let warm = case.file("warm.jsonl", traffic(1, 60, 0, 30));
    let slow = request(200, 0, 500, 400);
    let of_root = |key: &str, at: u64| format!("\"{key}\":\"{}\"", EPOCH + at * 1_000_000);
    for (key, at, absurd) in [("startTimeUnixNano", 0, 1), ("endTimeUnixNano", 420, u64::MAX)] {
        let wrong = request(100, 0, 0, 400);
        assert!(wrong.contains(&of_root(key, at)), "{wrong}");
        let wrong = wrong.replace(&of_root(key, at), &format!("\"{key}\":\"{absurd}\""));
        let fault = case.file("fault.jsonl", wrong + "\n" + &slow);
        let (lines, _) = succeeded(case.replay(&[&"--warm", &warm, &fault]));
        let verdicts: Vec<_> = lines.iter().map(|line| (&line["verdict"], &line["service"])).collect();
        assert!(verdicts.contains(&(&json!("identified"), &json!("db"))), "{lines:?}");
        assert!(!verdicts.iter().any(|(_, service)| *service == "web"), "{lines:?}");
    }
}

#[test]
fn a_file_in_many_lines_is_refused_by_one_sentence() {
    let case = Case::new();
    let value: Value = serde_json::from_str(&request(1, 0, 0, 30)).expect("JSON");
    let pretty = case.file("pretty.json", serde_json::to_string_pretty(&value).expect("JSON"));
    let output = case.replay(&[&pretty]);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(65), "{said}");
    assert!(
        said.contains("pretty.json: its JSON stands in many lines; a recording has one request a line"),
        "{said}"
    );
    assert!(!said.contains("line 2") && !said.contains("holds no span"), "{said}");
}

#[test]
fn a_file_that_is_something_else_is_said_to_hold_no_span() {
    let case = Case::new();
    let jaeger = case.file("jaeger.json", r#"{"data": [{"traceID": "1", "spans": []}]}"#);
    let (_, said) = succeeded(case.replay(&[&jaeger]));
    assert!(said.contains("jaeger.json: holds no span; expected OTLP/JSON, one request a line\n"), "{said}");
}

#[test]
fn an_output_that_is_an_input_is_refused_before_it_is_emptied() {
    let case = Case::new();
    let warm = case.file("warm.jsonl", traffic(1, 4, 0, 30));
    let fault = case.file("fault.jsonl", traffic(9, 4, 0, 30));
    for place in ["fault.jsonl", "./warm.jsonl"] {
        let output = case.replay(&[&"--warm", &warm, &"--output", &place, &fault]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.starts_with(&format!("laggard: --output {place} is also an input")), "{said}");
    }
    for path in [warm, fault] {
        assert!(fs::metadata(path).expect("there").len() > 0);
    }
}

#[test]
fn what_was_learned_on_another_day_holds() {
    let case = Case::new();
    let fault = case.file("fault.jsonl", request(200, 0, 0, 400));
    for day in [400, 0, 800] {
        let warm = case.file("warm.jsonl", traffic(1, 60, day, 30));
        let (lines, _) = succeeded(case.replay(&[&"--warm", &warm, &fault]));
        assert_eq!(lines[0]["service"], "db", "learned on day {day}");
    }
}

#[test]
fn the_output_file_has_the_same_lines_whatever_the_compression_of_the_input() {
    let case = Case::new();
    let text = traffic(1, 60, 0, 30) + "\n\n" + &request(200, 0, 31_000, 400) + "\n";
    let plain = case.file("plain.jsonl", &text);
    let zstd = case.file("fault.zst", zstd::encode_all(text.as_bytes(), 1).expect("memory"));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, text.as_bytes()).expect("memory");
    let gzip = case.file("fault.gz", gzip.finish().expect("memory"));
    let (expected, _) = succeeded(case.replay(&[&plain]));
    assert_eq!(expected.len(), 1);
    for compressed in [&gzip, &zstd] {
        let (on_stdout, _) = succeeded(case.replay(&[&"--output", &"lines.jsonl", compressed]));
        assert!(on_stdout.is_empty());
        let written = fs::read(case.directory.path().join("lines.jsonl")).expect("written");
        assert_eq!(lines(&written), expected);
    }
}

#[test]
fn a_trace_in_many_requests_is_one_trace() {
    let case = Case::new();
    let warm = case.file("warm.jsonl", traffic(1, 60, 0, 30));
    let slow: Value = serde_json::from_str(&request(200, 0, 0, 400)).expect("JSON");
    let parts = slow["resourceSpans"].as_array().expect("a list");
    let parts: Vec<String> =
        parts.iter().map(|part| json!({ "resourceSpans": [part] }).to_string()).collect();
    let fault = case.file("fault.jsonl", parts.join("\n"));
    let (lines, _) = succeeded(case.replay(&[&"--warm", &warm, &fault]));
    assert_eq!((lines.len(), &lines[0]["service"]), (1, &json!("db")));
}

#[test]
fn a_line_that_cannot_be_read_is_named_and_left_out_and_the_end_is_65() {
    let case = Case::new();
    let warm = case.file("warm.jsonl", traffic(1, 60, 0, 30));
    let slow = request(200, 0, 1_000, 400);
    let cut = &request(201, 0, 2_000, 400)[..500];
    let bad = case.file("bad.jsonl", format!("garbage\n{slow}\n{{\"resourceSpans\": 7}}\n{cut}"));
    let output = case.replay(&[&"--warm", &warm, &bad]);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(65), "{said}");
    assert_eq!(lines(&output.stdout).len(), 1, "the slow trace between them");
    for part in [
        "bad.jsonl line 1: not an OTLP/JSON trace request: expected value at column 1\n",
        "bad.jsonl line 3: not an OTLP/JSON trace request",
        "bad.jsonl line 4: not an OTLP/JSON trace request",
        "; it is the last one and may have been cut off\n",
        "\n3 spans in ",
        "traces: 1 kept (1 slow,",
        "web GET /: 1 verdicts: db 1\n",
    ] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    assert!(said.ends_with("\nlaggard: 3 lines cannot be read and were left out\n"), "{said}");

    let many = case.file("many.jsonl", "x\n".repeat(1000));
    let said = String::from_utf8(case.replay(&[&many]).stderr).expect("text");
    assert!(said.contains("many.jsonl line 10: ") && !said.contains("line 11: "), "{said}");
    assert!(said.contains("laggard: 1000 lines cannot be read"), "{said}");
}

#[test]
fn a_file_that_ends_too_early_is_named_and_one_that_is_absent_is_told_before_anything_else() {
    let case = Case::new();
    let good = case.file("good.jsonl", request(1, 0, 0, 30));
    let cut = case.file("cut.gz", [0x1f, 0x8b, 8, 0]);
    let output = case.replay(&[&cut, &good]);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(65), "{said}");
    assert!(said.contains("cut.gz line 1: ") && said.contains("\n3 spans in "), "{said}");
    let output = case.replay(&[&good, &"absent"]);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(65), "{said}");
    assert!(said.starts_with("laggard: absent cannot be read: No such file"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn the_summary_tells_of_repeated_and_of_late_spans() {
    let case = Case::new();
    let warm = case.file("warm.jsonl", traffic(1, 60, 0, 30));
    let (again, slow) = (request(300, 0, 0, 30), request(200, 0, 400, 400));
    let later = traffic(400, 4, 0, 30).replace(&EPOCH.to_string()[..8], "17000001");
    let fault = case.file("fault.jsonl", [&*again, &*again, &*slow, &*later, &*slow].join("\n"));
    let (lines, said) = succeeded(case.replay(&[&"--warm", &warm, &fault]));
    assert_eq!(lines.len(), 1, "{said}");
    assert!(said.contains("\n6 spans came again, with a trace id and span id"), "{said}");
    let late =
        "\n3 spans came after their trace was decided, so no verdict saw them: 3 kept, 0 dropped with it\n";
    assert!(said.contains(late), "{said}");
    assert!(!said.contains("--warm"), "{said}");
}

#[test]
fn what_was_learned_from_the_replayed_files_themselves_is_said() {
    let case = Case::new();
    let fault = case.file("fault.jsonl", traffic(1, 60, 0, 400));
    let (lines, said) = succeeded(case.replay(&[&fault]));
    assert!(lines.is_empty(), "all of it is slow, so all of it looks normal: {lines:?}");
    let hint = "what is normal for 1 of 1 routes was learned from these files themselves, so what is slow in much of \
                them is not seen; teach it with --warm FILE\n";
    assert!(said.ends_with(hint), "{said}");
    let fixed = case.file("config.yaml", "slow: {threshold: 300ms}\n");
    let (lines, said) = succeeded(case.replay(&[&"--config", &fixed, &fault]));
    assert!(lines.len() == 60 && !said.contains("--warm"), "{said}");
}

#[test]
fn a_line_longer_than_a_request_may_be_is_refused() {
    let case = Case::new();
    let config = case.file("config.yaml", "receive: {max_request_size: 1KiB}\n");
    let long = case.file("long.jsonl", "x".repeat(2000));
    let output = case.replay(&[&"--config", &config, &long]);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(65), "{said}");
    assert!(said.contains("longer than receive.max_request_size, 1024 bytes"), "{said}");
}
