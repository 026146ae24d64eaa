//! Every metric, registered once with its help text and all its labels, so that each series is there from
//! the start with 0.
//!
//! Handles are kept in one struct: counting is an atomic add, without a look-up by name. Each [`Metrics`] has a
//! recorder of its own, so that several instances can live in one process.

use std::fmt;
use std::marker::PhantomData;

use metrics::{Counter, Gauge, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::lateness::Lateness;
use super::movements::Movements;
use super::root_causes::RootCauses;

pub use super::labels::{
    Class, Decided, DropReason, ErasedThreshold, Handshake, Labels, Late, Part, Refusal, RelayOutcome,
    RouteState, Signal, Transport, Trigger, Verdict,
};

/// All metrics of one instance.
pub struct Metrics {
    /// `laggard_receiver_accepted_spans_total`
    pub accepted_spans: Counters<Transport>,
    /// `laggard_receiver_refused_spans_total`
    pub refused_spans: Counters2<Transport, Refusal>,
    /// `laggard_receiver_refused_requests_total`
    pub refused_requests: Counters2<Transport, Refusal>,
    /// `laggard_receiver_delayed_requests_total`
    pub delayed_requests: Counter,
    /// `laggard_receiver_failed_handshakes_total`
    pub failed_handshakes: Counters2<Transport, Handshake>,
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
    pub decision_lateness: Lateness,
    /// `laggard_verdicts_total`
    pub verdicts: Counters<Verdict>,
    /// `laggard_erased_thresholds_total`
    pub erased_thresholds: Counters<ErasedThreshold>,
    /// `laggard_root_cause_traces_total` and `laggard_root_cause_delay_seconds_total`
    pub root_causes: RootCauses,
    /// `laggard_routes`
    pub routes: Gauges<RouteState>,
    /// `laggard_other_route_traces_total`
    pub other_route_traces: Counter,
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
    /// `laggard_reload_failures_total`
    pub reload_failures: Counter,
    /// `laggard_passthrough_requests_total`
    pub passthrough: Counters2<Signal, RelayOutcome>,
    /// Whether these are moving now.
    pub movements: Movements,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    /// Registers every series with 0.
    fn default() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
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
            delayed_requests: register.counter(
                "laggard_receiver_delayed_requests_total",
                "Requests that had to wait for room before they were read, taken in the end or refused",
            ),
            failed_handshakes: register.counters2(
                "laggard_receiver_failed_handshakes_total",
                "Connections that ended before TLS was agreed on",
            ),
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
            decision_lateness: Lateness::default(),
            verdicts: register.verdicts(
                "laggard_verdicts_total",
                "Verdicts on slow traces; the reason is empty when a service was identified",
            ),
            erased_thresholds: register.counters(
                "laggard_erased_thresholds_total",
                "Sampled spans whose incoming sampling threshold could not be believed and was erased",
            ),
            root_causes: RootCauses::default(),
            routes: register.gauges("laggard_routes", "Routes by whether their threshold is known"),
            other_route_traces: register.counter(
                "laggard_other_route_traces_total",
                "Traces of routes that there was no place for, judged together as _other",
            ),
            references: register.gauge("laggard_references", "Reference ledgers held"),
            budget_bytes: register
                .gauges("laggard_budget_bytes", "What each part may use of the memory limit"),
            used_bytes: register.gauges("laggard_used_bytes", "What each part uses of the memory limit"),
            memory_limit: register.gauge("laggard_memory_limit_bytes", "The memory limit of the process"),
            last_success: register.gauge(
                "laggard_exporter_last_success_timestamp_seconds",
                "When the destination last acknowledged a batch, Unix time",
            ),
            reload_failures: register.counter(
                "laggard_reload_failures_total",
                "Certificate, key or token files that were to be read again and could not be used",
            ),
            passthrough: register.counters2(
                "laggard_passthrough_requests_total",
                "Requests of other signals that were relayed or refused",
            ),
            movements: Movements::default(),
            handle,
            recorder,
        };
        let register = Register(&metrics.recorder);
        for code in EXPORT_CODES {
            register.failed_requests(code).increment(0);
        }
        register
            .labelled(
                "laggard_build_info",
                "The version that runs",
                &[("version", env!("CARGO_PKG_VERSION"))],
            )
            .set(1.0);
        metrics
    }
}

impl Metrics {
    /// The Prometheus text exposition.
    pub fn render(&self) -> String {
        self.handle.render() + &self.decision_lateness.render() + &self.root_causes.render()
    }

    /// Counts one failed export request under `code`: a gRPC code's name, or `http_` and a status or `other`.
    pub fn export_failed(&self, code: &str) {
        Register(&self.recorder).failed_requests(code).increment(1);
    }
}

