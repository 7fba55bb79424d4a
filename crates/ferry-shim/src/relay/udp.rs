//! One published udp port: each client address gets a socket of its own towards the container, so that
//! answers find their way back, until it has been idle for a while.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use crate::poll::{EventFlags, Interest, Kind, Poller, Token};

/// A client that sent and got nothing for this long is forgotten, as Docker's proxy does.
const IDLE_MS: u64 = 90_000;
/// How often idle clients are looked for.
const SWEEP_MS: u64 = 10_000;
/// Most clients at a time; the one idle for longest makes room for the next.
const MAX_CLIENTS: usize = 512;
/// Most datagrams taken per turn of the loop from one socket.
const BURST: usize = 32;

/// A bound socket and its clients.
#[derive(Debug)]
pub struct UdpRelay {
    id: u32,
    socket: UdpSocket,
    target: SocketAddr,
    clients: BTreeMap<u32, Client>,
    by_address: BTreeMap<SocketAddr, u32>,
    next: u32,
    interest: Interest,
    sweep_at: u64,
    fresh: Vec<u32>,
}

#[derive(Debug)]
struct Client {
    address: SocketAddr,
    socket: UdpSocket,
    used_at: u64,
    interest: Interest,
}

impl UdpRelay {
    /// A relay over a bound, non-blocking socket.
    pub fn new(id: u32, socket: OwnedFd, target: SocketAddr) -> Self {
        Self {
            id,
            socket: UdpSocket::from(socket),
            target,
            clients: BTreeMap::new(),
            by_address: BTreeMap::new(),
            next: 0,
            interest: Interest::default(),
            sweep_at: 0,
            fresh: Vec::new(),
        }
    }

    /// Datagrams from clients are waiting.
    pub fn on_clients(&mut self, now: u64, scratch: &mut [u8]) {
        for _ in 0..BURST {
            let (length, address) = match self.socket.recv_from(scratch) {
                Ok(received) => received,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP error of an earlier answer.
                Err(_) => continue,
            };
            // Without descriptors or memory for another client the datagram is lost, as udp allows.
            if let Ok(client) = self.client(address, now) {
                client.used_at = now;
                let _ = client.socket.send(&scratch[..length]);
            }
        }
    }

    fn client(&mut self, address: SocketAddr, now: u64) -> io::Result<&mut Client> {
        let id = match self.by_address.get(&address) {
            Some(&id) => id,
            None => {
                if self.clients.len() >= MAX_CLIENTS
                    && let Some(oldest) = self.clients.iter().min_by_key(|(_, c)| c.used_at)
                {
                    let oldest = *oldest.0;
                    self.forget(oldest);
                }
                let family = if self.target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
                connect(&socket, &self.target)?;
                if self.clients.is_empty() {
                    self.sweep_at = now + SWEEP_MS;
                }
                let id = self.next;
                self.next = self.next.wrapping_add(1);
                let client = Client {
                    address,
                    socket: UdpSocket::from(socket),
                    used_at: now,
                    interest: Interest::default(),
                };
                self.clients.insert(id, client);
                self.by_address.insert(address, id);
                self.fresh.push(id);
                id
            }
        };
        self.clients.get_mut(&id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn forget(&mut self, id: u32) {
        if let Some(client) = self.clients.remove(&id) {
            self.by_address.remove(&client.address);
        }
    }

    /// Datagrams from the container for one client are waiting.
    pub fn on_target(&mut self, id: u32, now: u64, scratch: &mut [u8]) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.used_at = now;
        for _ in 0..BURST {
            match client.socket.recv(scratch) {
                Ok(length) => {
                    let _ = self.socket.send_to(&scratch[..length], client.address);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // The container's port is closed for now.
                Err(_) => {}
            }
        }
    }

    /// Forgets idle clients and registers new ones.
    pub fn settle(&mut self, poller: &Poller, now: u64) {
        let token = Token::new(Kind::RelaySocket, self.id, 0);
        let _ = self.interest.set(poller, &self.socket, token, Some(EventFlags::IN));
        for id in std::mem::take(&mut self.fresh) {
            let token = Token::new(Kind::RelayTarget, self.id, id);
            if let Some(client) = self.clients.get_mut(&id)
                && client.interest.set(poller, &client.socket, token, Some(EventFlags::IN)).is_err()
            {
                self.forget(id);
            }
        }
        if !self.clients.is_empty() && now >= self.sweep_at {
            self.sweep_at = now + SWEEP_MS;
            let by_address = &mut self.by_address;
            self.clients.retain(|_, client| {
                let keep = now.saturating_sub(client.used_at) < IDLE_MS;
                if !keep {
                    by_address.remove(&client.address);
                }
                keep
            });
        }
    }

    /// When to look for idle clients.
    pub fn deadline(&self) -> Option<u64> {
        (!self.clients.is_empty()).then_some(self.sweep_at)
    }
}
