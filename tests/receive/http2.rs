//! What HTTP/2 lets a peer do that no sender of OTLP does.

use std::time::Duration;

use laggard::receive::connection::Patience;
use tokio::io::AsyncWriteExt;

use crate::frames::*;
use crate::harness::*;

const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const CANCEL: [u8; 4] = [0, 0, 0, 8];
const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
const ENHANCE_YOUR_CALM: [u8; 4] = [0, 0, 0, 11];

/// The headers of a request.
fn head(path: &str) -> Vec<u8> {
    let names = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "test")];
    [fields(&names), fields(&[("content-type", PROTOBUF)])].concat()
}

fn begun(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &head(path))
}

/// The receiver has ended the connection; where it said why, it was for that.
fn assert_ended((frames, is_alive): (Vec<Frame>, bool), why: [u8; 4], what: &str) {
    assert!(!is_alive, "{what}");
    for end in frames.iter().filter(|frame| frame.kind == GOAWAY) {
        assert_eq!(end.payload.get(4..8), Some(&why[..]), "{what}");
    }
}

// R7.
#[tokio::test]
async fn r7_a_small_request_that_is_refused_is_read_to_its_end_and_not_reset() {
    let patience = Patience { linger: Duration::from_hours(1), ..Patience::default() };
    let receiver = Receiver::start(Setup { patience, ..Setup::default() }).await;
    let mut frames = Frames::open(receiver.http, &[]).await;
    frames.send(&begun(1, "/nowhere")).await;
    // Old clients look no further when a reset follows the answer, so that waits for the end of the request.
    for _ in 0..5 {
        frames.send(&frame(DATA, 0, 1, &[0; 1000])).await;
        let meanwhile = frames.ping().await;
        assert!(!meanwhile.iter().any(|frame| frame.stream == 1), "{meanwhile:?}");
    }
    frames.send(&frame(DATA, END_STREAM, 1, &[0; 1000])).await;
    let mut answer = Vec::new();
    while answer.last().is_none_or(|frame: &Frame| frame.stream != 1 || frame.flags & END_STREAM == 0) {
        answer.push(frames.next().await.expect("an answer"));
    }
    answer.extend(frames.ping().await);
    let kinds: Vec<u8> = answer.iter().filter(|frame| frame.stream == 1).map(|frame| frame.kind).collect();
    assert_eq!(kinds, [HEADERS, DATA], "{answer:?}");
    drop(frames);
    receiver.finish().await;
}

// LIB-8, A13.
#[tokio::test]
async fn a13_requests_that_are_reset_at_once_end_the_connection() {
    let receiver = Receiver::start(Setup::default()).await;
    for address in [receiver.grpc, receiver.http] {
        let resets: Vec<u8> = (0..10_000)
            .flat_map(|number| {
                let stream = 2 * number + 1;
                [begun(stream, "/v1/traces"), frame(RST_STREAM, 0, stream, &CANCEL)].concat()
            })
            .collect();
        assert_ended(Frames::open(address, &[]).await.flood(&resets).await, ENHANCE_YOUR_CALM, "resets");
    }
    receiver.finish().await;
}

// A14.
#[tokio::test]
async fn a14_headers_without_end_end_the_connection() {
    let receiver = Receiver::start(Setup::default()).await;
    let filler = fields(&[("x-filler", &"x".repeat(100))]).repeat(100);
    let endless =
        [frame(HEADERS, 0, 1, &head("/v1/traces")), frame(CONTINUATION, 0, 1, &filler).repeat(1_000)];
    let empty = [frame(HEADERS, 0, 1, &head("/v1/traces")), frame(CONTINUATION, 0, 1, &[]).repeat(100_000)];
    for (flood, what) in [(endless.concat(), "headers of 11 MB"), (empty.concat(), "empty frames")] {
        for address in [receiver.grpc, receiver.http] {
            let (_, is_alive) = Frames::open(address, &[]).await.flood(&flood).await;
            assert!(!is_alive, "{what}");
        }
    }
    receiver.finish().await;
}

// LIB-9, A14, A24.
#[tokio::test]
async fn a14_a24_a_request_with_too_many_headers_is_refused_alone() {
    let receiver = Receiver::start(Setup::default()).await;
    let names: Vec<String> = (0..1_000).map(|number| format!("x-header-{number}")).collect();
    let mut headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "value")).collect();
    headers.push(("content-type", PROTOBUF));
    let answer = raw_http2(receiver.http, "/v1/traces", &headers, &[request(&[span(1)])]).await;
    assert_eq!(answer.status, 431);
    // HTTP/1.1 has such a limit, too.
    let answer = post(&receiver, "/v1/traces", &headers, &request(&[span(1)])).await;
    assert_eq!(answer.status, 431);
    assert_eq!(receiver.taken().len(), 0);
    receiver.finish().await;
}

