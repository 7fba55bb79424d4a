//! A container's endpoints: which networks it is on, joining and leaving them. Synchronous; whoever calls owns the
//! container.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ferry_api::EndpointSettings;
use ferry_api::network::EndpointIpam;
use ferry_dns::table::{Host, View};
use ferry_network::{EndpointRecord, EndpointRequest, Network, RelaySocket, Ways};
use ferry_types::net::PublishRequest;

use super::endpoint_options::EndpointOptions;
use super::record::NetworkRecord;
use crate::container::net_files;
use crate::container::network_mode::{self, NetworkMode};
use crate::container::record::ContainerRecord;
use crate::error::{EngineError, Result};
use crate::inner::Inner;
use crate::steps::Steps;

/// Name of the default bridge's network.
pub(crate) const BRIDGE: &str = "bridge";

/// The endpoints of a container that is about to start.
pub(crate) struct Joined {
    pub endpoints: BTreeMap<String, EndpointRecord>,
    pub netns: OwnedFd,
    pub relays: Vec<RelaySocket>,
}

/// One network a container is to be on.
struct Target {
    name: String,
    network: Network,
    settings: EndpointSettings,
    /// None for the default bridge.
    user: Option<NetworkRecord>,
}

fn target(inner: &Inner, name: &str, settings: &EndpointSettings) -> Result<Target> {
    if name == BRIDGE {
        let network = inner.default_network().ok_or_else(|| EngineError::NoSuchNetwork(name.to_owned()))?;
        return Ok(Target { name: name.to_owned(), network, settings: settings.clone(), user: None });
    }
    let found = inner.networks.find(name)?;
    let network = found.network()?.clone();
    let user = Some(found.record.clone());
    Ok(Target { name: found.record.name.clone(), network, settings: settings.clone(), user })
}

/// Joins every network the container is to be on: the first with `eth0`, in the order of [`order`]. What was joined is left
/// again when `steps` are undone.
pub(crate) fn join_all(
    inner: &Arc<Inner>,
    steps: &mut Steps,
    record: &ContainerRecord,
) -> Result<Option<Joined>> {
    network_mode::compatible(&record.networks).map_err(EngineError::Forbidden)?;
    let wanted = order(record);
    let targets: Vec<Target> =
        wanted.iter().map(|(name, settings)| target(inner, name, settings)).collect::<Result<_>>()?;
    let gateways = gateways(targets.iter().map(|t| (t.name.as_str(), &t.network, &t.settings)));
    let mut joined: Option<Joined> = None;
    for target in &targets {
        let mut request = request(record, target, joined.is_none())?;
        request.default_route = gateways.through(&target.name);
        if gateways.publish_on(&target.name) && target.network.publishes() {
            request.publish = publish_requests(record)?;
        } else if target.network.opens() {
            request.open = publish_requests(record)?;
        }
        let endpoint = match &joined {
            None => target.network.attach(&request)?,
            Some(first) => target.network.join(first.netns.as_fd(), &request)?,
        };
        for warning in &endpoint.warnings {
            tracing::warn!(container = %record.id, "{warning}");
        }
        let (network, undo) = (target.network.clone(), endpoint.record.clone());
        steps.done("network endpoint", move || network.release(&undo).map_err(|e| e.to_string()));
        let joined = joined.get_or_insert_with(|| Joined {
            endpoints: BTreeMap::new(),
            netns: endpoint.sandbox.netns,
            relays: Vec::new(),
        });
        joined.relays.extend(endpoint.relays);
        joined.endpoints.insert(target.name.clone(), endpoint.record);
    }
    if let Some(joined) = &joined {
        give_memory_back(&joined.endpoints);
    }
    if let Some(joined) = &joined
        && targets.iter().any(|t| t.user.is_some())
    {
        announce(inner, steps, record, &targets, &joined.endpoints, joined.netns.as_fd())?;
    }
    Ok(joined)
}

fn publish_requests(record: &ContainerRecord) -> Result<Vec<PublishRequest>> {
    network_mode::publish_requests(&record.host_config, &record.config).map_err(EngineError::InvalidParameter)
}

