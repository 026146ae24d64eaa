//! Random requests: operations that work, call others in turn or at once, and send messages behind which nobody waits.

use proptest::prelude::*;

use crate::compare::testing::{SpanSpec, TraceSpec};
use crate::otlp::span::Kind;

const SERVICES: [&str; 5] = ["web", "cart", "stock", "payment", "mail"];

/// What one service does to answer. Times are microseconds.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    service: usize,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Work(i64),
    Call(Call),
    /// All begin together; the last answer is waited for.
    AtOnce(Vec<Call>),
    /// The time is that of sending.
    Send(i64, Operation),
}

/// An operation, and the time on the way to it and back.
#[derive(Clone, Debug)]
struct Call {
    there: i64,
    back: i64,
    operation: Operation,
}

/// Everything is in turn.
pub(super) fn in_turn() -> impl Strategy<Value = Operation> {
    operations(false)
}

/// Some calls are made at once.
pub(super) fn any() -> impl Strategy<Value = Operation> {
    operations(true)
}

fn operations(at_once: bool) -> impl Strategy<Value = Operation> {
    let service = 0..SERVICES.len();
    let work = || 5_000..60_000_i64;
    let leaf = (service.clone(), work())
        .prop_map(|(service, time)| Operation { service, steps: vec![Step::Work(time)] });
    leaf.prop_recursive(3, 16, 3, move |inner| {
        let call = (0..2_000_i64, 0..2_000_i64, inner.clone()).prop_map(|(there, back, operation)| Call {
            there,
            back,
            operation,
        });
        let several = proptest::collection::vec(call.clone(), 2..4);
        let parallel = several.prop_map(move |calls| {
            if at_once { vec![Step::AtOnce(calls)] } else { calls.into_iter().map(Step::Call).collect() }
        });
        let step = prop_oneof![
            2 => work().prop_map(|time| vec![Step::Work(time)]),
            4 => call.prop_map(|call| vec![Step::Call(call)]),
            3 => parallel,
            1 => (0..2_000_i64, inner).prop_map(|(time, operation)| vec![Step::Send(time, operation)]),
        ];
        (service.clone(), work(), proptest::collection::vec(step, 1..4)).prop_map(|(service, time, steps)| {
            let steps = std::iter::once(Step::Work(time)).chain(steps.into_iter().flatten());
            Operation { service, steps: steps.collect() }
        })
    })
}

/// How its spans are written.
#[derive(Clone, Copy, Default)]
pub(super) struct Style {
    /// Work is two INTERNAL spans instead of time without any.
    pub(super) splits_work: bool,
    /// The message is sent, but what comes of it has no spans.
    pub(super) drops_messages: bool,
}

impl Operation {
    pub(super) fn trace(&self) -> TraceSpec {
        self.trace_as(Style::default())
    }

    pub(super) fn trace_as(&self, style: Style) -> TraceSpec {
        let mut writer = Writer { style, ..Writer::default() };
        writer.operation(self, (0, Kind::Server), 0);
        TraceSpec { spans: writer.spans }
    }

    /// The same with `by` microseconds more in one of its pieces of work, and the service that has it.
    pub(super) fn slowed(&self, which: prop::sample::Index, by: i64) -> (Self, &'static str) {
        let mut slowed = self.clone();
        let mut works = Vec::new();
        slowed.works(&mut works);
        let at = which.index(works.len());
        let (service, work) = &mut works[at];
        **work += by;
        let name = SERVICES[*service];
        (slowed, name)
    }

    /// The same with all times `k` times as long.
    pub(super) fn scaled(&self, k: i64) -> Self {
        let call = |call: &Call| Call {
            there: call.there * k,
            back: call.back * k,
            operation: call.operation.scaled(k),
        };
        let steps = self.steps.iter().map(|step| match step {
            Step::Work(time) => Step::Work(time * k),
            Step::Call(one) => Step::Call(call(one)),
            Step::AtOnce(calls) => Step::AtOnce(calls.iter().map(call).collect()),
            Step::Send(time, operation) => Step::Send(time * k, operation.scaled(k)),
        });
        Self { service: self.service, steps: steps.collect() }
    }

