//! Every reason for silence, and what is said instead of a name.

use laggard::compare::{Outcome, Reason};

use super::rig::{Sidecar, compared};

const FAST: &str = "
    web      server /cart 0..100
      web    client cart  10..90
        cart server /cart 12..88";
const SLOW: &str = "
    web      server /cart 0..400
      web    client cart  10..390
        cart server /cart 12..388";

struct Case {
    reason: Reason,
    fast: &'static str,
    slow: &'static str,
    /// What the sentence says.
    says: &'static str,
}

/// These are found by the sidecar and by `compare` alike.
const CASES: [Case; 7] = [
    Case {
        reason: Reason::NotSlower,
        fast: "
            web   server /cart 0..240
              web client cart  10..230",
        slow: "
            web   server /cart 0..251
              web client cart  10..241",
        says: "+11.0 ms is too little to ask why",
    },
    Case {
        reason: Reason::IncompleteTrace,
        fast: "
            web      server /all  0..100
              web    client cart  10..50
                cart server /cart 12..48
              web    client pay   50..90
                pay  server /pay  52..88",
        slow: "
            web      server /all  0..400
              web    client cart  10..350
              web    client pay   350..390
                pay  server /pay  352..388",
        says: "spans are missing where it matters",
    },
    Case {
        // The tie below, on clocks that are seconds apart.
        reason: Reason::ClockSkew,
        fast: "
            web      server /all  0..100
              web    client cart  10..50
                cart server /cart 12..48
              web    client pay   50..90
                pay  server /pay  52..88",
        slow: "
            web      server /all  0..400
              web    client cart  10..200
                cart server /cart 12..198 clock=5000
              web    client pay   200..390
                pay  server /pay  202..388 clock=-5000",
        says: "the clocks of its services differ by up to 4998 ms",
    },
    Case {
        reason: Reason::UnknownService,
        fast: "
            web                    server /cart 0..100
              web                  client cart  10..90
                unknown_service:go server /cart 12..88",
        slow: "
            web                    server /cart 0..400
              web                  client cart  10..390
                unknown_service:go server /cart 12..388",
        says: "the spans that grew carry no service.name",
    },
    Case {
        reason: Reason::AsyncOnly,
        fast: "
            web      server   /order 0..240
              web    producer send   10..11
                mail consumer take   20..300",
        slow: "
            web      server   /order 0..251
              web    producer send   10..11
                mail consumer take   20..3000",
        says: "only work that nobody waited for is slower",
    },
    Case {
        reason: Reason::Tie,
        fast: "
            web      server /all  0..100
              web    client cart  10..50
                cart server /cart 12..48
              web    client pay   50..90
                pay  server /pay  52..88",
        slow: "
            web      server /all  0..400
              web    client cart  10..200
                cart server /cart 12..198
              web    client pay   200..390
                pay  server /pay  202..388",
        says: "cart (+150 ms) and pay (+150 ms) are too close to tell apart",
    },
    Case {
        reason: Reason::Diffuse,
        fast: "
            web     server /all 0..100
              a     server /a   10..30
              b     server /b   30..50
              c     server /c   50..70
              d     server /d   70..90",
        slow: "
            web     server /all 0..500
              a     server /a   10..150
              b     server /b   150..270
              c     server /c   270..380
              d     server /d   380..490",
        says: "no service explains most of it, a (+120 ms) and b (+100 ms) come nearest: this trace 500 ms, fast reference 100 ms",
    },
];

#[test]
fn every_reason_that_two_traces_can_give_is_given_by_the_sidecar_in_a_sentence() {
    for Case { reason, fast, slow, says } in CASES {
        let verdict = Sidecar::taught(fast).verdict(slow);
        assert_eq!(verdict.outcome, Outcome::Inconclusive(reason), "{}", verdict.explanation);
        // The sidecar has more references than one, so what is normal, and with it how much is above, differs.
        let words = says.split(" (").next().expect("words");
        assert!(verdict.explanation.contains(words), "{}", verdict.explanation);
    }
}

#[test]
fn every_reason_that_two_traces_can_give_is_given_by_compare_in_a_sentence() {
    for Case { reason, fast, slow, says } in CASES {
        let (answer, _) = compared(fast, slow);
        assert_eq!(answer["reason"], reason.as_str());
        let explanation = answer["explanation"].as_str().expect("a sentence");
        assert!(explanation.contains(says), "{explanation}");
    }
}

#[test]
fn a_slow_trace_of_a_route_without_references_has_no_baseline() {
    let verdict = Sidecar::new().verdict(SLOW);
    assert_eq!(verdict.outcome, Outcome::Inconclusive(Reason::NoBaseline));
    assert_eq!(verdict.explanation, "took 400 ms; no fast trace of this route is known yet");
}

