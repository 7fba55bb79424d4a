//! The firewall's modes, large ranges, and published ports that move to another network.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{cases, check, equal};
use crate::harness::client::Client;
use crate::harness::daemon::{self, Daemon};
use crate::harness::{Case, Ctx, eventually, process, skip};

pub fn cases() -> Vec<Case> {
    let mut all = cases!(
        "firewall",
        Nothing,
        [the_hosts_input_rules_apply_when_asked_for, the_table_stays, no_rules_at_all, bad_settings]
    );
    all.extend(cases!(
        "firewall",
        EachClient,
        [ports_follow_the_gateway_network, ten_thousand_ports, conflicts_in_a_large_range, sctp]
    ));
    all
}

/// A port nobody listens on.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port())
}

/// A subnet for one network, from none of the pools, which others may have used up.
fn free_subnet() -> String {
    use std::sync::atomic::{AtomicU8, Ordering};
    static NEXT: AtomicU8 = AtomicU8::new(0);
    format!("10.222.240.{}/28", NEXT.fetch_add(16, Ordering::Relaxed))
}

fn says(address: SocketAddr) -> Result<String> {
    use std::io::Read;
    let mut stream =
        TcpStream::connect_timeout(&address, Duration::from_secs(2)).with_context(|| address.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

fn answers(address: impl Into<SocketAddr>, text: &str) -> Result<()> {
    let address = address.into();
    eventually(&format!("{address} answers"), Duration::from_secs(10), || Ok(says(address)? == text))
}

/// Starts a container that says `hello` on its port 80.
fn greet(client: &Client, options: &[&str]) -> Result<String> {
    let serve = ["busybox", "sh", "-c", "while :; do echo hello | nc -l -p 80; done"];
    client.ok(&[&["run", "-d"], options, &serve].concat())
}

fn engine(t: &Ctx, options: &[&str]) -> Result<(Daemon, Client)> {
    let daemon = Daemon::start_with(&t.settings, "firewall", None, options)?;
    let client = daemon.client()?;
    daemon::import_images(&t.settings, &client)?;
    Ok((daemon, client))
}

fn finished(daemon: Daemon) -> Result<()> {
    let problems = daemon.finish();
    check!(problems.is_empty(), "{problems:?}");
    Ok(())
}

fn run(line: &str) -> Result<String> {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    process::ok(command)
}

fn installed(name: &str) -> bool {
    Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// A machine beside the host: a network namespace that lives as long as this.
struct Neighbour {
    holder: Child,
    link: String,
    /// The host's address towards it.
    host: Ipv4Addr,
}

impl Neighbour {
    fn new() -> Result<Self> {
        let number = std::process::id() % 60;
        let (host, own) = (
            Ipv4Addr::new(198, 51, 100, 4 * number as u8 + 1),
            Ipv4Addr::new(198, 51, 100, 4 * number as u8 + 2),
        );
        let holder = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn()?;
        let link = format!("ftn{}", std::process::id() % 1_000_000);
        let this = Self { holder, link, host };
        let pid = this.holder.id();
        eventually("the neighbour has a namespace", Duration::from_secs(5), || {
            Ok(std::fs::read_link(format!("/proc/{pid}/ns/net"))? != std::fs::read_link("/proc/self/ns/net")?)
        })?;
        run(&format!("ip link add {} type veth peer name eth0 netns {pid}", this.link))?;
        run(&format!("ip address add {host}/30 dev {}", this.link))?;
        run(&format!("ip link set {} up", this.link))?;
        for command in [&format!("ip address add {own}/30 dev eth0"), "ip link set eth0 up"] {
            run(&format!("nsenter -n -t {pid} {command}"))?;
        }
        Ok(this)
    }

    /// What it is told by a port of the host.
    fn asks(&self, port: u16) -> Result<String> {
        let script = format!("exec 3<>/dev/tcp/{}/{port} && cat <&3", self.host);
        let mut command = Command::new("nsenter");
        command.args(["-n", "-t", &self.holder.id().to_string(), "timeout", "2", "bash", "-c", &script]);
        Ok(process::run(command)?.stdout.trim().to_owned())
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        let _ = run(&format!("ip link delete {}", self.link));
    }
}

/// A table of the host's administrator; it goes with this.
struct AdminTable(String);

impl AdminTable {
    fn new(link: &str, rule: &str) -> Result<Self> {
        let name = format!("admin-{link}");
        run(&format!("nft add table inet {name}"))?;
        let this = Self(name);
        run(&format!("nft add chain inet {} input {{ type filter hook input priority 0 ; }}", this.0))?;
        run(&format!("nft add rule inet {} input iifname {link} {rule}", this.0))?;
        Ok(this)
    }
}

impl Drop for AdminTable {
    fn drop(&mut self) {
        let _ = run(&format!("nft delete table inet {}", self.0));
    }
}

fn the_hosts_input_rules_apply_when_asked_for(t: &Ctx) -> Result<()> {
    if !installed("nft") || !installed("nsenter") {
        return skip("nft or nsenter is not installed");
    }
    let (daemon, client) = engine(t, &["--publish=respect-host-firewall"])?;
    let neighbour = Neighbour::new()?;
    let port = free_port()?;
    greet(&client, &["-p", &format!("{port}:80")])?;
    answers((Ipv4Addr::LOCALHOST, port), "hello")?;
    answers((Ipv6Addr::LOCALHOST, port), "hello")?;
    let served = || Ok(neighbour.asks(port)? == "hello");
    eventually("the neighbour is served", Duration::from_secs(10), served)?;
    let drop_it = AdminTable::new(&neighbour.link, &format!("tcp dport {port} drop"))?;
    equal!(neighbour.asks(port)?, "");
    answers((Ipv4Addr::LOCALHOST, port), "hello")?;
    drop(drop_it);
    let _accept_it = AdminTable::new(&neighbour.link, &format!("tcp dport {port} accept"))?;
    eventually("the neighbour is served again", Duration::from_secs(10), served)?;
    // What no relay can serve is refused, instead of being open or dead.
    let many = client.run(&["run", "-d", "-p", "23000-23060:23000-23060", "busybox", "sleep", "9"])?;
    many.code(125)?.stderr_has("it would need a relay")?;
    check!(daemon.log_tail().contains("ready"), "{}", daemon.log_tail());
    finished(daemon)
}

fn the_table_stays(t: &Ctx) -> Result<()> {
    if !installed("nft") {
        return skip("nft is not installed");
    }
    let (daemon, client) = engine(t, &[])?;
    let port = free_port()?;
    greet(&client, &["-p", &format!("{port}:80")])?;
    answers((Ipv4Addr::LOCALHOST, port), "hello")?;
    let table = format!("inet ferry-{}", daemon.bridge);
    // Refused, or repaired, depending on the kernel.
    let deleted = run(&format!("nft delete table {table}")).is_ok();
    let began = Instant::now();
    eventually("the table is there", Duration::from_secs(1), || {
        Ok(run(&format!("nft list table {table}"))?.contains(&port.to_string()))
    })?;
    check!(!deleted || began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    answers((Ipv4Addr::LOCALHOST, port), "hello")?;
    // It outlives a daemon that is killed, and the next one keeps it.
    daemon.kill()?;
    answers((Ipv4Addr::LOCALHOST, port), "hello")?;
    daemon.up()?;
    answers((Ipv4Addr::LOCALHOST, port), "hello")?;
    equal!(client.ok(&["info", "-f", "{{.FirewallBackend.Driver}}"])?, "nftables");
    finished(daemon)
}

fn no_rules_at_all(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t, &["--iptables=false", "--ip6tables=false"])?;
    equal!(client.ok(&["info", "-f", "{{.FirewallBackend.Driver}}"])?, "none");
    let port = free_port()?;
    greet(&client, &["-p", &format!("{port}:80")])?;
    for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()] {
        answers(address, "hello")?;
    }
    if installed("nft") {
        let table = format!("ferry-{}", daemon.bridge);
        check!(!run("nft list tables")?.contains(&table), "there is a table");
    }
    finished(daemon)
}

fn bad_settings(t: &Ctx) -> Result<()> {
    for (flags, said) in [
        (&["--publish=closed"][..], "invalid publish: \"closed\""),
        (&["--firewall-backend=pf"], "invalid firewall-backend: \"pf\""),
        (&["--iptables=false", "--userland-proxy=false"], "need userland-proxy"),
        (&["--publish=respect-host-firewall", "--userland-proxy=false"], "needs userland-proxy"),
    ] {
        let mut command = Command::new(t.settings.ferry());
        command.args(["daemon", "--validate"]).args(flags);
        process::run(command)?.code(1)?.stderr_has(said)?;
    }
    Ok(())
}

fn ports_follow_the_gateway_network(t: &Ctx) -> Result<()> {
    let (one, two, inner, name) = (t.name("one"), t.name("two"), t.name("inner"), t.name("x"));
    let outcome = follow(t, [&one, &two, &inner], &name);
    let removed = t.client.run(&["rm", "-f", &name])?;
    let networks = t.client.run(&["network", "rm", &one, &two, &inner])?;
    outcome?;
    removed.code(0)?;
    networks.code(0).map(drop)
}

fn follow(t: &Ctx, [one, two, inner]: [&str; 3], name: &str) -> Result<()> {
    for (network, option) in [(one, None), (two, None), (inner, Some("--internal"))] {
        let subnet = free_subnet();
        let args = ["network", "create", "--subnet", &subnet, network];
        t.ok(&args.into_iter().chain(option).collect::<Vec<_>>())?;
    }
    let port = free_port()?;
    greet(&t.client, &["--name", name, "--network", one, "-p", &format!("{port}:80")])?;
    let published = format!("80/tcp -> 0.0.0.0:{port}\n80/tcp -> [::]:{port}");
    let served = || -> Result<()> {
        equal!(t.ok(&["port", name])?, published);
        answers((Ipv4Addr::LOCALHOST, port), "hello")?;
        answers((Ipv6Addr::LOCALHOST, port), "hello")
    };
    served()?;
    t.ok(&["network", "connect", "--gw-priority", "5", two, name])?;
    served()?;
    t.ok(&["network", "disconnect", one, name])?;
    served()?;
    // Nothing leads to the outside any more.
    t.ok(&["network", "connect", inner, name])?;
    t.ok(&["network", "disconnect", two, name])?;
    equal!(t.ok(&["port", name])?, "");
    check!(says((Ipv4Addr::LOCALHOST, port).into()).is_err(), "the port is still published");
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).context("the port is not free")?;
    t.ok(&["network", "connect", one, name])?;
    served()?;
    // A port that somebody took in between.
    t.ok(&["network", "disconnect", one, name])?;
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    t.client.run(&["network", "connect", one, name])?.code(1)?.stderr_has("address already in use")?;
    drop(taken);
    equal!(t.inspect(name, "{{.State.Running}}")?, "true");
    Ok(())
}

fn ten_thousand_ports(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    let serve = "nc -l -p 29999 -e echo last & nc -l -p 20000 -e echo first & wait";
    let began = Instant::now();
    t.ok(&["run", "-d", "--name", &name, "-p", "20000-29999:20000-29999", "busybox", "sh", "-c", serve])?;
    // An optimised engine takes a tenth of it.
    check!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    answers((Ipv4Addr::LOCALHOST, 29_999), "last")?;
    answers((Ipv4Addr::LOCALHOST, 20_000), "first")?;
    let shown = t.ok(&["ps", "--filter", &format!("name={name}"), "--format", "{{.Ports}}"])?;
    check!(shown.contains("0.0.0.0:20000-29999->20000-29999/tcp"), "{shown}");
    t.ok(&["rm", "-f", &name])?;
    check!(says((Ipv4Addr::LOCALHOST, 29_999).into()).is_err(), "still published");
    Ok(())
}

fn conflicts_in_a_large_range(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    // Far behind what sockets are held for.
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = taken.local_addr()?.port();
    let first = port - 300;
    let range = format!("{first}-{port}:{first}-{port}");
    let args = ["run", "-d", "--name", &name, "-p", &range, "busybox", "sleep", "9"];
    let refused = t.client.run(&args)?;
    refused.code(125)?.stderr_has("address already in use")?;
    equal!(t.inspect(&name, "{{.State.Status}}")?, "created");
    Ok(())
}

fn sctp(t: &Ctx) -> Result<()> {
    let known = std::fs::read_to_string("/proc/net/protocols").is_ok_and(|p| p.contains("SCTP"));
    let (name, port) = (t.name("x"), free_port()?);
    let publish = format!("{port}:80/sctp");
    let args = ["run", "-d", "--name", &name, "-p", &publish, "busybox", "sleep", "100"];
    if !known {
        t.client.run(&args)?.code(125)?.stderr_has("protocol not supported")?;
        return skip("the kernel has no sctp; that this is said was tried");
    }
    t.ok(&args)?;
    equal!(t.ok(&["port", &name])?, format!("80/sctp -> 0.0.0.0:{port}"));
    Ok(())
}
