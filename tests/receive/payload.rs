//! What is inside a request.

use laggard::otlp::codec::Body;
use laggard::otlp::wire::{put_bytes, put_uint};
use tokio::net::TcpStream;

use crate::harness::*;

/// Sends one request over gRPC and over HTTP, and returns the spans that the pipeline got each time.
async fn both_ways(receiver: &Receiver, request: &[u8]) -> [Vec<Vec<u8>>; 2] {
    receiver.client().await.export(Body(request.to_vec().into())).await.expect("taken");
    let over_grpc = receiver.taken();
    let answer = post(receiver, "/v1/traces", &[("content-type", PROTOBUF)], request).await;
    assert_eq!(answer.status, 200);
    [over_grpc, receiver.taken()]
}

/// A span with an attribute of `depth` nested arrays.
fn nested(depth: usize) -> Vec<u8> {
    let mut value = Vec::new();
    for _ in 0..depth {
        let mut list = Vec::new();
        put_bytes(&mut list, 1, &value);
        value = Vec::new();
        put_bytes(&mut value, 5, &list);
    }
    let mut attribute = Vec::new();
    put_bytes(&mut attribute, 1, b"deep");
    put_bytes(&mut attribute, 2, &value);
    let mut span = span(3);
    put_bytes(&mut span, 9, &attribute);
    span
}

#[tokio::test]
async fn b3_a_request_cut_at_any_byte_is_taken_as_it_is_or_refused_with_400() {
    let receiver = Receiver::start(Setup::default()).await;
    let mut stream = TcpStream::connect(receiver.http).await.unwrap();
    let whole = request(&[span(1), span(2)]);
    for end in 1..whole.len() {
        let headers = [("content-type", PROTOBUF)];
        let answer = exchange(&mut stream, "POST", "/v1/traces", &headers, &whole[..end]).await;
        assert_eq!(answer.status, 400, "cut at {end}");
    }
    let whole = json_request(&[1, 2]).into_bytes();
    for end in 0..whole.len() {
        let headers = [("content-type", JSON)];
        let answer = exchange(&mut stream, "POST", "/v1/traces", &headers, &whole[..end]).await;
        assert_eq!(answer.status, 400, "cut at {end}");
    }
    assert_eq!(receiver.taken().len(), 0);
    receiver.finish().await;
}

#[tokio::test]
async fn b3_random_bytes_never_get_anything_but_200_or_400() {
    let receiver = Receiver::start(Setup::default()).await;
    let mut stream = TcpStream::connect(receiver.http).await.unwrap();
    let mut state = 1_u64;
    for _ in 0..2_000 {
        let mut body = request(&[span(1)]);
        // A linear congruential generator: the same bytes in every run.
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(state >> 33).unwrap() % body.len();
            body[at] = state.to_le_bytes()[7];
        }
        let answer = exchange(&mut stream, "POST", "/v1/traces", &[("content-type", PROTOBUF)], &body).await;
        assert!(matches!(answer.status, 200 | 400), "{} for {body:02x?}", answer.status);
    }
    receiver.finish().await;
}

#[tokio::test]
async fn b4_b5_sixty_four_levels_arrive_as_they_were_and_more_cost_the_span() {
    let receiver = Receiver::start(Setup::default()).await;
    for depth in [47, 48, 64] {
        let [over_grpc, over_http] = both_ways(&receiver, &request(&[nested(depth)])).await;
        assert!(over_grpc == [nested(depth)] && over_http == [nested(depth)], "{depth} levels");
    }
    for depth in [65, 1_000, 20_000] {
        let [over_grpc, over_http] = both_ways(&receiver, &request(&[span(1), nested(depth), span(2)])).await;
        assert!(over_grpc == [span(1), span(2)] && over_http == [span(1), span(2)], "{depth} levels");
    }
    assert_eq!(receiver.counted("grpc", "malformed"), (9, 3));
    receiver.finish().await;
}

#[tokio::test]
async fn b7_text_that_is_not_utf8_arrives_as_it_was() {
    let receiver = Receiver::start(Setup::default()).await;
    let mut attribute = Vec::new();
    put_bytes(&mut attribute, 1, b"\xff");
    put_bytes(&mut attribute, 2, b"\x0a\x01\xfe");
    let mut span = span(1);
    put_bytes(&mut span, 5, b"na\xffme");
    put_bytes(&mut span, 3, b"\xc3");
    put_bytes(&mut span, 9, &attribute);
    for taken in both_ways(&receiver, &request(std::slice::from_ref(&span))).await {
        assert_eq!(taken, std::slice::from_ref(&span));
    }
    receiver.finish().await;
}

#[tokio::test]
async fn b9_unknown_fields_arrive_as_they_were_and_a_wrong_wire_type_is_400() {
    let receiver = Receiver::start(Setup::default()).await;
    let mut unknown = span(1);
    put_bytes(&mut unknown, 999, b"new");
    put_uint(&mut unknown, 1_000, 7);
    unknown.extend([0xfb, 0x3e, 0x08, 1, 0xfc, 0x3e]);
    let mut message = request(std::slice::from_ref(&unknown));
    put_bytes(&mut message, 77, b"new");
    for taken in both_ways(&receiver, &message).await {
        assert_eq!(taken, std::slice::from_ref(&unknown));
    }
    let mut wrong = span(1);
    put_uint(&mut wrong, 5, 1);
    let body = request(&[span(2), wrong]);
    let answer = post(&receiver, "/v1/traces", &[("content-type", PROTOBUF)], &body).await;
    assert_eq!(answer.status, 400);
    assert_eq!(receiver.taken().len(), 0, "a request is taken whole or not at all");
    receiver.finish().await;
}

#[tokio::test]
async fn b12_many_resources_and_many_spans_are_taken_whole() {
    let setup = Setup { max_request_size: 64 << 20, max_in_flight: 128 << 20, ..Setup::default() };
    let receiver = Receiver::start(setup).await;
    let many_resources = request(&[span(1)]).repeat(100_000);
    for taken in both_ways(&receiver, &many_resources).await {
        assert_eq!(taken.len(), 100_000);
    }
    let many_spans = request(&vec![span(1); 200_000]);
    for taken in both_ways(&receiver, &many_spans).await {
        assert_eq!(taken.len(), 200_000);
    }
    receiver.finish().await;
}

#[tokio::test]
async fn c2_json_spans_with_bad_ids_are_refused_alone() {
    let receiver = Receiver::start(Setup::default()).await;
    let good = json_request(&[1]);
    let id = "01".repeat(16);
    for (bad, fault) in [
        ("01".repeat(8), "trace_id must be 16 bytes and not all zero"),
        ("00".repeat(16), "trace_id must be 16 bytes and not all zero"),
        (format!("0x{}", "01".repeat(15)), "traceId: must be hexadecimal digits, got \\\"0x"),
    ] {
        let body = good.replace(&id, &bad);
        let answer = post(&receiver, "/v1/traces", &[("content-type", JSON)], body.as_bytes()).await;
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!(answer.status, 200, "{bad}");
        assert!(text.contains(r#""rejectedSpans":"1""#) && text.contains(fault), "{text}");
    }
    assert_eq!(receiver.taken().len(), 0);
    receiver.finish().await;
}
