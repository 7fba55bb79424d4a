//! IPv6 and everything about addresses: families, subnets, pools, fixed and link-local addresses.

use std::fs;
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{cases, check, equal};
use crate::harness::daemon::{self, Daemon};
use crate::harness::network::{self, sleeper};
use crate::harness::{Case, Ctx, http};

pub fn cases() -> Vec<Case> {
    let mut all = cases!(
        "networks6",
        EachClient,
        [
            both_families,
            chosen_subnets,
            ipv6_only,
            refused_with_dockers_words,
            fixed_addresses_of_both_families,
            link_local_addresses,
            switched_off_in_a_container,
            a_network_with_ipv6_becomes_the_way_out,
            isolated_and_internal,
            hosts_and_names_of_interfaces,
            published_on_ipv6,
        ]
    );
    all.extend(cases!(
        "networks6",
        Nothing,
        [default_bridge, survives_kills, pools_are_spent, hundreds_from_a_wide_pool, foreign_bridges_stay]
    ));
    all
}

/// Subnets no other case uses, nor another run of the suite on the same host.
struct Subnets {
    v4: String,
    v6: String,
}

/// Of this run.
fn run() -> u16 {
    (std::process::id() & 0xffff) as u16
}

impl Subnets {
    fn new() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Of the addresses shared behind carriers' NAT (RFC 6598), which no test machine has routes to.
        let v4 = format!("100.{}.{number}.0/24", 64 + run() % 64);
        Self { v4, v6: format!("fd00:{:x}:{number:x}::/64", run()) }
    }

    fn v4(&self, last: u8) -> String {
        self.v4.replace("0/24", &last.to_string())
    }

    fn v6(&self, last: &str) -> String {
        self.v6.replace("/64", last)
    }
}

fn with_network(t: &Ctx, options: &[&str], act: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let name = t.name(&format!("six{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    network::with_network(t, &name, options, act)
}

fn reaches(t: &Ctx, from: &str, to: &str) -> Result<bool> {
    network::reaches(t, from, "-6", to)
}

fn both_families(t: &Ctx) -> Result<()> {
    let s = Subnets::new();
    with_network(t, &["--ipv6", "--subnet", &s.v6, "--subnet", &s.v4], |net| {
        let shown = "{{.EnableIPv4}} {{.EnableIPv6}}{{range .IPAM.Config}} {{.Subnet}}{{end}}";
        equal!(t.ok(&["network", "inspect", "-f", shown, net])?, format!("true true {} {}", s.v4, s.v6));
        let listed = t.ok(&["network", "ls", "--format", "{{.Name}} {{.IPv4}} {{.IPv6}}"])?;
        check!(listed.lines().any(|l| l == format!("{net} true true")), "{listed}");
        let (a, b) = (sleeper(t, "a", net, &[])?, sleeper(t, "b", net, &[])?);
        let of = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}}/{{.GlobalIPv6PrefixLen}} {{.IPv6Gateway}}{{end}}";
        equal!(t.inspect(&a, of)?, format!("{} {}/64 {}", s.v4(2), s.v6("2"), s.v6("1")));
        let on = t.ok(&[
            "network",
            "inspect",
            "-f",
            "{{range .Containers}}{{.IPv4Address}} {{.IPv6Address}} {{end}}",
            net,
        ])?;
        check!(on.contains(&format!("{}/24 {}/64", s.v4(3), s.v6("3"))), "{on}");
        check!(reaches(t, &a, &b)? && reaches(t, &b, &s.v6("2"))? && reaches(t, &a, &s.v6("1"))?, "no way");
        let hosts = t.ok(&["exec", &a, "cat", "/etc/hosts"])?;
        for line in ["::1\tlocalhost ip6-localhost ip6-loopback", "ff02::2\tip6-allrouters"] {
            check!(hosts.lines().any(|l| l == line), "{hosts}");
        }
        check!(hosts.lines().last().is_some_and(|l| l.starts_with(&format!("{}\t", s.v6("2")))), "{hosts}");
        let answers = t.ok(&["exec", &a, "nslookup", "-type=aaaa", &b])?;
        check!(answers.contains(&s.v6("3")), "{answers}");
        Ok(())
    })
}

