//! `/`: one page for people. It tells what the other pages are, who costs most time, what was said last, and what is
//! known of the routes. It needs nothing but itself: no script, no file of anybody else's.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::pages::{basis, milliseconds, moment};
use crate::compare::Outcome;
use crate::compare::explain::time;
use crate::compare_files::page::escape::Escaped;
use crate::pipeline::{Pipeline, RecentVerdict, RouteNow};

/// What is shown of each, at most.
const VERDICTS: usize = 20;
const SERVICES: usize = 20;
const ROUTES: usize = 100;

const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Laggard</title>\n\
<style>body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em;color:#222;background:#fff}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.2em .8em .2em 0;border-bottom:1px solid #ddd;\
vertical-align:top;overflow-wrap:anywhere}td.n,th.n{text-align:right;white-space:nowrap}code{font-size:13px}</style></head><body>\n";

const PAGES: [(&str, &str); 5] = [
    ("/routes", "thresholds, references and shapes of each route, as JSON"),
    ("/verdicts", "the last 50 verdicts, as JSON"),
    ("/metrics", "counters and gauges, as Prometheus text"),
    ("/live", "whether the process runs"),
    ("/ready", "whether senders should send to it"),
];

/// The page as it stands now.
pub(super) fn index(pipeline: &Pipeline, is_ready: bool) -> String {
    let mut page = HEAD.to_owned();
    // Writing to a string does not fail.
    let _ = write(&mut page, pipeline, is_ready);
    page
}

fn write(page: &mut String, pipeline: &Pipeline, is_ready: bool) -> fmt::Result {
    let state = if is_ready { "ready" } else { "not ready" };
    writeln!(page, "<h1>Laggard {}: {state}</h1>\n<ul>", env!("CARGO_PKG_VERSION"))?;
    for (path, what) in PAGES {
        writeln!(page, "<li><a href=\"{path}\"><code>{path}</code></a>: {what}</li>")?;
    }
    writeln!(
        page,
        "<li><code>/explain/TRACE_ID</code>: why a recent trace was slow or not, kept or dropped, and what it was \
         compared with, as JSON</li>\n</ul>"
    )?;
    let verdicts = pipeline.verdicts(usize::MAX);
    services(page, &verdicts)?;
    latest(page, &verdicts)?;
    routes(page, pipeline.routes())?;
    page.write_str("</body></html>\n")
}

/// Who was named in the verdicts that are remembered, and what that cost.
fn services(page: &mut String, verdicts: &[RecentVerdict]) -> fmt::Result {
    let mut named: BTreeMap<&str, (f64, u64)> = BTreeMap::new();
    for verdict in verdicts {
        if let Outcome::Identified(culprit) = &verdict.analysis.verdict.outcome {
            let (delta_ms, traces) = named.entry(&culprit.service).or_default();
            *delta_ms += culprit.delta_ms;
            *traces += 1;
        }
    }
    let mut named: Vec<_> = named.into_iter().collect();
    named.sort_by(|(_, (one, _)), (_, (other, _))| other.total_cmp(one));
    let inconclusive = verdicts.len() as u64 - named.iter().map(|(_, (_, traces))| traces).sum::<u64>();
    writeln!(page, "<h2>Who costs most time</h2>")?;
    let Some(oldest) = verdicts.last() else {
        return writeln!(page, "<p>No trace was slow so far, or none is remembered.</p>");
    };
    writeln!(
        page,
        "<p>In the last {} verdicts, since {}; {inconclusive} of them name nobody.</p>\n\
         <table><tr><th>service</th><th class=\"n\">added, ms</th><th class=\"n\">traces</th></tr>",
        verdicts.len(),
        moment(oldest.at)
    )?;
    for (service, (delta_ms, traces)) in named.into_iter().take(SERVICES) {
        let service = Escaped(service);
        writeln!(
            page,
            "<tr><td>{service}</td><td class=\"n\">{delta_ms:.0}</td><td class=\"n\">{traces}</td></tr>"
        )?;
    }
    writeln!(page, "</table>")
}

