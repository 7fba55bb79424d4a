//! One attached client: a socket, the streams it wants, and bytes on their way to it.

use std::os::fd::{AsFd, OwnedFd};

use ferry_shim_proto::AttachStreams;
use rustix::io::Errno;

use crate::log::lines::Stream;
use crate::pending::{Pending, retry};
use crate::poll::{EventFlags, Interest, Poller, Token};

use super::detach::{DetachFilter, Verdict};

/// While this many bytes wait for a client, the process' streams it is attached to are not read.
/// One read may come on top.
pub const OUT_LIMIT: usize = 64 * 1024;

/// The client's side of stdin.
#[derive(Debug)]
enum Input {
    /// Being forwarded.
    Open(DetachFilter),
    /// Ended, or never wanted.
    Closed,
}

/// What reading from a client yielded.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// Input was appended.
    Bytes,
    /// The client's input ended, after the appended bytes.
    End,
    /// The detach keys were typed, after the appended bytes.
    Detach,
    /// Nothing now.
    Nothing,
}

/// An attached client.
#[derive(Debug)]
pub struct Client {
    /// Number within its session.
    pub id: u32,
    socket: OwnedFd,
    wants: [bool; 2],
    multiplexed: bool,
    input: Input,
    out: Pending,
    /// Nobody reads what is sent.
    deaf: bool,
    /// To be closed once everything is sent.
    leaving: bool,
    interest: Interest,
}

impl Client {
    /// Takes a socket over. `stdin`: whether there is anything to forward its input to; `tty`: whether
    /// that is a terminal, where detach keys count.
    pub fn new(
        id: u32,
        socket: OwnedFd,
        streams: &AttachStreams,
        stdin: bool,
        tty: bool,
    ) -> std::io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&socket)?;
        if !flags.contains(rustix::fs::OFlags::NONBLOCK) {
            rustix::fs::fcntl_setfl(&socket, flags | rustix::fs::OFlags::NONBLOCK)?;
        }
        let keys = if tty { streams.detach_keys.clone() } else { Vec::new() };
        Ok(Self {
            id,
            socket,
            wants: [streams.stdout, streams.stderr],
            multiplexed: streams.multiplexed,
            input: if stdin && streams.stdin { Input::Open(DetachFilter::new(keys)) } else { Input::Closed },
            out: Pending::default(),
            deaf: false,
            leaving: false,
            interest: Interest::default(),
        })
    }

    /// Whether its input is being forwarded.
    pub fn has_input(&self) -> bool {
        matches!(self.input, Input::Open(_))
    }

    /// Passes input through the detach filter.
    pub fn filter(&mut self, input: &[u8], out: &mut Vec<u8>) -> Received {
        let Input::Open(filter) = &mut self.input else {
            return Received::Nothing;
        };
        match filter.filter(input, out) {
            Verdict::Stay => Received::Bytes,
            Verdict::Detach => {
                self.input = Input::Closed;
                Received::Detach
            }
        }
    }

    /// Reads input once, at most `scratch.len()` bytes.
    pub fn receive(&mut self, scratch: &mut [u8], out: &mut Vec<u8>) -> Received {
        if !self.has_input() {
            return Received::Nothing;
        }
        match retry(|| rustix::io::read(&self.socket, &mut *scratch)) {
            Ok(0) => {
                self.input = Input::Closed;
                Received::End
            }
            Ok(n) => self.filter(&scratch[..n], out),
            Err(Errno::AGAIN) => Received::Nothing,
            Err(_) => {
                self.input = Input::Closed;
                self.go_deaf();
                Received::End
            }
        }
    }

    /// Sends output of the process.
    pub fn deliver(&mut self, stream: Stream, data: &[u8]) {
        if !self.wants[stream.index()] || self.deaf || self.leaving {
            return;
        }
        let mut header = [0; 8];
        let head: &[u8] = if self.multiplexed {
            // Docker's stdcopy: stream number, three zeros, big-endian length.
            header[0] = stream.index() as u8 + 1;
            header[4..].copy_from_slice(&(data.len() as u32).to_be_bytes());
            &header
        } else {
            &[]
        };
        if self.out.send(&self.socket, head, data).is_err() {
            self.go_deaf();
        }
    }

    /// Sends what is waiting.
    pub fn flush(&mut self) {
        if self.out.flush(&self.socket).is_err() {
            self.go_deaf();
        }
    }

    /// The peer is gone for good, at least as a reader.
    pub fn go_deaf(&mut self) {
        self.deaf = true;
        self.out.clear();
    }

    /// Sends what is waiting, then closes.
    pub fn leave(&mut self) {
        self.leaving = true;
        self.input = Input::Closed;
    }

    /// Whether it waits for its peer to read, so that `stream` must not be read further.
    pub fn blocks(&self, stream: Stream) -> bool {
        self.wants[stream.index()] && !self.leaving && self.out.len() >= OUT_LIMIT
    }

    /// Whether nothing further can happen with it.
    pub fn is_done(&self) -> bool {
        (self.leaving && self.out.is_empty()) || (self.deaf && !self.has_input())
    }

    /// Registers for what it waits for. `take_input`: whether input can be forwarded now.
    pub fn settle(&mut self, poller: &Poller, token: Token, take_input: bool) {
        let mut wanted = EventFlags::empty();
        if self.has_input() && take_input {
            wanted |= EventFlags::IN;
        }
        if !self.out.is_empty() {
            wanted |= EventFlags::OUT;
        }
        // A hung-up peer would be reported again and again while its input has to wait.
        let silent = self.deaf && wanted.is_empty();
        let wanted = (!silent).then_some(wanted);
        if self.interest.set(poller, self.socket.as_fd(), token, wanted).is_err() {
            self.input = Input::Closed;
            self.go_deaf();
        }
    }

    /// Closes the connection so that the peer sees an orderly end.
    pub fn close(self, scratch: &mut [u8]) {
        // Also when the engine still holds a duplicate of the socket.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        // Unread input would turn the end into a reset and could cost the peer its last output.
        for _ in 0..16 {
            match rustix::io::read(&self.socket, &mut *scratch) {
                Ok(n) if n > 0 => {}
                _ => break,
            }
        }
    }
}
