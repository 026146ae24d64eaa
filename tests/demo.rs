//! `laggard demo`, as a newcomer runs it.

use std::process::Command;

#[test]
fn the_demonstration_ends_by_itself_and_names_the_culprit() {
    let demo = Command::new(env!("CARGO_BIN_EXE_laggard")).arg("demo").output().expect("it starts");
    let told = String::from_utf8(demo.stdout).expect("text");
    assert_eq!(demo.status.code(), Some(0), "{told}{}", String::from_utf8_lossy(&demo.stderr));
    let is_there = |part: &str| assert!(told.contains(part), "{part} in:\n{told}");
    is_there("3 of 3 routes learned");
    is_there("one of 3 instances of pre-processor turns slow");
    is_there("  root_cause.verdict              identified");
    is_there("  root_cause.service              pre-processor");
    is_there("  root_cause.instance             pre-processor-2");
    is_there("  root_cause.phase                start -> successful_response");
    is_there("  root_cause.baseline.trace_id");
    is_there("root_cause.service=pre-processor");

    let marked: Vec<&str> = told.lines().filter(|line| line.ends_with("<-- culprit")).collect();
    assert_eq!(marked.len(), 1, "{told}");
    assert!(marked[0].contains("pre-processor preprocess-request"), "{told}");

    let (right, all) = told
        .lines()
        .find_map(|line| line.strip_suffix(" verdicts name pre-processor.")?.split_once(" of "))
        .expect("how many verdicts were right");
    assert_eq!(right, all, "{told}");

    // Where every acknowledged span is, once nothing moves any more.
    let spans = told.lines().find(|line| line.starts_with("Of ") && line.contains(" spans, ")).expect(&told);
    let numbers = spans.split(|letter: char| !letter.is_ascii_digit()).filter_map(|word| word.parse().ok());
    let [accepted, sent, dropped, held, queued] =
        numbers.collect::<Vec<u64>>().try_into().expect("five of them");
    assert!(accepted > 500 && sent > 100 && dropped > 100, "{spans}");
    assert_eq!((accepted, held, queued), (sent + dropped + held + queued, 0, 0), "{spans}");

    // It was not written to a terminal, and may be read on a narrow one.
    assert!(!told.contains('\x1b'), "{told:?}");
    assert!(told.lines().all(|line| line.len() <= 80), "{told}");
}