/// Makes the container's names known and serves its queries.
fn announce(
    inner: &Arc<Inner>,
    steps: &mut Steps,
    record: &ContainerRecord,
    targets: &[Target],
    endpoints: &BTreeMap<String, EndpointRecord>,
    netns: BorrowedFd<'_>,
) -> Result<()> {
    let id = record.id.clone();
    let undo = Arc::clone(inner);
    steps.done("names", move || {
        undo.names.leave(&id);
        Ok(())
    });
    for target in targets {
        if let (Some(network), Some(endpoint)) = (&target.user, endpoints.get(&target.name)) {
            inner.names.join(network, &record.id, host(record, &target.settings, endpoint))?;
        }
    }
    inner.names.serve(&record.id, view(inner, record, endpoints), netns)
}

/// A running container joins a further network.
pub(crate) fn join_one(
    inner: &Arc<Inner>,
    record: &ContainerRecord,
    name: &str,
    settings: &EndpointSettings,
    pid: i32,
) -> Result<EndpointRecord> {
    let target = target(inner, name, settings)?;
    let netns = namespace(pid)?;
    let current = connected(inner, record);
    let all = current.iter().map(|(n, network, s)| (n.as_str(), network, s));
    let all = all.chain([(target.name.as_str(), &target.network, &target.settings)]);
    let ways = gateways(all).through(&target.name);
    // Ports stay where they are published; they are opened where packets are routed.
    let mut request = request(record, &target, record.endpoints.is_empty())?;
    if target.network.opens() {
        request.open = publish_requests(record)?;
    }
    let endpoint = target.network.join(netns.as_fd(), &request)?;
    let after = || -> Result<()> {
        target.network.route_through(netns.as_fd(), &endpoint.record, ways)?;
        if let Some(network) = &target.user {
            let mut endpoints = record.endpoints.clone();
            endpoints.insert(target.name.clone(), endpoint.record.clone());
            let mut record = record.clone();
            record.networks.insert(target.name.clone(), settings.clone());
            inner.names.join(network, &record.id, host(&record, settings, &endpoint.record))?;
            inner.names.serve(&record.id, view(inner, &record, &endpoints), netns.as_fd())?;
            inner.names.watch_process(&record.id, pid);
        }
        Ok(())
    };
    after().inspect_err(|_| {
        if let Err(error) = target.network.leave(netns.as_fd(), &endpoint.record) {
            tracing::warn!(%error, "a failed connection to a network is not fully undone");
        }
        if let Some(network) = &target.user {
            inner.names.part(network, &record.id);
        }
    })?;
    Ok(endpoint.record)
}

/// Makes an interface again that a running container has lost.
pub(super) fn remake(
    inner: &Inner,
    record: &ContainerRecord,
    name: &str,
    endpoint: &EndpointRecord,
    netns: BorrowedFd<'_>,
) -> Result<EndpointRecord> {
    let settings = record.networks.get(name).cloned().unwrap_or_default();
    let target = target(inner, name, &settings)?;
    let current = connected(inner, record);
    let gateways = gateways(current.iter().map(|(n, network, s)| (n.as_str(), network, s)));
    let request =
        EndpointRequest { default_route: gateways.through(name), ..request(record, &target, false)? };
    Ok(target.network.restore(netns, endpoint, &request)?)
}

/// A running container leaves a network.
pub(crate) fn leave_one(inner: &Arc<Inner>, record: &ContainerRecord, name: &str, pid: i32) -> Result<()> {
    let Some(endpoint) = record.endpoints.get(name) else { return Ok(()) };
    let netns = namespace(pid)?;
    if let Some(network) = network_of(inner, name)
        && let Err(error) = network.leave(netns.as_fd(), endpoint)
    {
        tracing::warn!(container = %record.id, %error, "releasing a network endpoint failed");
    }
    if name != BRIDGE
        && let Ok(network) = inner.networks.find(name)
    {
        inner.names.part(&network.record, &record.id);
    }
    let mut rest = record.clone();
    rest.endpoints.remove(name);
    rest.networks.remove(name);
    let current = connected(inner, &rest);
    let next = gateways(current.iter().map(|(n, network, s)| (n.as_str(), network, s)));
    for (name, network, _) in &current {
        // As in Docker: a network that cannot be the way out is no reason to stay on another.
        if let Some(endpoint) = rest.endpoints.get(name)
            && let Err(error) = network.route_through(netns.as_fd(), endpoint, next.through(name))
        {
            tracing::warn!(container = %record.id, network = name, %error, "it is not the way out now");
        }
    }
    inner.names.look(&record.id, view(inner, &rest, &rest.endpoints));
    Ok(())
}

