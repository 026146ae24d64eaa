//! What consistent probability sampling asks of whole traces, row by row of OpenTelemetry's table.

use super::*;
use crate::config::Threshold;
use crate::otlp::tracestate;

/// `states` are those of the spans of one trace, the root's first.
fn with_states(trace: u32, start: Nanos, millis: u64, is_error: bool, states: &[&str]) -> Vec<u8> {
    let spans: Vec<_> = (1_u8..)
        .zip(states)
        .map(|(span, _)| (span, u8::from(span > 1), 2, start, start + millis * MILLI))
        .collect();
    let request = resource_spans("web", trace, &spans, is_error);
    let [mut whole] = <[Trace; 1]>::try_from(Trace::all_in(&request).expect("valid")).expect("one trace");
    for (span, state) in states.iter().enumerate() {
        let body = tracestate::rewrite(whole.span(span).expect("in range").body, state.as_bytes());
        whole.replace_body(span, &body.expect("valid")).expect("small");
    }
    let mut out = Vec::new();
    for span in 0..whole.len() {
        let mut scope = Vec::new();
        put_bytes(&mut scope, 2, whole.span(span).expect("in range").body);
        let mut message = Vec::new();
        put_bytes(&mut message, 2, &scope);
        put_bytes(&mut out, 1, &message);
    }
    out
}

fn case(change: impl FnOnce(&mut Config)) -> Case {
    Case::new(|config| {
        config.slow.threshold = Threshold::Fixed(std::time::Duration::from_millis(300));
        config.sample.healthy = 0.5;
        change(config);
    })
}

fn states(outgoing: &Outgoing) -> Vec<String> {
    (0..outgoing.trace.len())
        .map(|span| outgoing.trace.span(span).expect("in range").trace_state().to_vec())
        .map(|state| String::from_utf8(state).expect("text"))
        .collect()
}

const START: Nanos = 1_000 * SECOND;

impl Case {
    /// The states with which a trace of 100 ms leaves; `None` when it is dropped.
    fn healthy_with(&mut self, trace: u32, incoming: &[&str]) -> Option<Vec<String>> {
        let mut out = self.accept(START, &with_states(trace, START, 100, false, incoming));
        out.extend(self.decide(START + 11 * SECOND));
        out.first().map(states)
    }
}

/// The first traces of which the randomness lies in the lower and in the upper half.
fn low_and_high() -> (u32, u32) {
    let is_high = |trace: &u32| id(*trace).randomness() >= 1 << 55;
    ((1..99).find(|trace| !is_high(trace)).expect("many"), (1..99).find(is_high).expect("many"))
}

// R15, SAMPLING-1.
#[test]
fn slow_traces_errors_and_learning_ones_leave_as_they_came_whatever_their_tracestate_says() {
    let incoming = ["a=1,ot=th:junk;rv:00000000000000", "ot=th:fffffffffffff"];
    for (millis, is_error, class) in [(400, false, Class::Slow), (100, true, Class::Error)] {
        let mut case = case(|config| config.sample.healthy = 0.0);
        case.accept(START, &with_states(1, START, millis, is_error, &incoming));
        let out = case.decide(START + 11 * SECOND);
        assert_eq!((out[0].class, states(&out[0])), (class, incoming.map(str::to_owned).to_vec()));
        assert_eq!(case.counted("laggard_erased_thresholds_total"), 0);
    }
    let mut case = case(|config| config.slow.threshold = Threshold::Learned);
    assert_eq!(case.healthy_with(1, &incoming).expect("kept"), incoming, "learning");
}

// R15, SAMPLING-2, SAMPLING-6.
#[test]
fn a_healthy_sample_is_decided_by_its_randomness_and_stamped_on_every_span() {
    let (low, high) = low_and_high();
    let mut case = case(|_| {});
    assert_eq!(case.healthy_with(low, &["", ""]), None);
    assert_eq!(case.healthy_with(high, &["", "a=1"]).expect("kept"), ["ot=th:8", "ot=th:8,a=1"]);
}

