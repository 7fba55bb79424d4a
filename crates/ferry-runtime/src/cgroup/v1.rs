//! Cgroup v1: making the directories and writing the limits of an OCI config.

use std::path::Path;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};
use rustix::io::Errno;

use super::layout::Hierarchy;
use super::{Cgroup, devices, make_dirs, read, try_write, write};
use crate::error::At;
use crate::{Error, Stage};

/// Makes a group's directory in one hierarchy.
pub(super) fn make(hierarchy: &Hierarchy, dir: &Path) -> Result<(), Error> {
    if hierarchy.controllers.iter().any(|c| c == "cpuset") {
        make_cpuset(&hierarchy.mountpoint, dir)
    } else {
        make_dirs(dir)
    }
}

/// A new cpuset has no processors and no memory, and takes no process, until it inherits some.
fn make_cpuset(mountpoint: &Path, dir: &Path) -> Result<(), Error> {
    let at = || format!("create {}", dir.display());
    let mode = rustix::fs::Mode::from_raw_mode(0o755);
    match rustix::fs::mkdir(dir, mode) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(Errno::NOENT) => {
            if let Some(parent) = dir.parent().filter(|p| p.starts_with(mountpoint)) {
                make_cpuset(mountpoint, parent)?;
            }
            match rustix::fs::mkdir(dir, mode) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(Error::system(Stage::Cgroup, at(), errno)),
            }
        }
        Err(errno) => return Err(Error::system(Stage::Cgroup, at(), errno)),
    }
    let Some(parent) = dir.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if read(&dir.join(file))?.trim().is_empty() {
            write(&dir.join(file), read(&parent.join(file))?.trim())?;
        }
    }
    Ok(())
}

/// Writes all limits of a config.
pub(super) fn apply(group: &Cgroup, resources: &LinuxResources) -> Result<(), Error> {
    if resources.unified().as_ref().is_some_and(|u| !u.is_empty()) {
        return Err(Error::invalid(Stage::Cgroup, "unified resources need a cgroup v2 host"));
    }
    if let Some(rules) = resources.devices()
        && let Some(dir) = group.v1_dir("devices")
    {
        devices::apply_v1(&dir, rules)?;
    }
    if let Some(value) = resources.memory() {
        memory(group, value)?;
    }
    if let Some(value) = resources.cpu() {
        cpu(group, value)?;
    }
    if let Some(pids) = resources.pids() {
        let value = if pids.limit() > 0 { pids.limit().to_string() } else { "max".to_owned() };
        set(group, "pids", "pids.max", &value)?;
    }
    if let Some(value) = resources.block_io() {
        blkio(group, value)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let file = format!("hugetlb.{}.limit_in_bytes", limit.page_size());
        set(group, "hugetlb", &file, &limit.limit().to_string())?;
    }
    if let Some(network) = resources.network() {
        if let Some(id) = network.class_id().filter(|&id| id != 0) {
            set(group, "net_cls", "net_cls.classid", &id.to_string())?;
        }
        for entry in network.priorities().iter().flatten() {
            let value = format!("{} {}", entry.name(), entry.priority());
            set(group, "net_prio", "net_prio.ifpriomap", &value)?;
        }
    }
    for (device, limits) in resources.rdma().iter().flatten() {
        set(group, "rdma", "rdma.max", &super::v2::rdma_line(device, limits))?;
    }
    Ok(())
}

/// Writes one limit; asking for a controller the host does not mount is an error.
fn set(group: &Cgroup, controller: &str, file: &str, value: &str) -> Result<(), Error> {
    let dir = group.v1_dir(controller).ok_or_else(|| {
        Error::invalid(Stage::Cgroup, format!("{file}: the host has no {controller} cgroup controller"))
    })?;
    write(&dir.join(file), value)
}

fn memory(group: &Cgroup, memory: &LinuxMemory) -> Result<(), Error> {
    let limit = memory.limit().filter(|&l| l != 0);
    // Without limits on memory there can be none on memory and swap together.
    let swap = memory.swap().filter(|&s| s != 0).or((limit == Some(-1)).then_some(-1));
    let has_swap = group.v1_dir("memory").is_some_and(|d| d.join("memory.memsw.limit_in_bytes").exists());
    let swap = if memory.swap().is_none_or(|s| s <= 0) && !has_swap { None } else { swap };
    if let (Some(limit), true) = (limit, memory.check_before_update().unwrap_or(false))
        && let Some(dir) = group.v1_dir("memory")
    {
        let usage: i64 = read(&dir.join("memory.usage_in_bytes"))?.trim().parse().unwrap_or(0);
        if limit > 0 && usage > limit {
            return Err(Error::invalid(
                Stage::Cgroup,
                format!("unable to set memory limit to {limit} (current usage: {usage})"),
            ));
        }
    }
    let set_limit = || match limit {
        Some(limit) => set(group, "memory", "memory.limit_in_bytes", &limit.to_string()),
        None => Ok(()),
    };
    let set_swap = || match swap {
        Some(swap) => set(group, "memory", "memory.memsw.limit_in_bytes", &swap.to_string()),
        None => Ok(()),
    };
    // The kernel keeps limit <= memsw at every moment.
    if swap.is_some_and(|swap| swap == -1 || swap > current_limit(group)) {
        set_swap()?;
        set_limit()?;
    } else {
        set_limit()?;
        set_swap()?;
    }
    if let Some(value) = memory.reservation().filter(|&r| r != 0) {
        set(group, "memory", "memory.soft_limit_in_bytes", &value.to_string())?;
    }
    if let Some(value) = memory.kernel_tcp().filter(|&k| k != 0) {
        set(group, "memory", "memory.kmem.tcp.limit_in_bytes", &value.to_string())?;
    }
    if let Some(value) = memory.swappiness() {
        if value > 100 {
            return Err(Error::invalid(
                Stage::Cgroup,
                format!("invalid memory swappiness value: {value} (valid range is 0-100)"),
            ));
        }
        set(group, "memory", "memory.swappiness", &value.to_string())?;
    }
    if memory.disable_oom_killer() == Some(true) {
        set(group, "memory", "memory.oom_control", "1")?;
    }
    Ok(())
}

