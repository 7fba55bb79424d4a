//! The steps of giving a container an interface on a parent. Dropping an unfinished [`Attaching`] undoes all of them.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_sys::netlink::child::{self, ChildKind, MacvlanMode};
use ferry_sys::netlink::route::{self, LinkChange, LinkRef};
use ferry_sys::netlink::{Batch, NetlinkError, Protocol, Socket};
use ferry_types::EndpointId;
use rustix::io::Errno;

use super::ParentNetwork;
use super::link::reason;
use super::retry::while_dying;
use crate::addresses::Pair;
use crate::attach::link_prefix;
use crate::config::INTERFACE_PREFIX;
use crate::endpoint::{Endpoint, EndpointRecord, EndpointRequest, Sandbox};
use crate::error::NetworkError;
use crate::fault::Step;
use crate::{interface, sandbox};

/// An endpoint in the making.
pub(super) struct Attaching<'a> {
    network: &'a ParentNetwork,
    request: &'a EndpointRequest,
    /// The namespace of a container that runs; a new one when absent.
    netns: Option<BorrowedFd<'a>>,
    endpoint: EndpointId,
    addresses: Pair,
    /// The interface in a namespace that stays.
    interface: Option<String>,
    finished: bool,
}

impl<'a> Attaching<'a> {
    pub(super) fn new(
        network: &'a ParentNetwork,
        request: &'a EndpointRequest,
        netns: Option<BorrowedFd<'a>>,
    ) -> Self {
        let endpoint = EndpointId::random();
        let addresses = Pair::default();
        Self { network, request, netns, endpoint, addresses, interface: None, finished: false }
    }

    pub(super) fn run(mut self) -> Result<Endpoint, NetworkError> {
        let parent = self.network.ensure_parent()?;
        self.addresses = self.allocate()?;
        self.done(Step::Address)?;
        let mut host = Socket::open(Protocol::Route).map_err(|source| NetworkError::Kernel {
            action: "open rtnetlink for",
            object: self.network.parent.name.clone(),
            source,
        })?;
        let (network, request, addresses) = (self.network, self.request, self.addresses);
        let plan = Plan { network, request, parent, addresses, fresh: self.netns.is_none() };
        let made = match self.netns {
            None => sandbox::in_new_namespace(|netns| plan.build(&mut host, netns))?,
            Some(netns) => {
                let own = netns.try_clone_to_owned().map_err(kernel("keep network namespace"))?;
                sandbox::in_namespace(netns, || plan.build(&mut host, own))?
            }
        };
        if self.netns.is_some() {
            self.interface = Some(made.interface.clone());
        }
        self.done(Step::Configure)?;
        let record = self.record(&made);
        self.network.state().endpoints.insert(self.endpoint.clone(), record.clone());
        self.done(Step::Register)?;
        let announcements = self.network.config.announcements;
        let announced =
            self.network.stack.worker.announce(made.sandbox.netns.as_fd(), &record, announcements);
        announced.map_err(kernel("keep network namespace"))?;
        self.finished = true;
        Ok(Endpoint { sandbox: made.sandbox, record, relays: Vec::new(), warnings: Vec::new() })
    }

    fn done(&self, step: Step) -> Result<(), NetworkError> {
        self.network.stack.faults.after(step)
    }

    fn allocate(&self) -> Result<Pair, NetworkError> {
        let allocated = self.network.state().addresses.allocate(self.request);
        allocated.map_err(|refusal| self.network.refused(refusal))
    }

    fn record(&self, made: &Made) -> EndpointRecord {
        let config = &self.network.config;
        let routed = config.routed();
        let Pair { ipv4, ipv6 } = self.addresses;
        let (subnet4, subnet6) = config.subnets_of(self.addresses);
        EndpointRecord {
            endpoint: self.endpoint.clone(),
            container: self.request.container.clone(),
            bridge: config.tag(),
            netns_inode: made.sandbox.netns_inode,
            host_veth: String::new(),
            host_ifindex: 0,
            ipv4,
            prefix: subnet4.map_or(0, |s| s.net.prefix_len()),
            gateway: subnet4.filter(|_| routed).and_then(|s| s.gateway),
            ipv6,
            prefix6: subnet6.map_or(0, |s| s.net.prefix_len()),
            gateway6: subnet6.filter(|_| routed).and_then(|s| s.gateway),
            mac: made.mac,
            interface: made.interface.clone(),
            published: Vec::new(),
        }
    }
}