#[test]
fn the_roots_randomness_stands_for_that_of_the_trace_id() {
    let (low, high) = low_and_high();
    let mut case = case(|_| {});
    let kept = case.healthy_with(low, &["ot=rv:ffffffffffffff", ""]).expect("kept");
    assert_eq!(kept, ["ot=th:8;rv:ffffffffffffff", "ot=th:8"]);
    assert_eq!(case.healthy_with(high, &["ot=rv:00000000000001", "ot=rv:ffffffffffffff"]), None);
}

// R15.
#[test]
fn of_different_thresholds_the_highest_is_stamped_on_every_span() {
    let mut case = case(|_| {});
    let incoming = ["ot=th:4;rv:fffffffffffff0", "ot=th:c;rv:fffffffffffff0", ""];
    let kept = case.healthy_with(1, &incoming).expect("kept");
    assert_eq!(kept, ["ot=th:c;rv:fffffffffffff0", "ot=th:c;rv:fffffffffffff0", "ot=th:c"]);
    let late = case.accept(START + 20 * SECOND, &with_states(1, START, 100, false, &["ot=th:4"]));
    assert_eq!(states(&late[0]), ["ot=th:c"], "late spans too");
}

// SAMPLING-6.
#[test]
fn a_root_without_ot_leaves_with_what_its_child_was_sampled_with() {
    let (low, high) = low_and_high();
    let mut case = case(|_| {});
    let child = "ot=th:c;rv:fffffffffffff0";
    assert_eq!(case.healthy_with(low, &["", child]), None, "the root's randomness is that of the trace id");
    // Its randomness is high enough for our threshold, and for that of the child or not.
    let highest = (1..999).find(|trace| id(*trace).randomness() >= 0xc0_0000_0000_0000).expect("many");
    let between = (1..999).find(|trace| (1 << 55..3 << 54).contains(&id(*trace).randomness())).expect("many");
    for (trace, expected) in
        [(highest, ["ot=th:c", child]), (between, ["ot=th:8", "ot=th:8;rv:fffffffffffff0"])]
    {
        assert_eq!(case.healthy_with(trace, &["", child]).expect("kept"), expected);
        let late = case.accept(START + 20 * SECOND, &with_states(trace, START, 100, false, &[""]));
        assert_eq!(states(&late[0]), [expected[0]], "late spans too");
    }
    assert!(case.healthy_with(high, &["a=1", "b=2"]).is_some());
}

// SAMPLING-7.
#[test]
fn whether_a_trace_is_slow_or_an_error_does_not_depend_on_its_randomness() {
    for randomness in ["00000000000000", "7fffffffffffff", "80000000000000", "ffffffffffffff"] {
        for (millis, is_error, class) in [(301, false, Class::Slow), (100, true, Class::Error)] {
            let mut case = case(|_| {});
            let state = format!("ot=rv:{randomness}");
            case.accept(START, &with_states(1, START, millis, is_error, &[&state]));
            let out = case.decide(START + 11 * SECOND);
            assert_eq!((out[0].class, states(&out[0])), (class, vec![state]));
        }
    }
}

// R15, SAMPLING-5.
#[test]
fn a_threshold_that_cannot_be_believed_is_erased_counted_and_ours_decides() {
    let mut case = case(|_| {});
    let kept =
        case.healthy_with(1, &["ot=th:c;rv:a0000000000000", "ot=th:zz;rv:a0000000000000"]).expect("kept");
    assert_eq!(kept, ["ot=th:8;rv:a0000000000000", "ot=th:8;rv:a0000000000000"]);
    for reason in ["inconsistent", "unparseable"] {
        assert_eq!(case.counted(&format!("laggard_erased_thresholds_total{{reason=\"{reason}\"}}")), 1);
    }
    assert_eq!(case.healthy_with(2, &["ot=th:c;rv:10000000000000"]), None, "decided by ours");
}

