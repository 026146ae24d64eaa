//! Every metric, registered once with its help text and all its labels, so that each series is there from
//! the start with 0.
//!
//! Handles are kept in one struct: counting is an atomic add, without a look-up by name. Each [`Metrics`] has a
//! recorder of its own, so that several instances can live in one process.

use std::fmt;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

/// All metrics of one instance.
pub struct Metrics {
    /// `laggard_receiver_accepted_spans_total`
    pub accepted_spans: Counters<Transport>,
    /// `laggard_receiver_refused_spans_total`
    pub refused_spans: Counters2<Transport, Refusal>,
    /// `laggard_receiver_refused_requests_total`
    pub refused_requests: Counters2<Transport, Refusal>,
    /// `laggard_exporter_sent_spans_total`
    pub sent_spans: Counters<Class>,
    /// `laggard_reference_spans_sent_total`
    pub reference_spans_sent: Counter,
    /// `laggard_dropped_spans_total`
    pub dropped_spans: Counters<DropReason>,
    /// `laggard_held_spans`
    pub held_spans: Gauge,
    /// `laggard_held_traces`
    pub held_traces: Gauge,
    /// `laggard_held_bytes`
    pub held_bytes: Gauge,
    /// `laggard_queued_spans`
    pub queued_spans: Gauge,
    /// `laggard_queued_bytes`
    pub queued_bytes: Gauge,
    /// `laggard_late_spans_total`
    pub late_spans: Counters<Late>,
    /// `laggard_late_roots_total`
    pub late_roots: Counter,
    /// `laggard_traces_total`
    pub traces: Counters<Decided>,
    /// `laggard_decisions_total`
    pub decisions: Counters<Trigger>,
    /// `laggard_decision_lateness_seconds`
    pub decision_lateness: Histogram,
    /// `laggard_verdicts_total`
    pub verdicts: Counters<Verdict>,
    /// `laggard_routes`
    pub routes: Gauges<RouteState>,
    /// `laggard_references`
    pub references: Gauge,
    /// `laggard_budget_bytes`
    pub budget_bytes: Gauges<Part>,
    /// `laggard_used_bytes`
    pub used_bytes: Gauges<Part>,
    /// `laggard_memory_limit_bytes`
    pub memory_limit: Gauge,
    /// `laggard_exporter_last_success_timestamp_seconds`
    pub last_success: Gauge,
    /// `laggard_passthrough_requests_total`
    pub passthrough: Counters2<Signal, RelayOutcome>,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Registers every series with 0.
    ///
    /// # Errors
    /// Never with the fixed histogram buckets below; the builder's signature has it.
    pub fn new() -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(
                Matcher::Full("laggard_decision_lateness_seconds".to_owned()),
                &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0],
            )?
            .build_recorder();
        let handle = recorder.handle();
        let register = Register(&recorder);
        let metrics = Self {
            accepted_spans: register
                .counters("laggard_receiver_accepted_spans_total", "Spans acknowledged to their sender"),
            refused_spans: register.counters2(
                "laggard_receiver_refused_spans_total",
                "Spans rejected by partial success, or of a refused request whose spans could be counted",
            ),
            refused_requests: register
                .counters2("laggard_receiver_refused_requests_total", "Requests refused whole"),
            sent_spans: register
                .counters("laggard_exporter_sent_spans_total", "Spans acknowledged by the destination"),
            reference_spans_sent: register.counter(
                "laggard_reference_spans_sent_total",
                "Spans of cited reference traces, sent once, outside the accounting identity",
            ),
            dropped_spans: register
                .counters("laggard_dropped_spans_total", "Accepted spans that were not forwarded"),
            held_spans: register.gauge("laggard_held_spans", "Spans of undecided traces"),
            held_traces: register.gauge("laggard_held_traces", "Undecided traces"),
            held_bytes: register.gauge("laggard_held_bytes", "Bytes of undecided traces, overhead included"),
            queued_spans: register.gauge(
                "laggard_queued_spans",
                "Spans decided and not yet acknowledged by the destination, in flight included",
            ),
            queued_bytes: register.gauge(
                "laggard_queued_bytes",
                "Bytes decided and not yet acknowledged by the destination, in flight included",
            ),
            late_spans: register
                .counters("laggard_late_spans_total", "Spans that arrived after their trace's decision"),
            late_roots: register.counter(
                "laggard_late_roots_total",
                "Roots that came after their trace's decision: decision_wait is too short",
            ),
            traces: register.counters("laggard_traces_total", "Decided traces"),
            decisions: register
                .counters("laggard_decisions_total", "What made a trace be decided when it was"),
            decision_lateness: register.histogram(
                "laggard_decision_lateness_seconds",
                "How far behind the moment it was due a decision was made",
            ),
            verdicts: register.verdicts(
                "laggard_verdicts_total",
                "Verdicts on slow traces; the reason is empty when a service was identified",
            ),
            routes: register.gauges("laggard_routes", "Routes by whether their threshold is known"),
            references: register.gauge("laggard_references", "Reference ledgers held"),
            budget_bytes: register
                .gauges("laggard_budget_bytes", "What each part may use of the memory limit"),
            used_bytes: register.gauges("laggard_used_bytes", "What each part uses of the memory limit"),
            memory_limit: register.gauge("laggard_memory_limit_bytes", "The memory limit of the process"),
            last_success: register.gauge(
                "laggard_exporter_last_success_timestamp_seconds",
                "When the destination last acknowledged a batch, Unix time",
            ),
            passthrough: register.counters2(
                "laggard_passthrough_requests_total",
                "Requests of other signals that were relayed or refused",
            ),
            handle,
            recorder,
        };
        let register = Register(&metrics.recorder);
        register
            .labelled(
                "laggard_build_info",
                "The version that runs",
                &[("version", env!("CARGO_PKG_VERSION"))],
            )
            .set(1.0);
        Ok(metrics)
    }

    /// The Prometheus text exposition.
    pub fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }

    /// Counts one failed export request under `code`, a gRPC code's name or `http_` and a status.
    pub fn export_failed(&self, code: &str) {
        Register(&self.recorder)
            .labelled_counter(
                "laggard_exporter_failed_requests_total",
                "Export requests that failed",
                &[("code", code)],
            )
            .increment(1);
    }
}

