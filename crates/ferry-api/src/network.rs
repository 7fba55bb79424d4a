//! Networks and endpoints. Addresses are text; empty means none.

use serde::{Deserialize, Serialize};

use crate::json::{Empty, List, Map, Time, is_empty_list, is_empty_map, is_zero};

/// Published ports by `port/protocol`; null where a port is exposed only.
pub type PortMap = Map<List<PortBinding>>;

/// Where a port is published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PortBinding {
    /// Empty for every address.
    pub host_ip: String,
    /// A port, a range `from-to`, or empty for any free one.
    pub host_port: String,
}

/// Endpoints to make with a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkingConfig {
    /// By network name or id; null for the defaults.
    pub endpoints_config: Map<Option<EndpointSettings>>,
}

/// One endpoint: what was asked and, once it exists, what it got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct EndpointSettings {
    /// Addresses asked for.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpam>,
    /// Legacy links, `name:alias`.
    pub links: List<String>,
    /// Further names in the network's DNS.
    pub aliases: List<String>,
    /// For the network's driver.
    pub driver_opts: Map<String>,
    /// The endpoint of the highest priority gives the default gateway.
    pub gw_priority: i64,
    /// Full id of the network.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// Full id, empty when the container does not run.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// IPv4.
    pub gateway: String,
    /// IPv4.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Asked for or given.
    pub mac_address: String,
    /// Of the IPv4 address.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// IPv6.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// IPv6.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Of the IPv6 address.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// Every name the network's DNS answers for.
    #[serde(rename = "DNSNames")]
    pub dns_names: List<String>,
}

/// Addresses asked for an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointIpam {
    /// Fixed IPv4 address.
    #[serde(rename = "IPv4Address", skip_serializing_if = "is_zero")]
    pub ipv4_address: String,
    /// Fixed IPv6 address.
    #[serde(rename = "IPv6Address", skip_serializing_if = "is_zero")]
    pub ipv6_address: String,
    /// Further link-local addresses.
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "is_empty_list")]
    pub link_local_ips: List<String>,
}

/// `NetworkSettings` of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkSettings {
    /// Of the network namespace; empty when not running.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// Path of the network namespace.
    pub sandbox_key: String,
    /// Exposed and published ports.
    pub ports: PortMap,
    /// The default bridge's endpoint in the members Docker had before API 1.52, which scripts
    /// (`.NetworkSettings.IPAddress`) go on reading; see [`crate::convert`].
    #[serde(flatten, skip_deserializing)]
    pub legacy: Option<Box<LegacyNetworkSettings>>,
    /// By network name.
    pub networks: Map<EndpointSettings>,
}

/// Members of [`NetworkSettings`] that API 1.52 dropped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct LegacyNetworkSettings {
    /// Always empty.
    pub bridge: String,
    /// Always false.
    pub hairpin_mode: bool,
    /// Always empty.
    #[serde(rename = "LinkLocalIPv6Address")]
    pub link_local_ipv6_address: String,
    /// Always 0.
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    pub link_local_ipv6_prefix_len: u8,
    /// Always null.
    #[serde(rename = "SecondaryIPAddresses")]
    pub secondary_ip_addresses: List<Empty>,
    /// Always null.
    #[serde(rename = "SecondaryIPv6Addresses")]
    pub secondary_ipv6_addresses: List<Empty>,
    /// Of the default bridge, like all below.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// IPv4.
    pub gateway: String,
    /// IPv6.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Of the IPv6 address.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// IPv4.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Of the IPv4 address.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// IPv6.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// Of the endpoint.
    pub mac_address: String,
}

/// A network, as listed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Network {
    /// Unique per daemon.
    pub name: String,
    /// Full id.
    pub id: String,
    /// When it was created.
    pub created: Time,
    /// `local`, `global` or `swarm`.
    pub scope: String,
    /// `bridge`, `host`, `null`, …
    pub driver: String,
    /// Whether IPv4 is on.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    /// Whether IPv6 is on.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Address ranges.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// No way out.
    pub internal: bool,
    /// Plain containers may join a swarm network.
    pub attachable: bool,
    /// The swarm's routing mesh.
    pub ingress: bool,
    /// The configuration it was made from.
    pub config_from: ConfigReference,
    /// It is only a configuration.
    pub config_only: bool,
    /// For the driver.
    pub options: Map<String>,
    /// User metadata.
    pub labels: Map<String>,
    /// Overlay peers.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub peers: List<PeerInfo>,
}

/// `GET /networks/{id}`: the members of [`Network`] and who is on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", remote = "Self")]
pub struct NetworkInspect {
    /// As listed.
    #[serde(flatten, skip_deserializing)]
    pub network: Network,
    /// Endpoints by container id.
    pub containers: Map<EndpointResource>,
    /// Swarm services, when asked for.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub services: Map<ServiceInfo>,
    /// Use of its subnets (since API 1.52).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<NetworkStatus>,
}
/// The members in Docker's order: some of [`Network`]'s stand behind the containers.
impl Serialize for NetworkInspect {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Ordered<'a> {
            name: &'a str,
            id: &'a str,
            created: &'a Time,
            scope: &'a str,
            driver: &'a str,
            #[serde(rename = "EnableIPv4")]
            enable_ipv4: bool,
            #[serde(rename = "EnableIPv6")]
            enable_ipv6: bool,
            #[serde(rename = "IPAM")]
            ipam: &'a Ipam,
            internal: bool,
            attachable: bool,
            ingress: bool,
            config_from: &'a ConfigReference,
            config_only: bool,
            containers: &'a Map<EndpointResource>,
            options: &'a Map<String>,
            labels: &'a Map<String>,
            #[serde(skip_serializing_if = "is_empty_list")]
            peers: &'a List<PeerInfo>,
            #[serde(skip_serializing_if = "is_empty_map")]
            services: &'a Map<ServiceInfo>,
            #[serde(skip_serializing_if = "Option::is_none")]
            status: &'a Option<NetworkStatus>,
        }
        let Network { name, id, created, scope, driver, ipam, options, labels, peers, .. } = &self.network;
        let ordered = Ordered {
            name,
            id,
            created,
            scope,
            driver,
            enable_ipv4: self.network.enable_ipv4,
            enable_ipv6: self.network.enable_ipv6,
            ipam,
            internal: self.network.internal,
            attachable: self.network.attachable,
            ingress: self.network.ingress,
            config_from: &self.network.config_from,
            config_only: self.network.config_only,
            containers: &self.containers,
            options,
            labels,
            peers,
            services: &self.services,
            status: &self.status,
        };
        ordered.serialize(s)
    }
}

