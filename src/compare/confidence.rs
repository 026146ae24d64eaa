//! How sure a verdict is.

use super::Category;
use super::blame::Blamed;
use super::judge::Evidence;

/// Nobody is ever surer than this.
const MOST_CONFIDENCE: f64 = 0.95;
/// A callee that sent no span can be named, but not with more confidence than this.
const MOST_CONFIDENCE_UNSEEN: f64 = 0.6;

impl Evidence<'_> {
    pub(super) fn confidence(&self, top: &Blamed, share: f64) -> f64 {
        let references = match self.references.floors.count {
            0 | 1 => 0.8,
            2..8 => 0.9,
            _ => 1.0,
        };
        let skew = if self.has_skew() { 0.7 } else { 1.0 };
        let row = self.findings.row_of(top);
        let is_unseen = row.is_some_and(|row| row.misses_answer);
        let gap = if top.category == Category::NetworkQueue && self.is_mostly_gap(top) { 0.85 } else { 1.0 };
        let is_draw = row.and_then(|row| row.wait).is_some_and(|wait| wait.is_draw());
        let draw = if is_draw { 0.7 } else { 1.0 };
        let all = share * self.completeness() * self.references.likeness * references * skew * gap * draw;
        let most = if is_unseen { MOST_CONFIDENCE_UNSEEN } else { MOST_CONFIDENCE };
        (all.clamp(0.0, most) * 100.0).round() / 100.0
    }

    /// Whether the wait is long beside a normal answer: then its queue and the wire look alike.
    fn is_mostly_gap(&self, top: &Blamed) -> bool {
        let rows = self.findings.rows.iter().filter(|row| row.rest.service == top.id);
        let (mut gap, mut work, mut work_excess) = (0_u64, 0_u64, 0_u64);
        for row in rows {
            match row.rest.category {
                Category::NetworkQueue => gap += row.slow_time,
                Category::OwnTime => {
                    work += row.slow_time;
                    work_excess += row.excess;
                }
                _ => {}
            }
        }
        work_excess == 0 && gap > work.saturating_mul(3)
    }
}
