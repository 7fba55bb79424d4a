//! Published ports.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{cases, check, equal};
use crate::harness::{Case, Ctx, eventually, process, skip};

pub fn cases() -> Vec<Case> {
    let mut all = cases!(
        "ports",
        Engine,
        [
            tcp_on_loopback,
            tcp_on_the_hosts_address,
            tcp_on_ipv6,
            udp,
            udp_on_ipv6,
            ranges,
            on_one_address_only,
            from_another_container,
            from_itself,
            large_transfers,
            addresses_of_clients_are_kept,
            names_resolve_and_the_outside_answers,
        ]
    );
    all.extend(cases!(
        "ports",
        EachClient,
        [chosen_by_the_engine, shown_in_ps, conflict, freed_with_the_container, bad_values]
    ));
    all
}

/// A port nobody listens on, and no other test is given.
fn free_port() -> Result<u16> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    for _ in 0..1000 {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
            && UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
        if free {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port")
}

/// A container that answers every connection to its port 80 with a text.
fn greeter(t: &Ctx, what: &str, publish: &[&str], text: &str) -> Result<String> {
    let name = t.name(what);
    let serve = format!("while :; do echo '{text}' | nc -l -p 80; done");
    let mut args = vec!["run", "-d", "--name", &name];
    for port in publish {
        args.extend(["-p", port]);
    }
    args.extend(["busybox", "sh", "-c", &serve]);
    t.ok(&args)?;
    Ok(name)
}

/// What a server says to a new connection.
fn greeting(addr: SocketAddr) -> Result<String> {
    let mut stream =
        TcpStream::connect_timeout(&addr, Duration::from_secs(2)).with_context(|| addr.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

/// Tries for a while: the server in the container needs a moment to start and between connections.
fn answers(addr: SocketAddr, text: &str) -> Result<()> {
    eventually(&format!("{addr} answers"), Duration::from_secs(10), || Ok(greeting(addr)? == text))
}

/// The host's addresses that others reach it by.
fn host_addresses() -> Result<Vec<IpAddr>> {
    let mut command = Command::new("ip");
    command.args(["-o", "address", "show", "scope", "global"]);
    let text = process::ok(command)?;
    Ok(text
        .lines()
        .filter(|line| !line.contains("ferry") && !line.contains(": ft") && !line.contains(": docker"))
        .filter_map(|line| line.split_whitespace().nth(3)?.split('/').next()?.parse().ok())
        .collect())
}

fn tcp_on_loopback(t: &Ctx) -> Result<()> {
    let port = free_port()?;
    greeter(t, "x", &[&format!("{port}:80")], "hello")?;
    answers((Ipv4Addr::LOCALHOST, port).into(), "hello")?;
    answers((Ipv4Addr::new(127, 0, 0, 53), port).into(), "hello")
}

fn tcp_on_the_hosts_address(t: &Ctx) -> Result<()> {
    let Some(address) = host_addresses()?.into_iter().find(IpAddr::is_ipv4) else {
        return skip("the host has no IPv4 address but loopback");
    };
    let port = free_port()?;
    greeter(t, "x", &[&format!("{port}:80")], "hello")?;
    answers((address, port).into(), "hello")
}

fn tcp_on_ipv6(t: &Ctx) -> Result<()> {
    let port = free_port()?;
    greeter(t, "x", &[&format!("{port}:80")], "hello")?;
    answers((Ipv6Addr::LOCALHOST, port).into(), "hello")?;
    if let Some(address) = host_addresses()?.into_iter().find(IpAddr::is_ipv6) {
        answers((address, port).into(), "hello")?;
    }
    Ok(())
}

/// A container that sends every datagram back, and the published port.
fn udp_echo(t: &Ctx, what: &str) -> Result<u16> {
    let port = free_port()?;
    let name = t.name(what);
    let publish = format!("{port}:7/udp");
    t.ok(&["run", "-d", "--name", &name, "-p", &publish, "busybox", "udp-echo", "7"])?;
    Ok(port)
}

fn udp_answers(addr: SocketAddr) -> Result<()> {
    eventually(&format!("{addr} answers"), Duration::from_secs(12), || {
        let any: SocketAddr = if addr.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        socket.send_to(b"ping", addr)?;
        let mut buffer = [0; 16];
        let (length, from) = socket.recv_from(&mut buffer)?;
        Ok(&buffer[..length] == b"ping" && from == addr)
    })
}

fn udp(t: &Ctx) -> Result<()> {
    udp_answers((Ipv4Addr::LOCALHOST, udp_echo(t, "x")?).into())
}

fn udp_on_ipv6(t: &Ctx) -> Result<()> {
    udp_answers((Ipv6Addr::LOCALHOST, udp_echo(t, "x")?).into())
}

fn ranges(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    let base = 21_500 + u16::try_from(std::process::id() % 900)? * 10;
    // The same numbers on both sides are shown as a range; other numbers are not, in any Docker.
    let script = "for p in 0 1 2; do (while :; do echo $p | nc -l -p $(($0 + p)); done) & done; wait";
    let publish = format!("127.0.0.1:{base}-{0}:{base}-{0}", base + 2);
    t.ok(&["run", "-d", "--name", &name, "-p", &publish, "busybox", "sh", "-c", script, &base.to_string()])?;
    for offset in 0..3 {
        answers((Ipv4Addr::LOCALHOST, base + offset).into(), &offset.to_string())?;
    }
    let shown = t.ok(&["ps", "--filter", &format!("name={name}"), "--format", "{{.Ports}}"])?;
    equal!(shown, format!("127.0.0.1:{base}-{0}->{base}-{0}/tcp", base + 2));
    Ok(())
}

fn on_one_address_only(t: &Ctx) -> Result<()> {
    let port = free_port()?;
    greeter(t, "x", &[&format!("127.0.0.1:{port}:80")], "hello")?;
    answers((Ipv4Addr::LOCALHOST, port).into(), "hello")?;
    for address in host_addresses()? {
        check!(greeting((address, port).into()).is_err(), "{address} answers as well");
    }
    Ok(())
}

fn from_another_container(t: &Ctx) -> Result<()> {
    let port = free_port()?;
    let server = greeter(t, "server", &[&format!("{port}:80")], "hello")?;
    let gateway = t.inspect(&server, "{{.NetworkSettings.Gateway}}")?;
    let mut targets = vec![gateway];
    targets.extend(host_addresses()?.into_iter().filter(IpAddr::is_ipv4).map(|address| address.to_string()));
    for target in targets {
        eventually(&format!("{target}:{port} answers in a container"), Duration::from_secs(10), || {
            let output =
                t.client.run(&["run", "--rm", "busybox", "nc", "-w", "2", &target, &port.to_string()])?;
            Ok(output.stdout.trim() == "hello")
        })?;
    }
    Ok(())
}

fn from_itself(t: &Ctx) -> Result<()> {
    let port = free_port()?;
    let name = greeter(t, "x", &[&format!("{port}:80")], "hello")?;
    let gateway = t.inspect(&name, "{{.NetworkSettings.Gateway}}")?;
    eventually("the container reaches itself by its published port", Duration::from_secs(10), || {
        let output = t.client.run(&["exec", &name, "nc", "-w", "2", &gateway, &port.to_string()])?;
        Ok(output.stdout.trim() == "hello")
    })
}

fn large_transfers(t: &Ctx) -> Result<()> {
    const SIZE: usize = 64 << 20;
    let port = free_port()?;
    let name = t.name("x");
    let serve = format!("while :; do head -c {SIZE} /dev/zero | nc -l -p 80; done");
    t.ok(&["run", "-d", "--name", &name, "-p", &format!("{port}:80"), "busybox", "sh", "-c", &serve])?;
    for addr in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()] {
        eventually(&format!("all comes over {addr}"), Duration::from_secs(30), || {
            let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(2))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"\n")?;
            let mut buffer = vec![0; 1 << 16];
            let mut total = 0;
            while total < SIZE {
                match stream.read(&mut buffer)? {
                    0 => break,
                    length => total += length,
                }
            }
            Ok(total == SIZE)
        })?;
    }
    Ok(())
}

