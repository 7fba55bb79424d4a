//! A log service: messages queue here and go out as the service takes them. A lost connection is made again, with a growing
//! pause between attempts; a message that was being sent is sent again as a whole.
//!
//! ```text
//! Down { retry_at } ── due ──► Connecting ── writable ──► Up
//!        ▲                         │ failed                │ failed, or the service closed it
//!        └─────────────────────────┴───────────────────────┘
//! ```

mod encode;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use ferry_shim_proto::log::{LogTarget, RemoteLog};
use rustix::io::Errno;

use super::lines::Line;
use crate::clock;
use crate::poll::{EventFlags, Interest, Kind, Poller, Token};

use encode::Encoder;

/// While this much waits for a service, a blocking log stops the container's writing.
const BLOCK_LIMIT: usize = 64 * 1024;
/// How long making a connection may take.
const CONNECT_MS: u64 = 5000;
/// Most messages given to the kernel at once.
const BATCH: usize = 64;

/// What is sent for one line.
#[derive(Debug, Default)]
pub struct Message {
    /// Datagrams, or the one piece of a stream. None: the message is too large for the protocol.
    pub pieces: Vec<Vec<u8>>,
    /// What the service has to answer before the next message is sent.
    pub acknowledgement: Option<String>,
}

impl Message {
    /// A message in one piece.
    pub fn one(bytes: Vec<u8>) -> Self {
        Self { pieces: vec![bytes], acknowledgement: None }
    }

    fn len(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum()
    }
}

/// The connection.
#[derive(Debug)]
enum Link {
    Down { retry_at: u64 },
    Connecting { fd: OwnedFd, deadline: u64 },
    Up(OwnedFd),
}

/// What is known of a link that is up.
#[derive(Debug, Default)]
struct Watch {
    /// Since when.
    up_since: u64,
    /// Since when it takes nothing.
    stalled_since: Option<u64>,
}

/// A log service and what waits for it.
#[derive(Debug)]
pub struct Remote {
    config: RemoteLog,
    encoder: Encoder,
    limit: usize,
    non_blocking: bool,
    link: Link,
    watch: Watch,
    interest: Interest,
    /// Attempts in a row that failed.
    failures: u32,
    /// The pause before the next attempt.
    pause: u64,
    /// Which address is tried next.
    address: usize,
    queue: VecDeque<Message>,
    /// Bytes in `queue`.
    queued: usize,
    /// Of the first message: bytes sent of a stream, pieces sent as datagrams.
    sent: usize,
    /// The first message is sent and its acknowledgement has not come; what has come of it.
    answer: Option<Vec<u8>>,
    lost: u64,
    /// When to give up, once no more output comes.
    close_at: Option<u64>,
}

impl Remote {
    /// Connects, if the container shall not start otherwise.
    ///
    /// # Errors
    /// When it needs a connection and there is none, in the words of Docker's drivers.
    pub fn open(config: RemoteLog, limit: usize, non_blocking: bool) -> io::Result<Self> {
        let now = clock::monotonic_ms();
        let link = if config.must_connect {
            match socket::connect_now(&config.target, CONNECT_MS) {
                Ok(fd) => Link::Up(fd),
                Err(e) => {
                    let text = io_text(&e);
                    return Err(io::Error::other(match config.dial.is_empty() {
                        true => text,
                        false => format!("{}: {text}", config.dial),
                    }));
                }
            }
        } else {
            Link::Down { retry_at: now }
        };
        Ok(Self {
            encoder: Encoder::new(config.encoding.clone(), &config.target, clock::now().cast_unsigned()),
            pause: config.retry.first_ms,
            config,
            limit,
            non_blocking,
            link,
            watch: Watch { up_since: now, stalled_since: None },
            interest: Interest::default(),
            failures: 0,
            address: 0,
            queue: VecDeque::new(),
            queued: 0,
            sent: 0,
            answer: None,
            lost: 0,
            close_at: None,
        })
    }

    /// Entries that were dropped.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Takes a line. It is dropped when too much waits already.
    pub fn add(&mut self, line: &Line<'_>) {
        let Some(message) = self.encoder.encode(line) else { return };
        let length = message.len();
        // A blocking log is full for a moment only: what was read before the container was stopped must be kept.
        let may_drop = self.non_blocking || !(self.config.retry.hold || self.is_reachable());
        let full = self.queued + length > self.limit && !self.queue.is_empty();
        if message.pieces.is_empty() || (full && may_drop) {
            self.lost = self.lost.saturating_add(1);
            return;
        }
        self.queued += length;
        self.queue.push_back(message);
    }

    /// Whether the container must not write more now.
    pub fn blocks(&self) -> bool {
        !self.non_blocking
            && self.queued >= BLOCK_LIMIT
            && (self.config.retry.hold || self.is_reachable())
            && self.close_at.is_none()
    }

