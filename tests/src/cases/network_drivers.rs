//! Networks that are no bridges, and what a user may say of one container's interface.

use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::Result;

use super::{cases, check, equal};
use crate::harness::daemon::{self, Daemon};
use crate::harness::network::{self, sleeper};
use crate::harness::{Case, Ctx, process};

pub fn cases() -> Vec<Case> {
    let mut all = cases!(
        "network_drivers",
        EachClient,
        [
            macvlan_is_a_network_like_others,
            macvlan_publishes_nothing,
            macvlan_without_parent,
            macvlan_with_several_subnets,
            parents_that_are_not_to_be_had,
            ipvlan_needs_the_kernel,
            interfaces_have_names_and_sysctls,
            interface_options_are_checked,
        ]
    );
    all.extend(cases!("network_drivers", Nothing, [macvlan_survives_kills]));
    all
}

/// An interface of the host's that leads to nobody, and a subnet, for one case.
struct Parent {
    name: String,
    subnet: String,
}

impl Parent {
    fn new() -> Result<Self> {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fp{}-{number}", std::process::id() % 100_000);
        ip(&["link", "add", &name, "type", "veth", "peer", "name", &format!("{name}o")])?;
        let parent = Self { subnet: format!("10.245.{number}.0/24"), name };
        ip(&["link", "set", &parent.name, "up"])?;
        ip(&["link", "set", &format!("{}o", parent.name), "up"])?;
        Ok(parent)
    }

    fn option(&self) -> String {
        format!("parent={}", self.name)
    }

    fn address(&self, last: u8) -> String {
        self.subnet.replace("0/24", &last.to_string())
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        let _ = ip(&["link", "delete", &self.name]);
    }
}

fn ip(args: &[&str]) -> Result<String> {
    let mut command = Command::new("ip");
    command.args(args);
    process::ok(command)
}

fn with_network(t: &Ctx, what: &str, options: &[&str], act: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    network::with_network(t, &t.name(what), options, act)
}

fn reaches(t: &Ctx, from: &str, to: &str) -> Result<bool> {
    network::reaches(t, from, "", to)
}

fn routes(t: &Ctx, container: &str) -> Result<String> {
    t.ok(&["exec", container, "ip", "route"])
}

fn macvlan_with_several_subnets(t: &Ctx) -> Result<()> {
    let (one, two) = (Parent::new()?, Parent::new()?);
    let (option, router) = (one.option(), format!("--gateway={}", two.address(9)));
    let subnets = ["--subnet", one.subnet.as_str(), "--subnet", two.subnet.as_str(), router.as_str()];
    let options = [["-d", "macvlan", "-o", option.as_str()].as_slice(), &subnets].concat();
    with_network(t, "mv", &options, |net| {
        let shown = t.ok(&["network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}} {{end}}", net])?;
        equal!(shown.trim_end(), format!("{} {}", one.subnet, two.subnet));
        let (a, b) = (sleeper(t, "a", net, &[])?, sleeper(t, "b", net, &["--ip", &two.address(7)])?);
        let on = "{{range .NetworkSettings.Networks}}{{.Gateway}} {{.IPAddress}}/{{.IPPrefixLen}}{{end}}";
        equal!(t.inspect(&a, on)?, format!("{} {}/24", one.address(1), one.address(2)));
        equal!(t.inspect(&b, on)?, format!("{} {}/24", two.address(9), two.address(7)));
        check!(routes(t, &b)?.starts_with(&format!("default via {} dev eth0", two.address(9))), "no way out");
        let outside = ["run", "--rm", "--network", net, "--ip", "10.246.0.1", "busybox"];
        t.client.run(&outside)?.code(125)?.stderr_has("no configured subnet or ip-range contain")?;
        Ok(())
    })?;
    let twice = ["--subnet", one.subnet.as_str(), "--subnet", one.subnet.as_str()];
    let name = t.name("twice");
    let create = ["network", "create", "-d", "macvlan", "-o", option.as_str()];
    let refused = t.client.run(&[create.as_slice(), &twice, &[&name]].concat())?;
    refused.code(1)?;
    Ok(())
}

