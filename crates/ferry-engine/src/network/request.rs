//! What `network create` asks for, checked before anything is made; the error texts are Docker's.

use std::net::{IpAddr, Ipv4Addr};

use ferry_api::network::{IpamConfig, NetworkCreateRequest};
use ferry_types::NetworkId;
use ipnet::Ipv4Net;

use super::options::BridgeOptions;
use super::parent::child_kind;
use super::record::{Driver, FORMAT, NetworkRecord, Subnet};
use crate::error::{EngineError, Result};
use crate::time::now_nanos;

fn invalid(message: impl Into<String>) -> EngineError {
    EngineError::InvalidParameter(message.into())
}

fn later(what: &str) -> EngineError {
    EngineError::NotSupported(format!("{what} is not supported by ferry yet"))
}

/// The record of the network a request describes. `find` gives the record of a configuration-only network.
pub(crate) fn to_record(
    request: NetworkCreateRequest,
    find: impl Fn(&str) -> Option<NetworkRecord>,
) -> Result<NetworkRecord> {
    check_name(&request.name)?;
    let driver = check_driver(&request)?;
    if request.enable_ipv6 == Some(true) {
        return Err(later("IPv6 on networks (--ipv6)"));
    }
    if request.enable_ipv4 == Some(false) {
        return Err(later("a network without IPv4"));
    }
    let ipam = request.ipam.unwrap_or_default();
    if ipam.driver == "null" {
        return Err(invalid("ipv4 pool is empty"));
    }
    if !matches!(ipam.driver.as_str(), "" | "default") {
        return Err(EngineError::NotFound(format!("plugin \"{}\" not found", ipam.driver)));
    }
    let mut record = NetworkRecord {
        format: FORMAT,
        id: NetworkId::random(),
        name: request.name,
        created_at: now_nanos(),
        internal: request.internal,
        attachable: request.attachable,
        driver,
        made_parent: false,
        config_only: request.config_only,
        config_from: request.config_from.map(|c| c.network).unwrap_or_default(),
        options: request.options.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        labels: request.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        ipam_options: ipam.options.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        subnet: subnet(&ipam.config)?,
    };
    if record.config_only && !record.config_from.is_empty() {
        return Err(EngineError::Forbidden(
            "a configuration network cannot depend on another configuration network".to_owned(),
        ));
    }
    if !record.config_from.is_empty() {
        take_configuration(&mut record, find)?;
    }
    match driver {
        Driver::Bridge => drop(BridgeOptions::parse(&record.options)?),
        Driver::Macvlan | Driver::Ipvlan if record.config_only => {}
        Driver::Macvlan | Driver::Ipvlan => drop(child_kind(&record)?),
    }
    Ok(record)
}

fn check_name(name: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(invalid("invalid name: name is empty"));
    }
    if matches!(name, "bridge" | "host" | "none" | "default") {
        return Err(EngineError::Forbidden(format!(
            "operation is not permitted on predefined {name} network"
        )));
    }
    Ok(())
}

fn check_driver(request: &NetworkCreateRequest) -> Result<Driver> {
    let no_swarm = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";
    let driver = match request.driver.as_str() {
        "" | "default" | "bridge" => Driver::Bridge,
        "macvlan" => Driver::Macvlan,
        "ipvlan" => Driver::Ipvlan,
        "host" | "null" => {
            return Err(EngineError::Forbidden(format!(
                "only one instance of \"{}\" network is allowed",
                request.driver
            )));
        }
        "overlay" => return Err(EngineError::Unavailable(no_swarm.to_owned())),
        other => return Err(EngineError::NotFound(format!("plugin \"{other}\" not found"))),
    };
    match request.scope.as_str() {
        "" | "local" => {}
        "swarm" => {
            return Err(EngineError::Forbidden(
                "cannot create a swarm scoped network when swarm is not active".to_owned(),
            ));
        }
        other => return Err(invalid(format!("invalid network scope \"{other}\""))),
    }
    if request.ingress {
        return Err(EngineError::Forbidden("Ingress network can only be global scope network".to_owned()));
    }
    Ok(driver)
}

