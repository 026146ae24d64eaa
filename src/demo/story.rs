//! The demonstration from its first line to its last.

use std::io::{self, Write};

use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

use super::counts::{Counts, Spans};
use super::finding::Finding;
use super::http;
use super::traffic::{ADDED, CULPRIT, Export, INSTANCES, REQUEST_INTERVAL, Traffic};
use crate::app::{Addresses, Clock};
use crate::assemble::Trace;
use crate::otlp::Nanos;
use crate::otlp::codec::Body;
use crate::otlp::services::opentelemetry::proto::collector::trace::v1::trace_service_client::TraceServiceClient;
use crate::simulate::system::System;

const SECOND: Nanos = 1_000_000_000;

/// From one look at what is due to the next.
const TICK: Nanos = SECOND / 20;

/// When the pre-processor turns slow: the thresholds are learned by then, and references are there.
const SLOW_FROM: Nanos = 8 * SECOND;

/// When the story ends, if a trace has named somebody.
const ENOUGH: Nanos = 14 * SECOND;

/// So long the sidecar may take to decide and send what is left: a wait for a root, a batch, and far more than either.
const SETTLING: Nanos = 5 * SECOND;

/// When it ends without.
const TOO_LONG: Nanos = 30 * SECOND;

const SEED: u64 = 0x001a_66a2d;

/// Everything that the story needs to be told.
pub(super) struct Story<'a> {
    out: &'a mut dyn Write,
    colour: bool,
    clock: Clock,
    started: Nanos,
    sidecar: Addresses,
    traffic: Traffic<'a>,
    arrived: mpsc::Receiver<Vec<Trace>>,
    findings: Findings,
}

/// What came out enriched.
#[derive(Default)]
struct Findings {
    count: usize,
    /// Those that name the pre-processor.
    right: usize,
    /// The trace to show.
    shown: Option<(Trace, Finding)>,
}

impl Findings {
    /// Takes a trace to be shown, if it is the first or more to look at than the one before: it names the right service,
    /// and it went through all three.
    fn offer(&mut self, trace: Trace, finding: Finding) {
        let worth = |trace: &Trace, finding: &Finding| {
            (finding.service() == Some(CULPRIT), finding.entry_name(trace) == b"inference-span")
        };
        if self.shown.as_ref().is_none_or(|(held, of_held)| worth(&trace, &finding) > worth(held, of_held)) {
            self.shown = Some((trace, finding));
        }
    }
}

impl<'a> Story<'a> {
    pub(super) fn new(
        out: &'a mut dyn Write,
        colour: bool,
        clock: Clock,
        sidecar: Addresses,
        system: &'a System,
        arrived: mpsc::Receiver<Vec<Trace>>,
    ) -> Self {
        let started = clock.now();
        let traffic = Traffic::new(system, SEED, started, started + SLOW_FROM);
        Self { out, colour, clock, started, sidecar, traffic, arrived, findings: Findings::default() }
    }

    /// Tells it, and returns whether the pre-processor was named.
    pub(super) async fn tell(&mut self) -> anyhow::Result<bool> {
        let Addresses { grpc, http, admin } = self.sidecar;
        let rate = SECOND / REQUEST_INTERVAL;
        self.say(&format!("laggard listens on {grpc} (gRPC) and {http} (HTTP)"))?;
        self.say(&format!("its metrics are on http://{admin}/metrics"))?;
        self.say(&format!("the services answer {rate} requests a second, all of them fast"))?;

        let mut client =
            TraceServiceClient::new(Endpoint::from_shared(format!("http://{grpc}"))?.connect().await?);
        let mut next_report = SECOND;
        let mut turned_slow = false;
        loop {
            let elapsed = self.clock.now().saturating_sub(self.started);
            if elapsed >= TOO_LONG || (elapsed >= ENOUGH && self.findings.shown.is_some()) {
                break;
            }
            if elapsed >= SLOW_FROM && !turned_slow {
                turned_slow = true;
                let added = ADDED / 1_000_000;
                self.say(&format!("one of {INSTANCES} instances of {CULPRIT} turns slow: {added} ms more"))?;
            }
            for export in self.traffic.until(self.started + elapsed) {
                self.send(&mut client, export).await?;
            }
            self.take_what_arrived()?;
            if elapsed >= next_report {
                next_report += SECOND;
                self.report().await?;
            }
            self.clock.wait_until(self.started + elapsed + TICK).await;
        }
        self.conclude().await
    }

