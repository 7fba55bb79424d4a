//! The steps of `attach`, each with its undo. What a step did is in a field; dropping an unfinished
//! [`Attaching`] undoes all of them.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_sys::netlink::route::{self, LinkChange, LinkRef};
use ferry_sys::netlink::{Batch, Protocol as Family, Socket};
use ferry_types::EndpointId;

use crate::bridge::{BridgeNetwork, kernel};
use crate::config::GatewayMode;
use crate::endpoint::{Endpoint, EndpointRecord, EndpointRequest, Sandbox};
use crate::error::{NetworkError, PortError};
use crate::fault::Step;
use crate::firewall::rules::PerFamily;
use crate::interface;
use crate::ipam::{IpamError, mac_of};
use crate::ports::{Claimant, Granted};
use crate::sandbox::{self, Ready};
use crate::worker::Job;

/// An endpoint in the making.
pub(crate) struct Attaching<'a> {
    network: &'a BridgeNetwork,
    request: &'a EndpointRequest,
    /// The namespace of a container that runs; a new one when absent.
    netns: Option<BorrowedFd<'a>>,
    endpoint: EndpointId,
    address: Option<Ipv4Addr>,
    /// Host side of the sandbox, index and name. The sandbox itself goes with its descriptor.
    veth: Option<(u32, String)>,
    granted: Granted,
    /// Set once the record is complete; the ports may be in nft from then on.
    record: Option<EndpointRecord>,
    finished: bool,
}

impl<'a> Attaching<'a> {
    pub(crate) fn new(
        network: &'a BridgeNetwork,
        request: &'a EndpointRequest,
        netns: Option<BorrowedFd<'a>>,
    ) -> Self {
        Self {
            network,
            request,
            netns,
            endpoint: EndpointId::random(),
            address: None,
            veth: None,
            granted: Granted::default(),
            record: None,
            finished: false,
        }
    }

    /// The addresses and ports come first: they are what may be refused.
    pub(crate) fn run(mut self) -> Result<Endpoint, NetworkError> {
        self.network.ensure_device()?;
        let address = self.allocate()?;
        self.done(Step::Address)?;
        self.granted = self.reserve(address)?;
        self.done(Step::Ports)?;
        let mut ready = self.sandbox()?;
        self.veth = Some((ready.host_index, ready.host_veth.clone()));
        self.done(Step::Sandbox)?;
        let mac = self.request.mac.unwrap_or_else(|| mac_of(address));
        configure(self.network, self.request, &mut ready, address, mac)?;
        self.done(Step::Configure)?;
        let record = self.record(&ready, address, mac);
        self.record = Some(record.clone());
        self.publish(&record)?;
        self.done(Step::Publish)?;
        self.network.state().endpoints.insert(self.endpoint.clone(), record.clone());
        self.done(Step::Register)?;
        Ok(self.finish(ready.sandbox, record))
    }

    fn done(&self, step: Step) -> Result<(), NetworkError> {
        self.network.stack.faults.after(step)
    }

    fn allocate(&mut self) -> Result<Ipv4Addr, NetworkError> {
        let mut state = self.network.state();
        let allocated = match self.request.ipv4 {
            Some(fixed) => state.ipam.take(fixed).map(|()| fixed),
            None => state.ipam.allocate(),
        };
        drop(state);
        let config = &self.network.config;
        let fixed = self.request.ipv4.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let address = allocated.map_err(|e| match e {
            IpamError::Exhausted => NetworkError::AddressesExhausted {
                network: config.network.clone(),
                id: config.id.to_string(),
            },
            IpamError::Taken => NetworkError::AddressInUse(fixed),
            IpamError::Outside => {
                NetworkError::AddressOutside { address: fixed, subnet: self.network.subnet() }
            }
        })?;
        self.address = Some(address);
        Ok(address)
    }

    fn connectivity(&self, cause: PortError) -> NetworkError {
        NetworkError::ExternalConnectivity {
            name: self.request.name.clone(),
            endpoint: self.endpoint.clone(),
            cause,
        }
    }

    fn reserve(&self, container_ip: Ipv4Addr) -> Result<Granted, NetworkError> {
        let config = &self.network.config;
        let claimant = Claimant {
            endpoint: &self.endpoint,
            container: PerFamily { ipv4: Some(container_ip.into()), ipv6: None },
            default_host_ip: config.default_host_ip,
            routed: PerFamily {
                ipv4: config.gateway_mode_ipv4 == GatewayMode::Routed,
                ipv6: config.gateway_mode_ipv6 == GatewayMode::Routed,
            },
        };
        self.network.stack.ports.reserve(claimant, &self.request.publish).map_err(|e| self.connectivity(e))
    }

