//! Decides what becomes of a trace: slow, an error, sampled, or dropped.
//!
//! Most traces are judged by their root span alone ([`Decider::judge`] with [`Shape::Unknown`]); only where the shape
//! of the trace matters, or where it is in the fair sample that learning looks at, the whole trace is asked for.

pub mod entry;
mod histogram;
mod identity;
pub mod route;
pub mod sample;
mod shapes;
pub(crate) mod stream;
pub mod threshold;
mod usual;

use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use route::SavedRoute;
use route::{Found, RouteKey, Routes, SlowRule};

pub use route::{Basis, RouteId, RouteReport};
pub use shapes::ShapeReport;

use crate::config;
use crate::otlp::span::SpanView;
use crate::otlp::{Nanos, TraceId};
use crate::telemetry::metrics::Decided;

/// Learning traces that last longer than this carry a verdict, so that a first slow request does not just vanish.
const NOTABLE_WHILE_LEARNING: Nanos = 1_000_000_000;

/// A trace without a root and without a threshold is slow above this.
const SLOW_FRAGMENT: Nanos = 10_000_000_000;

/// The stage that decides, with what it has learned.
#[derive(Debug)]
pub struct Decider {
    sample: config::Sample,
    /// A std mutex: held for one look-up and one count a trace, never across a call into another stage.
    routes: Mutex<Routes>,
}

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its id.
    pub id: TraceId,
    /// The entry span's `service.name`.
    pub service: &'a [u8],
    /// The entry span.
    pub span: SpanView<'a>,
    /// Nanoseconds: of the entry span, or from first start to last end where there is no root with credible times.
    pub duration: Nanos,
    /// Whether the entry span, or a SERVER or CONSUMER span, has status ERROR.
    pub has_error: bool,
    /// Whether its root has arrived, with credible times.
    pub has_root: bool,
    /// Whether spans around it, or its own times, are missing: such a trace teaches nothing.
    pub is_fragment: bool,
}

/// What is known of the calls that a trace makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nobody has looked.
    Unknown,
    /// This one; whether the trace is in the fair sample was said when it was asked for.
    Known {
        /// The hash of the call paths first entered from the entry service.
        shape: u64,
        /// What [`Judgement::Look`] said.
        is_sampled: bool,
    },
}

/// What [`Decider::judge`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Look at the whole trace and judge again.
    Look {
        /// Whether learning wants to see it.
        is_sampled: bool,
    },
    /// Decided.
    Decided(Judged),
}

/// A decision and its grounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "facts that are independent of each other, each read by another stage"
)]
pub struct Judged {
    /// What becomes of the trace.
    pub decided: Decided,
    /// Whose traces it is compared with.
    pub route: RouteId,
    /// Nanoseconds that it took: what was held against the threshold.
    pub duration: Nanos,
    /// Whether its root has arrived, with credible times.
    pub has_root: bool,
    /// Nanoseconds; `None` while the route is learning.
    pub threshold: Option<Nanos>,
    /// Where the threshold, or its absence, comes from.
    pub basis: Basis,
    /// The trace's shape, where it was looked at.
    pub shape: Option<u64>,
    /// Whether the trace is worth a verdict.
    pub is_notable: bool,
    /// Whether it may become a reference.
    pub is_reference: bool,
    /// Whether learning looks at it: one of the fair sample.
    pub is_sampled: bool,
}

impl Decider {
    /// From the configuration's `slow` and `sample` sections.
    pub fn new(slow: &config::Slow, sample: &config::Sample) -> Self {
        Self { sample: sample.clone(), routes: Mutex::new(Routes::new(slow)) }
    }

    /// Forgets routes and shapes after so long without a trace, instead of after 6 hours.
    #[must_use]
    pub fn forgetting_after(self, idle: std::time::Duration) -> Self {
        self.routes().forget_after(Nanos::try_from(idle.as_nanos()).unwrap_or(Nanos::MAX));
        self
    }

    /// Keeps what is learned within so many bytes.
    #[must_use]
    pub fn within(self, bytes: u64) -> Self {
        self.routes().keep_within(bytes);
        self
    }

    /// Does what is due to be done now and then: forgets idle routes. Returns whether there is no place for one more.
    pub fn tick(&self, now: Nanos) -> bool {
        let mut routes = self.routes();
        routes.forget_idle(now);
        routes.is_full()
    }

    /// What is known of each route.
    pub fn reports(&self) -> Vec<RouteReport> {
        self.routes().reports()
    }

    /// Judges a trace at `now`, in nanoseconds of the clock that all calls share. A trace is counted, and teaches its
    /// route, when it is decided, not when it is looked at.
    pub fn judge(&self, now: Nanos, candidate: &Candidate<'_>, shape: Shape) -> Judgement {
        thread_local! {
            static KEY: RefCell<RouteKey> = RefCell::default();
        }
        KEY.with_borrow_mut(|key| {
            key.set(candidate);
            self.judge_as(key, now, candidate, shape)
        })
    }

