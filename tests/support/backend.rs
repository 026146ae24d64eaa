//! An OTLP/gRPC trace backend that answers as a test tells it to and remembers what it was sent.

#![allow(dead_code, reason = "each test crate that includes this file uses a part of it")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use laggard::export::Channel;
use laggard::otlp::codec::Body;
use laggard::otlp::services::opentelemetry::proto::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};

const ENCODING: &str = "grpc-encoding";

/// What the backend does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Takes it, with an empty response.
    Take,
    /// Takes it, with this encoded `ExportTraceServiceResponse`.
    Respond(Vec<u8>),
    /// Fails it.
    Refuse(Status),
    /// Takes it after so long.
    TakeAfter(Duration),
    /// Takes it once [`Backend::release`] has been called.
    Hold,
    /// Leaves it open for ever.
    Never,
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// The uncompressed `ExportTraceServiceRequest`.
    pub(crate) body: Bytes,
    /// Its headers.
    pub(crate) metadata: MetadataMap,
    /// When, by tokio's clock.
    pub(crate) at: Instant,
}

type Answering = Box<dyn FnMut(&Received) -> Answer + Send>;

/// A running backend; it stops when it is dropped.
pub(crate) struct Backend {
    address: Option<SocketAddr>,
    service: Service,
    _server: JoinSet<()>,
}

#[derive(Clone)]
struct Service {
    answering: Arc<Mutex<Answering>>,
    received: watch::Sender<Vec<Received>>,
    released: watch::Sender<bool>,
}

impl Backend {
    /// Listens on a port of its own.
    pub(crate) async fn start(answering: impl FnMut(&Received) -> Answer + Send + 'static) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), answering).await
    }

    /// Listens on `address`.
    pub(crate) async fn start_at(
        address: SocketAddr,
        answering: impl FnMut(&Received) -> Answer + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("free port");
        let address = listener.local_addr().expect("bound");
        let service = Service::new(answering);
        let mut server = JoinSet::new();
        let serving = Server::builder()
            .add_service(service.server())
            .serve_with_incoming(TcpListenerStream::new(listener));
        server.spawn(async move { serving.await.expect("serves until it is dropped") });
        Self { address: Some(address), service, _server: server }
    }

    /// Is reached through pipes in memory by the channel that is returned: no sockets, so that a paused clock
    /// does not run away while bytes are on their way. Counts the connections that are made.
    pub(crate) fn in_memory(
        answering: impl FnMut(&Received) -> Answer + Send + 'static,
    ) -> (Self, Channel, Arc<Mutex<usize>>) {
        let (connected, incoming) = mpsc::channel::<Result<DuplexStream, std::io::Error>>(64);
        let service = Service::new(answering);
        let mut server = JoinSet::new();
        let serving = Server::builder()
            .add_service(service.server())
            .serve_with_incoming(ReceiverStream::new(incoming));
        server.spawn(async move { serving.await.expect("serves until it is dropped") });
        let connections = Arc::new(Mutex::new(0));
        let count = Arc::clone(&connections);
        let connect = move || {
            let (connected, count) = (connected.clone(), Arc::clone(&count));
            let connector = tower::service_fn(move |_| {
                let connected = connected.clone();
                *count.lock().expect("not poisoned") += 1;
                async move {
                    let (ours, theirs) = tokio::io::duplex(1 << 20);
                    connected.send(Ok(theirs)).await.map_err(std::io::Error::other)?;
                    Ok::<_, std::io::Error>(TokioIo::new(ours))
                }
            });
            Endpoint::from_static("http://in-memory").connect_with_connector_lazy(connector)
        };
        let channel = Channel::new(connect, http::HeaderMap::new());
        (Self { address: None, service, _server: server }, channel, connections)
    }

    /// Where it listens, as `export.endpoint` has it.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address.expect("listens on a socket"))
    }

    /// What came in so far, in order.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.service.received.borrow().clone()
    }

    /// The bodies of all requests behind one another: again a request.
    pub(crate) fn all_bytes(&self) -> Vec<u8> {
        self.received().iter().flat_map(|received| received.body.to_vec()).collect()
    }

    /// Waits until `count` requests came in.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Received> {
        let mut received = self.service.received.subscribe();
        let received = received.wait_for(|received| received.len() >= count).await;
        received.expect("the sender lives in self").clone()
    }

    /// Answers the requests that are held, and holds none any more.
    pub(crate) fn release(&self) {
        self.service.released.send_replace(true);
    }
}

/// Answers by the script, one answer a request, and takes what comes after its end.
pub(crate) fn script(
    answers: impl IntoIterator<Item = Answer>,
) -> impl FnMut(&Received) -> Answer + Send + 'static {
    let mut answers: VecDeque<Answer> = answers.into_iter().collect();
    move |_| answers.pop_front().unwrap_or(Answer::Take)
}

impl Service {
    fn new(answering: impl FnMut(&Received) -> Answer + Send + 'static) -> Self {
        Self {
            answering: Arc::new(Mutex::new(Box::new(answering))),
            received: watch::Sender::new(Vec::new()),
            released: watch::Sender::new(false),
        }
    }

    fn server(&self) -> TraceServiceServer<Self> {
        TraceServiceServer::new(self.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(64 << 20)
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (metadata, _, body) = request.into_parts();
        // As a server in Go answers, whatever the client says that it accepts: in the request's own encoding.
        let encoding = metadata.get(ENCODING).cloned();
        let respond = |body| {
            let mut response = Response::new(body);
            if let Some(encoding) = encoding {
                response.metadata_mut().insert(ENCODING, encoding);
            }
            response
        };
        let received = Received { body: body.0, metadata, at: Instant::now() };
        let answer = (self.answering.lock().expect("not poisoned"))(&received);
        self.received.send_modify(|all| all.push(received));
        match answer {
            Answer::Take => {}
            Answer::Respond(body) => return Ok(respond(Body(body.into()))),
            Answer::Refuse(status) => return Err(status),
            Answer::TakeAfter(time) => tokio::time::sleep(time).await,
            Answer::Hold => {
                let mut released = self.released.subscribe();
                released.wait_for(|released| *released).await.expect("the sender lives in self");
            }
            Answer::Never => std::future::pending().await,
        }
        Ok(respond(Body::default()))
    }
}