/// The codes that a failed request can end with: those of gRPC, and what a destination that speaks HTTP answers.
const EXPORT_CODES: [&str; 27] = [
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
    "http_400",
    "http_401",
    "http_403",
    "http_404",
    "http_413",
    "http_429",
    "http_500",
    "http_502",
    "http_503",
    "http_504",
    "http_other",
];

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

    fn failed_requests(&self, code: &str) -> Counter {
        let name = "laggard_exporter_failed_requests_total";
        self.labelled_counter(name, "Export requests that failed", &[("code", code)])
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

    fn counters<L: Labels>(&self, name: &'static str, help: &'static str) -> Counters<L> {
        let counters =
            L::ALL.iter().map(|l| self.labelled_counter(name, help, &[(L::NAME, l.as_str())])).collect();
        Counters { counters, label: PhantomData }
    }

    fn counters2<A: Labels, B: Labels>(&self, name: &'static str, help: &'static str) -> Counters2<A, B> {
        let row = |a: &A| Counters {
            counters: B::ALL
                .iter()
                .map(|b| self.labelled_counter(name, help, &[(A::NAME, a.as_str()), (B::NAME, b.as_str())]))
                .collect(),
            label: PhantomData,
        };
        Counters2 { rows: A::ALL.iter().map(row).collect(), label: PhantomData }
    }

    fn gauges<L: Labels>(&self, name: &'static str, help: &'static str) -> Gauges<L> {
        let gauges = L::ALL.iter().map(|l| self.labelled(name, help, &[(L::NAME, l.as_str())])).collect();
        Gauges { gauges, label: PhantomData }
    }

    fn verdicts(&self, name: &'static str, help: &'static str) -> Counters<Verdict> {
        let counter = |verdict: &Verdict| {
            let outcome = if verdict.is_none() { "identified" } else { "inconclusive" };
            self.labelled_counter(name, help, &[("verdict", outcome), ("reason", verdict.as_str())])
        };
        Counters { counters: Verdict::ALL.iter().map(counter).collect(), label: PhantomData }
    }
}

/// One counter for each value of a label.
#[derive(Debug)]
pub struct Counters<L> {
    counters: Vec<Counter>,
    label: PhantomData<L>,
}

impl<L: Labels> Counters<L> {
    /// Adds what is in `tally`.
    pub fn add_all(&self, tally: &Tally<L>) {
        for (counter, count) in self.counters.iter().zip(tally.counts) {
            if count > 0 {
                counter.increment(count);
            }
        }
    }

    /// Adds `count` to the series of `label`.
    pub fn add(&self, label: L, count: u64) {
        if let Some(counter) = self.counters.get(label.index()) {
            counter.increment(count);
        }
    }
}

/// What is to be added to counters together: threads share these, and adding to them one by one would make the threads
/// wait for each other's caches.
#[derive(Debug)]
pub struct Tally<L> {
    counts: [u64; MOST_TALLIED],
    label: PhantomData<L>,
}

/// No label that is tallied has more values.
const MOST_TALLIED: usize = 8;

impl<L: Labels> Default for Tally<L> {
    fn default() -> Self {
        debug_assert!(L::ALL.len() <= MOST_TALLIED, "each value has its place");
        Self { counts: [0; MOST_TALLIED], label: PhantomData }
    }
}

impl<L: Labels> Tally<L> {
    /// Adds `count` for `label`.
    pub fn add(&mut self, label: L, count: u64) {
        if let Some(counted) = self.counts.get_mut(label.index()) {
            *counted += count;
        }
    }
}

/// One counter for each pair of label values.
#[derive(Debug)]
pub struct Counters2<A, B> {
    rows: Vec<Counters<B>>,
    label: PhantomData<A>,
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
    label: PhantomData<L>,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of the process are read elsewhere.
    const ALL: [&str; 36] = [
        "laggard_receiver_accepted_spans_total",
        "laggard_receiver_refused_spans_total",
        "laggard_receiver_refused_requests_total",
        "laggard_receiver_delayed_requests_total",
        "laggard_receiver_failed_handshakes_total",
        "laggard_exporter_sent_spans_total",
        "laggard_reference_spans_sent_total",
        "laggard_dropped_spans_total",
        "laggard_held_spans",
        "laggard_held_traces",
        "laggard_held_bytes",
        "laggard_queued_spans",
        "laggard_queued_bytes",
        "laggard_late_spans_total",
        "laggard_traces_total",
        "laggard_decisions_total",
        "laggard_decision_lateness_seconds",
        "laggard_late_roots_total",
        "laggard_verdicts_total",
        "laggard_root_cause_traces_total",
        "laggard_root_cause_delay_seconds_total",
        "laggard_erased_thresholds_total",
        "laggard_routes",
        "laggard_other_route_traces_total",
        "laggard_references",
        "laggard_budget_bytes",
        "laggard_used_bytes",
        "laggard_exporter_failed_requests_total",
        "laggard_exporter_last_success_timestamp_seconds",
        "laggard_reload_failures_total",
        "laggard_passthrough_requests_total",
        "laggard_build_info",
        "laggard_memory_limit_bytes",
        "laggard_decision_lateness_seconds_bucket",
        "laggard_decision_lateness_seconds_sum",
        "laggard_decision_lateness_seconds_count",
    ];

    // R19.
    #[test]
    fn every_metric_is_in_a_fresh_scrape_with_its_help_its_type_and_zeros() {
        let page = Metrics::default().render();
        for name in ALL {
            let is_part = ["_bucket", "_sum", "_count"].iter().any(|part| name.ends_with(part));
            for kind in ["HELP", "TYPE"] {
                assert!(is_part || page.contains(&format!("# {kind} {name} ")), "{kind} {name}\n{page}");
            }
            let has_series = page.lines().any(|line| {
                [format!("{name}{{"), format!("{name} ")].iter().any(|start| line.starts_with(start))
            });
            let is_whole = name.ends_with("lateness_seconds");
            let comes_later = name.starts_with("laggard_root_cause_");
            assert_eq!(has_series, !comes_later && !is_whole, "{name}\n{page}");
        }
        let named = page.lines().filter(|line| line.starts_with("# TYPE ")).count();
        assert_eq!(named, ALL.len() - 3, "a metric that is not in the list:\n{page}");
        let series = page.lines().filter(|line| line.starts_with("laggard_") && !line.contains("build_info"));
        assert!(series.clone().all(|line| line.ends_with(" 0")), "{page}");
        for code in EXPORT_CODES {
            let line = format!("laggard_exporter_failed_requests_total{{code=\"{code}\"}} 0");
            assert!(page.contains(&line), "{line}");
        }
    }
}
