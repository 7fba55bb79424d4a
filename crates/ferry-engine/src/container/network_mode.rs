//! `--network` and the options that depend on it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use ferry_api::container::{ContainerConfig, HostConfig};
use ferry_api::network::EndpointIpam;
use ferry_api::{EndpointSettings, NetworkingConfig};
use ferry_types::net::PublishRequest;
use ipnet::IpNet;

use crate::config::parse_port_proto;
use crate::network::endpoint_options::EndpointOptions;
use crate::network::endpoints::BRIDGE;

/// Which network a container has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NetworkMode {
    /// An endpoint on the default bridge.
    Bridge,
    /// The host's network.
    Host,
    /// Nothing but `lo`.
    None,
    /// The network of another container, by full id.
    Container(String),
    /// A user-defined network.
    Other(String),
}

impl NetworkMode {
    /// Reads the API's notation.
    pub fn parse(text: &str) -> Self {
        match text {
            "" | "default" | "bridge" => Self::Bridge,
            "host" => Self::Host,
            "none" => Self::None,
            other => match other.strip_prefix("container:") {
                Some(id) => Self::Container(id.to_owned()),
                None => Self::Other(other.to_owned()),
            },
        }
    }
}

/// Checks a create against its network mode; the error texts are Docker's.
pub(crate) fn validate(
    mode: &NetworkMode,
    config: &ContainerConfig,
    h: &HostConfig,
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    let publishes = !h.port_bindings.is_empty() || h.publish_all_ports;
    match mode {
        NetworkMode::Container(_) => {
            let conflict =
                |what: &str| Err(format!("conflicting options: {what} and the container type network mode"));
            if !h.port_bindings.is_empty() {
                return conflict("port publishing");
            }
            if h.publish_all_ports {
                return conflict("port publishing");
            }
            if !config.hostname.is_empty() {
                return Err("conflicting options: hostname and the network mode".to_owned());
            }
            if !h.dns.is_empty() {
                return Err("conflicting options: dns and the network mode".to_owned());
            }
            if !h.extra_hosts.is_empty() {
                return Err("conflicting options: custom host-to-IP mapping and the network mode".to_owned());
            }
            if !config.mac_address.is_empty() {
                return Err("conflicting options: mac-address and the network mode".to_owned());
            }
            if !config.exposed_ports.is_empty() {
                return conflict("port exposing");
            }
        }
        NetworkMode::Host if publishes => {
            warnings.push("Published ports are discarded when using host network mode".to_owned());
        }
        NetworkMode::Bridge | NetworkMode::Host | NetworkMode::None | NetworkMode::Other(_) => {}
    }
    if *mode != NetworkMode::Host && h.uts_mode == "host" && !config.hostname.is_empty() {
        return Err("conflicting options: hostname and the UTS mode".to_owned());
    }
    publish_requests(h, config)?;
    Ok(())
}

/// The networks a container is to be on, by name, with what is asked of each. `find` gives a network's name, and whether
/// containers may have fixed addresses there and which; the default bridge is not asked about.
pub(crate) fn networks(
    mode: &NetworkMode,
    h: &HostConfig,
    networking: NetworkingConfig,
    find: impl Fn(&str) -> Option<(String, FixedAddresses)>,
) -> Result<BTreeMap<String, EndpointSettings>, String> {
    let canonical = |name: &str| match name {
        "default" => BRIDGE.to_owned(),
        "bridge" | "host" | "none" => name.to_owned(),
        other => find(other).map_or_else(|| other.to_owned(), |(name, _)| name),
    };
    let mut networks: BTreeMap<String, EndpointSettings> = BTreeMap::new();
    for (name, settings) in &networking.endpoints_config {
        let settings = settings.clone().unwrap_or_default();
        match networks.entry(canonical(name)) {
            Entry::Vacant(entry) => drop(entry.insert(settings)),
            // One network by its name and by its id.
            Entry::Occupied(mut entry) => merge(entry.get_mut(), settings),
        }
    }
    match mode {
        // What clients send beside it by default says nothing.
        NetworkMode::Container(_) if networks.is_empty() => return Ok(networks),
        NetworkMode::Container(_) => {
            if networks.values().any(|n| !n.mac_address.is_empty()) {
                return Err("conflicting options: mac-address and the network mode".to_owned());
            }
            return Err(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
                    .to_owned(),
            );
        }
        _ => {}
    }
    // Whoever names networks but not the default one does not want that.
    if networks.is_empty() || *mode != NetworkMode::Bridge {
        let own: &mut EndpointSettings = networks.entry(canonical(&h.network_mode)).or_default();
        // On users' networks links are names that only this container uses.
        if matches!(mode, NetworkMode::Other(_)) && own.links.is_empty() {
            own.links = h.links.clone();
        }
    }
    for (name, settings) in &networks {
        let fixed = find(name).map(|(_, fixed)| fixed).or_else(|| FixedAddresses::builtin(name, false));
        let fixed = fixed.unwrap_or_else(FixedAddresses::unknown);
        check_endpoint(settings, &fixed)
            .map_err(|e| format!("invalid config for network {name}: invalid endpoint settings:\n{e}"))?;
    }
    Ok(networks)
}

