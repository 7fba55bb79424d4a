//! Opening an engine: take the data root, bring up the network, take over what runs.

use std::fs::{self, File};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;

use ferry_image::ImageStore;
use ferry_network::{AddressPool, BridgeConfig, BridgeNetwork, Network, NetworkStack, StackConfig};
use ferry_types::ContainerId;

use crate::Engine;
use crate::config::{DefaultBridge, EngineConfig};
use crate::container::{damaged, recover};
use crate::error::{EngineError, Result};
use crate::init_program::InitProgram;
use crate::inner::Inner;
use crate::network::default_bridge::{self, Choice};
use crate::network::names::NameService;
use crate::network::reconcile;
use crate::network::registry::Networks;
use crate::paths::Paths;
use crate::shim::ShimPool;
use crate::spec::HostFacts;
use crate::volume::VolumeStore;

impl Engine {
    /// Opens the engine of a data root: everything that runs there is taken over.
    ///
    /// # Errors
    /// When another engine has the data root, or a part cannot be brought up.
    pub async fn open(config: EngineConfig) -> Result<Self> {
        let began = std::time::Instant::now();
        let inner = Arc::new(crate::blocking(move || open_parts(config)).await?);
        let parts = began.elapsed();
        tokio::spawn(Arc::clone(&inner.shims).keep_filled());
        let records = recover::load_records(&inner.paths.containers(), &inner.volumes)?;
        let read = began.elapsed();
        // Links that vanish while it is looked at them are told of afterwards.
        let news = inner.network.link_news()?;
        let (mut records, doubtful) = {
            let inner = Arc::clone(&inner);
            crate::blocking(move || {
                recover::remove_stray_bundles(&inner, &records);
                let mut endpoints: Vec<_> =
                    records.iter().flat_map(|r| r.endpoints.values().cloned()).collect();
                endpoints.extend(damaged::endpoints(&inner, &records));
                let users = inner.networks.all();
                let mut networks: Vec<Network> = inner.default_network().into_iter().collect();
                networks.extend(users.iter().filter_map(|network| network.network.clone()));
                let doubtful = Network::adopt_all(&networks, &endpoints)?;
                empty_directory(&inner.paths.tmp());
                Ok((records, doubtful))
            })
            .await?
        };
        let network = began.elapsed();
        let torn = reconcile::tear(&mut records, &doubtful.conflicting);
        recover::recover(&inner, records).await;
        let names = Arc::clone(&inner);
        crate::blocking_raw(move || crate::network::names::take_over(&names)).await?;
        tracing::debug!(?parts, records = ?(read - parts), network = ?(network - read), total = ?began.elapsed(), "open");
        reconcile::take_over(&inner, &doubtful.without_link, &torn).await;
        let (weak, runtime) = (Arc::downgrade(&inner), tokio::runtime::Handle::current());
        inner.network.watch_links(news, move |indices| {
            reconcile::links_deleted(&weak, &runtime, indices);
        })?;
        if let Some(limit) = inner.config.log_budget {
            tokio::spawn(crate::logging::budget::keep(Arc::clone(&inner), limit));
        }
        Ok(Self { inner })
    }

    /// The data root.
    pub fn data_root(&self) -> &Path {
        self.inner.paths.data_root()
    }
}

