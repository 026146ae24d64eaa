//! OTLP/HTTP.

use laggard::receive::Refused;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::*;

const PROTOBUF_TYPE: (&str, &str) = ("content-type", PROTOBUF);
const JSON_TYPE: (&str, &str) = ("content-type", JSON);

fn status(answer: &Answer) -> tonic_types::Status {
    tonic_types::Status::decode(&*answer.body).expect("a google.rpc.Status")
}

fn json_status(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).expect("a google.rpc.Status")
}

// R1, OTLP-H1, OTLP-H3, OTLP-H5, OTLP-H10.
#[tokio::test]
async fn r1_requests_are_taken_in_both_encodings_plain_and_compressed() {
    let receiver = Receiver::start(Setup::default()).await;
    let protobuf = request(&[span(1), span(2)]);
    let json = json_request(&[1, 2]).into_bytes();
    for (kind, body, success) in [(PROTOBUF, &protobuf, &b""[..]), (JSON, &json, b"{}")] {
        for (encoding, body) in [
            ("identity", body.clone()),
            ("gzip", gzip(body)),
            ("GZIP", gzip(body)),
            ("zstd", zstd(body)),
            ("", body.clone()),
        ] {
            let headers = [("content-type", kind), ("content-encoding", encoding)];
            let answer = post(&receiver, "/v1/traces", &headers, &body).await;
            assert_eq!((answer.status, &*answer.body), (200, success), "{kind} {encoding}");
            assert_eq!(answer.header("content-type"), kind);
            assert_eq!(receiver.taken(), [span(1), span(2)], "{kind} {encoding}");
        }
    }
    assert_eq!(receiver.counted("http", "malformed"), (20, 0));
    receiver.finish().await;
}

