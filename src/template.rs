//! Names made low-cardinality: whatever identifies one thing among many becomes `{}`.

use std::borrow::Cow;

/// Replaces numbers, UUIDs, hexadecimal ids of eight digits and more, and e-mail addresses by `{}`.
///
/// `GET /users/42/orders/9f8e7d6c` becomes `GET /users/{}/orders/{}`; `s3.PutObject` and `v2` stay.
pub fn template(name: &str) -> Cow<'_, str> {
    if !name.bytes().any(|byte| byte.is_ascii_digit() || byte == b'@') {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while !rest.is_empty() {
        let word_end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(word_end);
        put_word(word, &mut out);
        let separators_end = after.find(is_word).unwrap_or(after.len());
        let (separators, next) = after.split_at(separators_end);
        out.push_str(separators);
        rest = next;
    }
    if out == name { Cow::Borrowed(name) } else { Cow::Owned(out) }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_' | '@' | '.' | '+')
}

fn put_word(word: &str, out: &mut String) {
    if is_uuid(word) || is_email(word) {
        out.push_str("{}");
        return;
    }
    // Within a word, `order-12345` holds a number of its own.
    for (index, part) in word.split_inclusive(['-', '_', '.', '+', '@']).enumerate() {
        let text = part.trim_end_matches(['-', '_', '.', '+', '@']);
        // `1.5` is one number.
        if is_number(text) && index > 0 && out.ends_with("{}.") {
            out.pop();
        } else if is_number(text) || is_hex_id(text) {
            out.push_str("{}");
        } else {
            out.push_str(text);
        }
        out.push_str(part.get(text.len()..).unwrap_or(""));
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_hex_id(text: &str) -> bool {
    text.len() >= 8
        && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        && text.bytes().any(|byte| byte.is_ascii_digit())
}

fn is_uuid(word: &str) -> bool {
    let mut lengths = [8, 4, 4, 4, 12].into_iter();
    word.split('-').all(|group| {
        lengths.next() == Some(group.len()) && group.bytes().all(|byte| byte.is_ascii_hexdigit())
    }) && lengths.next().is_none()
}

fn is_email(word: &str) -> bool {
    word.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_identifies_one_thing_becomes_braces_and_the_rest_stays() {
        for (name, expected) in [
            ("GET /users/42", "GET /users/{}"),
            ("GET /users/42/orders/9f8e7d6c?x=1", "GET /users/{}/orders/{}?x={}"),
            ("order-12345", "order-{}"),
            ("/a/123e4567-e89b-12d3-a456-426614174000/b", "/a/{}/b"),
            ("mail to jane.doe+x@example.org", "mail to {}"),
            ("took 1.5 s", "took {} s"),
            ("s3.PutObject v2 http2", "s3.PutObject v2 http2"),
            ("hipstershop.Frontend/Recv.", "hipstershop.Frontend/Recv."),
            ("deadbeefs", "deadbeefs"),
            ("facade", "facade"),
            ("", ""),
        ] {
            assert_eq!(template(name), expected, "{name}");
        }
    }

    #[test]
    fn templating_twice_changes_nothing_more() {
        for name in ["GET /users/42/orders/9f8e7d6c", "took 1.5 s", "a-1-2_3@4"] {
            let once = template(name).into_owned();
            assert_eq!(template(&once), once);
        }
    }
}