fn macvlan_is_a_network_like_others(t: &Ctx) -> Result<()> {
    let parent = Parent::new()?;
    let option = parent.option();
    let options = ["-d", "macvlan", "-o", option.as_str(), "--subnet", parent.subnet.as_str()];
    with_network(t, "mv", &options, |net| {
        let shown =
            t.ok(&["network", "inspect", "-f", "{{.Driver}} {{.Internal}} {{json .Options}}", net])?;
        equal!(shown, format!("macvlan false {{\"parent\":\"{}\"}}", parent.name));
        let (a, b) = (sleeper(t, "a", net, &[])?, sleeper(t, "b", net, &["--ip", &parent.address(9)])?);
        let on = "{{range .NetworkSettings.Networks}}{{.Gateway}} {{.IPAddress}}/{{.IPPrefixLen}}{{end}}";
        equal!(t.inspect(&a, on)?, format!("{} {}/24", parent.address(1), parent.address(2)));
        check!(reaches(t, &a, &b)?, "not reached by its name");
        let default = format!("default via {} dev eth0", parent.address(1));
        check!(routes(t, &a)?.starts_with(&default), "{}", routes(t, &a)?);
        // Restarted it keeps what was asked for.
        t.ok(&["restart", "-t", "0", &b])?;
        equal!(t.inspect(&b, on)?, format!("{} {}/24", parent.address(1), parent.address(9)));
        let taken =
            t.client.run(&["run", "--rm", "--network", net, "--ip", &parent.address(9), "busybox"])?;
        taken.code(125)?.stderr_has("Address already in use")?;
        t.client.run(&["network", "rm", net])?.code(1)?.stderr_has("has active endpoints")?;

        with_network(t, "br", &[], |bridge| {
            t.ok(&["network", "connect", bridge, &a])?;
            check!(t.ok(&["exec", &a, "ip", "addr"])?.contains("eth1"), "no second interface");
            t.ok(&["network", "disconnect", net, &a])?;
            let left = t.ok(&["exec", &a, "ip", "addr"])?;
            check!(left.contains("eth1") && !left.contains("eth0"), "{left}");
            check!(routes(t, &a)?.contains("default via"), "no way out by the bridge");
            t.ok(&["network", "connect", net, &a])?;
            check!(reaches(t, &a, &b)?, "not reached by its name after it was connected");
            // Who shares its namespace keeps it, but nothing of its networks.
            let shares = sleeper(t, "shares", &format!("container:{a}"), &[])?;
            t.ok(&["kill", &a])?;
            crate::harness::eventually("only lo is left", std::time::Duration::from_secs(10), || {
                Ok(!t.ok(&["exec", &shares, "ip", "addr"])?.contains("eth"))
            })
        })
    })
}

fn macvlan_publishes_nothing(t: &Ctx) -> Result<()> {
    let parent = Parent::new()?;
    let option = parent.option();
    with_network(t, "mv", &["-d", "macvlan", "-o", &option, "--subnet", &parent.subnet], |net| {
        let c = sleeper(t, "c", net, &["-p", "80"])?;
        equal!(t.ok(&["port", &c])?, "");
        equal!(t.inspect(&c, "{{json .NetworkSettings.Ports}}")?, "{}");
        equal!(t.ok(&["ps", "--filter", &format!("name={c}"), "--format", "[{{.Ports}}]"])?, "[]");
        Ok(())
    })
}

fn macvlan_without_parent(t: &Ctx) -> Result<()> {
    let (name, subnet) = (t.name("mv"), Parent::new()?.subnet.clone());
    let made = t.client.run(&["network", "create", "-d", "macvlan", "--subnet", &subnet, &name])?;
    // Docker wants a kernel with `dummy`.
    if made.stderr.contains("operation not supported") {
        return crate::harness::skip("the engine makes no parent here");
    }
    made.code(0)?;
    t.ok(&["network", "rm", &name])?;
    with_network(t, "own", &["-d", "macvlan", "--subnet", &subnet], |net| {
        let id = t.ok(&["network", "inspect", "-f", "{{.Id}}", net])?;
        let own = format!("/sys/class/net/dm-{}", &id[..12]);
        check!(std::path::Path::new(&own).exists(), "no interface {own}");
        let (a, b) = (sleeper(t, "a", net, &[])?, sleeper(t, "b", net, &[])?);
        check!(reaches(t, &a, &b)?, "not reached");
        check!(!routes(t, &a)?.contains("default"), "a way out: {}", routes(t, &a)?);
        t.ok(&["rm", "-f", &a, &b])?;
        Ok(())
    })
}