/// Adds what else is asked of one endpoint.
fn merge(settings: &mut EndpointSettings, more: EndpointSettings) {
    let EndpointSettings { ipam_config, links, aliases, driver_opts, gw_priority, mac_address, .. } = more;
    settings.ipam_config = settings.ipam_config.take().or(ipam_config);
    if settings.mac_address.is_empty() {
        settings.mac_address = mac_address;
    }
    if settings.links.is_empty() {
        settings.links = links;
    }
    if settings.aliases.is_empty() {
        settings.aliases = aliases;
    }
    if settings.driver_opts.is_empty() {
        settings.driver_opts = driver_opts;
    }
    if settings.gw_priority == 0 {
        settings.gw_priority = gw_priority;
    }
}

/// Whether a container can be on these networks at once; asked when it starts, as Docker does.
pub(crate) fn compatible(networks: &BTreeMap<String, EndpointSettings>) -> Result<(), String> {
    let private = networks.keys().any(|name| matches!(name.as_str(), "host" | "none"));
    if private && networks.len() > 1 {
        return Err(PRIVATE.to_owned());
    }
    Ok(())
}

/// What is said to whoever wants more networks than `host` or `none`.
pub(crate) const PRIVATE: &str =
    "container cannot be connected to multiple networks with one of the networks in private (none) mode";

/// Which addresses a user may give a container on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FixedAddresses {
    pub kind: NetworkKind,
    pub ipv4: Configured,
    pub ipv6: Configured,
}

/// Whose network it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NetworkKind {
    /// The default bridge.
    Bridge,
    /// `host` and `none`, which have no addresses of their own.
    Shared,
    /// A user's, or one that is not there (yet).
    Users,
}

/// A subnet of a user's choice, which fixed addresses require.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Configured {
    /// There is none.
    No,
    /// These.
    In(Vec<IpNet>),
    /// Nobody knows, or whichever.
    Any,
}

impl FixedAddresses {
    /// Of one of the engine's own networks; `ipv6` is whether the default bridge has that.
    pub fn builtin(name: &str, ipv6: bool) -> Option<Self> {
        let any_if = |known| if known { Configured::Any } else { Configured::No };
        match name {
            BRIDGE => Some(Self { kind: NetworkKind::Bridge, ipv4: Configured::Any, ipv6: any_if(ipv6) }),
            "host" | "none" => {
                Some(Self { kind: NetworkKind::Shared, ipv4: Configured::No, ipv6: Configured::No })
            }
            _ => None,
        }
    }

    /// Of a network that is not there (yet).
    pub fn unknown() -> Self {
        Self { kind: NetworkKind::Users, ipv4: Configured::Any, ipv6: Configured::Any }
    }
}

