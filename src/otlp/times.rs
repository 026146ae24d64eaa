//! Which times of a span can be believed.

use super::Nanos;
use super::span::SpanHead;

/// A span that claims to have lasted longer was given a wrong clock, or none: 2^53 ns, 104 days.
const LONGEST_CREDIBLE: Nanos = 1 << 53;

impl SpanHead {
    /// Whether start and end say when it was: both are given, in order, and not years apart.
    pub fn has_credible_times(&self) -> bool {
        self.start != 0 && self.end.checked_sub(self.start).is_some_and(|took| took <= LONGEST_CREDIBLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::SpanId;
    use crate::otlp::TraceId;
    use crate::otlp::span::Kind;

    const NOW: Nanos = 1_700_000_000_000_000_000;

    #[test]
    fn times_are_credible_when_given_in_order_and_not_years_apart() {
        let head = |start, end| SpanHead {
            trace_id: TraceId::from_slice(&[1; 16]).expect("not zero"),
            span_id: SpanId::from_slice(&[1; 8]).expect("not zero"),
            parent_id: None,
            start,
            end,
            kind: Kind::Server,
            is_error: false,
        };
        assert!(head(NOW, NOW).has_credible_times() && head(NOW, NOW + (1 << 53)).has_credible_times());
        for (start, end) in [(0, NOW), (1, NOW), (NOW, NOW - 1), (NOW, u64::MAX), (NOW, NOW + (1 << 53) + 1)]
        {
            assert!(!head(start, end).has_credible_times(), "{start} {end}");
        }
    }
}
