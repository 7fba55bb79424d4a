//! Host ports: which are ours, and the sockets that keep everybody else off them.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ferry_types::EndpointId;
use ferry_types::net::{Protocol, PublishRequest, PublishedPort};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::endpoint::RelaySocket;
use crate::error::PortError;

/// Most sockets an endpoint hands to its shim: they travel in one message, whose limit is 128
/// descriptors (`SCM_RIGHTS` has it at 253) with some for other uses. Ports beyond are checked, not held.
pub(crate) const MAX_RELAYS: usize = 100;

/// Host ports of all endpoints of an engine.
#[derive(Debug)]
pub(crate) struct Ports {
    claims: Mutex<Claims>,
    ephemeral: (u16, u16),
    ipv6: bool,
}

#[derive(Debug, Default)]
struct Claims {
    taken: HashMap<(Protocol, u16), Vec<(IpAddr, EndpointId)>>,
    /// The ephemeral port to try next, per protocol.
    next: HashMap<Protocol, u16>,
    /// Ports released lately: the shim that held their sockets may take a moment to end.
    recent: HashMap<(Protocol, u16), Instant>,
}

/// How long a released port may still be held by the former container's shim.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_PAUSE: Duration = Duration::from_millis(2);

impl Claims {
    fn conflict(&self, protocol: Protocol, port: u16, addresses: &[IpAddr]) -> Option<IpAddr> {
        let taken = self.taken.get(&(protocol, port))?;
        addresses.iter().copied().find(|a| taken.iter().any(|(b, _)| collide(*a, *b)))
    }
}

/// Whether one socket per address could not be bound to the same port.
fn collide(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified())
}

/// Ports an endpoint got.
#[derive(Debug, Default)]
pub(crate) struct Granted {
    pub(crate) published: Vec<PublishedPort>,
    pub(crate) relays: Vec<RelaySocket>,
    /// Ports for which no socket is held.
    pub(crate) unheld: usize,
}

/// On whose behalf ports are reserved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claimant<'a> {
    pub(crate) endpoint: &'a EndpointId,
    pub(crate) container_ip: Ipv4Addr,
    pub(crate) default_host_ip: Option<IpAddr>,
}

