//! Encodes one attribute as a field of a message: `KeyValue` around `AnyValue`.

use crate::otlp::wire;

/// The longest string that is written, in bytes.
const LONGEST_STRING: usize = 256;

/// Appends a string attribute as field `number`, cut to 256 bytes at the end of a character.
pub(super) fn string(out: &mut Vec<u8>, number: u32, key: &str, value: &str) {
    let (value, _) = value.split_at(value.floor_char_boundary(LONGEST_STRING));
    put(out, number, key, |any| wire::put_bytes(any, 1, value.as_bytes()));
}

/// Appends the attribute `true`.
pub(super) fn truth(out: &mut Vec<u8>, number: u32, key: &str) {
    put(out, number, key, |any| wire::put_uint(any, 2, 1));
}

/// Appends an integer attribute.
pub(super) fn int(out: &mut Vec<u8>, number: u32, key: &str, value: u64) {
    put(out, number, key, |any| wire::put_uint(any, 3, value));
}

/// Appends a double attribute.
pub(super) fn double(out: &mut Vec<u8>, number: u32, key: &str, value: f64) {
    put(out, number, key, |any| wire::put_double(any, 4, value));
}

fn put(out: &mut Vec<u8>, number: u32, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
    let mut any = Vec::new();
    value(&mut any);
    let mut key_value = Vec::new();
    wire::put_bytes(&mut key_value, 1, key.as_bytes());
    wire::put_bytes(&mut key_value, 2, &any);
    wire::put_bytes(out, number, &key_value);
}
