//! `--opt` of a bridge network: Docker's names, checked. Labels of other names are kept and have no effect, as in
//! Docker, where they belong to whoever wrote them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ferry_network::{Announcements, GatewayMode};

use crate::error::{EngineError, Result};

/// What the options say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BridgeOptions {
    pub device: Option<String>,
    pub mtu: Option<u32>,
    pub icc: bool,
    pub masquerade: bool,
    /// The host's addresses that what leaves gets.
    pub source_ipv4: Option<Ipv4Addr>,
    pub source_ipv6: Option<Ipv6Addr>,
    pub host_ip: Option<IpAddr>,
    pub mode_ipv4: GatewayMode,
    pub mode_ipv6: GatewayMode,
    /// The gateway's IPv4 address is not the bridge's: somebody else has it.
    pub inhibit_ipv4: bool,
    /// Interfaces whose packets reach published ports at containers' own addresses.
    pub trusted: Vec<String>,
    /// What the names of interfaces inside begin with.
    pub interface_prefix: Option<String>,
    /// How neighbours are told of containers' addresses.
    pub announcements: Option<Announcements>,
}

/// Options that say which families a network has, unless its user says so otherwise.
pub(crate) const ENABLE_IPV4: &str = "com.docker.network.enable_ipv4";
pub(crate) const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";

impl BridgeOptions {
    /// Reads them.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self> {
        let mut parsed = Self {
            device: None,
            mtu: None,
            icc: true,
            masquerade: true,
            source_ipv4: None,
            source_ipv6: None,
            host_ip: None,
            mode_ipv4: GatewayMode::Nat,
            mode_ipv6: GatewayMode::Nat,
            inhibit_ipv4: false,
            trusted: Vec::new(),
            interface_prefix: None,
            announcements: announcements(options)?,
        };
        for (name, value) in options {
            let invalid = |reason: &str| {
                EngineError::InvalidParameter(format!("failed to parse {name} value: {value} ({reason})"))
            };
            let boolean = || {
                parse_bool(value).ok_or_else(|| {
                    invalid(&format!("strconv.ParseBool: parsing \"{value}\": invalid syntax"))
                })
            };
            let mode = || {
                Ok(match value.as_str() {
                    "nat" => GatewayMode::Nat,
                    "nat-unprotected" => GatewayMode::NatUnprotected,
                    "routed" => GatewayMode::Routed,
                    "isolated" => GatewayMode::Isolated,
                    other => return Err(invalid(&format!("unknown gateway mode {other}"))),
                })
            };
            match name.as_str() {
                "com.docker.network.bridge.name" if !value.is_empty() => parsed.device = Some(value.clone()),
                "com.docker.network.driver.mtu" => parsed.mtu = parse_mtu(name, value)?,
                "com.docker.network.bridge.enable_icc" => parsed.icc = boolean()?,
                "com.docker.network.bridge.enable_ip_masquerade" => parsed.masquerade = boolean()?,
                "com.docker.network.bridge.host_binding_ipv4" => {
                    let address = value.parse::<IpAddr>().map_err(|_| invalid("nil ip"))?;
                    parsed.host_ip = (!address.is_unspecified()).then_some(address);
                }
                "com.docker.network.bridge.gateway_mode_ipv4" => parsed.mode_ipv4 = mode()?,
                "com.docker.network.bridge.gateway_mode_ipv6" => parsed.mode_ipv6 = mode()?,
                "com.docker.network.bridge.inhibit_ipv4" => parsed.inhibit_ipv4 = boolean()?,
                "com.docker.network.bridge.default_bridge" if boolean()? => {
                    return Err(EngineError::InvalidParameter(
                        "there is a default bridge already".to_owned(),
                    ));
                }
                "com.docker.network.host_ipv4" => {
                    parsed.source_ipv4 = Some(value.parse().map_err(|_| invalid("nil ip"))?);
                }
                "com.docker.network.host_ipv6" => {
                    parsed.source_ipv6 = Some(value.parse().map_err(|_| invalid("nil ip"))?);
                }
                "com.docker.network.container_iface_prefix" if !value.is_empty() => {
                    // dev_valid_name() in the kernel's net/core/dev.c, with room for a number
                    let bad = |c: char| c == '/' || c == ':' || !c.is_ascii_graphic();
                    if value.len() > 12 || value.contains(bad) {
                        return Err(invalid("not the beginning of an interface name"));
                    }
                    parsed.interface_prefix = Some(value.clone());
                }
                "com.docker.network.bridge.trusted_host_interfaces" => {
                    let names = value.split(':').filter(|name| !name.is_empty());
                    parsed.trusted = names.map(str::to_owned).collect();
                    // IFNAMSIZ
                    if parsed.trusted.iter().any(|name| name.len() > 15) {
                        return Err(invalid("not names of interfaces"));
                    }
                }
                _ => {}
            }
        }
        Ok(parsed)
    }
}

