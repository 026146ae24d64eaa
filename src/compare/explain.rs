//! The one sentence that says what was found, in numbers that both traces show.

use std::fmt::Write as _;

use super::analysis::Analysis;
use super::blame::Blamed;
use super::judge::{Evidence, Why};
use super::tree::Tree;
use super::{Category, Culprit, Reason};
use crate::baseline::floors;

/// No sentence is longer, in bytes.
pub(crate) const LONGEST: usize = 250;

/// Of smaller parts of the added time no sentence speaks.
const MATERIAL: u64 = 50;

/// Why this service.
pub(crate) fn identified(evidence: &Evidence<'_>, blamed: &Blamed, culprit: &Culprit) -> String {
    let linked = &evidence.references.linked;
    let (slow, fast) = (evidence.analysis.ledger.duration, linked.ledger.duration);
    let added = evidence.added();
    let mut text = String::with_capacity(LONGEST);
    let percent = if added == 0 { 0.0 } else { culprit.delta_ms * 1e8 / added as f64 };
    let _ = write!(
        text,
        "{} +{} of +{} ({percent:.1}%): ",
        culprit.service,
        milliseconds(culprit.delta_ms),
        time(added)
    );
    let (before, after) = times(blamed.fast, blamed.slow);
    let _ = write!(text, "{before} -> {after}");
    let displaced = displaced(evidence, blamed);
    if blamed.fast == 0 || displaced.is_some() {
        text.push_str(" of the critical path");
    }
    if let Some(other) = displaced {
        let _ = write!(
            text,
            " beside {} less of {}",
            time(u64::try_from(other.delta.unsigned_abs()).unwrap_or(u64::MAX)),
            other.name
        );
    }
    let _ = write!(text, ", mostly {} in \"{}\"", words(culprit.category), culprit.operation);
    if let Some(peer) = culprit.dependency.clone().or_else(|| called(evidence, blamed)) {
        let _ = write!(text, " on {peer}");
    }
    if let Some(phase) = &culprit.phase {
        let _ = write!(text, ", phase \"{phase}\"");
    }
    let count = evidence.references.floors.count;
    let (slow, fast) = times(slow, fast);
    let _ = write!(text, "; this trace {slow}, fast reference {fast} (1 of {count})");
    let waited = waiting(evidence, culprit);
    if !waited.is_empty() {
        let _ = write!(text, ". {} only waited", waited.join(" and "));
    }
    shorten(text)
}

