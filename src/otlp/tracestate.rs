//! The `ot` member of a W3C `tracestate`: the sampling threshold `th` and the explicit randomness `rv`.
//!
//! Follows OpenTelemetry's `TraceState` probability sampling: a trace with randomness R of 56 bits is kept
//! iff R >= T, and `th` states T without trailing zeros. All else in a `tracestate` is opaque bytes.

use super::span::field::TRACE_STATE;
use super::wire::{self, Malformed};

/// A `tracestate` has at most so many members.
const MOST_MEMBERS: usize = 32;
/// The value of the `ot` member has at most so many characters.
const LONGEST_VALUE: usize = 256;
/// Digits of a threshold or a randomness of 56 bits.
const DIGITS: usize = 14;
/// The highest threshold there is; it keeps one trace in 2^56.
const HIGHEST: u64 = (1 << 56) - 1;

/// What a `tracestate` says of sampling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OtState {
    /// `th`, the threshold of 56 bits with which the trace was sampled so far.
    pub threshold: Option<u64>,
    /// `rv`, randomness of 56 bits that stands for that of the trace id.
    pub randomness: Option<u64>,
    /// A `th` that is not 1 to 14 lower-case hexadecimal digits.
    pub unparseable: bool,
}

impl OtState {
    /// Whether a trace with this randomness can have passed the threshold.
    pub fn is_consistent(&self, randomness: u64) -> bool {
        self.threshold.is_none_or(|threshold| randomness >= threshold)
    }
}

/// Reads the `ot` member of `trace_state`; of several the first counts.
pub fn read(trace_state: &[u8]) -> OtState {
    let mut state = OtState::default();
    let Some(value) = members(trace_state).find_map(ot_value) else { return state };
    for sub_key in sub_keys(value) {
        if let Some(digits) = sub_key.strip_prefix(b"th:") {
            if state.threshold.is_none() && !state.unparseable {
                state.threshold = parse_threshold(digits);
                state.unparseable = state.threshold.is_none();
            }
        } else if let Some(digits) = sub_key.strip_prefix(b"rv:")
            && digits.len() == DIGITS
            && state.randomness.is_none()
        {
            state.randomness = parse_hex(digits);
        }
    }
    state
}

/// Why [`stamp`] erases a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erased {
    /// A trace of this randomness cannot have passed it.
    Inconsistent,
    /// It is no threshold.
    Unparseable,
}

/// Whether [`stamp`] erases the threshold in `trace_state`, and why.
pub fn erased(trace_state: &[u8], randomness: u64) -> Option<Erased> {
    let state = read(trace_state);
    if state.unparseable {
        Some(Erased::Unparseable)
    } else if !state.is_consistent(randomness) {
        Some(Erased::Inconsistent)
    } else {
        None
    }
}

/// `trace_state` with `th` set to the higher of its own and `threshold`, and `ot` as its first member.
///
/// An own `th` that cannot be parsed, or that a trace of this `randomness` cannot have passed, is erased.
/// Other sub-keys and other vendors' members stay, in order; of 32 members the last goes when `ot` is new.
pub fn stamp(trace_state: &[u8], threshold: u64, randomness: u64) -> Vec<u8> {
    let state = read(trace_state);
    let own = state.threshold.filter(|_| state.is_consistent(randomness));
    let mut out = b"ot=".to_vec();
    put_threshold(&mut out, own.map_or(threshold, |own| own.max(threshold)));
    let longest = b"ot=".len() + LONGEST_VALUE;
    let value = members(trace_state).find_map(ot_value).unwrap_or(&[]);
    // Randomness stands before what we do not know, so that it is the last to fall victim to the limit.
    let randomness = sub_keys(value).filter(|sub_key| sub_key.starts_with(b"rv:"));
    let unknown =
        sub_keys(value).filter(|sub_key| !sub_key.starts_with(b"rv:") && !sub_key.starts_with(b"th:"));
    for sub_key in randomness.chain(unknown) {
        if out.len() + 1 + sub_key.len() <= longest {
            out.push(b';');
            out.extend_from_slice(sub_key);
        }
    }
    for member in members(trace_state).filter(|member| ot_value(member).is_none()).take(MOST_MEMBERS - 1) {
        out.push(b',');
        out.extend_from_slice(member);
    }
    out
}

