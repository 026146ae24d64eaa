//! From a file and the environment to a checked configuration, or to everything that is wrong with it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use http::Uri;

use super::check::{Finding, check};
use super::destination::TRACES;
use super::problem::{Problem, Problems, shown_value};
use super::read::read;
use super::tree::{Tree, is_within};
use super::variables::Variables;
use super::{Config, Export, Protocol, memory};

/// A configuration with every key and a comment for each takes 4 KiB.
const MAX_FILE_SIZE: u64 = 128 << 10;

const ENDPOINT: &str = "export.endpoint";

/// The variables of the OpenTelemetry specification that say where traces go, the more special one first.
const ENDPOINT_VARIABLES: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Reads the configuration of `run`: the file at `path`, where there is one, and `env`, which looks up a variable.
/// The destination must come from either; the file wins.
///
/// # Errors
/// Every problem at once.
pub fn load(path: Option<&Path>, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
    load_as(path, env, Destination::Needed)
}

/// Reads the configuration of a command that sends nothing, so that none needs to say where to.
///
/// # Errors
/// Every problem at once.
pub fn load_for_replay(
    path: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Problems> {
    load_as(path, env, Destination::Unneeded)
}

/// Whether somebody must say where traces go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Destination {
    Needed,
    Unneeded,
}

fn load_as(
    path: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
    destination: Destination,
) -> Result<Config, Problems> {
    let file = path.map_or_else(|| "environment".to_owned(), |path| path.display().to_string());
    let text = path.map_or_else(|| Ok(String::new()), read_file);
    let cgroup = memory::cgroup_limit(Path::new("/"));
    let config =
        text.map_err(|problem| vec![problem]).and_then(|text| parse(&text, env, destination, cgroup));
    config.map_err(|list| Problems { file, list })
}

fn read_file(path: &Path) -> Result<String, Problem> {
    let unreadable = |error: io::Error| Problem::of_the_file(format!("cannot be read: {error}"));
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(unreadable)?
        .take(MAX_FILE_SIZE + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return Err(Problem::of_the_file(format!("must be at most {} long", memory::shown(MAX_FILE_SIZE))));
    }
    String::from_utf8(bytes).map_err(|_| Problem::of_the_file("must be UTF-8 text"))
}

fn parse(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    destination: Destination,
    cgroup: Option<u64>,
) -> Result<Config, Vec<Problem>> {
    let variables = Variables::take_out(text.trim_start_matches('\u{feff}'), env)
        .ok_or_else(|| vec![Problem::of_the_file("must not have private-use characters from U+F0000 on")])?;
    let (mut tree, mut problems) = Tree::build(&variables);
    let (mut config, mistakes) = read::<Config>(&mut tree);
    problems.extend(mistakes);
    // What stands behind a syntax error is not known, so nothing can be said of keys together.
    if tree.complete {
        let variable = settle_endpoint(&mut config, &tree, env);
        let is_wrong = |key: &str| {
            problems.iter().any(|problem| is_within(key, &problem.key) || is_within(&problem.key, key))
        };
        // Behind a route that was left out, the others are counted wrongly.
        let lost_a_route = problems
            .iter()
            .any(|problem| is_within(&problem.key, "slow.routes") && problem.key.ends_with(']'));
        let has_endpoint = variable.is_some() || !config.export.endpoint.is_empty();
        let memory_limit = memory::limit(&config.memory_limit, cgroup);
        let mut findings = Vec::new();
        if has_endpoint {
            findings = check(&config, memory_limit, &|key| tree.find(key).is_some());
        } else {
            // The default stands in for what is reported as missing, or is not needed.
            config.export.endpoint = Export::default().endpoint;
            findings.extend(check(&config, memory_limit, &|key| tree.find(key).is_some()));
            findings.retain(|finding| finding.key != ENDPOINT);
            if destination == Destination::Needed {
                findings.push(missing_endpoint());
            }
        }
        findings.retain(|finding| {
            let is_misplaced = lost_a_route && is_within(&finding.key, "slow.routes");
            !is_misplaced
                && !is_wrong(&finding.key)
                && !finding.involved.iter().any(|involved| is_wrong(involved))
        });
        problems.extend(findings.into_iter().map(|finding| located(finding, &tree, variable)));
    }
    problems.sort_by_key(|problem| problem.position);
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// Takes the destination from the environment where the file gives none, and returns the variable's name;
/// empties it where nothing gives one.
fn settle_endpoint(
    config: &mut Config,
    tree: &Tree,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<&'static str> {
    if tree.find(ENDPOINT).is_some() && !config.export.endpoint.is_empty() {
        return None;
    }
    // An empty variable counts as none, as the specification has it.
    let given = ENDPOINT_VARIABLES.into_iter().find_map(|name| {
        let value = env(name).filter(|value| !value.is_empty())?;
        Some((name, value))
    });
    let (name, value) = given.unzip();
    config.export.endpoint = value.unwrap_or_default();
    if name == Some(ENDPOINT_VARIABLES[0]) && config.export.protocol == Protocol::HttpProtobuf {
        take_whole(&mut config.export);
    }
    name
}

/// The variable for traces alone is the whole URL, to be used as it is; the other one is a base, as ours is.
fn take_whole(export: &mut Export) {
    if let Some(base) = export.endpoint.strip_suffix(TRACES) {
        export.endpoint = base.to_owned();
        return;
    }
    // Another path is that of traces alone, so the other signals go by the host.
    let Ok(uri) = export.endpoint.parse::<Uri>() else { return };
    let is_bare = !export.endpoint.contains(['@', '#', '?']);
    if let (true, Some(scheme), Some(authority)) = (is_bare, uri.scheme(), uri.authority()) {
        uri.path().clone_into(&mut export.traces_path);
        export.endpoint = format!("{scheme}://{authority}");
    }
}

fn missing_endpoint() -> Finding {
    Finding {
        key: ENDPOINT.to_owned(),
        involved: Vec::new(),
        rule: format!("must say where traces go, or {} must", ENDPOINT_VARIABLES[1]),
        got: "nothing".to_owned(),
    }
}

/// The finding with its place: that of its key, else of a key it has to do with, else of what is around it.
fn located(finding: Finding, tree: &Tree, endpoint_variable: Option<&'static str>) -> Problem {
    let Finding { key, involved, rule, got } = finding;
    if let Some(variable) = endpoint_variable.filter(|_| key == ENDPOINT) {
        let got = Some(shown_value(&key, &got));
        return Problem { position: None, key: variable.to_owned(), rule, got, did_you_mean: None };
    }
    if let Some(id) = tree.find(&key) {
        return Problem { key, ..tree.problem(id, rule) };
    }
    let related = involved.iter().find_map(|involved| tree.find(involved));
    let id = related.unwrap_or_else(|| tree.find_nearest(&key));
    let got = Some(shown_value(&key, &got));
    Problem { position: Some(tree.position(id)), key, rule, got, did_you_mean: None }
}