impl Ports {
    /// `ephemeral` is the range of `net.ipv4.ip_local_port_range`.
    pub(crate) fn new(ephemeral: (u16, u16)) -> Self {
        let probe = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 0);
        Self { claims: Mutex::default(), ephemeral, ipv6: bind(Protocol::Udp, probe).is_ok() }
    }

    fn lock(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves what is asked for, all or nothing.
    pub(crate) fn reserve(
        &self,
        claimant: Claimant<'_>,
        requests: &[PublishRequest],
    ) -> Result<Granted, PortError> {
        let mut granted = Granted::default();
        for request in requests {
            if let Err(error) = self.reserve_one(claimant, request, &mut granted) {
                self.release(claimant.endpoint, &granted.published);
                return Err(error);
            }
        }
        Ok(granted)
    }

    fn reserve_one(
        &self,
        claimant: Claimant<'_>,
        request: &PublishRequest,
        granted: &mut Granted,
    ) -> Result<(), PortError> {
        let addresses: &[IpAddr] = match request.host_ip.or(claimant.default_host_ip) {
            Some(ip) => &[ip],
            None if self.ipv6 => &[IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
            None => &[IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
        };
        let (first, last) = match request.host_ports {
            (0, 0) => self.ephemeral,
            range => range,
        };
        let mut failure = PortError::Exhausted;
        let count = u32::from(last.saturating_sub(first)) + 1;
        for n in 0..count {
            let port = match request.host_ports {
                (0, 0) => self.next_ephemeral(request.protocol),
                _ => first + n as u16,
            };
            match self.try_port(claimant, request, addresses, port, granted) {
                Ok(()) => return Ok(()),
                Err(error) if error.is_permanent() => return Err(error),
                Err(error) => failure = error,
            }
        }
        Err(if count > 1 && request.host_ports == (0, 0) { PortError::Exhausted } else { failure })
    }

    fn next_ephemeral(&self, protocol: Protocol) -> u16 {
        let (first, last) = self.ephemeral;
        let mut claims = self.lock();
        let next = claims.next.entry(protocol).or_insert(first);
        let port = *next;
        *next = if port >= last { first } else { port + 1 };
        port
    }

    /// Claims the port among our own containers first, then on the host.
    fn try_port(
        &self,
        claimant: Claimant<'_>,
        request: &PublishRequest,
        addresses: &[IpAddr],
        port: u16,
        granted: &mut Granted,
    ) -> Result<(), PortError> {
        let publish = |host_ip| PublishedPort {
            host_ip,
            host_port: port,
            container_port: request.container_port,
            protocol: request.protocol,
        };
        {
            let mut claims = self.lock();
            if let Some(host_ip) = claims.conflict(request.protocol, port, addresses) {
                return Err(PortError::AlreadyAllocated { host_ip, port });
            }
            let taken = claims.taken.entry((request.protocol, port)).or_default();
            taken.extend(addresses.iter().map(|a| (*a, claimant.endpoint.clone())));
        }
        let mut relays = Vec::with_capacity(addresses.len());
        for address in addresses {
            let host = SocketAddr::new(*address, port);
            match self.bind_released(request.protocol, host) {
                Ok(socket) => relays.push(RelaySocket {
                    socket,
                    protocol: request.protocol,
                    target: SocketAddr::new(claimant.container_ip.into(), request.container_port),
                    host,
                }),
                Err(source) => {
                    let all: Vec<_> = addresses.iter().copied().map(publish).collect();
                    self.release(claimant.endpoint, &all);
                    return Err(PortError::Bind {
                        host_ip: *address,
                        port,
                        container_ip: claimant.container_ip.into(),
                        container_port: request.container_port,
                        protocol: request.protocol,
                        source,
                    });
                }
            }
        }
        // The shim relays tcp and udp only.
        let hold = request.protocol != Protocol::Sctp && granted.relays.len() + relays.len() <= MAX_RELAYS;
        if hold {
            granted.relays.extend(relays);
            granted.published.extend(addresses.iter().copied().map(publish));
            return Ok(());
        }
        // Without a relay nobody serves IPv6.
        let (v4, v6): (Vec<_>, Vec<_>) =
            addresses.iter().copied().map(publish).partition(|p| p.host_ip.is_ipv4());
        self.release(claimant.endpoint, &v6);
        if let ([], [lost, ..]) = (&v4[..], &v6[..]) {
            return Err(PortError::NoRelay { host_ip: lost.host_ip, port, protocol: request.protocol });
        }
        granted.unheld += 1;
        granted.published.extend(v4);
        Ok(())
    }

    /// Binds a socket; waits a little when the port was ours until a moment ago.
    fn bind_released(&self, protocol: Protocol, host: SocketAddr) -> io::Result<OwnedFd> {
        loop {
            let bound = bind(protocol, host);
            let in_use = |e: &io::Error| e.kind() == io::ErrorKind::AddrInUse;
            let released = || self.lock().recent.get(&(protocol, host.port())).copied();
            match bound {
                Err(e) if in_use(&e) && released().is_some_and(|at| at.elapsed() < LINGER) => {
                    thread::sleep(LINGER_PAUSE);
                }
                other => return other,
            }
        }
    }

    /// Registers ports of a container that already runs; its shim holds the sockets.
    pub(crate) fn adopt(&self, endpoint: &EndpointId, published: &[PublishedPort]) {
        self.release(endpoint, published);
        let mut claims = self.lock();
        for p in published {
            claims.taken.entry((p.protocol, p.host_port)).or_default().push((p.host_ip, endpoint.clone()));
        }
    }

    /// Forgets an endpoint's ports.
    pub(crate) fn release(&self, endpoint: &EndpointId, published: &[PublishedPort]) {
        let mut claims = self.lock();
        for p in published {
            let key = (p.protocol, p.host_port);
            if let Some(taken) = claims.taken.get_mut(&key) {
                taken.retain(|(ip, owner)| *ip != p.host_ip || owner != endpoint);
                if taken.is_empty() {
                    claims.taken.remove(&key);
                }
            }
        }
    }

    /// Forgets the ports of an endpoint that was in use.
    pub(crate) fn release_used(&self, endpoint: &EndpointId, published: &[PublishedPort]) {
        self.release(endpoint, published);
        let now = Instant::now();
        let mut claims = self.lock();
        claims.recent.retain(|_, at| at.elapsed() < LINGER);
        claims.recent.extend(published.iter().map(|p| ((p.protocol, p.host_port), now)));
    }

    /// Number of ports in use, over all addresses.
    #[cfg(test)]
    pub(crate) fn in_use(&self) -> usize {
        self.lock().taken.values().map(Vec::len).sum()
    }
}

/// Binds a socket, and listens on it for a protocol with connections; as Go's net.Listen, so that the
/// same ports count as free.
fn bind(protocol: Protocol, host: SocketAddr) -> io::Result<OwnedFd> {
    let family = if host.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, Some(number))?;
    if host.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol != Protocol::Udp {
        // Connections of an earlier listener in TIME_WAIT are no obstacle.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &host)?;
    if protocol != Protocol::Udp {
        rustix::net::listen(&socket, 4096)?;
    }
    Ok(socket)
}

impl PortError {
    /// Whether another port of the range would fail as well.
    fn is_permanent(&self) -> bool {
        match self {
            Self::Bind { source, .. } => {
                let errno = Errno::from_io_error(source);
                !matches!(errno, Some(Errno::ADDRINUSE | Errno::ACCESS))
            }
            Self::AlreadyAllocated { .. } | Self::Exhausted => false,
            Self::Rules(_) | Self::NoRelay { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::support::on_a_host;

    fn request(host_ip: Option<IpAddr>, host_ports: (u16, u16)) -> PublishRequest {
        PublishRequest { host_ip, host_ports, container_port: 80, protocol: Protocol::Tcp }
    }

    fn claimant(endpoint: &EndpointId) -> Claimant<'_> {
        Claimant { endpoint, container_ip: Ipv4Addr::new(172, 17, 0, 2), default_host_ip: None }
    }

    /// A port nobody has at the moment.
    fn free_port() -> u16 {
        std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
    }

    #[test]
    fn our_own_conflicts_are_told_from_the_hosts() {
        on_a_host(|| {
            let ports = Ports::new((40000, 50000));
            let (a, b) = (EndpointId::random(), EndpointId::random());
            let port = free_port();
            let held = ports.reserve(claimant(&a), &[request(None, (port, port))]).unwrap();
            assert_eq!(held.published.len(), held.relays.len());
            let loopback = Some(Ipv4Addr::LOCALHOST.into());
            let error = ports.reserve(claimant(&b), &[request(loopback, (port, port))]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("Bind for 127.0.0.1:{port} failed: port is already allocated")
            );
            ports.release(&a, &held.published);
            let error = ports.reserve(claimant(&b), &[request(None, (port, port))]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "failed to bind host port for 0.0.0.0:{port}:172.17.0.2:80/tcp: address already in use"
                )
            );
            drop(held);
            ports.reserve(claimant(&b), &[request(None, (port, port))]).unwrap();
        });
    }

    #[test]
    fn a_port_released_a_moment_ago_may_still_be_held() {
        on_a_host(|| {
            let ports = Ports::new((40000, 50000));
            let (a, b) = (EndpointId::random(), EndpointId::random());
            let port = free_port();
            let held = ports.reserve(claimant(&a), &[request(None, (port, port))]).unwrap();
            ports.release_used(&a, &held.published);
            let shim = thread::spawn(move || {
                thread::sleep(Duration::from_millis(30));
                drop(held);
            });
            ports.reserve(claimant(&b), &[request(None, (port, port))]).unwrap();
            shim.join().unwrap();
        });
    }

    #[test]
    fn a_failed_request_takes_the_earlier_ones_back() {
        on_a_host(|| {
            let ports = Ports::new((40000, 50000));
            let id = EndpointId::random();
            let (free, host) = (free_port(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
            let busy = host.local_addr().unwrap().port();
            ports
                .reserve(claimant(&id), &[request(None, (free, free)), request(None, (busy, busy))])
                .unwrap_err();
            assert_eq!(ports.in_use(), 0);
            std::net::TcpListener::bind(("0.0.0.0", free)).unwrap();
        });
    }

    #[test]
    fn ranges_skip_what_is_taken_and_random_ports_come_from_the_ephemeral_range() {
        on_a_host(|| {
            let ports = Ports::new((47000, 47999));
            let id = EndpointId::random();
            let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let busy = host.local_addr().unwrap().port();
            let got =
                ports.reserve(claimant(&id), &[request(Some(Ipv4Addr::LOCALHOST.into()), (busy, busy + 20))]);
            let got = got.unwrap().published[0].host_port;
            assert!(got > busy && got <= busy + 20);
            for _ in 0..3 {
                let got = ports.reserve(claimant(&id), &[request(None, (0, 0))]).unwrap();
                let port = got.published[0].host_port;
                assert!((47000..48000).contains(&port));
                assert!(got.published.iter().all(|p| p.host_port == port));
            }
        });
    }

    #[test]
    fn foreign_addresses_are_refused_at_once() {
        on_a_host(|| {
            let ports = Ports::new((47000, 47999));
            let id = EndpointId::random();
            let error = ports.reserve(claimant(&id), &[request(Some([192, 0, 2, 250].into()), (1, 65535))]);
            let text = error.unwrap_err().to_string();
            assert!(text.ends_with("/tcp: cannot assign requested address"), "{text}");
        });
    }

    #[test]
    fn large_ranges_hold_a_bounded_number_of_sockets() {
        on_a_host(|| {
            let ports = Ports::new((1, 1));
            let id = EndpointId::random();
            let requests: Vec<_> = (20000..20200).map(|p| request(None, (p, p))).collect();
            let got = ports.reserve(claimant(&id), &requests).unwrap();
            assert!(got.relays.len() <= MAX_RELAYS);
            assert_eq!(got.published.len(), got.relays.len() + got.unheld);
            assert_eq!(ports.in_use(), got.published.len());
            assert_eq!(got.unheld + got.relays.len() / 2, 200);
            ports.release(&id, &got.published);
            assert_eq!(ports.in_use(), 0);
        });
    }
}
