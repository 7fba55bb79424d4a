//! The engine as a whole: version, info, disk usage, events.

use std::sync::Arc;

use ferry_api::events::EventMessage;
use ferry_api::system::{
    AddressPool, Commit, ComponentVersion, DeviceInfo, DiskUsage, FirewallInfo, IndexInfo, PlatformName,
    PluginsInfo, RegistryConfig, RuntimeInfo, SystemInfo, UsageOf, VersionResponse,
};
use ferry_api::volume::VolumeUsage;
use ferry_api::{List, Time};
use tokio::sync::broadcast::error::RecvError;

use crate::Engine;
use crate::api::{EventOptions, ItemStream, ListContainers, ListImages};
use crate::config::LiveSettings;
use crate::container::list::directory_size;
use crate::container::state::State;
use crate::container::teardown::volume_users;
use crate::error::{EngineError, Result};
use crate::runtimes::{OWN_PATH, OWN_RUNTIMES};
use crate::time::parse_instant;

/// Version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What clients are told: the release of Docker this one behaves as, with its own version as build metadata. Clients refuse
/// engines older than what they need, and mean Docker's numbers: testcontainers for Java wants at least 1.6, others 18.09.
const SERVER_VERSION: &str = concat!("28.5.2+ferry", env!("CARGO_PKG_VERSION"));

impl Engine {
    /// `GET /version`.
    pub fn version(&self) -> VersionResponse {
        let arch = ferry_image::Platform::host().architecture;
        let details = [
            ("Experimental", self.inner.config.experimental.to_string()),
            ("ApiVersion", ferry_api::version::MAX.to_string()),
            ("Arch", arch.clone()),
            ("KernelVersion", self.inner.host.kernel_release.clone()),
            ("MinAPIVersion", ferry_api::version::MIN.to_string()),
            ("Os", "linux".to_owned()),
        ];
        VersionResponse {
            platform: PlatformName { name: format!("ferry {VERSION}") },
            version: SERVER_VERSION.to_owned(),
            api_version: ferry_api::version::MAX.to_string(),
            min_api_version: ferry_api::version::MIN.to_string(),
            os: "linux".to_owned(),
            arch,
            components: vec![
                ComponentVersion {
                    name: "Engine".to_owned(),
                    version: SERVER_VERSION.to_owned(),
                    details: details.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
                },
                ComponentVersion {
                    name: "docker-init".to_owned(),
                    version: VERSION.to_owned(),
                    ..ComponentVersion::default()
                },
            ]
            .into(),
            kernel_version: self.inner.host.kernel_release.clone(),
            // Clients print these whatever the engine is written in.
            go_version: "n/a".to_owned(),
            git_commit: "n/a".to_owned(),
            ..VersionResponse::default()
        }
    }

