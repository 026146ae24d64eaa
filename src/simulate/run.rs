//! One request through a system: which spans it leaves.
//!
//! Chance is drawn by place (trace, call path, attempt), so the same request can be run with and without a fault: the
//! difference of the two durations is what the fault added, exactly.

mod calls;
mod struck;

use super::fault::{Fault, Scenario};
use super::random::{Latency, Random, mix};
use super::system::{Operation, Step, System};
use crate::otlp::Nanos;
use crate::otlp::span::Kind;

/// A request leaves no more spans than this: what comes then still takes time, and sends nothing.
const MOST_SPANS: usize = 4_000;

/// Which request.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Everything by chance in it comes from here.
    pub seed: u64,
    /// When it begins, Unix nanoseconds.
    pub start: Nanos,
    /// How far the simulated time has come, 0..=1.
    pub progress: f64,
    /// What is asked for.
    pub operation: usize,
    /// The service whose work, and the way to which, take just as long as they usually do.
    pub calm: Option<usize>,
}

/// What a request left behind.
#[derive(Clone, Debug)]
pub struct Request<'s> {
    /// Its spans, callers before those they call.
    pub spans: Vec<SimulatedSpan<'s>>,
    /// Nanoseconds of its entry span.
    pub duration: Nanos,
}

/// One span, on true time.
#[derive(Clone, Debug)]
pub struct SimulatedSpan<'s> {
    /// From 1; 0 is no span.
    pub id: u64,
    /// The id of the span around it, or 0.
    pub parent: u64,
    /// Whose it is.
    pub service: usize,
    /// Which instance.
    pub replica: usize,
    /// Its role.
    pub kind: Kind,
    /// Its name.
    pub name: &'s str,
    /// The method and the path that HTTP asked with, where it asked; else nothing.
    pub route: &'s str,
    /// Unix nanoseconds.
    pub start: Nanos,
    /// Unix nanoseconds.
    pub end: Nanos,
    /// Whether it failed.
    pub is_error: bool,
    /// Whom it calls.
    pub peer: Peer,
    /// What happened when, Unix nanoseconds.
    pub events: Vec<(Nanos, &'s str)>,
}

/// Who is at the other end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// This is no call.
    None,
    /// A service.
    Service(usize),
    /// An uninstrumented database.
    Database(usize),
    /// An uninstrumented cache.
    Cache,
}

/// Runs a request.
pub fn run<'s>(system: &'s System, fault: Option<&Fault>, moment: Moment) -> Request<'s> {
    let mut run = Run { system, fault: fault.copied(), moment, spans: Vec::new(), failures: 0 };
    let service = system.operations[moment.operation].service;
    let replica = run.replica(service, moment.seed);
    let to = To { operation: moment.operation, replica, kind: Kind::Server, parent: 0, key: moment.seed };
    let answer = run.serve(to, moment.start);
    Request { spans: run.spans, duration: answer.end - moment.start }
}

struct Run<'s> {
    system: &'s System,
    fault: Option<Fault>,
    moment: Moment,
    spans: Vec<SimulatedSpan<'s>>,
    /// How often the struck service has failed in this request.
    failures: usize,
}

/// Who calls: a span of an instance.
#[derive(Clone, Copy)]
struct From {
    service: usize,
    replica: usize,
    parent: u64,
    key: u64,
    /// Of everything done for this request here.
    factor: f64,
}

/// What is asked for.
#[derive(Clone, Copy)]
struct To {
    operation: usize,
    replica: usize,
    kind: Kind,
    parent: u64,
    key: u64,
}

/// What a span is called.
#[derive(Clone, Copy)]
struct What<'s> {
    name: &'s str,
    route: &'s str,
}

impl<'s> What<'s> {
    /// Nothing that HTTP asks for.
    fn plain(name: &'s str) -> Self {
        Self { name, route: "" }
    }

    fn method(self) -> &'s str {
        self.route.split(' ').next().unwrap_or_default()
    }
}

#[derive(Clone, Copy)]
struct Answer {
    end: Nanos,
    is_failed: bool,
}

impl<'s> Run<'s> {
    fn replica(&self, service: usize, key: u64) -> usize {
        Random::at(key, 0x5e1).below(self.system.services[service].replicas)
    }

    /// How long something takes that is `service`'s.
    fn draw(&self, service: usize, latency: &Latency, random: &mut Random) -> Nanos {
        if self.moment.calm == Some(service) { latency.median as Nanos } else { latency.draw(random) }
    }

    /// Whether something happens to `service` that has this probability.
    fn happens(&self, service: usize, probability: f64, random: &mut Random) -> bool {
        if self.moment.calm == Some(service) { probability > 0.5 } else { random.chance(probability) }
    }

