//! Making network namespaces with one end of a veth pair in them, ahead of time where possible.
//!
//! A namespace is held by its descriptor only: when the engine dies, the kernel frees the unused ones
//! together with their veth pairs.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use ferry_sys::netlink::route::{self, Link, LinkChange, LinkRef, PortChange};
use ferry_sys::netlink::{Batch, Protocol, Socket};
use ferry_sys::netns;
use ferry_types::EndpointId;

use crate::endpoint::{EndpointRecord, Sandbox, Ways};
use crate::error::NetworkError;
use crate::interface;

/// Name of the first interface inside.
pub(crate) const FIRST_INTERFACE: &str = "eth0";

/// Where the host side of a veth pair goes.
#[derive(Debug, Clone)]
pub(crate) struct Plug {
    /// Interface index of the bridge; none yet for a spare one.
    pub(crate) bridge: Option<u32>,
    /// MTU of both ends.
    pub(crate) mtu: Option<u32>,
    /// Whether ports must not talk to each other.
    pub(crate) isolated: bool,
    /// Whether the container's end is for IPv6, too.
    pub(crate) ipv6: bool,
    /// What the name of the container's end begins with.
    pub(crate) prefix: String,
}

/// A namespace on its bridge that only lacks its addresses.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) sandbox: Sandbox,
    /// rtnetlink inside the namespace.
    pub(crate) route: Socket,
    pub(crate) inner_index: u32,
    /// Its name.
    pub(crate) interface: String,
    pub(crate) host_veth: String,
    pub(crate) host_index: u32,
}

/// Runs `f` on a thread of its own in a new namespace, with its descriptor.
pub(crate) fn in_new_namespace<T: Send>(
    f: impl FnOnce(OwnedFd) -> Result<T, NetworkError> + Send,
) -> Result<T, NetworkError> {
    on_a_thread(move || {
        netns::unshare().map_err(kernel("create network namespace"))?;
        let netns = netns::current().map_err(kernel("open network namespace"))?;
        f(netns)
    })
}

/// Runs `f` on a thread of its own in a namespace.
pub(crate) fn in_namespace<T: Send>(
    netns: BorrowedFd<'_>,
    f: impl FnOnce() -> Result<T, NetworkError> + Send,
) -> Result<T, NetworkError> {
    on_a_thread(move || {
        netns::enter(netns).map_err(kernel("enter network namespace"))?;
        f()
    })
}

/// A thread's namespace is its own affair; one that changed it must not do anything else afterwards.
fn on_a_thread<T: Send>(run: impl FnOnce() -> Result<T, NetworkError> + Send) -> Result<T, NetworkError> {
    thread::scope(|scope| {
        match thread::Builder::new().name("ferry-netns".to_owned()).spawn_scoped(scope, run) {
            Ok(handle) => handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => Err(kernel("create network namespace")(error)),
        }
    })
}

fn kernel(action: &'static str) -> impl Fn(io::Error) -> NetworkError {
    move |source| NetworkError::Kernel { action, object: "for a container".to_owned(), source }
}

/// A namespace with `lo` up and nothing else.
pub(crate) fn isolated() -> Result<Sandbox, NetworkError> {
    in_new_namespace(|netns| {
        let mut route = Socket::open(Protocol::Route).map_err(kernel("open netlink socket"))?;
        let mut batch = Batch::new();
        route::set_link(
            &mut batch,
            LinkRef::Index(1),
            &LinkChange { up: Some(true), ..LinkChange::default() },
        );
        route.execute(batch).map_err(|e| kernel("bring up loopback")(e.into()))?;
        set_sysctls();
        sandbox(netns)
    })
}

pub(crate) fn sandbox(netns: OwnedFd) -> Result<Sandbox, NetworkError> {
    let netns_inode = netns::inode(&netns).map_err(kernel("inspect network namespace"))?;
    Ok(Sandbox { netns, netns_inode })
}

/// A namespace with an interface on a bridge, `eth0` or as `named`. `host` is a rtnetlink socket of the host's namespace.
pub(crate) fn connected(host: &mut Socket, plug: &Plug, named: Option<&str>) -> Result<Ready, NetworkError> {
    in_new_namespace(|netns| build(host, plug, netns, named))
}

fn build(host: &mut Socket, plug: &Plug, netns: OwnedFd, named: Option<&str>) -> Result<Ready, NetworkError> {
    let failed = |action| move |e: ferry_sys::netlink::NetlinkError| kernel(action)(e.into());
    let mut inside = Socket::open(Protocol::Route).map_err(kernel("open netlink socket"))?;
    let name = match named {
        Some(_) => interface::name(&mut inside, named, &plug.prefix)?,
        None => format!("{}0", plug.prefix),
    };
    let host_veth = create_pair(host, plug, netns.as_fd(), &name).map_err(failed("create veth pair"))?;
    set_sysctls();
    set_interface_sysctls(&name, plug.ipv6);
    finish(host, plug, netns, inside, host_veth, &name)
}

