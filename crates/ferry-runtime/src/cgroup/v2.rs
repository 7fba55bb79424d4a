//! Cgroup v2: handing controllers down to the group and writing the limits of an OCI config, whose
//! values are v1's and are converted as runc does.

use std::path::Path;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxRdma, LinuxResources, LinuxThrottleDevice,
};
use rustix::io::Errno;

use super::{devices, make_dirs, read, try_write};
use crate::error::At;
use crate::{Error, Stage};

/// Makes the group's directory; every ancestor below `mount` hands its controllers down.
pub(super) fn make(mount: &Path, dir: &Path) -> Result<(), Error> {
    make_dirs(dir)?;
    let Ok(relative) = dir.strip_prefix(mount) else { return Ok(()) };
    let mut ancestor = mount.to_owned();
    for name in relative.components() {
        delegate(&ancestor)?;
        ancestor.push(name);
    }
    Ok(())
}

fn delegate(dir: &Path) -> Result<(), Error> {
    let file = dir.join("cgroup.subtree_control");
    let available = read(&dir.join("cgroup.controllers"))?;
    let enabled = read(&file)?;
    let enabled: Vec<&str> = enabled.split_whitespace().collect();
    let missing: Vec<String> =
        available.split_whitespace().filter(|c| !enabled.contains(c)).map(|c| format!("+{c}")).collect();
    if missing.is_empty() || has_own_processes(dir)? || try_write(&file, &missing.join(" ")).is_ok() {
        return Ok(());
    }
    // One that cannot be enabled (cpu with realtime tasks about) must not keep the others away; a
    // limit that then has no file is reported when it is written.
    for controller in missing {
        let _ = try_write(&file, &controller);
    }
    Ok(())
}

/// Such a group may not hand down domain controllers (`memory`, `io`); handing down the others would make it
/// a threaded domain, in whose children no process can live. The root of the hierarchy is exempt.
fn has_own_processes(dir: &Path) -> Result<bool, Error> {
    Ok(dir.join("cgroup.type").exists() && !read(&dir.join("cgroup.procs"))?.is_empty())
}

/// Writes all limits of a config.
pub(super) fn apply(dir: &Path, resources: &LinuxResources) -> Result<(), Error> {
    if let Some(rules) = resources.devices() {
        devices::apply_v2(dir, rules)?;
    }
    if let Some(value) = resources.memory() {
        memory(dir, value)?;
    }
    if let Some(value) = resources.cpu() {
        cpu(dir, value)?;
    }
    if let Some(pids) = resources.pids() {
        let value = if pids.limit() > 0 { pids.limit().to_string() } else { "max".to_owned() };
        set(dir, "pids.max", &value)?;
    }
    if let Some(value) = resources.block_io() {
        io(dir, value)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        set(dir, &format!("hugetlb.{}.max", limit.page_size()), &limit.limit().to_string())?;
    }
    if resources.network().is_some_and_set() {
        return Err(Error::invalid(Stage::Cgroup, "network class and priorities need a cgroup v1 host"));
    }
    for (device, limits) in resources.rdma().iter().flatten() {
        set(dir, "rdma.max", &rdma_line(device, limits))?;
    }
    for (key, value) in resources.unified().iter().flatten() {
        if key.contains('/') || !key.contains('.') {
            return Err(Error::invalid(
                Stage::Cgroup,
                format!("unified resource {key:?} must be a file name"),
            ));
        }
        set(dir, key, value)?;
    }
    Ok(())
}

/// Writes a control file of the group, or says that it is missing for want of its controller.
fn set(dir: &Path, file: &str, value: &str) -> Result<(), Error> {
    match try_write(&dir.join(file), value) {
        Err(Errno::NOENT) if !lacks_controller(dir, file) => {
            Err(Error::invalid(Stage::Cgroup, format!("this kernel has no {file} in {}", dir.display())))
        }
        Err(Errno::NOENT) => {
            let controller = controller(file);
            Err(Error::invalid(
                Stage::Cgroup,
                format!(
                    "cannot set {file}: the group {} has no {controller} controller; the kernel lacks it, or a group \
                     above does not hand it down (cgroup.subtree_control)",
                    dir.display()
                ),
            ))
        }
        other => other.at(Stage::Cgroup, || format!("write {value:?} to {}", dir.join(file).display())),
    }
}

