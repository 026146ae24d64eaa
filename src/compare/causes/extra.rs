//! The part of the added time that stems from more calls than references make, or other ones, and whose it is.

use super::super::ledger::{Entry, Ledger, Side};
use super::super::traffic::WHOLE;
use super::super::{Category, failures};
use super::{Ancestry, Share};
use crate::baseline::floors::Floor;

impl Ancestry<'_> {
    /// Of a chain of paths that are new or are called more often, the one where the calls grew most is to blame.
    pub(super) fn find_origins(&mut self) {
        for at in self.slow.outward.iter().map(|at| *at as usize) {
            let Some(entry) = self.entry(at) else { continue };
            let parent = self.parent(at);
            let around = if parent == at { None } else { self.origin(parent) };
            let around = around.filter(|(origin, _)| self.may_come_with(at, *origin));
            let own = match self.floor(at) {
                // A path never seen came with the first call that led to it.
                None => Some((at, 0)),
                Some(floor) if entry.instances > floor.instances => {
                    let grew = u64::from(entry.instances) * 1000 / u64::from(floor.instances.max(1));
                    let around = match (self.entry(parent), self.floor(parent)) {
                        (Some(entry), Some(floor)) => {
                            u64::from(entry.instances) * 1000 / u64::from(floor.instances.max(1))
                        }
                        _ => 1000,
                    };
                    Some((at, grew * 1000 / around.max(1)))
                }
                Some(_) => None,
            };
            let origin = own.map(|own| match around {
                Some(around) if around.1 >= own.1 => around,
                _ => own,
            });
            if let Some(slot) = self.origins.get_mut(at) {
                *slot = origin;
            }
        }
    }

    /// Whether a path can stem from more calls further up. One that is new, and taken more often than there are more
    /// of these, is taken by the calls that were always made as well: calls asked a second time because the first
    /// takes long are no reason for what makes both of them long.
    fn may_come_with(&self, at: usize, origin: usize) -> bool {
        let (Some(entry), Some(calls)) = (self.entry(at), self.entry(origin)) else { return true };
        let usual = self.floor(origin).map_or(0, |floor| floor.instances);
        self.floor(at).is_some() || usual == 0 || entry.instances <= calls.instances.saturating_sub(usual)
    }

    /// The part of an excess that stems from calls that references do not make, or not so often.
    pub(super) fn extra(&self, at: usize, entry: &Entry, excess: u64) -> Option<Share> {
        let (origin_at, _) = self.origin(at)?;
        let origin = self.entry(origin_at)?;
        let caller =
            self.entry(self.parent(origin_at)).filter(|_| origin.side == Side::Work).unwrap_or(origin);
        let floor = self.floor(at);
        let failed = || {
            let failed = self.failed.get(origin_at).copied().flatten().unwrap_or(origin.service);
            self.dawdler(origin_at).filter(|_| origin.callee == Some(failed)).unwrap_or(failed)
        };
        let (service, category) = match self.floor(origin_at) {
            Some(known) if is_retry(origin, known) && origin.gave_up == origin.instances => {
                (failed(), Category::Timeout)
            }
            Some(known) if is_retry(origin, known) => (failed(), Category::Retry),
            Some(_) => (caller.service, Category::ExtraCalls),
            // Calls of the same kind are made there that were answered: this is one of them that was not.
            None if is_given_up(origin) => match failures::silent(origin, self.slow, self.linked) {
                Some(silent) => (silent, Category::Timeout),
                None => (caller.service, Category::NewPath),
            },
            None if self.calls_more(origin) => (caller.service, Category::ExtraCalls),
            None => (caller.service, Category::NewPath),
        };
        let time = match floor {
            // Calls that failed before one succeeded are those of who failed, however long each took.
            _ if matches!(category, Category::Retry | Category::Timeout) => excess,
            None => excess,
            Some(_) if self.is_beside(origin_at) => 0,
            Some(floor) => {
                // Of more calls that run beside one another only a part lies on the path.
                let time = u128::from(extra_time(entry, floor)) * u128::from(entry.on_path)
                    / u128::from(entry.alone.max(1));
                excess.min(u64::try_from(time).unwrap_or(u64::MAX))
            }
        };
        Some(Share { service, category, time, weight: WHOLE })
    }

    /// Whether the calls that grew here were all made beside the one that there usually is, and took none of the path:
    /// it alone is on it.
    fn is_beside(&self, origin: usize) -> bool {
        let usual = self.floor(origin).filter(|usual| usual.instances == 1 && usual.on_path > 0);
        usual.zip(self.entry(origin)).is_some_and(|(_, calls)| calls.on_path_instances == 1)
    }

    /// Whether a new kind of call stands for more calls to a service that was called from here before.
    fn calls_more(&self, origin: &Entry) -> bool {
        let calls = |ledger: &Ledger| -> u64 {
            let same = ledger.entries.iter().filter(|entry| {
                entry.side == Side::Call
                    && entry.parent == origin.parent
                    && entry.service == origin.service
                    && entry.callee == origin.callee
            });
            same.map(|entry| u64::from(entry.instances)).sum()
        };
        let before = calls(self.linked);
        origin.side == Side::Call && origin.callee.is_some() && before > 0 && calls(self.slow) > before
    }
}

/// Nanoseconds that the calls which references do not make would take, each as long as it normally does.
pub(in crate::compare) fn extra_time(entry: &Entry, floor: &Floor) -> u64 {
    let calls = u64::from(entry.instances.saturating_sub(floor.instances));
    calls.saturating_mul(floor.alone_of_one)
}

/// Whether calls are made more often because some of them failed: about as many as there are more.
fn is_retry(call: &Entry, floor: &Floor) -> bool {
    let more = call.instances.saturating_sub(floor.instances);
    call.side == Side::Call && call.errors > 0 && call.errors * 2 >= more
}

fn is_given_up(call: &Entry) -> bool {
    call.gave_up > 0 && call.gave_up * 2 >= call.instances
}