fn open_parts(config: EngineConfig) -> Result<Inner> {
    let paths = Paths::new(config.data_root.clone(), config.exec_root.clone());
    make_dir(paths.data_root(), 0o710)?;
    let lock = take_lock(&paths.lock(), "data root")?;
    make_dir(paths.run_root(), 0o711)?;
    let run_lock = take_lock(&paths.run_lock(), "exec root")?;
    for dir in [paths.containers(), paths.networks(), paths.tmp(), paths.run_containers()] {
        make_dir(&dir, 0o710)?;
    }
    let file = |action| {
        move |path: &Path, source: io::Error| EngineError::File { action, path: path.to_owned(), source }
    };
    make_mount_points(&paths.mount_points())?;
    let database = crate::database::open(&paths)?;
    let images = Arc::new(ImageStore::open(&paths.images(), Arc::new(database))?);
    let engine_id = engine_id(&paths.data_root().join("engine-id"))?;
    let bridge = bridge_device(&config, &paths)?;
    let (device, bridge_claim) = bridge.map_or((None, None), |(device, claim)| (Some(device), Some(claim)));
    let stack = StackConfig {
        // Without a bridge of its own name the engine has its id's.
        table_name: format!("ferry-{}", device.as_deref().unwrap_or(&engine_id[..12])),
        pool_size: config.warm_sandboxes,
        spare: config.warm_sandboxes.min(2),
        firewall: config.firewall.clone(),
    };
    let network = NetworkStack::open(stack)?;
    let pools = pools(&config, &engine_id);
    let taken = || Networks::recorded_subnets(&paths.networks());
    let bridge = match &device {
        None => None,
        Some(device) => {
            let choice = Choice { stack: &network, device, pools: &pools, taken: &taken };
            let (ipv4, ipv6) = default_bridge::addresses(&config, &choice)?;
            Some(BridgeConfig {
                ipv4,
                ipv6,
                mtu: config.mtu,
                icc: config.icc,
                masquerade: config.masquerade,
                default_host_ip: config.default_host_ip,
                ..BridgeConfig::new(device)
            })
        }
    };
    let (bridge, networks) = network.open_together(|| -> Result<_> {
        let bridge = bridge.map(|bridge| BridgeNetwork::open(&network, bridge).map(Arc::new)).transpose()?;
        Ok((bridge, Networks::open(paths.networks(), network.clone(), pools)?))
    })?;
    for obstacle in device.iter().flat_map(|device| network.obstacles(device)) {
        tracing::warn!("{obstacle}; see docs/firewall.md");
    }
    let names = NameService::new(config.name_server.clone(), paths.name_socket());
    let log_path = config.exec_root.join("shim.log");
    let log =
        File::options().create(true).append(true).open(&log_path).map_err(|e| file("open")(&log_path, e))?;
    let shims = ShimPool::open(&config.shim_path, log, config.warm_shims)
        .map_err(|e| file("load")(&config.shim_path, e))?;
    let init_program = InitProgram::new(paths.init_program(), config.init_path.clone());
    let volumes = VolumeStore::open(paths.volumes())?;
    Ok(Inner {
        host: HostFacts::read(&config),
        images,
        live: crate::reload::Live::new(&config),
        network,
        bridge,
        networks,
        names,
        shims,
        init_program,
        volumes,
        events: crate::events::EventBus::default(),
        execs: Arc::default(),
        log_losses: crate::logging::Losses::default(),
        seccomp: crate::spec::SeccompCache::default(),
        containers: crate::inner::Index::default(),
        engine_id,
        _claims: (lock, run_lock, bridge_claim),
        paths,
        config,
    })
}

/// Where subnets are chosen from.
fn pools(config: &EngineConfig, engine_id: &str) -> Vec<AddressPool> {
    let mut pools = config.address_pools.clone();
    if pools.is_empty() {
        pools = AddressPool::defaults();
    }
    if !pools.iter().any(|pool| pool.base.addr().is_ipv6()) {
        // The id is random, and stays: so does the prefix (RFC 4193 section 3.2).
        let byte = |n: usize| {
            engine_id
                .get(2 * n..2 * n + 2)
                .and_then(|hex| u8::from_str_radix(hex, 16).ok())
                .unwrap_or_default()
        };
        pools.push(AddressPool::unique_local(std::array::from_fn(byte)));
    }
    pools
}

/// How many engines of a host find a bridge's name by themselves.
const BRIDGES: u32 = 64;