// R2, B1.
#[tokio::test]
async fn r2_b1_a_request_without_spans_is_a_success() {
    let receiver = Receiver::start(Setup::default()).await;
    let cases: [(&str, &[u8], &[u8]); 4] = [
        (PROTOBUF, b"", b""),
        (PROTOBUF, b"\x0a\x00", b""),
        (JSON, b"{}", b"{}"),
        (JSON, br#"{"resourceSpans":null}"#, b"{}"),
    ];
    for (kind, body, success) in cases {
        let answer = post(&receiver, "/v1/traces", &[("content-type", kind)], body).await;
        assert_eq!((answer.status, &*answer.body), (200, success));
    }
    assert_eq!(receiver.taken().len(), 0);
    receiver.finish().await;
}

// R3.
#[tokio::test]
async fn r3_bad_spans_are_refused_alone_in_both_encodings() {
    let receiver = Receiver::start(Setup::default()).await;
    let mut bad = span(7);
    bad.extend([0x0a, 0]);
    let body = request(&[span(1), bad, span(2)]);
    let answer = post(&receiver, "/v1/traces", &[PROTOBUF_TYPE], &body).await;
    let message = b"trace_id must be 16 bytes and not all zero";
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, [&[0x0a, 46, 0x08, 1, 0x12, 42][..], message].concat());
    assert_eq!(receiver.taken(), [span(1), span(2)]);

    let body = json_request(&[1, 0, 2]).replace(r#""kind":2"#, r#""kind":"SPAN_KIND_SERVER""#);
    let body = body.replacen(r#""spans":["#, r#""spans":[{"flags":-1},"#, 1);
    let answer = post(&receiver, "/v1/traces", &[JSON_TYPE], body.as_bytes()).await;
    let fault = "flags: must be a whole number from 0 to 2^32 - 1, got -1";
    let expected = json!({"partialSuccess": {"rejectedSpans": "2", "errorMessage": fault}});
    assert_eq!((answer.status, json_status(&answer)), (200, expected));
    assert_eq!(receiver.taken(), [span(1), span(2)]);
    assert_eq!(receiver.counted("http", "malformed"), (4, 3));
    receiver.finish().await;
}

// R5, OTLP-H3, OTLP-H6, OTLP-H7, JSON-10, B2.
#[tokio::test]
async fn r5_b2_what_is_no_request_is_a_400_with_a_status_in_the_requests_encoding() {
    let receiver = Receiver::start(Setup::default()).await;
    for body in ["", "[]", "\"x\"", "\u{feff}{}", "{}x", "{", "nonsense"] {
        let answer = post(&receiver, "/v1/traces", &[JSON_TYPE], body.as_bytes()).await;
        assert_eq!((answer.status, answer.header("content-type")), (400, JSON), "{body}");
        let status = json_status(&answer);
        assert_eq!(status["code"], 3, "{body}");
        let detail = &status["details"][0];
        assert_eq!(detail["@type"], "type.googleapis.com/google.rpc.BadRequest");
        assert_eq!(detail["fieldViolations"][0]["description"], status["message"]);
    }
    let answer = post(&receiver, "/v1/traces", &[PROTOBUF_TYPE], b"\xff").await;
    assert_eq!((answer.status, answer.header("content-type")), (400, PROTOBUF));
    let status = status(&answer);
    assert_eq!((status.code, &*status.message), (3, "not a valid protobuf message"));
    assert_eq!(status.details[0].type_url, "type.googleapis.com/google.rpc.BadRequest");
    assert_eq!(receiver.refused_requests("http", "malformed"), 8);
    receiver.finish().await;
}

// R6, OTLP-H2, JSON-12, A8.
#[tokio::test]
async fn r6_a8_content_types_are_read_as_http_has_them() {
    let receiver = Receiver::start(Setup::default()).await;
    let (protobuf, json) = (request(&[span(1)]), json_request(&[1]).into_bytes());
    for (kind, body) in [
        ("application/json; charset=utf-8", &json),
        ("Application/JSON", &json),
        ("application/json ;charset=utf-8", &json),
        ("APPLICATION/X-PROTOBUF", &protobuf),
        ("application/x-protobuf; messageType=x", &protobuf),
    ] {
        let answer = post(&receiver, "/v1/traces", &[("content-type", kind)], body).await;
        assert_eq!(answer.status, 200, "{kind}");
        assert_eq!(receiver.taken(), [span(1)], "{kind}");
    }
    for kind in ["text/plain", "application/jsonx", "application/protobuf", "", "application"] {
        let answer = post(&receiver, "/v1/traces", &[("content-type", kind)], &json).await;
        assert_eq!(answer.status, 415, "{kind}");
        assert_eq!(json_status(&answer)["code"], 12, "{kind}");
    }
    assert_eq!(post(&receiver, "/v1/traces", &[], &json).await.status, 415);
    assert_eq!(receiver.taken().len(), 0);
    receiver.finish().await;
}

// R7, JSON-12, A9.
#[tokio::test]
async fn r7_a9_other_methods_are_405_with_allow() {
    let receiver = Receiver::start(Setup::default()).await;
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let mut stream = TcpStream::connect(receiver.http).await.unwrap();
        let answer = exchange(&mut stream, method, "/v1/traces", &[PROTOBUF_TYPE], b"").await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{method}");
        assert_eq!(status(&answer).code, 12, "{method}");
    }
    let mut stream = TcpStream::connect(receiver.http).await.unwrap();
    let message = b"HEAD /v1/traces HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, message).await.unwrap();
    let mut head = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut head).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 405 ") && head.ends_with("\r\n\r\n"), "{head}");
    receiver.finish().await;
}

// R7, A10.
#[tokio::test]
async fn r7_a10_only_the_exact_path_is_served() {
    let receiver = Receiver::start(Setup::default()).await;
    let body = request(&[span(1)]);
    for path in ["/", "/v1/traces/", "//v1/traces", "/v1/trace", "/V1/traces", "/v1/spans"] {
        let answer = post(&receiver, path, &[PROTOBUF_TYPE], &body).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(status(&answer).code, 12, "{path}");
    }
    assert_eq!(receiver.taken().len(), 0);
    assert_eq!(post(&receiver, "/v1/traces?a=b", &[PROTOBUF_TYPE], &body).await.status, 200);
    assert_eq!(receiver.taken(), [span(1)]);
    receiver.finish().await;
}

