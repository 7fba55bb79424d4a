//! What the tables of iptables hold, where they are the kernel's own (`iptables-legacy`): read only
//! (`linux/netfilter_ipv4/ip_tables.h`, `linux/netfilter_ipv6/ip6_tables.h`).

use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

use crate::netlink::nft_expr::AddressFamily as Family;

/// `IPT_SO_GET_INFO`, also of IPv6.
const GET_INFO: libc::c_int = 64;
/// `IPT_SO_GET_ENTRIES`, also of IPv6.
const GET_ENTRIES: libc::c_int = 65;
/// `XT_TABLE_MAXNAMELEN`.
const NAME: usize = 32;
/// `struct ipt_getinfo`: name, valid hooks, five entry points, five policies' places, number and size of the entries.
const INFO: usize = NAME + 13 * 4;
/// Where the entries begin in `struct ipt_get_entries`: behind name and size, aligned to eight.
const ENTRIES: usize = 40;
/// `NF_INET_FORWARD`.
const FORWARD: usize = 2;
/// Larger tables are not read.
const MOST: usize = 64 << 20;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Number of entries.
    pub entries: u32,
    /// Their size in bytes.
    pub size: u32,
    /// Where the policy of FORWARD is among them.
    forward: usize,
}

/// Names of the tables there are. Asking for one that is not there would make it.
pub fn tables(family: Family) -> Vec<String> {
    let path = match family {
        Family::Ipv4 => "/proc/thread-self/net/ip_tables_names",
        Family::Ipv6 => "/proc/thread-self/net/ip6_tables_names",
    };
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// A table's sizes.
///
/// # Errors
/// socket(2), getsockopt(2).
pub fn info(family: Family, table: &str) -> io::Result<Info> {
    let mut buf = named(table, INFO)?;
    get(family, GET_INFO, &mut buf)?;
    let number = |at: usize| u32_at(&buf, NAME + 4 * at);
    // valid_hooks, hook_entry[5], underflow[5], num_entries, size
    Ok(Info { forward: number(6 + FORWARD) as usize, entries: number(11), size: number(12) })
}

/// What decides about forwarded packets that no rule of the table `filter` decides about, and whether some rule mentions
/// an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarding {
    /// They are dropped.
    pub drops: bool,
    /// There is a rule about the interface.
    pub mentioned: bool,
}

/// Reads the policy of FORWARD.
///
/// # Errors
/// socket(2), getsockopt(2); `InvalidData` when the answer is not understood.
pub fn forwarding(family: Family, interface: &str) -> io::Result<Forwarding> {
    let info = info(family, "filter")?;
    let size = info.size as usize;
    if size > MOST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut buf = named("filter", ENTRIES + size)?;
    buf[NAME..NAME + 4].copy_from_slice(&info.size.to_ne_bytes());
    get(family, GET_ENTRIES, &mut buf)?;
    // Offset of target_offset in struct ipt_entry, and in struct ip6t_entry.
    let target_offset = match family {
        Family::Ipv4 => 88,
        Family::Ipv6 => 140,
    };
    let entries = buf.get(ENTRIES..).unwrap_or_default();
    let policy = entries.get(info.forward..).unwrap_or_default();
    let target = policy.get(target_offset..target_offset + 2).ok_or(io::ErrorKind::InvalidData)?;
    let target = usize::from(u16::from_ne_bytes([target[0], target[1]]));
    // struct xt_entry_target is 32 bytes; the verdict follows: -NF_DROP - 1.
    let verdict = policy.get(target + 32..target + 36).ok_or(io::ErrorKind::InvalidData)?;
    let drops = verdict == (-1_i32).to_ne_bytes();
    let name = [interface.as_bytes(), &[0]].concat();
    let mentioned = entries.windows(name.len()).any(|w| w == name);
    Ok(Forwarding { drops, mentioned })
}

fn named(table: &str, size: usize) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; size];
    let name = table.as_bytes();
    if name.len() >= NAME {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    buf[..name.len()].copy_from_slice(name);
    Ok(buf)
}

fn u32_at(buf: &[u8], at: usize) -> u32 {
    buf.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn get(family: Family, option: libc::c_int, buf: &mut [u8]) -> io::Result<()> {
    let (address_family, level) = match family {
        Family::Ipv4 => (AddressFamily::INET, libc::SOL_IP),
        Family::Ipv6 => (AddressFamily::INET6, libc::SOL_IPV6),
    };
    let socket =
        rustix::net::socket_with(address_family, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW))?;
    let mut length = buf.len() as libc::socklen_t;
    // SAFETY: pointer and length describe a live buffer, and the kernel writes no more than the length it is told.
    let rc = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, buf.as_mut_ptr().cast(), &raw mut length)
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
