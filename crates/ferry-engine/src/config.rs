//! How an engine is configured. Reading files and flags is the daemon's business; this is the result.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ferry_api::container::Ulimit;
use ferry_network::AddressPool;
pub use ferry_network::{FirewallBackend, FirewallConfig};
use ferry_types::net::Protocol;
use ipnet::{Ipv4Net, Ipv6Net};

/// The bridge of containers that name no network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DefaultBridge {
    /// `docker0`, or the first free name of ferry's own.
    #[default]
    Automatic,
    /// The same, but a `docker0` that is there already is taken, whoever made it.
    Docker0,
    /// The interface of this name, made when it is not there.
    Named(String),
    /// There is none (`--bridge none`): such containers have a loopback interface only.
    None,
}

/// Settings of one engine. Two engines on a host must differ in every path, in `bridge` and in `bip`.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Images, containers, volumes: what survives a reboot.
    pub data_root: PathBuf,
    /// Sockets and bundles of running containers: what a reboot may clear.
    pub exec_root: PathBuf,
    /// The default bridge: unless named `docker0`, as scripts expect, or `ferry0` on a host where somebody else has a
    /// `docker0`.
    pub bridge: DefaultBridge,
    /// Address and prefix length of the default bridge; chosen free of conflicts when absent.
    pub bip: Option<(Ipv4Addr, u8)>,
    /// Whether the default bridge has IPv6.
    pub ipv6: bool,
    /// Its IPv6 address and prefix length likewise.
    pub bip6: Option<(Ipv6Addr, u8)>,
    /// Where the default route of containers on the default bridge leads, when not to the bridge.
    pub default_gateway: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub default_gateway_v6: Option<Ipv6Addr>,
    /// MTU of the default bridge and its endpoints.
    pub mtu: Option<u32>,
    /// Whether containers on the default bridge may talk to each other.
    pub icc: bool,
    /// Servers for containers' `/etc/resolv.conf`; the host's when empty.
    pub dns: Vec<String>,
    /// Search domains likewise.
    pub dns_search: Vec<String>,
    /// Resolver options likewise.
    pub dns_opts: Vec<String>,
    /// The program that serves containers' name queries, with its first arguments; the path of its socket is added.
    pub name_server: Vec<PathBuf>,
    /// The `ferry-shim` executable.
    pub shim_path: PathBuf,
    /// Directories in which OCI runtimes are searched for, and their `PATH`.
    pub search_path: String,
    /// Shims kept ready for the next start.
    pub warm_shims: usize,
    /// Network namespaces kept ready for the next start.
    pub warm_sandboxes: usize,
    /// Proxies for registries.
    pub proxy: ferry_registry_client::ProxyOptions,
    /// cgroup all containers' groups are made in, unless `--cgroup-parent` says otherwise.
    pub cgroup_parent: String,
    /// The log driver of containers that name none.
    pub log_driver: String,
    /// Its options.
    pub log_opts: BTreeMap<String, String>,
    /// Bytes that the logs of all containers may take before the oldest rotated ones are removed; no limit when absent.
    pub log_budget: Option<u64>,
    /// Directories with descriptions of CDI devices; later ones win. Empty: no such devices.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// Whether containers get an init unless they say otherwise (`--init`).
    pub init: bool,
    /// The program to use as such, in place of ferry's own.
    pub init_path: Option<PathBuf>,
    /// Part of the default bridge's subnet that addresses are taken from; all of it when absent.
    pub ip_range: Option<Ipv4Net>,
    /// The same of its IPv6 subnet, which it is itself when there is no `bip6`.
    pub ip_range_v6: Option<Ipv6Net>,
    /// Where subnets of networks are chosen from; Docker's when empty. Without one for IPv6 there is one of unique local
    /// addresses, made of the engine's id.
    pub address_pools: Vec<AddressPool>,
    /// Options of networks that do not set them, by driver.
    pub default_network_opts: BTreeMap<String, BTreeMap<String, String>>,
    /// Whether traffic from the default bridge gets the host's address.
    pub masquerade: bool,
    /// Host address of published ports that name none; every address when absent.
    pub default_host_ip: Option<IpAddr>,
    /// How packets are filtered and ports published.
    pub firewall: FirewallConfig,
    /// What `host-gateway` means; the default bridge's address when empty.
    pub host_gateway: Vec<IpAddr>,
    /// Resource limits of containers that do not set them.
    pub default_ulimits: Vec<Ulimit>,
    /// Whether processes of containers get no new privileges unless asked for.
    pub no_new_privileges: bool,
    /// The seccomp profile of containers that name none.
    pub seccomp: DefaultSeccomp,
    /// Whether `info` calls this an experimental build.
    pub experimental: bool,
    /// What is worth a line in `info`'s warnings.
    pub warnings: Vec<String>,
    /// What may change while the engine runs.
    pub live: LiveSettings,
}

/// A seccomp profile for all containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultSeccomp {
    /// ferry's own.
    Builtin,
    /// None.
    Unconfined,
    /// In Docker's format.
    Profile {
        /// Where it was read.
        path: PathBuf,
        /// Its text.
        json: String,
    },
}

/// An OCI runtime's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// As it was registered: a path, or a name to search for.
    pub path: String,
    /// Arguments before all others.
    pub args: Vec<String>,
}

/// Settings that may change while the engine runs, see [`crate::Engine::reload`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSettings {
    /// Whether the daemon logs at debug level.
    pub debug: bool,
    /// Labels shown by `info`.
    pub labels: Vec<String>,
    /// Registries reached without TLS, besides loopback addresses.
    pub insecure_registries: Vec<String>,
    /// Mirrors asked before Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// Layers downloaded at once.
    pub max_concurrent_downloads: usize,
    /// Layers uploaded at once.
    pub max_concurrent_uploads: usize,
    /// Attempts at each download.
    pub max_download_attempts: u32,
    /// Seconds that requests in flight may take when the daemon stops.
    pub shutdown_timeout: i64,
    /// The OCI runtime of containers that name none.
    pub default_runtime: String,
    /// OCI runtimes besides ferry's own.
    pub runtimes: BTreeMap<String, Runtime>,
    /// Bytes of `/dev/shm`.
    pub default_shm_size: i64,
    /// `private` or `shareable`.
    pub default_ipc_mode: String,
    /// `private` or `host`; by the host's control groups when absent.
    pub default_cgroupns_mode: Option<String>,
    /// Switches of Docker's daemon.
    pub features: BTreeMap<String, bool>,
}

impl Default for LiveSettings {
    fn default() -> Self {
        Self {
            debug: false,
            labels: Vec::new(),
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            max_concurrent_downloads: 3,
            max_concurrent_uploads: 5,
            max_download_attempts: 5,
            shutdown_timeout: 15,
            default_runtime: "ferry".to_owned(),
            runtimes: BTreeMap::new(),
            default_shm_size: 64 << 20,
            default_ipc_mode: "private".to_owned(),
            default_cgroupns_mode: None,
            features: BTreeMap::new(),
        }
    }
}

/// Port and protocol as the API writes them, `80/tcp`.
pub(crate) fn parse_port_proto(s: &str) -> Option<(u16, Protocol)> {
    let (port, protocol) = s.split_once('/').unwrap_or((s, "tcp"));
    Some((port.parse().ok()?, protocol.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_default_to_tcp() {
        assert_eq!(parse_port_proto("80"), Some((80, Protocol::Tcp)));
        assert_eq!(parse_port_proto("53/udp"), Some((53, Protocol::Udp)));
        assert_eq!(parse_port_proto("70000/tcp"), None);
        assert_eq!(parse_port_proto("80/icmp"), None);
    }
}
