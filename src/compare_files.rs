//! `laggard compare FAST SLOW`: the comparison of `run` on traces from files, for people and scripts.

pub(crate) mod page;
mod report;
mod traces;

use std::io::Write;
use std::sync::Arc;

use crate::baseline::floors::{self, Floors, Past};
use crate::baseline::store::LEAST_LIKENESS;
use crate::baseline::{Linked, References};
use crate::cli::{CompareArgs, Failure, Format};
use crate::compare::analysis::Analysis;
use crate::compare::blame::{self, Findings};
use crate::compare::comparer::{Settings, verdict_on};
use crate::compare::judge::Slower;
use crate::compare::{Outcome, Reason, Verdict, explain};
use crate::config::Config;
use crate::decide::Decider;
use crate::otlp::TraceId;
use report::Report;
use traces::{File, Found};

/// How the answer is to look.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Columns of the terminal.
    pub width: usize,
    /// Whether the reader understands colours.
    pub colour: bool,
}

/// Compares the files of `args`: the answer goes to `out`, warnings to `err`.
///
/// # Errors
/// [`Failure::Input`] when a file cannot be read, [`Failure::Usage`] when it is not clear which trace is meant.
pub fn run(args: &CompareArgs, look: Look, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Failure> {
    let config = Config::default();
    let decider = Decider::new(&config.slow, &config.sample);
    if args.fast == args.slow && args.fast.as_os_str() == "-" {
        return Err(Failure::Usage("laggard: standard input cannot be both FAST and SLOW".to_owned()));
    }
    let File { traces: mut fast, warning: of_fast } = traces::read(&args.fast, &decider)?;
    let File { traces, warning: of_slow } = traces::read(&args.slow, &decider)?;
    let slow = pick(traces, args)?;
    fast.retain(|fast| fast.trace.id() != slow.trace.id());
    if fast.is_empty() {
        let path = args.fast.display();
        return Err(Failure::Input(format!("{path}: holds only the slow trace, {}", slow.trace.id())));
    }
    let is_cut = of_slow.is_some();
    let mut warnings: Vec<String> = [of_fast, of_slow].into_iter().flatten().collect();
    let comparison = compare(&config, fast, &slow, is_cut, &mut warnings)?;
    for warning in &warnings {
        writeln!(err, "laggard: {warning}")?;
    }
    let report = Report { slow: &slow, comparison: &comparison };
    match args.format {
        Format::Json => report.write_json(&warnings, out)?,
        Format::Html => page::write(&report, &warnings, out)?,
        Format::Text => report.write_text(look, out)?,
    }
    Ok(())
}

/// The slow trace: the only one, or the one asked for.
fn pick(mut traces: Vec<Found>, args: &CompareArgs) -> Result<Found, Failure> {
    let path = args.slow.display();
    let list = |traces: &[Found]| {
        let shown = traces.iter().take(10).map(|found| {
            format!("\n  {} {} {}", found.trace.id(), explain::time(found.duration()), found.route_name)
        });
        let more = traces.len().saturating_sub(10);
        let rest = if more > 0 { format!("\n  and {more} more") } else { String::new() };
        shown.collect::<String>() + &rest
    };
    let position = match args.trace_id {
        Some(id) => traces.iter().position(|found| found.trace.id() == id).ok_or_else(|| {
            Failure::Usage(format!("laggard: {path} holds no trace {id}; it holds:{}", list(&traces)))
        })?,
        None if traces.len() == 1 => 0,
        None => {
            let count = traces.len();
            return Err(Failure::Usage(format!(
                "laggard: {path} holds {count} traces, so --trace-id must say which one is meant:{}",
                list(&traces)
            )));
        }
    };
    Ok(traces.swap_remove(position))
}

/// The answer, and what it rests on.
#[derive(Debug)]
struct Comparison {
    verdict: Verdict,
    findings: Findings,
    fast: Arc<Linked>,
    fast_id: TraceId,
}

/// `is_cut` where spans of the file that SLOW is from cannot be read.
fn compare(
    config: &Config,
    fast: Vec<Found>,
    slow: &Found,
    is_cut: bool,
    warnings: &mut Vec<String>,
) -> Result<Comparison, Failure> {
    let analysis = Analysis::of(&slow.trace, slow.entry).ok_or_else(|| no_times(slow))?;
    let routes = traces::routes(&fast).into_keys().collect::<Vec<_>>().join(", ");
    let is_same_route = fast.iter().any(|found| found.route == slow.route);
    let shared = slow.services();
    let is_related = fast.iter().any(|found| found.services().iter().any(|name| shared.contains(name)));
    let fast_has_root = fast.iter().any(|found| found.has_root);
    let fast: Vec<Found> =
        fast.into_iter().filter(|found| !is_same_route || found.route == slow.route).collect();
    if fast.iter().any(Found::has_error) {
        warnings.push(
            "a trace of FAST has an error where a service was entered; it may be fast because it failed"
                .to_owned(),
        );
    }
    let fast_failed = fast.iter().all(Found::has_error) && !slow.has_error();
    let references = references(&fast, &analysis)?;
    let findings = blame::findings(&analysis, &references.linked.ledger, &references.floors, None);
    let minimum_share = config.compare.minimum_share;
    let settings = Settings { slower: Slower::AsTold, minimum_share, threshold: 0 };
    let mut verdict = verdict_on(&analysis, &references, &findings, settings);
    let mut abstain = |reason: Reason, sentence: String| {
        verdict.outcome = Outcome::Inconclusive(reason);
        verdict.explanation = explain::shorten(sentence);
    };
    let (fast_time, slow_time) = (references.linked.ledger.duration, analysis.ledger.duration);
    if !is_related {
        abstain(Reason::BaselineMismatch, "FAST and SLOW have no service in common".to_owned());
    } else if !slow.has_root {
        // Without its root, nobody can know of which route it is.
        abstain(Reason::IncompleteTrace, "SLOW has no root span".to_owned());
    } else if !is_same_route && !fast_has_root {
        abstain(Reason::IncompleteTrace, "FAST has no root span".to_owned());
    } else if !is_same_route {
        let slow = &slow.route_name;
        abstain(Reason::BaselineMismatch, format!("SLOW is a trace of {slow}, FAST of {routes}"));
    } else if references.likeness < LEAST_LIKENESS {
        let (reason, sentence) = unlike(&analysis, &references.linked, is_cut);
        abstain(reason, sentence);
    } else if slow.trace.len() > config.compare.max_spans {
        let most = config.compare.max_spans;
        abstain(Reason::LimitExceeded, format!("SLOW has {} spans, more than {most}", slow.trace.len()));
    } else if fast_failed && makes_new_calls(&findings, &references) {
        let sentence =
            "FAST failed, and SLOW makes calls that FAST does not: it may be fast because it failed";
        abstain(Reason::BaselineMismatch, sentence.to_owned());
    } else if fast_time > slow_time {
        let (fast, slow) = explain::times(fast_time, slow_time);
        let sentence = format!("SLOW is the faster one: it took {slow}, FAST {fast}; are they swapped?");
        abstain(Reason::NotSlower, sentence);
    }
    let fast_id = references.linked.trace.id();
    Ok(Comparison { verdict, findings, fast: references.linked, fast_id })
}

/// Whether anything took time that no reference did.
fn makes_new_calls(findings: &Findings, references: &References) -> bool {
    findings.rows.iter().any(|row| row.slow_time > 0 && references.floors.get(row.reference_key).is_none())
}

/// Why traces that make different calls cannot be compared: one of them may be what is left of a trace.
fn unlike(slow: &Analysis<'_>, fast: &Linked, is_cut: bool) -> (Reason, String) {
    if let Some(torn) = explain::torn(&slow.tree) {
        return (Reason::IncompleteTrace, format!("of SLOW, {torn}"));
    }
    if is_cut {
        let sentence = "spans of SLOW cannot be read, and what is left makes other calls than FAST does";
        return (Reason::IncompleteTrace, sentence.to_owned());
    }
    if fast.ledger.broken > 0 {
        let sentence = "FAST lacks spans, and what is left of it makes other calls than SLOW does";
        return (Reason::IncompleteTrace, sentence.to_owned());
    }
    let calls = if slow.shape.is_empty() {
        "SLOW makes none of the calls that FAST makes"
    } else {
        "SLOW makes other calls than FAST does"
    };
    (Reason::BaselineMismatch, format!("{calls}, so their times cannot be compared"))
}

/// What SLOW is compared with: the traces most like it in shape, and of these the one nearest their median.
fn references(fast: &[Found], slow: &Analysis<'_>) -> Result<References, Failure> {
    let mut analysed = Vec::new();
    for found in fast {
        let analysis = Analysis::of(&found.trace, found.entry).ok_or_else(|| no_times(found))?;
        analysed.push((analysis.shape.likeness(&slow.shape), analysis));
    }
    let likeness = analysed.iter().map(|(likeness, _)| *likeness).fold(0.0, f64::max);
    let alike = || analysed.iter().filter(|(other, _)| *other >= likeness).map(|(_, analysis)| analysis);
    let median = floors::quantile(alike().map(|analysis| analysis.ledger.duration), 1, 2);
    let nearest = alike()
        .min_by_key(|one| (one.ledger.duration.abs_diff(median), one.tree.trace.id()))
        .and_then(|nearest| {
            let found = fast.iter().find(|found| found.trace.id() == nearest.tree.trace.id())?;
            Linked::new(0, Arc::new(found.trace.clone()), found.entry, nearest)
        })
        .expect("FAST holds a trace, or it would not have been read");
    let pasts: Vec<Past> = alike().map(|analysis| Past::of(&analysis.ledger)).collect();
    Ok(References { linked: Arc::new(nearest), floors: Arc::new(Floors::of(pasts.iter())), likeness })
}

fn no_times(found: &Found) -> Failure {
    Failure::Input(format!(
        "trace {}: its entry span has no start, ends before it starts, or lasts more than 104 days",
        found.trace.id()
    ))
}
