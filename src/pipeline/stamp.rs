//! Writes the threshold that a trace was sampled with on its spans.

use super::Pipeline;
use crate::assemble::{Stamp, Trace};
use crate::otlp::tracestate;

impl Pipeline {
    /// Writes a sampling threshold on every span, and counts those that came with one that cannot be believed.
    pub(super) fn stamp(&self, trace: &mut Trace, stamp: Stamp) {
        let stamped = |state: &[u8]| {
            let erased = tracestate::erased(state, stamp.randomness);
            (state.to_vec(), tracestate::stamp(state, stamp.threshold, stamp.randomness), erased)
        };
        // Mostly the spans of a trace have one state, or none.
        let mut known = stamped(&[]);
        for span in 0..trace.len() {
            let Some(found) = trace.span(span) else { continue };
            let state = found.trace_state();
            if state != known.0 {
                known = stamped(state);
            }
            let (_, state, erased) = &known;
            let rewritten =
                tracestate::rewrite(found.body, state).and_then(|body| trace.replace_body(span, &body));
            debug_assert!(rewritten.is_ok(), "a held span was read before");
            if let Some(erased) = erased {
                self.metrics.erased_thresholds.add((*erased).into(), 1);
            }
        }
    }
}

/// What the spans of a trace say of their sampling: the entry span's word first, then in the order of their starts.
pub(super) fn trace_states(trace: &Trace, entry: usize) -> Vec<Vec<u8>> {
    let mut order: Vec<_> = trace
        .heads()
        .enumerate()
        .map(|(span, head)| (span != entry, head.start, head.span_id, span))
        .collect();
    order.sort_unstable();
    order.into_iter().filter_map(|(.., span)| Some(trace.span(span)?.trace_state().to_vec())).collect()
}
