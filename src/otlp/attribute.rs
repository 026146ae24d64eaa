//! Attributes, read from their bytes.
//!
//! Field numbers follow `opentelemetry/proto/common/v1/common.proto`.

use super::wire::{self, Malformed};

/// Keys of fields: number and wire type, as they stand on the wire.
mod key {
    const VARINT: u32 = 0;
    const FIXED64: u32 = 1;
    const BYTES: u32 = 2;

    // Of `KeyValue`.
    pub(super) const KEY: u32 = 1 << 3 | BYTES;
    pub(super) const VALUE: u32 = 2 << 3 | BYTES;

    // Of `AnyValue`.
    pub(super) const STRING: u32 = 1 << 3 | BYTES;
    pub(super) const BOOL: u32 = 2 << 3 | VARINT;
    pub(super) const INT: u32 = 3 << 3 | VARINT;
    pub(super) const DOUBLE: u32 = 4 << 3 | FIXED64;
    pub(super) const ARRAY: u32 = 5 << 3 | BYTES;
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attribute<'a> {
    /// The key's bytes.
    pub key: &'a [u8],
    /// The value.
    pub value: AnyValue<'a>,
}

/// An attribute's value, `AnyValue`; of several variants in one value the last counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AnyValue<'a> {
    /// No value.
    Empty,
    /// Text, whose UTF-8 nobody has checked.
    String(&'a [u8]),
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A floating point number.
    Double(f64),
    /// An array: the bytes of an `ArrayValue`.
    Array(&'a [u8]),
    /// A map or bytes: nothing here reads them.
    Other,
}

impl<'a> AnyValue<'a> {
    /// The text of a string value.
    pub fn as_str(self) -> Option<&'a str> {
        match self {
            AnyValue::String(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Whether `is_meant` holds for the text of a string value, or of one in an array of them.
    pub fn any_text(self, is_meant: impl Fn(&[u8]) -> bool) -> bool {
        match self {
            AnyValue::String(text) => is_meant(text),
            AnyValue::Array(values) => wire::messages(values, 1).any(|message| {
                let mut value = AnyValue::Empty;
                read_value(message, &mut value).is_ok()
                    && matches!(value, AnyValue::String(text) if is_meant(text))
            }),
            _ => false,
        }
    }
}

/// The attributes in the repeated field `number` of `message` (a span, an event, a resource).
pub fn attributes(message: &[u8], number: u32) -> impl Iterator<Item = Attribute<'_>> + use<'_> {
    wire::messages(message, number).map(|key_value| {
        let mut attribute = Attribute { key: &[], value: AnyValue::Empty };
        // What stands before bytes that are no field still counts.
        let _ = read_attribute(key_value, &mut attribute);
        attribute
    })
}

#[inline]
fn read_attribute<'a>(key_value: &'a [u8], attribute: &mut Attribute<'a>) -> Result<(), Malformed> {
    let mut fields = wire::fields(key_value);
    while !fields.is_at_end() {
        match fields.key()? {
            key::KEY => attribute.key = fields.bytes()?,
            key::VALUE => read_value(fields.bytes()?, &mut attribute.value).unwrap_or(()),
            other => fields.skip_value(other)?,
        }
    }
    Ok(())
}

/// Reads an `AnyValue` into `value`: an empty one leaves it as it was.
#[inline]
fn read_value<'a>(message: &'a [u8], value: &mut AnyValue<'a>) -> Result<(), Malformed> {
    let mut fields = wire::fields(message);
    while !fields.is_at_end() {
        *value = match fields.key()? {
            key::STRING => AnyValue::String(fields.bytes()?),
            key::BOOL => AnyValue::Bool(fields.varint()? != 0),
            key::INT => AnyValue::Int(fields.varint()?.cast_signed()),
            key::DOUBLE => AnyValue::Double(f64::from_bits(fields.fixed64()?)),
            key::ARRAY => AnyValue::Array(fields.bytes()?),
            other => {
                fields.skip_value(other)?;
                // Maps, bytes and references to a table of strings.
                if (5..=8).contains(&(other >> 3)) { AnyValue::Other } else { *value }
            }
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::wire::put_bytes;
    use super::*;

    #[test]
    fn attributes_are_read_by_type() {
        let mut message = Vec::new();
        for value in [&[0x0a, 1, b'x'][..], &[0x10, 1], &[0x18, 5], &[], &[0x2a, 0], &[0x40, 1]] {
            let mut key_value = Vec::new();
            put_bytes(&mut key_value, 1, b"k");
            put_bytes(&mut key_value, 2, value);
            put_bytes(&mut message, 9, &key_value);
        }
        let values: Vec<_> = attributes(&message, 9).map(|attribute| attribute.value).collect();
        assert_eq!(
            values[..4],
            [AnyValue::String(b"x"), AnyValue::Bool(true), AnyValue::Int(5), AnyValue::Empty]
        );
        assert_eq!(values[4..], [AnyValue::Array(&[]), AnyValue::Other]);
    }

    #[test]
    fn values_of_one_attribute_are_merged() {
        let mut message = Vec::new();
        put_bytes(&mut message, 9, &[0x12, 2, 0x18, 5, 0x12, 0]); // 5, then an empty value
        let attribute = attributes(&message, 9).next();
        assert_eq!(attribute, Some(Attribute { key: b"", value: AnyValue::Int(5) }));
    }
}
