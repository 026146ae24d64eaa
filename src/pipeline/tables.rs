//! How the memory for tables is divided.

/// What each table may take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Past decisions, for late spans.
    pub(super) decisions: u64,
    /// Routes with what they have learned.
    pub(super) routes: u64,
    /// Kinds of work, and edges.
    pub(super) traffic: u64,
    /// The latest decisions and verdicts, for whoever asks.
    pub(super) recent: u64,
    /// References that have left.
    pub(super) forwarded: u64,
}

impl Shares {
    /// Half of it is for past decisions; what is learned has most of the rest.
    pub(super) fn of(tables: u64) -> Self {
        let rest = tables / 2;
        let (recent, forwarded, traffic) = (rest / 4, rest / 16, rest / 16 * 5);
        let routes = rest - recent - forwarded - traffic;
        Self { decisions: tables - rest, routes, traffic, recent, forwarded }
    }
}