/// The verdict on a slow trace and, where it names nobody, why; the labels of `laggard_verdicts_total`.
pub type Verdict = Option<crate::compare::Reason>;

impl Labels for Verdict {
    const NAME: &'static str = "reason";
    const ALL: &'static [Self] = &{
        use crate::compare::Reason as R;
        [
            None,
            Some(R::NoBaseline),
            Some(R::BaselineMismatch),
            Some(R::NotSlower),
            Some(R::IncompleteTrace),
            Some(R::ClockSkew),
            Some(R::UnknownService),
            Some(R::AsyncOnly),
            Some(R::Tie),
            Some(R::Diffuse),
            Some(R::LimitExceeded),
            Some(R::Overload),
        ]
    };

    fn as_str(self) -> &'static str {
        self.map_or("", crate::compare::Reason::as_str)
    }

    fn index(self) -> usize {
        self.map_or(0, |reason| reason as usize + 1)
    }
}

/// Registers series with their help text.
struct Register<'a>(&'a PrometheusRecorder);

const METADATA: Metadata<'static> = Metadata::new("laggard", Level::INFO, None);

impl Register<'_> {
    fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
        let labels: Vec<Label> =
            labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
        Key::from_parts(name, labels)
    }

    fn labelled_counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Counter {
        self.0.describe_counter(KeyName::from_const_str(name), None, help.into());
        self.0.register_counter(&Self::key(name, labels), &METADATA)
    }

    fn labelled(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        self.0.describe_gauge(KeyName::from_const_str(name), None, help.into());
        self.0.register_gauge(&Self::key(name, labels), &METADATA)
    }

    fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        self.labelled_counter(name, help, &[])
    }

    fn gauge(&self, name: &'static str, help: &'static str) -> Gauge {
        self.labelled(name, help, &[])
    }

    fn histogram(&self, name: &'static str, help: &'static str) -> Histogram {
        self.0.describe_histogram(KeyName::from_const_str(name), None, help.into());
        self.0.register_histogram(&Self::key(name, &[]), &METADATA)
    }

    fn counters<L: Labels>(&self, name: &'static str, help: &'static str) -> Counters<L> {
        let counters =
            L::ALL.iter().map(|l| self.labelled_counter(name, help, &[(L::NAME, l.as_str())])).collect();
        Counters { counters, label: std::marker::PhantomData }
    }

    fn counters2<A: Labels, B: Labels>(&self, name: &'static str, help: &'static str) -> Counters2<A, B> {
        let row = |a: &A| Counters {
            counters: B::ALL
                .iter()
                .map(|b| self.labelled_counter(name, help, &[(A::NAME, a.as_str()), (B::NAME, b.as_str())]))
                .collect(),
            label: std::marker::PhantomData,
        };
        Counters2 { rows: A::ALL.iter().map(row).collect(), label: std::marker::PhantomData }
    }

    fn gauges<L: Labels>(&self, name: &'static str, help: &'static str) -> Gauges<L> {
        let gauges = L::ALL.iter().map(|l| self.labelled(name, help, &[(L::NAME, l.as_str())])).collect();
        Gauges { gauges, label: std::marker::PhantomData }
    }

    fn verdicts(&self, name: &'static str, help: &'static str) -> Counters<Verdict> {
        let counter = |verdict: &Verdict| {
            let outcome = if verdict.is_none() { "identified" } else { "inconclusive" };
            self.labelled_counter(name, help, &[("verdict", outcome), ("reason", verdict.as_str())])
        };
        Counters { counters: Verdict::ALL.iter().map(counter).collect(), label: std::marker::PhantomData }
    }
}

