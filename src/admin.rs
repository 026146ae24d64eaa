//! The port for probes, metrics and questions: read-only, plain, and open to whoever reaches it.
//!
//! Its pages have names and durations, and no attribute values.

mod index;
mod pages;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tower::ServiceExt;

use crate::otlp::TraceId;
use crate::pipeline::Pipeline;
use crate::receive::connection::{self, Ahead, Patience};
use crate::telemetry::process;

/// Whether senders should send to this process: its listeners are bound and it is not draining.
///
/// An unreachable destination does not make it unready: other instances would have the same one, and what
/// arrives is queued.
#[derive(Debug, Default)]
pub struct Readiness(AtomicBool);

impl Readiness {
    /// Says so from now on.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Not before it is set.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Gives the metrics page as it stands now.
pub type Exposition = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = String> + Send>> + Send + Sync>;

/// A page is short, and so is the time that it is asked for.
const PATIENCE: Patience = Patience {
    connections: 64,
    idle: Duration::from_secs(30),
    body: Duration::from_secs(5),
    room: Duration::ZERO,
    age: Duration::from_mins(30),
    last_headers: Duration::from_millis(500),
    drain: Duration::from_secs(1),
    linger: Duration::from_secs(1),
};

/// Answers on `listener` until `shutdown`, and then the requests that have begun.
pub async fn serve(
    listener: TcpListener,
    exposition: Exposition,
    readiness: Arc<Readiness>,
    pipeline: Arc<Pipeline>,
    shutdown: impl Future<Output = ()>,
) {
    let router = router(exposition, readiness, pipeline);
    let waits = (PATIENCE, Arc::new(Ahead::new(0)));
    connection::serve((listener, None), waits, shutdown, move |request| answer(router.clone(), request))
        .await;
}

async fn answer(router: Router, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Ok(response) = router.oneshot(request).await;
    let (head, body) = response.into_parts();
    // Pages are built whole, so reading one does not fail and has no limit but its own length.
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    Response::from_parts(head, Full::new(body))
}

/// Every page.
pub fn router(exposition: Exposition, readiness: Arc<Readiness>, pipeline: Arc<Pipeline>) -> Router {
    let questions = Router::new()
        .route("/routes", get(routes))
        .route("/verdicts", get(verdicts))
        .route("/explain", get(explain_nothing))
        .route("/explain/", get(explain_nothing))
        .route("/explain/{trace_id}", get(explain))
        .route("/explain/{trace_id}/", get(explain))
        .with_state(Arc::clone(&pipeline));
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .with_state(Arc::clone(&readiness))
        .merge(Router::new().route("/", get(index)).with_state((readiness, pipeline)))
        .merge(Router::new().route("/metrics", get(metrics)).with_state(exposition))
        .merge(questions)
        .fallback(async || {
            problem(StatusCode::NOT_FOUND, "there is no such page; / names those that are there")
        })
}

/// As unready as `/ready`: some probes ask here.
async fn index(State((readiness, pipeline)): State<(Arc<Readiness>, Arc<Pipeline>)>) -> Response {
    let is_ready = readiness.is_ready();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
    ];
    (status, headers, index::index(&pipeline, is_ready)).into_response()
}

async fn routes(State(pipeline): State<Arc<Pipeline>>) -> Response {
    json(&pages::routes(&pipeline))
}

async fn verdicts(State(pipeline): State<Arc<Pipeline>>) -> Response {
    json(&pages::verdicts(&pipeline))
}

async fn explain(
    State(pipeline): State<Arc<Pipeline>>,
    id: Result<UrlPath<String>, PathRejection>,
) -> Response {
    let Some(id) = id.ok().and_then(|UrlPath(id)| pasted_id(&id)) else { return explain_nothing().await };
    match pages::explain(&pipeline, id) {
        Some(page) => json(&page),
        None => problem(
            StatusCode::NOT_FOUND,
            "neither held nor among the latest decisions: older, or never seen",
        ),
    }
}

async fn explain_nothing() -> Response {
    problem(
        StatusCode::BAD_REQUEST,
        "/explain/TRACE_ID takes 1 to 32 hexadecimal digits that are not all zero",
    )
}

/// The id that people mean who paste one from elsewhere: with blanks around it, with the hyphens of a UUID, or without
/// leading zeros, as some show an id of 64 bits.
fn pasted_id(text: &str) -> Option<TraceId> {
    let digits: String = text.trim().chars().filter(|character| *character != '-').take(33).collect();
    (1..=32).contains(&digits.len()).then(|| TraceId::from_hex(&format!("{digits:0>32}")))?
}

fn problem(status: StatusCode, error: &str) -> Response {
    (status, json(&serde_json::json!({ "error": error }))).into_response()
}

fn json(page: &serde_json::Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], format!("{page:#}\n")).into_response()
}