fn chosen_subnets(t: &Ctx) -> Result<()> {
    with_network(t, &["--ipv6"], |net| {
        let shown = "{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}} {{end}}";
        let config = t.ok(&["network", "inspect", "-f", shown, net])?;
        let words: Vec<&str> = config.split_whitespace().collect();
        let [_, _, subnet, gateway] = words[..] else { anyhow::bail!("{config}") };
        // A /64 of unique local addresses (RFC 4193).
        check!(subnet.starts_with("fd") && subnet.ends_with("::/64"), "{config}");
        equal!(gateway, subnet.replace("/64", "1"));
        with_network(t, &["--ipv4=false", "--ipv6"], |other| {
            let again = t.ok(&["network", "inspect", "-f", shown, other])?;
            check!(again.starts_with("fd") && !again.contains(subnet), "{config} {again}");
            let common = |s: &str| s.split(':').take(3).collect::<Vec<_>>().join(":");
            equal!(common(&again), common(subnet));
            Ok(())
        })
    })?;
    // Asked for by an option; the flag goes before that.
    let option = ["-o", "com.docker.network.enable_ipv6=true"];
    let shown = "{{.EnableIPv6}} {{len .Options}}";
    with_network(t, &option, |net| {
        equal!(t.ok(&["network", "inspect", "-f", shown, net])?, "true 1");
        Ok(())
    })?;
    with_network(t, &[&["--ipv6=false"], &option[..]].concat(), |net| {
        equal!(t.ok(&["network", "inspect", "-f", shown, net])?, "false 0");
        Ok(())
    })
}

fn ipv6_only(t: &Ctx) -> Result<()> {
    let s = Subnets::new();
    with_network(t, &["--ipv4=false", "--ipv6", "--subnet", &s.v6], |net| {
        let (a, b) = (sleeper(t, "a", net, &[])?, sleeper(t, "b", net, &[])?);
        let of = "{{range .NetworkSettings.Networks}}[{{.IPAddress}}] [{{.Gateway}}] {{.IPPrefixLen}} {{.GlobalIPv6Address}}{{end}}";
        equal!(t.inspect(&a, of)?, format!("[] [] 0 {}", s.v6("2")));
        check!(reaches(t, &a, &b)?, "no way");
        let addresses = t.ok(&["exec", &a, "ip", "-4", "addr", "show", "eth0"])?;
        equal!(addresses.trim(), "");
        Ok(())
    })
}

