//! The users' networks: their records on disk and their bridges in the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ferry_network::{AddressPool, BridgeNetwork, Network, NetworkError, NetworkStack, ParentNetwork};
use ferry_types::NetworkId;
use ipnet::IpNet;

use super::parent;
use super::record::{Driver, NetworkRecord};
use super::subnets::{self, Source, Used};
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
    pools: Vec<AddressPool>,
    all: RwLock<BTreeMap<String, Arc<UserNetwork>>>,
    /// Making and removing one at a time: names and subnets are checked against the others first.
    changing: Mutex<()>,
}

impl Networks {
    /// Brings up the networks recorded in `dir`. One that cannot be is named in the log and kept: its containers do not
    /// start, everything else works.
    pub fn open(dir: PathBuf, stack: NetworkStack, pools: Vec<AddressPool>) -> Result<Self> {
        let fail = |source| EngineError::File { action: "read", path: dir.clone(), source };
        finish_removals(&dir, &stack)?;
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(&dir).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            match NetworkRecord::load(&path) {
                Ok(mut record) => {
                    let network = open_network(&stack, &record);
                    let bridge = network.as_ref().and_then(Network::bridge);
                    // Whoever made it has not done so again, after a reboot say: it is ours now.
                    if record.foreign_bridge && bridge.is_some_and(|b| b.created()) {
                        record.foreign_bridge = false;
                        record.save(&path)?;
                    }
                    all.insert(record.id.to_string(), Arc::new(UserNetwork { record, network }));
                }
                Err(error) => tracing::error!(%error, "a network's record is unreadable; it is left alone"),
            }
        }
        Ok(Self { dir, stack, pools, all: RwLock::new(all), changing: Mutex::default() })
    }

    /// The subnets of the networks recorded in `dir`, whether they are up or not.
    pub fn recorded_subnets(dir: &Path) -> Vec<IpNet> {
        let files = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let records = files.filter(|path| path.extension().is_some_and(|e| e == "json"));
        // One that cannot be read is told of when it is opened.
        let records = records.filter_map(|path| NetworkRecord::load(&path).ok()).filter(|r| !r.config_only);
        records.flat_map(|record| record.nets().collect::<Vec<_>>()).collect()
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

    /// Makes a network. `builtin`: what the default bridge has, if there is one.
    pub fn create(
        &self,
        make: impl FnOnce() -> Result<NetworkRecord>,
        builtin: Option<Used>,
    ) -> Result<Arc<UserNetwork>> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut record = make()?;
        let others = self.all();
        if others.iter().any(|n| n.record.name == record.name) {
            return Err(EngineError::Conflict(format!("network with name {} already exists", record.name)));
        }
        let network = match record.config_only {
            true => None,
            false => Some(self.make(&mut record, &others, builtin).inspect_err(|_| {
                // The first error is what the user needs to know.
                let _ = fs::remove_file(self.path(&record.id));
            })?),
        };
        if let Err(error) = record.save(&self.path(&record.id)) {
            let keep = device_stays(&record, &others);
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
        builtin: Option<Used>,
    ) -> Result<Network> {
        let used = |n: &Arc<UserNetwork>| Used {
            id: n.record.id.to_string(),
            device: n.bridge().map(|b| b.config().device.clone()).unwrap_or_default(),
            nets: n.record.nets().collect(),
        };
        let real = others.iter().filter(|n| !n.record.config_only);
        let others_use: Vec<Used> = builtin.into_iter().chain(real.map(used)).collect();
        let source = Source { stack: &self.stack, pools: &self.pools, others: &others_use };
        subnets::complete(record, &source)?;
        // An engine that is killed now leaves a network, and no device nobody knows.
        record.save(&self.path(&record.id))?;
        let network = match record.driver {
            Driver::Bridge => {
                let bridge = BridgeNetwork::open(&self.stack, record.bridge()?)?;
                record.foreign_bridge = !bridge.created();
                bridge.into()
            }
            Driver::Macvlan | Driver::Ipvlan => self.make_on_parent(record, others)?.into(),
        };
        reserve(&network, record).inspect_err(|_| {
            if let Err(error) = network.close(device_stays(record, others)) {
                tracing::warn!(%error, "a network device that was made for nothing is left");
            }
        })?;
        Ok(network)
    }

    fn make_on_parent(
        &self,
        record: &mut NetworkRecord,
        others: &[Arc<UserNetwork>],
    ) -> Result<ParentNetwork> {
        parent::check_shared(record, others.iter().map(|n| &n.record))?;
        record.made_parent = others.iter().any(|n| n.record.made_parent && parent::same(&n.record, record));
        let network = ParentNetwork::open(&self.stack, parent::config(record)?)?;
        record.made_parent = network.made_parent();
        Ok(network)
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
        // From here on it is gone for everybody; an engine that is killed before its device is leaves that to the next.
        let (path, going) = (self.path(&record.id), self.path(&record.id).with_extension(GOING));
        match fs::rename(&path, &going) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(EngineError::File { action: "remove", path, source });
            }
            _ => {}
        }
        self.all.write().unwrap_or_else(PoisonError::into_inner).remove(record.id.as_str());
        if let Some(network) = &network.network {
            network.close(device_stays(record, &self.all()))?;
        }
        match fs::remove_file(&going) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(EngineError::File { action: "remove", path: going, source })
            }
            _ => Ok(network),
        }
    }
}

/// Extension of a record that is being written.
const NEW: &str = "new";
/// Extension of the record of a network whose device is being removed.
const GOING: &str = "going";

/// Removes the devices of networks that were being removed when the engine before this one was killed.
fn finish_removals(dir: &Path, stack: &NetworkStack) -> Result<()> {
    let fail = |source| EngineError::File { action: "read", path: dir.to_owned(), source };
    let mut kept = Vec::new();
    let mut going = Vec::new();
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        match path.extension().and_then(|e| e.to_str()) {
            Some(GOING) => going.push(path),
            Some("json") => kept.extend(NetworkRecord::load(&path)),
            // A record that was never put in its place: what it was to replace is there, or nothing is.
            Some(NEW) => drop(fs::remove_file(&path)),
            _ => {}
        }
    }
    for path in going {
        let removed = NetworkRecord::load(&path).map(|record| {
            let keep = kept.iter().any(|other| parent::same(other, &record));
            open_network(stack, &record).map_or(Ok(()), |network| network.close(keep))
        });
        match removed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, path = %path.display(), "a network's device is left"),
            Err(error) => tracing::error!(%error, "a network's record is unreadable; its device may be left"),
        }
        let _ = fs::remove_file(&path);
    }
    Ok(())
}

/// Keeps the auxiliary addresses from being given out.
fn reserve(network: &Network, record: &NetworkRecord) -> Result<(), NetworkError> {
    let gateways = network.gateways();
    let addresses = record.subnets().flat_map(|s| s.reserved.values()).copied();
    // The routers' are taken already.
    addresses.filter(|address| !gateways.contains(address)).try_for_each(|address| network.reserve(address))
}

/// Whether a network's device is not its own: a bridge that was there before, or a parent interface that others use.
fn device_stays(record: &NetworkRecord, all: &[Arc<UserNetwork>]) -> bool {
    record.foreign_bridge || all.iter().any(|n| n.record.id != record.id && parent::same(&n.record, record))
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
