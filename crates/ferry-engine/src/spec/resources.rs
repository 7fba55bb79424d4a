//! Limits: from the API's fields to the OCI `linux.resources` object.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use ferry_api::container::{Resources, ThrottleDevice};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxBlockIoBuilder, LinuxCpu, LinuxCpuBuilder, LinuxMemory, LinuxMemoryBuilder,
    LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder, LinuxThrottleDevice, LinuxThrottleDeviceBuilder,
    LinuxWeightDevice, LinuxWeightDeviceBuilder,
};

use super::devices::plain_reason;

/// Smallest memory limit a container is started with, as in Docker.
const MIN_MEMORY: i64 = 6 << 20;
/// Default CFS period in microseconds.
const DEFAULT_PERIOD: i64 = 100_000;

/// Processors and memory nodes in use, as ranges.
const ONLINE_CPUS: &str = "/sys/devices/system/cpu/online";
const ONLINE_NODES: &str = "/sys/devices/system/node/online";

/// Checks limits against each other and the host's processors; the texts are Docker's.
pub(crate) fn validate(r: &Resources, cpus: usize) -> Result<(), String> {
    if r.memory != 0 && r.memory < MIN_MEMORY {
        return Err("Minimum memory limit allowed is 6MB".to_owned());
    }
    if r.memory > 0 && r.memory_swap > 0 && r.memory_swap < r.memory {
        return Err("Minimum memoryswap limit should be larger than memory limit, see usage".to_owned());
    }
    if r.memory == 0 && r.memory_swap > 0 {
        return Err(
            "You should always set the Memory limit when using Memoryswap limit, see usage".to_owned()
        );
    }
    if let Some(swappiness) = r.memory_swappiness
        && !(-1..=100).contains(&swappiness)
    {
        return Err(format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100"));
    }
    if r.memory_reservation != 0 && r.memory_reservation < MIN_MEMORY {
        return Err("Minimum memory reservation allowed is 6MB".to_owned());
    }
    if r.memory > 0 && r.memory_reservation > r.memory {
        return Err(
            "Minimum memory limit can not be less than memory reservation limit, see usage".to_owned()
        );
    }
    if r.nano_cpus > 0 && (r.cpu_period > 0 || r.cpu_quota > 0) {
        let other = if r.cpu_period > 0 { "CPU Period" } else { "CPU Quota" };
        return Err(format!("Conflicting options: Nano CPUs and {other} cannot both be set"));
    }
    let available = i64::try_from(cpus).unwrap_or(i64::MAX);
    if r.nano_cpus < 0 || r.nano_cpus > available.saturating_mul(1_000_000_000) {
        return Err(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        ));
    }
    if r.cpu_period != 0 && !(1000..=1_000_000).contains(&r.cpu_period) {
        return Err(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)".to_owned()
        );
    }
    if r.cpu_quota > 0 && r.cpu_quota < 1000 {
        return Err("CPU cfs quota can not be less than 1ms (i.e. 1000)".to_owned());
    }
    if r.blkio_weight != 0 && !(10..=1000).contains(&r.blkio_weight) {
        return Err("Range of blkio weight is from 10 to 1000".to_owned());
    }
    if r.cpu_shares < 0 {
        return Err(format!("invalid CPU shares ({}): value must be a positive integer", r.cpu_shares));
    }
    if r.cpu_realtime_period > 0 && r.cpu_realtime_runtime > r.cpu_realtime_period {
        return Err("cpu real-time runtime cannot be higher than cpu real-time period".to_owned());
    }
    validate_list("CPUs", "cpus", &r.cpuset_cpus, ONLINE_CPUS)?;
    validate_list("memory nodes", "mems", &r.cpuset_mems, ONLINE_NODES)
}

/// Checks a cpuset list such as `0-2,5` against what the host has.
fn validate_list(things: &str, controller_file: &str, wanted: &str, online: &str) -> Result<(), String> {
    if wanted.is_empty() {
        return Ok(());
    }
    let wanted_ranges = parse_ranges(wanted).ok_or_else(|| {
        format!("Invalid value {wanted} for cpuset {controller_file}: invalid format: {wanted}")
    })?;
    let Ok(text) = std::fs::read_to_string(online) else { return Ok(()) };
    let available = text.trim();
    let Some(online_ranges) = parse_ranges(available) else { return Ok(()) };
    let covered = |(first, last): &(u32, u32)| {
        // The kernel lists ranges that do not touch each other, so one of them must hold all of it.
        online_ranges.iter().any(|(f, l)| f <= first && last <= l)
    };
    if wanted_ranges.iter().all(covered) {
        return Ok(());
    }
    Err(format!("Requested {things} are not available - requested {wanted}, available: {available}"))
}

