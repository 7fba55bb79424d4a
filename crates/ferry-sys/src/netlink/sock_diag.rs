//! Sockets of the network namespace (sock_diag(7), `linux/inet_diag.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{Attributes, Batch, DUMP};
use super::socket::{NetlinkError, Socket};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `struct inet_diag_req_v2`: family, protocol, extensions, padding, states, then a socket id, which is zero in a dump.
const REQUEST_SIZE: usize = 56;
/// `struct inet_diag_msg`.
const ANSWER_SIZE: usize = 72;
const INET_DIAG_SKV6ONLY: u16 = 11;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;
/// `TCP_LISTEN`, and `TCP_BOUND_INACTIVE`, which Linux has since 6.8.
const HOLDING_STATES: u32 = 1 << 10 | 1 << 13;

/// A socket that has a local port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Its address; unspecified for all.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Whether it has the port of IPv6 only (`IPV6_V6ONLY`). False for IPv4.
    pub only_ipv6: bool,
}

/// All sockets of an IP protocol that keep others from binding to their ports: those of tcp that listen, all others of
/// protocols without connections.
///
/// # Errors
/// See [`Socket::query`]; `ENOENT` when the kernel cannot tell of this protocol.
pub fn bound(socket: &mut Socket, protocol: u8) -> Result<Vec<Bound>, NetlinkError> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut request = [0; REQUEST_SIZE];
        request[..2].copy_from_slice(&[family, protocol]);
        let states = if protocol == TCP { HOLDING_STATES } else { u32::MAX };
        request[4..8].copy_from_slice(&states.to_ne_bytes());
        let mut batch = Batch::new();
        batch.message(SOCK_DIAG_BY_FAMILY, DUMP).header(&request);
        socket.query(batch, |_, payload| found.extend(parse(payload)))?;
    }
    Ok(found)
}

fn parse(payload: &[u8]) -> Option<Bound> {
    let port = u16::from_be_bytes(payload.get(4..6)?.try_into().ok()?);
    let bytes = payload.get(8..24)?;
    let (address, only_ipv6) = match *payload.first()? {
        AF_INET => (IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[..4]).ok()?)), false),
        AF_INET6 => {
            let address = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
            let only = Attributes::after(payload, ANSWER_SIZE).find(INET_DIAG_SKV6ONLY);
            match address.to_ipv4_mapped() {
                Some(mapped) => (IpAddr::V4(mapped), false),
                None => (IpAddr::V6(address), only.is_some_and(|v| v.first() == Some(&1))),
            }
        }
        _ => return None,
    };
    Some(Bound { address, port, only_ipv6 })
}

#[cfg(test)]
mod tests {
    use super::super::Protocol;
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn listeners_are_told() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("[::]:0").unwrap();
        let mut socket = Socket::open(Protocol::SockDiag).unwrap();
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let port = tcp.local_addr().unwrap().port();
        assert!(bound(&mut socket, 6).unwrap().contains(&Bound { address, port, only_ipv6: false }));
        let address = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let port = udp.local_addr().unwrap().port();
        assert!(bound(&mut socket, 17).unwrap().contains(&Bound { address, port, only_ipv6: false }));
    }
}
