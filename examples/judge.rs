//! Judges verdicts on simulated systems with known faults, and fits the model of confidence.
//!
//! `cargo run --release --example judge -- --cases 2000` prints the tables of `docs/accuracy.md`.

use std::fs::File;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use laggard::simulate::fault::Scenario;
use laggard::simulate::fit;
use laggard::simulate::judge::Case;
use laggard::simulate::plot;
use laggard::simulate::reliability::{Reliability, Sample};
use laggard::simulate::report::Tally;
use laggard::simulate::results::{CaseResult, Results};
use laggard::telemetry::metrics::Metrics;

/// From one line of progress to the next.
const PROGRESS: Duration = Duration::from_secs(30);

/// No confidence is higher.
const MOST: f64 = 0.95;

#[derive(Parser)]
struct Args {
    /// Cases of each scenario.
    #[arg(long, default_value_t = 2_000)]
    cases: u64,
    /// The number of the first.
    #[arg(long, default_value_t = 1_000_000)]
    first: u64,
    /// Only this scenario.
    #[arg(long)]
    scenario: Option<String>,
    /// Keep each case in this file. Those that it has are counted and not run again: with `--cases 0`, only they are.
    #[arg(long)]
    results: Option<PathBuf>,
    /// Begin no further case after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// Fit the numbers of the confidence to the cases with even numbers.
    #[arg(long)]
    fit: bool,
    /// Draw how reliable confidence is into this file.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// List the cases in which most verdicts were wrong.
    #[arg(long)]
    wrong: bool,
    /// How many cases run at once.
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

/// What was found so far.
struct Run<'a> {
    args: &'a Args,
    scenarios: Vec<Scenario>,
    began: Instant,
    next: AtomicUsize,
    found: Mutex<Found>,
}

struct Found {
    results: Results,
    tally: Tally,
    wrong: Vec<String>,
    /// Cases that ended in a panic.
    failed: Vec<String>,
    judging: Duration,
    cases: u32,
    reported: Instant,
}

impl Run<'_> {
    /// Runs one case after the other, each number with all scenarios, so that what is interrupted is a table as well.
    fn work(&self, metrics: &Arc<Metrics>) -> io::Result<()> {
        let all = self.args.cases * self.scenarios.len() as u64;
        let limit = self.args.minutes.map(|minutes| Duration::from_secs(minutes * 60));
        while limit.is_none_or(|limit| now() - self.began < limit) {
            let job = self.next.fetch_add(1, Ordering::Relaxed);
            if job as u64 >= all {
                break;
            }
            let Some(scenario) = self.scenarios.get(job % self.scenarios.len()) else { break };
            let number = self.args.first + (job / self.scenarios.len()) as u64;
            if self.found().results.has(*scenario, number) {
                continue;
            }
            let Some(case) = Case::random(*scenario, number) else { continue };
            let began = now();
            let judged = catch_unwind(AssertUnwindSafe(|| case.judge(metrics)));
            let judging = now() - began;
            let mut found = self.found();
            found.judging += judging;
            found.cases += 1;
            match judged {
                Ok(judged) => {
                    let result = CaseResult::of(number, &case, judged);
                    found.results.keep(&result)?;
                    found.add(&result);
                }
                Err(_) => found.failed.push(format!("{number} {}", case.describe())),
            }
            found.report(job as u64, all, self.began)?;
        }
        Ok(())
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Found {
    fn add(&mut self, result: &CaseResult) {
        let verdicts = self.tally.add(result);
        let right = verdicts.iter().filter(|named| named.is_right).count();
        if let Some(wrong) = verdicts.iter().find(|named| !named.is_right)
            && right * 2 < verdicts.len()
        {
            let (service, category, of) = (&wrong.service, wrong.category.as_str(), verdicts.len());
            let CaseResult { number, about, .. } = result;
            self.wrong.push(format!("{number} {about}: {right} of {of} right, {service} ({category})"));
        }
    }

    fn report(&mut self, job: u64, all: u64, began: Instant) -> io::Result<()> {
        if now() - self.reported < PROGRESS {
            return Ok(());
        }
        self.reported = now();
        let passed = now() - began;
        let left = passed.mul_f64((all - job) as f64 / (job + 1) as f64);
        writeln!(io::stderr(), "{job} of {all} cases in {passed:.0?}, {left:.0?} left")
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let metrics = Arc::new(Metrics::default());
    let mut found = Found {
        results: Results::open(None, &mut |_| {})?,
        tally: Tally::default(),
        wrong: Vec::new(),
        failed: Vec::new(),
        judging: Duration::ZERO,
        cases: 0,
        reported: now(),
    };
    found.results = Results::open(args.results.as_deref(), &mut |result| found.add(&result))?;
    let is_chosen = |one: &Scenario| args.scenario.as_ref().is_none_or(|name| name == one.as_str());
    let run = Run {
        args: &args,
        scenarios: Scenario::all().filter(is_chosen).collect(),
        began: now(),
        next: AtomicUsize::new(0),
        found: Mutex::new(found),
    };
    anyhow::ensure!(!run.scenarios.is_empty(), "no such scenario");
    std::thread::scope(|scope| {
        let start = |_| scope.spawn(|| run.work(&metrics));
        let running: Vec<_> = (0..args.threads.max(1)).map(start).collect();
        running.into_iter().try_for_each(|thread| thread.join().expect("a case that panics is caught"))
    })?;
    let passed = now() - run.began;
    let mut found = run.found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut out = io::stdout().lock();
    found.tally.write(&mut out)?;
    let each = found.judging / found.cases.max(1);
    writeln!(out, "{} cases in {passed:.0?}, {each:.1?} a case to simulate and judge.", found.cases)?;
    if args.wrong {
        found.wrong.sort();
        for line in &found.wrong {
            writeln!(out, "{line}")?;
        }
    }
    write_confidence(&args, &found.tally.samples, &mut out)?;
    anyhow::ensure!(found.failed.is_empty(), "panicked:\n{}", found.failed.join("\n"));
    Ok(())
}

/// What confidence is worth on the cases that its numbers are not fitted to.
fn write_confidence(args: &Args, samples: &[Vec<Sample>; 2], out: &mut dyn Write) -> anyhow::Result<()> {
    let [even, odd] = samples;
    let reliability = Reliability::of(odd, Sample::confidence);
    writeln!(
        out,
        "\n{} verdicts of the cases with odd numbers, {:.4} right:\n",
        odd.len(),
        reliability.right()
    )?;
    reliability.write(out)?;
    writeln!(out)?;
    Reliability::write_score_header(out)?;
    reliability.write_scores("confidence", out)?;
    let constant = Reliability::of(even, Sample::confidence).right().min(MOST);
    Reliability::of(odd, |_| constant).write_scores(&format!("always {constant:.2}"), out)?;
    if args.fit {
        let numbers = fit::fit(even);
        Reliability::of(odd, |sample| sample.grounds.confidence_by(&numbers, sample.category))
            .write_scores("confidence as fitted below", out)?;
        Reliability::of(odd, |sample| sample.grounds.right(&numbers, sample.category))
            .write_scores("the same without its limits", out)?;
        writeln!(out, "\nFitted to {} verdicts of the cases with even numbers:\n", even.len())?;
        fit::write(&numbers, out)?;
    }
    if let Some(path) = &args.plot {
        plot::write(&reliability, &mut File::create(path)?)?;
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "a measurement outside the sidecar reads the clock itself")]
fn now() -> Instant {
    Instant::now()
}
