//! Connections of both receivers: accepted up to a limit, watched for idleness and age, ended in order.
//!
//! HTTP/1.1 and HTTP/2 are told apart by their first bytes. Whatever a peer does or leaves undone, it holds a
//! connection for a bounded time and costs no other connection anything.

mod ahead;
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

pub(crate) use self::ahead::Ahead;
use self::ahead::{LEAST, Window};
use self::linger::Linger;
use super::tls::{self, Port};

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
    /// For the rest of a request's headers once the receiver ends.
    pub last_headers: Duration,
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
            last_headers: Duration::from_millis(500),
            linger: Duration::from_secs(2),
        }
    }
}

/// Requests under way on one HTTP/2 connection; a sender with more waits for the first of them. They share its window:
/// where that is small, many requests at once would all be half there, hold their room, and never be whole.
const STREAMS: (usize, usize) = (2, 256);
/// Of a window, for each request.
const WINDOW_OF_STREAM: usize = 64 * 1024;
/// The headers of one request.
const HEADERS: u32 = 32 * 1024;
/// A frame as large as most requests arrives in one piece and is never copied. HTTP/2 allows none below the lower bound.
const FRAME: (usize, usize) = (16 * 1024, 512 * 1024);
/// What hyper reads ahead on an HTTP/1.1 connection at most, unless it is told otherwise.
const READ_BUFFER: usize = 408 * 1024;
/// Silence after which a peer is probed, and then given up.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// Between attempts to accept while the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers the requests of every connection that `listener` gets, until `shutdown`.
///
/// Then the listener is closed, idle connections are ended and the others once their requests are answered, at
/// the latest after `patience.drain`. Nothing of it runs any more when this returns.
pub(crate) async fn serve<S, F, B>(
    (listener, tls): (TcpListener, Option<Port>),
    (patience, ahead): (Patience, Arc<Ahead>),
    shutdown: impl Future<Output = ()>,
    answer: S,
) where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let tasks = Tasks::default();
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
                let connection =
                    Connection { patience, tasks: tasks.clone(), window: ahead.window(), tls: tls.clone() };
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

fn builder(tasks: &Tasks, patience: Patience, window: usize) -> auto::Builder<Tasks> {
    let mut builder = auto::Builder::new(tasks.clone());
    // Without a timer hyper has no timeouts at all.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.idle)
        .max_buf_size(window.clamp(LEAST, READ_BUFFER));
    let as_u32 = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(as_u32((window / WINDOW_OF_STREAM).clamp(STREAMS.0, STREAMS.1)))
        .max_header_list_size(HEADERS)
        .initial_stream_window_size(as_u32(window))
        .initial_connection_window_size(as_u32(window))
        .max_frame_size(as_u32((window / 2).clamp(FRAME.0, FRAME.1)))
        .keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1);
    builder
}

struct Connection {
    patience: Patience,
    tasks: Tasks,
    window: Window,
    tls: Option<Port>,
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
        let plain = Linger::new(stream, self.patience.linger, requests.clone());
        let secured = tls::secured(plain, self.tls.as_ref(), self.patience.idle);
        let stream = tokio::select! {
            secured = secured => secured,
            // Who has not shaken hands has sent no request.
            () = self.tasks.draining.cancelled() => return,
        };
        let Ok(stream) = stream else { return };
        let io = TokioIo::new(stream);
        let http = builder(&self.tasks, self.patience, self.window.size);
        let mut connection = pin!(http.serve_connection(io, service));
        let mut age = Duration::ZERO;
        let mut seen = 0;
        let mut is_ending = false;
        let mut is_draining = false;
        loop {
            // Time is counted in such steps, so no request has to read a clock.
            let step = if is_draining {
                self.patience.last_headers
            } else if is_ending {
                self.patience.body
            } else {
                self.patience.idle
            };
            let was_ending = is_ending;
            tokio::select! {
                ended = timeout(step, connection.as_mut()) => {
                    let is_over = if is_draining {
                        // What is left sends no whole headers, or does not read its answer.
                        requests.idle_since(&mut seen) && !requests.has_unread.load(Ordering::Relaxed)
                    } else {
                        is_ending
                    };
                    if ended.is_ok() || is_over {
                        break;
                    }
                    age += step;
                    is_ending |= age >= self.patience.age || requests.idle_since(&mut seen);
                }
                () = self.tasks.draining.cancelled(), if !is_draining => {
                    (is_ending, is_draining) = (true, true);
                    requests.idle_since(&mut seen);
                }
                () = self.tasks.ended.cancelled() => break,
            }
            if is_ending && !was_ending {
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
