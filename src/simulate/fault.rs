//! One thing that goes wrong, and what a careful expert would then say.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::random::Random;
use super::run::{Moment, run};
use super::system::{Call, Step, System};
use crate::compare::Category;
use crate::otlp::Nanos;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scenario {
    /// A service works longer.
    OwnTime,
    /// Requests wait before a service takes them, whoever sends them.
    NetworkQueue,
    /// A service starves: it works longer, takes requests later and notices answers later.
    Saturation,
    /// The uninstrumented database of one service is slow.
    Dependency,
    /// A service calls many times what it called once.
    ExtraCalls,
    /// A service fails the first attempt of each call.
    Retry,
    /// A service does not answer before its callers give up.
    Timeout,
    /// A cache that always had the answer never has it.
    NewPath,
    /// What was done at once is done one after the other.
    LostConcurrency,
    /// A service fails for a while, and every layer above tries again.
    RetryStorm,
    /// A circuit breaker is open: a slow fallback is asked instead.
    Fallback,
    /// One instance is new and slow to take and to do its work.
    ColdStart,
    /// A service waits for a connection to one of those it calls.
    PoolWait,
    /// A service waits for a lock, now longer, now shorter.
    LockWait,
    /// A database that several services use is slow.
    SharedDatabase,
    /// A cache has the answer less often than it had.
    CacheRatio,
    /// Half of the requests bring more work to a service.
    BiggerInput,
    /// A service works longer, and its callers ask a second instance when the first takes too long.
    Hedged,
    /// A service fails slowly, and circuit breakers keep some requests from it; callers do without it.
    Breaker,
    /// Nothing: what is slow is slow by chance.
    Chance,
}

impl Scenario {
    /// One for each category, in its order.
    pub const PLAIN: [Self; 9] = [
        Self::OwnTime,
        Self::NetworkQueue,
        Self::Saturation,
        Self::Dependency,
        Self::ExtraCalls,
        Self::Retry,
        Self::Timeout,
        Self::NewPath,
        Self::LostConcurrency,
    ];

    /// What goes wrong in less plain ways.
    pub const COMPOUND: [Self; 10] = [
        Self::RetryStorm,
        Self::Fallback,
        Self::ColdStart,
        Self::PoolWait,
        Self::LockWait,
        Self::SharedDatabase,
        Self::CacheRatio,
        Self::BiggerInput,
        Self::Hedged,
        Self::Breaker,
    ];

    /// All of them, and no fault at all.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::PLAIN.into_iter().chain(Self::COMPOUND).chain([Self::Chance])
    }

    /// As tables call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OwnTime => "own_time",
            Self::NetworkQueue => "network_queue",
            Self::Saturation => "saturation",
            Self::Dependency => "dependency",
            Self::ExtraCalls => "extra_calls",
            Self::Retry => "retry",
            Self::Timeout => "timeout",
            Self::NewPath => "new_path",
            Self::LostConcurrency => "lost_concurrency",
            Self::RetryStorm => "retry storm",
            Self::Fallback => "fallback",
            Self::ColdStart => "cold start",
            Self::PoolWait => "pool wait",
            Self::LockWait => "lock wait",
            Self::SharedDatabase => "shared database",
            Self::CacheRatio => "cache ratio fell",
            Self::BiggerInput => "bigger input",
            Self::Hedged => "hedged",
            Self::Breaker => "circuit breaker",
            Self::Chance => "chance alone",
        }
    }

    /// The categories that describe it, the best first.
    pub fn categories(self) -> &'static [Category] {
        use Category::{
            Dependency, ExtraCalls, LostConcurrency, NetworkQueue, NewPath, OwnTime, Retry, Saturation,
            Timeout,
        };
        match self {
            Self::OwnTime | Self::LockWait | Self::BiggerInput | Self::Hedged | Self::Breaker => &[OwnTime],
            Self::Chance => &[OwnTime, NetworkQueue, Dependency, NewPath],
            Self::NetworkQueue => &[NetworkQueue],
            Self::Saturation => &[Saturation, OwnTime, NetworkQueue],
            Self::Dependency | Self::SharedDatabase => &[Dependency],
            Self::ExtraCalls => &[ExtraCalls],
            Self::Retry => &[Retry],
            Self::Timeout => &[Timeout],
            Self::NewPath => &[NewPath],
            Self::LostConcurrency => &[LostConcurrency],
            Self::RetryStorm => &[Retry, ExtraCalls],
            Self::Fallback => &[NewPath, Dependency],
            Self::ColdStart => &[OwnTime, NetworkQueue, Saturation],
            Self::PoolWait => &[NetworkQueue, Saturation],
            Self::CacheRatio => &[NewPath, Dependency, ExtraCalls],
        }
    }
}

