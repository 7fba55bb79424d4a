//! A client's connection: unix, TCP, or TCP with TLS.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// A connection of any kind.
pub(super) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// Whether the client speaks HTTP/2: agreed on by ALPN, or told by its first bytes.
    pub(super) async fn speaks_http2(&self) -> bool {
        let mut start = [0_u8; 3];
        let peeked = match self {
            Self::Tls(stream) => return stream.get_ref().1.alpn_protocol() == Some(b"h2"),
            Self::Tcp(stream) => stream.peek(&mut start).await,
            Self::Unix(stream) => {
                let peek = || {
                    let flags = rustix::net::RecvFlags::PEEK;
                    let (read, _) = rustix::net::recv(stream, &mut start, flags)?;
                    Ok(read)
                };
                stream.async_io(Interest::READABLE, peek).await
            }
        };
        // The preface of RFC 9113, 3.4 begins like no HTTP/1 request; clients send it in one piece.
        matches!(peeked, Ok(3)) && &start == b"PRI"
    }

    /// The socket itself, out of the runtime's hands but still non-blocking. A TLS client gets one
    /// end of a socket pair, and a task that copies.
    pub(super) fn into_fd(self) -> io::Result<OwnedFd> {
        match self {
            Self::Unix(stream) => Ok(stream.into_std()?.into()),
            Self::Tcp(stream) => Ok(stream.into_std()?.into()),
            Self::Tls(mut stream) => {
                let (mut ours, theirs) = UnixStream::pair()?;
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut ours).await });
                Ok(theirs.into_std()?.into())
            }
        }
    }

    /// Waits until the peer has read everything sent, at most for `patience`. Only unix sockets know.
    pub(super) async fn until_read(&self, patience: Duration) {
        let Self::Unix(stream) = self else { return };
        let wait = async {
            let mut pause = Duration::from_micros(100);
            while matches!(ferry_sys::socket::unread_by_peer(stream.as_fd()), Ok(1..)) {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(5));
            }
        };
        let _ = tokio::time::timeout(patience, wait).await;
    }

    fn reader(&mut self) -> Pin<&mut (dyn AsyncRead + Send + Unpin)> {
        match self {
            Self::Unix(stream) => Pin::new(stream),
            Self::Tcp(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(stream.as_mut()),
        }
    }

    fn writer(&mut self) -> Pin<&mut (dyn AsyncWrite + Send + Unpin)> {
        match self {
            Self::Unix(stream) => Pin::new(stream),
            Self::Tcp(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(stream.as_mut()),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().reader().poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().writer().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().writer().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        !matches!(self, Self::Tls(_))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().writer().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().writer().poll_shutdown(cx)
    }
}
