//! Verdicts on traces written down as text: every category, every reason for silence, and traces as ugly as they come,
//! through the stages of the sidecar and through `laggard compare`.

#![allow(clippy::panic, clippy::indexing_slicing, reason = "test helpers fail as tests do")]
#![allow(clippy::cast_possible_truncation, reason = "times are written by hand")]

#[path = "verdicts/categories.rs"]
mod categories;
#[path = "verdicts/notation.rs"]
mod notation;
#[path = "verdicts/reasons.rs"]
mod reasons;
#[path = "verdicts/rig.rs"]
mod rig;
#[path = "verdicts/ugly.rs"]
mod ugly;