fn parents_that_are_not_to_be_had(t: &Ctx) -> Result<()> {
    let parent = Parent::new()?;
    let refused = |options: &[&str], wanted: &str| -> Result<()> {
        let name = t.name("no");
        let args = [&["network", "create", "-d", "macvlan", "--subnet", "10.246.2.0/24"], options, &[&name]];
        t.client.run(&args.concat())?.code(1)?.stderr_has(wanted).map(drop)
    };
    refused(&["-o", "parent=lo"], "loopback interface is not a valid macvlan parent link")?;
    refused(&["-o", "parent=none0"], "invalid subinterface vlan name none0, example formatting is eth0.10")?;
    refused(&["-o", "parent=none0.3"], "-o parent interface was not found on the host: none0")?;
    refused(&["-o", &format!("{}.5000", parent.option())], "vlan id must be between 1-4094, received: 5000")?;
    refused(&["-o", "macvlan_mode=x"], "requested macvlan mode 'x' is not valid")?;
    let option = parent.option();
    with_network(t, "mv", &["-d", "macvlan", "-o", &option, "--subnet", &parent.subnet], |_| {
        refused(
            &["-o", &option, "-o", "macvlan_mode=passthru"],
            "cannot use mode passthru, macvlan network ",
        )?;
        let other = ["-d", "macvlan", "-o", option.as_str(), "--subnet", "10.246.3.0/24"];
        with_network(t, "other", &other, |_| Ok(()))
    })
}

fn ipvlan_needs_the_kernel(t: &Ctx) -> Result<()> {
    let parent = Parent::new()?;
    let name = t.name("ipvlan");
    for (option, wanted) in [
        ("ipvlan_mode=x", "requested ipvlan mode 'x' is not valid, 'l2' mode is the ipvlan driver default"),
        ("ipvlan_flag=x", "requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan driver default"),
    ] {
        t.client
            .run(&["network", "create", "-d", "ipvlan", "-o", option, &name])?
            .code(1)?
            .stderr_has(wanted)?;
    }
    let probe = format!("{}i", parent.name);
    let has = ip(&["link", "add", &probe, "link", &parent.name, "type", "ipvlan"]).is_ok();
    let _ = ip(&["link", "delete", &probe]);
    let option = parent.option();
    if !has {
        let args = ["network", "create", "-d", "ipvlan", "-o", &option, "--subnet", &parent.subnet, &name];
        // Docker makes the network and refuses its containers.
        let made = t.client.run(&args)?;
        let said = match made.code {
            0 => t.client.run(&["run", "--rm", "--network", &name, "busybox", "true"])?,
            _ => made,
        };
        t.client.run(&["network", "rm", &name])?;
        return said.stderr_has("failed to create the ipvlan port: operation not supported").map(drop);
    }
    with_network(t, "iv", &["-d", "ipvlan", "-o", &option, "--subnet", &parent.subnet], |net| {
        let (a, b) = (sleeper(t, "a", net, &[])?, sleeper(t, "b", net, &[])?);
        check!(reaches(t, &a, &b)?, "not reached");
        Ok(())
    })
}

const NAME: &str = "driver-opt=com.docker.network.endpoint.ifname=";
const SYSCTLS: &str = "driver-opt=com.docker.network.endpoint.sysctls=";

fn interfaces_have_names_and_sysctls(t: &Ctx) -> Result<()> {
    with_network(t, "one", &[], |one| {
        with_network(t, "two", &[], |two| {
            let own = format!("name={one},{NAME}foo0,{SYSCTLS}net.ipv4.conf.IFNAME.log_martians=1");
            let c = sleeper(t, "c", &own, &["--network", two])?;
            let martians = |interface: &str| format!("/proc/sys/net/ipv4/conf/{interface}/log_martians");
            equal!(t.ok(&["exec", &c, "cat", &martians("foo0"), &martians("eth0")])?, "1\n0");
            t.ok(&["network", "disconnect", two, &c])?;
            let options = ["--driver-opt", "com.docker.network.endpoint.ifname=bar0"];
            t.ok(&[&["network", "connect"], options.as_slice(), &[two, &c]].concat())?;
            check!(t.ok(&["exec", &c, "ip", "addr"])?.contains("bar0"), "not called as asked");
            t.ok(&["restart", "-t", "0", &c])?;
            let shown = t.ok(&["exec", &c, "ip", "addr"])?;
            check!(shown.contains("foo0") && shown.contains("bar0") && !shown.contains("eth0"), "{shown}");
            let kept = "{{range .NetworkSettings.Networks}}{{json .DriverOpts}}{{end}}";
            check!(t.inspect(&c, kept)?.contains("endpoint.ifname\":\"foo0\""), "not shown");
            Ok(())
        })
    })
}

