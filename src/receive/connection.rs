//! Connections of both receivers: accepted up to a limit, watched for idleness and age, ended in order.
//!
//! HTTP/1.1 and HTTP/2 are told apart by their first bytes. Whatever a peer does or leaves undone, it holds a
//! connection for a bounded time and costs no other connection anything.

mod linger;

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::linger::Linger;

/// How long peers are waited for, and how many there may be.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Connections on one port; more wait until one of them ends.
    pub connections: usize,
    /// For the headers of a request, and for the next request on a connection.
    pub idle: Duration,
    /// For the body of a request.
    pub body: Duration,
    /// A connection is asked to end after this, so that load balancers get to spread senders anew.
    pub age: Duration,
    /// For requests under way once the receiver ends.
    pub drain: Duration,
    /// For the peer to take notice of an answer that came before it had sent everything.
    pub linger: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connections: 1024,
            idle: Duration::from_mins(1),
            body: Duration::from_secs(30),
            age: Duration::from_mins(30),
            drain: Duration::from_secs(10),
            linger: Duration::from_secs(2),
        }
    }
}

/// Requests under way on one HTTP/2 connection; a sender with more waits for the first of them.
const STREAMS: u32 = 256;
/// The headers of one request.
const HEADERS: u32 = 32 * 1024;
/// What a sender may send ahead on one stream; the requests of most senders fit.
const WINDOW: u32 = 1 << 20;
/// A frame as large as most requests arrives in one piece and is never copied.
const FRAME: u32 = 512 * 1024;
/// Silence after which a peer is probed, and then given up.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// Between attempts to accept while the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers the requests of every connection that `listener` gets, until `shutdown`.
///
/// Then the listener is closed, idle connections are ended and the others once their requests are answered, at
/// the latest after `patience.drain`. Nothing of it runs any more when this returns.
pub(crate) async fn serve<S, F, B>(
    listener: TcpListener,
    patience: Patience,
    shutdown: impl Future<Output = ()>,
    answer: S,
) where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let tasks = Tasks::default();
    let http = Arc::new(builder(&tasks, patience));
    let slots = Arc::new(Semaphore::new(patience.connections));
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        match accepted {
            Ok((stream, slot)) => {
                let connection = Connection { patience, tasks: tasks.clone(), http: http.clone() };
                tasks.tracker.spawn(connection.run(stream, slot, answer.clone()));
            }
            Err(error) => {
                // A peer that gave up, or no file descriptors; the next one may do better.
                tracing::warn!(%error, "cannot accept a connection");
                if timeout(ACCEPT_PAUSE, &mut shutdown).await.is_ok() {
                    break;
                }
            }
        }
    }
    drop(listener);
    tasks.tracker.close();
    tasks.draining.cancel();
    if timeout(patience.drain, tasks.tracker.wait()).await.is_err() {
        tracing::warn!("connections did not end in time and were cut");
        tasks.ended.cancel();
        tasks.tracker.wait().await;
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, slot))
}

/// Marks a response whose HTTP/1.1 request was not read to its end, so that its connection closes with care.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unread;

/// Everything that runs for one receiver.
#[derive(Clone, Default)]
struct Tasks {
    tracker: TaskTracker,
    /// No new requests.
    draining: CancellationToken,
    /// No requests at all.
    ended: CancellationToken,
}

/// hyper runs each HTTP/2 request as a task of its own; they are waited for like the connections.
impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.tracker.spawn(task);
    }
}

fn builder(tasks: &Tasks, patience: Patience) -> auto::Builder<Tasks> {
    let mut builder = auto::Builder::new(tasks.clone());
    // Without a timer hyper has no timeouts at all.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience.idle);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .max_frame_size(FRAME)
        .keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1);
    builder
}

struct Connection {
    patience: Patience,
    tasks: Tasks,
    http: Arc<auto::Builder<Tasks>>,
}

impl Connection {
    async fn run<S, F, B>(self, stream: TcpStream, slot: OwnedSemaphorePermit, answer: S)
    where
        S: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let requests = Arc::new(Requests::default());
        let service = service_fn({
            let requests = requests.clone();
            move |request| {
                let under_way = requests.begin();
                let answered = answer(request);
                async move {
                    let response = answered.await;
                    if response.extensions().get::<Unread>().is_some() {
                        under_way.0.has_unread.store(true, Ordering::Relaxed);
                    }
                    drop(under_way);
                    Ok::<_, Infallible>(response)
                }
            }
        });
        let io = TokioIo::new(Linger::new(stream, self.patience.linger, requests.clone()));
        let mut connection = pin!(self.http.serve_connection(io, service));
        let mut age = Duration::ZERO;
        let mut seen = 0;
        let mut is_ending = false;
        loop {
            // Time is counted in such steps, so no request has to read a clock.
            let step = if is_ending { self.patience.body } else { self.patience.idle };
            tokio::select! {
                ended = timeout(step, connection.as_mut()) => {
                    if ended.is_ok() || is_ending {
                        break;
                    }
                    age += step;
                    is_ending = age >= self.patience.age || requests.idle_since(&mut seen);
                }
                () = self.tasks.draining.cancelled(), if !is_ending => is_ending = true,
                () = self.tasks.ended.cancelled() => break,
            }
            if is_ending {
                connection.as_mut().graceful_shutdown();
            }
        }
        drop(slot);
    }
}

/// The requests of one connection.
#[derive(Default)]
struct Requests {
    begun: AtomicUsize,
    answered: AtomicUsize,
    /// Whether one of them was not read to its end.
    has_unread: AtomicBool,
}

/// A request that is not answered yet.
struct UnderWay(Arc<Requests>);

impl Requests {
    fn begin(self: &Arc<Self>) -> UnderWay {
        self.begun.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    /// Whether there has been no request since there were `seen`, which becomes the present number.
    fn idle_since(&self, seen: &mut usize) -> bool {
        let answered = self.answered.load(Ordering::Relaxed);
        let begun = self.begun.load(Ordering::Relaxed);
        let is_idle = begun == answered && begun == *seen;
        *seen = begun;
        is_idle
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.answered.fetch_add(1, Ordering::Relaxed);
    }
}
