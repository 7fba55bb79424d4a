//! The bridge device itself: found or made, addressed, up, with the sysctls it needs.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use ferry_sys::netlink::route::{self, Link, LinkChange, LinkRef};
use ferry_sys::netlink::{Batch, NetlinkError, Socket};
use ferry_types::EndpointId;
use ipnet::IpNet;
use rustix::io::Errno;

use crate::config::BridgeConfig;
use crate::error::NetworkError;
use crate::host;
use crate::pools::{overlap, reserves};

/// A bridge that is up.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) index: u32,
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
    if config.families().next().is_none() {
        return invalid("a network needs IPv4 or IPv6");
    }
    for family in config.families() {
        let inside = |address: &IpAddr| family.net.contains(address);
        if ![family.bridge, family.gateway].iter().flatten().all(inside) {
            return invalid("the bridge or gateway address lies outside the subnet");
        }
        if family.range.is_some_and(|range| !family.net.contains(&range)) {
            return invalid("the address range lies outside the subnet");
        }
    }
    if let Some((net, bridge)) = config.ipv4.and_then(|s| Some((s.net, s.bridge?)))
        && net.prefix_len() < 31
        && (bridge == net.network() || bridge == net.broadcast())
    {
        return invalid("the bridge address is the network or broadcast address of its subnet");
    }
    Ok(())
}

