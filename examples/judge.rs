//! Judges verdicts on simulated systems with known faults, and fits the model of confidence.
//!
//! `cargo run --release --example judge -- --cases 2000` prints the tables of `docs/accuracy.md`; `--fit` fits on one
//! half of the cases and judges on the other; `--first N` begins with another seed; `--scenario NAME` judges one kind;
//! `--wrong` lists the cases in which most verdicts were wrong, with their seeds.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use laggard::simulate::fault::Scenario;
use laggard::simulate::fit::{Model, Sample};
use laggard::simulate::judge::{Case, Judged};
use laggard::simulate::reliability::Reliability;
use laggard::simulate::report::Tally;
use laggard::telemetry::metrics::Metrics;

#[derive(Parser)]
struct Args {
    /// Cases of each scenario.
    #[arg(long, default_value_t = 2_000)]
    cases: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1_000_000)]
    first: u64,
    /// Only this scenario.
    #[arg(long)]
    scenario: Option<String>,
    /// Fit a model of confidence.
    #[arg(long)]
    fit: bool,
    /// List the cases in which most verdicts were wrong.
    #[arg(long)]
    wrong: bool,
    /// How many cases run at once.
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

/// What one thread found.
#[derive(Default)]
struct Part {
    tally: Tally,
    /// Verdicts on cases with even seeds, then on those with odd ones.
    samples: [Vec<Sample>; 2],
    wrong: Vec<String>,
    /// Cases that ended in a panic.
    failed: Vec<String>,
    judging: Duration,
    cases: u32,
}

impl Part {
    fn run(args: &Args, number: u64, metrics: &Arc<Metrics>) -> Self {
        let mut part = Self::default();
        let scenarios = Scenario::PLAIN.into_iter().chain(Scenario::COMPOUND);
        let chosen = scenarios.filter(|one| args.scenario.as_ref().is_none_or(|name| name == one.as_str()));
        for scenario in chosen {
            for seed in (args.first..args.first + args.cases).filter(|seed| seed % args.threads == number) {
                let Some(case) = Case::random(scenario, seed) else { continue };
                let began = now();
                let judged = catch_unwind(AssertUnwindSafe(|| case.judge(metrics)));
                part.judging += now() - began;
                part.cases += 1;
                match judged {
                    Ok(judged) => part.add(&case, &judged, seed),
                    Err(_) => part.failed.push(format!("{seed} {}", case.describe())),
                }
            }
        }
        part
    }

    fn add(&mut self, case: &Case, judged: &Judged, seed: u64) {
        let verdicts = self.tally.add(case, judged);
        let half = usize::from(seed / 2 % 2 == 1);
        if let Some(samples) = self.samples.get_mut(half) {
            samples.extend(verdicts.iter().map(|named| Sample::of(named)));
        }
        let wrong = verdicts.iter().find(|named| !named.is_right);
        let right = verdicts.iter().filter(|named| named.is_right).count();
        if let Some(named) = wrong
            && right * 2 < verdicts.len()
        {
            let (service, category) = (&named.service, named.category.as_str());
            let of = verdicts.len();
            self.wrong
                .push(format!("{seed} {}: {right} of {of} right, {service} ({category})", case.describe()));
        }
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let metrics = Arc::new(Metrics::new()?);
    let began = now();
    let mut all = Part::default();
    std::thread::scope(|scope| {
        let start = |number| {
            let (args, metrics) = (&args, &metrics);
            scope.spawn(move || Part::run(args, number, metrics))
        };
        let running: Vec<_> = (0..args.threads.max(1)).map(start).collect();
        for thread in running {
            let part = thread.join().expect("a case that panics is caught");
            all.tally.merge(&part.tally);
            all.judging += part.judging;
            all.cases += part.cases;
            all.wrong.extend(part.wrong);
            all.failed.extend(part.failed);
            for (samples, more) in all.samples.iter_mut().zip(part.samples) {
                samples.extend(more);
            }
        }
    });
    let mut out = io::stdout().lock();
    all.tally.write(&mut out)?;
    let each = all.judging / all.cases.max(1);
    writeln!(out, "{} cases in {:.0?}, {each:.1?} a case to simulate and judge.", all.cases, now() - began)?;
    if args.wrong {
        all.wrong.sort();
        for line in &all.wrong {
            writeln!(out, "{line}")?;
        }
    }
    if args.fit {
        let [fitted_on, judged_on] = &all.samples;
        let model = Model::fit(fitted_on);
        writeln!(out, "\nFitted on {} verdicts:", fitted_on.len())?;
        model.write(&mut out)?;
        let mut reliability = Reliability::default();
        for sample in judged_on {
            reliability.add(model.confidence(sample), sample.is_right());
        }
        writeln!(out, "\nJudged on {} verdicts of other seeds:\n", judged_on.len())?;
        reliability.write(&mut out)?;
    }
    anyhow::ensure!(all.failed.is_empty(), "panicked:\n{}", all.failed.join("\n"));
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "a measurement outside the sidecar reads the clock itself")]
fn now() -> Instant {
    Instant::now()
}
