//! Rules of the house that the compiler does not check: sizes, words, dependencies.

#![allow(clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "tidy/conformance.rs"]
mod conformance;
#[path = "tidy/supply.rs"]
mod supply;

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// A longer file has more than one subject.
const MAX_LINES: usize = 500;

/// What a module may use of this crate, besides itself. The modules that are not listed may use all but those of
/// `ONLY_FOR`.
const MAY_USE: [(&str, &[&str]); 10] = [
    ("otlp", &[]),
    ("config", &["otlp"]),
    ("secrets", &[]),
    ("telemetry", &["compare", "config", "otlp"]),
    ("assemble", &["config", "otlp", "telemetry"]),
    ("decide", &["assemble", "config", "otlp", "telemetry", "template"]),
    ("baseline", &["assemble", "compare", "config", "decide", "otlp", "telemetry", "template"]),
    ("compare", &["assemble", "baseline", "config", "decide", "otlp", "telemetry", "template"]),
    ("enrich", &["assemble", "compare", "config", "otlp", "telemetry"]),
    ("export", &["assemble", "config", "otlp", "secrets", "telemetry"]),
];

/// Licences of which software under ours may be made.
const FINE: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Modules that sit on top, and the only ones that may use each of them.
const ONLY_FOR: [(&str, &[&str]); 2] =
    [("app", &["cli", "demo", "main"]), ("cli", &["compare_files", "health", "main", "replay"])];

/// Where tasks start and the wall clock is read.
const MAY_SPAWN_AND_READ_THE_CLOCK: &str = "app";

/// Where connections, retries and people are waited for, on the runtime's clock, which tests can pause.
const MAY_WAIT: [&str; 3] = ["receive", "export", "demo"];

#[test]
fn no_source_file_is_longer_than_five_hundred_lines() {
    check(|file| {
        let lines = file.text.lines().count();
        if is_rust(file) && lines > MAX_LINES { vec![format!("{lines} lines")] } else { Vec::new() }
    });
}

#[test]
fn rust_sources_are_ascii() {
    check(|file| {
        let lines = file.text.lines().enumerate().filter(|(_, line)| is_rust(file) && !line.is_ascii());
        lines.map(|(number, line)| format!("{}: {line}", number + 1)).collect()
    });
}

#[test]
fn nothing_is_left_for_later() {
    // In halves, so that this file does not find itself.
    let words =
        [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["unimple", "mented!"], ["to", "do!("], ["#[ig", "nore"]];
    check(|file| {
        let mut found = Vec::new();
        for (number, line) in file.text.lines().enumerate().filter(|_| is_rust(file)) {
            for word in words.map(|halves| halves.concat()) {
                let in_a_word = |at: usize| {
                    line[..at].ends_with(|c: char| c.is_ascii_alphanumeric())
                        || line[at + word.len()..].starts_with(|c: char| c.is_ascii_alphanumeric())
                };
                if line.match_indices(&word).any(|(at, _)| !in_a_word(at)) {
                    found.push(format!("{}: {word}", number + 1));
                }
            }
        }
        found
    });
}

#[test]
fn modules_use_only_what_stands_before_them() {
    check(|file| {
        let Some(module) = module_of(&file.path) else { return Vec::new() };
        let mut used = BTreeSet::new();
        for path in ["crate::", "laggard::"] {
            for (at, _) in file.text.match_indices(path) {
                used.extend(names_behind(&file.text[at + path.len()..]));
            }
        }
        used.remove(module.as_str());
        let allowed = MAY_USE.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed);
        let forbidden = used.into_iter().filter(|name| {
            allowed.is_some_and(|allowed| !allowed.contains(&name.as_str()))
                || ONLY_FOR.iter().any(|(top, users)| top == name && !users.contains(&module.as_str()))
        });
        forbidden.map(|name| format!("uses {name}")).collect()
    });
}

#[test]
fn only_app_spawns_and_reads_the_clock() {
    let spawning =
        ["tokio::spawn(", "task::spawn", "JoinSet", "thread::spawn", "thread::Builder", "SystemTime::now"];
    let waiting = ["Instant::now", "time::sleep", "time::interval"];
    check(|file| {
        let Some(module) = module_of(&file.path) else { return Vec::new() };
        if module == MAY_SPAWN_AND_READ_THE_CLOCK || is_test(&file.path) {
            return Vec::new();
        }
        let production = file.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let code = production.lines().filter(|line| !line.trim_start().starts_with("//"));
        let waiting = waiting.iter().filter(|_| !MAY_WAIT.contains(&module.as_str()));
        let calls: Vec<_> = spawning.iter().chain(waiting).collect();
        let found = code.filter(|line| calls.iter().any(|call| line.contains(**call)));
        found.map(|line| line.trim().to_owned()).collect()
    });
}

