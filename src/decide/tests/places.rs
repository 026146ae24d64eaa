//! Routes have a limited number of places.

use super::*;

/// A name of its own for each number, which no template takes for an id.
fn letters(number: u32) -> String {
    number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
}

// R17, D12.
#[test]
fn routes_beyond_the_limit_share_one() {
    let mut case = Case::new(&fixed(300));
    for n in 0..2_000 {
        assert_ne!(case.judge(0, &letters(n), MILLI, 1).route, RouteId::OTHER);
    }
    assert_eq!(case.judge(0, "one more", MILLI, 1).route, RouteId::OTHER);
    assert_ne!(case.judge(0, "a", MILLI, 1).route, RouteId::OTHER, "known routes stay");
}

/// They were judged by the rule for all, as soon as clients had asked for enough other names.
// D12.
#[test]
fn exceptions_hold_for_routes_that_there_is_no_place_for() {
    let routes =
        vec![exception("web", "checkout*", Some(300), false), exception("web", "health*", None, true)];
    for (global, expected) in [(fixed(5_000), Decided::Healthy), (config::Slow::default(), Decided::Slow)] {
        let mut case = Case::new(&config::Slow { routes: routes.clone(), ..global });
        case.decider = case.decider.within(64 << 10);
        for n in 0..100 {
            case.judge(0, &letters(n), MILLI, 1);
        }
        assert!(case.decider.tick(0), "there is no place left");
        let slow = case.judge(0, "checkout one", SECOND, 1);
        assert_eq!((slow.route, slow.decided, slow.basis), (RouteId::OTHER, Decided::Slow, Basis::Fixed));
        let ignored = case.judge(0, "health one", 9 * SECOND, 1);
        let found = (ignored.route, ignored.decided, ignored.basis);
        assert_eq!(found, (RouteId::OTHER, Decided::Healthy, Basis::Ignored));
        // What was learned of the others is not what was learned of these.
        for _ in 0..1_000 {
            case.judge(0, "checkout one", SECOND, 1);
        }
        let other = case.judge(0, "another", 100 * MILLI, 1);
        assert_eq!(other.decided, expected, "{other:?}");
    }
}

// D12.
#[test]
fn names_that_came_once_give_their_places_to_others_after_some_minutes() {
    let mut case = Case::new(&fixed(300));
    for n in 0..30 {
        case.judge(n, "page", MILLI, 1);
    }
    for n in 0..2_500 {
        case.judge(0, &letters(n), MILLI, 1);
    }
    assert_eq!(case.judge(590 * SECOND, "new", MILLI, 1).route, RouteId::OTHER, "too early");
    assert_ne!(case.judge(700 * SECOND, "new", MILLI, 1).route, RouteId::OTHER);
    let names: Vec<_> = case.decider.reports().into_iter().map(|route| route.name).collect();
    assert_eq!(names, ["web new", "web page", "_other"], "what is asked for now and then has stayed");
}

#[test]
fn routes_of_one_name_are_told_apart_by_their_kind() {
    let mut case = Case::new(&fixed(300));
    case.judge(0, "page", MILLI, 1);
    let mut internal = span("page", false);
    put_uint(&mut internal, 6, 1);
    case.judge_with(0, MILLI, 1, &internal, |_| {});
    let routes: Vec<_> = case.decider.reports().into_iter().map(|route| (route.name, route.kind)).collect();
    let page = |kind: &str| ("web page".to_owned(), kind.to_owned());
    assert_eq!(routes, [page("internal"), page("server")]);
}

// D12.
#[test]
fn routes_nobody_asks_for_any_more_give_their_places_back() {
    let mut case = Case::new(&fixed(300));
    case.decider = case.decider.forgetting_after(Duration::from_hours(1));
    for n in 0..2_500 {
        for _ in 0..20 {
            case.judge(0, &letters(n), MILLI, 1);
        }
    }
    let full = case.decider.used_bytes();
    case.judge(3_500 * SECOND, "a", MILLI, 1);
    assert_eq!(case.judge(3_540 * SECOND, "new", MILLI, 1).route, RouteId::OTHER, "too early");
    let route = case.judge(3_600 * SECOND, "new", MILLI, 1).route;
    assert_ne!(route, RouteId::OTHER);
    assert_eq!(case.decider.routes_by_state(), (2, 0), "the one in use has stayed");
    assert!(case.decider.used_bytes() < full / 50, "{} of {full}", case.decider.used_bytes());
}

#[test]
fn routes_and_what_they_learn_fit_their_memory() {
    const LIMIT: u64 = 400 << 10;
    let mut case = Case::new(&config::Slow::default());
    case.decider = case.decider.within(LIMIT);
    let letter = |n: u64| char::from(b"abcdefghij"[usize::try_from(n % 10).expect("a digit")]);
    for n in 0..60_000_u64 {
        let name = String::from_iter([letter(n), letter(n / 10)]);
        // Steps of the histograms from microseconds to hours, in eight shapes of each route.
        let duration = 1_000_u64 << (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59);
        case.judge(n * SECOND / 4, &name, duration + n % 1_000, n / 100 % 8);
        assert!(case.decider.used_bytes() <= LIMIT, "{} after {n} traces", case.decider.used_bytes());
    }
    assert!(case.decider.used_bytes() > LIMIT / 2, "{}", case.decider.used_bytes());
    let routes = case.decider.reports();
    assert!((30..100).contains(&routes.len()) && routes.last().is_some_and(|last| last.id == RouteId::OTHER));
    assert!(
        routes.iter().all(|route| route.threshold.is_some()),
        "each has learned, with memory left or not"
    );
}
