//! `--opt` of a bridge network: Docker's names, checked. Labels of other names are kept and have no effect, as in
//! Docker, where they belong to whoever wrote them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::error::{EngineError, Result};

/// What the options say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BridgeOptions {
    pub device: Option<String>,
    pub mtu: Option<u32>,
    pub icc: bool,
    pub masquerade: bool,
    pub host_ip: Option<IpAddr>,
}

impl BridgeOptions {
    /// Reads them.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self> {
        let mut parsed = Self { device: None, mtu: None, icc: true, masquerade: true, host_ip: None };
        for (name, value) in options {
            let invalid = |reason: &str| {
                EngineError::InvalidParameter(format!("failed to parse {name} value: {value} ({reason})"))
            };
            let boolean = || {
                parse_bool(value).ok_or_else(|| {
                    invalid(&format!("strconv.ParseBool: parsing \"{value}\": invalid syntax"))
                })
            };
            let missing = || {
                Err(EngineError::NotSupported(format!(
                    "the network option {name}={value} is not supported by ferry yet"
                )))
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
                "com.docker.network.bridge.gateway_mode_ipv4" => match value.as_str() {
                    "" | "nat" => {}
                    "nat-unprotected" | "routed" | "isolated" => return missing(),
                    other => return Err(invalid(&format!("unknown gateway mode {other}"))),
                },
                "com.docker.network.bridge.default_bridge" if boolean()? => {
                    return Err(EngineError::InvalidParameter(
                        "there is a default bridge already".to_owned(),
                    ));
                }
                "com.docker.network.bridge.trusted_host_interfaces"
                | "com.docker.network.bridge.inhibit_ipv4"
                | "com.docker.network.bridge.gateway_mode_ipv6"
                | "com.docker.network.container_iface_prefix" => return missing(),
                _ => {}
            }
        }
        Ok(parsed)
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
fn parse_bool(text: &str) -> Option<bool> {
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
        parse("com.docker.network.bridge.gateway_mode_ipv4", "routed").unwrap_err();
    }
}
