//! Engines killed in the middle of changes to networks, and interfaces deleted behind an engine's back.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{cases, check, equal};
use crate::harness::client::Client;
use crate::harness::daemon::{self, Daemon};
use crate::harness::{Case, Ctx, eventually, process};

pub fn cases() -> Vec<Case> {
    cases!(
        "network_faults",
        Nothing,
        [killed_in_the_middle, deleted_interfaces, deleted_bridges, mended_by_check]
    )
}

const PATIENCE: Duration = Duration::from_secs(10);

fn ip(args: &[&str]) -> Result<String> {
    let mut command = Command::new("ip");
    command.args(args);
    process::ok(command)
}

fn exists(link: &str) -> bool {
    std::path::Path::new("/sys/class/net").join(link).exists()
}

fn sleeper(client: &Client, name: &str, network: &str, options: &[&str]) -> Result<()> {
    let words =
        [&["run", "-d", "--name", name, "--network", network], options, &["busybox", "sleep", "1000"]];
    client.ok(&words.concat()).map(drop)
}

/// The IPv4 addresses a container has, and those the engine says it has.
fn addresses(client: &Client, container: &str) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let text = client.ok(&["exec", container, "ip", "addr"])?;
    let has = text.lines().filter_map(|line| line.trim().strip_prefix("inet ")?.split_whitespace().next());
    let has = has.filter(|address| !address.starts_with("127.")).map(str::to_owned).collect();
    let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}/{{.IPPrefixLen}}\n{{end}}";
    let said = client.ok(&["inspect", "-f", template, container])?;
    Ok((has, said.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()))
}

/// What the engine says of its networks is what is there.
fn agree(client: &Client, containers: &[&str], made: &BTreeSet<String>) -> Result<()> {
    for container in containers {
        // A stray link is removed a moment after the start.
        let mut seen = Default::default();
        let same = eventually("a container's addresses are those of its record", PATIENCE, || {
            seen = addresses(client, container)?;
            Ok(seen.0 == seen.1)
        });
        same.with_context(|| format!("{container}: has, should have: {seen:?}"))?;
        let template = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}\n{{end}}";
        for network in client.ok(&["inspect", "-f", template, container])?.lines().filter(|l| !l.is_empty()) {
            let on = "{{range .Containers}}{{.Name}}\n{{end}}";
            let members = client.ok(&["network", "inspect", "-f", on, network])?;
            check!(
                members.lines().any(|m| m == *container),
                "{container} is not shown on {network}: {members}"
            );
        }
    }
    let listed = client.ok(&["network", "ls", "-q", "--no-trunc", "--filter", "driver=bridge"])?;
    let listed: BTreeSet<&str> = listed.lines().collect();
    for id in made {
        let there = exists(&format!("br-{}", &id[..12]));
        check!(there == listed.contains(id.as_str()), "network {id}: its bridge is there: {there}");
    }
    for id in listed {
        let device = client.ok(&["network", "inspect", "-f", "{{.Name}}", id])?;
        check!(device == "bridge" || exists(&format!("br-{}", &id[..12])), "network {id} has no bridge");
    }
    Ok(())
}

