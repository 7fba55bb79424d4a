//! A user's network as it is kept: one file per network, replaced by rename.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use ferry_network::{BridgeConfig, GatewayMode, Subnet4, Subnet6};
use ferry_types::NetworkId;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::options::BridgeOptions;
use crate::error::{EngineError, Result};

/// The layout of the file. Raised when an older engine could not read it.
pub(crate) const FORMAT: u32 = 2;
/// What is still written for networks that an engine before IPv6 understands.
const FORMAT_IPV4: u32 = 1;

/// Names of auxiliary addresses that tell the containers' router, when it is not the bridge.
const ROUTER: &str = "DefaultGatewayIPv4";
const ROUTER6: &str = "DefaultGatewayIPv6";

/// One network as its user asked for it, with what was chosen for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NetworkRecord {
    pub format: u32,
    pub id: NetworkId,
    pub name: String,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    pub internal: bool,
    pub attachable: bool,
    /// What its containers' interfaces are.
    #[serde(default)]
    pub driver: Driver,
    /// The parent interface was made for the network, or for one before it.
    #[serde(default)]
    pub made_parent: bool,
    /// The bridge was there before the network, and stays when that goes.
    #[serde(default)]
    pub foreign_bridge: bool,
    /// A configuration for other networks only.
    pub config_only: bool,
    /// The configuration it was made from.
    pub config_from: String,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// None when the request had none at all, which is shown as null.
    #[serde(default)]
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// Whether it has IPv4.
    #[serde(default = "yes")]
    pub ipv4: bool,
    /// Whether it has IPv6.
    #[serde(default)]
    pub ipv6: bool,
    /// The IPv4 subnet; chosen when the network is made unless given. Configurations may have none.
    pub subnet: Option<Subnet>,
    /// The IPv6 subnet likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet6: Option<Subnet>,
    /// Further ones of either family, where the driver takes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<Subnet>,
}

fn yes() -> bool {
    true
}

/// What a network's interfaces are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Driver {
    #[default]
    Bridge,
    Macvlan,
    Ipvlan,
}

impl Driver {
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
        }
    }
}

/// The addresses of one family on a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Subnet {
    pub subnet: IpNet,
    /// The bridge's own address, or the router's.
    pub gateway: Option<IpAddr>,
    pub range: Option<IpNet>,
    /// Never given out.
    pub reserved: BTreeMap<String, IpAddr>,
    /// The user named the subnet, which containers with fixed addresses require.
    pub by_user: bool,
    /// The user named the gateway.
    pub gateway_by_user: bool,
}

