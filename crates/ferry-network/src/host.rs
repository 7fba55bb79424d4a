//! What bridges need of the host's settings, and what the host has that concerns them. Everything is written only when it
//! is not right already.

use std::fs;
use std::io;
use std::net::IpAddr;

use ferry_sys::netlink::Socket;
use ferry_sys::netlink::route::{self, LinkRef};
use ipnet::IpNet;

use crate::config::{BridgeConfig, GatewayMode};
use crate::device;
use crate::error::NetworkError;
use crate::stack::NetworkStack;

/// Switches of IPv6 by interface (ip-sysctl in the kernel's documentation).
const IPV6: &str = "/proc/sys/net/ipv6/conf";

fn wrap(path: &str) -> impl Fn(io::Error) -> NetworkError {
    let object = path.to_owned();
    move |source| NetworkError::Kernel { action: "set", object: object.clone(), source }
}

fn set(path: &str, value: &str) -> Result<(), NetworkError> {
    if fs::read_to_string(path).map_err(wrap(path))?.trim() != value {
        fs::write(path, value).map_err(wrap(path))?;
    }
    Ok(())
}

/// Forwarding, of the families the bridge has. With IPv4, connections from the host's 127.0.0.1 to published ports, too
/// (the rules keep the bridge's own packets off that range).
pub(crate) fn prepare_bridge(socket: &mut Socket, config: &BridgeConfig) -> Result<(), NetworkError> {
    if config.ipv4.is_some() {
        if config.ip_forward {
            set("/proc/sys/net/ipv4/ip_forward", "1")?;
        }
        set(&format!("/proc/sys/net/ipv4/conf/{}/route_localnet", config.device), "1")?;
    }
    if config.ipv6.is_some() {
        // One that is isolated has no address at all, not even the kernel's own.
        let isolated = config.gateway_mode_ipv6 == GatewayMode::Isolated;
        set(&format!("{IPV6}/{}/disable_ipv6", config.device), if isolated { "1" } else { "0" })?;
        if config.ip_forward {
            forward_ipv6(socket)?;
        }
    }
    Ok(())
}

/// The bridge is the router of its network: what containers advertise there is none of the host's business.
pub(crate) fn refuse_advertisements(device: &str) {
    // A kernel without IPv6 has no such setting.
    let _ = fs::write(format!("{IPV6}/{device}/accept_ra"), "0");
}

/// A host that forwards forgets the routes it learnt from routers' advertisements, and learns no others, unless told to go
/// on (`accept_ra` 2): it would lose its own way out.
fn forward_ipv6(socket: &mut Socket) -> Result<(), NetworkError> {
    let all = format!("{IPV6}/all/forwarding");
    if fs::read_to_string(&all).map_err(wrap(&all))?.trim() != "1" {
        let routes = route::routes(socket).map_err(|e| wrap("routes")(e.into()))?;
        for device in routes.iter().filter(|r| r.advertised).filter_map(|r| r.device) {
            let link = route::link(socket, LinkRef::Index(device)).map_err(|e| wrap("routes")(e.into()))?;
            let Some(link) = link else { continue };
            let path = format!("{IPV6}/{}/accept_ra", link.name);
            if fs::read_to_string(&path).is_ok_and(|value| value.trim() == "1") {
                tracing::warn!(
                    interface = link.name,
                    "IPv6 forwarding is switched on; accept_ra is set to 2 so that the host keeps its routes"
                );
                set(&path, "2")?;
            }
        }
    }
    // As in Docker, for interfaces to come, too.
    set(&format!("{IPV6}/default/forwarding"), "1")?;
    set(&all, "1")
}

impl NetworkStack {
    /// The subnets the host has routes into, default routes left out.
    ///
    /// # Errors
    /// When netlink refuses.
    pub fn host_routes(&self) -> Result<Vec<IpNet>, NetworkError> {
        device::foreign_routes(&mut self.inner.route(), 0).map_err(|e| wrap("routes")(e.into()))
    }

    /// The addresses of one of the host's devices, less those valid on its link only; none when there is no such device.
    ///
    /// # Errors
    /// When netlink refuses.
    pub fn device_addresses(&self, name: &str) -> Result<Vec<IpNet>, NetworkError> {
        let fail = |e: ferry_sys::netlink::NetlinkError| NetworkError::Kernel {
            action: "list addresses of",
            object: name.to_owned(),
            source: e.into(),
        };
        let mut socket = self.inner.route();
        let Some(link) = route::link(&mut socket, LinkRef::Name(name)).map_err(fail)? else {
            return Ok(Vec::new());
        };
        let addresses = device::addresses_of(&mut socket, link.index).map_err(fail)?;
        let of_link = |net: &IpNet| matches!(net.addr(), IpAddr::V6(v6) if v6.is_unicast_link_local());
        Ok(addresses.into_iter().filter(|net| !of_link(net)).collect())
    }
}
