//! One published tcp port: accepted connections are paired with connections to the container and
//! copied in both directions, each ending on its own (half-close).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, accept_with, connect, shutdown, socket_with, sockopt,
};

use crate::pending::{Pending, retry};
use crate::poll::{EventFlags, Interest, Kind, Poller, Token};

use super::RETRY_MS;

/// While this many bytes wait for one side, the other is not read.
const LIMIT: usize = 64 * 1024;
/// Most connections accepted per turn of the loop.
const BURST: usize = 16;

/// A listening socket and its connections.
#[derive(Debug)]
pub struct TcpRelay {
    id: u32,
    socket: OwnedFd,
    target: SocketAddr,
    pairs: BTreeMap<u32, Pair>,
    next: u32,
    interest: Interest,
    rest_until: Option<u64>,
    /// Pairs whose registration must be looked at.
    touched: Vec<u32>,
}

#[derive(Debug)]
struct Pair {
    client: Side,
    target: Side,
    connecting: bool,
}

#[derive(Debug)]
struct Side {
    fd: OwnedFd,
    interest: Interest,
    /// Bytes to write to this side.
    out: Pending,
    /// Whether this side may still send.
    open: bool,
    /// Whether our direction to it is shut.
    shut: bool,
}

impl Side {
    fn new(fd: OwnedFd) -> Self {
        // Whoever wrote the bytes decided on their packets already.
        let _ = sockopt::set_tcp_nodelay(&fd, true);
        Self { fd, interest: Interest::default(), out: Pending::default(), open: true, shut: false }
    }
}

/// Copies once from one side to the other.
fn copy(from: &mut Side, to: &mut Side, scratch: &mut [u8]) -> rustix::io::Result<()> {
    if !from.open || to.out.len() >= LIMIT {
        return Ok(());
    }
    match retry(|| rustix::io::read(&from.fd, &mut *scratch)) {
        Ok(0) => from.open = false,
        Ok(n) => to.out.send(&to.fd, &[], &scratch[..n]).map_err(|_| Errno::PIPE)?,
        Err(Errno::AGAIN) => {}
        Err(e) => return Err(e),
    }
    Ok(())
}

/// Passes the end of `from` on once all its bytes are.
fn pass_end(from: &Side, to: &mut Side) {
    if !from.open && to.out.is_empty() && !to.shut {
        to.shut = true;
        let _ = shutdown(&to.fd, Shutdown::Write);
    }
}

impl Pair {
    fn on_event(&mut self, kind: Kind, flags: EventFlags, scratch: &mut [u8]) -> rustix::io::Result<()> {
        if self.connecting {
            if kind != Kind::RelayTarget {
                return if flags.intersects(EventFlags::ERR | EventFlags::HUP) {
                    Err(Errno::PIPE)
                } else {
                    Ok(())
                };
            }
            sockopt::socket_error(&self.target.fd)??;
            self.connecting = false;
        }
        let (this, other) = if kind == Kind::RelayClient {
            (&mut self.client, &mut self.target)
        } else {
            (&mut self.target, &mut self.client)
        };
        if flags.contains(EventFlags::ERR) {
            return Err(Errno::PIPE);
        }
        if flags.contains(EventFlags::OUT) {
            this.out.flush(&this.fd).map_err(|_| Errno::PIPE)?;
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP) {
            copy(this, other, scratch)?;
        }
        pass_end(this, other);
        pass_end(other, this);
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.client.shut && self.target.shut
    }

    fn settle(&mut self, poller: &Poller, relay: u32, id: u32) -> std::io::Result<()> {
        let wanted = |this: &Side, other: &Side, connecting: bool| {
            let mut flags = EventFlags::empty();
            if this.open && other.out.len() < LIMIT && !connecting {
                flags |= EventFlags::IN;
            }
            if !this.out.is_empty() {
                flags |= EventFlags::OUT;
            }
            flags
        };
        let client = wanted(&self.client, &self.target, self.connecting);
        let mut target = wanted(&self.target, &self.client, self.connecting);
        if self.connecting {
            target = EventFlags::OUT;
        }
        // While connecting the client stays registered to notice that it gave up; later an idle side
        // is not, since its hang-up would be reported over and over.
        let client = (self.connecting || !client.is_empty()).then_some(client);
        let target = (!target.is_empty()).then_some(target);
        let side = &mut self.client;
        side.interest.set(poller, side.fd.as_fd(), Token::new(Kind::RelayClient, relay, id), client)?;
        let side = &mut self.target;
        side.interest.set(poller, side.fd.as_fd(), Token::new(Kind::RelayTarget, relay, id), target)
    }
}

impl TcpRelay {
    /// A relay over a listening, non-blocking socket.
    pub fn new(id: u32, socket: OwnedFd, target: SocketAddr) -> Self {
        Self {
            id,
            socket,
            target,
            pairs: BTreeMap::new(),
            next: 0,
            interest: Interest::default(),
            rest_until: None,
            touched: Vec::new(),
        }
    }

    /// Connections are waiting.
    pub fn accept(&mut self, now: u64) {
        for _ in 0..BURST {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let client = match accept_with(&self.socket, flags) {
                Ok(client) => client,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.rest_until = Some(now + RETRY_MS);
                    return;
                }
                // Also a connection that was given up while it waited.
                Err(_) => return,
            };
            match self.connect() {
                Ok((target, connecting)) => {
                    let id = self.next;
                    self.next = self.next.wrapping_add(1);
                    let pair = Pair { client: Side::new(client), target: Side::new(target), connecting };
                    self.pairs.insert(id, pair);
                    self.touched.push(id);
                }
                Err(Errno::MFILE | Errno::NFILE) => self.rest_until = Some(now + RETRY_MS),
                // The client sees its connection closed.
                Err(_) => {}
            }
        }
    }

    fn connect(&self) -> rustix::io::Result<(OwnedFd, bool)> {
        let family = if self.target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        match connect(&socket, &self.target) {
            Ok(()) => Ok((socket, false)),
            Err(Errno::INPROGRESS) => Ok((socket, true)),
            Err(e) => Err(e),
        }
    }

    /// A connection is ready.
    pub fn on_connection(&mut self, id: u32, kind: Kind, flags: EventFlags, scratch: &mut [u8]) {
        let Some(pair) = self.pairs.get_mut(&id) else {
            return;
        };
        if pair.on_event(kind, flags, scratch).is_err() || pair.is_done() {
            self.pairs.remove(&id);
        } else {
            self.touched.push(id);
        }
    }

    /// Registers what changed.
    pub fn settle(&mut self, poller: &Poller, now: u64) {
        self.rest_until = self.rest_until.filter(|&until| until > now);
        let wanted = self.rest_until.is_none().then_some(EventFlags::IN);
        let token = Token::new(Kind::RelaySocket, self.id, 0);
        let _ = self.interest.set(poller, &self.socket, token, wanted);
        for id in std::mem::take(&mut self.touched) {
            if let Some(pair) = self.pairs.get_mut(&id)
                && pair.settle(poller, self.id, id).is_err()
            {
                self.pairs.remove(&id);
            }
        }
    }

    /// When to try accepting again.
    pub fn deadline(&self) -> Option<u64> {
        self.rest_until
    }
}
