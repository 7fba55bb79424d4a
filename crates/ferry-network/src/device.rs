//! The bridge device itself: found or made, addressed, up, with the sysctls it needs.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use ferry_sys::netlink::route::{self, Link, LinkChange, LinkRef};
use ferry_sys::netlink::{Batch, NetlinkError, Socket};
use ferry_types::EndpointId;
use ipnet::Ipv4Net;
use rustix::io::Errno;

use crate::config::BridgeConfig;
use crate::error::NetworkError;

/// A bridge that is up.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) index: u32,
    /// Its address with the subnet's prefix.
    pub(crate) address: Ipv4Net,
    /// Whether it was not there before.
    pub(crate) created: bool,
    /// Whether containers are kept apart as isolated ports, because netfilter does not see what is bridged.
    pub(crate) isolate_ports: bool,
}

fn failed<'a>(
    action: &'static str,
    config: &'a BridgeConfig,
) -> impl Fn(NetlinkError) -> NetworkError + use<'a> {
    move |e| NetworkError::Kernel { action, object: config.device.clone(), source: e.into() }
}

/// Checks a configuration before anything is touched.
pub(crate) fn validate(config: &BridgeConfig) -> Result<(), NetworkError> {
    let invalid = |reason: &str| {
        Err(NetworkError::InvalidConfig { bridge: config.device.clone(), reason: reason.to_owned() })
    };
    let name = config.device.as_bytes();
    // dev_valid_name() in the kernel's net/core/dev.c
    let bad = |b: &u8| *b == b'/' || *b == b':' || b.is_ascii_whitespace() || !b.is_ascii_graphic();
    if name.is_empty() || name.len() > 15 || name.iter().any(bad) || name == b"." || name == b".." {
        return invalid("the device name is not valid");
    }
    if config.ipv6.is_some() {
        return Err(NetworkError::Unsupported("IPv6 inside a bridge network"));
    }
    if let Some(bip) = config.bip {
        if bip.prefix_len() > 30 {
            return invalid("the subnet has no room for a container");
        }
        if bip.addr() == bip.network() || bip.addr() == bip.broadcast() {
            return invalid("the bridge address is the network or broadcast address of its subnet");
        }
    }
    if let (Some(bip), Some(range)) = (config.bip, config.ip_range)
        && !bip.trunc().contains(&range)
    {
        return invalid("the address range lies outside the subnet");
    }
    Ok(())
}

/// Finds or makes the bridge. On an error a bridge made here is gone again.
pub(crate) fn open(socket: &mut Socket, config: &BridgeConfig) -> Result<Device, NetworkError> {
    let link =
        route::link(socket, LinkRef::Name(&config.device)).map_err(failed("inspect bridge", config))?;
    match link {
        Some(link) if link.kind != "bridge" => {
            Err(NetworkError::NotABridge { network: config.network.clone(), device: config.device.clone() })
        }
        Some(link) => adopt(socket, config, &link),
        None => create(socket, config),
    }
}

/// Keeps containers of a bridge apart when they are to be. With br_netfilter the forward chain does it,
/// and has to: a port published by a container of the same bridge is then reached by rewriting frames
/// while they are bridged, which isolated ports would stop. Without, isolated ports do it.
fn keep_apart(socket: &mut Socket, config: &BridgeConfig, index: u32) -> Result<bool, NetworkError> {
    if config.icc {
        return Ok(false);
    }
    if !Path::new("/proc/sys/net/bridge").exists() {
        return Ok(true);
    }
    let mut batch = Batch::new();
    route::filter_bridged(&mut batch, index, true);
    socket.execute(batch).map_err(failed("filter frames on", config))?;
    Ok(false)
}