fn refused_with_dockers_words(t: &Ctx) -> Result<()> {
    let s = Subnets::new();
    let name = t.name("x");
    let refused = |args: &[&str], text: &str| -> Result<()> {
        let all = [&["network", "create"], args, &[&name]].concat();
        t.client.run(&all)?.code(1)?.stderr_has(text).map(drop)
    };
    refused(&["--ipv4=false"], "IPv4 or IPv6 must be enabled")?;
    refused(
        &["--ipv6", "--subnet", "fd00:9::1/64"],
        "invalid subnet fd00:9::1/64: it should be fd00:9::/64",
    )?;
    refused(
        &["--ipv6", "--subnet", "fe80::/80"],
        "'fe80::1/80' clashes with the Link-Local prefix 'fe80::/64'",
    )?;
    refused(&["--ipv6", "--subnet", "ff02::/64"], "multicast subnet 'ff02::1/64' is not allowed")?;
    refused(
        &["--ipv6", "--subnet", "fd00:9::/128"],
        "failed to allocate gateway (): no available addresses on this pool",
    )?;
    refused(
        &["--ipv6", "--subnet", "fd00:9::/64", "--gateway", "fd00:9::"],
        "failed to allocate gateway (fd00:9::): Address already in use",
    )?;
    refused(
        &["--ipv6", "--subnet", "fd00:9::/64", "--aux-address", "a=fd00:9::1"],
        "failed to allocate secondary ip address (a:fd00:9::1): Address already in use",
    )?;
    refused(
        &["--ipv6", "--subnet", "fd00:9::/64", "--ip-range", "fd00:9::1/80"],
        "invalid ip-range fd00:9::1/80: it should be fd00:9::/80",
    )?;
    let two = ["--ipv6", "--subnet", "fd00:9::/64", "--subnet", "fd00:10::/64"];
    refused(&two, "bridge driver doesn't support multiple subnets")?;
    let mode = "com.docker.network.bridge.gateway_mode_ipv6";
    refused(&["-o", &format!("{mode}=foo")], "(unknown gateway mode foo)")?;
    let isolated = "gateway mode 'isolated' can only be used for an internal network";
    refused(&["-o", &format!("{mode}=isolated")], isolated)?;
    refused(
        &["-o", "com.docker.network.enable_ipv6=foo"],
        "driver-opt \"com.docker.network.enable_ipv6\" is not a valid bool",
    )?;
    with_network(t, &["--ipv6", "--subnet", &s.v6, "--subnet", &s.v4], |_| {
        let overlap = "invalid pool request: Pool overlaps with other one on this address space";
        refused(&["--ipv6", "--subnet", &s.v6], overlap)?;
        refused(&["--ipv6", "--subnet", &s.v6.replace("/64", "/80")], overlap)?;
        refused(
            &["--subnet", &s.v4, "--ip-range", &s.v4.replace("0/24", "128/25")],
            "networks have overlapping IPv4",
        )
    })?;
    let listed = t.ok(&["network", "ls", "--format", "{{.Name}}"])?;
    check!(!listed.lines().any(|l| l == name), "a network was made: {listed}");
    Ok(())
}

fn fixed_addresses_of_both_families(t: &Ctx) -> Result<()> {
    let s = Subnets::new();
    let range = s.v6("100/126");
    let aux = format!("printer={}", s.v6("101"));
    let options = [
        "--ipv6",
        "--subnet",
        &s.v6,
        "--subnet",
        &s.v4,
        "--gateway",
        &s.v6("f"),
        "--ip-range",
        &range,
        "--aux-address",
        &aux,
    ];
    with_network(t, &options, |net| {
        let six = "{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}} {{.IPv6Gateway}}{{end}}";
        let a = sleeper(t, "a", net, &[])?;
        equal!(t.inspect(&a, six)?, format!("{} {}", s.v6("100"), s.v6("f")));
        let b = sleeper(t, "b", net, &["--ip6", &s.v6("77"), "--ip", &s.v4(77)])?;
        equal!(t.inspect(&b, six)?, format!("{} {}", s.v6("77"), s.v6("f")));
        let c = sleeper(t, "c", net, &[])?;
        equal!(t.inspect(&c, six)?, format!("{} {}", s.v6("102"), s.v6("f")));
        // Dynamic ones go to the next who comes, fixed ones stay.
        t.ok(&["stop", "-t", "0", &a, &b])?;
        let d = sleeper(t, "d", net, &[])?;
        equal!(t.inspect(&d, six)?, format!("{} {}", s.v6("100"), s.v6("f")));
        t.ok(&["start", &b])?;
        equal!(t.inspect(&b, six)?, format!("{} {}", s.v6("77"), s.v6("f")));
        let refused = |option: &str, address: &str, text: &str| -> Result<()> {
            let run = t.client.run(&["run", "--rm", "--network", net, option, address, "busybox", "true"])?;
            run.code(125)?.stderr_has(text).map(drop)
        };
        for taken in ["77", "f", ""] {
            refused("--ip6", &s.v6(taken), "failed to set up container networking: Address already in use")?;
        }
        let outside = "no configured subnet or ip-range contain the IP address fd00:9::9";
        refused("--ip6", "fd00:9::9", &format!("invalid endpoint settings:\n{outside}"))?;
        refused("--ip6", "10.0.0.9", "* invalid IPv6 address: 10.0.0.9\n* no configured subnet")?;
        refused("--ip", "fd00:9::9", "* invalid IPv4 address: fd00:9::9\n* no configured subnet")?;
        let taken = t.client.run(&["network", "connect", "--ip6", &s.v6("77"), net, &d])?;
        taken.code(1)?;
        Ok(())
    })?;
    let configured = "user specified IP address is supported only when connecting to networks with user configured subnets";
    with_network(t, &["--ipv6"], |net| {
        let run =
            t.client.run(&["run", "--rm", "--network", net, "--ip6", "fd00:9::9", "busybox", "true"])?;
        run.code(125)?.stderr_has(configured).map(drop)
    })
}

