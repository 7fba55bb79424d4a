//! Published ports the kernel cannot forward alone: bytes and datagrams are copied between an inherited
//! socket in the host's network namespace and an address of the container.

mod tcp;
mod udp;

use std::io;
use std::os::fd::OwnedFd;

use ferry_shim_proto::Relay as Config;
use ferry_types::net::Protocol;

use crate::poll::{EventFlags, Kind, Poller, Token};

use tcp::TcpRelay;
use udp::UdpRelay;

/// How long a relay rests when the process or the host is out of descriptors or memory.
const RETRY_MS: u64 = 200;

#[derive(Debug)]
enum Relay {
    Tcp(TcpRelay),
    Udp(UdpRelay),
}

/// All relays of a container.
#[derive(Debug, Default)]
pub struct Relays {
    list: Vec<Relay>,
}

impl Relays {
    /// Takes over one socket per relay.
    pub fn new(configs: &[Config], sockets: Vec<OwnedFd>) -> io::Result<Self> {
        let mut list = Vec::with_capacity(configs.len());
        for (id, (config, socket)) in (0..).zip(configs.iter().zip(sockets)) {
            let flags = rustix::fs::fcntl_getfl(&socket)?;
            rustix::fs::fcntl_setfl(&socket, flags | rustix::fs::OFlags::NONBLOCK)?;
            list.push(match config.protocol {
                Protocol::Tcp => Relay::Tcp(TcpRelay::new(id, socket, config.target)),
                Protocol::Udp => Relay::Udp(UdpRelay::new(id, socket, config.target)),
                Protocol::Sctp => return Err(io::ErrorKind::Unsupported.into()),
            });
        }
        Ok(Self { list })
    }

    /// Closes everything.
    pub fn close(&mut self) {
        self.list = Vec::new();
    }

    /// One of the sockets is ready.
    pub fn on_event(&mut self, token: Token, flags: EventFlags, now: u64, scratch: &mut [u8]) {
        let Some(relay) = self.list.get_mut(token.owner as usize) else {
            return;
        };
        match (relay, token.kind) {
            (Relay::Tcp(relay), Kind::RelaySocket) => relay.accept(now),
            (Relay::Tcp(relay), kind) => relay.on_connection(token.index, kind, flags, scratch),
            (Relay::Udp(relay), Kind::RelaySocket) => relay.on_clients(now, scratch),
            (Relay::Udp(relay), _) => relay.on_target(token.index, now, scratch),
        }
    }

    /// Does what is due, and registers everything for what it waits for.
    pub fn settle(&mut self, poller: &Poller, now: u64) {
        for relay in &mut self.list {
            match relay {
                Relay::Tcp(relay) => relay.settle(poller, now),
                Relay::Udp(relay) => relay.settle(poller, now),
            }
        }
    }

    /// When [`Relays::settle`] must be called even without an event.
    pub fn deadline(&self) -> Option<u64> {
        self.list
            .iter()
            .filter_map(|relay| match relay {
                Relay::Tcp(relay) => relay.deadline(),
                Relay::Udp(relay) => relay.deadline(),
            })
            .min()
    }
}
