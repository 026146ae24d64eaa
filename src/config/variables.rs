//! `${env:NAME}`, `${env:NAME:-default}` and `$$`, as the OpenTelemetry Collector writes them.
//!
//! A reference may stand where YAML allows no braces, as in `{endpoint: ${env:IP}:4317}`, so it is taken out of the
//! text before YAML sees it. A stand-in of the same length takes its place, and the value takes the
//! stand-in's once the text is parsed: positions stay those of the file, a value cannot add keys or comments,
//! and a reference inside a comment asks for nothing.

/// The text without its references, and what each of them stands for.
pub(super) struct Variables {
    /// To be parsed in place of the original.
    pub(super) text: String,
    found: Vec<Reference>,
}

/// One reference.
struct Reference {
    written: String,
    value: Result<String, String>,
}

/// A reference that has no value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unresolved {
    /// As it is written.
    pub(super) written: String,
    /// What it breaks.
    pub(super) rule: String,
}

/// The first stand-in: a plane of private-use characters, one for each reference.
const FIRST: u32 = 0xF_0000;
/// How many there are.
const STAND_INS: usize = 0x1_0000;
/// Fills a stand-in up to the length of its reference.
const FILLER: char = '\u{10_FFFD}';

impl Variables {
    /// Takes the references out of `text`, asking `env` for values. `None` when `text` itself has characters
    /// that are needed as stand-ins, or more references than there are of these.
    pub(super) fn take_out(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let mut out = String::with_capacity(text.len());
        let mut found = Vec::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            let (before, reference) = rest.split_at(dollar);
            out.push_str(before);
            let length = length_of(reference);
            let (written, after) = reference.split_at(length);
            rest = after;
            if written == "$" {
                out.push('$');
                continue;
            }
            if found.len() == STAND_INS {
                return None;
            }
            out.push(stand_in(found.len())?);
            out.extend(std::iter::repeat_n(FILLER, written.chars().count() - 1));
            found.push(Reference { written: written.to_owned(), value: resolve(written, env) });
        }
        out.push_str(rest);
        let clean = text.chars().all(|character| u32::from(character) < FIRST);
        clean.then_some(Self { text: out, found })
    }

    /// `parsed`, a part of the text, with the values in the place of their stand-ins; and the references in it
    /// that have none.
    pub(super) fn put_back(&self, parsed: &str) -> (String, Vec<Unresolved>) {
        let mut out = String::with_capacity(parsed.len());
        let mut unresolved = Vec::new();
        for character in parsed.chars().filter(|character| *character != FILLER) {
            let reference =
                u32::from(character).checked_sub(FIRST).and_then(|index| self.found.get(index as usize));
            match reference {
                None => out.push(character),
                Some(Reference { value: Ok(value), .. }) => out.push_str(value),
                Some(Reference { written, value: Err(rule) }) => {
                    out.push_str(written);
                    unresolved.push(Unresolved { written: written.clone(), rule: rule.clone() });
                }
            }
        }
        (out, unresolved)
    }
}

fn stand_in(index: usize) -> Option<char> {
    u32::try_from(index).ok().and_then(|index| char::from_u32(FIRST + index))
}

/// How many bytes the reference at the start of `text`, a dollar sign, takes; one when it is only that sign.
fn length_of(text: &str) -> usize {
    if text.starts_with("$$") {
        return 2;
    }
    if !text.starts_with("${") {
        return 1;
    }
    let line = text.lines().next().unwrap_or(text);
    let name = |character: char| character.is_ascii_alphanumeric() || "${:_".contains(character);
    let has_default = line.trim_start_matches(name).starts_with('-');
    // What is not closed ends before what may belong to the YAML around it. A default may have that in it.
    let is_around = |character: char| character.is_whitespace() || "\"',[]{#".contains(character);
    let (start, rest) = line.split_at_checked(2).unwrap_or((line, ""));
    let around = start.len() + rest.find(is_around).unwrap_or(rest.len());
    match line.find('}') {
        Some(brace) if has_default || brace < around => brace + 1,
        _ => around,
    }
}

fn resolve(written: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    if written == "$$" {
        return Ok("$".to_owned());
    }
    let wrong = || "must be ${env:NAME} or ${env:NAME:-default}, with $$ for a dollar sign".to_owned();
    let inner = written.strip_prefix("${env:").and_then(|inner| inner.strip_suffix('}')).ok_or_else(wrong)?;
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
    if !is_name {
        return Err(wrong());
    }
    let value = env(name).or_else(|| default.map(str::to_owned));
    let value = value.ok_or_else(|| format!("needs the environment variable {name}, which is not set"))?;
    // No key of ours takes several lines; a line break is the end of a secret's file that came along.
    if value.contains(['\n', '\r']) {
        return Err(format!("needs the environment variable {name} without line breaks"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("10.0.0.7".to_owned()),
            "EMPTY" => Some(String::new()),
            "LINES" => Some("a\nb".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn references_get_the_values_of_the_environment() {
        for (text, expected) in [
            ("${env:HOST}:4317", "10.0.0.7:4317"),
            ("a ${env:HOST} b ${env:HOST}", "a 10.0.0.7 b 10.0.0.7"),
            ("${env:NONE:-127.0.0.1}", "127.0.0.1"),
            ("${env:NONE:-}", ""),
            ("${env:EMPTY:-default}", ""),
            ("$${env:HOST} costs $5$", "${env:HOST} costs $5$"),
            ("$$$$", "$$"),
            ("no reference", "no reference"),
        ] {
            let variables = Variables::take_out(text, &env).expect("no private-use characters");
            assert_eq!(variables.text.chars().count(), text.chars().count(), "{text}");
            assert_eq!(variables.put_back(&variables.text), (expected.to_owned(), vec![]), "{text}");
        }
    }

    #[test]
    fn a_reference_without_a_value_says_what_it_needs() {
        for (text, rule) in [
            ("${env:NONE}", "needs the environment variable NONE, which is not set"),
            ("${env:LINES}", "needs the environment variable LINES without line breaks"),
            ("${HOST}", "must be ${env:NAME} or ${env:NAME:-default}, with $$ for a dollar sign"),
            ("${env:1}", "must be ${env:NAME} or ${env:NAME:-default}, with $$ for a dollar sign"),
            ("${env:HOST", "must be ${env:NAME} or ${env:NAME:-default}, with $$ for a dollar sign"),
        ] {
            let variables = Variables::take_out(text, &env).expect("no private-use characters");
            let unresolved = Unresolved { written: text.to_owned(), rule: rule.to_owned() };
            assert_eq!(variables.put_back(&variables.text), (text.to_owned(), vec![unresolved]));
        }
    }

    #[test]
    fn a_text_that_could_be_taken_for_stand_ins_is_refused() {
        assert!(Variables::take_out("a: \u{F0000}", &env).is_none());
        assert!(Variables::take_out("a: \u{10FFFD}", &env).is_none());
    }
}
