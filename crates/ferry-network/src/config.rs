//! What the caller decides about the stack and its bridges.

use std::net::IpAddr;

use ferry_types::NetworkId;
use ipnet::{Ipv4Net, Ipv6Net};

/// Settings of one engine's share of the host's network.
#[derive(Debug, Clone)]
pub struct StackConfig {
    /// Name of the nft table (family `inet`) of this engine; two engines on a host need two names.
    pub table_name: String,
    /// Ready-made sandboxes kept per bridge; 0 makes each one on demand.
    pub pool_size: usize,
}

impl Default for StackConfig {
    fn default() -> Self {
        Self { table_name: "ferry".to_owned(), pool_size: 4 }
    }
}

/// How the containers of a bridge and the outside reach each other, for one address family
/// (`com.docker.network.bridge.gateway_mode_ipv4` and `_ipv6`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GatewayMode {
    /// Published ports are mapped to host ports, nothing else is reached; what leaves gets the host's address.
    #[default]
    Nat,
    /// As [`Self::Nat`], and everything is reached by who has a route to the containers.
    NatUnprotected,
    /// No address is rewritten: who has a route to the containers reaches the published ports there.
    Routed,
    /// As an internal network, whose bridge has no address.
    Isolated,
}

/// Settings of one bridge.
#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// Id of the network, stable over restarts.
    pub id: NetworkId,
    /// Name of the network, as in error messages (`bridge`).
    pub network: String,
    /// Name of the bridge device, at most 15 bytes (`docker0`, `ferry0`).
    pub device: String,
    /// The bridge's own address with the subnet's prefix, as `--bip` (`172.17.0.1/16`). When absent: the address an
    /// existing device has, else the first pool of [`BridgeConfig::pools`] that overlaps no host route.
    pub bip: Option<Ipv4Net>,
    /// Part of the subnet addresses are taken from (`--fixed-cidr`); all of it when absent.
    pub ip_range: Option<Ipv4Net>,
    /// IPv6 subnet; [`crate::NetworkError::Unsupported`] for now when set.
    pub ipv6: Option<Ipv6Net>,
    /// Candidates for the subnet, in order.
    pub pools: Vec<Ipv4Net>,
    /// MTU of bridge and endpoints; the kernel's default (1500) when absent.
    pub mtu: Option<u32>,
    /// Whether containers reach each other without published ports (`--icc`).
    pub icc: bool,
    /// Whether traffic to the outside gets the host's address (`--ip-masq`).
    pub masquerade: bool,
    /// Host address of published ports that name none (`--ip`); every address when absent.
    pub default_host_ip: Option<IpAddr>,
    /// How its containers are reached by IPv4.
    pub gateway_mode_ipv4: GatewayMode,
    /// How its containers are reached by IPv6.
    pub gateway_mode_ipv6: GatewayMode,
    /// Whether its containers reach nothing but each other and the host (`--internal`).
    pub internal: bool,
    /// Whether `bip` is taken even if the host has a route into its subnet, because the user named it.
    pub overlapping: bool,
    /// Ready-made sandboxes kept for it, from its first endpoint on; [`StackConfig::pool_size`] when absent.
    pub pool_size: Option<usize>,
}

impl BridgeConfig {
    /// Docker's defaults for a bridge called `device`.
    pub fn new(device: &str) -> Self {
        Self {
            id: NetworkId::random(),
            network: "bridge".to_owned(),
            device: device.to_owned(),
            bip: None,
            ip_range: None,
            ipv6: None,
            pools: default_pools(),
            mtu: None,
            icc: true,
            masquerade: true,
            default_host_ip: None,
            gateway_mode_ipv4: GatewayMode::default(),
            gateway_mode_ipv6: GatewayMode::default(),
            internal: false,
            overlapping: false,
            pool_size: None,
        }
    }
}

/// Docker's local address pools: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in /20 steps.
fn default_pools() -> Vec<Ipv4Net> {
    let wide = (17..=31).filter_map(|n| Ipv4Net::new([172, n, 0, 0].into(), 16).ok());
    let narrow = (0..16).filter_map(|n| Ipv4Net::new([192, 168, n * 16, 0].into(), 20).ok());
    wide.chain(narrow).collect()
}