/// A further interface in a namespace that is in use: the next free `ethN` or as `named`, on a bridge. On an error nothing
/// is left.
pub(crate) fn joined(
    host: &mut Socket,
    plug: &Plug,
    netns: BorrowedFd<'_>,
    named: Option<&str>,
) -> Result<Ready, NetworkError> {
    let own = netns.try_clone_to_owned().map_err(kernel("keep network namespace"))?;
    in_namespace(netns, move || {
        let mut inside = Socket::open(Protocol::Route).map_err(kernel("open netlink socket"))?;
        let failed = |action| move |e: ferry_sys::netlink::NetlinkError| kernel(action)(e.into());
        let name = interface::name(&mut inside, named, &plug.prefix)?;
        let host_veth = create_pair(host, plug, own.as_fd(), &name).map_err(failed("create veth pair"))?;
        set_interface_sysctls(&name, plug.ipv6);
        finish(host, plug, own, inside, host_veth.clone(), &name).inspect_err(|_| {
            // The other end is in a namespace that stays: nothing removes the pair but this.
            if let Ok(Some(link)) = route::link(host, LinkRef::Name(&host_veth)) {
                let mut batch = Batch::new();
                route::delete_link(&mut batch, link.index);
                let _ = host.execute(batch);
            }
        })
    })
}

/// Makes an endpoint's interface the way to the outside of a namespace, in place of any other.
pub(crate) fn set_default_routes(
    netns: BorrowedFd<'_>,
    record: &EndpointRecord,
    ways: Ways,
) -> Result<(), NetworkError> {
    let ipv4 = record.gateway.filter(|_| ways.ipv4).map(IpAddr::V4);
    let ipv6 = record.gateway6.filter(|_| ways.ipv6).map(IpAddr::V6);
    if ipv4.is_none() && ipv6.is_none() {
        return Ok(());
    }
    in_namespace(netns, || {
        let failed = |action| move |e: ferry_sys::netlink::NetlinkError| kernel(action)(e.into());
        let mut inside = Socket::open(Protocol::Route).map_err(kernel("open netlink socket"))?;
        let name = LinkRef::Name(&record.interface);
        let link = route::link(&mut inside, name).map_err(failed("inspect veth"))?;
        let link = link.ok_or_else(|| kernel("find an interface")(io::ErrorKind::NotFound.into()))?;
        let mut batch = Batch::new();
        for gateway in ipv4.into_iter().chain(ipv6) {
            route::replace_default_route(&mut batch, link.index, gateway);
        }
        inside.execute(batch).map_err(failed("set the default route"))
    })
}

/// The rest, once the pair is there: `interface` is its end in `netns`.
fn finish(
    host: &mut Socket,
    plug: &Plug,
    netns: OwnedFd,
    mut inside: Socket,
    host_veth: String,
    interface: &str,
) -> Result<Ready, NetworkError> {
    let failed = |action| move |e: ferry_sys::netlink::NetlinkError| kernel(action)(e.into());

    let index = |socket: &mut Socket, name| -> Result<u32, NetworkError> {
        let link = route::link(socket, LinkRef::Name(name)).map_err(failed("inspect veth"))?;
        link.map(|l| l.index).ok_or_else(|| kernel("inspect veth")(io::ErrorKind::NotFound.into()))
    };
    let host_index = index(host, &host_veth)?;
    let inner_index = index(&mut inside, interface)?;

    if plug.bridge.is_some() {
        plug_in(host, plug, host_index).map_err(failed("connect veth to bridge"))?;
    }
    let up = LinkChange { up: Some(true), ..LinkChange::default() };

    let mut batch = Batch::new();
    route::set_link(&mut batch, LinkRef::Index(1), &up);
    if plug.ipv6 {
        // It gets all its addresses from us.
        route::no_ipv6_autoconfiguration(&mut batch, LinkRef::Index(inner_index));
    }
    route::set_link(&mut batch, LinkRef::Index(inner_index), &up);
    inside.execute(batch).map_err(failed("bring up an interface"))?;
    if plug.bridge.is_some() {
        await_carrier(host, host_index, &mut inside, inner_index);
    }
    let interface = interface.to_owned();
    Ok(Ready { sandbox: sandbox(netns)?, route: inside, inner_index, interface, host_veth, host_index })
}

