//! One bridge with its endpoints.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ferry_sys::netlink::route::{self, LinkRef, PortChange};
use ferry_sys::netlink::{Batch, NetlinkError};
use ferry_types::EndpointId;
use ferry_types::net::{Protocol, PublishedPort};
use rustix::io::Errno;

use crate::addresses::{Addresses, Pair, Refusal};
use crate::attach::Attaching;
use crate::config::{BridgeConfig, INTERFACE_PREFIX};
use crate::device::{self, Device};
use crate::endpoint::{AdoptReport, Endpoint, EndpointRecord, EndpointRequest, Ways};
use crate::error::{NetworkError, ReleaseError};
use crate::firewall::{Elements, FirewallError};
use crate::publishing::bridge_rules;
use crate::sandbox::{self, Plug, Pool, is_veth_name};
use crate::stack::{Inner, NetworkStack};
use crate::worker::Job;

/// One bridge. `&self` everywhere: share it behind an `Arc`. Dropping it leaves everything in place.
#[derive(Debug)]
pub struct BridgeNetwork {
    pub(crate) stack: Arc<Inner>,
    pub(crate) config: BridgeConfig,
    pub(crate) device: Device,
    state: Mutex<State>,
    pool: OnceLock<Arc<Pool>>,
}

/// Who has which address; never locked across a system call.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) addresses: Addresses,
    pub(crate) endpoints: HashMap<EndpointId, EndpointRecord>,
}

impl BridgeNetwork {
    /// Creates the bridge or adopts an existing one; idempotent.
    ///
    /// # Errors
    /// When the name belongs to another kind of device, the subnet overlaps a host route, or the kernel refuses.
    pub fn open(stack: &NetworkStack, config: BridgeConfig) -> Result<Self, NetworkError> {
        device::validate(&config)?;
        let stack = Arc::clone(&stack.inner);
        let config = BridgeConfig { ip_forward: stack.config.firewall.ip_forward, ..config };
        let device = device::open(&mut stack.route(), &config)?;
        let rules = bridge_rules(&config, &stack.config.firewall);
        if let Err(error) = stack.firewall().add_bridge(rules) {
            if device.created {
                // The first error is what the caller needs to know.
                let _ = device::delete(&mut stack.route(), &config);
            }
            return Err(refused("write firewall rules for", &config.device)(error));
        }
        let addresses = Addresses::new(config.ipv4.as_slice(), config.ipv6.as_slice());
        let state = Mutex::new(State { addresses, endpoints: HashMap::new() });
        let network = Self { stack, config, device, state, pool: OnceLock::new() };
        if network.device.created {
            // Somebody is about to use it.
            network.spare();
        }
        Ok(network)
    }

    /// The settings it was opened with.
    pub fn config(&self) -> &BridgeConfig {
        &self.config
    }

    /// Keeps an address from being given out, for something that is no container.
    ///
    /// # Errors
    /// When it lies outside the subnet or is taken.
    pub fn reserve(&self, address: IpAddr) -> Result<(), NetworkError> {
        self.state().addresses.take(address).map_err(|refusal| self.refused(refusal))
    }

    pub(crate) fn refused(&self, refusal: Refusal) -> NetworkError {
        refusal.on(&self.config.network, &self.config.id)
    }

