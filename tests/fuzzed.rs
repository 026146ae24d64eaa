//! The fuzz targets (`fuzz/`) on the stable toolchain: every input of the committed corpora, and mutations of them.
//!
//! Inputs that once failed stand in the corpora as well, so what was found stays found. `LAGGARD_FUZZ_ROUNDS=100` makes a
//! hundred times as many mutations, others in each round.

#![allow(clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "fuzzed/configuration.rs"]
mod configuration;
#[path = "fuzzed/http_body.rs"]
mod http_body;
#[path = "fuzzed/json.rs"]
mod json;
#[path = "wire_properties/oracle.rs"]
#[allow(dead_code, reason = "the property tests use more of it")]
mod oracle;
#[path = "wire_properties/rewrite.rs"]
#[allow(dead_code, reason = "the property tests use more of it")]
mod rewrite;
#[path = "fuzzed/wire.rs"]
mod wire;

use std::fs;
use std::path::Path;

/// A longer input is cut: mutations of the beginning reach everything, and the run ends in seconds.
const LONGEST: usize = 4096;

// PB-12.
#[test]
fn requests_in_protobuf_are_read_as_prost_reads_them() {
    run("wire", 200, wire::check);
}

// B15.
#[test]
fn requests_in_json_become_protobuf_that_is_sound() {
    run("json", 200, json::check);
}

#[test]
fn requests_over_http_get_the_answer_that_otlp_has_for_them() {
    run("http_body", 60, http_body::check);
}

#[test]
fn configuration_files_are_taken_or_refused_line_by_line() {
    run("configuration", 30, configuration::check);
}

/// Checks every input of the corpus of `target`, and so many mutations of each.
fn run(target: &str, mutations: usize, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    let corpus: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).expect("a file")).collect();
    assert!(corpus.len() >= 20, "{} inputs", corpus.len());
    let rounds = std::env::var("LAGGARD_FUZZ_ROUNDS").map_or(1, |text| text.parse().expect("a number"));
    let mut random = Random(1);
    for input in corpus.iter().cycle().take(corpus.len() * rounds) {
        check(input);
        for _ in 0..mutations {
            let other = &corpus[random.below(corpus.len())];
            check(&mutated(input, other, &mut random));
        }
    }
}

/// `input` with one to four changes of the kinds that fuzzers make, some with pieces of `other`.
fn mutated(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input[..input.len().min(LONGEST)].to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = at + random.below(bytes.len() - at + 1).min(64);
        match random.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => {
                bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'}', b'\n'][random.below(9)];
            }
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let again = bytes[at..end].repeat(1 + random.below(8));
                bytes.splice(at..at, again);
            }
            5 => {
                let from = random.below(other.len() + 1);
                let to = from + random.below(other.len() - from + 1).min(256);
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            _ => bytes.insert(at, random.next().to_le_bytes()[7]),
        }
    }
    bytes
}

/// A linear congruential generator: the same inputs in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from((self.next() >> 33) % bound as u64).expect("below a usize")
    }
}
