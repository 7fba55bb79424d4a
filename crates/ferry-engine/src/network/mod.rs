//! The networks of an engine: the default bridge, `host`, `none`, and those of its users. What the API shows and asks of them
//! is here; [`registry`] keeps users' networks, [`endpoints`] puts containers on them, [`names`] has their names resolved.

pub(crate) mod default_bridge;
pub(crate) mod endpoint_options;
pub(crate) mod endpoints;
pub(crate) mod names;
mod options;
mod parent;
pub(crate) mod reconcile;
mod record;
pub(crate) mod registry;
pub(crate) mod request;
mod subnets;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ferry_api::filters::pattern_matches;
use ferry_api::network::{
    ConfigReference, EndpointResource, Ipam, IpamConfig, Network, NetworkConnectRequest,
    NetworkCreateRequest, NetworkCreateResponse, NetworkDisconnectRequest, NetworkInspect,
    NetworkPruneResponse,
};
use ferry_api::{Filters, List, Map, Time};
use ipnet::IpNet;

use crate::Engine;
use crate::container::handle::OwnerRequest;
use crate::container::list::{labels_match, parse_until};
use crate::container::network_mode::{Configured, FixedAddresses, NetworkKind};
use crate::container::state::Snapshot;
use crate::error::{EngineError, Result};
use crate::events::EventKind;
use crate::inner::Inner;
use endpoints::BRIDGE;
use record::NetworkRecord;
use registry::UserNetwork;
use subnets::Used;

/// The networks every engine has, with their drivers; the first may be left out.
const PREDEFINED: [(&str, &str); 3] = [(BRIDGE, "bridge"), ("host", "host"), ("none", "null")];

/// A stable id for one of the engine's own networks: 64 digits made of the engine's id and the name.
fn predefined_id(engine_id: &str, name: &str) -> String {
    // FNV-1a with four different bases: an identifier, nothing that must resist anybody.
    let hash =
        |seed: u64| {
            engine_id.bytes().chain([0]).chain(name.bytes()).fold(0xcbf2_9ce4_8422_2325_u64 ^ seed, |h, b| {
                (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
            })
        };
    (1_u64..=4).map(|seed| format!("{:016x}", hash(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)))).collect()
}

/// The id of a running container's endpoint on `host` or `none`: nothing is kept about those, but clients expect one.
pub(crate) fn shared_endpoint_id(container: &ferry_types::ContainerId, network: &str) -> String {
    predefined_id(container.as_str(), network)
}

/// Id and driver of a network by its name; empty when there is none of that name.
pub(crate) fn identity(inner: &Inner, name: &str) -> (String, &'static str) {
    if let Some((_, driver)) = PREDEFINED.iter().find(|(known, _)| *known == name) {
        return (predefined_id(&inner.engine_id, name), driver);
    }
    let network = inner.networks.find(name);
    network.map(|n| (n.record.id.to_string(), n.record.driver.name())).unwrap_or_default()
}

/// Id of a network by its name; empty when there is none of that name.
pub(crate) fn id_of(inner: &Inner, name: &str) -> String {
    identity(inner, name).0
}

/// Name of a network, by name or id of a user's, and the addresses a user may choose on it.
pub(crate) fn fixed_addresses(inner: &Inner, wanted: &str) -> Option<(String, FixedAddresses)> {
    let bridge_ipv6 = inner.bridge_config().is_some_and(|config| config.ipv6.is_some());
    if let Some(builtin) = FixedAddresses::builtin(wanted, bridge_ipv6) {
        return Some((wanted.to_owned(), builtin));
    }
    let network = inner.networks.find(wanted).ok()?;
    let record = &network.record;
    let configured = |ipv6| {
        let of_user = record.all_subnets().filter(|s| s.by_user && s.subnet.addr().is_ipv6() == ipv6);
        let nets: Vec<IpNet> = of_user.map(|s| s.subnet).collect();
        if nets.is_empty() { Configured::No } else { Configured::In(nets) }
    };
    let (ipv4, ipv6) = (configured(false), configured(true));
    Some((record.name.clone(), FixedAddresses { kind: NetworkKind::Users, ipv4, ipv6 }))
}

/// One of the engine's networks, found by name or id.
enum Found {
    Predefined(&'static str, &'static str),
    User(Arc<UserNetwork>),
}

impl Found {
    fn name(&self) -> &str {
        match self {
            Self::Predefined(name, _) => name,
            Self::User(network) => &network.record.name,
        }
    }
}