/// Finds or makes the bridge. On an error a bridge made here is gone again.
pub(crate) fn open(socket: &mut Socket, config: &BridgeConfig) -> Result<Device, NetworkError> {
    let link =
        route::link(socket, LinkRef::Name(&config.device)).map_err(failed("inspect bridge", config))?;
    match link {
        Some(link) if link.kind != "bridge" => {
            Err(NetworkError::NotABridge { device: config.device.clone() })
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
    let present = addresses_of(socket, link.index).map_err(failed("list addresses of", config))?;
    let wanted: Vec<IpNet> = config.families().filter_map(|f| f.bridge_address()).collect();
    let missing = wanted.iter().filter(|a| !present.contains(a));
    check_overlap(socket, config, missing.clone().copied(), link.index)?;
    let mut batch = Batch::new();
    for other in present.iter().filter(|a| !wanted.contains(a) && is_ours_to_remove(config, **a)) {
        route::delete_address(&mut batch, link.index, other.addr(), other.prefix_len());
    }
    let mtu = config.mtu.filter(|mtu| *mtu != link.mtu);
    if !link.up || mtu.is_some() {
        let change = LinkChange { up: (!link.up).then_some(true), mtu, ..LinkChange::default() };
        route::set_link(&mut batch, LinkRef::Index(link.index), &change);
    }
    // Before the addresses: IPv6 may be off on it.
    host::prepare_bridge(socket, config)?;
    for address in missing {
        route::add_address(&mut batch, link.index, address.addr(), address.prefix_len());
    }
    socket.execute(batch).map_err(failed("configure bridge", config))?;
    let isolate_ports = keep_apart(socket, config, link.index)?;
    Ok(Device { index: link.index, created: false, isolate_ports })
}

/// Addresses of a family the bridge is configured for, but neither those the kernel gives nor multicast ones.
fn is_ours_to_remove(config: &BridgeConfig, address: IpNet) -> bool {
    match address {
        IpNet::V4(_) => config.ipv4.is_some(),
        IpNet::V6(net) => {
            config.ipv6.is_some() && !net.addr().is_unicast_link_local() && !net.addr().is_multicast()
        }
    }
}

/// Addresses of a device with their prefix lengths.
pub(crate) fn addresses_of(socket: &mut Socket, index: u32) -> Result<Vec<IpNet>, NetlinkError> {
    let present = route::addresses(socket, index)?;
    Ok(present.into_iter().filter_map(|(address, prefix)| IpNet::new(address, prefix).ok()).collect())
}

fn create(socket: &mut Socket, config: &BridgeConfig) -> Result<Device, NetworkError> {
    check_overlap(socket, config, config.families().map(|f| f.net), 0)?;
    let mut batch = Batch::new();
    route::create_bridge(&mut batch, &config.device, random_mac(), config.mtu);
    socket.execute(batch).map_err(failed("create bridge", config))?;
    let configured = configure_new(socket, config);
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
    configure_new(socket, config).map(drop)
}

fn configure_new(socket: &mut Socket, config: &BridgeConfig) -> Result<Device, NetworkError> {
    let link =
        route::link(socket, LinkRef::Name(&config.device)).map_err(failed("inspect bridge", config))?;
    let gone = || NetworkError::Kernel {
        action: "inspect bridge",
        object: config.device.clone(),
        source: io::ErrorKind::NotFound.into(),
    };
    let index = link.ok_or_else(gone)?.index;
    host::refuse_advertisements(&config.device);
    host::prepare_bridge(socket, config)?;
    let mut batch = Batch::new();
    for address in config.families().filter_map(|f| f.bridge_address()) {
        route::add_address(&mut batch, index, address.addr(), address.prefix_len());
    }
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    route::set_link(&mut batch, LinkRef::Index(index), &up);
    socket.execute(batch).map_err(failed("configure bridge", config))?;
    let isolate_ports = keep_apart(socket, config, index)?;
    Ok(Device { index, created: true, isolate_ports })
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

/// The host's routes through other devices than `own`, as far as they reserve addresses.
pub(crate) fn foreign_routes(socket: &mut Socket, own: u32) -> Result<Vec<IpNet>, NetlinkError> {
    let routes = route::routes(socket)?.into_iter();
    let foreign = routes.filter(|r| own == 0 || r.device != Some(own));
    let nets = foreign.filter_map(|r| IpNet::new(r.destination, r.prefix).ok());
    Ok(nets.filter(|net| reserves(*net)).collect())
}

fn check_overlap(
    socket: &mut Socket,
    config: &BridgeConfig,
    new: impl Iterator<Item = IpNet>,
    own: u32,
) -> Result<(), NetworkError> {
    let new: Vec<IpNet> = new.map(|net| net.trunc()).collect();
    if config.overlapping || new.is_empty() {
        return Ok(());
    }
    let routes = foreign_routes(socket, own).map_err(failed("list routes for", config))?;
    let meeting = |subnet: &IpNet| Some((*subnet, *routes.iter().find(|r| overlap(**r, *subnet))?));
    match new.iter().find_map(meeting) {
        Some((subnet, route)) => Err(NetworkError::SubnetOverlaps {
            network: config.network.clone(),
            device: config.device.clone(),
            subnet,
            route,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Subnet4, Subnet6};

    #[test]
    fn impossible_configurations_are_refused() {
        let with = |f: fn(&mut BridgeConfig)| {
            let mut config = BridgeConfig::new("br0");
            f(&mut config);
            validate(&config)
        };
        let at = |bip: &str| Some(Subnet4::at(bip.parse().unwrap()));
        with(|_| ()).unwrap_err();
        let named =
            |device: &str| validate(&BridgeConfig { ipv4: at("10.0.0.1/24"), ..BridgeConfig::new(device) });
        named("br0").unwrap();
        for name in ["sixteen-letters-", "a/b", "..", ""] {
            named(name).unwrap_err();
        }
        with(|c| c.ipv4 = Some(Subnet4::at("10.0.0.0/24".parse().unwrap()))).unwrap_err();
        with(|c| c.ipv4 = Some(Subnet4::at("10.0.0.0/31".parse().unwrap()))).unwrap();
        with(|c| c.ipv6 = Some(Subnet6::at("fd00::1/64".parse().unwrap()))).unwrap();
        with(|c| {
            let subnet = Subnet6::at("fd00::1/64".parse().unwrap());
            c.ipv6 = Some(Subnet6 { gateway: "fd01::1".parse().ok(), ..subnet });
        })
        .unwrap_err();
        with(|c| {
            let subnet = Subnet4::at("10.0.0.1/24".parse().unwrap());
            c.ipv4 = Some(Subnet4 { range: "10.0.1.0/25".parse().ok(), ..subnet });
        })
        .unwrap_err();
    }
}
