//! The users' networks: their records on disk and their bridges in the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ferry_network::{
    BridgeConfig, BridgeNetwork, Network, NetworkError, NetworkStack, ParentConfig, ParentNetwork,
};
use ferry_types::NetworkId;
use ipnet::Ipv4Net;

use super::parent;
use super::record::{Driver, NetworkRecord, Subnet};
use crate::error::{EngineError, Result};

/// One network of a user's.
pub(crate) struct UserNetwork {
    pub record: NetworkRecord,
    /// Configurations have none, and networks whose device could not be brought up.
    pub network: Option<Network>,
}

impl UserNetwork {
    /// The bridge, if it is one.
    pub fn bridge(&self) -> Option<&Arc<BridgeNetwork>> {
        self.network.as_ref().and_then(Network::bridge)
    }

    /// What containers are put on, if it has that.
    pub fn network(&self) -> Result<&Network> {
        self.network.as_ref().ok_or_else(|| match self.record.config_only {
            true => EngineError::Forbidden("cannot create endpoint on configuration-only network".to_owned()),
            false => EngineError::System(format!(
                "the {} of network {} could not be brought up",
                self.record.device_noun(),
                self.record.name
            )),
        })
    }
}

/// All of them, by id.
pub(crate) struct Networks {
    dir: PathBuf,
    stack: NetworkStack,
    /// Candidates for subnets nobody chooses.
    pools: Vec<Ipv4Net>,
    all: RwLock<BTreeMap<String, Arc<UserNetwork>>>,
    /// Making and removing one at a time: names and subnets are checked against the others first.
    changing: Mutex<()>,
}

