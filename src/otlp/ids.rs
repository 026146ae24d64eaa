//! Trace and span identities.

use std::fmt;

/// A W3C trace id: 16 bytes, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId([u8; 16]);

/// A W3C span id: 8 bytes, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId([u8; 8]);

impl TraceId {
    /// `None` unless `bytes` are 16 and not all zero.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let id: [u8; 16] = bytes.try_into().ok()?;
        (id != [0; 16]).then_some(Self(id))
    }

    /// The id as it stands on the wire.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads 32 hexadecimal digits of either case.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let mut id = [0; 16];
        decode_hex(hex.as_bytes(), &mut id)?;
        Self::from_slice(&id)
    }

    /// The low 56 bits: the randomness of W3C Trace Context level 2, `R` of consistent sampling.
    pub fn randomness(&self) -> u64 {
        u64::from_be_bytes(self.low()) & ((1 << 56) - 1)
    }

    fn low(&self) -> [u8; 8] {
        let [_, _, _, _, _, _, _, _, low @ ..] = self.0;
        low
    }
}

impl SpanId {
    /// `None` unless `bytes` are 8 and not all zero.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let id: [u8; 8] = bytes.try_into().ok()?;
        (id != [0; 8]).then_some(Self(id))
    }

    /// The id as it stands on the wire.
    pub fn bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

/// Fills `out` from exactly twice as many hexadecimal digits of either case.
pub fn decode_hex(digits: &[u8], out: &mut [u8]) -> Option<()> {
    if digits.len() != out.len().checked_mul(2)? {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = value(*high)? << 4 | value(*low)?;
    }
    Some(())
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_of_another_length_or_of_zeros_is_none() {
        for bytes in [&[1_u8; 15][..], &[1; 17], &[], &[1; 8], &[0; 16]] {
            assert_eq!(TraceId::from_slice(bytes), None, "{bytes:?}");
        }
        assert!(TraceId::from_slice(&[1; 16]).is_some());
    }

    #[test]
    fn hex_of_either_case_reads_back_as_lower_case() {
        let id = TraceId::from_hex("4BF92F3577B34DA6A3CE929D0E0E4736").expect("32 digits");
        assert_eq!(id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        for hex in ["", "4b", "0x4bf92f3577b34da6a3ce929d0e0e47", "zzf92f3577b34da6a3ce929d0e0e4736"] {
            assert_eq!(TraceId::from_hex(hex), None, "{hex}");
        }
    }

    #[test]
    fn randomness_is_the_low_seven_bytes() {
        let id = TraceId::from_hex("000000000000000aff00000000000001").expect("32 digits");
        assert_eq!(id.randomness(), 1);
    }
}