/// Ports of a running container that are to be published on another of its networks than they are.
pub(crate) struct Move {
    /// The network they are published on.
    from: Option<String>,
    /// The network that leads to the outside now.
    to: Option<String>,
    requests: Vec<PublishRequest>,
}

impl Move {
    /// Whether the ports are not where they should be.
    pub fn is_needed(&self) -> bool {
        self.from != self.to
    }
}

/// Where a container's ports are published, and where they should be; none when it has none.
pub(crate) fn moved(inner: &Inner, record: &ContainerRecord) -> Result<Option<Move>> {
    let requests = publish_requests(record)?;
    if requests.is_empty() {
        return Ok(None);
    }
    let current = connected(inner, record);
    let gateways = gateways(current.iter().map(|(n, network, s)| (n.as_str(), network, s)));
    let to = current.iter().find(|(name, network, _)| gateways.publish_on(name) && network.publishes());
    let to = to.map(|(name, ..)| name.clone());
    let of_host = |e: &EndpointRecord| e.published.iter().any(|p| p.host_port != 0);
    let from = record.endpoints.iter().find(|(_, e)| of_host(e)).map(|(name, _)| name.clone());
    Ok(Some(Move { from, to, requests }))
}

/// The first half of a move: the ports are published nowhere.
pub(crate) fn unpublish(inner: &Inner, record: &mut ContainerRecord, this: &Move) -> Result<()> {
    let Some(name) = &this.from else { return Ok(()) };
    let (Some(Network::Bridge(bridge)), Some(endpoint)) =
        (network_of(inner, name), record.endpoints.get_mut(name))
    else {
        return Ok(());
    };
    *endpoint = bridge.unpublish(endpoint)?;
    Ok(())
}

/// The second half: they are published where the container's way to the outside leads now.
pub(crate) fn publish(inner: &Inner, record: &mut ContainerRecord, this: &Move) -> Result<Vec<RelaySocket>> {
    let Some(name) = &this.to else { return Ok(Vec::new()) };
    let container = record.name.to_string();
    let (Some(Network::Bridge(bridge)), Some(endpoint)) =
        (network_of(inner, name), record.endpoints.get_mut(name))
    else {
        return Ok(Vec::new());
    };
    let (published, relays) = bridge.publish(endpoint, &container, &this.requests)?;
    *endpoint = published;
    Ok(relays)
}

/// Publishing a range of thousands takes memory for a moment, in pieces between others: the kernel gets it back afterwards.
fn give_memory_back(endpoints: &BTreeMap<String, EndpointRecord>) {
    const MANY: usize = 1000;
    const AFTER: Duration = Duration::from_secs(1);
    if endpoints.values().map(|e| e.published.len()).sum::<usize>() < MANY {
        return;
    }
    let trim = || {
        std::thread::sleep(AFTER);
        ferry_sys::supervisor::trim_heap();
    };
    // Without a thread it stays as it is.
    let _ = std::thread::Builder::new().name("ferry-trim".to_owned()).spawn(trim);
}

/// Leaves all networks, when the container has ended.
pub(crate) fn leave_all(inner: &Inner, record: &ContainerRecord) {
    give_memory_back(&record.endpoints);
    for (name, endpoint) in &record.endpoints {
        release(inner, name, endpoint);
    }
    inner.names.leave(&record.id);
}

