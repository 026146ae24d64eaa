//! Where spans come in: OTLP over gRPC and over HTTP, admitted by bytes, read once and handed on.
//!
//! A request's way: the connection ([`connection`]) - its headers - its size, which is taken from the budget of
//! bytes in flight before the bytes are read - decompression under the same budget ([`body`]) - one walk over
//! the whole request - the pipeline - the answer. A request is taken whole before it is acknowledged, or not
//! at all; spans with invalid ids are refused alone.

pub mod auth;
pub mod body;
pub mod budget;
pub mod connection;
pub mod cors;
pub mod grpc;
pub mod http;
pub mod passthrough;
mod status;
pub mod tls;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ::http::HeaderMap;
use tokio::time::Instant;

use self::auth::Tokens;
use self::budget::{Budget, Permit};
use self::connection::{Ahead, Patience};
use self::cors::Origins;
use self::passthrough::Relay;
use self::status::Failure;
use self::tls::ServerTls;
use crate::export::ourselves::Instance;
use crate::otlp::batch::Batch;
use crate::otlp::json;
use crate::telemetry::metrics::{Metrics, Part, Refusal, Transport};
use crate::telemetry::repeated::Repeated;

/// Takes the spans of one request into the pipeline, all of them or none.
///
/// It gets the tables of the request, the request's bytes that they point into, and the port it came in by. It is
/// not called for a request without spans.
pub type Accept = Arc<dyn Fn(&Batch, &[u8], Transport) -> Result<(), Refused> + Send + Sync>;

/// Why a request is refused whole; `status` has what each one is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is no OTLP. Sending it again is useless.
    Malformed,
    /// It could never be taken, because of this configuration key. Sending it again is useless.
    TooLarge(&'static str),
    /// There is no room now. The sender tries again.
    Overload,
    /// The process is ending. The sender tries again, elsewhere.
    Draining,
}

/// What both receivers share.
pub struct Intake {
    accept: Accept,
    relay: Option<Relay>,
    budget: Budget,
    max_request_size: usize,
    patience: Patience,
    tls: Option<ServerTls>,
    tokens: Option<Tokens>,
    origins: Option<Origins>,
    instance: Option<Instance>,
    /// Requests that came from here.
    returned: Mutex<Repeated>,
    ahead: Arc<Ahead>,
    draining: AtomicBool,
    metrics: Arc<Metrics>,
}

/// How a request is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `application/x-protobuf`, and everything over gRPC.
    Protobuf,
    /// `application/json`.
    Json,
}

impl Format {
    /// As `Content-Type` has it.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

/// What connections may send ahead together where nobody says.
const READ_AHEAD: u64 = 64 << 20;

/// The tables of a smaller request are small as well.
const LARGE_REQUEST: usize = 1 << 20;

/// Which spans of a request that was taken were not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Partial {
    /// How many.
    pub(crate) rejected: u64,
    /// What is wrong with the first of them.
    pub(crate) message: String,
}

impl Intake {
    /// Receivers that hand spans to `accept`.
    ///
    /// `max_request_size` bounds one request after decompression, `max_in_flight` all requests that are being
    /// read, both in bytes; a request that exceeds either could never be taken and is refused for good.
    pub fn new(accept: Accept, max_request_size: u64, max_in_flight: u64, metrics: Arc<Metrics>) -> Self {
        metrics.budget_bytes.set(Part::InFlight, max_in_flight);
        Self {
            accept,
            relay: None,
            budget: Budget::new(
                max_in_flight,
                metrics.used_bytes.of(Part::InFlight),
                metrics.delayed_requests.clone(),
            ),
            max_request_size: usize::try_from(max_request_size).unwrap_or(usize::MAX),
            patience: Patience::default(),
            tls: None,
            tokens: None,
            origins: None,
            instance: None,
            returned: Mutex::default(),
            ahead: Arc::new(Ahead::new(READ_AHEAD)),
            draining: AtomicBool::new(false),
            metrics,
        }
    }