fn adopt(socket: &mut Socket, config: &BridgeConfig, link: &Link) -> Result<Device, NetworkError> {
    let present = route::addresses(socket, link.index).map_err(failed("list addresses of", config))?;
    let present: Vec<Ipv4Net> =
        present.into_iter().filter_map(|(a, prefix)| Ipv4Net::new(a, prefix).ok()).collect();
    let address = match config.bip.or_else(|| present.first().copied()) {
        Some(address) => address,
        None => choose(socket, config, link.index)?,
    };
    if !present.contains(&address) {
        check_overlap(socket, config, address, link.index)?;
    }
    let mut batch = Batch::new();
    for other in present.iter().filter(|a| **a != address && config.bip.is_some()) {
        route::delete_address(&mut batch, link.index, other.addr(), other.prefix_len());
    }
    if !present.contains(&address) {
        route::add_address(&mut batch, link.index, address.addr(), address.prefix_len());
    }
    let mtu = config.mtu.filter(|mtu| *mtu != link.mtu);
    if !link.up || mtu.is_some() {
        let change = LinkChange { up: (!link.up).then_some(true), mtu, ..LinkChange::default() };
        route::set_link(&mut batch, LinkRef::Index(link.index), &change);
    }
    socket.execute(batch).map_err(failed("configure bridge", config))?;
    sysctls(config)?;
    let isolate_ports = keep_apart(socket, config, link.index)?;
    Ok(Device { index: link.index, address, created: false, isolate_ports })
}

fn create(socket: &mut Socket, config: &BridgeConfig) -> Result<Device, NetworkError> {
    let address = match config.bip {
        Some(address) => address,
        None => choose(socket, config, 0)?,
    };
    check_overlap(socket, config, address, 0)?;
    let mut batch = Batch::new();
    route::create_bridge(&mut batch, &config.device, random_mac(), config.mtu);
    socket.execute(batch).map_err(failed("create bridge", config))?;
    let configured = configure_new(socket, config, address);
    if configured.is_err() {
        // The first error is what the caller needs to know.
        let _ = delete(socket, config);
    }
    configured
}

/// Makes a bridge again that somebody deleted, under the index it had: everything that refers to it stays true.
pub(crate) fn recreate(
    socket: &mut Socket,
    config: &BridgeConfig,
    device: &Device,
) -> Result<(), NetworkError> {
    let mut batch = Batch::new();
    route::create_bridge_at(&mut batch, device.index, &config.device, random_mac(), config.mtu);
    socket.execute(batch).map_err(failed("create again the deleted bridge", config))?;
    configure_new(socket, config, device.address).map(drop)
}

fn configure_new(
    socket: &mut Socket,
    config: &BridgeConfig,
    address: Ipv4Net,
) -> Result<Device, NetworkError> {
    let link =
        route::link(socket, LinkRef::Name(&config.device)).map_err(failed("inspect bridge", config))?;
    let gone = || NetworkError::Kernel {
        action: "inspect bridge",
        object: config.device.clone(),
        source: io::ErrorKind::NotFound.into(),
    };
    let index = link.ok_or_else(gone)?.index;
    sysctls(config)?;
    let mut batch = Batch::new();
    route::add_address(&mut batch, index, address.addr(), address.prefix_len());
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    route::set_link(&mut batch, LinkRef::Index(index), &up);
    socket.execute(batch).map_err(failed("configure bridge", config))?;
    let isolate_ports = keep_apart(socket, config, index)?;
    Ok(Device { index, address, created: true, isolate_ports })
}

/// Deletes the bridge; one that is gone is no error.
pub(crate) fn delete(socket: &mut Socket, config: &BridgeConfig) -> Result<(), NetworkError> {
    let link =
        route::link(socket, LinkRef::Name(&config.device)).map_err(failed("inspect bridge", config))?;
    let Some(link) = link.filter(|l| l.kind == "bridge") else { return Ok(()) };
    let mut batch = Batch::new();
    route::delete_link(&mut batch, link.index);
    let gone = |_, errno| errno == Errno::NODEV.raw_os_error();
    socket.execute_lenient(batch, &gone).map_err(failed("delete bridge", config))
}

/// Locally administered, as Docker's bridges; fixed, so that it does not follow the ports' addresses.
fn random_mac() -> [u8; 6] {
    let id = EndpointId::random();
    let byte = |n: usize| u8::from_str_radix(&id.as_str()[2 * n..2 * n + 2], 16).unwrap_or_default();
    [0x02, 0x42, byte(0), byte(1), byte(2), byte(3)]
}

