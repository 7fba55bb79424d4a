//! `stats`: usage of a running container, from its cgroup and its network namespace.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferry_api::stats::{
    BlkioEntry, BlkioStats, ContainerStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats,
    ThrottlingData,
};
use ferry_api::{List, Time};
use ferry_network::interface_counters;
use ferry_runtime::cgroup::{self, Cgroup};

use super::record::ContainerRecord;
use super::state::Snapshot;
use crate::Engine;
use crate::api::ItemStream;
use crate::error::Result;
use crate::inner::Inner;
use crate::spec;

/// Between samples of a stream.
const INTERVAL: Duration = Duration::from_secs(1);
/// Nanoseconds per clock tick of /proc/stat; the kernel's user-visible rate is 100 Hz on every architecture ferry runs on.
const TICK: u64 = 10_000_000;

impl Engine {
    /// One sample. Unless `one_shot`, a second one is taken after a second, so that rates can be computed.
    pub async fn container_stats_once(&self, id: &str, one_shot: bool) -> Result<ContainerStats> {
        let handle = self.inner.containers.find(id)?;
        let first = take_sample(&self.inner, handle.snapshot()).await?;
        if one_shot || handle.snapshot().state.live().is_none() {
            return Ok(first);
        }
        tokio::time::sleep(INTERVAL).await;
        let second = take_sample(&self.inner, handle.snapshot()).await?;
        Ok(after(second, &first))
    }

    /// A sample each second for as long as the client listens.
    pub async fn container_stats_stream(&self, id: &str) -> Result<ItemStream<ContainerStats>> {
        let handle = self.inner.containers.find(id)?;
        let first = take_sample(&self.inner, handle.snapshot()).await?;
        let inner = Arc::clone(&self.inner);
        let state = (handle, inner, None::<ContainerStats>, Some(first));
        let stream = futures_util::stream::unfold(state, |(handle, inner, previous, ready)| async move {
            let sample = match ready {
                Some(sample) => sample,
                None => {
                    tokio::time::sleep(INTERVAL).await;
                    match take_sample(&inner, handle.snapshot()).await {
                        Ok(sample) => sample,
                        Err(error) => return Some((Err(error), (handle, inner, previous, None))),
                    }
                }
            };
            let sample = match &previous {
                Some(previous) => after(sample, previous),
                None => sample,
            };
            // The client ends the stream; a removed container ends it too.
            if matches!(handle.snapshot().state, super::state::State::Removed(_)) {
                return None;
            }
            Some((Ok(sample.clone()), (handle, inner, Some(sample), None)))
        });
        Ok(Box::pin(stream))
    }
}

fn after(mut sample: ContainerStats, previous: &ContainerStats) -> ContainerStats {
    sample.precpu_stats = previous.cpu_stats.clone();
    sample.preread = previous.read;
    sample
}

async fn take_sample(inner: &Arc<Inner>, snapshot: Arc<Snapshot>) -> Result<ContainerStats> {
    let inner = Arc::clone(inner);
    crate::blocking(move || sample(&inner, &snapshot)).await
}

fn sample(inner: &Inner, snapshot: &Snapshot) -> Result<ContainerStats> {
    let record = &snapshot.record;
    let mut stats = ContainerStats {
        name: format!("/{}", record.name),
        id: record.id.to_string(),
        os_type: "linux".to_owned(),
        ..ContainerStats::default()
    };
    let Some(live) = snapshot.state.live() else {
        // A stopped container has a sample of zeros, as in Docker.
        return Ok(stats);
    };
    let path = PathBuf::from(spec::cgroup_path(record, &inner.config.cgroup_parent));
    let usage = Cgroup::open(&path)?.stats()?;
    stats.read = Time::now();
    stats.cpu_stats = cpu(&usage.cpu, inner);
    stats.memory_stats = memory(usage.memory, inner);
    stats.pids_stats = PidsStats { current: usage.pids.current, limit: usage.pids.limit };
    stats.num_procs = 0;
    stats.blkio_stats = blkio(&usage.blkio, inner.host.cgroup_v2);
    stats.networks = networks(record, live.pid).into_iter().collect();
    Ok(stats)
}

fn cpu(usage: &cgroup::Cpu, inner: &Inner) -> CpuStats {
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: usage.total,
            percpu_usage: if usage.per_cpu.is_empty() {
                List::default()
            } else {
                usage.per_cpu.clone().into()
            },
            usage_in_kernelmode: usage.kernel,
            usage_in_usermode: usage.user,
        },
        system_cpu_usage: system_cpu(&std::fs::read_to_string("/proc/stat").unwrap_or_default()),
        online_cpus: u32::try_from(inner.host.cpus).unwrap_or(u32::MAX),
        throttling_data: ThrottlingData {
            periods: usage.throttling.periods,
            throttled_periods: usage.throttling.throttled_periods,
            throttled_time: usage.throttling.throttled_time,
        },
    }
}

/// Time all processors spent, in nanoseconds: the first seven figures of /proc/stat (proc_stat(5)), as Docker sums them.
fn system_cpu(proc_stat: &str) -> u64 {
    let figures = proc_stat.lines().find_map(|l| l.strip_prefix("cpu ")).unwrap_or_default();
    figures.split_ascii_whitespace().take(7).filter_map(|n| n.parse::<u64>().ok()).sum::<u64>() * TICK
}

fn memory(usage: cgroup::Memory, inner: &Inner) -> MemoryStats {
    let total = inner.host.memory;
    let limit = if usage.limit == 0 || (total > 0 && usage.limit > total) { total } else { usage.limit };
    MemoryStats {
        usage: usage.usage,
        max_usage: usage.max_usage,
        stats: usage.stat.into_iter().collect(),
        failcnt: usage.failcnt,
        limit,
    }
}

fn blkio(usage: &cgroup::Blkio, v2: bool) -> BlkioStats {
    // What Docker has no figures for is empty on v1 and missing on v2.
    let none = || if v2 { List::default() } else { List::empty() };
    let list = |entries: &[cgroup::BlkioEntry]| -> List<BlkioEntry> {
        if entries.is_empty() {
            return none();
        }
        let wire = |e: &cgroup::BlkioEntry| BlkioEntry {
            major: e.major,
            minor: e.minor,
            op: e.op.clone(),
            value: e.value,
        };
        entries.iter().map(wire).collect()
    };
    BlkioStats {
        io_service_bytes_recursive: list(&usage.bytes),
        io_serviced_recursive: list(&usage.ops),
        io_queue_recursive: none(),
        io_service_time_recursive: none(),
        io_wait_time_recursive: none(),
        io_merged_recursive: none(),
        io_time_recursive: none(),
        sectors_recursive: none(),
    }
}

fn networks(record: &ContainerRecord, pid: i32) -> BTreeMap<String, NetworkStats> {
    if record.host_config.network_mode == "host" {
        return BTreeMap::new();
    }
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let wire = |c: ferry_network::InterfaceCounters| NetworkStats {
        rx_bytes: c.rx_bytes,
        rx_packets: c.rx_packets,
        rx_errors: c.rx_errors,
        rx_dropped: c.rx_dropped,
        tx_bytes: c.tx_bytes,
        tx_packets: c.tx_packets,
        tx_errors: c.tx_errors,
        tx_dropped: c.tx_dropped,
    };
    interface_counters(&text).into_iter().map(|(name, c)| (name, wire(c))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_summed() {
        assert_eq!(system_cpu("cpu  1 2 3 4 5 6 7 100 100 0\ncpu0 1 1 1 1\n"), 28 * TICK);
        assert_eq!(system_cpu(""), 0);
    }
}
