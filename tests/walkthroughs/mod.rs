//! Whole programs from Debian in containers, used as a course in Docker uses them: the commands are those
//! its readers type, with paths and ports of our own.

mod cluster;
mod database;
mod haproxy;
mod networks;
mod redis;
mod scenes;
mod tomcat;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::{cases, check, equal};
use crate::harness::process::Running;
use crate::harness::{Case, Ctx, eventually, http, skip};

pub fn cases() -> Vec<Case> {
    [
        cases!("walkthrough", Engine, [debian, redis_and_nginx]),
        database::cases(),
        redis::cases(),
        cluster::cases(),
        tomcat::cases(),
        scenes::cases(),
        networks::cases(),
        haproxy::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn debian(t: &Ctx) -> Result<()> {
    let image = t.debian()?;
    let output = t.client.run(&["run", "--rm", image, "cat", "/etc/os-release"])?;
    output.code(0)?.stdout_has("ID=debian")?;
    equal!(t.ok(&["run", "--rm", image, "sh", "-c", "dpkg -l | grep -c ^ii >/dev/null && id -un"])?, "root");
    equal!(t.ok(&["run", "--rm", image, "bash", "-c", "echo $((2**10))"])?, "1024");
    Ok(())
}

/// Installs packages in a container of Debian and commits it as `image`; skipped when the archive
/// cannot be reached from a container.
fn install(t: &Ctx, packages: &str, image: &str) -> Result<()> {
    let base = t.debian()?;
    let name = t.name("setup");
    let script = format!(
        "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends {packages}"
    );
    let output = t
        .client
        .start(&["run", "--name", &name, base, "sh", "-c", &script])?
        .finish(Duration::from_secs(300))?;
    if output.code != 0 && reaches_archive_only_from_host(&format!("{}{}", output.stdout, output.stderr)) {
        return skip("the Debian archive cannot be reached from a container");
    }
    output.code(0)?;
    t.ok(&["commit", &name, image])?;
    Ok(())
}

/// A directory for `-v`, and the argument that mounts it.
fn directory(t: &Ctx, what: &str, at: &str) -> Result<(PathBuf, String)> {
    let dir = t.path(what);
    std::fs::create_dir_all(&dir)?;
    let argument = format!("{}:{at}", dir.display());
    Ok((dir, argument))
}

/// Whether apt failed because of names or routes. That is a fault of ours unless the host itself
/// cannot reach its archive.
fn reaches_archive_only_from_host(text: &str) -> bool {
    let unreachable =
        ["Temporary failure resolving", "Could not resolve", "Could not connect", "Unable to connect"];
    let host = Command::new("apt-get").args(["update", "-q"]).output();
    let host_works = host.is_ok_and(|output| {
        output.status.success() && !String::from_utf8_lossy(&output.stderr).contains("Failed")
    });
    unreachable.iter().any(|part| text.contains(part)) && !host_works
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port())
}

fn redis_and_nginx(t: &Ctx) -> Result<()> {
    install(t, "redis-server nginx-light", "test/servers")?;
    let outcome = redis_from_packages(t).and_then(|()| nginx(t));
    t.client.run(&["rmi", "-f", "test/servers"])?;
    outcome
}

fn redis_from_packages(t: &Ctx) -> Result<()> {
    let (name, port) = (t.name("redis"), free_port()?);
    let args = ["run", "-d", "--name", &name, "-p", &format!("{port}:6379"), "test/servers"];
    t.ok(&[args.as_slice(), &["redis-server", "--protected-mode", "no", "--save", ""]].concat())?;
    eventually("redis answers", Duration::from_secs(10), || {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &port.to_string(), "ping"]);
        Ok(Running::start(command, None)?.finish(Duration::from_secs(5))?.stdout.trim() == "PONG")
    })?;
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &port.to_string(), "-n", "20000", "-c", "50", "-t", "set,get,lpush,mset", "--csv"]);
    let output = Running::start(command, None)?.finish(Duration::from_secs(120))?;
    output.code(0)?;
    for test in ["SET", "GET", "LPUSH", "MSET"] {
        let line = output.stdout.lines().find(|line| line.starts_with(&format!("\"{test}")));
        let rate: f64 = line.and_then(|line| line.split('"').nth(3)?.parse().ok()).unwrap_or(0.0);
        check!(rate > 1000.0, "{test}: {rate} requests a second\n{output}");
    }
    check!(t.ok(&["logs", &name])?.contains("Ready to accept connections"), "its log is not in logs");
    // It saves and says goodbye when it is asked to end.
    t.ok(&["stop", &name])?;
    equal!(t.inspect(&name, "{{.State.ExitCode}}")?, "0");
    check!(t.ok(&["logs", "--tail", "3", &name])?.contains("bye bye"), "redis did not end in peace");
    Ok(())
}

fn nginx(t: &Ctx) -> Result<()> {
    let (name, port) = (t.name("nginx"), free_port()?);
    let dir = t.path("www");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("index.html"), "served from a volume\n")?;
    let volume = format!("{}:/var/www/html:ro", dir.display());
    t.ok(&[
        "run",
        "-d",
        "--name",
        &name,
        "-p",
        &format!("{port}:80"),
        "-v",
        &volume,
        "test/servers",
        "nginx",
        "-g",
        "daemon off;",
    ])?;
    let body = http::get(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), Duration::from_secs(10))?;
    equal!(body, "served from a volume\n");
    t.ok(&["stop", &name])?;
    Ok(())
}
