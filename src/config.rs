//! What an operator may set: one typed tree with its defaults.
//!
//! The structs below are the only list of keys there is: reading, "did you mean" and the tests of
//! `config.example.yaml` all take it from them. [`load`] reads a file into a tree that knows where everything
//! stands, makes a [`Config`] of it, and goes on after each mistake, so that all are reported at once.

mod check;
mod defaults;
pub mod destination;
mod environment;
mod load;
pub mod memory;
mod problem;
mod read;
mod schema;
mod tree;
pub mod units;
mod variables;

pub use load::{load, load_for_replay};
pub use problem::{Problem, Problems};
pub use schema::schema;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use units::{Budget, MemoryLimit};

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Of the whole process.
    pub memory_limit: MemoryLimit,
    /// Where spans come in.
    pub receive: Receive,
    /// How long traces are held.
    pub assemble: Assemble,
    /// What counts as slow.
    pub slow: Slow,
    /// What is kept besides slow traces.
    pub sample: Sample,
    /// The fast traces that slow ones are compared with.
    pub baseline: Baseline,
    /// The comparison.
    pub compare: Compare,
    /// What is written into slow traces.
    pub enrich: Enrich,
    /// Where traces go.
    pub export: Export,
    /// Which other signals are relayed.
    pub passthrough: Passthrough,
    /// How the process ends.
    pub shutdown: Shutdown,
    /// What it says of itself.
    pub telemetry: Telemetry,
}

/// `receive`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Receive {
    /// OTLP over gRPC.
    pub grpc: GrpcReceiver,
    /// OTLP over HTTP.
    pub http: HttpReceiver,
    /// Bytes of one request, after decompression.
    #[serde(with = "units::size")]
    pub max_request_size: u64,
    /// Bytes of all requests being read, a share of `memory_limit` or bytes.
    pub max_in_flight: Budget,
    /// Certificates of both receivers.
    pub tls: ReceiverTls,
    /// Who may send.
    pub auth: Auth,
}

/// `receive.grpc`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcReceiver {
    /// Where to listen.
    #[serde(with = "units::address")]
    pub endpoint: SocketAddr,
}

/// `receive.http`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpReceiver {
    /// Where to listen.
    #[serde(with = "units::address")]
    pub endpoint: SocketAddr,
    /// For browsers.
    pub cors: Cors,
}

/// `receive.http.cors`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cors {
    /// Origins whose pages may post, such as `https://app.example.com`; in each one `*` stands for any text.
    pub allowed_origins: Vec<String>,
}

/// `receive.tls`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReceiverTls {
    /// PEM certificate chain; empty means plain text.
    pub cert_file: PathBuf,
    /// PEM private key.
    pub key_file: PathBuf,
    /// PEM certificates that clients must chain to; empty means any client.
    pub client_ca_file: PathBuf,
    /// How often these files, those of `export.tls` and that of `receive.auth` are read again.
    #[serde(with = "units::duration")]
    pub reload_interval: Duration,
}

/// `receive.auth`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// A file with one accepted token a line; empty means no authentication.
    pub bearer_token_file: PathBuf,
}

/// `assemble`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Assemble {
    /// From a trace's first span to its decision.
    #[serde(with = "units::duration")]
    pub decision_wait: Duration,
    /// From a trace's root span to its decision, where that is earlier.
    #[serde(with = "units::duration")]
    pub decision_wait_after_root_received: Duration,
    /// A trace that has grown to so many bytes is decided at once.
    #[serde(with = "units::size")]
    pub maximum_trace_size: u64,
    /// What happens when the budget for held traces is used up.
    pub on_overflow: OnOverflow,
    /// How many decisions are remembered for late spans.
    pub decision_cache: DecisionCache,
}

/// `assemble.on_overflow`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnOverflow {
    /// Held traces are decided early.
    #[default]
    Decide,
    /// Arrivals are refused, with a hint to retry.
    Refuse,
}

/// `assemble.decision_cache`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecisionCache {
    /// Traces that were kept.
    pub sampled: usize,
    /// Traces that were dropped.
    pub dropped: usize,
}

/// `slow`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Slow {
    /// A fixed duration for all routes, or `learned` for each.
    pub threshold: Threshold,
    /// How a threshold is learned.
    pub learned: Learned,
    /// Exceptions, the first match wins.
    pub routes: Vec<RouteOverride>,
}

/// `slow.threshold`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Threshold {
    /// From each route's own traffic.
    #[default]
    Learned,
    /// Slow is longer than this.
    Fixed(Duration),
}

/// `slow.learned`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Learned {
    /// Which percentile of a time bucket counts, 50 to 99.9.
    pub percentile: f64,
    /// The threshold is this many times the median of the buckets' percentiles.
    pub factor: f64,
    /// The threshold is never below.
    #[serde(with = "units::duration")]
    pub minimum: Duration,
    /// A route is learned once it has so many traces.
    pub min_traces: u32,
    /// A slowdown that lasts longer becomes the new normal.
    #[serde(with = "units::duration")]
    pub accept_after: Duration,
}

