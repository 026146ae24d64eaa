//! One case: a system at its normal, then with a fault, through the real pipeline; what the verdicts are worth.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::encode::encode;
use super::fault::{Fault, Scenario};
use super::random::{Random, mix};
use super::run::{Moment, Request, run};
use super::system::System;
use crate::compare::{Category, Grounds, Outcome, Reason, Verdict};
use crate::config::Config;
use crate::otlp::batch::Batch;
use crate::otlp::{Nanos, TraceId};
use crate::pipeline::{Limits, Outgoing, Pipeline};
use crate::telemetry::metrics::Metrics;

const SECOND: Nanos = 1_000_000_000;
const BEGIN: Nanos = 1_700_000_000 * SECOND;
/// Normal requests; on average one each two seconds, so that a threshold is learned for good before the fault.
const NORMAL: u64 = 260;
/// Requests during the fault, on average one a second.
const FAULTY: u64 = 60;
/// Systems that are tried until the scenario fits in.
const TRIES: u64 = 24;

/// A system and what will go wrong in it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Everything follows from it.
    pub seed: u64,
    /// The system.
    pub system: System,
    /// The fault.
    pub fault: Fault,
}

/// What came of a case.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The requests that met the fault.
    pub met: Vec<Met>,
    /// Slow traces that did not meet it: what made them slow is chance.
    pub others: Vec<Met>,
    /// Spans that were sent.
    pub spans: u64,
    /// Spans that came out; the others were dropped, as the metrics say.
    #[serde(default)]
    pub forwarded: u64,
}

/// A request that met the fault, or was slow by chance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Met {
    /// What the fault added, or the chance that added most, in parts of the duration without it.
    pub added: f64,
    /// Whether a careful expert could tell: at least half of what the trace lasted longer than its route's median,
    /// and a fifth of its duration, was added by the fault, or by one service's chance.
    pub can_tell: bool,
    /// `None` where the trace was not slow.
    pub said: Option<Said>,
}

impl Met {
    /// The service that was named.
    pub fn named(&self) -> Option<&Named> {
        self.said.as_ref()?.named.as_ref()
    }
}

/// What a verdict said, and whether it was right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// Why nothing was named.
    pub reason: Option<Reason>,
    /// What was named.
    pub named: Option<Named>,
}

/// A named service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Named {
    /// Its name.
    pub service: String,
    /// Its category.
    pub category: Category,
    /// Whether it was the culprit or what an expert would accept.
    pub is_right: bool,
    /// Whether the category describes the fault.
    pub is_category_right: bool,
    /// What the confidence rests on.
    pub grounds: Grounds,
}

impl Case {
    /// The case of a seed; `None` where the scenario fits in none of the systems tried.
    pub fn random(scenario: Scenario, seed: u64) -> Option<Self> {
        (0..TRIES).find_map(|attempt| {
            let seed = mix(mix(seed, scenario as u64), attempt);
            let mut system = System::random(seed);
            let strength = Random::at(seed, 3).log_between(0.2, 10.0);
            let fault = Fault::place(&mut system, scenario, strength, seed)?;
            Some(Self { seed, system, fault })
        })
    }

