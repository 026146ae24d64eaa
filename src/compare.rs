//! Compares a slow trace with references of its route and names the service where the added time was spent.

pub(crate) mod analysis;
pub(crate) mod blame;
mod calls;
mod causes;
mod column;
pub(crate) mod comparer;
pub mod confidence;
mod culprit;
mod dependency;
mod edges;
pub(crate) mod explain;
mod failures;
mod hidden;
pub(crate) mod judge;
pub(crate) mod ledger;
mod memo;
mod pairing;
mod phase;
pub mod record;
mod rivals;
pub mod shape;
mod skew;
mod streams;
mod sweep;
pub(crate) mod traffic;
mod tree;
mod waits;

pub use comparer::Comparer;
pub(crate) use comparer::without_references;
pub use confidence::Grounds;
pub use shape::{Shape, shape};
pub(crate) use tree::hash_of;

use serde::{Deserialize, Serialize};

use crate::otlp::{Nanos, SpanId, TraceId};

/// What the comparison found. Everything that is written into a trace or printed about one comes from here.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// A service, or why there is none.
    pub outcome: Outcome,
    /// Nanoseconds that the entry span lasted.
    pub duration: Nanos,
    /// Nanoseconds that it exceeded; 0 where there was no threshold (`compare`).
    pub threshold: Nanos,
    /// The reference trace to open beside this one.
    pub baseline: Option<Reference>,
    /// At most five services with positive scores, the highest first.
    pub candidates: Vec<Candidate>,
    /// One sentence with the numbers, at most 250 bytes.
    pub explanation: String,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// This service.
    Identified(Culprit),
    /// Nobody can know.
    Inconclusive(Reason),
}

/// The service where the added time was spent.
#[derive(Clone, Debug, PartialEq)]
pub struct Culprit {
    /// Its `service.name`.
    pub service: String,
    /// How the time was spent.
    pub category: Category,
    /// 0..=0.95.
    pub confidence: f64,
    /// What the confidence rests on.
    pub grounds: Box<Grounds>,
    /// Milliseconds of the added latency that fall to the service, against the linked reference.
    pub delta_ms: f64,
    /// `delta_ms` of what the entry span lasted longer than the reference's, 0..=1.
    pub share: f64,
    /// The name of the culprit span, templated.
    pub operation: String,
    /// Pod, instance or host of the culprit span.
    pub instance: Option<String>,
    /// The uninstrumented peer, for [`Category::Dependency`] and [`Category::Timeout`].
    pub dependency: Option<String>,
    /// Between two span events of the culprit span.
    pub phase: Option<String>,
    /// The culprit span, or the waiting client span where the culprit sent none.
    pub span_id: SpanId,
}

/// A reference trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// Its id.
    pub trace_id: TraceId,
    /// Its entry span.
    pub span_id: SpanId,
    /// Nanoseconds that its entry span lasted.
    pub duration: Nanos,
    /// How many references there were beside it, itself included.
    pub count: usize,
}

/// A service and the added time that falls to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its `service.name`.
    pub service: String,
    /// Milliseconds more than in the linked reference.
    pub delta_ms: f64,
    /// `delta_ms` of what the entry span lasted longer than the reference's, 0..=1, as [`Culprit::share`].
    pub share: f64,
}

/// How a culprit spent the added time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// In its own code.
    OwnTime,
    /// Between its caller's client span and its own server span.
    NetworkQueue,
    /// It waited longer on many of its callees at once.
    Saturation,
    /// In an uninstrumented peer.
    Dependency,
    /// It called more often.
    ExtraCalls,
    /// Its failures were tried again.
    Retry,
    /// Its caller gave up.
    Timeout,
    /// It took a way that references do not take.
    NewPath,
    /// It did one after the other what it used to do at once.
    LostConcurrency,
}

impl Category {
    /// As it stands in `root_cause.category`.
    pub fn as_str(self) -> &'static str {
        match self {
            Category::OwnTime => "own_time",
            Category::NetworkQueue => "network_queue",
            Category::Saturation => "saturation",
            Category::Dependency => "dependency",
            Category::ExtraCalls => "extra_calls",
            Category::Retry => "retry",
            Category::Timeout => "timeout",
            Category::NewPath => "new_path",
            Category::LostConcurrency => "lost_concurrency",
        }
    }
}

/// Why no service is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No reference of this route is known yet.
    NoBaseline,
    /// References are known, but none of a similar shape.
    BaselineMismatch,
    /// It is not slower than its references.
    NotSlower,
    /// Spans are missing where it matters.
    IncompleteTrace,
    /// The clocks of its services differ too much.
    ClockSkew,
    /// The spans that grew do not say of which service they are.
    UnknownService,
    /// Only work that nobody waited for is slower, or a stream or long poll, which lasts as long as somebody else pleases.
    AsyncOnly,
    /// Two services explain it equally.
    Tie,
    /// Many services explain a little of it each.
    Diffuse,
    /// Too large to be compared.
    LimitExceeded,
    /// Decided early for lack of memory.
    Overload,
}

impl Reason {
    /// As it stands in `root_cause.reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::NoBaseline => "no_baseline",
            Reason::BaselineMismatch => "baseline_mismatch",
            Reason::NotSlower => "not_slower",
            Reason::IncompleteTrace => "incomplete_trace",
            Reason::ClockSkew => "clock_skew",
            Reason::UnknownService => "unknown_service",
            Reason::AsyncOnly => "async_only",
            Reason::Tie => "tie",
            Reason::Diffuse => "diffuse",
            Reason::LimitExceeded => "limit_exceeded",
            Reason::Overload => "overload",
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
