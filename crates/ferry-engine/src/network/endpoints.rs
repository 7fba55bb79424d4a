//! A container's endpoints: which networks it is on, joining and leaving them. Synchronous; whoever calls owns the
//! container.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ferry_api::EndpointSettings;
use ferry_dns::table::{Host, View};
use ferry_network::{EndpointRecord, EndpointRequest, Network, RelaySocket};

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
        let network = Network::Bridge(Arc::clone(&inner.bridge));
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
    let gateway = gateway(targets.iter().map(|t| (t.name.as_str(), &t.network, &t.settings)));
    let gateway = gateway.map(str::to_owned);
    let mut joined: Option<Joined> = None;
    for target in &targets {
        let is_gateway = gateway.as_deref() == Some(&*target.name);
        let request = request(record, target, is_gateway, joined.is_none())?;
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
    if let Some(joined) = &joined
        && targets.iter().any(|t| t.user.is_some())
    {
        announce(inner, steps, record, &targets, &joined.endpoints, joined.netns.as_fd())?;
    }
    Ok(joined)
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
    let is_gateway = gateway(all) == Some(&*target.name);
    // Ports stay where they are published.
    let mut request = request(record, &target, false, record.endpoints.is_empty())?;
    request.publish = Vec::new();
    let endpoint = target.network.join(netns.as_fd(), &request)?;
    let after = || -> Result<()> {
        if is_gateway {
            target.network.route_through(netns.as_fd(), &endpoint.record)?;
        }
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
    let next = gateway(current.iter().map(|(n, network, s)| (n.as_str(), network, s)));
    if let Some((next, network, _)) = current.iter().find(|(n, ..)| Some(n.as_str()) == next)
        && let Some(endpoint) = rest.endpoints.get(next)
    {
        network.route_through(netns.as_fd(), endpoint)?;
    }
    inner.names.look(&record.id, view(inner, &rest, &rest.endpoints));
    Ok(())
}

/// Leaves all networks, when the container has ended.
pub(crate) fn leave_all(inner: &Inner, record: &ContainerRecord) {
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

fn network_of(inner: &Inner, name: &str) -> Option<Network> {
    match name {
        BRIDGE => Some(Network::Bridge(Arc::clone(&inner.bridge))),
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
fn order(record: &ContainerRecord) -> Vec<(&String, &EndpointSettings)> {
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

/// The network that leads to the outside: of those that do, the one of the highest priority, of these the first by name.
fn gateway<'a>(
    networks: impl Iterator<Item = (&'a str, &'a Network, &'a EndpointSettings)>,
) -> Option<&'a str> {
    let open = networks.filter(|(_, network, _)| network.leads_out());
    open.map(|(name, _, settings)| (std::cmp::Reverse(settings.gw_priority), name))
        .min()
        .map(|(_, name)| name)
}

fn request(record: &ContainerRecord, target: &Target, gateway: bool, first: bool) -> Result<EndpointRequest> {
    let invalid = |e: String| EngineError::InvalidParameter(e);
    let publish = match gateway && target.network.publishes() {
        true => network_mode::publish_requests(&record.host_config, &record.config).map_err(invalid)?,
        false => Vec::new(),
    };
    let mac = match target.settings.mac_address.as_str() {
        "" if first => record.config.mac_address.as_str(),
        own => own,
    };
    let options = EndpointOptions::parse(&target.settings.driver_opts).map_err(invalid)?;
    let mac = if mac.is_empty() { None } else { Some(network_mode::parse_mac(mac).map_err(invalid)?) };
    Ok(EndpointRequest {
        container: record.id.clone(),
        name: record.name.to_string(),
        ipv4: fixed_address(&target.settings)?,
        ipv6: None,
        mac,
        publish,
        default_route: gateway,
        interface: options.interface,
        sysctls: options.sysctls,
    })
}

/// The address a container asks for on a network.
pub(crate) fn fixed_address(settings: &EndpointSettings) -> Result<Option<Ipv4Addr>> {
    let text = settings.ipam_config.as_ref().map_or("", |ipam| ipam.ipv4_address.as_str());
    if text.is_empty() {
        return Ok(None);
    }
    let address =
        text.parse().map_err(|_| EngineError::InvalidParameter(format!("invalid IPv4 address: {text}")))?;
    Ok(Some(address))
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

fn namespace(pid: i32) -> Result<OwnedFd> {
    let path = std::path::PathBuf::from(format!("/proc/{pid}/ns/net"));
    let opened = std::fs::File::open(&path);
    opened.map(OwnedFd::from).map_err(|source| EngineError::File { action: "open", path, source })
}
