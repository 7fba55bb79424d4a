//! Standard streams of one process: what it writes goes to the log and to every attached client, what
//! clients send goes to its stdin. Nothing here blocks and nothing grows without bound: a stream is
//! not read while a client it goes to has [`client::OUT_LIMIT`] bytes waiting or the log says so, and clients are not
//! read while [`IN_LIMIT`] bytes wait for stdin.

pub mod client;
pub mod detach;
mod pipes;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use ferry_shim_proto::AttachStreams;
use ferry_types::ExecId;
use rustix::io::Errno;

use crate::clock;
use crate::log::Log;
use crate::log::lines::Stream;
use crate::pending::{Pending, retry};
use crate::poll::{EventFlags, Interest, Kind, Poller, Token};

use client::{Client, Received};
pub use pipes::{Ends, pipes, terminal};

/// While this many bytes wait for stdin, clients are not read. One read may come on top.
const IN_LIMIT: usize = 64 * 1024;
/// Size an output pipe is given once it was found full.
const BIG_PIPE: usize = 256 * 1024;

/// A descriptor the process writes to.
#[derive(Debug)]
struct Output {
    fd: OwnedFd,
    stream: Stream,
    interest: Interest,
    /// Size of the pipe as far as known; 0 for a terminal.
    pipe_size: usize,
}

/// A descriptor the process reads from.
#[derive(Debug)]
struct Input {
    fd: OwnedFd,
    pending: Pending,
    /// To be closed once everything is written.
    ending: bool,
    /// The process does not read any more: what comes is discarded.
    broken: bool,
    interest: Interest,
}

/// How a read of an output went.
enum Taken {
    Bytes(usize),
    Empty,
    End,
}

/// The standard streams of the container's init process or of an exec.
#[derive(Debug)]
pub struct Session {
    /// Number in tokens: 0 for the container.
    pub id: u32,
    /// The exec; none for the container's init process.
    pub exec: Option<ExecId>,
    tty: bool,
    /// Whether the end of a client's input ends the process' (never on a terminal).
    end_stdin: bool,
    outputs: [Option<Output>; 2],
    input: Option<Input>,
    clients: Vec<Client>,
    next_client: u32,
    log: Option<Log>,
    capture: Option<Capture>,
}

/// The beginning of a process' output.
#[derive(Debug)]
struct Capture {
    limit: usize,
    bytes: Vec<u8>,
    truncated: bool,
}

impl Capture {
    fn take(&mut self, data: &[u8]) {
        let room = self.limit - self.bytes.len();
        self.truncated |= data.len() > room;
        self.bytes.extend_from_slice(&data[..data.len().min(room)]);
    }
}

impl Session {
    /// Streams with nobody attached yet.
    pub fn new(id: u32, exec: Option<ExecId>, ends: Ends, end_stdin: bool, log: Option<Log>) -> Self {
        let tty = ends.tty;
        let output = |fd: Option<OwnedFd>, stream| {
            fd.map(|fd| Output {
                fd,
                stream,
                interest: Interest::default(),
                pipe_size: if tty { 0 } else { pipes::DEFAULT_SIZE },
            })
        };
        Self {
            id,
            exec,
            tty,
            end_stdin: end_stdin && !tty,
            outputs: [output(ends.stdout, Stream::Stdout), output(ends.stderr, Stream::Stderr)],
            input: ends.stdin.map(|fd| Input {
                fd,
                pending: Pending::default(),
                ending: false,
                broken: false,
                interest: Interest::default(),
            }),
            clients: Vec::new(),
            next_client: 0,
            log,
            capture: None,
        }
    }

    /// Keeps the first bytes the process writes.
    pub fn capture(&mut self, limit: usize) {
        self.capture = Some(Capture { limit, bytes: Vec::new(), truncated: false });
    }

