//! What a refusal is on the wire: a gRPC status, an HTTP status, and a `google.rpc.Status` in either encoding.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{Format, Refused};
use crate::export::Answer;
use crate::telemetry::metrics::Refusal;

/// How long a sender is asked to wait; SDKs back off from there by themselves.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Of what a destination says about a relayed request, in characters: it travels in a header.
const LONGEST_REASON: usize = 500;

/// A request that is answered with an error.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// Over gRPC; over HTTP the body.
    pub(crate) status: Status,
    /// Over HTTP.
    pub(crate) http: StatusCode,
    /// Under which reason it counts as a refused request.
    pub(crate) refusal: Option<Refusal>,
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let too_large;
        let (code, http, refusal, message) = match refused {
            Refused::Malformed => return Self::malformed("not a valid protobuf message"),
            Refused::TooLarge(key) => {
                too_large = format!("the request is larger than {key} allows");
                (
                    Code::ResourceExhausted,
                    StatusCode::PAYLOAD_TOO_LARGE,
                    Refusal::TooLarge,
                    too_large.as_str(),
                )
            }
            Refused::Overload => (
                Code::Unavailable,
                StatusCode::SERVICE_UNAVAILABLE,
                Refusal::Overload,
                "there is no room for the request now",
            ),
            Refused::Draining => (
                Code::Unavailable,
                StatusCode::SERVICE_UNAVAILABLE,
                Refusal::Draining,
                "the receiver is shutting down",
            ),
        };
        // RetryInfo on RESOURCE_EXHAUSTED would make senders repeat what can never be taken.
        let status = if code == Code::Unavailable {
            Status::with_error_details(code, message, ErrorDetails::with_retry_info(Some(RETRY_AFTER)))
        } else {
            Status::new(code, message)
        };
        Self { status, http, refusal: Some(refusal) }
    }
}

impl Failure {
    /// The request is no OTLP; `fault` says why.
    pub(crate) fn malformed(fault: impl Into<String>) -> Self {
        let fault = fault.into();
        let details = ErrorDetails::with_bad_request_violation("request", fault.clone());
        let status = Status::with_error_details(Code::InvalidArgument, fault, details);
        Self { status, http: StatusCode::BAD_REQUEST, refusal: Some(Refusal::Malformed) }
    }

    /// The frames around a gRPC message are wrong; gRPC has INTERNAL for it.
    pub(crate) fn misframed(fault: &'static str) -> Self {
        Self {
            status: Status::internal(fault),
            http: StatusCode::BAD_REQUEST,
            refusal: Some(Refusal::Malformed),
        }
    }

    /// The request is encoded in a way that nobody here reads.
    pub(crate) fn unsupported(fault: impl Into<String>) -> Self {
        Self {
            status: Status::unimplemented(fault),
            http: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            refusal: Some(Refusal::Malformed),
        }
    }

    /// The sender has shown no token that is accepted.
    pub(crate) fn unauthenticated() -> Self {
        Self {
            status: Status::unauthenticated("a bearer token that is accepted here is needed"),
            http: StatusCode::UNAUTHORIZED,
            refusal: Some(Refusal::Unauthenticated),
        }
    }

    /// The request was sent from here. The exporter counts what is lost with it; nobody else was refused anything.
    pub(crate) fn returned() -> Self {
        Self {
            status: Status::failed_precondition(
                "this is the process that has sent the request: its export.endpoint leads back to it",
            ),
            http: StatusCode::LOOP_DETECTED,
            refusal: None,
        }
    }

    /// There is nothing at the path.
    pub(crate) fn unknown(fault: impl Into<String>) -> Self {
        Self { status: Status::unimplemented(fault), http: StatusCode::NOT_FOUND, refusal: None }
    }

    /// The path takes only POST.
    pub(crate) fn method() -> Self {
        Self {
            status: Status::unimplemented("only POST is served here"),
            http: StatusCode::METHOD_NOT_ALLOWED,
            refusal: None,
        }
    }

    /// The request did not arrive in time.
    pub(crate) fn timed_out() -> Self {
        Self {
            status: Status::deadline_exceeded("the request did not arrive in time"),
            http: StatusCode::REQUEST_TIMEOUT,
            refusal: Some(Refusal::Malformed),
        }
    }