/// The host's routes through other devices, without default routes.
fn foreign_routes(
    socket: &mut Socket,
    config: &BridgeConfig,
    own: u32,
) -> Result<Vec<Ipv4Net>, NetworkError> {
    let routes = route::routes(socket).map_err(failed("list routes for", config))?;
    Ok(routes
        .into_iter()
        .filter(|r| r.prefix != 0 && (own == 0 || r.device != Some(own)))
        .filter_map(|r| Ipv4Net::new(r.destination, r.prefix).ok())
        .collect())
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b) || b.contains(&a)
}

fn check_overlap(
    socket: &mut Socket,
    config: &BridgeConfig,
    address: Ipv4Net,
    own: u32,
) -> Result<(), NetworkError> {
    let subnet = address.trunc();
    if config.overlapping {
        return Ok(());
    }
    match foreign_routes(socket, config, own)?.into_iter().find(|r| overlap(*r, subnet)) {
        Some(route) => Err(NetworkError::SubnetOverlaps {
            network: config.network.clone(),
            device: config.device.clone(),
            subnet,
            route,
        }),
        None => Ok(()),
    }
}

/// The first address of the first pool nobody on the host uses.
fn choose(socket: &mut Socket, config: &BridgeConfig, own: u32) -> Result<Ipv4Net, NetworkError> {
    let routes = foreign_routes(socket, config, own)?;
    let free = config.pools.iter().find(|p| p.prefix_len() <= 30 && !routes.iter().any(|r| overlap(*r, **p)));
    let pool = free.ok_or(NetworkError::PoolsExhausted)?;
    let first = Ipv4Addr::from(u32::from(pool.network()) + 1);
    Ipv4Net::new(first, pool.prefix_len()).map_err(|_| NetworkError::PoolsExhausted)
}

/// The first of `pools` that overlaps no route of the host's.
pub(crate) fn free_pool(
    socket: &mut Socket,
    pools: &[Ipv4Net],
    network: &str,
) -> Result<Ipv4Net, NetworkError> {
    let routes = route::routes(socket).map_err(|e| NetworkError::Kernel {
        action: "list routes for",
        object: network.to_owned(),
        source: e.into(),
    })?;
    let routes: Vec<Ipv4Net> = routes
        .into_iter()
        .filter(|r| r.prefix != 0)
        .filter_map(|r| Ipv4Net::new(r.destination, r.prefix).ok())
        .collect();
    let free = pools.iter().find(|p| p.prefix_len() <= 30 && !routes.iter().any(|r| overlap(*r, **p)));
    free.copied().ok_or(NetworkError::PoolsExhausted)
}

/// Forwarding, and connections from the host's 127.0.0.1 to published ports (the rules keep the
/// bridge's own packets off that range). Written only when they are not right already.
fn sysctls(config: &BridgeConfig) -> Result<(), NetworkError> {
    let local = format!("/proc/sys/net/ipv4/conf/{}/route_localnet", config.device);
    for path in ["/proc/sys/net/ipv4/ip_forward", &local] {
        let wrap = |source| NetworkError::Kernel { action: "enable", object: path.to_owned(), source };
        if fs::read_to_string(path).map_err(wrap)?.trim() == "0" {
            fs::write(path, "1").map_err(wrap)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_configurations_are_refused() {
        let with = |f: fn(&mut BridgeConfig)| {
            let mut config = BridgeConfig::new("br0");
            f(&mut config);
            validate(&config)
        };
        with(|_| ()).unwrap();
        with(|c| c.device = "sixteen-letters-".to_owned()).unwrap_err();
        with(|c| c.device = "a/b".to_owned()).unwrap_err();
        with(|c| c.device = "..".to_owned()).unwrap_err();
        with(|c| c.bip = "10.0.0.0/24".parse().ok()).unwrap_err();
        with(|c| c.bip = "10.0.0.1/31".parse().ok()).unwrap_err();
        with(|c| c.ipv6 = "fd00::/64".parse().ok()).unwrap_err();
        with(|c| {
            c.bip = "10.0.0.1/24".parse().ok();
            c.ip_range = "10.0.1.0/25".parse().ok();
        })
        .unwrap_err();
    }
}
