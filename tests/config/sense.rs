//! What can be read and still makes no sense.

use super::{check, load_text, with_destination};

#[test]
fn a_route_that_is_there_again_never_matches_and_is_told() {
    let twice = "slow: {routes: [{service: a, route: 'GET /', threshold: 5ms}, {service: a, ignore: true},\n  \
                 {service: a, route: 'GET /', threshold: 6ms}]}";
    check(
        &with_destination(twice),
        &[
            "2:3: slow.routes[2]: must be for other traffic than slow.routes[0], which matches first, got a mapping",
        ],
    );
}

#[test]
fn an_attribute_stands_in_its_list_once() {
    let twice = "enrich: {attributes: [service, delta_ms, service]}";
    check(&with_destination(twice), &["1:42: enrich.attributes[2]: must stand there once, got service"]);
}

#[test]
fn a_share_of_nothing_names_everybody() {
    check(
        &with_destination("compare: {minimum_share: 0%}"),
        &["1:26: compare.minimum_share: must be more than 0%, got 0%"],
    );
    assert!(load_text(&with_destination("compare: {minimum_share: 0.1%}"), &[]).is_ok());
}

#[test]
fn a_number_that_is_too_large_is_told_the_bound() {
    for (number, rule) in [
        ("99999999999999999999", "must be a whole number from 0 to 18446744073709551615"),
        ("18446744073709551615", "must be from 1 to 1000000000"),
        ("1000000001", "must be from 1 to 1000000000"),
        ("0", "must be from 1 to 1000000000"),
    ] {
        check(
            &with_destination(&format!("assemble: {{decision_cache: {{dropped: {number}}}}}")),
            &[&format!("1:38: assemble.decision_cache.dropped: {rule}, got {number}")],
        );
    }
    let most = "assemble: {decision_cache: {sampled: 1000000000, dropped: 1000000000}}";
    assert!(load_text(&with_destination(most), &[]).is_ok());
}

#[test]
fn a_reference_that_is_not_closed_is_told_as_what_it_is() {
    const RULE: &str = "must be ${env:NAME} or ${env:NAME:-default}, with $$ for a dollar sign";
    for (yaml, place, got) in [
        ("baseline:\n  snapshot_file: \"${env:DIR/learned\"", "2:18", "\"${env:DIR/learned\""),
        ("baseline: {snapshot_file: '${env:DIR', time_to_live: 1h}", "1:27", "${env:DIR"),
        ("baseline:\n  snapshot_file: ${env:DIR  # the volume", "2:18", "${env:DIR"),
    ] {
        let got = got.trim_matches('"');
        check(&with_destination(yaml), &[&format!("{place}: baseline.snapshot_file: {RULE}, got {got}")]);
    }
}

#[test]
fn a_snapshot_file_is_no_directory() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display();
    for wrong in [path.to_string(), format!("{path}/later/"), "..".to_owned()] {
        check(
            &with_destination(&format!("baseline: {{snapshot_file: '{wrong}'}}")),
            &[&format!(
                "1:27: baseline.snapshot_file: must be the path of a file, not of a directory, got \"{wrong}\""
            )],
        );
    }
    let file = format!("baseline: {{snapshot_file: '{path}/learned'}}");
    assert!(load_text(&with_destination(&file), &[]).is_ok(), "it need not be there");
}
