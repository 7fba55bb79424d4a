//! The addresses of the default bridge: the user's, those it has already, or chosen ones.

use std::net::IpAddr;

use ferry_network::{AddressPool, NetworkError, NetworkStack, Subnet, Subnet4, Subnet6, first_host};
use ipnet::IpNet;

use super::subnets::name_servers;
use crate::config::EngineConfig;
use crate::error::{EngineError, Result};

/// What the user says of one family.
struct Asked {
    ipv6: bool,
    /// The bridge's own address with the subnet's prefix.
    bridge: Option<IpNet>,
    range: Option<IpNet>,
    /// The router, when it is not the bridge.
    gateway: Option<IpAddr>,
}

/// What to choose from.
pub(crate) struct Choice<'a> {
    pub stack: &'a NetworkStack,
    pub device: &'a str,
    pub pools: &'a [AddressPool],
    /// Subnets of other networks; asked for only when one must be chosen.
    pub taken: &'a dyn Fn() -> Vec<IpNet>,
}

/// The addresses of both families.
pub(crate) fn addresses(
    config: &EngineConfig,
    choice: &Choice<'_>,
) -> Result<(Option<Subnet4>, Option<Subnet6>)> {
    let bridge = |address: IpAddr, prefix, key: &str| {
        IpNet::new(address, prefix).map_err(|e| EngineError::InvalidParameter(format!("{key}: {e}")))
    };
    let ipv4 = Asked {
        ipv6: false,
        bridge: config.bip.map(|(a, prefix)| bridge(a.into(), prefix, "bip")).transpose()?,
        range: config.ip_range.map(Into::into),
        gateway: config.default_gateway.map(Into::into),
    };
    let ipv4 = match family(&ipv4, choice)? {
        Subnet { net: IpNet::V4(net), range, bridge, gateway } => Some(Subnet4 {
            net,
            range: range.and_then(|r| if let IpNet::V4(r) = r { Some(r) } else { None }),
            bridge: bridge.and_then(|a| if let IpAddr::V4(a) = a { Some(a) } else { None }),
            gateway: gateway.and_then(|a| if let IpAddr::V4(a) = a { Some(a) } else { None }),
        }),
        Subnet { net: IpNet::V6(_), .. } => None,
    };
    if !config.ipv6 {
        return Ok((ipv4, None));
    }
    let ipv6 = Asked {
        ipv6: true,
        bridge: config.bip6.map(|(a, prefix)| bridge(a.into(), prefix, "bip6")).transpose()?,
        range: config.ip_range_v6.map(Into::into),
        gateway: config.default_gateway_v6.map(Into::into),
    };
    let ipv6 = match family(&ipv6, choice)? {
        Subnet { net: IpNet::V6(net), range, bridge, gateway } => Some(Subnet6 {
            net,
            range: range.and_then(|r| if let IpNet::V6(r) = r { Some(r) } else { None }),
            bridge: bridge.and_then(|a| if let IpAddr::V6(a) = a { Some(a) } else { None }),
            gateway: gateway.and_then(|a| if let IpAddr::V6(a) = a { Some(a) } else { None }),
        }),
        Subnet { net: IpNet::V4(_), .. } => None,
    };
    Ok((ipv4, ipv6))
}

fn family(asked: &Asked, choice: &Choice<'_>) -> Result<Subnet<IpNet, IpAddr>> {
    let present = match asked.bridge {
        Some(_) => Vec::new(),
        None => choice.stack.device_addresses(choice.device)?,
    };
    let (net, bridge) = match decide(asked, &present) {
        Some(decided) => decided,
        None => {
            let mut taken = (choice.taken)();
            taken.extend(name_servers());
            (choice.stack.choose_subnet(choice.pools, asked.ipv6, &taken)?, None)
        }
    };
    let range = asked.range.filter(|range| *range != net);
    let bridge = match bridge.or_else(|| first_host(net, asked.range)) {
        Some(bridge) => bridge,
        None => {
            let (bridge, reason) = (choice.device.to_owned(), format!("{net} has no room for the bridge"));
            return Err(NetworkError::InvalidConfig { bridge, reason }.into());
        }
    };
    let gateway = asked.gateway.unwrap_or(bridge);
    if !net.contains(&gateway) {
        let text = "default gateway ip must be part of the network".to_owned();
        return Err(EngineError::InvalidParameter(text));
    }
    Ok(Subnet { net, range, bridge: Some(bridge), gateway: Some(gateway) })
}

/// The subnet and the bridge's address, as far as they follow from what is asked for and what the device has.
fn decide(asked: &Asked, present: &[IpNet]) -> Option<(IpNet, Option<IpAddr>)> {
    if let Some(bridge) = asked.bridge {
        return Some((bridge.trunc(), Some(bridge.addr())));
    }
    let mut present = present.iter().filter(|net| net.addr().is_ipv6() == asked.ipv6);
    let Some(range) = asked.range else {
        return present.next().map(|net| (net.trunc(), Some(net.addr())));
    };
    // As in Docker: the range is the subnet, unless the bridge has an address in a larger one.
    match present.find(|net| net.contains(&range.addr()) || range.contains(&net.addr())) {
        Some(net) if net.prefix_len() <= range.prefix_len() => Some((net.trunc(), Some(net.addr()))),
        Some(net) => Some((range.trunc(), Some(net.addr()))),
        None => Some((range.trunc(), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_word_then_the_devices() {
        let decided = |bridge: &str, range: &str, present: &[&str]| {
            let asked = Asked {
                ipv6: format!("{bridge}{range}{}", present.concat()).contains(':'),
                bridge: bridge.parse().ok(),
                range: range.parse().ok(),
                gateway: None,
            };
            let present: Vec<IpNet> = present.iter().map(|p| p.parse().unwrap()).collect();
            let (net, bridge) = decide(&asked, &present)?;
            Some((net.to_string(), bridge.map(|b| b.to_string()).unwrap_or_default()))
        };
        let some = |net: &str, bridge: &str| Some((net.to_owned(), bridge.to_owned()));
        assert_eq!(decided("10.1.0.9/16", "", &["10.2.0.1/16"]), some("10.1.0.0/16", "10.1.0.9"));
        assert_eq!(decided("", "", &["10.2.0.1/16"]), some("10.2.0.0/16", "10.2.0.1"));
        assert_eq!(decided("", "", &[]), None);
        assert_eq!(decided("", "10.1.5.0/24", &["10.1.0.1/16"]), some("10.1.0.0/16", "10.1.0.1"));
        assert_eq!(decided("", "10.1.0.0/16", &["10.1.5.1/24"]), some("10.1.0.0/16", "10.1.5.1"));
        assert_eq!(decided("", "10.1.5.0/24", &["10.2.0.1/16"]), some("10.1.5.0/24", ""));
        assert_eq!(decided("", "fd00::/64", &["10.2.0.1/16"]), some("fd00::/64", ""));
    }
}
