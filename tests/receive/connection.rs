//! Connections: both HTTP versions, deadlines, limits, ends.

use std::collections::BTreeSet;
use std::time::Duration;

use laggard::otlp::codec::Body;
use laggard::receive::connection::Patience;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::*;

const DELAYED: &str = "laggard_receiver_delayed_requests_total";
const IN_FLIGHT: &str = "laggard_used_bytes{part=\"in_flight\"}";

fn head(headers: &str) -> String {
    format!("POST /v1/traces HTTP/1.1\r\nhost: test\r\ncontent-type: {PROTOBUF}\r\n{headers}\r\n")
}

fn patient_for(short: Duration) -> Setup {
    Setup { patience: Patience { idle: short, body: short, ..Patience::default() }, ..Setup::default() }
}

// R23, OTLP-H1.
#[tokio::test]
async fn r23_http2_without_upgrade_is_served_on_the_http_port() {
    let receiver = Receiver::start(Setup::default()).await;
    let headers = [("content-type", PROTOBUF)];
    let answer = raw_http2(receiver.http, "/v1/traces", &headers, &[request(&[span(1)])]).await;
    assert_eq!((answer.status, &*answer.body), (200, &b""[..]));
    assert_eq!(receiver.taken(), [span(1)]);
    let answer = raw_http2(receiver.http, "/v1/traces", &headers, &[vec![0; 2 << 20]]).await;
    assert_eq!(answer.status, 413);
    receiver.finish().await;
}

// R23, A11.
#[tokio::test]
async fn r23_a11_the_wrong_one_of_the_two_ports_says_so() {
    let receiver = Receiver::start(Setup::default()).await;
    let mut stream = TcpStream::connect(receiver.grpc).await.unwrap();
    let headers = [("content-type", PROTOBUF)];
    let answer = exchange(&mut stream, "POST", "/v1/traces", &headers, &request(&[span(1)])).await;
    assert_eq!(answer.status, 415);
    let text = raw_http2(receiver.grpc, "/v1/traces", &headers, &[request(&[span(1)])]).await;
    assert_eq!((text.status, text.body.starts_with(b"This port speaks OTLP/gRPC")), (415, true));

    let headers = [("content-type", "application/grpc")];
    let answer = raw_http2(receiver.http, EXPORT, &headers, &[framed(0, &request(&[span(1)]))]).await;
    assert_eq!(answer.grpc().code(), tonic::Code::Unimplemented);
    assert!(answer.grpc().message().contains("OTLP/HTTP"));
    assert_eq!(receiver.taken().len(), 0);
    receiver.finish().await;
}

// R26, A20.
#[tokio::test]
async fn r26_a20_a_sender_that_asks_first_is_told_to_go_on_or_why_not() {
    let receiver = Receiver::start(Setup { max_request_size: 10_000, ..Setup::default() }).await;
    let body = request(&[span(1)]);
    let mut stream = TcpStream::connect(receiver.http).await.unwrap();
    let ask = head(&format!("expect: 100-continue\r\ncontent-length: {}\r\n", body.len()));
    stream.write_all(ask.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.status, 100);
    stream.write_all(&body).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.status, 200);
    assert_eq!(receiver.taken(), [span(1)]);

    let mut stream = TcpStream::connect(receiver.http).await.unwrap();
    stream.write_all(head("expect: 100-continue\r\ncontent-length: 10001\r\n").as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.status, 413);
    drop(stream);
    receiver.finish().await;
}

// R26, A20.
#[tokio::test]
async fn r26_chunks_and_pipelined_requests_are_read() {
    let receiver = Receiver::start(Setup::default()).await;
    let body = request(&[span(1)]);
    let mut stream = TcpStream::connect(receiver.http).await.unwrap();
    let mut message = Vec::new();
    for _ in 0..2 {
        message.extend(head("transfer-encoding: chunked\r\n").into_bytes());
        for byte in &body {
            message.extend([b'1', b'\r', b'\n', *byte, b'\r', b'\n']);
        }
        message.extend(b"0\r\n\r\n");
    }
    stream.write_all(&message).await.unwrap();
    for _ in 0..2 {
        assert_eq!(read_answer(&mut stream).await.status, 200);
    }
    assert_eq!(receiver.taken(), [span(1), span(1)]);
    let last = exchange(
        &mut stream,
        "POST",
        "/v1/traces",
        &[("content-type", PROTOBUF), ("connection", "close")],
        &body,
    );
    assert_eq!(last.await.status, 200);
    assert!(is_closed(&mut stream).await);
    receiver.finish().await;
}