fn link_local_addresses(t: &Ctx) -> Result<()> {
    let s = Subnets::new();
    with_network(t, &["--ipv6", "--subnet", &s.v6], |net| {
        let a = sleeper(t, "a", net, &["--link-local-ip", "169.254.9.9", "--link-local-ip", "fe80::9"])?;
        let addresses = t.ok(&["exec", &a, "ip", "addr", "show", "eth0"])?;
        check!(addresses.contains("169.254.9.9/16") && addresses.contains("fe80::9/64"), "{addresses}");
        let shown = "{{range .NetworkSettings.Networks}}{{.IPAMConfig.LinkLocalIPs}}{{end}}";
        equal!(t.inspect(&a, shown)?, "[169.254.9.9 fe80::9]");
        let wrong = ["run", "--rm", "--network", net, "--link-local-ip", "10.1.1.1", "busybox", "true"];
        let text = "failed to set up container networking: invalid link local IP address: 10.1.1.1";
        t.client.run(&wrong)?.code(125)?.stderr_has(text).map(drop)
    })
}

fn switched_off_in_a_container(t: &Ctx) -> Result<()> {
    with_network(t, &["--ipv6"], |net| {
        let a = sleeper(t, "a", net, &["--sysctl", "net.ipv6.conf.all.disable_ipv6=1"])?;
        let six = "{{range .NetworkSettings.Networks}}[{{.GlobalIPv6Address}}]{{end}}";
        equal!(t.inspect(&a, six)?, "[]");
        let hosts = t.ok(&["exec", &a, "cat", "/etc/hosts"])?;
        equal!(hosts.lines().count(), 2);
        check!(!hosts.contains("ip6-"), "{hosts}");
        Ok(())
    })
}

fn a_network_with_ipv6_becomes_the_way_out(t: &Ctx) -> Result<()> {
    let (plain, s) = (Subnets::new(), Subnets::new());
    with_network(t, &["--subnet", &plain.v4], |first| {
        with_network(t, &["--ipv6", "--subnet", &s.v6], |second| {
            let a = sleeper(t, "a", first, &[])?;
            let routes = |family: &str| t.ok(&["exec", &a, "ip", family, "route", "show", "default"]);
            check!(!routes("-6")?.contains("via"), "{}", routes("-6")?);
            t.ok(&["network", "connect", second, &a])?;
            check!(routes("-6")?.contains(&format!("via {} dev eth1", s.v6("1"))), "{}", routes("-6")?);
            // Both families are better than one.
            check!(routes("-4")?.contains("dev eth1"), "{}", routes("-4")?);
            t.ok(&["network", "disconnect", second, &a])?;
            check!(!routes("-6")?.contains("via"), "{}", routes("-6")?);
            check!(routes("-4")?.contains(&format!("via {} dev eth0", plain.v4(1))), "{}", routes("-4")?);
            Ok(())
        })
    })
}