// R4, OTLP-H4, A3.
#[tokio::test]
async fn r4_a3_a_body_over_the_limit_is_413_before_it_is_read() {
    let receiver = Receiver::start(Setup { max_request_size: 10_000, ..Setup::default() }).await;
    // Nothing of the body is sent, so only its length can be the reason.
    let mut stream = TcpStream::connect(receiver.http).await.unwrap();
    let answer =
        exchange(&mut stream, "POST", "/v1/traces", &[PROTOBUF_TYPE, ("content-length", "10001")], b"").await;
    assert_eq!(answer.status, 413);
    assert_eq!(status(&answer).code, 8);
    drop(stream);
    // A client that writes everything before it reads gets to see the answer, too.
    let answer = post(&receiver, "/v1/traces", &[JSON_TYPE], &vec![b' '; 8 << 20]).await;
    assert_eq!((answer.status, json_status(&answer)["code"].as_u64()), (413, Some(8)));
    assert_eq!(answer.header("retry-after"), "");
    assert_eq!(receiver.refused_requests("http", "too_large"), 2);
    receiver.finish().await;
}

// R4, A4.
#[tokio::test]
async fn r4_a4_a_chunked_body_is_413_as_soon_as_it_passes_the_limit() {
    let receiver = Receiver::start(Setup { max_request_size: 10_000, ..Setup::default() }).await;
    let mut stream = TcpStream::connect(receiver.http).await.unwrap();
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    // The last chunk never comes.
    let headers = [PROTOBUF_TYPE, ("transfer-encoding", "chunked")];
    let answer = exchange(&mut stream, "POST", "/v1/traces", &headers, chunk.repeat(3).as_bytes()).await;
    assert_eq!(answer.status, 413);
    drop(stream);
    receiver.finish().await;
}

// R4, OTLP-H4, JSON-12, A5.
#[tokio::test]
async fn r4_a5_bombs_are_413_and_nested_or_unknown_encodings_415() {
    let setup = Setup { max_request_size: 1 << 20, max_in_flight: 2 << 20, ..Setup::default() };
    let receiver = Receiver::start(setup).await;
    let bomb = large_request(64 << 20);
    for (encoding, body) in [("gzip", gzip(&bomb)), ("zstd", zstd(&bomb))] {
        let headers = [PROTOBUF_TYPE, ("content-encoding", encoding)];
        assert_eq!(post(&receiver, "/v1/traces", &headers, &body).await.status, 413, "{encoding}");
    }
    let body = request(&[span(1)]);
    for encoding in ["br", "deflate", "gzip, gzip", "gzip,zstd", "x"] {
        let headers = [PROTOBUF_TYPE, ("content-encoding", encoding)];
        let answer = post(&receiver, "/v1/traces", &headers, &body).await;
        assert_eq!((answer.status, status(&answer).code), (415, 12), "{encoding}");
    }
    let headers = [PROTOBUF_TYPE, ("content-encoding", "gzip"), ("content-encoding", "gzip")];
    assert_eq!(post(&receiver, "/v1/traces", &headers, &gzip(&gzip(&body))).await.status, 415);
    assert_eq!(receiver.taken().len(), 0);
    receiver.finish().await;
}