/// Checks the addresses asked for an endpoint; says everything that is wrong.
fn check_addresses(ipam: &EndpointIpam, fixed: &FixedAddresses) -> Vec<String> {
    let mut wrong = Vec::new();
    let usable = |text: &str| text.parse::<IpAddr>().ok().filter(|a| !a.is_unspecified());
    let (v4, v6) = (ipam.ipv4_address.as_str(), ipam.ipv6_address.as_str());
    if fixed.kind != NetworkKind::Users && !(v4.is_empty() && v6.is_empty()) {
        wrong.push("user specified IP address is supported on user defined networks only".to_owned());
    }
    if !v4.is_empty() && !usable(v4).is_some_and(|a| a.is_ipv4()) {
        wrong.push(format!("invalid IPv4 address: {v4}"));
    }
    if !v6.is_empty() && !usable(v6).is_some_and(|a| a.is_ipv6()) {
        wrong.push(format!("invalid IPv6 address: {v6}"));
    }
    let links = ipam.link_local_ips.iter().filter(|text| usable(text).is_none());
    wrong.extend(links.map(|text| format!("invalid link-local IP address: {text}")));
    for (text, configured) in [(v4, &fixed.ipv4), (v6, &fixed.ipv6)] {
        match configured {
            _ if text.is_empty() => {}
            Configured::No => wrong.push(
                "user specified IP address is supported only when connecting to networks with user configured subnets"
                    .to_owned(),
            ),
            Configured::In(nets)
                if !text.parse().is_ok_and(|a: IpAddr| nets.iter().any(|net| net.contains(&a))) =>
            {
                wrong.push(format!("no configured subnet or ip-range contain the IP address {text}"));
            }
            Configured::In(_) | Configured::Any => {}
        }
    }
    wrong
}

/// Checks what is asked of an endpoint.
pub(crate) fn check_endpoint(endpoint: &EndpointSettings, fixed: &FixedAddresses) -> Result<(), String> {
    let wrong = endpoint.ipam_config.as_ref().map_or_else(Vec::new, |ipam| check_addresses(ipam, fixed));
    match wrong.as_slice() {
        [] => {}
        [one] => return Err(one.clone()),
        several => return Err(format!("* {}", several.join("\n* "))),
    }
    EndpointOptions::parse(&endpoint.driver_opts)?;
    if fixed.kind == NetworkKind::Bridge {
        if !endpoint.links.is_empty() {
            return Err("links on the default network are asked for with --link".to_owned());
        }
        // Nobody could use them: the default bridge has no names.
        if !endpoint.aliases.is_empty() {
            return Err(
                "network-scoped alias is supported only for containers in user defined networks".to_owned()
            );
        }
    }
    if !endpoint.mac_address.is_empty() {
        parse_mac(&endpoint.mac_address)?;
    }
    Ok(())
}

/// Whether a container's sysctls switch IPv6 off everywhere in it.
pub(crate) fn switches_ipv6_off(h: &HostConfig) -> bool {
    h.sysctls.get("net.ipv6.conf.all.disable_ipv6").is_some_and(|value| value == "1")
}

/// Reads a MAC address.
pub(crate) fn parse_mac(text: &str) -> Result<[u8; 6], String> {
    let invalid = || format!("invalid MAC address {text}");
    let mut mac = [0_u8; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next().filter(|p| p.len() == 2).ok_or_else(invalid)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
    }
    if parts.next().is_some() { Err(invalid()) } else { Ok(mac) }
}

