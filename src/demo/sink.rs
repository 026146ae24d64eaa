//! A stand-in for a tracing backend: an OTLP/gRPC receiver that hands on what it gets.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use crate::assemble::Trace;
use crate::otlp::codec::Body;
use crate::otlp::services::opentelemetry::proto::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};

/// Requests that may wait to be looked at; the sender waits with them.
const WAITING: usize = 64;

/// The largest request that is taken, bytes.
const MAX_REQUEST: usize = 16 << 20;

/// A bound receiver that does not serve yet.
#[derive(Debug)]
pub struct Sink {
    listener: TcpListener,
    address: SocketAddr,
    receiver: Receiver,
}

impl Sink {
    /// Binds a free loopback port. The traces of each request arrive, in one piece, at the returned end.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn bind() -> std::io::Result<(Self, mpsc::Receiver<Vec<Trace>>)> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (sender, traces) = mpsc::channel(WAITING);
        Ok((Self { listener, address, receiver: Receiver { traces: sender } }, traces))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` resolves.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), tonic::transport::Error> {
        let service = TraceServiceServer::new(self.receiver)
            .max_decoding_message_size(MAX_REQUEST)
            .accept_compressed(CompressionEncoding::Gzip);
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(TcpListenerStream::new(self.listener), shutdown)
            .await
    }
}

#[derive(Debug)]
struct Receiver {
    traces: mpsc::Sender<Vec<Trace>>,
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let traces = Trace::all_in(&request.into_inner().0)
            .map_err(|malformed| Status::invalid_argument(malformed.to_string()))?;
        // Nobody looks any more while the demonstration ends; what comes then is still acknowledged.
        let _ = self.traces.send(traces).await;
        Ok(Response::new(Body::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::traffic::{Traffic, system};
    use super::*;
    use crate::otlp::services::opentelemetry::proto::collector::trace::v1::trace_service_client::TraceServiceClient;

    #[tokio::test]
    async fn what_is_sent_arrives_trace_by_trace() {
        let (sink, mut arrived) = Sink::bind().await.expect("a free port");
        let address = sink.address();
        let system = system();
        let export = Traffic::new(&system, 1, 0, u64::MAX).until(2_000_000_000).remove(0);
        let sent = Trace::all_in(&export.request).expect("protobuf");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let client = async {
            let mut client =
                TraceServiceClient::connect(format!("http://{address}")).await.expect("it listens");
            client.export(Body(export.request.into())).await.expect("acknowledged");
            let traces = arrived.recv().await.expect("one request");
            let ids = |traces: &[Trace]| traces.iter().map(Trace::id).collect::<Vec<_>>();
            assert_eq!(ids(&traces), ids(&sent));
            let refused = client.export(Body(b"no protobuf".as_slice().into())).await;
            assert_eq!(refused.expect_err("malformed").code(), tonic::Code::InvalidArgument);
            drop(stop);
        };
        let (served, ()) = tokio::join!(sink.serve(async { drop(stopped.await) }), client);
        served.expect("it ended in order");
    }
}
