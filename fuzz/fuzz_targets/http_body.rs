#![no_main]

#[path = "../../tests/fuzzed/http_body.rs"]
mod http_body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| http_body::check(bytes));
