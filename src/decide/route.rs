//! The routes seen so far: which rule each is judged by, and what it has learned.
//!
//! Bounded: at most `MAX_ROUTES` routes of a few shapes each, fewer where memory is short. Requests of further routes
//! share [`RouteId::OTHER`], which is judged like a route of its own and never serves as a baseline; exceptions in
//! `slow.routes` hold for them all the same. Once half of the places are taken, routes without traces for
//! `baseline.time_to_live` are forgotten, and once all are, those that have not learned a threshold and were not seen
//! for some minutes, so that a flood of unique names does not hold them for ever.

mod key;
mod saved;
mod space;

use std::time::Duration;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

pub(super) use key::RouteKey;
use key::SEPARATOR;
pub(crate) use saved::SavedRoute;
use space::{RESERVED, Space};

use super::shapes::{ShapeReport, Shapes};
use super::threshold::{Durations, Learning};
use crate::config::{self, Threshold};
use crate::otlp::{Nanos, TraceId};

const MAX_ROUTES: usize = 2_000;

/// Learning looks at so many traces of a route in a second: a percentile needs hundreds, not millions.
const LEARN_PER_SECOND: u64 = 50;

const SECOND: Nanos = 1_000_000_000;

/// Nanoseconds after which a route that has learned nothing gives its place away, where none is left.
const PASSING: Nanos = 600 * SECOND;

/// Idle routes are looked for this often.
const SWEEP_EVERY: Nanos = 60 * SECOND;

/// A route, by its number; numbers are not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

impl SlowRule {
    /// Whether a trace that took so many nanoseconds is slow, or nobody knows yet.
    pub(super) fn may_be_slow(self, duration: Nanos) -> bool {
        match self {
            Self::Never => false,
            Self::Above(threshold) => duration > threshold,
            Self::Learning => true,
        }
    }
}

/// What a route's rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// `slow.routes` says that it is never slow.
    Ignored,
    /// The entry span is a stream or a long poll, which is never slow.
    Stream,
    /// `slow.threshold`, or an exception in `slow.routes`.
    Fixed,
    /// Learned from all of the route's traces.
    Route,
    /// Learned from the traces of its shape.
    Shape,
    /// Not known yet.
    Learning,
}

/// What is known of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteReport {
    /// Its number.
    pub id: RouteId,
    /// `SERVICE ROUTE`.
    pub name: String,
    /// The entry span's kind; empty where all routes beyond the limit are meant.
    pub kind: String,
    /// What traces are held against, where their shape says nothing else.
    pub basis: Basis,
    /// Nanoseconds.
    pub threshold: Option<Nanos>,
    /// Traces judged.
    pub traces: u64,
    /// Its shapes.
    pub shapes: Vec<ShapeReport>,
}

#[derive(Debug)]
pub(super) struct Routes {
    learning: Learning,
    threshold: Threshold,
    overrides: Vec<config::RouteOverride>,
    by_key: HashMap<String, RouteId, foldhash::fast::RandomState>,
    routes: HashMap<RouteId, Route, foldhash::fast::RandomState>,
    other: Route,
    last_id: u32,
    /// The latest moment that a trace was judged at.
    latest: Nanos,
    swept_at: Nanos,
    space: Space,
}

/// A route as a trace finds it.
pub(super) struct Found<'a> {
    pub(super) id: RouteId,
    /// What the configuration says of the trace's own route, which may be one of many in `route`.
    pub(super) fixed: Option<SlowRule>,
    pub(super) route: &'a mut Route,
}

#[derive(Debug)]
pub(super) struct Route {
    /// `SERVICE ROUTE`.
    name: String,
    kind: String,
    fixed: Option<SlowRule>,
    learning: Learning,
    durations: Durations,
    sample: FairSample,
    shapes: Shapes,
    last_seen: Nanos,
    traces: u64,
    /// Bytes taken from the allocator, its key's included.
    allocated: u64,
}

impl Routes {
    pub(super) fn new(slow: &config::Slow) -> Self {
        let learning = Learning::new(&slow.learned);
        let rules = Rules { learning: &learning, threshold: slow.threshold, overrides: &slow.routes };
        Self {
            learning,
            threshold: slow.threshold,
            overrides: slow.routes.clone(),
            by_key: HashMap::default(),
            routes: HashMap::default(),
            other: rules.route("_other", "", rules.global()),
            last_id: 0,
            latest: 0,
            swept_at: 0,
            space: Space::within(u64::MAX),
        }
    }

    pub(super) fn forget_after(&mut self, nanos: Nanos) {
        self.learning.forget_after = nanos;
        self.other.learning.forget_after = nanos;
    }

