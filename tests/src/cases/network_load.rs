//! Many networks, and many containers on them: nothing grows with what is gone, and nothing slows down.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{cases, check, equal};
use crate::harness::daemon::{self, Daemon};
use crate::harness::{Case, Ctx, eventually};

pub fn cases() -> Vec<Case> {
    cases!("network_load", Nothing, [many_networks, many_containers])
}

/// Of these the kernel takes some 40 ms to delete each bridge.
const NETWORKS: usize = 500;
const CONTAINERS: usize = 60;

/// Anonymous memory of a process in KiB, and its descriptors.
fn held(pid: u32) -> Result<(u64, usize)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    let memory = line.and_then(|l| l.split_whitespace().next()?.parse().ok()).context("no Anonymous")?;
    Ok((memory, std::fs::read_dir(format!("/proc/{pid}/fd"))?.count()))
}

/// Bridges on this machine that user-defined networks of this case made.
fn bridges(ids: &[String]) -> usize {
    let exists = |id: &&String| std::path::Path::new(&format!("/sys/class/net/br-{}", &id[..12])).exists();
    ids.iter().filter(exists).count()
}

fn many_networks(t: &Ctx) -> Result<()> {
    let daemon = Daemon::start(&t.settings, "net-many")?;
    let client = daemon.client()?;
    let pid = daemon.pid().context("no daemon")?;
    let mut ids = Vec::new();
    let mut quarter = Vec::new();
    let mut before = (0, 0);
    for number in 0..NETWORKS {
        let began = Instant::now();
        let subnet = format!("10.248.{}.{}/26", number / 4, number % 4 * 64);
        ids.push(client.ok(&["network", "create", "--subnet", &subnet, &format!("n{number}")])?);
        quarter.push(began.elapsed());
        if number == NETWORKS / 4 {
            before = held(pid)?;
        }
    }
    equal!(bridges(&ids), NETWORKS);
    // Each is made in about the same time, however many there are.
    let median = |times: &mut [Duration]| {
        times.sort();
        times[times.len() / 2]
    };
    let (first, last) = quarter.split_at_mut(NETWORKS / 2);
    let (first, last) = (median(first), median(last));
    check!(
        last < first * 3,
        "of {NETWORKS} networks the first half took {first:?} each, the second {last:?}"
    );
    equal!(client.ok(&["network", "ls", "-q", "--filter", "type=custom"])?.lines().count(), NETWORKS);
    let names: Vec<String> = (0..NETWORKS).map(|number| format!("n{number}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let words = [["network", "inspect", "-f", "{{.Id}}"].as_slice(), &all].concat();
    equal!(client.ok(&words)?.lines().map(str::to_owned).collect::<Vec<_>>(), ids);
    // All are there again after a restart.
    daemon.kill()?;
    let took = daemon.up()?;
    check!(took < Duration::from_secs(5), "the restart with {NETWORKS} networks took {took:?}");
    let pid = daemon.pid().context("no daemon")?;
    equal!(client.ok(&["network", "ls", "-q", "--filter", "type=custom"])?.lines().count(), NETWORKS);
    let pruned = client.ok(&["network", "prune", "-f"])?;
    equal!(pruned.lines().filter(|line| line.starts_with('n')).count(), NETWORKS);
    equal!(bridges(&ids), 0);
    let after = held(pid)?;
    check!(
        after.0 < before.0 + 4096 && after.1 < before.1 + 10,
        "memory and descriptors: {before:?}, {after:?}"
    );
    let problems = daemon.finish();
    check!(problems.is_empty(), "{problems:?}");
    Ok(())
}

fn many_containers(t: &Ctx) -> Result<()> {
    let daemon = Daemon::start(&t.settings, "net-crowd")?;
    let client = daemon.client()?;
    daemon::import_images(&t.settings, &client)?;
    let pid = daemon.pid().context("no daemon")?;
    for number in 0..3 {
        let subnet = format!("10.249.{number}.0/24");
        client.ok(&["network", "create", "--subnet", &subnet, &format!("n{number}")])?;
    }
    let mut before = None;
    for round in 0..2 {
        let names: Vec<String> = (0..CONTAINERS).map(|number| format!("c{number}")).collect();
        for (number, name) in names.iter().enumerate() {
            let (one, other) = (format!("n{}", number % 3), format!("n{}", (number + 1) % 3));
            let networks = ["run", "-d", "--name", name, "--network", &one, "--network", &other];
            client.ok(&[networks.as_slice(), &["-p", "80", "busybox", "sleep", "1000"]].concat())?;
        }
        let members = client.ok(&["network", "inspect", "-f", "{{len .Containers}}", "n0", "n1", "n2"])?;
        let members: usize = members.lines().filter_map(|line| line.parse::<usize>().ok()).sum();
        equal!(members, 2 * CONTAINERS);
        let last = names.last().context("no containers")?;
        client.ok(&["exec", "c0", "ping", "-c", "1", "-w", "2", last])?;
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        client.ok(&[["rm", "-f"].as_slice(), &all].concat())?;
        eventually("the daemon has let go of them", Duration::from_secs(20), || {
            let now = held(pid)?;
            let first = *before.get_or_insert(now);
            Ok(round == 0 || (now.0 < first.0 + 4096 && now.1 < first.1 + 20))
        })?;
    }
    equal!(client.run(&["system", "check"])?.code, 0);
    client.ok(&["network", "rm", "n0", "n1", "n2"])?;
    let problems = daemon.finish();
    check!(problems.is_empty(), "{problems:?}");
    Ok(())
}
