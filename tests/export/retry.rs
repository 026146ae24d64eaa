//! The retry table of OTLP/gRPC, every code with and without a hint.

use std::time::Duration;

use laggard::telemetry::metrics::Class;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::backend::{Answer, Backend, script};
use super::rig::{Rig, chunk, to};

/// Whether a request that failed so is sent again: without `RetryInfo`, and with it.
const TABLE: [(Code, &str, bool, bool); 16] = [
    (Code::Cancelled, "CANCELLED", true, true),
    (Code::Unknown, "UNKNOWN", false, false),
    (Code::InvalidArgument, "INVALID_ARGUMENT", false, false),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", true, true),
    (Code::NotFound, "NOT_FOUND", false, false),
    (Code::AlreadyExists, "ALREADY_EXISTS", false, false),
    (Code::PermissionDenied, "PERMISSION_DENIED", false, false),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED", false, true),
    (Code::FailedPrecondition, "FAILED_PRECONDITION", false, false),
    (Code::Aborted, "ABORTED", true, true),
    (Code::OutOfRange, "OUT_OF_RANGE", true, true),
    (Code::Unimplemented, "UNIMPLEMENTED", false, false),
    (Code::Internal, "INTERNAL", false, false),
    (Code::Unavailable, "UNAVAILABLE", true, true),
    (Code::DataLoss, "DATA_LOSS", true, true),
    (Code::Unauthenticated, "UNAUTHENTICATED", false, false),
];

async fn assert_answered(status: Status, name: &str, is_retried: bool) {
    let backend = Backend::start(script([Answer::Refuse(status.clone())])).await;
    let (channel, config) = to(backend.endpoint());
    let mut rig = Rig::new(channel, config);
    rig.push(chunk(0, 1, Class::Slow));
    rig.drain().await;
    let expected = if is_retried { (2, 1, 0) } else { (1, 0, 1) };
    assert_eq!((backend.received().len(), rig.sent(), rig.dropped("rejected")), expected, "{status:?}");
    let series = format!("laggard_exporter_failed_requests_total{{code=\"{name}\"}}");
    assert_eq!(rig.value(&series), 1, "{status:?}");
}

// R11, C1, F4.
#[tokio::test]
async fn each_code_is_retried_or_not_as_the_specification_has_it() {
    for (code, name, is_retried, _) in TABLE {
        assert_answered(Status::new(code, "no"), name, is_retried).await;
    }
}

// R11.
#[tokio::test]
async fn a_hint_makes_only_resource_exhausted_retryable() {
    for (code, name, _, is_retried) in TABLE {
        for delay in [None, Some(Duration::ZERO), Some(Duration::from_millis(1))] {
            let details = ErrorDetails::with_retry_info(delay);
            assert_answered(Status::with_error_details(code, "no", details), name, is_retried).await;
        }
    }
}

// C2.
#[tokio::test]
async fn details_that_are_no_protobuf_are_no_hint() {
    let status = |code| Status::with_details(code, "no", b"\xff\xff\xff".as_slice().into());
    assert_answered(status(Code::Unavailable), "UNAVAILABLE", true).await;
    assert_answered(status(Code::ResourceExhausted), "RESOURCE_EXHAUSTED", false).await;
}
