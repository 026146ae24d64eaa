//! What is wrong with a configuration, a line for each mistake.

use std::fmt;

use super::tree::is_within;

/// Every problem of one configuration, in the order of the file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    /// The file, as it was named; `environment` where there is none.
    pub file: String,
    /// At least one.
    pub list: Vec<Problem>,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line and column, 1-based, in characters; `None` when the file as a whole is wrong, or nothing in it.
    pub position: Option<(usize, usize)>,
    /// The dotted key, such as `slow.routes[1].threshold`; empty for the file itself.
    pub key: String,
    /// What must be.
    pub rule: String,
    /// What is, where that can be said in a few words.
    pub got: Option<String>,
    /// What may have been meant.
    pub did_you_mean: Option<String>,
}

impl Problem {
    /// A problem of the file as a whole.
    pub(super) fn of_the_file(rule: impl Into<String>) -> Self {
        Self { position: None, key: String::new(), rule: rule.into(), got: None, did_you_mean: None }
    }
}

/// `FILE:LINE:COLUMN: KEY: rule, got VALUE`, one a line.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.file)?;
            if let Some((line, column)) = problem.position {
                write!(f, ":{line}:{column}")?;
            }
            write!(f, ": {problem}")?;
        }
        Ok(())
    }
}

/// `KEY: rule, got VALUE`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            // Of a map a key can be any text.
            write!(f, "{}: ", escaped(&self.key))?;
        }
        f.write_str(&self.rule)?;
        if let Some(got) = &self.got {
            write!(f, ", got {got}")?;
        }
        if let Some(meant) = &self.did_you_mean {
            write!(f, ", did you mean `{meant}`?")?;
        }
        Ok(())
    }
}

/// The name in `known` that `given` most likely stands for: the same but for case and separators, or a few
/// typing mistakes away.
pub(super) fn nearest(given: &str, known: &[&'static str]) -> Option<&'static str> {
    let plain = |name: &str| {
        name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>()
    };
    // A mistake or two in a word; the comparison's time grows with the length, and no key is that long.
    let given = plain(given);
    if given.chars().count() > 64 {
        return None;
    }
    let distance = |name: &str| strsim::osa_distance(&given, &plain(name));
    let near = known.iter().copied().min_by_key(|name| distance(name))?;
    (distance(near) <= (near.len() / 3).clamp(1, 3)).then_some(near)
}

/// What a message says where a secret may be.
const HIDDEN: &str = "a value that is not shown";

/// What a message shows of `text`, all of the value of `key`: of a header nothing, and of a URL nothing of who asks
/// (`http://user:password@host`) and of its query, both of which can be secret.
pub(super) fn shown_value(key: &str, text: &str) -> String {
    visible(key, text).unwrap_or_else(|| HIDDEN.to_owned())
}

/// The same of text that stands in quotes.
pub(super) fn shown_quoted(key: &str, text: &str) -> String {
    visible(key, text).map_or_else(|| HIDDEN.to_owned(), |text| format!("\"{text}\""))
}

fn visible(key: &str, text: &str) -> Option<String> {
    let is_header = is_within(key, "export.headers");
    // In a route each of these characters can stand for itself.
    let is_route = is_within(key, "slow.routes");
    if is_header || (text.contains('@') && !is_route) {
        return None;
    }
    let is_url = text.contains("://") || key.to_ascii_lowercase().ends_with("endpoint");
    let query = text.find(['?', '#']).filter(|_| is_url && !is_route);
    // Cut only then: what is left of a long value does not tell what it was.
    let (shown, rest) = query.map_or((text, ""), |at| (text.get(..=at).unwrap_or_default(), "..."));
    Some(shortened(shown) + rest)
}

/// A reference to a variable as a message shows it: its default can be a secret.
pub(super) fn shown_reference(written: &str) -> String {
    match written.split_once(":-") {
        Some((name, _)) => shortened(&format!("{name}:-")) + "...",
        None => shortened(written),
    }
}

/// Text as it may stand in a message: on one line, and not long.
pub(super) fn shortened(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => escaped(text.get(..end).unwrap_or_default()) + "...",
        None => escaped(text),
    }
}

/// Text without control characters.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_recognised() {
        let known = &["threshold", "learned", "routes", "decision_wait"];
        for (given, meant) in [
            ("treshold", Some("threshold")),
            ("route", Some("routes")),
            ("decisionWait", Some("decision_wait")),
            ("decision-wait", Some("decision_wait")),
            ("something", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, known), meant, "{given}");
        }
    }

    /// Found by fuzzing: the name of a header.
    #[test]
    fn a_key_stays_on_one_line() {
        let problem =
            Problem { key: "export.headers.a\u{1}\nb".to_owned(), ..Problem::of_the_file("must be") };
        assert_eq!(problem.to_string(), "export.headers.a\\u{1}\\nb: must be");
    }

    // C10, G7.
    #[test]
    fn no_secret_that_a_url_can_have_is_shown() {
        let endpoint = "export.endpoint";
        let long = format!("http://user:{}@host", "s3cret".repeat(50));
        for (key, text, shown) in [
            (endpoint, "http://host:4317/v1/traces", "http://host:4317/v1/traces"),
            (endpoint, "http://host:4317?token=s3cret", "http://host:4317?..."),
            (endpoint, "host:4317?token=s3cret", "host:4317?..."),
            (endpoint, "http://host:4317#s3cret", "http://host:4317#..."),
            (endpoint, "http://user:s3cret@host", HIDDEN),
            (endpoint, &long, HIDDEN),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "host?token=s3cret", "host?..."),
            ("receive.grpc.endpoint", "http://host/?token=s3cret", "http://host/?..."),
            ("memory_limit", "https://host/a?token=s3cret", "https://host/a?..."),
            ("export", "http://user:s3cret@host", HIDDEN),
            ("export.headers", "Authorization: Bearer s3cret", HIDDEN),
            ("export.headers.authorization", "s3cret", HIDDEN),
            ("slow.routes[0].route", "GET /@me?x#y", "GET /@me?x#y"),
        ] {
            assert_eq!(shown_value(key, text), shown, "{key} {text}");
        }
        assert_eq!(shown_quoted(endpoint, "http://host?s3cret"), "\"http://host?...\"");
        assert_eq!(shown_quoted(endpoint, "http://a:s3cret@host"), HIDDEN);
        assert_eq!(shown_reference("${env:A KEY:-s3cret}"), "${env:A KEY:-...");
        assert_eq!(shown_reference("${env:KEY}"), "${env:KEY}");
    }

    #[test]
    fn a_value_stays_on_one_line() {
        assert_eq!(shortened("a\nb\u{1b}"), "a\\nb\\u{1b}");
        assert_eq!(shortened(&"x".repeat(100)), format!("{}...", "x".repeat(80)));
    }
}
