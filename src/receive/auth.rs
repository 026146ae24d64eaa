//! Bearer tokens (RFC 6750): who may send.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use subtle::{Choice, ConstantTimeEq};

use crate::config::Auth;
use crate::secrets::{FileError, Named, Reload, Reloaded};

const KEY: &str = "receive.auth.bearer_token_file";

/// The accepted tokens; cheap to clone, the clones share what was read.
#[derive(Clone, Debug)]
pub struct Tokens(Arc<Reloaded<Vec<Vec<u8>>>>);

impl Tokens {
    /// Those in the file of `config`; `None` where it names none, and then anybody may send.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn new(config: &Auth) -> Result<Option<Self>, FileError> {
        if config.bearer_token_file.as_os_str().is_empty() {
            return Ok(None);
        }
        let file = Named { key: KEY, path: config.bearer_token_file.clone() };
        let make = |contents: &[Vec<u8>]| tokens(&contents.concat());
        Ok(Some(Self(Arc::new(Reloaded::new(vec![file], make)?))))
    }

    /// Whether `headers` show one of them.
    ///
    /// How long that takes depends on the lengths of tokens and not on what is in them.
    pub(crate) fn has_that_of(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some(shown) = bearer(value.as_bytes()) else { return false };
        let mut is_accepted = Choice::from(0);
        for token in self.0.current().iter() {
            is_accepted |= token.as_slice().ct_eq(shown);
        }
        is_accepted.into()
    }

    /// What is to be looked at now and then.
    pub fn files(&self) -> Arc<dyn Reload> {
        Arc::clone(&self.0) as Arc<dyn Reload>
    }
}

/// The token in the value of `Authorization`; the scheme's name is of any case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// One token a line; blank lines and the space around a token are none of it.
fn tokens(file: &[u8]) -> Result<Vec<Vec<u8>>, FileError> {
    let lines = file.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let tokens: Vec<_> = lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
    if tokens.is_empty() {
        return Err(FileError::new(KEY, "must hold a token, one a line"));
    }
    if !tokens.iter().flatten().all(u8::is_ascii_graphic) {
        return Err(FileError::new(KEY, "must hold tokens of visible ASCII characters, one a line"));
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let values = values.iter().map(|value| (AUTHORIZATION, value.parse().expect("valid")));
        values.collect()
    }

    // G5.
    #[test]
    fn a_token_of_the_file_is_accepted_and_nothing_near_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        fs::write(&path, "first-token\r\n\n  second-token ").expect("writes");
        let auth = Auth { bearer_token_file: path.clone() };
        let tokens = Tokens::new(&auth).expect("right").expect("given");
        for right in ["Bearer first-token", "bearer first-token", "BEARER   second-token"] {
            assert!(tokens.has_that_of(&headers(&[right])), "{right}");
        }
        let long = format!("Bearer {}", "x".repeat(1 << 20));
        for wrong in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &["Bearer first"],
            &["Bearer first-token2"],
            &["Bearer first-token second-token"],
            &["Bearer FIRST-TOKEN"],
            &["Basic first-token"],
            &["first-token"],
            &[&long],
            &["Bearer first-token", "Bearer first-token"],
        ] {
            assert!(!tokens.has_that_of(&headers(wrong)), "{wrong:?}");
        }

        fs::write(&path, "third-token").expect("writes");
        assert_eq!(tokens.files().reload(), Ok(true));
        assert!(tokens.has_that_of(&headers(&["Bearer third-token"])));
        assert!(!tokens.has_that_of(&headers(&["Bearer first-token"])));
        fs::write(&path, "").expect("writes");
        assert!(tokens.files().reload().is_err());
        assert!(!tokens.has_that_of(&headers(&["Bearer "])));
    }

    #[test]
    fn a_file_without_tokens_is_a_mistake_that_tells_no_token() {
        for file in ["", "\n \n"] {
            let error = tokens(file.as_bytes()).expect_err("no token").to_string();
            assert_eq!(error, "receive.auth.bearer_token_file: must hold a token, one a line");
        }
        for file in ["secret one", "secret\u{7}", "s\u{e9}cret"] {
            let error = tokens(file.as_bytes()).expect_err("no token").to_string();
            assert!(error.ends_with("must hold tokens of visible ASCII characters, one a line"), "{error}");
        }
        assert!(Tokens::new(&Auth::default()).expect("right").is_none());
    }
}
