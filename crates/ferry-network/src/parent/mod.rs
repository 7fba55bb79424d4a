//! Networks whose endpoints sit on an interface of the host: macvlan and ipvlan. There is no bridge, no firewall and no
//! published port: a container is a host of its own beside the parent interface.
//!
//! [`link`] finds or makes the parent, [`attach`] gives containers their interfaces.

mod attach;
mod link;
mod retry;

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ferry_sys::netlink::child::{ChildKind, IpvlanMode};
use ferry_types::NetworkId;

use crate::addresses::{Addresses, Pair, Refusal};
use crate::bridge::State;
use crate::config::{Announcements, Subnet4, Subnet6};
use crate::endpoint::{AdoptReport, Endpoint, EndpointRecord, EndpointRequest, Ways};
use crate::error::{NetworkError, ReleaseError};
use crate::stack::{Inner, NetworkStack};
use crate::worker::Job;
use crate::{interface, sandbox};

/// Settings of one macvlan or ipvlan network.
#[derive(Debug, Clone)]
pub struct ParentConfig {
    /// Id of the network, stable over restarts.
    pub id: NetworkId,
    /// Name of the network, as in error messages.
    pub network: String,
    /// Driver and mode.
    pub kind: ChildKind,
    /// The host's interface (`eth0`), or a VLAN on one (`eth0.10`), which is made when it is not there. When absent: an
    /// interface of the network's own that leads nowhere.
    pub parent: Option<String>,
    /// Whether the parent was made by an earlier [`ParentNetwork::open`] and is to go with the network.
    pub made_parent: bool,
    /// Its IPv4 subnets. Containers get addresses of the first one unless they ask for others. The gateways are other
    /// machines, if the network leads anywhere.
    pub ipv4: Vec<Subnet4>,
    /// Its IPv6 subnets likewise.
    pub ipv6: Vec<Subnet6>,
    /// MTU of the endpoints; the parent's when absent.
    pub mtu: Option<u32>,
    /// How neighbours are told of the containers' addresses; once when absent.
    pub announcements: Option<Announcements>,
    /// Whether its containers get no default route (`--internal`).
    pub internal: bool,
}

impl ParentConfig {
    /// Whether packets leave the network through a router.
    pub fn routed(&self) -> bool {
        self.leads_out() && !self.routes_to_device()
    }

    /// The subnets of an endpoint's addresses.
    fn subnets_of(&self, addresses: Pair) -> (Option<Subnet4>, Option<Subnet6>) {
        let v4 = addresses.ipv4.and_then(|a| self.ipv4.iter().find(|s| s.net.contains(&a)));
        let v6 = addresses.ipv6.and_then(|a| self.ipv6.iter().find(|s| s.net.contains(&a)));
        (v4.copied(), v6.copied())
    }

    /// Whether its containers get a default route.
    fn leads_out(&self) -> bool {
        !self.internal && self.parent.is_some()
    }

    /// Whether the default route names an interface and no router, because the host routes (ipvlan l3).
    fn routes_to_device(&self) -> bool {
        matches!(self.kind, ChildKind::Ipvlan(IpvlanMode::L3 | IpvlanMode::L3s, _))
    }

    /// What the network's records are told by, and its own parent is called: as Docker's.
    pub fn tag(&self) -> String {
        let prefix = match self.kind {
            ChildKind::Macvlan(_) => "dm",
            ChildKind::Ipvlan(..) => "di",
        };
        format!("{prefix}-{}", &self.id.as_str()[..12])
    }
}

/// One macvlan or ipvlan network. `&self` everywhere: share it behind an `Arc`. Dropping it leaves everything in place.
#[derive(Debug)]
pub struct ParentNetwork {
    stack: Arc<Inner>,
    config: ParentConfig,
    parent: link::Parent,
    state: Mutex<State>,
    /// When an endpoint was released last: its interface goes with its namespace, a moment later.
    released: Mutex<Option<Instant>>,
}