fn release(inner: &Inner, name: &str, endpoint: &EndpointRecord) {
    if let Some(Err(error)) = network_of(inner, name).map(|network| network.release(endpoint)) {
        tracing::warn!(container = %endpoint.container, %error, "releasing a network endpoint failed");
    }
}

pub(super) fn network_of(inner: &Inner, name: &str) -> Option<Network> {
    match name {
        BRIDGE => inner.default_network(),
        name => inner.networks.find(name).ok().and_then(|n| n.network.clone()),
    }
}

/// A container's names after the engine was restarted, or after a change of its name.
pub(crate) fn announce_again(inner: &Arc<Inner>, record: &ContainerRecord) {
    let mut known = false;
    for (name, endpoint) in record.endpoints.iter().filter(|(name, _)| *name != BRIDGE) {
        let Ok(network) = inner.networks.find(name) else { continue };
        let settings = record.networks.get(name).cloned().unwrap_or_default();
        if let Err(error) = inner.names.join(&network.record, &record.id, host(record, &settings, endpoint)) {
            tracing::warn!(container = %record.id, %error, "its names are not known on {name}");
        }
        known = true;
    }
    if known {
        inner.names.look(&record.id, view(inner, record, &record.endpoints));
    }
}

/// The networks a container is on now.
fn connected(inner: &Inner, record: &ContainerRecord) -> Vec<(String, Network, EndpointSettings)> {
    let of = |name: &String| {
        let settings = record.networks.get(name).cloned().unwrap_or_default();
        target(inner, name, &settings).ok().map(|t| (t.name, t.network, t.settings))
    };
    record.endpoints.keys().filter_map(of).collect()
}

/// The networks of a container, that of its network mode first, the others by name.
pub(super) fn order(record: &ContainerRecord) -> Vec<(&String, &EndpointSettings)> {
    let own = match NetworkMode::parse(&record.host_config.network_mode) {
        NetworkMode::Bridge => BRIDGE.to_owned(),
        NetworkMode::Other(name) => name,
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host | NetworkMode::Container(_) => return Vec::new(),
    };
    // `none` is no network to join; a container that left it may be on others.
    let real = record.networks.iter().filter(|(name, _)| *name != "none");
    let (mut first, rest): (Vec<_>, Vec<_>) = real.partition(|(name, _)| **name == own);
    first.extend(rest);
    first
}

/// The networks that lead to the outside, for each family.
struct Gateways {
    ipv4: Option<String>,
    ipv6: Option<String>,
}

impl Gateways {
    fn through(&self, name: &str) -> Ways {
        Ways { ipv4: self.ipv4.as_deref() == Some(name), ipv6: self.ipv6.as_deref() == Some(name) }
    }

    /// Whether ports are published on a network.
    fn publish_on(&self, name: &str) -> bool {
        self.ipv4.as_deref().or(self.ipv6.as_deref()) == Some(name)
    }
}

/// Of the networks that lead to the outside, the one of the highest priority; of these one that does by both families, then
/// the first by name.
fn gateways<'a>(networks: impl Iterator<Item = (&'a str, &'a Network, &'a EndpointSettings)>) -> Gateways {
    let mut best: Vec<(i64, u8, &str, Ways)> = networks
        .map(|(name, network, settings)| {
            let ways = network.ways_out();
            (settings.gw_priority, u8::from(ways.ipv4) + u8::from(ways.ipv6), name, ways)
        })
        .collect();
    best.sort_by_key(|(priority, ways, name, _)| (Reverse(*priority), Reverse(*ways), *name));
    let first = |leads: fn(&Ways) -> bool| {
        best.iter().find(|(.., ways)| leads(ways)).map(|(_, _, name, _)| (*name).to_owned())
    };
    Gateways { ipv4: first(|w| w.ipv4), ipv6: first(|w| w.ipv6) }
}