#[test]
fn errors_below_a_hundred_per_cent_are_stamped_as_healthy_ones_are() {
    let (low, high) = low_and_high();
    let mut case = case(|config| config.sample.errors = 0.5);
    for (trace, expected) in [(low, None), (high, Some("ot=th:8"))] {
        case.accept(START, &with_states(trace, START, 100, true, &[""]));
        let out = case.decide(START + 11 * SECOND);
        let state = out.first().map(|error| states(error).concat());
        assert_eq!(state.as_deref(), expected);
        assert!(out.iter().all(|outgoing| outgoing.class == Class::Error));
    }
}

// SAMPLING-3, SAMPLING-8.
#[test]
fn a_trace_decided_before_its_time_is_sampled_by_the_same_rule() {
    type End<'a> = &'a dyn Fn(&mut Case, &mut Vec<Outgoing>);
    let (low, high) = low_and_high();
    let ends: [(&str, End<'_>); 3] = [
        ("shutdown", &|case, out| case.pipeline.decide_all(START, &mut |outgoing| out.push(outgoing))),
        ("memory", &|case, out| {
            // Others push them out.
            for trace in 1_000..4_000 {
                assert!(case.try_accept(START, &with_states(trace, START, 100, false, &[""]), out));
            }
        }),
        ("size", &|case, out| {
            for trace in [low, high] {
                let long = format!("a={}", "x".repeat(40_000));
                assert!(case.try_accept(START, &with_states(trace, START, 100, false, &[&long]), out));
            }
        }),
    ];
    for (trigger, end) in ends {
        let mut case = Case::with_held_limit(1 << 20, |config| {
            config.slow.threshold = Threshold::Fixed(std::time::Duration::from_millis(300));
            config.sample.healthy = 0.5;
            config.assemble.maximum_trace_size = 40_000;
        });
        for trace in [low, high] {
            case.accept(START, &with_states(trace, START, 100, false, &[""]));
        }
        let mut out = Vec::new();
        end(&mut case, &mut out);
        let out = case.check(out);
        let of = |trace| out.iter().filter(|outgoing| outgoing.trace.id() == id(trace)).collect::<Vec<_>>();
        assert!(of(low).is_empty(), "{trigger}");
        assert!(states(of(high)[0])[0].starts_with("ot=th:8"), "{trigger}");
        assert!(case.counted(&format!("laggard_decisions_total{{trigger=\"{trigger}\"}}")) >= 2);
    }
}

// SAMPLING-1.
#[test]
fn a_dry_run_erases_nothing() {
    let mut case = case(|config| config.sample.dry_run = true);
    assert_eq!(case.healthy_with(1, &["ot=th:zz"]).expect("forwarded"), ["ot=th:zz"]);
    assert_eq!(case.counted("laggard_erased_thresholds_total"), 0);
}

// R15, SAMPLING-9.
#[test]
fn adjusted_counts_of_what_leaves_add_up_to_what_came() {
    let mut case = case(|config| config.sample.healthy = 0.1);
    let mut request = Vec::new();
    for trace in 1..=100_000 {
        request.extend(resource_spans("web", trace, &[(1, 0, 2, START, START + MILLI)], false));
        if trace % 1_000 == 0 {
            case.accept(START, &request);
            request.clear();
        }
    }
    let out = case.decide(START + 11 * SECOND);
    let count: f64 = out
        .iter()
        .map(|outgoing| {
            let threshold =
                tracestate::read(states(outgoing).concat().as_bytes()).threshold.expect("stamped");
            (1_u64 << 56) as f64 / ((1_u64 << 56) - threshold) as f64
        })
        .sum();
    let sigma = f64::sqrt(100_000.0 * 0.9 / 0.1);
    assert!((count - 100_000.0).abs() < 3.0 * sigma, "{count}");
}
