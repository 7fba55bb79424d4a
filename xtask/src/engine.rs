//! A `ferry daemon` that a chore starts for itself, with its own roots, socket and bridge.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::product::Product;
use crate::{apt, sh, ui};

/// Where an engine keeps things, and how it is reached.
pub struct Engine {
    /// Holds the data root and the daemon's log.
    pub dir: PathBuf,
    /// Holds what lives as long as the host is up; short, because socket addresses are limited to
    /// 107 bytes (unix(7)).
    pub run_dir: PathBuf,
    /// Name of the bridge, at most 15 bytes.
    pub bridge: String,
    /// The bridge's address; containers get the others of its /24.
    pub address: Ipv4Addr,
    ferry: PathBuf,
    own_network: bool,
}

/// Brings up the loopback of a new network namespace, then becomes the daemon.
const IN_NAMESPACE: &str = "ip link set lo up && exec \"$0\" \"$@\"";

impl Engine {
    /// Describes an engine; nothing is started.
    pub fn new(product: &Product, dir: PathBuf, run_dir: PathBuf, bridge: &str, address: Ipv4Addr) -> Self {
        Self {
            dir,
            run_dir,
            bridge: bridge.to_owned(),
            address,
            ferry: product.ferry.clone(),
            own_network: false,
        }
    }

    /// The same in a network namespace of its own, which goes when the last of its processes does.
    #[must_use]
    pub fn in_own_network(mut self) -> Self {
        self.own_network = true;
        self
    }

    /// Where the engine's API is.
    pub fn host(&self) -> String {
        format!("unix://{}", self.run_dir.join("ferry.sock").display())
    }

    fn pidfile(&self) -> PathBuf {
        self.run_dir.join("ferry.pid")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("daemon.log")
    }

    /// A `ferry` command that talks to this engine.
    pub fn ferry<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = sh::cmd(&self.ferry, args);
        command.env("DOCKER_HOST", self.host()).env_remove("DOCKER_CONTEXT");
        command
    }

    /// Shows a `ferry` command as a user would type it and runs it, its output going where ours goes.
    pub fn show(&self, args: &[&str]) -> Result<()> {
        ui::command(&sh::display(&sh::cmd("ferry", args)));
        sh::run(&mut self.ferry(args.iter().copied()))
    }

    /// Runs a `ferry` command and returns its stdout without the final newline.
    pub fn ask(&self, args: &[&str]) -> Result<String> {
        Ok(sh::capture(&mut self.ferry(args.iter().copied()))?.trim_end().to_owned())
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&self) -> Result<()> {
        for dir in [&self.dir, &self.run_dir] {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let log =
            File::create(self.log()).with_context(|| format!("cannot create {}", self.log().display()))?;
        let mut command = if self.own_network {
            sh::cmd("unshare", ["--net", "--", "sh", "-c", IN_NAMESPACE])
        } else {
            sh::cmd("env", ["--"])
        };
        command
            .arg(&self.ferry)
            .args(["daemon", "-H", &self.host(), "--bridge", &self.bridge])
            .args(["--bip", &format!("{}/24", self.address), "--data-root"])
            .arg(self.dir.join("data"))
            .arg("--exec-root")
            .arg(self.run_dir.join("exec"))
            .arg("--pidfile")
            .arg(self.pidfile());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A group of its own: an interrupt typed at us is not for the daemon.
        command.process_group(0);
        let mut daemon = command.spawn().with_context(|| format!("cannot run {}", self.ferry.display()))?;
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            if self.answers() {
                return Ok(());
            }
            if let Some(status) = daemon.try_wait()? {
                bail!("the daemon ended at once with {status}");
            }
            if Instant::now() > deadline {
                bail!("the daemon does not answer at {} after 15 s", self.host());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether a daemon answers.
    pub fn answers(&self) -> bool {
        sh::capture(&mut self.ferry(["version", "--format", "{{.Server.Version}}"])).is_ok()
    }

    /// The daemon's pid, if the one that the pid file names is alive and is a ferry.
    pub fn pid(&self) -> Option<u32> {
        let pid = std::fs::read_to_string(self.pidfile()).ok()?.trim().parse().ok()?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        name.starts_with("ferry").then_some(pid)
    }

    /// Ends the daemon, if one runs; containers run on.
    pub fn stop(&self) -> Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        sh::capture(&mut sh::cmd("kill", ["-TERM", &pid.to_string()]))?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.pid() == Some(pid) && !is_zombie(pid) {
            if Instant::now() > deadline {
                bail!("the daemon (pid {pid}) does not end on SIGTERM");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Removes all containers, ends the daemon, and removes its bridge, table and directories.
    pub fn purge(&self) -> Result<()> {
        if !self.answers() && self.dir.join("data").exists() && self.ferry.exists() {
            // What is left of containers is known to the engine only.
            self.stop()?;
            self.start().context("cannot start the engine to remove its containers")?;
        }
        if self.answers() {
            let all = self.ask(&["ps", "-aq"])?;
            let ids: Vec<&str> = all.lines().collect();
            if !ids.is_empty() {
                self.ask(&[&["rm", "-f", "-v"], ids.as_slice()].concat())?;
            }
        }
        self.stop()?;
        self.remove_network()?;
        for dir in [&self.run_dir, &self.dir] {
            if dir.exists() {
                std::fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
            }
        }
        Ok(())
    }

    /// Bridge and table outlive the daemon on purpose, because containers may; here they go.
    fn remove_network(&self) -> Result<()> {
        if Path::new("/sys/class/net").join(&self.bridge).exists() {
            apt::install(&["iproute2"])?;
            sh::capture(&mut sh::cmd("ip", ["link", "delete", &self.bridge]))?;
        }
        apt::install(&["nftables"])?;
        let table = format!("inet ferry-{}", self.bridge);
        let tables = sh::capture(&mut sh::cmd("nft", ["list", "tables"]))?;
        if tables.lines().any(|line| line.strip_prefix("table ") == Some(&table)) {
            sh::capture(sh::cmd("nft", ["delete", "table"]).args(table.split(' ')))?;
        }
        Ok(())
    }

    /// The end of the daemon's log, for error messages.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        sh::tail(&String::from_utf8_lossy(&text), 30)
    }
}

/// Whether a process has ended and only waits to be asked how.
pub fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}
