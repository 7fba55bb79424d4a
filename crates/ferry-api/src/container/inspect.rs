//! `GET /containers/{id}/json`.

use serde::{Deserialize, Serialize};

use super::{ContainerConfig, HostConfig};
use crate::image::Descriptor;
use crate::json::{List, Map, Time, is_zero};
use crate::mount::MountPoint;
use crate::network::NetworkSettings;

/// Everything known about a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerInspect {
    /// Full id.
    pub id: String,
    /// When it was created.
    pub created: Time,
    /// Program, after entry point and command are put together.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it does now.
    pub state: ContainerState,
    /// Image id, `sha256:…`.
    pub image: String,
    /// Host path of `/etc/resolv.conf`.
    pub resolv_conf_path: String,
    /// Host path of `/etc/hostname`.
    pub hostname_path: String,
    /// Host path of `/etc/hosts`.
    pub hosts_path: String,
    /// Host path of the log file, empty when the driver has none.
    pub log_path: String,
    /// With the leading `/`.
    pub name: String,
    /// How often the restart policy started it again.
    pub restart_count: i64,
    /// Storage driver.
    pub driver: String,
    /// `linux`.
    pub platform: String,
    /// SELinux.
    pub mount_label: String,
    /// SELinux.
    pub process_label: String,
    /// Profile in force.
    pub app_armor_profile: String,
    /// Running execs, null when none.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: List<String>,
    /// Where and with what it runs.
    pub host_config: HostConfig,
    /// Its directories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<GraphDriver>,
    /// Bytes in the writable layer, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    /// Bytes of the whole root file system, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    /// Volumes and binds in force.
    pub mounts: Vec<MountPoint>,
    /// What runs in it.
    pub config: ContainerConfig,
    /// Its addresses.
    pub network_settings: NetworkSettings,
    /// The image's manifest, when known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<Descriptor>,
}

/// `State` of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerState {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub status: String,
    /// True when running, paused or restarting.
    pub running: bool,
    /// Frozen.
    pub paused: bool,
    /// Between an end and the next start.
    pub restarting: bool,
    /// The memory limit killed a process.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Removal failed half-way.
    pub dead: bool,
    /// In the host's pid namespace, 0 when not running.
    pub pid: i32,
    /// Of the last run.
    pub exit_code: i32,
    /// Why the last start failed.
    pub error: String,
    /// The zero time when never started.
    pub started_at: Time,
    /// The zero time when it never ended.
    pub finished_at: Time,
    /// When a health check is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Log entries of the last run that were dropped because their destination did not take them; ferry's own, and
    /// absent when there are none.
    #[serde(skip_serializing_if = "is_zero")]
    pub log_entries_lost: u64,
}

/// Outcome of health checks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Health {
    /// `starting`, `healthy`, `unhealthy` or `none`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
    /// The last five, oldest first.
    pub log: List<HealthcheckResult>,
}

/// One health check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthcheckResult {
    /// When it began.
    pub start: Time,
    /// When it ended.
    pub end: Time,
    /// 0 healthy, 1 unhealthy, 2 reserved, others an error of the check.
    pub exit_code: i32,
    /// Its output.
    pub output: String,
}

/// A storage driver's data about a container or an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct GraphDriver {
    /// Full id of the container the layer belongs to.
    #[serde(rename = "ID", skip_serializing_if = "is_zero")]
    pub id: String,
    /// `LowerDir`, `MergedDir`, `UpperDir`, `WorkDir`.
    pub data: Map<String>,
    /// `overlay2`.
    pub name: String,
}
