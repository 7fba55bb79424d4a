//! What `network create` asks for, checked before anything is made; the error texts are Docker's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferry_api::network::{IpamConfig, NetworkCreateRequest};
use ferry_types::NetworkId;
use ipnet::IpNet;

use super::options::{BridgeOptions, ENABLE_IPV4, ENABLE_IPV6, announcements, parse_bool};
use super::parent::child_kind;
use super::record::{Driver, FORMAT, NetworkRecord, Subnet};
use crate::error::{EngineError, Result};
use crate::time::now_nanos;

fn invalid(message: impl Into<String>) -> EngineError {
    EngineError::InvalidParameter(message.into())
}

/// Options of networks that do not set them, by driver (`default-network-opts`).
pub(crate) type DefaultOptions = BTreeMap<String, BTreeMap<String, String>>;

/// The record of the network a request describes. `find` gives the record of a configuration-only network.
pub(crate) fn to_record(
    request: NetworkCreateRequest,
    defaults: &DefaultOptions,
    find: impl Fn(&str) -> Option<NetworkRecord>,
) -> Result<NetworkRecord> {
    check_name(&request.name)?;
    let driver = check_driver(&request)?;
    let mut options: BTreeMap<String, String> =
        request.options.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    if request.config_from.is_none() {
        for (name, value) in defaults.get(driver.name()).into_iter().flatten() {
            options.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    let ipv4 = family(request.enable_ipv4, &mut options, ENABLE_IPV4)?.unwrap_or(true);
    let ipv6 = family(request.enable_ipv6, &mut options, ENABLE_IPV6)?.unwrap_or(false);
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
        foreign_bridge: false,
        config_only: request.config_only,
        config_from: request.config_from.map(|c| c.network).unwrap_or_default(),
        options,
        labels: request.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        ipam_options: (!ipam.options.is_null())
            .then(|| ipam.options.iter().map(|(k, v)| (k.clone(), v.clone())).collect()),
        ipv4,
        ipv6,
        subnet: None,
        subnet6: None,
        further: Vec::new(),
    };
    take_subnets(&mut record, &ipam.config)?;
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
        Driver::Macvlan | Driver::Ipvlan => drop((child_kind(&record)?, announcements(&record.options)?)),
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
    let has_addresses = !record.ipv4 || record.ipv6 || record.all_subnets().next().is_some();
    if has_addresses
        || record.ipam_options.as_ref().is_some_and(|o| !o.is_empty())
        || !record.labels.is_empty()
    {
        return Err(EngineError::Forbidden(
            "user specified configurations are not supported if the network depends on a configuration network"
                .to_owned(),
        ));
    }
    record.internal |= from.internal;
    record.options = from.options;
    record.ipam_options = from.ipam_options;
    record.ipv4 = from.ipv4;
    record.ipv6 = from.ipv6;
    record.subnet = from.subnet;
    record.subnet6 = from.subnet6;
    record.further = from.further;
    record.labels = from.labels;
    Ok(())
}

/// Whether the network has a family: the request's word, or that of an option, which then says nothing to the driver.
fn family(
    wanted: Option<bool>,
    options: &mut BTreeMap<String, String>,
    option: &str,
) -> Result<Option<bool>> {
    if wanted.is_some() {
        options.remove(option);
        return Ok(wanted);
    }
    let Some(text) = options.get(option) else { return Ok(None) };
    let parsed = parse_bool(text);
    parsed.map(Some).ok_or_else(|| invalid(format!("driver-opt \"{option}\" is not a valid bool")))
}

/// Reads the subnets, on bridges one per family at most. Those of IPv6 are looked at only on networks that have it.
fn take_subnets(record: &mut NetworkRecord, configs: &[IpamConfig]) -> Result<()> {
    let mut errors: Vec<String> = Vec::new();
    for config in configs {
        let Some(subnet) = one_subnet(config, record.ipv6, &mut errors) else { continue };
        match if subnet.subnet.addr().is_ipv6() { &mut record.subnet6 } else { &mut record.subnet } {
            slot @ None => *slot = Some(subnet),
            Some(_) => record.further.push(subnet),
        }
    }
    let text = match errors.as_slice() {
        [] if record.further.is_empty() || record.driver != Driver::Bridge => return Ok(()),
        [] => {
            let text = "bridge driver doesn't support multiple subnets";
            return Err(EngineError::Forbidden(text.to_owned()));
        }
        [one] => one.clone(),
        several => format!("* {}", several.join("\n* ")),
    };
    Err(invalid(format!("invalid network config:\n{text}")))
}

/// The subnet, without any complaint about what is not used.
fn one_subnet(config: &IpamConfig, ipv6: bool, errors: &mut Vec<String>) -> Option<Subnet> {
    let Ok(subnet) = config.subnet.parse::<IpNet>() else {
        errors.push(format!("invalid subnet {}: invalid CIDR block notation", config.subnet));
        return None;
    };
    let mut wrong = Vec::new();
    if subnet.trunc() != subnet {
        wrong.push(format!("invalid subnet {subnet}: it should be {}", subnet.trunc()));
    }
    let range = match config.ip_range.as_str() {
        "" => None,
        text => parse_range(text, subnet, &mut wrong),
    };
    let gateway = match config.gateway.as_str() {
        "" => None,
        text => match inside(text, subnet) {
            Ok(address) => Some(address),
            Err(why) => {
                wrong.push(format!("invalid gateway {text}: {why}"));
                None
            }
        },
    };
    let mut reserved = BTreeMap::new();
    for (name, text) in config.auxiliary_addresses.iter().filter(|(_, text)| !text.is_empty()) {
        match inside(text, subnet) {
            Ok(address) => drop(reserved.insert(name.clone(), address)),
            Err(why) => wrong.push(format!("invalid auxiliary address {name}: {why}")),
        }
    }
    if ipv6 || !subnet.addr().is_ipv6() {
        errors.extend(wrong);
    }
    Some(Subnet { subnet, gateway, range, reserved, by_user: true, gateway_by_user: gateway.is_some() })
}

fn is_family(subnet: IpNet) -> String {
    format!("parent subnet is an {} block", if subnet.addr().is_ipv6() { "IPv6" } else { "IPv4" })
}

/// An address of a subnet.
fn inside(text: &str, subnet: IpNet) -> std::result::Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| "invalid address".to_owned())?;
    if address.is_ipv6() != subnet.addr().is_ipv6() {
        return Err(is_family(subnet));
    }
    match subnet.contains(&address) {
        true => Ok(address),
        false => Err(format!("parent subnet {subnet} doesn't contain this address")),
    }
}

