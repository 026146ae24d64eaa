//! Sends fast traces, then slow ones, as three services with the OpenTelemetry SDK do: `peer-sender ENDPOINT`.
//!
//! `pre-processor` is the service that is slow in the slow ones.

#[allow(dead_code, unreachable_pub, reason = "shared with the integration tests, which use more of it")]
#[path = "../support/sdk.rs"]
mod sdk;

use std::time::{Duration, SystemTime};

use opentelemetry::Context;
use opentelemetry::trace::SpanKind::{Client, Server};
use sdk::SdkService;

const FAST: u64 = 40;
const SLOW: u64 = 3;

/// References are taken at most once a second, so some seconds pass.
const PACE: Duration = Duration::from_millis(150);

#[tokio::main]
async fn main() {
    let endpoint = std::env::args().nth(1).expect("usage: peer-sender http://HOST:PORT");
    let web_server = SdkService::over_grpc("web-server", &endpoint);
    let pre_processor = SdkService::over_grpc("pre-processor", &endpoint);
    let inference_server = SdkService::over_grpc("inference-server", &endpoint);

    for number in 0..FAST + SLOW {
        let own = if number < FAST { 50 } else { 775 };
        let milliseconds = Duration::from_millis;
        let at = |offset| {
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number) + milliseconds(offset)
        };
        let root = Context::new();
        // Some jitter, so that no two traces last equally long.
        let whole = own + 130 + number % 7;

        let entry = web_server.record(&root, ("inference-span", Server), at(0), milliseconds(whole));
        let call = web_server.record(&entry, ("POST", Client), at(4), milliseconds(whole - 8));
        let request =
            pre_processor.record(&call, ("preprocess-request", Server), at(5), milliseconds(whole - 10));
        let call = pre_processor.record(&request, ("POST", Client), at(5 + own), milliseconds(100));
        inference_server.record(&call, ("inference-service-post", Server), at(6 + own), milliseconds(98));

        for service in [&inference_server, &pre_processor, &web_server] {
            service.flush();
        }
        tokio::time::sleep(PACE).await;
    }
}