#[test]
fn no_file_names_a_path_outside_the_project() {
    let homes = ["home", "root", "Users"].map(|directory| format!("/{directory}/"));
    let up = format!("{}/", "..");
    check(|file| {
        let depth = file.path.components().count() - 1;
        let mut found = Vec::new();
        for (number, line) in file.text.lines().enumerate() {
            let starts_here =
                |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}/~".contains(c));
            for home in &homes {
                if line.match_indices(home.as_str()).any(|(at, _)| starts_here(at)) {
                    found.push(format!("{}: {home}", number + 1));
                }
            }
            for (at, _) in line.match_indices(&up).filter(|(at, _)| starts_here(*at)) {
                let rest = &line[at..];
                let ups = rest.split('/').take_while(|part| *part == "..").count();
                if ups > depth {
                    found.push(format!("{}: {}", number + 1, rest.split_whitespace().next().unwrap_or(rest)));
                }
            }
        }
        found
    });
}

#[test]
fn every_dependency_may_be_used_in_apache_licensed_software() {
    let packages = dependencies();
    assert!(packages.len() > 50, "cargo metadata names only {}", packages.len());
    let refused: Vec<_> =
        packages.iter().filter(|(_, license)| !license.as_deref().is_some_and(is_license_fine)).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn license_expressions_are_read_as_spdx_has_them() {
    for (expression, expected) in [
        ("MIT OR Apache-2.0", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
        ("MIT OR GPL-3.0 AND GPL-2.0", true),
        ("(MIT OR GPL-3.0) AND GPL-2.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("", false),
    ] {
        assert_eq!(is_license_fine(expression), expected, "{expression}");
    }
}

/// Name and licence of every package that a build for this host takes, tests included.
fn dependencies() -> Vec<(String, Option<String>)> {
    let version = Command::new("rustc").arg("-vV").output().expect("rustc is installed");
    let version = String::from_utf8(version.stdout).expect("text");
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc knows its host");
    // Offline: what the build of this test needed is already here.
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", host])
        .current_dir(root())
        .output()
        .expect("cargo is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata.get("packages").and_then(|packages| packages.as_array()).expect("a list");
    let text = |package: &serde_json::Value, key| package.get(key)?.as_str().map(str::to_owned);
    packages
        .iter()
        .map(|package| (text(package, "name").unwrap_or_default(), text(package, "license")))
        .collect()
}

/// Whether an SPDX expression leaves a choice that we may take; AND binds closer than OR.
fn is_license_fine(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut tokens = spaced.replace(" WITH LLVM-exception", "");
    // Innermost parentheses first, each replaced by one licence that is fine or is not.
    while let Some((before, rest)) = tokens.rsplit_once('(') {
        let Some((inner, after)) = rest.split_once(')') else { return false };
        let value = if is_license_fine(inner) { "MIT" } else { "none" };
        tokens = format!("{before}{value}{after}");
    }
    let all_fine = |all: &str| all.split(" AND ").all(|license| FINE.contains(&license.trim()));
    tokens.split(" OR ").any(all_fine)
}

struct File {
    path: PathBuf,
    text: String,
}

/// Fails with everything that `find` says of any file of the project.
fn check(find: impl Fn(&File) -> Vec<String>) {
    let files = files();
    assert!(files.iter().any(|file| file.path == Path::new("src/lib.rs")), "{} files", files.len());
    let found: Vec<_> = files
        .iter()
        .flat_map(|file| find(file).into_iter().map(|what| format!("{}: {what}", file.path.display())))
        .collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// The project's text files: those that git tracks or would, or all of them where there is no git.
fn files() -> Vec<File> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .filter(|list| !list.is_empty());
    let paths = match listed {
        Some(list) => list.split_terminator('\0').map(PathBuf::from).collect(),
        None => walk(&root()),
    };
    let read = |path: PathBuf| {
        // A file that is deleted but still tracked, or that is no text, has nothing to say here.
        let text = std::fs::read_to_string(root().join(&path)).ok()?;
        Some(File { path, text })
    };
    paths.into_iter().filter_map(read).collect()
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if name != "target" && name != ".git" {
                found.extend(walk(&path));
            }
        } else if let Ok(relative) = path.strip_prefix(root()) {
            found.push(relative.to_path_buf());
        }
    }
    found
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn is_rust(file: &File) -> bool {
    file.path.extension().is_some_and(|extension| extension == "rs")
}

/// A file of tests inside `src`, as `#[cfg(test)] mod tests;` has it.
fn is_test(path: &Path) -> bool {
    path.components().any(|part| part == Component::Normal("tests".as_ref()))
        || path.file_name().is_some_and(|name| name == "tests.rs")
}

/// The top-level module that a file under `src` belongs to.
fn module_of(path: &Path) -> Option<String> {
    let mut parts = path.components().map(|part| part.as_os_str().to_str().unwrap_or_default());
    if parts.next() != Some("src") || path.extension()? != "rs" {
        return None;
    }
    let module = parts.next()?.trim_end_matches(".rs");
    // The crate root names every module, which is not using them.
    (module != "lib").then(|| module.to_owned())
}

/// The modules named behind `crate::`: one, or those of a group in braces.
fn names_behind(text: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = text.strip_prefix('{') else { return vec![name(text)] };
    let mut names = Vec::new();
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(name(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(name(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}