// D11.
#[test]
fn references_that_call_other_services_are_a_baseline_mismatch() {
    let other = "
        web     server /cart 0..400
          a     server /a    10..100
          b     server /b    100..200
          c     server /c    200..300";
    let verdict = Sidecar::taught(FAST).verdict(other);
    assert_eq!(verdict.outcome, Outcome::Inconclusive(Reason::BaselineMismatch));
    assert!(verdict.explanation.contains("make other calls"), "{}", verdict.explanation);
    let (answer, warnings) = compared(FAST, other);
    assert_eq!(answer["reason"], "baseline_mismatch");
    let said = "SLOW makes other calls than FAST does, so their times cannot be compared";
    assert_eq!((answer["explanation"].as_str(), warnings.as_str()), (Some(said), ""), "said once");
    let services = answer["services"].as_array().expect("a list");
    let of = |name: &str, key: &str| {
        services.iter().find(|row| row["service"] == name).map(|row| row[key].clone())
    };
    assert_eq!(of("b", "slow_ms"), Some(100.0.into()), "as both traces show");
    assert_eq!(of("cart", "fast_ms"), Some(80.0.into()));
    let added: f64 = services.iter().filter_map(|row| row["added_ms"].as_f64()).sum();
    assert!((added - 300.0).abs() < 1e-6);
    let (answer, _) = compared(FAST, "shop server /cart 0..400");
    assert_eq!(answer["reason"], "baseline_mismatch");
    assert_eq!(answer["explanation"], "FAST and SLOW have no service in common");
}

#[test]
fn a_service_that_grew_within_what_few_references_tell_is_not_named_and_the_tolerance_is_said() {
    let fast = "
        web      server /  0..234
          web    client a  10..212
            a    server /a 11..211
          web    client b  212..224
            b    server /b 213..223";
    let slow = "
        web      server /  0..264
          web    client a  10..242
            a    server /a 11..241
          web    client b  242..254
            b    server /b 243..253";
    let (answer, _) = compared(fast, slow);
    assert_eq!(answer["reason"], "diffuse");
    assert_eq!(answer["candidates"], serde_json::json!([]));
    assert_eq!(
        answer["explanation"],
        "no service took clearly longer than its references: with 1 reference, 20% more, or 1.000 ms, may be \
         chance: this trace 264 ms, fast reference 234 ms"
    );
    let hardly = "
        web      server /  0..284
          web    client a  10..262
            a    server /a 11..261
          web    client b  262..274
            b    server /b 263..273";
    let (answer, _) = compared(fast, hardly);
    assert_eq!((&answer["reason"], &answer["candidates"][0]["share"]), (&"diffuse".into(), &1.0.into()));
    assert_eq!(
        answer["explanation"],
        "a took +50.0 ms more, but with 1 reference, 20% more, or 1.000 ms, may be chance: this trace 284 ms, fast \
         reference 234 ms"
    );
}

// FAULT-C6.
#[test]
fn spans_with_impossible_times_are_said_to_be_that_and_not_to_be_missing() {
    let fast = "
        web      server /  0..64
          web    client a  10..42
            a    server /a 11..41
          web    client b  42..54
            b    server /b 43..53";
    let slow = "
        web      server /  0..564
          web    client a  10..542
            a    server /a 541..11
          web    client b  542..554
            b    server /b 543..553";
    let (answer, _) = compared(fast, slow);
    assert_eq!(answer["reason"], "incomplete_trace");
    assert_eq!(
        answer["explanation"],
        "spans that end before they start, or have no credible times, are left out where it matters (75% are there): \
         this trace 564 ms, fast reference 64.0 ms"
    );
}

#[test]
fn a_slow_trace_without_a_root_is_incomplete() {
    let headless = SLOW.lines().map(|line| line.replace("0..400", "0..400 parent=99"));
    let headless = headless.collect::<Vec<_>>().join("\n");
    assert_eq!(Sidecar::taught(FAST).reason(&headless), Reason::IncompleteTrace);
    assert_eq!(compared(FAST, &headless).0["reason"], "incomplete_trace");
}

#[test]
fn what_is_larger_than_any_limit_exceeds_it() {
    let mut few_spans = Sidecar::with(|config, _| config.compare.max_spans = 2);
    few_spans.teach("web server /cart 0..100");
    assert_eq!(few_spans.reason(SLOW), Reason::LimitExceeded);
    let mut few_bytes = Sidecar::with(|config, _| config.assemble.maximum_trace_size = 200);
    assert_eq!(few_bytes.reason(SLOW), Reason::LimitExceeded);
}

#[test]
fn what_was_decided_early_for_lack_of_memory_says_so() {
    let mut sidecar = Sidecar::with(|_, limits| limits.held = 100 << 10);
    let mut out = Vec::new();
    // No root, so there is nothing to wait for but memory to run out.
    let rootless = "cart server /cart 12..388 parent=99";
    while out.is_empty() {
        assert!(sidecar.accept(rootless, &mut out) < 10_000, "memory never runs out");
    }
    let verdict = &out[0].analysis.as_ref().expect("it is slow").verdict;
    assert_eq!(verdict.outcome, Outcome::Inconclusive(Reason::Overload));
    assert!(verdict.explanation.contains("decided early for lack of memory"));
}
