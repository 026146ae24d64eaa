//! What many cases say together, as tables for a page and for a terminal.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::fault::Scenario;
use super::judge::{Met, Named};
use super::reliability::Sample;
use super::results::CaseResult;

/// What a fault adds, in parts of the duration without it: up to a half, as much again, three times, more.
const STRENGTHS: [(f64, &str); 4] =
    [(0.5, "20-50 %"), (1.0, "50-100 %"), (3.0, "1-3 times"), (f64::INFINITY, "3 times and more")];

/// Counts over cases.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    cells: BTreeMap<Key, Cell>,
    reasons: BTreeMap<&'static str, u64>,
    /// What confidence is fitted to and judged on, of cases with even numbers and of those with odd ones: every named
    /// service in a trace to which the fault added a fifth, whatever else was slow in it, or which one service's chance
    /// made slow.
    pub samples: [Vec<Sample>; 2],
    /// Cases by scenario.
    cases: BTreeMap<Scenario, u64>,
    /// Cases with at least five named slow traces, and those in which most named a right service.
    windows: (u64, u64),
    /// Slow traces that had not met the fault, how many of them got a service named, and the same of those that many
    /// services' chance made slow.
    others: [u64; 4],
    spans: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    scenario: Scenario,
    strength: usize,
    is_one_instance: bool,
}

/// Slow traces in which a careful expert could tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// All of them.
    pub slow: u64,
    /// With a service named.
    pub named: u64,
    /// With a right one.
    pub right: u64,
    /// With a right one and a category that describes the fault.
    pub category: u64,
}

impl Cell {
    /// Of the named ones, how many were right; `None` without any.
    pub fn precision(&self) -> Option<f64> {
        (self.named > 0).then(|| self.right as f64 / self.named as f64)
    }

    /// Of all, how many were named and right; `None` without any.
    pub fn recall(&self) -> Option<f64> {
        (self.slow > 0).then(|| self.right as f64 / self.slow as f64)
    }

    fn add(&mut self, other: Self) {
        self.slow += other.slow;
        self.named += other.named;
        self.right += other.right;
        self.category += other.category;
    }
}