impl<'de> Deserialize<'de> for NetworkInspect {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let node = crate::json::Node::deserialize(d)?;
        let mut inspect = NetworkInspect::deserialize(&node).map_err(D::Error::custom)?;
        inspect.network = Deserialize::deserialize(&node).map_err(D::Error::custom)?;
        Ok(inspect)
    }
}

/// Name of a configuration-only network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ConfigReference {
    /// Its name.
    pub network: String,
}

/// Address management of a network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Ipam {
    /// `default`.
    pub driver: String,
    /// For the driver.
    pub options: Map<String>,
    /// Subnets.
    pub config: List<IpamConfig>,
}

/// One subnet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IpamConfig {
    /// `address/bits`.
    #[serde(skip_serializing_if = "is_zero")]
    pub subnet: String,
    /// Where addresses are taken from, `address/bits`.
    #[serde(rename = "IPRange", skip_serializing_if = "is_zero")]
    pub ip_range: String,
    /// The bridge's address.
    #[serde(skip_serializing_if = "is_zero")]
    pub gateway: String,
    /// Addresses never given out, by name.
    #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "is_empty_map")]
    pub auxiliary_addresses: Map<String>,
}

/// An endpoint as its network shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct EndpointResource {
    /// Of the container.
    pub name: String,
    /// Full id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Of the endpoint.
    pub mac_address: String,
    /// `address/bits`.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// `address/bits`.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// A node of an overlay network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PeerInfo {
    /// Node name.
    pub name: String,
    /// Its address.
    #[serde(rename = "IP")]
    pub ip: String,
}

/// A swarm service on a network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceInfo {
    /// Virtual address.
    #[serde(rename = "VIP")]
    pub vip: String,
    /// Its ports.
    pub ports: List<String>,
    /// Of the local load balancer.
    #[serde(rename = "LocalLBIndex")]
    pub local_lb_index: i64,
    /// Its tasks.
    pub tasks: List<NetworkTask>,
}

/// A task of a [`ServiceInfo`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkTask {
    /// Of the container.
    pub name: String,
    /// Full id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Its address.
    #[serde(rename = "EndpointIP")]
    pub endpoint_ip: String,
    /// Details.
    pub info: Map<String>,
}

/// Use of a network's address space.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkStatus {
    /// Of its subnets.
    #[serde(rename = "IPAM")]
    pub ipam: IpamStatus,
}

/// Use of the subnets, by `address/bits`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IpamStatus {
    /// By subnet.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub subnets: Map<SubnetStatus>,
}

/// Use of one subnet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubnetStatus {
    /// Given out or reserved.
    #[serde(rename = "IPsInUse")]
    pub ips_in_use: u64,
    /// Left for containers.
    #[serde(rename = "DynamicIPsAvailable")]
    pub dynamic_ips_available: u64,
}

/// Body of `POST /networks/create`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkCreateRequest {
    /// Its name.
    pub name: String,
    /// `bridge` when empty.
    pub driver: String,
    /// `local`, `global`, `swarm` or empty.
    pub scope: String,
    /// The driver's default when null.
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// The driver's default when null.
    #[serde(rename = "EnableIPv6", skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// Address ranges.
    #[serde(rename = "IPAM")]
    pub ipam: Option<Ipam>,
    /// No way out.
    pub internal: bool,
    /// Plain containers may join a swarm network.
    pub attachable: bool,
    /// The swarm's routing mesh.
    pub ingress: bool,
    /// Make a configuration only.
    pub config_only: bool,
    /// The configuration to use.
    pub config_from: Option<ConfigReference>,
    /// For the driver.
    pub options: Map<String>,
    /// User metadata.
    pub labels: Map<String>,
    /// Accepted and without meaning since API 1.44, where duplicate names are always refused.
    #[serde(skip_serializing_if = "is_zero")]
    pub check_duplicate: bool,
}

/// Answer of `POST /networks/create`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkCreateResponse {
    /// Full id.
    pub id: String,
    /// For people.
    pub warning: String,
}

/// Body of `POST /networks/{id}/connect`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkConnectRequest {
    /// Name or id.
    pub container: String,
    /// What to ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_config: Option<EndpointSettings>,
}

/// Body of `POST /networks/{id}/disconnect`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkDisconnectRequest {
    /// Name or id.
    pub container: String,
    /// Even when the container is gone.
    pub force: bool,
}

/// Answer of `POST /networks/prune`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkPruneResponse {
    /// Names, null when none.
    pub networks_deleted: List<String>,
}