// R26, A20.
#[tokio::test]
async fn r26_a_body_in_broken_chunks_is_malformed_and_its_connection_ends() {
    let receiver = Receiver::start(Setup::default()).await;
    for chunks in ["zz\r\n", "1 2\r\na\r\n", "2\r\n{}x\r\n", "ffffffffffffffff1\r\n"] {
        let mut stream = TcpStream::connect(receiver.http).await.unwrap();
        let head = head("transfer-encoding: chunked\r\n").replace(PROTOBUF, JSON);
        stream.write_all(format!("{head}{chunks}").as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        let status: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!((answer.status, &status["code"]), (400, &3.into()), "{chunks} {status}");
        assert!(is_closed(&mut stream).await);
    }
    assert_eq!(receiver.refused_requests("http", "malformed"), 4);
    receiver.finish().await;
}

// R26.
#[tokio::test]
async fn r26_a_connection_is_reused_after_an_error() {
    let receiver = Receiver::start(Setup::default()).await;
    let mut stream = TcpStream::connect(receiver.http).await.unwrap();
    // Large enough not to arrive with the headers.
    let body = large_request(200_000);
    let typed = ("content-type", PROTOBUF);
    let cases: [(&str, &str, &[(&str, &str)], u16); 5] = [
        ("POST", "/nowhere", &[typed], 404),
        ("PUT", "/v1/traces", &[typed], 405),
        ("POST", "/v1/traces", &[("content-type", "text/plain")], 415),
        ("POST", "/v1/traces", &[typed, ("content-encoding", "br")], 415),
        ("POST", "/v1/traces", &[typed, ("content-encoding", "gzip")], 400),
    ];
    for (method, path, headers, status) in cases {
        assert_eq!(exchange(&mut stream, method, path, headers, &body).await.status, status);
        let good = request(&[span(1)]);
        assert_eq!(exchange(&mut stream, "POST", "/v1/traces", &[typed], &good).await.status, 200);
    }
    receiver.finish().await;
}

// A21.
#[tokio::test]
async fn a21_requests_of_two_lengths_or_folded_headers_are_no_requests() {
    let receiver = Receiver::start(Setup::default()).await;
    let body = request(&[span(1)]);
    let (length, longer) = (body.len(), body.len() + 1);
    for (headers, what) in [
        (format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"), "two ways to end"),
        (format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"), "the other way round"),
        (format!("content-length: {length}\r\ncontent-length: {longer}\r\n"), "two lengths"),
        (format!("content-length: {length}, {longer}\r\n"), "two lengths on one line"),
        ("content-length: -1\r\n".to_owned(), "a negative length"),
        ("transfer-encoding: identity\r\n".to_owned(), "an encoding without an end"),
        ("transfer-encoding: gzip, chunked, gzip\r\n".to_owned(), "chunks that are not the last"),
        (format!("content-length: {length}\r\nx-a: b\r\n c\r\n"), "a folded header"),
        (format!("content-length : {length}\r\n"), "a space before the colon"),
    ] {
        let mut stream = TcpStream::connect(receiver.http).await.unwrap();
        stream.write_all(&[head(&headers).as_bytes(), &body].concat()).await.unwrap();
        assert_eq!(read_answer(&mut stream).await.status, 400, "{what}");
        assert!(is_closed(&mut stream).await, "{what}");
    }
    assert_eq!(receiver.taken().len(), 0);
    receiver.finish().await;
}

// G7.
#[tokio::test]
async fn i8_whatever_senders_do_there_are_no_more_series() {
    let receiver = Receiver::start(Setup::default()).await;
    let series = || -> BTreeSet<String> {
        let page = receiver.metrics.render();
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
    };
    let before = series();
    let body = request(&[span(1)]);
    for odd in ["BREW", "get", "X"] {
        let mut stream = TcpStream::connect(receiver.http).await.unwrap();
        exchange(&mut stream, odd, "/v1/traces", &[("content-type", PROTOBUF)], &body).await;
        for path in [format!("/v1/{odd}"), format!("/v1/metrics/{odd}"), "/v1/logs".to_owned()] {
            post(&receiver, &path, &[("content-type", PROTOBUF)], &body).await;
        }
        post(&receiver, "/v1/traces", &[("content-type", odd)], &body).await;
        let headers = [("content-type", PROTOBUF), ("content-encoding", odd), ("x-odd", odd)];
        post(&receiver, "/v1/traces", &headers, &body).await;
        let call = [("content-type", "application/grpc"), ("grpc-encoding", odd), ("user-agent", odd)];
        raw_http2(receiver.grpc, EXPORT, &call, &[framed(0, &body)]).await;
        raw_http2(receiver.grpc, &format!("/a.b.{odd}/Export"), &call, &[framed(0, &body)]).await;
    }
    assert_eq!(series(), before);
    receiver.finish().await;
}

// R24.
#[tokio::test]
async fn r24_both_ports_listen_on_ipv6_too() {
    let receiver = Receiver::start_on("[::1]:0", Setup::default()).await;
    assert!(receiver.grpc.is_ipv6() && receiver.http.is_ipv6());
    receiver.finish().await;
}

// LIB-10, A12.
#[tokio::test]
async fn a12_slow_headers_and_silence_end_the_connection() {
    let receiver = Receiver::start(patient_for(Duration::from_millis(300))).await;
    for start in ["", "P", "PRI * HTTP/2.0\r\n", "POST /v1/traces HTTP/1.1\r\nhost: te"] {
        for address in [receiver.grpc, receiver.http] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(start.as_bytes()).await.unwrap();
            assert!(is_closed(&mut stream).await, "{start:?}");
        }
    }
    receiver.finish().await;
}

// LIB-10, A12.
#[tokio::test]
async fn a12_a_slow_body_ends_at_its_deadline() {
    let receiver = Receiver::start(patient_for(Duration::from_millis(300))).await;
    let mut stream = TcpStream::connect(receiver.http).await.unwrap();
    stream.write_all(head("content-length: 1000\r\n").as_bytes()).await.unwrap();
    stream.write_all(b"xxx").await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert_eq!(answer.status, 408);
    drop(stream);

    let mut slow = raw_grpc(&receiver).await;
    slow.half_sent().await;
    assert_eq!(slow.status().await, tonic::Code::DeadlineExceeded);
    receiver.finish().await;
}

// OTLP-G13, A18.
#[tokio::test]
async fn a18_a_sender_that_goes_away_in_the_middle_leaves_nothing() {
    let receiver = Receiver::start(Setup::default()).await;
    let body = request(&[span(1)]);
    for is_reset in [false, true] {
        let mut stream = TcpStream::connect(receiver.http).await.unwrap();
        stream.write_all(head(&format!("content-length: {}\r\n", body.len())).as_bytes()).await.unwrap();
        stream.write_all(&body[..body.len() - 1]).await.unwrap();
        receiver.until(IN_FLIGHT, |bytes| bytes > 0).await;
        if is_reset {
            stream.set_zero_linger().unwrap();
        } else {
            stream.shutdown().await.unwrap();
        }
        drop(stream);
        receiver.until(IN_FLIGHT, |bytes| bytes == 0).await;
    }
    let mut slow = raw_grpc(&receiver).await;
    slow.half_sent().await;
    receiver.until(IN_FLIGHT, |bytes| bytes > 0).await;
    drop(slow);
    receiver.until(IN_FLIGHT, |bytes| bytes == 0).await;
    assert_eq!(receiver.taken().len(), 0);
    for transport in ["http", "grpc"] {
        assert_eq!(receiver.counted(transport, "malformed"), (0, 0), "nothing was refused");
    }
    receiver.finish().await;
}

// R10, E1.
#[tokio::test]
async fn requests_beyond_the_budget_are_refused_after_a_moment_until_there_is_room_again() {
    let patience = Patience { room: Duration::from_millis(50), ..Patience::default() };
    let receiver = Receiver::start(Setup { max_in_flight: 1_000, patience, ..Setup::default() }).await;
    let body = large_request(700);
    let mut stream = TcpStream::connect(receiver.http).await.unwrap();
    stream.write_all(head(&format!("content-length: {}\r\n", body.len())).as_bytes()).await.unwrap();
    receiver.until(IN_FLIGHT, |bytes| bytes == body.len() as u64).await;
    let second = post(&receiver, "/v1/traces", &[("content-type", PROTOBUF)], &body).await;
    assert_eq!((second.status, second.header("retry-after")), (503, "1"));
    let status = receiver.client().await.export(Body(body.clone().into())).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(receiver.metric(DELAYED), 2);
    stream.write_all(&body).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.status, 200);
    assert_eq!(post(&receiver, "/v1/traces", &[("content-type", PROTOBUF)], &body).await.status, 200);
    receiver.finish().await;
}

// R10, E2.
#[tokio::test]
async fn requests_that_find_no_room_wait_for_it_and_are_taken() {
    let patience = Patience { room: Duration::from_mins(1), ..Patience::default() };
    let receiver = Receiver::start(Setup { max_in_flight: 1_000, patience, ..Setup::default() }).await;
    let body = large_request(700);
    let mut stream = TcpStream::connect(receiver.http).await.unwrap();
    stream.write_all(head(&format!("content-length: {}\r\n", body.len())).as_bytes()).await.unwrap();
    receiver.until(IN_FLIGHT, |bytes| bytes == body.len() as u64).await;
    let headers = [("content-type", PROTOBUF)];
    let over_http = post(&receiver, "/v1/traces", &headers, &body);
    let mut client = receiver.client().await;
    let over_grpc = client.export(Body(body.clone().into()));
    let first = async {
        receiver.until(DELAYED, |requests| requests == 2).await;
        assert_eq!(receiver.metric(IN_FLIGHT), body.len() as u64, "who waits takes nothing");
        stream.write_all(&body).await.unwrap();
        read_answer(&mut stream).await
    };
    let (first, over_http, over_grpc) = tokio::join!(first, over_http, over_grpc);
    assert_eq!((first.status, over_http.status), (200, 200));
    over_grpc.expect("taken");
    receiver.finish().await;
}

#[tokio::test]
async fn requests_that_wait_do_not_keep_others_of_their_connection_from_arriving() {
    let patience = Patience { room: Duration::from_mins(1), ..Patience::default() };
    let setup = Setup { max_in_flight: 2_500_000, max_request_size: 4 << 20, patience, ..Setup::default() };
    let receiver = Receiver::start(setup).await;
    let mut client = receiver.client().await;
    // Once it has been answered, it knows how many requests the connection takes at once.
    client.export(Body(request(&[span(1)]).into())).await.expect("taken");
    // None of them fits its part of the window, and only one fits the budget.
    let exports = (0..8).map(|_| {
        let mut client = client.clone();
        async move { client.export(Body(large_request(1_500_000).into())).await }
    });
    for answer in futures_util::future::join_all(exports).await {
        answer.expect("taken");
    }
    receiver.finish().await;
}

// A16.
#[tokio::test]
async fn a16_a_connection_above_the_limit_waits_for_another_to_end() {
    let patience = Patience { connections: 1, ..Patience::default() };
    let receiver = Receiver::start(Setup { patience, ..Setup::default() }).await;
    let body = request(&[span(1)]);
    let mut first = TcpStream::connect(receiver.http).await.unwrap();
    let typed = [("content-type", PROTOBUF)];
    assert_eq!(exchange(&mut first, "POST", "/v1/traces", &typed, &body).await.status, 200);
    let second = post(&receiver, "/v1/traces", &typed, &body);
    let mut second = Box::pin(second);
    let early = tokio::select! {
        biased;
        _ = &mut second => true,
        answer = exchange(&mut first, "POST", "/v1/traces", &typed, &body) => answer.status != 200,
    };
    assert!(!early);
    drop(first);
    assert_eq!(second.as_mut().await.status, 200);
    drop(second);
    receiver.finish().await;
}

// LIB-6.
#[tokio::test]
async fn a_connection_that_is_never_idle_ends_at_its_age() {
    let age = Duration::from_millis(200);
    let patience = Patience { idle: age, age, ..Patience::default() };
    let receiver = Receiver::start(Setup { patience, ..Setup::default() }).await;
    let mut stream = TcpStream::connect(receiver.http).await.unwrap();
    let body = request(&[span(1)]);
    let message = [head(&format!("content-length: {}\r\n", body.len())).into_bytes(), body].concat();
    loop {
        drop(stream.write_all(&message).await);
        let is_closed = stream.peek(&mut [0]).await.map_or(true, |bytes| bytes == 0);
        if is_closed || read_answer(&mut stream).await.header("connection") == "close" {
            break;
        }
    }
    drop(stream);
    receiver.finish().await;
}

// LIB-7.
#[tokio::test]
async fn the_end_waits_for_requests_under_way_and_not_for_idle_or_silent_peers() {
    let receiver = Receiver::start(Setup::default()).await;
    let _client = receiver.client().await;
    let _silent =
        [TcpStream::connect(receiver.grpc).await.unwrap(), TcpStream::connect(receiver.http).await.unwrap()];
    let body = request(&[span(1)]);
    let mut stream = TcpStream::connect(receiver.http).await.unwrap();
    stream.write_all(head(&format!("content-length: {}\r\n", body.len())).as_bytes()).await.unwrap();
    receiver.until(IN_FLIGHT, |bytes| bytes > 0).await;
    let address = receiver.http;
    let mut servers = receiver.shut_down();
    // A new connection is refused, or ended without an answer, once the listener is gone.
    while let Ok(mut refused) = TcpStream::connect(address).await {
        drop(refused.shutdown().await);
        tokio::task::yield_now().await;
    }
    stream.write_all(&body).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.status, 200);
    assert!(is_closed(&mut stream).await);
    while let Some(ended) = servers.join_next().await {
        ended.expect("no server panics");
    }
}

