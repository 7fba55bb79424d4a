//! rtnetlink(7): links, addresses, routes, neighbours. Constants from `linux/rtnetlink.h`, `linux/if_link.h`,
//! `linux/if_addr.h`, `linux/neighbour.h`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use super::message::{APPEND, Attributes, Batch, CREATE, DUMP, EXCL, Message, REPLACE, text, u32_at};
use super::socket::{NetlinkError, Socket};

pub(super) const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_DELNEIGH: u16 = 29;

pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
pub(super) const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_OPERSTATE: u16 = 16;
const IF_OPER_UP: u8 = 6;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_LINK_NETNSID: u16 = 37;
pub(super) const IFLA_NET_NS_FD: u16 = 28;
pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const IFLA_BR_NF_CALL_IPTABLES: u16 = 36;
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
const IFLA_BRPORT_FLUSH: u16 = 24;
const IFLA_BRPORT_MCAST_FLOOD: u16 = 27;
const IFLA_BRPORT_BCAST_FLOOD: u16 = 30;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_BRPORT_LOCKED: u16 = 39;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_F_NODAD: u8 = 0x02;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const NDA_DST: u16 = 1;

/// Type of the news of a link that is gone (`RTM_DELLINK`).
pub const LINK_DELETED: u16 = RTM_DELLINK;
/// Multicast group of news about links (`RTNLGRP_LINK`).
pub const LINK_GROUP: u32 = 1;

/// The index of the link that is gone, by news of it. A port that leaves its bridge is told of in the same way
/// (`AF_BRIDGE`).
pub fn deleted_link(kind: u16, payload: &[u8]) -> Option<u32> {
    (kind == RTM_DELLINK && payload.first() == Some(&(libc::AF_UNSPEC as u8))).then(|| u32_at(payload, 4))?
}

/// `IFF_UP` (netdevice(7)).
pub const UP: u32 = 0x1;

/// `struct ifinfomsg`.
pub(super) fn ifinfo(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut b = [0; 16];
    b[4..8].copy_from_slice(&index.to_ne_bytes());
    b[8..12].copy_from_slice(&flags.to_ne_bytes());
    b[12..16].copy_from_slice(&change.to_ne_bytes());
    b
}

/// Creates a bridge with a fixed hardware address, down.
pub fn create_bridge(batch: &mut Batch, name: &str, mac: [u8; 6], mtu: Option<u32>) {
    create_bridge_at(batch, 0, name, mac, mtu);
}

/// As [`create_bridge`], with an interface index; 0 has the kernel choose.
pub fn create_bridge_at(batch: &mut Batch, index: u32, name: &str, mac: [u8; 6], mtu: Option<u32>) {
    let mut m = batch.message(RTM_NEWLINK, CREATE | EXCL);
    m.header(&ifinfo(index, 0, 0)).text(IFLA_IFNAME, name).attr(IFLA_ADDRESS, &mac);
    if let Some(mtu) = mtu {
        m.u32(IFLA_MTU, mtu);
    }
    m.nest(IFLA_LINKINFO, |m| {
        m.text(IFLA_INFO_KIND, "bridge");
    });
}

/// Creates a veth pair, both ends down: `host` here, on a bridge (interface index) at once if given; `peer` in the namespace
/// `netns`.
pub fn create_veth(
    batch: &mut Batch,
    host: &str,
    bridge: Option<u32>,
    peer: &str,
    netns: BorrowedFd<'_>,
    mtu: Option<u32>,
) {
    let mut m = batch.message(RTM_NEWLINK, CREATE | EXCL);
    m.header(&ifinfo(0, 0, 0)).text(IFLA_IFNAME, host);
    if let Some(bridge) = bridge {
        m.u32(IFLA_MASTER, bridge);
    }
    if let Some(mtu) = mtu {
        m.u32(IFLA_MTU, mtu);
    }
    m.nest(IFLA_LINKINFO, |m| {
        m.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |m| {
            m.nest(VETH_INFO_PEER, |m| {
                m.header(&ifinfo(0, 0, 0))
                    .text(IFLA_IFNAME, peer)
                    .u32(IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
                if let Some(mtu) = mtu {
                    m.u32(IFLA_MTU, mtu);
                }
            });
        });
    });
}

/// What to change of a link.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkChange {
    /// Bring it up, or down.
    pub up: Option<bool>,
    /// Hardware address.
    pub mac: Option<[u8; 6]>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Bridge to put it on (interface index); 0 takes it off.
    pub master: Option<u32>,
}

/// Which link a request means.
#[derive(Debug, Clone, Copy)]
pub enum LinkRef<'a> {
    /// By interface index.
    Index(u32),
    /// By name.
    Name(&'a str),
}

