//! Metrics, logs and profiles: relayed to the destination as bytes, while the sender waits.
//!
//! The destination's answer is the answer, so nothing is queued, retried or lost here.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, Response};
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::transport;
use tower::Service;
use tower::util::BoxCloneSyncService;

use super::status::Failure;
use super::{Format, Intake};
use crate::config::{Compression, Passthrough};
use crate::export::{HttpClient, Unanswered};
use crate::otlp::codec::{Body as Message, RawCodec};
use crate::telemetry::metrics::{Metrics, RelayOutcome, Signal};

fn late() -> Status {
    Status::deadline_exceeded("the destination did not answer in time")
}

fn unreachable() -> Status {
    Status::unavailable("the destination cannot be reached")
}

const TOO_LONG: &str = "the destination's answer is too long";

/// The longest answer that is read.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

/// Relays requests to the destination.
#[derive(Debug)]
pub struct Relay {
    destination: Destination,
    signals: Passthrough,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
enum Destination {
    Grpc(Grpc),
    Http(HttpClient),
}

#[derive(Debug)]
struct Grpc {
    channel: BoxCloneSyncService<Request<Body>, Response<Body>, transport::Error>,
    compression: Option<CompressionEncoding>,
    timeout: Duration,
}

impl Relay {
    /// Relays the signals that `signals` switches on over `channel`, which speaks gRPC, each request within `timeout`.
    ///
    /// `compression` is what is really used: [`Compression::Auto`] must have been settled.
    pub fn new<C>(
        channel: C,
        compression: Compression,
        timeout: Duration,
        signals: Passthrough,
        metrics: Arc<Metrics>,
    ) -> Self
    where
        C: Service<Request<Body>, Response = Response<Body>, Error = transport::Error>
            + Clone
            + Send
            + Sync
            + 'static,
        C::Future: Send + 'static,
    {
        let compression = match compression {
            Compression::Gzip => Some(CompressionEncoding::Gzip),
            Compression::Zstd => Some(CompressionEncoding::Zstd),
            Compression::None | Compression::Auto => None,
        };
        let channel = BoxCloneSyncService::new(channel);
        Self { destination: Destination::Grpc(Grpc { channel, compression, timeout }), signals, metrics }
    }

    /// Relays the signals that `signals` switches on to a destination that speaks HTTP.
    pub fn over_http(client: HttpClient, signals: Passthrough, metrics: Arc<Metrics>) -> Self {
        Self { destination: Destination::Http(client), signals, metrics }
    }

    fn relays(&self, signal: Signal) -> bool {
        match signal {
            Signal::Metrics => self.signals.metrics,
            Signal::Logs => self.signals.logs,
            Signal::Profiles => self.signals.profiles,
        }
    }
}

impl Intake {
    /// The relay of one signal.
    ///
    /// # Errors
    /// When it is switched off.
    pub(crate) fn relay(&self, signal: Signal) -> Result<SignalRelay<'_>, Failure> {
        if let Some(relay) = &self.relay
            && relay.relays(signal)
        {
            return Ok(SignalRelay { relay, signal });
        }
        self.metrics.passthrough.add(signal, RelayOutcome::Refused, 1);
        Err(Failure::unknown(match signal {
            Signal::Metrics => "metrics are not relayed",
            Signal::Logs => "logs are not relayed",
            Signal::Profiles => "profiles are not relayed",
        }))
    }
}

/// Relays one signal.
pub(crate) struct SignalRelay<'a> {
    relay: &'a Relay,
    signal: Signal,
}

impl SignalRelay<'_> {
    /// Counts a request that was refused before it was relayed.
    pub(crate) fn count_refused(&self) {
        self.count(RelayOutcome::Refused);
    }

    /// Whether the destination reads JSON.
    pub(crate) fn takes_json(&self) -> bool {
        matches!(self.relay.destination, Destination::Http(_))
    }

    /// Sends `message`, an export request in `format`, and returns the answer in the same format.
    pub(crate) async fn send(&self, message: Bytes, format: Format) -> Result<Bytes, Failure> {
        let answer = match &self.relay.destination {
            Destination::Grpc(grpc) => grpc.send(self.signal, message).await,
            Destination::Http(client) => post(client, self.signal, message, format).await,
        };
        self.count(if answer.is_ok() { RelayOutcome::Ok } else { RelayOutcome::Failed });
        answer
    }

    fn count(&self, outcome: RelayOutcome) {
        self.relay.metrics.passthrough.add(self.signal, outcome, 1);
    }
}

impl Grpc {
    async fn send(&self, signal: Signal, message: Bytes) -> Result<Bytes, Failure> {
        let answer = timeout(self.timeout, self.call(signal, message)).await.unwrap_or_else(|_| Err(late()));
        answer.map_err(|status| Failure::relayed(&status))
    }

    async fn call(&self, signal: Signal, message: Bytes) -> Result<Bytes, Status> {
        let path = PathAndQuery::from_static(match signal {
            Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Signal::Profiles => {
                "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export"
            }
        });
        let mut client = tonic::client::Grpc::new(self.channel.clone())
            .max_decoding_message_size(LONGEST_ANSWER)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        if let Some(compression) = self.compression {
            client = client.send_compressed(compression);
        }
        client.ready().await.map_err(|_| unreachable())?;
        let answer = client.unary(tonic::Request::new(Message(message)), path, RawCodec).await;
        match answer {
            Ok(answer) => Ok(answer.into_inner().0),
            // A status with a source was made here, out of a failed connection, under codes that tell a sender
            // to give up.
            Err(status) if status.source().is_some() => Err(unreachable()),
            Err(status) => Err(status),
        }
    }
}

async fn post(client: &HttpClient, signal: Signal, message: Bytes, format: Format) -> Result<Bytes, Failure> {
    let path = match signal {
        Signal::Metrics => "/v1/metrics",
        Signal::Logs => "/v1/logs",
        Signal::Profiles => "/v1development/profiles",
    };
    let content_type = format.content_type();
    let answer = match client.post(path, content_type, message).await {
        Ok(answer) => answer,
        Err(Unanswered::TimedOut(_)) => return Err(Failure::relayed(&late())),
        Err(Unanswered::Unreachable(_)) => return Err(Failure::relayed(&unreachable())),
        Err(Unanswered::TooLong) => return Err(Failure::relayed(&Status::internal(TOO_LONG))),
    };
    if !answer.is_taken() {
        return Err(Failure::relayed_over_http(&answer));
    }
    // A full success in either format, where what came back is in another one.
    let full = if format == Format::Json { Bytes::from_static(b"{}") } else { Bytes::new() };
    Ok(if answer.content_type == content_type { answer.body } else { full })
}
