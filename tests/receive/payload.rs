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

// B3.
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

// B3.
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

// PB-5, B4, B5.
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

// PB-6, B7.
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

// PB-10, B6, B8, B10, B11, B17.
#[tokio::test]
async fn b6_b8_b10_b11_b17_odd_spans_arrive_as_they_were() {
    let receiver = Receiver::start(Setup::default()).await;
    let field = |number, bytes: &[u8]| {
        let mut field = Vec::new();
        put_bytes(&mut field, number, bytes);
        field
    };
    let attribute = |key: &[u8], value: &[u8]| field(9, &[field(1, key), field(2, value)].concat());
    let int = |number: u64| {
        let mut value = Vec::new();
        put_uint(&mut value, 3, number);
        value
    };
    let double = |number: f64| [&[0x21][..], &number.to_le_bytes()].concat();
    let mut kinds = Vec::new();
    put_uint(&mut kinds, 6, 99);
    put_uint(&mut kinds, 6, u64::MAX);
    let mut newer = field(9, &[field(1, b"k"), vec![0x18, 1], field(4, b"of the future")].concat());
    put_uint(&mut newer, 30, 1);
    for (odd, what) in [
        ((0..10_000).flat_map(|_| attribute(b"k", b"")).collect(), "10,000 attributes, all of one key"),
        (attribute(b"k", &field(1, &vec![b'v'; 500_000])), "a value of half a megabyte"),
        (attribute(&vec![b'k'; 500_000], b""), "a key of half a megabyte"),
        (attribute(b"", b""), "an empty key"),
        (field(5, "a\0b\r\n\u{1b}[31m\u{202e}c".as_bytes()), "control characters in its name"),
        (attribute(b"k", &[int(1), field(1, b"two")].concat()), "two variants in one value"),
        (attribute(b"k", &field(7, &[0, 0xff])), "bytes"),
        (attribute(b"k", &double(f64::NAN)), "no number"),
        (attribute(b"k", &double(-0.0)), "a negative zero"),
        (attribute(b"k", &int(1 << 63)), "the least integer"),
        (kinds, "kinds that nobody knows"),
        (newer, "fields of a newer protocol"),
    ] {
        let odd = [span(1), odd].concat();
        for taken in both_ways(&receiver, &request(std::slice::from_ref(&odd))).await {
            assert!(taken == [&odd[..]], "{what}");
        }
    }
    receiver.finish().await;
}

// PB-7, B9.
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

// B12.
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

// JSON-8, FAULT-C2.
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