/// Why nobody.
pub(crate) fn inconclusive(evidence: &Evidence<'_>, why: Why<'_>) -> String {
    let linked = &evidence.references.linked;
    let (slow, fast) = times(evidence.analysis.ledger.duration, linked.ledger.duration);
    let totals = format!("this trace {slow}, fast reference {fast}");
    let services = || evidence.findings.services.iter().filter(|service| service.score > 0);
    let mut top = services();
    let name = |service: Option<&Blamed>| service.map_or("nobody".to_owned(), |service| quote(&service.name));
    let added = |service: Option<&Blamed>| time(service.map_or(0, |service| evidence.added_by(service)));
    let (first, second) = (top.next(), top.next());
    shorten(match why {
        Why::Plain(Reason::NotSlower) => format!("{}: {totals}", not_slower(evidence)),
        Why::Open => {
            let open = time(evidence.findings.open.min(evidence.added()));
            format!(
                "streams or long polls, which last as long as somebody else pleases, took +{open}: {totals}"
            )
        }
        Why::Plain(Reason::AsyncOnly) => match longer_caller(evidence) {
            Some((caller, by)) => {
                format!("only {caller}, which called, took +{by}, on its own or on the way: {totals}")
            }
            None => format!("only work that nobody waited for is slower: {totals}"),
        },
        Why::Unanswered => {
            format!(
                "calls ended before their answers, so nobody can know how long they were waited for: {totals}"
            )
        }
        Why::Replies => format!(
            "{} was answered by a message, and no span says whether it waited for that: {totals}",
            name(first)
        ),
        Why::Absent(absent) => format!(
            "{}, which the references always call, has no usable span here, so that its time cannot be told from that of {}: {totals}",
            quote(absent),
            name(first)
        ),
        Why::BrokenReference => {
            format!("the fast reference lacks spans, so that nobody can know which calls are new: {totals}")
        }
        Why::Plain(Reason::IncompleteTrace) => {
            let percent = evidence.completeness() * 100.0;
            let missing = if evidence.analysis.tree.untimed > 0 {
                "spans that end before they start, or have no credible times, are left out where it matters"
            } else {
                "spans are missing where it matters"
            };
            format!("{missing} ({percent:.0}% are there): {totals}")
        }
        Why::Plain(Reason::ClockSkew) => {
            let skew = time(evidence.skew());
            format!(
                "the clocks of its services differ by up to {skew}, too much to tell them apart: {totals}"
            )
        }
        Why::Plain(Reason::UnknownService) => format!("the spans that grew carry no service.name: {totals}"),
        Why::AtOnce(other) => {
            let mut both = [name(first), quote(other)];
            both.sort();
            let [one, other] = both;
            format!(
                "{one} and {other} ran at once and took as much longer: neither alone explains it: {totals}"
            )
        }
        Why::Plain(Reason::Tie) => {
            let mut both = [(name(first), added(first)), (name(second), added(second))];
            both.sort();
            let [(one, of_one), (other, of_other)] = both;
            let near = services().skip(2).filter(|service| evidence.is_near(service)).count();
            let more = match near {
                0 => String::new(),
                1 => " and 1 more service".to_owned(),
                near => format!(" and {near} more services"),
            };
            format!("{one} (+{of_one}) and {other} (+{of_other}){more} are too close to tell apart: {totals}")
        }
        Why::Plain(_) => match first {
            None => format!("{}: {totals}", nobody_grew(evidence)),
            Some(most) if is_mostly_usual(evidence, most) => {
                format!("{} took +{} more, but {}: {totals}", name(first), added(first), usual(evidence))
            }
            Some(_) => {
                let next =
                    second.map_or(String::new(), |_| format!(" and {} (+{})", name(second), added(second)));
                let come = if second.is_some() { "come" } else { "comes" };
                format!(
                    "no service explains most of it, {} (+{}){next} {come} nearest: {totals}",
                    name(first),
                    added(first)
                )
            }
        },
    })
}

/// Who called the entry span from within the trace, and how much longer than the entry span its span lasted, where that is
/// most of what the trace lasted longer.
fn longer_caller(evidence: &Evidence<'_>) -> Option<(String, String)> {
    let tree = &evidence.analysis.tree;
    let entry = tree.trace.span(tree.entry().span as usize)?.head;
    let spans = tree.trace.heads().enumerate();
    let callers =
        spans.filter(|(_, head)| Some(head.span_id) == entry.parent_id && head.has_credible_times());
    // Of several with one id the longest, whatever their order.
    let callers = callers.map(|(at, head)| (head.duration(), tree.trace.service_of(at)));
    let (took, name) = callers.max()?;
    let by = took.saturating_sub(entry.duration());
    let name = quote(&String::from_utf8_lossy(name));
    (by >= evidence.least_added(entry.duration())).then(|| (name, time(by)))
}

/// How far from slower it is, where no service is looked for.
fn not_slower(evidence: &Evidence<'_>) -> String {
    let fast = evidence.references.linked.ledger.duration;
    match evidence.added() {
        0 => "not slower than its references".to_owned(),
        added if added <= evidence.least_added(fast) => format!(
            "+{} is too little to ask why; up to +{} may be chance",
            time(added),
            time(evidence.least_added(fast))
        ),
        added => {
            let usual = time(evidence.references.floors.duration);
            format!("+{}, but up to {usual} is usual among its references", time(added))
        }
    }
}

/// No service took longer than is normal for it.
fn nobody_grew(evidence: &Evidence<'_>) -> String {
    if evidence.references.floors.are_known() {
        return "no service took longer than is usual for it among its references".to_owned();
    }
    format!("no service took clearly longer than its references: {}", usual(evidence))
}

