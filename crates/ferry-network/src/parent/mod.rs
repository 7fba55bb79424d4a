//! Networks whose endpoints sit on an interface of the host: macvlan and ipvlan. There is no bridge, no firewall and no
//! published port: a container is a host of its own beside the parent interface.
//!
//! [`link`] finds or makes the parent, [`attach`] gives containers their interfaces.

mod attach;
mod link;
mod retry;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ferry_sys::netlink::child::{ChildKind, IpvlanMode};
use ferry_types::NetworkId;
use ipnet::Ipv4Net;

use crate::bridge::State;
use crate::endpoint::{AdoptReport, Endpoint, EndpointRecord, EndpointRequest};
use crate::error::{NetworkError, ReleaseError};
use crate::ipam::{Ipam, IpamError};
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
    /// The subnet; the first of [`ParentConfig::pools`] that overlaps no host route when absent.
    pub subnet: Option<Ipv4Net>,
    /// The router, some other machine. When absent: the first address, if the network leads anywhere.
    pub gateway: Option<Ipv4Addr>,
    /// Part of the subnet addresses are taken from; all of it when absent.
    pub ip_range: Option<Ipv4Net>,
    /// Candidates for the subnet, in order.
    pub pools: Vec<Ipv4Net>,
    /// MTU of the endpoints; the parent's when absent.
    pub mtu: Option<u32>,
    /// Whether its containers get no default route (`--internal`).
    pub internal: bool,
}

impl ParentConfig {
    /// Whether packets leave the network through a router.
    fn routed(&self) -> bool {
        self.leads_out() && !self.routes_to_device()
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
    subnet: Ipv4Net,
    gateway: Option<Ipv4Addr>,
    state: Mutex<State>,
    /// When an endpoint was released last: its interface goes with its namespace, a moment later.
    released: Mutex<Option<Instant>>,
}

impl ParentNetwork {
    /// Finds or makes the parent interface; idempotent.
    ///
    /// # Errors
    /// When the kernel has no such driver, the parent is not to be had, or the subnet has no room.
    pub fn open(stack: &NetworkStack, config: ParentConfig) -> Result<Self, NetworkError> {
        let stack = Arc::clone(&stack.inner);
        let mut socket = stack.route();
        link::check_driver(&mut socket, config.kind)?;
        let subnet = match config.subnet {
            Some(subnet) => subnet,
            None => link::free_subnet(&mut socket, &config)?,
        };
        let first = || config.ip_range.unwrap_or(subnet).hosts().next();
        let gateway = config.gateway.or_else(|| config.routed().then(first).flatten());
        let parent = link::open(&mut socket, &config)?;
        drop(socket);
        let ipam = Ipam::new(subnet, config.ip_range.unwrap_or(subnet), gateway);
        let state = Mutex::new(State { ipam, endpoints: HashMap::new() });
        Ok(Self { stack, config, parent, subnet, gateway, state, released: Mutex::default() })
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

    /// The subnet in force.
    pub fn subnet(&self) -> Ipv4Net {
        self.subnet
    }

    /// The router's address, if there is one.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        self.gateway
    }

    /// Whether a container may reach the outside through it.
    pub fn leads_out(&self) -> bool {
        self.config.leads_out()
    }

    /// Keeps an address from being given out, for something that is no container.
    ///
    /// # Errors
    /// When it lies outside the subnet or is taken.
    pub fn reserve(&self, address: Ipv4Addr) -> Result<(), NetworkError> {
        self.state().ipam.take(address).map_err(|e| self.refusal(e, address))
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
    pub fn route_through(&self, netns: BorrowedFd<'_>, record: &EndpointRecord) -> Result<(), NetworkError> {
        if !self.leads_out() {
            return Ok(());
        }
        match record.gateway {
            Some(gateway) => sandbox::set_default_route(netns, &record.interface, gateway),
            None if self.config.routes_to_device() => interface::set_device_route(netns, &record.interface),
            None => Ok(()),
        }
    }

    /// Takes an endpoint back, of a container that has ended: its interface goes with the namespace, or, when somebody
    /// else holds that, by the background worker. Idempotent.
    ///
    /// # Errors
    /// None; as that of bridges.
    pub fn release(&self, record: &EndpointRecord) -> Result<(), ReleaseError> {
        let Some(record) = self.forget(record) else { return Ok(()) };
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
        if let Some(address) = record.ipv4 {
            state.ipam.free(address);
        }
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
            if record.ipv4.is_some_and(|address| state.ipam.take(address).is_err()) {
                report.conflicting.push(record.endpoint.clone());
                continue;
            }
            report.adopted += 1;
            state.endpoints.insert(record.endpoint.clone(), record.clone());
        }
        Ok(report)
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

    /// Makes a parent again that was made here and that somebody deleted.
    fn ensure_parent(&self) -> Result<u32, NetworkError> {
        let mut socket = self.stack.route();
        if let Ok(index) = rustix::net::netdevice::name_to_index(&*socket, &self.parent.name) {
            return Ok(index);
        }
        tracing::error!(parent = self.parent.name, "the parent interface of a network is gone");
        link::open(&mut socket, &self.config).map(|parent| parent.index)
    }

    fn refusal(&self, error: IpamError, address: Ipv4Addr) -> NetworkError {
        match error {
            IpamError::Exhausted => NetworkError::AddressesExhausted {
                network: self.config.network.clone(),
                id: self.config.id.to_string(),
            },
            IpamError::Taken => NetworkError::AddressInUse(address),
            IpamError::Outside => NetworkError::AddressOutside { address, subnet: self.subnet },
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn released_lately(&self) -> bool {
        let released = *self.released.lock().unwrap_or_else(PoisonError::into_inner);
        released.is_some_and(|at| at.elapsed() < retry::DYING)
    }
}