    /// Begins a span and returns its id; a service that sends none passes on the id around it.
    fn open(&mut self, of: (usize, usize), kind: Kind, what: What<'s>, parent: u64, start: Nanos) -> u64 {
        if self.spans.len() >= MOST_SPANS {
            return 0;
        }
        if !self.system.services[of.0].is_traced {
            return parent;
        }
        let id = self.spans.len() as u64 + 1;
        self.spans.push(SimulatedSpan {
            id,
            parent,
            service: of.0,
            replica: of.1,
            kind,
            name: what.name,
            route: what.route,
            start,
            end: start,
            is_error: false,
            peer: Peer::None,
            events: Vec::new(),
        });
        id
    }

    /// Ends a span that `of` began with this id, if it did.
    fn close(&mut self, id: u64, service: usize, end: Nanos, change: impl FnOnce(&mut SimulatedSpan<'s>)) {
        if let Some(span) = self.opened(id, service) {
            // An id that was passed on belongs to a span that ends by itself.
            if span.end == span.start {
                span.end = end.max(span.start + 1);
                change(span);
            }
        }
    }

    /// The span that `service` began with this id, if it did.
    fn opened(&mut self, id: u64, service: usize) -> Option<&mut SimulatedSpan<'s>> {
        self.spans.get_mut((id as usize).wrapping_sub(1)).filter(|span| span.service == service)
    }

