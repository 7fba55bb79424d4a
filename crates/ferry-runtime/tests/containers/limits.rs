//! Control groups and resource limits.

use std::time::{Duration, Instant};

use ferry_runtime::cgroup::{Mode, detect};
use serde_json::json;

use crate::support::{Fixture, Running, null, wait};

pub const TESTS: &[(&str, fn())] = &[
    ("limits::are_in_force", are_in_force),
    ("limits::the_container_sees_its_own_group", the_container_sees_its_own_group),
    ("limits::devices", devices),
    ("limits::rlimits", rlimits),
    ("limits::oom_score", oom_score),
    ("limits::freeze_and_kill", freeze_and_kill),
    ("limits::oom_kills_are_noticed", oom_kills_are_noticed),
    ("limits::stats", stats),
    ("limits::update", update),
    ("limits::bad_values_leave_nothing", bad_values_leave_nothing),
];

fn v2() -> bool {
    detect().unwrap() == Mode::V2
}

fn are_in_force() {
    let script = if v2() {
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max"
    } else {
        "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us"
    };
    let mut fixture = Fixture::new(script);
    fixture.set("/linux/resources/cpu", json!({"shares": 512, "quota": 50000, "period": 100_000}));
    let output = fixture.output();
    assert!(output.starts_with("67108864\n100\n50000"), "{output}");
    fixture.assert_gone();
}

fn the_container_sees_its_own_group() {
    let output = Fixture::new("cat /proc/self/cgroup; touch /sys/fs/cgroup/x || true").output();
    assert!(
        output
            .lines()
            .filter(|l| l.contains("::") || l.contains(':'))
            .all(|l| l.ends_with(":/") || l.contains("Read-only"))
    );
    assert!(output.contains("Read-only file system"), "{output}");
}

fn devices() {
    let script = "mknod /dev/x c 10 237 && head -c1 /dev/x; head -c1 /dev/zero | wc -c";
    let mut fixture = Fixture::new(script);
    let output = fixture.output();
    assert!(output.contains("Operation not permitted") && output.ends_with("1\n"), "{output}");
    // Only with a rule of its own is the device usable.
    let mut fixture = Fixture::new("mknod /dev/x c 10 237; : </dev/x && echo opened");
    fixture.set(
        "/linux/resources/devices",
        json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 237, "access": "rwm"}]),
    );
    assert_eq!(fixture.output(), "opened\n");
}

fn rlimits() {
    let mut fixture = Fixture::new("ulimit -n; ulimit -Hn");
    fixture.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 55, "hard": 66}]));
    assert_eq!(fixture.output(), "55\n66\n");
    let capable = std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .find_map(|l| u64::from_str_radix(l.strip_prefix("CapEff:\t")?, 16).ok())
        .unwrap()
        & (1 << 24)
        != 0;
    fixture.set("/process/rlimits", json!([{"type": "RLIMIT_NICE", "soft": 40, "hard": 40}]));
    match fixture.run() {
        Ok(_) => assert!(capable),
        Err(error) => assert!(!capable && error.to_string().contains("needs CAP_SYS_RESOURCE"), "{error}"),
    }
    fixture.assert_gone();
}

fn oom_score() {
    let mut fixture = Fixture::new("cat /proc/self/oom_score_adj");
    fixture.set("/process/oomScoreAdj", json!(123));
    assert_eq!(fixture.output(), "123\n");
}

fn freeze_and_kill() {
    let running = Running::start(Fixture::new(""));
    let group = &running.container.cgroup;
    assert_eq!(group.pids().unwrap(), [running.container.pid]);
    group.freeze().unwrap();
    assert!(group.is_frozen().unwrap());
    group.thaw().unwrap();
    assert!(!group.is_frozen().unwrap());
    // What is frozen is killed as well.
    group.freeze().unwrap();
    let since = Instant::now();
    drop(running);
    assert!(since.elapsed() < Duration::from_secs(1));
}

fn oom_kills_are_noticed() {
    let mut fixture = Fixture::new("tail /dev/zero");
    fixture.set("/linux/resources/memory", json!({"limit": 8 << 20, "swap": serde_json::Value::Null}));
    let mut container = fixture.create(null()).unwrap();
    let mut watch = container.cgroup.watch_oom().unwrap();
    assert_eq!(watch.take().unwrap(), 0);
    container.start().unwrap();
    assert_eq!(wait(container.pid), 137);
    assert!(watch.take().unwrap() >= 1);
    assert!(container.cgroup.stats().unwrap().memory.oom_kills >= 1);
    container.cgroup.remove().unwrap();
}

fn stats() {
    let running = Running::start(Fixture::new(""));
    let stats = running.container.cgroup.stats().unwrap();
    assert_eq!((stats.pids.current, stats.pids.limit), (1, 100));
    assert_eq!(stats.memory.limit, 67_108_864);
    assert!(stats.memory.usage > 0 && stats.cpu.total > 0 && !stats.memory.stat.is_empty());
}

fn update() {
    let running = Running::start(Fixture::new(""));
    let group = &running.container.cgroup;
    let resources = json!({"memory": {"limit": 134_217_728u64}, "pids": {"limit": 7}, "cpu": {"quota": 20000, "period": 100_000}});
    group.apply(&serde_json::from_value(resources).unwrap()).unwrap();
    let stats = group.stats().unwrap();
    assert_eq!((stats.memory.limit, stats.pids.limit), (134_217_728, 7));
}

fn bad_values_leave_nothing() {
    let mut fixture = Fixture::new("true");
    fixture.set("/linux/resources/cpu", json!({"quota": 1, "period": 1}));
    let error = fixture.run().unwrap_err();
    assert_eq!(error.stage(), ferry_runtime::Stage::Cgroup, "{error}");
    fixture.assert_gone();
}
