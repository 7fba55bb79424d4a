//! Usage figures of a control group.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::Cgroup;
use crate::Error;

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

impl Cgroup {
    /// Current usage and limits.
    pub fn stats(&self) -> Result<Stats, Error> {
        Ok(if self.is_v2() { self.stats_v2() } else { self.stats_v1() })
    }

    fn stats_v1(&self) -> Stats {
        let mut stats = Stats::default();
        if let Some(dir) = self.v1_dir("cpuacct") {
            stats.cpu.total = number(&dir, "cpuacct.usage");
            stats.cpu.per_cpu = text(&dir, "cpuacct.usage_percpu")
                .split_whitespace()
                .filter_map(|n| n.parse().ok())
                .collect();
            let times = table(&dir, "cpuacct.stat");
            // In clock ticks of 1/100 s.
            stats.cpu.user = times.get("user").copied().unwrap_or(0).saturating_mul(10_000_000);
            stats.cpu.kernel = times.get("system").copied().unwrap_or(0).saturating_mul(10_000_000);
        }
        if let Some(dir) = self.v1_dir("cpu") {
            let table = table(&dir, "cpu.stat");
            let get = |key: &str| table.get(key).copied().unwrap_or(0);
            stats.cpu.throttling = Throttling {
                periods: get("nr_periods"),
                throttled_periods: get("nr_throttled"),
                throttled_time: get("throttled_time"),
            };
        }
        if let Some(dir) = self.v1_dir("memory") {
            let memory = &mut stats.memory;
            memory.usage = number(&dir, "memory.usage_in_bytes");
            memory.max_usage = number(&dir, "memory.max_usage_in_bytes");
            memory.limit = unlimited(number(&dir, "memory.limit_in_bytes"));
            memory.failcnt = number(&dir, "memory.failcnt");
            memory.stat = table(&dir, "memory.stat");
            let get = |key: &str| memory.stat.get(key).copied().unwrap_or(0);
            (memory.cache, memory.inactive_file) = (get("total_cache"), get("total_inactive_file"));
            memory.swap = number(&dir, "memory.memsw.usage_in_bytes").saturating_sub(memory.usage);
            memory.oom_kills = table(&dir, "memory.oom_control").get("oom_kill").copied().unwrap_or(0);
        }
        if let Some(dir) = self.v1_dir("pids") {
            stats.pids = pids(&dir);
        }
        if let Some(dir) = self.v1_dir("blkio") {
            stats.blkio.bytes = blkio_v1(&text(&dir, "blkio.throttle.io_service_bytes_recursive"));
            stats.blkio.ops = blkio_v1(&text(&dir, "blkio.throttle.io_serviced_recursive"));
        }
        stats
    }

    fn stats_v2(&self) -> Stats {
        let mut stats = Stats::default();
        let Some(dir) = self.v2_dir() else { return stats };
        let cpu = table(&dir, "cpu.stat");
        // In microseconds.
        let get = |key: &str| cpu.get(key).copied().unwrap_or(0);
        let nanoseconds = |key: &str| get(key).saturating_mul(1000);
        stats.cpu = Cpu {
            total: nanoseconds("usage_usec"),
            user: nanoseconds("user_usec"),
            kernel: nanoseconds("system_usec"),
            per_cpu: Vec::new(),
            throttling: Throttling {
                periods: get("nr_periods"),
                throttled_periods: get("nr_throttled"),
                throttled_time: nanoseconds("throttled_usec"),
            },
        };
        let memory = &mut stats.memory;
        memory.usage = number(&dir, "memory.current");
        memory.max_usage = number(&dir, "memory.peak");
        memory.limit = match text(&dir, "memory.max").trim() {
            "" | "max" => u64::MAX,
            value => value.parse().unwrap_or(u64::MAX),
        };
        memory.swap = number(&dir, "memory.swap.current");
        memory.stat = table(&dir, "memory.stat");
        let get = |key: &str| memory.stat.get(key).copied().unwrap_or(0);
        (memory.cache, memory.inactive_file) = (get("file"), get("inactive_file"));
        let events = table(&dir, "memory.events");
        memory.failcnt = events.get("max").copied().unwrap_or(0);
        memory.oom_kills = events.get("oom_kill").copied().unwrap_or(0);
        stats.pids = pids(&dir);
        stats.blkio = io_v2(&text(&dir, "io.stat"));
        stats
    }
}

/// A missing file counts as empty: not every kernel has every one.
fn text(dir: &Path, file: &str) -> String {
    std::fs::read_to_string(dir.join(file)).unwrap_or_default()
}

fn number(dir: &Path, file: &str) -> u64 {
    text(dir, file).trim().parse().unwrap_or(0)
}

/// `key value` per line.
fn table(dir: &Path, file: &str) -> BTreeMap<String, u64> {
    text(dir, file)
        .lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// v1 says "no limit" with the largest page-aligned number.
fn unlimited(limit: u64) -> u64 {
    if limit >= 0x7fff_ffff_ffff_0000 { u64::MAX } else { limit }
}

fn pids(dir: &Path) -> Pids {
    // "max" does not parse and stands for no limit, too.
    Pids { current: number(dir, "pids.current"), limit: number(dir, "pids.max") }
}

/// Lines like `8:0 Read 4096`.
fn blkio_v1(text: &str) -> Vec<BlkioEntry> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (major, minor) = words.next()?.split_once(':')?;
            let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
            let op = words.next()?.to_owned();
            Some(BlkioEntry { major, minor, op, value: words.next()?.parse().ok()? })
        })
        .collect()
}

/// Lines like `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn io_v2(text: &str) -> Blkio {
    let mut blkio = Blkio::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((Ok(major), Ok(minor))) =
            words.next().and_then(|n| n.split_once(':')).map(|(a, b)| (a.parse(), b.parse()))
        else {
            continue;
        };
        for word in words {
            let Some((key, Ok(value))) = word.split_once('=').map(|(k, v)| (k, v.parse())) else { continue };
            let (list, op) = match key {
                "rbytes" => (&mut blkio.bytes, "Read"),
                "wbytes" => (&mut blkio.bytes, "Write"),
                "dbytes" => (&mut blkio.bytes, "Discard"),
                "rios" => (&mut blkio.ops, "Read"),
                "wios" => (&mut blkio.ops, "Write"),
                "dios" => (&mut blkio.ops, "Discard"),
                _ => continue,
            };
            list.push(BlkioEntry { major, minor, op: op.to_owned(), value });
        }
    }
    blkio
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_figures_of_both_versions_read_the_same() {
        let v1 = blkio_v1("8:0 Read 4096\n8:0 Write 512\n8:0 Total 4608\nTotal 4608\n");
        assert_eq!(v1.len(), 3);
        assert_eq!(v1[0], BlkioEntry { major: 8, minor: 0, op: "Read".into(), value: 4096 });
        let v2 = io_v2("8:0 rbytes=4096 wbytes=512 rios=1 wios=2 dbytes=0 dios=0\n");
        assert_eq!(v2.bytes[0], v1[0]);
        assert_eq!(v2.ops[1].value, 2);
    }
}
