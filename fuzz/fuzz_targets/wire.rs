#![no_main]

#[path = "../../tests/wire_properties/oracle.rs"]
#[allow(dead_code, reason = "the property tests use more of it")]
mod oracle;
#[path = "../../tests/wire_properties/rewrite.rs"]
#[allow(dead_code, reason = "the property tests use more of it")]
mod rewrite;
#[path = "../../tests/fuzzed/wire.rs"]
mod wire;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wire::check(bytes));
