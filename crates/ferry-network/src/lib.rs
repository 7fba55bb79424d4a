//! Networks of containers: bridges, endpoints, addresses, published ports.
//!
//! Everything goes through rtnetlink and nf_tables sockets of this process; no program is executed but iptables, where the
//! kernel has no nf_tables or the user wants it so.
//! The crate is synchronous: calls take well under a millisecond on the start path and may be made
//! from any thread. What is slow in the kernel (making namespaces, deleting devices) is done by
//! background threads owned by [`NetworkStack`].
//!
//! [`NetworkStack`] owns the firewall and the threads; a [`Network`] is a bridge in it ([`BridgeNetwork`]) or has its
//! endpoints on an interface of the host's ([`ParentNetwork`]).

#![forbid(unsafe_code)]

mod addresses;
mod attach;
mod audit;
mod bridge;
mod config;
mod device;
mod endpoint;
mod error;
mod fault;
mod firewall;
mod host;
mod interface;
mod ipam;
mod links;
mod name_service;
mod network;
mod parent;
mod pools;
mod ports;
mod publishing;
mod sandbox;
mod stack;
#[cfg(test)]
mod tests;
mod worker;

pub use audit::Strays;
pub use bridge::BridgeNetwork;
pub use config::{
    Announcements, BridgeConfig, FirewallBackend, FirewallConfig, GatewayMode, StackConfig, Subnet, Subnet4,
    Subnet6, TableProtection, first_host,
};
pub use endpoint::{
    AdoptReport, Endpoint, EndpointRecord, EndpointRequest, InterfaceCounters, RelaySocket, Sandbox, Ways,
    interface_counters,
};
pub use error::{NetworkError, PortError, ReleaseError};
pub use ferry_sys::netlink::child::{ChildKind, IpvlanFlag, IpvlanMode, MacvlanMode};
pub use links::LinkNews;
pub use name_service::{NAME_SERVER, NameSockets, name_sockets};
pub use network::{Doubtful, Network};
pub use parent::{ParentConfig, ParentNetwork};
pub use pools::AddressPool;
pub use stack::NetworkStack;
