//! CORS: which pages a browser may send for.
//!
//! Only the browser enforces it, so it keeps nobody else out: a token does.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use tower::{Layer, ServiceExt, service_fn};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::config::Cors;

/// No browser remembers the answer to a preflight for longer.
const MAX_AGE: Duration = Duration::from_hours(2);

/// Origins whose pages may send.
#[derive(Clone, Debug)]
pub struct Origins(CorsLayer);

impl Origins {
    /// Those of `config`; `None` where it names none.
    pub fn new(config: &Cors) -> Option<Self> {
        if config.allowed_origins.is_empty() {
            return None;
        }
        let patterns: Vec<_> = config.allowed_origins.iter().map(|origin| Pattern::new(origin)).collect();
        let is_allowed = move |origin: &HeaderValue, _: &Parts| {
            let origin = origin.as_bytes().to_ascii_lowercase();
            patterns.iter().any(|pattern| pattern.matches(&origin))
        };
        let layer = CorsLayer::new()
            // The very origin, since browsers take no `*` where they send credentials, as some SDKs ask them to.
            .allow_origin(AllowOrigin::predicate(is_allowed))
            .allow_credentials(true)
            .allow_methods([Method::POST])
            // Exporters are given headers of any name, and those that we do not know do nothing.
            .allow_headers(AllowHeaders::mirror_request())
            .max_age(MAX_AGE);
        Some(Self(layer))
    }

    /// Answers a preflight; lets `answer` answer anything else, and says in its answer who may read it.
    pub(crate) async fn around<F>(
        &self,
        request: Request<Incoming>,
        answer: impl Fn(Request<Incoming>) -> F,
    ) -> Response<Full<Bytes>>
    where
        F: Future<Output = Response<Full<Bytes>>>,
    {
        let service = service_fn(|request| {
            let answered = answer(request);
            async { Ok::<_, Infallible>(answered.await) }
        });
        let Ok(response) = self.0.layer(service).oneshot(request).await;
        response
    }
}

/// An origin in lower case, in two parts where a `*` stands between them.
#[derive(Clone, Debug)]
struct Pattern {
    start: Vec<u8>,
    end: Option<Vec<u8>>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        match text.split_once('*') {
            Some((start, end)) => Self { start: start.into(), end: Some(end.into()) },
            None => Self { start: text.into(), end: None },
        }
    }

    fn matches(&self, origin: &[u8]) -> bool {
        match &self.end {
            None => origin == self.start,
            Some(end) => origin.strip_prefix(&*self.start).is_some_and(|rest| rest.ends_with(end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_matched_whole_or_around_one_star() {
        for (pattern, origin, expected) in [
            ("*", "null", true),
            ("https://app.example.com", "https://app.example.com", true),
            ("https://App.example.com", "https://app.example.com", true),
            ("https://app.example.com", "https://app.example.com:8443", false),
            ("https://app.example.com", "http://app.example.com", false),
            ("https://*.example.com", "https://a.b.example.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://a.example.com.evil.org", false),
            ("https://*.example.com", "http://a.example.com", false),
            ("http://localhost:*", "http://localhost:3000", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(origin.as_bytes()), expected, "{pattern} {origin}");
        }
    }

    #[test]
    fn without_origins_there_is_no_cors() {
        assert!(Origins::new(&Cors::default()).is_none());
    }
}
