//! `laggard`: arguments, configuration, logs, runtime, and then the command.

use std::io::{self, IsTerminal, StdoutLock, Write};
use std::process::ExitCode;
use std::time::Duration;

use laggard::app::{self, Clock};
use laggard::cli::{self, Command, Failure, RunArgs};
use laggard::compare_files::{self, Look};
use laggard::config;
use laggard::demo;
use laggard::health;
use laggard::replay;
use laggard::telemetry::log;
use tokio::runtime::{Builder, Runtime};

/// A process that must stay within its memory limit needs an allocator that gives back what a flood took. jemalloc's own
/// thread does so within some seconds, also when the process has fallen idle; mimalloc looks for pages to give back only
/// while it serves, and kept 100 to 200 MiB of a flood of 360 MiB, whatever its options (docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let mut out = io::stdout().lock();
    let outcome = match cli::parse(std::env::args_os(), &mut out) {
        Ok(None) => Ok(()),
        Ok(Some(Command::Run(args))) => run(&args),
        Ok(Some(Command::Validate(args))) => cli::validate(&args, &variable, &mut out),
        Ok(Some(Command::Replay(args))) => {
            let clock = Clock::start();
            let elapsed = move || Duration::from_nanos(clock.now());
            replay::run(&args, &variable, &elapsed, &mut out, &mut io::stderr())
        }
        Ok(Some(Command::Compare(args))) => compare_files::run(&args, look(), &mut out, &mut io::stderr()),
        Ok(Some(Command::Health(args))) => health::run(&args, &variable),
        Ok(Some(Command::Demo)) => demo(&mut out),
        Err(failure) => Err(failure),
    };
    match outcome.and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Where stderr is closed too, the exit code says it.
            let _ = failure.report(&mut io::stderr());
            ExitCode::from(failure.code())
        }
    }
}

/// `laggard run`.
fn run(args: &RunArgs) -> Result<(), Failure> {
    let config = config::load(args.config.as_deref(), &variable)?;
    log::init(&config.telemetry.log).map_err(anyhow::Error::from)?;
    Ok(runtime()?.block_on(app::run(config))?)
}

/// `laggard demo`.
fn demo(out: &mut StdoutLock<'_>) -> Result<(), Failure> {
    let colour = out.is_terminal() && variable("NO_COLOR").is_none_or(|value| value.is_empty());
    if runtime()?.block_on(demo::run(out, colour))? {
        return Ok(());
    }
    Err(Failure::Other("the demonstration did not name the service that turned slow".to_owned()))
}

/// With one core a second thread would only make the first one wait.
fn runtime() -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder = if cores == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.enable_all().build()
}

/// What the terminal can show; a file gets plain text.
fn look() -> Look {
    const USUAL_WIDTH: usize = 100;
    let told = variable("COLUMNS").and_then(|columns| columns.parse().ok());
    let measured = || terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0.into());
    let width = told.or_else(measured).unwrap_or(USUAL_WIDTH);
    Look { width, colour: io::stdout().is_terminal() && variable("NO_COLOR").is_none() }
}

/// An environment variable; one that is not text counts as not set.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
