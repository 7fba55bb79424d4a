//! What the caller decides about the stack and its bridges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ferry_types::NetworkId;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Settings of one engine's share of the host's network.
#[derive(Debug, Clone)]
pub struct StackConfig {
    /// Name of the nft table (family `inet`) of this engine; two engines on a host need two names.
    pub table_name: String,
    /// Ready-made sandboxes kept per bridge; 0 makes each one on demand.
    pub pool_size: usize,
    /// Ready-made sandboxes kept for all bridges that have none of their own, for each kind: with IPv6, without.
    pub spare: usize,
    /// How packets are filtered and ports published.
    pub firewall: FirewallConfig,
}

impl Default for StackConfig {
    fn default() -> Self {
        Self { table_name: "ferry".to_owned(), pool_size: 4, spare: 2, firewall: FirewallConfig::default() }
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

/// The addresses of one family on a network, with the types of that family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet<N, A> {
    /// All of them.
    pub net: N,
    /// Those that containers get unless they ask for others (`--ip-range`, `--fixed-cidr`); all when absent.
    pub range: Option<N>,
    /// The bridge's own; none when it is isolated, or when something else has the gateway's.
    pub bridge: Option<A>,
    /// Where the containers' default route leads, mostly to the bridge.
    pub gateway: Option<A>,
}

/// The IPv4 addresses of a network.
pub type Subnet4 = Subnet<Ipv4Net, Ipv4Addr>;
/// The IPv6 addresses of a network.
pub type Subnet6 = Subnet<Ipv6Net, Ipv6Addr>;

impl Subnet4 {
    /// The subnet of a bridge with this address.
    pub fn at(bridge: Ipv4Net) -> Self {
        let address = Some(bridge.addr());
        Self { net: bridge.trunc(), range: None, bridge: address, gateway: address }
    }
}

impl Subnet6 {
    /// The subnet of a bridge with this address.
    pub fn at(bridge: Ipv6Net) -> Self {
        let address = Some(bridge.addr());
        Self { net: bridge.trunc(), range: None, bridge: address, gateway: address }
    }
}

impl<N: Copy + Into<IpNet>, A: Copy + Into<IpAddr>> Subnet<N, A> {
    /// The same as values that may be of either family.
    pub fn either(&self) -> Subnet<IpNet, IpAddr> {
        Subnet {
            net: self.net.into(),
            range: self.range.map(Into::into),
            bridge: self.bridge.map(Into::into),
            gateway: self.gateway.map(Into::into),
        }
    }
}

impl Subnet<IpNet, IpAddr> {
    /// The bridge's address with the prefix length.
    pub(crate) fn bridge_address(&self) -> Option<IpNet> {
        IpNet::new(self.bridge?, self.net.prefix_len()).ok()
    }
}

/// The lowest address that a machine may have in a subnet, or in a range of it: the gateway's unless its user says
/// otherwise. None when nothing fits in.
pub fn first_host(subnet: IpNet, range: Option<IpNet>) -> Option<IpAddr> {
    crate::ipam::first_host(subnet, range)
}

/// What an engine does to the host's packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallConfig {
    /// What its rules are made of.
    pub backend: FirewallBackend,
    /// What others may do to the table.
    pub table: TableProtection,
    /// Whether there are rules for IPv4 (`--iptables`).
    pub ipv4: bool,
    /// Whether there are rules for IPv6 (`--ip6tables`).
    pub ipv6: bool,
    /// Whether the host's own rules for what it receives apply to published ports: what comes from outside is relayed.
    pub host_firewall: bool,
    /// Whether supervisors relay what the kernel does not forward (`--userland-proxy`).
    pub relays: bool,
    /// Whether everybody reaches published ports at containers' own addresses (`--allow-direct-routing`).
    pub direct_routing: bool,
    /// Whether the kernel is told to forward packets (`--ip-forward`).
    pub ip_forward: bool,
}

impl Default for FirewallConfig {
    fn default() -> Self {
        Self {
            backend: FirewallBackend::Automatic,
            table: TableProtection::Owned,
            ipv4: true,
            ipv6: true,
            host_firewall: false,
            relays: true,
            direct_routing: false,
            ip_forward: true,
        }
    }
}

/// What keeps others from changing an engine's nft table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableProtection {
    /// It belongs to the engine's socket, and to the next engine's. Where the kernel has no such tables: [`Self::Held`].
    Owned,
    /// Nothing, but a second table, which goes with the engine, keeps the kernel from forgetting connections in the moment
    /// until the first is back.
    Held,
    /// Nothing.
    None,
}