#[tokio::test]
async fn the_end_does_not_wait_for_headers_that_never_end() {
    let hour = Duration::from_hours(1);
    let patience = Patience { drain: hour, last_headers: Duration::from_millis(50), ..Patience::default() };
    let receiver = Receiver::start(Setup { patience, ..Setup::default() }).await;
    let mut silent = Vec::new();
    for start in ["P", "PRI * HTTP/2.0\r\n", "POST /v1/traces HTTP/1.1\r\nhost: te"] {
        for address in [receiver.grpc, receiver.http] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(start.as_bytes()).await.unwrap();
            silent.push(stream);
        }
    }
    let mut again = TcpStream::connect(receiver.http).await.unwrap();
    let headers = [("content-type", PROTOBUF)];
    let body = request(&[span(1)]);
    assert_eq!(exchange(&mut again, "POST", "/v1/traces", &headers, &body).await.status, 200);
    again.write_all(b"POST /v1/traces HT").await.unwrap();
    // Once this one is answered, what came before it has been read.
    assert_eq!(post(&receiver, "/v1/traces", &headers, &body).await.status, 200);
    let mut servers = receiver.shut_down();
    while let Some(ended) = servers.join_next().await {
        ended.expect("no server panics");
    }
    for stream in silent.iter_mut().chain([&mut again]) {
        assert!(is_closed(stream).await);
    }
}

#[tokio::test]
async fn the_end_does_not_wait_for_ever() {
    let patience = Patience { drain: Duration::from_millis(100), ..Patience::default() };
    let receiver = Receiver::start(Setup { patience, ..Setup::default() }).await;
    let mut stream = TcpStream::connect(receiver.http).await.unwrap();
    stream.write_all(head("content-length: 100\r\n").as_bytes()).await.unwrap();
    let mut slow = raw_grpc(&receiver).await;
    slow.half_sent().await;
    receiver.until(IN_FLIGHT, |bytes| bytes > 100).await;
    let metrics = receiver.metrics.clone();
    let mut servers = receiver.shut_down();
    while let Some(ended) = servers.join_next().await {
        ended.expect("no server panics");
    }
    assert!(metrics.render().contains(&format!("{IN_FLIGHT} 0\n")), "every task has ended");
}
