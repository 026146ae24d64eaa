#![no_main]

#[path = "../../tests/fuzzed/json.rs"]
mod json;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| json::check(bytes));
