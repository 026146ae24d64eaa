//! H12: browsers, whose pages come from elsewhere.

use laggard::config::{Auth, Cors};
use laggard::receive::auth::Tokens;
use laggard::receive::cors::Origins;
use tokio::net::TcpStream;

use crate::harness::*;
use crate::tls::Files;

const PAGE: &str = "https://app.example.com";

fn origins() -> Option<Origins> {
    origins_of(&["https://*.example.com"])
}

fn origins_of(allowed: &[&str]) -> Option<Origins> {
    Origins::new(&Cors { allowed_origins: allowed.iter().map(|origin| (*origin).to_owned()).collect() })
}

async fn preflight(receiver: &Receiver, origin: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,x-api-key"),
    ];
    let mut stream = TcpStream::connect(receiver.http).await.expect("a connection");
    exchange(&mut stream, "OPTIONS", "/v1/traces", &headers, b"").await
}

// OTLP-H12.
#[tokio::test]
async fn h12_without_origins_a_preflight_is_no_request_that_is_served() {
    let receiver = Receiver::start(Setup::default()).await;
    let answer = preflight(&receiver, PAGE).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (405, ""));
    let headers = [("content-type", JSON), ("origin", PAGE)];
    let answer = post(&receiver, "/v1/traces", &headers, json_request(&[1]).as_bytes()).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, ""));
    receiver.finish().await;
}

// OTLP-H12.
#[tokio::test]
async fn h12_a_page_of_an_allowed_origin_may_send_and_read_the_answer() {
    let receiver = Receiver::start(Setup { origins: origins(), ..Setup::default() }).await;
    let answer = preflight(&receiver, PAGE).await;
    assert_eq!(answer.status, 200);
    for (name, value) in [
        ("access-control-allow-origin", PAGE),
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", "content-type,x-api-key"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "7200"),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    let varies: Vec<_> =
        answer.headers.get_all("vary").iter().filter_map(|value| value.to_str().ok()).collect();
    assert!(varies.join(",").contains("origin"), "{varies:?}");

    let headers = [("content-type", JSON), ("origin", PAGE)];
    let body = json_request(&[1]);
    let answer = post(&receiver, "/v1/traces", &headers, body.as_bytes()).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, PAGE));
    let answer = post(&receiver, "/v1/traces", &headers, b"no JSON").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (400, PAGE));
    assert_eq!(receiver.taken(), [span(1)]);
    receiver.finish().await;
}

// OTLP-H12.
#[tokio::test]
async fn h12_a_page_that_nobody_has_named_may_send_without_credentials_only() {
    let origins = origins_of(&["*", PAGE]);
    let receiver = Receiver::start(Setup { origins, ..Setup::default() }).await;
    for (origin, credentials) in [(PAGE, "true"), ("https://elsewhere.example", ""), ("null", "")] {
        let headers = [("content-type", JSON), ("origin", origin)];
        let sent = post(&receiver, "/v1/traces", &headers, json_request(&[1]).as_bytes()).await;
        for answer in [preflight(&receiver, origin).await, sent] {
            assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, origin));
            assert_eq!(answer.header("access-control-allow-credentials"), credentials, "{origin}");
        }
    }
    receiver.finish().await;
}

// OTLP-H12.
#[tokio::test]
async fn h12_other_pages_are_not_told_that_they_may() {
    let receiver = Receiver::start(Setup { origins: origins(), ..Setup::default() }).await;
    for origin in
        ["https://example.com", "http://app.example.com", "https://app.example.com.evil.org", "null"]
    {
        assert_eq!(preflight(&receiver, origin).await.header("access-control-allow-origin"), "", "{origin}");
    }
    receiver.finish().await;
}

// OTLP-H12.
#[tokio::test]
async fn h12_a_preflight_needs_no_token_and_the_request_after_it_does() {
    let files = Files::new();
    let auth = Auth { bearer_token_file: files.write("tokens", "one-token") };
    let tokens = Tokens::new(&auth).expect("right");
    let receiver = Receiver::start(Setup { origins: origins(), tokens, ..Setup::default() }).await;
    assert_eq!(preflight(&receiver, PAGE).await.status, 200);
    let body = json_request(&[1]);
    let headers = [("content-type", JSON), ("origin", PAGE)];
    let answer = post(&receiver, "/v1/traces", &headers, body.as_bytes()).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (401, PAGE));
    let headers = [headers[0], headers[1], ("authorization", "Bearer one-token")];
    assert_eq!(post(&receiver, "/v1/traces", &headers, body.as_bytes()).await.status, 200);
    assert_eq!(receiver.taken(), [span(1)]);
}
