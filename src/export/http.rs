//! OTLP/HTTP towards the destination: one request with a protobuf or JSON body, and its bounded answer.
//!
//! Redirects are not followed: the headers that authenticate us are meant for the destination alone.

mod answer;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;

pub use answer::Answer;
pub(super) use answer::judge;

use super::channel::{self, ChannelError};
use super::compress::compressed;
use super::connect::{Connector, Versions};
use super::renewed::Renewed;
use super::tls::ClientTls;
use super::{UnixClock, guard};
use crate::config::{Compression, Export};

/// Of a refusal only the reason is read.
const LONGEST_REFUSAL: usize = 64 << 10;
/// The head of an answer.
const LONGEST_HEAD: usize = 64 << 10;
/// Idle connections are closed before most load balancers would do so in the middle of a request.
const IDLE: Duration = Duration::from_secs(30);
/// Silence on an HTTP/2 connection with open requests after which it is probed, and then given up.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Posts to the destination; cheap to clone, the clones share their connections.
#[derive(Clone)]
pub struct HttpClient {
    shared: Arc<Shared>,
}

struct Shared {
    connections: Renewed<legacy::Client<Connector, Full<Bytes>>>,
    base: String,
    headers: HeaderMap,
    compression: Compression,
    timeout: Duration,
    now: UnixClock,
    tls: Option<ClientTls>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// No connection, or one that ended before the answer did.
    #[error("the destination cannot be reached: {0}")]
    Unreachable(String),
    /// Nothing came within `export.timeout`.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The request was taken, but what came with it is longer than 4 MiB.
    #[error("the answer is longer than 4 MiB")]
    TooLong,
}

/// A client of the destination of `config`; connects when it is first used. `now` dates a `Retry-After`.
///
/// # Errors
/// [`ChannelError`] for a configuration that can never work.
pub(super) fn client(config: &Export, now: UnixClock) -> Result<HttpClient, ChannelError> {
    let tls = channel::tls(config, &channel::endpoint(config)?)?;
    let base = config.endpoint.trim_end_matches('/').to_owned();
    let connector = Connector::new(tls.clone(), Versions::All, config.timeout);
    let connect = move || {
        legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http1_max_buf_size(LONGEST_HEAD)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .build(connector.clone())
    };
    Ok(HttpClient {
        shared: Arc::new(Shared {
            connections: Renewed::new(connect),
            base,
            headers: channel::headers(config)?,
            compression: channel::compression(config),
            timeout: config.timeout,
            now,
            tls,
        }),
    })
}

impl HttpClient {
    /// Posts `body`, of `content_type`, to `path` below the base URL, and reads the answer.
    ///
    /// # Errors
    /// When there is no answer; every status is one.
    pub async fn post(
        &self,
        path: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Answer, Unanswered> {
        self.post_encoded(path, content_type, self.encode(body)).await
    }

    /// `body` as it travels.
    pub(super) fn encode(&self, body: Bytes) -> Encoded {
        let (encoding, body) = compressed(body, self.shared.compression);
        Encoded { encoding, body }
    }

    /// [`HttpClient::post`] of a body that is encoded already.
    pub(super) async fn post_encoded(
        &self,
        path: &str,
        content_type: &'static str,
        body: Encoded,
    ) -> Result<Answer, Unanswered> {
        let shared = &self.shared;
        let answer = timeout(shared.timeout, self.exchange(path, content_type, body)).await;
        answer.unwrap_or_else(|_| {
            shared.connections.drop_if_older_than(shared.timeout);
            Err(Unanswered::TimedOut(shared.timeout))
        })
    }

    /// What TLS is made of, where it is spoken.
    pub(super) fn tls(&self) -> Option<&ClientTls> {
        self.shared.tls.as_ref()
    }

    async fn exchange(
        &self,
        path: &str,
        content_type: &'static str,
        body: Encoded,
    ) -> Result<Answer, Unanswered> {
        let request = self.request(path, content_type, body)?;
        let response = self.shared.connections.get().request(request).await;
        let response = response.map_err(|error| Unanswered::Unreachable(chain(&error)))?;
        let (head, body) = response.into_parts();
        let body = self::body(head.status, body).await?;
        Ok(Answer::new(&Response::from_parts(head, body), (self.shared.now)()))
    }

    fn request(
        &self,
        path: &str,
        content_type: &'static str,
        Encoded { encoding, body }: Encoded,
    ) -> Result<Request<Full<Bytes>>, Unanswered> {
        let uri: Uri = format!("{}{path}", self.shared.base)
            .parse()
            .map_err(|error: http::uri::InvalidUri| Unanswered::Unreachable(error.to_string()))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let is_empty = request.body().is_end_stream();
        let headers = request.headers_mut();
        headers.extend(self.shared.headers.clone());
        if is_empty {
            // Said by nobody else, and some servers take no POST that leaves it open.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(channel::USER_AGENT));
        if let Some(encoding) = encoding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        Ok(request)
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

/// A body as it travels.
#[derive(Debug)]
pub(super) struct Encoded {
    encoding: Option<&'static str>,
    body: Bytes,
}

impl Encoded {
    /// Bytes that it takes beside the body that it was made of.
    pub(super) fn copied(&self) -> u64 {
        self.encoding.map_or(0, |_| self.body.len() as u64)
    }
}

/// Reads the body of an answer as far as it says something.
async fn body(status: StatusCode, mut body: Incoming) -> Result<Bytes, Unanswered> {
    let limit = if status.is_success() { guard::LONGEST_ANSWER } else { LONGEST_REFUSAL };
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            // The status is known, and what it means does not depend on the rest.
            Err(_) if !status.is_success() => break,
            Err(error) => return Err(Unanswered::Unreachable(chain(&error))),
        };
        let Some(data) = frame.data_ref() else { continue };
        if read.len() + data.len() > limit {
            if status.is_success() {
                return Err(Unanswered::TooLong);
            }
            break;
        }
        read.extend_from_slice(data);
    }
    Ok(read.into())
}

/// An error with what is behind it, on one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        // Some say what is behind them themselves.
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes() {
        let error = anyhow::anyhow!("refused").context("tcp connect error").context("client error");
        assert_eq!(chain(error.as_ref()), "client error: tcp connect error: refused");
        let twice = anyhow::anyhow!("unknown issuer")
            .context("bad certificate: unknown issuer")
            .context("client error");
        assert_eq!(chain(twice.as_ref()), "client error: bad certificate: unknown issuer");
    }
}
