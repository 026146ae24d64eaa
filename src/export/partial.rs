//! What a destination that took a batch says of single spans: `ExportTracePartialSuccess`, in either encoding.

use serde::Deserialize;

use super::http::Answer;
use crate::otlp::wire::{self, Malformed};

/// All zero in a full success, which many destinations send as a message too.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PartialSuccess {
    pub(super) rejected_spans: u64,
    pub(super) message: String,
}

impl PartialSuccess {
    /// What `answer`, which says that the spans were taken, says beyond that. They are taken even if it cannot be read.
    pub(super) fn of(answer: &Answer) -> Self {
        match answer.content_type.as_str() {
            "application/x-protobuf" => Self::read(&answer.body).unwrap_or_default(),
            // Some destinations answer in JSON whatever they are sent.
            "application/json" => Self::read_json(&answer.body).unwrap_or_default(),
            _ => Self::default(),
        }
    }

    /// Reads an encoded `ExportTraceServiceResponse`; a negative count is none.
    pub(super) fn read(response: &[u8]) -> Result<Self, Malformed> {
        let mut partial = Self::default();
        for field in wire::fields(response) {
            let field = field?;
            if field.number != 1 {
                continue;
            }
            for field in wire::fields(field.value.bytes()?) {
                let field = field?;
                match field.number {
                    1 => partial.rejected_spans = count(field.value.varint()?.cast_signed()),
                    2 => partial.message = String::from_utf8_lossy(field.value.bytes()?).into_owned(),
                    _ => {}
                }
            }
        }
        Ok(partial)
    }

    /// The same in JSON, whose 64-bit numbers are strings or numbers.
    fn read_json(response: &[u8]) -> serde_json::Result<Self> {
        let response: Response = serde_json::from_str(&String::from_utf8_lossy(response))?;
        let Some(partial) = response.partial_success else { return Ok(Self::default()) };
        let rejected = match partial.rejected_spans {
            Some(Count::Number(number)) => number,
            Some(Count::Text(text)) => text.parse().unwrap_or(0),
            None => 0,
        };
        Ok(Self { rejected_spans: count(rejected), message: partial.error_message.unwrap_or_default() })
    }
}

fn count(rejected: i64) -> u64 {
    u64::try_from(rejected).unwrap_or(0)
}

#[derive(Deserialize)]
struct Response {
    #[serde(rename = "partialSuccess", alias = "partial_success")]
    partial_success: Option<Partial>,
}

#[derive(Deserialize)]
struct Partial {
    #[serde(rename = "rejectedSpans", alias = "rejected_spans")]
    rejected_spans: Option<Count>,
    #[serde(rename = "errorMessage", alias = "error_message")]
    error_message: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Count {
    Number(i64),
    Text(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::wire::{put_bytes, put_uint};

    fn response(rejected: Option<u64>, message: &[u8]) -> Vec<u8> {
        let mut partial = Vec::new();
        if let Some(rejected) = rejected {
            put_uint(&mut partial, 1, rejected);
        }
        if !message.is_empty() {
            put_bytes(&mut partial, 2, message);
        }
        let mut response = Vec::new();
        put_bytes(&mut response, 1, &partial);
        response
    }

    fn partial(rejected_spans: u64, message: &str) -> PartialSuccess {
        PartialSuccess { rejected_spans, message: message.into() }
    }

    // C4.
    #[test]
    fn a_partial_success_is_read_and_an_empty_one_is_a_full_success() {
        let read = PartialSuccess::read;
        assert_eq!(read(&[]), Ok(partial(0, "")));
        assert_eq!(read(&response(None, b"")), Ok(partial(0, "")));
        assert_eq!(read(&response(Some(5), b"bad")), Ok(partial(5, "bad")));
        assert_eq!(read(&response(Some(u64::MAX), b"")), Ok(partial(0, "")), "-1");
        assert_eq!(read(&response(Some(0), b"\xff")), Ok(partial(0, "\u{fffd}")));
        assert_eq!(read(b"\x0a\x05"), Err(Malformed));
    }

    // C4.
    #[test]
    fn in_json_it_says_the_same() {
        let read = |text: &[u8]| PartialSuccess::read_json(text).unwrap_or_default();
        for (text, expected) in [
            (&b"{}"[..], partial(0, "")),
            (br#"{"partialSuccess":null}"#, partial(0, "")),
            (br#"{"partialSuccess":{}}"#, partial(0, "")),
            (
                br#"{"partialSuccess":{"rejectedSpans":"5","errorMessage":"bad","new":[{}]}}"#,
                partial(5, "bad"),
            ),
            (br#"{"partialSuccess":{"rejectedSpans":5}}"#, partial(5, "")),
            (br#"{"partial_success":{"rejected_spans":2,"error_message":"old"}}"#, partial(2, "old")),
            (br#"{"partialSuccess":{"rejectedSpans":"-1","errorMessage":"odd"}}"#, partial(0, "odd")),
            (br#"{"partialSuccess":{"rejectedSpans":"many","errorMessage":"odd"}}"#, partial(0, "odd")),
            (b"{\"partialSuccess\":{\"errorMessage\":\"\xff\"}}", partial(0, "\u{fffd}")),
            (b"nonsense", partial(0, "")),
            (b"[]", partial(0, "")),
        ] {
            assert_eq!(read(text), expected, "{}", String::from_utf8_lossy(text));
        }
        assert_eq!(read("[".repeat(1 << 20).as_bytes()), partial(0, ""), "however deep it nests");
    }
}
