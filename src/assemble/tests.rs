use super::*;
use crate::otlp::wire::{put_bytes, put_fixed64, put_uint};
use crate::telemetry::metrics::Class;

const SECOND: Nanos = 1_000_000_000;

#[derive(Clone, Copy)]
struct Span {
    trace: u32,
    id: u8,
    parent: u8,
    padding: usize,
}

fn span(trace: u32, id: u8, parent: u8) -> Span {
    Span { trace, id, parent, padding: 0 }
}

fn id(number: u32) -> TraceId {
    let mut bytes = [7; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    TraceId::from_slice(&bytes).expect("not zero")
}

fn body(span: Span) -> Vec<u8> {
    let mut body = Vec::new();
    put_bytes(&mut body, 1, id(span.trace).bytes());
    put_bytes(&mut body, 2, &[span.id; 8]);
    if span.parent > 0 {
        put_bytes(&mut body, 4, &[span.parent; 8]);
    }
    put_uint(&mut body, 6, 2);
    put_fixed64(&mut body, 7, 1_000);
    put_fixed64(&mut body, 8, 1_000 + u64::from(span.id));
    put_bytes(&mut body, 5, &vec![b'n'; span.padding]);
    body
}

fn request(service: &str, spans: &[Span]) -> Vec<u8> {
    let mut value = Vec::new();
    put_bytes(&mut value, 1, service.as_bytes());
    let mut attribute = Vec::new();
    put_bytes(&mut attribute, 1, b"service.name");
    put_bytes(&mut attribute, 2, &value);
    let mut resource = Vec::new();
    put_bytes(&mut resource, 1, &attribute);
    let mut scope_spans = Vec::new();
    for span in spans {
        put_bytes(&mut scope_spans, 2, &body(*span));
    }
    let mut resource_spans = Vec::new();
    put_bytes(&mut resource_spans, 1, &resource);
    put_bytes(&mut resource_spans, 2, &scope_spans);
    let mut request = Vec::new();
    put_bytes(&mut request, 1, &resource_spans);
    request
}

fn assembler(shards: usize) -> Assembler {
    Assembler::new(Settings::new(&crate::config::Assemble::default()), shards)
}

fn store(assembler: &Assembler, now: Nanos, service: &str, spans: &[Span]) -> Stored {
    let request = request(service, spans);
    let mut batch = Batch::default();
    batch.read(&request).expect("valid");
    assembler.store(now, &batch, &request, 0..batch.spans.len())
}

/// Settles everything that is due, all alike; returns the ids, their triggers and the kept traces.
fn decide(assembler: &Assembler, now: Nanos, decision: Decision) -> Vec<(TraceId, Trigger, Option<Trace>)> {
    let mut settled = Vec::new();
    let mut due = DueTraces::default();
    for shard in 0..assembler.shards() {
        assembler.due(shard, now, Lot::ALL, &mut due);
        let decisions = due.traces.iter().map(|_| (decision, 0));
        assembler.settle(&due, decisions, |index, _, trace| {
            settled.push((due.traces[index].id, due.traces[index].trigger, trace));
        });
    }
    settled
}

const KEEP: Decision = Decision::Kept(Kept { class: Class::Slow, stamp: None });

#[test]
fn spans_of_one_trace_gather_over_requests_and_services_with_their_bytes() {
    let assembler = assembler(4);
    store(&assembler, 0, "cart", &[span(1, 2, 1), span(2, 2, 1)]);
    store(&assembler, 0, "web", &[span(1, 1, 0)]);
    store(&assembler, 0, "cart", &[span(1, 3, 1)]);
    let settled = decide(&assembler, 10 * SECOND, KEEP);
    let [(first, Trigger::Root, Some(trace))] = &settled[..] else { panic!("{settled:?}") };
    assert_eq!(*first, id(1));
    let bodies: Vec<_> = (0..trace.len()).map(|n| trace.span(n).expect("in range").body.to_vec()).collect();
    assert_eq!(bodies, [body(span(1, 2, 1)), body(span(1, 1, 0)), body(span(1, 3, 1))]);
    assert_eq!(trace.resource_of(0), trace.resource_of(2), "both are of cart");
    assert_ne!(trace.resource_of(0), trace.resource_of(1));
    let mut encoded = Vec::new();
    trace.encode(&mut encoded);
    let expected =
        [request("cart", &[span(1, 2, 1), span(1, 3, 1)]), request("web", &[span(1, 1, 0)])].concat();
    assert_eq!(encoded, expected);
    assert_eq!(assembler.held().spans, 1);
}

// D7.
#[test]
fn a_trace_is_due_after_its_root_or_else_after_its_first_span_and_only_once() {
    let assembler = assembler(1);
    store(&assembler, 0, "web", &[span(1, 1, 0), span(2, 2, 1)]);
    store(&assembler, 5 * SECOND, "web", &[span(1, 2, 1), span(3, 1, 0)]);
    let due = |now| -> Vec<_> {
        decide(&assembler, now, Decision::Dropped).into_iter().map(|(id, trigger, _)| (id, trigger)).collect()
    };
    assert_eq!(due(10 * SECOND - 1), []);
    assert_eq!(due(10 * SECOND), [(id(1), Trigger::Root)]);
    assert_eq!(due(30 * SECOND - 1), [(id(3), Trigger::Root)]);
    assert_eq!(due(30 * SECOND), [(id(2), Trigger::Wait)]);
    assert_eq!(due(Nanos::MAX), []);
    assert_eq!(
        assembler.held(),
        Held { remembered_bytes: assembler.held().remembered_bytes, ..Held::default() }
    );
}

// D7.
#[test]
fn a_trace_that_is_handed_out_stays_held_and_takes_spans_until_it_is_settled() {
    let assembler = assembler(1);
    store(&assembler, 0, "web", &[span(1, 1, 0)]);
    let mut due = DueTraces::default();
    assembler.due(0, 10 * SECOND, Lot::ALL, &mut due);
    assert_eq!(due.service(&due.traces[0]), b"web");
    assert_eq!(due.root_span(&due.traces[0]), body(span(1, 1, 0)));
    assert_eq!(due.traces[0].root, Some(1));
    store(&assembler, 10 * SECOND, "web", &[span(1, 2, 1)]);
    let mut again = DueTraces::default();
    assembler.due(0, Nanos::MAX, Lot::ALL, &mut again);
    assert!(again.traces.is_empty());
    let mut spans = 0;
    assembler.settle(&due, [(KEEP, 0)].into_iter(), |_, count, trace| {
        spans = count;
        assert_eq!(trace.map(|trace| trace.len()), Some(2));
    });
    assert_eq!(spans, 2);
}

// D6.
#[test]
fn late_spans_follow_the_decision_of_their_trace() {
    let assembler = assembler(2);
    store(&assembler, 0, "web", &[span(1, 1, 0)]);
    decide(&assembler, 10 * SECOND, KEEP);
    store(&assembler, 10 * SECOND, "web", &[span(2, 1, 0)]);
    decide(&assembler, 20 * SECOND, Decision::Dropped);

    let late =
        store(&assembler, 21 * SECOND, "web", &[span(1, 5, 1), span(2, 5, 1), span(2, 6, 0), span(3, 1, 0)]);
    assert_eq!((late.late_dropped, late.late_roots), (2, 1));
    let [(trace, kept)] = &late.late[..] else { panic!("{late:?}") };
    assert_eq!((trace.id(), kept.class), (id(1), Class::Slow));
    let mut encoded = Vec::new();
    trace.encode(&mut encoded);
    assert_eq!(encoded, request("web", &[span(1, 5, 1)]));
    assert_eq!(assembler.held().traces, 1);
}

// D6.
#[test]
fn the_longest_root_decides_whatever_the_order_of_arrival() {
    for order in [[1, 9, 5], [9, 5, 1], [5, 1, 9]] {
        let assembler = assembler(1);
        for root in order {
            store(&assembler, 0, "web", &[span(1, root, 0)]);
        }
        let mut due = DueTraces::default();
        assembler.due(0, 10 * SECOND, Lot::ALL, &mut due);
        assert_eq!(due.traces[0].root, Some(9), "{order:?}");
        assert_eq!(due.root_span(&due.traces[0]), body(span(1, 9, 0)));
    }
}

// D5.
#[test]
fn a_trace_that_grows_too_large_is_due_at_once() {
    let config = crate::config::Assemble { maximum_trace_size: 2_000, ..Default::default() };
    let assembler = Assembler::new(Settings::new(&config), 1);
    let large = Span { padding: 900, ..span(1, 2, 1) };
    assert!(!store(&assembler, 0, "web", &[large, span(2, 1, 0)]).has_oversized);
    assert!(store(&assembler, 0, "web", &[large, large]).has_oversized);
    let settled = decide(&assembler, 0, KEEP);
    let [(first, Trigger::Size, Some(trace))] = &settled[..] else { panic!("{settled:?}") };
    assert_eq!((*first, trace.len()), (id(1), 3));
}

// E5.
#[test]
fn early_decisions_take_traces_with_a_root_first_and_the_oldest_first() {
    let assembler = assembler(1);
    store(&assembler, 0, "web", &[span(1, 2, 1)]);
    store(&assembler, 1, "web", &[span(2, 1, 0)]);
    store(&assembler, 2, "web", &[span(3, 1, 0)]);
    let mut due = DueTraces::default();
    assembler.early(0, Trigger::Memory, Lot::ALL, &mut due);
    let order: Vec<_> = due.traces.iter().map(|due| due.id).collect();
    assert_eq!(order, [id(2), id(3), id(1)]);
}

// E3.
#[test]
fn memory_returns_to_idle_after_a_flood() {
    let assembler = assembler(2);
    for trace in 0..40_000 {
        store(&assembler, 0, "web", &[Span { padding: 300, ..span(trace, 1, 0) }]);
    }
    let flooded = assembler.held_bytes();
    assert!(flooded > 40_000 * 340, "{flooded}");
    assert_eq!(decide(&assembler, 10 * SECOND, Decision::Dropped).len(), 40_000);
    // One chunk of slots a shard, the smallest tables and queues.
    assert!(assembler.held_bytes() < 200_000, "{}", assembler.held_bytes());
    assert_eq!(assembler.held().spans, 0);
}

#[test]
fn holes_are_closed_and_what_moves_keeps_its_bytes() {
    let assembler = assembler(1);
    // One trace in ten has no root and outlives the others.
    let is_rootless = |trace: u32| trace.is_multiple_of(10);
    for trace in 0..20_000 {
        let parent = u8::from(is_rootless(trace));
        let spans = [2, 3].map(|id| Span { padding: 400, ..span(trace, id, parent) });
        store(&assembler, 0, if trace.is_multiple_of(3) { "web" } else { "cart" }, &spans);
    }
    let before = assembler.held_bytes();
    assert_eq!(decide(&assembler, 10 * SECOND, Decision::Dropped).len(), 18_000);
    let after = assembler.held_bytes();
    // Slots do not move, so those of the rest are spread over all chunks.
    assert!(after * 3 < before, "{after} of {before} bytes for a tenth of the traces");
    let rest = decide(&assembler, 30 * SECOND, KEEP);
    assert_eq!(rest.len(), 2_000);
    for (number, (id_found, _, trace)) in (0..20_000).step_by(10).zip(rest) {
        assert_eq!(id_found, id(number));
        let mut encoded = Vec::new();
        trace.expect("kept").encode(&mut encoded);
        let spans = [2, 3].map(|id| Span { padding: 400, ..span(number, id, 1) });
        let service = if number.is_multiple_of(3) { "web" } else { "cart" };
        assert_eq!(encoded, request(service, &spans));
    }
}

#[test]
fn a_span_larger_than_a_segment_is_held_and_freed() {
    let assembler = assembler(1);
    let huge = Span { padding: 3 << 20, ..span(1, 1, 0) };
    store(&assembler, 0, "web", &[huge, span(2, 1, 0), span(1, 2, 1)]);
    let settled = decide(&assembler, 10 * SECOND, KEEP);
    assert_eq!(settled.len(), 2);
    let mut encoded = Vec::new();
    settled[0].2.as_ref().expect("kept").encode(&mut encoded);
    assert_eq!(encoded, request("web", &[huge, span(1, 2, 1)]));
    assert!(assembler.held_bytes() < 200_000, "{}", assembler.held_bytes());
}

#[test]
fn what_moves_keeps_a_resource_that_nobody_else_has() {
    let assembler = assembler(1);
    // Each rootless trace has a service of its own, which only the segment that it leaves refers to.
    for trace in 0..4_000 {
        let is_rootless = trace % 100 == 0;
        let service = if is_rootless { format!("service {trace}") } else { "web".to_owned() };
        store(&assembler, 0, &service, &[Span { padding: 400, ..span(trace, 2, u8::from(is_rootless)) }]);
    }
    decide(&assembler, 10 * SECOND, Decision::Dropped);
    let rest = decide(&assembler, 30 * SECOND, KEEP);
    assert_eq!(rest.len(), 40);
    for (number, (_, _, trace)) in (0..4_000).step_by(100).zip(rest) {
        let trace = trace.expect("still there");
        assert_eq!(trace.service_of(0), format!("service {number}").as_bytes());
    }
}

// FAULT-C5.
#[test]
fn ids_that_share_most_of_their_bytes_spread_over_all_shards() {
    for place in [0, 4, 8, 12] {
        let mut scope_spans = Vec::new();
        for number in 1..=4_096_u32 {
            let mut id = [7; 16];
            id[place..place + 4].copy_from_slice(&number.to_be_bytes());
            let mut span = Vec::new();
            put_bytes(&mut span, 1, &id);
            put_bytes(&mut span, 2, &[1; 8]);
            put_bytes(&mut scope_spans, 2, &span);
        }
        let (mut resource_spans, mut request) = (Vec::new(), Vec::new());
        put_bytes(&mut resource_spans, 2, &scope_spans);
        put_bytes(&mut request, 1, &resource_spans);
        let mut batch = Batch::default();
        batch.read(&request).expect("valid");
        let assembler = assembler(16);
        assembler.store(0, &batch, &request, 0..batch.spans.len());
        let traces: Vec<u64> = assembler.shards.iter().map(|shard| lock(shard).traces()).collect();
        assert_eq!(traces.iter().sum::<u64>(), 4_096);
        assert!(traces.iter().all(|traces| (128..=512).contains(traces)), "{traces:?}");
    }
}
