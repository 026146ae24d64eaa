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
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::ahead::Ahead;
use self::ahead::{LEAST, Window};
use self::linger::Linger;
use super::tls::{self, Port};
use crate::telemetry::repeated::Repeated;

/// How long peers are waited for, and how many there may be.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Connections on one port; more wait until one of them ends.
    pub connections: usize,
    /// For the headers of a request, and for the next request on a connection.
    pub idle: Duration,
    /// For the body of a request.
    pub body: Duration,
    /// For room for a request, while others are being read.
    pub room: Duration,
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
            room: Duration::from_secs(1),
            age: Duration::from_mins(30),
            drain: Duration::from_secs(10),
            last_headers: Duration::from_millis(500),
            linger: Duration::from_secs(2),
        }
    }
}

/// Requests under way on one HTTP/2 connection, if each can get as much as HTTP/2 lets a peer send before it has heard of
/// any window; a sender with more waits for the first of them. They share its window in equal parts: one that waits for
/// room leaves its part unread, and must not keep those from arriving that have got theirs.
const STREAMS: u32 = 2;
/// The part of one request, where there is so much: most arrive in one piece then.
const WINDOW_OF_STREAM: u32 = 384 * 1024;
/// The headers of one request.
const HEADERS: u32 = 32 * 1024;
/// The smallest largest frame that HTTP/2 allows. Where a request comes in several pieces, small ones are as good.
const FRAME: u32 = 16 * 1024;
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
    let mut failures = Repeated::default();
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
                if let Some(failures) = failures.note(1, Instant::now()) {
                    tracing::warn!(%error, failures, "cannot accept a connection");
                }
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

/// Comes with a request: what its sender puts into one HTTP/2 frame at most, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LargestFrame(pub(crate) u32);

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
    let (streams, of_stream) = parts(window);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .max_header_list_size(HEADERS)
        .initial_stream_window_size(of_stream)
        .initial_connection_window_size(of_stream.saturating_mul(streams))
        .max_frame_size(largest_frame(window))
        .keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1);
    builder
}

/// How many requests share a connection's window, and the part of each.
fn parts(window: usize) -> (u32, u32) {
    let window = u32::try_from(window).unwrap_or(u32::MAX);
    let least = if window as usize / LEAST < STREAMS as usize { 1 } else { STREAMS };
    let streams = (window / WINDOW_OF_STREAM).max(least);
    (streams, window / streams)
}

fn largest_frame(window: usize) -> u32 {
    let (_, of_stream) = parts(window);
    if of_stream < WINDOW_OF_STREAM { FRAME } else { of_stream }
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
        let largest_frame = LargestFrame(largest_frame(self.window.size));
        let service = service_fn({
            let requests = requests.clone();
            move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(largest_frame);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_share_the_window_of_their_connection_in_equal_parts() {
        for window in (LEAST..8 << 20).step_by(10_007) {
            let (streams, of_stream) = parts(window);
            let all = (streams * of_stream) as usize;
            assert!(all <= window && all > window - streams as usize, "{window}");
            assert!(of_stream as usize >= LEAST && (streams >= STREAMS || window < 2 * LEAST), "{window}");
        }
        assert_eq!(parts(4 * WINDOW_OF_STREAM as usize), (4, WINDOW_OF_STREAM));
    }
}
