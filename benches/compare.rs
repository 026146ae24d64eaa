//! CPU time of one comparison, by the size of the slow trace: `cargo bench --bench compare`.
//!
//! It is all that `run` does for a slow trace once it is decided: its critical path and ledger, what is too much
//! beside 32 references and the counters of all traffic, the verdict, and the sentence about it.

#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]
#![allow(clippy::indexing_slicing, reason = "it may panic, and reads better so")]
#![allow(clippy::cast_possible_truncation, reason = "sizes that it makes up itself")]

use std::hint::black_box;

use laggard::assemble::Trace;
use laggard::compare::{Comparer, Outcome};
use laggard::config::Config;
use laggard::decide::RouteId;
use laggard::otlp::span::SpanView;
use laggard::otlp::wire::{put_bytes, put_fixed64, put_uint};
use laggard::otlp::{Nanos, TraceId};
use rustix::time::{ClockId, clock_gettime};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ROUNDS: usize = 15;
const REFERENCES: u64 = 32;
const MICROSECOND: u64 = 1_000;
const SECOND: Nanos = 1_000_000_000;
const EPOCH: Nanos = 1_793_491_200 * SECOND;

/// How the spans of a trace hang together.
#[derive(Clone, Copy)]
enum Form {
    /// Services that call services and databases, ten spans a service entered.
    Services,
    /// One span that makes all calls.
    Children,
    /// Every span the parent of the next.
    Chain,
}

fn main() {
    println!("medians of {ROUNDS} rounds\n");
    println!(
        "{:<26} {:>8} {:>12} {:>9} {:>14} {:>12}",
        "trace", "spans", "compare, us", "ns/span", "new ring, us", "learn, us"
    );
    for (name, form, spans) in [
        ("services", Form::Services, 30),
        ("services", Form::Services, 300),
        ("services", Form::Services, 3_000),
        ("services", Form::Services, 20_000),
        ("one parent, all children", Form::Children, 20_000),
        ("one parent, all children", Form::Children, 100_000),
        ("a chain", Form::Chain, 20_000),
        ("a chain", Form::Chain, 100_000),
    ] {
        let Cost { compare, new_ring, learn } = measure(form, spans);
        let [compare_us, new_ring, learn] = [compare, new_ring, learn].map(|cost| cost / 1000.0);
        let a_span = compare / f64::from(spans);
        println!("{name:<26} {spans:>8} {compare_us:>12.1} {a_span:>9.0} {new_ring:>14.1} {learn:>12.1}");
    }
}

/// Median nanoseconds.
struct Cost {
    /// Of a comparison with references that were compared with before.
    compare: f64,
    /// Of the first one after a reference was learned.
    new_ring: f64,
    /// Of learning one reference.
    learn: f64,
}

fn measure(form: Form, spans: u32) -> Cost {
    let config = Config::default();
    let mut limits = config.compare.clone();
    limits.max_spans = usize::MAX;
    let comparer = Comparer::new(&limits, &config.baseline, &config.slow.learned, 4 << 30);
    let references: Vec<Trace> = (0..4).map(|number| trace(form, spans, number, false)).collect();
    let slow = trace(form, spans, 9, true);
    let mut now = EPOCH;
    let learn = |now: &mut Nanos, number: u64| {
        *now += SECOND;
        let reference = references.get((number % 4) as usize).expect("four were made");
        comparer.learn(*now, RouteId::OTHER, reference, 0, true);
    };
    for number in 0..REFERENCES {
        learn(&mut now, number);
    }
    comparer.trust(now);
    let compare = |now: Nanos| comparer.compare(now, RouteId::OTHER, black_box(&slow), 0, SECOND);
    let verdict = compare(now);
    assert!(matches!(verdict.outcome, Outcome::Identified(_)), "{verdict:?}");
    let repeats = (20_000 / spans).max(1);
    let (mut compares, mut new_rings, mut learns) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS as u64 {
        learns.push(timed(1, || learn(&mut now, round)));
        comparer.trust(now);
        new_rings.push(timed(1, || drop(black_box(compare(now)))));
        compares.push(timed(repeats, || drop(black_box(compare(now)))));
    }
    Cost { compare: median(compares), new_ring: median(new_rings), learn: median(learns) }
}

