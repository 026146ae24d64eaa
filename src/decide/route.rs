//! The routes seen so far: which rule each is judged by, and what it has learned.
//!
//! Bounded: at most `MAX_ROUTES` routes of at most `MAX_SHAPES` shapes each. Requests of further routes share
//! [`RouteId::OTHER`], which is judged like a route of its own and never serves as a baseline.

use std::collections::HashMap;
use std::time::Duration;

use super::Candidate;
use super::identity::{kind_name, put_route};
use super::threshold::{Durations, Learning};
use crate::config::{self, Threshold};
use crate::otlp::{Nanos, TraceId};

const MAX_ROUTES: usize = 2_000;
const MAX_SHAPES: usize = 8;

/// Learning looks at so many traces of a route in a second: a percentile needs hundreds, not millions.
const LEARN_PER_SECOND: u64 = 50;

const SECOND: Nanos = 1_000_000_000;

/// How fast the recent share of a shape forgets: half in this time.
const SHARE_HALF_LIFE: Nanos = 120 * SECOND;

/// A route, by its number; numbers are not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(u32);

impl RouteId {
    /// All routes beyond the limit.
    pub const OTHER: Self = Self(0);
}

/// What a duration is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlowRule {
    /// Never slow: the route is ignored.
    Never,
    /// Slow above so many nanoseconds.
    Above(Nanos),
    /// Not known yet.
    Learning,
}

#[derive(Debug)]
pub(super) struct Routes {
    learning: Learning,
    threshold: Threshold,
    overrides: Vec<config::RouteOverride>,
    by_key: HashMap<String, RouteId, foldhash::fast::RandomState>,
    routes: Vec<Route>,
    /// Scratch space for a key, so that finding a known route allocates nothing.
    key: String,
}

#[derive(Debug)]
pub(super) struct Route {
    /// `SERVICE ROUTE`.
    name: String,
    fixed: Option<SlowRule>,
    learning: Learning,
    durations: Durations,
    sample: FairSample,
    shapes: Shapes,
}

impl Routes {
    pub(super) fn new(slow: &config::Slow) -> Self {
        let learning = Learning::new(&slow.learned);
        let mut routes = Self {
            learning,
            threshold: slow.threshold,
            overrides: slow.routes.clone(),
            by_key: HashMap::default(),
            routes: Vec::new(),
            key: String::new(),
        };
        let other = routes.new_route("_other", "", "_other");
        routes.routes.push(other);
        routes
    }

    /// The route of a candidate; a new one is made while there is room.
    pub(super) fn find(&mut self, candidate: &Candidate<'_>) -> (RouteId, &mut Route) {
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        let service = String::from_utf8_lossy(candidate.service);
        // A unit separator, which no name holds, keeps the parts apart.
        for part in [&*service, kind_name(candidate.span.head.kind)] {
            key.push_str(part);
            key.push('\u{1f}');
        }
        let route_at = key.len();
        put_route(&candidate.span, &mut key);
        let id = match self.by_key.get(key.as_str()) {
            Some(id) => *id,
            None if self.by_key.len() >= MAX_ROUTES => RouteId::OTHER,
            None => {
                let route = key.get(route_at..).unwrap_or("");
                let new = self.new_route(&format!("{service} {route}"), &service, route);
                self.routes.push(new);
                let id = RouteId(u32::try_from(self.routes.len() - 1).unwrap_or(0));
                self.by_key.insert(key.clone(), id);
                id
            }
        };
        self.key = key;
        let index = if (id.0 as usize) < self.routes.len() { id.0 as usize } else { 0 };
        (id, self.routes.get_mut(index).expect("route 0 exists from the start, and an index is checked"))
    }

    fn new_route(&self, name: &str, service: &str, route: &str) -> Route {
        let exception = self.overrides.iter().find(|rule| {
            (rule.service.is_empty() || glob(&rule.service, service))
                && (rule.route.is_empty() || glob(&rule.route, route))
        });
        let global = match self.threshold {
            Threshold::Fixed(threshold) => Some(threshold),
            Threshold::Learned => None,
        };
        let fixed = match exception {
            Some(rule) if rule.ignore => Some(SlowRule::Never),
            Some(config::RouteOverride { threshold: Some(threshold), .. }) => Some(above(*threshold)),
            _ => global.map(above),
        };
        Route {
            name: name.to_owned(),
            fixed,
            learning: self.learning,
            durations: Durations::default(),
            sample: FairSample::default(),
            shapes: Shapes::default(),
        }
    }

    pub(super) fn by_state(&self) -> (usize, usize) {
        let seen = self.routes.iter().skip(1);
        let learned = seen.clone().filter(|route| route.rule(0, None) != SlowRule::Learning).count();
        (learned, seen.count() - learned)
    }

    pub(super) fn name(&self, route: RouteId) -> String {
        self.routes.get(route.0 as usize).map_or_else(|| "_other".to_owned(), |route| route.name.clone())
    }

    pub(super) fn trust_shapes(&mut self) {
        for route in &mut self.routes {
            for shape in &mut route.shapes.known {
                shape.is_trusted = true;
            }
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let routes: u64 = self
            .routes
            .iter()
            .map(|route| {
                let shapes: u64 = route.shapes.known.iter().map(|shape| shape.durations.allocated()).sum();
                let fixed = size_of::<Route>() + route.name.capacity() * 2 + size_of::<(String, RouteId)>();
                fixed as u64 + route.durations.allocated() + shapes
            })
            .sum();
        routes
    }
}

fn above(threshold: Duration) -> SlowRule {
    SlowRule::Above(Nanos::try_from(threshold.as_nanos()).unwrap_or(Nanos::MAX))
}

impl Route {
    /// What a trace is held against; `shape` where it is known.
    pub(super) fn rule(&self, now: Nanos, shape: Option<u64>) -> SlowRule {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        let own = shape.and_then(|shape| self.shapes.threshold(shape, now, &self.learning));
        own.or_else(|| self.durations.threshold()).map_or(SlowRule::Learning, SlowRule::Above)
    }