    /// `GET /info`.
    pub fn info(&self) -> SystemInfo {
        let inner = &self.inner;
        let live = inner.live.settings();
        let snapshots: Vec<_> = inner.containers.all().iter().map(|h| h.snapshot()).collect();
        let count = |test: &dyn Fn(&State) -> bool| {
            i64::try_from(snapshots.iter().filter(|s| test(&s.state)).count()).unwrap_or(i64::MAX)
        };
        let running = count(&|s| matches!(s, State::Running(_) | State::Restarting(_)));
        let paused = count(&|s| matches!(s, State::Paused(_)));
        let total = count(&|_| true);
        let names = |list: &[&str]| -> List<String> { list.iter().map(|n| (*n).to_owned()).collect() };
        SystemInfo {
            id: inner.engine_id.clone(),
            containers: total,
            containers_running: running,
            containers_paused: paused,
            containers_stopped: total - running - paused,
            images: i64::try_from(inner.images.list().len()).unwrap_or(i64::MAX),
            driver: "overlay2".to_owned(),
            driver_status: vec![
                ("Backing Filesystem".to_owned(), backing_filesystem(inner.paths.data_root())),
                ("Supports d_type".to_owned(), "true".to_owned()),
                ("Using metacopy".to_owned(), "false".to_owned()),
                ("Native Overlay Diff".to_owned(), "true".to_owned()),
                ("userxattr".to_owned(), "false".to_owned()),
            ]
            .into(),
            plugins: PluginsInfo {
                volume: names(&["local"]),
                network: names(&["bridge", "host", "ipvlan", "macvlan", "null"]),
                authorization: List::default(),
                log: names(&crate::logging::DRIVERS),
            },
            memory_limit: true,
            swap_limit: inner.host.swap_limit,
            cpu_cfs_period: true,
            cpu_cfs_quota: true,
            cpu_shares: true,
            cpu_set: true,
            pids_limit: true,
            ipv4_forwarding: std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")
                .is_ok_and(|v| v.trim() == "1"),
            n_fd: std::fs::read_dir("/proc/self/fd").map_or(-1, |d| i64::try_from(d.count()).unwrap_or(-1)),
            n_goroutines: if live.debug { tasks() } else { 0 },
            oom_kill_disable: !inner.host.cgroup_v2,
            system_time: Time::now(),
            logging_driver: inner.config.log_driver.clone(),
            cgroup_driver: "cgroupfs".to_owned(),
            cgroup_version: if inner.host.cgroup_v2 { "2" } else { "1" }.to_owned(),
            n_events_listener: i64::try_from(inner.events.listeners()).unwrap_or(0),
            kernel_version: inner.host.kernel_release.clone(),
            operating_system: os_release("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
            os_version: os_release("VERSION_ID").unwrap_or_default(),
            os_type: "linux".to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            index_server_address: "https://index.docker.io/v1/".to_owned(),
            registry_config: RegistryConfig {
                insecure_registry_cidrs: insecure_networks(&live),
                mirrors: live.registry_mirrors.clone().into(),
                index_configs: index_configs(&live),
            },
            ncpu: i64::try_from(inner.host.cpus).unwrap_or(1),
            mem_total: i64::try_from(inner.host.memory).unwrap_or(i64::MAX),
            docker_root_dir: inner.paths.data_root().to_string_lossy().into_owned(),
            name: inner.host.hostname.clone(),
            labels: live.labels.clone().into(),
            server_version: SERVER_VERSION.to_owned(),
            runtimes: runtimes(&live),
            debug: live.debug,
            experimental_build: inner.config.experimental,
            http_proxy: inner.config.proxy.http.as_deref().map(mask_credentials).unwrap_or_default(),
            https_proxy: inner.config.proxy.https.as_deref().map(mask_credentials).unwrap_or_default(),
            no_proxy: inner.config.proxy.no_proxy.clone().unwrap_or_default(),
            default_address_pools: inner
                .config
                .address_pools
                .iter()
                .map(|pool| AddressPool { base: pool.base.to_string(), size: i64::from(pool.size) })
                .collect(),
            cdi_spec_dirs: inner
                .config
                .cdi_spec_dirs
                .iter()
                .map(|dir| dir.to_string_lossy().into_owned())
                .collect(),
            discovered_devices: crate::cdi::Registry::load(&inner.config.cdi_spec_dirs)
                .names()
                .map(|id| DeviceInfo { source: "cdi".to_owned(), id: id.to_owned() })
                .collect(),
            default_runtime: live.default_runtime.clone(),
            live_restore_enabled: true,
            init_binary: inner.init_program.name(),
            init_commit: Commit { id: VERSION.to_owned(), ..Commit::default() },
            security_options: self.security_options(),
            swarm: ferry_api::swarm::SwarmInfo {
                local_node_state: "inactive".to_owned(),
                ..Default::default()
            },
            firewall_backend: Some(FirewallInfo {
                driver: inner.network.firewall_driver().to_owned(),
                ..FirewallInfo::default()
            }),
            warnings: self.warnings().into(),
            ..SystemInfo::default()
        }
    }

    /// What of the configuration, and of others' firewalls, needs the user's attention.
    fn warnings(&self) -> Vec<String> {
        let device = self.inner.bridge_config().map(|config| config.device.as_str());
        let obstacles = device.into_iter().flat_map(|device| self.inner.network.obstacles(device));
        let obstacles = obstacles.map(|o| format!("WARNING: {o}"));
        self.inner.config.warnings.iter().cloned().chain(obstacles).collect()
    }

    fn security_options(&self) -> List<String> {
        let profile = match &self.inner.config.seccomp {
            crate::DefaultSeccomp::Builtin => "builtin".to_owned(),
            crate::DefaultSeccomp::Unconfined => "unconfined".to_owned(),
            crate::DefaultSeccomp::Profile { path, .. } => path.to_string_lossy().into_owned(),
        };
        let mut options = vec![format!("name=seccomp,profile={profile}")];
        if self.inner.config.no_new_privileges {
            options.push("name=no-new-privileges".to_owned());
        }
        if self.inner.host.cgroup_v2 {
            options.push("name=cgroupns".to_owned());
        }
        options.into()
    }

    /// `GET /system/df`.
    pub async fn disk_usage(&self) -> Result<DiskUsage> {
        let images = self.image_list(ListImages { all: true, shared_size: true, ..ListImages::default() })?;
        let containers = {
            let engine = self.clone();
            crate::blocking(move || {
                engine.container_list(ListContainers { all: true, size: true, ..Default::default() })
            })
            .await?
        };
        let volumes = {
            let engine = self.clone();
            crate::blocking(move || {
                let wire = |v: crate::volume::VolumeRecord| {
                    let users = volume_users(&engine.inner, &v.name).len();
                    let size = directory_size(&engine.inner.volumes.data_dir(&v.name));
                    let mut volume = engine.inner.volumes.to_wire(&v);
                    volume.usage_data = Some(VolumeUsage {
                        ref_count: i64::try_from(users).unwrap_or(i64::MAX),
                        size: i64::try_from(size).unwrap_or(i64::MAX),
                    });
                    volume
                };
                // As Docker: what is mounted from elsewhere is not counted, and may take long to look through.
                let own = engine.inner.volumes.all().into_iter().filter(|v| v.options.is_empty());
                Ok(own.map(wire).collect::<Vec<_>>())
            })
            .await?
        };
        let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let used: std::collections::HashSet<&str> = containers.iter().map(|c| c.image_id.as_str()).collect();
        let layers = i64::try_from(self.inner.images.disk_usage().layers_size).unwrap_or(i64::MAX);
        let used_size: i64 = images.iter().filter(|i| used.contains(i.id.as_str())).map(|i| i.size).sum();
        let usage = |v: &ferry_api::Volume| v.usage_data.as_ref().map_or((0, 0), |u| (u.ref_count, u.size));
        let is_active = |state: &str| matches!(state, "running" | "paused" | "restarting");
        Ok(DiskUsage {
            image_usage: Some(UsageOf {
                active_count: signed(images.iter().filter(|i| used.contains(i.id.as_str())).count()),
                total_count: signed(images.len()),
                total_size: layers,
                reclaimable: (layers - used_size).max(0),
                items: images.into(),
            }),
            container_usage: Some(UsageOf {
                active_count: signed(containers.iter().filter(|c| is_active(&c.state)).count()),
                total_count: signed(containers.len()),
                total_size: containers.iter().map(|c| c.size_rw).sum(),
                reclaimable: containers.iter().filter(|c| !is_active(&c.state)).map(|c| c.size_rw).sum(),
                items: containers.into(),
            }),
            volume_usage: Some(UsageOf {
                active_count: signed(volumes.iter().filter(|v| usage(v).0 > 0).count()),
                total_count: signed(volumes.len()),
                total_size: volumes.iter().map(|v| usage(v).1).sum(),
                reclaimable: volumes.iter().filter(|v| usage(v).0 == 0).map(|v| usage(v).1).sum(),
                items: volumes.into(),
            }),
            build_cache_usage: Some(UsageOf::default()),
        })
    }

    /// `GET /events`: what happened since, and what happens until.
    pub fn events(&self, o: EventOptions) -> Result<ItemStream<EventMessage>> {
        let known = [
            "config",
            "container",
            "daemon",
            "event",
            "image",
            "label",
            "network",
            "node",
            "plugin",
            "scope",
            "secret",
            "service",
            "type",
            "volume",
        ];
        o.filters.allow(&known).map_err(|e| EngineError::InvalidParameter(e.to_string()))?;
        let instant = |field: &str, text: &Option<String>| {
            text.as_deref().filter(|t| !t.is_empty()).map(|t| parse_instant(field, t)).transpose()
        };
        let (since, until) = (instant("since", &o.since)?, instant("until", &o.until)?);
        let (past, receiver) = self.inner.events.listen(since);
        let filters = Arc::new(o.filters);
        let state = (past.into_iter(), receiver, filters, until);
        let stream =
            futures_util::stream::unfold(state, |(mut past, mut receiver, filters, until)| async move {
                loop {
                    let event = match past.next() {
                        Some(event) => event,
                        None => match next_before(&mut receiver, until).await {
                            Some(event) => event,
                            None => return None,
                        },
                    };
                    if until.is_some_and(|u| event.time_nano > u) {
                        return None;
                    }
                    if event_matches(&filters, &event) {
                        return Some((Ok(event), (past, receiver, filters, until)));
                    }
                }
            });
        Ok(Box::pin(stream))
    }
}

async fn next_before(
    receiver: &mut tokio::sync::broadcast::Receiver<EventMessage>,
    until: Option<i64>,
) -> Option<EventMessage> {
    let next = async {
        loop {
            match receiver.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a listener is too slow and misses events")
                }
                Err(RecvError::Closed) => return None,
            }
        }
    };
    match until {
        None => next.await,
        Some(until) => {
            let left = u64::try_from(until - crate::time::now_nanos()).unwrap_or(0);
            tokio::time::timeout(std::time::Duration::from_nanos(left), next).await.ok().flatten()
        }
    }
}

