//! The answer as a page: one file that loads nothing, runs nothing, and reads well on paper, on a phone and aloud.

pub(crate) mod escape;
mod lanes;

use std::io::{self, Write};

use super::Comparison;
use super::report::{Report, Row, footnote};
use crate::compare::explain::{milliseconds, time};
use crate::compare::{Culprit, Outcome};
use escape::Escaped;

const STYLE: &str = include_str!("page/style.css");

/// Nothing may be loaded or run, whatever a span is called.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// Writes the page.
pub(super) fn write(report: &Report<'_>, warnings: &[String], out: &mut dyn Write) -> io::Result<()> {
    let headline = report.headline();
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{} - laggard compare</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#waterfall\">Skip to the waterfall</a>\n<main>\n",
        Escaped(&headline)
    )?;
    write_verdict(report, warnings, out)?;
    write_traces(report, out)?;
    write_services(report, out)?;
    lanes::write(report, out)?;
    writeln!(
        out,
        "</main>\n<footer>Written by laggard {}. Times are those of the spans; nothing on this page is loaded from \
         anywhere.</footer>\n</body>\n</html>",
        env!("CARGO_PKG_VERSION")
    )
}

fn write_verdict(report: &Report<'_>, warnings: &[String], out: &mut dyn Write) -> io::Result<()> {
    let Comparison { verdict, .. } = report.comparison;
    writeln!(out, "<header>\n<p class=\"route\"><bdi>{}</bdi></p>", Escaped(&report.slow.route_name))?;
    match &verdict.outcome {
        Outcome::Identified(culprit) => {
            let service = Escaped(&culprit.service);
            writeln!(out, "<h1><strong><bdi>{service}</bdi></strong> made it slow</h1>")?;
        }
        Outcome::Inconclusive(reason) => {
            let reason = reason.as_str().replace('_', " ");
            writeln!(out, "<h1>Inconclusive: {}</h1>", Escaped(&reason))?;
        }
    }
    writeln!(out, "<p class=\"why\"><bdi>{}</bdi></p>", with_arrows(&verdict.explanation))?;
    for warning in warnings.iter().filter(|warning| **warning != verdict.explanation) {
        writeln!(out, "<p class=\"warning\"><strong>Note:</strong> <bdi>{}</bdi></p>", Escaped(warning))?;
    }
    if let Outcome::Identified(culprit) = &verdict.outcome {
        write_facts(report, culprit, out)?;
    }
    writeln!(out, "</header>")
}

fn write_facts(report: &Report<'_>, culprit: &Culprit, out: &mut dyn Write) -> io::Result<()> {
    let Comparison { verdict, fast, .. } = report.comparison;
    let added = verdict.duration.saturating_sub(fast.ledger.duration);
    let share = format!("{:.1}% of +{}", culprit.share * 100.0, time(added));
    let kind = culprit.category.as_str().replace('_', " ");
    let facts = [
        ("It added", Some(format!("+{}", milliseconds(culprit.delta_ms)))),
        ("That is", Some(share)),
        ("How", Some(kind)),
        ("Confidence", Some(format!("{:.2}", culprit.confidence))),
        ("In", Some(culprit.operation.clone())),
        ("Between", culprit.phase.clone()),
        ("Waiting for", culprit.dependency.clone()),
        ("On", culprit.instance.clone()),
    ];
    writeln!(out, "<dl class=\"facts\">")?;
    for (term, fact) in facts.into_iter().filter_map(|(term, fact)| Some((term, fact?))) {
        writeln!(out, "<div><dt>{term}</dt><dd><bdi>{}</bdi></dd></div>", with_arrows(&fact))?;
    }
    writeln!(out, "</dl>")
}

/// Escaped, and an arrow is one character, which no line break can divide.
fn with_arrows(text: &str) -> String {
    Escaped(text).to_string().replace(" -&gt; ", " &rarr; ")
}

/// Which two traces these are, as bars of one scale.
fn write_traces(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Comparison { verdict, fast, fast_id, .. } = report.comparison;
    let (fast, slow) = (fast.ledger.duration, verdict.duration);
    let count = verdict.baseline.as_ref().map_or(1, |reference| reference.count);
    let of = if count > 1 { format!(" (the middle one of {count})") } else { String::new() };
    writeln!(out, "<section class=\"traces\" aria-label=\"The two traces\">")?;
    for (class, name, duration, id) in [
        ("fast", format!("Fast{of}"), fast, fast_id.to_string()),
        ("slow", "Slow".to_owned(), slow, report.slow.trace.id().to_string()),
    ] {
        let width = duration as f64 * 100.0 / fast.max(slow).max(1) as f64;
        writeln!(
            out,
            "<p class=\"{class}\"><span class=\"label\">{name} <b>{}</b></span> <code>{id}</code>\
             <span class=\"bar\"><i style=\"width:{width:.2}%\"></i></span></p>",
            time(duration)
        )?;
    }
    writeln!(out, "</section>")
}

fn write_services(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "<section>\n<h2>Time by service</h2>\n<p class=\"hint\">Time that the request really waited for each service, \
         and for the calls that it is to blame for: every column adds up to its trace's duration.</p>\n<table class=\"services\">\n<thead><tr>\
         <th scope=\"col\">Service</th><th scope=\"col\">Fast, ms</th><th scope=\"col\">Slow, ms</th>\
         <th scope=\"col\">Added, ms</th><th scope=\"col\">Share of added</th></tr></thead>\n<tbody>"
    )?;
    let rows = report.rows();
    for row in &rows {
        let Row { service, fast_ms, slow_ms, added_ms, share, .. } = row;
        let mark = if row.is_moved() { " *" } else { "" };
        let percent = share * 100.0;
        let said = if report.is_slower() { format!("{percent:.1}%") } else { "-".to_owned() };
        writeln!(
            out,
            "<tr><th scope=\"row\"><bdi>{}</bdi>{mark}</th><td>{fast_ms:.3}</td><td>{slow_ms:.3}</td><td>{added_ms:+.3}</td>\
             <td class=\"share\"><i style=\"width:{percent:.1}%\" aria-hidden=\"true\"></i><span>{said}</span></td></tr>",
            Escaped(service)
        )?;
    }
    writeln!(out, "</tbody>\n</table>")?;
    if let Some(note) = footnote(&rows) {
        writeln!(out, "<p class=\"hint\"><bdi>{}</bdi></p>", Escaped(&note))?;
    }
    writeln!(out, "</section>")
}