    /// Relays other signals instead of refusing them.
    #[must_use]
    pub fn with_relay(self, relay: Relay) -> Self {
        Self { relay: Some(relay), ..self }
    }

    /// Waits for senders as `patience` has it.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Speaks TLS and nothing else on both ports, where `tls` is given.
    #[must_use]
    pub fn with_tls(self, tls: Option<ServerTls>) -> Self {
        Self { tls, ..self }
    }

    /// Takes requests with one of `tokens` only, where they are given.
    #[must_use]
    pub fn with_tokens(self, tokens: Option<Tokens>) -> Self {
        Self { tokens, ..self }
    }

    /// Lets browsers send that show a page of one of `origins`, where they are given.
    #[must_use]
    pub fn with_origins(self, origins: Option<Origins>) -> Self {
        Self { origins, ..self }
    }

    /// Takes nothing that `instance` has sent, which is this process.
    #[must_use]
    pub fn with_instance(self, instance: Instance) -> Self {
        Self { instance: Some(instance), ..self }
    }

    /// Lets all connections together send `bytes` ahead: bytes in buffers of theirs that no request has asked for yet.
    #[must_use]
    pub fn with_read_ahead(self, bytes: u64) -> Self {
        // What requests without room have sent already is ahead as well.
        Self { ahead: Arc::new(Ahead::new(bytes.saturating_sub(u64::from(budget::LOBBY)))), ..self }
    }

    /// From now on every request is refused with a hint to retry; those being read are still taken.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the sender of a request with these headers may send: asked before anything else, whatever it sends.
    pub(crate) fn authenticate(&self, headers: &HeaderMap, transport: Transport) -> Result<(), Failure> {
        if self.tokens.as_ref().is_some_and(|tokens| !tokens.has_that_of(headers)) {
            let failure = Failure::unauthenticated();
            self.count_refused(&failure, transport);
            return Err(failure);
        }
        if self.instance.as_ref().is_some_and(|instance| instance.has_sent(headers)) {
            let requests =
                self.returned.lock().unwrap_or_else(PoisonError::into_inner).note(1, Instant::now());
            if let Some(requests) = requests {
                tracing::error!(
                    requests,
                    "export.endpoint leads back to this process: what it sends there is lost"
                );
            }
            return Err(Failure::returned());
        }
        Ok(())
    }