// A15.
#[tokio::test]
async fn a15_empty_frames_of_data_take_no_memory() {
    let receiver = Receiver::start(Setup::default()).await;
    for address in [receiver.grpc, receiver.http] {
        let flood = [begun(1, "/v1/traces"), frame(DATA, 0, 1, &[]).repeat(100_000)].concat();
        let (frames, is_alive) = Frames::open(address, &[]).await.flood(&flood).await;
        // Either is fine: they are read and forgotten, or the connection ends.
        let has_end = frames.iter().any(|frame| matches!(frame.kind, GOAWAY | RST_STREAM));
        assert!(is_alive || has_end || frames.len() < 10, "{frames:?}");
    }
    receiver.until("laggard_used_bytes{part=\"in_flight\"}", |bytes| bytes == 0).await;
    receiver.finish().await;
}

// A15.
#[tokio::test]
async fn a15_floods_that_want_answers_are_not_read_while_these_are_not() {
    let receiver = Receiver::start(Setup::default()).await;
    let flood = |bytes: Vec<u8>| bytes.repeat((16 << 20) / bytes.len());
    for bytes in [flood(frame(PING, 0, 0, b"are you?")), flood(frame(SETTINGS, 0, 0, &[]))] {
        let mut stream = Frames::open(receiver.http, &[]).await.into_stream();
        let others = async {
            for _ in 0..50 {
                let answer = post(&receiver, "/v1/traces", &[("content-type", PROTOBUF)], b"").await;
                assert_eq!(answer.status, 200, "others are served");
            }
        };
        tokio::select! {
            written = stream.write_all(&bytes) => assert!(written.is_err(), "16 MiB of answers wait somewhere"),
            () = others => {}
        }
    }
    receiver.finish().await;
}

// A15.
#[tokio::test]
async fn a15_a_window_that_stays_closed_holds_a_connection_only_so_long() {
    let short = Duration::from_millis(200);
    let patience = Patience { idle: short, body: short, ..Patience::default() };
    let receiver = Receiver::start(Setup { patience, ..Setup::default() }).await;
    let mut frames = Frames::open(receiver.http, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    frames.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head("/nowhere"))).await;
    let mut kinds = Vec::new();
    while let Some(frame) = frames.next().await {
        kinds.push((frame.stream, frame.kind));
    }
    assert!(kinds.contains(&(1, HEADERS)) && !kinds.contains(&(1, DATA)), "{kinds:?}");
    receiver.finish().await;
}

// LIB-4.
#[tokio::test]
async fn a_request_above_the_limit_of_streams_is_refused_and_the_others_go_on() {
    let receiver = Receiver::start(Setup::default()).await;
    let mut frames = Frames::open(receiver.http, &[]).await;
    let settings = frames.next().await.expect("settings");
    let mut settings = settings.payload.as_chunks::<6>().0.iter();
    let limit = settings.find(|setting| setting[..2] == MAX_CONCURRENT_STREAMS.to_be_bytes());
    let limit = u32::from_be_bytes(limit.expect("a limit")[2..].try_into().expect("four bytes"));
    assert!((2..=256).contains(&limit), "{limit}");
    for number in 0..=limit {
        frames.send(&begun(2 * number + 1, "/v1/traces")).await;
    }
    let last = 2 * limit + 1;
    let refused = loop {
        let next = frames.next().await.expect("a connection that goes on");
        if next.kind == RST_STREAM {
            break next;
        }
    };
    assert_eq!((refused.stream, &refused.payload[..]), (last, &REFUSED_STREAM[..]));
    let good = frame(DATA, END_STREAM, 1, &request(&[span(1)]));
    frames.send(&good).await;
    while frames.next().await.expect("an answer").stream != 1 {}
    assert_eq!(receiver.taken(), [span(1)]);
    drop(frames);
    receiver.finish().await;
}

// LIB-5, A19.
#[tokio::test(start_paused = true)]
async fn a19_a_peer_that_answers_no_ping_is_given_up() {
    let hour = Duration::from_hours(1);
    let patience = Patience { idle: hour, body: hour, age: hour, ..Patience::default() };
    let receiver = Receiver::start(Setup { patience, ..Setup::default() }).await;
    let start = tokio::time::Instant::now();
    let mut frames = Frames::open(receiver.grpc, &[]).await;
    frames.send(&begun(1, EXPORT)).await;
    let mut pings = 0;
    while let Some(frame) = frames.next().await {
        pings += usize::from(frame.kind == PING);
    }
    assert_eq!(pings, 1);
    let waited = start.elapsed();
    assert!(waited >= Duration::from_secs(50) && waited < hour, "{waited:?}");
}

// A23, A24.
#[tokio::test]
async fn a23_a24_what_grpc_says_around_a_call_changes_nothing() {
    let receiver = Receiver::start(Setup::default()).await;
    for (name, value) in [
        ("grpc-timeout", "1n"),
        ("grpc-timeout", "soon"),
        ("grpc-timeout", "99999999999S"),
        ("te", "trailers"),
        ("x-data-bin", "!!!"),
        ("grpc-accept-encoding", "snappy"),
        ("user-agent", "\u{e9}"),
    ] {
        let headers = [("content-type", "application/grpc+proto"), (name, value)];
        let answer = raw_http2(receiver.grpc, EXPORT, &headers, &[framed(0, &request(&[span(1)]))]).await;
        assert_eq!(answer.grpc().code(), tonic::Code::Ok, "{name}: {value}");
        assert_eq!(receiver.taken(), [span(1)], "{name}: {value}");
    }
    receiver.finish().await;
}