    /// What was kept, and whether there was more.
    pub fn take_capture(&mut self) -> Option<(String, bool)> {
        let Capture { bytes, truncated, .. } = self.capture.take()?;
        Some((String::from_utf8_lossy(&bytes).into_owned(), truncated))
    }

    /// Takes over a client's socket. Bytes of its input read before come first.
    pub fn attach(&mut self, socket: OwnedFd, streams: &AttachStreams) -> io::Result<bool> {
        let id = self.next_client;
        self.next_client = self.next_client.wrapping_add(1);
        let stdin = self.input.as_ref().is_some_and(|i| !i.ending);
        let mut client = Client::new(id, socket, streams, stdin, self.tty)?;
        let mut input = Vec::new();
        let received = client.filter(&streams.pending_input, &mut input);
        self.clients.push(client);
        self.feed(&input);
        Ok(self.after_input(self.clients.len() - 1, received))
    }

    /// An output is readable. Reads it once.
    pub fn on_output(&mut self, index: u32, scratch: &mut [u8]) {
        let _ = self.take_output(index as usize, scratch);
    }

    fn take_output(&mut self, index: usize, scratch: &mut [u8]) -> Taken {
        let Some(output) = self.outputs.get_mut(index).and_then(Option::as_mut) else {
            return Taken::End;
        };
        let n = match retry(|| rustix::io::read(&output.fd, &mut *scratch)) {
            Err(Errno::AGAIN) => return Taken::Empty,
            // A terminal without any process left reports EIO.
            Ok(0) | Err(_) => {
                self.end_output(index);
                return Taken::End;
            }
            Ok(n) => n,
        };
        if n >= output.pipe_size && output.pipe_size == pipes::DEFAULT_SIZE {
            // Only a busy pipe is worth more memory, of which the kernel allows each user so much.
            output.pipe_size =
                rustix::pipe::fcntl_setpipe_size(&output.fd, BIG_PIPE).unwrap_or(pipes::DEFAULT_SIZE + 1);
        }
        let stream = output.stream;
        let data = &scratch[..n];
        if let Some(log) = &mut self.log {
            log.append(stream, data, clock::now());
        }
        if let Some(capture) = &mut self.capture {
            capture.take(data);
        }
        for client in &mut self.clients {
            client.deliver(stream, data);
        }
        Taken::Bytes(n)
    }

    fn end_output(&mut self, index: usize) {
        if let Some(output) = self.outputs[index].take()
            && let Some(log) = &mut self.log
        {
            log.finish(output.stream, clock::now());
        }
    }

    /// The process can take input again.
    pub fn on_input(&mut self) {
        let Some(input) = &mut self.input else { return };
        if input.pending.flush(&input.fd).is_err() {
            input.pending.clear();
            input.broken = true;
        }
    }