/// Everything to publish: `-p` and, with `-P`, each exposed port without one.
pub(crate) fn publish_requests(
    h: &HostConfig,
    config: &ContainerConfig,
) -> Result<Vec<PublishRequest>, String> {
    let mut requests = Vec::new();
    for (port, bindings) in &h.port_bindings {
        let (container_port, protocol) =
            parse_port_proto(port).ok_or_else(|| format!("invalid port specification: \"{port}\""))?;
        if bindings.is_empty() {
            requests.push(PublishRequest { host_ip: None, host_ports: (0, 0), container_port, protocol });
        }
        for binding in bindings {
            let host_ip: Option<IpAddr> = match binding.host_ip.trim_start_matches('[').trim_end_matches(']')
            {
                "" => None,
                ip => Some(ip.parse().map_err(|_| format!("invalid IP address {ip:?} in port binding"))?),
            };
            let host_ports = parse_range(&binding.host_port)
                .ok_or_else(|| format!("invalid port specification: \"{}\"", binding.host_port))?;
            requests.push(PublishRequest { host_ip, host_ports, container_port, protocol });
        }
    }
    if h.publish_all_ports {
        for port in config.exposed_ports.keys().filter(|p| !h.port_bindings.contains_key(*p)) {
            if let Some((container_port, protocol)) = parse_port_proto(port) {
                requests.push(PublishRequest { host_ip: None, host_ports: (0, 0), container_port, protocol });
            }
        }
    }
    Ok(requests)
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    if text.is_empty() {
        return Some((0, 0));
    }
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
        None => {
            let port = text.parse().ok()?;
            (port, port)
        }
    };
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_api::PortBinding;

    #[test]
    fn bindings_become_requests() {
        let mut h = HostConfig::default();
        let binding = |ip: &str, port: &str| PortBinding { host_ip: ip.into(), host_port: port.into() };
        h.port_bindings
            .get_mut()
            .insert("80/tcp".into(), vec![binding("", "8080"), binding("::1", "9000-9010")].into());
        let requests = publish_requests(&h, &ContainerConfig::default()).unwrap();
        assert_eq!(requests[0].host_ports, (8080, 8080));
        assert_eq!(
            (requests[1].host_ip, requests[1].host_ports),
            (Some("::1".parse().unwrap()), (9000, 9010))
        );
        for (ip, port) in [("x", "1"), ("", "x"), ("", "70000"), ("", "9-8")] {
            h.port_bindings.get_mut().insert("80/tcp".into(), vec![binding(ip, port)].into());
            assert!(publish_requests(&h, &ContainerConfig::default()).is_err(), "{ip} {port}");
        }
    }

    #[test]
    fn the_default_network_is_joined_only_by_those_who_name_no_other() {
        let of = |mode: &str, named: &[&str]| {
            let h = HostConfig {
                network_mode: mode.into(),
                links: vec!["a:b".to_owned()].into(),
                ..Default::default()
            };
            let named = named.iter().map(|name| ((*name).to_owned(), None));
            let networking = NetworkingConfig { endpoints_config: named.collect() };
            let all = networks(&NetworkMode::parse(mode), &h, networking, |_| None).unwrap();
            all.into_iter().map(|(name, s)| format!("{name} {}", s.links.join(","))).collect::<Vec<_>>()
        };
        assert_eq!(of("default", &[]), ["bridge "]);
        assert_eq!(of("default", &["default"]), ["bridge "]);
        assert_eq!(of("bridge", &["one", "two"]), ["one ", "two "]);
        assert_eq!(of("one", &[]), ["one a:b"]);
        assert_eq!(of("one", &["two"]), ["one a:b", "two "]);
        let by_both = |given: &str| {
            let named = BTreeMap::from([
                ("one".to_owned(), Some(EndpointSettings { gw_priority: 7, ..Default::default() })),
                ("id".to_owned(), Some(EndpointSettings { mac_address: "m".into(), ..Default::default() })),
            ]);
            let networking = NetworkingConfig { endpoints_config: named.into_iter().collect() };
            let find = |_: &str| Some(("one".to_owned(), FixedAddresses::unknown()));
            let mac = |text: String| text.contains("MAC address m");
            let h = HostConfig { network_mode: given.into(), ..Default::default() };
            mac(networks(&NetworkMode::parse(given), &h, networking, find).unwrap_err())
        };
        assert!(by_both("id") && by_both("one"), "the address given by id is that of the endpoint");
        assert_eq!(of("host", &["two"]), ["host ", "two "], "refused at the start");
    }

    #[test]
    fn macs() {
        assert_eq!(parse_mac("02:42:ac:11:00:02"), Ok([2, 0x42, 0xac, 0x11, 0, 2]));
        for bad in ["", "02:42", "02:42:ac:11:00:02:03", "zz:42:ac:11:00:02"] {
            assert!(parse_mac(bad).is_err(), "{bad}");
        }
    }
}