/// What is asked of a network, but for ways and ports.
fn request(record: &ContainerRecord, target: &Target, first: bool) -> Result<EndpointRequest> {
    let invalid = |e: String| EngineError::InvalidParameter(e);
    let mac = match target.settings.mac_address.as_str() {
        "" if first => record.config.mac_address.as_str(),
        own => own,
    };
    let ipam = target.settings.ipam_config.as_ref();
    let options = EndpointOptions::parse(&target.settings.driver_opts).map_err(invalid)?;
    let mac = if mac.is_empty() { None } else { Some(network_mode::parse_mac(mac).map_err(invalid)?) };
    Ok(EndpointRequest {
        container: record.id.clone(),
        name: record.name.to_string(),
        ipv4: fixed(ipam.map_or("", |i| &i.ipv4_address), "IPv4")?,
        ipv6: fixed(ipam.map_or("", |i| &i.ipv6_address), "IPv6")?,
        mac,
        publish: Vec::new(),
        open: Vec::new(),
        default_route: Ways::default(),
        without_ipv6: network_mode::switches_ipv6_off(&record.host_config) || options.disables_ipv6(),
        link_local: link_local(ipam)?,
        interface: options.interface,
        sysctls: options.sysctls,
    })
}

/// An address a container asks for on a network.
fn fixed<A: FromStr>(text: &str, family: &str) -> Result<Option<A>> {
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = |_| EngineError::InvalidParameter(format!("invalid {family} address: {text}"));
    text.parse().map(Some).map_err(invalid)
}

/// The link-local addresses a container asks for besides.
fn link_local(ipam: Option<&EndpointIpam>) -> Result<Vec<IpAddr>> {
    let texts = ipam.into_iter().flat_map(|ipam| ipam.link_local_ips.iter()).filter(|t| !t.is_empty());
    let parsed = texts.map(|text| match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) if v4.is_link_local() => Ok(v4.into()),
        Ok(IpAddr::V6(v6)) if v6.is_unicast_link_local() => Ok(v6.into()),
        _ => Err(EngineError::InvalidParameter(format!("invalid link local IP address: {text}"))),
    });
    parsed.collect()
}

/// The names a container answers to on a network: its own, aliases, its short id, and a hostname of the user's choice.
pub(crate) fn dns_names(record: &ContainerRecord, settings: &EndpointSettings) -> Vec<String> {
    let mut names = vec![record.name.to_string()];
    let short = record.id.short().to_owned();
    let further = settings.aliases.iter().cloned().chain([short, record.config.hostname.clone()]);
    for name in further {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn host(record: &ContainerRecord, settings: &EndpointSettings, endpoint: &EndpointRecord) -> Host {
    Host {
        name: record.name.to_string(),
        names: dns_names(record, settings),
        addresses: endpoint.addresses().collect(),
    }
}

/// What the container's queries see.
fn view(inner: &Inner, record: &ContainerRecord, endpoints: &BTreeMap<String, EndpointRecord>) -> View {
    let mut view = View::default();
    let mut open = false;
    for name in endpoints.keys() {
        if name == BRIDGE {
            open = true;
        } else if let Ok(network) = inner.networks.find(name) {
            open |= !network.record.internal;
            view.networks.push(network.record.id.to_string());
        }
        let links = record.networks.get(name).into_iter().flat_map(|s| s.links.iter());
        view.links.extend(links.map(|link| match link.split_once(':') {
            Some((target, alias)) => (alias.to_owned(), target.to_owned()),
            None => (link.clone(), link.clone()),
        }));
    }
    let resolver = net_files::resolver_options(inner, record);
    view.ndots = resolver
        .options
        .iter()
        .any(|o| o.strip_prefix("ndots:").and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n > 0));
    if open {
        match net_files::name_servers(&resolver) {
            Some(servers) => view.servers = servers,
            None => {
                view.host_servers = true;
                // For a name server that is older than this engine and knows only what it is told.
                let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
                view.servers = ferry_dns::host::servers(&host);
            }
        }
    }
    view
}

pub(super) fn namespace(pid: i32) -> Result<OwnedFd> {
    let path = std::path::PathBuf::from(format!("/proc/{pid}/ns/net"));
    let opened = std::fs::File::open(&path);
    opened.map(OwnedFd::from).map_err(|source| EngineError::File { action: "open", path, source })
}
