//! Protocol buffers on bytes: a reader that walks fields without copying, and the few writers we need.
//!
//! Total functions without allocation: hostile input ends in [`Malformed`], never in a panic and never as an
//! absent field. Follows the protobuf encoding specification; unknown groups are skipped, as it demands.

#![warn(clippy::arithmetic_side_effects)]

/// The bytes are not a protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid protobuf message")]
pub struct Malformed;

/// The value of one field, by its wire type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: a string, bytes, a message or a packed list.
    Bytes(&'a [u8]),
    /// Wire types 3 and 4, long deprecated: the group's content is skipped.
    Group,
    /// Wire type 5.
    Fixed32(u32),
}

impl<'a> Value<'a> {
    /// The payload of a length-delimited field; any other wire type is malformed.
    pub fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed),
        }
    }

    /// The value of a varint field; any other wire type is malformed.
    pub fn varint(self) -> Result<u64, Malformed> {
        match self {
            Value::Varint(value) => Ok(value),
            _ => Err(Malformed),
        }
    }

    /// The value of a fixed64 field; any other wire type is malformed.
    pub fn fixed64(self) -> Result<u64, Malformed> {
        match self {
            Value::Fixed64(value) => Ok(value),
            _ => Err(Malformed),
        }
    }

    /// The value of a fixed32 field; any other wire type is malformed.
    pub fn fixed32(self) -> Result<u32, Malformed> {
        match self {
            Value::Fixed32(value) => Ok(value),
            _ => Err(Malformed),
        }
    }
}

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field<'a> {
    /// The field number, never 0.
    pub number: u32,
    /// The decoded value.
    pub value: Value<'a>,
    /// The whole field as it stands, key included: what to copy to keep it.
    pub raw: &'a [u8],
}

/// Walks the fields of one message; ends after the first error.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

/// The fields of `message`, in the order in which they stand.
#[inline]
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

