//! A TCP stream that closes without destroying the last answer.
//!
//! A request can be refused before it has arrived. If the socket were closed with bytes of it unread, the kernel
//! would send a reset, and a peer that is still writing would lose the answer that says why.

use std::future::Future;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::Requests;

/// Where a request was not read to its end: reads and throws away, after the last byte was written, until the
/// peer has closed or time is up.
pub(super) struct Linger {
    stream: TcpStream,
    patience: Duration,
    requests: Arc<Requests>,
    closing: Option<Pin<Box<Sleep>>>,
}

impl Linger {
    pub(super) fn new(stream: TcpStream, patience: Duration, requests: Arc<Requests>) -> Self {
        Self { stream, patience, requests, closing: None }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl AsyncRead for Linger {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buf)
    }
}

impl AsyncWrite for Linger {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closing.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        if !this.requests.has_unread.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let closing = this.closing.get_or_insert_with(|| Box::pin(sleep(this.patience)));
        if closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut thrown_away = [0; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut thrown_away);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}