    /// What an operation is called where it is served.
    fn what(&self, operation: usize) -> What<'s> {
        let Operation { name, route, .. } = &self.system.operations[operation];
        What { name, route }
    }

    fn serve(&mut self, to: To, start: Nanos) -> Answer {
        let operation = &self.system.operations[to.operation];
        let service = operation.service;
        let span = self.open((service, to.replica), to.kind, self.what(to.operation), to.parent, start);
        let mut random = Random::at(to.key, 0xb16);
        let is_bigger = self.happens(service, operation.bigger.0, &mut random);
        let bigger = if is_bigger { operation.bigger.1 } else { 1.0 };
        let factor = bigger * (1.0 + self.system.drift * self.moment.progress);
        let mut now = start + self.added_work(service, to.replica, to.key);
        let from = From { service, replica: to.replica, parent: span, key: to.key, factor };
        if let Some(failed) = self.fails(from) {
            now += failed;
            self.close(span, service, now, |span| span.is_error = true);
            return Answer { end: now, is_failed: true };
        }
        let mut is_failed = false;
        for (index, step) in operation.steps.iter().enumerate() {
            let from = From { key: mix(to.key, index as u64 + 1), ..from };
            let answer = self.step(from, (to.operation, index), step, now);
            now = answer.end;
            if answer.is_failed {
                is_failed = true;
                break;
            }
        }
        self.close(span, service, now, |span| span.is_error = is_failed);
        Answer { end: now, is_failed }
    }

    fn step(&mut self, from: From, at: (usize, usize), step: &'s Step, now: Nanos) -> Answer {
        let done = |end| Answer { end, is_failed: false };
        match step {
            Step::Work(latency) => done(now + self.work(from, latency)),
            Step::Inside(latency) => {
                let end = now + self.work(from, latency);
                let span = self.open(
                    (from.service, from.replica),
                    Kind::Internal,
                    What::plain("prepare"),
                    from.parent,
                    now,
                );
                self.close(span, from.service, end, |_| {});
                done(end)
            }
            Step::Event(name) => {
                if let Some(span) = self.opened(from.parent, from.service) {
                    span.events.push((now, name));
                }
                done(now)
            }
            Step::Call(call) => self.repeated(from, at, call, now),
            Step::Together(calls) => {
                let in_a_row = self.strikes_step(Scenario::LostConcurrency, from, at).is_some();
                let (mut end, mut begin, mut is_failed) = (now, now, false);
                for (index, call) in calls.iter().enumerate() {
                    let from = From { key: mix(from.key, 0x200 + index as u64), ..from };
                    let answer = self.call(from, call, begin);
                    end = end.max(answer.end);
                    is_failed |= answer.is_failed;
                    if in_a_row {
                        begin = end;
                    }
                }
                Answer { end, is_failed }
            }
            Step::Aside(call) => {
                self.call(from, call, now);
                done(now + 20_000)
            }
            Step::Publish(call) => {
                self.publish(from, call, now);
                done(now + 500_000)
            }
            Step::Query { database, latency } => {
                let mut end = self.query(from, Peer::Database(*database), latency, now);
                if let Some(fault) = self.strikes_step(Scenario::ExtraCalls, from, at) {
                    for number in 0..fault.amount.min(150) {
                        let again = From { key: mix(from.key, 0x1000 + number), ..from };
                        end = self.query(again, Peer::Database(*database), latency, end);
                    }
                }
                done(end)
            }
            Step::Cached { hits, latency, database, miss } => {
                let hits = match (
                    self.strikes_step(Scenario::NewPath, from, at),
                    self.strikes_step(Scenario::CacheRatio, from, at),
                ) {
                    (Some(_), _) => 0.0,
                    (_, Some(_)) => hits * 0.1,
                    _ => *hits,
                };
                let end = self.query(from, Peer::Cache, latency, now);
                if self.happens(from.service, hits, &mut Random::at(from.key, 0xcac)) {
                    return done(end);
                }
                let missed = From { key: mix(from.key, 0xcad), ..from };
                done(self.query(missed, Peer::Database(*database), miss, end))
            }
        }
    }

    fn work(&self, from: From, latency: &Latency) -> Nanos {
        let drawn = self.draw(from.service, latency, &mut Random::at(from.key, 0x303));
        (drawn as f64 * from.factor) as Nanos
    }

    fn query(&mut self, from: From, peer: Peer, latency: &Latency, now: Nanos) -> Nanos {
        let mut end = now + self.draw(from.service, latency, &mut Random::at(from.key, 0x404)) + 1_000;
        if let (Some(fault), Peer::Database(database)) = (self.fault, peer) {
            let is_slow = match fault.scenario {
                Scenario::Dependency => fault.strikes(from.service, from.replica) && fault.other == database,
                Scenario::SharedDatabase => fault.other == database,
                _ => false,
            };
            end += if is_slow { fault.amount } else { 0 };
        }
        let name = if peer == Peer::Cache { "GET" } else { "SELECT" };
        let span = self.open((from.service, from.replica), Kind::Client, What::plain(name), from.parent, now);
        self.close(span, from.service, end, |span| span.peer = peer);
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(system: &System) -> impl Iterator<Item = Moment> {
        let operation = system.routes[0].0;
        (0..40).map(move |seed| Moment { seed, start: 1_000_000, progress: 0.0, operation, calm: None })
    }

    /// A system in which this goes wrong, and how.
    fn faulty(scenario: Scenario) -> (System, Fault) {
        let placed = (0..60).find_map(|seed| {
            let mut system = System::random(seed);
            let fault = Fault::place(&mut system, scenario, 2.0, seed)?;
            let is_met = moments(&system)
                .any(|m| run(&system, Some(&fault), m).duration > run(&system, None, m).duration * 2);
            is_met.then_some((system, fault))
        });
        placed.expect("some system has a place")
    }

    #[test]
    fn a_service_at_its_usual_leaves_the_chance_of_all_others_as_it_was() {
        let system = System::random(3);
        for moment in moments(&system) {
            let nobody = Moment { calm: Some(usize::MAX), ..moment };
            assert_eq!(run(&system, None, nobody).duration, run(&system, None, moment).duration);
        }
        let calm = |seed| Moment { seed, calm: Some(0), ..moments(&system).next().expect("some") };
        let own = |moment| {
            let request = run(&system, None, moment);
            let entry = &request.spans[0];
            let first = request.spans.iter().find(|span| span.parent == entry.id).expect("it calls");
            first.start - entry.start
        };
        assert_eq!(own(calm(1)), own(calm(2)), "the entry service works as long as always before it calls");
    }

    #[test]
    fn a_request_that_is_hedged_ends_with_the_first_answer() {
        let (system, fault) = faulty(Scenario::Hedged);
        let hedged = moments(&system).any(|moment| {
            let request = run(&system, Some(&fault), moment);
            let calls: Vec<_> =
                request.spans.iter().filter(|span| span.peer == Peer::Service(fault.service)).collect();
            calls.iter().any(|one| {
                calls
                    .iter()
                    .any(|two| two.parent == one.parent && two.start > one.start && two.end == one.end)
            })
        });
        assert!(hedged);
    }

    #[test]
    fn a_circuit_breaker_keeps_some_requests_from_the_service_that_fails() {
        let (system, fault) = faulty(Scenario::Breaker);
        let fails = |moment| {
            let request = run(&system, Some(&fault), moment);
            let called = request.spans.iter().filter(|span| span.service == fault.service).count();
            let failed =
                request.spans.iter().filter(|span| span.service == fault.service && span.is_error).count();
            (called, failed)
        };
        let seen: Vec<_> = moments(&system).map(fails).collect();
        assert!(seen.iter().any(|(called, _)| *called == 0), "open: {seen:?}");
        assert!(seen.iter().any(|(_, failed)| *failed > 0), "closed: {seen:?}");
    }
}