fn interface_options_are_checked(t: &Ctx) -> Result<()> {
    with_network(t, "one", &[], |one| {
        let refused = |option: &str, wanted: &str| -> Result<()> {
            let network = format!("name={one},{option}");
            let ran = t.client.run(&["run", "--rm", "--network", &network, "busybox", "true"])?;
            ran.code(125)?.stderr_has(wanted).map(drop)
        };
        let unknown = "unrecognised network interface sysctl";
        refused(&format!("{SYSCTLS}kernel.msgmax=1"), unknown)?;
        refused(&format!("{SYSCTLS}net.ipv4.conf.eth0.log_martians=1"), unknown)?;
        refused(
            &format!("{SYSCTLS}net.ipv4.conf.IFNAME.nope=1"),
            "/proc/sys/net/ipv4/conf/eth0/nope is not a sysctl file",
        )?;
        refused(&format!("{NAME}lo"), "to \"lo\": file exists")?;
        refused(&format!("{NAME}a/b"), "to \"a/b\": invalid argument")?;
        refused(&format!("{NAME}averyverylongname0"), "numerical result out of range")?;
        // Others' options are theirs.
        t.ok(&["run", "--rm", "--network", &format!("name={one},driver-opt=some=thing"), "busybox", "true"])?;
        Ok(())
    })
}

fn macvlan_survives_kills(t: &Ctx) -> Result<()> {
    let parent = Parent::new()?;
    let daemon = Daemon::start(&t.settings, "macvlan-kill")?;
    let client = daemon.client()?;
    daemon::import_images(&t.settings, &client)?;
    let option = parent.option();
    client.ok(&["network", "create", "-d", "macvlan", "-o", &option, "--subnet", &parent.subnet, "mv"])?;
    client.ok(&["network", "create", "-d", "macvlan", "--subnet", "10.246.4.0/24", "own"])?;
    let own = format!("dm-{}", &client.ok(&["network", "inspect", "-f", "{{.Id}}", "own"])?[..12]);
    let mac = "02:00:00:00:00:77";
    client.ok(&[
        "run",
        "-d",
        "--name",
        "aa",
        "--network",
        "own",
        "--network",
        "mv",
        "--mac-address",
        mac,
        "busybox",
        "sleep",
        "1000",
    ])?;
    daemon.kill()?;
    daemon.up()?;
    let member = "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}";
    equal!(client.ok(&["network", "inspect", "-f", member, "mv"])?, format!("aa {}/24", parent.address(2)));
    client.ok(&["run", "-d", "--name", "bb", "--network", "mv", "busybox", "sleep", "1000"])?;
    let address = "{{.NetworkSettings.Networks.mv.IPAddress}}";
    equal!(client.ok(&["inspect", "-f", address, "bb"])?, parent.address(3));
    client.ok(&["exec", "bb", "ping", "-c", "1", "-w", "2", "aa"])?;
    client.ok(&["network", "disconnect", "mv", "aa"])?;
    let left = client.ok(&["exec", "aa", "ip", "addr"])?;
    check!(!left.contains(&parent.address(2)), "still there after it was disconnected: {left}");
    // A fixed hardware address is there again at once, although the last run's interface may not be gone yet.
    for _ in 0..3 {
        client.ok(&["restart", "-t", "0", "aa"])?;
        check!(client.ok(&["exec", "aa", "ip", "addr"])?.contains(mac), "another hardware address");
    }
    client.ok(&["rm", "-f", "aa", "bb"])?;
    client.ok(&["network", "rm", "mv", "own"])?;
    check!(!std::path::Path::new("/sys/class/net").join(&own).exists(), "{own} is left");
    check!(
        std::path::Path::new("/sys/class/net").join(&parent.name).exists(),
        "the host's interface is gone"
    );
    let problems = daemon.finish();
    check!(problems.is_empty(), "{problems:?}");
    Ok(())
}