impl Networks {
    /// Brings up the networks recorded in `dir`. One that cannot be is named in the log and kept: its containers do not
    /// start, everything else works.
    pub fn open(dir: PathBuf, stack: NetworkStack, pools: Vec<Ipv4Net>) -> Result<Self> {
        let fail = |source| EngineError::File { action: "read", path: dir.clone(), source };
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(&dir).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            match NetworkRecord::load(&path) {
                Ok(record) => {
                    let network = open_network(&stack, &record);
                    all.insert(record.id.to_string(), Arc::new(UserNetwork { record, network }));
                }
                Err(error) => tracing::error!(%error, "a network's record is unreadable; it is left alone"),
            }
        }
        Ok(Self { dir, stack, pools, all: RwLock::new(all), changing: Mutex::default() })
    }

    fn path(&self, id: &NetworkId) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    /// Every network, by id.
    pub fn all(&self) -> Vec<Arc<UserNetwork>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Finds a network as Docker does: by full id, by name, then by unique id prefix.
    pub fn find(&self, wanted: &str) -> Result<Arc<UserNetwork>> {
        let missing = || EngineError::NoSuchNetwork(wanted.to_owned());
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let exact = all.get(wanted).or_else(|| all.values().find(|n| n.record.name == wanted));
        if let Some(found) = exact {
            return Ok(Arc::clone(found));
        }
        let mut found = all.iter().filter(|(id, _)| !wanted.is_empty() && id.starts_with(wanted));
        match (found.next(), found.next()) {
            (Some((_, network)), None) => Ok(Arc::clone(network)),
            (Some(_), Some(_)) => Err(EngineError::InvalidParameter(format!(
                "network {wanted} is ambiguous ({} matches found on ID prefix)",
                all.keys().filter(|id| id.starts_with(wanted)).count()
            ))),
            (None, _) => Err(missing()),
        }
    }

    /// Makes a network. `taken`: subnets of others than users' networks.
    pub fn create(
        &self,
        make: impl FnOnce() -> Result<NetworkRecord>,
        taken: &[Ipv4Net],
    ) -> Result<Arc<UserNetwork>> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut record = make()?;
        let others = self.all();
        if others.iter().any(|n| n.record.name == record.name) {
            return Err(EngineError::Conflict(format!("network with name {} already exists", record.name)));
        }
        let network = if record.config_only { None } else { Some(self.make(&mut record, &others, taken)?) };
        if let Err(error) = record.save(&self.path(&record.id)) {
            let keep = parent_is_shared(&record, &others);
            if let Some(Err(error)) = network.map(|network| network.close(keep)) {
                tracing::warn!(%error, "a network device that was made for nothing is left");
            }
            return Err(error);
        }
        let id = record.id.to_string();
        let network = Arc::new(UserNetwork { record, network });
        self.all.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&network));
        Ok(network)
    }

    fn make(
        &self,
        record: &mut NetworkRecord,
        others: &[Arc<UserNetwork>],
        taken: &[Ipv4Net],
    ) -> Result<Network> {
        if let Some(wanted) = record.subnet.as_ref().map(|s| s.subnet) {
            let used = others.iter().filter(|n| !n.record.config_only);
            let used =
                used.filter_map(|n| Some(n.record.subnet.as_ref()?.subnet)).chain(taken.iter().copied());
            if used.into_iter().any(|other| other.contains(&wanted) || wanted.contains(&other)) {
                return Err(EngineError::Forbidden(
                    "invalid pool request: Pool overlaps with other one on this address space".to_owned(),
                ));
            }
        }
        let network = match record.driver {
            Driver::Bridge => self.make_bridge(record, others)?.into(),
            Driver::Macvlan | Driver::Ipvlan => self.make_on_parent(record, others)?.into(),
        };
        self.settle(&network, record).inspect_err(|_| {
            if let Err(error) = network.close(parent_is_shared(record, others)) {
                tracing::warn!(%error, "a network device that was made for nothing is left");
            }
        })?;
        Ok(network)
    }

    /// Writes down what was chosen for a network, and keeps its auxiliary addresses.
    fn settle(&self, network: &Network, record: &mut NetworkRecord) -> Result<()> {
        reserve(network, record)?;
        let chosen = || Subnet {
            subnet: network.subnet(),
            gateway: None,
            range: None,
            reserved: BTreeMap::new(),
            by_user: false,
            gateway_by_user: false,
        };
        record.subnet.get_or_insert_with(chosen).gateway = network.gateway();
        Ok(())
    }

    fn make_on_parent(
        &self,
        record: &mut NetworkRecord,
        others: &[Arc<UserNetwork>],
    ) -> Result<ParentNetwork> {
        parent::check_shared(record, others.iter().map(|n| &n.record))?;
        record.made_parent = others.iter().any(|n| n.record.made_parent && parent::same(&n.record, record));
        let config = ParentConfig { pools: self.pools.clone(), ..parent::config(record)? };
        let network = ParentNetwork::open(&self.stack, config)?;
        record.made_parent = network.made_parent();
        Ok(network)
    }

    fn make_bridge(&self, record: &NetworkRecord, others: &[Arc<UserNetwork>]) -> Result<BridgeNetwork> {
        let config = BridgeConfig { pools: self.pools.clone(), ..record.bridge()? };
        let same = |n: &&Arc<UserNetwork>| n.bridge().is_some_and(|b| b.config().device == config.device);
        if let Some(other) = others.iter().find(same) {
            return Err(EngineError::Forbidden(format!(
                "cannot create network {} ({device}): conflicts with network {} ({device}): networks have same bridge name",
                record.id,
                other.record.id,
                device = config.device
            )));
        }
        Ok(BridgeNetwork::open(&self.stack, config)?)
    }

    /// Removes a network. `in_use` gives the names and ids of the endpoints on it.
    pub fn remove(
        &self,
        wanted: &str,
        in_use: impl FnOnce(&NetworkRecord) -> Vec<(String, String)>,
    ) -> Result<Arc<UserNetwork>> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let network = self.find(wanted)?;
        let record = &network.record;
        let users: Vec<String> = in_use(record)
            .into_iter()
            .map(|(name, id)| format!("name:\"{name}\" id:\"{}\"", id.get(..12).unwrap_or(&id)))
            .collect();
        if !users.is_empty() {
            return Err(EngineError::Forbidden(format!(
                "error while removing network: network {} has active endpoints ({})",
                record.name,
                users.join(", ")
            )));
        }
        if record.config_only && self.all().iter().any(|n| n.record.config_from == record.name) {
            return Err(EngineError::Forbidden(format!(
                "error while removing network: configuration network \"{}\" is in use",
                record.name
            )));
        }
        // The record first: a bridge without one is made no use of, a record without bridge would bring it back.
        match fs::remove_file(self.path(&record.id)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(EngineError::File { action: "remove", path: self.path(&record.id), source });
            }
            _ => {}
        }
        self.all.write().unwrap_or_else(PoisonError::into_inner).remove(record.id.as_str());
        if let Some(network) = &network.network {
            network.close(parent_is_shared(record, &self.all()))?;
        }
        Ok(network)
    }
}

/// Keeps the auxiliary addresses from being given out.
fn reserve(network: &Network, record: &NetworkRecord) -> Result<(), NetworkError> {
    let addresses = record.subnet.iter().flat_map(|s| s.reserved.values());
    addresses.copied().try_for_each(|address| network.reserve(address))
}

/// Whether others than `record` use its parent interface.
fn parent_is_shared(record: &NetworkRecord, all: &[Arc<UserNetwork>]) -> bool {
    all.iter().any(|n| n.record.id != record.id && parent::same(&n.record, record))
}

fn open_network(stack: &NetworkStack, record: &NetworkRecord) -> Option<Network> {
    if record.config_only {
        return None;
    }
    let opened = || -> Result<Network> {
        let network = match record.driver {
            Driver::Bridge => BridgeNetwork::open(stack, record.bridge()?)?.into(),
            Driver::Macvlan | Driver::Ipvlan => ParentNetwork::open(stack, parent::config(record)?)?.into(),
        };
        reserve(&network, record)?;
        Ok(network)
    };
    match opened() {
        Ok(network) => Some(network),
        Err(error) => {
            tracing::error!(network = record.name, %error, "a network's device cannot be brought up");
            None
        }
    }
}