    fn is_reachable(&self) -> bool {
        matches!(self.link, Link::Up(_) | Link::Connecting { .. })
    }

    /// Whether entries are on their way to a service that takes them.
    pub fn is_delivering(&self) -> bool {
        !self.queue.is_empty() && self.is_reachable()
    }

    /// No more output comes. What is not sent until then is dropped.
    pub fn close(&mut self, deadline: u64) {
        self.close_at = Some(deadline);
    }

    /// When [`Remote::settle`] has something to do.
    pub fn deadline(&self) -> Option<u64> {
        let link = match &self.link {
            Link::Down { .. } if self.queue.is_empty() => None,
            Link::Down { retry_at } => Some(*retry_at),
            Link::Connecting { deadline, .. } => Some(*deadline),
            Link::Up(_) => {
                let timeout = self.config.retry.write_timeout_ms;
                timeout.zip(self.watch.stalled_since).map(|(timeout, since)| since + timeout)
            }
        };
        let close = self.close_at.filter(|_| !self.queue.is_empty());
        [link, close].into_iter().flatten().min()
    }

    /// Does what is due and registers the socket for what it waits for.
    pub fn settle(&mut self, poller: &Poller, now: u64) {
        if self.close_at.is_some_and(|at| now >= at) {
            self.drop_all();
        }
        let timeout = self.config.retry.write_timeout_ms;
        match &self.link {
            Link::Up(_)
                if timeout.zip(self.watch.stalled_since).is_some_and(|(t, since)| now >= since + t) =>
            {
                self.fail(now);
            }
            Link::Down { retry_at } if now >= *retry_at && !self.queue.is_empty() => self.connect(now),
            Link::Connecting { deadline, .. } if now >= *deadline => self.fail(now),
            Link::Down { .. } | Link::Connecting { .. } | Link::Up(_) => {}
        }
        let stream = matches!(self.config.target, LogTarget::Tcp(_) | LogTarget::Unix(_));
        let token = Token::of(Kind::Log);
        let (fd, wanted) = match &self.link {
            Link::Down { .. } => return,
            Link::Connecting { fd, .. } => (fd, EventFlags::OUT),
            Link::Up(fd) => {
                let sending = !self.queue.is_empty() && self.answer.is_none();
                let mut wanted = EventFlags::empty();
                wanted.set(EventFlags::OUT, sending);
                wanted.set(EventFlags::IN, stream);
                (fd, wanted)
            }
        };
        // Without anything wanted, not even errors: a datagram socket would report them for ever.
        let wanted = (!wanted.is_empty()).then_some(wanted);
        // Failure means a lack of kernel memory; tried again at the next turn of the loop.
        let _ = self.interest.set(poller, fd, token, wanted);
    }

    fn drop_all(&mut self) {
        self.lost = self.lost.saturating_add(self.queue.len() as u64);
        self.queue = VecDeque::new();
        (self.queued, self.sent, self.answer) = (0, 0, None);
    }

    fn is_up(&mut self, fd: OwnedFd) {
        self.link = Link::Up(fd);
        self.watch = Watch { up_since: clock::monotonic_ms(), stalled_since: None };
    }

    fn connect(&mut self, now: u64) {
        self.address = self.address.wrapping_add(1);
        match socket::begin(&self.config.target, self.address) {
            Ok((fd, true)) => {
                self.is_up(fd);
                self.interest = Interest::default();
                self.flush();
            }
            Ok((fd, false)) => {
                self.link = Link::Connecting { fd, deadline: now + CONNECT_MS };
                self.interest = Interest::default();
            }
            Err(_) => self.fail(now),
        }
    }

    /// The link is of no use. Closing the descriptor takes it out of the poller.
    fn fail(&mut self, now: u64) {
        self.link = Link::Down { retry_at: now + self.pause };
        self.interest = Interest::default();
        self.pause = (self.pause * 2).min(self.config.retry.longest_ms);
        // The message that was under way is sent again from its beginning.
        (self.sent, self.answer) = (0, None);
        self.failures += 1;
        if self.config.retry.attempts.is_some_and(|most| self.failures > most) {
            self.failures = 0;
            self.drop_all();
        }
    }