fn addresses_of_clients_are_kept(t: &Ctx) -> Result<()> {
    // From another container, over the published port of the bridge's address, the server sees the
    // client's own address or, where it would answer past the host, the bridge's.
    let port = free_port()?;
    let (server, client) = (t.name("server"), t.name("client"));
    let serve = "while :; do nc -l -p 80 -e sh -c 'netstat -tn | grep :80 | tail -n 1'; done";
    t.ok(&["run", "-d", "--name", &server, "-p", &format!("{port}:80"), "busybox", "sh", "-c", serve])?;
    t.ok(&["run", "-d", "--name", &client, "busybox", "sleep", "1000"])?;
    let gateway = t.inspect(&server, "{{.NetworkSettings.Gateway}}")?;
    let own = t.inspect(&client, "{{.NetworkSettings.IPAddress}}")?;
    eventually("the server sees a client", Duration::from_secs(10), || {
        let seen = t.client.run(&["exec", &client, "nc", "-w", "2", &gateway, &port.to_string()])?.stdout;
        Ok(seen.contains(&own) || seen.contains(&format!("{gateway}:")))
    })
}

fn names_resolve_and_the_outside_answers(t: &Ctx) -> Result<()> {
    let resolv = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let Some(server) = resolv.lines().find_map(|line| line.strip_prefix("nameserver ")).map(str::trim) else {
        return skip("the host has no name server");
    };
    if server.starts_with("127.") || server.contains(':') {
        return skip("the host's name server cannot be reached from another network namespace");
    }
    let mut command = Command::new("getent");
    command.args(["ahostsv4", "deb.debian.org"]);
    if process::run(command)?.code != 0 {
        return skip("the host resolves no public names");
    }
    let output = t.client.run(&["run", "--rm", "busybox", "nslookup", "deb.debian.org"])?;
    output.code(0)?;
    Ok(())
}

