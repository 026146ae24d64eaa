//! Traces as ugly as they come, each with the verdict that a careful person would give.

use laggard::compare::{Category, Reason};
use laggard::config::{RouteOverride, Threshold};

use super::notation;
use super::rig::{Sidecar, compared};

/// web asks cart, which asks stock; cart works 300 ms longer in the slow one.
const FAST: &str = "
    web          server   /cart    0..100
      web        client   cart     10..90
        cart     server   /cart    12..88
          cart   internal price    15..25
          cart   client   stock    40..80
            stock server  /stock   42..78";
const SLOW: &str = "
    web          server   /cart    0..400
      web        client   cart     10..390
        cart     server   /cart    12..388
          cart   internal price    15..325
          cart   client   stock    340..380
            stock server  /stock   342..378";

fn check(fast: &str, slow: &str, service: &str, category: Category) {
    let culprit = Sidecar::taught(fast).culprit(slow);
    assert_eq!((culprit.service.as_str(), culprit.category), (service, category), "{slow}");
    let (answer, _) = compared(fast, slow);
    assert_eq!(answer["service"], service, "compare, {answer:#}");
}

fn check_silent(fast: &str, slow: &str, reason: Reason) {
    assert_eq!(Sidecar::taught(fast).reason(slow), reason, "{slow}");
    assert_eq!(compared(fast, slow).0["reason"], reason.as_str());
}