/// What a network's options say of announcements; both have Docker's defaults when only the other is given.
pub(crate) fn announcements(options: &BTreeMap<String, String>) -> Result<Option<Announcements>> {
    let times = within(options, "com.docker.network.advertise_addr_nmsgs", 0, 3)?;
    let interval = within(options, "com.docker.network.advertise_addr_ms", 100, 2000)?;
    if times.is_none() && interval.is_none() {
        return Ok(None);
    }
    let interval = Duration::from_millis(interval.unwrap_or(1000).into());
    Ok(Some(Announcements { times: times.and_then(|n| n.try_into().ok()).unwrap_or(3), interval }))
}

/// The number an option has, if it is there.
fn within(options: &BTreeMap<String, String>, name: &str, least: u32, most: u32) -> Result<Option<u32>> {
    let Some(value) = options.get(name) else { return Ok(None) };
    let number: i64 = value.parse().map_err(|_| {
        EngineError::InvalidParameter(format!("value for option {name} \"{value}\" must be an integer"))
    })?;
    match u32::try_from(number).ok().filter(|number| (least..=most).contains(number)) {
        Some(number) => Ok(Some(number)),
        None => {
            let text = format!("{name} must be in the range {least} to {most}");
            Err(EngineError::InvalidParameter(text))
        }
    }
}

/// An MTU; 0 is the default one.
pub(crate) fn parse_mtu(name: &str, value: &str) -> Result<Option<u32>> {
    let number = value.parse::<i64>().map_err(|_| {
        EngineError::InvalidParameter(format!(
            "failed to parse {name} value: {value} (strconv.Atoi: parsing \"{value}\": invalid syntax)"
        ))
    })?;
    let mtu = u32::try_from(number).ok().filter(|m| (68..=65_535).contains(m) || *m == 0);
    let mtu = mtu.ok_or_else(|| EngineError::InvalidParameter(format!("invalid MTU number: {number}")))?;
    Ok((mtu != 0).then_some(mtu))
}

/// As Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, value: &str) -> Result<BridgeOptions> {
        BridgeOptions::parse(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn values_are_read_or_refused() {
        assert!(!parse("com.docker.network.bridge.enable_icc", "false").unwrap().icc);
        assert_eq!(parse("com.docker.network.driver.mtu", "1400").unwrap().mtu, Some(1400));
        assert_eq!(parse("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0").unwrap().host_ip, None);
        assert_eq!(parse("foo", "bar").unwrap().device, None);
        let error = parse("com.docker.network.bridge.enable_icc", "x").unwrap_err().to_string();
        let wanted = "failed to parse com.docker.network.bridge.enable_icc value: x \
                      (strconv.ParseBool: parsing \"x\": invalid syntax)";
        assert_eq!(error, wanted);
        parse("com.docker.network.driver.mtu", "-1").unwrap_err();
        let trusted = parse("com.docker.network.bridge.trusted_host_interfaces", "vxlan.1:eth3").unwrap();
        assert_eq!(trusted.trusted, ["vxlan.1", "eth3"]);
        let mode = parse("com.docker.network.bridge.gateway_mode_ipv6", "routed").unwrap();
        assert_eq!((mode.mode_ipv4, mode.mode_ipv6), (GatewayMode::Nat, GatewayMode::Routed));
        for (option, value, text) in [
            (
                "bridge.gateway_mode_ipv4",
                "",
                "failed to parse com.docker.network.bridge.gateway_mode_ipv4 value:  (unknown gateway mode )",
            ),
            ("host_ipv4", "x", "failed to parse com.docker.network.host_ipv4 value: x (nil ip)"),
            (
                "advertise_addr_nmsgs",
                "9",
                "com.docker.network.advertise_addr_nmsgs must be in the range 0 to 3",
            ),
            (
                "advertise_addr_ms",
                "x",
                "value for option com.docker.network.advertise_addr_ms \"x\" must be an integer",
            ),
        ] {
            let error = parse(&format!("com.docker.network.{option}"), value).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }
}
