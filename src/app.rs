//! The sidecar as a whole: binds every socket, then starts the stages, and stops them in the order of data flow.
//!
//! The only place that knows all stages, spawns tasks and reads the clock. Stopping is timed: what has not left
//! when its time is over is counted and named, not waited for.

mod clock;
mod deciding;
mod exposition;
mod reloading;
mod snapshot_file;
mod start;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};

pub use clock::Clock;
use deciding::Deciding;
use exposition::Pages;
use reloading::Reloading;
use snapshot_file::SnapshotFile;
pub use start::{StartError, run};

use crate::admin::{self, Exposition, Readiness};
use crate::config::Config;
use crate::config::memory::Budgets;
use crate::export::ourselves::{self, Instance};
use crate::export::{self, Destination, Losses, Queue};
use crate::pipeline::{Limits, Pipeline};
use crate::receive::auth::Tokens;
use crate::receive::cors::Origins;
use crate::receive::passthrough::Relay;
use crate::receive::tls::ServerTls;
use crate::receive::{self, Accept, Intake};
use crate::secrets::Reload;
use crate::telemetry::metrics::Metrics;

/// What connections may read ahead of their requests, in bytes: a part of the 40 MiB by which the process may exceed its
/// memory limit.
const READ_AHEAD: u64 = 12 << 20;

/// A sidecar with bound sockets, ready to run.
#[derive(Debug)]
pub struct App {
    config: Config,
    clock: Clock,
    metrics: Arc<Metrics>,
    pipeline: Arc<Pipeline>,
    deciding: Arc<Deciding>,
    snapshot: Option<SnapshotFile>,
    queue: Arc<Queue>,
    destination: Destination,
    files: Vec<Arc<dyn Reload>>,
    intake: Arc<Intake>,
    grpc: TcpListener,
    http: TcpListener,
    admin: TcpListener,
    addresses: Addresses,
}

/// Where an [`App`] listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// OTLP over gRPC.
    pub grpc: SocketAddr,
    /// OTLP over HTTP.
    pub http: SocketAddr,
    /// Probes and metrics.
    pub admin: SocketAddr,
}

impl Addresses {
    fn by_key(self) -> [(&'static str, SocketAddr); 3] {
        [
            ("receive.grpc.endpoint", self.grpc),
            ("receive.http.endpoint", self.http),
            ("telemetry.admin.endpoint", self.admin),
        ]
    }
}

/// What an [`App`] leaves when it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// What the whole run has lost.
    pub losses: Losses,
}

impl App {
    /// Binds every socket of `config` and reads back what was learned before; nothing is served yet.
    pub async fn bind(mut config: Config, budgets: Budgets, clock: Clock) -> Result<Self, StartError> {
        config.assemble.maximum_trace_size = budgets.maximum_trace_size;
        config.export.batch.max_size = budgets.max_batch_size;
        let tls = ServerTls::new(&config.receive.tls).map_err(StartError::File)?;
        let tokens = Tokens::new(&config.receive.auth).map_err(StartError::File)?;
        let mut files: Vec<_> = tls.iter().map(ServerTls::files).collect();
        files.extend(tokens.iter().map(Tokens::files));
        let grpc = start::listen("receive.grpc.endpoint", config.receive.grpc.endpoint).await?;
        let http = start::listen("receive.http.endpoint", config.receive.http.endpoint).await?;
        let admin = start::listen("telemetry.admin.endpoint", config.telemetry.admin.endpoint).await?;
        let addresses = Addresses {
            grpc: start::address(&grpc)?,
            http: start::address(&http)?,
            admin: start::address(&admin)?,
        };
        ourselves::refuse(&config.export, &addresses.by_key()).await.map_err(StartError::Destination)?;
        let instance = Instance::random();
        instance.mark(&mut config.export);
        let metrics = Arc::new(Metrics::default());
        metrics.memory_limit.set(budgets.memory_limit as f64);
        let limits = Limits { held: budgets.held, baseline: budgets.baseline, tables: budgets.tables };
        let pipeline = Arc::new(Pipeline::new(&config, limits, start::shards(), Arc::clone(&metrics)));
        let file_limit = budgets.baseline.saturating_add(budgets.tables);
        let snapshot = SnapshotFile::new(&config.baseline.snapshot_file, file_limit)
            .and_then(|file| file.restore(clock.now(), &pipeline));
        let queue = Arc::new(Queue::new(budgets.queue, Arc::clone(&metrics)));
        let unix = Arc::new(move || clock.now());
        let destination = Destination::new(&config.export, unix).map_err(StartError::Destination)?;
        let deciding = Deciding::new(clock, Arc::clone(&pipeline), Arc::clone(&queue), start::cores());
        let accept: Accept = {
            let deciding = Arc::clone(&deciding);
            Arc::new(move |batch, request, _| deciding.accept(batch, request))
        };
        files.extend(destination.files());
        let relay = relay(&config, &destination, &metrics);
        let intake = Intake::new(accept, budgets.max_request_size, budgets.in_flight, Arc::clone(&metrics));
        let origins = Origins::new(&config.receive.http.cors);
        let intake = intake.with_relay(relay).with_read_ahead(READ_AHEAD).with_instance(instance);
        let intake = Arc::new(intake.with_tls(tls).with_tokens(tokens).with_origins(origins));
        Ok(Self {
            config,
            clock,
            metrics,
            pipeline,
            deciding,
            snapshot,
            queue,
            destination,
            files,
            intake,
            grpc,
            http,
            admin,
            addresses,
        })
    }