/// What a network takes from a configuration, it must not say itself.
fn take_configuration(
    record: &mut NetworkRecord,
    find: impl Fn(&str) -> Option<NetworkRecord>,
) -> Result<()> {
    let from = find(&record.config_from).filter(|from| from.config_only).ok_or_else(|| {
        EngineError::NotFound(format!("configuration network {:?} does not exist", record.config_from))
    })?;
    if !record.options.is_empty() {
        return Err(EngineError::Forbidden(
            "network driver options are not supported if the network depends on a configuration network"
                .to_owned(),
        ));
    }
    if record.subnet.is_some() || !record.ipam_options.is_empty() || !record.labels.is_empty() {
        return Err(EngineError::Forbidden(
            "user specified configurations are not supported if the network depends on a configuration network"
                .to_owned(),
        ));
    }
    record.internal |= from.internal;
    record.options = from.options;
    record.ipam_options = from.ipam_options;
    record.subnet = from.subnet;
    record.labels = from.labels;
    Ok(())
}

fn subnet(configs: &[IpamConfig]) -> Result<Option<Subnet>> {
    let mut found: Option<Subnet> = None;
    let mut errors: Vec<String> = Vec::new();
    for config in configs {
        if config.subnet.is_empty() && config.gateway.is_empty() && config.ip_range.is_empty() {
            continue;
        }
        if config.subnet.contains(':') {
            return Err(later(&format!("the IPv6 subnet {}", config.subnet)));
        }
        match one_subnet(config, &mut errors) {
            Some(_) if found.is_some() => return Err(later("more than one subnet of a network")),
            Some(subnet) => found = Some(subnet),
            None => {}
        }
    }
    match errors.as_slice() {
        [] => Ok(found),
        errors => Err(invalid(format!("invalid network config:\n{}", errors.join("\n")))),
    }
}

fn one_subnet(config: &IpamConfig, errors: &mut Vec<String>) -> Option<Subnet> {
    let Ok(subnet) = config.subnet.parse::<Ipv4Net>() else {
        errors.push(format!("invalid subnet {}: invalid CIDR block notation", config.subnet));
        return None;
    };
    if subnet.trunc() != subnet {
        errors.push(format!("invalid subnet {subnet}: it should be {}", subnet.trunc()));
        return None;
    }
    if subnet.prefix_len() > 30 {
        errors.push(format!("invalid subnet {subnet}: it has no room for a container"));
        return None;
    }
    let before = errors.len();
    let range = parse_range(&config.ip_range, subnet, errors);
    let mut inside = |what: &str, text: &str| -> Option<Ipv4Addr> {
        match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) if subnet.contains(&address) => Some(address),
            Ok(_) => {
                errors.push(format!(
                    "invalid {what} {text}: parent subnet {subnet} doesn't contain this address"
                ));
                None
            }
            Err(_) => {
                errors.push(format!("invalid {what} {text}: invalid address"));
                None
            }
        }
    };
    let gateway = (!config.gateway.is_empty()).then(|| inside("gateway", &config.gateway)).flatten();
    let reserved = config
        .auxiliary_addresses
        .iter()
        .filter_map(|(name, text)| Some((name.clone(), inside("auxiliary address", text)?)))
        .collect();
    let edge = gateway.filter(|g| *g == subnet.network() || *g == subnet.broadcast());
    if let Some(gateway) = edge {
        errors.push(format!("invalid gateway {gateway}: it is the network or broadcast address of {subnet}"));
    }
    let gateway_by_user = gateway.is_some();
    (errors.len() == before).then_some(Subnet {
        subnet,
        gateway,
        range,
        reserved,
        by_user: true,
        gateway_by_user,
    })
}

fn parse_range(text: &str, subnet: Ipv4Net, errors: &mut Vec<String>) -> Option<Ipv4Net> {
    if text.is_empty() {
        return None;
    }
    match text.parse::<Ipv4Net>() {
        Err(_) => errors.push(format!("invalid ip-range {text}: invalid CIDR block notation")),
        Ok(range) if range.trunc() != range => {
            errors.push(format!("invalid ip-range {range}: it should be {}", range.trunc()));
        }
        Ok(range) if !subnet.contains(&range) => {
            errors.push(format!("invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range"));
        }
        Ok(range) => return Some(range),
    }
    None
}

