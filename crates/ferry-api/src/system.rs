//! The daemon itself: version, info, disk usage.

use serde::{Deserialize, Serialize};

use crate::container::ContainerSummary;
use crate::image::ImageSummary;
use crate::json::{List, Map, Time, is_empty_list, is_empty_map, is_zero};
use crate::swarm::SwarmInfo;
use crate::volume::Volume;

/// `GET /version`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VersionResponse {
    /// Product.
    pub platform: PlatformName,
    /// Of the engine.
    pub version: String,
    /// Newest API version served.
    pub api_version: String,
    /// Oldest API version served.
    #[serde(rename = "MinAPIVersion", skip_serializing_if = "is_zero")]
    pub min_api_version: String,
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub arch: String,
    /// Parts of the engine.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub components: List<ComponentVersion>,
    /// Source revision.
    #[serde(skip_serializing_if = "is_zero")]
    pub git_commit: String,
    /// Compiler; clients print it, whatever the language.
    #[serde(skip_serializing_if = "is_zero")]
    pub go_version: String,
    /// Of the host.
    #[serde(skip_serializing_if = "is_zero")]
    pub kernel_version: String,
    /// Whether experimental features are on.
    #[serde(skip_serializing_if = "is_zero")]
    pub experimental: bool,
    /// RFC 3339.
    #[serde(skip_serializing_if = "is_zero")]
    pub build_time: String,
}

/// Product name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PlatformName {
    /// For people.
    pub name: String,
}

/// Version of one part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ComponentVersion {
    /// `Engine`, …
    pub name: String,
    /// Its version.
    pub version: String,
    /// `ApiVersion`, `Arch`, `BuildTime`, `GitCommit`, …
    #[serde(skip_serializing_if = "is_empty_map")]
    pub details: Map<String>,
}

/// `GET /info`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SystemInfo {
    /// Of this daemon.
    #[serde(rename = "ID")]
    pub id: String,
    /// All containers.
    pub containers: i64,
    /// Those that run.
    pub containers_running: i64,
    /// Those that are paused.
    pub containers_paused: i64,
    /// The others.
    pub containers_stopped: i64,
    /// All images.
    pub images: i64,
    /// Storage driver.
    pub driver: String,
    /// What it says about itself.
    pub driver_status: List<(String, String)>,
    /// Drivers available.
    pub plugins: PluginsInfo,
    /// Whether the host can limit memory.
    pub memory_limit: bool,
    /// … and swap.
    pub swap_limit: bool,
    /// … and the CFS period.
    pub cpu_cfs_period: bool,
    /// … and the CFS quota.
    pub cpu_cfs_quota: bool,
    /// … and CPU shares.
    #[serde(rename = "CPUShares")]
    pub cpu_shares: bool,
    /// … and CPU sets.
    #[serde(rename = "CPUSet")]
    pub cpu_set: bool,
    /// … and processes.
    pub pids_limit: bool,
    /// Whether the host forwards IPv4.
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    /// Before API 1.49 only.
    #[serde(rename = "BridgeNfIptables", skip_serializing_if = "Option::is_none")]
    pub bridge_nf_iptables: Option<bool>,
    /// Before API 1.49 only.
    #[serde(rename = "BridgeNfIp6tables", skip_serializing_if = "Option::is_none")]
    pub bridge_nf_ip6tables: Option<bool>,
    /// Whether the daemon logs at debug level.
    pub debug: bool,
    /// Open descriptors of the daemon.
    pub n_fd: i64,
    /// Whether the OOM killer can be switched off.
    pub oom_kill_disable: bool,
    /// Tasks of the daemon.
    pub n_goroutines: i64,
    /// Now.
    pub system_time: Time,
    /// Default log driver.
    pub logging_driver: String,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// `1` or `2`.
    #[serde(skip_serializing_if = "is_zero")]
    pub cgroup_version: String,
    /// Clients of the event stream.
    pub n_events_listener: i64,
    /// Of the host.
    pub kernel_version: String,
    /// Of the host, `PRETTY_NAME` of os-release(5).
    pub operating_system: String,
    /// Of the host, `VERSION_ID` of os-release(5).
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    /// `linux`.
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// As `uname -m`.
    pub architecture: String,
    /// Of Docker Hub.
    pub index_server_address: String,
    /// Registries.
    pub registry_config: RegistryConfig,
    /// Swarm's generic resources.
    pub generic_resources: List<serde_json::Value>,
    /// CPUs.
    #[serde(rename = "NCPU")]
    pub ncpu: i64,
    /// Bytes.
    pub mem_total: i64,
    /// Data root.
    pub docker_root_dir: String,
    /// Proxy.
    pub http_proxy: String,
    /// Proxy.
    pub https_proxy: String,
    /// Proxy.
    pub no_proxy: String,
    /// Host name.
    pub name: String,
    /// Of the daemon.
    pub labels: List<String>,
    /// Whether experimental features are on.
    pub experimental_build: bool,
    /// Of the engine.
    pub server_version: String,
    /// OCI runtimes by name.
    pub runtimes: Map<RuntimeInfo>,
    /// Name of the default one.
    pub default_runtime: String,
    /// Swarm.
    pub swarm: SwarmInfo,
    /// Containers outlive the daemon: always, for ferry.
    pub live_restore_enabled: bool,
    /// Windows only.
    pub isolation: String,
    /// What `--init` runs.
    pub init_binary: String,
    /// Empty: there is no containerd.
    pub containerd_commit: Commit,
    /// Of the default runtime.
    pub runc_commit: Commit,
    /// Of the init.
    pub init_commit: Commit,
    /// `name=seccomp,profile=builtin`, …
    pub security_options: List<String>,
    /// Product license.
    #[serde(skip_serializing_if = "is_zero")]
    pub product_license: String,
    /// Pools of subnets for networks.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub default_address_pools: List<AddressPool>,
    /// What filters packets (since API 1.49).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firewall_backend: Option<FirewallInfo>,
    /// Directories of CDI specifications.
    #[serde(rename = "CDISpecDirs")]
    pub cdi_spec_dirs: List<String>,
    /// Devices found there (since API 1.50).
    #[serde(skip_serializing_if = "is_empty_list")]
    pub discovered_devices: List<DeviceInfo>,
    /// For people, null when there are none.
    pub warnings: List<String>,
}