impl Tally {
    /// Counts a case. Returns the verdicts that name a service, of all slow traces to which the fault added a fifth.
    pub fn add<'r>(&mut self, result: &'r CaseResult) -> Vec<&'r Named> {
        let CaseResult { scenario, is_one_instance, judged, .. } = result;
        *self.cases.entry(*scenario).or_default() += 1;
        self.spans += judged.spans;
        let mut samples = Vec::new();
        for met in judged.met.iter().filter(|met| met.added >= 0.2) {
            samples.extend(met.named().map(Sample::of));
            if met.can_tell {
                self.count(*scenario, *is_one_instance, met);
            }
        }
        for met in &judged.others {
            let is_named = u64::from(met.named().is_some());
            self.others[0] += 1;
            self.others[1] += is_named;
            if met.can_tell {
                samples.extend(met.named().map(Sample::of));
                self.count(Scenario::Chance, false, met);
            } else {
                self.others[2] += 1;
                self.others[3] += is_named;
            }
        }
        if let Some(half) = self.samples.get_mut(usize::from(!result.number.is_multiple_of(2))) {
            half.append(&mut samples);
        }
        let verdicts: Vec<&Named> =
            judged.met.iter().filter(|met| met.added >= 0.2).filter_map(Met::named).collect();
        if verdicts.len() >= 5 {
            let right = verdicts.iter().filter(|named| named.is_right).count();
            self.windows.0 += 1;
            self.windows.1 += u64::from(right * 2 > verdicts.len());
        }
        verdicts
    }

    fn count(&mut self, scenario: Scenario, is_one_instance: bool, met: &Met) {
        let Some(said) = &met.said else { return };
        let strength = STRENGTHS.iter().position(|(limit, _)| met.added < *limit).unwrap_or(0);
        let mut cell = Cell { slow: 1, ..Cell::default() };
        if let Some(named) = &said.named {
            cell.named = 1;
            cell.right = u64::from(named.is_right);
            cell.category = u64::from(named.is_right && named.is_category_right);
        }
        if let Some(reason) = said.reason {
            *self.reasons.entry(reason.as_str()).or_default() += 1;
        }
        self.cells.entry(Key { scenario, strength, is_one_instance }).or_default().add(cell);
    }

    /// Counts what another tally counted.
    pub fn merge(&mut self, other: &Self) {
        for (key, cell) in &other.cells {
            self.cells.entry(*key).or_default().add(*cell);
        }
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
        for (scenario, count) in &other.cases {
            *self.cases.entry(*scenario).or_default() += count;
        }
        for (half, more) in self.samples.iter_mut().zip(&other.samples) {
            half.extend(more);
        }
        self.windows = (self.windows.0 + other.windows.0, self.windows.1 + other.windows.1);
        self.others.iter_mut().zip(other.others).for_each(|(count, more)| *count += more);
        self.spans += other.spans;
    }

    /// All slow traces of some scenarios to which the fault added at least `added` of their duration.
    pub fn cell(&self, scenarios: &[Scenario], added: f64) -> Cell {
        self.sum(|key| scenarios.contains(&key.scenario) && lower_bound(key.strength) >= added)
    }

    fn sum(&self, of: impl Fn(&Key) -> bool) -> Cell {
        let mut sum = Cell::default();
        self.cells.iter().filter(|(key, _)| of(key)).for_each(|(_, cell)| sum.add(*cell));
        sum
    }

    /// Writes the tables, as markdown that reads as text too.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "| fault | cases | added | slow traces | named | precision | recall | category right |"
        )?;
        writeln!(out, "|---|---:|---|---:|---:|---:|---:|---:|")?;
        for (scenario, cases) in &self.cases {
            for (strength, (_, label)) in STRENGTHS.iter().enumerate() {
                let cell = self.sum(|key| key.scenario == *scenario && key.strength == strength);
                write_row(out, &format!("{} | {cases} | {label}", scenario.as_str()), cell)?;
            }
        }
        for (is_one, label) in [(false, "all instances"), (true, "one instance")] {
            for (strength, (_, added)) in STRENGTHS.iter().enumerate() {
                let cell = self.sum(|key| {
                    key.scenario != Scenario::Chance
                        && key.is_one_instance == is_one
                        && key.strength == strength
                });
                write_row(out, &format!("any, {label} | | {added}"), cell)?;
            }
        }
        write_row(out, &format!("all | {} |", self.cases.values().sum::<u64>()), self.sum(|_| true))?;
        writeln!(out, "\n| inconclusive | of the slow traces |\n|---|---:|")?;
        let slow = self.sum(|_| true).slow;
        for (reason, count) in &self.reasons {
            writeln!(out, "| `{reason}` | {} |", percent(*count, slow))?;
        }
        let (windows, right) = self.windows;
        writeln!(
            out,
            "\nWindows of at least five verdicts: {windows}; most of them right in {}.",
            percent(right, windows)
        )?;
        let [others, named, unclear, named_unclear] = self.others;
        writeln!(
            out,
            "Slow traces that had not met the fault: {others}; a service named in {}. Of these, made slow by the chance \
             of several services: {unclear}; a service named in {}.",
            percent(named, others),
            percent(named_unclear, unclear)
        )?;
        writeln!(out, "Spans: {}.", self.spans)
    }
}

fn lower_bound(strength: usize) -> f64 {
    strength.checked_sub(1).and_then(|before| STRENGTHS.get(before)).map_or(0.0, |(limit, _)| *limit)
}

fn write_row(out: &mut dyn Write, label: &str, cell: Cell) -> io::Result<()> {
    let Cell { slow, named, right, category } = cell;
    let (precision, recall) = (percent(right, named), percent(right, slow));
    writeln!(out, "| {label} | {slow} | {named} | {precision} | {recall} | {} |", percent(category, right))
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
}
