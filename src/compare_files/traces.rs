//! The traces in a file of any format, each with its entry span and route.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use crate::assemble::Trace;
use crate::cli::Failure;
use crate::decide::{Candidate, Decider, Judgement, RouteId, Shape, entry};
use crate::formats::{self, Content};
use crate::input;
use crate::otlp::span::SpanHead;

/// A larger file, decompressed, is no trace that anyone looks at; in bytes.
const LARGEST: u64 = 256 << 20;

/// A trace with its entry span and route.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) trace: Trace,
    /// Index of the entry span.
    pub(super) entry: usize,
    pub(super) has_root: bool,
    pub(super) route: RouteId,
    pub(super) route_name: String,
}

impl Found {
    /// Nanoseconds that the entry span lasted.
    pub(super) fn duration(&self) -> u64 {
        self.trace.span(self.entry).map_or(0, |span| span.head.duration())
    }

    /// Whether the request failed: ERROR on its entry span, or where any service was entered.
    pub(super) fn has_error(&self) -> bool {
        let is_failure = |(index, head): (usize, &SpanHead)| {
            head.is_error && (index == self.entry || head.kind.is_entry())
        };
        self.trace.heads().enumerate().any(is_failure)
    }

    /// The names of its services, ordered.
    pub(super) fn services(&self) -> Vec<String> {
        let names = (0..self.trace.len()).map(|span| self.trace.service_of(span));
        let names: std::collections::BTreeSet<&[u8]> = names.collect();
        names.into_iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }
}

/// The traces of one file.
#[derive(Debug)]
pub(super) struct File {
    /// By trace id.
    pub(super) traces: Vec<Found>,
    /// What the reader should know of it.
    pub(super) warning: Option<String>,
}

/// Every trace of a file.
///
/// # Errors
/// [`Failure::Input`] when it cannot be read, is of no known format, or holds no span.
pub(super) fn read(path: &Path, decider: &Decider) -> Result<File, Failure> {
    let wrong = |problem: &str| Failure::Input(format!("{}: {problem}", path.display()));
    let mut content = Vec::new();
    let opened = input::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut content));
    opened.map_err(|error| Failure::Input(format!("{} cannot be read: {error}", path.display())))?;
    if content.len() as u64 > LARGEST {
        return Err(wrong("larger than 256 MiB"));
    }
    let Content { traces, refused, fault } = formats::read(&content).map_err(|problem| wrong(&problem))?;
    let fault = fault.unwrap_or_default();
    let traces: Vec<Found> = traces.into_iter().filter_map(|trace| found(trace, decider)).collect();
    match (traces.is_empty(), refused) {
        (true, 0) => Err(wrong("holds no span with valid ids")),
        (true, _) => Err(wrong(&format!("holds no span that can be read: {fault}"))),
        (false, 0) => Ok(File { traces, warning: None }),
        (false, _) => {
            let plural = if refused == 1 { "" } else { "s" };
            let path = path.display();
            let warning = format!("{path}: {refused} span{plural} cannot be read and left out: {fault}");
            Ok(File { traces, warning: Some(warning) })
        }
    }
}

fn found(trace: Trace, decider: &Decider) -> Option<Found> {
    let entry = entry::find(&trace)?;
    let candidate = Candidate {
        id: trace.id(),
        service: trace.service_of(entry.span),
        span: trace.span(entry.span)?,
        duration: 0,
        has_error: false,
        has_root: entry.has_root,
        is_fragment: true,
    };
    let judgement = decider.judge(0, &candidate, Shape::Known { shape: 0, is_sampled: false });
    let Judgement::Decided(judged) = judgement else { return None };
    let (route, route_name) = (judged.route, decider.route_name(judged.route));
    Some(Found { entry: entry.span, has_root: entry.has_root, trace, route, route_name })
}

/// How many traces there are of each route.
pub(super) fn routes(traces: &[Found]) -> BTreeMap<&str, usize> {
    let mut routes = BTreeMap::new();
    for trace in traces {
        *routes.entry(trace.route_name.as_str()).or_default() += 1;
    }
    routes
}
