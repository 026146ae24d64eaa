//! The traces in a file: OTLP/JSON in any of its shapes, or OTLP protobuf; which one, the content tells.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use crate::assemble::Trace;
use crate::cli::Failure;
use crate::decide::{Candidate, Decider, Judgement, RouteId, Shape, entry};
use crate::input;
use crate::otlp::json;

/// A larger file, decompressed, is no trace that anyone looks at; in bytes.
const LARGEST: u64 = 1 << 30;

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

    /// Whether the request failed.
    pub(super) fn has_error(&self) -> bool {
        self.trace.span(self.entry).is_some_and(|span| span.head.is_error)
    }

    /// The names of its services, ordered.
    pub(super) fn services(&self) -> Vec<String> {
        let names = (0..self.trace.len()).map(|span| self.trace.service_of(span));
        let names: std::collections::BTreeSet<&[u8]> = names.collect();
        names.into_iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }
}

/// Every trace of a file, by trace id.
///
/// # Errors
/// [`Failure::Input`] when it cannot be read, is of no known format, or holds no span.
pub(super) fn read(path: &Path, decider: &Decider) -> Result<Vec<Found>, Failure> {
    let wrong = |problem: &str| Failure::Input(format!("{}: {problem}", path.display()));
    let mut content = Vec::new();
    let opened = input::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut content));
    opened.map_err(|error| Failure::Input(format!("{} cannot be read: {error}", path.display())))?;
    if content.len() as u64 > LARGEST {
        return Err(wrong("larger than 1 GiB"));
    }
    let request = if content.trim_ascii_start().first() == Some(&b'{') {
        from_json(&content).map_err(|problem| wrong(&problem))?
    } else {
        content
    };
    let traces = Trace::all_in(&request)
        .map_err(|_| wrong("neither OTLP/JSON nor OTLP protobuf"))?
        .into_iter()
        .filter_map(|trace| found(trace, decider));
    let traces: Vec<Found> = traces.collect();
    if traces.is_empty() {
        return Err(wrong("holds no span with valid ids"));
    }
    Ok(traces)
}

/// One request, or one a line. Requests are put together by appending them, so the spans of a trace meet.
fn from_json(content: &[u8]) -> Result<Vec<u8>, String> {
    let whole = match json::to_protobuf(content) {
        Ok(decoded) => return Ok(decoded.request),
        Err(error) => error,
    };
    let mut all = Vec::new();
    let lines = content.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    for (number, line) in lines.enumerate() {
        match json::to_protobuf(line) {
            Ok(decoded) => all.extend_from_slice(&decoded.request),
            // A single document over many lines: what is wrong with the whole says more.
            Err(_) if number == 0 => return Err(whole.to_string()),
            Err(error) => return Err(format!("request {}: {error}", number + 1)),
        }
    }
    Ok(all)
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