/// A fault in one place of one system.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// What goes wrong.
    pub scenario: Scenario,
    /// Where.
    pub service: usize,
    /// In one of its instances only.
    pub replica: Option<usize>,
    /// Nanoseconds that one call is affected by; how many calls more for [`Scenario::ExtraCalls`], how many are made at
    /// once for [`Scenario::LostConcurrency`].
    pub amount: Nanos,
    /// The step concerned: operation and index.
    pub step: Option<(usize, usize)>,
    /// The database concerned; for [`Scenario::PoolWait`] the service that is waited for.
    pub other: usize,
}

impl Fault {
    /// Whether it strikes what this instance does.
    pub fn strikes(&self, service: usize, replica: usize) -> bool {
        self.service == service && self.replica.is_none_or(|sick| sick == replica)
    }

    /// A place in `system` where this scenario can happen, so that it adds about `strength` of the usual duration to
    /// the requests that meet it; `None` where no place was found. The system is adapted where the fault needs it.
    pub fn place(system: &mut System, scenario: Scenario, strength: f64, seed: u64) -> Option<Self> {
        if scenario == Scenario::Chance {
            let other = 0;
            return Some(Self {
                scenario,
                service: 0,
                replica: Some(usize::MAX),
                amount: 0,
                step: None,
                other,
            });
        }
        let mut random = Random::at(seed, 2);
        let places = places(system, scenario);
        for _ in 0..12.min(places.len()) {
            let (service, step, other) = *places.get(random.below(places.len()))?;
            let replicas = system.services[service].replicas;
            let is_one = replicas >= 3 && (scenario == Scenario::ColdStart || random.chance(0.3));
            let replica = is_one.then(|| random.below(replicas));
            let mut fault = Self { scenario, service, replica: None, amount: 0, step, other };
            if fault.fit(system, strength, seed) {
                fault.replica = replica;
                return Some(fault);
            }
        }
        None
    }

    /// Finds the amount that adds so much. Measured with all instances struck: then every request shows it.
    fn fit(&mut self, system: &mut System, strength: f64, seed: u64) -> bool {
        let usual = probe(system, None, seed).0;
        let target = usual * strength;
        self.amount = match self.scenario {
            Scenario::ExtraCalls => 1,
            Scenario::LostConcurrency => 2,
            _ => target.max(1e6) as Nanos,
        };
        for _ in 0..2 {
            self.adapt(system);
            let (_, added) = probe(system, Some(self), seed);
            if added <= 0.0 {
                return false;
            }
            let factor = (target / added).clamp(0.01, 150.0);
            self.amount = ((self.amount as f64 * factor).max(1.0)) as Nanos;
            if self.amount as f64 > target * MOST_TIMES {
                return false;
            }
            if self.scenario == Scenario::ExtraCalls {
                break;
            }
        }
        self.adapt(system);
        let least = if self.scenario == Scenario::LostConcurrency { target * 0.5 } else { usual * 0.1 };
        probe(system, Some(self), seed).1 > least
    }

    /// The system as it is before the fault: what is behind a cache is as slow, as many calls are made at once, and
    /// callers are as impatient.
    fn adapt(&self, system: &mut System) {
        match (self.scenario, self.step) {
            (Scenario::NewPath | Scenario::CacheRatio, Some((operation, step))) => {
                if let Step::Cached { miss, .. } = &mut system.operations[operation].steps[step] {
                    miss.median = self.amount as f64;
                }
            }
            (Scenario::LostConcurrency, Some((operation, step))) => {
                let Step::Together(calls) = &system.operations[operation].steps[step] else { return };
                let spans: f64 = calls.iter().map(|call| system.operations[call.operation].spans).sum();
                let most = (MOST_SPANS_AT_ONCE / spans * calls.len() as f64) as usize;
                let count = (self.amount as usize).min(most).max(2);
                let calls = calls.iter().copied().cycle().take(count).collect();
                system.operations[operation].steps[step] = Step::Together(calls);
            }
            (Scenario::Hedged, _) => system.hedge(self.service, self.amount / 2),
            _ => {}
        }
    }