fn latest(page: &mut String, verdicts: &[RecentVerdict]) -> fmt::Result {
    if verdicts.is_empty() {
        return Ok(());
    }
    writeln!(
        page,
        "<h2>The last verdicts</h2>\n<table><tr><th>decided</th><th>trace</th><th>route</th>\
         <th class=\"n\">took</th><th>verdict</th></tr>"
    )?;
    for RecentVerdict { at, route, analysis } in verdicts.iter().take(VERDICTS) {
        let verdict = &analysis.verdict;
        let said = match &verdict.outcome {
            Outcome::Identified(culprit) => format!("{}, {}", culprit.service, culprit.category.as_str()),
            Outcome::Inconclusive(reason) => format!("inconclusive: {}", reason.as_str()),
        };
        writeln!(
            page,
            "<tr><td>{}</td><td><a href=\"/explain/{id}\"><code>{id}</code></a></td><td>{}</td>\
             <td class=\"n\">{}</td><td><b>{}</b><br>{}</td></tr>",
            moment(*at),
            Escaped(route),
            time(verdict.duration),
            Escaped(&said),
            Escaped(&verdict.explanation),
            id = analysis.id,
        )?;
    }
    writeln!(page, "</table>")
}

/// The busiest ones.
fn routes(page: &mut String, mut routes: Vec<RouteNow>) -> fmt::Result {
    let all = routes.len();
    routes.sort_by_key(|route| std::cmp::Reverse(route.report.traces));
    routes.truncate(ROUTES);
    writeln!(page, "<h2>Routes</h2>")?;
    if routes.is_empty() {
        return writeln!(page, "<p>No trace was decided so far.</p>");
    }
    writeln!(
        page,
        "<p>{} of {all}, by traces.</p>\n<table><tr><th>route</th><th class=\"n\">traces</th>\
         <th class=\"n\">slow above, ms</th><th>from</th><th class=\"n\">references</th></tr>",
        routes.len()
    )?;
    for RouteNow { report, references } in &routes {
        let threshold =
            report.threshold.map_or_else(String::new, |nanos| format!("{:.1}", milliseconds(nanos)));
        writeln!(
            page,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{threshold}</td><td>{}</td>\
             <td class=\"n\">{references}</td></tr>",
            Escaped(&report.name),
            report.traces,
            basis(report.basis),
        )?;
    }
    writeln!(page, "</table>")
}

#[cfg(test)]
mod tests {
    use super::super::pages::testing::{pipeline, pipeline_with_a_slow_trace};
    use super::*;

    #[test]
    fn it_names_every_page_and_is_whole_without_any_traffic() {
        let page = index(&pipeline(), false);
        for (path, _) in PAGES {
            assert!(page.contains(&format!("href=\"{path}\"")), "{path}");
        }
        assert!(
            page.contains("not ready") && page.contains("No trace was slow") && page.ends_with("</html>\n")
        );
        for outside in ["http://", "https://", "<script", "src=", "@import"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn it_tells_who_costs_time_what_was_said_and_what_is_known_of_routes() {
        let (pipeline, slow) = pipeline_with_a_slow_trace();
        let page = index(&pipeline, true);
        assert!(
            page.contains("<tr><td>db</td><td class=\"n\">1000</td><td class=\"n\">1</td></tr>"),
            "{page}"
        );
        assert!(page.contains(&format!("href=\"/explain/{slow}\"")));
        assert!(page.contains("<b>db, own_time</b>"));
        assert!(page.contains("<tr><td>web web call</td><td class=\"n\">61</td>"), "{page}");
        assert!(!page.contains("someone@example.org"));
    }

    #[test]
    fn names_are_text_and_no_markup() {
        let mut page = String::new();
        let (pipeline, _) = pipeline_with_a_slow_trace();
        let mut verdicts = pipeline.verdicts(1);
        let evil = "<script>alert('x')</script>\"&";
        verdicts[0].route = evil.to_owned();
        verdicts[0].analysis.verdict.explanation = evil.to_owned();
        if let Outcome::Identified(culprit) = &mut verdicts[0].analysis.verdict.outcome {
            culprit.service = evil.to_owned();
        }
        let mut known = pipeline.routes();
        known[0].report.name = evil.to_owned();
        services(&mut page, &verdicts).expect("a string");
        latest(&mut page, &verdicts).expect("a string");
        routes(&mut page, known).expect("a string");
        assert_eq!(page.matches("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;").count(), 5);
        assert!(!page.contains("<script"));
    }
}
