//! A blocking client of one shim connection, for tests and for callers without an async runtime.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use ferry_types::{Classify, ErrorKind};

use crate::codec::{self, CodecError, Decoder};
use crate::{Event, Reply, Request, RequestFrame, Response, ShimError, ShimErrorKind};

/// Why a call to a shim failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The shim refused the request.
    #[error(transparent)]
    Refused(#[from] ShimError),
    /// The connection failed.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The shim closed the connection.
    #[error("shim closed the connection")]
    Closed,
    /// The shim answered another request than the one sent.
    #[error("shim answered request {got} instead of {sent}")]
    OutOfOrder {
        /// Sequence number of the answer.
        got: u64,
        /// Sequence number of the request.
        sent: u64,
    },
}

impl Classify for ClientError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(e) => match e.kind {
                ShimErrorKind::CommandNotFound
                | ShimErrorKind::CommandNotExecutable
                | ShimErrorKind::Invalid => ErrorKind::InvalidParameter,
                ShimErrorKind::State => ErrorKind::Conflict,
                ShimErrorKind::System | ShimErrorKind::Log => ErrorKind::System,
            },
            Self::Codec(e) => e.kind(),
            Self::Closed => ErrorKind::Unavailable,
            Self::OutOfOrder { .. } => ErrorKind::System,
        }
    }
}

/// One connection to a shim. Requests are sent and answered one at a time; events that arrive
/// meanwhile are kept for [`Client::event`].
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    decoder: Decoder,
    events: VecDeque<Event>,
    seq: u64,
}

impl Client {
    /// Uses a connected socket, e.g. the peer of the descriptor 3 of a fresh shim.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, decoder: Decoder::new(), events: VecDeque::new(), seq: 0 }
    }

    /// Connects to a running shim's [`Launch::socket`](crate::Launch::socket), however long its path.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = ferry_sys::socket::connect_unix(path)?;
        Ok(Self::new(UnixStream::from(socket)))
    }

    /// Sends a request with its descriptors and waits for the answer.
    pub fn call(&mut self, request: Request, fds: &[BorrowedFd<'_>]) -> Result<Reply, ClientError> {
        self.seq += 1;
        let sent = self.seq;
        let frame = codec::encode(&RequestFrame { seq: sent, request })?;
        codec::send_frame(self.stream.as_fd(), &frame, fds)?;
        self.stream.set_read_timeout(None).map_err(CodecError::from)?;
        loop {
            let (got, result) = match self.receive()? {
                Response::Ok { seq, reply } => (seq, Ok(reply)),
                Response::Error { seq, error } => (seq, Err(error.into())),
                Response::Event { event } => {
                    self.events.push_back(event);
                    continue;
                }
            };
            if got != sent {
                return Err(ClientError::OutOfOrder { got, sent });
            }
            return result;
        }
    }

    /// The next event; `None` when none arrives within `timeout`.
    pub fn event(&mut self, timeout: Duration) -> Result<Option<Event>, ClientError> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        self.stream.set_read_timeout(Some(timeout)).map_err(CodecError::from)?;
        match self.receive() {
            Ok(Response::Event { event }) => Ok(Some(event)),
            Ok(Response::Ok { seq, .. } | Response::Error { seq, .. }) => {
                Err(ClientError::OutOfOrder { got: seq, sent: 0 })
            }
            Err(ClientError::Codec(CodecError::Io(e))) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn receive(&mut self) -> Result<Response, ClientError> {
        use std::io::Read;
        let mut buf = [0; 4096];
        loop {
            if let Some(response) = self.decoder.next()? {
                return Ok(response);
            }
            match self.stream.read(&mut buf) {
                Ok(0) if self.decoder.is_mid_frame() => return Err(CodecError::Truncated.into()),
                Ok(0) => return Err(ClientError::Closed),
                Ok(n) => self.decoder.push(&buf[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(CodecError::Io(e).into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ExitRecord;
    use std::io::Write;

    #[test]
    fn events_between_request_and_answer_are_kept() {
        let (a, mut b) = UnixStream::pair().unwrap();
        let event = Event::Exited(ExitRecord {
            code: 137,
            oom_killed: false,
            started_at: 1,
            finished_at: 2,
            log_lost: 0,
        });
        let mut bytes = codec::encode(&Response::Event { event: event.clone() }).unwrap();
        bytes.extend(codec::encode(&Response::Ok { seq: 1, reply: Reply::Done }).unwrap());
        bytes.extend(
            codec::encode(&Response::Error {
                seq: 2,
                error: ShimError {
                    kind: ShimErrorKind::State,
                    message: "container is not paused".to_owned(),
                },
            })
            .unwrap(),
        );
        b.write_all(&bytes).unwrap();
        let mut client = Client::new(a);
        assert_eq!(client.call(Request::Pause, &[]).unwrap(), Reply::Done);
        assert_eq!(client.event(Duration::from_millis(5)).unwrap(), Some(event));
        let err = client.call(Request::Resume, &[]).unwrap_err();
        assert_eq!(err.to_string(), "container is not paused");
        assert_eq!(err.kind(), ErrorKind::Conflict);
        assert_eq!(client.event(Duration::from_millis(5)).unwrap(), None);
    }
}