    /// The route with this key; a new one is made while there is room.
    pub(super) fn find(&mut self, now: Nanos, key: &RouteKey) -> Found<'_> {
        self.latest = self.latest.max(now);
        let id = match self.by_key.get(key.as_str()) {
            Some(id) => *id,
            None => self.make(now, key),
        };
        let of_other = (id == RouteId::OTHER).then(|| self.rules().fixed(key.service(), key.route()));
        let route = self.routes.get_mut(&id).unwrap_or(&mut self.other);
        route.last_seen = route.last_seen.max(now);
        Found { id, fixed: of_other.unwrap_or(route.fixed), route }
    }

    fn rules(&self) -> Rules<'_> {
        Rules { learning: &self.learning, threshold: self.threshold, overrides: &self.overrides }
    }

    /// Teaches a route with a trace that was decided; `shape` where it is in the fair sample.
    pub(super) fn learn(&mut self, now: Nanos, id: RouteId, duration: Nanos, shape: Option<u64>) {
        let allocated = self.routes.get(&id).unwrap_or(&self.other).allocated;
        let is_roomy = self.is_roomy(0);
        let route = self.routes.get_mut(&id).unwrap_or(&mut self.other);
        route.learn(now, duration, shape, is_roomy);
        self.space.note(allocated, route.allocated);
    }

    fn make(&mut self, now: Nanos, key: &RouteKey) -> RouteId {
        self.forget_idle(now);
        if self.last_id == u32::MAX {
            return RouteId::OTHER;
        }
        let id = RouteId(self.last_id + 1);
        let made = self.insert(id, key.as_str(), key.service(), key.route());
        if made.is_some() { id } else { RouteId::OTHER }
    }

    /// A route that has learned nothing, if there is room for one more.
    fn insert(&mut self, id: RouteId, key: &str, service: &str, route: &str) -> Option<&mut Route> {
        if self.is_full() {
            return None;
        }
        let kind = key.split(SEPARATOR).nth(1).unwrap_or_default();
        let rules = self.rules();
        let mut made = rules.route(&format!("{service} {route}"), kind, rules.fixed(service, route));
        made.allocated += key.len() as u64;
        self.space.note_new(made.allocated);
        self.last_id = self.last_id.max(id.0);
        self.by_key.insert(key.to_owned(), id);
        Some(self.routes.entry(id).or_insert(made))
    }

    /// Forgets idle routes, if there are many and it was not done just now.
    pub(super) fn forget_idle(&mut self, now: Nanos) {
        let is_full = self.is_full();
        let has_many = is_full || self.routes.len() >= self.space.places().div_ceil(2);
        if !has_many || now.saturating_sub(self.swept_at) < SWEEP_EVERY {
            return;
        }
        self.swept_at = now;
        let forget_after = self.learning.forget_after;
        let passing_after = if is_full { PASSING.min(forget_after) } else { forget_after };
        self.routes.retain(|_, route| {
            let has_learned = route.durations.threshold().is_some();
            now.saturating_sub(route.last_seen) < if has_learned { forget_after } else { passing_after }
        });
        let routes = &self.routes;
        self.by_key.retain(|_, id| routes.contains_key(id));
        self.routes.shrink_to(self.routes.len() * 2);
        self.by_key.shrink_to(self.by_key.len() * 2);
        self.recount();
    }

    pub(super) fn by_state(&self) -> (usize, usize) {
        let learning = self
            .routes
            .values()
            .filter(|route| route.rule(route.fixed, 0, None).0 == SlowRule::Learning)
            .count();
        (self.routes.len() - learning, learning)
    }

    pub(super) fn name(&self, route: RouteId) -> String {
        self.routes.get(&route).map_or_else(|| "_other".to_owned(), |route| route.name.clone())
    }

    pub(super) fn trust_shapes(&mut self) {
        for route in self.routes.values_mut() {
            route.shapes.trust();
        }
    }

    /// What is known of each route, by name; `_other` last, if it was needed.
    pub(super) fn reports(&self) -> Vec<RouteReport> {
        let mut reports: Vec<RouteReport> =
            self.routes.iter().map(|(id, route)| route.report(*id, self.latest)).collect();
        reports.sort_by(|one, other| (&one.name, &one.kind).cmp(&(&other.name, &other.kind)));
        if self.other.traces > 0 {
            reports.push(self.other.report(RouteId::OTHER, self.latest));
        }
        reports
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let routes: u64 = self.routes.values().chain([&self.other]).map(|route| route.allocated).sum();
        self.tables() + routes
    }
}

/// What a new route's own rule is made from.
struct Rules<'a> {
    learning: &'a Learning,
    threshold: Threshold,
    overrides: &'a [config::RouteOverride],
}

