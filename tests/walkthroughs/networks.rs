//! The scenes about networks, as the course shows them: addresses that are given out again, interfaces in pairs, the modes
//! bridge, host, none and container, names on a network of one's own. On an engine of its own, whose first addresses are free.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};

use super::free_port;
use crate::cases::{cases, check, equal};
use crate::harness::client::Client;
use crate::harness::daemon::{self, Daemon};
use crate::harness::pty::Pty;
use crate::harness::{Case, Ctx, eventually, process, skip};

pub fn cases() -> Vec<Case> {
    cases!(
        "walkthrough",
        Nothing,
        [addresses_change, bridge_and_its_pairs, host_and_none, container_mode, names_on_my_network]
    )
}

/// An engine, its client, and with `server` the image that has `ip` and `ping` in full.
fn engine(t: &Ctx, label: &str, server: bool) -> Result<(Daemon, Client)> {
    let daemon = Daemon::start(&t.settings, label)?;
    let client = daemon.client()?;
    daemon::import_images(&t.settings, &client)?;
    if server {
        let Some(archive) = &t.settings.haproxy else { return skip("no image of haproxy could be made") };
        let loading = client.start(&["load", "-q", "-i", &archive.display().to_string()])?;
        loading.finish(Duration::from_secs(120))?.code(0)?;
    }
    Ok((daemon, client))
}

fn finish(daemon: Daemon, client: &Client) -> Result<()> {
    let all = client.ok(&["ps", "-aq"])?;
    let ids: Vec<&str> = all.lines().collect();
    client.ok(&[["rm", "-f"].as_slice(), &ids].concat())?;
    client.ok(&["network", "prune", "-f"])?;
    let problems = daemon.finish();
    check!(problems.is_empty(), "{problems:?}");
    Ok(())
}

/// `docker run -it --name NAME IMAGE`, left by Ctrl-P Ctrl-Q.
fn run_and_leave(client: &Client, words: &[&str]) -> Result<()> {
    let mut pty = Pty::start(&client.command(&[["run", "-it"].as_slice(), words].concat()), 24, 100)?;
    pty.expect("#")?;
    pty.send("\x10\x11")?;
    pty.wait()?;
    Ok(())
}

/// The address of a daemon's bridge with another last number.
fn address(daemon: &Daemon, last: u8) -> String {
    let [a, b, c, _] = daemon.address.octets();
    Ipv4Addr::new(a, b, c, last).to_string()
}

fn address_of(client: &Client, container: &str) -> Result<String> {
    let shown = client.ok(&["inspect", container])?;
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    let bridge = &shown[0]["NetworkSettings"]["Networks"]["bridge"];
    for null in ["IPAMConfig", "Links", "Aliases", "DriverOpts"] {
        check!(bridge[null].is_null(), "{null} of {bridge}");
    }
    for empty in ["IPv6Gateway", "GlobalIPv6Address"] {
        equal!(bridge[empty], "");
    }
    Ok(bridge["IPAddress"].as_str().context("no address")?.to_owned())
}

/// u1, u2; u2 is stopped; u3 has u2's address.
fn addresses_change(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t, "addresses", false)?;
    run_and_leave(&client, &["--name", "u1", "busybox"])?;
    run_and_leave(&client, &["--name", "u2", "busybox"])?;
    equal!(client.ok(&["ps", "--format", "{{.Names}}"])?, "u2\nu1");
    equal!(address_of(&client, "u1")?, address(&daemon, 2));
    equal!(address_of(&client, "u2")?, address(&daemon, 3));
    equal!(client.ok(&["stop", "-t", "0", "u2"])?, "u2");
    run_and_leave(&client, &["--name", "u3", "busybox"])?;
    equal!(address_of(&client, "u3")?, address(&daemon, 3));
    finish(daemon, &client)
}

/// The number and the peer's number of a line of `ip addr`, `4: eth0@if5: <…`.
fn pair(text: &str, device: &str) -> Option<(String, String)> {
    let line = text.lines().find(|line| line.contains(device) && line.contains("@if"))?;
    let (number, rest) = line.trim_start().split_once(": ")?;
    let peer = rest.split_once("@if")?.1.split(':').next()?;
    Some((number.to_owned(), peer.to_owned()))
}