impl Engine {
    fn find_network(&self, wanted: &str) -> Result<Found> {
        let id = |name: &str| predefined_id(&self.inner.engine_id, name);
        let by_id = |name: &str| wanted.len() >= 3 && id(name).starts_with(wanted);
        if let Some((name, driver)) = self.own_networks().find(|(name, _)| *name == wanted) {
            return Ok(Found::Predefined(name, driver));
        }
        match (self.inner.networks.find(wanted), self.own_networks().find(|(name, _)| by_id(name))) {
            (Err(EngineError::NoSuchNetwork(_)), Some((name, driver))) => Ok(Found::Predefined(name, driver)),
            (found, _) => found.map(Found::User),
        }
    }

    /// Those of [`PREDEFINED`] that this engine has.
    fn own_networks(&self) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        let without_bridge = self.inner.bridge.is_none();
        PREDEFINED.iter().filter(move |(name, _)| !(without_bridge && *name == BRIDGE))
    }

    /// The networks asked for.
    pub fn network_list(&self, filters: Filters) -> Result<Vec<Network>> {
        let invalid = |e: ferry_api::filters::FilterError| EngineError::InvalidParameter(e.to_string());
        filters.allow(&["dangling", "driver", "id", "label", "name", "scope", "type"]).map_err(invalid)?;
        if let Some(kind) = filters.get("type").find(|t| !matches!(*t, "builtin" | "custom")) {
            return Err(EngineError::InvalidParameter(format!("invalid filter: 'type'='{kind}'")));
        }
        let dangling: Vec<&str> = filters.get("dangling").collect();
        if dangling.len() > 1 {
            return Err(EngineError::InvalidParameter(
                "got more than one value for filter key \"dangling\"".to_owned(),
            ));
        }
        let dangling = match dangling.first() {
            None => None,
            Some(&("true" | "1")) => Some(true),
            Some(&("false" | "0")) => Some(false),
            Some(_) => {
                return Err(EngineError::InvalidParameter(
                    "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")"
                        .to_owned(),
                ));
            }
        };
        let builtin = |n: &Network| PREDEFINED.iter().any(|(name, _)| *name == n.name);
        let unused = |n: &Network| !builtin(n) && self.endpoints_on(&n.name).is_empty();
        let any = |key: &str, test: &dyn Fn(&str) -> bool| !filters.has(key) || filters.get(key).any(test);
        let mut all: Vec<Network> =
            self.own_networks().map(|(name, driver)| self.predefined(name, driver)).collect();
        all.extend(self.inner.networks.all().iter().map(|n| to_wire(&n.record)));
        all.retain(|n| {
            any("name", &|v| pattern_matches(v, &n.name))
                && any("driver", &|v| n.driver == v)
                && any("id", &|v| pattern_matches(v, &n.id))
                && any("scope", &|v| n.scope == v)
                && any("type", &|v| (v == "builtin") == builtin(n))
                && labels_match(&filters, &n.labels)
                && dangling.is_none_or(|wanted| wanted == unused(n))
        });
        Ok(all)
    }

    /// One network with its containers.
    pub fn network_inspect(&self, wanted: &str) -> Result<NetworkInspect> {
        let found = self.find_network(wanted)?;
        let network = match &found {
            Found::Predefined(name, driver) => self.predefined(name, driver),
            Found::User(network) => to_wire(&network.record),
        };
        let mut containers = BTreeMap::new();
        for snapshot in self.endpoints_on(found.name()) {
            let record = &snapshot.record;
            let mut resource =
                EndpointResource { name: record.name.to_string(), ..EndpointResource::default() };
            if let Some(endpoint) = record.endpoints.get(found.name()) {
                resource.endpoint_id = endpoint.endpoint.to_string();
                resource.mac_address = endpoint.mac_string();
                let with_prefix = |address: Option<IpAddr>, prefix: u8| {
                    address.map(|a| format!("{a}/{prefix}")).unwrap_or_default()
                };
                resource.ipv4_address = with_prefix(endpoint.ipv4.map(Into::into), endpoint.prefix);
                resource.ipv6_address = with_prefix(endpoint.ipv6.map(Into::into), endpoint.prefix6);
            } else {
                resource.endpoint_id = shared_endpoint_id(&record.id, found.name());
            }
            containers.insert(record.id.to_string(), resource);
        }
        Ok(NetworkInspect { network, containers: containers.into(), ..NetworkInspect::default() })
    }

    /// The running containers on a network.
    fn endpoints_on(&self, name: &str) -> Vec<Arc<Snapshot>> {
        let all = self.inner.containers.all();
        all.iter().map(|h| h.snapshot()).filter(|s| is_on(s, name)).collect()
    }

    /// Makes a network.
    pub async fn network_create(&self, body: NetworkCreateRequest) -> Result<NetworkCreateResponse> {
        let inner = Arc::clone(&self.inner);
        let made = crate::blocking(move || {
            let find = |name: &str| inner.networks.find(name).ok().map(|n| n.record.clone());
            let builtin = inner.bridge_config().map(|config| {
                let (v4, v6) = (config.ipv4.map(|s| s.net.into()), config.ipv6.map(|s| s.net.into()));
                Used {
                    id: predefined_id(&inner.engine_id, BRIDGE),
                    device: config.device.clone(),
                    nets: v4.into_iter().chain(v6).collect(),
                }
            });
            let defaults = &inner.config.default_network_opts;
            inner.networks.create(|| request::to_record(body, defaults, find), builtin)
        })
        .await?;
        self.network_event(EventKind::Create, &made.record);
        Ok(NetworkCreateResponse { id: made.record.id.to_string(), warning: String::new() })
    }

    /// Removes a network nobody is on.
    pub async fn network_remove(&self, wanted: &str) -> Result<()> {
        if let Found::Predefined(name, _) = self.find_network(wanted)? {
            return Err(EngineError::Forbidden(format!(
                "{name} is a pre-defined network and cannot be removed"
            )));
        }
        let (engine, wanted) = (self.clone(), wanted.to_owned());
        crate::blocking(move || engine.remove_network(&wanted)).await
    }

    fn remove_network(&self, wanted: &str) -> Result<()> {
        let in_use = |record: &NetworkRecord| {
            let users = self.endpoints_on(&record.name);
            let describe = |s: &Arc<Snapshot>| {
                let endpoint = s.record.endpoints.get(&record.name).map(|e| e.endpoint.to_string());
                (s.record.name.to_string(), endpoint.unwrap_or_default())
            };
            users.iter().map(describe).collect()
        };
        let removed = self.inner.networks.remove(wanted, in_use)?;
        self.inner.names.forget(&removed.record);
        self.network_event(EventKind::Destroy, &removed.record);
        Ok(())
    }

    /// Removes all networks of users that no container, running or not, is to be on.
    pub async fn network_prune(&self, filters: Filters) -> Result<NetworkPruneResponse> {
        let invalid = |e: ferry_api::filters::FilterError| EngineError::InvalidParameter(e.to_string());
        filters.allow(&["label", "label!", "until"]).map_err(invalid)?;
        let until = filters.get("until").map(parse_until).collect::<Result<Vec<_>>>()?;
        let engine = self.clone();
        crate::blocking(move || {
            let mut response = NetworkPruneResponse::default();
            for network in engine.inner.networks.all() {
                let record = &network.record;
                let wanted = !record.config_only
                    && labels_match(&filters, &record.labels)
                    && until.iter().all(|until| record.created_at <= *until)
                    && engine.endpoints_on(&record.name).is_empty();
                if wanted && engine.remove_network(record.id.as_str()).is_ok() {
                    response.networks_deleted.get_mut().push(record.name.clone());
                }
            }
            engine.inner.events.prune("network", 0);
            Ok(response)
        })
        .await
    }

    /// Puts a container on a network, now when it runs and at its next starts.
    pub async fn network_connect(&self, wanted: &str, body: NetworkConnectRequest) -> Result<()> {
        let network = self.find_network(wanted)?;
        let handle = self.inner.containers.find(&body.container)?;
        let name = network.name().to_owned();
        if matches!(network, Found::Predefined("host", _)) {
            return Err(EngineError::Forbidden(
                "cannot connect container to host network - container must be created in host network mode"
                    .to_owned(),
            ));
        }
        let settings = body.endpoint_config.unwrap_or_default();
        let reply =
            |reply| OwnerRequest::Connect { network: name.clone(), settings: Box::new(settings), reply };
        handle.ask(reply).await
    }

    /// Takes a container off a network.
    pub async fn network_disconnect(&self, wanted: &str, body: NetworkDisconnectRequest) -> Result<()> {
        let network = self.find_network(wanted)?;
        let handle = self.inner.containers.find(&body.container).map_err(|error| match body.force {
            // Who forces means an endpoint that may be left of a container.
            true => EngineError::NotFound(format!("endpoint {} not found", body.container)),
            false => error,
        })?;
        let name = network.name().to_owned();
        handle.ask(|reply| OwnerRequest::Disconnect { network: name, reply }).await
    }

    fn network_event(&self, kind: EventKind, record: &NetworkRecord) {
        self.inner.events.network(kind, record.id.as_str(), &record.name, record.driver.name(), None);
    }

    fn predefined(&self, name: &str, driver: &str) -> Network {
        let mut network = Network {
            name: name.to_owned(),
            id: predefined_id(&self.inner.engine_id, name),
            created: Time::default(),
            scope: "local".to_owned(),
            driver: driver.to_owned(),
            enable_ipv4: true,
            ipam: Ipam { driver: "default".to_owned(), options: Map::default(), config: List::default() },
            options: Map::empty(),
            labels: Map::empty(),
            ..Network::default()
        };
        if driver == "bridge"
            && let Some(config) = self.inner.bridge_config()
        {
            let asked = &self.inner.config;
            let shown = |subnet: ferry_network::Subnet<IpNet, IpAddr>, router: Option<IpAddr>| IpamConfig {
                subnet: subnet.net.to_string(),
                ip_range: subnet.range.map(|r| r.to_string()).unwrap_or_default(),
                gateway: subnet.bridge.map(|g| g.to_string()).unwrap_or_default(),
                auxiliary_addresses: router
                    .map(|r| {
                        let name = if r.is_ipv6() { "DefaultGatewayIPv6" } else { "DefaultGatewayIPv4" };
                        (name.to_owned(), r.to_string())
                    })
                    .into_iter()
                    .collect(),
            };
            let v4 = config.ipv4.map(|s| shown(s.either(), asked.default_gateway.map(IpAddr::V4)));
            let v6 = config.ipv6.map(|s| shown(s.either(), asked.default_gateway_v6.map(IpAddr::V6)));
            network.ipam.config = v4.into_iter().chain(v6).collect::<Vec<_>>().into();
            network.enable_ipv6 = config.ipv6.is_some();
            let yes_no = |b: bool| if b { "true" } else { "false" }.to_owned();
            let options = [
                ("com.docker.network.bridge.default_bridge", "true".to_owned()),
                ("com.docker.network.bridge.enable_icc", yes_no(config.icc)),
                ("com.docker.network.bridge.enable_ip_masquerade", yes_no(config.masquerade)),
                ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0".to_owned()),
                ("com.docker.network.bridge.name", config.device.clone()),
                ("com.docker.network.driver.mtu", config.mtu.unwrap_or(1500).to_string()),
            ];
            network.options = options.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        }
        network
    }
}

