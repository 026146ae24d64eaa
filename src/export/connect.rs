//! Connections to the destination: TCP, and TLS where the endpoint is https.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::{BoxError, Service, ServiceExt};

use super::tls::ClientTls;

/// After so long without traffic the operating system probes an idle connection.
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Connects to the destination within a time.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    tcp: HttpConnector,
    tls: Option<ClientTls>,
    versions: Versions,
    patience: Duration,
}

/// The versions of HTTP that are spoken over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Versions {
    /// HTTP/2, as gRPC needs.
    Two,
    /// HTTP/2, and HTTP/1.1 where the destination does not speak it.
    All,
}

impl Connector {
    /// Connects with `tls`, where there is one, within `patience`.
    pub(super) fn new(tls: Option<ClientTls>, versions: Versions, patience: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        // Whether TLS is spoken is decided here and not by the connector for TCP.
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEP_ALIVE));
        Self { tcp, tls, versions, patience }
    }

    async fn connect(self, uri: Uri) -> Result<MaybeHttpsStream<TokioIo<TcpStream>>, BoxError> {
        let Some(tls) = self.tls else {
            return Ok(MaybeHttpsStream::Http(self.tcp.oneshot(uri).await?));
        };
        // Put together anew each time, since certificates change.
        let https = HttpsConnectorBuilder::new().with_tls_config(tls.config()).https_only();
        let https = match tls.server_name() {
            Some(name) => https.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name)),
            None => https,
        };
        let mut https = match self.versions {
            Versions::Two => https.enable_http2().wrap_connector(self.tcp),
            Versions::All => https.enable_all_versions().wrap_connector(self.tcp),
        };
        https.ready().await?.call(uri).await
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = timeout(self.patience, self.clone().connect(uri));
        Box::pin(async move {
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
            connecting.await.map_err(late)?
        })
    }
}