/// Puts a spare sandbox on a bridge.
pub(crate) fn adapt(host: &mut Socket, plug: &Plug, ready: &mut Ready) -> Result<(), NetworkError> {
    let failed = |action| move |e: ferry_sys::netlink::NetlinkError| kernel(action)(e.into());
    if let Some(mtu) = plug.mtu {
        let change = LinkChange { mtu: Some(mtu), ..LinkChange::default() };
        let mut batch = Batch::new();
        route::set_link(&mut batch, LinkRef::Index(ready.inner_index), &change);
        ready.route.execute(batch).map_err(failed("set the MTU of an interface"))?;
    }
    plug_in(host, plug, ready.host_index).map_err(failed("connect veth to bridge"))?;
    await_carrier(host, ready.host_index, &mut ready.route, ready.inner_index);
    Ok(())
}

/// Makes the host's end of a veth pair a port of the bridge.
pub(crate) fn plug_in(
    host: &mut Socket,
    plug: &Plug,
    index: u32,
) -> Result<(), ferry_sys::netlink::NetlinkError> {
    let mut batch = Batch::new();
    let link = LinkRef::Index(index);
    route::no_ipv6_autoconfiguration(&mut batch, link);
    let change = LinkChange { up: Some(true), master: plug.bridge, mtu: plug.mtu, ..LinkChange::default() };
    route::set_link(&mut batch, link, &change);
    let port = PortChange { hairpin: Some(true), isolated: Some(plug.isolated), ..PortChange::default() };
    route::set_port(&mut batch, index, &port);
    // A kernel without IPv6 has nothing to configure there.
    host.execute_lenient(batch, &|index, _| index == 0)
}

/// Lets frames pass a bridge port again that was closed: off the bridge and on it again, it is as it was made.
pub(crate) fn reopen(
    host: &mut Socket,
    plug: &Plug,
    index: u32,
) -> Result<(), ferry_sys::netlink::NetlinkError> {
    let mut batch = Batch::new();
    let off = LinkChange { master: Some(0), ..LinkChange::default() };
    route::set_link(&mut batch, LinkRef::Index(index), &off);
    host.execute(batch)?;
    plug_in(host, plug, index)
}

/// A link sends, and a bridge forwards to it, when a kernel thread has taken note of its carrier. A container that runs
/// before would lose its first packets, and wait a second for tcp to send again; beyond this time it is let run all the
/// same.
fn await_carrier(host: &mut Socket, host_index: u32, inside: &mut Socket, inner_index: u32) {
    const FORWARDING: u8 = 3;
    wait_for(host, host_index, |l| l.operational && l.port_state == Some(FORWARDING));
    wait_for(inside, inner_index, |l| l.operational);
}

fn wait_for(socket: &mut Socket, index: u32, ready: impl Fn(&Link) -> bool) {
    const PAUSE: Duration = Duration::from_micros(200);
    const ATTEMPTS: usize = 100;
    for _ in 0..ATTEMPTS {
        match route::link(socket, LinkRef::Index(index)) {
            Ok(Some(link)) if !ready(&link) => thread::sleep(PAUSE),
            _ => return,
        }
    }
}

/// Creates the pair under a free name like `veth1a2b3c4`.
fn create_pair(
    host: &mut Socket,
    plug: &Plug,
    netns: BorrowedFd<'_>,
    interface: &str,
) -> Result<String, ferry_sys::netlink::NetlinkError> {
    let mut attempts = 0;
    loop {
        let name = format!("veth{}", &EndpointId::random().as_str()[..7]);
        let mut batch = Batch::new();
        // On the bridge from the first moment: there `adopt` finds those of an engine that was killed meanwhile.
        route::create_veth(&mut batch, &name, plug.bridge, interface, netns, plug.mtu);
        match host.execute(batch) {
            Ok(()) => return Ok(name),
            Err(e) if e.errno() == Some(rustix::io::Errno::EXIST.raw_os_error()) && attempts < 8 => {
                attempts += 1
            }
            Err(e) => return Err(e),
        }
    }
}

