//! One HTTP/1.1 request on a connection of its own: enough for a service that posts spans and for a look at metrics.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Answers are short; a longer one is an error.
const MAX_ANSWER: usize = 1 << 20;

/// Posts an encoded `ExportTraceServiceRequest` to the OTLP/HTTP receiver at `address`.
///
/// # Errors
/// When it is not acknowledged with status 200.
pub(super) async fn post_spans(address: SocketAddr, request: Vec<u8>) -> anyhow::Result<()> {
    let request = Request::builder()
        .method(Method::POST)
        .uri("/v1/traces")
        .header(header::HOST, address.to_string())
        .header(header::CONTENT_TYPE, "application/x-protobuf")
        .body(Full::new(Bytes::from(request)))?;
    send(address, request).await.map(drop)
}

/// The text at `path` of the HTTP server at `address`.
///
/// # Errors
/// When it does not answer with status 200 and at most 1 MiB.
pub(super) async fn get_text(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let request = Request::builder()
        .uri(path)
        .header(header::HOST, address.to_string())
        .body(Full::new(Bytes::new()))?;
    let answer = send(address, request).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> anyhow::Result<Vec<u8>> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("{address} cannot be reached"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        ensure!(status == http::StatusCode::OK, "{address} answered with status {status}");
        let mut body = answer.into_body();
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            bytes.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
            ensure!(bytes.len() <= MAX_ANSWER, "{address} answered with more than {MAX_ANSWER} bytes");
        }
        Ok(bytes)
    };
    // The connection moves the bytes while it is polled; the exchange is over before it is.
    tokio::pin!(connection);
    tokio::select! {
        answer = exchange => answer,
        ended = &mut connection => {
            ended?;
            anyhow::bail!("{address} closed the connection before it had answered")
        }
    }
}
