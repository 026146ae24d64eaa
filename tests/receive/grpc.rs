//! OTLP/gRPC.

use std::time::Duration;

use laggard::otlp::codec::Body;
use laggard::otlp::wire::{put_bytes, put_uint};
use laggard::receive::Refused;
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic_types::StatusExt;

use crate::harness::*;

const GRPC: (&str, &str) = ("content-type", "application/grpc");

// R1, OTLP-G1, OTLP-G2, OTLP-G7.
#[tokio::test]
async fn r1_requests_are_taken_plain_and_compressed() {
    let receiver = Receiver::start(Setup::default()).await;
    let request = request(&[span(1), span(2)]);
    let plain = receiver.client().await;
    let gzip = receiver.client().await.send_compressed(CompressionEncoding::Gzip);
    let zstd = receiver.client().await.send_compressed(CompressionEncoding::Zstd);
    for mut client in [plain, gzip, zstd] {
        let answer = client.export(Body(request.clone().into())).await.expect("taken");
        assert!(answer.into_inner().0.is_empty(), "full success leaves partial_success unset");
        assert_eq!(receiver.taken(), [span(1), span(2)]);
    }
    assert_eq!(receiver.counted("grpc", "malformed"), (6, 0));
    receiver.finish().await;
}

// R2, OTLP-G6, PB-1, B1.
#[tokio::test]
async fn r2_b1_a_request_without_spans_is_a_success_that_the_pipeline_does_not_see() {
    let receiver = Receiver::start(Setup::default()).await;
    for empty in [&b""[..], &[0x0a, 0], &[0x0a, 2, 0x12, 0]] {
        let answer = receiver.client().await.export(Body(empty.to_vec().into())).await.expect("taken");
        assert!(answer.into_inner().0.is_empty());
    }
    assert_eq!(receiver.taken().len(), 0);
    receiver.finish().await;
}

// R3, OTLP-G8, PB-3, FAULT-C1.
#[tokio::test]
async fn r3_c1_bad_spans_are_refused_alone_and_counted_exactly() {
    let receiver = Receiver::start(Setup::default()).await;
    let bad = |number: u32, id: &[u8]| {
        let mut span = span(7);
        put_bytes(&mut span, number, id);
        span
    };
    let bad_trace_ids = [vec![], vec![1; 8], vec![1; 15], vec![1; 17], vec![0; 16]];
    let bad_span_ids = [vec![], vec![1; 4], vec![1; 16], vec![0; 8]];
    let mut spans = vec![span(1)];
    spans.extend(bad_trace_ids.iter().map(|id| bad(1, id)));
    spans.push(span(2));
    spans.extend(bad_span_ids.iter().map(|id| bad(2, id)));
    spans.push(bad(4, &[1; 3]));
    spans.push(bad(4, &[0; 8]));
    let answer = receiver.client().await.export(Body(request(&spans).into())).await.expect("taken");
    let mut partial = Vec::new();
    put_uint(&mut partial, 1, 10);
    put_bytes(&mut partial, 2, b"trace_id must be 16 bytes and not all zero");
    let mut expected = Vec::new();
    put_bytes(&mut expected, 1, &partial);
    assert_eq!(answer.into_inner().0, expected);
    // C2: a parent id of zeros makes a root.
    assert_eq!(receiver.taken(), [span(1), span(2), bad(4, &[0; 8])]);
    assert_eq!(receiver.counted("grpc", "malformed"), (3, 10));
    assert_eq!(receiver.refused_requests("grpc", "malformed"), 0);
    receiver.finish().await;
}

// R4, OTLP-G4, PB-8, LIB-1, A1.
#[tokio::test]
async fn r4_a1_a_message_over_the_limit_is_refused_for_good_before_it_is_read() {
    let receiver = Receiver::start(Setup { max_request_size: 10_000, ..Setup::default() }).await;
    let status = receiver.client().await.export(Body(large_request(10_000).into())).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), "the request is larger than receive.max_request_size allows");
    assert!(status.get_details_retry_info().is_none(), "it must not be sent again");
    // Only the prefix arrives, and it is answered all the same.
    let frames = [vec![0, 0xff, 0xff, 0xff, 0xff]];
    let answer = raw_http2(receiver.grpc, EXPORT, &[GRPC], &frames).await;
    assert_eq!(answer.grpc().code(), Code::ResourceExhausted);
    assert_eq!(receiver.refused_requests("grpc", "too_large"), 2);
    let exactly = large_request(10_000 - 100);
    receiver.client().await.export(Body(exactly.into())).await.expect("fits");
    receiver.finish().await;
}

