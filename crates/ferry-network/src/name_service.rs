//! Where a container's name queries go: to 127.0.0.11, port 53, as in Docker. The sockets are bound inside its
//! namespace to ports of the kernel's choice, so that port 53 stays free in the container, and a small nft table in the
//! namespace leads the queries there:
//!
//! ```text
//! table ip ferry-names {
//!   chain queries { type filter hook output priority -100
//!     ip daddr 127.0.0.11 udp dport 53 udp dport set P
//!     ip daddr 127.0.0.11 tcp dport 53 tcp dport set Q }
//!   chain responses { type filter hook output priority -300
//!     ip saddr 127.0.0.11 udp sport P udp sport set 53
//!     ip saddr 127.0.0.11 tcp sport Q tcp sport set 53 } }
//! ```
//!
//! Ports are rewritten packet by packet. `dnat` would do it, too, but it turns on connection tracking for all the
//! container's packets, and remembers every query for half a minute: with ten thousand of them a second the table of
//! connections is full before that. Where the container tracks connections itself (priority -200), it sees port 53 both ways.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::BorrowedFd;

use ferry_sys::netlink::nft::{self, BaseChain, Hook, Transaction};
use ferry_sys::netlink::nft_expr::{Base, Expr, MetaKey, REG_1};
use ferry_sys::netlink::{NetlinkError, Protocol as Family, Socket};
use ferry_types::net::Protocol;

use crate::error::NetworkError;
use crate::sandbox::in_namespace;

/// The address programs in containers have in their configuration.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

const TABLE: &str = "ferry-names";
const QUERIES: &str = "queries";
const RESPONSES: &str = "responses";
const PORT: u16 = 53;

/// Bytes of queries that may wait, with the kernel's overhead: about five thousand.
const QUEUE: usize = 4 << 20;

/// Where a container's queries arrive. The sockets keep its namespace alive: they are to be closed when it ends.
#[derive(Debug)]
pub struct NameSockets {
    /// Bound.
    pub udp: UdpSocket,
    /// Listening.
    pub tcp: TcpListener,
}

/// Opens the sockets in a container's namespace and leads its queries to them, in place of any earlier ones.
///
/// # Errors
/// When the namespace cannot be entered, or the kernel refuses the sockets or the rules.
pub fn name_sockets(netns: BorrowedFd<'_>) -> Result<NameSockets, NetworkError> {
    let failed = |action| {
        move |source: io::Error| NetworkError::Kernel { action, object: "for a container".to_owned(), source }
    };
    in_namespace(netns, || {
        let udp = UdpSocket::bind((NAME_SERVER, 0)).map_err(failed("bind name socket"))?;
        // Room for bursts: without, some three hundred queries at once are lost. It costs nothing while it is not used;
        // whoever may not exceed the system's limit has the usual room.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&udp, QUEUE);
        let tcp = TcpListener::bind((NAME_SERVER, 0)).map_err(failed("bind name socket"))?;
        let (udp_port, tcp_port) = (udp.local_addr(), tcp.local_addr());
        let mut socket = Socket::open(Family::Netfilter).map_err(failed("open nf_tables"))?;
        let refused = |e: NetlinkError| failed("redirect name queries")(e.into());
        let mut tx = Transaction::new(nft::Family::Ip);
        // Whatever an earlier engine had in it. Not in a new namespace: the kernel closes a socket that deleted something
        // only after an RCU grace period, some ten milliseconds.
        if nft::table_exists(&mut socket, nft::Family::Ip, TABLE).map_err(refused)? {
            tx.delete_table(nft::Family::Ip, TABLE);
        }
        tx.add_table(TABLE);
        for (chain, priority) in [(QUERIES, -100), (RESPONSES, -300)] {
            tx.add_chain(TABLE, chain, Some(BaseChain { kind: "filter", hook: Hook::Output, priority }));
        }
        for (protocol, address) in [(Protocol::Udp, udp_port), (Protocol::Tcp, tcp_port)] {
            let port = address.map_err(failed("inspect name socket"))?.port();
            tx.add_rule(TABLE, QUERIES, &rewrite(protocol, DESTINATION, PORT, port));
            tx.add_rule(TABLE, RESPONSES, &rewrite(protocol, SOURCE, port, PORT));
        }
        tx.commit(&mut socket).map_err(refused)?;
        Ok(NameSockets { udp, tcp })
    })
}

/// Offsets of an address in the IPv4 header and of its port in the transport header (RFC 791, 768, 9293).
type Side = (u32, u32);
const SOURCE: Side = (12, 0);
const DESTINATION: Side = (16, 2);

/// Packets with the name server on one side: their port there becomes another one.
fn rewrite(protocol: Protocol, (address, port): Side, from: u16, to: u16) -> Vec<Expr> {
    let equals = |value: &[u8]| Expr::Compare { register: REG_1, value: value.to_vec(), not: false };
    // Offset of the checksum.
    let checksum = if protocol == Protocol::Tcp { 16 } else { 6 };
    vec![
        Expr::Payload { base: Base::Network, offset: address, len: 4, to: REG_1 },
        equals(&NAME_SERVER.octets()),
        Expr::Meta { key: MetaKey::Transport, to: REG_1 },
        equals(&[protocol.number()]),
        Expr::Payload { base: Base::Transport, offset: port, len: 2, to: REG_1 },
        equals(&from.to_be_bytes()),
        Expr::Load { value: to.to_be_bytes().to_vec(), to: REG_1 },
        Expr::Write { offset: port, len: 2, from: REG_1, checksum },
    ]
}
