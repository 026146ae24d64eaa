//! The shapes of one route: how long each takes, and how much of the route's traffic it is.

use serde::{Deserialize, Serialize};

use super::threshold::{Durations, Learning, MIN_BUCKET_TRACES};
use super::usual::Usual;
use crate::otlp::Nanos;

/// A route has so many shapes; what comes beyond is judged by the route.
const MAX_SHAPES: usize = 8;

/// How fast the recent share of a shape forgets: half in this time.
const SHARE_HALF_LIFE: Nanos = 120_000_000_000;

/// Shares are counted in millionths.
const WHOLE: u64 = 1_000_000;

/// A bucket of shares counts for so many full ones at most: that is how long twenty traces take at one a minute.
const MOST_LENGTHS: u64 = 4;

/// So many traces of the usual shares are supposed beside the recent ones: after a pause, or where traffic is thin, the
/// first trace or two of a shape are no surge.
const SUPPOSED_TRACES: f64 = MIN_BUCKET_TRACES as f64;

/// Nobody counts so many traces; what a file says beyond was made up.
const MOST_COUNTED: u64 = 1 << 40;

/// The shapes of one route, in the order in which they were first seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Shapes {
    known: Vec<Shape>,
    /// All recent traces whose shape was looked at.
    recent: Decayed,
    /// Traces in the open bucket of shares.
    open: u64,
    opened_at: Option<Nanos>,
    /// Only its buckets' lengths are used: all shares are measured over the same time.
    lengths: Usual,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Shape {
    hash: u64,
    since: Nanos,
    last: Nanos,
    is_trusted: bool,
    durations: Durations,
    recent: Decayed,
    traces: u64,
    /// Traces in the open bucket of shares.
    open: u64,
    /// Millionths of the route's traces, by bucket.
    shares: Usual,
    /// Their usual value, 0..=1; asked for with every trace, and changed when a bucket closes.
    #[serde(skip)]
    usual_share: Option<f64>,
}

/// What is known of a shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShapeReport {
    /// The hash of its calls.
    pub shape: u64,
    /// Traces that it was learned from.
    pub traces: u64,
    /// Nanoseconds.
    pub threshold: Option<Nanos>,
    /// Of the route's recent traces, 0..=1.
    pub share: f64,
    /// Whether its traces are judged by its own threshold, and not by the route's.
    pub is_judged_by_own: bool,
}

impl Shapes {
    /// Counts a trace of the fair sample.
    pub(super) fn add(&mut self, now: Nanos, hash: u64, duration: Nanos, learning: &Learning) {
        self.close_when_due(now, learning);
        self.recent.add(now);
        self.open += 1;
        let Some(shape) = self.place(now, hash, learning) else { return };
        shape.last = now;
        shape.recent.add(now);
        shape.traces += 1;
        shape.open += 1;
        shape.durations.add(now, duration, learning);
    }

    /// The shape with this hash; a new one takes a free place, or that of one not seen for long.
    fn place(&mut self, now: Nanos, hash: u64, learning: &Learning) -> Option<&mut Shape> {
        let known = self.known.iter().position(|shape| shape.hash == hash);
        let at = known.or_else(|| {
            let new = Shape {
                hash,
                since: now,
                last: now,
                is_trusted: false,
                durations: Durations::default(),
                recent: Decayed::default(),
                traces: 0,
                open: 0,
                shares: Usual::default(),
                usual_share: None,
            };
            if self.known.len() < MAX_SHAPES && learning.may_grow {
                self.known.push(new);
                return Some(self.known.len() - 1);
            }
            let idle = |shape: &Shape| now.saturating_sub(shape.last) >= learning.forget_after;
            let at = self.known.iter().position(idle)?;
            *self.known.get_mut(at)? = new;
            Some(at)
        })?;
        self.known.get_mut(at)
    }

    fn close_when_due(&mut self, now: Nanos, learning: &Learning) {
        let lasted = now.saturating_sub(*self.opened_at.get_or_insert(now));
        if lasted < self.lengths.bucket(learning.bucket) || self.open < MIN_BUCKET_TRACES {
            return;
        }
        // Where traces are few a bucket lasts longer than it should, and counts for that; after a pause it does not.
        let weight = lasted.min(learning.bucket.saturating_mul(MOST_LENGTHS));
        for shape in &mut self.known {
            shape.shares.close(shape.open * WHOLE / self.open, weight, learning.bucket, learning.may_grow);
            shape.work_out_share(learning);
            shape.open = 0;
        }
        self.lengths.close(0, weight, learning.bucket, learning.may_grow);
        self.open = 0;
        self.opened_at = Some(now);
    }

    /// A shape's own threshold, where it stands in for that of its route, `of_route`: unless the shape is too young, or
    /// too frequent now to be itself. A cache outage turns every trace into the "miss" shape, and that is slow; a
    /// surge of a shape faster than its route excuses none of its traces.
    pub(super) fn threshold(
        &self,
        hash: u64,
        of_route: Option<Nanos>,
        now: Nanos,
        learning: &Learning,
    ) -> Option<Nanos> {
        let shape = self.known.iter().find(|shape| shape.hash == hash)?;
        self.own_threshold(shape, of_route, now, learning)
    }