    /// The pieces of work that somebody waits for.
    fn works<'o>(&'o mut self, works: &mut Vec<(usize, &'o mut i64)>) {
        let service = self.service;
        for step in &mut self.steps {
            match step {
                Step::Work(time) => works.push((service, time)),
                Step::Call(call) => call.operation.works(works),
                Step::AtOnce(calls) => calls.iter_mut().for_each(|call| call.operation.works(works)),
                Step::Send(..) => {}
            }
        }
    }
}

#[derive(Default)]
struct Writer {
    style: Style,
    spans: Vec<SpanSpec>,
    operations: u64,
    ids: u64,
}

impl Writer {
    /// Returns when it ends.
    fn operation(&mut self, operation: &Operation, (parent, kind): (u64, Kind), start: i64) -> i64 {
        let service = SERVICES[operation.service];
        // Letters only, for digits are no part of a name.
        let name: String = self.operations.to_string().bytes().map(|digit| char::from(digit + 49)).collect();
        self.operations += 1;
        let own = self.open(kind, parent, (service, &name), start);
        let mut now = start;
        for step in &operation.steps {
            now = match step {
                Step::Work(time) => self.work(own, service, (now, now + time)),
                Step::Call(call) => self.call(call, (own, service), now),
                Step::AtOnce(calls) => {
                    let ends = calls.iter().map(|call| self.call(call, (own, service), now));
                    ends.max().unwrap_or(now)
                }
                Step::Send(time, operation) => {
                    let sent = now + time;
                    let message = self.open(Kind::Producer, own, (service, "send"), now);
                    self.close(message, sent);
                    let spans = self.spans.len();
                    self.operation(operation, (message, Kind::Consumer), sent);
                    if self.style.drops_messages {
                        self.spans.truncate(spans);
                    }
                    sent
                }
            };
        }
        self.close(own, now);
        now
    }

    fn work(&mut self, parent: u64, service: &str, (start, end): (i64, i64)) -> i64 {
        if self.style.splits_work {
            let middle = i64::midpoint(start, end);
            for (start, end) in [(start, middle), (middle, end)] {
                let part = self.open(Kind::Internal, parent, (service, "part"), start);
                self.close(part, end);
            }
        }
        end
    }

    fn call(&mut self, call: &Call, (parent, service): (u64, &str), start: i64) -> i64 {
        let asks = self.open(Kind::Client, parent, (service, "ask"), start);
        let answered = self.operation(&call.operation, (asks, Kind::Server), start + call.there);
        self.close(asks, answered + call.back);
        answered + call.back
    }

    fn open(&mut self, kind: Kind, parent: u64, who: (&str, &str), start: i64) -> u64 {
        self.ids += 1;
        let id = self.ids;
        let spec = TraceSpec::default().of_kind(kind, (id, parent), who, (start, start));
        self.spans.extend(spec.spans);
        id
    }

    fn close(&mut self, id: u64, end: i64) {
        let span = self.spans.iter_mut().find(|span| span.id == id).expect("it was opened");
        span.end = end;
    }
}

/// Whatever a sender can make of a trace: absent parents, circles, ids used twice, spans that end before they start.
pub(super) fn wild() -> impl Strategy<Value = TraceSpec> {
    let kind = prop_oneof![
        Just(Kind::Unspecified),
        Just(Kind::Internal),
        Just(Kind::Server),
        Just(Kind::Client),
        Just(Kind::Producer),
        Just(Kind::Consumer),
    ];
    let ids = (1..20_u64, 0..20_u64);
    let who = (0..SERVICES.len(), "[ab]");
    let during = (0..400_000_i64, -3_000..400_000_i64);
    let span =
        (ids, kind, who, during, any_error()).prop_map(|(ids, kind, (service, name), during, error)| {
            let (start, length) = during;
            let spec =
                TraceSpec::default().of_kind(kind, ids, (SERVICES[service], &name), (start, start + length));
            if error { spec.error() } else { spec }
        });
    let root = (0..SERVICES.len(), 1..500_000_i64).prop_map(|(service, end)| {
        TraceSpec::default().server((1, 0), (SERVICES[service], "enter"), (0, end))
    });
    (root, proptest::collection::vec(span, 0..24)).prop_map(|(root, spans)| {
        let spans = std::iter::once(root).chain(spans).flat_map(|spec| spec.spans);
        TraceSpec { spans: spans.collect() }
    })
}

fn any_error() -> impl Strategy<Value = bool> {
    proptest::bool::weighted(0.2)
}