impl Drop for Attaching<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let network = self.network;
        network.state().endpoints.remove(&self.endpoint);
        if let (Some(netns), Some(interface)) = (self.netns, &self.interface)
            && let Err(error) = interface::remove_if(netns, interface, network.config.kind.name(), None)
        {
            tracing::warn!(%error, "failed attach not fully undone");
        }
        network.state().addresses.free(self.addresses);
    }
}

/// Makes the interface of an endpoint again that was lost. On an error none is left.
pub(super) fn restore(
    network: &ParentNetwork,
    netns: BorrowedFd<'_>,
    record: &EndpointRecord,
    request: &EndpointRequest,
) -> Result<EndpointRecord, NetworkError> {
    let parent = network.ensure_parent()?;
    let mut host = Socket::open(Protocol::Route).map_err(kernel("open netlink socket"))?;
    let own = netns.try_clone_to_owned().map_err(kernel("keep network namespace"))?;
    let (mac, interface) = (Some(record.mac), Some(record.interface.clone()));
    let request = &EndpointRequest { mac, interface, ..request.clone() };
    let plan = Plan { network, request, parent, addresses: Pair::of(record), fresh: false };
    let made = sandbox::in_namespace(netns, || plan.build(&mut host, own))?;
    let made = EndpointRecord { mac: made.mac, ..record.clone() };
    network.state().endpoints.insert(record.endpoint.clone(), made.clone());
    Ok(made)
}

/// What is to be built.
struct Plan<'a> {
    network: &'a ParentNetwork,
    request: &'a EndpointRequest,
    /// Interface index.
    parent: u32,
    addresses: Pair,
    /// Whether the namespace is a new one.
    fresh: bool,
}

/// What was built.
struct Made {
    sandbox: Sandbox,
    interface: String,
    mac: [u8; 6],
}