    /// Gives a container that is about to start its namespace, address and published ports. On an
    /// error nothing is left.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn attach(&self, request: &EndpointRequest) -> Result<Endpoint, NetworkError> {
        Attaching::new(self, request, None).run()
    }

    /// Gives a container, whose namespace this is, a further interface: the next free `ethN`. On an error nothing is left.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn join(&self, netns: BorrowedFd<'_>, request: &EndpointRequest) -> Result<Endpoint, NetworkError> {
        Attaching::new(self, request, Some(netns)).run()
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
        if self.config.internal {
            return Ok(());
        }
        sandbox::set_default_routes(netns, record, ways)
    }

    /// Takes an endpoint back: unpublishes, cuts the host veth off, frees the address. The veth itself goes with the
    /// namespace, or by the background worker. Idempotent: a record that is not attached (any more) is no error.
    ///
    /// # Errors
    /// All that went wrong; what could be released is.
    pub fn release(&self, record: &EndpointRecord) -> Result<(), ReleaseError> {
        let Some(record) = self.state().endpoints.remove(&record.endpoint) else { return Ok(()) };
        self.stack.worker.be_quiet(&record.endpoint, self.config.announcements);
        let errors = self.take_down(&record);
        self.state().addresses.free(Pair::of(&record));
        match errors.is_empty() {
            true => Ok(()),
            false => Err(ReleaseError { endpoint: record.endpoint, errors }),
        }
    }

    /// As [`Self::release`], of a container that goes on: its interface is gone afterwards.
    pub(crate) fn leave(&self, record: &EndpointRecord) -> Result<(), ReleaseError> {
        let known =
            self.state().endpoints.get(&record.endpoint).map(|r| (r.host_ifindex, r.host_veth.clone()));
        self.release(record)?;
        let Some((index, name)) = known else { return Ok(()) };
        let mut socket = self.stack.route();
        let deleted = route::link(&mut socket, LinkRef::Index(index)).and_then(|link| match link {
            Some(link) if link.name == name => {
                let mut batch = Batch::new();
                route::delete_link(&mut batch, index);
                let gone = |_, errno| errno == Errno::NODEV.raw_os_error();
                socket.execute_lenient(batch, &gone)
            }
            _ => Ok(()),
        });
        deleted.map_err(|e| ReleaseError {
            endpoint: record.endpoint.clone(),
            errors: vec![kernel("delete", &name)(e)],
        })
    }

    /// Everything of `release` outside this process's memory; goes on after an error.
    pub(crate) fn take_down(&self, record: &EndpointRecord) -> Vec<NetworkError> {
        let mut errors = Vec::new();
        let elements = self.elements(record);
        if let Err(error) = self.stack.firewall().unpublish(&elements) {
            errors.push(refused("unpublish ports of", record.endpoint.as_str())(error));
        }
        if let Err(error) = self.cut_off(record) {
            errors.push(kernel("cut off", &record.host_veth)(error));
        }
        self.stack.ports.release_used(&record.endpoint, &record.published);
        self.drop_udp_flows(record, false);
        self.stack.worker.queue(Job::ReapVeth { index: record.host_ifindex, name: record.host_veth.clone() });
        errors
    }

    /// Has the UDP flows dropped that a change of `record`'s ports makes wrong.
    pub(crate) fn drop_udp_flows(&self, record: &EndpointRecord, published: bool) {
        let udp = |p: &&PublishedPort| p.protocol == Protocol::Udp;
        let ports: Vec<PublishedPort> = record.published.iter().filter(udp).cloned().collect();
        if ports.is_empty() {
            return;
        }
        let addresses = [record.ipv4.map(IpAddr::V4), record.ipv6.map(IpAddr::V6)];
        for container in addresses.into_iter().flatten() {
            self.stack.worker.queue(Job::DropUdpFlows { container, ports: ports.clone(), published });
        }
    }

    /// From here on no frame passes the veth, and neither bridge nor host remember who had the address.
    fn cut_off(&self, record: &EndpointRecord) -> Result<(), NetlinkError> {
        let mut batch = Batch::new();
        route::set_port(
            &mut batch,
            record.host_ifindex,
            &PortChange { closed: true, ..PortChange::default() },
        );
        for address in record.addresses() {
            route::delete_neighbour(&mut batch, self.device.index, address);
        }
        // The namespace is often gone already, and with it the veth (ENODEV), or just off the bridge; somebody may even
        // have deleted the bridge.
        let gone = |index, errno| {
            let errno = Errno::from_raw_os_error(errno);
            let expected: &[Errno] = if index == 0 {
                &[Errno::NODEV, Errno::INVAL, Errno::OPNOTSUPP]
            } else {
                &[Errno::NOENT, Errno::NODEV]
            };
            expected.contains(&errno)
        };
        self.stack.route().execute_lenient(batch, &gone)
    }

    /// After a restart: takes over the endpoints of the containers that still run, puts missing
    /// rules back, and removes what belongs to nobody. To be called once, before the first `attach`.
    ///
    /// # Errors
    /// When netlink refuses.
    pub fn adopt(&self, records: &[EndpointRecord]) -> Result<AdoptReport, NetworkError> {
        let mut reports = adopt_together(&[self], records)?;
        Ok(reports.pop().unwrap_or_default())
    }

    /// What of `adopt` is in memory or about links. `links` are those of the host, `records` those of this bridge.
    fn take_over(
        &self,
        records: &[&EndpointRecord],
        links: &[&route::Link],
    ) -> Result<AdoptReport, NetworkError> {
        let fail = |action| kernel(action, &self.config.device);
        let mut report = AdoptReport::default();
        let mut ports: HashMap<u32, &str> = HashMap::new();
        let mut closed: HashSet<u32> = HashSet::new();
        for link in links {
            let is_endpoints = |r: &&EndpointRecord| r.host_ifindex == link.index && r.host_veth == link.name;
            // Somebody deleted the bridge, which was made anew: what was plugged into the old one is plugged into no other.
            if link.master.is_none() && records.iter().any(is_endpoints) {
                let plugged = sandbox::plug_in(&mut self.stack.route(), &self.plug(), link.index);
                plugged.map_err(fail("connect a veth to"))?;
                ports.insert(link.index, &link.name);
            } else if link.master == Some(self.device.index) {
                ports.insert(link.index, &link.name);
                if link.port_closed {
                    closed.insert(link.index);
                }
            }
        }
        // An engine that was killed before it noted that a container had left the network may have given the address to the
        // next one already: it belongs to who has the link, and to who is disconnected only when nobody else has it.
        let has_link =
            |record: &EndpointRecord| ports.get(&record.host_ifindex) == Some(&record.host_veth.as_str());
        let mut records = records.to_vec();
        records.sort_by_key(|record| (!has_link(record), closed.contains(&record.host_ifindex)));
        let mut reopened = Vec::new();
        let mut state = self.state();
        for record in records {
            if state.endpoints.contains_key(&record.endpoint) {
                continue;
            }
            if state.addresses.adopt(Pair::of(record)).is_err() {
                report.conflicting.push(record.endpoint.clone());
                continue;
            }
            let mut record = record.clone();
            self.stack.ports.adopt(&record.endpoint, &record.published);
            report.adopted += 1;
            if has_link(&record) && closed.contains(&record.host_ifindex) {
                // It was not noted, so it stays connected.
                reopened.push(record.host_ifindex);
            }
            if !has_link(&record) {
                report.without_veth.push(record.endpoint.clone());
                // Its index may belong to another device now.
                record.host_ifindex = 0;
            }
            state.endpoints.insert(record.endpoint.clone(), record);
        }
        let known: HashSet<u32> = state.endpoints.values().map(|r| r.host_ifindex).collect();
        drop(state);
        for index in reopened {
            let opened = sandbox::reopen(&mut self.stack.route(), &self.plug(), index);
            opened.map_err(fail("reopen a port of"))?;
        }
        if self.pool.get().is_none() {
            for (index, name) in ports.into_iter().filter(|(i, n)| !known.contains(i) && is_veth_name(n)) {
                report.stray_veths += 1;
                self.stack.worker.queue(Job::ReapVeth { index, name: name.to_owned() });
            }
        }
        if self.config.pool_size.is_none() || report.adopted > 0 {
            self.pool();
            self.spare();
        }
        Ok(report)
    }

    /// Whether the bridge is there.
    pub(crate) fn is_there(&self) -> bool {
        let socket = self.stack.route();
        rustix::net::netdevice::name_to_index(&*socket, &self.config.device) == Ok(self.device.index)
    }

    /// Whether the link of an endpoint on the host is gone, or another's by now.
    pub(crate) fn is_lost(&self, record: &EndpointRecord) -> bool {
        let socket = self.stack.route();
        rustix::net::netdevice::name_to_index(&*socket, &record.host_veth) != Ok(record.host_ifindex)
    }

    /// Puts the bridge back when somebody has deleted it, with the endpoints that were plugged into it.
    pub(crate) fn ensure_device(&self) -> Result<(), NetworkError> {
        let fail = |action| kernel(action, &self.config.device);
        let mut socket = self.stack.route();
        // One system call; the kernel tells of a deleted bridge neither here nor when a veth without one is used.
        if rustix::net::netdevice::name_to_index(&*socket, &self.config.device) == Ok(self.device.index) {
            return Ok(());
        }
        tracing::error!(bridge = self.config.device, "the bridge was deleted; making it again");
        device::recreate(&mut socket, &self.config, &self.device)?;
        // Those made ready were plugged into the old one.
        while self.pool.get().is_some_and(|pool| pool.take().is_some()) {}
        let links = route::links(&mut socket).map_err(fail("list ports of"))?;
        let known: HashMap<u32, String> =
            self.state().endpoints.values().map(|r| (r.host_ifindex, r.host_veth.clone())).collect();
        for link in links.iter().filter(|l| known.get(&l.index) == Some(&l.name)) {
            sandbox::plug_in(&mut socket, &self.plug(), link.index).map_err(fail("connect a veth to"))?;
        }
        Ok(())
    }

    /// Waits until the background work queued so far (deleting veths, dropping UDP flows) is done.
    pub fn flush(&self) {
        self.stack.worker.flush();
    }

    /// Deletes the bridge, its veths and rules. Endpoints that are still attached lose their network.
    ///
    /// # Errors
    /// When netlink refuses.
    pub fn destroy(self) -> Result<(), NetworkError> {
        self.close(false)
    }

    /// Whether the device was made when the network was opened.
    pub fn created(&self) -> bool {
        self.device.created
    }

    /// As [`Self::destroy`], for one that is shared; it is of no use afterwards. `keep_device`: it is somebody else's.
    ///
    /// # Errors
    /// When netlink refuses.
    pub fn close(&self, keep_device: bool) -> Result<(), NetworkError> {
        if let Some(pool) = self.pool.get() {
            pool.close();
        }
        let records: Vec<EndpointRecord> = self.state().endpoints.drain().map(|(_, r)| r).collect();
        let mut errors: Vec<NetworkError> = records.iter().flat_map(|r| self.take_down(r)).collect();
        if !records.is_empty() {
            self.stack.worker.flush();
        }
        if !keep_device {
            errors.extend(device::delete(&mut self.stack.route(), &self.config).err());
        }
        errors.extend(
            self.stack
                .firewall()
                .remove_bridge(&self.config.device)
                .map_err(refused("remove rules of", &self.config.device))
                .err(),
        );
        errors.into_iter().next().map_or(Ok(()), Err)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Interface index of the bridge.
    pub(crate) fn index(&self) -> u32 {
        self.device.index
    }

    /// Sandboxes kept on this bridge.
    pub(crate) fn pool(&self) -> Option<&Arc<Pool>> {
        let size = self.config.pool_size.unwrap_or(self.stack.config.pool_size);
        (size > 0).then(|| self.pool.get_or_init(|| self.stack.maker.add(self.plug(), size)))
    }

    /// Sandboxes kept for all bridges without any of their own.
    pub(crate) fn spare(&self) -> Option<&Arc<Pool>> {
        let size = self.stack.config.spare;
        let ipv6 = self.config.ipv6.is_some();
        let spare = &self.stack.spare[usize::from(ipv6)];
        let usual = self.config.interface_prefix == INTERFACE_PREFIX;
        (size > 0 && self.config.pool_size == Some(0) && usual).then(|| {
            let prefix = INTERFACE_PREFIX.to_owned();
            let plug = || Plug { bridge: None, mtu: None, isolated: false, ipv6, prefix };
            spare.get_or_init(|| self.stack.maker.add(plug(), size))
        })
    }

    /// Interface indices of links made ready for containers to come.
    pub(crate) fn ready(&self) -> Vec<u32> {
        self.pool.get().map(|pool| pool.indices()).unwrap_or_default()
    }

    pub(crate) fn plug(&self) -> Plug {
        Plug {
            bridge: Some(self.device.index),
            mtu: self.config.mtu,
            isolated: self.device.isolate_ports,
            ipv6: self.config.ipv6.is_some(),
            prefix: self.config.interface_prefix.clone(),
        }
    }
}