async fn ready(State(readiness): State<Arc<Readiness>>) -> Response {
    if readiness.is_ready() {
        (StatusCode::OK, "ready\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

async fn metrics(State(exposition): State<Exposition>) -> Response {
    let page = exposition().await + &process::render(Path::new("/proc"));
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], page).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};

    use super::*;
    use crate::telemetry::metrics::Metrics;

    fn exposition() -> Exposition {
        let metrics = Metrics::default();
        Arc::new(move || Box::pin(std::future::ready(metrics.render())))
    }

    fn pages(readiness: Arc<Readiness>) -> Router {
        router(exposition(), readiness, Arc::new(pages::testing::pipeline()))
    }

    async fn json(router: &Router, path: &str) -> (StatusCode, serde_json::Value) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = router.clone().oneshot(request).await.expect("infallible");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.expect("a page");
        (status, serde_json::from_slice(&body).expect("JSON"))
    }

    async fn get(readiness: &Arc<Readiness>, path: &str) -> (StatusCode, String, String) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = pages(readiness.clone()).oneshot(request).await.expect("infallible");
        let content_type = response.headers().get(CONTENT_TYPE).map(|value| value.to_str().expect("ASCII"));
        let content_type = content_type.unwrap_or_default().to_owned();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.expect("a page");
        (status, content_type, String::from_utf8(body.to_vec()).expect("text"))
    }

    // R20.
    #[tokio::test]
    async fn a_process_is_alive_at_once_and_ready_when_it_says_so() {
        let readiness = Arc::new(Readiness::default());
        assert_eq!(get(&readiness, "/live").await.0, StatusCode::OK);
        for (ready, status) in [(false, StatusCode::SERVICE_UNAVAILABLE), (true, StatusCode::OK)] {
            readiness.set(ready);
            assert_eq!(get(&readiness, "/ready").await.0, status);
            assert_eq!(get(&readiness, "/").await.0, status);
        }
        readiness.set(false);
        assert_eq!(get(&readiness, "/ready").await.0, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn metrics_are_prometheus_text_with_those_of_the_process() {
        let (status, content_type, page) = get(&Arc::default(), "/metrics").await;
        assert_eq!((status, content_type.as_str()), (StatusCode::OK, "text/plain; version=0.0.4"));
        assert!(page.contains("laggard_held_spans 0\n"), "{page}");
        assert_eq!(page.contains("process_open_fds "), cfg!(target_os = "linux"), "{page}");
        assert!(page.lines().all(|line| line.is_empty() || line.starts_with('#') || line.contains(' ')));
    }

    // G6.
    #[tokio::test]
    async fn there_is_nothing_else_and_nothing_can_be_written() {
        let (status, content_type, page) = get(&Arc::default(), "/nothing").await;
        assert_eq!((status, content_type.as_str()), (StatusCode::NOT_FOUND, "application/json"), "{page}");
        let request = Request::post("/metrics").body(Body::empty()).expect("a request");
        let response = pages(Arc::default()).oneshot(request).await.expect("infallible");
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[tokio::test]
    async fn questions_are_answered_in_json() {
        let (pipeline, slow) = pages::testing::pipeline_with_a_slow_trace();
        let router = router(exposition(), Arc::default(), Arc::new(pipeline));

        let (status, routes) = json(&router, "/routes").await;
        assert_eq!((status, &routes[0]["route"]), (StatusCode::OK, &"web web call".into()), "{routes}");
        let (status, verdicts) = json(&router, "/verdicts").await;
        assert_eq!((status, &verdicts[0]["service"]), (StatusCode::OK, &"db".into()), "{verdicts}");
        let (status, explained) = json(&router, &format!("/explain/{slow}")).await;
        assert_eq!((status, &explained["decision"]), (StatusCode::OK, &"slow".into()), "{explained}");
        let (status, unknown) = json(&router, "/explain/000000000000000000000000000000aa").await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{unknown}");
        for ugly in [
            "nonsense",
            "",
            "%20",
            "%ff%fe",
            "0",
            "-",
            "0x12",
            &"a".repeat(33),
            &"f".repeat(5_000),
            "%00",
            "\u{fc}",
        ] {
            let path = format!("/explain/{}", ugly.replace('\u{fc}', "%C3%BC"));
            assert_eq!(json(&router, &path).await.0, StatusCode::BAD_REQUEST, "{path}");
        }
        assert_eq!(json(&router, "/explain").await.0, StatusCode::BAD_REQUEST);
        let slow = slow.to_string();
        for pasted in [
            format!("{slow}/"),
            format!("{slow}?from=a-page"),
            format!("%20{slow}%0A"),
            slow.to_uppercase(),
            format!("{}-{}", &slow[..8], &slow[8..]),
        ] {
            assert_eq!(json(&router, &format!("/explain/{pasted}")).await.0, StatusCode::OK, "{pasted}");
        }
    }

    #[test]
    fn an_id_of_64_bits_is_found_without_its_leading_zeros() {
        let id = TraceId::from_hex("0000000000000000042f92f3577b34da").expect("32 digits");
        for text in ["42f92f3577b34da", "042F92F3577B34DA", "0000000000000000042f92f3577b34da"] {
            assert_eq!(pasted_id(text), Some(id), "{text}");
        }
    }

    #[tokio::test]
    async fn the_page_for_people_loads_nothing_from_elsewhere() {
        let readiness = Arc::new(Readiness::default());
        readiness.set(true);
        let request = Request::get("/").body(Body::empty()).expect("a request");
        let response = pages(readiness).oneshot(request).await.expect("infallible");
        assert_eq!(response.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(
            response.headers()[CONTENT_SECURITY_POLICY],
            "default-src 'none'; style-src 'unsafe-inline'"
        );
    }
}
