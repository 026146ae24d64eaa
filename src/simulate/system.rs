//! A random system: services, what their operations do, and the routes through them.

use super::random::{Latency, Random};
use crate::otlp::Nanos;

const MILLI: f64 = 1e6;

/// Spans that one request may leave at most, on average.
const SPANS: f64 = 120.0;

/// Services with their operations.
#[derive(Clone, Debug)]
pub struct System {
    /// Those that do the work, then the proxies in front of them where there is a mesh.
    pub services: Vec<Service>,
    /// What services can be asked for; callers stand before those they call.
    pub operations: Vec<Operation>,
    /// Operations that users ask for, and how often.
    pub routes: Vec<(usize, f64)>,
    /// One way through the network.
    pub hop: Latency,
    /// Whether every call goes through a proxy of the callee that sends spans too.
    pub has_mesh: bool,
    /// The slow growth of all work over the simulated time, as a share.
    pub drift: f64,
}

/// One service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its `service.name`.
    pub name: String,
    /// How many instances answer for it.
    pub replicas: usize,
    /// How far the clock of each instance is off, in nanoseconds.
    pub skew: Vec<i64>,
    /// Whether it sends spans. One that does not passes the context on.
    pub is_traced: bool,
    /// Whether its spans begin on whole milliseconds, as those of some SDKs do.
    pub is_coarse: bool,
    /// Which conventions its spans follow.
    pub style: Style,
}

/// Semantic conventions of a service's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// HTTP as of 1.23 and later.
    Http,
    /// HTTP before that.
    OldHttp,
    /// gRPC.
    Rpc,
}

/// Something that a service can be asked for.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Whose it is.
    pub service: usize,
    /// The name of its server span.
    pub name: String,
    /// The method and the path that HTTP asks for it with.
    pub route: String,
    /// What is done, one after the other.
    pub steps: Vec<Step>,
    /// How often a request has a bigger input, and how many times longer it is worked on then.
    pub bigger: (f64, f64),
    /// Spans that it leaves on average.
    pub(super) spans: f64,
}

/// A part of an operation.
#[derive(Clone, Debug)]
pub enum Step {
    /// Own work.
    Work(Latency),
    /// Own work with a span of its own.
    Inside(Latency),
    /// Something worth an event of the server span, which takes no time.
    Event(&'static str),
    /// A call that is waited for.
    Call(Call),
    /// Calls that are made at once and all waited for.
    Together(Vec<Call>),
    /// A call that nobody waits for.
    Aside(Call),
    /// A message for an operation that consumes it.
    Publish(Call),
    /// An uninstrumented database.
    Query {
        /// Which one.
        database: usize,
        /// How long it takes.
        latency: Latency,
    },
    /// A cache in front of a database.
    Cached {
        /// How often it has the answer.
        hits: f64,
        /// Asking the cache.
        latency: Latency,
        /// The database behind it.
        database: usize,
        /// Asking the database.
        miss: Latency,
    },
}

/// A call of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Which one.
    pub operation: usize,
    /// How often it is tried at most.
    pub attempts: usize,
    /// When a second request is sent beside the first, in nanoseconds.
    pub hedge_after: Option<Nanos>,
}

impl Operation {
    /// Something whose input is always as big.
    pub fn new(service: usize, name: &str, route: &str, steps: Vec<Step>) -> Self {
        let (name, route) = (name.to_owned(), route.to_owned());
        Self { service, name, route, steps, bigger: (0.0, 1.0), spans: 0.0 }
    }
}

