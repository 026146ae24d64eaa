//! Laggard: an OTLP sidecar that names the service which made a trace slow.
//!
//! # Bird's-eye view
//!
//! Services send spans; Laggard holds each trace until it is complete, decides whether it is slow, compares every
//! slow trace with fast ones of the same route, writes `root_cause.service` and its evidence into the entry span,
//! and forwards it. Healthy traces are sampled. Data flows one way, and the modules are named after its steps:
//!
//! ```text
//! receive -> assemble -> decide -> compare -> enrich -> export
//!            '------------ pipeline ------------'
//! ```
//!
//! # Code map, in the order in which data flows
//!
//! - [`otlp`]: what we rely on of the protocol: a protobuf reader and writer over bytes, the head of a span, the tables
//!   of a request, OTLP/JSON. Uses nothing else of the crate.
//! - [`receive`]: OTLP over gRPC and HTTP, admitted by bytes; the exact status for whatever cannot be taken. Relays other
//!   signals.
//! - [`assemble`]: held traces: sharded tables, append-only segments of span bytes, past decisions for late spans. Hands
//!   out traces that are due; a [`assemble::Trace`] is what all later stages work on.
//! - [`decide`]: the entry span, its route, the route's fixed or learned threshold, consistent sampling.
//! - [`compare`]: critical path, ledger, and the [`compare::Verdict`]; `baseline` keeps the references per route and
//!   shape that it compares with.
//! - [`enrich`]: writes a verdict into a trace.
//! - [`export`]: the queue, batches, retries, the connection to the destination.
//!
//! Around them:
//!
//! - [`pipeline`]: assemble to enrich as one synchronous object. `run` drives it with arrivals and ticks, `replay` with
//!   recorded requests on event time.
//! - `snapshot`: the format of the file in which what was learned survives a restart.
//! - [`app`]: binds, spawns, reads the clock, stops everything in the order of data flow.
//! - [`replay`], [`compare_files`]: the two commands that read files; `input` opens these under a size limit, `formats`
//!   reads what Jaeger, Zipkin and Tempo hand out.
//! - [`config`], [`cli`], [`admin`], [`telemetry`]: what an operator sets, types and sees.
//! - [`secrets`]: certificates, keys and tokens, read from files and again while the process runs.
//! - [`demo`], [`waterfall`], [`template`]: the demonstration, a trace drawn as text, names made low-cardinality.
//! - [`simulate`]: systems with known faults, on which verdicts are measured, and which the demonstration's traffic comes
//!   from.
//! - [`health`]: asks a running sidecar whether it is ready.
//!
//! # Architecture invariants: what is deliberately absent
//!
//! 1. A span is bytes. No stage on the hot path builds an object per attribute; `prost` messages exist only in tests and
//!    where OTLP/JSON comes in. A span's body leaves as it came, with ours appended.
//! 2. `assemble`, `decide`, `compare` and `enrich` do no I/O, read no clock (time is an argument) and never `await`; the
//!    one clock there is that of the cache which forgets baselines. The same spans get the same answer in any order.
//! 3. A trace that is dropped costs a look at its slot and its root span, not at its spans.
//! 4. Every queue, cache, table, decoder and recursion is bounded; what does not fit is counted by its reason.
//! 5. A span is acknowledged only when it is held or deliberately refused, and from then on
//!    `accepted = sent + dropped + held + queued`.
//! 6. No lock is held across an `await` or while another stage is called.
//! 7. Malformed input is an error value: never a panic, never silently an absent field.
//! 8. Nothing is spawned, bound or timed outside `app`, and every task is joined when the process ends. (A receiver owns
//!    the tasks of its connections and ends with them.)
//!
//! # Cross-cutting
//!
//! *Tests* stand at the smallest layer that proves a property: next to the code, on virtual time; `tests/` has what needs
//! sockets, an oracle or the whole process. *Errors* are types where a caller branches on them and sentences where a
//! person reads them. *Counting* is an atomic add on a handle in [`telemetry::metrics`]; label sets are closed.

pub mod admin;
pub mod app;
pub mod assemble;
mod baseline;
pub mod cli;
pub mod compare;
pub mod compare_files;
pub mod config;
pub mod decide;
pub mod demo;
pub mod enrich;
pub mod export;
mod formats;
pub mod health;
mod input;
pub mod otlp;
pub mod pipeline;
pub mod receive;
pub mod replay;
pub mod secrets;
pub mod simulate;
mod snapshot;
pub mod telemetry;
pub mod template;
pub mod waterfall;
