use std::time::Duration;

use super::*;
use crate::config::RouteOverride;
use crate::otlp::wire::{put_bytes, put_fixed64, put_uint};

const SECOND: Nanos = 1_000_000_000;
const MILLI: Nanos = 1_000_000;

fn span(name: &str, is_error: bool) -> Vec<u8> {
    let mut body = Vec::new();
    put_bytes(&mut body, 1, &[1; 16]);
    put_bytes(&mut body, 2, &[1; 8]);
    put_bytes(&mut body, 5, name.as_bytes());
    put_uint(&mut body, 6, 2);
    put_fixed64(&mut body, 7, SECOND);
    if is_error {
        put_bytes(&mut body, 15, &[0x18, 2]);
    }
    body
}

fn id(number: u64) -> TraceId {
    // Spread as random ids are.
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0xd6e8_feb8_6659_fd93).to_be_bytes());
    bytes[8..].copy_from_slice(&(number.wrapping_mul(0xa076_1d64_78bd_642f) | 1).to_be_bytes());
    TraceId::from_slice(&bytes).expect("not zero")
}

struct Case {
    decider: Decider,
    traces: u64,
}

impl Case {
    fn new(slow: &config::Slow) -> Self {
        Self { decider: Decider::new(slow, &config::Sample::default()), traces: 0 }
    }

    /// Judges one trace to the end, giving `shape` where it is asked for.
    fn judge(&mut self, now: Nanos, name: &str, duration: Nanos, shape: u64) -> Judged {
        let body = span(name, false);
        self.judge_with(now, duration, shape, &body, |_| {})
    }