fn lacks_controller(dir: &Path, file: &str) -> bool {
    let available = read(&dir.join("cgroup.controllers")).unwrap_or_default();
    available.split_whitespace().all(|known| known != controller(file))
}

/// `memory` of `memory.max`.
fn controller(file: &str) -> &str {
    file.split('.').next().unwrap_or(file)
}

trait NetworkSet {
    fn is_some_and_set(&self) -> bool;
}

impl NetworkSet for Option<oci_spec::runtime::LinuxNetwork> {
    fn is_some_and_set(&self) -> bool {
        self.as_ref().is_some_and(|n| {
            n.class_id().is_some_and(|id| id != 0) || n.priorities().as_ref().is_some_and(|p| !p.is_empty())
        })
    }
}

pub(super) fn rdma_line(device: &str, limits: &LinuxRdma) -> String {
    let part = |name: &str, value: Option<u32>| value.map(|v| format!(" {name}={v}")).unwrap_or_default();
    format!(
        "{device}{}{}",
        part("hca_handle", limits.hca_handles()),
        part("hca_object", limits.hca_objects())
    )
}

fn limit_text(value: i64) -> String {
    if value == -1 { "max".to_owned() } else { value.to_string() }
}

fn memory(dir: &Path, memory: &LinuxMemory) -> Result<(), Error> {
    let limit = memory.limit().filter(|&l| l != 0);
    let swap = swap_max(limit, memory.swap().filter(|&s| s != 0))?;
    if let (Some(limit), true) = (limit, memory.check_before_update().unwrap_or(false)) {
        let usage: i64 = read(&dir.join("memory.current"))?.trim().parse().unwrap_or(0);
        if limit > 0 && usage > limit {
            return Err(Error::invalid(
                Stage::Cgroup,
                format!("unable to set memory limit to {limit} (current usage: {usage})"),
            ));
        }
    }
    if let Some(swap) = swap {
        match try_write(&dir.join("memory.swap.max"), &limit_text(swap)) {
            // Kernels that do not count swap limit memory alone. Where memory's limit is missing, too, its write
            // below tells.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(_) => set(dir, "memory.swap.max", &limit_text(swap))?,
        }
    }
    if let Some(limit) = limit {
        set(dir, "memory.max", &limit_text(limit))?;
    }
    if let Some(value) = memory.reservation().filter(|&r| r != 0) {
        set(dir, "memory.low", &limit_text(value))?;
    }
    if memory.disable_oom_killer() == Some(true) {
        return Err(Error::invalid(Stage::Cgroup, "disableOOMKiller needs a cgroup v1 host"));
    }
    // Swappiness has no counterpart on v2; like runc, it has no effect there.
    Ok(())
}

/// v1 limits memory and swap together, v2 swap alone.
fn swap_max(limit: Option<i64>, swap: Option<i64>) -> Result<Option<i64>, Error> {
    match (limit, swap) {
        (Some(-1), None) => Ok(Some(-1)),
        (_, None) => Ok(None),
        (_, Some(-1)) => Ok(Some(-1)),
        (None | Some(-1), Some(_)) => {
            Err(Error::invalid(Stage::Cgroup, "unable to set swap limit without memory limit"))
        }
        (Some(limit), Some(swap)) if swap < limit => {
            Err(Error::invalid(Stage::Cgroup, "memory+swap limit should be >= memory limit"))
        }
        (Some(limit), Some(swap)) => Ok(Some(swap - limit)),
    }
}

/// `cpu.shares` (2–262144, default 1024) to `cpu.weight` (1–10000, default 100): runc 1.4's curve, which
/// maps both defaults to each other.
fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let l = (shares as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    10f64.powf(exponent).ceil() as u64
}