impl System {
    /// The system of a seed: 3 to 60 services.
    pub fn random(seed: u64) -> Self {
        let mut random = Random::at(seed, 1);
        let count = random.log_between(3.0, 60.99) as usize;
        let mut system = Self {
            services: Vec::new(),
            operations: Vec::new(),
            routes: Vec::new(),
            hop: Latency { median: random.log_between(0.1, 1.0) * MILLI, sigma: 0.3, tail: 0.01 },
            has_mesh: random.chance(0.1),
            drift: if random.chance(0.2) { random.between(0.05, 0.25) } else { 0.0 },
        };
        let has_skew = random.chance(0.4);
        for number in 0..count {
            let service = Self::service(number, count, has_skew, &mut random);
            system.services.push(service);
        }
        let mut maker =
            Maker { random, count, databases: (count / 3).max(1), has_hedges: false, has_tails: 0.0 };
        maker.has_hedges = maker.random.chance(0.15);
        maker.has_tails = if maker.random.chance(0.5) { maker.random.log_between(0.002, 0.02) } else { 0.0 };
        // From the back, so that whom an operation calls exists; then turned round.
        let mut by_service: Vec<Vec<usize>> = vec![Vec::new(); count];
        for service in (0..count).rev() {
            for number in 0..=maker.random.below(if service == 0 { 3 } else { 2 }) {
                let operation = maker.operation(service, number, &by_service, &system);
                by_service[service].push(system.operations.len());
                system.operations.push(operation);
            }
        }
        for operation in by_service.first().into_iter().flatten() {
            system.routes.push((*operation, maker.random.between(0.5, 1.0)));
        }
        if system.has_mesh {
            for number in 0..count {
                let service = &system.services[number];
                let proxy =
                    Service { name: format!("{}-proxy", service.name), is_traced: true, ..service.clone() };
                system.services.push(proxy);
            }
        }
        system
    }

    fn service(number: usize, count: usize, has_skew: bool, random: &mut Random) -> Service {
        const FIRST: [&str; 10] =
            ["order", "cart", "user", "stock", "price", "mail", "search", "review", "media", "invoice"];
        const SECOND: [&str; 6] = ["api", "store", "worker", "index", "engine", "planner"];
        let replicas = match random.below(4) {
            0 => 1,
            1 => 2,
            2 => 3 + random.below(3),
            _ => 8 + random.below(13),
        };
        let shared = (random.normal() * 30.0 * MILLI) as i64;
        let skew = (0..replicas)
            .map(|_| if has_skew { shared + (random.normal() * 15.0 * MILLI) as i64 } else { 0 })
            .collect();
        Service {
            name: format!("{}-{}", FIRST[number % 10], SECOND[number / 10 % 6]),
            replicas,
            skew,
            // An uninstrumented one in the middle; the entry is always instrumented.
            is_traced: number == 0 || count < 5 || !random.chance(0.04),
            is_coarse: random.chance(0.15),
            style: [Style::Http, Style::Http, Style::OldHttp, Style::Rpc][random.below(4)],
        }
    }

    /// Has every caller of a service send a second request after this time, in nanoseconds.
    pub(super) fn hedge(&mut self, service: usize, after: Nanos) {
        let owners: Vec<usize> = self.operations.iter().map(|operation| operation.service).collect();
        for step in self.operations.iter_mut().flat_map(|operation| &mut operation.steps) {
            let calls = match step {
                Step::Call(call) => std::slice::from_mut(call),
                Step::Together(calls) => calls,
                _ => continue,
            };
            for call in calls.iter_mut().filter(|call| owners[call.operation] == service) {
                call.hedge_after = Some(after);
            }
        }
    }

