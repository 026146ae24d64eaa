//! The rules that a value's type does not tell: ranges, and keys that must agree with each other.

mod security;

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::destination::Destination;
use super::units::{Budget, MemoryLimit};
use super::{Config, Protocol, Threshold, memory};

/// A rule that a configuration breaks.
#[derive(Debug, PartialEq)]
pub(super) struct Finding {
    /// The dotted key.
    pub(super) key: String,
    /// Keys that the rule also reads: nothing is said of it while one of them is wrong by itself.
    pub(super) involved: Vec<&'static str>,
    /// What must be.
    pub(super) rule: String,
    /// The value, where the file does not have it.
    pub(super) got: String,
}

/// Every rule that `config` breaks. `memory_limit` is the process's in bytes; `given` tells whether a key was
/// set by the operator.
pub(super) fn check(config: &Config, memory_limit: u64, given: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Findings::default();
    findings.durations(config);
    findings.numbers(config);
    findings.memory(config, memory_limit, given);
    findings.routes(config);
    findings.comparison(config);
    findings.own_endpoints(config);
    findings.destination(config);
    findings.headers(config);
    findings.origins(config);
    findings.receiver_tls(config);
    findings.exporter_tls(config);
    findings.0
}

/// Requests and traces are addressed with 32 bits.
const LARGEST_MESSAGE: u64 = 1 << 31;
/// More decisions than fit any memory limit that is allowed and of any use.
const MOST_DECISIONS: usize = 1_000_000_000;
/// Below this not even the fixed tables fit.
const LEAST_MEMORY: u64 = 16 << 20;
/// More than any machine has: a unit was mistaken.
const MOST_MEMORY: u64 = 1 << 46;
/// Beyond any sense, and far from overflowing a clock.
const LONGEST: Duration = Duration::from_hours(365 * 24);

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn rule(&mut self, holds: bool, key: impl Into<String>, rule: impl Into<String>, got: impl Display) {
        self.rule_with(holds, key, &[], rule, got);
    }

    fn rule_with(
        &mut self,
        holds: bool,
        key: impl Into<String>,
        involved: &[&'static str],
        rule: impl Into<String>,
        got: impl Display,
    ) {
        if !holds {
            let (key, rule) = (key.into(), rule.into());
            self.0.push(Finding { key, involved: involved.to_vec(), rule, got: got.to_string() });
        }
    }

    fn durations(&mut self, config: &Config) {
        let Config { receive, assemble, slow, baseline, export, shutdown, .. } = config;
        for (key, duration, least) in [
            ("receive.tls.reload_interval", receive.tls.reload_interval, Least::AboveZero),
            ("assemble.decision_wait", assemble.decision_wait, Least::AboveZero),
            (
                "assemble.decision_wait_after_root_received",
                assemble.decision_wait_after_root_received,
                Least::Zero,
            ),
            ("slow.learned.minimum", slow.learned.minimum, Least::Zero),
            ("slow.learned.accept_after", slow.learned.accept_after, Least::AboveZero),
            ("baseline.time_to_live", baseline.time_to_live, Least::AboveZero),
            ("export.timeout", export.timeout, Least::AboveZero),
            ("export.retry.initial_interval", export.retry.initial_interval, Least::AboveZero),
            ("export.retry.max_interval", export.retry.max_interval, Least::AboveZero),
            ("export.retry.max_elapsed_time", export.retry.max_elapsed_time, Least::AboveZero),
            ("export.batch.timeout", export.batch.timeout, Least::Zero),
            ("shutdown.delay", shutdown.delay, Least::Zero),
            ("shutdown.drain_timeout", shutdown.drain_timeout, Least::Zero),
        ] {
            self.duration(key, duration, least);
        }
        if let Threshold::Fixed(threshold) = slow.threshold {
            self.duration("slow.threshold", threshold, Least::AboveZero);
        }
        self.rule_with(
            assemble.decision_wait_after_root_received <= assemble.decision_wait
                || assemble.decision_wait.is_zero(),
            "assemble.decision_wait_after_root_received",
            &["assemble.decision_wait"],
            format!("must be at most assemble.decision_wait ({})", written(assemble.decision_wait)),
            written(assemble.decision_wait_after_root_received),
        );
        self.rule_with(
            export.retry.max_interval >= export.retry.initial_interval,
            "export.retry.max_interval",
            &["export.retry.initial_interval"],
            format!(
                "must be at least export.retry.initial_interval ({})",
                written(export.retry.initial_interval)
            ),
            written(export.retry.max_interval),
        );
    }

    fn duration(&mut self, key: impl Into<String>, duration: Duration, least: Least) {
        let key = key.into();
        if least == Least::AboveZero {
            self.rule(!duration.is_zero(), key.as_str(), "must be more than 0s", written(duration));
        }
        self.rule(duration <= LONGEST, key, "must be at most 365d", written(duration));
    }

    fn numbers(&mut self, config: &Config) {
        let Config { assemble, slow, baseline, compare, export, .. } = config;
        let percentile = slow.learned.percentile;
        let in_range = (50.0..=99.9).contains(&percentile);
        self.rule(in_range, "slow.learned.percentile", "must be from 50 to 99.9", percentile);
        let factor = slow.learned.factor;
        self.rule((1.0..=1000.0).contains(&factor), "slow.learned.factor", "must be from 1 to 1000", factor);
        let ring = baseline.references_per_shape;
        self.rule(
            (1..=1024).contains(&ring),
            "baseline.references_per_shape",
            "must be from 1 to 1024",
            ring,
        );
        for (key, count) in [
            ("assemble.decision_cache.sampled", assemble.decision_cache.sampled),
            ("assemble.decision_cache.dropped", assemble.decision_cache.dropped),
        ] {
            let rule = format!("must be from 1 to {MOST_DECISIONS}");
            self.rule((1..=MOST_DECISIONS).contains(&count), key, rule, count);
        }
        for (key, count) in [
            ("slow.learned.min_traces", slow.learned.min_traces as usize),
            ("compare.max_spans", compare.max_spans),
            ("export.batch.max_spans", export.batch.max_spans),
        ] {
            self.rule(count >= 1, key, "must be at least 1", count);
        }
    }

    fn memory(&mut self, config: &Config, memory_limit: u64, given: &dyn Fn(&str) -> bool) {
        if let MemoryLimit::Given(_) = config.memory_limit {
            let rule = format!("must be at least {}", memory::shown(LEAST_MEMORY));
            self.rule(memory_limit >= LEAST_MEMORY, "memory_limit", rule, memory::shown(memory_limit));
            let rule = format!("must be at most {}", memory::shown(MOST_MEMORY));
            self.rule(memory_limit <= MOST_MEMORY, "memory_limit", rule, memory::shown(memory_limit));
        }
        let parts = memory::parts(config);
        let shares: f64 = parts.iter().map(|(_, budget)| share_in(*budget)).sum();
        let bytes: u64 =
            parts.iter().map(|(_, budget)| memory::bytes_in(*budget)).fold(0, u64::saturating_add);
        let limit = memory::shown(memory_limit);
        for (key, budget) in parts {
            let others: Vec<_> = parts.iter().map(|(key, _)| *key).filter(|other| *other != key).collect();
            let involved = [&["memory_limit"], others.as_slice()].concat();
            match budget {
                // A hair above 80 % is what adding up 50 % and 30 % can give.
                Budget::Share(share) => {
                    self.rule(share > 0.0, key, "must be more than 0%", "0%");
                    let rule = format!(
                        "must leave room for held traces, at most {}% together with {}",
                        memory::ROOM_SHARE * 100.0,
                        others.join(" and ")
                    );
                    let fits = shares <= memory::ROOM_SHARE + 1e-9 || share == 0.0 || !given(key);
                    self.rule_with(fits, key, &involved, rule, format!("{}%", share * 100.0));
                }
                Budget::Bytes(size) => {
                    self.rule(size > 0, key, "must be more than 0B", "0B");
                    let rule = format!("must fit into memory_limit ({limit} here)");
                    self.rule_with(size <= memory_limit, key, &["memory_limit"], rule, memory::shown(size));
                    let rule = format!(
                        "must leave room for held traces, at most {} together with {}",
                        memory::shown(memory::room(memory_limit)),
                        others.join(" and ")
                    );
                    let fits = bytes <= memory::room(memory_limit) || size > memory_limit || size == 0;
                    self.rule_with(fits, key, &involved, rule, memory::shown(size));
                }
            }
        }
        for (key, size) in [
            ("receive.max_request_size", config.receive.max_request_size),
            ("assemble.maximum_trace_size", config.assemble.maximum_trace_size),
            ("export.batch.max_size", config.export.batch.max_size),
        ] {
            self.rule(size > 0, key, "must be more than 0B", "0B");
            self.rule(size <= LARGEST_MESSAGE, key, "must be at most 2GiB", memory::shown(size));
            let rule = format!("must fit into memory_limit ({limit} here)");
            let fits = size <= memory_limit || size > LARGEST_MESSAGE || !given(key);
            self.rule_with(fits, key, &["memory_limit"], rule, memory::shown(size));
        }
        if let (Budget::Bytes(queue), true) = (config.export.queue.size, given("export.batch.max_size")) {
            let size = config.export.batch.max_size;
            let rule = format!("must be at most export.queue.size ({})", memory::shown(queue));
            let key = "export.batch.max_size";
            self.rule_with(size <= queue, key, &["export.queue.size"], rule, memory::shown(size));
        }
    }

    fn comparison(&mut self, config: &Config) {
        let share = config.compare.minimum_share;
        let rule = "must be more than 0%";
        self.rule(share > 0.0, "compare.minimum_share", rule, format!("{}%", share * 100.0));
        let attributes = &config.enrich.attributes;
        for (index, attribute) in attributes.iter().enumerate() {
            let is_first = attributes.iter().take(index).all(|earlier| earlier != attribute);
            self.rule(is_first, format!("enrich.attributes[{index}]"), "must stand there once", "it again");
        }
        let file = &config.baseline.snapshot_file;
        let names_file =
            !file.to_string_lossy().ends_with('/') && file.file_name().is_some() && !file.is_dir();
        let is_file = file.as_os_str().is_empty() || names_file;
        let rule = "must be the path of a file, not of a directory";
        self.rule(is_file, "baseline.snapshot_file", rule, file.display());
    }

    fn routes(&mut self, config: &Config) {
        let routes = &config.slow.routes;
        for (index, route) in routes.iter().enumerate() {
            let key = format!("slow.routes[{index}]");
            let is_same = |other: &&super::RouteOverride| {
                (&other.service, &other.route) == (&route.service, &route.route)
            };
            if let Some(first) = routes.iter().take(index).position(|other| is_same(&other)) {
                let rule =
                    format!("must be for other traffic than slow.routes[{first}], which matches first");
                let got = format!("service {:?} and route {:?} again", route.service, route.route);
                self.rule(false, key.as_str(), rule, got);
            }
            match route.threshold {
                Some(threshold) => {
                    let key = format!("{key}.threshold");
                    let rule = "must be left out where ignore is true";
                    self.rule(!route.ignore, key.as_str(), rule, written(threshold));
                    self.duration(key, threshold, Least::AboveZero);
                }
                None => self.rule(route.ignore, key, "must have a threshold, or ignore: true", "neither"),
            }
        }
    }

    fn own_endpoints(&mut self, config: &Config) {
        let own = own_endpoints(config);
        for (index, (key, endpoint)) in own.iter().enumerate() {
            for (other, taken) in own.iter().take(index) {
                let collide = endpoint.port() != 0
                    && endpoint.port() == taken.port()
                    && (endpoint.ip() == taken.ip()
                        || endpoint.ip().is_unspecified()
                        || taken.ip().is_unspecified());
                let rule = format!("must be another address than {other} ({taken})");
                self.rule_with(!collide, *key, &[*other], rule, endpoint);
            }
        }
    }

    fn destination(&mut self, config: &Config) {
        const KEY: &str = "export.endpoint";
        let endpoint = &config.export.endpoint;
        let protocol = config.export.protocol;
        let Some(destination) = Destination::parse(endpoint, protocol) else {
            let rule = match protocol {
                Protocol::Grpc => "must be a URL such as http://collector:4317, without a path",
                Protocol::HttpProtobuf => {
                    "must be a base URL such as http://collector:4318, to which /v1/traces is appended"
                }
            };
            self.rule_with(false, KEY, &["export.protocol"], rule, endpoint);
            return;
        };
        for (own, address) in own_endpoints(config) {
            let rule = format!("must not be a port of our own, {own} is {address}");
            self.rule_with(!destination.reaches(address), KEY, &[own], rule, endpoint);
        }
    }

    fn headers(&mut self, config: &Config) {
        for (name, value) in &config.export.headers {
            let key = format!("export.headers.{name}");
            let is_name = HeaderName::from_bytes(name.as_bytes()).is_ok();
            self.rule(is_name, key.as_str(), "must be the name of an HTTP header", "another");
            let lowercase = name.to_ascii_lowercase();
            let is_ours = lowercase.starts_with("grpc-") || OUR_HEADERS.contains(&lowercase.as_str());
            self.rule(!is_ours, key.as_str(), "must be left to the protocol, which sets it", "a value");
            let is_binary = lowercase.ends_with("-bin");
            self.rule(
                !is_binary,
                key.as_str(),
                "must not end in -bin, which gRPC keeps for binary values",
                "a value",
            );
            let is_value = HeaderValue::from_str(value).is_ok_and(|value| value.to_str().is_ok());
            self.rule(is_value, key, "must be visible ASCII", "a value that is not shown");
        }
    }
}

/// Headers that only the client itself can set rightly. That of the instance tells the receiver what came from here.
const OUR_HEADERS: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "laggard-instance",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// The least value of a duration.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Least {
    Zero,
    AboveZero,
}

fn share_in(budget: Budget) -> f64 {
    match budget {
        Budget::Bytes(_) => 0.0,
        Budget::Share(share) => share,
    }
}

/// Where this process listens.
fn own_endpoints(config: &Config) -> [(&'static str, SocketAddr); 3] {
    [
        ("receive.grpc.endpoint", config.receive.grpc.endpoint),
        ("receive.http.endpoint", config.receive.http.endpoint),
        ("telemetry.admin.endpoint", config.telemetry.admin.endpoint),
    ]
}

/// A duration as an operator writes it.
fn written(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}