impl ParentNetwork {
    /// Finds or makes the parent interface; idempotent.
    ///
    /// # Errors
    /// When the kernel has no such driver, or the parent is not to be had.
    pub fn open(stack: &NetworkStack, config: ParentConfig) -> Result<Self, NetworkError> {
        let stack = Arc::clone(&stack.inner);
        let mut socket = stack.route();
        link::check_driver(&mut socket, config.kind)?;
        let parent = link::open(&mut socket, &config, 0)?;
        drop(socket);
        let addresses = Addresses::new(&config.ipv4, &config.ipv6);
        let state = Mutex::new(State { addresses, endpoints: HashMap::new() });
        Ok(Self { stack, config, parent, state, released: Mutex::default() })
    }

    /// The settings it was opened with.
    pub fn config(&self) -> &ParentConfig {
        &self.config
    }

    /// Name of the parent interface.
    pub fn parent(&self) -> &str {
        &self.parent.name
    }

    /// Whether the parent was made for this network or one before it.
    pub fn made_parent(&self) -> bool {
        self.parent.made
    }

    /// Of which families a container's way to the outside may lead through it.
    pub fn ways_out(&self) -> Ways {
        let open = self.config.leads_out();
        Ways { ipv4: open && !self.config.ipv4.is_empty(), ipv6: open && !self.config.ipv6.is_empty() }
    }

    /// Keeps an address from being given out, for something that is no container.
    ///
    /// # Errors
    /// When it lies outside the subnet or is taken.
    pub fn reserve(&self, address: IpAddr) -> Result<(), NetworkError> {
        self.state().addresses.take(address).map_err(|refusal| self.refused(refusal))
    }