impl Rules<'_> {
    /// What the configuration says of a route, if it does.
    fn fixed(&self, service: &str, route: &str) -> Option<SlowRule> {
        let exception = self.overrides.iter().find(|rule| {
            (rule.service.is_empty() || glob(&rule.service, service))
                && (rule.route.is_empty() || glob(&rule.route, route))
        });
        match exception {
            Some(rule) if rule.ignore => Some(SlowRule::Never),
            Some(config::RouteOverride { threshold: Some(threshold), .. }) => Some(above(*threshold)),
            _ => self.global(),
        }
    }

    /// What it says of all routes.
    fn global(&self) -> Option<SlowRule> {
        match self.threshold {
            Threshold::Fixed(threshold) => Some(above(threshold)),
            Threshold::Learned => None,
        }
    }

    fn route(&self, name: &str, kind: &str, fixed: Option<SlowRule>) -> Route {
        Route {
            name: name.to_owned(),
            kind: kind.to_owned(),
            fixed,
            learning: *self.learning,
            durations: Durations::default(),
            sample: FairSample::default(),
            shapes: Shapes::default(),
            last_seen: 0,
            traces: 0,
            allocated: (name.len() + kind.len()) as u64,
        }
    }
}

fn above(threshold: Duration) -> SlowRule {
    SlowRule::Above(Nanos::try_from(threshold.as_nanos()).unwrap_or(Nanos::MAX))
}

impl Route {
    /// What a trace is held against, and why: what `fixed` says, or what was learned; `shape` where it is known.
    pub(super) fn rule(&self, fixed: Option<SlowRule>, now: Nanos, shape: Option<u64>) -> (SlowRule, Basis) {
        match fixed {
            Some(SlowRule::Never) => return (SlowRule::Never, Basis::Ignored),
            Some(fixed) => return (fixed, Basis::Fixed),
            None => {}
        }
        let of_route = self.durations.threshold();
        if let Some(own) = shape.and_then(|shape| self.shapes.threshold(shape, of_route, now, &self.learning))
        {
            return (SlowRule::Above(own), Basis::Shape);
        }
        match of_route {
            Some(threshold) => (SlowRule::Above(threshold), Basis::Route),
            None => (SlowRule::Learning, Basis::Learning),
        }
    }

    /// Whether a trace that is held against `fixed` says what is normal here.
    pub(super) fn is_taught_by(&self, fixed: Option<SlowRule>) -> bool {
        fixed == self.fixed
    }

    /// Whether a duration would be slow in one shape of this route and not in another.
    pub(super) fn depends_on_shape(&self, now: Nanos, duration: Nanos) -> bool {
        let Some(threshold) = self.durations.threshold() else { return false };
        self.shapes.disagree(duration, threshold, now, &self.learning)
    }

    /// Whether learning looks at a trace.
    pub(super) fn is_sampled(&mut self, now: Nanos, id: TraceId) -> bool {
        self.sample.takes(now, id)
    }

    /// Counts a trace that was decided.
    pub(super) fn count(&mut self) {
        self.traces += 1;
    }

    fn learn(&mut self, now: Nanos, duration: Nanos, shape: Option<u64>, is_roomy: bool) {
        let before = self.durations.allocated();
        self.learning.may_grow = is_roomy || self.allocated <= RESERVED / 2;
        self.durations.add(now, duration, &self.learning);
        self.allocated = self.allocated + self.durations.allocated() - before;
        if let Some(shape) = shape {
            let before = self.shapes.allocated();
            self.learning.may_grow = is_roomy;
            self.shapes.add(now, shape, duration, &self.learning);
            self.allocated = self.allocated + self.shapes.allocated() - before;
        }
    }

    fn report(&self, id: RouteId, now: Nanos) -> RouteReport {
        let (rule, basis) = self.rule(self.fixed, now, None);
        let threshold = match rule {
            SlowRule::Above(threshold) => Some(threshold),
            SlowRule::Never | SlowRule::Learning => None,
        };
        RouteReport {
            id,
            name: self.name.clone(),
            kind: self.kind.clone(),
            basis,
            threshold,
            traces: self.traces,
            shapes: self.shapes.reports(self.durations.threshold(), now, &self.learning),
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
        let draw = draw(id);
        let is_taken = self.taken < LEARN_PER_SECOND && draw <= u64::MAX / rate * LEARN_PER_SECOND;
        self.taken += u64::from(is_taken);
        is_taken
    }
}

/// A number as good as random. Head sampling has chosen by the low bits as they are, and half of all senders have no
/// high ones, so both halves are mixed (the finalizer of `SplitMix64`).
fn draw(id: TraceId) -> u64 {
    let [high, low] = id.bytes().as_chunks::<8>().0 else { return 0 };
    let mut draw = u64::from_be_bytes(*high).rotate_left(32) ^ u64::from_be_bytes(*low);
    draw = (draw ^ draw >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    draw = (draw ^ draw >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    draw ^ draw >> 31
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
