//! OTLP/HTTP: POST of protobuf or JSON, over HTTP/1.1 or HTTP/2.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::body::{self, COMPRESSIONS, Compression, Gather, MAX_REQUEST_SIZE};
use super::budget::Permit;
use super::connection::Unread;
use super::status::Failure;
use super::{Format, Intake, Partial, Refused, connection, grpc};
use crate::telemetry::metrics::{Refusal, Signal, Transport};

/// So much of a refused request is read to its end, so that its connection can be used again.
const DISCARD: u64 = 256 * 1024;

/// Serves OTLP/HTTP on `listener` until `shutdown`; returns when every request is answered, or after
/// [`Patience::drain`](super::connection::Patience).
pub async fn serve(listener: TcpListener, intake: Arc<Intake>, shutdown: impl Future<Output = ()>) {
    let waits = (intake.patience, intake.ahead.clone());
    let tls = intake.tls.as_ref().map(|tls| tls.port(Transport::Http, &intake.metrics));
    connection::serve((listener, tls), waits, shutdown, move |request| {
        let intake = intake.clone();
        async move {
            match &intake.origins {
                Some(origins) => origins.around(request, |request| answer(&intake, request)).await,
                None => answer(&intake, request).await,
            }
        }
    })
    .await;
}

async fn answer(intake: &Intake, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, mut body) = request.into_parts();
    let authenticated = intake.authenticate(&head.headers, Transport::Http);
    if grpc::is_call(&head.headers) {
        let fault = "this port speaks OTLP/HTTP; OTLP/gRPC has a port of its own";
        return grpc::refusal(authenticated.err().unwrap_or_else(|| Failure::unknown(fault)));
    }
    let format = format(&head.headers);
    let answered = match authenticated {
        Ok(()) => posted(intake, &head, &mut body, format).await,
        Err(failure) => Err(failure),
    };
    // Where the sender has not said what it reads, it may be a person.
    let format = format.unwrap_or(Format::Json);
    match answered {
        Ok(message) => response(StatusCode::OK, format, message),
        Err(failure) => {
            let mut response = refusal(&failure, format);
            if !discard(intake, &head, body, &failure).await {
                response.extensions_mut().insert(Unread);
            }
            response
        }
    }
}

/// What is posted to the path.
async fn posted(
    intake: &Intake,
    head: &Parts,
    body: &mut Incoming,
    format: Option<Format>,
) -> Result<Bytes, Failure> {
    match head.uri.path() {
        "/v1/traces" => {
            let taken = traces(intake, head, body, format).await;
            taken.inspect_err(|failure| intake.count_refused(failure, Transport::Http))
        }
        "/v1/metrics" => relayed(intake, head, body, format, Signal::Metrics).await,
        "/v1/logs" => relayed(intake, head, body, format, Signal::Logs).await,
        "/v1development/profiles" => relayed(intake, head, body, format, Signal::Profiles).await,
        path => Err(Failure::unknown(format!("there is nothing at {path}"))),
    }
}

async fn traces(
    intake: &Intake,
    head: &Parts,
    body: &mut Incoming,
    format: Option<Format>,
) -> Result<Bytes, Failure> {
    let format = checked(head, format)?;
    let mut permit = intake.admit()?;
    let message = message(intake, &head.headers, body, &mut permit).await?;
    let partial = intake.take(&message, format, Transport::Http, &mut permit)?;
    Ok(match format {
        Format::Protobuf => partial.protobuf(),
        Format::Json => partial.json(),
    })
}

async fn relayed(
    intake: &Intake,
    head: &Parts,
    body: &mut Incoming,
    format: Option<Format>,
    signal: Signal,
) -> Result<Bytes, Failure> {
    let relay = intake.relay(signal)?;
    let read = async {
        let format = checked(head, format)?;
        if format == Format::Json && !relay.takes_json() {
            return Err(Failure::unsupported(
                "the destination speaks gRPC, which has no JSON; send protobuf",
            ));
        }
        let mut permit = intake.admit()?;
        let message = message(intake, &head.headers, body, &mut permit).await?;
        Ok((message, format, permit))
    };
    // The permit is held until the destination has answered.
    let (message, format, _permit) = read.await.inspect_err(|_| relay.count_refused())?;
    relay.send(message, format).await
}