fn chosen_by_the_engine(t: &Ctx) -> Result<()> {
    let name = greeter(t, "x", &["80"], "hello")?;
    let shown = t.ok(&["port", &name, "80/tcp"])?;
    let port: u16 =
        shown.lines().next().and_then(|line| line.rsplit(':').next()).unwrap_or_default().parse()?;
    check!(port >= 32_768, "port {port}");
    answers((Ipv4Addr::LOCALHOST, port).into(), "hello")?;
    equal!(
        t.inspect(&name, "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}")?,
        port.to_string()
    );
    Ok(())
}

fn shown_in_ps(t: &Ctx) -> Result<()> {
    let port = free_port()?;
    let name = greeter(t, "x", &[&format!("{port}:80"), &format!("127.0.0.1:{port}:90/udp")], "hello")?;
    let shown = t.ok(&["ps", "--filter", &format!("name={name}"), "--format", "{{.Ports}}"])?;
    equal!(shown, format!("0.0.0.0:{port}->80/tcp, [::]:{port}->80/tcp, 127.0.0.1:{port}->90/udp"));
    equal!(t.ok(&["port", &name, "80"])?, format!("0.0.0.0:{port}\n[::]:{port}"));
    Ok(())
}

fn conflict(t: &Ctx) -> Result<()> {
    let port = free_port()?;
    greeter(t, "one", &[&format!("{port}:80")], "hello")?;
    let two = t.name("two");
    let args = ["run", "-d", "--name", &two, "-p", &format!("{port}:80"), "busybox", "sleep", "1"];
    t.client.run(&args)?.code(125)?.stderr_has("port is already allocated")?;
    // It was created but does not run, as with Docker, and can be removed.
    equal!(t.inspect(&two, "{{.State.Status}}")?, "created");
    t.ok(&["rm", &two])?;
    // A port that a program of the host has.
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    let args = ["run", "-d", "--name", &two, "-p", &format!("{port}:80"), "busybox", "sleep", "1"];
    t.client.run(&args)?.code(125)?.stderr_has("address already in use")?;
    t.ok(&["rm", "-f", &two])?;
    Ok(())
}

fn freed_with_the_container(t: &Ctx) -> Result<()> {
    let port = free_port()?;
    for round in ["one", "two", "three"] {
        let name = greeter(t, round, &[&format!("{port}:80")], round)?;
        answers((Ipv4Addr::LOCALHOST, port).into(), round)?;
        t.ok(&["rm", "-f", &name])?;
        check!(greeting((Ipv4Addr::LOCALHOST, port).into()).is_err(), "the port still answers");
    }
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).context("the port is still taken")?;
    Ok(())
}

fn bad_values(t: &Ctx) -> Result<()> {
    for (value, message) in [
        ("99999:80", "nvalid hostPort: 99999"),
        ("80:abc", "nvalid containerPort: abc"),
        ("8000-8002:80-81", "nvalid ranges specified for container and host Ports"),
        ("1.2.3:80:80", " address: 1.2.3"),
        ("80:80/icmp", "nvalid proto: icmp"),
    ] {
        t.client.run(&["run", "--rm", "-p", value, "busybox", "true"])?.code(125)?.stderr_has(message)?;
    }
    Ok(())
}