/// Nanoseconds of one of `repeats` times, CPU time of this thread: what others do on the machine does not count.
fn timed(repeats: u32, mut work: impl FnMut()) -> f64 {
    let before = thread_time();
    for _ in 0..repeats {
        work();
    }
    (thread_time() - before) as f64 / f64::from(repeats)
}

fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A span to be; times are microseconds since the trace's start.
struct Span {
    parent: Option<usize>,
    service: u64,
    kind: u64,
    name: String,
    start: u64,
    end: u64,
    attributes: &'static [(&'static str, &'static str)],
}

const HTTP: &[(&str, &str)] = &[
    ("http.request.method", "POST"),
    ("http.route", "/cart/{id}/items"),
    ("server.address", "shop.example.com"),
    ("network.peer.address", "10.17.3.211"),
    ("url.scheme", "https"),
    ("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/144.0"),
    ("network.protocol.version", "2"),
    ("thread.name", "worker-7"),
];

const DATABASE: &[(&str, &str)] = &[
    ("db.system.name", "postgresql"),
    ("db.namespace", "orders"),
    ("db.query.text", "SELECT id, name, price FROM items WHERE order_id = ? AND tenant = ?"),
    ("db.operation.name", "SELECT"),
    ("server.address", "db-1.internal"),
    ("server.port", "5432"),
];

const INTERNAL: u64 = 1;
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

/// The slow one is slow in its second span; times differ a little between the others.
fn trace(form: Form, count: u32, number: u8, is_slow: bool) -> Trace {
    let mut spans = match form {
        Form::Services => services(count as usize),
        Form::Children => children(count as usize),
        Form::Chain => chain(count as usize),
    };
    let scale = 1000 + u64::from(number % 4) * 10;
    for span in &mut spans {
        span.start = span.start * scale / 1000;
        span.end = span.end * scale / 1000;
    }
    if is_slow {
        // A second in the span that ends first: all that ends later is moved.
        let longer = spans.iter().map(|span| span.end).max().unwrap_or(0) / 2 + 1_000_000;
        let after = spans.get(2).map_or(0, |span| span.start + 1);
        for span in &mut spans {
            span.start += if span.start >= after { longer } else { 0 };
            span.end += if span.end >= after { longer } else { 0 };
        }
    }
    build(&spans, number)
}

/// Blocks of ten spans: a call to a service, its handler with five steps, one of them an asked cache, and two asked
/// databases. Each block is called by the handler of the block that has a third of its number.
fn services(count: usize) -> Vec<Span> {
    const BLOCK: u64 = 1_000;
    let blocks = count.div_ceil(10);
    let mut spans: Vec<Span> = Vec::with_capacity(count);
    // Each block's own steps, then the blocks that it calls, one after the other.
    let mut lengths = vec![BLOCK; blocks];
    for block in (1..blocks).rev() {
        lengths[(block - 1) / 3] += lengths[block];
    }
    let mut starts = vec![0; blocks];
    let mut free: Vec<u64> = vec![BLOCK / 2; blocks];
    for block in 0..blocks {
        if block > 0 {
            let caller = (block - 1) / 3;
            starts[block] = starts[caller] + free[caller];
            free[caller] += lengths[block];
        }
        let (start, length) = (starts[block], lengths[block]);
        let (service, caller) = (block as u64 % 24, (block.max(1) as u64 - 1) / 3 % 24);
        let first = spans.len();
        let handler = |block: usize| block * 10 + 2;
        let mut add = |parent, service, kind, name: String, from: u64, until: u64, attributes| {
            let (start, end) = (start + from, start + until);
            spans.push(Span { parent, service, kind, name, start, end, attributes });
        };
        let parent = (block > 0).then(|| handler((block - 1) / 3));
        let kind = if block > 0 { CLIENT } else { SERVER };
        let operation = block % 7;
        add(parent, caller, kind, format!("POST /v1/step/{operation}"), 1, length - 1, HTTP);
        add(Some(first), service, SERVER, "POST /cart/{id}/items".into(), 10, length - 10, HTTP);
        add(Some(first + 1), service, INTERNAL, format!("handle-{operation}"), 15, length - 15, &[]);
        for step in 0..4 {
            let from = 20 + step * 40;
            add(Some(first + 2), service, INTERNAL, format!("step {step}"), from, from + 35, &[]);
        }
        add(Some(first + 3), service, CLIENT, "GET".into(), 25, 40, DATABASE);
        add(Some(first + 4), service, CLIENT, "SELECT orders".into(), 62, 90, DATABASE);
        add(Some(first + 5), service, CLIENT, "SELECT items".into(), 102, 130, DATABASE);
    }
    spans.truncate(count);
    spans
}