    /// An index into the routes, each as often as it says.
    pub fn draw_route(&self, random: &mut Random) -> usize {
        let all: f64 = self.routes.iter().map(|(_, weight)| weight).sum();
        let mut left = random.unit() * all;
        let mut route = 0;
        for (index, (_, weight)) in self.routes.iter().enumerate() {
            route = index;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
        route
    }

    /// The proxy in front of a service, where there is one.
    pub fn proxy_of(&self, service: usize) -> Option<usize> {
        self.has_mesh.then_some(service + self.services.len() / 2)
    }
}

/// Makes operations.
struct Maker {
    random: Random,
    count: usize,
    databases: usize,
    has_hedges: bool,
    /// How often something has a heavy tail.
    has_tails: f64,
}

impl Maker {
    fn operation(
        &mut self,
        service: usize,
        number: usize,
        known: &[Vec<usize>],
        system: &System,
    ) -> Operation {
        const PLACES: [&str; 4] = ["list", "detail", "update", "summary"];
        let place = PLACES[number % 4];
        let who = &system.services[service];
        let name = match who.style {
            Style::Rpc => format!("shop.{}/{place}", who.name),
            _ => format!("GET /{}/{place}", who.name),
        };
        let budget = if service == 0 { SPANS } else { SPANS / 3.0 };
        let mut spans = 2.0 + f64::from(u8::from(system.has_mesh)) * 2.0;
        let mut steps = vec![Step::Work(self.latency(0.5, 15.0))];
        let calls = if service == 0 { 2 + self.random.below(5) } else { self.random.below(4) };
        let mut made = 0;
        while made < calls {
            let together = if self.random.chance(0.3) { 2 + self.random.below(3) } else { 1 };
            let callees: Vec<Call> = (0..together)
                .filter_map(|_| self.callee(service, known))
                .filter(|call| {
                    let more = system.operations[call.operation].spans;
                    let fits = spans + more <= budget;
                    spans += if fits { more } else { 0.0 };
                    fits
                })
                .collect();
            made += together;
            match (callees.as_slice(), self.random.below(20)) {
                ([], _) => {}
                ([one], 0) => steps.push(Step::Aside(*one)),
                ([one], 1) => steps.push(Step::Publish(*one)),
                ([one], _) => steps.push(Step::Call(*one)),
                _ => steps.push(Step::Together(callees)),
            }
            if self.random.chance(0.3) {
                spans += 1.0;
                steps.push(Step::Inside(self.latency(0.3, 8.0)));
            } else {
                steps.push(Step::Work(self.latency(0.1, 4.0)));
            }
        }
        if service > 0 && self.random.chance(0.5) {
            let database = self.random.below(self.databases);
            if self.random.chance(0.3) {
                spans += 2.0;
                let hits = if self.random.chance(0.5) { 1.0 } else { self.random.between(0.5, 0.95) };
                let latency = self.latency(0.3, 1.5);
                let miss = self.latency(3.0, 40.0);
                steps.push(Step::Cached { hits, latency, database, miss });
            } else {
                for _ in 0..=self.random.below(3) {
                    spans += 1.0;
                    steps.push(Step::Query { database, latency: self.latency(0.5, 20.0) });
                }
            }
            steps.push(Step::Work(self.latency(0.1, 2.0)));
        }
        let bigger = if self.random.chance(0.1) {
            (self.random.between(0.05, 0.5), self.random.between(2.0, 5.0))
        } else {
            (0.0, 1.0)
        };
        let route = format!("GET /{}/{place}", who.name);
        Operation { service, name, route, steps, bigger, spans }
    }

    /// Somebody further back; near ones more often, so that there are chains and shared services.
    fn callee(&mut self, service: usize, known: &[Vec<usize>]) -> Option<Call> {
        let left = self.count - service - 1;
        if left == 0 {
            return None;
        }
        let reach = if self.random.chance(0.7) { left.div_ceil(3) } else { left };
        let callee = service + 1 + self.random.below(reach);
        let operations = &known[callee];
        let operation = *operations.get(self.random.below(operations.len()))?;
        let hedge_after = if self.has_hedges && self.random.chance(0.5) {
            Some((self.random.log_between(20.0, 150.0) * MILLI) as Nanos)
        } else {
            None
        };
        let attempts = 1 + self.random.below(3);
        Some(Call { operation, attempts, hedge_after })
    }

    fn latency(&mut self, low: f64, high: f64) -> Latency {
        Latency {
            median: self.random.log_between(low, high) * MILLI,
            sigma: self.random.between(0.05, 0.4),
            tail: self.has_tails,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_differ_by_seed_and_have_three_to_sixty_services() {
        let mut sizes = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let system = System::random(seed);
            let count = system.services.len() / if system.has_mesh { 2 } else { 1 };
            assert!((3..=60).contains(&count), "{count}");
            assert!(!system.routes.is_empty());
            sizes.insert(count);
        }
        assert!(sizes.len() > 30);
    }

    #[test]
    fn an_operation_calls_only_those_made_before_it() {
        for seed in 0..50 {
            for (number, operation) in System::random(seed).operations.iter().enumerate() {
                for step in &operation.steps {
                    let calls = match step {
                        Step::Call(call) | Step::Aside(call) | Step::Publish(call) => vec![*call],
                        Step::Together(calls) => calls.clone(),
                        _ => Vec::new(),
                    };
                    assert!(calls.iter().all(|call| call.operation < number));
                }
            }
        }
    }
}
