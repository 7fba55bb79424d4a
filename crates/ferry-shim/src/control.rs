//! One control connection: frames in, answers and events out.

use std::os::fd::{AsFd, OwnedFd};

use ferry_shim_proto::codec::{self, CodecError, FrameReader, Incoming};
use ferry_shim_proto::{Event, Reply, RequestFrame, Response, ShimError};

use crate::pending::Pending;
use crate::poll::{EventFlags, Interest, Kind, Poller, Token};

/// An engine that lets this many bytes of answers and events pile up is not reading any more.
const OUT_LIMIT: usize = 1024 * 1024;

/// A connection of an engine.
#[derive(Debug)]
pub struct Conn {
    /// Number in tokens.
    pub id: u32,
    /// Whether events are pushed to it.
    pub subscribed: bool,
    /// Whether its last request is yet to be answered: until then it is not read.
    pub waiting: bool,
    socket: OwnedFd,
    reader: FrameReader,
    out: Pending,
    interest: Interest,
    broken: bool,
}

/// What arrived.
#[derive(Debug)]
pub enum Arrived {
    /// A request and its descriptors.
    Request(RequestFrame, Vec<OwnedFd>),
    /// Nothing more now.
    Nothing,
}

impl Conn {
    /// Takes over a non-blocking socket.
    pub fn new(id: u32, socket: OwnedFd) -> Self {
        Self {
            id,
            subscribed: false,
            waiting: false,
            socket,
            reader: FrameReader::new(),
            out: Pending::default(),
            interest: Interest::default(),
            broken: false,
        }
    }

    /// The next request. A peer that is gone or does not keep the protocol breaks the connection.
    pub fn receive(&mut self) -> Arrived {
        if self.broken || self.waiting {
            return Arrived::Nothing;
        }
        match self.next() {
            Ok(Some((request, fds))) => Arrived::Request(request, fds),
            Ok(None) => Arrived::Nothing,
            Err(_) => {
                self.broken = true;
                Arrived::Nothing
            }
        }
    }

    fn next(&mut self) -> Result<Option<(RequestFrame, Vec<OwnedFd>)>, CodecError> {
        match self.reader.read(&self.socket)? {
            Incoming::Frame(frame) => {
                let request = serde_json::from_slice(&frame.body)?;
                Ok(Some((request, frame.fds)))
            }
            Incoming::End => {
                self.broken = true;
                Ok(None)
            }
            Incoming::Pending => Ok(None),
        }
    }

    /// Answers a request.
    pub fn answer(&mut self, seq: u64, result: Result<Reply, ShimError>) {
        self.send(&match result {
            Ok(reply) => Response::Ok { seq, reply },
            Err(error) => Response::Error { seq, error },
        });
    }

    /// Pushes an event when it subscribed.
    pub fn notify(&mut self, event: &Event) {
        if self.subscribed {
            self.send(&Response::Event { event: event.clone() });
        }
    }

    fn send(&mut self, response: &Response) {
        if self.broken {
            return;
        }
        let sent = codec::encode(response).and_then(|frame| Ok(self.out.send(&self.socket, &[], &frame)?));
        if sent.is_err() || self.out.len() > OUT_LIMIT {
            self.broken = true;
        }
    }

    /// Sends what is waiting.
    pub fn flush(&mut self) {
        if self.out.flush(&self.socket).is_err() {
            self.broken = true;
        }
    }

    /// Whether the connection is of no use any more.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether all answers are sent.
    pub fn is_flushed(&self) -> bool {
        self.out.is_empty()
    }

    /// Registers for what it waits for.
    pub fn settle(&mut self, poller: &Poller) {
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, !self.waiting);
        wanted.set(EventFlags::OUT, !self.out.is_empty());
        // Without any, the end of the peer would be reported again and again.
        let wanted = Some(wanted).filter(|wanted| !wanted.is_empty());
        let token = Token::new(Kind::Conn, self.id, 0);
        if self.interest.set(poller, self.socket.as_fd(), token, wanted).is_err() {
            self.broken = true;
        }
    }
}
