//! Calls between services: attempts, hedges, proxies, messages, each with its spans on both sides.

use super::{Answer, From, Peer, Run, To, What};
use crate::otlp::Nanos;
use crate::otlp::span::Kind;
use crate::simulate::fault::Scenario;
use crate::simulate::random::{Latency, Random, mix};
use crate::simulate::system::{Call, Style};

impl Run<'_> {
    /// A call, as often as a fault has it made.
    pub(super) fn repeated(&mut self, from: From, at: (usize, usize), call: &Call, now: Nanos) -> Answer {
        if let Some(fault) = self.strikes_step(Scenario::Fallback, from, at) {
            let latency = Latency { median: fault.amount as f64, sigma: 0.1, tail: 0.0 };
            let end = self.query(from, Peer::Database(fault.other), &latency, now);
            return Answer { end, is_failed: false };
        }
        let mut answer = self.call(from, call, now);
        if let Some(fault) = self.strikes_step(Scenario::ExtraCalls, from, at) {
            for number in 0..fault.amount.min(150) {
                let again = From { key: mix(from.key, 0x1000 + number), ..from };
                answer = self.call(again, call, answer.end);
            }
        }
        answer
    }

    /// A call with its further attempts.
    pub(super) fn call(&mut self, from: From, call: &Call, now: Nanos) -> Answer {
        let callee = self.system.operations[call.operation].service;
        if let Some(fault) =
            self.fault.filter(|fault| fault.scenario == Scenario::Breaker && fault.service == callee)
        {
            return self.behind_breaker(from, call, fault, now);
        }
        let attempts = match self.fault.map(|fault| fault.scenario) {
            Some(Scenario::Retry) => call.attempts.max(2),
            Some(Scenario::RetryStorm) => 3,
            _ => call.attempts,
        };
        let mut now = now;
        for attempt in 0..attempts {
            let key = mix(from.key, 0x500 + attempt as u64) & !1 | u64::from(attempt > 0);
            let from = From { key, ..from };
            let answer = self.attempt(from, callee, call, now);
            if !answer.is_failed || attempt + 1 == attempts {
                return answer;
            }
            // The time until the next attempt is the caller's own.
            now = answer.end + 200_000;
        }
        Answer { end: now, is_failed: true }
    }

    pub(super) fn attempt(&mut self, from: From, callee: usize, call: &Call, now: Nanos) -> Answer {
        let (span, answer) = self.exchange(from, callee, call.operation, now);
        let Some(after) = call.hedge_after.filter(|after| answer.end > now + after) else {
            self.end_call(span, from, callee, answer);
            return answer;
        };
        let hedge = From { key: mix(from.key, 0x4ed) | 1, ..from };
        let (second, other) = self.exchange(hedge, callee, call.operation, now + after);
        let end = answer.end.min(other.end);
        let first = if answer.end <= other.end { answer } else { other };
        self.end_call(span, from, callee, Answer { end, ..answer });
        self.end_call(second, from, callee, Answer { end, ..other });
        first
    }

    fn end_call(&mut self, span: u64, from: From, callee: usize, answer: Answer) {
        self.close(span, from.service, answer.end, |span| {
            span.peer = Peer::Service(callee);
            span.is_error = answer.is_failed;
        });
    }

    /// Sends a request and waits for its answer. The client span is left open.
    fn exchange(&mut self, from: From, callee: usize, operation: usize, now: Nanos) -> (u64, Answer) {
        let what = self.what(operation);
        let name = match self.system.services[from.service].style {
            Style::Http => what.method(),
            Style::OldHttp => "HTTP GET",
            Style::Rpc => what.name,
        };
        let asks = What { name, ..what };
        let span = self.open((from.service, from.replica), Kind::Client, asks, from.parent, now);
        let mut random = Random::at(from.key, 0x606);
        let replica = self.replica(callee, from.key);
        let mut begin = now + self.draw(callee, &self.system.hop, &mut random);
        let back = self.draw(callee, &self.system.hop, &mut random) + self.added_waiting(from, callee);
        if let Some(fault) = self.strikes(Scenario::Timeout, callee, replica) {
            if fault.seed_bit() {
                // It came through, and was answered when nobody listened any more.
                let to = To { operation, replica, kind: Kind::Server, parent: span, key: from.key };
                let span = self.open((callee, replica), to.kind, what, span, begin);
                self.close(span, callee, begin + fault.amount * 3 / 2, |_| {});
            }
            self.close(span, from.service, now + fault.amount, |span| {
                span.is_error = true;
                span.peer = Peer::Service(callee);
            });
            // Its caller does without.
            return (span, Answer { end: now + fault.amount, is_failed: false });
        }
        begin += self.added_wait(callee, replica);
        let to = To { operation, replica, kind: Kind::Server, parent: span, key: from.key };
        let Some(proxy) = self.system.proxy_of(callee) else {
            let answer = self.serve(to, begin);
            return (span, Answer { end: answer.end + back, ..answer });
        };
        // The proxy stands before the queue of its service.
        let arrived = now + (begin - now) / 4;
        let server = self.open((proxy, replica), Kind::Server, what, span, arrived);
        let client = self.open((proxy, replica), Kind::Client, what, server, arrived + 50_000);
        let answer = self.serve(To { parent: client, ..to }, begin.max(arrived + 60_000));
        self.close(client, proxy, answer.end + 30_000, |span| span.peer = Peer::Service(callee));
        self.close(server, proxy, answer.end + 60_000, |_| {});
        (span, Answer { end: answer.end + 60_000 + back, ..answer })
    }

    pub(super) fn publish(&mut self, from: From, call: &Call, now: Nanos) {
        let callee = self.system.operations[call.operation].service;
        let sent = self.open(
            (from.service, from.replica),
            Kind::Producer,
            What::plain("orders publish"),
            from.parent,
            now,
        );
        self.close(sent, from.service, now + 500_000, |span| span.peer = Peer::Service(callee));
        let replica = self.replica(callee, from.key);
        let waited = Latency { median: 5e6, sigma: 0.8, tail: 0.02 }.draw(&mut Random::at(from.key, 0x707));
        let to = To { operation: call.operation, replica, kind: Kind::Consumer, parent: sent, key: from.key };
        self.serve(to, now + waited);
    }
}
