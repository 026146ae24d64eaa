//! `laggard replay`: recorded traffic through the same stages as `run`, on its own time.
//!
//! The clock is the largest end of a span read so far. Warming traffic runs first and the replayed traffic's clock
//! goes on where it ended, so neither the time between two recordings nor their order in it makes anything expire.

mod recording;
mod summary;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::cli::{Failure, ReplayArgs};
use crate::compare::record::Record;
use crate::config::{self, Config, memory};
use crate::otlp::batch::Batch;
use crate::otlp::{Nanos, json};
use crate::pipeline::{Limits, Outgoing, Pipeline};
use crate::telemetry::metrics::Metrics;
use recording::Recording;
use summary::Summary;

/// Replays the files of `args`: a line for each slow trace to `--output` or `out`, the summary to `err`.
/// `elapsed` tells the time since some moment that does not change.
///
/// # Errors
/// A wrong configuration, input that cannot be read, output that cannot be written.
pub fn run(
    args: &ReplayArgs,
    env: &dyn Fn(&str) -> Option<String>,
    elapsed: &dyn Fn() -> Duration,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    let config = config::load_for_replay(args.config.as_deref(), env)?;
    refuse_to_overwrite_input(args)?;
    let mut file;
    let lines: &mut dyn Write = match &args.output {
        Some(path) => {
            file = BufWriter::new(File::create(path).map_err(|error| not_written(path, &error))?);
            &mut file
        }
        None => out,
    };
    let mut replay = Replay::new(&config);
    for path in &args.warm {
        replay.warm(path)?;
    }
    let began = elapsed();
    for path in &args.files {
        replay.replay(path, lines)?;
    }
    replay.end(lines)?;
    let flushed = lines.flush();
    flushed.map_err(|error| match &args.output {
        Some(path) => not_written(path, &error),
        None => Failure::from(error),
    })?;
    replay.summary.write(&replay.metrics, elapsed().saturating_sub(began), err)?;
    Ok(())
}

/// Opening `--output` empties it, which must not happen to what is about to be read.
fn refuse_to_overwrite_input(args: &ReplayArgs) -> Result<(), Failure> {
    let Some(output) = &args.output else { return Ok(()) };
    let Ok(place) = output.canonicalize() else { return Ok(()) };
    let is_output = |input: &&PathBuf| input.canonicalize().is_ok_and(|input| input == place);
    match args.warm.iter().chain(&args.files).find(is_output) {
        Some(_) => Err(Failure::Usage(format!("--output {} is also an input", output.display()))),
        None => Ok(()),
    }
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    Failure::Other(format!("{} cannot be written: {error}", path.display()))
}

/// One pipeline with its clock.
struct Replay {
    pipeline: Pipeline,
    metrics: Arc<Metrics>,
    max_line: u64,
    batch: Batch,
    clock: Clock,
    summary: Summary,
}

/// Event time, made to run on from recording to recording.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    now: Nanos,
    /// What the current recording's first moment counts as, and which moment that was.
    origin: Option<(Nanos, Nanos)>,
}

impl Clock {
    /// The next recording begins when the last one has ended.
    fn begin_recording(&mut self) {
        self.origin = None;
    }

    /// Spans from `first` to `last` were read.
    fn read(&mut self, first: Nanos, last: Nanos) -> Nanos {
        // The very first recording is on its own time, so that what is printed and logged is, too.
        let now = self.now;
        let (counts_as, began) =
            *self.origin.get_or_insert(if now == 0 { (first, first) } else { (now, first) });
        self.now = self.now.max(counts_as.saturating_add(last.saturating_sub(began)));
        self.now
    }
}

/// What is done with a verdict.
type Print<'a> = &'a mut dyn FnMut(&Pipeline, Outgoing);

impl Replay {
    fn new(config: &Config) -> Self {
        let memory_limit = memory::limit(&config.memory_limit, memory::cgroup_limit(Path::new("/")));
        let (budgets, _) = memory::Budgets::divide(config, memory_limit);
        let metrics = Arc::new(Metrics::default());
        let limits = Limits { held: budgets.held, baseline: budgets.baseline, tables: budgets.tables };
        Self {
            // One shard: all traces are decided in the order in which they became due.
            pipeline: Pipeline::new(config, limits, 1, Arc::clone(&metrics)),
            metrics,
            max_line: config.receive.max_request_size,
            batch: Batch::default(),
            clock: Clock::default(),
            summary: Summary::default(),
        }
    }