fn killed_in_the_middle(t: &Ctx) -> Result<()> {
    let daemon = Daemon::start(&t.settings, "net-kill")?;
    let client = daemon.client()?;
    daemon::import_images(&t.settings, &client)?;
    let records = daemon.data_root().join("networks");
    for (name, subnet) in [("one", "10.247.1.0/24"), ("two", "10.247.2.0/24")] {
        client.ok(&["network", "create", "--subnet", subnet, name])?;
    }
    client.ok(&["network", "create", "-d", "macvlan", "--subnet", "10.247.3.0/24", "mv"])?;
    let containers = ["c0", "c1", "c2"];
    for name in containers {
        sleeper(&client, name, "one", &["--restart", "always"])?;
    }
    let mut made = BTreeSet::new();
    for round in 0_u64..10 {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| -> Result<()> {
            for (number, name) in containers.into_iter().enumerate() {
                let (client, stop) = (&client, &stop);
                scope.spawn(move || {
                    let network = ["two", "mv"][number % 2];
                    while !stop.load(Ordering::Relaxed) {
                        // Whether each succeeds is not the question: the engine is killed under them.
                        let _ = client.run(&["network", "connect", network, name]);
                        let _ = client.run(&["network", "disconnect", network, name]);
                    }
                });
            }
            let (client, stop) = (&client, &stop);
            let changes = scope.spawn(move || {
                let mut made = BTreeSet::new();
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(output) = client.run(&["network", "create", "brief"])
                        && output.code == 0
                    {
                        made.insert(output.stdout.trim().to_owned());
                    }
                    let _ = client.run(&["network", "rm", "brief"]);
                }
                made
            });
            std::thread::sleep(Duration::from_millis(80 + 37 * round % 120));
            let killed = daemon.kill();
            stop.store(true, Ordering::Relaxed);
            made.extend(changes.join().unwrap_or_default());
            killed
        })?;
        // A network may have been made whose maker was never told.
        let ids = std::fs::read_dir(&records)?.flatten().map(|entry| entry.file_name());
        made.extend(ids.filter_map(|n| n.to_string_lossy().split('.').next().map(str::to_owned)));
        let mv = without_bridge(&made, &records);
        daemon.up()?;
        made.retain(|id| !mv.contains(id));
        agree(&client, &containers, &made)
            .with_context(|| format!("round {round}\n{}", daemon.log_tail()))?;
        let left = std::fs::read_dir(&records)?.flatten();
        let left: Vec<_> = left.filter(|e| e.path().extension().is_some_and(|e| e != "json")).collect();
        check!(left.is_empty(), "{left:?}");
        let _ = client.run(&["network", "rm", "brief"]);
    }
    client.ok(&["rm", "-f", "c0", "c1", "c2"])?;
    client.ok(&["network", "rm", "one", "two", "mv"])?;
    for id in &made {
        check!(!exists(&format!("br-{}", &id[..12])), "the bridge of {id} is left");
    }
    let problems = daemon.finish();
    check!(problems.is_empty(), "{problems:?}");
    Ok(())
}

/// Those of the networks that have no bridge.
fn without_bridge(made: &BTreeSet<String>, records: &std::path::Path) -> BTreeSet<String> {
    let macvlan = |id: &&String| {
        std::fs::read_to_string(records.join(format!("{id}.json"))).is_ok_and(|text| text.contains("macvlan"))
    };
    made.iter().filter(macvlan).cloned().collect()
}

/// The host's end of a container's `eth0`.
fn host_end(client: &Client, container: &str) -> Result<String> {
    let index = client.ok(&["exec", container, "cat", "/sys/class/net/eth0/iflink"])?;
    let links = ip(&["-o", "link"])?;
    let line = links.lines().find(|line| line.starts_with(&format!("{}: ", index.trim())));
    let name = line.and_then(|line| line.split(": ").nth(1)?.split('@').next().map(str::to_owned));
    name.with_context(|| format!("no link {index} in\n{links}"))
}

fn two_on_a_network(t: &Ctx, label: &str, subnet: &str) -> Result<(Daemon, Client)> {
    let daemon = Daemon::start(&t.settings, label)?;
    let client = daemon.client()?;
    daemon::import_images(&t.settings, &client)?;
    client.ok(&["network", "create", "--subnet", subnet, "one"])?;
    for name in ["c0", "c1"] {
        sleeper(&client, name, "one", &["-p", "80"])?;
    }
    Ok((daemon, client))
}

fn reaches(client: &Client, from: &str, to: &str) -> Result<bool> {
    Ok(client.run(&["exec", from, "ping", "-c", "1", "-w", "1", to])?.code == 0)
}