    /// web-server and inference-server speak gRPC, the pre-processor HTTP.
    async fn send(&self, client: &mut TraceServiceClient<Channel>, export: Export<'_>) -> anyhow::Result<()> {
        if export.service == CULPRIT {
            return http::post_spans(self.sidecar.http, export.request).await;
        }
        client.export(Body(export.request.into())).await?;
        Ok(())
    }

    fn take_what_arrived(&mut self) -> io::Result<()> {
        while let Ok(traces) = self.arrived.try_recv() {
            for trace in traces {
                let Some(finding) = Finding::of(&trace) else { continue };
                self.findings.count += 1;
                if self.findings.count == 1 {
                    let service = finding.service().unwrap_or("nobody").to_owned();
                    self.say(&format!("the backend receives the first slow trace; it names {service}"))?;
                }
                if finding.service() == Some(CULPRIT) {
                    self.findings.right += 1;
                }
                self.findings.offer(trace, finding);
            }
        }
        Ok(())
    }

    async fn counts(&self) -> anyhow::Result<Counts> {
        Ok(Counts::of(&http::get_text(self.sidecar.admin, "/metrics").await?))
    }

    /// Once the services have stopped: when all is decided and sent, for figures read before that are none of one moment.
    async fn settled(&mut self) -> anyhow::Result<Counts> {
        let until = self.clock.now() + SETTLING;
        loop {
            self.take_what_arrived()?;
            let counts = self.counts().await?;
            if counts.spans.are_settled() || self.clock.now() >= until {
                return Ok(counts);
            }
            self.clock.wait_until(self.clock.now() + TICK).await;
        }
    }

    async fn report(&mut self) -> anyhow::Result<()> {
        let counts = self.counts().await?;
        let (learned, routes) = (counts.routes_learned, counts.routes_learned + counts.routes_learning);
        self.say(&format!(
            "{} traces: {} kept, {} dropped, {} undecided; {learned} of {routes} routes learned",
            counts.seen(),
            counts.kept(),
            counts.dropped,
            counts.held,
        ))?;
        Ok(())
    }

    async fn conclude(&mut self) -> anyhow::Result<bool> {
        let counts = self.settled().await?;
        writeln!(self.out)?;
        let Some((trace, finding)) = self.findings.shown.take() else {
            writeln!(self.out, "No slow trace arrived with a verdict. This is a bug; please report it.")?;
            return Ok(false);
        };
        finding.show(&trace, self.out, self.colour)?;
        writeln!(
            self.out,
            "\nOf {} traces, {} were kept as slow, {} while laggard learned, {} as a sample of\n\
             the rest; {} were dropped.",
            counts.seen(),
            counts.slow,
            counts.learning,
            counts.sampled,
            counts.dropped
        )?;
        let Spans { accepted, sent, dropped, held, queued } = counts.spans;
        writeln!(
            self.out,
            "Of {accepted} spans, {sent} were sent, {dropped} dropped, {held} are held, {queued} queued."
        )?;
        let Findings { count, right, .. } = self.findings;
        writeln!(self.out, "{right} of {count} verdicts name {CULPRIT}.")?;
        self.out.flush()?;
        Ok(finding.service() == Some(CULPRIT))
    }

    /// One line with the time, at once.
    fn say(&mut self, line: &str) -> io::Result<()> {
        let elapsed = self.clock.now().saturating_sub(self.started);
        writeln!(self.out, "{:>2}.{} s  {line}", elapsed / SECOND, elapsed % SECOND / (SECOND / 10))?;
        self.out.flush()
    }
}
