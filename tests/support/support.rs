//! The vocabulary of the integration tests: what is sent, to whom, and what must hold in the end.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(clippy::panic, reason = "a test that fails says why")]

pub mod backend;
pub mod http;
pub mod metrics;
pub mod sdk;
pub mod sidecar;
pub mod spans;

use std::time::Duration;

/// How often [`eventually`] asks, and for how long.
const PAUSE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks until there is an answer and returns it; fails with `what` when there is none for too long. This is the only
/// way in which a test waits.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let answered = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    answered.await.unwrap_or_else(|_| panic!("it never happened that {what}"))
}
