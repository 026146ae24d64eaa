//! The connection to the destination, shared by our exporter and by what is passed through.
//!
//! It connects when it is first used, again after a failure, and now and then in any case, since a name is
//! resolved only when a connection is made. What the destination answers is checked before tonic reads it.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::transport;
use tower::{Service, ServiceExt};

use super::guard;
use super::message::Message;
use crate::config::{Compression, Export, Protocol};

/// A connection is replaced after this, so that a name which resolves to another address is followed.
const RENEW_AFTER: Duration = Duration::from_mins(5);
/// Silence on a connection with open requests after which it is probed, and then given up.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// After so long without traffic the operating system probes an idle connection.
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Why the destination cannot be spoken to as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// Not a URL with a host.
    #[error("export.endpoint: must be http://HOST:PORT, got {0}")]
    Endpoint(String),
    /// This version speaks plain text.
    #[error("export.endpoint: https is not supported by this version, got {0}")]
    Tls(String),
    /// This version speaks gRPC.
    #[error("export.protocol: must be grpc in this version, got http/protobuf")]
    Protocol,
    /// Not the name of a header, or one that the protocol sets itself.
    #[error("export.headers: must be names of HTTP headers that gRPC does not set itself, got {0:?}")]
    HeaderName(String),
    /// The value is left out, since it may be a secret.
    #[error("export.headers: the value of {0} must be visible ASCII")]
    HeaderValue(String),
}

/// A channel to the destination of `config`; connects when it is first used, so an absent destination is no
/// error here.
///
/// # Errors
/// [`ChannelError`] for a configuration that can never work.
pub fn channel(config: &Export) -> Result<Channel, ChannelError> {
    if config.protocol != Protocol::Grpc {
        return Err(ChannelError::Protocol);
    }
    let uri = endpoint(config)?;
    let timeout = config.timeout;
    let endpoint = transport::Endpoint::from(uri)
        .user_agent(concat!("Laggard/", env!("CARGO_PKG_VERSION")))
        .map_err(|_| ChannelError::Endpoint(config.endpoint.clone()))?
        .connect_timeout(timeout)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .tcp_keepalive(Some(TCP_KEEP_ALIVE));
    Ok(Channel::new(move || endpoint.connect_lazy(), headers(config)?))
}

/// How request bodies to the destination of `config` are compressed: never [`Compression::Auto`].
pub fn compression(config: &Export) -> Compression {
    if config.compression != Compression::Auto {
        return config.compression;
    }
    let uri = config.endpoint.parse::<Uri>();
    let host = uri.as_ref().ok().and_then(Uri::host).unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    // On one machine the bytes are copied in memory: compressing them costs more than it saves.
    if host == "localhost" || address.is_ok_and(|address| address.is_loopback()) {
        Compression::None
    } else {
        Compression::Gzip
    }
}

fn endpoint(config: &Export) -> Result<Uri, ChannelError> {
    let wrong = || ChannelError::Endpoint(config.endpoint.clone());
    let uri: Uri = config.endpoint.parse().map_err(|_| wrong())?;
    match uri.scheme_str() {
        Some("http") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(uri),
        Some("https") => Err(ChannelError::Tls(config.endpoint.clone())),
        _ => Err(wrong()),
    }
}

fn headers(config: &Export) -> Result<HeaderMap, ChannelError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let parsed: HeaderName = name.parse().map_err(|_| ChannelError::HeaderName(name.clone()))?;
        if [header::CONTENT_TYPE, header::HOST, header::TE].contains(&parsed)
            || parsed.as_str().starts_with("grpc-")
        {
            return Err(ChannelError::HeaderName(name.clone()));
        }
        let mut value: HeaderValue = value.parse().map_err(|_| ChannelError::HeaderValue(name.clone()))?;
        // Kept out of debug output and out of HTTP/2 header compression tables.
        value.set_sensitive(true);
        headers.insert(parsed, value);
    }
    Ok(headers)
}