/// A closed set of label values.
pub trait Labels: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Every value, in the order of [`Labels::index`].
    const ALL: &'static [Self];
    /// The value as it stands in the exposition.
    fn as_str(self) -> &'static str;
    /// Its place in [`Labels::ALL`].
    fn index(self) -> usize;
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident = $label:literal { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl Labels for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant,)+];
            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $value,)+ }
            }
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

labels! {
    /// How a request came in.
    Transport = "transport" {
        /// Port 4317.
        Grpc = "grpc",
        /// Port 4318.
        Http = "http",
    }
}

labels! {
    /// Why spans or requests were refused at the door.
    Refusal = "reason" {
        /// Not OTLP, or a span with invalid ids.
        Malformed = "malformed",
        /// Above `receive.max_request_size`, or above what could ever fit.
        TooLarge = "too_large",
        /// No room now; the sender retries.
        Overload = "overload",
        /// No valid token.
        Unauthenticated = "unauthenticated",
        /// The process is ending; the sender retries elsewhere.
        Draining = "draining",
    }
}

labels! {
    /// Why a span was forwarded.
    Class = "class" {
        /// Its trace was slow.
        Slow = "slow",
        /// Its trace had an error.
        Error = "error",
        /// Its trace was sampled.
        Healthy = "healthy",
        /// Its route was not learned yet.
        Learning = "learning",
        /// It came after the decision to keep its trace.
        Late = "late",
    }
}

labels! {
    /// Why an accepted span was not forwarded.
    DropReason = "reason" {
        /// Its trace was healthy and not sampled.
        NotSampled = "not_sampled",
        /// It came after the decision to drop its trace.
        Late = "late",
        /// No memory.
        Memory = "memory",
        /// The export queue was full.
        QueueFull = "queue_full",
        /// The destination failed for too long.
        RetryExpired = "retry_expired",
        /// The destination refused it for good.
        Rejected = "rejected",
        /// It could not leave before the process had to end.
        Shutdown = "shutdown",
    }
}