fn children(count: usize) -> Vec<Span> {
    let end = count as u64 * 10;
    let mut spans = vec![root(end)];
    for call in 1..count as u64 {
        let (start, end) = (call * 10 - 9, call * 10 - 2);
        let name = "SELECT items".to_owned();
        spans.push(Span {
            parent: Some(0),
            service: 0,
            kind: CLIENT,
            name,
            start,
            end,
            attributes: DATABASE,
        });
    }
    spans
}

fn chain(count: usize) -> Vec<Span> {
    let end = count as u64 * 4;
    let mut spans = vec![root(end)];
    for depth in 1..count as u64 {
        let (parent, name) = (Some(depth as usize - 1), format!("call {}", depth % 10));
        let (service, kind) = ((depth / 2) % 24, if depth % 2 == 1 { CLIENT } else { SERVER });
        spans.push(Span { parent, service, kind, name, start: depth, end: end - depth, attributes: HTTP });
    }
    spans
}

fn root(end: u64) -> Span {
    let name = "GET /orders".to_owned();
    Span { parent: None, service: 0, kind: SERVER, name, start: 0, end, attributes: HTTP }
}

fn build(spans: &[Span], number: u8) -> Trace {
    let id = TraceId::from_slice(&[number + 1; 16]).expect("not zero");
    let mut trace = Trace::new(id);
    let mut scopes = std::collections::BTreeMap::new();
    for (index, span) in spans.iter().enumerate() {
        let scope = *scopes.entry(span.service).or_insert_with(|| {
            let resource = trace.push_resource(&resource(span.service)).expect("small");
            trace.push_scope(&[], resource).expect("small")
        });
        let body = body(id, index, span);
        let head = SpanView::read(&body).expect("valid").head;
        trace.push_span(head, &body, scope).expect("small");
    }
    trace
}

fn resource(service: u64) -> Vec<u8> {
    let mut resource = Vec::new();
    let name = format!("service-{}", char::from(b'a' + u8::try_from(service).expect("few")));
    let pod = format!("{name}-7d9f8b6c5-x2x4z");
    for (key, value) in [
        ("telemetry.sdk.language", "java"),
        ("service.name", &name),
        ("service.version", "4.2.1"),
        ("k8s.pod.name", &pod),
    ] {
        put_attribute(&mut resource, 1, key, value);
    }
    let mut content = Vec::new();
    put_bytes(&mut content, 1, &resource);
    content
}

fn body(trace: TraceId, index: usize, span: &Span) -> Vec<u8> {
    // As if they had come in any order.
    let id = |index: usize| (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let mut body = Vec::new();
    put_bytes(&mut body, 1, trace.bytes());
    put_bytes(&mut body, 2, &id(index));
    if let Some(parent) = span.parent {
        put_bytes(&mut body, 4, &id(parent));
    }
    put_bytes(&mut body, 5, span.name.as_bytes());
    put_uint(&mut body, 6, span.kind);
    put_fixed64(&mut body, 7, EPOCH + span.start * MICROSECOND);
    put_fixed64(&mut body, 8, EPOCH + span.end * MICROSECOND);
    for (key, value) in span.attributes {
        put_attribute(&mut body, 9, key, value);
    }
    body
}

fn put_attribute(out: &mut Vec<u8>, field: u32, key: &str, text: &str) {
    let (mut value, mut attribute) = (Vec::new(), Vec::new());
    put_bytes(&mut value, 1, text.as_bytes());
    put_bytes(&mut attribute, 1, key.as_bytes());
    put_bytes(&mut attribute, 2, &value);
    put_bytes(out, field, &attribute);
}
