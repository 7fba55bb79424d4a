//! The subnets of a network about to be made: chosen where the user left them open, and compared with everything there is.
//! The error texts are Docker's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferry_network::{AddressPool, NetworkStack, first_host};
use ipnet::{IpNet, Ipv6Net};

use super::options::BridgeOptions;
use super::parent;
use super::record::{Driver, NetworkRecord, Subnet};
use crate::error::{EngineError, Result};

/// What another network has.
#[derive(Debug, Clone)]
pub(crate) struct Used {
    /// Full id.
    pub id: String,
    /// Its bridge; empty when it has none.
    pub device: String,
    pub nets: Vec<IpNet>,
}

/// Where subnets come from.
pub(super) struct Source<'a> {
    pub stack: &'a NetworkStack,
    pub pools: &'a [AddressPool],
    pub others: &'a [Used],
}

fn invalid(message: impl Into<String>) -> EngineError {
    EngineError::InvalidParameter(message.into())
}

/// Completes a record; what the user said was checked in itself before.
pub(super) fn complete(record: &mut NetworkRecord, source: &Source<'_>) -> Result<()> {
    let wants = wants_gateway(record)?;
    let is_bridge = record.driver == Driver::Bridge;
    for (ipv6, is_on) in [(false, record.ipv4), (true, record.ipv6)] {
        if !is_on {
            continue;
        }
        let slot = if ipv6 { &mut record.subnet6 } else { &mut record.subnet };
        let subnet = match slot {
            Some(subnet) => subnet,
            None => slot.insert(chosen(source, ipv6)?),
        };
        // As in Docker: with a range the pool may be shared, and what bridges then say is below.
        let shared = is_bridge && subnet.range.is_some();
        if subnet.by_user && !shared && source.meeting(subnet.subnet).is_some() {
            return Err(overlapping());
        }
        reserve(subnet, if ipv6 { wants.1 } else { wants.0 })?;
    }
    complete_further(record, source, wants)?;
    if !is_bridge {
        return Ok(());
    }
    if !record.ipv4 && !record.ipv6 {
        return Err(invalid("IPv4 or IPv6 must be enabled"));
    }
    check_bridge(record, source)
}

/// The same for subnets beyond the first of a family.
fn complete_further(record: &mut NetworkRecord, source: &Source<'_>, wants: (bool, bool)) -> Result<()> {
    let mut own: Vec<IpNet> =
        [&record.subnet, &record.subnet6].into_iter().flatten().map(|s| s.subnet).collect();
    let (ipv4, ipv6) = (record.ipv4, record.ipv6);
    for subnet in &mut record.further {
        let net = subnet.subnet;
        let is_ipv6 = net.addr().is_ipv6();
        if if is_ipv6 { !ipv6 } else { !ipv4 } {
            continue;
        }
        if source.meeting(net).is_some() || own.iter().any(|o| o.contains(&net) || net.contains(o)) {
            return Err(overlapping());
        }
        own.push(net);
        reserve(subnet, if is_ipv6 { wants.1 } else { wants.0 })?;
    }
    Ok(())
}

fn overlapping() -> EngineError {
    let text = "invalid pool request: Pool overlaps with other one on this address space";
    EngineError::Forbidden(text.to_owned())
}

impl Source<'_> {
    /// The network that has addresses of this subnet.
    fn meeting(&self, subnet: IpNet) -> Option<&Used> {
        let meets = |other: &IpNet| other.contains(&subnet) || subnet.contains(other);
        self.others.iter().find(|used| used.nets.iter().any(meets))
    }
}

/// Of which families the network has an address for a router, the bridge or some other machine.
fn wants_gateway(record: &NetworkRecord) -> Result<(bool, bool)> {
    if record.driver != Driver::Bridge {
        let routed = parent::config(record)?.routed();
        return Ok((routed, routed));
    }
    let options = BridgeOptions::parse(&record.options)?;
    let isolated = |mode| mode == ferry_network::GatewayMode::Isolated;
    if (isolated(options.mode_ipv4) || isolated(options.mode_ipv6)) && !record.internal {
        return Err(EngineError::System(
            "gateway mode 'isolated' can only be used for an internal network".to_owned(),
        ));
    }
    let nobody = isolated(options.mode_ipv4) || (options.inhibit_ipv4 && record.internal);
    Ok((!nobody, !isolated(options.mode_ipv6)))
}

fn chosen(source: &Source<'_>, ipv6: bool) -> Result<Subnet> {
    let mut taken: Vec<IpNet> = source.others.iter().flat_map(|used| used.nets.iter().copied()).collect();
    taken.extend(name_servers());
    Ok(Subnet {
        subnet: source.stack.choose_subnet(source.pools, ipv6, &taken)?,
        gateway: None,
        range: None,
        reserved: BTreeMap::new(),
        by_user: false,
        gateway_by_user: false,
    })
}

/// The host's name servers, which must stay within reach, by whatever route.
pub(super) fn name_servers() -> Vec<IpNet> {
    let files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
    let texts = files.into_iter().filter_map(|path| std::fs::read_to_string(path).ok());
    texts.flat_map(|text| servers_in(&text)).collect()
}

fn servers_in(resolv_conf: &str) -> Vec<IpNet> {
    let servers = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = servers.filter_map(|rest| rest.trim().parse::<IpAddr>().ok());
    addresses.map(IpNet::from).collect()
}

