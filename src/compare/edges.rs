//! Which end of a wait between two services explains it better.
//!
//! One edge cannot say which of its ends makes it slow. A slow network or a full queue at the callee makes all its
//! callers wait; a starved caller waits on all its callees; the other end's other edges stay as they were.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::traffic::{Part, Recent, WHOLE};

/// Fewer recent calls on an edge say nothing about it.
const ENOUGH_CALLS: f64 = 10.0;

/// The edges that were called often enough of late.
#[derive(Debug, Default)]
pub(crate) struct Edges {
    oddness: HashMap<(u64, u64), Part, FixedState>,
    services: HashMap<u64, Around, FixedState>,
    /// The oddness of all edges together.
    odd: u64,
}

/// The edges of one service: how many, and their oddness together.
#[derive(Clone, Copy, Debug, Default)]
struct Around {
    incoming: u64,
    odd_incoming: u64,
    outgoing: u64,
    odd_outgoing: u64,
}

/// How much of a wait could be whose, in millionths; both can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) caller: Part,
    pub(crate) callee: Part,
}

impl Edges {
    /// From caller, callee and calls of each edge.
    pub(crate) fn of(edges: impl Iterator<Item = ((u64, u64), Recent)>) -> Self {
        let mut all = Self::default();
        for ((caller, callee), recent) in edges.filter(|(_, recent)| recent.calls() >= ENOUGH_CALLS) {
            let odd = recent.oddness();
            all.oddness.insert((caller, callee), odd);
            all.odd += odd;
            let around = all.services.entry(callee).or_default();
            around.incoming += 1;
            around.odd_incoming += odd;
            let around = all.services.entry(caller).or_default();
            around.outgoing += 1;
            around.odd_outgoing += odd;
        }
        all
    }

    /// Whose a wait of `caller` on `callee` could be; `None` where too few calls were seen.
    pub(crate) fn ends(&self, caller: u64, callee: u64) -> Option<Ends> {
        self.oddness.get(&(caller, callee))?;
        let (caller, callee) = (self.services.get(&caller)?, self.services.get(&callee)?);
        let (of_caller, of_callee) = (caller.explains(self.odd), callee.explains(self.odd));
        let most = of_caller.max(of_callee).max(1);
        let part = |odd: u64, all: u64, explains: u64| odd / all.max(1) * explains / most;
        Some(Ends {
            caller: part(caller.odd_outgoing, caller.outgoing, of_caller),
            callee: part(callee.odd_incoming, callee.incoming, of_callee),
        })
    }
}

impl Around {
    /// How well this service explains which edges are odd, in millionths: how odd its edges are, times how much of
    /// all oddness is theirs.
    fn explains(&self, odd_in_all: u64) -> Part {
        let part = |odd: u64, all: u64| {
            let product = u128::from(odd / all.max(1)) * u128::from(odd) / u128::from(odd_in_all.max(1));
            u64::try_from(product).unwrap_or(WHOLE)
        };
        let both = part(self.odd_incoming + self.odd_outgoing, self.incoming + self.outgoing);
        part(self.odd_incoming, self.incoming).max(part(self.odd_outgoing, self.outgoing)).max(both)
    }
}
