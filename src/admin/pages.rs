//! What the JSON pages say.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::assemble::{Decision, Kept};
use crate::compare::explain::{time, times};
use crate::compare::record::Record;
use crate::decide::{Basis, Judged, RouteId, ShapeReport};
use crate::otlp::{Nanos, TraceId};
use crate::pipeline::{Explained, Pipeline, RecentDecision, RecentVerdict, RouteNow};
use crate::telemetry::metrics::{Decided, Labels};

/// Verdicts on `/verdicts`.
const VERDICTS: usize = 50;

/// `/routes`: an object for each route, by name.
pub(super) fn routes(pipeline: &Pipeline) -> Value {
    pipeline.routes().iter().map(route).collect()
}

fn route(RouteNow { report, references }: &RouteNow) -> Value {
    json!({
        "route": report.name,
        "kind": report.kind,
        "state": if report.basis == Basis::Learning { "learning" } else { "learned" },
        "threshold_ms": report.threshold.map(milliseconds),
        "threshold_from": basis(report.basis),
        "traces": report.traces,
        "references": references,
        "shapes": report.shapes.iter().map(shape).collect::<Value>(),
    })
}

fn shape(shape: &ShapeReport) -> Value {
    json!({
        "shape": format!("{:016x}", shape.shape),
        "traces": shape.traces,
        "share": (shape.share * 1000.0).round() / 1000.0,
        "threshold_ms": shape.threshold.map(milliseconds),
        "judged_by": if shape.is_judged_by_own { "shape" } else { "route" },
    })
}

/// `/verdicts`: an object for each of the last verdicts, the newest first.
pub(super) fn verdicts(pipeline: &Pipeline) -> Value {
    pipeline.verdicts(VERDICTS).iter().map(verdict).collect()
}

fn verdict(RecentVerdict { at, route, analysis }: &RecentVerdict) -> Value {
    let record = Record::of(analysis.id, route, &analysis.verdict);
    let mut page = serde_json::to_value(record).unwrap_or_default();
    if let Some(object) = page.as_object_mut() {
        object.insert("decided_at".to_owned(), moment(*at).into());
    }
    page
}

/// `/explain/TRACE_ID`: what was decided for a trace, and why, or that it is still held; `None` when neither is known.
/// Whether what was kept has reached the destination is not known of single traces.
pub(super) fn explain(pipeline: &Pipeline, id: TraceId) -> Option<Value> {
    let Some(explained) = pipeline.explain(id) else { return held(pipeline, id) };
    let Explained { decision, verdict: found, is_forwarded_as_reference } = explained;
    let copied = if is_forwarded_as_reference {
        "; a copy of it was forwarded, because a verdict points to it"
    } else {
        ""
    };
    let mut page = json!({
        "trace_id": id.to_string(),
        "decision": decision.decided.as_str(),
        "is_kept": decision.decision != Decision::Dropped,
        // The copy stands outside the sample, and the decision stands.
        "is_forwarded_as_reference": is_forwarded_as_reference,
        "why": why(&decision) + copied,
        "decided_at": moment(decision.at),
        "trigger": decision.trigger.as_str(),
        "spans": decision.spans,
    });
    let object = page.as_object_mut()?;
    if let Some(judged) = &decision.judged {
        object.insert("route".to_owned(), pipeline.route_name(judged.route).into());
        object.insert("duration_ms".to_owned(), milliseconds(judged.duration).into());
        object.insert("threshold_ms".to_owned(), judged.threshold.map(milliseconds).into());
        object.insert("threshold_from".to_owned(), basis(judged.basis).into());
        object.insert("has_root".to_owned(), judged.has_root.into());
        // Of those, one a second for each route and shape is taken.
        object.insert("is_fit_as_reference".to_owned(), judged.is_reference.into());
        object.insert("shape".to_owned(), judged.shape.map(|shape| format!("{shape:016x}")).into());
    }
    if let Decision::Kept(Kept { stamp: Some(stamp), .. }) = decision.decision {
        object.insert("stands_for_traces".to_owned(), stands_for(stamp.threshold).into());
    }
    if let Some(found) = &found {
        object.insert("compared".to_owned(), verdict(found));
    }
    Some(page)
}