fn bridge_and_its_pairs(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t, "pairs", true)?;
    let ports = [free_port()?, free_port()?];
    for (name, port) in ["tomcat81", "tomcat82"].iter().zip(ports) {
        let publish = format!("{port}:8080");
        client.ok(&["run", "-d", "-p", &publish, "--name", name, "haproxy", "sleep", "1000"])?;
    }
    let inspect = client.ok(&["network", "inspect", "bridge"])?;
    check!(
        inspect.contains(&format!("\"com.docker.network.bridge.name\": \"{}\"", daemon.bridge)),
        "{inspect}"
    );
    let host = process::ok({
        let mut command = std::process::Command::new("ip");
        command.args(["addr", "show", "master", &daemon.bridge]);
        command
    })?;
    for (at, name) in ["tomcat81", "tomcat82"].iter().enumerate() {
        let inside = client.ok(&["exec", name, "ip", "addr"])?;
        let own = address(&daemon, u8::try_from(at)? + 2);
        check!(inside.contains(&format!("inet {own}/24 brd ")), "{inside}");
        check!(inside.contains("1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536"), "{inside}");
        let (number, peer) = pair(&inside, "eth0").context("no eth0 in a pair")?;
        // On the host there is the other half, on the bridge.
        let outside = host.lines().find(|line| line.starts_with(&format!("{peer}: veth")));
        let outside = outside.with_context(|| format!("no {peer} in {host}"))?;
        check!(outside.contains(&format!("@if{number}: ")), "{outside}");
        check!(outside.contains(&format!("master {}", daemon.bridge)), "{outside}");
    }
    // By address they reach each other, by name they do not.
    let [one, two] = [address(&daemon, 2), address(&daemon, 3)];
    for (from, to) in [("tomcat81", &two), ("tomcat82", &one)] {
        let output = client.run(&["exec", from, "ping", "-c", "2", "-i", "0.2", to])?;
        output.code(0)?.stdout_has("2 packets transmitted, 2 received, 0% packet loss")?;
    }
    let by_name = client.run(&["exec", "tomcat81", "ping", "-c", "1", "tomcat82"])?;
    check!(by_name.code == 2 || by_name.code == 1, "{by_name}");
    check!(
        by_name.stderr.contains("Name or service not known")
            || by_name.stderr.contains("failure in name resolution"),
        "{by_name}"
    );
    finish(daemon, &client)
}

fn host_and_none(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t, "modes", true)?;
    let port = free_port()?;
    // What is published is discarded, and that is said.
    let server = format!("while :; do echo hello | nc -l -p {port}; done");
    let run = [
        "run",
        "-d",
        "-p",
        "8083:8080",
        "--network",
        "host",
        "--name",
        "tomcat83",
        "busybox",
        "sh",
        "-c",
        &server,
    ];
    let output = client.run(&run)?;
    output.code(0)?.stderr_has("WARNING: Published ports are discarded when using host network mode")?;
    equal!(client.ok(&["ps", "--filter", "name=tomcat83", "--format", "{{.Ports}}"])?, "");
    let shown: serde_json::Value = serde_json::from_str(&client.ok(&["inspect", "tomcat83"])?)?;
    let network = &shown[0]["NetworkSettings"]["Networks"]["host"];
    equal!(network["Gateway"], "");
    equal!(network["IPAddress"], "");
    check!(network["EndpointID"].as_str().is_some_and(|id| id.len() == 64), "{network}");
    // It is reached at the host's own address.
    eventually("the host's port answers", Duration::from_secs(10), || {
        let Ok(mut stream) = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
            return Ok(false);
        };
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut text = String::new();
        Ok(std::io::Read::read_to_string(&mut stream, &mut text).is_ok() && text == "hello\n")
    })?;
    check!(
        client.ok(&["exec", "tomcat83", "ip", "addr"])?.contains(&daemon.bridge),
        "not the host's interfaces"
    );

    client.ok(&[
        "run",
        "-d",
        "-p",
        "8084:8080",
        "--network",
        "none",
        "--name",
        "tomcat84",
        "haproxy",
        "sleep",
        "99",
    ])?;
    equal!(client.ok(&["ps", "--filter", "name=tomcat84", "--format", "{{.Ports}}"])?, "");
    let inside = client.ok(&["exec", "tomcat84", "ip", "addr"])?;
    check!(inside.contains("1: lo: ") && inside.contains("inet 127.0.0.1/8 scope host lo"), "{inside}");
    check!(!inside.contains("2: "), "{inside}");
    let network = client.ok(&["inspect", "-f", "{{json .NetworkSettings.Networks}}", "tomcat84"])?;
    check!(network.starts_with("{\"none\":{\"IPAMConfig\":null,"), "{network}");
    finish(daemon, &client)
}