/// One entry of `slow.routes`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteOverride {
    /// Glob over the entry service's name; empty matches all.
    pub service: String,
    /// Glob over the route, such as `POST /cart/*`; empty matches all.
    pub route: String,
    /// A fixed threshold.
    #[serde(with = "units::optional_duration")]
    pub threshold: Option<Duration>,
    /// Never slow.
    pub ignore: bool,
}

/// `sample`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sample {
    /// Share of error traces to keep, 0..1.
    #[serde(with = "units::share")]
    pub errors: f64,
    /// Share of healthy traces to keep, 0..1.
    #[serde(with = "units::share")]
    pub healthy: f64,
    /// Whether a reference trace that a verdict points to is forwarded too.
    pub references: bool,
    /// Decide, count and enrich, but drop nothing.
    pub dry_run: bool,
}

/// `baseline`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Baseline {
    /// Ledgers in the ring of one route and shape.
    pub references_per_shape: usize,
    /// Bytes of all baselines, a share of `memory_limit` or bytes.
    pub max_size: Budget,
    /// A baseline without new references is forgotten after this.
    #[serde(with = "units::duration")]
    pub time_to_live: Duration,
    /// Where to keep what was learned over a restart; empty means nowhere.
    pub snapshot_file: PathBuf,
}

/// `compare`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compare {
    /// A service is named only with at least this share of the added time, 0..1.
    #[serde(with = "units::share")]
    pub minimum_share: f64,
    /// A trace with more spans is not compared.
    pub max_spans: usize,
}

/// `enrich`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Enrich {
    /// Which `root_cause.*` attributes are written.
    pub attributes: Vec<EnrichAttribute>,
}

/// One of `enrich.attributes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is the attribute of its name, described in the README")]
pub enum EnrichAttribute {
    Service,
    Verdict,
    Reason,
    Category,
    Confidence,
    DeltaMs,
    Share,
    Operation,
    Instance,
    Dependency,
    Phase,
    SpanId,
    ThresholdMs,
    Baseline,
    Explanation,
}

/// `export`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Export {
    /// `http://HOST:PORT` or `https://HOST:PORT`; over HTTP a base URL.
    pub endpoint: String,
    /// Over HTTP, what stands behind the base URL for traces: `/v1/traces`, unless `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`
    /// has another path. No key of the file.
    #[serde(skip)]
    pub traces_path: String,
    /// Variables of the environment on exporters that are set and mean nothing here. No key of the file.
    #[serde(skip)]
    pub unused_variables: Vec<String>,
    /// How the destination is spoken to.
    pub protocol: Protocol,
    /// Sent with every request; values are never logged.
    pub headers: BTreeMap<String, String>,
    /// Of request bodies.
    pub compression: Compression,
    /// Of one request.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// How an https destination is verified.
    pub tls: ExporterTls,
    /// What happens after a failure that may pass.
    pub retry: Retry,
    /// Decided traces that wait for the destination.
    pub queue: Queue,
    /// How traces are put together into requests.
    pub batch: BatchLimits,
}

/// `export.protocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    /// OTLP over gRPC.
    #[default]
    #[serde(rename = "grpc")]
    Grpc,
    /// OTLP over HTTP with protobuf bodies.
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

/// `export.compression`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// None on loopback, else gzip.
    #[default]
    Auto,
    /// Plain.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// `export.tls`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExporterTls {
    /// PEM certificates to trust; empty means the system's.
    pub ca_file: PathBuf,
    /// Our own PEM certificate chain.
    pub cert_file: PathBuf,
    /// Our own PEM private key.
    pub key_file: PathBuf,
    /// The name to expect in the destination's certificate; empty means the endpoint's host.
    pub server_name: String,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
}

/// `export.retry`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// The first pause.
    #[serde(with = "units::duration")]
    pub initial_interval: Duration,
    /// The longest pause.
    #[serde(with = "units::duration")]
    pub max_interval: Duration,
    /// After this a batch is given up.
    #[serde(with = "units::duration")]
    pub max_elapsed_time: Duration,
}

/// `export.queue`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// A share of `memory_limit` or bytes.
    pub size: Budget,
}

/// `export.batch`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchLimits {
    /// Spans in one request.
    pub max_spans: usize,
    /// Bytes of one request before compression.
    #[serde(with = "units::size")]
    pub max_size: u64,
    /// The longest that a trace waits for others.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
}

/// `passthrough`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Passthrough {
    /// Relay metrics.
    pub metrics: bool,
    /// Relay logs.
    pub logs: bool,
    /// Relay profiles.
    pub profiles: bool,
}

/// `shutdown`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// From SIGTERM until arrivals are refused: load balancers need it to look elsewhere.
    #[serde(with = "units::duration")]
    pub delay: Duration,
    /// After that, the longest time for what is held and queued to leave.
    #[serde(with = "units::duration")]
    pub drain_timeout: Duration,
}

/// `telemetry`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// The port for probes, metrics and people.
    pub admin: Admin,
    /// Diagnostics on stderr.
    pub log: Log,
}

/// `telemetry.admin`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Where to listen.
    #[serde(with = "units::address")]
    pub endpoint: SocketAddr,
}

/// `telemetry.log`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// What is worth a line.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// `telemetry.log.level`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// `telemetry.log.format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One object a line.
    #[default]
    Json,
    /// For people.
    Text,
}
