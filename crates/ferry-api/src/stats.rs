//! `GET /containers/{id}/stats`.

use serde::{Deserialize, Serialize};

use crate::json::{List, Map, Time, is_empty_list, is_empty_map, is_zero};

/// One sample of a container's use of resources, and the one before it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerStats {
    /// With the leading `/`; in one-shot and streamed answers alike.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// Full id.
    #[serde(skip_serializing_if = "is_zero")]
    pub id: String,
    /// `linux`.
    #[serde(skip_serializing_if = "is_zero")]
    pub os_type: String,
    /// When it was taken; the zero time for a container that does not run.
    pub read: Time,
    /// CPU now.
    pub cpu_stats: CpuStats,
    /// Memory.
    pub memory_stats: MemoryStats,
    /// By interface; omitted without a network of its own.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub networks: Map<NetworkStats>,
    /// Processes.
    pub pids_stats: PidsStats,
    /// Block I/O.
    pub blkio_stats: BlkioStats,
    /// Windows only.
    pub num_procs: u32,
    /// Windows only; always `{}`.
    pub storage_stats: crate::json::Empty,
    /// When the sample before was taken; the zero time when there is none.
    pub preread: Time,
    /// CPU in the sample before.
    pub precpu_stats: CpuStats,
}

/// CPU time, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    /// Of the container.
    pub cpu_usage: CpuUsage,
    /// Of the host.
    #[serde(skip_serializing_if = "is_zero")]
    pub system_cpu_usage: u64,
    /// CPUs online.
    #[serde(skip_serializing_if = "is_zero")]
    pub online_cpus: u32,
    /// How often the quota held it back.
    pub throttling_data: ThrottlingData,
}

/// CPU time of a container, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuUsage {
    /// All.
    pub total_usage: u64,
    /// Per CPU; cgroup v1 only.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub percpu_usage: List<u64>,
    /// In the kernel.
    pub usage_in_kernelmode: u64,
    /// In user space.
    pub usage_in_usermode: u64,
}

/// Effect of the CPU quota.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThrottlingData {
    /// Periods in all.
    pub periods: u64,
    /// Periods in which it was held back.
    pub throttled_periods: u64,
    /// Nanoseconds.
    pub throttled_time: u64,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    /// Now, page cache included.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// Most ever; cgroup v1 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_usage: u64,
    /// `memory.stat` of the cgroup.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub stats: Map<u64>,
    /// How often the limit was hit; cgroup v1 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub failcnt: u64,
    /// The limit, or the host's memory.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Traffic of one interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkStats {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Errors.
    pub rx_errors: u64,
    /// Packets dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Errors.
    pub tx_errors: u64,
    /// Packets dropped.
    pub tx_dropped: u64,
}

/// Processes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// Most; 2⁶⁴-1 for unlimited.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Block I/O per device and operation; null where the cgroup version does not count it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioStats {
    /// Bytes.
    pub io_service_bytes_recursive: List<BlkioEntry>,
    /// Operations.
    pub io_serviced_recursive: List<BlkioEntry>,
    /// Queued operations.
    pub io_queue_recursive: List<BlkioEntry>,
    /// Nanoseconds of service.
    pub io_service_time_recursive: List<BlkioEntry>,
    /// Nanoseconds of waiting.
    pub io_wait_time_recursive: List<BlkioEntry>,
    /// Merged operations.
    pub io_merged_recursive: List<BlkioEntry>,
    /// Milliseconds of device time.
    pub io_time_recursive: List<BlkioEntry>,
    /// Sectors.
    pub sectors_recursive: List<BlkioEntry>,
}

/// One count of block I/O.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioEntry {
    /// Device.
    pub major: u64,
    /// Device.
    pub minor: u64,
    /// `read`, `write`, …
    pub op: String,
    /// The count.
    pub value: u64,
}
