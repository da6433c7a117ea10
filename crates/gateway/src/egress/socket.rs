//! Sockets that count: what moved, and when anything last did.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use super::report::Traffic;

/// When a byte last moved in a connection, on either of its sides.
#[derive(Debug)]
pub(crate) struct Activity {
    start: Instant,
    /// Milliseconds since the start.
    last: AtomicU64,
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), last: AtomicU64::new(0) })
    }

    pub(crate) fn touch(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// When a byte last moved, in milliseconds since the connection began.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// Ends when nothing has moved for so long.
    pub(crate) async fn idle_for(&self, limit: Duration) {
        loop {
            let until = self.start + Duration::from_millis(self.last.load(Ordering::Relaxed)) + limit;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// A connection to the inside or to the outside.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    /// What was read ahead and is to be read again.
    ahead: Bytes,
    activity: Arc<Activity>,
    /// Counted on the outside only.
    traffic: Option<Arc<Traffic>>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        Self { stream, ahead: Bytes::new(), activity, traffic: None }
    }

    /// A connection to the outside.
    pub(crate) fn outside(stream: TcpStream, activity: Arc<Activity>, traffic: Arc<Traffic>) -> Self {
        Self { stream, ahead: Bytes::new(), activity, traffic: Some(traffic) }
    }

    pub(crate) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// The same connection, with bytes that are read first.
    pub(crate) fn put_back(mut self, bytes: Bytes) -> Self {
        self.ahead = if self.ahead.is_empty() { bytes } else { [bytes, self.ahead].concat().into() };
        self
    }

    /// The connection itself, and what is to be read before it. What moves from now on is not counted.
    pub(crate) fn into_stream(self) -> (TcpStream, Bytes) {
        (self.stream, self.ahead)
    }

    /// The connection as the system knows it.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Ends when something can be read, or the end was reached; consumes nothing.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        if self.ahead.is_empty() {
            // Readiness alone may be a leftover of what was read before.
            self.stream.peek(&mut [0]).await?;
        }
        Ok(())
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead[..length]);
            self.ahead.advance(length);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.activity.touch();
        if let Some(traffic) = &self.traffic {
            traffic.received((buf.filled().len() - before) as u64);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Socket {
    fn wrote(&self, bytes: usize) {
        self.activity.touch();
        if let Some(traffic) = &self.traffic {
            traffic.sent(bytes as u64);
        }
    }
}
