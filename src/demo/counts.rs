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
}

impl Counts {
    /// Reads a Prometheus text exposition.
    pub(super) fn of(exposition: &str) -> Self {
        let value = |series: &str| {
            let found = exposition.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            found.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        Self {
            slow: value(r#"laggard_traces_total{decision="slow"}"#),
            sampled: value(r#"laggard_traces_total{decision="healthy"}"#),
            learning: value(r#"laggard_traces_total{decision="learning"}"#),
            dropped: value(r#"laggard_traces_total{decision="dropped"}"#),
            held: value("laggard_held_traces"),
            routes_learned: value(r#"laggard_routes{state="learned"}"#),
            routes_learning: value(r#"laggard_routes{state="learning"}"#),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::{Decided, Metrics, RouteState};

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
        let counts = Counts::of(&metrics.render());
        let expected = Counts {
            slow: 1,
            sampled: 20,
            learning: 300,
            dropped: 4_000,
            held: 50_000,
            routes_learned: 2,
            routes_learning: 3,
        };
        assert_eq!(counts, expected);
        assert_eq!((counts.seen(), counts.kept()), (54_321, 321));
    }
}
