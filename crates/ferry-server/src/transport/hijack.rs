//! Leaving HTTP: how a request's connection becomes a raw stream.
//!
//! Docker's hijack is older than, and not quite, HTTP's upgrade: the answer to clients that did not
//! ask for an upgrade is a 200 whose body is the rest of the connection, in both directions. So the
//! head is written here and not by hyper: a hijacking handler leaves a [`Switch`] with its
//! connection and returns a response that only makes hyper stop; [`Tap`] holds back what hyper writes
//! from then on, and the connection's task writes the real head and gives the socket away.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use ferry_api::ApiVersion;
use ferry_engine::api::Hijacked;
use futures_util::future::BoxFuture;
use http::{Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::Socket;
use crate::body::Body;
use crate::reply::{RAW_STREAM, output_type};

/// Takes a client's socket.
pub(super) type Taker = Box<dyn FnOnce(Hijacked) -> BoxFuture<'static, ()> + Send>;

/// What is to happen to a connection when hyper lets go of it.
pub(super) struct Switch {
    /// Bytes to send first.
    pub(super) head: Vec<u8>,
    /// Whether the client must have read the head before anything follows it.
    pub(super) head_alone: bool,
    /// Who gets the socket.
    pub(super) then: Taker,
}

/// Where handlers leave a [`Switch`].
#[derive(Default)]
pub(super) struct Exit {
    switching: AtomicBool,
    switch: Mutex<Option<Switch>>,
}

impl Exit {
    pub(super) fn take(&self) -> Option<Switch> {
        self.switch.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The connection a request came over, as far as handlers may touch it.
#[derive(Clone)]
pub(crate) struct ConnHandle(pub(super) Option<Arc<Exit>>);

impl ConnHandle {
    /// Asks for the connection's socket; the returned response must be the request's.
    /// `None` for HTTP/2, where a request has no socket of its own.
    pub(crate) fn hijack(&self, head: Vec<u8>, head_alone: bool, then: Taker) -> Option<Response<Body>> {
        let exit = self.0.as_ref()?;
        *exit.switch.lock().unwrap_or_else(PoisonError::into_inner) = Some(Switch { head, head_alone, then });
        exit.switching.store(true, Ordering::Release);
        let mut response = Response::new(Body::default());
        // The one status after which hyper ends a connection without closing it.
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        Some(response)
    }
}

/// The head of a hijacked stream, byte for byte as Docker sends it.
pub(crate) fn hijack_head(upgrade: bool, multiplexed: bool, version: ApiVersion) -> Vec<u8> {
    let head = if upgrade {
        let kind = output_type(multiplexed, version);
        format!(
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: {kind}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )
    } else {
        format!("HTTP/1.1 200 OK\r\nContent-Type: {RAW_STREAM}\r\n\r\n")
    };
    head.into_bytes()
}

/// A connection whose writes are held back once a handler has hijacked it.
pub(super) struct Tap {
    pub(super) socket: Socket,
    pub(super) exit: Arc<Exit>,
    held: Vec<u8>,
}

impl Tap {
    pub(super) fn new(socket: Socket, exit: Arc<Exit>) -> Self {
        Self { socket, exit, held: Vec::new() }
    }

    /// The socket, and what hyper still had to send before the hijacking response: answers to
    /// requests that came in the same packet.
    pub(super) fn into_parts(mut self) -> (Socket, Vec<u8>) {
        let start = self.held.windows(7).rposition(|bytes| bytes == b"HTTP/1.").unwrap_or_default();
        self.held.truncate(start);
        (self.socket, self.held)
    }

    fn switching(&self) -> bool {
        self.exit.switching.load(Ordering::Acquire)
    }
}

impl AsyncRead for Tap {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tap {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.switching() {
            self.get_mut().held.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.switching() {
            let tap = self.get_mut();
            bufs.iter().for_each(|buf| tap.held.extend_from_slice(buf));
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(upgrade: bool, multiplexed: bool, minor: u16) -> String {
        String::from_utf8(hijack_head(upgrade, multiplexed, ApiVersion(minor))).unwrap()
    }

    #[test]
    fn heads_are_dockers() {
        assert_eq!(
            head(true, true, 42),
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\
             Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        );
        assert!(head(true, true, 41).contains("Content-Type: application/vnd.docker.raw-stream\r\n"));
        assert!(head(true, false, 55).contains("Content-Type: application/vnd.docker.raw-stream\r\n"));
        assert_eq!(
            head(false, true, 55),
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
        );
    }
}