/// The default bridge's interface name, claimed, if it is to have one. A name chosen by ferry is remembered, so that the engine finds its own bridge
/// again and never takes another engine's that is in use.
fn bridge_device(config: &EngineConfig, paths: &Paths) -> Result<Option<(String, UnixDatagram)>> {
    match &config.bridge {
        DefaultBridge::None => return Ok(None),
        DefaultBridge::Named(name) => return Ok(Some((name.clone(), claim_bridge(name)?))),
        DefaultBridge::Automatic | DefaultBridge::Docker0 => {}
    }
    let path = paths.data_root().join("bridge");
    let fail = |action| {
        let path = path.clone();
        move |source| EngineError::File { action, path, source }
    };
    let remembered = match fs::read_to_string(&path) {
        Ok(name) => name.trim().to_owned(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(fail("read")(e)),
    };
    if !remembered.is_empty()
        && let Some(claim) = unless_taken(claim_bridge(&remembered))?
    {
        return Ok(Some((remembered, claim)));
    }
    let device = |name: &str| Path::new("/sys/class/net").join(name);
    // What is called docker0 may be Docker's.
    let free = config.bridge == DefaultBridge::Docker0 || !device("docker0").exists();
    let docker = free.then(|| "docker0".to_owned());
    let own = (0..BRIDGES).map(|n| format!("ferry{n}")).filter(|name| is_unused(&device(name)));
    for name in docker.into_iter().chain(own) {
        if let Some(claim) = unless_taken(claim_bridge(&name))? {
            fs::write(&path, &name).map_err(fail("write"))?;
            return Ok(Some((name, claim)));
        }
    }
    let last = BRIDGES - 1;
    Err(EngineError::Conflict(format!("the bridges docker0 and ferry0 to ferry{last} are all in use")))
}

/// None for what another engine has.
fn unless_taken<T>(claim: Result<T>) -> Result<Option<T>> {
    match claim {
        Ok(claim) => Ok(Some(claim)),
        Err(EngineError::Conflict(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a bridge is not there, or has nothing plugged in.
fn is_unused(device: &Path) -> bool {
    match fs::read_dir(device.join("brif")) {
        Ok(mut ports) => ports.next().is_none(),
        Err(_) => !device.exists(),
    }
}

/// Makes a directory and what is above it, with this mode whatever the umask says.
fn make_dir(path: &Path, mode: u32) -> Result<()> {
    let fail = |source| EngineError::File { action: "create", path: path.to_owned(), source };
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(fail)?;
    }
    fs::DirBuilder::new().mode(mode).recursive(true).create(path).map_err(fail)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(fail)
}

/// Files and directories every container has, see [`Paths::mount_points`].
fn make_mount_points(root: &Path) -> Result<()> {
    let fail = |path: &Path, source| EngineError::File { action: "create", path: path.to_owned(), source };
    for dir in ["", "dev", "dev/pts", "dev/shm", "etc", "proc", "sys"] {
        make_dir(&root.join(dir), 0o755)?;
    }
    for file in ["dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf", ".dockerenv"] {
        let path = root.join(file);
        File::options().create(true).truncate(false).write(true).open(&path).map_err(|e| fail(&path, e))?;
        // As Docker makes them.
        let mode = if file == ".dockerenv" || file == "dev/console" { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(|e| fail(&path, e))?;
    }
    let mtab = root.join("etc/mtab");
    match std::os::unix::fs::symlink("/proc/mounts", &mtab) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(fail(&mtab, e)),
        _ => Ok(()),
    }
}

/// One engine per bridge of a network namespace: the name in the abstract socket namespace, which is per network namespace,
/// too, goes with the process.
fn claim_bridge(bridge: &str) -> Result<UnixDatagram> {
    let fail = |e: io::Error| EngineError::System(format!("claim the bridge {bridge}: {e}"));
    let name = SocketAddr::from_abstract_name(format!("ferry-bridge/{bridge}")).map_err(fail)?;
    UnixDatagram::bind_addr(&name).map_err(|e| match e.kind() {
        io::ErrorKind::AddrInUse => {
            EngineError::Conflict(format!("another engine is running on the bridge {bridge}"))
        }
        _ => fail(e),
    })
}

/// One engine per directory: the lock goes with the process, however that ends.
fn take_lock(path: &Path, what: &str) -> Result<File> {
    let fail = |source| EngineError::File { action: "lock", path: path.to_owned(), source };
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(fail)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let root = path.parent().unwrap_or(path).display();
            Err(EngineError::Conflict(format!("another engine is running on the {what} {root}")))
        }
        Err(e) => Err(fail(e.into())),
    }
}

/// The engine's id, made on first use.
fn engine_id(path: &Path) -> Result<String> {
    let fail = |action| move |source| EngineError::File { action, path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Ok(id) if id.trim().parse::<ContainerId>().is_ok() => Ok(id.trim().to_owned()),
        Ok(_) => make_engine_id(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => make_engine_id(path),
        Err(e) => Err(fail("read")(e)),
    }
}

fn make_engine_id(path: &Path) -> Result<String> {
    let id = ContainerId::random().to_string();
    fs::write(path, &id).map_err(|source| EngineError::File {
        action: "write",
        path: path.to_owned(),
        source,
    })?;
    Ok(id)
}

/// Removes what an interrupted engine left in its scratch directory, in the background of its start.
fn empty_directory(path: &Path) {
    let Ok(entries) = fs::read_dir(path) else { return };
    let entries: Vec<_> = entries.flatten().map(|e| e.path()).collect();
    std::thread::spawn(move || {
        for path in entries {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "cannot remove a left-over");
            }
        }
    });
}