    /// Where it listens: with port 0 in the configuration, the port that was found.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// What it counts.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Serves until `shutdown` completes, then decides and sends what is held.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Ended {
        let Self {
            config,
            clock,
            metrics,
            pipeline,
            deciding,
            snapshot,
            queue,
            destination,
            files,
            intake,
            grpc,
            http,
            admin,
            addresses: _,
        } = self;
        // Each stage ends when its own signal is given, so that the one before it can still hand on.
        let (stop_receiving, receiving) = signal();
        let (stop_exporting, exporting) = signal();
        let (stop_saving, saving) = signal();
        let (stop_admin, administering) = signal();
        let (stop_reloading, reloading_stops) = signal();
        let readiness = Arc::new(Readiness::default());
        readiness.set(true);

        let receivers = [
            spawn(receive::grpc::serve(grpc, Arc::clone(&intake), receiving.clone().given())),
            spawn(receive::http::serve(http, Arc::clone(&intake), receiving.given())),
        ];
        let (stop_deciding, deciders): (Vec<_>, Vec<_>) = (0..deciding.threads())
            .map(|thread| {
                // A thread ends when its sender is gone.
                let (stop, stopped) = mpsc::channel::<()>();
                let deciding = Arc::clone(&deciding);
                (stop, spawn_blocking(move || deciding.run(thread, &stopped)))
            })
            .unzip();
        let unix = Arc::new(move || clock.now());
        let exporter = spawn(export::run(
            Arc::clone(&queue),
            destination,
            config.export.clone(),
            Arc::clone(&metrics),
            unix,
            exporting.given(),
        ));
        let reloading = Reloading::of(files, Arc::clone(&metrics));
        let reloader = spawn(reloading.keep(config.receive.tls.reload_interval, reloading_stops.given()));
        let saver =
            snapshot.map(|snapshot| spawn(snapshot.keep(clock, Arc::clone(&pipeline), saving.given())));
        let exposition: Exposition = {
            let pages = Pages::new(Arc::clone(&pipeline), Arc::clone(&metrics));
            Arc::new(move || {
                let pages = Arc::clone(&pages);
                Box::pin(async move { pages.next().await })
            })
        };
        let admin = spawn(admin::serve(
            admin,
            exposition,
            Arc::clone(&readiness),
            Arc::clone(&pipeline),
            administering.given(),
        ));

        shutdown.await;
        tracing::info!(delay = ?config.shutdown.delay, "stopping: readiness is off");
        readiness.set(false);
        sleep(config.shutdown.delay).await;
        intake.drain();
        stop_receiving.give();
        let drained = timeout(config.shutdown.drain_timeout, async {
            for receiver in receivers {
                join(receiver).await;
            }
            drop(stop_deciding);
            for decider in deciders {
                join(decider).await;
            }
            deciding.decide_rest().await;
            stop_exporting.give();
            join(exporter).await;
        });
        if drained.await.is_err() {
            // A sender that never ends its request, or a destination that is away: what is held is still decided,
            // so that it is counted for what it was.
            deciding.decide_rest_at_once();
        }
        stop_saving.give();
        if let Some(saver) = saver {
            join(saver).await;
        }
        stop_reloading.give();
        join(reloader).await;
        let ended = Ended { losses: queue.abandon() };
        pipeline.publish();
        stop_admin.give();
        drop(timeout(Duration::from_secs(1), join(admin)).await);
        ended
    }
}

/// What passes other signals through to the destination.
fn relay(config: &Config, destination: &Destination, metrics: &Arc<Metrics>) -> Relay {
    let (signals, metrics) = (config.passthrough.clone(), Arc::clone(metrics));
    match destination {
        Destination::Grpc(channel) => {
            let compression = export::compression(&config.export);
            Relay::new(channel.clone(), compression, config.export.timeout, signals, metrics)
        }
        Destination::Http(client) => Relay::over_http(client.clone(), signals, metrics),
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the place that spawns, and joins, every task")]
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task)
}

async fn join<T>(task: JoinHandle<T>) {
    if let Err(error) = task.await {
        tracing::error!(%error, "a task ended by a panic; please report this as a bug");
    }
}

/// The giving end of a signal; dropping it gives it too, so no stage can outlive what would stop it.
struct Give(watch::Sender<bool>);

/// The waiting end of a signal.
#[derive(Clone)]
struct Wait(watch::Receiver<bool>);

fn signal() -> (Give, Wait) {
    let (give, wait) = watch::channel(false);
    (Give(give), Wait(wait))
}

impl Give {
    fn give(self) {
        self.0.send_replace(true);
    }
}

impl Wait {
    async fn given(mut self) {
        // An error means that the other end was dropped: given, too.
        let _ = self.0.wait_for(|given| *given).await;
    }
}
