//! Host ports: which are ours, and the sockets that keep everybody else off them.
//!
//! An endpoint holds a socket for each of its first ports: nobody else gets them, and what the kernel does not lead to the
//! container (IPv6 to a container without, `::1`) arrives there and is relayed by the shim. A range of thousands has sockets
//! for its beginning only; the others are looked up once among the host's sockets.

mod claims;
mod sockets;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ferry_types::EndpointId;
use ferry_types::net::{Protocol, PublishRequest, PublishedPort};
use rustix::io::Errno;

use self::claims::{Claims, LINGER};
use self::sockets::{Snapshot, bind};
use crate::endpoint::RelaySocket;
use crate::error::PortError;
use crate::firewall::rules::PerFamily;
use crate::publishing::Publishing;

/// Most sockets an endpoint hands to its shim: they travel in one message, whose limit is 128
/// descriptors (`SCM_RIGHTS` has it at 253) with some for other uses. Ports beyond are checked, not held.
pub(crate) const MAX_RELAYS: usize = 100;

const LINGER_PAUSE: Duration = Duration::from_millis(2);

/// Host ports of all endpoints of an engine.
#[derive(Debug)]
pub(crate) struct Ports {
    claims: Mutex<Claims>,
    ephemeral: (u16, u16),
    ipv6: bool,
}

/// Ports an endpoint got.
#[derive(Debug, Default)]
pub(crate) struct Granted {
    pub(crate) published: Vec<PublishedPort>,
    pub(crate) relays: Vec<RelaySocket>,
    /// Ports that were to be published on IPv6, too, and are not: there is no relay for them.
    pub(crate) without_ipv6: usize,
    /// The host's sockets, once they were looked at.
    host: Snapshot,
}

/// A port that is open at the container's own address of the same family as `host_ip`.
fn opened(host_ip: IpAddr, request: &PublishRequest) -> PublishedPort {
    PublishedPort {
        host_ip: match host_ip {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        },
        host_port: 0,
        container_port: request.container_port,
        protocol: request.protocol,
    }
}

/// On whose behalf ports are reserved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claimant<'a> {
    pub(crate) endpoint: &'a EndpointId,
    /// The container's addresses.
    pub(crate) container: PerFamily<Option<IpAddr>>,
    pub(crate) default_host_ip: Option<IpAddr>,
    pub(crate) publishing: Publishing,
}

