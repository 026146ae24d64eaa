//! What is wrong with a configuration, a line for each mistake.

use std::fmt;

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

/// What a message shows of the value of `key`: nothing where a secret may be in it.
pub(super) fn shown_value(key: &str, value: String) -> String {
    let is_header = key.starts_with("export.headers.");
    // `http://user:password@host`
    let has_credentials = value.contains('@') && !key.starts_with("slow.routes");
    if is_header || has_credentials { "a value that is not shown".to_owned() } else { value }
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

    #[test]
    fn a_value_stays_on_one_line() {
        assert_eq!(shortened("a\nb\u{1b}"), "a\\nb\\u{1b}");
        assert_eq!(shortened(&"x".repeat(100)), format!("{}...", "x".repeat(80)));
    }
}
