//! The part of a container's configuration that depends on the host.

use serde::{Deserialize, Serialize};

use super::Resources;
use crate::json::{List, Map, console_size, embed, is_empty_list, is_empty_map, is_zero};
use crate::mount::Mount;
use crate::network::PortMap;

/// Where and with what a container runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", remote = "Self")]
pub struct HostConfig {
    /// `source:target[:options]`.
    pub binds: List<String>,
    /// File on the client the id was written to.
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    /// Where output goes.
    pub log_config: LogConfig,
    /// `bridge`, `host`, `none`, `container:NAME` or a network's name.
    pub network_mode: String,
    /// Ports to publish, by `port/protocol`.
    pub port_bindings: PortMap,
    /// What to do when the container ends.
    pub restart_policy: RestartPolicy,
    /// Remove the container when it ends.
    pub auto_remove: bool,
    /// Driver of volumes made for this container.
    pub volume_driver: String,
    /// `container[:ro|rw]`.
    pub volumes_from: List<String>,
    /// Initial terminal size, `[height, width]`.
    #[serde(deserialize_with = "console_size")]
    pub console_size: [u32; 2],
    /// OCI annotations.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub annotations: Map<String>,
    /// Capabilities beyond the default set, with or without `CAP_`; `ALL`.
    pub cap_add: List<String>,
    /// Capabilities taken from the default set.
    pub cap_drop: List<String>,
    /// `private`, `host` or empty for the daemon's default.
    pub cgroupns_mode: String,
    /// Name servers.
    pub dns: List<String>,
    /// `options` of resolv.conf(5).
    pub dns_options: List<String>,
    /// `search` of resolv.conf(5).
    pub dns_search: List<String>,
    /// `name:address` for `/etc/hosts`.
    pub extra_hosts: List<String>,
    /// Supplementary groups, names or numbers.
    pub group_add: List<String>,
    /// `private`, `shareable`, `host`, `none`, `container:NAME` or empty.
    pub ipc_mode: String,
    /// Container whose cgroup to join (never implemented by Docker either).
    pub cgroup: String,
    /// Legacy links, `name:alias`.
    pub links: List<String>,
    /// -1000–1000 (proc_pid_oom_score_adj(5)).
    pub oom_score_adj: i32,
    /// `host`, `container:NAME` or empty.
    pub pid_mode: String,
    /// All capabilities and devices, nothing masked.
    pub privileged: bool,
    /// Publish every exposed port on a free one.
    pub publish_all_ports: bool,
    /// Mount the root file system read-only.
    pub readonly_rootfs: bool,
    /// `no-new-privileges`, `seccomp=…`, `apparmor=…`, `label=…`, `systempaths=unconfined`.
    pub security_opt: List<String>,
    /// Storage driver options.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub storage_opt: Map<String>,
    /// Path to mount options.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub tmpfs: Map<String>,
    /// `host` or empty.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// `host` or empty.
    pub userns_mode: String,
    /// Bytes of `/dev/shm`; 0 means 64 MiB.
    pub shm_size: i64,
    /// Name to value.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub sysctls: Map<String>,
    /// Name of the OCI runtime.
    #[serde(skip_serializing_if = "is_zero")]
    pub runtime: String,
    /// Windows only; empty or `default`.
    pub isolation: String,
    /// Limits and devices.
    #[serde(flatten, skip_deserializing)]
    pub resources: Resources,
    /// Mounts in the long form.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub mounts: List<Mount>,
    /// Paths hidden from the container; null for the default set.
    pub masked_paths: List<String>,
    /// Paths that are read-only; null for the default set.
    pub readonly_paths: List<String>,
    /// Run a small init as process 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
}
embed!(HostConfig, resources);

/// A log driver and its options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct LogConfig {
    /// `json-file`, `local`, `none`, …; empty for the daemon's default.
    #[serde(rename = "Type")]
    pub kind: String,
    /// `max-size`, `max-file`, `labels`, …
    pub config: Map<String>,
}

/// When to start a container again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RestartPolicy {
    /// Empty, `no`, `always`, `unless-stopped` or `on-failure`.
    pub name: String,
    /// Most attempts of `on-failure`, 0 for no limit.
    pub maximum_retry_count: i64,
}