    /// The services that are a right answer: the culprit first, then what an expert would also accept.
    pub fn accepted<'s>(&self, system: &'s System, edges: &[(usize, usize)]) -> Vec<&'s str> {
        let mut accepted = vec![self.service];
        let callers =
            || edges.iter().filter(|(_, callee)| *callee == self.service).map(|(caller, _)| *caller);
        let callees =
            |of: usize| edges.iter().filter(move |(caller, _)| *caller == of).map(|(_, callee)| *callee);
        let is_called_unseen =
            callers_of(system, self.service).iter().all(|caller| !system.services[*caller].is_traced);
        match self.scenario {
            // Where nobody calls it but services that send no spans, a wait for it lies within the time of such a
            // service, all of which the span of whoever called that shows as one.
            Scenario::NetworkQueue | Scenario::Timeout if is_called_unseen => {
                let callers = callers_of(system, self.service).into_iter();
                accepted.extend(callers.flat_map(|caller| shown_by(system, caller)));
            }
            // Where a caller and a callee have only each other, nobody can say which end of the edge it is.
            Scenario::NetworkQueue | Scenario::ColdStart | Scenario::Timeout if callers().count() == 1 => {
                accepted.extend(callers().filter(|caller| callees(*caller).count() == 1));
            }
            // A wait on one edge alone, where both of its ends are well otherwise.
            Scenario::PoolWait => {
                accepted.push(self.other);
                accepted.extend(system.proxy_of(self.other));
            }
            Scenario::SharedDatabase => {
                let users = system.operations.iter().filter(|operation| {
                    operation.steps.iter().any(|step| match step {
                        Step::Query { database, .. } | Step::Cached { database, .. } => {
                            *database == self.other
                        }
                        _ => false,
                    })
                });
                accepted.extend(users.flat_map(|operation| shown_by(system, operation.service)));
            }
            _ => {}
        }
        // What its proxy saw, it saw of the service behind it.
        accepted.extend(system.proxy_of(self.service));
        accepted.into_iter().filter_map(|service| Some(system.services.get(service)?.name.as_str())).collect()
    }
}

/// The services that call this one and wait for it.
fn callers_of(system: &System, service: usize) -> Vec<usize> {
    let calls_it = |call: &Call| system.operations[call.operation].service == service;
    let callers = system.operations.iter().filter(|operation| {
        operation.steps.iter().any(|step| match step {
            Step::Call(call) => calls_it(call),
            Step::Together(calls) => calls.iter().any(calls_it),
            _ => false,
        })
    });
    let callers: BTreeSet<usize> = callers.map(|operation| operation.service).collect();
    callers.into_iter().collect()
}

/// Who can be named for the time of a service: itself, or where it sends no spans, its proxy, or those who wait for it,
/// whose client spans are all that shows how long it took.
fn shown_by(system: &System, service: usize) -> Vec<usize> {
    let mut shown = BTreeSet::new();
    // Callers stand before those they call, so this ends.
    let mut waiting = vec![service];
    while let Some(service) = waiting.pop() {
        let proxy = system.proxy_of(service);
        if system.services[service].is_traced {
            shown.insert(service);
        } else if let Some(proxy) = proxy {
            shown.insert(proxy);
        } else {
            waiting.extend(callers_of(system, service));
        }
    }
    shown.into_iter().collect()
}

/// A call is affected by at most so many times what that adds to the request.
const MOST_TIMES: f64 = 20.0;

/// A fan-out leaves no more spans than this, on average.
const MOST_SPANS_AT_ONCE: f64 = 300.0;

type Place = (usize, Option<(usize, usize)>, usize);