fn isolated_and_internal(t: &Ctx) -> Result<()> {
    let s = Subnets::new();
    let modes = [
        "-o",
        "com.docker.network.bridge.gateway_mode_ipv4=isolated",
        "-o",
        "com.docker.network.bridge.gateway_mode_ipv6=isolated",
    ];
    let options = [&["--internal", "--ipv6", "--subnet", &s.v6, "--subnet", &s.v4], &modes[..]].concat();
    with_network(t, &options, |net| {
        let shown = "{{range .IPAM.Config}}[{{.Gateway}}]{{end}}";
        equal!(t.ok(&["network", "inspect", "-f", shown, net])?, "[][]");
        let (a, b) = (sleeper(t, "a", net, &[])?, sleeper(t, "b", net, &[])?);
        let six = "{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}} [{{.IPv6Gateway}}]{{end}}";
        // There is no router that would have the first one.
        equal!(t.inspect(&a, six)?, format!("{} []", s.v6("1")));
        check!(reaches(t, &a, &b)?, "no way");
        let id = t.ok(&["network", "inspect", "-f", "{{.Id}}", net])?;
        let device = format!("br-{}", &id[..12]);
        let addresses = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        check!(!addresses.lines().any(|l| l.ends_with(&device)), "{addresses}");
        Ok(())
    })?;
    let s = Subnets::new();
    with_network(t, &["--internal", "--ipv6", "--subnet", &s.v6], |net| {
        let a = sleeper(t, "a", net, &[])?;
        let gateways = "{{range .NetworkSettings.Networks}}[{{.Gateway}}] [{{.IPv6Gateway}}]{{end}}";
        equal!(t.inspect(&a, gateways)?, "[] []");
        let routes = t.ok(&["exec", &a, "ip", "-6", "route"])?;
        check!(!routes.contains("default"), "{routes}");
        Ok(())
    })
}

fn hosts_and_names_of_interfaces(t: &Ctx) -> Result<()> {
    let (s, other) = (Subnets::new(), Subnets::new());
    with_network(t, &["--ipv6", "--subnet", &s.v6, "--subnet", &s.v4], |first| {
        let prefix = ["-o", "com.docker.network.container_iface_prefix=lan"];
        with_network(t, &[&["--ipv6", "--subnet", &other.v6][..], &prefix].concat(), |second| {
            let a = sleeper(t, "a", first, &["--hostname", "me"])?;
            t.ok(&["network", "connect", second, &a])?;
            t.ok(&["exec", &a, "ip", "addr", "show", "lan0"])?;
            let own = || -> Result<Vec<String>> {
                let hosts = t.ok(&["exec", &a, "cat", "/etc/hosts"])?;
                let own = hosts.lines().filter(|l| l.ends_with("\tme")).filter_map(|l| l.split('\t').next());
                Ok(own.map(str::to_owned).collect())
            };
            check!(own()?.contains(&s.v6("2")) && own()?.contains(&other.v6("2")), "{:?}", own()?);
            t.ok(&["network", "disconnect", first, &a])?;
            let left = own()?;
            check!(left.len() == 2 && left.contains(&other.v6("2")), "{left:?}");
            let b = sleeper(t, "b", second, &[])?;
            t.ok(&["exec", &b, "ip", "addr", "show", "lan0"])?;
            Ok(())
        })
    })
}

fn published_on_ipv6(t: &Ctx) -> Result<()> {
    let s = Subnets::new();
    with_network(t, &["--ipv6", "--subnet", &s.v6], |net| {
        let name = t.name("web");
        t.ok(&[
            "run",
            "-d",
            "--name",
            &name,
            "--network",
            net,
            "-p",
            "[::1]::80",
            "busybox",
            "sh",
            "-c",
            "mkdir /w; echo hello >/w/index.html; exec httpd -f -p 80 -h /w",
        ])?;
        let port = t.ok(&["port", &name, "80"])?;
        let address: std::net::SocketAddr = port.trim().parse().with_context(|| port.clone())?;
        equal!(address.ip(), Ipv6Addr::LOCALHOST);
        http::get(address, Duration::from_secs(5))?;
        // By the container's own address, too.
        let own = t.inspect(&name, "{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end}}")?;
        http::get((own.parse::<Ipv6Addr>()?, 80).into(), Duration::from_secs(5))?;
        Ok(())
    })
}

