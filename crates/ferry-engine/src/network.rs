//! The networks of this engine as the API shows them: the default bridge, `host` and `none`.

use std::collections::BTreeMap;

use ferry_api::filters::pattern_matches;
use ferry_api::network::{EndpointResource, Ipam, IpamConfig, Network, NetworkInspect};
use ferry_api::{Filters, List, Map, Time};

use crate::Engine;
use crate::error::{EngineError, Result};

/// The networks every engine has, with their drivers.
const NETWORKS: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];

/// A stable id for one of the engine's networks: 64 digits made of the engine's id and the name.
pub(crate) fn network_id(engine_id: &str, name: &str) -> String {
    // FNV-1a with four different bases: an identifier, nothing that must resist anybody.
    let hash =
        |seed: u64| {
            engine_id.bytes().chain([0]).chain(name.bytes()).fold(0xcbf2_9ce4_8422_2325_u64 ^ seed, |h, b| {
                (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
            })
        };
    (1_u64..=4).map(|seed| format!("{:016x}", hash(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)))).collect()
}

impl Engine {
    /// The networks asked for.
    pub fn network_list(&self, filters: Filters) -> Result<Vec<Network>> {
        let known = ["dangling", "driver", "id", "label", "name", "scope", "type"];
        filters.allow(&known).map_err(|e| EngineError::InvalidParameter(e.to_string()))?;
        if let Some(kind) = filters.get("type").find(|t| !matches!(*t, "builtin" | "custom")) {
            return Err(EngineError::InvalidParameter(format!("invalid filter: 'type'='{kind}'")));
        }
        let dangling: Vec<&str> = filters.get("dangling").collect();
        if dangling.len() > 1 {
            return Err(EngineError::InvalidParameter(
                "got more than one value for filter key \"dangling\"".to_owned(),
            ));
        }
        if dangling.iter().any(|v| !matches!(*v, "true" | "1" | "false" | "0")) {
            return Err(EngineError::InvalidParameter(
                "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")"
                    .to_owned(),
            ));
        }
        let any = |key: &str, test: &dyn Fn(&str) -> bool| !filters.has(key) || filters.get(key).any(test);
        let all = NETWORKS.iter().map(|(name, driver)| self.network(name, driver));
        Ok(all
            .filter(|n| {
                any("name", &|v| pattern_matches(v, &n.name))
                    && any("driver", &|v| n.driver == v)
                    && any("id", &|v| pattern_matches(v, &n.id))
                    && any("scope", &|v| n.scope == v)
                    && any("type", &|v| v == "builtin")
                    && any("dangling", &|v| matches!(v, "false" | "0"))
                    && !filters.has("label")
            })
            .collect())
    }

    /// One network with its containers.
    pub fn network_inspect(&self, name: &str) -> Result<NetworkInspect> {
        let found = NETWORKS.iter().find(|(n, _)| {
            let id = network_id(&self.inner.engine_id, n);
            *n == name || (!name.is_empty() && id.starts_with(name))
        });
        let Some((name, driver)) = found else { return Err(EngineError::NoSuchNetwork(name.to_owned())) };
        let mut containers = BTreeMap::new();
        for handle in self.inner.containers.all() {
            let snapshot = handle.snapshot();
            let record = &snapshot.record;
            if snapshot.state.live().is_none() || record.host_config.network_mode != *name {
                continue;
            }
            let mut resource =
                EndpointResource { name: record.name.to_string(), ..EndpointResource::default() };
            if let Some(endpoint) = &record.endpoint {
                resource.endpoint_id = endpoint.endpoint.to_string();
                resource.mac_address = endpoint.mac_string();
                resource.ipv4_address = format!("{}/{}", endpoint.ipv4, endpoint.prefix);
            }
            containers.insert(record.id.to_string(), resource);
        }
        Ok(NetworkInspect {
            network: self.network(name, driver),
            containers: containers.into(),
            ..NetworkInspect::default()
        })
    }

    fn network(&self, name: &str, driver: &str) -> Network {
        let mut network = Network {
            name: name.to_owned(),
            id: network_id(&self.inner.engine_id, name),
            created: Time::default(),
            scope: "local".to_owned(),
            driver: driver.to_owned(),
            enable_ipv4: true,
            ipam: Ipam { driver: "default".to_owned(), options: Map::default(), config: List::default() },
            options: Map::empty(),
            labels: Map::empty(),
            ..Network::default()
        };
        if driver == "bridge" {
            let bridge = &self.inner.bridge;
            network.ipam.config = vec![IpamConfig {
                subnet: bridge.subnet().to_string(),
                gateway: bridge.gateway().to_string(),
                ..IpamConfig::default()
            }]
            .into();
            let yes_no = |b: bool| if b { "true" } else { "false" }.to_owned();
            let options = [
                ("com.docker.network.bridge.default_bridge", "true".to_owned()),
                ("com.docker.network.bridge.enable_icc", yes_no(bridge.config().icc)),
                ("com.docker.network.bridge.enable_ip_masquerade", yes_no(bridge.config().masquerade)),
                ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0".to_owned()),
                ("com.docker.network.bridge.name", bridge.config().device.clone()),
                ("com.docker.network.driver.mtu", bridge.config().mtu.unwrap_or(1500).to_string()),
            ];
            network.options = options.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        }
        network
    }
}

#[cfg(test)]
mod tests {
    use super::network_id;

    #[test]
    fn ids_are_stable_and_differ() {
        assert_eq!(network_id("e", "bridge"), network_id("e", "bridge"));
        assert_ne!(network_id("e", "bridge"), network_id("e", "host"));
        assert_ne!(network_id("e", "bridge"), network_id("f", "bridge"));
        assert_eq!(network_id("e", "bridge").len(), 64);
    }
}