    /// A client's socket is ready. Returns whether the client left by the detach keys.
    pub fn on_client(&mut self, id: u32, flags: EventFlags, scratch: &mut [u8]) -> bool {
        let Some(at) = self.clients.iter().position(|c| c.id == id) else {
            return false;
        };
        let room = self.can_take_input();
        let client = &mut self.clients[at];
        if flags.contains(EventFlags::OUT) {
            client.flush();
        }
        let mut detached = false;
        if client.has_input() && room && flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR)
        {
            let mut input = Vec::new();
            let received = client.receive(scratch, &mut input);
            self.feed(&input);
            detached = self.after_input(at, received);
        } else if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            client.go_deaf();
        }
        detached
    }

    fn can_take_input(&self) -> bool {
        self.input.as_ref().is_none_or(|i| i.broken || i.pending.len() < IN_LIMIT)
    }

    fn feed(&mut self, bytes: &[u8]) {
        let Some(input) = &mut self.input else { return };
        if bytes.is_empty() || input.broken || input.ending {
            return;
        }
        if input.pending.send(&input.fd, &[], bytes).is_err() {
            input.pending.clear();
            input.broken = true;
        }
    }

    /// Docker's rules for the end of a client's input: without a terminal and with StdinOnce (always
    /// for an exec) the process' stdin ends and its output goes on; otherwise the client is
    /// detached and stdin stays open for others.
    fn after_input(&mut self, at: usize, received: Received) -> bool {
        match received {
            Received::Bytes | Received::Nothing => false,
            Received::End => {
                if self.end_stdin {
                    if let Some(input) = &mut self.input {
                        input.ending = true;
                    }
                } else {
                    self.clients[at].leave();
                }
                false
            }
            Received::Detach => {
                self.clients[at].leave();
                true
            }
        }
    }

    /// Sets the terminal's size. `false` when there is no terminal.
    pub fn resize(&self, height: u16, width: u16) -> io::Result<bool> {
        let Some(output) = self.outputs[0].as_ref().filter(|_| self.tty) else {
            return Ok(false);
        };
        let size = rustix::termios::Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&output.fd, size)?;
        Ok(true)
    }

    /// The process is gone. Takes what it had written, however slow clients are (a pipe's worth at
    /// most, so memory stays bounded), closes its streams and dismisses the clients.
    pub fn end(&mut self, scratch: &mut [u8], log_deadline: u64) {
        for index in 0..2 {
            let Some(output) = &self.outputs[index] else {
                continue;
            };
            // Somebody else may hold the other end and write for ever.
            let mut left = rustix::pipe::fcntl_getpipe_size(&output.fd).unwrap_or(0).max(pipes::DEFAULT_SIZE);
            while left > 0 {
                match self.take_output(index, scratch) {
                    Taken::Bytes(n) => left = left.saturating_sub(n),
                    Taken::Empty | Taken::End => break,
                }
            }
            self.end_output(index);
        }
        self.input = None;
        if let Some(log) = &mut self.log {
            log.close(log_deadline);
        }
        for client in &mut self.clients {
            client.leave();
        }
    }

    /// Whether output is still on its way to clients or to a log service that takes it.
    pub fn is_delivering(&self) -> bool {
        !self.clients.is_empty() || self.log.as_ref().is_some_and(Log::is_delivering)
    }

    /// Closes what is finished and registers everything for what it waits for.
    pub fn settle(&mut self, poller: &Poller, scratch: &mut [u8], now: u64) {
        let mut at = 0;
        while at < self.clients.len() {
            if self.clients[at].is_done() {
                self.clients.swap_remove(at).close(scratch);
            } else {
                at += 1;
            }
        }
        if self.input.as_ref().is_some_and(|i| i.ending && (i.pending.is_empty() || i.broken)) {
            self.input = None;
        }
        let take_input = self.can_take_input();
        for client in &mut self.clients {
            let token = Token::new(Kind::Client, self.id, client.id);
            client.settle(poller, token, take_input);
        }
        let log_blocks = self.log.as_mut().is_some_and(|log| {
            log.settle(poller, now);
            log.blocks()
        });
        for (index, slot) in self.outputs.iter_mut().enumerate() {
            let Some(output) = slot else { continue };
            let blocked = log_blocks || self.clients.iter().any(|c| c.blocks(output.stream));
            let token = Token::new(Kind::Output, self.id, index as u32);
            let wanted = (!blocked).then_some(EventFlags::IN);
            // Failure means a lack of kernel memory; tried again at the next turn of the loop.
            let _ = output.interest.set(poller, &output.fd, token, wanted);
        }
        if let Some(input) = &mut self.input {
            let token = Token::new(Kind::Input, self.id, 0);
            let wanted = (!input.pending.is_empty()).then_some(EventFlags::OUT);
            let _ = input.interest.set(poller, input.fd.as_fd(), token, wanted);
        }
    }

    /// The log, for the container's session.
    pub fn log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    /// The log, to be changed.
    pub fn log_mut(&mut self) -> Option<&mut Log> {
        self.log.as_mut()
    }
}
