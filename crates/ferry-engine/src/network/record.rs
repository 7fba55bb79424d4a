//! A user's network as it is kept: one file per network, replaced by rename.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use ferry_network::BridgeConfig;
use ferry_types::NetworkId;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::options::BridgeOptions;
use crate::error::{EngineError, Result};

/// The layout of the file. Raised when an older engine could not read it.
pub(crate) const FORMAT: u32 = 1;

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
    /// A configuration for other networks only.
    pub config_only: bool,
    /// The configuration it was made from.
    pub config_from: String,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub ipam_options: BTreeMap<String, String>,
    /// The subnet; chosen when the network is made unless given. Configurations may have none.
    pub subnet: Option<Subnet>,
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

/// The addresses of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Subnet {
    pub subnet: Ipv4Net,
    /// The bridge's own address.
    pub gateway: Option<Ipv4Addr>,
    pub range: Option<Ipv4Net>,
    /// Never given out.
    pub reserved: BTreeMap<String, Ipv4Addr>,
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
        let subnet = self.subnet.as_ref();
        let bip = subnet.map(|s| {
            let address = s.gateway.unwrap_or_else(|| first_host(s.range.unwrap_or(s.subnet), s.subnet));
            Ipv4Net::new(address, s.subnet.prefix_len())
        });
        let bip = bip.transpose().map_err(|e| EngineError::System(format!("network {}: {e}", self.name)))?;
        Ok(BridgeConfig {
            id: self.id.clone(),
            network: self.name.clone(),
            bip,
            ip_range: subnet.and_then(|s| s.range),
            mtu: options.mtu,
            icc: options.icc,
            masquerade: options.masquerade,
            default_host_ip: options.host_ip,
            internal: self.internal,
            // What the user named, or what was free when it was chosen.
            overlapping: subnet.is_some(),
            pool_size: Some(1),
            ..BridgeConfig::new(&self.device(&options))
        })
    }

    /// Replaces the file.
    pub fn save(&self, path: &Path) -> Result<()> {
        let fail = |action| move |source| EngineError::File { action, path: path.to_owned(), source };
        let json = serde_json::to_vec(self).map_err(|e| fail("encode")(e.into()))?;
        let temporary = path.with_extension("json.new");
        std::fs::write(&temporary, json).map_err(fail("write"))?;
        std::fs::rename(&temporary, path).map_err(fail("replace"))
    }

    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self> {
        let fail = |source| EngineError::File { action: "read", path: path.to_owned(), source };
        let record: Self =
            serde_json::from_slice(&std::fs::read(path).map_err(fail)?).map_err(|e| fail(e.into()))?;
        if record.format != FORMAT {
            let message = format!("format {} was written by another version of ferry", record.format);
            return Err(fail(std::io::Error::new(std::io::ErrorKind::InvalidData, message)));
        }
        Ok(record)
    }
}

/// The first address of `range` that is not the subnet's own.
fn first_host(range: Ipv4Net, subnet: Ipv4Net) -> Ipv4Addr {
    let first = range.network();
    if first == subnet.network() { Ipv4Addr::from(u32::from(first).saturating_add(1)) } else { first }
}
