//! What the answer to an OTLP/HTTP request means, by OTLP 1.11, "OTLP/HTTP: failures" and "throttling".

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use prost::Message as _;

use super::super::retry::{LONGEST_DEMAND, Next};
use crate::otlp::Nanos;

/// What the destination said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its verdict.
    pub status: StatusCode,
    /// How long it wants to be left alone, at most 5 minutes.
    pub retry_after: Option<Duration>,
    /// `Content-Type` without its parameters, in lower case.
    pub content_type: String,
    /// At most 4 MiB of a success, and 64 KiB of anything else.
    pub body: Bytes,
}

impl Answer {
    /// `response`, which came at `now`.
    pub(super) fn new(response: &Response<Bytes>, now: Nanos) -> Self {
        let headers = response.headers();
        Self {
            status: response.status(),
            retry_after: retry_after(headers, now),
            content_type: content_type(headers),
            body: response.body().clone(),
        }
    }

    /// Whether the destination took the request. A page for people is no answer to it: it comes from something
    /// that is in the way.
    pub fn is_taken(&self) -> bool {
        self.status.is_success() && self.content_type != "text/html"
    }

    /// Why not, as far as it says so: the message of the `google.rpc.Status` that OTLP wants, else its text.
    pub fn reason(&self) -> String {
        let said = match self.content_type.as_str() {
            "application/x-protobuf" => {
                tonic_types::Status::decode(self.body.clone()).map(|status| status.message).ok()
            }
            "application/json" => {
                let status = serde_json::from_slice::<serde_json::Value>(&self.body).ok();
                status.and_then(|status| Some(status.get("message")?.as_str()?.to_owned()))
            }
            _ => None,
        };
        said.unwrap_or_else(|| String::from_utf8_lossy(&self.body).into_owned())
    }
}

/// What to do about a request that was not taken, and the code under which that is counted.
pub(in super::super) fn judge(answer: &Answer) -> (Next, &'static str) {
    let pause = answer.retry_after.unwrap_or_default();
    match answer.status.as_u16() {
        400 => (Next::GiveUp, "http_400"),
        401 => (Next::GiveUp, "http_401"),
        403 => (Next::GiveUp, "http_403"),
        404 => (Next::GiveUp, "http_404"),
        413 => (Next::Halve, "http_413"),
        429 => (Next::Retry(pause), "http_429"),
        500 => (Next::GiveUp, "http_500"),
        502 => (Next::Retry(pause), "http_502"),
        503 => (Next::Retry(pause), "http_503"),
        504 => (Next::Retry(pause), "http_504"),
        _ => (Next::GiveUp, "http_other"),
    }
}

/// `Retry-After`: seconds or a date; anything else is none.
fn retry_after(headers: &HeaderMap, now: Nanos) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let demanded = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a long time as well.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(UNIX_EPOCH + Duration::from_nanos(now)).unwrap_or_default()
    };
    Some(demanded.min(LONGEST_DEMAND))
}

fn content_type(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    /// Sun, 06 Nov 1994 08:49:37 GMT
    const NOW: Nanos = 784_111_777_000_000_000;

    fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        Answer::new(&response.body(Bytes::copy_from_slice(body)).expect("valid"), NOW)
    }

    fn demanded(retry_after: &str) -> Option<Duration> {
        answer(503, &[("retry-after", retry_after)], b"").retry_after
    }

    // C2, F5.
    #[test]
    fn retry_after_is_seconds_or_a_date_and_at_most_five_minutes() {
        assert_eq!(answer(503, &[], b"").retry_after, None);
        for (text, expected) in [
            ("0", Some(Duration::ZERO)),
            (" 7 ", Some(7 * SECOND)),
            ("1000000000", Some(300 * SECOND)),
            ("99999999999999999999999", Some(300 * SECOND)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10 * SECOND)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60 * SECOND)),
            ("Sun, 06 Nov 1994 08:49:36 GMT", Some(Duration::ZERO)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(300 * SECOND)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(demanded(text), expected, "{text}");
        }
    }

    #[test]
    fn only_four_statuses_are_worth_another_attempt_and_one_a_smaller_request() {
        for status in 100..=999 {
            let (next, code) = judge(&answer(status, &[("retry-after", "3")], b""));
            let expected = match status {
                429 | 502 | 503 | 504 => Next::Retry(3 * SECOND),
                413 => Next::Halve,
                _ => Next::GiveUp,
            };
            assert_eq!(next, expected, "{status}");
            assert!(code == format!("http_{status}") || code == "http_other", "{status} {code}");
        }
        assert_eq!(judge(&answer(503, &[], b"")).0, Next::Retry(Duration::ZERO));
    }

    #[test]
    fn a_page_for_people_is_no_success() {
        let html = ("content-type", "Text/HTML; charset=utf-8");
        assert!(!answer(200, &[html], b"<html>").is_taken());
        for (status, is_taken) in [(200, true), (204, true), (302, false), (500, false)] {
            assert_eq!(answer(status, &[], b"").is_taken(), is_taken, "{status}");
        }
    }

    #[test]
    fn the_reason_is_the_message_of_the_status_or_the_text() {
        let status = tonic_types::Status { code: 3, message: "no".to_owned(), details: Vec::new() };
        let protobuf = ("content-type", "application/x-protobuf");
        let json = ("content-type", "application/json");
        for (headers, body, expected) in [
            (protobuf, &status.encode_to_vec()[..], "no"),
            (json, br#"{"code":3,"message":"no"}"#, "no"),
            (json, b"{}", "{}"),
            (protobuf, b"\xff", "\u{fffd}"),
            (("content-type", "text/plain"), b"busy", "busy"),
        ] {
            assert_eq!(answer(400, &[headers], body).reason(), expected);
        }
    }
}
