//! Directives about the addresses of the default bridge, and where those of other networks come from.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ferry_engine::AddressPool;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::Value;

use super::values::Values;

/// Of the default bridge.
#[derive(Debug)]
pub struct Addresses {
    pub bip: Option<(Ipv4Addr, u8)>,
    pub bip6: Option<(Ipv6Addr, u8)>,
    pub ip_range: Option<Ipv4Net>,
    pub ip_range_v6: Option<Ipv6Net>,
    pub gateway: Option<Ipv4Addr>,
    pub gateway_v6: Option<Ipv6Addr>,
}

/// Reads them.
///
/// # Errors
/// The first thing that is wrong with them.
pub fn read(v: &Values) -> Result<Addresses, String> {
    let bip = v.text("bip").map(|text| parse_bip(&text)).transpose()?;
    let ip_range = v.text("fixed-cidr").map(|text| parse_cidr("fixed-cidr", &text)).transpose()?;
    if let (Some((address, prefix)), Some(range)) = (bip, ip_range) {
        let inside = Ipv4Net::new(address, prefix).is_ok_and(|net| net.contains(&range));
        if !inside {
            return Err(format!("fixed-cidr {range} is not within the bridge's subnet {address}/{prefix}"));
        }
    }
    let bip6 = v.text("bip6").map(|text| parse_bip6(&text)).transpose()?;
    let ip_range_v6 = v.text("fixed-cidr-v6").map(|text| parse_cidr6(&text)).transpose()?;
    if let (Some((address, prefix)), Some(range)) = (bip6, ip_range_v6)
        && !Ipv6Net::new(address, prefix).is_ok_and(|net| net.contains(&range))
    {
        return Err(format!("fixed-cidr-v6 {range} is not within the bridge's subnet {address}/{prefix}"));
    }
    let v4 = |address| if let IpAddr::V4(v4) = address { Some(v4) } else { None };
    let v6 = |address| if let IpAddr::V6(v6) = address { Some(v6) } else { None };
    Ok(Addresses {
        bip,
        bip6,
        ip_range,
        ip_range_v6,
        gateway: family_address(v, "default-gateway", v4)?,
        gateway_v6: family_address(v, "default-gateway-v6", v6)?,
    })
}

fn parse_bip(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let parsed = text.split_once('/').and_then(|(address, prefix)| {
        let prefix: u8 = prefix.parse().ok()?;
        (prefix <= 30).then_some((address.parse().ok()?, prefix))
    });
    parsed.ok_or_else(|| format!("invalid bip {text:?}: want ADDRESS/PREFIX such as 172.17.0.1/16"))
}

fn parse_bip6(text: &str) -> Result<(Ipv6Addr, u8), String> {
    let net =
        text.parse::<Ipv6Net>().ok().filter(|net| net.prefix_len() <= 126 && net.addr() != net.network());
    let net = net.ok_or_else(|| format!("invalid bip6 {text:?}: want ADDRESS/PREFIX such as fd00::1/64"))?;
    Ok((net.addr(), net.prefix_len()))
}

/// The texts are Docker's.
fn parse_cidr6(text: &str) -> Result<Ipv6Net, String> {
    let wrong = |why: String| format!("invalid fixed-cidr-v6: {why}");
    let net: Ipv6Net = text.parse().map_err(|_| wrong(format!("'{text}' is not a valid IPv6 subnet")))?;
    let of_links = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 64);
    if net.addr().is_multicast() {
        return Err(wrong(format!("multicast subnet '{net}' is not allowed")));
    }
    if net.trunc() != of_links && (net.contains(&of_links) || of_links.contains(&net)) {
        return Err(wrong(format!("'{net}' clashes with the Link-Local prefix 'fe80::/64'")));
    }
    Ok(net.trunc())
}

/// An address of one family.
fn family_address<A>(
    v: &Values,
    name: &str,
    family: impl Fn(IpAddr) -> Option<A>,
) -> Result<Option<A>, String> {
    let Some(address) = one(v, name)? else { return Ok(None) };
    family(address).map(Some).ok_or_else(|| format!("invalid {name} {address}: of the wrong family"))
}

/// `default-network-opts`, by driver.
pub fn network_options(v: &Values) -> BTreeMap<String, BTreeMap<String, String>> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let options = |value: &Value| {
        let members = value.as_object().into_iter().flatten();
        members.map(|(key, value)| (key.clone(), text(value))).collect()
    };
    v.map("default-network-opts").iter().map(|(driver, o)| (driver.clone(), options(o))).collect()
}

fn parse_cidr(name: &str, text: &str) -> Result<Ipv4Net, String> {
    let net: Ipv4Net = text.parse().map_err(|_| format!("invalid {name} {text:?}: want SUBNET/PREFIX"))?;
    Ok(net.trunc())
}

/// An address.
///
/// # Errors
/// When it is none.
pub fn one(v: &Values, name: &str) -> Result<Option<IpAddr>, String> {
    v.text(name).map(|text| text.parse().map_err(|_| format!("failed to parse IP: {text:?}"))).transpose()
}

/// `default-address-pools`.
///
/// # Errors
/// When one is no subnet, or cannot be cut into parts of its size.
pub fn pools(v: &Values) -> Result<Vec<AddressPool>, String> {
    let Some(pools) = v.get("default-address-pools").and_then(Value::as_array) else { return Ok(Vec::new()) };
    pools
        .iter()
        .map(|pool| {
            let base = pool["base"].as_str().unwrap_or_default();
            let net: IpNet = base
                .parse()
                .map_err(|_| format!("default-address-pools: invalid base {base:?}: want a subnet"))?;
            let size = pool["size"].as_u64().and_then(|n| u8::try_from(n).ok()).unwrap_or(0);
            // Smaller ones have no room for a bridge and a container.
            let most = net.max_prefix_len() - 2;
            if size < net.prefix_len() || size > most {
                return Err(format!(
                    "default-address-pools: invalid size {size} for {base}: want {} to {most}",
                    net.prefix_len()
                ));
            }
            Ok(AddressPool { base: net.trunc(), size })
        })
        .collect()
}
