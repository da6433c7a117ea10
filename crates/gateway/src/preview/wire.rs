//! A browser's connection whose requests are looked at by their bytes before they are parsed.
//!
//! A refused request is replaced by one that says so (to [`REFUSED`]), so its answer comes in its turn behind those
//! of the requests before it; what follows it is read and thrown away.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::{Fault, Framing, Step};
use crate::egress::socket::Socket;

/// The host of a request that stands for a refused one. Nothing is served under it, whoever sends it.
pub(crate) const REFUSED: &str = "refused.invalid";
const REPLACEMENT: &[u8] = b"GET / HTTP/1.1\r\nHost: refused.invalid\r\nConnection: close\r\n\r\n";

/// A connection from a browser.
pub(crate) struct Inspected {
    socket: Socket,
    framing: Framing,
    /// May be passed on.
    ready: Bytes,
    /// Read behind that, and not looked at.
    behind: Bytes,
    /// What was wrong with the request that was refused.
    fault: Arc<OnceLock<Fault>>,
}

impl Inspected {
    pub(crate) fn new(socket: Socket, fault: Arc<OnceLock<Fault>>) -> Self {
        Self { socket, framing: Framing::new(), ready: Bytes::new(), behind: Bytes::new(), fault }
    }

    /// The connection itself, with everything that was read of it and not passed on.
    pub(crate) fn into_socket(self) -> Socket {
        let held = [&self.ready[..], &self.framing.unfinished(), &self.behind].concat();
        if held.is_empty() { self.socket } else { self.socket.put_back(held.into()) }
    }

    /// Looks at some of what is `behind`.
    fn look(&mut self) -> io::Result<()> {
        match self.framing.step(&self.behind) {
            Step::Body(length) => self.ready = self.behind.split_to(length),
            Step::Taken(length) => self.behind.advance(length),
            Step::Head(length, head) => {
                self.behind.advance(length);
                self.ready = head.into();
            }
            Step::Refused(fault) => {
                let _ = self.fault.set(fault);
                self.behind.clear();
                self.ready = Bytes::from_static(REPLACEMENT);
            }
            Step::Broken => return Err(io::Error::new(io::ErrorKind::InvalidData, "a chunk cannot be read")),
        }
        Ok(())
    }
}

impl AsyncRead for Inspected {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.ready.is_empty() {
                let length = this.ready.len().min(buf.remaining());
                buf.put_slice(&this.ready[..length]);
                this.ready.advance(length);
                return Poll::Ready(Ok(()));
            }
            if !this.behind.is_empty() {
                this.look()?;
                continue;
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
            let read = &buf.filled()[before..];
            if this.framing.is_refused() {
                let ended = read.is_empty();
                buf.set_filled(before);
                // An end now would cut off the answer; the connection is closed behind that.
                if ended {
                    return Poll::Pending;
                }
                continue;
            }
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            // What is all body stays where it was read to.
            if this.framing.is_within_body(read.len()) {
                return match this.framing.step(read) {
                    Step::Body(_) => Poll::Ready(Ok(())),
                    _ => Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                };
            }
            this.behind = Bytes::copy_from_slice(read);
            buf.set_filled(before);
        }
    }
}

impl AsyncWrite for Inspected {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