/// The span message `body` with `trace_state` in the place of its own; everything else stays, in order.
///
/// # Errors
/// [`Malformed`] when `body` is no protobuf.
pub fn rewrite(body: &[u8], trace_state: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::with_capacity(body.len() + trace_state.len() + 4);
    let mut written = false;
    let mut copied = 0;
    let mut end = 0;
    for field in wire::fields(body) {
        let field = field?;
        let start = end;
        end += field.raw.len();
        if field.number != TRACE_STATE {
            continue;
        }
        out.extend_from_slice(body.get(copied..start).ok_or(Malformed)?);
        copied = end;
        if !written {
            wire::put_bytes(&mut out, TRACE_STATE, trace_state);
            written = true;
        }
    }
    out.extend_from_slice(body.get(copied..).ok_or(Malformed)?);
    if !written {
        wire::put_bytes(&mut out, TRACE_STATE, trace_state);
    }
    Ok(out)
}

/// The list members without the optional white space around them; empty ones are allowed and mean nothing.
fn members(trace_state: &[u8]) -> impl Iterator<Item = &[u8]> {
    trace_state.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

fn ot_value(member: &[u8]) -> Option<&[u8]> {
    member.strip_prefix(b"ot=")
}

fn sub_keys(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b';').filter(|sub_key| !sub_key.is_empty())
}

/// 1 to 14 digits, padded with zeros on the right.
fn parse_threshold(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > DIGITS {
        return None;
    }
    let shift = 4 * (DIGITS - digits.len());
    parse_hex(digits).map(|value| value << shift)
}

/// At most 14 lower-case hexadecimal digits.
fn parse_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