/// [`BridgeNetwork::adopt`] of several bridges of one stack. What the kernel has is read once for all of them; ports that
/// were put back or removed are in the last report.
pub(crate) fn adopt_together(
    bridges: &[&BridgeNetwork],
    records: &[EndpointRecord],
) -> Result<Vec<AdoptReport>, NetworkError> {
    let Some(first) = bridges.first() else { return Ok(Vec::new()) };
    let links = route::links(&mut first.stack.route());
    let links = links.map_err(kernel("list ports of", &first.config.device))?;
    let mut of_bridge: HashMap<&str, Vec<&EndpointRecord>> = HashMap::new();
    for record in records {
        of_bridge.entry(&record.bridge).or_default().push(record);
    }
    let mut on_master: HashMap<Option<u32>, Vec<&route::Link>> = HashMap::new();
    for link in links.iter().filter(|link| link.kind == "veth") {
        on_master.entry(link.master).or_default().push(link);
    }
    let mut reports = Vec::new();
    for bridge in bridges {
        let own = of_bridge.get(bridge.config.device.as_str()).map_or(&[][..], Vec::as_slice);
        let mut links = on_master.get(&Some(bridge.device.index)).cloned().unwrap_or_default();
        if !own.is_empty() {
            links.extend(on_master.get(&None).into_iter().flatten());
        }
        reports.push(bridge.take_over(own, &links)?);
    }
    let subnets: Vec<_> = bridges.iter().map(|bridge| bridge.subnets()).collect();
    let mut wanted = Elements::default();
    for bridge in bridges {
        wanted.extend(bridge.state().endpoints.values().flat_map(|r| bridge.elements(r)));
    }
    let changed = first.stack.firewall().reconcile(&subnets, &wanted);
    let changed = changed.map_err(refused("publish ports on", &first.config.device))?;
    if let Some(report) = reports.last_mut() {
        report.republished = changed.added;
        report.stray_ports = changed.removed;
    }
    Ok(reports)
}

impl Drop for BridgeNetwork {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.get() {
            pool.close();
        }
    }
}

/// As [`kernel`], for the firewall.
pub(crate) fn refused(action: &'static str, object: &str) -> impl Fn(FirewallError) -> NetworkError + use<> {
    let object = object.to_owned();
    move |e| NetworkError::Kernel { action, object: object.clone(), source: e.into() }
}

pub(crate) fn kernel(action: &'static str, object: &str) -> impl Fn(NetlinkError) -> NetworkError + use<> {
    let object = object.to_owned();
    move |e| NetworkError::Kernel { action, object: object.clone(), source: e.into() }
}