    /// Teaches what is normal.
    fn warm(&mut self, path: &Path) -> Result<(), Failure> {
        self.clock.begin_recording();
        self.read(path, &mut |_, _| {})?;
        self.pipeline.decide_all(self.clock.now, &mut |_| {});
        self.pipeline.trust_learned(self.clock.now);
        self.pipeline.tick(self.clock.now);
        self.summary.forget(&self.metrics);
        Ok(())
    }

    fn replay(&mut self, path: &Path, lines: &mut dyn Write) -> Result<(), Failure> {
        if self.summary.is_first_file() {
            self.clock.begin_recording();
        }
        let mut summary = std::mem::take(&mut self.summary);
        let mut failed = None;
        let read = self.read(path, &mut |pipeline, outgoing| {
            let printed = print(pipeline, outgoing, lines, &mut summary);
            failed = failed.take().or(printed.err());
        });
        summary.count_file(read?);
        self.summary = summary;
        failed.map_or(Ok(()), |error| Err(Failure::from(error)))
    }

    /// Decides what is still held.
    fn end(&mut self, lines: &mut dyn Write) -> Result<(), Failure> {
        let mut failed = None;
        self.pipeline.decide_all(self.clock.now, &mut |outgoing| {
            let printed = print(&self.pipeline, outgoing, lines, &mut self.summary);
            failed = failed.take().or(printed.err());
        });
        failed.map_or(Ok(()), |error| Err(Failure::from(error)))
    }

    /// Sends a recording through the pipeline. Returns what was read.
    fn read(&mut self, path: &Path, print: Print<'_>) -> Result<summary::Read, Failure> {
        let mut recording = Recording::open(path, self.max_line)?;
        let mut counts = summary::Read::default();
        while let Some(line) = recording.next_line()? {
            let decoded = json::to_protobuf(line).map_err(|error| recording.wrong(&error))?;
            self.batch.read(&decoded.request).map_err(|error| recording.wrong(&error))?;
            counts.spans += self.batch.spans.len() as u64;
            counts.refused += decoded.refused + self.batch.refused;
            // One span with an absurd end would otherwise let everything learned expire.
            let timed = || self.batch.spans.iter().filter(|span| span.head.has_credible_times());
            let first = timed().map(|span| span.head.start).min();
            let last = timed().map(|span| span.head.end).max();
            let now = first.zip(last).map_or(self.clock.now, |(first, last)| self.clock.read(first, last));
            let pipeline = &self.pipeline;
            let mut deliver = |outgoing| print(pipeline, outgoing);
            pipeline.decide_due(now, &mut deliver);
            let taken = pipeline.accept(now, &self.batch, &decoded.request, &mut deliver);
            // `refuse` asks senders to come again; a recording cannot, so what does not fit is lost and said so.
            counts.no_room += if taken.is_err() { self.batch.spans.len() as u64 } else { 0 };
        }
        Ok(counts)
    }
}

fn print(
    pipeline: &Pipeline,
    outgoing: Outgoing,
    lines: &mut dyn Write,
    summary: &mut Summary,
) -> io::Result<()> {
    if outgoing.is_reference {
        return Ok(());
    }
    let Some(analysis) = outgoing.analysis else { return Ok(()) };
    let route = pipeline.route_name(analysis.route);
    summary.count_verdict(&route, &analysis.verdict);
    serde_json::to_writer(&mut *lines, &Record::of(analysis.id, &route, &analysis.verdict))?;
    writeln!(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_of_another_day_goes_on_where_the_last_one_ended() {
        let mut clock = Clock::default();
        assert_eq!(clock.read(1_000, 1_500), 1_500);
        assert_eq!(clock.read(1_100, 1_200), 1_500, "time never falls");
        clock.begin_recording();
        assert_eq!(clock.read(90_000, 90_100), 1_600);
        assert_eq!(clock.read(90_050, 90_300), 1_800);
        clock.begin_recording();
        assert_eq!(clock.read(10, 20), 1_810, "an earlier day");
    }
}
