//! OTLP/gRPC: unary calls on HTTP/2.
//!
//! The framing is read here and not by tonic's codec, because a message's size must be known, and taken from the
//! budget, before the message is read and again before it is decompressed. Statuses and their details are tonic's.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tonic::Code;

use super::body::{self, COMPRESSIONS, Compression, Gather};
use super::budget::Permit;
use super::connection::LargestFrame;
use super::status::Failure;
use super::{Format, Intake, Partial, connection};
use crate::otlp::wire;
use crate::telemetry::metrics::{Signal, Transport};

const GRPC: &str = "application/grpc";
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// One byte that says whether the message is compressed, four for its length.
const PREFIX: usize = 5;

/// The prefix of a message without bytes, which is also the whole answer to a request that was taken in full.
const EMPTY: Bytes = Bytes::from_static(&[0; PREFIX]);

/// Serves OTLP/gRPC on `listener` until `shutdown`; returns when every request is answered, or after
/// [`Patience::drain`](super::connection::Patience).
pub async fn serve(listener: TcpListener, intake: Arc<Intake>, shutdown: impl Future<Output = ()>) {
    let waits = (intake.patience, intake.ahead.clone());
    let tls = intake.tls.as_ref().map(|tls| tls.port(Transport::Grpc, &intake.metrics));
    connection::serve((listener, tls), waits, shutdown, move |request| {
        let intake = intake.clone();
        async move { answer(&intake, request).await }
    })
    .await;
}

/// Whether a request is a gRPC call, whatever it calls.
pub(crate) fn is_call(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(GRPC.as_bytes()))
}

async fn answer(intake: &Intake, request: Request<Incoming>) -> Response<Reply> {
    if request.version() != Version::HTTP_2 || !is_call(request.headers()) {
        return wrong_port();
    }
    let answered = match intake.authenticate(request.headers(), Transport::Grpc) {
        Ok(()) => called(intake, request).await,
        Err(failure) => Err(failure),
    };
    match answered {
        Ok(message) => success(&message),
        Err(failure) => refusal(failure),
    }
}

/// The method that is called.
async fn called(intake: &Intake, request: Request<Incoming>) -> Result<Bytes, Failure> {
    match request.uri().path() {
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => {
            let taken = traces(intake, request).await;
            taken.inspect_err(|failure| intake.count_refused(failure, Transport::Grpc))
        }
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => {
            relayed(intake, request, Signal::Metrics).await
        }
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => {
            relayed(intake, request, Signal::Logs).await
        }
        "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export" => {
            relayed(intake, request, Signal::Profiles).await
        }
        path => Err(Failure::unknown(format!("there is no method {path} here"))),
    }
}

async fn traces(intake: &Intake, request: Request<Incoming>) -> Result<Bytes, Failure> {
    let mut permit = intake.admit()?;
    let message = message(intake, request, &mut permit).await?;
    let partial = intake.take(&message, Format::Protobuf, Transport::Grpc, &mut permit)?;
    Ok(partial.protobuf())
}

async fn relayed(intake: &Intake, request: Request<Incoming>, signal: Signal) -> Result<Bytes, Failure> {
    let relay = intake.relay(signal)?;
    let mut permit = intake.admit().inspect_err(|_| relay.count_refused())?;
    let message = message(intake, request, &mut permit).await.inspect_err(|_| relay.count_refused())?;
    relay.send(message, Format::Protobuf).await
}

/// Reads the one message of a unary call and undoes its compression.
async fn message(
    intake: &Intake,
    request: Request<Incoming>,
    permit: &mut Permit<'_>,
) -> Result<Bytes, Failure> {
    let name = request.headers().get(GRPC_ENCODING).map_or(&b""[..], HeaderValue::as_bytes);
    let Ok(compression) = Compression::by_name(name) else {
        return Err(Failure::unsupported(format!("grpc-encoding must be one of {COMPRESSIONS}")));
    };
    let frame = request.extensions().get::<LargestFrame>().map_or(0, |frame| frame.0);
    permit.sit(frame, intake.patience.room).await?;
    let mut body = request.into_body();
    let arrived = timeout(intake.patience.body, framed(&mut body, intake, permit));
    let (is_compressed, message) = arrived.await.map_err(|_| Failure::timed_out())??;
    if !is_compressed {
        return Ok(message);
    }
    let Some(compression) = compression else {
        return Err(Failure::misframed("the message is compressed, but grpc-encoding does not say how"));
    };
    let plain = body::decompress(compression, &message, intake.max_request_size, permit)?;
    permit.release(message.len());
    Ok(plain.into())
}

async fn framed(
    body: &mut Incoming,
    intake: &Intake,
    permit: &mut Permit<'_>,
) -> Result<(bool, Bytes), Failure> {
    let mut gather = Gather::new(body, intake.max_request_size.saturating_add(PREFIX), permit);
    gather.until(PREFIX).await?;
    let Some(&[flag, a, b, c, d]) = gather.read().first_chunk::<PREFIX>() else {
        return Err(Failure::misframed("the request has no message"));
    };
    if flag > 1 {
        return Err(Failure::misframed("the first byte of a message must be 0 or 1"));
    }
    let length = PREFIX + u32::from_be_bytes([a, b, c, d]) as usize;
    gather.expect(length, intake.patience.room).await?;
    let message = gather.exactly(length).await?;
    Ok((flag == 1, message.slice(PREFIX..)))
}

impl Partial {
    /// The `ExportTraceServiceResponse`; nothing when every span was taken.
    pub(crate) fn protobuf(&self) -> Bytes {
        if self.rejected == 0 {
            return Bytes::new();
        }
        let mut partial = Vec::new();
        wire::put_uint(&mut partial, 1, self.rejected);
        wire::put_bytes(&mut partial, 2, self.message.as_bytes());
        let mut response = Vec::new();
        wire::put_bytes(&mut response, 1, &partial);
        response.into()
    }
}

fn success(message: &[u8]) -> Response<Reply> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(Reply { data: Some(with_prefix(message)), trailers: Some(trailers) });
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    response
}

fn with_prefix(message: &[u8]) -> Bytes {
    // An answer is far below 4 GiB: ours are small, and what is relayed is limited.
    let Ok(length) = u32::try_from(message.len()) else { return EMPTY };
    if length == 0 {
        return EMPTY;
    }
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(length);
    framed.put_slice(message);
    framed.freeze()
}

pub(crate) fn refusal<B: Default>(failure: Failure) -> Response<B> {
    let is_unimplemented = failure.status.code() == Code::Unimplemented;
    let mut response = failure.status.into_http();
    if is_unimplemented {
        response.headers_mut().insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static(COMPRESSIONS));
    }
    response
}

/// For browsers, curl, and exporters that were given the wrong one of the two ports.
fn wrong_port() -> Response<Reply> {
    const TEXT: &str =
        "This port speaks OTLP/gRPC (application/grpc over HTTP/2). OTLP/HTTP has a port of its own.\n";
    let mut response =
        Response::new(Reply { data: Some(Bytes::from_static(TEXT.as_bytes())), trailers: None });
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The body of a response: at most one frame of data and the trailers.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }
}