/// Ranges of a list in the kernel's notation; nothing when it is malformed.
fn parse_ranges(text: &str) -> Option<Vec<(u32, u32)>> {
    text.split(',')
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then_some((first, last))
        })
        .collect()
}

/// The OCI object, without device rules. Devices to throttle are looked up on the host.
pub(crate) fn to_oci(r: &Resources) -> Result<LinuxResources, String> {
    let mut builder = LinuxResourcesBuilder::default();
    if let Some(memory) = memory(r)? {
        builder = builder.memory(memory);
    }
    if let Some(cpu) = cpu(r)? {
        builder = builder.cpu(cpu);
    }
    if let Some(limit) = r.pids_limit.filter(|l| *l != 0) {
        let limit = if limit < 0 { -1 } else { limit };
        builder = builder.pids(LinuxPidsBuilder::default().limit(limit).build().map_err(|e| e.to_string())?);
    }
    if let Some(block_io) = block_io(r)? {
        builder = builder.block_io(block_io);
    }
    builder.build().map_err(|e| e.to_string())
}

fn memory(r: &Resources) -> Result<Option<LinuxMemory>, String> {
    let disable = r.oom_kill_disable.unwrap_or(false);
    let swappiness = r.memory_swappiness.and_then(|s| u64::try_from(s).ok());
    if r.memory == 0 && r.memory_reservation == 0 && r.memory_swap == 0 && swappiness.is_none() && !disable {
        return Ok(None);
    }
    let mut builder = LinuxMemoryBuilder::default();
    if r.memory != 0 {
        builder = builder.limit(r.memory);
        // As Docker: unless said otherwise, as much swap as memory.
        let swap = if r.memory_swap == 0 { r.memory.saturating_mul(2) } else { r.memory_swap };
        builder = builder.swap(swap);
    } else if r.memory_swap != 0 {
        builder = builder.swap(r.memory_swap);
    }
    if r.memory_reservation != 0 {
        builder = builder.reservation(r.memory_reservation);
    }
    if let Some(swappiness) = swappiness {
        builder = builder.swappiness(swappiness);
    }
    if disable {
        builder = builder.disable_oom_killer(true);
    }
    builder.build().map(Some).map_err(|e| e.to_string())
}

fn cpu(r: &Resources) -> Result<Option<LinuxCpu>, String> {
    let mut builder = LinuxCpuBuilder::default();
    let mut any = false;
    let positive = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
    if let Some(shares) = positive(r.cpu_shares) {
        builder = builder.shares(shares);
        any = true;
    }
    let (period, quota) = if r.nano_cpus > 0 {
        (DEFAULT_PERIOD, r.nano_cpus * DEFAULT_PERIOD / 1_000_000_000)
    } else {
        (r.cpu_period, r.cpu_quota)
    };
    if let Some(period) = positive(period) {
        builder = builder.period(period);
        any = true;
    }
    if quota != 0 {
        builder = builder.quota(quota);
        any = true;
    }
    if let Some(period) = positive(r.cpu_realtime_period) {
        builder = builder.realtime_period(period);
        any = true;
    }
    if r.cpu_realtime_runtime != 0 {
        builder = builder.realtime_runtime(r.cpu_realtime_runtime);
        any = true;
    }
    if !r.cpuset_cpus.is_empty() {
        builder = builder.cpus(r.cpuset_cpus.clone());
        any = true;
    }
    if !r.cpuset_mems.is_empty() {
        builder = builder.mems(r.cpuset_mems.clone());
        any = true;
    }
    if any { builder.build().map(Some).map_err(|e| e.to_string()) } else { Ok(None) }
}

