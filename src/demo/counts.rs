//! The few figures of `/metrics` that the demonstration tells of.

/// Traces and routes, as the sidecar counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Decided and kept because they were slow.
    pub(super) slow: u64,
    /// Kept as a sample of the healthy ones.
    pub(super) sampled: u64,
    /// Kept because their route was not learned yet.
    pub(super) learning: u64,
    /// Decided and not kept.
    pub(super) dropped: u64,
    /// Not decided yet.
    pub(super) held: u64,
    /// Routes whose threshold is known.
    pub(super) routes_learned: u64,
    /// Routes whose threshold is not known.
    pub(super) routes_learning: u64,
    /// The same of spans, which must add up.
    pub(super) spans: Spans,
}

/// Where the spans are that were acknowledged to the services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spans {
    /// All of them.
    pub(super) accepted: u64,
    /// Acknowledged by the backend.
    pub(super) sent: u64,
    /// Not kept.
    pub(super) dropped: u64,
    /// Not decided yet.
    pub(super) held: u64,
    /// Decided and kept, and not sent yet.
    pub(super) queued: u64,
}

impl Counts {
    /// Reads a Prometheus text exposition.
    pub(super) fn of(exposition: &str) -> Self {
        let value = |series: &str| {
            let found = exposition.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            found.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        // Of all series of one name.
        let sum = |name: &str| {
            let series = exposition.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
            series.filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
        };
        Self {
            slow: value(r#"laggard_traces_total{decision="slow"}"#),
            sampled: value(r#"laggard_traces_total{decision="healthy"}"#),
            learning: value(r#"laggard_traces_total{decision="learning"}"#),
            dropped: value(r#"laggard_traces_total{decision="dropped"}"#),
            held: value("laggard_held_traces"),
            routes_learned: value(r#"laggard_routes{state="learned"}"#),
            routes_learning: value(r#"laggard_routes{state="learning"}"#),
            spans: Spans {
                accepted: sum("laggard_receiver_accepted_spans_total"),
                sent: sum("laggard_exporter_sent_spans_total"),
                dropped: sum("laggard_dropped_spans_total"),
                held: value("laggard_held_spans"),
                queued: value("laggard_queued_spans"),
            },
        }
    }

    /// Traces that have been seen.
    pub(super) fn seen(self) -> u64 {
        self.held + self.kept() + self.dropped
    }

    /// Traces that were forwarded.
    pub(super) fn kept(self) -> u64 {
        self.slow + self.sampled + self.learning
    }
}

impl Spans {
    /// Whether nothing moves any more: what is on its way between two counters is in neither.
    pub(super) fn are_settled(self) -> bool {
        self.held == 0 && self.queued == 0 && self.accepted == self.sent + self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::{Class, Decided, DropReason, Metrics, RouteState, Transport};

    #[test]
    fn each_figure_is_read_from_its_own_series() {
        let metrics = Metrics::default();
        metrics.traces.add(Decided::Slow, 1);
        metrics.traces.add(Decided::Healthy, 20);
        metrics.traces.add(Decided::Learning, 300);
        metrics.traces.add(Decided::Dropped, 4_000);
        metrics.held_traces.set(50_000.0);
        metrics.routes.set(RouteState::Learned, 2);
        metrics.routes.set(RouteState::Learning, 3);
        metrics.accepted_spans.add(Transport::Grpc, 10);
        metrics.accepted_spans.add(Transport::Http, 2);
        metrics.sent_spans.add(Class::Slow, 1);
        metrics.sent_spans.add(Class::Late, 2);
        metrics.dropped_spans.add(DropReason::NotSampled, 4);
        metrics.held_spans.set(600.0);
        metrics.queued_spans.set(7_000.0);
        let counts = Counts::of(&metrics.render());
        let expected = Counts {
            slow: 1,
            sampled: 20,
            learning: 300,
            dropped: 4_000,
            held: 50_000,
            routes_learned: 2,
            routes_learning: 3,
            spans: Spans { accepted: 12, sent: 3, dropped: 4, held: 600, queued: 7_000 },
        };
        assert_eq!(counts, expected);
        assert_eq!((counts.seen(), counts.kept()), (54_321, 321));
        let settled = Spans { accepted: 7, held: 0, queued: 0, ..counts.spans };
        assert!(settled.are_settled());
        for moving in [Spans { accepted: 8, ..settled }, Spans { held: 1, ..settled }, counts.spans] {
            assert!(!moving.are_settled());
        }
    }
}