fn put_threshold(out: &mut Vec<u8>, threshold: u64) {
    let digits = format!("{:014x}", threshold.min(HIGHEST));
    let significant = digits.trim_end_matches('0');
    out.extend_from_slice(b"th:");
    out.extend_from_slice(if significant.is_empty() { b"0" } else { significant.as_bytes() });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::wire::{put_bytes, put_uint};

    /// Half of all traces.
    const HALF: u64 = 1 << 55;
    /// Passes every threshold.
    const TOP: u64 = HIGHEST;

    fn stamped(trace_state: &str, threshold: u64, randomness: u64) -> String {
        String::from_utf8(stamp(trace_state.as_bytes(), threshold, randomness)).expect("was text")
    }

    #[test]
    fn th_and_rv_are_read_and_all_else_is_ignored() {
        let state = |threshold, randomness, unparseable| OtState { threshold, randomness, unparseable };
        let cases = [
            ("", state(None, None, false)),
            ("vendor=1", state(None, None, false)),
            ("xot=th:8", state(None, None, false)),
            ("ot=th:8", state(Some(HALF), None, false)),
            ("ot=th:0", state(Some(0), None, false)),
            ("ot=th:c", state(Some(HALF + HALF / 2), None, false)),
            ("ot=th:ffffffffffffff", state(Some(HIGHEST), None, false)),
            ("a=b, ot=x:1;th:8;rv:00000000000001 ,c=d", state(Some(HALF), Some(1), false)),
            ("ot=rv:9b8233f7e3a151", state(None, Some(0x9b_8233_f7e3_a151), false)),
            ("ot=rv:9b8233f7e3a15", state(None, None, false)),
            ("ot=rv:9B8233F7E3A151", state(None, None, false)),
            ("ot=th:", state(None, None, true)),
            ("ot=th:F", state(None, None, true)),
            ("ot=th:xyz;rv:00000000000001", state(None, Some(1), true)),
            ("ot=th:000000000000000", state(None, None, true)),
            ("ot=th:8;th:c", state(Some(HALF), None, false)),
            ("ot=th:8,ot=th:c", state(Some(HALF), None, false)),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_threshold_above_the_randomness_is_inconsistent() {
        let state = read(b"ot=th:8");
        assert!(state.is_consistent(HALF) && !state.is_consistent(HALF - 1));
        assert!(read(b"").is_consistent(0));
    }

    #[test]
    fn a_stamp_states_the_higher_threshold_without_trailing_zeros() {
        let cases = [
            ("", HALF, "ot=th:8"),
            ("", 0, "ot=th:0"),
            ("", 0xf3_3333_3333_3333, "ot=th:f3333333333333"),
            ("ot=th:c", HALF, "ot=th:c"),
            ("ot=th:4", HALF, "ot=th:8"),
            ("ot=th:8", HALF, "ot=th:8"),
            ("ot=th:junk;rv:9b8233f7e3a151", HALF, "ot=th:8;rv:9b8233f7e3a151"),
            ("ot=rv:9b8233f7e3a151", HALF, "ot=th:8;rv:9b8233f7e3a151"),
            ("ot=p:1;th:4;rv:9b8233f7e3a151;q:2", HALF, "ot=th:8;rv:9b8233f7e3a151;p:1;q:2"),
            ("ot=", HALF, "ot=th:8"),
        ];
        for (text, threshold, expected) in cases {
            assert_eq!(stamped(text, threshold, TOP), expected, "{text}");
        }
    }

    #[test]
    fn an_own_threshold_that_the_trace_cannot_have_passed_is_erased() {
        assert_eq!(
            stamped("ot=th:c;rv:90000000000000", HALF, 0x90_0000_0000_0000),
            "ot=th:8;rv:90000000000000"
        );
        assert_eq!(stamped("ot=th:c", HALF, 0xc0_0000_0000_0000), "ot=th:c");
    }

    #[test]
    fn what_is_erased_is_told_by_its_reason() {
        assert_eq!(erased(b"ot=th:c", HALF), Some(Erased::Inconsistent));
        assert_eq!(erased(b"a=1,ot=th:zz", TOP), Some(Erased::Unparseable));
        assert_eq!(erased(b"ot=th:c", TOP), None);
        assert_eq!(erased(b"", 0), None);
    }

    // SAMPLING-10.
    #[test]
    fn other_members_keep_their_order_behind_ot() {
        let cases = [
            ("a=1,b=2", "ot=th:8,a=1,b=2"),
            ("a=1,ot=th:4,b=2", "ot=th:8,a=1,b=2"),
            (" a=1 , b=2\t,,", "ot=th:8,a=1,b=2"),
            ("a=1,ot=th:4,ot=th:c", "ot=th:8,a=1"),
            ("t@v=x;y:z,junk", "ot=th:8,t@v=x;y:z,junk"),
        ];
        for (text, expected) in cases {
            assert_eq!(stamped(text, HALF, TOP), expected, "{text}");
        }
    }

    // SAMPLING-10.
    #[test]
    fn of_thirty_two_members_the_last_goes_when_ot_is_new() {
        let others: Vec<String> = (0..32).map(|n| format!("v{n}={n}")).collect();
        let first = others[..31].join(",");
        assert_eq!(stamped(&others.join(","), HALF, TOP), format!("ot=th:8,{first}"));
        assert_eq!(stamped(&format!("{first},ot=th:4"), HALF, TOP), format!("ot=th:8,{first}"));
    }

    // SAMPLING-10.
    #[test]
    fn the_value_never_exceeds_256_characters() {
        let long = format!("ot=a:{};b:1;rv:9b8233f7e3a151", "x".repeat(249));
        let out = stamped(&long, HALF, TOP);
        assert_eq!(out, "ot=th:8;rv:9b8233f7e3a151;b:1");
        let fits = format!("ot=a:{}", "x".repeat(249));
        assert_eq!(stamped(&fits, HALF, TOP).len(), "ot=".len() + 256);
    }

    // JSON-11.
    #[test]
    fn bytes_that_are_no_text_survive() {
        assert_eq!(stamp(b"a=\xff,ot=th:4", HALF, TOP), b"ot=th:8,a=\xff");
    }

    #[test]
    fn stamping_twice_changes_nothing_more() {
        for text in ["", "a=1,ot=x:1;th:4", "ot=th:junk,b=2"] {
            let once = stamp(text.as_bytes(), HALF, TOP);
            assert_eq!(stamp(&once, HALF, TOP), once, "{text}");
        }
    }

    #[test]
    fn a_rewrite_replaces_the_field_where_it_stands() {
        let with = |trace_states: &[&[u8]]| {
            let mut body = Vec::new();
            put_bytes(&mut body, 1, b"id");
            for trace_state in trace_states {
                put_bytes(&mut body, 3, trace_state);
            }
            put_bytes(&mut body, 5, b"name");
            put_uint(&mut body, 99, 7);
            body
        };
        assert_eq!(rewrite(&with(&[b"a=1"]), b"new"), Ok(with(&[b"new"])));
        assert_eq!(rewrite(&with(&[b"a=1", b"b=2"]), b"new"), Ok(with(&[b"new"])));
        let mut appended = with(&[]);
        put_bytes(&mut appended, 3, b"new");
        assert_eq!(rewrite(&with(&[]), b"new"), Ok(appended));
        assert_eq!(rewrite(&[0x0f], b"new"), Err(Malformed));
    }
}
