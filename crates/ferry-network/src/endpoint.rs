//! A container's membership in a network: what is asked, what is given, what is recorded.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use ferry_types::net::{Protocol, PublishRequest, PublishedPort};
use ferry_types::{ContainerId, EndpointId};
use serde::{Deserialize, Serialize};

/// What a container about to start needs of a network.
#[derive(Debug, Clone)]
pub struct EndpointRequest {
    /// The container.
    pub container: ContainerId,
    /// The container's name without slash, for error messages.
    pub name: String,
    /// A fixed address (`--ip`); the lowest free one when absent.
    pub ipv4: Option<Ipv4Addr>,
    /// A fixed IPv6 address (`--ip6`) likewise.
    pub ipv6: Option<Ipv6Addr>,
    /// A fixed MAC (`--mac-address`); `02:42:` and the address when absent.
    pub mac: Option<[u8; 6]>,
    /// Ports to publish.
    pub publish: Vec<PublishRequest>,
    /// Of ports that are published on another of the container's networks, those to open here as well, where packets are
    /// routed to it.
    pub open: Vec<PublishRequest>,
    /// Whether the container's way to the outside leads through this network. An internal one has none.
    pub default_route: Ways,
    /// Whether it gets no IPv6 address even if the network has IPv6, because it is switched off in the container.
    pub without_ipv6: bool,
    /// Further addresses, valid only on the link.
    pub link_local: Vec<IpAddr>,
    /// What the interface is to be called inside; the first free `ethN` when absent.
    pub interface: Option<String>,
    /// Sysctls of the interface, `net.ipv4.conf.IFNAME.log_martians=1`.
    pub sysctls: Vec<String>,
}

/// The families of which a container's way to the outside leads through an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ways {
    /// IPv4.
    pub ipv4: bool,
    /// IPv6.
    pub ipv6: bool,
}

/// A network namespace nobody lives in yet. Closing the descriptor before a process has joined frees it.
///
/// Set in it, as Docker does for every container: `net.ipv4.ip_unprivileged_port_start` 0, `net.ipv4.ping_group_range`
/// of all groups, `net.ipv6.conf.eth0.disable_ipv6` 1 on a network without IPv6. With it `accept_ra` is 0: the bridge is
/// the router.
#[derive(Debug)]
pub struct Sandbox {
    /// The namespace, close-on-exec.
    pub netns: OwnedFd,
    /// Inode of the namespace in nsfs: equals that of `/proc/PID/ns/net` of the container.
    pub netns_inode: u64,
}

/// An endpoint in force.
#[derive(Debug)]
pub struct Endpoint {
    /// The namespace for the container to join, or joined: `lo` and the interface are up, addressed and routed.
    pub sandbox: Sandbox,
    /// What to persist and to hand to `release` or `adopt` later.
    pub record: EndpointRecord,
    /// Sockets that reserve the published ports; the container's shim must hold them while the
    /// container runs, and serve what arrives on them.
    pub relays: Vec<RelaySocket>,
    /// Things the user should know, e.g. ports published without a relay.
    pub warnings: Vec<String>,
}

/// A socket that reserves one published port on the host.
#[derive(Debug)]
pub struct RelaySocket {
    /// Tcp: listening. Udp: bound. Close-on-exec, non-blocking.
    pub socket: OwnedFd,
    /// Tcp or udp.
    pub protocol: Protocol,
    /// Where the container listens.
    pub target: SocketAddr,
    /// Where the socket is bound.
    pub host: SocketAddr,
}