    /// Sends its traffic through a pipeline.
    pub fn judge(&self, metrics: &Arc<Metrics>) -> Judged {
        let limits = Limits { held: 256 << 20, baseline: 64 << 20, tables: 32 << 20 };
        let pipeline = Pipeline::new(&Config::default(), limits, 1, Arc::clone(metrics));
        let mut sender = Sender {
            pipeline,
            clock: 0,
            batch: Batch::default(),
            request: Vec::new(),
            spans: 0,
            forwarded: 0,
        };
        let mut random = Random::at(self.seed, 4);
        let mut start = BEGIN;
        let mut edges = BTreeSet::new();
        let mut normal: Vec<Vec<Nanos>> = vec![Vec::new(); self.system.routes.len()];
        for number in 0..NORMAL {
            start += (random.between(1.0, 3.0) * SECOND as f64) as Nanos;
            let (route, moment) = self.moment(number, start, &mut random);
            let request = run(&self.system, None, moment);
            normal[route].push(request.duration);
            put_edges(&request, &mut edges);
            sender.send(&self.system, self.id(number), &request, start, &mut |_| {});
        }
        sender.end(&mut |_| {});
        sender.pipeline.trust_learned(sender.clock);
        sender.pipeline.tick(sender.clock);

        let medians: Vec<f64> = normal.iter_mut().map(|durations| median(durations)).collect();
        let edges: Vec<(usize, usize)> = edges.into_iter().collect();
        let accepted = self.fault.accepted(&self.system, &edges);
        let mut expected: Vec<(TraceId, Cause)> = Vec::new();
        let mut verdicts = Vec::new();
        for number in NORMAL..NORMAL + FAULTY {
            start += (random.between(0.5, 1.5) * SECOND as f64) as Nanos;
            let (route, moment) = self.moment(number, start, &mut random);
            let clean = run(&self.system, None, moment).duration as f64;
            let request = run(&self.system, Some(&self.fault), moment);
            let duration = request.duration as f64;
            let is_met = duration > clean * 1.01;
            let cause = if is_met {
                Cause::Fault(Added::of(duration, clean, medians[route]))
            } else {
                Cause::Chance(moment, medians[route])
            };
            expected.push((self.id(number), cause));
            sender.send(&self.system, self.id(number), &request, start, &mut |outgoing| {
                keep(&mut verdicts, outgoing);
            });
        }
        sender.end(&mut |outgoing| keep(&mut verdicts, outgoing));

        let mut judged = Judged { spans: sender.spans, forwarded: sender.forwarded, ..Judged::default() };
        let mut verdicts: HashMap<TraceId, Verdict> = verdicts.into_iter().collect();
        for (id, cause) in expected {
            match (cause, verdicts.remove(&id)) {
                (Cause::Fault(added), verdict) => {
                    let said = verdict.map(|verdict| said(&verdict, &accepted, self.fault.scenario));
                    judged.met.push(added.met(said));
                }
                (Cause::Chance(moment, median), Some(verdict)) => {
                    let (added, services) = self.by_chance(moment, median);
                    judged.others.push(added.met(Some(said(&verdict, &services, Scenario::Chance))));
                }
                (Cause::Chance(..), None) => {}
            }
        }
        judged
    }

    /// Whose chance made a request slow that met no fault, and what it added: with this service at its usual, and all
    /// else as it was, it would have been fastest.
    fn by_chance(&self, moment: Moment, median: f64) -> (Added, Vec<&str>) {
        let duration = run(&self.system, None, moment).duration as f64;
        let without = |service| {
            let calm = Moment { calm: Some(service), ..moment };
            run(&self.system, None, calm).duration as f64
        };
        let services = 0..self.system.services.len() / if self.system.has_mesh { 2 } else { 1 };
        let fastest = services.map(|service| (without(service), service));
        let (clean, service) = fastest.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((duration, 0));
        let accepted = [Some(service), self.system.proxy_of(service)];
        let names = accepted.into_iter().flatten().map(|one| self.system.services[one].name.as_str());
        (Added::of(duration, clean, median), names.collect())
    }

    /// What is wrong here, in words.
    pub fn describe(&self) -> String {
        let Fault { scenario, service, replica, amount, .. } = self.fault;
        let name = &self.system.services[service].name;
        if scenario == Scenario::Chance {
            return format!("seed {:#x}: {}", self.seed, scenario.as_str());
        }
        let which = replica.map_or("all instances".to_owned(), |replica| format!("instance {replica}"));
        let count = self.system.services.len();
        format!(
            "seed {:#x}: {}, {name} ({which}), amount {amount}, {count} services",
            self.seed,
            scenario.as_str()
        )
    }

    /// The request with this number: its route, and where and when it begins.
    fn moment(&self, number: u64, start: Nanos, random: &mut Random) -> (usize, Moment) {
        let route = self.system.draw_route(random);
        let operation = self.system.routes[route].0;
        let progress = number as f64 / (NORMAL + FAULTY) as f64;
        let seed = mix(self.seed, 0x1_0000 + number);
        (route, Moment { seed, start, progress, operation, calm: None })
    }

