//! Limits and devices: the part of a host configuration `update` may change.

use serde::{Deserialize, Serialize};

use crate::json::{List, Map};

/// Resource limits; 0, null and empty mean unlimited or unchanged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Resources {
    /// Relative weight, 2–262144; 0 means the default of 1024.
    pub cpu_shares: i64,
    /// Bytes.
    pub memory: i64,
    /// 10⁻⁹ CPUs.
    pub nano_cpus: i64,
    /// Parent cgroup.
    pub cgroup_parent: String,
    /// Relative weight, 10–1000; 0 means the default.
    pub blkio_weight: u16,
    /// Weights per device.
    pub blkio_weight_device: List<WeightDevice>,
    /// Bytes per second.
    pub blkio_device_read_bps: List<ThrottleDevice>,
    /// Bytes per second.
    pub blkio_device_write_bps: List<ThrottleDevice>,
    /// Operations per second.
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: List<ThrottleDevice>,
    /// Operations per second.
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: List<ThrottleDevice>,
    /// CFS period in microseconds.
    pub cpu_period: i64,
    /// CFS quota in microseconds per period.
    pub cpu_quota: i64,
    /// Realtime period in microseconds.
    pub cpu_realtime_period: i64,
    /// Realtime runtime in microseconds.
    pub cpu_realtime_runtime: i64,
    /// CPU list, `0-2,7`.
    pub cpuset_cpus: String,
    /// Memory node list.
    pub cpuset_mems: String,
    /// Host devices to make available.
    pub devices: List<DeviceMapping>,
    /// Rules such as `c 1:3 mr`.
    pub device_cgroup_rules: List<String>,
    /// Devices of drivers (GPUs, CDI).
    pub device_requests: List<DeviceRequest>,
    /// Kernel memory limit in bytes; before API 1.42 only.
    #[serde(skip_serializing_if = "crate::json::is_zero")]
    pub kernel_memory: i64,
    /// Hard limit of kernel TCP buffer memory in bytes; ignored by kernels with cgroup v2.
    #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "crate::json::is_zero")]
    pub kernel_memory_tcp: i64,
    /// Soft limit in bytes.
    pub memory_reservation: i64,
    /// Memory and swap together in bytes, -1 unlimited.
    pub memory_swap: i64,
    /// 0–100, null for the host's.
    pub memory_swappiness: Option<i64>,
    /// Whether the kernel must not kill at the memory limit (cgroup v1).
    pub oom_kill_disable: Option<bool>,
    /// Most processes; null, 0 and -1 unlimited.
    pub pids_limit: Option<i64>,
    /// Resource limits of processes (getrlimit(2)).
    pub ulimits: List<Ulimit>,
    /// Windows only.
    pub cpu_count: i64,
    /// Windows only.
    pub cpu_percent: i64,
    /// Windows only.
    #[serde(rename = "IOMaximumIOps")]
    pub io_maximum_iops: u64,
    /// Windows only.
    #[serde(rename = "IOMaximumBandwidth")]
    pub io_maximum_bandwidth: u64,
}

/// Block I/O weight of one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WeightDevice {
    /// Device node on the host.
    pub path: String,
    /// 10–1000.
    pub weight: u16,
}

/// Block I/O limit of one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ThrottleDevice {
    /// Device node on the host.
    pub path: String,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// A host device given to the container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeviceMapping {
    /// Device node or directory of nodes.
    pub path_on_host: String,
    /// Where it appears.
    pub path_in_container: String,
    /// Subset of `rwm`.
    pub cgroup_permissions: String,
}

/// Devices asked of a driver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeviceRequest {
    /// `cdi`, `nvidia`, …; empty for any that has the capabilities.
    pub driver: String,
    /// How many, -1 for all.
    pub count: i64,
    /// Which, by the driver's names.
    #[serde(rename = "DeviceIDs")]
    pub device_ids: List<String>,
    /// Alternatives of sets of capabilities.
    pub capabilities: List<List<String>>,
    /// For the driver.
    pub options: Map<String>,
}

/// One resource limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Ulimit {
    /// `nofile`, `core`, …
    pub name: String,
    /// Hard limit, -1 unlimited.
    pub hard: i64,
    /// Soft limit, -1 unlimited.
    pub soft: i64,
}
