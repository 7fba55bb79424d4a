//! The steps of `attach`, each with its undo. What a step did is in a field; dropping an unfinished
//! [`Attaching`] undoes all of them.

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_sys::netlink::route::{self, LinkChange, LinkRef};
use ferry_sys::netlink::{Batch, Protocol as Family, Socket};
use ferry_types::EndpointId;

use crate::addresses::Pair;
use crate::bridge::{BridgeNetwork, kernel};
use crate::endpoint::{Endpoint, EndpointRecord, EndpointRequest, Sandbox};
use crate::error::{NetworkError, PortError};
use crate::fault::Step;
use crate::interface;
use crate::ipam::mac_of;
use crate::ports::{Granted, Ports};
use crate::sandbox::{self, Ready};
use crate::worker::Job;

/// An endpoint in the making.
pub(crate) struct Attaching<'a> {
    network: &'a BridgeNetwork,
    request: &'a EndpointRequest,
    /// The namespace of a container that runs; a new one when absent.
    netns: Option<BorrowedFd<'a>>,
    endpoint: EndpointId,
    addresses: Pair,
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
            addresses: Pair::default(),
            veth: None,
            granted: Granted::default(),
            record: None,
            finished: false,
        }
    }

    /// The addresses and ports come first: they are what may be refused.
    pub(crate) fn run(mut self) -> Result<Endpoint, NetworkError> {
        self.network.ensure_device()?;
        self.addresses = self.allocate()?;
        self.done(Step::Address)?;
        self.granted = self.reserve()?;
        self.done(Step::Ports)?;
        let mut ready = self.sandbox()?;
        self.veth = Some((ready.host_index, ready.host_veth.clone()));
        self.done(Step::Sandbox)?;
        let mac = self.request.mac.unwrap_or_else(|| mac_of(self.addresses.ipv4, self.addresses.ipv6));
        configure(self.network, self.request, &mut ready, self.addresses, mac)?;
        self.done(Step::Configure)?;
        let record = self.record(&ready, mac);
        self.record = Some(record.clone());
        self.publish(&record)?;
        self.done(Step::Publish)?;
        self.network.state().endpoints.insert(self.endpoint.clone(), record.clone());
        self.done(Step::Register)?;
        let announcements = self.network.config.announcements;
        let announced =
            self.network.stack.worker.announce(ready.sandbox.netns.as_fd(), &record, announcements);
        announced.map_err(|source| NetworkError::Kernel {
            action: "keep the network namespace of",
            object: self.request.name.clone(),
            source,
        })?;
        Ok(self.finish(ready.sandbox, record))
    }

    fn done(&self, step: Step) -> Result<(), NetworkError> {
        self.network.stack.faults.after(step)
    }

    fn allocate(&self) -> Result<Pair, NetworkError> {
        let allocated = self.network.state().addresses.allocate(self.request);
        allocated.map_err(|refusal| self.network.refused(refusal))
    }

    fn connectivity(&self, cause: PortError) -> NetworkError {
        NetworkError::ExternalConnectivity {
            name: self.request.name.clone(),
            endpoint: self.endpoint.clone(),
            cause,
        }
    }

    fn reserve(&self) -> Result<Granted, NetworkError> {
        let Pair { ipv4, ipv6 } = self.addresses;
        let claimant = self.network.claimant(&self.endpoint, ipv4.map(IpAddr::V4), ipv6.map(IpAddr::V6));
        let reserved = self.network.stack.ports.reserve(claimant, &self.request.publish);
        let mut granted = reserved.map_err(|e| self.connectivity(e))?;
        granted.published.extend(Ports::open(claimant, &self.request.open));
        Ok(granted)
    }

    fn sandbox(&self) -> Result<Ready, NetworkError> {
        let named = self.request.interface.as_deref();
        let fresh = self.netns.is_none() && named.is_none();
        if fresh && let Some(ready) = self.network.pool().and_then(|pool| pool.take()) {
            return Ok(ready);
        }
        // A socket of its own: making takes milliseconds, others need the shared one meanwhile.
        let mut host = Socket::open(Family::Route).map_err(|source| NetworkError::Kernel {
            action: "open rtnetlink for",
            object: self.network.config.device.clone(),
            source,
        })?;
        if fresh && let Some(mut ready) = self.network.spare().and_then(|pool| pool.take()) {
            sandbox::adapt(&mut host, &self.network.plug(), &mut ready)?;
            return Ok(ready);
        }
        match self.netns {
            Some(netns) => sandbox::joined(&mut host, &self.network.plug(), netns, named),
            None => sandbox::connected(&mut host, &self.network.plug(), named),
        }
    }

    fn record(&self, ready: &Ready, mac: [u8; 6]) -> EndpointRecord {
        let config = &self.network.config;
        let open = !config.internal;
        let Pair { ipv4, ipv6 } = self.addresses;
        EndpointRecord {
            endpoint: self.endpoint.clone(),
            container: self.request.container.clone(),
            bridge: self.network.config.device.clone(),
            netns_inode: ready.sandbox.netns_inode,
            host_veth: ready.host_veth.clone(),
            host_ifindex: ready.host_index,
            ipv4,
            prefix: config.ipv4.filter(|_| ipv4.is_some()).map_or(0, |s| s.net.prefix_len()),
            gateway: config.ipv4.filter(|_| ipv4.is_some() && open).and_then(|s| s.gateway),
            ipv6,
            prefix6: config.ipv6.filter(|_| ipv6.is_some()).map_or(0, |s| s.net.prefix_len()),
            gateway6: config.ipv6.filter(|_| ipv6.is_some() && open).and_then(|s| s.gateway),
            mac,
            interface: ready.interface.clone(),
            published: self.granted.published.clone(),
        }
    }

    fn publish(&self, record: &EndpointRecord) -> Result<(), NetworkError> {
        let elements = self.network.elements(record);
        let published = self.network.stack.firewall().publish(&elements);
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
    addresses: Pair,
    mac: [u8; 6],
) -> Result<(), NetworkError> {
    let config = &network.config;
    let index = ready.inner_index;
    let mut batch = Batch::new();
    let set_mac = |batch: &mut Batch| {
        let change = LinkChange { mac: Some(mac), ..LinkChange::default() };
        route::set_link(batch, LinkRef::Index(index), &change);
    };
    // The kernel tells the neighbours of a new hardware address, see `sandbox::set_sysctls`. There is no need to when the
    // one who had the address before had the same.
    let news = request.mac.is_some() || addresses.ipv6.is_some() || !request.link_local.is_empty();
    let announced = config.announcements.map_or(news, |setting| setting.times > 0);
    if !announced {
        set_mac(&mut batch);
    }
    if let (Some(address), Some(subnet)) = (addresses.ipv4, config.ipv4) {
        route::add_address(&mut batch, index, address, subnet.net.prefix_len());
    }
    if let (Some(address), Some(subnet)) = (addresses.ipv6, config.ipv6) {
        route::add_address(&mut batch, index, address, subnet.net.prefix_len());
        let own = link_local(mac);
        route::add_address(&mut batch, index, own, link_prefix(own.into()));
    }
    for address in &request.link_local {
        route::add_address(&mut batch, index, *address, link_prefix(*address));
    }
    if announced {
        set_mac(&mut batch);
    }
    if !config.internal {
        let ipv4 = config.ipv4.filter(|_| request.default_route.ipv4 && addresses.ipv4.is_some());
        let ipv6 = config.ipv6.filter(|_| request.default_route.ipv6 && addresses.ipv6.is_some());
        if let Some(gateway) = ipv4.and_then(|s| s.gateway) {
            route::add_default_route(&mut batch, index, gateway);
        }
        if let Some(gateway) = ipv6.and_then(|s| s.gateway) {
            route::add_default_route(&mut batch, index, gateway);
        }
    }
    ready.route.execute(batch).map_err(kernel("configure an interface of", &request.name))?;
    match request.sysctls.as_slice() {
        [] => Ok(()),
        sysctls => sandbox::in_namespace(ready.sandbox.netns.as_fd(), || {
            interface::set_sysctls(&ready.interface, sysctls)
        }),
    }
}