fn cpu(dir: &Path, cpu: &LinuxCpu) -> Result<(), Error> {
    if cpu.realtime_period().is_some_and(|p| p != 0) || cpu.realtime_runtime().is_some_and(|r| r != 0) {
        return Err(Error::invalid(Stage::Cgroup, "realtime cpu limits need a cgroup v1 host"));
    }
    if let Some(idle) = cpu.idle() {
        set(dir, "cpu.idle", &idle.to_string())?;
    }
    if let Some(shares) = cpu.shares().filter(|&s| s != 0) {
        set(dir, "cpu.weight", &weight_of_shares(shares).to_string())?;
    }
    let quota = cpu.quota().filter(|&q| q != 0);
    let period = cpu.period().filter(|&p| p != 0);
    if quota.is_some() || period.is_some() {
        let quota = match quota {
            Some(quota) if quota > 0 => quota.to_string(),
            _ => "max".to_owned(),
        };
        let value = match period {
            Some(period) => format!("{quota} {period}"),
            None => quota,
        };
        set(dir, "cpu.max", &value)?;
    }
    if let Some(burst) = cpu.burst() {
        set(dir, "cpu.max.burst", &burst.to_string())?;
    }
    if let Some(cpus) = cpu.cpus().as_deref().filter(|c| !c.is_empty()) {
        set(dir, "cpuset.cpus", cpus)?;
    }
    if let Some(mems) = cpu.mems().as_deref().filter(|m| !m.is_empty()) {
        set(dir, "cpuset.mems", mems)?;
    }
    Ok(())
}

/// `blkio.weight` (10–1000) to `io.weight` (1–10000).
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.clamp(10, 1000) - 10) * 9999 / 990
}

fn io(dir: &Path, blkio: &LinuxBlockIo) -> Result<(), Error> {
    if blkio.leaf_weight().is_some_and(|w| w != 0) {
        return Err(Error::invalid(Stage::Cgroup, "blkio leaf weights need a cgroup v1 host"));
    }
    if let Some(weight) = blkio.weight().filter(|&w| w != 0) {
        // BFQ takes v1's range, the kernel's own io.weight a wider one.
        match try_write(&dir.join("io.bfq.weight"), &weight.to_string()) {
            Ok(()) => {}
            Err(_) => set(dir, "io.weight", &format!("default {}", io_weight(weight)))?,
        }
    }
    for device in blkio.weight_device().iter().flatten() {
        if let Some(weight) = device.weight().filter(|&w| w != 0) {
            let line = format!("{}:{} {weight}", device.major(), device.minor());
            set(dir, "io.bfq.weight", &line)?;
        }
    }
    let throttle = |key: &str, devices: &Option<Vec<LinuxThrottleDevice>>| {
        for device in devices.iter().flatten() {
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            set(dir, "io.max", &format!("{}:{} {key}={rate}", device.major(), device.minor()))?;
        }
        Ok::<(), Error>(())
    };
    throttle("rbps", blkio.throttle_read_bps_device())?;
    throttle("wbps", blkio.throttle_write_bps_device())?;
    throttle("riops", blkio.throttle_read_iops_device())?;
    throttle("wiops", blkio.throttle_write_iops_device())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights() {
        assert_eq!(weight_of_shares(2), 1);
        assert_eq!(weight_of_shares(1024), 100);
        assert_eq!(weight_of_shares(262_144), 10_000);
        assert!(weight_of_shares(512) < 100 && weight_of_shares(2048) > 100);
    }

    #[test]
    fn swap_is_counted_apart() {
        assert_eq!(swap_max(Some(100), Some(300)), Ok(Some(200)));
        assert_eq!(swap_max(Some(100), Some(100)), Ok(Some(0)));
        assert_eq!(swap_max(Some(100), Some(-1)), Ok(Some(-1)));
        assert_eq!(swap_max(Some(-1), None), Ok(Some(-1)));
        assert!(swap_max(Some(100), Some(50)).is_err());
        assert!(swap_max(None, Some(50)).is_err());
    }

    #[test]
    fn block_weights() {
        assert_eq!((io_weight(10), io_weight(1000)), (1, 10_000));
    }
}
