//! How deep arrays and maps nest inside attributes.

use super::wire::{self, Fields, Malformed, Value};

/// Arrays and maps nested deeper than this inside an attribute cost the sender the span. OpenTelemetry's own
/// limit is 64; receivers behind us refuse whole requests somewhere above 100.
pub const MAX_ATTRIBUTE_DEPTH: usize = 64;

/// An attribute shorter than this cannot nest deeper than [`MAX_ATTRIBUTE_DEPTH`]: each level needs four bytes.
const DEEP_ATTRIBUTE_SIZE: usize = 4 * MAX_ATTRIBUTE_DEPTH;

/// Whether an encoded `KeyValue` nests deeper than [`MAX_ATTRIBUTE_DEPTH`].
///
/// # Errors
/// As [`attributes_nest_too_deep`].
#[inline]
pub(super) fn nests_too_deep(key_value: &[u8]) -> Result<bool, Malformed> {
    if key_value.len() < DEEP_ATTRIBUTE_SIZE {
        return Ok(false);
    }
    deep_walk(key_value)
}

/// Walks nested values with one cursor a level on a fixed stack: linear time at any depth, no recursion.
fn deep_walk(key_value: &[u8]) -> Result<bool, Malformed> {
    /// Which message a cursor walks.
    #[derive(Clone, Copy)]
    enum In {
        KeyValue,
        AnyValue,
        /// `ArrayValue` or `KeyValueList`; what it holds.
        List(bool),
    }
    // Two messages a level (value, list), one more for the entries of a map.
    const CURSORS: usize = MAX_ATTRIBUTE_DEPTH * 3 + 2;
    let mut stack: [(Fields<'_>, In); CURSORS] = std::array::from_fn(|_| (wire::fields(&[]), In::AnyValue));
    let mut top = 0;
    let mut depth = 0;
    if let Some(first) = stack.first_mut() {
        *first = (wire::fields(key_value), In::KeyValue);
    }
    loop {
        let Some((fields, place)) = stack.get_mut(top) else { return Ok(true) };
        let place = *place;
        let Some(field) = fields.next() else {
            if matches!(place, In::List(_)) {
                depth -= 1;
            }
            let Some(below) = top.checked_sub(1) else { return Ok(false) };
            top = below;
            continue;
        };
        let field = field?;
        let Value::Bytes(content) = field.value else { continue };
        let inner = match (place, field.number) {
            (In::KeyValue, 2) | (In::List(false), 1) => In::AnyValue,
            (In::List(true), 1) => In::KeyValue,
            (In::AnyValue, 5) => In::List(false),
            (In::AnyValue, 6) => In::List(true),
            _ => continue,
        };
        if matches!(inner, In::List(_)) {
            depth += 1;
            if depth > MAX_ATTRIBUTE_DEPTH {
                return Ok(true);
            }
        }
        top += 1;
        let Some(next) = stack.get_mut(top) else { return Ok(true) };
        *next = (wire::fields(content), inner);
    }
}

/// Whether one of the `KeyValue` fields `attributes` of `message` nests deeper than [`MAX_ATTRIBUTE_DEPTH`].
///
/// # Errors
/// [`Malformed`] when what had to be walked is no protobuf: short messages are not looked into.
#[inline]
pub(super) fn attributes_nest_too_deep(message: &[u8], attributes: u32) -> Result<bool, Malformed> {
    if message.len() < DEEP_ATTRIBUTE_SIZE {
        return Ok(false);
    }
    for field in wire::fields(message) {
        let field = field?;
        if field.number == attributes && nests_too_deep(field.value.bytes()?)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::super::wire::put_bytes;
    use super::*;

    /// A `KeyValue` whose value is `depth` arrays (or maps) inside one another.
    fn nested(depth: usize, map: bool) -> Vec<u8> {
        let mut value = Vec::new();
        for _ in 0..depth {
            let mut entry = Vec::new();
            if map {
                put_bytes(&mut entry, 1, b"k");
                put_bytes(&mut entry, 2, &value);
            } else {
                entry = value;
            }
            let mut list = Vec::new();
            put_bytes(&mut list, 1, &entry);
            value = Vec::new();
            put_bytes(&mut value, if map { 6 } else { 5 }, &list);
        }
        let mut key_value = Vec::new();
        put_bytes(&mut key_value, 1, b"key");
        put_bytes(&mut key_value, 2, &value);
        key_value
    }

    #[test]
    fn sixty_four_levels_pass_and_the_next_does_not() {
        for map in [false, true] {
            for (depth, too_deep) in [(47, false), (48, false), (64, false), (65, true), (5_000, true)] {
                let attribute = nested(depth, map);
                assert_eq!(nests_too_deep(&attribute), Ok(too_deep), "{depth} levels, map {map}");
                let mut event = Vec::new();
                put_bytes(&mut event, 3, &attribute);
                assert_eq!(attributes_nest_too_deep(&event, 3), Ok(too_deep), "{depth} levels, map {map}");
                assert_eq!(attributes_nest_too_deep(&event, 4), Ok(false), "another field");
            }
        }
    }
}
