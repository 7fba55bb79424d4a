//! Docker itself, for comparison: fetched as Debian packages into a cache directory, never installed,
//! and started beside whatever runs on the host with roots and socket of its own, in a network namespace
//! of its own: its bridge, its iptables chains and its forwarding settings go with it.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{apt, host, sh, ui};

/// Brings up the loopback of a new network namespace, then becomes the daemon.
const IN_NAMESPACE: &str = "ip link set lo up && exec \"$0\" \"$@\"";

/// The stock `docker` client: the one on `PATH` when it is a current one, else Debian sid's.
pub fn docker_cli(cache: &Path) -> Result<PathBuf> {
    if let Some(docker) = sh::which("docker")
        && let Ok(version) = sh::capture(&mut sh::cmd(&docker, ["--version"]))
        && version.starts_with("Docker version 28.")
    {
        return Ok(docker);
    }
    let root = cache.join("docker-cli");
    let docker = root.join("usr/bin/docker");
    if !docker.exists() {
        apt::Separate::new(cache, "sid")?.unpack(&["docker-cli"], &root)?;
    }
    sh::capture(&mut sh::cmd(&docker, ["--version"]))
        .context("Debian sid's docker client does not run here")?;
    Ok(docker)
}

/// A running Docker engine.
pub struct Peer {
    root: PathBuf,
    run: PathBuf,
    data: PathBuf,
    daemon: Child,
}

impl Peer {
    /// Fetches Docker if it is not there yet, and starts it. Its socket is in `run`; `more` are further
    /// flags of the daemon.
    pub fn start(cache: &Path, run: PathBuf, data: PathBuf, more: &[&str]) -> Result<Self> {
        let root = fetch(cache)?;
        apt::install(&["iproute2", "util-linux"])?;
        for dir in [&run, &data] {
            if dir.exists() {
                std::fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
            }
            std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let log = File::create(data.join("dockerd.log"))?;
        // The namespace lives as long as the daemon and its containers, so nobody needs to remove it.
        let mut command = with_paths(Command::new("unshare"), &root);
        command
            .args(["--net", "sh", "-c", IN_NAMESPACE])
            .arg(root.join("usr/sbin/dockerd"))
            .args(["-H", &format!("unix://{}", run.join("docker.sock").display())])
            .args(more)
            .arg("--data-root")
            .arg(data.join("root"))
            .arg("--exec-root")
            .arg(run.join("exec"))
            .arg("--pidfile")
            .arg(run.join("docker.pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let daemon = command.spawn().context("cannot run dockerd")?;
        let mut peer = Self { root, run, data, daemon };
        let deadline = Instant::now() + Duration::from_secs(30);
        while sh::capture(&mut peer.docker(["version"])).is_err() {
            if peer.daemon.try_wait()?.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(peer.data.join("dockerd.log")).unwrap_or_default();
                bail!("dockerd does not start:\n{}", sh::tail(&log, 15));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(peer)
    }

    /// The client Docker came with.
    pub fn client(&self) -> PathBuf {
        self.root.join("usr/bin/docker")
    }

    /// Where its API is.
    pub fn host(&self) -> String {
        format!("unix://{}", self.run.join("docker.sock").display())
    }

    /// Holds its socket and what it keeps while it runs.
    pub fn run_dir(&self) -> PathBuf {
        self.run.clone()
    }

    /// A `docker` command that talks to this engine.
    pub fn docker<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = sh::cmd(self.client(), args);
        command.env("DOCKER_HOST", self.host()).env_remove("DOCKER_CONTEXT");
        command
    }

    /// dockerd and the containerd it started.
    pub fn daemon_pids(&self) -> Vec<u32> {
        let own = self.daemon.id();
        let mut pids = vec![own];
        pids.extend(children(own).into_iter().filter(|pid| comm(*pid) == "containerd"));
        pids
    }

    /// The supervisors of its containers.
    pub fn shim_pids(&self) -> Vec<u32> {
        let socket_dir = self.run.display().to_string();
        pids()
            .filter(|pid| comm(*pid).starts_with("containerd-shim") && cmdline(*pid).contains(&socket_dir))
            .collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Ok(ids) = sh::capture(&mut self.docker(["ps", "-aq"])) {
            let ids: Vec<&str> = ids.lines().collect();
            if !ids.is_empty() {
                report(sh::capture(self.docker(["rm", "-f", "-v"]).args(ids)));
            }
        }
        report(sh::capture(&mut sh::cmd("kill", ["-TERM", &self.daemon.id().to_string()])));
        if let Err(error) = self.daemon.wait() {
            ui::note(format!("waiting for dockerd: {error}"));
        }
        // dockerd keeps its own network namespace mounted there, also after its end.
        let namespace = self.run.join("exec/netns/default");
        if namespace.exists() {
            report(sh::capture(&mut sh::cmd("umount", [namespace.display().to_string()])));
        }
        for dir in [&self.run, &self.data] {
            if let Err(error) = std::fs::remove_dir_all(dir) {
                ui::note(format!("{} stays: {error}", dir.display()));
            }
        }
    }
}

fn report(outcome: Result<String>) {
    if let Err(error) = outcome {
        ui::note(format!("{error:#}"));
    }
}

/// Docker of Debian sid; runc of the host's release, because sid's needs a newer C library than
/// stable has. Returns the directory that holds them.
fn fetch(cache: &Path) -> Result<PathBuf> {
    let root = cache.join("docker");
    let complete = root.join("complete");
    if complete.exists() {
        return Ok(root);
    }
    let codename = host::os_release("VERSION_CODENAME").context("/etc/os-release names no release")?;
    apt::Separate::new(cache, "sid")?.unpack(&["docker.io", "docker-cli", "containerd"], &root)?;
    let stable = [
        "runc",
        "tini",
        "iptables",
        "libip4tc2",
        "libip6tc2",
        "libxtables12",
        "libnetfilter-conntrack3",
        "libnfnetlink0",
        "libnftnl11",
        "libmnl0",
    ];
    apt::Separate::new(cache, &codename)?.unpack(&stable, &root)?;
    // Debian makes these links when it installs the package.
    for name in ["iptables", "ip6tables"] {
        for suffix in ["", "-save", "-restore"] {
            let link = root.join("usr/sbin").join(format!("{name}{suffix}"));
            if link.symlink_metadata().is_err() {
                std::os::unix::fs::symlink("xtables-nft-multi", &link)?;
            }
        }
    }
    std::fs::write(complete, "")?;
    Ok(root)
}

/// Lets a program of `root` find the others, and iptables its libraries.
fn with_paths(mut command: Command, root: &Path) -> Command {
    let lib = root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let path = std::env::var("PATH").unwrap_or_default();
    let (sbin, bin) = (root.join("usr/sbin"), root.join("usr/bin"));
    command
        .env("PATH", format!("{}:{}:{path}", sbin.display(), bin.display()))
        .env("LD_LIBRARY_PATH", &lib)
        .env("XTABLES_LIBDIR", lib.join("xtables"));
    command
}

/// All processes.
pub fn pids() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
}

/// A process's name.
pub fn comm(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// A process's arguments, separated by spaces.
pub fn cmdline(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Processes whose parent is `pid`.
pub fn children(pid: u32) -> Vec<u32> {
    pids().filter(|child| parent(*child) == Some(pid)).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