// R4, OTLP-G3, PB-8, LIB-2, A2.
#[tokio::test]
async fn r4_a2_a_bomb_is_refused_for_good_within_the_budget() {
    let setup = Setup { max_request_size: 1 << 20, max_in_flight: 2 << 20, ..Setup::default() };
    let receiver = Receiver::start(setup).await;
    let bomb = large_request(64 << 20);
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let client = receiver.client().await.max_encoding_message_size(usize::MAX);
        let status =
            client.send_compressed(encoding).export(Body(bomb.clone().into())).await.expect_err("too large");
        assert_eq!(status.code(), Code::ResourceExhausted, "{encoding:?}");
        assert!(status.get_details_retry_info().is_none());
    }
    assert_eq!(receiver.refused_requests("grpc", "too_large"), 2);
    receiver.finish().await;
}

#[tokio::test]
async fn a_request_that_the_whole_budget_cannot_hold_is_too_large_and_not_overload() {
    let setup = Setup { max_request_size: 1 << 20, max_in_flight: 10_000, ..Setup::default() };
    let receiver = Receiver::start(setup).await;
    let status = receiver.client().await.export(Body(large_request(10_000).into())).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), "the request is larger than receive.max_in_flight allows");
    receiver.finish().await;
}

// OTLP-G10, PB-2, LIB-3, B3.
#[tokio::test]
async fn b3_what_is_no_protobuf_is_an_invalid_argument_with_a_bad_request() {
    let receiver = Receiver::start(Setup::default()).await;
    let status = receiver.client().await.export(Body((&b"\xffgarbage"[..]).into())).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let bad_request = status.get_details_bad_request().expect("a detail");
    assert_eq!(bad_request.field_violations[0].description, "not a valid protobuf message");
    assert_eq!(receiver.refused_requests("grpc", "malformed"), 1);
    receiver.finish().await;
}

// R10, OTLP-G11.
#[tokio::test]
async fn r10_what_may_pass_is_unavailable_with_a_hint_when_to_retry() {
    for (refused, reason) in [(Refused::Overload, "overload"), (Refused::Draining, "draining")] {
        let receiver = Receiver::start(Setup::default()).await;
        *receiver.refuse.lock().unwrap() = Some(refused);
        let status = receiver.client().await.export(Body(request(&[span(1)]).into())).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{refused:?}");
        let retry = status.get_details_retry_info().and_then(|info| info.retry_delay);
        assert_eq!(retry, Some(Duration::from_secs(1)), "{refused:?}");
        assert_eq!(receiver.counted("grpc", reason), (0, 1));
        assert_eq!(receiver.refused_requests("grpc", reason), 1);
        receiver.finish().await;
    }
}

#[tokio::test]
async fn every_refusal_of_the_pipeline_has_its_code() {
    for (refused, code) in [
        (Refused::Malformed, Code::InvalidArgument),
        (Refused::TooLarge("memory_limit"), Code::ResourceExhausted),
    ] {
        let receiver = Receiver::start(Setup::default()).await;
        *receiver.refuse.lock().unwrap() = Some(refused);
        let status = receiver.client().await.export(Body(request(&[span(1)]).into())).await.unwrap_err();
        assert_eq!(status.code(), code, "{refused:?}");
        receiver.finish().await;
    }
}

#[tokio::test]
async fn a_draining_receiver_sends_everyone_elsewhere() {
    let receiver = Receiver::start(Setup::default()).await;
    receiver.intake.drain();
    let status = receiver.client().await.export(Body(request(&[span(1)]).into())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_details_retry_info().is_some());
    let answer =
        post(&receiver, "/v1/traces", &[("content-type", JSON)], json_request(&[1]).as_bytes()).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
    assert_eq!(receiver.refused_requests("grpc", "draining"), 1);
    assert_eq!(receiver.refused_requests("http", "draining"), 1);
    assert_eq!(receiver.taken().len(), 0);
}

