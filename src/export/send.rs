//! Delivers one batch: over gRPC or HTTP, until the destination has taken it or it is given up.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use tonic::codec::CompressionEncoding;

use super::batch::Batch;
use super::channel::{self, Channel};
use super::http::{self, Encoded, HttpClient, Unanswered};
use super::journal::Answer;
use super::message::Message;
use super::partial::PartialSuccess;
use super::queue::Queue;
use super::retry::{self, Backoff, Next};
use super::{Destination, UnixClock, guard};
use crate::config::{Compression, Export};
use crate::otlp::codec::Body;
use crate::otlp::services::opentelemetry::proto::collector::trace::v1::trace_service_client::TraceServiceClient;
use crate::telemetry::metrics::{DropReason, Metrics};

/// Sends batches; shared by all that are open at once.
pub(super) struct Sender {
    queue: Arc<Queue>,
    client: Client,
    config: Export,
    metrics: Arc<Metrics>,
    now: UnixClock,
    draining: watch::Receiver<bool>,
}

/// What a request leaves by.
enum Client {
    Grpc { channel: Channel, service: TraceServiceClient<Channel>, compression: Compression },
    Http(HttpClient),
}

/// A request that was not taken.
struct Failure {
    next: Next,
    /// As it is counted.
    code: &'static str,
    message: String,
}

impl Sender {
    pub(super) fn new(
        queue: Arc<Queue>,
        destination: Destination,
        config: Export,
        metrics: Arc<Metrics>,
        now: UnixClock,
        draining: watch::Receiver<bool>,
    ) -> Self {
        let client = match destination {
            Destination::Grpc(channel) => {
                // A server in Go answers in the encoding of the request.
                let service = TraceServiceClient::new(channel.clone())
                    .accept_compressed(CompressionEncoding::Gzip)
                    .accept_compressed(CompressionEncoding::Zstd)
                    .max_decoding_message_size(guard::LONGEST_ANSWER);
                Client::Grpc { service, channel, compression: channel::compression(&config) }
            }
            Destination::Http(client) => Client::Http(client),
        };
        Self { queue, client, config, metrics, now, draining }
    }

    /// Returns when every span of `batch` has been counted, as sent or as dropped.
    pub(super) async fn deliver(&self, batch: Batch) {
        let mut left = vec![batch];
        while let Some(batch) = left.pop() {
            let Err((failure, reason)) = self.send(&batch).await else { continue };
            if failure.next != Next::Halve {
                self.give_up(&batch, reason, failure);
                continue;
            }
            match batch.halve() {
                Ok([first, second]) => left.extend([second, first]),
                Err(single) => self.give_up(&single, reason, failure),
            }
        }
    }

    /// Tries until it is taken and counted, or one more attempt makes no sense.
    async fn send(&self, batch: &Batch) -> Result<(), (Failure, DropReason)> {
        let mut backoff = Backoff::new(&self.config.retry, Instant::now());
        loop {
            let failure = match self.attempt(&batch.body()).await {
                Ok(partial) => {
                    self.taken(batch, &partial);
                    return Ok(());
                }
                Err(failure) => failure,
            };
            self.metrics.export_failed(failure.code);
            let Next::Retry(demanded) = failure.next else { return Err((failure, DropReason::Rejected)) };
            let Some(pause) = backoff.pause(Instant::now(), demanded, retry::random()) else {
                return Err((failure, DropReason::RetryExpired));
            };
            self.queue.journal().retried(failure.code, &failure.message);
            if self.pause(pause, demanded).await == Woken::ByDrain {
                backoff.restart();
            }
        }
    }

    async fn attempt(&self, body: &Bytes) -> Result<PartialSuccess, Failure> {
        match &self.client {
            Client::Grpc { channel, service, compression } => {
                let message = Message::new(body, *compression);
                let _copy = self.queue.copy(message.copied());
                self.attempt_over_grpc(channel, service.clone(), message).await
            }
            Client::Http(client) => {
                let body = client.encode(body.clone());
                let _copy = self.queue.copy(body.copied());
                attempt_over_http(client, &self.config.traces_path, body).await
            }
        }
    }

    async fn attempt_over_grpc(
        &self,
        channel: &Channel,
        mut service: TraceServiceClient<Channel>,
        message: Message,
    ) -> Result<PartialSuccess, Failure> {
        match timeout(self.config.timeout, service.export(message.into_request::<Body>())).await {
            Ok(Ok(response)) => {
                // The status was OK, so the spans are taken even if what came with it cannot be read.
                Ok(PartialSuccess::read(&response.into_inner().0).unwrap_or_default())
            }
            Ok(Err(status)) => {
                let (next, code) = retry::next(&status);
                // Why there is no connection stands behind the status and not in it.
                let message = status.source().map_or_else(|| status.message().to_owned(), http::chain);
                Err(Failure { next, code: retry::name(code), message })
            }
            Err(_) => {
                channel.renew_if_older_than(self.config.timeout);
                Err(Failure::of(&Unanswered::TimedOut(self.config.timeout)))
            }
        }
    }

    fn taken(&self, batch: &Batch, partial: &PartialSuccess) {
        self.queue.acknowledged(batch, partial.rejected_spans, &partial.message);
        self.metrics.last_success.set((self.now)() as f64 / 1e9);
        self.queue.journal().succeeded();
    }

    fn give_up(&self, batch: &Batch, reason: DropReason, failure: Failure) {
        let answer = Answer { code: failure.code, message: failure.message };
        self.queue.dropped(batch, reason, answer);
    }

    /// Waits for `pause`, or until the process ends, unless the destination has demanded the pause.
    async fn pause(&self, pause: Duration, demanded: Duration) -> Woken {
        let mut draining = self.draining.clone();
        let is_draining = *draining.borrow();
        tokio::select! {
            () = sleep(pause) => Woken::ByTime,
            _ = draining.wait_for(|draining| *draining), if demanded.is_zero() && !is_draining => Woken::ByDrain,
        }
    }
}

impl Failure {
    fn of(unanswered: &Unanswered) -> Self {
        let (next, code) = match unanswered {
            Unanswered::Unreachable(_) => (Next::Retry(Duration::ZERO), Code::Unavailable),
            Unanswered::TimedOut(_) => (Next::Retry(Duration::ZERO), Code::DeadlineExceeded),
            Unanswered::TooLong => (Next::GiveUp, Code::ResourceExhausted),
        };
        Self { next, code: retry::name(code), message: unanswered.to_string() }
    }
}

async fn attempt_over_http(
    client: &HttpClient,
    path: &str,
    body: Encoded,
) -> Result<PartialSuccess, Failure> {
    let answer = client.post_encoded(path, "application/x-protobuf", body).await;
    let answer = answer.map_err(|unanswered| Failure::of(&unanswered))?;
    if answer.is_taken() {
        return Ok(PartialSuccess::of(&answer));
    }
    let (next, code) = http::judge(&answer);
    Err(Failure { next, code, message: answer.reason() })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    ByTime,
    ByDrain,
}
