//! What we build on: no version with a known hole that matters to us, and nothing that we have ruled out.

use std::cmp::Ordering;

use super::{files, root};

/// The first version without it, and what was wrong below.
const LEAST: [(&str, &str, &str); 17] = [
    ("bytes", "1.11.1", "RUSTSEC-2026-0007: overflow in reserve"),
    ("crossbeam-channel", "0.5.15", "RUSTSEC-2025-0024: double free"),
    ("h2", "0.4.16", "RUSTSEC-2026-0258, and before it rapid resets and CONTINUATION floods"),
    ("hyper", "1.0.0", "request smuggling by Transfer-Encoding and Content-Length"),
    ("idna", "1.0.0", "RUSTSEC-2024-0421: two names taken for one"),
    ("prost", "0.6.1", "RUSTSEC-2020-0002: a message overflows the stack"),
    ("prost-types", "0.8.0", "RUSTSEC-2021-0073: a timestamp panics"),
    ("ring", "0.17.12", "RUSTSEC-2025-0009: a panic where overflow is checked"),
    ("rustls", "0.23.18", "RUSTSEC-2024-0336 and -0399: endless loop and panic in a handshake"),
    (
        "rustls-webpki",
        "0.103.13",
        "RUSTSEC-2026-0049, -0098, -0099 and -0104: certificates that should be refused",
    ),
    ("slab", "0.4.11", "RUSTSEC-2025-0047: out of bounds"),
    ("time", "0.3.47", "RUSTSEC-2026-0009: a date exhausts the stack"),
    ("tokio", "1.44.2", "RUSTSEC-2025-0023: unsound broadcast"),
    (
        "tonic",
        "0.14.9",
        "limits after decompression, headers that never end, draining (RUSTSEC-2024-0376 before)",
    ),
    ("tracing-subscriber", "0.3.20", "RUSTSEC-2025-0055: escape sequences in the log"),
    ("yaml_serde", "0.10.0", "the maintained successor of serde_yaml"),
    ("zstd", "0.13.0", "limits of windows"),
];

/// Unmaintained, unsound, or a second one of what we have.
const NEVER: [&str; 13] = [
    "bincode",
    "dashmap",
    "fxhash",
    "lz4_flex",
    "native-tls",
    "openssl",
    "openssl-sys",
    "protobuf",
    "rustls-pemfile",
    "serde_yaml",
    "serde_yml",
    "snap",
    "unsafe-libyaml",
];

/// Two versions of one of these would mean two sets of limits.
const ONCE: [&str; 6] = ["h2", "hyper", "prost", "rustls", "tonic", "zstd"];

/// Names and versions in a lock file.
fn locked(file: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join(file)).expect("the lock file is committed");
    let value = |line: &str| line.split('"').nth(1).expect("in quotes").to_owned();
    let mut packages = Vec::new();
    let mut name = String::new();
    for line in text.lines() {
        if line.starts_with("name = ") {
            name = value(line);
        } else if line.starts_with("version = ") && !name.is_empty() {
            packages.push((std::mem::take(&mut name), value(line)));
        }
    }
    assert!(packages.len() > 100, "{file}: {} packages", packages.len());
    packages
}

fn compare(version: &str, other: &str) -> Ordering {
    let parts = |text: &str| -> Vec<u64> {
        let release = text.split(['-', '+']).next().unwrap_or_default();
        release.split('.').map(|part| part.parse().expect("a number")).collect()
    };
    parts(version).cmp(&parts(other))
}

#[test]
fn dependencies_have_no_version_with_a_known_hole() {
    for file in ["Cargo.lock", "fuzz/Cargo.lock"] {
        let packages = locked(file);
        for (name, version) in &packages {
            for (_, least, why) in LEAST.iter().filter(|(known, ..)| known == name) {
                assert!(compare(version, least).is_ge(), "{file}: {name} {version} is below {least}: {why}");
            }
            assert!(!NEVER.contains(&name.as_str()), "{file}: {name} {version} is ruled out");
        }
        for once in ONCE {
            let versions = packages.iter().filter(|(name, _)| name == once).count();
            assert_eq!(versions, 1, "{file}: {once}");
        }
    }
    let ours = locked("Cargo.lock");
    for (name, ..) in LEAST {
        assert!(ours.iter().any(|(known, _)| known == name), "{name} is not used any more");
    }
}

#[test]
fn fuzzing_runs_what_is_shipped() {
    let ours = locked("Cargo.lock");
    for package in locked("fuzz/Cargo.lock") {
        let is_its_own = ["arbitrary", "laggard-fuzz", "libfuzzer-sys"].contains(&package.0.as_str());
        assert!(is_its_own || ours.contains(&package), "{package:?} is not that of Cargo.lock");
    }
}

#[test]
fn versions_are_compared_by_number() {
    for (version, other, expected) in [
        ("0.4.16", "0.4.9", Ordering::Greater),
        ("1.0.0-rc.1", "1.0.0", Ordering::Equal),
        ("2.1.2+zstd.1.5.7", "2.1.2", Ordering::Equal),
        ("0.9.9", "0.10.0", Ordering::Less),
    ] {
        assert_eq!(compare(version, other), expected, "{version} {other}");
    }
}

#[test]
fn cargo_deny_rules_out_what_this_file_does() {
    let rules = files().into_iter().find(|file| file.path.ends_with("deny.toml")).expect("deny.toml").text;
    for name in NEVER {
        assert!(rules.contains(&format!("\"{name}\"")), "{name} is not in deny.toml");
    }
    for license in super::FINE {
        assert!(rules.contains(&format!("\"{license}\"")), "{license} is not in deny.toml");
    }
}