labels! {
    /// What was decided for a trace.
    Decided = "decision" {
        /// Kept: slower than its threshold.
        Slow = "slow",
        /// Kept: an error.
        Error = "error",
        /// Kept: sampled.
        Healthy = "healthy",
        /// Kept: its route is not learned yet.
        Learning = "learning",
        /// Not kept.
        Dropped = "dropped",
    }
}

labels! {
    /// What made a trace be decided when it was.
    Trigger = "trigger" {
        /// `decision_wait_after_root_received` was over.
        Root = "root",
        /// `decision_wait` was over.
        Wait = "wait",
        /// `maximum_trace_size` was reached.
        Size = "size",
        /// The memory budget was used up.
        Memory = "memory",
        /// The process is ending.
        Shutdown = "shutdown",
    }
}

labels! {
    /// Where a late span went.
    Late = "decision" {
        /// With its kept trace.
        Sampled = "sampled",
        /// Where its dropped trace went.
        Dropped = "dropped",
    }
}

labels! {
    /// A part of the memory limit.
    Part = "part" {
        /// Requests being read.
        InFlight = "in_flight",
        /// Undecided traces.
        Held = "held",
        /// Decided traces that wait for the destination.
        Queue = "queue",
        /// References.
        Baseline = "baseline",
        /// Decision caches, routes, edges.
        Tables = "tables",
    }
}

labels! {
    /// How far a route is.
    RouteState = "state" {
        /// Its threshold is known.
        Learned = "learned",
        /// It is not.
        Learning = "learning",
    }
}

labels! {
    /// A signal that is relayed.
    Signal = "signal" {
        /// Metrics.
        Metrics = "metrics",
        /// Logs.
        Logs = "logs",
        /// Profiles.
        Profiles = "profiles",
    }
}

labels! {
    /// What became of a relayed request.
    RelayOutcome = "outcome" {
        /// The destination took it.
        Ok = "ok",
        /// The destination refused it, or could not be reached.
        Failed = "failed",
        /// Not relayed: switched off, or in a form that the destination does not speak.
        Refused = "refused",
    }
}

/// One counter for each value of a label.
#[derive(Debug)]
pub struct Counters<L> {
    counters: Vec<Counter>,
    label: std::marker::PhantomData<L>,
}

impl<L: Labels> Counters<L> {
    /// Adds `count` to the series of `label`.
    pub fn add(&self, label: L, count: u64) {
        if let Some(counter) = self.counters.get(label.index()) {
            counter.increment(count);
        }
    }
}

/// One counter for each pair of label values.
#[derive(Debug)]
pub struct Counters2<A, B> {
    rows: Vec<Counters<B>>,
    label: std::marker::PhantomData<A>,
}

impl<A: Labels, B: Labels> Counters2<A, B> {
    /// Adds `count` to the series of `first` and `second`.
    pub fn add(&self, first: A, second: B, count: u64) {
        if let Some(row) = self.rows.get(first.index()) {
            row.add(second, count);
        }
    }
}

/// One gauge for each value of a label.
#[derive(Debug)]
pub struct Gauges<L> {
    gauges: Vec<Gauge>,
    label: std::marker::PhantomData<L>,
}

impl<L: Labels> Gauges<L> {
    /// Sets the series of `label`.
    pub fn set(&self, label: L, value: u64) {
        if let Some(gauge) = self.gauges.get(label.index()) {
            gauge.set(value as f64);
        }
    }

    /// The series of `label`, for a value that is kept by adding and subtracting.
    pub fn of(&self, label: L) -> Gauge {
        self.gauges.get(label.index()).cloned().unwrap_or_else(Gauge::noop)
    }
}