/// A device that containers can ask for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeviceInfo {
    /// What knows the device: `cdi`.
    pub source: String,
    /// Its name there, `vendor/class=name`.
    #[serde(rename = "ID")]
    pub id: String,
}

/// Drivers by kind; null where there are none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PluginsInfo {
    /// Of volumes.
    pub volume: List<String>,
    /// Of networks.
    pub network: List<String>,
    /// Of authorization.
    pub authorization: List<String>,
    /// Of logs.
    pub log: List<String>,
}

/// How registries are reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RegistryConfig {
    /// Networks whose registries need no TLS.
    #[serde(rename = "InsecureRegistryCIDRs")]
    pub insecure_registry_cidrs: List<String>,
    /// By registry name.
    pub index_configs: Map<IndexInfo>,
    /// Of Docker Hub.
    pub mirrors: List<String>,
}

/// One registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IndexInfo {
    /// Host and port.
    pub name: String,
    /// Its mirrors.
    pub mirrors: List<String>,
    /// Whether TLS is needed.
    pub secure: bool,
    /// Whether it is Docker Hub.
    pub official: bool,
}

/// An OCI runtime.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RuntimeInfo {
    /// Program.
    #[serde(skip_serializing_if = "is_zero")]
    pub path: String,
    /// Its arguments.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub runtime_args: List<String>,
    /// Of containerd's shims.
    #[serde(skip_serializing_if = "is_zero")]
    pub runtime_type: String,
    /// `org.opencontainers.runtime-spec.features` and others.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub status: Map<String>,
}

/// Source revision of a part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Commit {
    /// What it is.
    #[serde(rename = "ID")]
    pub id: String,
    /// As `ID`; before API 1.49 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub expected: String,
}

/// A pool of subnets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AddressPool {
    /// `address/bits`.
    pub base: String,
    /// Prefix length of each subnet.
    pub size: i64,
}

/// What filters packets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct FirewallInfo {
    /// `nftables` or `iptables`.
    pub driver: String,
    /// Details.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub info: List<(String, String)>,
}

/// `GET /system/df`; a part is absent when it was not asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DiskUsage {
    /// Images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_usage: Option<UsageOf<ImageSummary>>,
    /// Containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_usage: Option<UsageOf<ContainerSummary>>,
    /// Volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_usage: Option<UsageOf<Volume>>,
    /// Build cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_cache_usage: Option<UsageOf<BuildCacheRecord>>,
}

/// Disk usage of one kind of object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UsageOf<T> {
    /// How many are in use.
    #[serde(skip_serializing_if = "is_zero")]
    pub active_count: i64,
    /// Each of them; clients of API 1.52 and later get them with `verbose` only.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub items: List<T>,
    /// Bytes a prune would free.
    #[serde(skip_serializing_if = "is_zero")]
    pub reclaimable: i64,
    /// How many there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub total_count: i64,
    /// Bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub total_size: i64,
}

impl<T> Default for UsageOf<T> {
    fn default() -> Self {
        Self { active_count: 0, items: List::default(), reclaimable: 0, total_count: 0, total_size: 0 }
    }
}

/// One record of the build cache.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BuildCacheRecord {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Records it builds on.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub parents: List<String>,
    /// `regular`, `source.local`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// The step.
    pub description: String,
    /// By a build.
    pub in_use: bool,
    /// With an image.
    pub shared: bool,
    /// Bytes.
    pub size: i64,
    /// When it was made.
    pub created_at: Time,
    /// When it was last used.
    pub last_used_at: Option<Time>,
    /// How often.
    pub usage_count: i64,
}
