//! What came of cases, kept a line each: what was interrupted goes on where it ended, and runs can be put together.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::fault::Scenario;
use super::judge::{Case, Judged};

/// One case with its verdicts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    /// What went wrong.
    pub scenario: Scenario,
    /// The number that the case was asked for by.
    pub number: u64,
    /// Whether it went wrong in one instance only.
    pub is_one_instance: bool,
    /// The case in words.
    pub about: String,
    /// What came of it.
    pub judged: Judged,
}

impl CaseResult {
    /// Of the case with this number.
    pub fn of(number: u64, case: &Case, judged: Judged) -> Self {
        let fault = case.fault;
        let is_one_instance = fault.replica.is_some() && fault.scenario != Scenario::Chance;
        Self { scenario: fault.scenario, number, is_one_instance, about: case.describe(), judged }
    }
}

/// A file of results.
#[derive(Debug)]
pub struct Results {
    file: Option<File>,
    known: BTreeSet<(Scenario, u64)>,
}

impl Results {
    /// Opens a file, or begins one; without a path nothing is kept. `take` gets what is in it. The end of a line that
    /// could not be finished is passed over.
    pub fn open(path: Option<&Path>, take: &mut dyn FnMut(CaseResult)) -> io::Result<Self> {
        let mut known = BTreeSet::new();
        let Some(path) = path else { return Ok(Self { file: None, known }) };
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        for line in BufReader::new(&file).lines() {
            let Ok(result) = serde_json::from_str::<CaseResult>(&line?) else { continue };
            if known.insert((result.scenario, result.number)) {
                take(result);
            }
        }
        writeln!(file)?;
        Ok(Self { file: Some(file), known })
    }

    /// Whether the file had this case.
    pub fn has(&self, scenario: Scenario, number: u64) -> bool {
        self.known.contains(&(scenario, number))
    }

    /// Keeps a case.
    pub fn keep(&mut self, result: &CaseResult) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut line = serde_json::to_vec(result)?;
        line.push(b'\n');
        file.write_all(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(number: u64) -> CaseResult {
        let judged = Judged::default();
        CaseResult { scenario: Scenario::Retry, number, is_one_instance: false, about: String::new(), judged }
    }

    #[test]
    fn what_was_kept_is_taken_again_and_a_line_cut_short_is_passed_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("results");
        let mut results = Results::open(Some(&path), &mut |_| {}).expect("it begins");
        results.keep(&result(1)).expect("written");
        results.keep(&result(2)).expect("written");
        let all = std::fs::read(&path).expect("there");
        std::fs::write(&path, &all[..all.len() - 9]).expect("cut");

        let mut taken = Vec::new();
        let mut results = Results::open(Some(&path), &mut |one| taken.push(one)).expect("it opens");
        assert_eq!(taken, [result(1)]);
        assert!(results.has(Scenario::Retry, 1) && !results.has(Scenario::Retry, 2));
        results.keep(&result(2)).expect("written");

        let mut taken = Vec::new();
        Results::open(Some(&path), &mut |one| taken.push(one)).expect("it opens");
        assert_eq!(taken, [result(1), result(2)]);
    }
}