fn deleted_interfaces(t: &Ctx) -> Result<()> {
    let (daemon, client) = two_on_a_network(t, "net-deleted", "10.247.4.0/24")?;
    let before = addresses(&client, "c0")?;
    let ports = client.ok(&["port", "c0"])?;
    ip(&["link", "delete", &host_end(&client, "c0")?])?;
    eventually("the interface is there again", PATIENCE, || Ok(addresses(&client, "c0")? == before))?;
    eventually("it is reached again", PATIENCE, || reaches(&client, "c1", "c0"))?;
    check!(client.ok(&["exec", "c0", "ip", "route"])?.contains("default via 10.247.4.1"), "no way out");
    equal!(client.ok(&["port", "c0"])?, ports);
    // While there is no engine: the next one makes it again.
    daemon.kill()?;
    ip(&["link", "delete", &recorded_end("c1", &daemon)?])?;
    daemon.up()?;
    eventually("the other is there again", PATIENCE, || {
        let (has, should) = addresses(&client, "c1")?;
        Ok(has == should && reaches(&client, "c0", "c1")?)
    })?;
    client.ok(&["rm", "-f", "c0", "c1"])?;
    client.ok(&["network", "rm", "one"])?;
    let problems = daemon.finish();
    check!(problems.is_empty(), "{problems:?}");
    Ok(())
}

/// The host's end of a container's interface, by its record.
fn recorded_end(container: &str, daemon: &Daemon) -> Result<String> {
    for entry in std::fs::read_dir(daemon.data_root().join("containers"))?.flatten() {
        let text = std::fs::read_to_string(entry.path().join("container.json"))?;
        let record: serde_json::Value = serde_json::from_str(&text)?;
        if record["name"].as_str() == Some(container) {
            let veth = record["endpoints"]["one"]["host_veth"].as_str();
            return Ok(veth.context("no link in the record")?.to_owned());
        }
    }
    anyhow::bail!("{container} has no record")
}

fn deleted_bridges(t: &Ctx) -> Result<()> {
    let (daemon, client) = two_on_a_network(t, "net-bridge", "10.247.5.0/24")?;
    let bridge = format!("br-{}", &client.ok(&["network", "inspect", "-f", "{{.Id}}", "one"])?[..12]);
    check!(reaches(&client, "c1", "c0")?, "not reached to begin with");
    ip(&["link", "delete", &bridge])?;
    eventually("the bridge is there again", PATIENCE, || Ok(exists(&bridge)))?;
    eventually("its containers are on it", PATIENCE, || reaches(&client, "c1", "c0"))?;
    // The parent of a macvlan network takes the containers' interfaces along.
    client.ok(&["network", "create", "-d", "macvlan", "--subnet", "10.247.6.0/24", "mv"])?;
    let parent = format!("dm-{}", &client.ok(&["network", "inspect", "-f", "{{.Id}}", "mv"])?[..12]);
    for name in ["c0", "c1"] {
        client.ok(&["network", "connect", "mv", name])?;
    }
    let before = addresses(&client, "c0")?;
    equal!(before.0.len(), 2);
    ip(&["link", "delete", &parent])?;
    eventually("the interfaces are there again", PATIENCE, || {
        Ok(exists(&parent) && addresses(&client, "c0")? == before)
    })?;
    eventually("they reach each other", PATIENCE, || reaches(&client, "c1", "10.247.6.1"))?;
    client.ok(&["rm", "-f", "c0", "c1"])?;
    client.ok(&["network", "rm", "one", "mv"])?;
    check!(!exists(&bridge) && !exists(&parent), "left: {bridge} or {parent}");
    let problems = daemon.finish();
    check!(problems.is_empty(), "{problems:?}");
    Ok(())
}

fn mended_by_check(t: &Ctx) -> Result<()> {
    let (daemon, client) = two_on_a_network(t, "net-check", "10.247.7.0/24")?;
    equal!(client.run(&["system", "check"])?.code, 0);
    // An interface nobody can make again at once: its name is taken.
    let veth = host_end(&client, "c0")?;
    ip(&["link", "set", &veth, "down"])?;
    ip(&["link", "set", &veth, "name", "fnothere"])?;
    let found = client.run(&["system", "check"])?;
    check!(found.stdout.contains("the interface eth0 of container c0 was deleted"), "{}", found.stdout);
    ip(&["link", "delete", "fnothere"])?;
    client.ok(&["system", "check", "--repair"])?;
    eventually("nothing is wrong any more", PATIENCE, || Ok(client.run(&["system", "check"])?.code == 0))?;
    check!(reaches(&client, "c1", "c0")?, "not reached");
    client.ok(&["rm", "-f", "c0", "c1"])?;
    client.ok(&["network", "rm", "one"])?;
    let problems = daemon.finish();
    check!(problems.is_empty(), "{problems:?}");
    Ok(())
}
