//! From a file and the environment to a checked configuration, or to everything that is wrong with it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::check::{Finding, check};
use super::environment::{ENDPOINT, Environment, general_endpoint};
use super::problem::{Problem, Problems, shown_value};
use super::read::read;
use super::tree::{Tree, is_within};
use super::variables::Variables;
use super::{Config, Export, memory};

/// A configuration with every key and a comment for each takes 4 KiB.
const MAX_FILE_SIZE: u64 = 128 << 10;

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
        let environment = Environment::complete(&mut config.export, &tree, env);
        let is_wrong = |key: &str| {
            let given_by = environment.variable_of(key);
            problems.iter().chain(&environment.problems).any(|problem| {
                is_within(key, &problem.key)
                    || is_within(&problem.key, key)
                    || given_by == Some(problem.key.as_str())
            })
        };
        // Behind a route that was left out, the others are counted wrongly.
        let lost_a_route = problems
            .iter()
            .any(|problem| is_within(&problem.key, "slow.routes") && problem.key.ends_with(']'));
        let has_endpoint = !config.export.endpoint.is_empty();
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
        problems.extend(findings.into_iter().map(|finding| located(finding, &tree, &environment)));
        problems.extend(environment.problems);
    }
    problems.sort_by_key(|problem| problem.position);
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

fn missing_endpoint() -> Finding {
    Finding {
        key: ENDPOINT.to_owned(),
        involved: Vec::new(),
        rule: format!("must say where traces go, or {} must", general_endpoint()),
        got: "nothing".to_owned(),
    }
}

/// The finding with its place: that of its key, else of a key it has to do with, else of what is around it.
fn located(finding: Finding, tree: &Tree, environment: &Environment) -> Problem {
    let Finding { key, involved, rule, got } = finding;
    if let Some(variable) = environment.variable_of(&key) {
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