fn block_io(r: &Resources) -> Result<Option<LinuxBlockIo>, String> {
    let throttle =
        |devices: &[ThrottleDevice]| devices.iter().map(throttle_device).collect::<Result<Vec<_>, _>>();
    let lists = [
        throttle(&r.blkio_device_read_bps)?,
        throttle(&r.blkio_device_write_bps)?,
        throttle(&r.blkio_device_read_iops)?,
        throttle(&r.blkio_device_write_iops)?,
    ];
    let weights = r
        .blkio_weight_device
        .iter()
        .map(|w| weight_device(&w.path, w.weight))
        .collect::<Result<Vec<_>, _>>()?;
    if r.blkio_weight == 0 && weights.is_empty() && lists.iter().all(Vec::is_empty) {
        return Ok(None);
    }
    let mut builder = LinuxBlockIoBuilder::default();
    if r.blkio_weight != 0 {
        builder = builder.weight(r.blkio_weight);
    }
    if !weights.is_empty() {
        builder = builder.weight_device(weights);
    }
    let [read_bps, write_bps, read_iops, write_iops] = lists;
    builder
        .throttle_read_bps_device(read_bps)
        .throttle_write_bps_device(write_bps)
        .throttle_read_iops_device(read_iops)
        .throttle_write_iops_device(write_iops)
        .build()
        .map(Some)
        .map_err(|e| e.to_string())
}

fn device_numbers(path: &str) -> Result<(i64, i64), String> {
    let metadata = std::fs::metadata(path).map_err(|e| format!("stat {path}: {}", plain_reason(&e)))?;
    if !metadata.file_type().is_block_device() && !metadata.file_type().is_char_device() {
        return Err(format!("{path} is not a device"));
    }
    let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    Ok((i64::from(major), i64::from(minor)))
}

fn throttle_device(device: &ThrottleDevice) -> Result<LinuxThrottleDevice, String> {
    let (major, minor) = device_numbers(&device.path)?;
    LinuxThrottleDeviceBuilder::default()
        .major(major)
        .minor(minor)
        .rate(device.rate)
        .build()
        .map_err(|e| e.to_string())
}

fn weight_device(path: &str, weight: u16) -> Result<LinuxWeightDevice, String> {
    let (major, minor) = device_numbers(path)?;
    LinuxWeightDeviceBuilder::default()
        .major(major)
        .minor(minor)
        .weight(weight)
        .build()
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_become_a_quota() {
        let r = Resources { nano_cpus: 1_500_000_000, ..Resources::default() };
        let cpu = to_oci(&r).unwrap().cpu().clone().unwrap();
        assert_eq!((cpu.period(), cpu.quota()), (Some(100_000), Some(150_000)));
    }

    #[test]
    fn memory_brings_as_much_swap() {
        let r = Resources { memory: 64 << 20, ..Resources::default() };
        let memory = to_oci(&r).unwrap().memory().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(64 << 20), Some(128 << 20)));
    }

    #[test]
    fn nothing_asked_nothing_set() {
        let oci = to_oci(&Resources::default()).unwrap();
        assert!(
            oci.memory().is_none() && oci.cpu().is_none() && oci.pids().is_none() && oci.block_io().is_none()
        );
    }

    #[test]
    fn cpu_lists_must_be_well_formed_and_available() {
        assert_eq!(parse_ranges("0-2,5"), Some(vec![(0, 2), (5, 5)]));
        for bad in ["x", "", "1,", "2-1", "-1", "1-2-3"] {
            assert_eq!(parse_ranges(bad), None, "{bad}");
        }
        let check = |cpus: &str| validate(&Resources { cpuset_cpus: cpus.into(), ..Resources::default() }, 1);
        assert_eq!(check("0"), Ok(()));
        assert_eq!(check("x").unwrap_err(), "Invalid value x for cpuset cpus: invalid format: x");
        assert!(
            check("0,99999")
                .unwrap_err()
                .starts_with("Requested CPUs are not available - requested 0,99999, available: 0")
        );
    }

    #[test]
    fn contradictions_are_refused() {
        let refuse = |r: Resources| validate(&r, 2).unwrap_err();
        assert_eq!(
            refuse(Resources { memory: 1, ..Default::default() }),
            "Minimum memory limit allowed is 6MB"
        );
        assert!(refuse(Resources { memory_swap: 1 << 30, ..Default::default() }).contains("Memoryswap"));
        let limits = Resources { memory: 1 << 30, memory_swap: 1 << 29, ..Default::default() };
        assert!(refuse(limits).contains("larger than memory limit"));
        assert!(refuse(Resources { nano_cpus: 3_000_000_000, ..Default::default() }).contains("only 2 CPUs"));
        assert!(validate(&Resources { memory: -1, ..Default::default() }, 2).is_err());
        assert!(
            to_oci(&Resources {
                blkio_device_read_bps: vec![ThrottleDevice { path: "/no/such".into(), rate: 1 }].into(),
                ..Default::default()
            })
            .is_err()
        );
    }
}