impl NetworkRecord {
    /// What to call its device in a message.
    pub fn device_noun(&self) -> &'static str {
        match self.driver {
            Driver::Bridge => "bridge",
            Driver::Macvlan | Driver::Ipvlan => "parent interface",
        }
    }

    /// Name of the bridge device.
    pub fn device(&self, options: &BridgeOptions) -> String {
        options.device.clone().unwrap_or_else(|| format!("br-{}", &self.id.as_str()[..12]))
    }

    /// How its bridge is opened.
    pub fn bridge(&self) -> Result<BridgeConfig> {
        let options = BridgeOptions::parse(&self.options)?;
        let isolated = |mode| mode == GatewayMode::Isolated;
        let ipv4 = self.addresses4().next().map(|s| Subnet4 {
            bridge: s.gateway.filter(|_| !isolated(options.mode_ipv4) && !options.inhibit_ipv4),
            gateway: self.router(ROUTER).and_then(v4).or(s.gateway),
            ..s
        });
        let ipv6 = self.addresses6().next().map(|s| Subnet6 {
            bridge: s.gateway.filter(|_| !isolated(options.mode_ipv6)),
            gateway: self.router(ROUTER6).and_then(v6).or(s.gateway),
            ..s
        });
        Ok(BridgeConfig {
            id: self.id.clone(),
            network: self.name.clone(),
            ipv4,
            ipv6,
            gateway_mode_ipv4: options.mode_ipv4,
            gateway_mode_ipv6: options.mode_ipv6,
            mtu: options.mtu,
            icc: options.icc,
            masquerade: options.masquerade,
            source_ipv4: options.source_ipv4,
            source_ipv6: options.source_ipv6,
            trusted_interfaces: options.trusted.clone(),
            announcements: options.announcements,
            default_host_ip: options.host_ip,
            interface_prefix: options.interface_prefix.clone().unwrap_or_else(|| "eth".to_owned()),
            internal: self.internal,
            // What the user named, or what was free when it was chosen.
            overlapping: true,
            // There may be hundreds of networks: they share spare ones.
            pool_size: Some(0),
            ..BridgeConfig::new(&self.device(&options))
        })
    }

    fn router(&self, name: &str) -> Option<IpAddr> {
        let subnets = [&self.subnet, &self.subnet6];
        subnets.into_iter().flatten().find_map(|s| s.reserved.get(name)).copied()
    }

    /// All subnets, whether their family is in use or not.
    pub fn all_subnets(&self) -> impl Iterator<Item = &Subnet> {
        self.subnet.iter().chain(&self.subnet6).chain(&self.further)
    }

    /// Those in force.
    pub fn subnets(&self) -> impl Iterator<Item = &Subnet> {
        let used = |s: &&Subnet| if s.subnet.addr().is_ipv6() { self.ipv6 } else { self.ipv4 };
        self.all_subnets().filter(used)
    }

    /// The IPv4 addresses in force, the bridge's own left out.
    pub fn addresses4(&self) -> impl Iterator<Item = Subnet4> {
        let net = |net| if let IpNet::V4(net) = net { Some(net) } else { None };
        self.subnets().filter_map(move |s| {
            let gateway = s.gateway.and_then(v4);
            Some(Subnet4 { net: net(s.subnet)?, range: s.range.and_then(net), bridge: None, gateway })
        })
    }

    /// The IPv6 addresses in force likewise.
    pub fn addresses6(&self) -> impl Iterator<Item = Subnet6> {
        let net = |net| if let IpNet::V6(net) = net { Some(net) } else { None };
        self.subnets().filter_map(move |s| {
            let gateway = s.gateway.and_then(v6);
            Some(Subnet6 { net: net(s.subnet)?, range: s.range.and_then(net), bridge: None, gateway })
        })
    }

    /// The subnets in force, as such.
    pub fn nets(&self) -> impl Iterator<Item = IpNet> {
        self.subnets().map(|s| s.subnet)
    }

    /// Replaces the file.
    pub fn save(&self, path: &Path) -> Result<()> {
        let fail = |action| move |source| EngineError::File { action, path: path.to_owned(), source };
        let plain = self.ipv4 && !self.ipv6 && self.subnet6.is_none() && self.further.is_empty();
        let record = Self { format: if plain { FORMAT_IPV4 } else { FORMAT }, ..self.clone() };
        let json = serde_json::to_vec(&record).map_err(|e| fail("encode")(e.into()))?;
        let temporary = path.with_extension("json.new");
        std::fs::write(&temporary, json).map_err(fail("write"))?;
        std::fs::rename(&temporary, path).map_err(fail("replace"))
    }

    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self> {
        let fail = |source| EngineError::File { action: "read", path: path.to_owned(), source };
        let record: Self =
            serde_json::from_slice(&std::fs::read(path).map_err(fail)?).map_err(|e| fail(e.into()))?;
        if !(FORMAT_IPV4..=FORMAT).contains(&record.format) {
            let message = format!("format {} was written by another version of ferry", record.format);
            return Err(fail(std::io::Error::new(std::io::ErrorKind::InvalidData, message)));
        }
        Ok(record)
    }
}

fn v4(address: IpAddr) -> Option<std::net::Ipv4Addr> {
    if let IpAddr::V4(v4) = address { Some(v4) } else { None }
}

fn v6(address: IpAddr) -> Option<std::net::Ipv6Addr> {
    if let IpAddr::V6(v6) = address { Some(v6) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_from_before_ipv6_are_read() {
        let text = r#"{"format":1,"id":"ID","name":"n","created_at":1,"internal":false,"attachable":false,
            "config_only":false,"config_from":"","options":{},"labels":{},"ipam_options":{},
            "subnet":{"subnet":"10.7.0.0/16","gateway":"10.7.0.1","range":null,"reserved":{"a":"10.7.0.9"},
            "by_user":true,"gateway_by_user":false}}"#;
        let id = NetworkId::random();
        let record: NetworkRecord = serde_json::from_str(&text.replace("ID", id.as_str())).unwrap();
        assert!(record.ipv4 && !record.ipv6);
        let bridge = record.bridge().unwrap();
        assert_eq!(bridge.ipv4, Some(Subnet4::at("10.7.0.1/16".parse().unwrap())));
        assert_eq!(bridge.ipv6, None);
        let directory = std::env::temp_dir().join(format!("ferry-record-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("n.json");
        record.save(&path).unwrap();
        // An engine from then still reads it.
        assert!(std::fs::read_to_string(&path).unwrap().starts_with(r#"{"format":1,"#));
        let both = NetworkRecord { ipv6: true, ..record };
        both.save(&path).unwrap();
        assert_eq!(NetworkRecord::load(&path).unwrap().format, FORMAT);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
