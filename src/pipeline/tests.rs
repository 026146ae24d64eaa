use super::*;
use crate::compare::Outcome;
use crate::otlp::wire::{put_bytes, put_fixed64, put_uint};

const SECOND: Nanos = 1_000_000_000;
const MILLI: Nanos = 1_000_000;

fn id(number: u32) -> TraceId {
    // The low bytes are spread as random ids are: sampling goes by them.
    let mut bytes = [7; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes[8..].copy_from_slice(&u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    TraceId::from_slice(&bytes).expect("not zero")
}

#[derive(Clone, Copy)]
struct Call {
    trace: u32,
    start: Nanos,
    own: Nanos,
    callee: Nanos,
    is_error: bool,
}

/// `web` works for `own`, and asks `db`, which works for `callee`.
fn request(call: Call) -> Vec<u8> {
    let Call { trace, start, own, callee, is_error } = call;
    let end = start + own + callee;
    [
        ("web", vec![(1, 0, 2, start, end), (2, 1, 3, start + own, end)]),
        ("db", vec![(3, 2, 2, start + own, end)]),
    ]
    .into_iter()
    .flat_map(|(service, spans)| resource_spans(service, trace, &spans, is_error))
    .collect()
}

fn resource_spans(
    service: &str,
    trace: u32,
    spans: &[(u8, u8, u64, Nanos, Nanos)],
    is_error: bool,
) -> Vec<u8> {
    let mut scope = Vec::new();
    for (span, parent, kind, start, end) in spans {
        let mut body = Vec::new();
        put_bytes(&mut body, 1, id(trace).bytes());
        put_bytes(&mut body, 2, &[*span; 8]);
        if *parent > 0 {
            put_bytes(&mut body, 4, &[*parent; 8]);
        }
        put_bytes(&mut body, 5, format!("{service} call").as_bytes());
        put_uint(&mut body, 6, *kind);
        put_fixed64(&mut body, 7, *start);
        put_fixed64(&mut body, 8, *end);
        if is_error {
            put_bytes(&mut body, 15, &[0x18, 2]);
        }
        put_bytes(&mut scope, 2, &body);
    }
    let mut name = Vec::new();
    put_bytes(&mut name, 1, service.as_bytes());
    let mut attribute = Vec::new();
    put_bytes(&mut attribute, 1, b"service.name");
    put_bytes(&mut attribute, 2, &name);
    let mut resource = Vec::new();
    put_bytes(&mut resource, 1, &attribute);
    let mut message = Vec::new();
    put_bytes(&mut message, 1, &resource);
    put_bytes(&mut message, 2, &scope);
    let mut out = Vec::new();
    put_bytes(&mut out, 1, &message);
    out
}

struct Case {
    pipeline: Pipeline,
    metrics: Arc<Metrics>,
    accepted: u64,
    delivered: u64,
}

impl Case {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_held_limit(1 << 30, change)
    }

    fn with_held_limit(held: u64, change: impl FnOnce(&mut Config)) -> Self {
        Self::within(Limits { held, baseline: 1 << 20, tables: 64 << 20 }, change)
    }

    fn within(limits: Limits, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        let metrics = Arc::new(Metrics::default());
        let pipeline = Pipeline::new(&config, limits, 1, Arc::clone(&metrics));
        Self { pipeline, metrics, accepted: 0, delivered: 0 }
    }

    fn accept(&mut self, now: Nanos, request: &[u8]) -> Vec<Outgoing> {
        let mut out = Vec::new();
        assert!(self.try_accept(now, request, &mut out));
        self.check(out)
    }

    /// Whether the request was taken.
    fn try_accept(&mut self, now: Nanos, request: &[u8], out: &mut Vec<Outgoing>) -> bool {
        let mut batch = Batch::default();
        batch.read(request).expect("valid");
        let taken = self.pipeline.accept(now, &batch, request, &mut |outgoing| out.push(outgoing)).is_ok();
        if taken {
            self.accepted += batch.spans.len() as u64;
        }
        taken
    }

    fn decide(&mut self, now: Nanos) -> Vec<Outgoing> {
        let mut out = Vec::new();
        self.pipeline.decide_due(now, &mut |outgoing| out.push(outgoing));
        self.check(out)
    }

    /// One call, decided ten seconds after.
    fn call(&mut self, call: Call) -> Vec<Outgoing> {
        let mut out = self.accept(call.start, &request(call));
        out.extend(self.decide(call.start + 11 * SECOND));
        out
    }

    /// `accepted = delivered + dropped + held`, after every step.
    fn check(&mut self, out: Vec<Outgoing>) -> Vec<Outgoing> {
        let own = out.iter().filter(|outgoing| !outgoing.is_reference);
        self.delivered += own.map(|outgoing| outgoing.trace.len() as u64).sum::<u64>();
        let dropped = self.counted("laggard_dropped_spans_total");
        assert_eq!(self.accepted, self.delivered + dropped + self.pipeline.held().spans);
        out
    }

    /// The sum of all series of a metric, or the value of one.
    fn counted(&self, name: &str) -> u64 {
        let page = self.metrics.render();
        let series = page.lines().filter(|line| {
            [format!("{name}{{"), format!("{name} ")].iter().any(|start| line.starts_with(start))
        });
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }
}

/// A healthy call of 100 ms every second, `count` of them from trace `first` on.
fn healthy(case: &mut Case, first: u32, count: u32) -> Vec<Outgoing> {
    (first..first + count).flat_map(|trace| case.call(fast(trace))).collect()
}

fn fast(trace: u32) -> Call {
    // A little noise, the same for each run.
    let own = (20 + u64::from(trace * 7 % 10)) * MILLI;
    Call {
        trace,
        start: 1_000 * SECOND + u64::from(trace) * SECOND,
        own,
        callee: 75 * MILLI,
        is_error: false,
    }
}

#[test]
fn a_slow_trace_leaves_with_the_service_that_made_it_slow_and_its_reference_beside_it_once() {
    let mut case = Case::new(|config| config.sample.healthy = 0.0);
    assert_eq!(healthy(&mut case, 1, 20).len(), 20, "kept while the route is learning");
    assert!(healthy(&mut case, 21, 20).is_empty(), "then dropped");

    let mut slow = |trace| case.call(Call { callee: 900 * MILLI, ..fast(trace) });
    let out = slow(100);
    let [reference, own] = &out[..] else { panic!("a reference and the trace: {out:?}") };
    assert!(reference.is_reference && !own.is_reference);
    let analysis = own.analysis.as_ref().expect("slow traces are compared");
    let Outcome::Identified(culprit) = &analysis.verdict.outcome else { panic!("{:?}", analysis.verdict) };
    assert_eq!((culprit.service.as_str(), own.class), ("db", Class::Slow));
    let cited = analysis.verdict.baseline.as_ref().expect("cites a reference");
    assert_eq!(cited.trace_id, reference.trace.id());
    let entry = own.trace.span(0).expect("the root came first");
    let service = entry.attributes().find(|attribute| attribute.key == b"root_cause.service");
    assert_eq!(service.and_then(|attribute| attribute.value.as_str()), Some("db"));
    assert_eq!(slow(101).len(), 1, "the reference has left before");
}

// SAMPLING-2.
#[test]
fn healthy_traces_are_sampled_and_stamped_and_their_late_spans_too() {
    let mut case = Case::new(|config| {
        config.sample.healthy = 0.5;
        config.slow.threshold = crate::config::Threshold::Fixed(std::time::Duration::from_secs(1));
    });
    let out = healthy(&mut case, 1, 200);
    assert!((70..=130).contains(&out.len()), "{} of 200", out.len());
    for outgoing in &out {
        for span in 0..outgoing.trace.len() {
            assert_eq!(outgoing.trace.span(span).expect("in range").trace_state(), b"ot=th:8");
        }
    }
    let kept = out.last().expect("some are kept").trace.id();
    let number = (1..201).find(|number| id(*number) == kept).expect("one of ours");
    let late = case.accept(2_000 * SECOND, &request(fast(number)));
    assert_eq!(late.iter().map(|late| late.trace.len()).sum::<usize>(), 3);
    assert!(late.iter().all(|late| late.class == Class::Late));
    assert_eq!(late[0].trace.span(0).expect("has one").trace_state(), b"ot=th:8");
}

#[test]
fn errors_are_kept_as_they_are() {
    let mut case = Case::new(|config| config.sample.healthy = 0.0);
    healthy(&mut case, 1, 40);
    let out = case.call(Call { is_error: true, ..fast(50) });
    let [error] = &out[..] else { panic!("{out:?}") };
    assert_eq!((error.class, error.analysis.is_some()), (Class::Error, false));
    assert_eq!(error.trace.span(0).expect("has spans").trace_state(), b"");
}

#[test]
fn a_dry_run_drops_nothing_and_changes_no_tracestate() {
    let mut case = Case::new(|config| {
        config.sample.healthy = 0.5;
        config.sample.dry_run = true;
    });
    let out = healthy(&mut case, 1, 100);
    assert_eq!(out.len(), 100);
    assert!(
        out.iter().all(|outgoing| outgoing.trace.span(0).is_some_and(|span| span.trace_state().is_empty()))
    );
    let dropped = case.counted("laggard_traces_total{decision=\"dropped\"}");
    assert!((20..=60).contains(&dropped), "counted as what would have been dropped: {dropped}");
}

// D1.
#[test]
fn a_trace_without_a_root_is_kept_when_it_is_long_and_says_why_nobody_is_named() {
    let mut case = Case::new(|config| config.sample.healthy = 0.0);
    let start = 1_000 * SECOND;
    for (trace, seconds) in [(1, 9), (2, 11)] {
        let spans = [(3, 2, 2, start, start + seconds * SECOND)];
        case.accept(start, &resource_spans("db", trace, &spans, false));
    }
    let out = case.decide(start + 30 * SECOND);
    let slow: Vec<_> = out.iter().filter(|outgoing| outgoing.class == Class::Slow).collect();
    let [slow] = &slow[..] else { panic!("{out:?}") };
    assert_eq!(slow.trace.id(), id(2));
    let outcome = &slow.analysis.as_ref().expect("analysed").verdict.outcome;
    assert_eq!(*outcome, Outcome::Inconclusive(crate::compare::Reason::IncompleteTrace));
}

// E1.
#[test]
fn what_does_not_fit_is_decided_early_and_the_budget_holds() {
    let limit = 4 << 20;
    let mut case = Case::with_held_limit(limit, |config| config.sample.healthy = 0.0);
    healthy(&mut case, 1, 40);
    let mut out = Vec::new();
    for trace in 1_000..40_000 {
        assert!(case.try_accept(
            1_000_000 * SECOND,
            &request(Call { start: 1_000 * SECOND, ..fast(trace) }),
            &mut out
        ));
        assert!(case.pipeline.assembler.held_bytes() <= limit);
    }
    case.check(out);
    assert!(case.counted("laggard_decisions_total{trigger=\"memory\"}") > 20_000);
}

// E1.
#[test]
fn refusing_on_overflow_takes_nothing_of_the_request_and_decides_nothing_early() {
    let limit = 2 << 20;
    let mut case = Case::with_held_limit(limit, |config| config.assemble.on_overflow = OnOverflow::Refuse);
    let mut out = Vec::new();
    let refused = (1..100_000).find(|trace| {
        let held = case.pipeline.held();
        let is_refused = !case.try_accept(0, &request(fast(*trace)), &mut out);
        assert!(!is_refused || case.pipeline.held() == held);
        is_refused
    });
    assert!(refused > Some(1_000), "{refused:?}");
    assert!(case.pipeline.assembler.held_bytes() <= limit);
    assert!(out.is_empty());
    case.check(out);
}

#[test]
fn ending_decides_what_is_held() {
    let mut case = Case::new(|_| {});
    case.accept(0, &request(fast(1)));
    let mut out = Vec::new();
    case.pipeline.decide_all(0, &mut |outgoing| out.push(outgoing));
    assert_eq!(case.check(out).len(), 1);
    assert_eq!(case.pipeline.held().spans, 0);
}

#[test]
fn who_costs_whom_how_much_is_counted_and_references_stay_where_nobody_wants_them() {
    let mut case = Case::new(|config| config.sample.references = false);
    healthy(&mut case, 1, 40);
    let out = case.call(Call { callee: 1_075 * MILLI, ..fast(100) });
    assert!(out.iter().all(|outgoing| !outgoing.is_reference));
    let labels = r#"{entry_service="web",service="db",category="own_time"}"#;
    assert_eq!(case.counted(&format!("laggard_root_cause_traces_total{labels}")), 1);
    let page = case.metrics.render();
    let start = format!("laggard_root_cause_delay_seconds_total{labels} ");
    let seconds = page.lines().find_map(|line| line.strip_prefix(&start)).expect("counted");
    assert!((0.99..1.01).contains(&seconds.parse::<f64>().expect("a number")), "{seconds}");
}

// FAULT-C6.
#[test]
fn spans_that_claim_to_have_lasted_for_centuries_harm_nobody() {
    let mut case = Case::new(|config| config.sample.healthy = 0.0);
    healthy(&mut case, 1, 60);
    for (trace, start, end) in [(100, 1, u64::MAX), (101, u64::MAX - 1, u64::MAX), (102, 1, 1)] {
        let mut spans = vec![(1, 0, 2, start, end)];
        // Calls, and work inside of the first, each as long as the whole.
        spans.extend((2..80).map(|span| (span, 1, 3, start, end)));
        spans.extend((80..120).map(|span| (span, 2, 1, start, end)));
        let mut request = resource_spans("web", trace, &spans, false);
        let answers: Vec<_> = (2..80).map(|span| (span + 120, span, 2, start, end)).collect();
        request.extend(resource_spans("db", trace, &answers, false));
        let now = fast(trace).start;
        case.accept(now, &request);
        case.decide(now + 40 * SECOND);
    }
    healthy(&mut case, 150, 10);
    let out = case.call(Call { callee: 900 * MILLI, ..fast(200) });
    let verdict = out.iter().find_map(|outgoing| outgoing.analysis.as_ref()).map(|found| &found.verdict);
    let Some(Outcome::Identified(culprit)) = verdict.map(|verdict| &verdict.outcome) else {
        panic!("{verdict:?}")
    };
    assert_eq!(culprit.service, "db");
}

mod budget;
mod entries;
mod fairness;
mod faults;
mod keys;
mod learned;
mod sampling;
