//! What happens when held traces have used up their budget: some are decided early, by the same rules.

use super::{DECIDE_AT_ONCE, Deliver, Pipeline};
use crate::assemble::DueTraces;
use crate::otlp::Nanos;
use crate::telemetry::metrics::Trigger;

impl Pipeline {
    /// Decides held traces until they fit their budget. The task that brought too much does this work itself, so
    /// whoever sends faster than we can decide is slowed down by just that.
    pub(super) fn make_room(&self, now: Nanos, deliver: Deliver<'_>) {
        let mut due = DueTraces::default();
        while self.assembler.held_bytes() > self.held_limit {
            let shard = self.assembler.fullest_shard();
            self.assembler.early(shard, Trigger::Memory, DECIDE_AT_ONCE, &mut due);
            if due.traces.is_empty() {
                // What is left is being decided by others.
                return;
            }
            self.settle(now, &due, deliver);
        }
    }
}
