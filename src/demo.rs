//! `laggard demo`: the sidecar itself between three services that send to it and a backend that it sends to, all in
//! this process and on free loopback ports. The sidecar is the one that `laggard run` starts.

mod counts;
mod finding;
mod http;
pub mod sink;
mod story;
pub mod traffic;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::app::{App, Clock};
use crate::config::memory::Budgets;
use crate::config::{Config, Protocol};
use sink::Sink;
use story::Story;

/// Far more than three services need.
const MEMORY_LIMIT: u64 = 256 << 20;

/// Tells on `out`, a line at a time, what the sidecar does with the traffic of three services until it has named the
/// one that turned slow; takes about 17 seconds. Returns whether it has. `colour` says whether `out` is a terminal.
///
/// # Errors
/// When no port can be had, or a part of the demonstration cannot reach another.
pub async fn run(out: &mut dyn Write, colour: bool) -> anyhow::Result<bool> {
    writeln!(out, "laggard demo: three services, the sidecar and a backend, all in this process\n")?;
    out.flush()?;
    let clock = Clock::start();
    let (sink, arrived) = Sink::bind().await?;
    let config = config(sink.address());
    let (budgets, _) = Budgets::divide(&config, MEMORY_LIMIT);
    let app = App::bind(config, budgets, clock).await?;
    let system = traffic::system();
    let mut story = Story::new(out, colour, clock, app.addresses(), &system, arrived);

    // The story ends the sidecar, which then sends what it holds; the backend ends after it.
    let (end_sidecar, sidecar_ends) = oneshot::channel::<()>();
    let (end_sink, sink_ends) = oneshot::channel::<()>();
    let telling = async {
        let told = story.tell().await;
        drop(end_sidecar);
        told
    };
    let serving = async {
        app.run(async { drop(sidecar_ends.await) }).await;
        drop(end_sink);
    };
    let (told, (), received) = tokio::join!(telling, serving, sink.serve(async { drop(sink_ends.await) }));
    received?;
    told
}

/// As a user's configuration would be, but with short waits, and a threshold that is learned within seconds.
fn config(backend: SocketAddr) -> Config {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = Config::default();
    config.receive.grpc.endpoint = any_port;
    config.receive.http.endpoint = any_port;
    config.telemetry.admin.endpoint = any_port;
    config.assemble.decision_wait = Duration::from_secs(2);
    config.assemble.decision_wait_after_root_received = Duration::from_millis(500);
    config.slow.learned.min_traces = 15;
    // A twelfth of it is how long the first bucket of a learned threshold stays open.
    config.slow.learned.accept_after = Duration::from_mins(1);
    config.export.endpoint = format!("http://{backend}");
    config.export.protocol = Protocol::Grpc;
    config.shutdown.delay = Duration::ZERO;
    config.shutdown.drain_timeout = Duration::from_secs(5);
    config
}