/// Sends gRPC requests to the destination; cheap to clone, the clones share their connection.
#[derive(Clone)]
pub struct Channel {
    shared: Arc<Shared>,
}

struct Shared {
    connect: Box<dyn Fn() -> transport::Channel + Send + Sync>,
    headers: HeaderMap,
    current: Mutex<Option<Connection>>,
}

struct Connection {
    channel: transport::Channel,
    since: Instant,
}

impl Channel {
    /// A channel over the connections that `connect` makes (lazily, inside a runtime), each request with
    /// `headers`.
    pub fn new(connect: impl Fn() -> transport::Channel + Send + Sync + 'static, headers: HeaderMap) -> Self {
        let connect = Box::new(connect);
        Self { shared: Arc::new(Shared { connect, headers, current: Mutex::new(None) }) }
    }

    /// Lets the next request make a new connection, unless the present one is younger than `age`.
    ///
    /// A peer that has vanished answers nothing, and the operating system takes many minutes to notice.
    pub(super) fn renew_if_older_than(&self, age: Duration) {
        let mut current = self.shared.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.take_if(|connection| connection.since.elapsed() >= age);
    }

    fn connection(&self) -> transport::Channel {
        self.renew_if_older_than(RENEW_AFTER);
        let mut current = self.shared.current.lock().unwrap_or_else(PoisonError::into_inner);
        let connect = || Connection { channel: (self.shared.connect)(), since: Instant::now() };
        // Requests that are under way keep the connection that they have until they are answered.
        current.get_or_insert_with(connect).channel.clone()
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, transport::Error>> + Send>>;

    /// Always ready: waiting for the connection is part of the request, so that its failure is the request's.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), transport::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        Message::put_into(&mut request);
        request.headers_mut().extend(self.shared.headers.clone());
        let mut connection = self.connection();
        Box::pin(async move {
            let response = connection.ready().await?.call(request).await?;
            Ok(guard::response(response))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(endpoint: &str) -> Export {
        Export { endpoint: endpoint.to_owned(), ..Export::default() }
    }

    fn with_header(name: &str, value: &str) -> Export {
        Export { headers: [(name.to_owned(), value.to_owned())].into(), ..Export::default() }
    }

    #[test]
    fn an_endpoint_that_cannot_work_is_named() {
        for text in ["", "127.0.0.1:4317", "ftp://host:1", "http://", "collector"] {
            assert_eq!(channel(&export(text)).err(), Some(ChannelError::Endpoint(text.to_owned())), "{text}");
        }
        let https = "https://collector:4317";
        assert_eq!(channel(&export(https)).err(), Some(ChannelError::Tls(https.to_owned())));
        assert!(channel(&export("http://collector.example:4317/")).is_ok());
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_named_without_its_value() {
        for name in ["", "two words", "content-type", "TE", "host", "grpc-timeout"] {
            let error = channel(&with_header(name, "secret")).err();
            assert_eq!(error, Some(ChannelError::HeaderName(name.to_owned())), "{name}");
        }
        let error = channel(&with_header("x-api-key", "sec\nret")).expect_err("refused");
        assert!(!error.to_string().contains("sec"), "{error}");
        assert!(channel(&with_header("X-Api-Key", "secret")).is_ok());
    }

    #[test]
    fn compression_is_off_on_loopback_and_gzip_elsewhere() {
        let cases = [
            ("http://127.0.0.1:4317", Compression::None),
            ("http://127.9.9.9:4317", Compression::None),
            ("http://[::1]:4317", Compression::None),
            ("http://localhost:4317", Compression::None),
            ("http://10.0.0.1:4317", Compression::Gzip),
            ("http://collector:4317", Compression::Gzip),
        ];
        for (endpoint, expected) in cases {
            assert_eq!(compression(&export(endpoint)), expected, "{endpoint}");
        }
        let zstd = Export { compression: Compression::Zstd, ..export("http://127.0.0.1:1") };
        assert_eq!(compression(&zstd), Compression::Zstd);
    }
}