/// Whether a service took most of the added time, and less than half of that is above normal.
fn is_mostly_usual(evidence: &Evidence<'_>, service: &Blamed) -> bool {
    let took = evidence.added_by(service);
    took > evidence.added() / 2 && evidence.score(service) < took / 2
}

/// How much is normal: a margin where there are too few references for a percentile.
fn usual(evidence: &Evidence<'_>) -> String {
    let floors = &evidence.references.floors;
    if floors.are_known() {
        return "most of that is usual for it among its references".to_owned();
    }
    let references =
        if floors.count == 1 { "1 reference".to_owned() } else { format!("{} references", floors.count) };
    let (percent, least) = floors::margin();
    format!("with {references}, {percent}% more, or {}, may be chance", time(least))
}

/// What a trace that nothing is like lacks; `None` where all of its spans are in their places.
pub(crate) fn torn(tree: &Tree<'_>) -> Option<String> {
    let placed = tree.nodes.as_slice().len();
    let spans = tree.spans + tree.untimed;
    (placed < spans).then(|| {
        let lost = spans - placed;
        format!("{lost} of {spans} spans are not below the entry span or have no credible times, and what is left makes other calls than fast traces do")
    })
}

/// Why there was nothing to compare with.
pub(crate) fn without_references(reason: Reason, duration: u64) -> String {
    let took = time(duration);
    match reason {
        Reason::NoBaseline => format!("took {took}; no fast trace of this route is known yet"),
        Reason::BaselineMismatch => {
            format!("took {took}; the known fast traces of this route make other calls")
        }
        Reason::LimitExceeded => format!("took {took}; has more spans than compare.max_spans"),
        Reason::Overload => format!("took {took}; decided early for lack of memory"),
        // That it took no time is just what cannot be believed.
        _ if duration == 0 => "its entry span has no credible times or is missing".to_owned(),
        _ => format!("took {took}; its entry span has no credible times or is missing"),
    }
}

/// The service whose place on the critical path the culprit took, where it got more than was added in all.
fn displaced<'e>(evidence: &Evidence<'e>, blamed: &Blamed) -> Option<&'e Blamed> {
    let others = evidence.findings.services.iter().filter(|_| blamed.delta > i128::from(evidence.added()));
    let least = i128::from(evidence.added() / MATERIAL);
    others.min_by_key(|other| other.delta).filter(|other| other.delta < -least)
}

/// Whom the calls are to that the culprit makes more of, or that are new.
fn called(evidence: &Evidence<'_>, blamed: &Blamed) -> Option<String> {
    if !matches!(blamed.category, Category::NewPath | Category::ExtraCalls) {
        return None;
    }
    let Analysis { tree, ledger, .. } = evidence.analysis;
    let entry = ledger.entries.get(evidence.findings.row_of(blamed)?.slow?)?;
    let mut callee = entry.callee.and_then(|callee| ledger.service_name(callee));
    let mut number = entry.longest;
    while number != 0 && tree.service(&tree.nodes[number]).id != blamed.id {
        callee = Some(&tree.service(&tree.nodes[number]).name);
        number = tree.nodes[number].caller;
    }
    callee.map(quote)
}

/// Services between the entry span and the culprit that have next to nothing of the added time.
fn waiting(evidence: &Evidence<'_>, culprit: &Culprit) -> Vec<String> {
    let tree = &evidence.analysis.tree;
    let Some(mut number) =
        (0..tree.nodes.length()).find(|n| tree.span_id(&tree.nodes[*n]) == Some(culprit.span_id))
    else {
        return Vec::new();
    };
    let mut waited: Vec<String> = Vec::new();
    while number != 0 {
        number = tree.nodes[number].caller;
        let service = tree.service(&tree.nodes[number]);
        let score = evidence.findings.services.iter().find(|other| other.id == service.id);
        let is_small = score.is_none_or(|score| score.score < evidence.added() / MATERIAL);
        let name = quote(&service.name);
        if is_small && service.name != culprit.service && !waited.contains(&name) {
            waited.push(name);
        }
    }
    waited.reverse();
    waited.truncate(2);
    waited
}

