//! What tells routes apart, as one text.

use std::fmt::Write as _;
use std::ops::Range;

use super::super::Candidate;
use super::super::identity::{kind_name, put_route};

/// The longest service name that a route is told apart by, in bytes.
const LONGEST_SERVICE: usize = 256;

/// Stands between the parts, and in none of them.
pub(super) const SEPARATOR: char = '\u{1f}';

/// Entry service, kind and route of a candidate. Reused, so that finding a known route allocates nothing; and made before
/// the routes are locked, since reading the attributes of a span takes longer than all that follows.
#[derive(Debug, Default)]
pub(in crate::decide) struct RouteKey {
    text: String,
    service: usize,
    route: usize,
}

impl RouteKey {
    /// Makes it that of `candidate`.
    pub(in crate::decide) fn set(&mut self, candidate: &Candidate<'_>) {
        self.text.clear();
        let service = candidate.service.get(..LONGEST_SERVICE).unwrap_or(candidate.service);
        self.text.push_str(&String::from_utf8_lossy(service));
        self.service = self.text.len();
        let kind = kind_name(candidate.span.head.kind);
        let written = write!(self.text, "{SEPARATOR}{kind}{SEPARATOR}");
        debug_assert!(written.is_ok(), "writing to a string does not fail");
        self.route = self.text.len();
        put_route(&candidate.span, &mut self.text);
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn service(&self) -> &str {
        self.part(0..self.service)
    }

    pub(super) fn route(&self) -> &str {
        self.part(self.route..self.text.len())
    }

    fn part(&self, range: Range<usize>) -> &str {
        self.text.get(range).unwrap_or("")
    }
}
