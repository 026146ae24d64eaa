//! Scalars of proto3's JSON mapping, read from their JSON text so that numbers stay exact.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose};

use super::super::ids::decode_hex;

/// What a value must be.
pub(super) type Rule = &'static str;

/// proto3 takes both alphabets, with and without padding.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);

/// Of a message, in characters: it is the answer to the sender, and may hold a string of any length.
const LONGEST_FAULT: usize = 500;

/// A string.
pub(super) fn text(raw: &str) -> Result<String, Rule> {
    string(raw).map(Cow::into_owned).ok_or("must be a string")
}

/// `true` or `false`.
pub(super) fn boolean(raw: &str) -> Result<bool, Rule> {
    match raw {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false"),
    }
}

/// A whole number as a number or a string; an exponent or a fraction of zeros is fine.
pub(super) fn unsigned64(raw: &str) -> Result<u64, Rule> {
    whole(raw).and_then(|n| n.try_into().ok()).ok_or("must be a whole number from 0 to 2^64 - 1")
}

/// As [`unsigned64`], of 32 bits.
pub(super) fn unsigned32(raw: &str) -> Result<u32, Rule> {
    whole(raw).and_then(|n| n.try_into().ok()).ok_or("must be a whole number from 0 to 2^32 - 1")
}

/// As [`unsigned64`], signed.
pub(super) fn signed64(raw: &str) -> Result<i64, Rule> {
    whole(raw).and_then(|n| n.try_into().ok()).ok_or("must be a whole number from -2^63 to 2^63 - 1")
}

/// As [`unsigned64`], signed and of 32 bits.
pub(super) fn signed32(raw: &str) -> Result<i32, Rule> {
    whole(raw).and_then(|n| n.try_into().ok()).ok_or("must be a whole number from -2^31 to 2^31 - 1")
}

/// An enum's number, known or not, or the name of one that `by_name` knows.
pub(super) fn enumeration(raw: &str, by_name: impl FnOnce(&str) -> Option<i32>) -> Result<i32, Rule> {
    if let Ok(number) = signed32(raw) {
        return Ok(number);
    }
    string(raw).and_then(|name| by_name(&name)).ok_or("must be a number or the name of one of its values")
}

/// A number, or a string with one, `NaN`, `Infinity` or `-Infinity`.
pub(super) fn double(raw: &str) -> Result<f64, Rule> {
    const RULE: Rule = "must be a number, \"NaN\", \"Infinity\" or \"-Infinity\"";
    let text = string(raw).unwrap_or(Cow::Borrowed(raw));
    match &*text {
        "NaN" => Ok(f64::NAN),
        "Infinity" => Ok(f64::INFINITY),
        "-Infinity" => Ok(f64::NEG_INFINITY),
        // Rust reads other spellings of these too, and overflows to infinity.
        number if !number.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => Err(RULE),
        number => number.parse().ok().filter(|number: &f64| number.is_finite()).ok_or(RULE),
    }
}

/// Bytes in base64.
pub(super) fn base64(raw: &str) -> Result<Vec<u8>, Rule> {
    string(raw)
        .and_then(|text| BASE64.decode(&*text).or_else(|_| BASE64_URL.decode(&*text)).ok())
        .ok_or("must be base64")
}

/// A trace or span id: hexadecimal digits of either case, as OTLP has it. Trace viewers give padded base64, which
/// for 16 and for 8 bytes has a length that no hexadecimal id has.
pub(super) fn id(raw: &str) -> Result<Vec<u8>, Rule> {
    const RULE: Rule = "must be hexadecimal digits";
    let digits = string(raw).ok_or(RULE)?;
    let mut id = vec![0; digits.len() / 2];
    if decode_hex(digits.as_bytes(), &mut id).is_some() {
        return Ok(id);
    }
    match general_purpose::STANDARD.decode(&*digits) {
        Ok(id) if digits.ends_with('=') && matches!(id.len(), 8 | 16) => Ok(id),
        _ => Err(RULE),
    }
}

/// The content of a JSON string.
fn string(raw: &str) -> Option<Cow<'_, str>> {
    let content = raw.strip_prefix('"')?.strip_suffix('"')?;
    if content.contains('\\') {
        return serde_json::from_str(raw).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(content))
}

/// The exact value of a decimal number without a fractional part; `None` for anything else, and for what is far
/// beyond 64 bits.
fn whole(raw: &str) -> Option<i128> {
    let text = string(raw).unwrap_or(Cow::Borrowed(raw));
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, &*text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = before.bytes().chain(after.bytes());
    if before.is_empty() || !digits.clone().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    // As many of the digits as there are before the point once the exponent has moved it.
    let places = i64::try_from(before.len()).ok()?.checked_add(exponent)?;
    let mut value: i128 = 0;
    let mut place = 0;
    for digit in digits.by_ref() {
        if place >= places && digit != b'0' {
            return None;
        }
        if place < places {
            value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
        }
        place += 1;
    }
    while place < places && value != 0 {
        value = value.checked_mul(10)?;
        place += 1;
    }
    Some(if negative { -value } else { value })
}

/// At most 40 characters of a value, for a message.
pub(super) fn shortened(raw: &str) -> Cow<'_, str> {
    match raw.char_indices().nth(40) {
        Some((end, _)) => Cow::Owned(format!("{}...", raw.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(raw),
    }
}

/// A message as it is told: one line of about [`LONGEST_FAULT`] characters at most, whatever of the input stands in it.
pub(super) fn line(message: &str) -> String {
    let shown = |character: char| if character.is_control() { ' ' } else { character };
    let length = message.chars().count();
    if length <= LONGEST_FAULT {
        return message.chars().map(shown).collect();
    }
    // The field stands at its beginning, and the rule at its end.
    let half = LONGEST_FAULT / 2;
    let end = message.chars().skip(length - half);
    message.chars().take(half).chain("...".chars()).chain(end).map(shown).collect()
}

/// The text with U+FFFD for what is no UTF-8 and for escapes of lone surrogates, which Go and JavaScript write.
pub(super) fn mend(json: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(json);
    let lone = lone_surrogates(text.as_bytes());
    if lone.is_empty() {
        return text;
    }
    let mut mended = text.into_owned();
    for at in lone {
        mended.replace_range(at..at + ESCAPE, "\\ufffd");
    }
    Cow::Owned(mended)
}

/// The length of `\uXXXX`.
const ESCAPE: usize = 6;

/// Where escapes stand that are half of a surrogate pair without the other half.
fn lone_surrogates(text: &[u8]) -> Vec<usize> {
    let mut lone = Vec::new();
    let mut at = 0;
    while let Some(next) = text.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == b'\\')) {
        at += next;
        match surrogate(text, at) {
            Some(Half::High) if matches!(surrogate(text, at + ESCAPE), Some(Half::Low)) => at += 2 * ESCAPE,
            Some(_) => {
                lone.push(at);
                at += ESCAPE;
            }
            // A backslash escapes the character behind it, which may be another backslash.
            None => at += 2,
        }
    }
    lone
}

enum Half {
    High,
    Low,
}

/// Which half of a surrogate pair is escaped at `at`.
fn surrogate(text: &[u8], at: usize) -> Option<Half> {
    let [b'\\', b'u', digits @ ..] = text.get(at..at + ESCAPE)? else { return None };
    let mut unit = [0; 2];
    decode_hex(digits, &mut unit)?;
    match u16::from_be_bytes(unit) {
        0xd800..0xdc00 => Some(Half::High),
        0xdc00..0xe000 => Some(Half::Low),
        _ => None,
    }
}
