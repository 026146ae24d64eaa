//! What a fault does to a request on its way.

use super::{Answer, From, Run};
use crate::otlp::Nanos;
use crate::simulate::fault::{Fault, Scenario};
use crate::simulate::random::Random;
use crate::simulate::system::Call;

/// A circuit breaker keeps so many requests from a service that fails.
const OPEN: f64 = 0.3;

impl Run<'_> {
    pub(super) fn strikes(&self, scenario: Scenario, service: usize, replica: usize) -> Option<Fault> {
        self.fault.filter(|fault| fault.scenario == scenario && fault.strikes(service, replica))
    }

    /// Whether the fault strikes this step.
    pub(super) fn strikes_step(&self, scenario: Scenario, from: From, at: (usize, usize)) -> Option<Fault> {
        self.strikes(scenario, from.service, from.replica).filter(|fault| fault.step == Some(at))
    }

    /// What a fault adds to the own work of an instance.
    pub(super) fn added_work(&self, service: usize, replica: usize, key: u64) -> Nanos {
        let Some(fault) = self.fault else { return 0 };
        if fault.scenario == Scenario::BiggerInput {
            let is_bigger = Random::at(self.moment.seed, 0xb19).chance(0.5);
            return if is_bigger && fault.service == service { fault.amount } else { 0 };
        }
        if !fault.strikes(service, replica) {
            return 0;
        }
        match fault.scenario {
            Scenario::OwnTime | Scenario::Hedged => fault.amount,
            Scenario::Saturation => fault.amount / 2,
            Scenario::ColdStart => fault.amount / 3 * 2,
            Scenario::LockWait => {
                let share = Random::at(key, 0x10c).between(0.2, 1.8);
                (fault.amount as f64 * share) as Nanos
            }
            _ => 0,
        }
    }

    /// How long the struck service takes to fail now.
    pub(super) fn fails(&mut self, at: From) -> Option<Nanos> {
        let fault = self.fault.filter(|fault| fault.strikes(at.service, at.replica))?;
        let is_failing = match fault.scenario {
            // The key of a second attempt is marked by its caller.
            Scenario::Retry => at.key & 1 == 0 && at.parent != 1,
            Scenario::RetryStorm => self.failures < 4 && at.parent != 1,
            Scenario::Breaker => at.parent != 1,
            _ => false,
        };
        self.failures += usize::from(is_failing);
        is_failing.then_some(fault.amount)
    }

    /// A call that is made only while the circuit breaker lets it through, and done without where it fails.
    pub(super) fn behind_breaker(&mut self, from: From, call: &Call, fault: Fault, now: Nanos) -> Answer {
        if Random::at(self.moment.seed, 0xb4e).chance(OPEN) {
            return Answer { end: now + 20_000, is_failed: false };
        }
        let answer = self.attempt(from, fault.service, call, now);
        Answer { is_failed: false, ..answer }
    }

    /// How much longer requests wait before this instance takes them.
    pub(super) fn added_wait(&self, service: usize, replica: usize) -> Nanos {
        let Some(fault) = self.fault.filter(|fault| fault.strikes(service, replica)) else { return 0 };
        match fault.scenario {
            Scenario::NetworkQueue => fault.amount,
            Scenario::Saturation => fault.amount / 4,
            Scenario::ColdStart => fault.amount / 3,
            _ => 0,
        }
    }

    /// How much longer this caller waits, whoever it calls or this callee alone.
    pub(super) fn added_waiting(&self, from: From, callee: usize) -> Nanos {
        let Some(fault) = self.fault.filter(|fault| fault.strikes(from.service, from.replica)) else {
            return 0;
        };
        match fault.scenario {
            Scenario::Saturation => fault.amount / 4,
            Scenario::PoolWait if fault.other == callee => fault.amount,
            _ => 0,
        }
    }
}

impl Fault {
    /// One of two variants of a fault, by where it is.
    pub(super) fn seed_bit(&self) -> bool {
        self.amount.is_multiple_of(2)
    }
}