fn words(category: Category) -> &'static str {
    match category {
        Category::OwnTime => "own time",
        Category::NetworkQueue => "waits for its answer beyond its own time",
        Category::Saturation => "waits on its callees",
        Category::Dependency => "waits on a dependency",
        Category::ExtraCalls => "more calls",
        Category::Retry => "failed calls that were tried again",
        Category::Timeout => "a call that was given up",
        Category::NewPath => "calls that its references do not make",
        Category::LostConcurrency => "calls one after the other instead of at once",
    }
}

/// Nanoseconds for a person: milliseconds below ten seconds, seconds from there, the unit always named.
pub(crate) fn time(nanos: u64) -> String {
    milliseconds(nanos as f64 / 1e6)
}

/// The same, from milliseconds.
pub(crate) fn milliseconds(ms: f64) -> String {
    let (unit, in_milliseconds, digits) = scale(ms);
    format!("{:.digits$} {unit}", ms / in_milliseconds)
}

/// Two times that a sentence holds against each other: where they are not the same and would read the same, with as many
/// more digits as tell them apart.
pub(crate) fn times(one: u64, other: u64) -> (String, String) {
    let (unit, in_milliseconds, digits) = scale(one.max(other) as f64 / 1e6);
    let with =
        |digits: usize, nanos: u64| format!("{:.digits$} {unit}", nanos as f64 / 1e6 / in_milliseconds);
    // A nanosecond is the ninth digit of a second.
    let apart = (digits..=9).find(|digits| one == other || with(*digits, one) != with(*digits, other));
    match apart {
        Some(more) if more > digits => (with(more, one), with(more, other)),
        _ => (time(one), time(other)),
    }
}

/// The unit that milliseconds are written in, how many of them it is, and the digits behind the point.
fn scale(ms: f64) -> (&'static str, f64, usize) {
    match ms {
        ms if ms >= 10_000.0 => ("s", 1000.0, 2),
        ms if ms >= 100.0 => ("ms", 1.0, 0),
        ms if ms >= 10.0 => ("ms", 1.0, 1),
        _ => ("ms", 1.0, 3),
    }
}

fn quote(name: &str) -> String {
    if name.is_empty() { "a service without a name".to_owned() } else { name.to_owned() }
}

/// Cut at a character, marked as cut.
pub(crate) fn shorten(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST - 3));
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_always_name_their_unit() {
        for (nanos, expected) in [
            (1_207_384_000, "1207 ms"),
            (9_188_000, "9.188 ms"),
            (35_750_000, "35.8 ms"),
            (12_073_840_000, "12.07 s"),
            (650, "0.001 ms"),
        ] {
            assert_eq!(time(nanos), expected);
        }
    }

    #[test]
    fn two_times_that_differ_never_read_the_same() {
        for (one, other, expected) in [
            (300_000_000, 300_000_000, ["300 ms", "300 ms"]),
            (300_000_001, 300_000_000, ["300.000001 ms", "300.000000 ms"]),
            (300_400_000, 300_000_000, ["300.4 ms", "300.0 ms"]),
            (300_500_001, 300_000_000, ["301 ms", "300 ms"]),
            (5_000_000, 600_000_000, ["5.000 ms", "600 ms"]),
            (99_960_000, 100_200_000, ["100.0 ms", "100.2 ms"]),
            (9_999_900, 10_000_000, ["9.9999 ms", "10.0000 ms"]),
            (9_999_999_999, 10_000_000_000, ["9.999999999 s", "10.000000000 s"]),
            (3_600_000_000_001, 3_600_000_000_000, ["3600.000000001 s", "3600.000000000 s"]),
        ] {
            let (one_text, other_text) = times(one, other);
            assert_eq!([one_text.as_str(), &other_text], expected);
            assert_eq!(times(other, one), (other_text, one_text));
        }
    }

    #[test]
    fn a_long_sentence_is_cut_at_a_character() {
        let text = shorten("\u{e4}".repeat(200));
        assert!(text.len() <= LONGEST && text.ends_with("..."), "{text}");
    }
}
