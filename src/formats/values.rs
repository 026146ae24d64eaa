//! Scalars of foreign formats as OTLP has them.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Status;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

const NANOS_PER_MICRO: u64 = 1_000;

/// An attribute.
pub(super) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// An attribute of text.
pub(super) fn text_attribute(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

/// Microseconds as nanoseconds; `None` beyond the year 2554.
pub(super) fn nanos(micros: u64) -> Option<u64> {
    micros.checked_mul(NANOS_PER_MICRO)
}

/// An id of `N` bytes in hexadecimal digits of either case. Leading zeros may be missing: both formats have ids of
/// 64 bits where OTLP has 128.
pub(super) fn id<const N: usize>(digits: &str) -> Option<Vec<u8>> {
    if digits.is_empty() || digits.len() > N * 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let number = u128::from_str_radix(digits, 16).ok().filter(|number| *number != 0)?;
    let bytes = number.to_be_bytes();
    bytes.get(bytes.len() - N..).map(<[u8]>::to_vec)
}

/// The status that tags describe: `error`, or what OpenTelemetry's exporters write.
#[derive(Debug, Default)]
pub(super) struct StatusTags {
    is_error: bool,
    is_ok: bool,
    message: String,
}

impl StatusTags {
    /// Takes the text of a tag, or says that it is none of these.
    pub(super) fn take(&mut self, key: &str, value: &str) -> bool {
        match key {
            "otel.status_code" | "otel.status_description" | "error" => {}
            _ => return false,
        }
        match (key, value) {
            ("otel.status_code", code) => {
                self.is_error |= code.eq_ignore_ascii_case("ERROR");
                self.is_ok |= code.eq_ignore_ascii_case("OK");
            }
            ("otel.status_description", message) => message.clone_into(&mut self.message),
            (_, "false") => {}
            // Zipkin's tag says what went wrong; an empty one says that something did.
            (_, message) => {
                self.is_error = true;
                if self.message.is_empty() && message != "true" {
                    message.clone_into(&mut self.message);
                }
            }
        }
        true
    }

    /// `None` where nothing was said.
    pub(super) fn status(self) -> Option<Status> {
        let code = match (self.is_error, self.is_ok) {
            (true, _) => StatusCode::Error,
            (_, true) => StatusCode::Ok,
            _ => return None,
        };
        Some(Status { message: self.message, code: code as i32 })
    }
}