    /// As [`crate::BridgeNetwork::attach`]. Ports to publish are not published: there is nothing between the container
    /// and the network.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn attach(&self, request: &EndpointRequest) -> Result<Endpoint, NetworkError> {
        attach::Attaching::new(self, request, None).run()
    }

    /// As [`crate::BridgeNetwork::join`].
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn join(&self, netns: BorrowedFd<'_>, request: &EndpointRequest) -> Result<Endpoint, NetworkError> {
        attach::Attaching::new(self, request, Some(netns)).run()
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
        let out = self.ways_out();
        let ways = Ways { ipv4: ways.ipv4 && out.ipv4, ipv6: ways.ipv6 && out.ipv6 };
        match self.config.routes_to_device() {
            true => interface::set_device_routes(netns, &record.interface, ways),
            false => sandbox::set_default_routes(netns, record, ways),
        }
    }

    /// Takes an endpoint back, of a container that has ended: its interface goes with the namespace, or, when somebody
    /// else holds that, by the background worker. Idempotent.
    ///
    /// # Errors
    /// None; as that of bridges.
    pub fn release(&self, record: &EndpointRecord) -> Result<(), ReleaseError> {
        let Some(record) = self.forget(record) else { return Ok(()) };
        self.stack.worker.be_quiet(&record.endpoint, self.config.announcements);
        self.stack.worker.queue(Job::ReapChild {
            netns_inode: record.netns_inode,
            interface: record.interface,
            kind: self.config.kind.name(),
            mac: record.mac,
        });
        Ok(())
    }

    /// Takes an endpoint back whose container, that has this namespace, goes on.
    ///
    /// # Errors
    /// When the interface cannot be removed; the endpoint is taken back all the same.
    pub fn leave(&self, netns: BorrowedFd<'_>, record: &EndpointRecord) -> Result<(), ReleaseError> {
        let Some(record) = self.forget(record) else { return Ok(()) };
        interface::remove_if(netns, &record.interface, self.config.kind.name(), None)
            .map_err(|error| ReleaseError { endpoint: record.endpoint, errors: vec![error] })
    }

    fn forget(&self, record: &EndpointRecord) -> Option<EndpointRecord> {
        let mut state = self.state();
        let record = state.endpoints.remove(&record.endpoint)?;
        state.addresses.free(Pair::of(&record));
        drop(state);
        *self.released.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Some(record)
    }

    /// After a restart: takes over the endpoints of the containers that still run. To be called once, before the first
    /// `attach`.
    ///
    /// # Errors
    /// None; as that of bridges.
    pub fn adopt(&self, records: &[EndpointRecord]) -> Result<AdoptReport, NetworkError> {
        let mut report = AdoptReport::default();
        let tag = self.config.tag();
        let mut state = self.state();
        for record in records.iter().filter(|r| r.bridge == tag) {
            if state.endpoints.contains_key(&record.endpoint) {
                continue;
            }
            if state.addresses.adopt(Pair::of(record)).is_err() {
                report.conflicting.push(record.endpoint.clone());
                continue;
            }
            report.adopted += 1;
            state.endpoints.insert(record.endpoint.clone(), record.clone());
        }
        Ok(report)
    }

    /// Whether the parent is there.
    pub(crate) fn is_there(&self) -> bool {
        let socket = self.stack.route();
        rustix::net::netdevice::name_to_index(&*socket, &self.parent.name).is_ok()
    }

    /// Interface index of the parent.
    pub(crate) fn index(&self) -> u32 {
        self.parent.index
    }

    /// Whether the container with this namespace has lost its interface.
    ///
    /// # Errors
    /// When the namespace cannot be entered or netlink refuses.
    pub fn is_lost(&self, netns: BorrowedFd<'_>, record: &EndpointRecord) -> Result<bool, NetworkError> {
        interface::exists(netns, &record.interface, self.config.kind.name()).map(|exists| !exists)
    }

    /// As [`crate::Network::restore`].
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn restore(
        &self,
        netns: BorrowedFd<'_>,
        record: &EndpointRecord,
        request: &EndpointRequest,
    ) -> Result<EndpointRecord, NetworkError> {
        attach::restore(self, netns, record, request)
    }

    /// Removes interfaces that were made for this network, but are none of `known`: an engine was killed while it made
    /// them.
    ///
    /// # Errors
    /// When the namespace cannot be entered or netlink refuses.
    pub fn sweep(&self, netns: BorrowedFd<'_>, known: &[EndpointRecord]) -> Result<(), NetworkError> {
        let names: Vec<&str> = known.iter().map(|record| record.interface.as_str()).collect();
        let on_parent = (self.config.kind.name(), self.parent.index);
        interface::remove_noted(netns, &self.config.tag(), on_parent, &names)
    }

    /// Waits until the background work queued so far is done.
    pub fn flush(&self) {
        self.stack.worker.flush();
    }

    /// Takes all endpoints back and removes the parent interface if it was made for the network, unless `keep_parent`: other
    /// networks may use it.
    ///
    /// # Errors
    /// When netlink refuses.
    pub fn close(&self, keep_parent: bool) -> Result<(), NetworkError> {
        let records: Vec<EndpointRecord> = self.state().endpoints.values().cloned().collect();
        for record in &records {
            // Never fails.
            let _ = self.release(record);
        }
        if keep_parent || !self.parent.made {
            return Ok(());
        }
        link::delete(&mut self.stack.route(), &self.parent)
    }

    /// Makes a parent again that was made here and that somebody deleted, under the index it had.
    pub(crate) fn ensure_parent(&self) -> Result<u32, NetworkError> {
        let mut socket = self.stack.route();
        if let Ok(index) = rustix::net::netdevice::name_to_index(&*socket, &self.parent.name) {
            return Ok(index);
        }
        tracing::error!(parent = self.parent.name, "the parent interface of a network is gone");
        link::open(&mut socket, &self.config, self.parent.index).map(|parent| parent.index)
    }

    fn refused(&self, refusal: Refusal) -> NetworkError {
        refusal.on(&self.config.network, &self.config.id)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn released_lately(&self) -> bool {
        let released = *self.released.lock().unwrap_or_else(PoisonError::into_inner);
        released.is_some_and(|at| at.elapsed() < retry::DYING)
    }
}