    /// Admits a request whose size is not known yet.
    pub(crate) fn admit(&self) -> Result<Permit<'_>, Failure> {
        if self.draining.load(Ordering::Acquire) {
            return Err(Refused::Draining.into());
        }
        Ok(self.budget.permit())
    }

    /// Reads `request` and hands its spans on.
    ///
    /// Once it returns `Ok` they are taken; nothing between the two waits, so a sender that goes away in the
    /// middle leaves either the whole request or nothing.
    pub(crate) fn take(
        &self,
        request: &[u8],
        format: Format,
        transport: Transport,
        permit: &mut Permit<'_>,
    ) -> Result<Partial, Failure> {
        let mut taken = || match format {
            Format::Protobuf => {
                cover_tables(request, permit)?;
                self.take_protobuf(request, Partial::default(), transport)
            }
            Format::Json => {
                permit.cover(permit.held().saturating_add(json_work(request)))?;
                let decoded =
                    json::to_protobuf(request).map_err(|error| Failure::malformed(error.to_string()))?;
                cover_tables(&decoded.request, permit)?;
                let partial =
                    Partial { rejected: decoded.refused, message: decoded.fault.unwrap_or_default() };
                self.take_protobuf(&decoded.request, partial, transport)
            }
        };
        // Nothing in there is known to panic; if something does, it costs this request and not the receiver.
        catch_unwind(AssertUnwindSafe(&mut taken)).unwrap_or_else(|_| {
            tracing::error!("a request made the receiver panic; please report this as a bug");
            Err(Failure::internal())
        })
    }

    fn take_protobuf(
        &self,
        request: &[u8],
        mut partial: Partial,
        transport: Transport,
    ) -> Result<Partial, Failure> {
        thread_local! {
            static BATCH: RefCell<Batch> = RefCell::default();
        }
        // Taken out and put back, so that a panic in between cannot leave it borrowed.
        let mut batch = BATCH.take();
        let taken = self.take_batch(&mut batch, request, transport);
        let (rejected, fault) = (batch.refused, batch.fault);
        BATCH.set(batch);
        taken?;
        partial.rejected += rejected;
        if let Some(fault) = fault
            && partial.message.is_empty()
        {
            partial.message = fault.to_string();
        }
        if partial.rejected > 0 {
            self.metrics.refused_spans.add(transport, Refusal::Malformed, partial.rejected);
        }
        Ok(partial)
    }

    fn take_batch(&self, batch: &mut Batch, request: &[u8], transport: Transport) -> Result<(), Failure> {
        batch.read(request).map_err(|error| Failure::malformed(error.to_string()))?;
        if batch.spans.is_empty() {
            return Ok(());
        }
        let spans = batch.spans.len() as u64;
        // Until they count as accepted, those that were stored are on neither side.
        let _moving = self.metrics.movements.begin();
        match (self.accept)(batch, request, transport) {
            Ok(()) => self.metrics.accepted_spans.add(transport, spans),
            Err(refused) => {
                let failure = Failure::from(refused);
                if let Some(reason) = failure.refusal {
                    self.metrics.refused_spans.add(transport, reason, spans + batch.refused);
                }
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Counts a request that was refused whole: for spans, or of a sender that may not send anything.
    pub(crate) fn count_refused(&self, failure: &Failure, transport: Transport) {
        if let Some(reason) = failure.refusal {
            self.metrics.refused_requests.add(transport, reason, 1);
        }
    }
}

/// What reading a JSON request makes, in bytes: protobuf that is no larger than its text. Where that is no UTF-8 it is
/// mended first, and each byte of it can become the three of U+FFFD.
fn json_work(request: &[u8]) -> usize {
    if std::str::from_utf8(request).is_ok() { request.len() } else { request.len().saturating_mul(6) }
}

/// Takes room for the tables of a large request: of tiny spans they are larger than the request itself.
fn cover_tables(request: &[u8], permit: &mut Permit<'_>) -> Result<(), Failure> {
    if request.len() < LARGE_REQUEST {
        return Ok(());
    }
    let tables = Batch::tables_of(request).map_err(|error| Failure::malformed(error.to_string()))?;
    Ok(permit.cover(permit.held().saturating_add(tables))?)
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("budget", &self.budget).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::otlp::wire::put_bytes;

    fn request() -> Vec<u8> {
        let mut span = Vec::new();
        put_bytes(&mut span, 1, &[1; 16]);
        put_bytes(&mut span, 2, &[1; 8]);
        let (mut scope, mut resource, mut request) = (Vec::new(), Vec::new(), Vec::new());
        put_bytes(&mut scope, 2, &span);
        put_bytes(&mut resource, 2, &scope);
        put_bytes(&mut request, 1, &resource);
        request
    }

    // OTLP-H9.
    #[test]
    fn a_panic_costs_its_request_and_nothing_else() {
        let is_broken = Arc::new(AtomicBool::new(true));
        let accept: Accept = Arc::new({
            let is_broken = is_broken.clone();
            move |_, _, _| {
                assert!(!is_broken.load(Ordering::Relaxed), "a bug");
                Ok(())
            }
        });
        let metrics = Arc::new(Metrics::default());
        let intake = Intake::new(accept, 1_000, 1_000, metrics.clone());
        let take = || {
            let mut permit = intake.admit()?;
            intake.take(&request(), Format::Protobuf, Transport::Grpc, &mut permit)
        };
        let failure = take().expect_err("it panicked");
        assert_eq!((failure.status.code(), failure.http.as_u16()), (tonic::Code::Internal, 500));
        is_broken.store(false, Ordering::Relaxed);
        assert_eq!(take().expect("taken"), Partial::default());
        assert!(metrics.render().contains("laggard_receiver_accepted_spans_total{transport=\"grpc\"} 1\n"));
    }
}
