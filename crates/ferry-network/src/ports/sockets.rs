//! The host's sockets: those that hold our ports, and those that are in their way.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use ferry_sys::netlink::sock_diag::{self, Bound};
use ferry_sys::netlink::{self, Socket};
use ferry_types::net::Protocol;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

/// Binds a socket, and listens on it for a protocol with connections; as Go's net.Listen, so that the
/// same ports count as free.
pub(super) fn bind(protocol: Protocol, host: SocketAddr) -> io::Result<OwnedFd> {
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
    if host.is_ipv4() && host.ip().is_loopback() {
        // With route_localnet set for all interfaces a neighbour could send to 127.0.0.1.
        ferry_sys::socket::bind_to_device(&socket, "lo")?;
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

/// What is bound on the host, read at once: to look a range of thousands of ports up costs no socket.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    sockets: HashMap<Protocol, HashMap<u16, Vec<Bound>>>,
}

impl Snapshot {
    /// Whether a socket of the host is in the way; `None` when the kernel does not tell.
    pub(super) fn conflicts(&mut self, protocol: Protocol, host: SocketAddr) -> Option<bool> {
        let of_protocol = match self.sockets.entry(protocol) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(read(protocol)?),
        };
        let of_port = of_protocol.get(&host.port());
        Some(of_port.into_iter().flatten().any(|b| collide(host.ip(), b)))
    }

    /// Reads again at the next question.
    pub(super) fn forget(&mut self) {
        self.sockets.clear();
    }
}

fn read(protocol: Protocol) -> Option<HashMap<u16, Vec<Bound>>> {
    let mut socket = Socket::open(netlink::Protocol::SockDiag).ok()?;
    let bound = sock_diag::bound(&mut socket, protocol.number()).ok()?;
    let mut ports: HashMap<u16, Vec<Bound>> = HashMap::new();
    for b in bound {
        ports.entry(b.port).or_default().push(b);
    }
    Some(ports)
}

/// Whether a socket like ours, of one family only, could not be bound beside this one.
fn collide(ours: IpAddr, theirs: &Bound) -> bool {
    let either_all = ours.is_unspecified() || theirs.address.is_unspecified();
    match (ours, theirs.address) {
        (IpAddr::V4(_), IpAddr::V6(address)) => address.is_unspecified() && !theirs.only_ipv6,
        (IpAddr::V6(_), IpAddr::V4(_)) => false,
        (ours, theirs) => ours == theirs || either_all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_both_families_are_in_the_way_of_ipv4() {
        let bound =
            |address: &str, only_ipv6| Bound { address: address.parse().unwrap(), port: 1, only_ipv6 };
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(collide(ip("0.0.0.0"), &bound("::", false)));
        assert!(!collide(ip("0.0.0.0"), &bound("::", true)));
        assert!(!collide(ip("127.0.0.1"), &bound("::1", false)));
        assert!(collide(ip("0.0.0.0"), &bound("10.0.0.1", false)));
        assert!(!collide(ip("10.0.0.2"), &bound("10.0.0.1", false)));
        assert!(!collide(ip("::"), &bound("0.0.0.0", false)));
        assert!(collide(ip("::1"), &bound("::", true)));
    }

    #[test]
    fn a_snapshot_knows_listeners() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut snapshot = Snapshot::default();
        let asked = |snapshot: &mut Snapshot, address: &str| {
            snapshot.conflicts(Protocol::Tcp, SocketAddr::new(address.parse().unwrap(), port))
        };
        assert_eq!(asked(&mut snapshot, "0.0.0.0"), Some(true));
        assert_eq!(asked(&mut snapshot, "127.0.0.2"), Some(false));
        drop(listener);
        assert_eq!(asked(&mut snapshot, "0.0.0.0"), Some(true));
        snapshot.forget();
        assert_eq!(asked(&mut snapshot, "0.0.0.0"), Some(false));
    }
}
