//! Links that sit on another one (macvlan, ipvlan, VLAN), and those that lead nowhere. Constants from `linux/if_link.h`
//! and `linux/if_vlan.h`.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::message::{Batch, CREATE, EXCL};
use super::route::{
    IFLA_ADDRESS, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO,
    IFLA_MTU, IFLA_NET_NS_FD, RTM_NEWLINK, ifinfo,
};
use super::socket::{NetlinkError, Socket};

const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;

/// How macvlan links on one parent reach each other (`enum macvlan_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacvlanMode {
    /// Not at all.
    Private,
    /// Through the switch behind the parent, if it sends frames back.
    Vepa,
    /// Directly.
    Bridge,
    /// There is one link only, and the parent is its own.
    Passthru,
}

/// At which layer ipvlan links work (`enum ipvlan_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpvlanMode {
    /// As on a switch.
    L2,
    /// The host routes; no broadcasts.
    L3,
    /// As L3, through the host's netfilter.
    L3s,
}

/// Who of the links on one parent reaches whom (`IPVLAN_F_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpvlanFlag {
    /// Everybody.
    Bridge,
    /// Nobody.
    Private,
    /// Everybody, through the switch behind the parent.
    Vepa,
}

/// A kind of link that sits on another, with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildKind {
    /// With a hardware address of its own.
    Macvlan(MacvlanMode),
    /// With the parent's hardware address.
    Ipvlan(IpvlanMode, IpvlanFlag),
}

impl ChildKind {
    /// The driver's name, as [`super::route::Link::kind`] has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Macvlan(_) => "macvlan",
            Self::Ipvlan(..) => "ipvlan",
        }
    }
}

/// Creates a link on `parent` (interface index), down, in the namespace `netns`. It never appears in the socket's own.
pub fn create_child(
    batch: &mut Batch,
    name: &str,
    parent: u32,
    netns: BorrowedFd<'_>,
    kind: ChildKind,
    mac: Option<[u8; 6]>,
    mtu: Option<u32>,
) {
    let mut m = batch.message(RTM_NEWLINK, CREATE | EXCL);
    m.header(&ifinfo(0, 0, 0)).text(IFLA_IFNAME, name).u32(IFLA_LINK, parent);
    m.u32(IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
    if let Some(mac) = mac {
        m.attr(IFLA_ADDRESS, &mac);
    }
    if let Some(mtu) = mtu {
        m.u32(IFLA_MTU, mtu);
    }
    m.nest(IFLA_LINKINFO, |m| {
        m.text(IFLA_INFO_KIND, kind.name()).nest(IFLA_INFO_DATA, |m| match kind {
            ChildKind::Macvlan(mode) => {
                let mode: u32 = match mode {
                    MacvlanMode::Private => 1,
                    MacvlanMode::Vepa => 2,
                    MacvlanMode::Bridge => 4,
                    MacvlanMode::Passthru => 8,
                };
                m.u32(IFLA_MACVLAN_MODE, mode);
            }
            ChildKind::Ipvlan(mode, flag) => {
                let mode: u16 = match mode {
                    IpvlanMode::L2 => 0,
                    IpvlanMode::L3 => 1,
                    IpvlanMode::L3s => 2,
                };
                let flag: u16 = match flag {
                    IpvlanFlag::Bridge => 0,
                    IpvlanFlag::Private => 1,
                    IpvlanFlag::Vepa => 2,
                };
                m.attr(IFLA_IPVLAN_MODE, &mode.to_ne_bytes());
                m.attr(IFLA_IPVLAN_FLAGS, &flag.to_ne_bytes());
            }
        });
    });
}

/// Notes something down with a link, by interface index.
pub fn set_alias(batch: &mut Batch, index: u32, alias: &str) {
    batch.message(RTM_NEWLINK, 0).header(&ifinfo(index, 0, 0)).text(IFLA_IFALIAS, alias);
}

/// Creates the VLAN `id` of `parent` (interface index), down, with an interface index; 0 has the kernel choose.
pub fn create_vlan(batch: &mut Batch, index: u32, name: &str, parent: u32, id: u16) {
    let mut m = batch.message(RTM_NEWLINK, CREATE | EXCL);
    m.header(&ifinfo(index, 0, 0)).text(IFLA_IFNAME, name).u32(IFLA_LINK, parent);
    m.nest(IFLA_LINKINFO, |m| {
        m.text(IFLA_INFO_KIND, "vlan").nest(IFLA_INFO_DATA, |m| {
            m.attr(IFLA_VLAN_ID, &id.to_ne_bytes());
        });
    });
}

/// Creates a link of a kind that needs no settings (`dummy`, `ifb`), down, with an interface index; 0 has the kernel
/// choose.
pub fn create_plain(batch: &mut Batch, index: u32, name: &str, kind: &str) {
    let mut m = batch.message(RTM_NEWLINK, CREATE | EXCL);
    m.header(&ifinfo(index, 0, 0)).text(IFLA_IFNAME, name);
    m.nest(IFLA_LINKINFO, |m| {
        m.text(IFLA_INFO_KIND, kind);
    });
}

/// Whether the kernel has, or can load, the driver of a kind of link. Asks it to make one on no parent, which every driver
/// refuses otherwise than a kernel without it.
///
/// # Errors
/// When the socket fails.
pub fn has_kind(socket: &mut Socket, kind: &str) -> Result<bool, NetlinkError> {
    let mut batch = Batch::new();
    create_plain(&mut batch, 0, "ferry-probe", kind);
    match socket.execute(batch) {
        Err(e) if e.errno() == Some(libc::EOPNOTSUPP) => Ok(false),
        Ok(()) | Err(NetlinkError::Refused { .. }) => Ok(true),
        Err(e) => Err(e),
    }
}