    pub(super) fn has_fixed_rule(&self) -> bool {
        self.fixed.is_some()
    }

    /// Whether a duration would be slow in one shape of this route and not in another.
    pub(super) fn depends_on_shape(&self, now: Nanos, duration: Nanos) -> bool {
        let Some(threshold) = self.durations.threshold() else { return false };
        let is_slow = duration > threshold;
        self.shapes.known.iter().any(|shape| {
            // Whether its threshold counts takes longer to say than what it would say.
            shape.durations.threshold().is_some_and(|threshold| (duration > threshold) != is_slow)
                && self.shapes.threshold(shape.hash, now, &self.learning).is_some()
        })
    }

    /// Whether learning looks at a trace.
    pub(super) fn is_sampled(&mut self, now: Nanos, id: TraceId) -> bool {
        self.sample.takes(now, id)
    }

    /// Counts a trace that was decided.
    pub(super) fn learn(&mut self, now: Nanos, duration: Nanos, shape: Option<u64>) {
        self.durations.add(now, duration, &self.learning);
        if let Some(shape) = shape {
            self.shapes.add(now, shape, duration, &self.learning);
        }
    }
}

/// A fair sample of a route's traces, by trace id: of so many a second that [`LEARN_PER_SECOND`] remain.
#[derive(Debug, Default)]
struct FairSample {
    second: Nanos,
    seen: u64,
    taken: u64,
    seen_before: u64,
}

impl FairSample {
    fn takes(&mut self, now: Nanos, id: TraceId) -> bool {
        let second = now / SECOND;
        if second != self.second {
            self.seen_before = if second == self.second + 1 { self.seen } else { 0 };
            (self.second, self.seen, self.taken) = (second, 0, 0);
        }
        self.seen += 1;
        let rate = self.seen.max(self.seen_before).max(LEARN_PER_SECOND);
        // Not the low bits: those are the randomness that head sampling has already chosen by.
        let [high, ..] = id.bytes().as_chunks::<8>().0 else { return false };
        let draw = u64::from_be_bytes(*high).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let is_taken = self.taken < LEARN_PER_SECOND && draw <= u64::MAX / rate * LEARN_PER_SECOND;
        self.taken += u64::from(is_taken);
        is_taken
    }
}

/// The shapes of one route, the first `MAX_SHAPES` by themselves.
#[derive(Debug, Default)]
struct Shapes {
    known: Vec<Shape>,
    /// All recent traces whose shape was looked at.
    recent: Decayed,
    all: f64,
}

#[derive(Debug)]
struct Shape {
    hash: u64,
    since: Nanos,
    is_trusted: bool,
    durations: Durations,
    recent: Decayed,
    count: f64,
}

impl Shapes {
    fn add(&mut self, now: Nanos, hash: u64, duration: Nanos, learning: &Learning) {
        self.recent.add(now);
        self.all += 1.0;
        let known = match self.known.iter().position(|shape| shape.hash == hash) {
            Some(known) => known,
            None if self.known.len() < MAX_SHAPES => {
                self.known.push(Shape {
                    hash,
                    since: now,
                    is_trusted: false,
                    durations: Durations::default(),
                    recent: Decayed::default(),
                    count: 0.0,
                });
                self.known.len() - 1
            }
            None => return,
        };
        if let Some(shape) = self.known.get_mut(known) {
            shape.recent.add(now);
            shape.count += 1.0;
            shape.durations.add(now, duration, learning);
        }
    }

    /// A shape's own threshold, unless it is too young, or too frequent now to be itself: a cache outage turns every
    /// trace into the "miss" shape, and that is slow.
    fn threshold(&self, hash: u64, now: Nanos, learning: &Learning) -> Option<Nanos> {
        let shape = self.known.iter().find(|shape| shape.hash == hash)?;
        let is_old = shape.is_trusted || now.saturating_sub(shape.since) >= learning.accept_after;
        let usual = shape.count / self.all.max(1.0);
        let recent = shape.recent.at(now) / self.recent.at(now).max(1.0);
        let is_surging = recent >= 2.0 * usual && recent >= usual + 0.1;
        if is_old && !is_surging { shape.durations.threshold() } else { None }
    }
}

/// A count that forgets half of itself in [`SHARE_HALF_LIFE`].
#[derive(Debug, Default)]
struct Decayed {
    count: f64,
    at: Nanos,
}

impl Decayed {
    fn add(&mut self, now: Nanos) {
        self.count = self.at(now) + 1.0;
        self.at = self.at.max(now);
    }

    fn at(&self, now: Nanos) -> f64 {
        let half_lives = now.saturating_sub(self.at) as f64 / SHARE_HALF_LIFE as f64;
        self.count * (-half_lives).exp2()
    }
}

/// Whether `text` matches `pattern` as a whole, in which `*` stands for any text, `/` included.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        let Some(found) = text.find(part) else { return false };
        text = text.get(found + part.len()..).unwrap_or("");
    }
    true
}
