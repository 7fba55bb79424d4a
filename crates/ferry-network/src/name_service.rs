//! Where a container's name queries go: to 127.0.0.11, port 53, as in Docker. The sockets are bound inside its
//! namespace to ports of the kernel's choice, so that port 53 stays free in the container, and a small nft table in the
//! namespace leads the queries there:
//!
//! ```text
//! table ip ferry-names {
//!   chain output { type nat hook output priority -100
//!     ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:P
//!     ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:Q } }
//! ```

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::BorrowedFd;

use ferry_sys::netlink::nft::{self, BaseChain, Hook, Transaction};
use ferry_sys::netlink::nft_expr::{AddressFamily, Base, Expr, MetaKey, REG_1, REG_1_1};
use ferry_sys::netlink::{Protocol as Family, Socket};
use ferry_types::net::Protocol;

use crate::error::NetworkError;
use crate::sandbox::in_namespace;

/// The address programs in containers have in their configuration.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

const TABLE: &str = "ferry-names";
const CHAIN: &str = "output";
const PORT: u16 = 53;

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
        let tcp = TcpListener::bind((NAME_SERVER, 0)).map_err(failed("bind name socket"))?;
        let (udp_port, tcp_port) = (udp.local_addr(), tcp.local_addr());
        let mut tx = Transaction::new(nft::Family::Ip);
        tx.add_table(TABLE);
        let base = BaseChain { kind: "nat", hook: Hook::Output, priority: -100 };
        tx.add_chain(TABLE, CHAIN, Some(base));
        tx.delete_rules(TABLE, CHAIN);
        for (protocol, address) in [(Protocol::Udp, udp_port), (Protocol::Tcp, tcp_port)] {
            let port = address.map_err(failed("inspect name socket"))?.port();
            tx.add_rule(TABLE, CHAIN, &redirect(protocol, port));
        }
        let mut socket = Socket::open(Family::Netfilter).map_err(failed("open nf_tables"))?;
        tx.commit(&mut socket).map_err(|e| failed("redirect name queries")(e.into()))?;
        Ok(NameSockets { udp, tcp })
    })
}

fn redirect(protocol: Protocol, port: u16) -> Vec<Expr> {
    let equals = |value: &[u8]| Expr::Compare { register: REG_1, value: value.to_vec(), not: false };
    vec![
        Expr::Payload { base: Base::Network, offset: 16, len: 4, to: REG_1 },
        equals(&NAME_SERVER.octets()),
        Expr::Meta { key: MetaKey::Transport, to: REG_1 },
        equals(&[protocol.number()]),
        Expr::Payload { base: Base::Transport, offset: 2, len: 2, to: REG_1 },
        equals(&PORT.to_be_bytes()),
        Expr::Load { value: NAME_SERVER.octets().to_vec(), to: REG_1 },
        Expr::Load { value: port.to_be_bytes().to_vec(), to: REG_1_1 },
        Expr::Dnat { family: AddressFamily::Ipv4, address: REG_1, port: REG_1_1 },
    ]
}