/// Makes the interface of an endpoint again that was lost. On an error none is left.
pub(crate) fn restore(
    network: &BridgeNetwork,
    netns: BorrowedFd<'_>,
    record: &EndpointRecord,
    request: &EndpointRequest,
) -> Result<EndpointRecord, NetworkError> {
    network.ensure_device()?;
    let mut host = Socket::open(Family::Route).map_err(|source| NetworkError::Kernel {
        action: "open rtnetlink for",
        object: network.config.device.clone(),
        source,
    })?;
    let mut ready = sandbox::joined(&mut host, &network.plug(), netns, Some(&record.interface))?;
    configure(network, request, &mut ready, Pair::of(record), record.mac).inspect_err(|_| {
        let (index, name) = (ready.host_index, ready.host_veth.clone());
        network.stack.worker.queue(Job::ReapVeth { index, name });
    })?;
    let made =
        EndpointRecord { host_veth: ready.host_veth, host_ifindex: ready.host_index, ..record.clone() };
    network.state().endpoints.insert(record.endpoint.clone(), made.clone());
    Ok(made)
}

/// Prefix lengths of addresses valid on a link only (RFC 3927 section 2.1, RFC 4291 section 2.5.6).
pub(crate) fn link_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 16 } else { 64 }
}

/// The address the kernel would make of a hardware address (RFC 4291 appendix A). Given by us, because it would make it of
/// the one the interface had before, and search for duplicates.
fn link_local([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 0x02, b, c, 0xff, 0xfe, d, e, f])
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
        network.state().addresses.free(std::mem::take(&mut self.addresses));
    }
}

/// Descriptors cross threads freely; this fails to compile when an endpoint stops being `Send`.
const _: fn() = || {
    fn sendable<T: Send>() {}
    sendable::<Endpoint>();
    sendable::<OwnedFd>();
    sendable::<BridgeNetwork>();
};
