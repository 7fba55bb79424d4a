//! The one epoll instance and the tokens by which events find their owner.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{Timespec, epoll};

pub use rustix::event::epoll::EventFlags;

/// Most events taken per wait; small, because the array lives on the stack.
const BATCH: usize = 32;

/// What kind of source a token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The signalfd.
    Child = 1,
    /// The container's memory limit killed something.
    Oom,
    /// The shim's own listening socket.
    Listener,
    /// A control connection: `owner` is the connection.
    Conn,
    /// Output of a process: `owner` is the session, `index` 0 stdout or terminal, 1 stderr.
    Output,
    /// Input of a process: `owner` is the session.
    Input,
    /// An attached client: `owner` is the session, `index` the client.
    Client,
    /// A relay's listening or bound socket: `owner` is the relay.
    RelaySocket,
    /// Client's side of a relayed connection: `owner` is the relay, `index` the connection.
    RelayClient,
    /// Container's side of a relayed connection.
    RelayTarget,
    /// The connection to a log service.
    Log,
}

/// A source: its kind and up to two numbers. Numbers are never reused, so an event that was queued
/// before its source went away finds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Kind of source.
    pub kind: Kind,
    /// First number, 24 bits.
    pub owner: u32,
    /// Second number.
    pub index: u32,
}

impl Token {
    /// A token without numbers.
    pub fn of(kind: Kind) -> Self {
        Self::new(kind, 0, 0)
    }

    /// A token.
    pub fn new(kind: Kind, owner: u32, index: u32) -> Self {
        Self { kind, owner, index }
    }

    fn pack(self) -> u64 {
        (self.kind as u64) << 56 | u64::from(self.owner & 0x00ff_ffff) << 32 | u64::from(self.index)
    }

    fn unpack(raw: u64) -> Option<Self> {
        let kind = match (raw >> 56) as u8 {
            1 => Kind::Child,
            2 => Kind::Oom,
            3 => Kind::Listener,
            4 => Kind::Conn,
            5 => Kind::Output,
            6 => Kind::Input,
            7 => Kind::Client,
            8 => Kind::RelaySocket,
            9 => Kind::RelayClient,
            10 => Kind::RelayTarget,
            11 => Kind::Log,
            _ => return None,
        };
        Some(Self::new(kind, (raw >> 32) as u32 & 0x00ff_ffff, raw as u32))
    }
}

/// The epoll instance, level-triggered.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// A new instance.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Waits for events, at most `timeout_ms`, for ever when absent, and hands each to `each`.
    pub fn wait(&self, timeout_ms: Option<u64>) -> io::Result<Vec<(Token, EventFlags)>> {
        let mut space = [const { std::mem::MaybeUninit::<epoll::Event>::uninit() }; BATCH];
        let timeout = timeout_ms.map(|ms| Timespec {
            tv_sec: (ms / 1000).cast_signed(),
            tv_nsec: (ms % 1000 * 1_000_000).cast_signed(),
        });
        let (events, _) = match epoll::wait(&self.epoll, &mut space, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            other => other?,
        };
        Ok(events.iter().filter_map(|event| Some((Token::unpack(event.data.u64())?, event.flags))).collect())
    }
}

/// What a source is registered for; `None` when it is not registered at all, which is needed to
/// silence `HUP` and `ERR`.
#[derive(Debug, Default)]
pub struct Interest(Option<EventFlags>);

impl Interest {
    /// Registers, changes or removes the source, with no system call when nothing changes.
    pub fn set(
        &mut self,
        poller: &Poller,
        fd: impl AsFd,
        token: Token,
        wanted: Option<EventFlags>,
    ) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token.pack());
        match (self.0, wanted) {
            (None, Some(flags)) => epoll::add(&poller.epoll, fd, data, flags)?,
            (Some(old), Some(flags)) if old != flags => {
                epoll::modify(&poller.epoll, fd, data, flags)?;
            }
            (Some(_), None) => epoll::delete(&poller.epoll, fd)?,
            (None, None) | (Some(_), Some(_)) => {}
        }
        self.0 = wanted;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_packing() {
        for token in [
            Token::of(Kind::Child),
            Token::new(Kind::Client, 0x00ff_ffff, u32::MAX),
            Token::new(Kind::RelayTarget, 3, 7),
        ] {
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
        assert_eq!(Token::unpack(0), None);
    }
}
