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