/// How many traces there were for each that was kept, to a millionth: shares are no powers of two.
fn stands_for(threshold: u64) -> f64 {
    // Of 2^56 traces, those from the threshold on are kept.
    let kept = ((1_u64 << 56) - threshold.min((1 << 56) - 1)) as f64;
    ((1_u64 << 56) as f64 / kept * 1e6).round() / 1e6
}

fn held(pipeline: &Pipeline, id: TraceId) -> Option<Value> {
    let held = pipeline.find_held(id)?;
    let (since, root) = (moment(held.since), if held.has_root { "is" } else { "is not" });
    Some(json!({
        "trace_id": id.to_string(),
        "decision": "held",
        "why": format!("not decided yet: its first span came at {since}, and its root {root} among those that have come"),
        "held_since": since,
        "spans": held.spans,
        "has_root": held.has_root,
    }))
}

/// One sentence.
fn why(decision: &RecentDecision) -> String {
    let Some(judged) = &decision.judged else { return "kept: it has no span to be judged by".to_owned() };
    let compared = compared(judged);
    let sample = match judged.decided {
        Decided::Error => "an error, and not in the sample of errors",
        _ => "not in the sample",
    };
    match decision.decided {
        Decided::Slow => format!("kept: slow, {compared}"),
        Decided::Error => format!("kept: an error; {compared}"),
        Decided::Learning => format!("kept: {compared}"),
        Decided::Healthy => format!("kept: in the sample; not slow, {compared}"),
        Decided::Dropped if decision.decision != Decision::Dropped => {
            format!("kept by a dry run only: {sample}; {compared}")
        }
        Decided::Dropped => format!("dropped: {sample}; {compared}"),
    }
}

fn compared(judged: &Judged) -> String {
    let what =
        if judged.has_root { "its entry span took" } else { "without the times of a root, its spans took" };
    let Some(threshold) = judged.threshold else {
        let took = format!("{what} {}", time(judged.duration));
        return match judged.basis {
            Basis::Ignored => format!("{took}, and slow.routes says that its route is never slow"),
            Basis::Stream => format!("{took}, and it is a stream or a long poll, which is never slow"),
            _ => format!("{took}, and the threshold of its route is not learned yet"),
        };
    };
    let from = match judged.basis {
        Basis::Fixed => "as configured",
        _ if judged.route == RouteId::OTHER => "learned from all routes that there is no place for",
        Basis::Shape => "learned from traces of its shape",
        _ => "learned from traces of its route",
    };
    let relation = if judged.duration > threshold { "more" } else { "not more" };
    let (took, threshold) = times(judged.duration, threshold);
    format!("{what} {took}, {relation} than {threshold}, {from}")
}

pub(super) fn basis(basis: Basis) -> &'static str {
    match basis {
        Basis::Ignored => "ignored",
        Basis::Stream => "stream",
        Basis::Fixed => "configuration",
        Basis::Route => "route",
        Basis::Shape => "shape",
        Basis::Learning => "learning",
    }
}

pub(super) fn milliseconds(nanos: Nanos) -> f64 {
    nanos as f64 / 1e6
}

pub(super) fn moment(unix: Nanos) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_nanos(unix)).to_string()
}

#[cfg(test)]
pub(super) mod testing {
    use std::sync::Arc;

    use super::*;
    use crate::config::Config;
    use crate::otlp::batch::Batch;
    use crate::otlp::wire::{put_bytes, put_fixed64, put_uint};
    use crate::pipeline::Limits;
    use crate::telemetry::metrics::Metrics;

    pub(super) const SECOND: Nanos = 1_000_000_000;

    pub(in crate::admin) fn pipeline() -> Pipeline {
        configured(|config| config.sample.healthy = 0.5)
    }