/// Whether a container runs and is on a network, `host` and `none` included.
fn is_on(snapshot: &Snapshot, name: &str) -> bool {
    let record = &snapshot.record;
    let shares = matches!(name, "host" | "none") && record.networks.contains_key(name);
    snapshot.state.live().is_some() && (shares || record.endpoints.contains_key(name))
}

/// A user's network as the API shows it.
fn to_wire(record: &NetworkRecord) -> Network {
    let text = |address: Option<IpAddr>| address.map(|a| a.to_string()).unwrap_or_default();
    // As in Docker: what the user configured comes first, even for a family that is switched off.
    let all = || record.all_subnets();
    let config = all().filter(|s| s.by_user).chain(all().filter(|s| !s.by_user)).map(|s| IpamConfig {
        subnet: s.subnet.to_string(),
        ip_range: s.range.map(|r| r.to_string()).unwrap_or_default(),
        // As in Docker: a gateway that was chosen for a subnet of the user's is not shown.
        gateway: if s.by_user && !s.gateway_by_user { String::new() } else { text(s.gateway) },
        auxiliary_addresses: s.reserved.iter().map(|(k, v)| (k.clone(), v.to_string())).collect(),
    });
    Network {
        name: record.name.clone(),
        id: record.id.to_string(),
        created: Time::from_unix_nanos(i128::from(record.created_at)),
        scope: "local".to_owned(),
        driver: if record.config_only { "null" } else { record.driver.name() }.to_owned(),
        enable_ipv4: record.ipv4,
        enable_ipv6: record.ipv6,
        ipam: Ipam {
            driver: "default".to_owned(),
            options: record.ipam_options.clone().map(Map::from).unwrap_or_default(),
            config: config.collect::<Vec<_>>().into(),
        },
        internal: record.internal,
        attachable: record.attachable,
        config_only: record.config_only,
        config_from: ConfigReference { network: record.config_from.clone() },
        options: record.options.clone().into(),
        labels: record.labels.clone().into(),
        ..Network::default()
    }
}

#[cfg(test)]
mod tests {
    use super::predefined_id;

    #[test]
    fn ids_are_stable_and_differ() {
        assert_eq!(predefined_id("e", "bridge"), predefined_id("e", "bridge"));
        assert_ne!(predefined_id("e", "bridge"), predefined_id("e", "host"));
        assert_ne!(predefined_id("e", "bridge"), predefined_id("f", "bridge"));
        assert_eq!(predefined_id("e", "bridge").len(), 64);
    }
}
