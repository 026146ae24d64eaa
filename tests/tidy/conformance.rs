//! `docs/conformance.md`: the tests that it names exist and say which rows they prove.

use std::collections::BTreeMap;

use laggard::telemetry::metrics::Metrics;

use super::{File, files};

/// Rows and the tests that prove each, as `FILE::TEST` with `FILE` lacking its extension.
fn table(text: &str) -> Vec<(&str, Vec<&str>)> {
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| row "));
    let rows = rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [row, _, proof] = cells[..] else { panic!("three cells: {line}") };
        // Every second piece stands between backticks.
        let tests = proof.split('`').skip(1).step_by(2).filter(|name| name.contains("::"));
        (row, tests.collect())
    });
    rows.collect()
}

/// The line above the attributes of a test.
fn comment_of<'a>(file: &'a File, test: &str) -> Option<&'a str> {
    let lines: Vec<&str> = file.text.lines().collect();
    let definition = format!("fn {test}(");
    let at = lines.iter().position(|line| line.contains(&definition))?;
    lines[..at].iter().rev().copied().find(|line| !line.trim_start().starts_with("#["))
}

#[test]
fn every_row_of_the_conformance_table_has_tests_that_name_it() {
    let files: BTreeMap<String, File> =
        files().into_iter().map(|file| (file.path.display().to_string(), file)).collect();
    let table = table(&files["docs/conformance.md"].text);
    assert!(table.len() > 100, "{} rows", table.len());
    let mut wrong = Vec::new();
    for (row, tests) in &table {
        for name in tests {
            let (file, test) = name.split_once("::").expect("filtered");
            let file = files.get(&format!("{file}.rs"));
            let Some(comment) = file.and_then(|file| comment_of(file, test)) else {
                wrong.push(format!("{row}: there is no test {name}"));
                continue;
            };
            let mut names = comment.trim().trim_start_matches('/').split([',', '.', ' ']);
            if !names.any(|name| name == *row) {
                wrong.push(format!("{row}: {name} does not name it: {comment}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn rows_of_the_checklist_are_all_there() {
    let file = files().into_iter().find(|file| file.path.ends_with("conformance.md")).expect("the table");
    let table = table(&file.text);
    let rows = |letter: &str, count: usize| (1..=count).map(|n| format!("{letter}{n}")).collect::<Vec<_>>();
    let of_the_protocol = [rows("R", 26), rows("OTLP-G", 15), rows("OTLP-H", 12), rows("C", 16)];
    let of_what_is_held = [rows("SAMPLING-", 10), rows("FAULT-C", 10), rows("D", 14), rows("E", 9)];
    for row in [of_the_protocol, of_what_is_held].concat().concat() {
        assert!(table.iter().any(|(name, _)| *name == row), "{row}");
    }
}

// R19.
#[test]
fn metrics_in_documents_charts_and_alerts_are_those_of_a_scrape() {
    let page = Metrics::default().render();
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let known: Vec<&str> = types.collect();
    let mut unknown = Vec::new();
    for file in files() {
        let kind = file.path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let is_told =
            matches!(kind, "md" | "yaml" | "json" | "tpl" | "txt") && !file.path.starts_with("tests");
        if !is_told {
            continue;
        }
        for (at, _) in file.text.match_indices("laggard_") {
            let name: String =
                file.text[at..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
            // The beginning of a name is a pattern.
            let is_known = name.ends_with('_')
                || known.contains(&name.as_str())
                || base.is_some_and(|base| known.contains(&base));
            if !is_known {
                unknown.push(format!("{}: {name}", file.path.display()));
            }
        }
    }
    assert!(unknown.is_empty(), "\n{}\n", unknown.join("\n"));
}