impl Claimant<'_> {
    /// The container's address for what arrives at `host_ip`: of the same family, or an IPv4 one by a relay.
    fn target(&self, host_ip: IpAddr) -> Option<IpAddr> {
        match host_ip {
            IpAddr::V4(_) => self.container.ipv4,
            IpAddr::V6(_) => self.container.ipv6.or(self.container.ipv4.filter(|_| self.publishing.relays)),
        }
    }

    /// Whether only a relay leads from `host_ip` to the container.
    fn needs_relay(&self, host_ip: IpAddr) -> bool {
        match host_ip {
            IpAddr::V4(_) => self.publishing.by_relay.ipv4,
            IpAddr::V6(_) => self.publishing.by_relay.ipv6 || self.container.ipv6.is_none(),
        }
    }

    fn is_routed(&self, host_ip: IpAddr) -> bool {
        match host_ip {
            IpAddr::V4(_) => self.publishing.routed.ipv4,
            IpAddr::V6(_) => self.publishing.routed.ipv6 && self.container.ipv6.is_some(),
        }
    }
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
        granted.published.shrink_to_fit();
        granted.host.forget();
        Ok(granted)
    }

    /// The ports that are opened where packets are routed to the container; nothing of the host's is reserved.
    pub(crate) fn open(claimant: Claimant<'_>, requests: &[PublishRequest]) -> Vec<PublishedPort> {
        let families: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let open = |request: &PublishRequest| {
            let wanted = request.host_ip.or(claimant.default_host_ip);
            let of_family = move |ip: &IpAddr| wanted.is_none_or(|w| w.is_ipv4() == ip.is_ipv4());
            let routed = |ip: &IpAddr| claimant.target(*ip).is_some() && claimant.is_routed(*ip);
            families
                .into_iter()
                .filter(of_family)
                .filter(routed)
                .map(|ip| opened(ip, request))
                .collect::<Vec<_>>()
        };
        requests.iter().flat_map(open).collect()
    }

    fn reserve_one(
        &self,
        claimant: Claimant<'_>,
        request: &PublishRequest,
        granted: &mut Granted,
    ) -> Result<(), PortError> {
        let asked: &[IpAddr] = match request.host_ip.or(claimant.default_host_ip) {
            Some(ip) => &[ip],
            None if self.ipv6 => &[IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
            None => &[IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
        };
        let served = asked.iter().copied().filter(|ip| claimant.target(*ip).is_some());
        let (routed, addresses): (Vec<IpAddr>, Vec<IpAddr>) = served.partition(|ip| claimant.is_routed(*ip));
        granted.published.extend(routed.into_iter().map(|ip| opened(ip, request)));
        if addresses.is_empty() {
            return Ok(());
        }
        let (first, last) = match request.host_ports {
            (0, 0) => self.ephemeral,
            range => range,
        };
        let mut failure = PortError::Exhausted;
        let count = u32::from(last.saturating_sub(first)) + 1;
        for n in 0..count {
            let port = match request.host_ports {
                (0, 0) => self.lock().next_ephemeral(request.protocol, self.ephemeral),
                _ => first + n as u16,
            };
            match self.try_port(claimant, request, &addresses, port, granted) {
                Ok(()) => return Ok(()),
                Err(error) if error.is_permanent() => return Err(error),
                Err(error) => failure = error,
            }
        }
        Err(if count > 1 && request.host_ports == (0, 0) { PortError::Exhausted } else { failure })
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
        let protocol = request.protocol;
        let publish = |host_ip| PublishedPort {
            host_ip,
            host_port: port,
            container_port: request.container_port,
            protocol,
        };
        self.lock()
            .take(claimant.endpoint, protocol, port, addresses)
            .map_err(|host_ip| PortError::AlreadyAllocated { host_ip, port })?;
        let undo = |host_ips: &[IpAddr]| {
            let claimed: Vec<_> = host_ips.iter().copied().map(publish).collect();
            self.release(claimant.endpoint, &claimed);
        };
        // The shim relays tcp and udp only.
        let hold = protocol != Protocol::Sctp && granted.relays.len() + addresses.len() <= MAX_RELAYS;
        let mut relays = Vec::new();
        for address in addresses {
            let host = SocketAddr::new(*address, port);
            let container_ip = claimant.target(*address).unwrap_or(Ipv4Addr::UNSPECIFIED.into());
            let target = SocketAddr::new(container_ip, request.container_port);
            let checked = match hold {
                true => self.bind_released(protocol, host).map(Some),
                // Which the kernel may not have at all.
                false if protocol == Protocol::Sctp => self.bind_released(protocol, host).map(|_| None),
                false => self.look_up(protocol, host, &mut granted.host).map(|()| None),
            };
            match checked {
                Ok(socket) => {
                    relays.extend(socket.map(|socket| RelaySocket { socket, protocol, target, host }));
                }
                Err(source) => {
                    undo(addresses);
                    return Err(PortError::Bind {
                        host_ip: *address,
                        port,
                        container_ip,
                        container_port: request.container_port,
                        protocol,
                        source,
                    });
                }
            }
        }
        if hold {
            granted.relays.extend(relays);
            granted.published.extend(addresses.iter().copied().map(publish));
            return Ok(());
        }
        let (lost, served): (Vec<IpAddr>, Vec<IpAddr>) =
            addresses.iter().partition(|ip| claimant.needs_relay(**ip));
        undo(&lost);
        if let ([], Some(&host_ip)) = (&served[..], lost.first()) {
            return Err(PortError::NoRelay { host_ip, port, protocol });
        }
        granted.without_ipv6 += lost.len();
        granted.published.extend(served.into_iter().map(publish));
        Ok(())
    }

    /// Binds a socket; waits a little when the port was ours until a moment ago.
    fn bind_released(&self, protocol: Protocol, host: SocketAddr) -> io::Result<OwnedFd> {
        self.once_released(protocol, host, || bind(protocol, host))
    }

    /// Whether the port could be bound, without a socket where the kernel tells.
    fn look_up(&self, protocol: Protocol, host: SocketAddr, snapshot: &mut Snapshot) -> io::Result<()> {
        self.once_released(protocol, host, || match snapshot.conflicts(protocol, host) {
            Some(false) => Ok(()),
            Some(true) => {
                snapshot.forget();
                Err(Errno::ADDRINUSE.into())
            }
            None => bind(protocol, host).map(drop),
        })
    }

    fn once_released<T>(
        &self,
        protocol: Protocol,
        host: SocketAddr,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let begin = Instant::now();
        loop {
            match attempt() {
                Err(e)
                    if e.kind() == io::ErrorKind::AddrInUse
                        && begin.elapsed() < LINGER
                        && self.lock().lingers(protocol, host.port()) =>
                {
                    thread::sleep(LINGER_PAUSE);
                }
                other => return other,
            }
        }
    }

    /// Registers ports of a container that already runs; its shim holds the sockets.
    pub(crate) fn adopt(&self, endpoint: &EndpointId, published: &[PublishedPort]) {
        self.lock().adopt(endpoint, published);
    }

    /// Forgets an endpoint's ports.
    pub(crate) fn release(&self, endpoint: &EndpointId, published: &[PublishedPort]) {
        self.lock().release(endpoint, published);
    }

    /// Forgets the ports of an endpoint that was in use.
    pub(crate) fn release_used(&self, endpoint: &EndpointId, published: &[PublishedPort]) {
        let mut claims = self.lock();
        claims.release(endpoint, published);
        claims.linger(&published[..published.len().min(MAX_RELAYS)]);
    }

    /// Number of ports in use, over all addresses.
    #[cfg(test)]
    pub(crate) fn in_use(&self) -> usize {
        self.lock().len()
    }
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
        let container = PerFamily { ipv4: Some([172, 17, 0, 2].into()), ipv6: None };
        let publishing =
            Publishing { routed: PerFamily::default(), by_relay: PerFamily::default(), relays: true };
        Claimant { endpoint, container, default_host_ip: None, publishing }
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
            assert_eq!(got.relays.len(), MAX_RELAYS);
            assert_eq!(got.published.len(), MAX_RELAYS + got.without_ipv6);
            assert_eq!(ports.in_use(), got.published.len());
            assert_eq!(got.without_ipv6, 150);
            ports.release(&id, &got.published);
            assert_eq!(ports.in_use(), 0);
            // A container of both families needs no relay.
            drop(got);
            let both = PerFamily { ipv6: Some("fd00::2".parse().unwrap()), ..claimant(&id).container };
            let got = ports.reserve(Claimant { container: both, ..claimant(&id) }, &requests).unwrap();
            assert_eq!((got.published.len(), got.relays.len(), got.without_ipv6), (400, MAX_RELAYS, 0));
            let v6 = got.relays.iter().find(|r| r.host.is_ipv6()).unwrap();
            assert_eq!(v6.target, "[fd00::2]:80".parse().unwrap());
        });
    }

    #[test]
    fn conflicts_are_found_where_no_socket_is_bound() {
        on_a_host(|| {
            let ports = Ports::new((1, 1));
            let id = EndpointId::random();
            let requests: Vec<_> = (20000..20200).map(|p| request(None, (p, p))).collect();
            for busy in ["127.0.0.1:20150", "[::1]:20150", "[::]:20199"] {
                let host = std::net::TcpListener::bind(busy).unwrap();
                let error = ports.reserve(claimant(&id), &requests).unwrap_err().to_string();
                let port = host.local_addr().unwrap().port();
                let address = if busy == "[::1]:20150" { "[::]" } else { "0.0.0.0" };
                let want = format!(
                    "failed to bind host port for {address}:{port}:172.17.0.2:80/tcp: address already in use"
                );
                assert_eq!(error, want);
                assert_eq!(ports.in_use(), 0);
            }
            ports.reserve(claimant(&id), &requests).unwrap();
        });
    }

    #[test]
    fn routed_ports_are_none_of_the_host() {
        on_a_host(|| {
            let ports = Ports::new((47000, 47999));
            let id = EndpointId::random();
            let host = std::net::TcpListener::bind("0.0.0.0:20000").unwrap();
            let routed = PerFamily { ipv4: true, ipv6: true };
            let both = PerFamily { ipv6: Some("fd00::2".parse().unwrap()), ..claimant(&id).container };
            let publishing = Publishing { routed, ..claimant(&id).publishing };
            let claimant = Claimant { publishing, container: both, ..claimant(&id) };
            let got = ports.reserve(claimant, &[request(None, (20000, 20000))]).unwrap();
            assert_eq!((got.published.len(), got.relays.len(), ports.in_use()), (2, 0, 0));
            assert!(got.published.iter().all(|p| p.host_port == 0 && p.host_ip.is_unspecified()));
            drop(host);
        });
    }

    #[test]
    fn what_needs_a_relay_and_gets_none_is_refused_or_left_out() {
        on_a_host(|| {
            let ports = Ports::new((47000, 47999));
            let id = EndpointId::random();
            // With the host's firewall in force.
            let by_relay = PerFamily { ipv4: true, ipv6: true };
            let publishing = Publishing { by_relay, ..claimant(&id).publishing };
            let relayed = Claimant { publishing, ..claimant(&id) };
            let fifty: Vec<_> = (20000..20050).map(|p| request(None, (p, p))).collect();
            assert_eq!(ports.reserve(relayed, &fifty).unwrap().relays.len(), MAX_RELAYS);
            ports.release(&id, &[]);
            let more: Vec<_> = (21000..21051).map(|p| request(None, (p, p))).collect();
            let error = ports.reserve(relayed, &more).unwrap_err();
            assert!(matches!(error, PortError::NoRelay { port: 21050, .. }), "{error}");
            // Without relays an IPv4-only container has no IPv6 ports.
            let publishing = Publishing { relays: false, ..claimant(&id).publishing };
            let got = ports
                .reserve(Claimant { publishing, ..claimant(&id) }, &[request(None, (22000, 22000))])
                .unwrap();
            assert_eq!(got.published.len(), 1);
            assert!(got.published[0].host_ip.is_ipv4());
        });
    }
}