    /// The socket is ready.
    pub fn on_event(&mut self, flags: EventFlags) {
        let now = clock::monotonic_ms();
        match std::mem::replace(&mut self.link, Link::Down { retry_at: now }) {
            Link::Down { retry_at } => self.link = Link::Down { retry_at },
            Link::Connecting { fd, .. } => match rustix::net::sockopt::socket_error(&fd) {
                Ok(Ok(())) => self.is_up(fd),
                Ok(Err(_)) | Err(_) => return self.fail(now),
            },
            Link::Up(fd) => {
                self.link = Link::Up(fd);
                if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                    self.receive(now);
                }
            }
        }
        self.flush();
    }

    /// Services say nothing but acknowledgements; the end of the connection matters.
    fn receive(&mut self, now: u64) {
        let Link::Up(fd) = &self.link else { return };
        let mut buffer = [0_u8; 512];
        loop {
            match rustix::io::read(fd, &mut buffer) {
                Ok(0) => return self.fail(now),
                Ok(n) => {
                    if let Some(answer) = &mut self.answer {
                        answer.extend_from_slice(&buffer[..n]);
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return self.fail(now),
            }
        }
        let expected = self.queue.front().and_then(|m| m.acknowledgement.as_deref());
        let (Some(answer), Some(expected)) = (&self.answer, expected) else { return };
        if encode::acknowledged(answer, expected) {
            self.answer = None;
            self.pop();
        } else if answer.len() > 4096 {
            // Not a service that speaks this protocol.
            self.fail(now);
        }
    }

    fn pop(&mut self) {
        if let Some(message) = self.queue.pop_front() {
            self.queued -= message.len();
        }
        self.sent = 0;
        // What was delivered shows that the service is back.
        self.pause = self.config.retry.first_ms;
        self.failures = 0;
        self.watch.stalled_since = None;
        if self.queue.is_empty() {
            // A burst may have made it large.
            self.queue = VecDeque::new();
        }
    }

    /// Sends what the service takes now.
    pub fn flush(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        self.renew();
        let result = match (&self.link, &self.config.target) {
            (Link::Up(_), LogTarget::Udp(_) | LogTarget::UnixDatagram(_)) => self.send_datagrams(),
            (Link::Up(_), LogTarget::Tcp(_) | LogTarget::Unix(_)) => self.send_stream(),
            (Link::Down { .. } | Link::Connecting { .. }, _) => Ok(()),
        };
        if result.is_err() {
            self.fail(clock::monotonic_ms());
        } else if self.config.retry.write_timeout_ms.is_some() && !self.queue.is_empty() {
            self.watch.stalled_since.get_or_insert_with(clock::monotonic_ms);
        }
    }

    /// Makes an old connection anew, between two messages.
    fn renew(&mut self) {
        let Some(renew) = self.config.retry.renew_ms else { return };
        let now = clock::monotonic_ms();
        if matches!(self.link, Link::Up(_))
            && self.sent == 0
            && self.answer.is_none()
            && now >= self.watch.up_since + renew
        {
            self.link = Link::Down { retry_at: now };
            self.interest = Interest::default();
            self.watch = Watch { up_since: now, stalled_since: None };
        }
    }

    fn send_datagrams(&mut self) -> rustix::io::Result<()> {
        let mut refused = false;
        while let Some(message) = self.queue.front() {
            let Link::Up(fd) = &self.link else { return Ok(()) };
            let Some(piece) = message.pieces.get(self.sent) else {
                self.pop();
                continue;
            };
            match socket::send_datagram(fd, piece) {
                Ok(()) => self.sent += 1,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                // The answer to an earlier datagram, told once: nobody listened then, and maybe somebody does now.
                Err(Errno::CONNREFUSED) if !refused && matches!(self.config.target, LogTarget::Udp(_)) => {
                    refused = true;
                }
                // Larger than the service or the kernel takes.
                Err(Errno::MSGSIZE) => {
                    self.lost = self.lost.saturating_add(1);
                    self.sent = message.pieces.len();
                }
                // Nobody is told when datagrams get lost.
                Err(_) if matches!(self.config.target, LogTarget::Udp(_)) => self.sent += 1,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn send_stream(&mut self) -> rustix::io::Result<()> {
        while self.answer.is_none() && !self.queue.is_empty() {
            let Link::Up(fd) = &self.link else { return Ok(()) };
            let waits_for_answer = self.queue.front().is_some_and(|m| m.acknowledgement.is_some());
            let most = if waits_for_answer { 1 } else { BATCH };
            let pieces = self.queue.iter().take(most).flat_map(|m| m.pieces.iter().map(Vec::as_slice));
            let mut taken = match socket::send_stream(fd, pieces, self.sent) {
                Ok(n) => n,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e),
            };
            while let Some(first) = self.queue.front() {
                let left = first.len() - self.sent;
                if taken < left {
                    self.sent += taken;
                    break;
                }
                taken -= left;
                if waits_for_answer {
                    self.sent = first.len();
                    self.answer = Some(Vec::new());
                    break;
                }
                self.pop();
                if taken == 0 {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// An error as Go prints it: without a number, in lower case.
fn io_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}