    /// Whether a shape of its own calls `duration` slow where its route does not, or the other way round.
    pub(super) fn disagree(&self, duration: Nanos, of_route: Nanos, now: Nanos, learning: &Learning) -> bool {
        self.known.iter().any(|shape| {
            // Whether its threshold counts takes longer to say than what it would say.
            let would_be_slow = shape.durations.threshold().is_some_and(|threshold| duration > threshold);
            would_be_slow != (duration > of_route)
                && self.own_threshold(shape, Some(of_route), now, learning).is_some()
        })
    }

    fn own_threshold(
        &self,
        shape: &Shape,
        of_route: Option<Nanos>,
        now: Nanos,
        learning: &Learning,
    ) -> Option<Nanos> {
        let is_old = shape.is_trusted || now.saturating_sub(shape.since) >= learning.accept_after;
        let own = shape.durations.threshold().filter(|_| is_old)?;
        let is_lower = of_route.is_some_and(|of_route| own < of_route);
        (is_lower || !self.is_surging(shape, now)).then_some(own)
    }

    fn is_surging(&self, shape: &Shape, now: Nanos) -> bool {
        let Some(usual) = shape.usual_share else { return false };
        let supposed = SUPPOSED_TRACES * usual;
        let recent = (shape.recent.at(now) + supposed) / (self.recent.at(now) + SUPPOSED_TRACES);
        recent >= 2.0 * usual && recent >= usual + 0.1
    }

    fn recent_share(&self, shape: &Shape, now: Nanos) -> f64 {
        shape.recent.at(now) / self.recent.at(now).max(f64::MIN_POSITIVE)
    }

    /// From now on each shape is judged by itself, however young.
    pub(super) fn trust(&mut self) {
        for shape in &mut self.known {
            shape.is_trusted = true;
        }
    }

    /// What was read from a file at `now`, ready to go on without what nobody has asked for; `None` where it can
    /// never have been written.
    pub(super) fn restored(mut self, now: Nanos, learning: &Learning) -> Option<Self> {
        if self.known.len() > MAX_SHAPES || self.open > MOST_COUNTED || !self.lengths.is_sound() {
            return None;
        }
        let all = self.open;
        let shapes: Option<Vec<Shape>> =
            self.known.into_iter().map(|shape| shape.restored(now, all, learning)).collect();
        self.known = shapes?;
        self.known.retain(|shape| now.saturating_sub(shape.last) < learning.forget_after);
        self.recent = self.recent.restored(now)?;
        self.opened_at = self.opened_at.map(|opened_at| opened_at.min(now));
        Some(self)
    }

    /// What is known of each.
    pub(super) fn reports(
        &self,
        of_route: Option<Nanos>,
        now: Nanos,
        learning: &Learning,
    ) -> Vec<ShapeReport> {
        let report = |shape: &Shape| ShapeReport {
            shape: shape.hash,
            traces: shape.traces,
            threshold: shape.durations.threshold(),
            share: self.recent_share(shape, now),
            is_judged_by_own: self.own_threshold(shape, of_route, now, learning).is_some(),
        };
        self.known.iter().map(report).collect()
    }

    /// Bytes taken from the allocator.
    pub(super) fn allocated(&self) -> u64 {
        let shapes = (self.known.capacity() * size_of::<Shape>()) as u64;
        let each = self.known.iter().map(|shape| shape.durations.allocated() + shape.shares.allocated());
        shapes + self.lengths.allocated() + each.sum::<u64>()
    }
}

impl Shape {
    fn work_out_share(&mut self, learning: &Learning) {
        self.usual_share = self.shares.value(learning.bucket).map(|share| share as f64 / WHOLE as f64);
    }

    /// As [`Shapes::restored`]; `all` traces are in the open bucket of shares.
    fn restored(mut self, now: Nanos, all: u64, learning: &Learning) -> Option<Self> {
        if self.open > all || self.traces > MOST_COUNTED || !self.shares.is_sound() {
            return None;
        }
        (self.since, self.last) = (self.since.min(now), self.last.min(now));
        self.durations = self.durations.restored(now, learning)?;
        self.recent = self.recent.restored(now)?;
        self.work_out_share(learning);
        Some(self)
    }
}

/// A count that forgets half of itself in [`SHARE_HALF_LIFE`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Decayed {
    count: f64,
    at: Nanos,
}

impl Decayed {
    fn add(&mut self, now: Nanos) {
        self.count = self.at(now) + 1.0;
        self.at = self.at.max(now);
    }

    /// What was read from a file at `now`; `None` where it is no count.
    fn restored(mut self, now: Nanos) -> Option<Self> {
        self.at = self.at.min(now);
        (0.0..MOST_COUNTED as f64).contains(&self.count).then_some(self)
    }

    fn at(&self, now: Nanos) -> f64 {
        let half_lives = now.saturating_sub(self.at) as f64 / SHARE_HALF_LIFE as f64;
        self.count * (-half_lives).exp2()
    }
}