    fn judge_with(
        &mut self,
        now: Nanos,
        duration: Nanos,
        shape: u64,
        body: &[u8],
        change: impl FnOnce(&mut Candidate<'_>),
    ) -> Judged {
        self.traces += 1;
        let span = SpanView::read(body).expect("valid");
        let mut candidate = Candidate {
            id: id(self.traces),
            service: b"web",
            span,
            duration,
            has_error: span.head.is_error,
            has_root: true,
            is_fragment: false,
        };
        change(&mut candidate);
        match self.decider.judge(now, &candidate, Shape::Unknown) {
            Judgement::Decided(judged) => judged,
            Judgement::Look { is_sampled } => {
                let Judgement::Decided(judged) =
                    self.decider.judge(now, &candidate, Shape::Known { shape, is_sampled })
                else {
                    panic!("a known shape is decided");
                };
                judged
            }
        }
    }
}

fn fixed(millis: u64) -> config::Slow {
    config::Slow {
        threshold: config::Threshold::Fixed(Duration::from_millis(millis)),
        ..config::Slow::default()
    }
}

/// An exception in `slow.routes`.
fn exception(service: &str, route: &str, threshold_ms: Option<u64>, ignore: bool) -> RouteOverride {
    RouteOverride {
        service: service.to_owned(),
        route: route.to_owned(),
        threshold: threshold_ms.map(Duration::from_millis),
        ignore,
    }
}

#[test]
fn slow_is_strictly_longer_than_the_threshold() {
    let mut case = Case::new(&fixed(300));
    assert_eq!(case.judge(0, "a", 300 * MILLI, 1).decided, Decided::Healthy);
    let slow = case.judge(0, "a", 300 * MILLI + 1, 1);
    assert_eq!((slow.decided, slow.threshold), (Decided::Slow, Some(300 * MILLI)));
}

// D14.
#[test]
fn slow_goes_before_error_and_error_before_healthy() {
    let mut case = Case::new(&fixed(300));
    let error = span("a", true);
    assert_eq!(case.judge_with(0, MILLI, 1, &error, |_| {}).decided, Decided::Error);
    assert_eq!(case.judge_with(0, SECOND, 1, &error, |_| {}).decided, Decided::Slow);
    let healthy = span("a", false);
    assert_eq!(case.judge_with(0, MILLI, 1, &healthy, |c| c.has_error = true).decided, Decided::Error);
}

#[test]
fn a_route_is_learning_until_it_has_enough_traces() {
    let mut case = Case::new(&config::Slow::default());
    for n in 0..20 {
        let judged = case.judge(n, "a", 100 * MILLI, 1);
        assert_eq!((judged.decided, judged.is_notable), (Decided::Learning, false), "trace {n}");
    }
    assert_eq!(case.judge(20, "a", 100 * MILLI, 1).decided, Decided::Healthy);
    assert_eq!(case.judge(21, "a", 200 * MILLI, 1).decided, Decided::Slow);
    assert!(case.judge(22, "b", 2 * SECOND, 1).is_notable, "a first slow request does not just vanish");
    assert_eq!(case.decider.routes_by_state(), (1, 1));
}

#[test]
fn the_first_matching_exception_wins() {
    let routes = vec![exception("w*b", "poll *", None, true), exception("w*b", "*", Some(50), false)];
    let slow = config::Slow { routes, ..fixed(300) };
    let mut case = Case::new(&slow);
    assert_eq!(case.judge(0, "poll forever", 60 * SECOND, 1).decided, Decided::Healthy);
    assert_eq!(case.judge(0, "a", 51 * MILLI, 1).threshold, Some(50 * MILLI));
}

#[test]
fn an_exception_goes_by_the_method_and_the_path() {
    let rule = exception("web", "POST /cart/*", Some(50), false);
    let mut case = Case::new(&config::Slow { routes: vec![rule], ..fixed(300) });
    for (method, route, expected) in
        [("POST", "/cart/{id}/items", 50), ("GET", "/cart/{id}", 300), ("POST", "/carts", 300)]
    {
        let mut body = span("any", false);
        for (key, value) in [("http.request.method", method), ("http.route", route)] {
            let (mut any, mut attribute) = (Vec::new(), Vec::new());
            put_bytes(&mut any, 1, value.as_bytes());
            put_bytes(&mut attribute, 1, key.as_bytes());
            put_bytes(&mut attribute, 2, &any);
            put_bytes(&mut body, 9, &attribute);
        }
        let judged = case.judge_with(0, 100 * MILLI, 1, &body, |_| {});
        assert_eq!(judged.threshold, Some(expected * MILLI), "{method} {route}");
        assert_eq!((judged.decided == Decided::Slow, judged.basis), (expected == 50, Basis::Fixed));
    }
}

#[test]
fn a_trace_without_a_root_or_a_threshold_is_slow_above_ten_seconds() {
    let mut case = Case::new(&config::Slow::default());
    let body = span("a", false);
    let mut judge = |duration| case.judge_with(0, duration, 1, &body, |c| c.has_root = false).decided;
    assert_eq!(judge(10 * SECOND), Decided::Learning);
    assert_eq!(judge(10 * SECOND + 1), Decided::Slow);
}

#[test]
fn fragments_and_errors_teach_nothing() {
    let mut case = Case::new(&config::Slow::default());
    let (body, error) = (span("a", false), span("a", true));
    for n in 0..100 {
        case.judge_with(n, MILLI, 1, &body, |c| c.is_fragment = true);
        let judged = case.judge_with(n, MILLI, 1, &error, |_| {});
        assert!(!judged.is_reference);
    }
    assert_eq!(case.decider.routes_by_state(), (0, 1));
}

/// Two pages under one route name: one of 10 ms, one of 400 ms.
fn two_shapes(case: &mut Case, minutes: std::ops::Range<u64>) {
    for minute in minutes {
        for n in 0..60 {
            let now = minute * 60 * SECOND + n * SECOND;
            case.judge(
                now,
                "page",
                if n % 10 == 0 { 400 * MILLI } else { 20 * MILLI },
                u64::from(n % 10 == 0),
            );
        }
    }
}

// D11.
#[test]
fn an_old_shape_is_judged_by_its_own_threshold() {
    let mut case = Case::new(&config::Slow::default());
    two_shapes(&mut case, 0..55);
    let before = case.judge(55 * 60 * SECOND, "page", 100 * MILLI, 0);
    assert_eq!(before.decided, Decided::Healthy, "by the route's threshold: {:?}", before.threshold);
    two_shapes(&mut case, 55..65);
    let after = case.judge(65 * 60 * SECOND, "page", 100 * MILLI, 0);
    assert_eq!(after.decided, Decided::Slow);
    assert_eq!(case.judge(65 * 60 * SECOND, "page", 400 * MILLI, 1).decided, Decided::Healthy);
}

// D11.
#[test]
fn a_shape_that_suddenly_is_everywhere_is_judged_by_the_route() {
    let slow = config::Slow {
        // So that the rare shape does not set the route's threshold.
        learned: config::Learned { percentile: 80.0, ..config::Learned::default() },
        ..config::Slow::default()
    };
    let mut case = Case::new(&slow);
    two_shapes(&mut case, 0..70);
    assert_eq!(case.judge(70 * 60 * SECOND, "page", 400 * MILLI, 1).decided, Decided::Healthy);
    let decided: Vec<_> =
        (0..240).map(|n| case.judge(70 * 60 * SECOND + n * SECOND, "page", 400 * MILLI, 1).decided).collect();
    assert_eq!(decided.last(), Some(&Decided::Slow));
}

#[test]
fn the_first_traces_of_a_shape_after_a_pause_are_no_surge() {
    let slow = config::Slow {
        learned: config::Learned { percentile: 80.0, ..config::Learned::default() },
        ..config::Slow::default()
    };
    let mut case = Case::new(&slow);
    two_shapes(&mut case, 0..70);
    for n in 0..3 {
        let after_a_night = case.judge((70 + 720) * 60 * SECOND + n, "page", 400 * MILLI, 1);
        assert_eq!(after_a_night.decided, Decided::Healthy, "trace {n}");
    }
}

#[test]
fn a_surge_of_a_fast_shape_excuses_none_of_its_traces() {
    let mut case = Case::new(&config::Slow::default());
    for n in 0..70 * 60 {
        let (millis, shape) = if n % 10 == 0 { (20, 1) } else { (400, 0) };
        case.judge(n * SECOND, "page", millis * MILLI, shape);
    }
    let surge = 70 * 60..75 * 60;
    let decided: Vec<_> = surge.map(|n| case.judge(n * SECOND, "page", 100 * MILLI, 1).decided).collect();
    assert!(decided.iter().all(|decided| *decided == Decided::Slow));
}

#[test]
fn learning_looks_at_a_bounded_share_of_the_traffic() {
    let mut case = Case::new(&fixed(300));
    let mut looked = [0; 10];
    for (second, looked) in (0..).zip(&mut looked) {
        for n in 0..2_000 {
            let judged = case.judge(second * SECOND + n, "a", MILLI, 1);
            *looked += u32::from(judged.is_reference);
        }
    }
    assert!(looked.iter().all(|looked| (20..=50).contains(looked)), "{looked:?}");
}

#[test]
fn a_glob_covers_the_whole_text() {
    for (pattern, text, matches) in [
        ("POST /cart/*", "POST /cart/1/items", true),
        ("POST /cart/*", "POST /cart", false),
        ("*", "", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-b-b-d", false),
        ("*cart", "cartcart", true),
        ("a*a", "a", false),
        ("exact", "exact", true),
        ("exact", "exactly", false),
    ] {
        assert_eq!(route::glob(pattern, text), matches, "{pattern} on {text}");
    }
}

mod places;
mod season;
pub(super) use season::nanos;

/// A trace each second; those that `is_slower` says take three times as long.
fn an_hour_and_a_half(case: &mut Case, is_slower: impl Fn(u64) -> bool) -> Vec<Decided> {
    (0..5_400)
        .map(|second| {
            let duration = (90 + second % 10) * MILLI * if is_slower(second) { 3 } else { 1 };
            case.judge(second * SECOND, "page", duration, 1).decided
        })
        .collect()
}

#[test]
fn what_became_three_times_slower_is_still_slow_after_half_an_hour() {
    let all = an_hour_and_a_half(&mut Case::new(&config::Slow::default()), |second| second >= 3_600);
    assert!(all[3_600..].iter().all(|decided| *decided == Decided::Slow));
    let half = |second: u64| second >= 3_600 && second.is_multiple_of(2);
    let decided = an_hour_and_a_half(&mut Case::new(&config::Slow::default()), half);
    for (second, decided) in (0..).zip(&decided).skip(3_600) {
        assert_eq!(*decided == Decided::Slow, half(second), "after {second} s");
    }
}

#[test]
fn a_shape_is_learned_from_the_fair_sample_alone() {
    // Far more than learning looks at. Those of shape 1 between its own threshold and the route's are all looked at;
    // did they teach it, they would be half of what it has learned.
    let mut case = Case::new(&config::Slow {
        learned: config::Learned { accept_after: Duration::from_mins(1), ..config::Learned::default() },
        ..config::Slow::default()
    });
    for n in 0..200_000_u64 {
        let now = n * SECOND / 1_000;
        match n % 20 {
            0 | 1 => case.judge(now, "page", 400 * MILLI, 2),
            2 if n % 40 == 2 => case.judge(now, "page", 200 * MILLI, 1),
            _ => case.judge(now, "page", 20 * MILLI, 1),
        };
    }
    let [route] = &case.decider.reports()[..] else { panic!("one route") };
    let shape = route.shapes.iter().find(|shape| shape.shape == 1).expect("known");
    assert!(shape.is_judged_by_own && shape.threshold < Some(50 * MILLI), "{shape:?}");
    assert_eq!(route.traces, 200_000);
}

#[test]
fn a_service_name_does_not_make_a_route_large() {
    let mut case = Case::new(&fixed(300));
    let (body, service) = (span("a", false), vec![b'x'; 1 << 20]);
    let judged = case.judge_with(0, MILLI, 1, &body, |candidate| {
        candidate.service = &*Box::leak(service.clone().into_boxed_slice());
    });
    assert_eq!(case.decider.route_name(judged.route).len(), 256 + " a".len());
}

// SAMPLING-7, FAULT-C5.
#[test]
fn whether_learning_looks_does_not_depend_on_the_randomness_that_samples() {
    let mut case = Case::new(&fixed(300));
    let mut sums = [(0_u64, 0_u64); 2];
    for n in 0..50_000_u64 {
        let is_reference = case.judge(n * SECOND / 1_000, "a", MILLI, 1).is_reference;
        let (sum, count) = &mut sums[usize::from(is_reference)];
        *sum += id(case.traces).randomness() >> 40;
        *count += 1;
    }
    let [left, taken] = sums.map(|(sum, count)| sum as f64 / count as f64 / f64::from(1 << 16));
    assert!((left - 0.5).abs() < 0.02 && (taken - 0.5).abs() < 0.02, "{left} {taken}");
}

/// The entry span of a request that became a WebSocket.
fn socket() -> Vec<u8> {
    let (mut value, mut attribute, mut body) = (Vec::new(), Vec::new(), span("GET /feed", false));
    put_uint(&mut value, 3, 101);
    put_bytes(&mut attribute, 1, b"http.response.status_code");
    put_bytes(&mut attribute, 2, &value);
    put_bytes(&mut body, 9, &attribute);
    body
}

#[test]
fn a_stream_is_not_slow_and_teaches_nothing_and_plain_calls_beside_it_are_judged_as_ever() {
    let mut case = Case::new(&config::Slow::default());
    let (plain, stream) = (span("GET /feed", false), socket());
    for second in 0..200 {
        for (body, duration) in [(&plain, 20 * MILLI), (&stream, 600 * SECOND)] {
            let judged = case.judge_with(second * SECOND, duration, 1, body, |_| {});
            if body == &stream {
                let found = (judged.decided, judged.basis, judged.is_reference, judged.is_notable);
                assert_eq!(found, (Decided::Healthy, Basis::Stream, false, false));
            }
        }
    }
    let at = 200 * SECOND;
    assert_eq!(case.judge_with(at, 600 * SECOND, 1, &stream, |_| {}).decided, Decided::Healthy);
    let slow = case.judge_with(at, 100 * MILLI, 1, &plain, |_| {});
    assert_eq!(slow.decided, Decided::Slow, "{slow:?}");
    let rootless = case.judge_with(at, 600 * SECOND, 1, &stream, |candidate| candidate.has_root = false);
    assert_eq!(rootless.decided, Decided::Healthy);
}

#[test]
fn a_stream_is_slow_where_its_route_has_a_threshold_of_its_own() {
    let rule = exception("", "*feed", Some(1_000), false);
    let mut case = Case::new(&config::Slow { routes: vec![rule], ..config::Slow::default() });
    let judged = case.judge_with(0, 2 * SECOND, 1, &socket(), |_| {});
    assert_eq!((judged.decided, judged.basis), (Decided::Slow, Basis::Fixed));
}
