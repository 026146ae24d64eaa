//! What the routes may take in memory, and what they take.

use super::{MAX_ROUTES, Route, RouteId, Routes};

/// So much is counted of each route, however little it has learned: its own threshold never lacks room for the first half
/// of it, and what doubles there stays within.
pub(super) const RESERVED: u64 = 4 << 10;

/// More than what one trace can make a route grow by.
const STEP: u64 = 32 << 10;

/// Places of both tables for one route, twice: they double when they are full.
const PLACES: u64 = 2 * (size_of::<(RouteId, Route)>() + size_of::<(String, RouteId)>() + 2) as u64;

/// The limit, and how near it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    limit: u64,
    /// How many routes may be told apart.
    places: usize,
    /// Bytes of all routes besides their places in the tables, at least [`RESERVED`] of each.
    counted: u64,
}

impl Space {
    /// A quarter is left to routes that are known already: they have more to learn.
    pub(super) fn within(limit: u64) -> Self {
        let places = limit / 4 * 3 / (RESERVED + PLACES);
        let places = usize::try_from(places).unwrap_or(MAX_ROUTES).min(MAX_ROUTES);
        Self { limit, places, counted: RESERVED }
    }

    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// Notes that a route takes `after` bytes instead of `before`.
    pub(super) fn note(&mut self, before: u64, after: u64) {
        self.counted = (self.counted + after.max(RESERVED)).saturating_sub(before.max(RESERVED));
    }

    /// Notes that there is one more route.
    pub(super) fn note_new(&mut self, allocated: u64) {
        self.counted += allocated.max(RESERVED);
    }
}

impl Routes {
    /// Keeps the routes within `limit` bytes: fewer are told apart then, and those that have learned most learn no
    /// more that takes room.
    pub(in crate::decide) fn keep_within(&mut self, limit: u64) {
        self.space = Space::within(limit);
        self.recount();
    }

    /// Whether no further route may be told apart.
    pub(in crate::decide) fn is_full(&self) -> bool {
        let doubled = |size: usize, is_full: bool| if is_full { size as u64 } else { 0 };
        let routes = doubled(self.routes.allocation_size(), self.routes.len() == self.routes.capacity());
        let by_key = doubled(self.by_key.allocation_size(), self.by_key.len() == self.by_key.capacity());
        self.routes.len() >= self.space.places || !self.is_roomy(routes + by_key)
    }

    /// Counts anew.
    pub(super) fn recount(&mut self) {
        let routes = self.routes.values().chain([&self.other]);
        self.space.counted = routes.map(|route| route.allocated.max(RESERVED)).sum();
    }

    /// Whether there is room for `more` bytes, and for whatever one trace makes a route grow by.
    pub(super) fn is_roomy(&self, more: u64) -> bool {
        self.tables() + self.space.counted + more + STEP <= self.space.limit
    }

    /// Bytes of both tables.
    pub(super) fn tables(&self) -> u64 {
        (self.routes.allocation_size() + self.by_key.allocation_size()) as u64
    }
}