/// What rules are made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FirewallBackend {
    /// nf_tables where the kernel has it, iptables elsewhere.
    #[default]
    Automatic,
    /// nf_tables, by netlink.
    Nftables,
    /// The programs of iptables.
    Iptables {
        /// What the names of the programs for IPv4 begin with: `iptables`.
        ipv4: String,
        /// Likewise for IPv6: `ip6tables`.
        ipv6: String,
    },
}

/// Who, beside the bridge itself, reaches published ports at the containers' own addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectRouting {
    /// Who has a route to them.
    Everybody,
    /// What comes in by these interfaces; nobody when there are none.
    Interfaces(Vec<String>),
}

impl Default for DirectRouting {
    fn default() -> Self {
        Self::Interfaces(Vec::new())
    }
}

/// How a network's neighbours are told of a container's addresses: by gratuitous ARP (RFC 5227 section 3) and unsolicited
/// neighbour advertisements (RFC 4861 section 7.2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcements {
    /// How often; with 0 they find out by themselves.
    pub times: u8,
    /// Between two of them.
    pub interval: Duration,
}

/// What names of interfaces inside begin with unless asked otherwise.
pub(crate) const INTERFACE_PREFIX: &str = "eth";

/// Settings of one bridge.
#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// Id of the network, stable over restarts.
    pub id: NetworkId,
    /// Name of the network, as in error messages (`bridge`).
    pub network: String,
    /// Name of the bridge device, at most 15 bytes (`docker0`, `ferry0`).
    pub device: String,
    /// Its IPv4 addresses; none when it has only IPv6.
    pub ipv4: Option<Subnet4>,
    /// Its IPv6 addresses; none when it has only IPv4.
    pub ipv6: Option<Subnet6>,
    /// MTU of bridge and endpoints; the kernel's default (1500) when absent.
    pub mtu: Option<u32>,
    /// Whether containers reach each other without published ports (`--icc`).
    pub icc: bool,
    /// Whether traffic to the outside gets the host's address (`--ip-masq`).
    pub masquerade: bool,
    /// The host's IPv4 address that it gets; that of the interface it leaves by when absent.
    pub source_ipv4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub source_ipv6: Option<Ipv6Addr>,
    /// Host address of published ports that name none (`--ip`); every address when absent.
    pub default_host_ip: Option<IpAddr>,
    /// How its containers are reached by IPv4.
    pub gateway_mode_ipv4: GatewayMode,
    /// How its containers are reached by IPv6.
    pub gateway_mode_ipv6: GatewayMode,
    /// Whether the kernel is told to forward packets; what the stack's firewall says counts.
    pub ip_forward: bool,
    /// Interfaces whose packets reach published ports at containers' own addresses.
    pub trusted_interfaces: Vec<String>,
    /// Whether its containers reach nothing but each other and the host (`--internal`).
    pub internal: bool,
    /// What the names of interfaces inside begin with: `eth`.
    pub interface_prefix: String,
    /// How neighbours are told of the containers' addresses. When absent: once, and not where whoever had the address before
    /// had the same hardware address.
    pub announcements: Option<Announcements>,
    /// Whether the subnets are taken even if the host has a route into them, because the user named them.
    pub overlapping: bool,
    /// Ready-made sandboxes kept for it, from its first endpoint on; [`StackConfig::pool_size`] when absent. With 0 it uses
    /// those of [`StackConfig::spare`].
    pub pool_size: Option<usize>,
}

impl BridgeConfig {
    /// Docker's defaults for a bridge called `device`, which has no addresses yet.
    pub fn new(device: &str) -> Self {
        Self {
            id: NetworkId::random(),
            network: "bridge".to_owned(),
            device: device.to_owned(),
            ipv4: None,
            ipv6: None,
            mtu: None,
            icc: true,
            masquerade: true,
            source_ipv4: None,
            source_ipv6: None,
            default_host_ip: None,
            gateway_mode_ipv4: GatewayMode::default(),
            gateway_mode_ipv6: GatewayMode::default(),
            ip_forward: true,
            trusted_interfaces: Vec::new(),
            internal: false,
            interface_prefix: INTERFACE_PREFIX.to_owned(),
            announcements: None,
            overlapping: false,
            pool_size: None,
        }
    }

    /// The subnets of both families, IPv4 first.
    pub(crate) fn families(&self) -> impl Iterator<Item = Subnet<IpNet, IpAddr>> {
        let (v4, v6) = (self.ipv4.map(|s| s.either()), self.ipv6.map(|s| s.either()));
        v4.into_iter().chain(v6)
    }
}
