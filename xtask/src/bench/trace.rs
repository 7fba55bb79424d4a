//! Where the time of one `run --rm` goes: the system calls of client, daemon, shim and container on
//! one clock, from strace. Tracing makes everything slower; shares matter here, not totals.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::engine::Engine;
use crate::{apt, peer, sh, ui};

/// Traces one run and prints a digest; the whole trace stays in a file.
pub fn one_run(engine: &Engine, image: &str, work: &Path) -> Result<()> {
    apt::install(&["strace"])?;
    let pid = engine.pid().context("the daemon has no pid")?;
    let (daemon_file, client_file) = (work.join("trace-daemon.txt"), work.join("trace-client.txt"));
    let options = ["-f", "-ttt", "-T", "-q", "-s", "64", "-o"];
    // Shims that wait for a container to run are there already.
    let shims = peer::children(pid);
    let threads = names_of_threads(pid);
    let mut command = sh::cmd("strace", options);
    command.arg(&daemon_file).args(["-p", &pid.to_string()]);
    for shim in &shims {
        command.args(["-p", &shim.to_string()]);
    }
    let mut daemon = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run strace")?;
    let deadline = Instant::now() + Duration::from_secs(5);
    while !is_traced(pid) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let ferry = engine.ferry(["run", "--rm", image, "true"]);
    let mut client = sh::cmd("strace", options);
    client
        .arg(&client_file)
        .arg(ferry.get_program())
        .args(ferry.get_args())
        .env("DOCKER_HOST", engine.host());
    let ran = sh::capture(&mut client);
    // Teardown goes on in the background.
    std::thread::sleep(Duration::from_millis(500));
    sh::capture(&mut sh::cmd("kill", ["-INT", &daemon.id().to_string()]))?;
    daemon.wait()?;
    ran?;

    let mut calls = Vec::new();
    for file in [&daemon_file, &client_file] {
        let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        calls.extend(String::from_utf8_lossy(&text).lines().filter_map(parse));
    }
    calls.sort_by(|a, b| a.at.total_cmp(&b.at));
    println!("\nOne traced run: {} system calls", calls.len());
    let client = calls.iter().find(|call| call.name == "execve").map(|call| call.pid);
    let who = |pid: u32| match pid {
        _ if Some(pid) == client => "client",
        _ if threads.contains(&pid) => "daemon",
        _ if shims.contains(&pid) => "shim",
        _ => "child",
    };
    milestones(&calls, who);
    digest(&calls, who);
    ui::note(format!("the traces: {} and {}", client_file.display(), daemon_file.display()));
    Ok(())
}

fn is_traced(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
}

/// One finished system call.
#[derive(Debug, PartialEq)]
struct Call {
    pid: u32,
    at: f64,
    name: String,
    took: f64,
}

/// Reads a line like `123 1700000000.5 openat(AT_FDCWD, "x") = 3 <0.000012>`.
fn parse(line: &str) -> Option<Call> {
    let (pid, rest) = line.split_once(' ')?;
    let (at, rest) = rest.trim_start().split_once(' ')?;
    let took = rest.rsplit_once('<')?.1.strip_suffix('>')?.parse().ok()?;
    let name = match rest.strip_prefix("<... ") {
        Some(resumed) => resumed.split(' ').next()?,
        None => rest.split('(').next()?,
    };
    Some(Call { pid: pid.parse().ok()?, at: at.parse().ok()?, name: name.to_owned(), took })
}

/// Waiting is not work: these calls last as long as somebody else needs.
fn waits(name: &str) -> bool {
    matches!(
        name,
        "epoll_wait"
            | "epoll_pwait"
            | "futex"
            | "poll"
            | "ppoll"
            | "wait4"
            | "waitid"
            | "recvfrom"
            | "recvmsg"
            | "read"
            | "select"
            | "pselect6"
            | "clock_nanosleep"
            | "nanosleep"
            | "restart_syscall"
            | "accept4"
    )
}

/// Thread ids of a process.
fn names_of_threads(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    tasks.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The calls that mark how far the start of a container is, in order.
fn milestones(calls: &[Call], who: impl Fn(u32) -> &'static str) {
    const MARKS: [&str; 14] = [
        "execve",
        "connect",
        "accept4",
        "clone3",
        "clone",
        "vfork",
        "unshare",
        "setns",
        "fsmount",
        "mount",
        "move_mount",
        "pivot_root",
        "seccomp",
        "umount2",
    ];
    let origin = calls.first().map_or(0.0, |call| call.at);
    println!("  how it went            ms");
    for call in calls.iter().filter(|call| MARKS.contains(&call.name.as_str())) {
        println!("  {:<22} {:>9.3}  {} {}", call.name, (call.at - origin) * 1e3, who(call.pid), call.pid);
    }
}

fn digest(calls: &[Call], who: impl Fn(u32) -> &'static str) {
    let mut by_name: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for call in calls.iter().filter(|call| !waits(&call.name)) {
        let entry = by_name.entry(&call.name).or_default();
        entry.0 += 1;
        entry.1 += call.took;
    }
    let mut rows: Vec<_> = by_name.into_iter().collect();
    rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    println!("  system call            count   total ms");
    for (name, (count, took)) in rows.iter().take(15) {
        println!("  {name:<22} {count:>5}   {:>8.3}", took * 1e3);
    }
    let mut slow: Vec<&Call> = calls.iter().filter(|call| !waits(&call.name)).collect();
    slow.sort_by(|a, b| b.took.total_cmp(&a.took));
    let origin = calls.first().map_or(0.0, |call| call.at);
    println!("  slowest single calls");
    for call in slow.iter().take(12) {
        println!(
            "  {:>9.3} ms  {:<6} {:<8} {:<20} {:>8.3} ms",
            (call.at - origin) * 1e3,
            who(call.pid),
            call.pid,
            call.name,
            call.took * 1e3
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_strace_are_read() {
        let call = parse("4242 1700000000.250000 openat(AT_FDCWD, \"/x\", O_RDONLY) = 3 <0.000120>").unwrap();
        assert_eq!(call, Call { pid: 4242, at: 1_700_000_000.25, name: "openat".into(), took: 0.00012 });
        let call = parse("7 1.0 <... mount resumed>) = 0 <0.5>").unwrap();
        assert_eq!((call.name.as_str(), call.took), ("mount", 0.5));
        assert_eq!(parse("7 1.0 futex(0x1, FUTEX_WAIT <unfinished ...>"), None);
        assert_eq!(parse("7 1.0 +++ exited with 0 +++"), None);
    }
}
