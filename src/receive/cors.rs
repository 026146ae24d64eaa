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
use tower_http::cors::{AllowCredentials, AllowHeaders, AllowOrigin, CorsLayer};

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
        let named: Vec<_> = patterns.iter().filter(|pattern| pattern.names_a_host).cloned().collect();
        let among = |patterns: Vec<Pattern>| {
            move |origin: &HeaderValue, _: &Parts| {
                let origin = origin.as_bytes().to_ascii_lowercase();
                patterns.iter().any(|pattern| pattern.matches(&origin))
            }
        };
        let layer = CorsLayer::new()
            // The very origin, since browsers take no `*` where they send credentials, as some SDKs ask them to.
            .allow_origin(AllowOrigin::predicate(among(patterns)))
            // Not for whoever comes along: any page could send with the certificate of the person who looks at it.
            .allow_credentials(AllowCredentials::predicate(among(named)))
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
    /// Whether it is about more than a scheme and a port.
    names_a_host: bool,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let host = text.split_once("://").map_or("", |(_, host)| host);
        let is_port = |byte: u8| byte == b':' || byte.is_ascii_digit();
        let names_a_host = !host.strip_prefix('*').unwrap_or(host).bytes().all(is_port);
        match text.split_once('*') {
            Some((start, end)) => Self { start: start.into(), end: Some(end.into()), names_a_host },
            None => Self { start: text.into(), end: None, names_a_host: true },
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
    fn a_pattern_for_everybody_names_no_host() {
        for (pattern, expected) in [
            ("*", false),
            ("https://*", false),
            ("http://*:3000", false),
            ("https://*.example.com", true),
            ("http://localhost:*", true),
            ("https://10.0.0.1:443", true),
        ] {
            assert_eq!(Pattern::new(pattern).names_a_host, expected, "{pattern}");
        }
    }

    #[test]
    fn without_origins_there_is_no_cors() {
        assert!(Origins::new(&Cors::default()).is_none());
    }
}