/// Whether a device could be the host side of one of our pairs.
pub(crate) fn is_veth_name(name: &str) -> bool {
    name.strip_prefix("veth").is_some_and(|hex| hex.len() == 7 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Settings of the calling thread's namespace that Docker makes for every container.
pub(crate) fn set_sysctls() {
    let settings = [
        ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
        ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
    ];
    for (path, value) in settings {
        let _ = fs::write(path, value);
    }
}

/// Settings of an interface in the calling thread's namespace. Best effort: without IPv6 in the kernel there are none of it.
pub(crate) fn set_interface_sysctls(name: &str, ipv6: bool) {
    let set = |family: &str, setting: &str, value: &str| {
        let _ = fs::write(format!("/proc/sys/net/{family}/conf/{name}/{setting}"), value);
    };
    // A new hardware address is made known to the neighbours.
    set("ipv4", "arp_notify", "1");
    if !ipv6 {
        // No router discovery, multicast reports and link-local address on a network without IPv6.
        set("ipv6", "disable_ipv6", "1");
        return;
    }
    for (setting, value) in [("disable_ipv6", "0"), ("accept_ra", "0"), ("ndisc_notify", "1")] {
        set("ipv6", setting, value);
    }
}

/// Has an interface not announce its addresses by itself.
pub(crate) fn be_quiet(name: &str) {
    for setting in ["ipv4/conf/{}/arp_notify", "ipv6/conf/{}/ndisc_notify"] {
        let _ = fs::write(format!("/proc/sys/net/{}", setting.replace("{}", name)), "0");
    }
}

/// Ready-made sandboxes of one bridge, or spare ones for any, refilled by a [`Maker`].
#[derive(Debug)]
pub(crate) struct Pool {
    plug: Plug,
    target: usize,
    ready: Mutex<Stock>,
    maker: Arc<Signal>,
}

#[derive(Debug, Default)]
struct Stock {
    ready: VecDeque<Ready>,
    closed: bool,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Stock> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A ready-made sandbox if there is one.
    pub(crate) fn take(&self) -> Option<Ready> {
        let taken = self.lock().ready.pop_front();
        self.maker.ring();
        taken
    }

    /// Frees the sandboxes and takes no more.
    pub(crate) fn close(&self) {
        let mut stock = self.lock();
        stock.closed = true;
        stock.ready.clear();
    }

    /// Interface indices of the host sides of those that are ready.
    pub(crate) fn indices(&self) -> Vec<u32> {
        self.lock().ready.iter().map(|ready| ready.host_index).collect()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().ready.len()
    }

    fn wants(&self) -> bool {
        let stock = self.lock();
        !stock.closed && stock.ready.len() < self.target
    }
}

#[derive(Debug, Default)]
struct Signal {
    state: Mutex<SignalState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct SignalState {
    rung: bool,
    stop: bool,
}

impl Signal {
    fn lock(&self) -> MutexGuard<'_, SignalState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        self.lock().rung = true;
        self.changed.notify_one();
    }

    /// Sleeps, unless the maker is to stop.
    fn pause(&self, time: Duration) {
        let state = self.lock();
        drop(self.changed.wait_timeout_while(state, time, |s| !s.stop));
    }
}

/// The thread that keeps the pools full.
#[derive(Debug)]
pub(crate) struct Maker {
    signal: Arc<Signal>,
    pools: Arc<Mutex<Vec<Weak<Pool>>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Maker {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let signal = Arc::new(Signal::default());
        let pools: Arc<Mutex<Vec<Weak<Pool>>>> = Arc::default();
        let mut host = Socket::open(Protocol::Route)?;
        let (inner_signal, inner_pools) = (Arc::clone(&signal), Arc::clone(&pools));
        let thread = thread::Builder::new()
            .name("ferry-net-pool".to_owned())
            .spawn(move || fill(&inner_signal, &inner_pools, &mut host))?;
        Ok(Self { signal, pools, thread: Some(thread) })
    }

    /// Adds a pool that is kept at `target` sandboxes from now on.
    pub(crate) fn add(&self, plug: Plug, target: usize) -> Arc<Pool> {
        let pool = Arc::new(Pool { plug, target, ready: Mutex::default(), maker: Arc::clone(&self.signal) });
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|p| p.strong_count() > 0);
        pools.push(Arc::downgrade(&pool));
        drop(pools);
        self.signal.ring();
        pool
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.signal.lock().stop = true;
        self.signal.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How long a failed attempt to make a sandbox is not repeated; doubles with every further failure.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(32);

fn fill(signal: &Signal, pools: &Mutex<Vec<Weak<Pool>>>, host: &mut Socket) {
    let mut failures = 0_u32;
    loop {
        let mut state = signal.lock();
        while !state.rung && !state.stop {
            state = signal.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stop {
            return;
        }
        state.rung = false;
        drop(state);
        let hungry = || {
            let pools = pools.lock().unwrap_or_else(PoisonError::into_inner);
            pools.iter().filter_map(Weak::upgrade).find(|p| p.wants())
        };
        while let Some(pool) = hungry() {
            if signal.lock().stop {
                return;
            }
            match connected(host, &pool.plug, None) {
                Ok(ready) => {
                    failures = 0;
                    let mut stock = pool.lock();
                    if !stock.closed {
                        stock.ready.push_back(ready);
                    }
                }
                Err(error) => {
                    // Said once: attach makes its own sandbox then and reports what is wrong.
                    if failures == 0 {
                        tracing::warn!(%error, "no sandbox could be prepared");
                    }
                    signal
                        .pause(PAUSE_AFTER_FAILURE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE));
                    failures = failures.saturating_add(1);
                }
            }
        }
    }
}