/// Services, and steps of theirs, where a scenario makes sense.
fn places(system: &System, scenario: Scenario) -> Vec<Place> {
    let mut places = Vec::new();
    for (number, operation) in system.operations.iter().enumerate() {
        let service = operation.service;
        if !system.services[service].is_traced {
            continue;
        }
        for (index, step) in operation.steps.iter().enumerate() {
            let at = Some((number, index));
            let callee = |call: &Call| system.operations[call.operation].service;
            match (scenario, step) {
                (Scenario::Dependency | Scenario::SharedDatabase, Step::Query { database, .. }) => {
                    places.push((service, None, *database));
                }
                (Scenario::ExtraCalls, Step::Call(_) | Step::Query { .. })
                | (Scenario::Fallback, Step::Call(_)) => {
                    places.push((service, at, 1_000 + service));
                }
                (Scenario::NewPath, Step::Cached { hits, .. }) if *hits >= 1.0 => {
                    places.push((service, at, 0));
                }
                (Scenario::CacheRatio, Step::Cached { hits, .. }) if *hits < 1.0 => {
                    places.push((service, at, 0));
                }
                (Scenario::LostConcurrency, Step::Together(_)) => places.push((service, at, 0)),
                (Scenario::PoolWait, Step::Call(call)) if system.services[callee(call)].is_traced => {
                    places.push((service, at, callee(call)));
                }
                (Scenario::Saturation | Scenario::BiggerInput, Step::Call(_))
                | (Scenario::BiggerInput, Step::Query { .. })
                | (Scenario::OwnTime | Scenario::LockWait, Step::Work(_)) => {
                    places.push((service, None, 0));
                }
                (
                    Scenario::NetworkQueue
                    | Scenario::Retry
                    | Scenario::RetryStorm
                    | Scenario::Timeout
                    | Scenario::ColdStart
                    | Scenario::Hedged
                    | Scenario::Breaker,
                    Step::Call(call),
                ) if system.services[callee(call)].is_traced => {
                    places.push((callee(call), None, 0));
                }
                _ => {}
            }
        }
    }
    places.sort_unstable();
    places.dedup();
    places
}

/// The usual duration over the routes, and what a fault adds to a request that meets it; nanoseconds, means of the
/// middle of a few requests of the route that meets it most.
fn probe(system: &System, fault: Option<&Fault>, seed: u64) -> (f64, f64) {
    let mut durations = Vec::new();
    let mut best = 0.0_f64;
    for (route, (operation, _)) in system.routes.iter().enumerate() {
        let mut added = Vec::new();
        for number in 0..7 {
            let moment = Moment {
                seed: super::random::mix(seed, 0x7000 + number * 16 + route as u64),
                start: 0,
                progress: 0.0,
                operation: *operation,
                calm: None,
            };
            let clean = run(system, None, moment).duration as f64;
            durations.push(clean);
            if fault.is_some() {
                added.push(run(system, fault, moment).duration as f64 - clean);
            }
        }
        best = best.max(middle(&mut added));
    }
    (middle(&mut durations), best)
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first of some systems in which there is a place for it.
    fn placed(scenario: Scenario, strength: f64) -> (System, Fault, u64) {
        let found = (0..60).find_map(|seed| {
            let mut system = System::random(seed);
            Fault::place(&mut system, scenario, strength, seed).map(|fault| (system, fault, seed))
        });
        found.expect("some system has a place")
    }

    #[test]
    fn a_fault_adds_about_as_much_as_it_is_asked_to_where_all_instances_have_it() {
        for scenario in Scenario::all().filter(|scenario| *scenario != Scenario::Chance) {
            for strength in [0.3, 5.0] {
                let (system, mut fault, seed) = placed(scenario, strength);
                fault.replica = None;
                let (usual, added) = (probe(&system, None, seed).0, probe(&system, Some(&fault), seed).1);
                let part = added / usual;
                assert!((strength / 4.0..strength * 4.0).contains(&part), "{scenario:?} {strength}: {part}");
            }
        }
    }

    #[test]
    fn what_an_untraced_user_of_a_database_waits_for_is_shown_by_those_who_wait_for_it() {
        let (mut system, fault, _) = placed(Scenario::SharedDatabase, 1.0);
        system.has_mesh = false;
        let users = system.operations.iter().filter(|operation| {
            operation
                .steps
                .iter()
                .any(|step| matches!(step, Step::Query { database, .. } if *database == fault.other))
        });
        let user = users.map(|operation| operation.service).max().expect("it has one");
        let callers = callers_of(&system, user);
        for service in &mut system.services {
            service.is_traced = true;
        }
        assert_eq!(shown_by(&system, user), [user]);
        system.services[user].is_traced = false;
        assert_eq!(shown_by(&system, user), callers);
        let accepted = fault.accepted(&system, &[]);
        assert!(callers.iter().all(|caller| accepted.contains(&system.services[*caller].name.as_str())));
    }

    #[test]
    fn where_nothing_is_wrong_requests_are_as_they_were() {
        let (system, fault, seed) = placed(Scenario::Chance, 1.0);
        assert!(probe(&system, Some(&fault), seed).1.abs() < 1.0);
    }
}
