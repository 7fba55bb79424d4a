//! Usage figures of a control group.

use std::collections::BTreeMap;

use serde::Serialize;

/// All figures; groups the host does not account are at their defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Tasks.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
}

/// Processor time, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cpu {
    /// Total.
    pub total: u64,
    /// In user mode.
    pub user: u64,
    /// In kernel mode.
    pub kernel: u64,
    /// Per processor; empty on v2, which does not tell.
    pub per_cpu: Vec<u64>,
    /// Effects of a quota.
    pub throttling: Throttling,
}

/// Effects of a CPU quota.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Throttling {
    /// Periods elapsed.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Nanoseconds spent waiting for the next period.
    pub throttled_time: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Charged now.
    pub usage: u64,
    /// Highest charge seen, where the kernel tells.
    pub max_usage: u64,
    /// Limit; `u64::MAX` without one.
    pub limit: u64,
    /// Page cache.
    pub cache: u64,
    /// Page cache not used lately; Docker's CLI subtracts it from `usage`.
    pub inactive_file: u64,
    /// Times the limit was hit.
    pub failcnt: u64,
    /// Swap charged now, where accounted.
    pub swap: u64,
    /// Processes killed for memory.
    pub oom_kills: u64,
    /// `memory.stat` as it is.
    pub stat: BTreeMap<String, u64>,
}

/// Tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pids {
    /// Now.
    pub current: u64,
    /// Limit; 0 without one.
    pub limit: u64,
}

/// Block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Blkio {
    /// Bytes per device and operation (`Read`, `Write`, …).
    pub bytes: Vec<BlkioEntry>,
    /// Operations per device and kind.
    pub ops: Vec<BlkioEntry>,
}

/// One figure of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BlkioEntry {
    /// Device major number.
    pub major: u64,
    /// Device minor number.
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`, as Docker's API has them.
    pub op: String,
    /// The figure.
    pub value: u64,
}