    fn sandbox(&self) -> Result<Ready, NetworkError> {
        let named = self.request.interface.as_deref();
        if self.netns.is_none()
            && named.is_none()
            && let Some(ready) = self.network.pool().take()
        {
            return Ok(ready);
        }
        // A socket of its own: making takes milliseconds, others need the shared one meanwhile.
        let mut host = Socket::open(Family::Route).map_err(|source| NetworkError::Kernel {
            action: "open rtnetlink for",
            object: self.network.config.device.clone(),
            source,
        })?;
        match self.netns {
            Some(netns) => sandbox::joined(&mut host, &self.network.plug(), netns, named),
            None => sandbox::connected(&mut host, &self.network.plug(), named),
        }
    }

    fn record(&self, ready: &Ready, ipv4: Ipv4Addr, mac: [u8; 6]) -> EndpointRecord {
        EndpointRecord {
            endpoint: self.endpoint.clone(),
            container: self.request.container.clone(),
            bridge: self.network.config.device.clone(),
            netns_inode: ready.sandbox.netns_inode,
            host_veth: ready.host_veth.clone(),
            host_ifindex: ready.host_index,
            ipv4: Some(ipv4),
            prefix: self.network.subnet().prefix_len(),
            gateway: Some(self.network.gateway()),
            ipv6: None,
            prefix6: 0,
            gateway6: None,
            mac,
            interface: ready.interface.clone(),
            published: self.granted.published.clone(),
        }
    }

    fn publish(&self, record: &EndpointRecord) -> Result<(), NetworkError> {
        let elements = self.network.elements(record);
        let published = self.network.stack.table().publish(&elements);
        published.map_err(|e| self.connectivity(PortError::Rules(e.into())))?;
        self.network.drop_udp_flows(record, true);
        Ok(())
    }

    fn finish(mut self, sandbox: Sandbox, record: EndpointRecord) -> Endpoint {
        self.finished = true;
        let granted = std::mem::take(&mut self.granted);
        let mut warnings = Vec::new();
        if granted.without_ipv6 > 0 {
            warnings.push(format!(
                "{} ports are published on IPv4 only: too many, or sctp, for relays from IPv6",
                granted.without_ipv6
            ));
        }
        Endpoint { sandbox, record, relays: granted.relays, warnings }
    }
}

/// Runs inside the namespace, by the socket that was opened there: one sendmsg(2).
fn configure(
    network: &BridgeNetwork,
    request: &EndpointRequest,
    ready: &mut Ready,
    address: Ipv4Addr,
    mac: [u8; 6],
) -> Result<(), NetworkError> {
    let mut batch = Batch::new();
    let change = LinkChange { mac: Some(mac), ..LinkChange::default() };
    route::set_link(&mut batch, LinkRef::Index(ready.inner_index), &change);
    route::add_address(&mut batch, ready.inner_index, address, network.subnet().prefix_len());
    if request.default_route && !network.config.internal {
        route::add_default_route(&mut batch, ready.inner_index, network.gateway());
    }
    ready.route.execute(batch).map_err(kernel("configure an interface of", &request.name))?;
    match request.sysctls.as_slice() {
        [] => Ok(()),
        sysctls => sandbox::in_namespace(ready.sandbox.netns.as_fd(), || {
            interface::set_sysctls(&ready.interface, sysctls)
        }),
    }
}

impl Drop for Attaching<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let network = self.network;
        network.state().endpoints.remove(&self.endpoint);
        if let Some(record) = &self.record {
            for error in network.take_down(record) {
                tracing::warn!(%error, "failed attach not fully undone");
            }
        } else {
            network.stack.ports.release(&self.endpoint, &self.granted.published);
            if let Some((index, name)) = self.veth.take() {
                network.stack.worker.queue(Job::ReapVeth { index, name });
            }
        }
        if let Some(address) = self.address {
            network.state().ipam.free(address);
        }
    }
}

/// Descriptors cross threads freely; this fails to compile when an endpoint stops being `Send`.
const _: fn() = || {
    fn sendable<T: Send>() {}
    sendable::<Endpoint>();
    sendable::<OwnedFd>();
    sendable::<BridgeNetwork>();
};
