//! A network containers can be put on, whatever its driver.

use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use ipnet::Ipv4Net;

use crate::bridge::BridgeNetwork;
use crate::endpoint::{AdoptReport, Endpoint, EndpointRecord, EndpointRequest};
use crate::error::{NetworkError, ReleaseError};
use crate::parent::ParentNetwork;

/// One network. Cloning shares it. What the methods do is said at [`BridgeNetwork`]'s of the same names.
#[derive(Debug, Clone)]
pub enum Network {
    /// A bridge of the host's.
    Bridge(Arc<BridgeNetwork>),
    /// Interfaces on one of the host's: macvlan, ipvlan.
    Parent(Arc<ParentNetwork>),
}

impl From<BridgeNetwork> for Network {
    fn from(bridge: BridgeNetwork) -> Self {
        Self::Bridge(Arc::new(bridge))
    }
}

impl From<ParentNetwork> for Network {
    fn from(network: ParentNetwork) -> Self {
        Self::Parent(Arc::new(network))
    }
}

impl Network {
    /// The bridge, if it is one.
    pub fn bridge(&self) -> Option<&Arc<BridgeNetwork>> {
        match self {
            Self::Bridge(bridge) => Some(bridge),
            Self::Parent(_) => None,
        }
    }

    /// Whether a container's way to the outside may lead through it.
    pub fn leads_out(&self) -> bool {
        match self {
            Self::Bridge(bridge) => !bridge.config().internal,
            Self::Parent(network) => network.leads_out(),
        }
    }

    /// Whether ports of containers are published on it.
    pub fn publishes(&self) -> bool {
        matches!(self, Self::Bridge(_))
    }

    /// The IPv4 subnet.
    pub fn subnet(&self) -> Ipv4Net {
        match self {
            Self::Bridge(bridge) => bridge.subnet(),
            Self::Parent(network) => network.subnet(),
        }
    }

    /// The containers' router.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        match self {
            Self::Bridge(bridge) => Some(bridge.gateway()),
            Self::Parent(network) => network.gateway(),
        }
    }

    /// Keeps an address from being given out.
    ///
    /// # Errors
    /// When it lies outside the subnet or is taken.
    pub fn reserve(&self, address: Ipv4Addr) -> Result<(), NetworkError> {
        match self {
            Self::Bridge(bridge) => bridge.reserve(address),
            Self::Parent(network) => network.reserve(address),
        }
    }

    /// Gives a container that is about to start its namespace. On an error nothing is left.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn attach(&self, request: &EndpointRequest) -> Result<Endpoint, NetworkError> {
        match self {
            Self::Bridge(bridge) => bridge.attach(request),
            Self::Parent(network) => network.attach(request),
        }
    }

    /// Gives a container, whose namespace this is, a further interface. On an error nothing is left.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn join(&self, netns: BorrowedFd<'_>, request: &EndpointRequest) -> Result<Endpoint, NetworkError> {
        match self {
            Self::Bridge(bridge) => bridge.join(netns, request),
            Self::Parent(network) => network.join(netns, request),
        }
    }

    /// Leads a container's way to the outside through one of its endpoints here, in place of any other.
    ///
    /// # Errors
    /// When the namespace cannot be entered or netlink refuses.
    pub fn route_through(&self, netns: BorrowedFd<'_>, record: &EndpointRecord) -> Result<(), NetworkError> {
        match self {
            Self::Bridge(bridge) => bridge.route_through(netns, record),
            Self::Parent(network) => network.route_through(netns, record),
        }
    }

    /// Takes an endpoint back, of a container that has ended. Idempotent.
    ///
    /// # Errors
    /// All that went wrong; what could be released is.
    pub fn release(&self, record: &EndpointRecord) -> Result<(), ReleaseError> {
        match self {
            Self::Bridge(bridge) => bridge.release(record),
            Self::Parent(network) => network.release(record),
        }
    }

    /// Takes an endpoint back whose container, that has this namespace, goes on. Its interface is gone afterwards.
    ///
    /// # Errors
    /// All that went wrong; what could be released is.
    pub fn leave(&self, netns: BorrowedFd<'_>, record: &EndpointRecord) -> Result<(), ReleaseError> {
        match self {
            Self::Bridge(bridge) => bridge.release(record).inspect(|()| bridge.flush()),
            Self::Parent(network) => network.leave(netns, record),
        }
    }

    /// After a restart: takes over the endpoints of the containers that still run. To be called once, before the first
    /// `attach`.
    ///
    /// # Errors
    /// When netlink refuses.
    pub fn adopt(&self, records: &[EndpointRecord]) -> Result<AdoptReport, NetworkError> {
        match self {
            Self::Bridge(bridge) => bridge.adopt(records),
            Self::Parent(network) => network.adopt(records),
        }
    }

    /// Waits until the background work queued so far is done.
    pub fn flush(&self) {
        match self {
            Self::Bridge(bridge) => bridge.flush(),
            Self::Parent(network) => network.flush(),
        }
    }

    /// Removes it from the host; it is of no use afterwards. `keep_parent`: other networks use the parent interface.
    ///
    /// # Errors
    /// When netlink refuses.
    pub fn close(&self, keep_parent: bool) -> Result<(), NetworkError> {
        match self {
            Self::Bridge(bridge) => bridge.close(),
            Self::Parent(network) => network.close(keep_parent),
        }
    }
}
