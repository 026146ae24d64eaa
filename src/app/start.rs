//! Starting the sidecar from a configuration, and ending it on a signal.

use std::net::SocketAddr;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::{App, Clock};
use crate::config::memory::{self, Budgets};
use crate::config::{Config, Protocol, Receive, Threshold};
use crate::export::ChannelError;
use crate::secrets::FileError;

/// A signal so soon after the first one is the same wish.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// Why the sidecar cannot start; one sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken, or not ours to take.
    #[error("{key}: cannot listen on {address}")]
    Listen {
        /// The configuration key.
        key: &'static str,
        /// What it says.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// A bound socket has no address.
    #[error("a bound socket has no address: {0}")]
    Address(std::io::Error),
    /// The destination is no destination.
    #[error("{0}")]
    Destination(ChannelError),
    /// A file that a key names cannot be used.
    #[error("{0}")]
    File(FileError),
    /// Signals cannot be waited for.
    #[error("signals: {0}")]
    Signal(std::io::Error),
}

/// `laggard run`: serves until SIGTERM, SIGINT or SIGHUP (its terminal was closed), then drains; a second signal ends at once with exit code 1.
/// What comes right behind the first one belongs to it: supervisors signal a process and its group, or SIGTERM and SIGHUP.
pub async fn run(config: Config) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signal)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(StartError::Signal)?;
    let cgroup = memory::cgroup_limit(Path::new("/"));
    let (budgets, cuts) = Budgets::divide(&config, memory::limit(&config.memory_limit, cgroup));
    for cut in cuts {
        tracing::warn!("{cut}");
    }
    let unused = &config.export.unused_variables;
    if !unused.is_empty() {
        // Their values may be secrets.
        tracing::warn!(variables = unused.join(", "), "set in the environment, and not used here");
    }
    if config.export.tls.insecure_skip_verify {
        tracing::warn!(
            "export.tls.insecure_skip_verify: whoever is in the way can read and change what is sent"
        );
    }
    if sends_tokens_in_clear(&config.receive) {
        tracing::warn!("receive.auth: without receive.tls tokens can be read by whoever is in the way");
    }
    let keeps = keeps(&config);
    let path = if config.export.protocol == Protocol::Grpc { "" } else { &config.export.traces_path };
    let destination = format!("{}{path}", config.export.endpoint.trim_end_matches('/'));
    let app = App::bind(config, budgets, Clock::start()).await?;
    let addresses = app.addresses();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        grpc = %addresses.grpc,
        http = %addresses.http,
        admin = %addresses.admin,
        "listening for OTLP"
    );
    tracing::info!(destination, memory_limit = budgets.memory_limit, "{keeps}");

    let (first, is_first) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async {
        // An error means that the waiting below ended: stop as well.
        let _ = is_first.await;
    };
    let mut serving = std::pin::pin!(app.run(shutdown));
    let mut first = Some(first);
    let mut told_at = Instant::now();
    let ended = loop {
        tokio::select! {
            ended = &mut serving => break ended,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
        match first.take() {
            Some(first) => {
                told_at = Instant::now();
                // Nobody listens any more: it is ending already.
                let _ = first.send(());
            }
            None if told_at.elapsed() < SAME_SIGNAL => {}
            None => {
                tracing::error!("ending at once: a second signal came");
                std::process::exit(1);
            }
        }
    };
    let losses = ended.losses;
    if losses.spans() > 0 {
        tracing::error!(
            spans = losses.spans(),
            queue_full = losses.queue_full,
            retry_expired = losses.retry_expired,
            rejected = losses.rejected,
            shutdown = losses.shutdown,
            "ended; so many of the spans that were accepted since the start could not be sent, by reason"
        );
    } else {
        tracing::info!("ended; every accepted span was sent, or dropped by a decision");
    }
    Ok(())
}

pub(super) async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { key, address, source })
}

pub(super) fn address(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(StartError::Address)
}

/// How many locks held traces are spread over: with one core nobody contends, with more each thread should nearly
/// always find its lock free.
pub(super) fn shards() -> usize {
    match cores() {
        1 => 1,
        cores => cores * 4,
    }
}

/// How many threads can work at once.
pub(super) fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Whether senders show their tokens on a network, without TLS.
fn sends_tokens_in_clear(receive: &Receive) -> bool {
    let is_local = [receive.grpc.endpoint, receive.http.endpoint].iter().all(|own| own.ip().is_loopback());
    let is_plain = receive.tls.cert_file.as_os_str().is_empty();
    !receive.auth.bearer_token_file.as_os_str().is_empty() && is_plain && !is_local
}

/// What is kept and what is dropped, as an operator should know it from the first lines of the log.
fn keeps(config: &Config) -> String {
    let slow = match config.slow.threshold {
        Threshold::Learned => "slower than its route's learned threshold".to_owned(),
        Threshold::Fixed(threshold) => format!("slower than {}", humantime::format_duration(threshold)),
    };
    let percent = |share: f64| format!("{}%", share * 100.0);
    let (errors, healthy) = (percent(config.sample.errors), percent(config.sample.healthy));
    let dry_run = if config.sample.dry_run { "; dry run: nothing is dropped" } else { "" };
    let exceptions = if config.slow.routes.is_empty() { "" } else { " unless slow.routes says otherwise," };
    format!(
        "keeping every trace that is {slow},{exceptions} {errors} of errors, {healthy} of the rest{dry_run}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{RouteOverride, Slow};

    #[test]
    fn what_is_kept_is_told_with_its_exceptions() {
        let mut config = Config::default();
        let learned = "keeping every trace that is slower than its route's learned threshold,";
        assert_eq!(keeps(&config), format!("{learned} 100% of errors, 5% of the rest"));
        config
            .slow
            .routes
            .push(RouteOverride { threshold: Some(Duration::from_secs(1)), ..RouteOverride::default() });
        let expected = format!("{learned} unless slow.routes says otherwise, 100% of errors, 5% of the rest");
        assert_eq!(keeps(&config), expected);
        config.slow = Slow { threshold: Threshold::Fixed(Duration::from_millis(300)), ..Slow::default() };
        config.sample.dry_run = true;
        let expected = "keeping every trace that is slower than 300ms, 100% of errors, 5% of the rest; dry run: nothing is dropped";
        assert_eq!(keeps(&config), expected);
    }
}