fn default_bridge(t: &Ctx) -> Result<()> {
    let s = Subnets::new();
    let options = [
        "--ipv6",
        "--fixed-cidr-v6",
        &s.v6,
        "--default-network-opt",
        "bridge=com.docker.network.enable_ipv6=true",
    ];
    let daemon = Daemon::start_with(&t.settings, "bridge6", None, &options)?;
    let client = daemon.client()?;
    daemon::import_images(&t.settings, &client)?;
    let shown = "{{.EnableIPv6}} {{(index .IPAM.Config 1).Subnet}} {{(index .IPAM.Config 1).Gateway}}";
    equal!(
        client.ok(&["network", "inspect", "-f", shown, "bridge"])?,
        format!("true {} {}", s.v6, s.v6("1"))
    );
    client.ok(&["run", "-d", "--name", "aa", "busybox", "sleep", "1000"])?;
    let six = "{{.NetworkSettings.GlobalIPv6Address}} {{.NetworkSettings.IPv6Gateway}}";
    equal!(client.ok(&["inspect", "-f", six, "aa"])?, format!("{} {}", s.v6("2"), s.v6("1")));
    client.run(&["run", "--rm", "busybox", "ping", "-6", "-c", "1", "-w", "2", &s.v6("2")])?.code(0)?;
    client.ok(&["network", "create", "n1"])?;
    equal!(client.ok(&["network", "inspect", "-f", "{{.EnableIPv6}} {{len .Options}}", "n1"])?, "true 1");
    let fixed = client.run(&["run", "--rm", "--ip6", &s.v6("9"), "busybox", "true"])?;
    fixed.code(125)?.stderr_has("user specified IP address is supported on user defined networks only")?;
    client.ok(&["rm", "-f", "aa"])?;
    client.ok(&["network", "rm", "n1"])?;
    Ok(())
}

fn survives_kills(t: &Ctx) -> Result<()> {
    let s = Subnets::new();
    let daemon = Daemon::start(&t.settings, "kills6")?;
    let client = daemon.client()?;
    daemon::import_images(&t.settings, &client)?;
    client.ok(&["network", "create", "--ipv6", "--subnet", &s.v6, "n1"])?;
    for (name, address) in [("aa", &s.v6("2")), ("bb", &s.v6("b"))] {
        client.ok(&[
            "run",
            "-d",
            "--name",
            name,
            "--network",
            "n1",
            "--ip6",
            address,
            "busybox",
            "sleep",
            "1000",
        ])?;
    }
    let shown = |what: &str| client.ok(&["network", "inspect", "-f", what, "n1"]);
    let before = shown("{{json .}}")?;
    for _ in 0..2 {
        daemon.kill()?;
        daemon.up()?;
        equal!(shown("{{json .}}")?, before);
        client.run(&["exec", "aa", "ping", "-6", "-c", "1", "-w", "2", "bb"])?.code(0)?;
        // What is taken is known.
        let taken = ["run", "--rm", "--network", "n1", "--ip6", &s.v6("b"), "busybox", "true"];
        client.run(&taken)?.code(125)?.stderr_has("Address already in use")?;
        let next = ["run", "--rm", "--network", "n1", "busybox", "ip", "-6", "addr", "show", "eth0"];
        let next = client.ok(&next)?;
        check!(next.contains(&(s.v6("3") + "/64")), "{next}");
    }
    client.ok(&["rm", "-f", "aa", "bb"])?;
    client.ok(&["network", "rm", "n1"])?;
    Ok(())
}

