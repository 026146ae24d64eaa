//! `laggard replay`: recorded traffic through the same stages as `run`, on its own time.
//!
//! The clock is the largest end of a span read so far. Warming traffic runs first and the replayed traffic's clock
//! goes on where it ended, so neither the time between two recordings nor their order in it makes anything expire.

mod recording;
mod repeats;
mod summary;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::cli::{Failure, ReplayArgs};
use crate::compare::record::Record;
use crate::config::{self, Config, Threshold, memory};
use crate::otlp::batch::Batch;
use crate::otlp::{Nanos, json};
use crate::pipeline::{Limits, Outgoing, Pipeline};
use crate::telemetry::metrics::Metrics;
use recording::Recording;
use repeats::Repeats;
use summary::Summary;

/// Replays the files of `args`: a line for each slow trace to `--output` or `out`, the summary to `err`.
/// `elapsed` tells the time since some moment that does not change. A line that cannot be read is told on `err` and left
/// out.
///
/// # Errors
/// A wrong configuration, input that cannot be read, output that cannot be written. Where lines were left out, that is an
/// error at the very end.
pub fn run(
    args: &ReplayArgs,
    env: &dyn Fn(&str) -> Option<String>,
    elapsed: &dyn Fn() -> Duration,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    let config = config::load_for_replay(args.config.as_deref(), env)?;
    refuse_to_overwrite_input(args)?;
    args.warm.iter().chain(&args.files).try_for_each(|path| recording::must_exist(path))?;
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
        replay.warm(path, err)?;
    }
    let began = elapsed();
    for path in &args.files {
        replay.replay(path, lines, err)?;
    }
    replay.end(lines)?;
    let flushed = lines.flush();
    flushed.map_err(|error| match &args.output {
        Some(path) => not_written(path, &error),
        None => Failure::from(error),
    })?;
    replay.pipeline.publish();
    replay.summary.write(&replay.metrics, elapsed().saturating_sub(began), err)?;
    match replay.bad_lines {
        0 => Ok(()),
        1 => Err(Failure::Input("1 line cannot be read and was left out".to_owned())),
        count => Err(Failure::Input(format!("{count} lines cannot be read and were left out"))),
    }
}

/// Opening `--output` empties it, which must not happen to what is about to be read.
fn refuse_to_overwrite_input(args: &ReplayArgs) -> Result<(), Failure> {
    let Some(output) = &args.output else { return Ok(()) };
    let Ok(place) = output.canonicalize() else { return Ok(()) };
    let is_output = |input: &&PathBuf| input.canonicalize().is_ok_and(|input| input == place);
    match args.warm.iter().chain(&args.files).find(is_output) {
        Some(_) => Err(Failure::Usage(format!("laggard: --output {} is also an input", output.display()))),
        None => Ok(()),
    }
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    Failure::Other(format!("{} cannot be written: {error}", path.display()))
}

/// So many lines that cannot be read are told one by one; the rest is only counted.
const BAD_LINES: u64 = 10;

/// One pipeline with its clock.
struct Replay {
    pipeline: Pipeline,
    metrics: Arc<Metrics>,
    max_line: u64,
    batch: Batch,
    clock: Clock,
    repeats: Repeats,
    summary: Summary,
    bad_lines: u64,
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
            repeats: Repeats::default(),
            summary: Summary::new(config.slow.threshold == Threshold::Learned),
            bad_lines: 0,
        }
    }

    /// Teaches what is normal.
    fn warm(&mut self, path: &Path, err: &mut dyn Write) -> Result<(), Failure> {
        self.clock.begin_recording();
        self.read(path, &mut |_, _| {}, err)?;
        self.pipeline.decide_all(self.clock.now, &mut |_| {});
        self.pipeline.trust_learned(self.clock.now);
        self.pipeline.tick(self.clock.now);
        self.pipeline.publish();
        self.summary.forget(&self.metrics);
        Ok(())
    }

    fn replay(&mut self, path: &Path, lines: &mut dyn Write, err: &mut dyn Write) -> Result<(), Failure> {
        if self.summary.is_first_file() {
            self.clock.begin_recording();
        }
        let mut summary = std::mem::take(&mut self.summary);
        let mut failed = None;
        let mut deliver = |pipeline: &Pipeline, outgoing| {
            let printed = print(pipeline, outgoing, lines, &mut summary);
            failed = failed.take().or(printed.err());
        };
        let read = self.read(path, &mut deliver, err);
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
    fn read(&mut self, path: &Path, print: Print<'_>, err: &mut dyn Write) -> Result<summary::Read, Failure> {
        let mut recording = Recording::open(path, self.max_line)?;
        let mut counts = summary::Read::default();
        let told = self.bad_lines;
        loop {
            let taken = match recording.read_on() {
                Ok(false) => {
                    if counts.spans + counts.refused == 0 && self.bad_lines == told {
                        writeln!(
                            err,
                            "laggard: {}: holds no span; expected OTLP/JSON, one request a line",
                            path.display()
                        )?;
                    }
                    return Ok(counts);
                }
                Ok(true) => self.take(recording.line(), &mut counts, print),
                Err(sentence) => {
                    self.complain(&sentence, err)?;
                    continue;
                }
            };
            if let Err(problem) = taken {
                let sentence = recording.spread_out().unwrap_or_else(|| recording.wrong(&problem));
                self.complain(&sentence, err)?;
            }
        }
    }

    /// Sends one request through the pipeline.
    fn take(&mut self, line: &[u8], counts: &mut summary::Read, print: Print<'_>) -> Result<(), String> {
        // It is all one line, of which the recording has the number.
        let in_line = |error: json::JsonError| error.to_string().replace(" at line 1 column ", " at column ");
        let decoded = json::to_protobuf(line).map_err(in_line)?;
        self.batch.read(&decoded.request).map_err(|error| error.to_string())?;
        counts.spans += self.batch.spans.len() as u64;
        counts.refused += decoded.refused + self.batch.refused;
        for span in &self.batch.spans {
            counts.repeated += u64::from(self.repeats.is_repeated(&span.head));
        }
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
        Ok(())
    }

    /// Tells of a line that is left out.
    fn complain(&mut self, sentence: &str, err: &mut dyn Write) -> io::Result<()> {
        self.bad_lines += 1;
        match self.bad_lines {
            ..=BAD_LINES => writeln!(err, "laggard: {sentence}"),
            count if count == BAD_LINES + 1 => writeln!(err, "laggard: further lines are only counted"),
            _ => Ok(()),
        }
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