#[cfg(test)]
mod tests {
    use ferry_api::network::Ipam;

    use super::*;

    fn request(config: IpamConfig) -> NetworkCreateRequest {
        let ipam = Ipam { config: vec![config].into(), ..Ipam::default() };
        NetworkCreateRequest { name: "n".into(), ipam: Some(ipam), ..NetworkCreateRequest::default() }
    }

    fn refused(request: NetworkCreateRequest) -> String {
        to_record(request, |_| None).unwrap_err().to_string()
    }

    #[test]
    fn subnets_are_checked() {
        let with = |subnet: &str, gateway: &str, range: &str| IpamConfig {
            subnet: subnet.into(),
            gateway: gateway.into(),
            ip_range: range.into(),
            ..IpamConfig::default()
        };
        let record = to_record(request(with("10.7.0.0/16", "", "10.7.5.0/24")), |_| None).unwrap();
        let bridge = record.bridge().unwrap();
        assert_eq!(bridge.bip.unwrap().to_string(), "10.7.5.0/16");
        assert_eq!(bridge.device, format!("br-{}", &record.id.as_str()[..12]));
        let plain = to_record(request(with("10.7.0.0/16", "", "")), |_| None).unwrap();
        assert_eq!(plain.bridge().unwrap().bip.unwrap().to_string(), "10.7.0.1/16");
        let cases = [
            (("10.7.0.1/16", "", ""), "invalid subnet 10.7.0.1/16: it should be 10.7.0.0/16"),
            (("foo", "", ""), "invalid subnet foo: invalid CIDR block notation"),
            (("10.7.0.0/16", "10.8.0.1", ""), "invalid gateway 10.8.0.1: parent subnet"),
            (("10.7.0.0/16", "10.7.0.0", ""), "invalid gateway 10.7.0.0: it is the network"),
            (("10.7.0.0/16", "", "10.8.0.0/24"), "invalid ip-range 10.8.0.0/24: parent subnet"),
            (("10.7.0.0/31", "", ""), "no room"),
        ];
        for ((subnet, gateway, range), wanted) in cases {
            let text = refused(request(with(subnet, gateway, range)));
            assert!(text.starts_with("invalid network config:\n") && text.contains(wanted), "{text}");
        }
    }

    #[test]
    fn drivers_and_names_are_checked() {
        let named =
            |name: &str| NetworkCreateRequest { name: name.into(), ..NetworkCreateRequest::default() };
        assert_eq!(refused(named("host")), "operation is not permitted on predefined host network");
        refused(named(" "));
        let driver = |d: &str| NetworkCreateRequest { driver: d.into(), ..named("n") };
        assert_eq!(refused(driver("nope")), "plugin \"nope\" not found");
        assert_eq!(refused(driver("host")), "only one instance of \"host\" network is allowed");
        assert!(refused(driver("overlay")).starts_with("This node is not a swarm manager."));
    }

    #[test]
    fn configurations_are_taken() {
        let config = |config_only| NetworkRecord {
            config_only,
            ..to_record(request(IpamConfig { subnet: "10.7.0.0/16".into(), ..IpamConfig::default() }), |_| {
                None
            })
            .unwrap()
        };
        let mut from = NetworkCreateRequest { name: "m".into(), ..NetworkCreateRequest::default() };
        from.config_from = Some(ferry_api::network::ConfigReference { network: "n".into() });
        let record = to_record(from.clone(), |_| Some(config(true))).unwrap();
        assert_eq!(record.subnet.unwrap().subnet.to_string(), "10.7.0.0/16");
        assert!(to_record(from.clone(), |_| Some(config(false))).is_err());
        from.labels.get_mut().insert("own".into(), "yes".into());
        assert!(to_record(from, |_| Some(config(true))).is_err());
    }
}
