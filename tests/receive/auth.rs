//! Bearer tokens: without one nothing gets in, by no port, path, method or signal.

use laggard::config::Auth;
use laggard::receive::auth::Tokens;
use laggard::secrets::Reload;
use std::sync::Arc;
use tokio::net::TcpStream;
use tonic::Code;

use crate::harness::*;
use crate::tls::Files;

struct Guarded {
    receiver: Receiver,
    files: Files,
    reload: Arc<dyn Reload>,
}

impl Guarded {
    async fn start() -> Self {
        let files = Files::new();
        let auth = Auth { bearer_token_file: files.write("tokens", "one-token\nother-token\n") };
        let tokens = Tokens::new(&auth).expect("right").expect("given");
        let reload = tokens.files();
        let receiver = Receiver::start(Setup { tokens: Some(tokens), ..Setup::default() }).await;
        Self { receiver, files, reload }
    }

    async fn grpc(&self, path: &str, authorization: Option<&str>) -> Code {
        let mut headers = vec![("content-type", "application/grpc")];
        headers.extend(authorization.map(|value| ("authorization", value)));
        let frames = [framed(0, &request(&[span(1)]))];
        raw_http2(self.receiver.grpc, path, &headers, &frames).await.grpc().code()
    }

    async fn http(&self, path: &str, kind: &str, authorization: Option<&str>) -> Answer {
        let mut headers = vec![("content-type", kind)];
        headers.extend(authorization.map(|value| ("authorization", value)));
        let json = json_request(&[1]);
        let body = if kind == JSON { json.into_bytes() } else { request(&[span(1)]) };
        post(&self.receiver, path, &headers, &body).await
    }
}

const WRONG: [Option<&str>; 4] = [None, Some("Bearer wrong-token"), Some("Bearer "), Some("Basic one-token")];

// G5.
#[tokio::test]
async fn g5_without_a_token_every_method_of_the_grpc_port_is_closed() {
    let guarded = Guarded::start().await;
    let service = |signal, name| format!("/opentelemetry.proto.collector.{signal}.{name}Service/Export");
    let paths = [
        EXPORT.to_owned(),
        service("metrics.v1", "Metrics"),
        service("logs.v1", "Logs"),
        service("profiles.v1development", "Profiles"),
        "/grpc.health.v1.Health/Check".to_owned(),
        "/".to_owned(),
    ];
    for path in &paths {
        for wrong in WRONG {
            assert_eq!(guarded.grpc(path, wrong).await, Code::Unauthenticated, "{path} {wrong:?}");
        }
    }
    let refused = (paths.len() * WRONG.len()) as u64;
    assert_eq!(guarded.receiver.refused_requests("grpc", "unauthenticated"), refused);
    assert_eq!(guarded.receiver.taken().len(), 0);
    assert_eq!(guarded.grpc(EXPORT, Some("Bearer one-token")).await, Code::Ok);
    assert_eq!(guarded.grpc(EXPORT, Some("bearer other-token")).await, Code::Ok);
    assert_eq!(guarded.grpc("/nothing", Some("Bearer one-token")).await, Code::Unimplemented);
    assert_eq!(guarded.receiver.taken(), [span(1), span(1)]);
}

// G5.
#[tokio::test]
async fn g5_without_a_token_every_path_of_the_http_port_is_closed() {
    let guarded = Guarded::start().await;
    for path in ["/v1/traces", "/v1/metrics", "/v1/logs", "/v1development/profiles", "/", "/nothing"] {
        for wrong in WRONG {
            for kind in [PROTOBUF, JSON] {
                let answer = guarded.http(path, kind, wrong).await;
                assert_eq!((answer.status, answer.header("content-type")), (401, kind), "{path} {wrong:?}");
                assert_eq!(answer.header("www-authenticate"), "Bearer");
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                assert!(text.contains("bearer token") && !text.contains("wrong-token"), "{text}");
            }
        }
    }
    let mut stream = TcpStream::connect(guarded.receiver.http).await.expect("a connection");
    for method in ["GET", "PUT", "OPTIONS"] {
        assert_eq!(exchange(&mut stream, method, "/v1/traces", &[], b"").await.status, 401, "{method}");
    }
    let call = [("content-type", "application/grpc")];
    let answer = raw_http2(guarded.receiver.http, EXPORT, &call, &[framed(0, b"")]).await;
    assert_eq!(answer.grpc().code(), Code::Unauthenticated);
    assert_eq!(guarded.receiver.taken().len(), 0);
    // The same connection serves who has one.
    let headers = [("content-type", PROTOBUF), ("authorization", "Bearer one-token")];
    let answer = exchange(&mut stream, "POST", "/v1/traces", &headers, &request(&[span(1)])).await;
    assert_eq!((answer.status, guarded.receiver.taken()), (200, vec![span(1)]));
    assert_eq!(guarded.http("/v1/traces", JSON, Some("Bearer other-token")).await.status, 200);
}

#[tokio::test]
async fn tokens_are_exchanged_while_senders_send() {
    let guarded = Guarded::start().await;
    guarded.files.write("tokens", "next-token\none-token");
    assert_eq!(guarded.reload.reload(), Ok(true));
    for (token, status) in
        [("Bearer next-token", 200), ("Bearer one-token", 200), ("Bearer other-token", 401)]
    {
        assert_eq!(guarded.http("/v1/traces", PROTOBUF, Some(token)).await.status, status, "{token}");
    }
    guarded.files.write("tokens", "");
    assert!(guarded.reload.reload().is_err());
    assert_eq!(guarded.http("/v1/traces", PROTOBUF, Some("Bearer next-token")).await.status, 200);
    assert_eq!(guarded.http("/v1/traces", PROTOBUF, None).await.status, 401);
}