/// The payloads of the length-delimited field `number` of `message`.
pub fn messages(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> + use<'_> {
    let wanted = number << 3 | 2;
    let mut fields = fields(message);
    std::iter::from_fn(move || {
        while !fields.is_at_end() {
            let key = fields.key().ok()?;
            if key == wanted {
                return fields.bytes().ok();
            }
            fields.skip_value(key).ok()?;
        }
        None
    })
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    #[inline]
    fn read(&mut self) -> Result<Field<'a>, Malformed> {
        let before = self.rest;
        let key = self.key()?;
        let number = key >> 3;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed64()?),
            2 => Value::Bytes(self.bytes()?),
            3 => self.skip_group(number)?,
            5 => Value::Fixed32(self.fixed32()?),
            _ => return Err(Malformed),
        };
        let length = before.len().saturating_sub(self.rest.len());
        let raw = before.get(..length).ok_or(Malformed)?;
        Ok(Field { number, value, raw })
    }

    /// Whether all fields have been read.
    #[inline]
    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads only the key of a field, its number and wire type; the caller must read the value that it announces. This
    /// is what the iterator does, for the one loop that every span goes through: it spares building a [`Field`].
    #[inline]
    pub(super) fn key(&mut self) -> Result<u32, Malformed> {
        // A key is a 32-bit varint; numbers run from 1 to 2^29 - 1.
        let key = u32::try_from(self.varint()?).map_err(|_| Malformed)?;
        if key < 8 {
            return Err(Malformed);
        }
        Ok(key)
    }

    /// Skips the value of a field with this key.
    pub(super) fn skip_value(&mut self, key: u32) -> Result<(), Malformed> {
        match key & 7 {
            0 => drop(self.varint()?),
            1 => drop(self.array::<8>()?),
            2 => drop(self.bytes()?),
            3 => drop(self.skip_group(key >> 3)?),
            5 => drop(self.array::<4>()?),
            _ => return Err(Malformed),
        }
        Ok(())
    }

    /// The value of a length-delimited field.
    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The value of a fixed64 field.
    #[inline]
    pub(super) fn fixed64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The value of a fixed32 field.
    #[inline]
    pub(super) fn fixed32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The value of a varint field.
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, Malformed> {
        // One byte is by far the most frequent length: keys, short strings, enums.
        if let Some((&byte, rest)) = self.rest.split_first()
            && byte < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for (index, &byte) in self.rest.iter().enumerate().take(10) {
            // The tenth byte holds the 64th bit only.
            if index == 9 && byte > 1 {
                return Err(Malformed);
            }
            let shift = u32::try_from(index).unwrap_or(0).saturating_mul(7);
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                self.rest = self.rest.get(index.saturating_add(1)..).ok_or(Malformed)?;
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Skips to the end of group `number` with a counter instead of the call stack: nesting costs nothing.
    fn skip_group(&mut self, number: u32) -> Result<Value<'a>, Malformed> {
        let mut open: u32 = 1;
        loop {
            let key = self.key()?;
            match key & 7 {
                3 => open = open.saturating_add(1),
                4 => {
                    open = open.saturating_sub(1);
                    if open == 0 {
                        return if key >> 3 == number { Ok(Value::Group) } else { Err(Malformed) };
                    }
                }
                _ => self.skip_value(key)?,
            }
        }
    }
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

/// Appends a varint field; 0 is written too.
pub fn put_uint(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

/// Appends a double field.
pub fn put_double(out: &mut Vec<u8>, number: u32, value: f64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a fixed64 field.
pub fn put_fixed64(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a length-delimited field.
pub fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_length(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends the key and length of a length-delimited field; the caller appends the `length` bytes.
pub fn put_length(out: &mut Vec<u8>, number: u32, length: usize) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, length as u64);
}

/// The size in bytes of a length-delimited field with `length` bytes of payload.
pub fn length_delimited_size(number: u32, length: usize) -> usize {
    varint_size(u64::from(number) << 3).saturating_add(varint_size(length as u64)).saturating_add(length)
}

/// The size in bytes of a varint.
pub fn varint_size(value: u64) -> usize {
    let bits = u64::BITS.saturating_sub((value | 1).leading_zeros());
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, Malformed> {
        fields(bytes).map(|f| f.map(|f| (f.number, f.value))).collect()
    }

    #[test]
    fn every_wire_type_is_read() {
        let mut message = Vec::new();
        put_uint(&mut message, 1, u64::MAX);
        put_fixed64(&mut message, 2, 7);
        put_bytes(&mut message, 3, b"abc");
        message.extend([0x23, 0x2b, 0x08, 0x01, 0x2c, 0x24]); // group 4 with group 5 inside
        message.extend([0x35, 1, 0, 0, 0]);
        assert_eq!(
            walk(&message),
            Ok(vec![
                (1, Value::Varint(u64::MAX)),
                (2, Value::Fixed64(7)),
                (3, Value::Bytes(b"abc")),
                (4, Value::Group),
                (6, Value::Fixed32(1)),
            ])
        );
    }

    #[test]
    fn what_is_not_protobuf_is_an_error() {
        let cases: [&[u8]; 9] = [
            &[0x08],                                                             // no value
            &[0x00, 0x00],                                                       // field 0
            &[0x0a, 0x05, 1, 2],                                                 // shorter than it says
            &[0x09, 1, 2, 3],                                                    // short fixed64
            &[0x0f],                                                             // wire type 7
            &[0x0c],                                                             // end of no group
            &[0x0b, 0x14],                                                       // end of another group
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], // 65 bits
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], // 2^64 - 1 bytes
        ];
        for case in cases {
            assert_eq!(walk(case), Err(Malformed), "{case:02x?}");
        }
    }

    #[test]
    fn a_hundred_thousand_open_groups_need_no_stack() {
        assert_eq!(walk(&vec![0x0b; 100_000]), Err(Malformed));
    }

    #[test]
    fn sizes_are_those_of_what_is_written() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(varint_size(value), out.len(), "{value}");
        }
        let mut out = Vec::new();
        put_bytes(&mut out, 16, &[0; 200]);
        assert_eq!(length_delimited_size(16, 200), out.len());
    }
}