fn link_message<'b>(batch: &'b mut Batch, kind: u16, link: LinkRef<'_>, flags: (u32, u32)) -> Message<'b> {
    let mut m = batch.message(kind, 0);
    match link {
        LinkRef::Index(index) => m.header(&ifinfo(index, flags.0, flags.1)),
        LinkRef::Name(name) => m.header(&ifinfo(0, flags.0, flags.1)).text(IFLA_IFNAME, name),
    };
    m
}

/// Changes a link.
pub fn set_link(batch: &mut Batch, link: LinkRef<'_>, change: &LinkChange) {
    let flags = match change.up {
        Some(true) => (UP, UP),
        Some(false) => (0, UP),
        None => (0, 0),
    };
    let mut m = link_message(batch, RTM_NEWLINK, link, flags);
    if let Some(mac) = change.mac {
        m.attr(IFLA_ADDRESS, &mac);
    }
    if let Some(mtu) = change.mtu {
        m.u32(IFLA_MTU, mtu);
    }
    if let Some(master) = change.master {
        m.u32(IFLA_MASTER, master);
    }
}

/// Stops the kernel from giving a link an IPv6 link-local address when it comes up.
pub fn no_ipv6_autoconfiguration(batch: &mut Batch, link: LinkRef<'_>) {
    let mut m = link_message(batch, RTM_SETLINK, link, (0, 0));
    m.nest(IFLA_AF_SPEC, |m| {
        m.nest(libc::AF_INET6 as u16, |m| {
            m.attr(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
        });
    });
}

/// Settings of a bridge port.
#[derive(Debug, Clone, Copy, Default)]
pub struct PortChange {
    /// Let frames leave by the port they came in (needed when a DNAT happens while bridging).
    pub hairpin: Option<bool>,
    /// Keep it from talking to other isolated ports.
    pub isolated: Option<bool>,
    /// Let no frame pass any more and forget the hardware addresses learnt on it.
    pub closed: bool,
}

/// Changes the bridge port with this interface index.
pub fn set_port(batch: &mut Batch, index: u32, change: &PortChange) {
    let mut header = ifinfo(index, 0, 0);
    header[0] = libc::AF_BRIDGE as u8;
    let mut m = batch.message(RTM_SETLINK, 0);
    m.header(&header).nest(IFLA_PROTINFO, |m| {
        if let Some(on) = change.hairpin {
            m.attr(IFLA_BRPORT_MODE, &[u8::from(on)]);
        }
        if let Some(on) = change.isolated {
            m.attr(IFLA_BRPORT_ISOLATED, &[u8::from(on)]);
        }
        if change.closed {
            // The state would be enough, did not any change of the carrier set it to forwarding again.
            for zero in [
                IFLA_BRPORT_STATE,
                IFLA_BRPORT_LEARNING,
                IFLA_BRPORT_UNICAST_FLOOD,
                IFLA_BRPORT_MCAST_FLOOD,
                IFLA_BRPORT_BCAST_FLOOD,
            ] {
                m.attr(zero, &[0]);
            }
            // Frames from addresses not learnt are dropped (Linux 5.18).
            m.attr(IFLA_BRPORT_LOCKED, &[1]).attr(IFLA_BRPORT_FLUSH, &[]);
        }
    });
}

/// Makes frames that pass a bridge pass the IPv4 hooks of netfilter, whatever the host's setting
/// (`bridge-nf-call-iptables`) is; when off, the host's setting decides.
pub fn filter_bridged(batch: &mut Batch, index: u32, on: bool) {
    let mut m = batch.message(RTM_NEWLINK, 0);
    m.header(&ifinfo(index, 0, 0)).nest(IFLA_LINKINFO, |m| {
        m.text(IFLA_INFO_KIND, "bridge").nest(IFLA_INFO_DATA, |m| {
            m.attr(IFLA_BR_NF_CALL_IPTABLES, &[u8::from(on)]);
        });
    });
}

/// Deletes a link.
pub fn delete_link(batch: &mut Batch, index: u32) {
    batch.message(RTM_DELLINK, 0).header(&ifinfo(index, 0, 0));
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// Appends an address in network byte order.
fn address_attr(m: &mut Message<'_>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => m.attr(kind, &v4.octets()),
        IpAddr::V6(v6) => m.attr(kind, &v6.octets()),
    };
}

fn address_message(batch: &mut Batch, kind: u16, flags: u16, index: u32, address: IpAddr, prefix: u8) {
    let address_flags = if address.is_ipv6() && kind == RTM_NEWADDR { IFA_F_NODAD } else { 0 };
    // struct ifaddrmsg
    let mut header = [family(address), prefix, address_flags, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let mut m = batch.message(kind, flags);
    m.header(&header);
    address_attr(&mut m, IFA_LOCAL, address);
    address_attr(&mut m, IFA_ADDRESS, address);
    if let IpAddr::V4(v4) = address
        && prefix < 31
    {
        let broadcast = u32::from(v4) | (u32::MAX >> prefix);
        m.attr(IFA_BROADCAST, &broadcast.to_be_bytes());
    }
}

/// Gives a link an address. An IPv6 one may be used at once, without a search for duplicates.
pub fn add_address(batch: &mut Batch, index: u32, address: impl Into<IpAddr>, prefix: u8) {
    address_message(batch, RTM_NEWADDR, CREATE | REPLACE, index, address.into(), prefix);
}

/// Takes an address from a link.
pub fn delete_address(batch: &mut Batch, index: u32, address: impl Into<IpAddr>, prefix: u8) {
    address_message(batch, RTM_DELADDR, 0, index, address.into(), prefix);
}

/// Adds a default route through `gateway` in the main table.
pub fn add_default_route(batch: &mut Batch, index: u32, gateway: impl Into<IpAddr>) {
    let gateway = gateway.into();
    // With IPv6 appending would make one route of several ways.
    let flags = if gateway.is_ipv6() { CREATE | REPLACE } else { CREATE | APPEND };
    default_route(batch, flags, index, gateway);
}

/// Makes the default route of the main table lead to whoever is on a link, whichever way it led before.
pub fn replace_device_route(batch: &mut Batch, index: u32, ipv6: bool) {
    let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET } as u8;
    // struct rtmsg: RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_LINK, RTN_UNICAST
    let header = [family, 0, 0, 0, 254, 3, 253, 1, 0, 0, 0, 0];
    batch.message(RTM_NEWROUTE, CREATE | REPLACE).header(&header).u32(RTA_OIF, index);
}

fn default_route(batch: &mut Batch, flags: u16, index: u32, gateway: IpAddr) {
    // struct rtmsg: RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST
    let header = [family(gateway), 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
    let mut m = batch.message(RTM_NEWROUTE, flags);
    m.header(&header);
    address_attr(&mut m, RTA_GATEWAY, gateway);
    m.u32(RTA_OIF, index);
}

/// Makes the default route of the main table lead through `gateway`, whichever way it led before.
pub fn replace_default_route(batch: &mut Batch, index: u32, gateway: impl Into<IpAddr>) {
    default_route(batch, CREATE | REPLACE, index, gateway.into());
}

/// Forgets the hardware address of a neighbour.
pub fn delete_neighbour(batch: &mut Batch, index: u32, address: impl Into<IpAddr>) {
    let address = address.into();
    // struct ndmsg
    let mut header = [0_u8; 12];
    header[0] = family(address);
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let mut m = batch.message(RTM_DELNEIGH, 0);
    m.header(&header);
    address_attr(&mut m, NDA_DST, address);
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it sends and receives (`IF_OPER_UP`, RFC 2863): up, and the kernel has taken note of its carrier. Since
    /// Linux 6.9 asking for the link makes it do so at once.
    pub operational: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// Hardware address; empty when it has none.
    pub mac: Vec<u8>,
    /// Index of the bridge it is a port of.
    pub master: Option<u32>,
    /// Index of the link it sits on, when that one is in another namespace.
    pub lower_elsewhere: Option<u32>,
    /// What whoever made it noted down with it (`ip link set alias`).
    pub alias: String,
    /// Driver (`bridge`, `veth`); empty for physical devices.
    pub kind: String,
    /// Of a bridge port, its spanning-tree state; 3 forwards (`BR_STATE_*`, `linux/if_bridge.h`).
    pub port_state: Option<u8>,
    /// Whether it is a bridge port that learns no addresses, as [`PortChange::closed`] leaves it.
    pub port_closed: bool,
}

fn parse_link(payload: &[u8]) -> Option<Link> {
    let attrs = Attributes::after(payload, 16);
    let info = attrs.nested(IFLA_LINKINFO);
    let port = info.nested(IFLA_INFO_SLAVE_DATA);
    let number = |kind| attrs.find(kind).and_then(|v| u32_at(v, 0));
    Some(Link {
        index: u32_at(payload, 4)?,
        name: text(attrs.find(IFLA_IFNAME)?),
        up: u32_at(payload, 8)? & UP != 0,
        operational: attrs.find(IFLA_OPERSTATE) == Some(&[IF_OPER_UP][..]),
        mtu: number(IFLA_MTU).unwrap_or_default(),
        mac: attrs.find(IFLA_ADDRESS).unwrap_or_default().to_vec(),
        master: number(IFLA_MASTER),
        lower_elsewhere: attrs.find(IFLA_LINK_NETNSID).and_then(|_| number(IFLA_LINK)),
        alias: attrs.find(IFLA_IFALIAS).map(text).unwrap_or_default(),
        kind: info.find(IFLA_INFO_KIND).map(text).unwrap_or_default(),
        port_state: port.find(IFLA_BRPORT_STATE).and_then(|v| v.first().copied()),
        port_closed: port.find(IFLA_BRPORT_LEARNING) == Some(&[0][..]),
    })
}

/// All network devices of the socket's namespace.
///
/// # Errors
/// See [`Socket::query`].
pub fn links(socket: &mut Socket) -> Result<Vec<Link>, NetlinkError> {
    retry_interrupted(|| {
        let mut batch = Batch::new();
        batch.message(RTM_GETLINK, DUMP).header(&ifinfo(0, 0, 0));
        let mut found = Vec::new();
        socket.query(batch, |kind, payload| {
            if kind == RTM_NEWLINK {
                found.extend(parse_link(payload));
            }
        })?;
        Ok(found)
    })
}

/// One network device; `None` when there is none.
///
/// # Errors
/// See [`Socket::query`].
pub fn link(socket: &mut Socket, link: LinkRef<'_>) -> Result<Option<Link>, NetlinkError> {
    let mut batch = Batch::new();
    drop(link_message(&mut batch, RTM_GETLINK, link, (0, 0)));
    let mut found = None;
    match socket.query(batch, |kind, payload| {
        if kind == RTM_NEWLINK {
            found = parse_link(payload);
        }
    }) {
        Ok(()) => Ok(found),
        Err(e) if e.errno() == Some(libc::ENODEV) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Addresses with their prefix lengths of one device, of both families.
///
/// # Errors
/// See [`Socket::query`].
pub fn addresses(socket: &mut Socket, index: u32) -> Result<Vec<(IpAddr, u8)>, NetlinkError> {
    retry_interrupted(|| {
        let mut batch = Batch::new();
        batch.message(RTM_GETADDR, DUMP).header(&[libc::AF_UNSPEC as u8, 0, 0, 0, 0, 0, 0, 0]);
        let mut found = Vec::new();
        socket.query(batch, |kind, payload| {
            if kind == RTM_NEWADDR && u32_at(payload, 4) == Some(index) {
                let attrs = Attributes::after(payload, 8);
                // IPv6 has the first only where there is a peer.
                let local = attrs.find(IFA_LOCAL).or_else(|| attrs.find(IFA_ADDRESS)).and_then(address);
                found.extend(local.zip(payload.get(1).copied()));
            }
        })?;
        Ok(found)
    })
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub destination: IpAddr,
    /// Length of its prefix; 0 for the default route.
    pub prefix: u8,
    /// Outgoing interface, when there is one.
    pub device: Option<u32>,
    /// Whether a router's advertisement made it (`RTPROT_RA`).
    pub advertised: bool,
}

/// The routes of the main table, of both families.
///
/// # Errors
/// See [`Socket::query`].
pub fn routes(socket: &mut Socket) -> Result<Vec<Route>, NetlinkError> {
    const RT_TABLE_MAIN: u8 = 254;
    const RTPROT_RA: u8 = 9;
    retry_interrupted(|| {
        let mut batch = Batch::new();
        batch.message(RTM_GETROUTE, DUMP).header(&[0; 12]);
        let mut found = Vec::new();
        socket.query(batch, |kind, payload| {
            // struct rtmsg: family, prefix, …, table, protocol
            let &[family, prefix, _, _, table, protocol, ..] = payload else { return };
            let any: IpAddr = match i32::from(family) {
                libc::AF_INET => Ipv4Addr::UNSPECIFIED.into(),
                libc::AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
                _ => return,
            };
            // RTN_UNICAST or another type that reserves addresses
            if kind != RTM_NEWROUTE || table != RT_TABLE_MAIN {
                return;
            }
            let attrs = Attributes::after(payload, 12);
            found.push(Route {
                destination: attrs.find(RTA_DST).and_then(address).unwrap_or(any),
                prefix,
                device: attrs.find(RTA_OIF).and_then(|v| u32_at(v, 0)),
                advertised: protocol == RTPROT_RA,
            });
        })?;
        Ok(found)
    })
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
        _ => Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
    }
}

/// Dumps are repeated when the tables changed meanwhile (`NLM_F_DUMP_INTR`).
fn retry_interrupted<T>(mut dump: impl FnMut() -> Result<T, NetlinkError>) -> Result<T, NetlinkError> {
    // On a busy host something changes during nearly every dump of hundreds of links.
    const AT_ONCE: u32 = 8;
    const ATTEMPTS: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(2);
    for attempt in 1..ATTEMPTS {
        match dump() {
            Err(e) if e.errno() == Some(libc::EINTR) && attempt <= AT_ONCE => {}
            Err(e) if e.errno() == Some(libc::EINTR) => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
    dump()
}