/// Every line of the trace with something more behind it, where `is_meant`.
fn with(trace: &str, more: &str, is_meant: impl Fn(&str) -> bool) -> String {
    let lines = trace.lines().map(|line| {
        if !line.trim().is_empty() && is_meant(line.trim()) {
            format!("{line} {more}")
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn without(trace: &str, span: &str) -> String {
    trace.lines().filter(|line| !line.contains(span)).collect::<Vec<_>>().join("\n")
}

// FAULT-C8.
#[test]
fn a_clock_that_is_off_by_anything_changes_no_figure() {
    let expected = Sidecar::taught(FAST).culprit(SLOW);
    // Milliseconds: less than a wait, more than the request, a day, a year.
    for offset in ["-1", "1.5", "-3000", "450", "86400000", "-31536000000"] {
        let slow = with(SLOW, &format!("clock={offset}"), |line| line.starts_with("cart"));
        let slow = with(&slow, "clock=777", |line| line.starts_with("stock"));
        let culprit = Sidecar::taught(FAST).culprit(&slow);
        assert_eq!((&culprit.service, culprit.delta_ms), (&expected.service, expected.delta_ms), "{offset}");
    }
}

// FAULT-C8.
#[test]
fn replicas_of_one_service_may_each_have_a_clock_of_their_own() {
    // The second of two calls to cart is slow; its pod's clock is a minute behind, the other's an hour ahead.
    let trace = |more: u32| {
        let end = 200 + more;
        format!(
            "
            web      server /two 0..{end}
              web    client cart 10..90
                cart server /cart 12..88 pod=cart-a clock=3600000
              web    client cart 100..{}
                cart server /cart 102..{} pod=cart-b clock=-60000",
            end - 10,
            end - 12
        )
    };
    let culprit = Sidecar::taught(&trace(0)).culprit(&trace(300));
    assert_eq!((culprit.service.as_str(), culprit.delta_ms), ("cart", 300.0));
    assert_eq!(culprit.instance.as_deref(), Some("cart-b"));
}

#[test]
fn a_service_that_starts_before_its_caller_is_on_another_clock_even_without_a_client_span() {
    let fast = "
        web    server /cart 0..100
          cart server /cart 10..90";
    let slow = "
        web    server /cart 0..400
          cart server /cart 10..390 clock=-5000";
    check(fast, slow, "cart", Category::OwnTime);
}

// D9.
#[test]
fn a_missing_span_inside_of_a_service_hides_nothing() {
    check(FAST, &without(SLOW, "price"), "cart", Category::OwnTime);
}

/// web asks auth and cart, one after the other.
const FAST_OF_TWO: &str = "
    web      server   /cart  0..100
      web    client   auth   5..15
        auth server   /auth  6..14
      web    client   cart   20..90
        cart server   /cart  22..88";

// D9.
#[test]
fn nobody_is_named_for_an_answer_that_is_missing() {
    // Without its server span, cart cannot be told from the way to it.
    let slow = "
    web      server   /cart  0..400
      web    client   auth   5..15
        auth server   /auth  6..14
      web    client   cart   20..390
        cart internal price  25..385 parent=99";
    check_silent(FAST_OF_TWO, slow, Reason::IncompleteTrace);
}

// D3.
#[test]
fn nobody_is_named_for_time_that_spans_without_a_parent_may_have_spent() {
    // The call is missing and its answer is not: what cart took looks as if it were web's own time.
    let slow = "
    web      server   /cart  0..400
      web    client   auth   5..15
        auth server   /auth  6..14
        cart server   /cart  22..388 parent=99";
    check_silent(FAST_OF_TWO, slow, Reason::IncompleteTrace);
}

#[test]
fn without_its_root_a_trace_is_incomplete_whatever_route_the_rest_of_it_looks_like() {
    let slow = "
        auth server   /auth  6..14    parent=99
        cart server   /cart  22..388  parent=98";
    check_silent(FAST_OF_TWO, slow, Reason::IncompleteTrace);
}

// D1.
#[test]
fn of_several_roots_the_longest_counts_and_the_others_are_no_cause() {
    let other = "
    web          server   /cart    0..50 parent=0
      web        internal beat     0..50
    stock        internal warmup   0..350 parent=0";
    check(FAST, &format!("{SLOW}{other}"), "cart", Category::OwnTime);
}

// D2.
#[test]
fn spans_in_a_circle_are_left_out() {
    let circle = "
    stock        internal one      20..370 id=50 parent=51
    stock        internal other    20..370 id=51 parent=50
    stock        internal itself   20..370 id=52 parent=52";
    check(FAST, &format!("{SLOW}{circle}"), "cart", Category::OwnTime);
    // Nothing but a circle has no root.
    let only = "
    stock server one   20..370 id=50 parent=51
    stock server other 20..370 id=51 parent=50";
    assert_eq!(compared(FAST, only).0["verdict"], "inconclusive");
}

// R13, FAULT-C3.
#[test]
fn spans_that_came_twice_count_once() {
    let numbered: Vec<String> =
        SLOW.lines().skip(1).zip(1..).map(|(line, id)| format!("{line} id={id}")).collect();
    let slow = format!("{}\n{}", numbered.join("\n"), numbered.join("\n"));
    let once = Sidecar::taught(FAST).culprit(SLOW);
    let twice = Sidecar::taught(FAST).culprit(&slow);
    assert_eq!(
        (once.service, once.delta_ms, once.confidence),
        (twice.service, twice.delta_ms, twice.confidence)
    );
}

// D8.
#[test]
fn work_that_goes_on_behind_the_answer_is_no_cause() {
    let audit = |end: u32| format!("\n          audit  server /log 20..{end}");
    check(&format!("{FAST}{}", audit(500)), &format!("{SLOW}{}", audit(9000)), "cart", Category::OwnTime);
}

// D8.
#[test]
fn whoever_takes_a_message_is_no_cause_and_whoever_sends_it_slowly_waits_for_the_broker() {
    let trace = |send: u32, take: u32| {
        format!(
            "
            web        server   /order  0..{}
              web      producer send    10..{} messaging.system=kafka messaging.destination.name=orders
                mail   consumer take    {}..{} messaging.system=kafka",
            50 + send,
            10 + send,
            20 + send,
            20 + send + take
        )
    };
    check(&trace(5, 100), &trace(405, 9000), "web", Category::Dependency);
    let culprit = Sidecar::taught(&trace(5, 100)).culprit(&trace(405, 100));
    assert_eq!(culprit.dependency.as_deref(), Some("kafka orders"));
}

// D8.
#[test]
fn a_consumer_that_works_on_linked_messages_is_a_request_of_its_own() {
    let batch = |work: u32| {
        format!(
            "
            mail        consumer batch  0..{} link=5 link=6 link=7 messaging.system=kafka
              mail      internal render 5..{}
              mail      client   smtp   {}..{} server.address=smtp-1",
            work + 60,
            work + 5,
            work + 10,
            work + 50
        )
    };
    check(&batch(40), &batch(600), "mail", Category::OwnTime);
}

#[test]
fn a_proxy_is_named_for_its_own_time_only() {
    let meshed = |envoy: u32, cart: u32| {
        let sum = envoy + cart;
        format!(
            "
            web           server /cart   0..{}
              web         client cart    10..{}
                envoy     server ingress 11..{}
                  envoy   client egress  {}..{}
                    cart  server /cart   {}..{}",
            sum + 40,
            sum + 30,
            sum + 29,
            12 + envoy,
            sum + 28,
            14 + envoy,
            sum + 26
        )
    };
    check(&meshed(5, 50), &meshed(5, 400), "cart", Category::OwnTime);
    check(&meshed(5, 50), &meshed(400, 50), "envoy", Category::OwnTime);
}

#[test]
fn a_proxy_that_is_new_since_the_references_hides_nobody() {
    let meshed = "
    web            server   /cart    0..400
      web          client   cart     10..390
        cart       server   /cart    12..388
          cart     internal price    15..25
          cart     client   stock    40..380
            envoy  server   ingress  41..379
              envoy client  stock    42..378
                stock server /stock  43..377";
    check(FAST, meshed, "stock", Category::OwnTime);
    // The first call of all says which requests are alike: the references of now are not known yet.
    let first = meshed.replace("cart       server", "mesh       server");
    assert_eq!(Sidecar::taught(FAST).reason(&first), Reason::BaselineMismatch);
}

#[test]
fn conventions_may_be_old_and_new_within_one_trace_and_between_traces() {
    let old = "
        web          server   GET_/cart  0..100  http.method=GET http.route=/cart
          web        client   GET        10..90  http.method=GET net.peer.name=cart
            cart     server   GET_/cart  12..88  http.request.method=GET http.route=/cart
              cart   client   SELECT     20..40  db.system=mysql net.peer.name=db-1";
    let new = "
        web          server   GET_/cart  0..400  http.request.method=GET http.route=/cart
          web        client   GET        10..390 http.request.method=GET server.address=cart
            cart     server   GET_/cart  12..388 http.method=GET http.route=/cart
              cart   client   SELECT     20..340 db.system.name=mysql server.address=db-1";
    check(old, new, "cart", Category::Dependency);
    let culprit = Sidecar::taught(old).culprit(new);
    assert_eq!((culprit.dependency.as_deref(), culprit.delta_ms), (Some("mysql db-1"), 300.0));
}

#[test]
fn client_spans_may_have_other_names_than_in_the_references() {
    let upgraded = "
    web          server   /cart    0..400
      web        client   HTTP_GET 10..390
        cart     server   /cart    12..388
          cart   internal price    15..25
          cart   client   HTTP_GET 40..380
            stock server  /stock   42..378";
    check(FAST, upgraded, "stock", Category::OwnTime);
}

#[test]
fn ids_in_names_are_no_part_of_them() {
    let named = |trace: &str, id: &str| {
        trace.replace("/cart ", &format!("/cart/{id} ")).replace("price", &format!("price-{id}"))
    };
    check(
        &named(FAST, "41"),
        &named(SLOW, "123e4567-e89b-12d3-a456-426614174000"),
        "cart",
        Category::OwnTime,
    );
    let culprit = Sidecar::taught(&named(FAST, "41")).culprit(&named(SLOW, "97531"));
    assert_eq!(culprit.operation, "price-{}");
}

#[test]
fn a_stream_that_outlives_the_request_has_none_of_its_time() {
    let stream = |until: u32| {
        format!(
            "
      web        client   events   20..{until} url.scheme=wss
        feed     server   events   22..{}",
            until - 5
        )
    };
    check(
        &format!("{FAST}{}", stream(5_000)),
        &format!("{SLOW}{}", stream(60_000)),
        "cart",
        Category::OwnTime,
    );
}

#[test]
fn a_route_of_streams_or_long_polls_is_ignored_when_told_and_gets_no_verdict() {
    let poll =
        |millis: u32| format!("web server /events 0..{millis} http.request.method=GET http.route=/events");
    let mut sidecar = Sidecar::with(|config, _| {
        config.slow.threshold = Threshold::Learned;
        config.slow.routes = vec![RouteOverride {
            service: "web".to_owned(),
            route: "GET /events*".to_owned(),
            threshold: None,
            ignore: true,
        }];
    });
    sidecar.teach(&poll(100));
    for outgoing in sidecar.send(&poll(55_000)) {
        assert!(outgoing.analysis.is_none(), "{outgoing:?}");
    }
}

#[test]
fn the_notation_says_what_it_means() {
    let request = notation::request(SLOW, 1, 0);
    let spans: Vec<_> = request.resource_spans.iter().flat_map(|of| &of.scope_spans[0].spans).collect();
    assert_eq!(spans.len(), 6);
    assert_eq!(spans[4].parent_span_id, spans[2].span_id, "stock is asked by cart");
}