fn current_limit(group: &Cgroup) -> i64 {
    let dir = group.v1_dir("memory");
    dir.and_then(|dir| read(&dir.join("memory.limit_in_bytes")).ok())
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(i64::MAX)
}

fn cpu(group: &Cgroup, cpu: &LinuxCpu) -> Result<(), Error> {
    if let Some(shares) = cpu.shares().filter(|&s| s != 0) {
        set(group, "cpu", "cpu.shares", &shares.to_string())?;
    }
    if let Some(period) = cpu.realtime_period().filter(|&p| p != 0) {
        set(group, "cpu", "cpu.rt_period_us", &period.to_string())?;
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|&r| r != 0) {
        set(group, "cpu", "cpu.rt_runtime_us", &runtime.to_string())?;
    }
    quota(group, cpu)?;
    if let Some(burst) = cpu.burst() {
        set(group, "cpu", "cpu.cfs_burst_us", &burst.to_string())?;
    }
    if let Some(idle) = cpu.idle() {
        set(group, "cpu", "cpu.idle", &idle.to_string())?;
    }
    if let Some(cpus) = cpu.cpus().as_deref().filter(|c| !c.is_empty()) {
        set(group, "cpuset", "cpuset.cpus", cpus)?;
    }
    if let Some(mems) = cpu.mems().as_deref().filter(|m| !m.is_empty()) {
        set(group, "cpuset", "cpuset.mems", mems)?;
    }
    Ok(())
}

/// Period and quota check each other when written; where the old quota does not allow the new
/// period, the quota goes first.
fn quota(group: &Cgroup, cpu: &LinuxCpu) -> Result<(), Error> {
    let period = cpu.period().filter(|&p| p != 0);
    let quota = cpu.quota().filter(|&q| q != 0);
    let mut quota_first = false;
    if let Some(period) = period {
        let result = set(group, "cpu", "cpu.cfs_period_us", &period.to_string());
        quota_first = quota.is_some()
            && matches!(&result, Err(Error::System { errno, .. }) if *errno == Errno::INVAL.raw_os_error());
        if !quota_first {
            result?;
        }
    }
    if let Some(quota) = quota {
        set(group, "cpu", "cpu.cfs_quota_us", &quota.to_string())?;
        if quota_first && let Some(period) = period {
            set(group, "cpu", "cpu.cfs_period_us", &period.to_string())?;
        }
    }
    Ok(())
}

fn blkio(group: &Cgroup, blkio: &LinuxBlockIo) -> Result<(), Error> {
    if let Some(weight) = blkio.weight().filter(|&w| w != 0) {
        weight_file(group, "weight", &weight.to_string())?;
    }
    if let Some(weight) = blkio.leaf_weight().filter(|&w| w != 0) {
        set(group, "blkio", "blkio.leaf_weight", &weight.to_string())?;
    }
    for device in blkio.weight_device().iter().flatten() {
        let number = format!("{}:{}", device.major(), device.minor());
        if let Some(weight) = device.weight().filter(|&w| w != 0) {
            weight_file(group, "weight_device", &format!("{number} {weight}"))?;
        }
        if let Some(weight) = device.leaf_weight().filter(|&w| w != 0) {
            set(group, "blkio", "blkio.leaf_weight_device", &format!("{number} {weight}"))?;
        }
    }
    let throttle = |file: &str, devices: &Option<Vec<LinuxThrottleDevice>>| {
        for device in devices.iter().flatten() {
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            set(group, "blkio", file, &value)?;
        }
        Ok::<(), Error>(())
    };
    throttle("blkio.throttle.read_bps_device", blkio.throttle_read_bps_device())?;
    throttle("blkio.throttle.write_bps_device", blkio.throttle_write_bps_device())?;
    throttle("blkio.throttle.read_iops_device", blkio.throttle_read_iops_device())?;
    throttle("blkio.throttle.write_iops_device", blkio.throttle_write_iops_device())
}

/// Weights belong to the CFQ scheduler before Linux 5.0 and to BFQ since.
fn weight_file(group: &Cgroup, name: &str, value: &str) -> Result<(), Error> {
    let dir = group
        .v1_dir("blkio")
        .ok_or_else(|| Error::invalid(Stage::Cgroup, "the host has no blkio cgroup controller"))?;
    let plain = dir.join(format!("blkio.{name}"));
    match try_write(&plain, value) {
        Err(Errno::NOENT) => write(&dir.join(format!("blkio.bfq.{name}")), value),
        other => other.at(Stage::Cgroup, || format!("write {value:?} to {}", plain.display())),
    }
}