/// The gateway's and the auxiliary addresses: each once, and none that nobody may have.
fn reserve(subnet: &mut Subnet, wants_gateway: bool) -> Result<()> {
    let net = subnet.subnet;
    let mut taken: BTreeSet<IpAddr> = BTreeSet::new();
    if let IpNet::V4(v4) = net
        && v4.prefix_len() < 31
    {
        taken.extend([IpAddr::V4(v4.network()), IpAddr::V4(v4.broadcast())]);
    } else if let IpNet::V6(v6) = net {
        taken.insert(IpAddr::V6(v6.network()));
    }
    let given = subnet.gateway.map(|g| g.to_string()).unwrap_or_default();
    let refused = |why: &str| EngineError::System(format!("failed to allocate gateway ({given}): {why}"));
    if subnet.gateway.is_none() && wants_gateway {
        let first = first_host(net, subnet.range);
        subnet.gateway = Some(first.ok_or_else(|| refused("no available addresses on this pool"))?);
    }
    if subnet.gateway.is_some_and(|gateway| !taken.insert(gateway)) {
        return Err(refused("Address already in use"));
    }
    for (name, address) in &subnet.reserved {
        if !taken.insert(*address) {
            return Err(EngineError::System(format!(
                "failed to allocate secondary ip address ({name}:{address}): Address already in use"
            )));
        }
    }
    Ok(())
}

/// What only bridges are asked.
fn check_bridge(record: &NetworkRecord, source: &Source<'_>) -> Result<()> {
    if let Some(net) = record.nets().find(|net| net.prefix_len() == 0) {
        return Err(invalid(if net.addr().is_ipv6() { "ipv6 pool is empty" } else { "ipv4 pool is empty" }));
    }
    if let Some(subnet) = record.addresses6().next() {
        let shown = format!("{}/{}", subnet.gateway.unwrap_or(subnet.net.addr()), subnet.net.prefix_len());
        let of_links: Ipv6Net = Ipv6Net::new_assert([0xfe80, 0, 0, 0, 0, 0, 0, 0].into(), 64);
        if subnet.net.addr().to_ipv4_mapped().is_some() {
            return Err(invalid(format!("'{shown}' is not a valid IPv6 subnet")));
        }
        if subnet.net.addr().is_multicast() {
            return Err(invalid(format!("multicast subnet '{shown}' is not allowed")));
        }
        let meets = of_links.contains(&subnet.net) || subnet.net.contains(&of_links);
        if subnet.net != of_links && meets {
            return Err(invalid(format!("'{shown}' clashes with the Link-Local prefix 'fe80::/64'")));
        }
    }
    let device = record.bridge()?.device;
    let conflict = |used: &Used, why: &str| {
        Err(EngineError::Forbidden(format!(
            "cannot create network {} ({device}): conflicts with network {} ({}): {why}",
            record.id, used.id, used.device
        )))
    };
    if let Some(used) = source.others.iter().find(|used| used.device == device) {
        return conflict(used, "networks have same bridge name");
    }
    for net in record.nets() {
        if let Some(used) = source.meeting(net) {
            let family = if net.addr().is_ipv6() { "IPv6" } else { "IPv4" };
            return conflict(used, &format!("networks have overlapping {family}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(net: &str, gateway: &str, reserved: &[(&str, &str)]) -> Subnet {
        Subnet {
            subnet: net.parse().unwrap(),
            gateway: gateway.parse().ok(),
            range: None,
            reserved: reserved.iter().map(|(k, v)| ((*k).to_owned(), v.parse().unwrap())).collect(),
            by_user: true,
            gateway_by_user: !gateway.is_empty(),
        }
    }

    fn reserved(mut subnet: Subnet, wants: bool) -> std::result::Result<String, String> {
        reserve(&mut subnet, wants).map_err(|e| e.to_string())?;
        Ok(subnet.gateway.map(|g| g.to_string()).unwrap_or_default())
    }

    #[test]
    fn name_servers_are_read() {
        let text = "search a\nnameserver 172.18.0.53\n nameserver\tfd00::53 \nnameserver fe80::1%eth0\n#nameserver 1.1.1.1\n";
        let servers: Vec<String> = servers_in(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["172.18.0.53/32", "fd00::53/128"]);
    }

    #[test]
    fn gateways_are_chosen_and_checked() {
        for (net, first) in [
            ("10.7.0.0/16", "10.7.0.1"),
            ("10.7.0.0/31", "10.7.0.0"),
            ("10.7.0.9/32", "10.7.0.9"),
            ("fd00:7::/64", "fd00:7::1"),
            ("fd00:7::/127", "fd00:7::1"),
        ] {
            assert_eq!(reserved(subnet(net, "", &[]), true).as_deref(), Ok(first));
            assert_eq!(reserved(subnet(net, "", &[]), false).as_deref(), Ok(""));
        }
        let used =
            |address: &str| Err(format!("failed to allocate gateway ({address}): Address already in use"));
        assert_eq!(reserved(subnet("10.7.0.0/16", "10.7.0.0", &[]), true), used("10.7.0.0"));
        assert_eq!(reserved(subnet("10.7.0.0/16", "10.7.255.255", &[]), true), used("10.7.255.255"));
        assert_eq!(reserved(subnet("fd00:7::/64", "fd00:7::", &[]), true), used("fd00:7::"));
        let last = "fd00:7::ffff:ffff:ffff:ffff";
        assert_eq!(reserved(subnet("fd00:7::/64", last, &[]), true).as_deref(), Ok(last));
        assert_eq!(
            reserved(subnet("fd00:7::/128", "", &[]), true),
            Err("failed to allocate gateway (): no available addresses on this pool".to_owned())
        );
        let twice = subnet("10.7.0.0/16", "", &[("a", "10.7.0.2"), ("b", "10.7.0.2")]);
        assert_eq!(
            reserved(twice, true),
            Err("failed to allocate secondary ip address (b:10.7.0.2): Address already in use".to_owned())
        );
    }
}