// A6.
#[tokio::test]
async fn a6_a_damaged_compressed_message_is_an_invalid_argument() {
    let receiver = Receiver::start(Setup::default()).await;
    let whole = gzip(&request(&[span(1)]));
    let truncated = whole[..whole.len() - 1].to_vec();
    let garbage = [&whole[..], b"garbage"].concat();
    for damaged in [truncated, garbage] {
        let headers = [GRPC, ("grpc-encoding", "gzip")];
        let answer = raw_http2(receiver.grpc, EXPORT, &headers, &[framed(1, &damaged)]).await;
        assert_eq!(answer.grpc().code(), Code::InvalidArgument);
    }
    receiver.finish().await;
}

// PB-9, A22.
#[tokio::test]
async fn a22_wrong_framing_is_internal_and_an_unknown_encoding_unimplemented() {
    let receiver = Receiver::start(Setup::default()).await;
    let message = framed(0, &request(&[span(1)]));
    let cases: [(&[(&str, &str)], Vec<Vec<u8>>, Code); 8] = [
        (&[GRPC], vec![], Code::Internal),
        (&[GRPC], vec![vec![0, 0, 0]], Code::Internal),
        (&[GRPC], vec![vec![0, 0, 0, 0, 9, 1]], Code::Internal),
        (&[GRPC], vec![framed(7, b"")], Code::Internal),
        (&[GRPC], vec![framed(1, b"x")], Code::Internal),
        (&[GRPC, ("grpc-encoding", "identity")], vec![framed(1, b"x")], Code::Internal),
        (&[GRPC], vec![message.clone(), message.clone()], Code::Internal),
        (&[GRPC, ("grpc-encoding", "deflate")], vec![message.clone()], Code::Unimplemented),
    ];
    for (headers, frames, code) in cases {
        let answer = raw_http2(receiver.grpc, EXPORT, headers, &frames).await;
        assert_eq!(answer.grpc().code(), code, "{headers:?} {frames:?}");
    }
    let headers = [GRPC, ("grpc-encoding", "deflate")];
    let answer = raw_http2(receiver.grpc, EXPORT, &headers, &[message]).await;
    assert_eq!(answer.headers["grpc-accept-encoding"], "identity,gzip,zstd");
    assert_eq!(receiver.taken().len(), 0);
    receiver.finish().await;
}

#[tokio::test]
async fn a_message_may_come_in_any_pieces() {
    let receiver = Receiver::start(Setup::default()).await;
    let message = framed(0, &request(&[span(1), span(2)]));
    let bytes: Vec<Vec<u8>> = message.iter().map(|byte| vec![*byte]).collect();
    let answer = raw_http2(receiver.grpc, EXPORT, &[GRPC], &bytes).await;
    assert_eq!((answer.grpc().code(), &*answer.body), (Code::Ok, &[0; 5][..]));
    assert_eq!(receiver.taken(), [span(1), span(2)]);
    receiver.finish().await;
}

// OTLP-G12.
#[tokio::test]
async fn many_requests_at_once_on_one_connection_are_all_answered() {
    let receiver = Receiver::start(Setup { max_in_flight: 64 << 20, ..Setup::default() }).await;
    let mut client = receiver.client().await;
    // From its answer on the client knows how many streams it may open, and waits for one of them.
    client.export(Body(request(&[span(1)]).into())).await.expect("taken");
    assert_eq!(receiver.taken().len(), 1);
    let calls = (0..500_u16).map(|number| {
        let mut client = client.clone();
        async move {
            let spans = vec![span(1); usize::from(number % 7)];
            client.export(Body(request(&spans).into())).await.map(|_| spans.len())
        }
    });
    let answers = futures_util::future::join_all(calls).await;
    let sent: usize = answers.into_iter().map(|answer| answer.expect("taken")).sum();
    assert_eq!(receiver.taken().len(), sent);
    receiver.finish().await;
}

// OTLP-G1.
#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let receiver = Receiver::start(Setup::default()).await;
    for path in
        ["/opentelemetry.proto.collector.trace.v1.TraceService/Import", "/", "/grpc.health.v1.Health/Check"]
    {
        let answer = raw_http2(receiver.grpc, path, &[GRPC], &[framed(0, b"")]).await;
        assert_eq!(answer.grpc().code(), Code::Unimplemented, "{path}");
    }
    receiver.finish().await;
}
