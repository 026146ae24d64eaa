//! Text from spans, made harmless for a page.

use std::fmt::{self, Write as _};

/// Shows text as text, in elements and in quoted attributes.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ if character.is_control() || turns_text(character) => {
                    write!(f, "{}", character.escape_default())?;
                }
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// Whether a character is not seen itself but changes where others are seen.
fn turns_text(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_name_is_markup() {
        for (text, expected) in [
            ("a < b && c > d", "a &lt; b &amp;&amp; c &gt; d"),
            (r#"" onload='x'"#, "&quot; onload=&#39;x&#39;"),
            ("a\u{0}b\u{1b}c\n\u{202e}d", r"a\u{0}b\u{1b}c\n\u{202e}d"),
            ("\u{65e5}\u{672c} \u{e9}", "\u{65e5}\u{672c} \u{e9}"),
        ] {
            assert_eq!(Escaped(text).to_string(), expected);
        }
    }
}