/// An endpoint as plain data; together with the bridge's configuration all that is needed to
/// rebuild this crate's state after a restart of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// Of this endpoint.
    pub endpoint: EndpointId,
    /// The container.
    pub container: ContainerId,
    /// Name of the bridge device, or the tag of a network without one ([`crate::ParentConfig::tag`]).
    pub bridge: String,
    /// Inode of the namespace in nsfs.
    pub netns_inode: u64,
    /// Host side of the veth pair; empty on a network without bridge.
    pub host_veth: String,
    /// Its interface index.
    pub host_ifindex: u32,
    /// Address; none on a network without IPv4.
    pub ipv4: Option<Ipv4Addr>,
    /// Length of the subnet's prefix.
    pub prefix: u8,
    /// Default gateway; none when the network leads nowhere.
    pub gateway: Option<Ipv4Addr>,
    /// IPv6 address; none on a network without IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
    /// Length of the IPv6 subnet's prefix.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub prefix6: u8,
    /// Default gateway of IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway6: Option<Ipv6Addr>,
    /// Hardware address of the interface.
    pub mac: [u8; 6],
    /// Name of the interface inside.
    #[serde(default = "first_interface")]
    pub interface: String,
    /// Ports in force, in the order they were asked for, v4 before v6.
    pub published: Vec<PublishedPort>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u8) -> bool {
    *n == 0
}

/// The interface of records from before there could be several.
fn first_interface() -> String {
    crate::sandbox::FIRST_INTERFACE.to_owned()
}

impl EndpointRecord {
    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }

    /// Whether it is on a bridge, and not on a parent interface.
    pub fn is_on_bridge(&self) -> bool {
        !self.host_veth.is_empty()
    }

    /// The MAC as `02:42:ac:11:00:02`.
    pub fn mac_string(&self) -> String {
        let [a, b, c, d, e, f] = self.mac;
        format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// What `adopt` found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdoptReport {
    /// Records taken over.
    pub adopted: usize,
    /// Published ports that were missing in nft and are there again.
    pub republished: usize,
    /// Elements of our maps that belonged to nobody.
    pub stray_ports: usize,
    /// Host veths on our bridge that belonged to nobody.
    pub stray_veths: usize,
    /// Endpoints whose host veth is gone: their container has no network left.
    pub without_veth: Vec<EndpointId>,
    /// Endpoints not taken over because their address is outside the subnet or already another's.
    pub conflicting: Vec<EndpointId>,
}

/// Counters of one interface, as in `/proc/PID/net/dev`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Packets dropped on receipt.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Transmit errors.
    pub tx_errors: u64,
    /// Packets dropped on sending.
    pub tx_dropped: u64,
}

/// Parses `/proc/PID/net/dev` (proc_pid_net(5)) into interface name and counters, `lo` left out.
pub fn interface_counters(net_dev: &str) -> Vec<(String, InterfaceCounters)> {
    net_dev.lines().skip(2).filter_map(parse_line).filter(|(name, _)| name != "lo").collect()
}

fn parse_line(line: &str) -> Option<(String, InterfaceCounters)> {
    let (name, rest) = line.split_once(':')?;
    let n: Vec<u64> = rest.split_ascii_whitespace().map_while(|v| v.parse().ok()).collect();
    if n.len() < 16 {
        return None;
    }
    let counters = InterfaceCounters {
        rx_bytes: n[0],
        rx_packets: n[1],
        rx_errors: n[2],
        rx_dropped: n[3],
        tx_bytes: n[8],
        tx_packets: n[9],
        tx_errors: n[10],
        tx_dropped: n[11],
    };
    Some((name.trim().to_owned(), counters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_and_loopback_is_left_out() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
                    lo:       1       1    0    0    0     0          0         0        1       1    0    0    0     0       0          0\n  \
                    eth0:    1226      11    1    2    0     0          0         0      746       9    3    4    0     0       0          0\n";
        let got = interface_counters(text);
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].0, "eth0");
        assert_eq!(
            got[0].1,
            InterfaceCounters {
                rx_bytes: 1226,
                rx_packets: 11,
                rx_errors: 1,
                rx_dropped: 2,
                tx_bytes: 746,
                tx_packets: 9,
                tx_errors: 3,
                tx_dropped: 4
            }
        );
    }

    #[test]
    fn truncated_lines_are_skipped() {
        assert!(interface_counters("a\nb\neth0: 1 2 3\nnonsense").is_empty());
    }
}