fn container_mode(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t, "shared", false)?;
    client.ok(&[
        "run",
        "-d",
        "-p",
        &format!("{}:8080", free_port()?),
        "--name",
        "tomcat85",
        "busybox",
        "sleep",
        "99",
    ])?;
    let both =
        ["run", "-d", "-p", "8086:8080", "--network", "container:tomcat85", "--name", "tomcat86", "busybox"];
    let refused = client.run(&both)?;
    refused.code(125)?.stderr_has(
        "Error response from daemon: conflicting options: port publishing and the container type network mode",
    )?;
    client.ok(&["rm", "-f", "tomcat85"])?;
    client.run(&["rm", "-f", "tomcat86"])?;

    run_and_leave(&client, &["--name", "alpine1", "busybox", "/bin/sh"])?;
    run_and_leave(&client, &["--network", "container:alpine1", "--name", "alpine2", "busybox", "/bin/sh"])?;
    let seen = |name: &str| client.ok(&["exec", name, "ip", "addr"]);
    let first = seen("alpine1")?;
    check!(first.contains(&format!("inet {}/24", address(&daemon, 2))), "{first}");
    check!(pair(&first, "eth0").is_some(), "{first}");
    equal!(seen("alpine2")?, first);
    // Only `lo` is left when the owner of the network ends: cut off at once, gone a little later.
    client.ok(&["stop", "-t", "0", "alpine1"])?;
    eventually("only lo is left", Duration::from_secs(10), || Ok(!seen("alpine2")?.contains("eth0")))?;
    let left = seen("alpine2")?;
    check!(left.contains("1: lo: <LOOPBACK,UP,LOWER_UP>") && left.contains("127.0.0.1/8"), "{left}");
    finish(daemon, &client)
}

fn names_on_my_network(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t, "mynetwork", true)?;
    let names = || client.ok(&["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"]);
    equal!(names()?, "bridge bridge local\nhost host local\nnone null local");
    // The subnet is named only because other tests run beside this one.
    equal!(client.ok(&["network", "create", "--subnet", "10.242.6.0/24", "my_network"])?.len(), 64);
    equal!(names()?, "bridge bridge local\nhost host local\nmy_network bridge local\nnone null local");
    for name in ["tomcat81", "tomcat82"] {
        let publish = format!("{}:8080", free_port()?);
        client.ok(&[
            "run",
            "-d",
            "-p",
            &publish,
            "--network",
            "my_network",
            "--name",
            name,
            "haproxy",
            "sleep",
            "99",
        ])?;
    }
    for (from, to, address) in
        [("tomcat81", "tomcat82", "10.242.6.3"), ("tomcat82", "tomcat81", "10.242.6.2")]
    {
        let ping = |to: &str| client.run(&["exec", from, "ping", "-c", "3", "-i", "0.2", to]);
        ping(address)?.code(0)?.stdout_has("3 packets transmitted, 3 received, 0% packet loss")?;
        let by_name = ping(to)?;
        by_name.code(0)?.stdout_has(&format!("PING {to} ({address}) 56(84) bytes of data."))?;
        by_name.stdout_has(&format!("64 bytes from {to}.my_network ({address}): icmp_seq=1 ttl=64 time="))?;
        by_name.stdout_has(&format!("--- {to} ping statistics ---\n3 packets transmitted, 3 received"))?;
    }
    // A container that comes back has another address, perhaps, but the same name.
    client.ok(&["stop", "-t", "0", "tomcat82"])?;
    client.ok(&["run", "-d", "--network", "my_network", "--name", "other", "haproxy", "sleep", "99"])?;
    client.ok(&["start", "tomcat82"])?;
    let again = client.run(&["exec", "tomcat81", "ping", "-c", "1", "tomcat82"])?;
    again.code(0)?.stdout_has("64 bytes from tomcat82.my_network (10.242.6.4): icmp_seq=1")?;
    let in_use = client.run(&["network", "rm", "my_network"])?;
    in_use.code(1)?.stderr_has("network my_network has active endpoints")?;
    finish(daemon, &client)
}
