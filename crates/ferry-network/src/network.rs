//! A network containers can be put on, whatever its driver.

use std::collections::HashSet;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use ferry_types::EndpointId;

use crate::attach;
use crate::bridge::{self, BridgeNetwork};
use crate::config::GatewayMode;
use crate::endpoint::{AdoptReport, Endpoint, EndpointRecord, EndpointRequest, Ways};
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

/// Endpoints of which the records and the host say different things.
#[derive(Debug, Default)]
pub struct Doubtful {
    /// Their link on the host is gone.
    pub without_link: HashSet<EndpointId>,
    /// Their address is another's, or not one of the network: they were not taken over.
    pub conflicting: HashSet<EndpointId>,
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

    /// Of which families a container's way to the outside may lead through it.
    pub fn ways_out(&self) -> Ways {
        match self {
            Self::Bridge(bridge) => {
                let (config, open) = (bridge.config(), !bridge.config().internal);
                Ways {
                    ipv4: open && config.ipv4.is_some_and(|s| s.gateway.is_some()),
                    ipv6: open && config.ipv6.is_some_and(|s| s.gateway.is_some()),
                }
            }
            Self::Parent(network) => network.ways_out(),
        }
    }

    /// Whether ports of containers are published on it.
    pub fn publishes(&self) -> bool {
        matches!(self, Self::Bridge(_))
    }

    /// Where the containers' default routes lead, of all its subnets.
    pub fn gateways(&self) -> Vec<IpAddr> {
        let (ipv4, ipv6) = match self {
            Self::Bridge(bridge) => (bridge.config().ipv4.as_slice(), bridge.config().ipv6.as_slice()),
            Self::Parent(network) => (network.config().ipv4.as_slice(), network.config().ipv6.as_slice()),
        };
        let (v4, v6) = (ipv4.iter().filter_map(|s| s.gateway), ipv6.iter().filter_map(|s| s.gateway));
        v4.map(IpAddr::V4).chain(v6.map(IpAddr::V6)).collect()
    }

    /// Whether packets are routed to its containers, so that published ports are open there whatever their way out.
    pub fn opens(&self) -> bool {
        self.bridge().is_some_and(|bridge| {
            let config = bridge.config();
            [config.gateway_mode_ipv4, config.gateway_mode_ipv6].contains(&GatewayMode::Routed)
        })
    }

    /// Keeps an address from being given out.
    ///
    /// # Errors
    /// When it lies outside the subnet or is taken.
    pub fn reserve(&self, address: IpAddr) -> Result<(), NetworkError> {
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
    pub fn route_through(
        &self,
        netns: BorrowedFd<'_>,
        record: &EndpointRecord,
        ways: Ways,
    ) -> Result<(), NetworkError> {
        match self {
            Self::Bridge(bridge) => bridge.route_through(netns, record, ways),
            Self::Parent(network) => network.route_through(netns, record, ways),
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
            Self::Bridge(bridge) => bridge.leave(record),
            Self::Parent(network) => network.leave(netns, record),
        }
    }

    /// [`Network::adopt`] of several networks of one stack, which costs little more than that of one.
    ///
    /// # Errors
    /// When netlink refuses.
    pub fn adopt_all(networks: &[Self], records: &[EndpointRecord]) -> Result<Doubtful, NetworkError> {
        let bridges: Vec<&BridgeNetwork> =
            networks.iter().filter_map(|network| network.bridge().map(Arc::as_ref)).collect();
        let mut reports = bridge::adopt_together(&bridges, records)?;
        for network in networks {
            if let Self::Parent(network) = network {
                reports.push(network.adopt(records)?);
            }
        }
        tracing::debug!(?reports, "networks taken over");
        let mut doubtful = Doubtful::default();
        for report in reports {
            doubtful.without_link.extend(report.without_veth);
            doubtful.conflicting.extend(report.conflicting);
        }
        Ok(doubtful)
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

    /// Interface index of its bridge or parent.
    pub fn index(&self) -> u32 {
        match self {
            Self::Bridge(bridge) => bridge.index(),
            Self::Parent(network) => network.index(),
        }
    }

    /// Name of its bridge or parent.
    pub fn device(&self) -> &str {
        match self {
            Self::Bridge(bridge) => &bridge.config().device,
            Self::Parent(network) => network.parent(),
        }
    }

    /// Whether its bridge or parent exists; somebody may have deleted it.
    pub fn is_there(&self) -> bool {
        match self {
            Self::Bridge(bridge) => bridge.is_there(),
            Self::Parent(network) => network.is_there(),
        }
    }

    /// What its endpoints' records name as their bridge.
    pub fn tag(&self) -> String {
        match self {
            Self::Bridge(bridge) => bridge.config().device.clone(),
            Self::Parent(network) => network.config().tag(),
        }
    }

    /// Puts its bridge, or a parent that was made for it, back when somebody has deleted it.
    ///
    /// # Errors
    /// When netlink refuses, or the parent was the host's.
    pub fn ensure(&self) -> Result<(), NetworkError> {
        match self {
            Self::Bridge(bridge) => bridge.ensure_device(),
            Self::Parent(network) => network.ensure_parent().map(drop),
        }
    }

    /// Whether the running container with this namespace has lost its interface here.
    ///
    /// # Errors
    /// When the namespace cannot be entered or netlink refuses.
    pub fn is_lost(&self, netns: BorrowedFd<'_>, record: &EndpointRecord) -> Result<bool, NetworkError> {
        match self {
            Self::Bridge(bridge) => Ok(bridge.is_lost(record)),
            Self::Parent(network) => network.is_lost(netns, record),
        }
    }

    /// Removes what an engine that was killed while it made an interface has left in a namespace. Of bridges that is found
    /// on the host, by `adopt`.
    ///
    /// # Errors
    /// When the namespace cannot be entered or netlink refuses.
    pub fn sweep(&self, netns: BorrowedFd<'_>, known: &[EndpointRecord]) -> Result<(), NetworkError> {
        match self {
            Self::Bridge(_) => Ok(()),
            Self::Parent(network) => network.sweep(netns, known),
        }
    }

    /// Makes the interface of an endpoint again that was lost; addresses, names and published ports stay. The record is the
    /// new one.
    ///
    /// # Errors
    /// See [`NetworkError`]; the endpoint is as it was.
    pub fn restore(
        &self,
        netns: BorrowedFd<'_>,
        record: &EndpointRecord,
        request: &EndpointRequest,
    ) -> Result<EndpointRecord, NetworkError> {
        match self {
            Self::Bridge(bridge) => attach::restore(bridge, netns, record, request),
            Self::Parent(network) => network.restore(netns, record, request),
        }
    }

    /// Waits until the background work queued so far is done.
    pub fn flush(&self) {
        match self {
            Self::Bridge(bridge) => bridge.flush(),
            Self::Parent(network) => network.flush(),
        }
    }

    /// Removes it from the host; it is of no use afterwards. `keep_device`: the bridge is somebody else's, or other networks
    /// use the parent interface.
    ///
    /// # Errors
    /// When netlink refuses.
    pub fn close(&self, keep_device: bool) -> Result<(), NetworkError> {
        match self {
            Self::Bridge(bridge) => bridge.close(keep_device),
            Self::Parent(network) => network.close(keep_device),
        }
    }
}