/// The names a container's runtime may have, and what runs it then.
fn runtimes(live: &LiveSettings) -> ferry_api::Map<RuntimeInfo> {
    let info = |path: &str, args: &[String]| RuntimeInfo {
        path: path.to_owned(),
        runtime_args: args.to_vec().into(),
        ..RuntimeInfo::default()
    };
    let own = OWN_RUNTIMES.iter().map(|name| ((*name).to_owned(), info(OWN_PATH, &[])));
    let others = live.runtimes.iter().map(|(name, r)| (name.clone(), info(&r.path, &r.args)));
    own.chain(others).collect()
}

/// Whether an event passes the filters, by Docker's rules: names and ids of objects by their beginnings, all labels, any of
/// the values of the others.
fn event_matches(filters: &ferry_api::Filters, event: &EventMessage) -> bool {
    let attributes = &event.actor.attributes;
    let attribute = |key: &str| attributes.get(key).map(String::as_str).unwrap_or_default();
    let any = |key: &str, test: &dyn Fn(&str) -> bool| !filters.has(key) || filters.get(key).any(test);
    let object = |key: &str| any(key, &|v| event.actor.id.starts_with(v) || attribute("name").starts_with(v));
    // These carry something after a colon; once one is asked for by its bare name, beginnings count for all.
    let loose = filters.get("event").any(|v| matches!(v, "health_status" | "exec_create" | "exec_start"));
    let image = attribute(if event.kind == "image" { "name" } else { "image" });
    let without_tag = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    };
    any("type", &|v| event.kind == v)
        && any("event", &|v| event.action == v || (loose && event.action.starts_with(v)))
        && any("scope", &|v| event.scope == v)
        && any("image", &|v| v == event.actor.id || v == image || v == without_tag)
        && ["container", "daemon", "plugin", "volume", "network", "node", "service", "secret", "config"]
            .into_iter()
            .all(object)
        && filters.get("label").all(|v| match v.split_once('=') {
            Some((key, value)) => attributes.get(key).is_some_and(|a| a == value),
            None => attributes.contains_key(v),
        })
}