fn checked(head: &Parts, format: Option<Format>) -> Result<Format, Failure> {
    if head.method != Method::POST {
        return Err(Failure::method());
    }
    let fault = "Content-Type must be application/x-protobuf or application/json";
    format.ok_or_else(|| Failure::unsupported(fault))
}

/// By `Content-Type`, of any case and with any parameters.
fn format(headers: &HeaderMap) -> Option<Format> {
    let kind = headers.get(CONTENT_TYPE)?.as_bytes();
    let essence = kind.split(|&byte| byte == b';').next()?.trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/x-protobuf") {
        Some(Format::Protobuf)
    } else if essence.eq_ignore_ascii_case(b"application/json") {
        Some(Format::Json)
    } else {
        None
    }
}

/// Reads a body and undoes its compression.
async fn message(
    intake: &Intake,
    headers: &HeaderMap,
    body: &mut Incoming,
    permit: &mut Permit<'_>,
) -> Result<Bytes, Failure> {
    let compression = compression(headers)?;
    let announced = body.size_hint().exact();
    let mut gather = Gather::new(body, intake.max_request_size, permit);
    if let Some(length) = announced {
        let length = usize::try_from(length).map_err(|_| Refused::TooLarge(MAX_REQUEST_SIZE))?;
        gather.expect(length, intake.patience.room).await?;
    }
    let arrived = timeout(intake.patience.body, gather.all());
    let message = arrived.await.map_err(|_| Failure::timed_out())??;
    let Some(compression) = compression else { return Ok(message) };
    let plain = body::decompress(compression, &message, intake.max_request_size, permit)?;
    permit.release(message.len());
    Ok(plain.into())
}

fn compression(headers: &HeaderMap) -> Result<Option<Compression>, Failure> {
    let mut names = headers.get_all(CONTENT_ENCODING).iter();
    let name = names.next().map_or(&b""[..], HeaderValue::as_bytes);
    // More than one, on one line or on two, is nothing that a sender of OTLP does.
    match (Compression::by_name(name), names.next()) {
        (Ok(compression), None) => Ok(compression),
        _ => Err(Failure::unsupported(format!("Content-Encoding must be one of {COMPRESSIONS}"))),
    }
}

impl Partial {
    /// The `ExportTraceServiceResponse` in JSON, whose 64-bit numbers are strings.
    fn json(&self) -> Bytes {
        if self.rejected == 0 {
            return Bytes::from_static(b"{}");
        }
        let partial = json!({"rejectedSpans": self.rejected.to_string(), "errorMessage": self.message});
        json!({"partialSuccess": partial}).to_string().into()
    }
}

fn refusal(failure: &Failure, format: Format) -> Response<Full<Bytes>> {
    let mut response = response(failure.http, format, failure.body(format));
    if let Some(seconds) = failure.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    if failure.refusal == Some(Refusal::Unauthenticated) {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if failure.http == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

fn response(status: StatusCode, format: Format, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response
}

/// Reads what is left of a small refused request, since its connection would have to be closed otherwise, or its stream
/// be reset, which some clients take for a failure and look no further; whether the connection can be used again.
async fn discard(intake: &Intake, head: &Parts, mut body: Incoming, failure: &Failure) -> bool {
    if body.is_end_stream() {
        return true;
    }
    let is_stream = head.version == Version::HTTP_2;
    // A sender that asks first is told no before it sends, and one that sends too much, or too slowly, as soon as
    // that is known.
    let has_waited_enough =
        matches!(failure.http, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT);
    if has_waited_enough || head.headers.contains_key(EXPECT) {
        return is_stream;
    }
    let read = async {
        let mut left = DISCARD;
        while body.size_hint().lower() <= left {
            let Some(Ok(frame)) = body.frame().await else { return true };
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len) as u64);
        }
        false
    };
    timeout(intake.patience.linger, read).await.unwrap_or(false) || is_stream
}
