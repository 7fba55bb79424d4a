//! Networks of users: making and removing them, containers on one or several, names.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::Result;

use super::{cases, check, equal};
use crate::harness::daemon::{self, Daemon};
use crate::harness::network::{self, sleeper};
use crate::harness::{Case, Ctx, eventually};

pub fn cases() -> Vec<Case> {
    let mut all = cases!(
        "networks",
        EachClient,
        [
            made_shown_and_removed,
            refused_with_dockers_words,
            names_and_aliases,
            fixed_addresses,
            connect_and_disconnect,
            several_at_once,
            internal_ones_have_no_way_out,
            containers_on_different_ones_are_apart,
            in_use_and_pruned,
            published_ports,
        ]
    );
    all.extend(cases!("networks", Nothing, [survive_kills]));
    all
}

/// A subnet no other case uses.
fn subnet() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    format!("10.244.{}.0/24", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Its address that ends in `last`.
fn address(subnet: &str, last: u8) -> String {
    subnet.replace("0/24", &last.to_string())
}

/// Makes a network with a subnet of its own that is removed when `act` is done, with what is on it.
fn with_network(t: &Ctx, options: &[&str], act: impl FnOnce(&str, &str) -> Result<()>) -> Result<()> {
    let subnet = subnet();
    let name = t.name(&format!("net{}", subnet.split('.').nth(2).unwrap_or_default()));
    let options = [&["--subnet", &subnet], options].concat();
    network::with_network(t, &name, &options, |name| act(name, &subnet))
}

fn reaches(t: &Ctx, from: &str, to: &str) -> Result<bool> {
    network::reaches(t, from, "", to)
}

fn made_shown_and_removed(t: &Ctx) -> Result<()> {
    let label = format!("case={}", t.name("label"));
    with_network(t, &["--label", &label, "--opt", "com.docker.network.driver.mtu=1400"], |net, subnet| {
        check!(t.ok(&["network", "ls", "--format", "{{.Name}}"])?.lines().any(|l| l == net), "not listed");
        let shown = "{{.Driver}} {{.Scope}} {{.Internal}} {{(index .IPAM.Config 0).Subnet}} {{.Labels.case}}";
        equal!(
            t.ok(&["network", "inspect", "-f", shown, net])?,
            format!("bridge local false {subnet} {}", t.name("label"))
        );
        let c = sleeper(t, "c", net, &[])?;
        check!(
            t.ok(&["exec", &c, "cat", "/sys/class/net/eth0/mtu"])?.trim() == "1400",
            "not the MTU asked for"
        );
        let on = t.ok(&[
            "network",
            "inspect",
            "-f",
            "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}",
            net,
        ])?;
        equal!(on, format!("{c} {}", address(subnet, 2) + "/24"));
        let filtered = t.ok(&[
            "network",
            "ls",
            "-q",
            "--no-trunc",
            "--filter",
            &format!("label={label}"),
            "--filter",
            "type=custom",
        ])?;
        equal!(filtered.trim(), t.ok(&["network", "inspect", "-f", "{{.Id}}", net])?.trim());
        Ok(())
    })
}

fn refused_with_dockers_words(t: &Ctx) -> Result<()> {
    let refused = |args: &[&str], text: &str| -> Result<()> {
        let mut all = vec!["network"];
        all.extend(args);
        t.client.run(&all)?.code(1)?.stderr_has(text).map(drop)
    };
    let wide = t.name("x");
    refused(&["create", "bridge"], "operation is not permitted on predefined bridge network")?;
    refused(
        &["create", "--subnet", "10.244.1.1/24", &wide],
        "invalid subnet 10.244.1.1/24: it should be 10.244.1.0/24",
    )?;
    refused(&["create", "--subnet", "foo", &wide], "invalid CIDR block notation")?;
    refused(&["create", "--driver", "nope", &wide], "plugin \"nope\" not found")?;
    refused(&["create", "--driver", "overlay", &wide], "This node is not a swarm manager.")?;
    refused(&["create", "-o", "com.docker.network.bridge.enable_icc=x", &wide], "invalid syntax")?;
    refused(&["rm", "bridge"], "bridge is a pre-defined network and cannot be removed")?;
    refused(&["rm", &wide], &format!("network {wide} not found"))?;
    refused(&["connect", &wide, "c"], &format!("network {wide} not found"))?;
    with_network(t, &[], |net, subnet| {
        refused(&["create", net], &format!("network with name {net} already exists"))?;
        let inside = subnet.replace("0/24", "128/25");
        refused(&["create", "--subnet", &inside, &wide], "Pool overlaps with other one on this address space")
    })
}

fn names_and_aliases(t: &Ctx) -> Result<()> {
    with_network(t, &[], |net, subnet| {
        let web = sleeper(t, "web", net, &["--network-alias", "www", "--hostname", "frontend"])?;
        let client = sleeper(t, "client", net, &[])?;
        equal!(
            t.ok(&["exec", &client, "cat", "/etc/resolv.conf"])?
                .lines()
                .filter(|l| l.starts_with("nameserver"))
                .count(),
            1
        );
        let id = t.inspect(&web, "{{.Id}}")?;
        for name in [web.as_str(), "www", "WWW", "frontend", &id[..12], &format!("{web}.{net}")] {
            check!(reaches(t, &client, name)?, "{name} does not answer");
        }
        let reverse = t.ok(&["exec", &client, "nslookup", &address(subnet, 2)])?;
        check!(reverse.contains(&format!("{web}.{net}")), "reverse: {reverse}");
        check!(!reaches(t, &client, "nobody-has-this-name")?, "a name nobody has answers");
        // A name moves with its container, and ends with it.
        let renamed = t.name("renamed");
        t.ok(&["rename", &web, &renamed])?;
        check!(reaches(t, &client, &renamed)?, "the new name does not answer");
        check!(!reaches(t, &client, &web)?, "the old name answers");
        t.ok(&["rm", "-f", &renamed])?;
        check!(!reaches(t, &client, "www")?, "a removed container's alias answers");
        // Port 53 is free inside.
        t.ok(&["exec", &client, "timeout", "1", "sh", "-c", "nc -l -p 53 & sleep 0.3; kill $!"])?;
        Ok(())
    })
}

fn fixed_addresses(t: &Ctx) -> Result<()> {
    with_network(t, &[], |net, subnet| {
        let fixed = address(subnet, 77);
        let c = sleeper(t, "c", net, &["--ip", &fixed])?;
        equal!(
            t.inspect(&c, &format!("{{{{(index .NetworkSettings.Networks \"{net}\").IPAddress}}}}"))?,
            fixed
        );
        let args = ["run", "--rm", "--network", net, "--ip", &fixed, "busybox", "true"];
        t.client.run(&args)?.code(125)?.stderr_has("Address already in use")?;
        let args = ["run", "--rm", "--network", net, "--ip", "192.0.2.7", "busybox", "true"];
        t.client
            .run(&args)?
            .code(125)?
            .stderr_has("no configured subnet or ip-range contain the IP address 192.0.2.7")?;
        let args = ["run", "--rm", "--ip", &fixed, "busybox", "true"];
        t.client
            .run(&args)?
            .code(125)?
            .stderr_has("user specified IP address is supported on user defined networks only")?;
        t.ok(&["restart", "-t", "0", &c])?;
        equal!(
            t.inspect(&c, &format!("{{{{(index .NetworkSettings.Networks \"{net}\").IPAddress}}}}"))?,
            fixed
        );
        Ok(())
    })
}

fn connect_and_disconnect(t: &Ctx) -> Result<()> {
    with_network(t, &[], |first, _| {
        with_network(t, &[], |second, subnet| {
            let (c, other) = (sleeper(t, "c", first, &[])?, sleeper(t, "other", second, &[])?);
            check!(!reaches(t, &c, &other)?, "reached before it is connected");
            let fixed = address(subnet, 9);
            t.ok(&["network", "connect", "--ip", &fixed, "--alias", "seen-as", second, &c])?;
            check!(reaches(t, &c, &other)?, "not reached when connected");
            check!(reaches(t, &other, "seen-as")?, "its alias does not answer");
            check!(t.ok(&["exec", &c, "ip", "addr"])?.contains(&fixed), "not the address asked for");
            let again = t.client.run(&["network", "connect", second, &c])?;
            again
                .code(1)?
                .stderr_has(&format!("endpoint with name {c} already exists in network {second}"))?;
            t.ok(&["network", "disconnect", second, &c])?;
            check!(!reaches(t, &c, &other)?, "reached after it was disconnected");
            check!(!t.ok(&["exec", &c, "ip", "addr"])?.contains("eth1"), "its interface is still there");
            t.client
                .run(&["network", "disconnect", second, &c])?
                .code(1)?
                .stderr_has("is not connected to network")?;
            // What does not run joins when it starts.
            t.ok(&["stop", "-t", "0", &c])?;
            t.ok(&["network", "connect", second, &c])?;
            t.ok(&["start", &c])?;
            check!(reaches(t, &c, &other)?, "not reached after a start");
            Ok(())
        })
    })
}

fn several_at_once(t: &Ctx) -> Result<()> {
    with_network(t, &[], |first, _| {
        with_network(t, &[], |second, _| {
            let args =
                ["run", "--rm", "--network", first, "--network", second, "busybox", "ip", "-o", "-4", "addr"];
            let shown = t.ok(&args)?;
            check!(shown.contains("eth0") && shown.contains("eth1"), "{shown}");
            let routes =
                t.ok(&["run", "--rm", "--network", first, "--network", second, "busybox", "ip", "route"])?;
            equal!(routes.lines().filter(|l| l.starts_with("default")).count(), 1);
            Ok(())
        })
    })
}

fn internal_ones_have_no_way_out(t: &Ctx) -> Result<()> {
    with_network(t, &["--internal"], |net, _| {
        let (a, b) = (sleeper(t, "a", net, &[])?, sleeper(t, "b", net, &[])?);
        check!(reaches(t, &a, &b)?, "its containers do not reach each other");
        check!(!t.ok(&["exec", &a, "ip", "route"])?.contains("default"), "there is a default route");
        Ok(())
    })
}

fn containers_on_different_ones_are_apart(t: &Ctx) -> Result<()> {
    with_network(t, &[], |first, subnet| {
        with_network(t, &[], |second, _| {
            let (_a, b) = (sleeper(t, "a", first, &[])?, sleeper(t, "b", second, &[])?);
            check!(!reaches(t, &b, &address(subnet, 2))?, "one network reaches into the other");
            let c = t.name("c");
            t.ok(&["run", "-d", "--name", &c, "busybox", "sleep", "1000"])?;
            check!(!reaches(t, &c, &address(subnet, 2))?, "the default bridge reaches into a network");
            Ok(())
        })
    })
}

fn in_use_and_pruned(t: &Ctx) -> Result<()> {
    let unused = t.name("unused");
    t.ok(&["network", "create", "--subnet", &subnet(), "--label", &format!("case={unused}"), &unused])?;
    with_network(t, &["--label", &format!("case={unused}")], |net, _| {
        let c = sleeper(t, "c", net, &[])?;
        let refused = t.client.run(&["network", "rm", net])?;
        refused.code(1)?.stderr_has(&format!("network {net} has active endpoints (name:\"{c}\" id:\""))?;
        let filter = format!("label=case={unused}");
        let pruned = t.ok(&["network", "prune", "-f", "--filter", &filter])?;
        check!(pruned.contains(&unused) && !pruned.contains(net), "{pruned}");
        t.client.run(&["network", "inspect", &unused])?.code(1)?.stderr_has("not found").map(drop)
    })
}

fn published_ports(t: &Ctx) -> Result<()> {
    with_network(t, &[], |net, _| {
        let name = t.name("web");
        let serve = "while :; do echo hello | nc -l -p 80; done";
        t.ok(&[
            "run",
            "-d",
            "--name",
            &name,
            "--network",
            net,
            "-p",
            "127.0.0.1::80",
            "busybox",
            "sh",
            "-c",
            serve,
        ])?;
        let port = t.ok(&["port", &name, "80"])?;
        let at: std::net::SocketAddr = port.trim().parse()?;
        eventually("the port answers", Duration::from_secs(20), || {
            let Ok(mut stream) = std::net::TcpStream::connect(at) else { return Ok(false) };
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            let mut text = String::new();
            let read = std::io::Read::read_to_string(&mut stream, &mut text);
            Ok(read.is_ok() && text == "hello\n")
        })
    })
}

fn survive_kills(t: &Ctx) -> Result<()> {
    let daemon = Daemon::start(&t.settings, "networks")?;
    let client = daemon.client()?;
    daemon::import_images(&t.settings, &client)?;
    let net = subnet();
    client.ok(&["network", "create", "--subnet", &net, "n"])?;
    for name in ["aa", "bb"] {
        client.ok(&[
            "run",
            "-d",
            "--name",
            name,
            "--network",
            "n",
            "--restart",
            "always",
            "busybox",
            "sleep",
            "1000",
        ])?;
    }
    let id = client.ok(&["network", "inspect", "-f", "{{.Id}}", "n"])?;
    let ping = |from: &str, to: &str| client.run(&["exec", from, "ping", "-c", "1", "-w", "2", to]);
    for _ in 0..3 {
        daemon.kill()?;
        daemon.up()?;
        equal!(client.ok(&["network", "inspect", "-f", "{{.Id}}", "n"])?, id);
        ping("aa", "bb")?.code(0)?;
        ping("bb", "aa")?.code(0)?;
    }
    // Names go on to resolve while there is no engine: the container says so itself.
    let watch = "while :; do nslookup bb >/dev/null && echo found || echo lost; sleep 0.1; done";
    client.ok(&["run", "-d", "--name", "watch", "--network", "n", "busybox", "sh", "-c", watch])?;
    daemon.kill()?;
    std::thread::sleep(Duration::from_millis(700));
    daemon.up()?;
    let said = client.ok(&["logs", "watch"])?;
    check!(said.lines().count() >= 5 && !said.contains("lost"), "while the engine was gone: {said}");
    client.ok(&["rm", "-f", "aa", "bb", "watch"])?;
    client.ok(&["network", "rm", "n"])?;
    let problems = daemon.finish();
    check!(problems.is_empty(), "{problems:?}");
    Ok(())
}
