//! What the records of a snapshot hold.

use serde::{Deserialize, Serialize};

use crate::baseline::SavedBaseline;
use crate::compare::traffic::{SavedEdge, SavedItem};
use crate::decide::SavedRoute;

/// One record. A route stands before its baselines, which name it by its number.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Record<'a> {
    /// Thresholds.
    Route(Box<SavedRoute>),
    /// References.
    Baseline(#[serde(borrow)] SavedBaseline<'a>),
    /// How long kinds of work take.
    Items(Vec<SavedItem>),
    /// How long services wait for each other.
    Edges(Vec<SavedEdge>),
    /// Traces that need not be forwarded as references again.
    Forwarded(Vec<[u8; 16]>),
}