fn parse_range(text: &str, subnet: IpNet, wrong: &mut Vec<String>) -> Option<IpNet> {
    let Ok(range) = text.parse::<IpNet>() else {
        wrong.push(format!("invalid ip-range {text}: invalid CIDR block notation"));
        return None;
    };
    if range.addr().is_ipv6() != subnet.addr().is_ipv6() {
        wrong.push(format!("invalid ip-range {text}: {}", is_family(subnet)));
        return None;
    }
    if range.prefix_len() < subnet.prefix_len() {
        wrong.push(format!("invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}"));
    }
    if range.trunc() != range {
        wrong.push(format!("invalid ip-range {range}: it should be {}", range.trunc()));
    }
    if !subnet.contains(&range.addr()) && !range.contains(&subnet.addr()) {
        wrong.push(format!("invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range"));
    }
    Some(range)
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
        made(request).unwrap_err().to_string()
    }

    fn made(request: NetworkCreateRequest) -> Result<NetworkRecord> {
        to_record(request, &DefaultOptions::new(), |_| None)
    }

    #[test]
    fn subnets_are_checked() {
        let with = |subnet: &str, gateway: &str, range: &str| IpamConfig {
            subnet: subnet.into(),
            gateway: gateway.into(),
            ip_range: range.into(),
            ..IpamConfig::default()
        };
        let record = made(request(with("10.7.0.0/16", "10.7.5.9", "10.7.5.0/24"))).unwrap();
        let subnet = record.subnet.as_ref().unwrap();
        assert_eq!((subnet.range, subnet.gateway_by_user), ("10.7.5.0/24".parse().ok(), true));
        assert_eq!(record.bridge().unwrap().device, format!("br-{}", &record.id.as_str()[..12]));
        let cases = [
            (("10.7.0.1/16", "", ""), "invalid subnet 10.7.0.1/16: it should be 10.7.0.0/16"),
            (("foo", "", ""), "invalid subnet foo: invalid CIDR block notation"),
            (("", "", ""), "invalid subnet : invalid CIDR block notation"),
            (
                ("10.7.0.0/16", "10.8.0.1", ""),
                "invalid gateway 10.8.0.1: parent subnet 10.7.0.0/16 doesn't contain this address",
            ),
            (("10.7.0.0/16", "fd00::1", ""), "invalid gateway fd00::1: parent subnet is an IPv4 block"),
            (("fd00::/64", "10.7.0.1", ""), "invalid gateway 10.7.0.1: parent subnet is an IPv6 block"),
            (("10.7.0.0/16", "x", ""), "invalid gateway x: invalid address"),
            (
                ("10.7.0.0/16", "", "10.8.0.0/24"),
                "invalid ip-range 10.8.0.0/24: parent subnet 10.7.0.0/16 doesn't contain ip-range",
            ),
            (
                ("10.7.0.0/16", "", "10.0.0.0/8"),
                "invalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.7.0.0/16",
            ),
            (("fd00::/64", "", "fd00::1/80"), "invalid ip-range fd00::1/80: it should be fd00::/80"),
            (
                ("10.7.0.1/16", "foo", "fd00::/64"),
                "* invalid subnet 10.7.0.1/16: it should be 10.7.0.0/16\n* invalid ip-range fd00::/64: \
                 parent subnet is an IPv4 block\n* invalid gateway foo: invalid address",
            ),
        ];
        for ((subnet, gateway, range), wanted) in cases {
            let mut wrong = request(with(subnet, gateway, range));
            wrong.enable_ipv6 = Some(true);
            assert_eq!(refused(wrong), format!("invalid network config:\n{wanted}"));
        }
        // Nobody looks at what is not used.
        let unused = made(request(with("fd00::1/64", "", ""))).unwrap();
        assert!(!unused.ipv6 && unused.subnet6.is_some());
    }

    #[test]
    fn one_subnet_of_each_family() {
        let config = |subnet: &str| IpamConfig { subnet: subnet.into(), ..IpamConfig::default() };
        let with = |subnets: &[&str]| {
            let config = subnets.iter().map(|s| config(s)).collect::<Vec<_>>().into();
            let ipam = Some(Ipam { config, ..Ipam::default() });
            NetworkCreateRequest {
                name: "n".into(),
                enable_ipv6: Some(true),
                ipam,
                ..NetworkCreateRequest::default()
            }
        };
        let both = made(with(&["fd00::/64", "10.7.0.0/16"])).unwrap();
        assert_eq!(both.subnet.unwrap().subnet.to_string(), "10.7.0.0/16");
        assert_eq!(both.subnet6.unwrap().subnet.to_string(), "fd00::/64");
        for two in [["fd00::/64", "fd01::/64"], ["10.7.0.0/16", "10.8.0.0/16"]] {
            assert_eq!(refused(with(&two)), "bridge driver doesn't support multiple subnets");
        }
    }

    #[test]
    fn families_are_asked_for_in_the_request_or_by_options() {
        let with = |ipv4, ipv6, options: &[(&str, &str)]| NetworkCreateRequest {
            name: "n".into(),
            enable_ipv4: ipv4,
            enable_ipv6: ipv6,
            options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..NetworkCreateRequest::default()
        };
        let of = |request| made(request).map(|r| (r.ipv4, r.ipv6, r.options.len())).unwrap();
        assert_eq!(of(with(None, None, &[])), (true, false, 0));
        assert_eq!(of(with(None, None, &[(ENABLE_IPV6, "true"), (ENABLE_IPV4, "0")])), (false, true, 2));
        assert_eq!(of(with(Some(true), Some(true), &[(ENABLE_IPV6, "false")])), (true, true, 0));
        assert_eq!(
            refused(with(None, None, &[(ENABLE_IPV6, "foo")])),
            "driver-opt \"com.docker.network.enable_ipv6\" is not a valid bool"
        );
        let set = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let defaults = DefaultOptions::from([("bridge".to_owned(), set(ENABLE_IPV6, "true"))]);
        let record = to_record(with(None, None, &[]), &defaults, |_| None).unwrap();
        assert!(record.ipv6 && record.options.len() == 1);
        assert!(!to_record(with(None, Some(false), &[]), &defaults, |_| None).unwrap().ipv6);
        assert!(!to_record(with(None, None, &[(ENABLE_IPV6, "0")]), &defaults, |_| None).unwrap().ipv6);
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
            ..made(request(IpamConfig { subnet: "10.7.0.0/16".into(), ..IpamConfig::default() })).unwrap()
        };
        let mut from = NetworkCreateRequest { name: "m".into(), ..NetworkCreateRequest::default() };
        from.config_from = Some(ferry_api::network::ConfigReference { network: "n".into() });
        let record = to_record(from.clone(), &DefaultOptions::new(), |_| Some(config(true))).unwrap();
        assert_eq!(record.subnet.unwrap().subnet.to_string(), "10.7.0.0/16");
        assert!(to_record(from.clone(), &DefaultOptions::new(), |_| Some(config(false))).is_err());
        from.labels.get_mut().insert("own".into(), "yes".into());
        assert!(to_record(from, &DefaultOptions::new(), |_| Some(config(true))).is_err());
    }
}