// R22, JSON-12, LIB-11, A6.
#[tokio::test]
async fn r22_a6_damaged_compression_is_400_and_several_members_are_read() {
    let receiver = Receiver::start(Setup::default()).await;
    let body = request(&[span(1)]);
    let send = async |encoding: &str, body: &[u8]| {
        post(&receiver, "/v1/traces", &[PROTOBUF_TYPE, ("content-encoding", encoding)], body).await.status
    };
    for (encoding, whole) in [("gzip", gzip(&body)), ("zstd", zstd(&body))] {
        for end in 0..whole.len() {
            assert_eq!(send(encoding, &whole[..end]).await, 400, "{encoding} cut at {end}");
        }
        assert_eq!(send(encoding, &[&whole[..], b"garbage"].concat()).await, 400, "{encoding}");
        assert_eq!(send(encoding, &body).await, 400, "{encoding}");
    }
    let mut wrong = gzip(&body);
    let crc = wrong.len() - 8;
    wrong[crc] ^= 1;
    assert_eq!(send("gzip", &wrong).await, 400);
    assert_eq!(receiver.taken().len(), 0);

    let (start, end) = body.split_at(20);
    assert_eq!(send("gzip", &[gzip(start), gzip(b""), gzip(end)].concat()).await, 200);
    assert_eq!(send("zstd", &[zstd(start), zstd(end)].concat()).await, 200);
    assert_eq!(receiver.taken(), [span(1), span(1)]);
    receiver.finish().await;
}

// A5.
#[tokio::test]
async fn a5_a_zstd_frame_takes_no_more_memory_than_its_content_however_large_its_window() {
    let receiver = Receiver::start(Setup { max_in_flight: 10_000, ..Setup::default() }).await;
    for window_log in [20, 23, 25, 26, 30] {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("in memory");
        encoder.window_log(window_log).expect("a window");
        std::io::Write::write_all(&mut encoder, &request(&[span(1)])).expect("in memory");
        let headers = [PROTOBUF_TYPE, ("content-encoding", "zstd")];
        let answer = post(&receiver, "/v1/traces", &headers, &encoder.finish().expect("in memory")).await;
        assert_eq!(answer.status, 200, "2^{window_log}");
    }
    receiver.finish().await;
}

// OTLP-H10, A7.
#[tokio::test]
async fn a7_an_unknown_encoding_is_not_read_as_plain() {
    let receiver = Receiver::start(Setup::default()).await;
    let headers = [JSON_TYPE, ("content-encoding", "br")];
    let answer = post(&receiver, "/v1/traces", &headers, json_request(&[1]).as_bytes()).await;
    assert_eq!((answer.status, answer.header("content-type")), (415, JSON));
    assert_eq!(json_status(&answer)["code"], 12);
    assert_eq!(receiver.taken().len(), 0);
    receiver.finish().await;
}

// R10, OTLP-H6, OTLP-H8, OTLP-H9.
#[tokio::test]
async fn r10_what_may_pass_is_503_with_retry_after() {
    let receiver = Receiver::start(Setup::default()).await;
    for (refused, http, code) in [
        (Refused::Overload, 503, 14),
        (Refused::Draining, 503, 14),
        (Refused::TooLarge("memory_limit"), 413, 8),
        (Refused::Malformed, 400, 3),
    ] {
        *receiver.refuse.lock().unwrap() = Some(refused);
        let answer = post(&receiver, "/v1/traces", &[PROTOBUF_TYPE], &request(&[span(1)])).await;
        assert_eq!((answer.status, status(&answer).code), (http, code), "{refused:?}");
        assert_eq!(answer.header("retry-after"), if http == 503 { "1" } else { "" }, "{refused:?}");
        let answer = post(&receiver, "/v1/traces", &[JSON_TYPE], json_request(&[1]).as_bytes()).await;
        let status = json_status(&answer);
        assert_eq!((answer.status, status["code"].as_i64()), (http, Some(code.into())), "{refused:?}");
        if http == 503 {
            assert_eq!(status["details"][0]["@type"], "type.googleapis.com/google.rpc.RetryInfo");
            assert_eq!(status["details"][0]["retryDelay"], "1s");
        }
    }
    assert_eq!(receiver.counted("http", "overload"), (0, 2));
    assert_eq!(receiver.refused_requests("http", "overload"), 2);
    receiver.finish().await;
}
