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
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::transport;
use tonic::{Code, Status};
use tower::Service;
use tower::util::BoxCloneSyncService;

use super::Intake;
use super::status::Failure;
use crate::config::{Compression, Passthrough};
use crate::otlp::codec::{Body as Message, RawCodec};
use crate::telemetry::metrics::{Metrics, RelayOutcome, Signal};

fn unreachable() -> Status {
    Status::unavailable("the destination cannot be reached")
}

/// The longest answer that is read.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

/// Relays requests to a destination that speaks gRPC.
#[derive(Debug)]
pub struct Relay {
    channel: BoxCloneSyncService<Request<Body>, Response<Body>, transport::Error>,
    compression: Option<CompressionEncoding>,
    timeout: Duration,
    signals: Passthrough,
    metrics: Arc<Metrics>,
}

impl Relay {
    /// Relays the signals that `signals` switches on over `channel`, each request within `timeout`.
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
        Self { channel: BoxCloneSyncService::new(channel), compression, timeout, signals, metrics }
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

    /// Sends `message`, an encoded export request, and returns the encoded answer.
    pub(crate) async fn send(&self, message: Bytes) -> Result<Bytes, Failure> {
        let relayed = timeout(self.relay.timeout, self.call(message));
        let answer = relayed.await.unwrap_or_else(|_| {
            Err(Status::new(Code::DeadlineExceeded, "the destination did not answer in time"))
        });
        match answer {
            Ok(answer) => {
                self.count(RelayOutcome::Ok);
                Ok(answer)
            }
            Err(status) => {
                self.count(RelayOutcome::Failed);
                Err(Failure::relayed(&status))
            }
        }
    }

    async fn call(&self, message: Bytes) -> Result<Bytes, Status> {
        let path = PathAndQuery::from_static(match self.signal {
            Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Signal::Profiles => {
                "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export"
            }
        });
        let mut client = tonic::client::Grpc::new(self.relay.channel.clone())
            .max_decoding_message_size(LONGEST_ANSWER)
            .accept_compressed(CompressionEncoding::Gzip);
        if let Some(compression) = self.relay.compression {
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

    fn count(&self, outcome: RelayOutcome) {
        self.relay.metrics.passthrough.add(self.signal, outcome, 1);
    }
}