impl Plan<'_> {
    /// On a thread in the namespace `netns`. On an error no interface is left there.
    fn build(&self, host: &mut Socket, netns: OwnedFd) -> Result<Made, NetworkError> {
        let mut inside = Socket::open(Protocol::Route).map_err(kernel("open netlink socket"))?;
        let interface = interface::name(&mut inside, self.request.interface.as_deref(), INTERFACE_PREFIX)?;
        self.create(host, netns.as_fd(), &interface)?;
        let configured = self.configure(&mut inside, &interface);
        let mac = configured.inspect_err(|_| {
            // The first error is what the caller needs to know.
            let _ = interface::delete(&mut inside, &interface, self.network.config.kind.name(), None);
        })?;
        Ok(Made { sandbox: sandbox::sandbox(netns)?, interface, mac })
    }

    fn create(&self, host: &mut Socket, netns: BorrowedFd<'_>, name: &str) -> Result<(), NetworkError> {
        let config = &self.network.config;
        // An ipvlan's address is its parent's.
        let mac = match config.kind {
            ChildKind::Macvlan(_) => Some(self.request.mac.unwrap_or_else(random_mac)),
            ChildKind::Ipvlan(..) => None,
        };
        let attempt = || {
            let mut batch = Batch::new();
            child::create_child(&mut batch, name, self.parent, netns, config.kind, mac, config.mtu);
            host.execute(batch).map_err(|e| NetworkError::ParentPort {
                kind: config.kind.name(),
                reason: reason(&e),
                errno: e.errno().unwrap_or_default(),
            })
        };
        let passthru = config.kind == ChildKind::Macvlan(MacvlanMode::Passthru);
        let dying = passthru && self.network.released_lately();
        while_dying(attempt, |e| {
            dying
                && matches!(e, NetworkError::ParentPort { errno, .. } if *errno == Errno::INVAL.raw_os_error())
        })
    }

    /// Addresses first, then up: so the interface announces them.
    fn configure(&self, inside: &mut Socket, name: &str) -> Result<[u8; 6], NetworkError> {
        let network = self.network;
        let link = route::link(inside, LinkRef::Name(name)).map_err(failed("inspect an interface of"))?;
        let gone = || kernel("inspect an interface")(std::io::ErrorKind::NotFound.into());
        let link = link.ok_or_else(gone)?;
        if self.fresh {
            sandbox::set_sysctls();
        }
        sandbox::set_interface_sysctls(name, !network.config.ipv6.is_empty());
        if network.config.announcements.is_some_and(|setting| setting.times == 0) {
            sandbox::be_quiet(name);
        }
        interface::set_sysctls(name, &self.request.sysctls)?;
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        let mut batch = Batch::new();
        child::set_alias(&mut batch, link.index, &network.config.tag());
        route::set_link(&mut batch, LinkRef::Index(1), &up);
        let (subnet4, subnet6) = network.config.subnets_of(self.addresses);
        if let (Some(address), Some(subnet)) = (self.addresses.ipv4, subnet4) {
            route::add_address(&mut batch, link.index, address, subnet.net.prefix_len());
        }
        if let (Some(address), Some(subnet)) = (self.addresses.ipv6, subnet6) {
            route::add_address(&mut batch, link.index, address, subnet.net.prefix_len());
        }
        for address in &self.request.link_local {
            route::add_address(&mut batch, link.index, *address, link_prefix(*address));
        }
        inside.execute(batch).map_err(failed("configure an interface of"))?;
        let attempt = || {
            let mut batch = Batch::new();
            route::set_link(&mut batch, LinkRef::Index(link.index), &up);
            inside.execute(batch).map_err(|e| match e.errno().map(Errno::from_raw_os_error) {
                Some(Errno::ADDRINUSE) => NetworkError::MacInUse(mac_string(&link.mac)),
                _ => failed("bring up an interface of")(e),
            })
        };
        // Only another interface with this address on the parent is in the way.
        let dying = network.released_lately();
        while_dying(attempt, |e| dying && matches!(e, NetworkError::MacInUse(_)))?;
        let (config, out, ways) = (&network.config, network.ways_out(), self.request.default_route);
        let ipv4 = (ways.ipv4 && out.ipv4).then_some(subnet4.and_then(|s| s.gateway).map(IpAddr::V4));
        let ipv6 = (ways.ipv6 && out.ipv6).then_some(subnet6.and_then(|s| s.gateway).map(IpAddr::V6));
        let mut batch = Batch::new();
        for (gateway, is_ipv6) in [(ipv4, false), (ipv6, true)] {
            match gateway {
                Some(_) if config.routes_to_device() => {
                    route::replace_device_route(&mut batch, link.index, is_ipv6);
                }
                Some(Some(gateway)) => route::add_default_route(&mut batch, link.index, gateway),
                Some(None) | None => {}
            }
        }
        inside.execute(batch).map_err(failed("set the default route of"))?;
        <[u8; 6]>::try_from(link.mac).map_err(|_| gone())
    }
}

/// Locally administered. Not made of the address, as those on bridges are: the one before with that address may not be
/// gone yet, and two of the same cannot be on a parent.
fn random_mac() -> [u8; 6] {
    let id = EndpointId::random();
    let byte = |n: usize| u8::from_str_radix(&id.as_str()[2 * n..2 * n + 2], 16).unwrap_or_default();
    [(byte(0) & 0xfe) | 0x02, byte(1), byte(2), byte(3), byte(4), byte(5)]
}

fn mac_string(mac: &[u8]) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

fn failed(action: &'static str) -> impl Fn(NetlinkError) -> NetworkError {
    move |e| kernel(action)(e.into())
}

fn kernel(action: &'static str) -> impl Fn(std::io::Error) -> NetworkError {
    move |source| NetworkError::Kernel { action, object: "a container".to_owned(), source }
}
