//! How an engine is configured. Reading files and flags is the daemon's business; this is the result.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ferry_types::net::Protocol;

/// Settings of one engine. Two engines on a host must differ in every path, in `bridge` and in `bip`.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Images, containers, volumes: what survives a reboot.
    pub data_root: PathBuf,
    /// Sockets and bundles of running containers: what a reboot may clear.
    pub exec_root: PathBuf,
    /// Interface name of the default bridge. When absent: `docker0`, as scripts expect, or `ferry0` on a host where
    /// somebody else has a `docker0`.
    pub bridge: Option<String>,
    /// Address and prefix length of the default bridge; chosen free of conflicts when absent.
    pub bip: Option<(Ipv4Addr, u8)>,
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
    /// The `ferry-shim` executable.
    pub shim_path: PathBuf,
    /// Shims kept ready for the next start.
    pub warm_shims: usize,
    /// Network namespaces kept ready for the next start.
    pub warm_sandboxes: usize,
    /// Registries reached without TLS, besides loopback addresses.
    pub insecure_registries: Vec<String>,
    /// Mirrors asked before Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// Proxies for registries.
    pub proxy: ferry_registry_client::ProxyOptions,
    /// cgroup all containers' groups are made in, unless `--cgroup-parent` says otherwise.
    pub cgroup_parent: String,
    /// The log driver of containers that name none.
    pub log_driver: String,
    /// Its options.
    pub log_opts: std::collections::BTreeMap<String, String>,
    /// Directories with descriptions of CDI devices; later ones win. Empty: no such devices.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// How containers get their ipc namespace unless they say otherwise: `private` or `shareable`.
    pub default_ipc_mode: String,
    /// Whether containers get an init unless they say otherwise (`--init`).
    pub init: bool,
    /// The program to use as such, in place of ferry's own.
    pub init_path: Option<PathBuf>,
    /// Labels shown by `info`.
    pub labels: Vec<String>,
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
