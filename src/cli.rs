//! The command line: what there is to say, and how a command may end.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::app::StartError;
use crate::config::{self, Problems};
use crate::otlp::TraceId;

/// Finds the service that made a trace slow.
///
/// An OTLP sidecar: it holds each trace until it is complete, keeps the slow ones, compares them with fast traces of the same
/// route, and forwards them with `root_cause.service`.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Receive, sample, compare and forward traces until SIGTERM
    Run(RunArgs),
    /// Compare a slow trace with fast ones, all from files
    Compare(CompareArgs),
    /// Send recorded traffic through the same code on its own time, as fast as it reads
    Replay(ReplayArgs),
    /// Show on made-up traffic how a slow service is found; needs nothing else
    Demo,
    /// Say everything that is wrong with a configuration file
    Validate(ValidateArgs),
    /// Ask a running sidecar whether it is ready
    Health(HealthArgs),
}

/// `laggard run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The configuration; without it `OTEL_EXPORTER_OTLP_ENDPOINT` must say where traces go
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `laggard compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Fast traces: OTLP (JSON or protobuf), Jaeger JSON or Zipkin v2 JSON, plain or gzip; `-` is standard input
    pub fast: PathBuf,
    /// The slow trace, in the same formats
    pub slow: PathBuf,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Which trace of SLOW, where it holds several: 32 hexadecimal digits
    #[arg(long, value_name = "ID", value_parser = trace_id)]
    pub trace_id: Option<TraceId>,
}

/// `--format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One object.
    Json,
    /// A page that needs nothing else.
    Html,
}

/// `laggard replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Thresholds, waits and shares; without it the defaults
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Recorded traffic that only teaches what is normal; may be given several times
    #[arg(long, value_name = "FILE")]
    pub warm: Vec<PathBuf>,
    /// Where to write a line for each slow trace; without it standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Recorded traffic: OTLP/JSON, one request a line, plain, gzip or zstd
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `laggard validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", required_unless_present = "schema")]
    pub config: Option<PathBuf>,
    /// Print the JSON schema of a configuration instead
    #[arg(long, conflicts_with = "config")]
    pub schema: bool,
}

/// `laggard health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// The configuration of the sidecar, which says where its admin port is
    #[arg(long, value_name = "FILE", required_unless_present = "endpoint")]
    pub config: Option<PathBuf>,
    /// The admin port of a sidecar that is elsewhere
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "config", value_parser = host_and_port)]
    pub endpoint: Option<String>,
}

fn trace_id(text: &str) -> Result<TraceId, &'static str> {
    let is_span_id = text.len() == 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    TraceId::from_hex(text).ok_or(if is_span_id {
        "must be a trace id of 32 hexadecimal digits; 16 are the id of a span"
    } else {
        "must be 32 hexadecimal digits that are not all zero"
    })
}

fn host_and_port(text: &str) -> Result<String, &'static str> {
    let is_right = text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_address = host.starts_with('[') && host.ends_with(']');
        let is_host = !host.is_empty() && (is_address || !host.contains([':', '/', '[', ']', '@']));
        is_host && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    let right = is_right.then(|| text.to_owned());
    right.ok_or("must be a host and a port, such as 127.0.0.1:13134 or [::1]:13134")
}

/// How a command ended that did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Arguments or the configuration are wrong.
    #[error("{0}")]
    Usage(String),
    /// Input cannot be read.
    #[error("{0}")]
    Input(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
    /// Whoever reads our output has seen enough.
    #[error("the reader is gone")]
    ReaderGone,
}

impl Failure {
    /// The exit code: those of sysexits.h where it has one.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 64,
            Failure::Input(_) => 65,
            Failure::Other(_) => 1,
            Failure::ReaderGone => 0,
        }
    }

    /// Says on `out` what is to be said.
    pub fn report(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Failure::ReaderGone => Ok(()),
            // Problems begin with the file's name, as a compiler's messages do.
            Failure::Usage(problems) => writeln!(out, "{problems}"),
            Failure::Input(sentence) | Failure::Other(sentence) => writeln!(out, "laggard: {sentence}"),
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Failure::Usage(problems.to_string())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Destination(_) | StartError::File(_) => Failure::Usage(format!("laggard: {error}")),
            _ => Failure::from(anyhow::Error::from(error)),
        }
    }
}

/// Writing failed, which is nobody's fault where the reader has left.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::from(anyhow::Error::from(error))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let is_broken_pipe = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
        if error.chain().filter_map(|cause| cause.downcast_ref()).any(is_broken_pipe) {
            return Failure::ReaderGone;
        }
        Failure::Other(one_line(format_args!("{error:#}")))
    }
}

/// Reads the arguments. `None` when help or the version was asked for, which went to `out`.
///
/// # Errors
/// What is wrong with the arguments.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
) -> Result<Option<Command>, Failure> {
    let error = match Cli::try_parse_from(args) {
        Ok(cli) => return Ok(Some(cli.command)),
        Err(error) => error,
    };
    let text = error.to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            out.write_all(text.as_bytes())?;
            Ok(None)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Err(Failure::Usage(text.trim_end().to_owned()))
        }
        _ => {
            // Behind the first paragraph clap repeats the usage, which `--help` has too.
            let mistake = text.split("\n\n").next().unwrap_or(&text);
            let mistake = one_line(mistake.trim_start_matches("error: "));
            Err(Failure::Usage(format!("laggard: {mistake}; see laggard --help")))
        }
    }
}

/// `laggard validate`: says so on `out` when the file is right, or prints the schema.
pub fn validate(
    args: &ValidateArgs,
    env: &dyn Fn(&str) -> Option<String>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if args.schema {
        writeln!(out, "{:#}", config::schema())?;
    }
    if let Some(path) = &args.config {
        let config = config::load(Some(path), env)?;
        writeln!(out, "{} is valid", path.display())?;
        // It may be checked elsewhere than where it is used, so this is no mistake of it.
        for (key, file) in config.secret_files() {
            if let Err(error) = File::open(file) {
                let file = file.display();
                writeln!(
                    out,
                    "note: {key}: {file} cannot be read here, and run does not start without it: {error}"
                )?;
            }
        }
    }
    Ok(())
}

fn one_line(text: impl Display) -> String {
    text.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
