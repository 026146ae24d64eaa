//! The connection to the destination, shared by our exporter and by what is passed through.
//!
//! It connects when it is first used, again after a failure, and now and then in any case, since a name is
//! resolved only when a connection is made. What the destination answers is checked before tonic reads it.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header};
use tonic::body::Body;
use tonic::transport;
use tower::{Service, ServiceExt};

use super::connect::{Connector, Versions};
use super::guard;
use super::message::Message;
use super::renewed::Renewed;
use super::tls::ClientTls;
use crate::config::{Compression, Export};
use crate::secrets::FileError;

/// How we call ourselves.
pub(super) const USER_AGENT: &str = concat!("Laggard/", env!("CARGO_PKG_VERSION"));
/// Silence on a connection with open requests after which it is probed, and then given up.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Why the destination cannot be spoken to as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// Not a URL with a host. The value is left out, since a URL can have a secret in it.
    #[error("export.endpoint: must be http://HOST:PORT or https://HOST:PORT")]
    Endpoint,
    /// What is sent there would come in again.
    #[error("export.endpoint: must not be a port of our own, {key} is {address}, got {endpoint}")]
    Ourselves {
        /// What is configured.
        endpoint: String,
        /// The key of the port.
        key: &'static str,
        /// Where that one listens.
        address: SocketAddr,
    },
    /// A certificate or a key cannot be used.
    #[error("{0}")]
    Tls(FileError),
    /// Not the name of a header, or one that the protocol sets itself.
    #[error("export.headers: must be names of HTTP headers that the protocol does not set itself, got {0:?}")]
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
    let uri = endpoint(config)?;
    let tls = tls(config, &uri)?;
    let timeout = config.timeout;
    let endpoint = transport::Endpoint::from(uri)
        .user_agent(USER_AGENT)
        .map_err(|_| ChannelError::Endpoint)?
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    let connector = Connector::new(tls.clone(), Versions::Two, timeout);
    let connect = move || endpoint.connect_with_connector_lazy(connector.clone());
    Ok(Channel {
        shared: Arc::new(Shared { headers: headers(config)?, connection: Renewed::new(connect), tls }),
    })
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

pub(super) fn endpoint(config: &Export) -> Result<Uri, ChannelError> {
    let uri: Uri = config.endpoint.parse().map_err(|_| ChannelError::Endpoint)?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(uri),
        _ => Err(ChannelError::Endpoint),
    }
}

/// What TLS to the destination of `config` is made of, where `uri`, which is that destination, asks for it.
pub(super) fn tls(config: &Export, uri: &Uri) -> Result<Option<ClientTls>, ChannelError> {
    let is_secure = uri.scheme_str() == Some("https");
    is_secure.then(|| ClientTls::new(&config.tls).map_err(ChannelError::Tls)).transpose()
}

pub(super) fn headers(config: &Export) -> Result<HeaderMap, ChannelError> {
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
    headers: HeaderMap,
    connection: Renewed<transport::Channel>,
    tls: Option<ClientTls>,
}

impl Channel {
    /// A channel over the connections that `connect` makes (lazily, inside a runtime), each request with
    /// `headers`.
    pub fn new(connect: impl Fn() -> transport::Channel + Send + Sync + 'static, headers: HeaderMap) -> Self {
        Self { shared: Arc::new(Shared { headers, connection: Renewed::new(connect), tls: None }) }
    }

    /// What TLS is made of, where it is spoken.
    pub(super) fn tls(&self) -> Option<&ClientTls> {
        self.shared.tls.as_ref()
    }

    /// Lets the next request make a new connection, unless the present one is younger than `age`.
    pub(super) fn renew_if_older_than(&self, age: Duration) {
        self.shared.connection.drop_if_older_than(age);
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
        let mut connection = self.shared.connection.get();
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
            assert_eq!(channel(&export(text)).err(), Some(ChannelError::Endpoint), "{text}");
        }
        assert!(channel(&export("http://collector.example:4317/")).is_ok());
    }

    // C10.
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