    fn id(&self, number: u64) -> TraceId {
        let halves = [mix(self.seed, number), mix(number, self.seed) | 1];
        TraceId::from_slice(halves.map(u64::to_be_bytes).as_flattened()).expect("the last bit is set")
    }
}

/// What made a request slow, if it was.
enum Cause {
    Fault(Added),
    /// Worked out only where it was.
    Chance(Moment, f64),
}

/// How much longer something made a request.
struct Added {
    part: f64,
    can_tell: bool,
}

impl Added {
    /// `clean` is how long it would have lasted without, `median` how long requests of its route last.
    fn of(duration: f64, clean: f64, median: f64) -> Self {
        let added = duration - clean;
        Self { part: added / clean, can_tell: added * 2.0 >= duration - median && added >= clean * 0.2 }
    }

    fn met(&self, said: Option<Said>) -> Met {
        Met { added: self.part, can_tell: self.can_tell, said }
    }
}

/// Feeds a pipeline as `replay` does.
struct Sender {
    pipeline: Pipeline,
    clock: Nanos,
    batch: Batch,
    request: Vec<u8>,
    spans: u64,
    forwarded: u64,
}

impl Sender {
    fn send(
        &mut self,
        system: &System,
        id: TraceId,
        request: &Request<'_>,
        start: Nanos,
        deliver: &mut dyn FnMut(Outgoing),
    ) {
        self.request.clear();
        encode(system, id, request, &mut self.request);
        self.batch.read(&self.request).expect("what was encoded is read");
        self.spans += request.spans.len() as u64;
        self.clock = self.clock.max(start + request.duration);
        let Self { pipeline, clock, batch, request, forwarded, .. } = self;
        let mut deliver = counted(forwarded, deliver);
        pipeline.decide_due(*clock, &mut deliver);
        pipeline.accept(*clock, batch, request, &mut deliver).expect("by default nothing is refused");
    }

    /// Decides what is still held.
    fn end(&mut self, deliver: &mut dyn FnMut(Outgoing)) {
        self.pipeline.decide_all(self.clock, &mut counted(&mut self.forwarded, deliver));
    }
}

/// Counts the spans that leave, copies of references apart.
fn counted<'a>(forwarded: &'a mut u64, deliver: &'a mut dyn FnMut(Outgoing)) -> impl FnMut(Outgoing) + 'a {
    move |outgoing| {
        *forwarded += if outgoing.is_reference { 0 } else { outgoing.trace.len() as u64 };
        deliver(outgoing);
    }
}

fn keep(verdicts: &mut Vec<(TraceId, Verdict)>, outgoing: Outgoing) {
    if let Some(analysis) = outgoing.analysis.filter(|_| !outgoing.is_reference) {
        verdicts.push((analysis.id, analysis.verdict));
    }
}

/// The edges between services that the spans of a request show.
fn put_edges(request: &Request<'_>, edges: &mut BTreeSet<(usize, usize)>) {
    for span in &request.spans {
        let around = request.spans.get((span.parent as usize).wrapping_sub(1));
        if let Some(around) = around.filter(|around| around.service != span.service) {
            edges.insert((around.service, span.service));
        }
    }
}

fn median(durations: &mut [Nanos]) -> f64 {
    durations.sort_unstable();
    durations.get(durations.len() / 2).copied().unwrap_or(0) as f64
}

fn said(verdict: &Verdict, accepted: &[&str], scenario: Scenario) -> Said {
    let culprit = match &verdict.outcome {
        Outcome::Identified(culprit) => culprit,
        Outcome::Inconclusive(reason) => return Said { reason: Some(*reason), named: None },
    };
    let named = Named {
        service: culprit.service.clone(),
        category: culprit.category,
        is_right: accepted.contains(&culprit.service.as_str()),
        is_category_right: scenario.categories().contains(&culprit.category),
        grounds: *culprit.grounds,
    };
    Said { reason: None, named: Some(named) }
}
