//! Configuration files.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;

use laggard::config::load;
use laggard::config::memory::Budgets;
use tempfile::TempDir;

thread_local! {
    static FOLDER: RefCell<TempDir> = RefCell::new(tempfile::tempdir().expect("a temporary folder"));
}

const SECRET: &str = "a-secret-of-the-environment";
const SECRET_HEADER: &str = "a-secret-header";

fn variable(name: &str) -> Option<String> {
    match name {
        "TOKEN" => Some(SECRET.to_owned()),
        "LINES" => Some("a\nb: c".to_owned()),
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some("http://collector:4317".to_owned()),
        "OTEL_EXPORTER_OTLP_HEADERS" => Some(format!("x-api-key={SECRET_HEADER}")),
        "OTEL_EXPORTER_OTLP_TIMEOUT" => Some("2500".to_owned()),
        _ => None,
    }
}

/// A file is either taken, and then what follows from it can be computed, or refused with one line for each mistake.
pub(crate) fn check(text: &[u8]) {
    let path: PathBuf = FOLDER.with_borrow(|folder| folder.path().join("laggard.yaml"));
    fs::write(&path, text).expect("writes");
    let found = load(Some(&path), &variable);
    assert_eq!(found, load(Some(&path), &variable), "the same file says the same twice");
    match found {
        Ok(config) => {
            for limit in [1, 64 << 20, 1 << 30, u64::MAX] {
                let (budgets, warnings) = Budgets::divide(&config, limit);
                let _ = (format!("{budgets:?}"), warnings);
            }
        }
        Err(problems) => {
            assert!(!problems.list.is_empty());
            let said = problems.to_string();
            assert_eq!(said.lines().count(), problems.list.len(), "{said}");
            assert!(!said.contains(SECRET_HEADER), "{said}");
            assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{said:?}");
        }
    }
}