    pub(super) fn configured(set: impl Fn(&mut Config)) -> Pipeline {
        let mut config = Config::default();
        set(&mut config);
        let metrics = Arc::new(Metrics::default());
        Pipeline::new(&config, Limits { held: 1 << 30, baseline: 1 << 20, tables: 1 << 20 }, 1, metrics)
    }

    pub(in crate::admin) fn pipeline_with_a_slow_trace() -> (Pipeline, TraceId) {
        let pipeline = pipeline();
        let slow = accept_a_slow_trace(&pipeline);
        (pipeline, slow)
    }

    /// `web` asks `db`; 60 traces of 100 ms, then one in which `db` takes a second longer.
    pub(super) fn accept_a_slow_trace(pipeline: &Pipeline) -> TraceId {
        for number in 0..61 {
            let start = (1_000 + number) * SECOND;
            let end = start + SECOND / 10 + if number == 60 { SECOND } else { 0 };
            let mut request = resource("web", number, &[(1, 0, 2, start, end), (2, 1, 3, start + 1, end)]);
            request.extend(resource("db", number, &[(3, 2, 2, start + 2, end - 1)]));
            let mut batch = Batch::default();
            batch.read(&request).expect("valid");
            pipeline.accept(start, &batch, &request, &mut |_| {}).expect("there is room");
            pipeline.decide_due(start + 11 * SECOND, &mut |_| {});
        }
        id(60)
    }

    pub(super) fn id(number: u64) -> TraceId {
        let low = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        TraceId::from_slice(&[[7; 8], low.to_be_bytes()].concat()).expect("not zero")
    }