    /// The sender went away in the middle. Nothing was refused, so nothing counts: where there is HTTP/1.1, hyper ends
    /// such a request without a word to us.
    pub(crate) fn cut_off() -> Self {
        Self {
            status: Status::cancelled("the request ended too early"),
            http: StatusCode::BAD_REQUEST,
            refusal: None,
        }
    }

    /// A bug of ours.
    pub(crate) fn internal() -> Self {
        Self {
            status: Status::internal("the receiver failed on this request"),
            http: StatusCode::INTERNAL_SERVER_ERROR,
            refusal: None,
        }
    }

    /// The destination's own answer to a relayed request: its code, message and details, but not its headers.
    pub(crate) fn relayed(status: &Status) -> Self {
        let details = Bytes::copy_from_slice(status.details());
        let status = Status::with_details(status.code(), status.message(), details);
        let http = match status.code() {
            Code::InvalidArgument | Code::FailedPrecondition => StatusCode::BAD_REQUEST,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::Unimplemented => StatusCode::NOT_FOUND,
            // Without RetryInfo it is not to be repeated, and 429 would be.
            Code::ResourceExhausted if retry_delay(&status).is_none() => StatusCode::PAYLOAD_TOO_LARGE,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, http, refusal: None }
    }

    /// The destination's own answer to a relayed request, where that went over HTTP: its status, reason and hint.
    pub(crate) fn relayed_over_http(answer: &Answer) -> Self {
        let code = match answer.status.as_u16() {
            400 => Code::InvalidArgument,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 | 405 | 415 => Code::Unimplemented,
            413 => Code::ResourceExhausted,
            429 | 502 | 503 | 504 => Code::Unavailable,
            _ => Code::Internal,
        };
        let reason: String = answer.reason().chars().take(LONGEST_REASON).collect();
        let status = match answer.retry_after {
            Some(pause) if code == Code::Unavailable => {
                Status::with_error_details(code, reason, ErrorDetails::with_retry_info(Some(pause)))
            }
            _ => Status::new(code, reason),
        };
        // A redirect, or a page for people, says to our sender only that there is no such destination.
        let is_refusal = answer.status.is_client_error() || answer.status.is_server_error();
        let http = if is_refusal { answer.status } else { StatusCode::INTERNAL_SERVER_ERROR };
        Self { status, http, refusal: None }
    }

    /// Seconds for `Retry-After`, where the sender is to try again.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        let retryable = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
        let delay = retryable.contains(&self.http).then(|| retry_delay(&self.status))??;
        // Rounded up: it is a minimum.
        Some(delay.as_secs() + u64::from(delay.subsec_nanos() > 0))
    }

    /// The `google.rpc.Status` that OTLP/HTTP wants as the body.
    pub(crate) fn body(&self, format: Format) -> Bytes {
        match format {
            Format::Json => json_status(&self.status).to_string().into(),
            // tonic keeps the whole google.rpc.Status there, if it has details.
            Format::Protobuf if !self.status.details().is_empty() => {
                Bytes::copy_from_slice(self.status.details())
            }
            Format::Protobuf => {
                let (code, message) = (i32::from(self.status.code()), self.status.message().to_owned());
                tonic_types::Status { code, message, details: Vec::new() }.encode_to_vec().into()
            }
        }
    }
}

fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

fn json_status(status: &Status) -> Value {
    let mut details = Vec::new();
    let typed = |name: &str| format!("type.googleapis.com/google.rpc.{name}");
    if let Some(bad_request) = status.get_details_bad_request() {
        let violations: Vec<_> = bad_request
            .field_violations
            .iter()
            .map(|violation| json!({"field": violation.field, "description": violation.description}))
            .collect();
        details.push(json!({"@type": typed("BadRequest"), "fieldViolations": violations}));
    }
    if let Some(delay) = retry_delay(status) {
        details.push(json!({"@type": typed("RetryInfo"), "retryDelay": format!("{}s", delay.as_secs_f64())}));
    }
    json!({"code": i32::from(status.code()), "message": status.message(), "details": details})
}