/// Networks whose registries may be reached without TLS.
fn insecure_networks(live: &crate::LiveSettings) -> List<String> {
    let given = live.insecure_registries.iter().filter(|r| r.contains('/')).cloned();
    ["::1/128", "127.0.0.0/8"].iter().map(|n| (*n).to_owned()).chain(given).collect()
}

/// Docker Hub, and the registries that may be reached without TLS.
fn index_configs(live: &crate::LiveSettings) -> ferry_api::Map<IndexInfo> {
    let hub = IndexInfo {
        name: "docker.io".to_owned(),
        mirrors: live.registry_mirrors.clone().into(),
        secure: true,
        official: true,
    };
    let insecure = live.insecure_registries.iter().filter(|r| !r.contains('/')).map(|name| IndexInfo {
        name: name.clone(),
        mirrors: List::empty(),
        secure: false,
        official: false,
    });
    std::iter::once(hub).chain(insecure).map(|index| (index.name.clone(), index)).collect()
}

/// How many tasks there are in the daemon: what goroutines are in Docker's.
fn tasks() -> i64 {
    let runtime = tokio::runtime::Handle::try_current();
    runtime.map_or(0, |r| i64::try_from(r.metrics().num_alive_tasks()).unwrap_or(i64::MAX))
}

/// A proxy's URL without the name and password in it.
fn mask_credentials(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}xxxxx:xxxxx{}", &url[..scheme + 3], &url[at..]),
        _ => url.to_owned(),
    }
}

/// A value of os-release(5).
fn os_release(key: &str) -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release")
        .or_else(|_| std::fs::read_to_string("/usr/lib/os-release"))
        .ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='))?;
    Some(line.trim_matches('"').to_owned())
}

/// Type of the file system a path is on, as far as it has a name here.
fn backing_filesystem(path: &std::path::Path) -> String {
    // linux/magic.h
    let names = [
        (0xef53, "extfs"),
        (0x5846_5342, "xfs"),
        (0x9123_683e, "btrfs"),
        (0x0102_1994, "tmpfs"),
        (0x2fc1_2fc1, "zfs"),
        (0x794c_7630, "overlayfs"),
        (0xf2f5_2010, "f2fs"),
    ];
    let magic = rustix::fs::statfs(path).map_or(0, |s| u64::try_from(s.f_type).unwrap_or(0));
    names.iter().find(|(m, _)| *m == magic).map_or_else(|| format!("{magic:#x}"), |(_, n)| (*n).to_owned())
}
