//! Sends decided traces to the destination: in batches, several at once, again after a failure that may pass.

mod batch;
mod channel;
mod chunk;
mod compress;
mod connect;
mod guard;
mod http;
mod journal;
mod losses;
mod message;
pub mod ourselves;
mod partial;
mod queue;
mod renewed;
mod retry;
mod send;
mod tls;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

pub use channel::{Channel, ChannelError, channel, compression};
pub use chunk::Chunk;
pub use http::{Answer, HttpClient, Unanswered};
pub use losses::Losses;
pub use queue::{Claim, Full, Queue};

use crate::config::{BatchLimits, Export, Protocol};
use crate::otlp::Nanos;
use crate::secrets::Reload;
use crate::telemetry::metrics::Metrics;
use batch::Batch;
use queue::Fill;
use send::Sender;
use tls::ClientTls;

/// How often losses are looked for that no line was due for when they happened.
const CATCH_UP: Duration = Duration::from_secs(10);

/// Tells the Unix time, for metrics that state it.
pub type UnixClock = Arc<dyn Fn() -> Nanos + Send + Sync>;

/// So many requests are open at once, pauses before a retry included: enough that a destination which takes long
/// to answer does not hold up the others, and few enough that it is not flooded when it comes back.
const REQUESTS_AT_ONCE: usize = 8;

/// However long the batch timeout is, the moment at which it ends can be computed.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// How the destination is spoken to.
#[derive(Clone, Debug)]
pub enum Destination {
    /// Over gRPC.
    Grpc(Channel),
    /// Over HTTP.
    Http(HttpClient),
}

impl Destination {
    /// The destination of `config`; connects when it is first used, so an absent one is no error here.
    ///
    /// # Errors
    /// [`ChannelError`] for a configuration that can never work.
    pub fn new(config: &Export, now: UnixClock) -> Result<Self, ChannelError> {
        Ok(match config.protocol {
            Protocol::Grpc => Self::Grpc(channel(config)?),
            Protocol::HttpProtobuf => Self::Http(http::client(config, now)?),
        })
    }

    /// The certificates and keys of TLS, where it is spoken: to be looked at now and then.
    pub fn files(&self) -> Option<Arc<dyn Reload>> {
        let tls = match self {
            Self::Grpc(channel) => channel.tls(),
            Self::Http(client) => client.tls(),
        };
        tls.map(ClientTls::files)
    }
}

impl From<Channel> for Destination {
    fn from(channel: Channel) -> Self {
        Self::Grpc(channel)
    }
}

/// Sends what is pushed into `queue` to `destination` until `drain` completes and the queue is empty.
///
/// Pauses before a retry end when `drain` completes, except those that the destination has asked for. When the
/// returned future is dropped earlier, what is left stays counted as queued: call [`Queue::abandon`] then.
pub async fn run(
    queue: Arc<Queue>,
    destination: Destination,
    config: Export,
    metrics: Arc<Metrics>,
    now: UnixClock,
    drain: impl Future<Output = ()>,
) {
    let (tell_draining, draining) = watch::channel(false);
    let limits = config.batch.clone();
    let sender = Sender::new(Arc::clone(&queue), destination, config, metrics, now, draining);
    let mut drain = pin!(drain);
    // Driven here, not by tasks of their own: when this future is dropped, nothing is sent or counted any more.
    let mut sending = FuturesUnordered::new();
    let mut formed: VecDeque<Batch> = VecDeque::new();
    let mut filling = Filling::default();
    let mut catching_up = interval(CATCH_UP);
    catching_up.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        while sending.len() < REQUESTS_AT_ONCE
            && let Some(batch) = formed.pop_front()
        {
            sending.push(sender.deliver(batch));
        }
        let is_draining = *tell_draining.borrow();
        if is_draining && sending.is_empty() && queue.fill(&limits) == Fill::Nothing {
            return;
        }
        let has_room = sending.len() < REQUESTS_AT_ONCE;
        tokio::select! {
            () = &mut drain, if !is_draining => drop(tell_draining.send(true)),
            Some(()) = sending.next(), if !sending.is_empty() => {}
            _ = catching_up.tick() => queue.journal().catch_up(),
            chunks = filling.next(&queue, &limits, is_draining), if has_room => {
                formed.extend(Batch::form(chunks, &limits));
            }
        }
    }
}

/// Waits for a batch to fill up, but not longer than its timeout.
#[derive(Debug, Default)]
struct Filling {
    /// When the batch leaves however little there is; kept outside of `next`, which may be cancelled.
    until: Option<Instant>,
}

impl Filling {
    async fn next(&mut self, queue: &Queue, limits: &BatchLimits, is_draining: bool) -> Vec<Chunk> {
        loop {
            match queue.fill(limits) {
                Fill::Nothing => {
                    self.until = None;
                    queue.pushed().await;
                    continue;
                }
                Fill::LessThanABatch if !is_draining => {
                    let until =
                        *self.until.get_or_insert_with(|| Instant::now() + limits.timeout.min(LONGEST_WAIT));
                    if timeout_at(until, queue.pushed()).await.is_ok() {
                        continue;
                    }
                }
                Fill::LessThanABatch | Fill::ABatch => {}
            }
            self.until = None;
            return queue.take(limits);
        }
    }
}