    fn judge_as(&self, key: &RouteKey, now: Nanos, candidate: &Candidate<'_>, shape: Shape) -> Judgement {
        let mut routes = self.routes();
        let Found { id: route, fixed, route: found } = routes.find(now, key);
        let (shape, is_sampled) = match shape {
            Shape::Known { shape, is_sampled } => (Some(shape), is_sampled),
            Shape::Unknown => {
                let is_sampled = found.is_sampled(now, candidate.id);
                if is_sampled || (fixed.is_none() && found.depends_on_shape(now, candidate.duration)) {
                    return Judgement::Look { is_sampled };
                }
                (None, false)
            }
        };
        let (rule, basis) = found.rule(fixed, now, shape);
        let teaches = found.is_taught_by(fixed);
        found.count();
        // Asked only where it matters. Who sets a threshold for a stream's route means it.
        let is_stream = basis != Basis::Fixed
            && (is_sampled || rule.may_be_slow(candidate.duration))
            && stream::is_stream(&candidate.span);
        let (rule, basis) = if is_stream { (SlowRule::Never, Basis::Stream) } else { (rule, basis) };
        let is_slow = match rule {
            SlowRule::Never => false,
            SlowRule::Above(threshold) => candidate.duration > threshold,
            SlowRule::Learning => !candidate.has_root && candidate.duration > SLOW_FRAGMENT,
        };
        let is_error = candidate.span.head.is_error;
        if teaches && !candidate.is_fragment && !is_error && !is_stream {
            // Others were looked at because of how long they took, and would teach a shape just that.
            routes.learn(now, route, candidate.duration, shape.filter(|_| is_sampled));
        }
        let is_learning = rule == SlowRule::Learning;
        let decided = match () {
            () if is_slow => Decided::Slow,
            () if candidate.has_error => Decided::Error,
            () if is_learning => Decided::Learning,
            () => Decided::Healthy,
        };
        let threshold = match rule {
            SlowRule::Above(threshold) => Some(threshold),
            _ => None,
        };
        Judgement::Decided(Judged {
            decided,
            route,
            duration: candidate.duration,
            has_root: candidate.has_root,
            threshold,
            basis,
            shape,
            is_notable: is_slow || (is_learning && candidate.duration > NOTABLE_WHILE_LEARNING),
            is_reference: is_sampled && !is_slow && !is_error && !is_stream && !candidate.is_fragment,
            is_sampled,
        })
    }

    /// Whether a healthy trace, or an error where not all are kept, stays in the sample. `trace_states` are those of
    /// its spans, the entry span's first.
    pub fn sample<'a>(
        &self,
        id: TraceId,
        decided: Decided,
        trace_states: impl Iterator<Item = &'a [u8]>,
    ) -> sample::Sampled {
        let share = match decided {
            Decided::Error => self.sample.errors,
            Decided::Healthy => self.sample.healthy,
            _ => 1.0,
        };
        let is_stamped = decided == Decided::Healthy || (decided == Decided::Error && share < 1.0);
        if !is_stamped {
            return sample::Sampled::Kept { stamp: None };
        }
        sample::sample(id, share, trace_states)
    }

    /// How many routes have a threshold, and how many have none yet.
    pub fn routes_by_state(&self) -> (usize, usize) {
        self.routes().by_state()
    }

    /// `SERVICE ROUTE`, as people read it.
    pub fn route_name(&self, route: RouteId) -> String {
        self.routes().name(route)
    }

    /// Trusts every shape seen so far: what was learned comes from traffic known to be normal.
    pub fn trust_shapes(&self) {
        self.routes().trust_shapes();
    }

    /// The numbers of all routes.
    pub(crate) fn routes_to_save(&self) -> Vec<RouteId> {
        self.routes().ids()
    }

    /// What is written of some routes; `ids` are in order.
    pub(crate) fn save(&self, ids: &[RouteId]) -> Vec<SavedRoute> {
        self.routes().save(ids)
    }

    /// Whether there is a route with this number.
    pub(crate) fn knows(&self, route: RouteId) -> bool {
        self.routes().knows(route)
    }

    /// Takes back what was written before a restart; returns whether the route is known from then on.
    pub(crate) fn restore(&self, now: Nanos, saved: SavedRoute) -> bool {
        self.routes().restore(now, saved)
    }

    /// Bytes taken for what was learned.
    pub fn used_bytes(&self) -> u64 {
        self.routes().used_bytes()
    }

    /// A panic under the lock leaves counts that are at worst one short.
    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
