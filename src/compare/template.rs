//! Names without what varies from call to call: numbers, UUIDs, long hexadecimal words and e-mail addresses
//! become `{}`.

use std::borrow::Cow;

/// Longer names are cut here: nobody reads them, and they would make each call unlike any other.
const LONGEST: usize = 256;

/// The name as a path of calls is keyed by, and as a person reads it; invalid UTF-8 is replaced.
pub fn template(name: &[u8]) -> Cow<'_, str> {
    let text = match String::from_utf8_lossy(name.get(..LONGEST).unwrap_or(name)) {
        Cow::Owned(text) if name.len() > LONGEST => {
            // The cut may have split a character.
            Cow::Owned(text.trim_end_matches(char::REPLACEMENT_CHARACTER).to_owned())
        }
        text => text,
    };
    if !text.bytes().any(|byte| byte.is_ascii_digit() || byte == b'@') {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive(between_words) {
        let word = piece.strip_suffix(between_words).unwrap_or(piece);
        put_word(word, &mut out);
        out.extend(piece.chars().skip(word.chars().count()));
    }
    if out == text { text } else { Cow::Owned(out) }
}

fn between_words(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '/' | ':' | ',' | ';' | '(' | ')' | '[' | ']' | '=' | '?' | '&' | '"' | '\'')
}

fn put_word(word: &str, out: &mut String) {
    if is_uuid(word) || is_mail_address(word) {
        out.push_str("{}");
        return;
    }
    for piece in word.split_inclusive(inside_words) {
        let part = piece.strip_suffix(inside_words).unwrap_or(piece);
        out.push_str(if varies(part) { "{}" } else { part });
        out.extend(piece.chars().skip(part.chars().count()));
    }
}

fn inside_words(c: char) -> bool {
    matches!(c, '-' | '_' | '.' | '~' | '#')
}

fn varies(part: &str) -> bool {
    let digits = part.strip_prefix("0x").unwrap_or(part);
    let has_digit = digits.bytes().any(|byte| byte.is_ascii_digit());
    let is_number = has_digit && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number || (has_digit && digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_uuid(word: &str) -> bool {
    word.len() == 36
        && word.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn is_mail_address(word: &str) -> bool {
    word.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_varies_becomes_a_pair_of_braces() {
        for (name, expected) in [
            ("GET /users/42/orders", "GET /users/{}/orders"),
            ("order-12345", "order-{}"),
            ("job 6f1c9e0a-8f5e-4a34-9f0e-2a3c5ab8d1ff done", "job {} done"),
            ("blob/9fceb02d0ae598e95dc970b74767f19372d61af8", "blob/{}"),
            ("mail to ann@example.org", "mail to {}"),
            ("10.1.2.3:5432", "{}.{}.{}.{}:{}"),
            ("catalog-7c9f4d15", "catalog-{}"),
        ] {
            assert_eq!(template(name.as_bytes()), expected);
        }
    }

    #[test]
    fn what_only_looks_like_it_stays() {
        for name in ["GET /api/v1/facade", "http2", "deadbeef", "HTTP POST", "run_model", "@Scheduled"] {
            assert_eq!(template(name.as_bytes()), name);
        }
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let name = "\u{e4}".repeat(300) + "1";
        let cut = template(&name.as_bytes()[1..]).into_owned();
        assert!(cut.len() <= LONGEST + 3 && !cut.ends_with(char::REPLACEMENT_CHARACTER), "{cut}");
    }
}