fn pools_are_spent(t: &Ctx) -> Result<()> {
    // Of the addresses for measurements (RFC 2544), and of this run.
    let (v4, v6) = (format!("198.18.{}", run() % 256), format!("fd00:{:x}:fffe", run()));
    let (base4, base6) = (format!("base={v4}.0/29,size=30"), format!("base={v6}::/63,size=64"));
    let pools = ["--default-address-pool", &base4, "--default-address-pool", &base6];
    let daemon = Daemon::start_with(&t.settings, "pools6", None, &pools)?;
    let client = daemon.client()?;
    let spent = "all predefined address pools have been fully subnetted";
    for name in ["n1", "n2"] {
        client.ok(&["network", "create", "--ipv6", name])?;
    }
    let shown = "{{range .IPAM.Config}}{{.Subnet}} {{end}}";
    equal!(client.ok(&["network", "inspect", "-f", shown, "n2"])?.trim(), format!("{v4}.4/30 {v6}:1::/64"));
    client.run(&["network", "create", "n3"])?.code(1)?.stderr_has(spent)?;
    client.run(&["network", "create", "--ipv4=false", "--ipv6", "n3"])?.code(1)?.stderr_has(spent)?;
    // Gaps are filled.
    client.ok(&["network", "rm", "n1"])?;
    client.ok(&["network", "create", "--ipv6", "n3"])?;
    equal!(client.ok(&["network", "inspect", "-f", shown, "n3"])?.trim(), format!("{v4}.0/30 {v6}::/64"));
    client.ok(&["network", "rm", "n2", "n3"])?;
    Ok(())
}

fn hundreds_from_a_wide_pool(t: &Ctx) -> Result<()> {
    const NETWORKS: usize = 200;
    let pools = ["--default-address-pool", "base=198.19.0.0/16,size=28"];
    let daemon = Daemon::start_with(&t.settings, "wide6", None, &pools)?;
    let client = daemon.client()?;
    let socket = daemon.socket();
    let begin = Instant::now();
    for n in 0..NETWORKS {
        let body = format!(r#"{{"Name":"net{n}","EnableIPv6":true}}"#);
        let answer = http::request(&socket, "POST", "/v1.47/networks/create", Some(body.as_bytes()))?;
        answer.status(201)?;
    }
    let each = begin.elapsed() / u32::try_from(NETWORKS)?;
    check!(each < Duration::from_millis(100), "{each:?} for each network");
    let shown = "{{(index .IPAM.Config 0).Subnet}}";
    let last = client.ok(&["network", "inspect", "-f", shown, "net199"])?;
    check!(last.starts_with("198.19.") && last.ends_with("/28"), "{last}");
    client.ok(&["network", "prune", "-f"])?;
    equal!(client.ok(&["network", "ls", "-q", "--filter", "type=custom"])?, "");
    Ok(())
}

fn foreign_bridges_stay(t: &Ctx) -> Result<()> {
    let s = Subnets::new();
    let daemon = Daemon::start(&t.settings, "foreign6")?;
    let client = daemon.client()?;
    let device = format!("fy6{}", std::process::id() % 100_000);
    let ip = |args: &[&str]| std::process::Command::new("ip").args(args).status();
    if !ip(&["link", "add", &device, "type", "bridge"]).is_ok_and(|s| s.success()) {
        return crate::harness::skip("needs iproute2");
    }
    let act = || -> Result<()> {
        let option = format!("com.docker.network.bridge.name={device}");
        client.ok(&["network", "create", "--subnet", &s.v4, "-o", &option, "n1"])?;
        daemon.kill()?;
        daemon.up()?;
        let again = client.run(&["network", "create", "-o", &option, "n2"])?;
        again.code(1)?.stderr_has("networks have same bridge name")?;
        client.ok(&["network", "rm", "n1"])?;
        check!(fs::exists(format!("/sys/class/net/{device}"))?, "{device} is gone");
        client
            .run(&["network", "create", "-o", "com.docker.network.bridge.name=lo", "n2"])?
            .code(1)?
            .stderr_has("existing interface lo is not a bridge")?;
        Ok(())
    };
    let outcome = act();
    let _ = ip(&["link", "del", &device]);
    outcome
}
