//! Why a network operation failed. Texts people grep for are Docker's.

use std::io;
use std::net::IpAddr;

use ferry_types::{Classify, EndpointId, ErrorKind};
use ipnet::IpNet;

use crate::ports::MAX_RELAYS;

/// Why a network operation failed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Something is asked for that this crate does not do.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// The configuration contradicts itself.
    #[error("invalid network configuration for {bridge}: {reason}")]
    InvalidConfig {
        /// Bridge device.
        bridge: String,
        /// What is wrong.
        reason: String,
    },
    /// A device of the bridge's name exists and is something else.
    #[error("existing interface {device} is not a bridge")]
    NotABridge {
        /// Device.
        device: String,
    },
    /// The subnet is in use on the host.
    #[error(
        "cannot create network {network} ({device}): {subnet} conflicts with the host's route {route}: networks have overlapping {}",
        family(subnet)
    )]
    SubnetOverlaps {
        /// Network.
        network: String,
        /// Device.
        device: String,
        /// What was asked for.
        subnet: IpNet,
        /// What it collides with.
        route: IpNet,
    },
    /// Every subnet of the pools is in use.
    #[error("all predefined address pools have been fully subnetted")]
    PoolsExhausted,
    /// The subnet has no free address left.
    #[error(
        "no available {} addresses on this network's address pools: {network} ({id})",
        if *ipv6 { "IPv6" } else { "IPv4" }
    )]
    AddressesExhausted {
        /// Of which family.
        ipv6: bool,
        /// Network name.
        network: String,
        /// Network id.
        id: String,
    },
    /// The fixed address is taken, is the gateway's, or is the subnet's network or broadcast address.
    #[error("Address already in use")]
    AddressInUse(IpAddr),
    /// The fixed address lies outside the subnet.
    #[error("no configured subnet contains IP address {address}")]
    AddressOutside {
        /// The address.
        address: IpAddr,
    },
    /// The kernel has no driver for a kind of link.
    #[error("failed to create the {0} port: operation not supported: this kernel has no {0} driver")]
    NoDriver(&'static str),
    /// The parent interface of a network is not to be had.
    #[error("{0}")]
    Parent(String),
    /// No interface could be made on a parent.
    #[error("failed to create the {kind} port: {reason}")]
    ParentPort {
        /// `macvlan` or `ipvlan`.
        kind: &'static str,
        /// The kernel's answer.
        reason: String,
        /// errno(3), 0 when there is none.
        errno: i32,
    },
    /// An interface cannot have the name asked for.
    #[error("failed to add interface to sandbox: error renaming interface to \"{name}\": {}", lower(source))]
    Interface {
        /// The name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// An interface cannot have the hardware address asked for: another one on the parent has it.
    #[error(
        "failed to add interface to sandbox: error setting interface MAC to \"{0}\": address already in use"
    )]
    MacInUse(String),
    /// A sysctl of an interface cannot be set.
    #[error("failed to add interface to sandbox: {reason}")]
    Sysctl {
        /// Which, and why.
        reason: String,
    },
    /// Publishing failed; nothing is left of the endpoint.
    #[error("driver failed programming external connectivity on endpoint {name} ({endpoint}): {cause}")]
    ExternalConnectivity {
        /// The container's name.
        name: String,
        /// The endpoint.
        endpoint: EndpointId,
        /// Why.
        cause: PortError,
    },
    /// A kernel interface failed.
    #[error("{action} {object}: {source}")]
    Kernel {
        /// What was being done, e.g. `create bridge`.
        action: &'static str,
        /// To what.
        object: String,
        /// The kernel's answer, with its extended message when it gave one.
        source: io::Error,
    },
}

fn family(net: &IpNet) -> &'static str {
    match net {
        IpNet::V4(_) => "IPv4",
        IpNet::V6(_) => "IPv6",
    }
}

/// Why a port could not be published.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Another container of ours has it.
    #[error("Bind for {} failed: port is already allocated", std::net::SocketAddr::new(*host_ip, *port))]
    AlreadyAllocated {
        /// Host address.
        host_ip: IpAddr,
        /// Host port.
        port: u16,
    },
    /// The host refuses it, mostly because one of its processes has it.
    #[error("failed to bind host port for {}:{container_ip}:{container_port}/{protocol}: {}", std::net::SocketAddr::new(*host_ip, *port), lower(source))]
    Bind {
        /// Host address.
        host_ip: IpAddr,
        /// Host port.
        port: u16,
        /// The container's address.
        container_ip: IpAddr,
        /// Port inside the container.
        container_port: u16,
        /// Protocol.
        protocol: ferry_types::net::Protocol,
        /// Why.
        source: io::Error,
    },
    /// No port of the range, or of the ephemeral range, is free.
    #[error("all ports are allocated")]
    Exhausted,
    /// Only a relay could serve it, and none is to be had: for sctp, or for too many ports.
    #[error("cannot publish {}/{protocol}: it would need a relay, which there is for tcp and udp and for {MAX_RELAYS} ports of a container", std::net::SocketAddr::new(*host_ip, *port))]
    NoRelay {
        /// Host address.
        host_ip: IpAddr,
        /// Host port.
        port: u16,
        /// Protocol.
        protocol: ferry_types::net::Protocol,
    },
    /// The nft transaction failed.
    #[error("program published ports: {0}")]
    Rules(io::Error),
}

/// strerror(3) in lower case as Go prints it, without Rust's `(os error N)`.
fn lower(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

impl Classify for NetworkError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsupported(_) => ErrorKind::NotImplemented,
            Self::InvalidConfig { .. } | Self::AddressOutside { .. } => ErrorKind::InvalidParameter,
            Self::NotABridge { .. } | Self::SubnetOverlaps { .. } => ErrorKind::Forbidden,
            Self::AddressInUse(_) => ErrorKind::Forbidden,
            Self::PoolsExhausted | Self::AddressesExhausted { .. } => ErrorKind::System,
            Self::NoDriver(_) => ErrorKind::NotImplemented,
            Self::Parent(_)
            | Self::ParentPort { .. }
            | Self::Interface { .. }
            | Self::MacInUse(_)
            | Self::Sysctl { .. } => ErrorKind::System,
            Self::ExternalConnectivity { .. } | Self::Kernel { .. } => ErrorKind::System,
        }
    }
}

/// Everything that went wrong while an endpoint was released; the rest of it is gone.
#[derive(Debug, thiserror::Error)]
#[error("release endpoint {endpoint}: {}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct ReleaseError {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// In the order they happened, never empty.
    pub errors: Vec<NetworkError>,
}

impl Classify for ReleaseError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::System
    }
}
