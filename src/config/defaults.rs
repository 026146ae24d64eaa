//! The value of each key that is left out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Auth;
use super::destination::TRACES;
use super::units::Budget;
use super::{
    Admin, Assemble, Baseline, BatchLimits, Compare, Compression, Cors, DecisionCache, Enrich,
    EnrichAttribute, Export, ExporterTls, GrpcReceiver, HttpReceiver, Learned, OnOverflow, Passthrough,
    Protocol, Queue, Receive, ReceiverTls, Retry, Sample, Shutdown,
};

const MIB: u64 = 1 << 20;

impl Default for Receive {
    fn default() -> Self {
        Self {
            grpc: GrpcReceiver::default(),
            http: HttpReceiver::default(),
            max_request_size: 64 * MIB,
            max_in_flight: Budget::Share(0.10),
            tls: ReceiverTls::default(),
            auth: Auth::default(),
        }
    }
}

impl Default for GrpcReceiver {
    fn default() -> Self {
        Self { endpoint: SocketAddr::from(([127, 0, 0, 1], 4317)) }
    }
}

impl Default for HttpReceiver {
    fn default() -> Self {
        Self { endpoint: SocketAddr::from(([127, 0, 0, 1], 4318)), cors: Cors::default() }
    }
}

impl Default for ReceiverTls {
    fn default() -> Self {
        Self {
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            client_ca_file: PathBuf::new(),
            reload_interval: Duration::from_mins(1),
        }
    }
}

impl Default for Assemble {
    fn default() -> Self {
        Self {
            decision_wait: Duration::from_secs(30),
            decision_wait_after_root_received: Duration::from_secs(10),
            maximum_trace_size: 16 * MIB,
            on_overflow: OnOverflow::Decide,
            decision_cache: DecisionCache::default(),
        }
    }
}

impl Default for DecisionCache {
    fn default() -> Self {
        Self { sampled: 100_000, dropped: 1_000_000 }
    }
}

impl Default for Learned {
    fn default() -> Self {
        Self {
            percentile: 95.0,
            factor: 1.2,
            minimum: Duration::from_millis(10),
            min_traces: 20,
            accept_after: Duration::from_hours(1),
        }
    }
}

impl Default for Sample {
    fn default() -> Self {
        Self { errors: 1.0, healthy: 0.05, references: true, dry_run: false }
    }
}

impl Default for Baseline {
    fn default() -> Self {
        Self {
            references_per_shape: 32,
            max_size: Budget::Share(0.10),
            time_to_live: Duration::from_hours(6),
            snapshot_file: PathBuf::new(),
        }
    }
}

impl Default for Compare {
    fn default() -> Self {
        Self { minimum_share: 0.5, max_spans: 20_000 }
    }
}

impl Default for Enrich {
    fn default() -> Self {
        use EnrichAttribute as A;
        Self {
            attributes: vec![
                A::Service,
                A::Verdict,
                A::Reason,
                A::Category,
                A::Confidence,
                A::DeltaMs,
                A::Share,
                A::Operation,
                A::Instance,
                A::Dependency,
                A::Phase,
                A::SpanId,
                A::ThresholdMs,
                A::Baseline,
                A::Explanation,
            ],
        }
    }
}

impl Default for Export {
    fn default() -> Self {
        Self {
            endpoint: "http://127.0.0.1:14317".to_owned(),
            traces_path: TRACES.to_owned(),
            unused_variables: Vec::new(),
            protocol: Protocol::Grpc,
            headers: BTreeMap::new(),
            compression: Compression::Auto,
            timeout: Duration::from_secs(5),
            tls: ExporterTls::default(),
            retry: Retry::default(),
            queue: Queue::default(),
            batch: BatchLimits::default(),
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial_interval: Duration::from_secs(5),
            max_interval: Duration::from_secs(30),
            max_elapsed_time: Duration::from_mins(5),
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self { size: Budget::Share(0.20) }
    }
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { max_spans: 2048, max_size: 3 * MIB, timeout: Duration::from_millis(200) }
    }
}

impl Default for Passthrough {
    fn default() -> Self {
        Self { metrics: true, logs: true, profiles: true }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { delay: Duration::from_secs(5), drain_timeout: Duration::from_secs(20) }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { endpoint: SocketAddr::from(([127, 0, 0, 1], 13134)) }
    }
}
