//! `--network` and the options that depend on it.

use std::net::IpAddr;

use ferry_api::container::{ContainerConfig, HostConfig};
use ferry_api::{EndpointSettings, NetworkingConfig};
use ferry_types::net::PublishRequest;

use crate::config::parse_port_proto;

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
    networking: &NetworkingConfig,
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
                return conflict("custom host-to-IP mapping");
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
    for (name, endpoint) in &networking.endpoints_config {
        let known =
            matches!(name.as_str(), "bridge" | "default" | "host" | "none") || h.network_mode == *name;
        if !known {
            continue;
        }
        if let Some(endpoint) = endpoint {
            check_endpoint(endpoint)?;
        }
    }
    publish_requests(h, config)?;
    Ok(())
}

fn check_endpoint(endpoint: &EndpointSettings) -> Result<(), String> {
    if let Some(ipam) = &endpoint.ipam_config
        && !(ipam.ipv4_address.is_empty() && ipam.ipv6_address.is_empty() && ipam.link_local_ips.is_empty())
    {
        return Err("invalid config for network bridge: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only".to_owned());
    }
    if !endpoint.links.is_empty() {
        return Err("--link is not supported by ferry yet".to_owned());
    }
    if !endpoint.driver_opts.is_empty() {
        return Err("endpoint driver options are not supported by ferry yet".to_owned());
    }
    if !endpoint.mac_address.is_empty() {
        parse_mac(&endpoint.mac_address)?;
    }
    Ok(())
}

/// The MAC address asked for, in whichever place.
pub(crate) fn wanted_mac(
    config: &ContainerConfig,
    networking: &NetworkingConfig,
) -> Result<Option<[u8; 6]>, String> {
    let endpoint = ["bridge", "default"]
        .iter()
        .find_map(|n| networking.endpoints_config.get(*n))
        .and_then(Option::as_ref);
    let text =
        endpoint.map(|e| e.mac_address.as_str()).filter(|m| !m.is_empty()).unwrap_or(&config.mac_address);
    if text.is_empty() { Ok(None) } else { parse_mac(text).map(Some) }
}

fn parse_mac(text: &str) -> Result<[u8; 6], String> {
    let invalid = || format!("invalid config for network bridge: invalid MAC address {text}");
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
    fn macs() {
        assert_eq!(parse_mac("02:42:ac:11:00:02"), Ok([2, 0x42, 0xac, 0x11, 0, 2]));
        for bad in ["", "02:42", "02:42:ac:11:00:02:03", "zz:42:ac:11:00:02"] {
            assert!(parse_mac(bad).is_err(), "{bad}");
        }
    }
}