    pub(super) fn resource(service: &str, trace: u64, spans: &[(u8, u8, u64, Nanos, Nanos)]) -> Vec<u8> {
        let attribute = |key: &str, value: &str| {
            let (mut any, mut out) = (Vec::new(), Vec::new());
            put_bytes(&mut any, 1, value.as_bytes());
            put_bytes(&mut out, 1, key.as_bytes());
            put_bytes(&mut out, 2, &any);
            out
        };
        let (mut resource, mut scope) = (Vec::new(), Vec::new());
        put_bytes(&mut resource, 1, &attribute("service.name", service));
        for (span, parent, kind, start, end) in spans {
            let mut body = Vec::new();
            put_bytes(&mut body, 1, id(trace).bytes());
            put_bytes(&mut body, 2, &[*span; 8]);
            if *parent > 0 {
                put_bytes(&mut body, 4, &[*parent; 8]);
            }
            put_bytes(&mut body, 5, format!("{service} call").as_bytes());
            put_uint(&mut body, 6, *kind);
            put_fixed64(&mut body, 7, *start);
            put_fixed64(&mut body, 8, *end);
            put_bytes(&mut body, 9, &attribute("user.email", "someone@example.org"));
            put_bytes(&mut scope, 2, &body);
        }
        let (mut message, mut out) = (Vec::new(), Vec::new());
        put_bytes(&mut message, 1, &resource);
        put_bytes(&mut message, 2, &scope);
        put_bytes(&mut out, 1, &message);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{
        SECOND, accept_a_slow_trace, configured, id, pipeline, pipeline_with_a_slow_trace, resource,
    };
    use super::*;
    use crate::config::Threshold;
    use crate::decide::RouteId;
    use crate::otlp::batch::Batch;
    use crate::telemetry::metrics::{Class, Trigger};

    #[test]
    fn a_route_tells_its_threshold_its_shapes_and_its_references() {
        assert_eq!(routes(&pipeline()), json!([]));
        let (pipeline, _) = pipeline_with_a_slow_trace();
        let page = routes(&pipeline);
        let route = &page[0];
        assert_eq!((&route["state"], &route["threshold_from"]), (&"learned".into(), &"route".into()));
        assert!((110.0..130.0).contains(&route["threshold_ms"].as_f64().expect("known")), "{page}");
        assert_eq!(route["traces"], 61);
        assert!(route["references"].as_u64() > Some(10), "{page}");
        let shape = &route["shapes"][0];
        assert_eq!((&shape["judged_by"], &shape["share"]), (&"route".into(), &1.0.into()), "{page}");
    }

    #[test]
    fn a_slow_trace_is_explained_with_what_it_was_compared_with() {
        let (pipeline, slow) = pipeline_with_a_slow_trace();
        let page = explain(&pipeline, slow).expect("remembered");
        let why = page["why"].as_str().expect("a sentence");
        assert!(why.starts_with("kept: slow, its entry span took 1100 ms, more than 1"), "{why}");
        assert!(why.ends_with("ms, learned from traces of its route"), "{why}");
        assert_eq!((&page["is_kept"], &page["trigger"]), (&true.into(), &"root".into()));
        let compared = &page["compared"];
        assert_eq!((&compared["service"], &compared["verdict"]), (&"db".into(), &"identified".into()));
        assert!(compared["baseline"]["trace_id"].is_string(), "{page}");
        assert_eq!(verdicts(&pipeline)[0], *compared);
        assert!(page["decided_at"].as_str().is_some_and(|at| at.starts_with("1970-01-01T00:17")), "{page}");
    }

    #[test]
    fn kept_and_dropped_healthy_traces_are_explained_too() {
        let (pipeline, _) = pipeline_with_a_slow_trace();
        let pages: Vec<Value> =
            (0..60).map(|number| explain(&pipeline, id(number)).expect("remembered")).collect();
        let of =
            |decision: &str| pages.iter().filter(|page| page["decision"] == decision).collect::<Vec<_>>();
        let (learning, healthy, dropped) = (of("learning"), of("healthy"), of("dropped"));
        assert_eq!(learning.len(), 20);
        assert!(learning[0]["why"].as_str().is_some_and(|why| why.ends_with("is not learned yet")));
        let is_copied = |page: &Value| page["is_forwarded_as_reference"] == true;
        assert!(!pages.iter().any(is_copied), "the one that is cited was kept");
        assert_eq!(healthy[0]["stands_for_traces"], 2.0);
        assert!(dropped.len() > 10, "{}", dropped.len());
        assert_eq!(dropped[0]["is_kept"], false);
        let why = dropped[0]["why"].as_str().expect("a sentence");
        assert!(why.starts_with("dropped: not in the sample; its entry span took 100 ms, not more"), "{why}");
        assert!(explain(&pipeline, id(999)).is_none());
    }

    #[test]
    fn a_reference_that_a_verdict_points_to_was_dropped_and_its_copy_forwarded() {
        // Without learning no trace is kept for it, and with so small a share none by chance.
        let pipeline = configured(|config| {
            config.slow.threshold = Threshold::Fixed(Duration::from_millis(300));
            config.sample.healthy = 1e-9;
        });
        let slow = explain(&pipeline, accept_a_slow_trace(&pipeline)).expect("remembered");
        assert_eq!((&slow["is_kept"], &slow["is_forwarded_as_reference"]), (&true.into(), &false.into()));
        let cited = slow["compared"]["baseline"]["trace_id"].as_str().expect("compared").to_owned();
        let mut forwarded = Vec::new();
        for page in (0..60).map(|number| explain(&pipeline, id(number)).expect("remembered")) {
            assert_eq!((&page["decision"], &page["is_kept"]), (&"dropped".into(), &false.into()), "{page}");
            let why = page["why"].as_str().expect("a sentence");
            let is_told = why.ends_with("; a copy of it was forwarded, because a verdict points to it");
            assert_eq!(page["is_forwarded_as_reference"], is_told, "{page}");
            forwarded.extend(is_told.then(|| page["trace_id"].as_str().expect("text").to_owned()));
        }
        assert_eq!(forwarded, [cited]);
    }

    #[test]
    fn an_error_that_was_dropped_is_told_to_be_one() {
        let judged = Judged {
            decided: Decided::Error,
            route: RouteId::OTHER,
            duration: 5_000_000,
            has_root: true,
            threshold: Some(600_000_000),
            basis: Basis::Fixed,
            shape: None,
            is_notable: false,
            is_reference: false,
            is_sampled: false,
        };
        let dropped = RecentDecision {
            id: id(1),
            at: 0,
            trigger: Trigger::Root,
            spans: 1,
            decided: Decided::Dropped,
            decision: Decision::Dropped,
            judged: Some(judged),
        };
        let took = "its entry span took 5.000 ms, not more than 600 ms, as configured";
        assert_eq!(why(&dropped), format!("dropped: an error, and not in the sample of errors; {took}"));
        let learned = compared(&Judged { basis: Basis::Route, ..judged });
        assert!(learned.ends_with("600 ms, learned from all routes that there is no place for"), "{learned}");
        let kept = Decision::Kept(Kept { class: Class::Error, stamp: None });
        let kept = RecentDecision { decision: kept, ..dropped };
        let expected = format!("kept by a dry run only: an error, and not in the sample of errors; {took}");
        assert_eq!(why(&kept), expected);
    }

    #[test]
    fn what_is_barely_slow_reads_as_more_than_its_threshold() {
        let pipeline =
            configured(|config| config.slow.threshold = Threshold::Fixed(Duration::from_millis(300)));
        for (number, nanos, took) in [
            (1, 300_000_001, "300.000001 ms, more than 300.000000 ms"),
            (2, 300_400_000, "300.4 ms, more than 300.0 ms"),
            (3, 300_500_000, "300.5 ms, more than 300.0 ms"),
            (4, 300_000_000, "300 ms, not more than 300 ms"),
        ] {
            let request = resource("web", number, &[(1, 0, 2, SECOND, SECOND + nanos)]);
            let mut batch = Batch::default();
            batch.read(&request).expect("valid");
            pipeline.accept(SECOND, &batch, &request, &mut |_| {}).expect("there is room");
            pipeline.decide_due(20 * SECOND, &mut |_| {});
            let page = explain(&pipeline, id(number)).expect("remembered");
            let why = page["why"].as_str().expect("a sentence");
            assert!(why.ends_with(&format!("its entry span took {took}, as configured")), "{why}");
        }
    }

    #[test]
    fn a_share_stands_for_a_number_that_people_can_read() {
        for (threshold, expected) in
            [(0xf3_3333_3333_3333, "20"), (1 << 55, "2"), (0, "1"), (0xb3_3333_3333_3333, "3.333333")]
        {
            assert_eq!(stands_for(threshold).to_string(), expected, "{threshold:x}");
        }
    }

    #[test]
    fn a_trace_that_is_held_is_told_from_one_that_nobody_has_seen() {
        let (pipeline, _) = pipeline_with_a_slow_trace();
        let request = resource("web", 70, &[(2, 1, 3, 0, 1), (3, 1, 3, 0, 1)]);
        let mut batch = Batch::default();
        batch.read(&request).expect("valid");
        pipeline.accept(5_000 * SECOND, &batch, &request, &mut |_| {}).expect("there is room");
        let page = explain(&pipeline, id(70)).expect("held");
        assert_eq!((&page["decision"], &page["spans"]), (&"held".into(), &2.into()), "{page}");
        assert_eq!(page["held_since"], "1970-01-01T01:23:20.000Z", "{page}");
        let why = page["why"].as_str().expect("a sentence");
        assert!(why.ends_with("its root is not among those that have come"), "{why}");
        pipeline.decide_due(5_030 * SECOND, &mut |_| {});
        assert_ne!(explain(&pipeline, id(70)).expect("remembered")["decision"], "held");
        assert!(explain(&pipeline, id(71)).is_none());
    }

    #[test]
    fn pages_have_no_attribute_values() {
        let (pipeline, slow) = pipeline_with_a_slow_trace();
        let explained = explain(&pipeline, slow).expect("remembered");
        for page in [routes(&pipeline), verdicts(&pipeline), explained] {
            assert!(!page.to_string().contains("someone@example.org"), "{page}");
        }
    }
}
