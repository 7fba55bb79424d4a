//! What all parts of an engine share, and the index of containers.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ferry_image::ImageStore;
use ferry_network::{BridgeConfig, BridgeNetwork, Network, NetworkStack};
use ferry_types::{ContainerId, ContainerName, Digest};

use crate::config::EngineConfig;
use crate::container::handle::ContainerHandle;
use crate::error::{EngineError, Result};
use crate::events::{EventBus, EventKind};
use crate::exec::ExecTable;
use crate::init_program::InitProgram;
use crate::network::names::NameService;
use crate::network::registry::Networks;
use crate::paths::Paths;
use crate::reload::Live;
use crate::shim::ShimPool;
use crate::spec::{HostFacts, SeccompCache};
use crate::volume::VolumeStore;

/// The parts of an engine. Owners of containers and operations hold it together.
pub(crate) struct Inner {
    pub config: EngineConfig,
    pub paths: Paths,
    pub host: HostFacts,
    pub images: Arc<ImageStore>,
    /// What may change while the engine runs.
    pub live: Live,
    /// The firewall, and what keeps networks' background threads alive.
    pub network: NetworkStack,
    /// The default bridge, unless it was not wanted.
    pub bridge: Option<Arc<BridgeNetwork>>,
    /// Users' networks.
    pub networks: Networks,
    pub names: NameService,
    pub shims: Arc<ShimPool>,
    pub init_program: InitProgram,
    pub volumes: VolumeStore,
    pub events: EventBus,
    pub execs: Arc<ExecTable>,
    /// Log entries lost, by container.
    pub log_losses: crate::logging::Losses,
    pub seccomp: SeccompCache,
    pub containers: Index,
    /// Identifies the engine in `info`, stable over restarts.
    pub engine_id: String,
    /// Held while the engine owns its data root, its exec root and its bridge.
    pub _claims: (std::fs::File, std::fs::File, Option<std::os::unix::net::UnixDatagram>),
}

impl Inner {
    /// The settings of the default bridge, if there is one.
    pub fn bridge_config(&self) -> Option<&BridgeConfig> {
        self.bridge.as_deref().map(BridgeNetwork::config)
    }

    /// The default bridge as a network.
    pub fn default_network(&self) -> Option<Network> {
        self.bridge.clone().map(Network::Bridge)
    }

    /// Lower layers of a container's image and its own writable directories.
    pub fn overlay(&self, id: &ContainerId, image: &Digest) -> Result<ferry_types::Overlay> {
        let dir = self.paths.container(id);
        let mut lower: Vec<PathBuf> = vec![self.paths.mount_points()];
        lower.extend(self.images.layer_dirs(image)?);
        Ok(ferry_types::Overlay { lower, upper: dir.upper(), work: dir.work() })
    }
}

impl Inner {
    /// Labels of an image, none when it is not there.
    pub fn image_labels(&self, id: &Digest) -> BTreeMap<String, String> {
        self.images.get(id).map(|i| i.config.config.labels.clone()).unwrap_or_default()
    }

    /// Something happened to an image.
    pub fn image_event(&self, kind: EventKind, id: &Digest, name: &str) {
        self.events.image(kind, id.as_str(), name, &self.image_labels(id));
    }
}

/// All containers, by id and by name. Locks are held for look-ups only.
#[derive(Default)]
pub(crate) struct Index {
    tables: RwLock<Tables>,
    /// Whether any container ever linked to another: almost none does.
    linked: AtomicBool,
}

#[derive(Default)]
struct Tables {
    by_id: HashMap<ContainerId, Arc<ContainerHandle>>,
    names: HashMap<ContainerName, ContainerId>,
}

impl Index {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a name for a container that is being created.
    pub fn reserve_name(&self, name: &ContainerName, id: &ContainerId) -> Result<()> {
        let mut tables = self.write();
        if let Some(owner) = tables.names.get(name) {
            return Err(EngineError::NameInUse { name: name.to_string(), owner: owner.to_string() });
        }
        tables.names.insert(name.clone(), id.clone());
        Ok(())
    }

    /// Gives a name back, when it is this container's.
    pub fn release_name(&self, name: &ContainerName, id: &ContainerId) {
        let mut tables = self.write();
        if tables.names.get(name) == Some(id) {
            tables.names.remove(name);
        }
    }

    pub fn insert(&self, id: ContainerId, handle: Arc<ContainerHandle>) {
        if !handle.snapshot().record.links.is_empty() {
            self.linked.store(true, Ordering::Relaxed);
        }
        self.write().by_id.insert(id, handle);
    }

    /// Forgets a container and all its names.
    pub fn remove(&self, id: &ContainerId) {
        let mut tables = self.write();
        tables.by_id.remove(id);
        tables.names.retain(|_, owner| owner != id);
    }

    /// Whether containers may link to others.
    pub fn has_links(&self) -> bool {
        self.linked.load(Ordering::Relaxed)
    }

    /// Every container, in no order.
    pub fn all(&self) -> Vec<Arc<ContainerHandle>> {
        self.read().by_id.values().cloned().collect()
    }

    /// Finds a container as Docker does: by full id, by name, then by unique id prefix.
    pub fn find(&self, wanted: &str) -> Result<Arc<ContainerHandle>> {
        let missing = || EngineError::NoSuchContainer(wanted.to_owned());
        if wanted.is_empty() {
            return Err(EngineError::InvalidParameter("invalid name or ID supplied: \"\"".to_owned()));
        }
        let tables = self.read();
        if let Ok(id) = wanted.parse::<ContainerId>()
            && let Some(handle) = tables.by_id.get(&id)
        {
            return Ok(Arc::clone(handle));
        }
        if let Ok(name) = wanted.parse::<ContainerName>()
            && let Some(id) = tables.names.get(&name)
        {
            return tables.by_id.get(id).cloned().ok_or_else(missing);
        }
        if let Some((parent, alias)) = wanted.trim_start_matches('/').split_once('/') {
            // The name it has for another container.
            let parent = parent.parse::<ContainerName>().ok().and_then(|name| tables.names.get(&name));
            let parent = parent.and_then(|id| tables.by_id.get(id)).ok_or_else(missing)?.snapshot();
            let link = parent.record.links.iter().find(|l| l.alias == alias).ok_or_else(missing)?;
            return tables.by_id.get(&link.target).cloned().ok_or_else(missing);
        }
        let is_prefix = !wanted.is_empty() && wanted.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_prefix {
            return Err(missing());
        }
        let mut found = tables.by_id.iter().filter(|(id, _)| id.as_str().starts_with(wanted));
        match (found.next(), found.next()) {
            (Some((_, handle)), None) => Ok(Arc::clone(handle)),
            (Some(_), Some(_)) => Err(EngineError::AmbiguousId(wanted.to_owned())),
            (None, _) => Err(missing()),
        }
    }
}
