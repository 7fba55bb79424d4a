//! A `ferry daemon` of a test's own: own roots, socket, bridge and subnet.

use std::fs::OpenOptions;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client::{Client, Flavour};
use super::settings::Settings;
use super::{leaks, lock, process};

/// A running engine. Dropping it removes its containers, ends it, and removes what it made.
pub struct Daemon {
    settings: Arc<Settings>,
    /// Data root and log.
    pub dir: PathBuf,
    /// Exec root, socket and pid file; short, because socket addresses are limited to 107 bytes.
    pub run: PathBuf,
    /// Its bridge.
    pub bridge: String,
    /// The bridge's address; containers get others of its /24.
    pub address: Ipv4Addr,
    options: Vec<String>,
    child: Mutex<Option<Child>>,
    finished: bool,
}

impl Daemon {
    /// Starts an engine whose names contain `label`.
    pub fn start(settings: &Arc<Settings>, label: &str) -> Result<Self> {
        Self::start_with(settings, label, None, &[])
    }

    /// The same with further options, and with the data root somewhere else.
    pub fn start_with(
        settings: &Arc<Settings>,
        label: &str,
        data: Option<&Path>,
        options: &[&str],
    ) -> Result<Self> {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let dir = data.map_or_else(|| settings.work.join(format!("{label}-{pid}-{number}")), Path::to_owned);
        let daemon = Self {
            settings: settings.clone(),
            dir,
            run: PathBuf::from(format!("/run/ferry-t{pid}-{number}")),
            bridge: format!("ft{}-{number}", pid % 100_000),
            address: free_subnet(number)?,
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            child: Mutex::new(None),
            finished: false,
        };
        for dir in [&daemon.dir, &daemon.run] {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        daemon.up()?;
        Ok(daemon)
    }

    /// Where the API is.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.run.join("ferry.sock")
    }

    /// The data root.
    pub fn data_root(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// ferry's own client for this engine.
    pub fn client(&self) -> Result<Client> {
        Client::new(&self.settings, Flavour::Ferry, &self.host())
    }

    /// Starts the daemon and waits until it answers; returns how long that took.
    pub fn up(&self) -> Result<Duration> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let mut command = Command::new(self.settings.ferry());
        command.args(["daemon", "-H", &self.host()]);
        if !self.options.iter().any(|option| option == "--bridge") {
            command.args(["--bridge", &self.bridge, "--bip", &format!("{}/24", self.address)]);
        }
        command
            .arg("--data-root")
            .arg(self.data_root())
            .arg("--exec-root")
            .arg(self.run.join("exec"))
            .arg("--pidfile")
            .arg(self.run.join("pid"))
            .args(["--cgroup-parent", &leaks::cgroup_parent()])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let began = Instant::now();
        let mut child = command.spawn().context("cannot run ferry daemon")?;
        let socket = self.socket();
        loop {
            if super::http::request(&socket, "GET", "/_ping", None).is_ok_and(|answer| answer.status == 200) {
                break;
            }
            if let Some(status) = child.try_wait()? {
                bail!("the daemon ended with {status}\n{}", self.log_tail());
            }
            if began.elapsed() > Duration::from_secs(20) {
                child.kill()?;
                child.wait()?;
                bail!("the daemon does not answer after 20 s\n{}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        *lock(&self.child) = Some(child);
        Ok(began.elapsed())
    }

    /// Kills the daemon with SIGKILL; containers know nothing of it.
    pub fn kill(&self) -> Result<()> {
        if let Some(mut child) = lock(&self.child).take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Ends the daemon with SIGTERM and returns its exit code.
    pub fn terminate(&self) -> Result<i32> {
        let Some(mut child) = lock(&self.child).take() else { return Ok(0) };
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        Ok(process::code(process::wait(&mut child, Duration::from_secs(20))?))
    }

    /// The daemon's pid, while it runs.
    pub fn pid(&self) -> Option<u32> {
        lock(&self.child).as_ref().map(Child::id)
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("daemon.log")
    }

    /// The end of the daemon's log.
    pub fn log_tail(&self) -> String {
        let bytes = std::fs::read(self.log_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// Removes everything and returns what could not be removed.
    pub fn finish(mut self) -> Vec<String> {
        self.clean()
    }

    fn clean(&mut self) -> Vec<String> {
        if std::mem::replace(&mut self.finished, true) {
            return Vec::new();
        }
        let mut problems = Vec::new();
        let mut attempt = |what: &str, outcome: Result<()>| {
            if let Err(error) = outcome {
                problems.push(format!("{what}: {error:#}"));
            }
        };
        if self.pid().is_none() {
            attempt("start again to clean up", self.up().map(drop));
        }
        attempt("remove containers", self.remove_containers());
        attempt("end the daemon", self.terminate().map(drop));
        attempt("shims end", self.no_shims());
        if Path::new("/sys/class/net").join(&self.bridge).exists() {
            let mut command = Command::new("ip");
            command.args(["link", "delete", &self.bridge]);
            attempt("remove the bridge", process::ok(command).map(drop));
        }
        let table = format!("ferry-{}", self.bridge);
        if leaks::firewall().contains(&format!("table inet {table} ")) {
            let mut command = Command::new("nft");
            command.args(["delete", "table", "inet", &table]);
            attempt("remove the table", process::ok(command).map(drop));
        }
        for mount in leaks::mounts_below(&[&self.dir, &self.run]) {
            attempt("mounts", Err(anyhow::anyhow!("{mount} is still mounted")));
            let _ = rustix::mount::unmount(mount.as_str(), rustix::mount::UnmountFlags::DETACH);
        }
        for dir in [&self.run, &self.dir] {
            if dir.exists() {
                attempt("remove", std::fs::remove_dir_all(dir).with_context(|| dir.display().to_string()));
            }
        }
        problems
    }

    fn remove_containers(&self) -> Result<()> {
        let client = self.client()?;
        let all = client.ok(&["ps", "-aq"])?;
        let ids: Vec<&str> = all.lines().collect();
        if !ids.is_empty() {
            client.ok(&[&["rm", "-f", "-v"], ids.as_slice()].concat())?;
        }
        Ok(())
    }

    /// Kills shims of this engine that outlive their container; there should be none.
    fn no_shims(&self) -> Result<()> {
        let run = self.run.display().to_string();
        let mut left = Vec::new();
        let limit = Instant::now() + Duration::from_secs(5);
        loop {
            left.clear();
            left.extend(
                leaks::processes_named("ferry-shim").into_iter().filter(|pid| leaks::mentions(*pid, &run)),
            );
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > limit {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for pid in &left {
            if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        bail!("shims without a container had to be killed: {left:?}")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for problem in self.clean() {
            eprintln!("cleaning up {}: {problem}", self.bridge);
        }
    }
}

/// Imports the images that all tests rely on: `busybox` and `hello-world`.
pub fn import_images(settings: &Settings, client: &Client) -> Result<()> {
    let (busybox, hello) = (settings.busybox.display().to_string(), settings.hello.display().to_string());
    client.ok(&["import", "--change", "CMD [\"sh\"]", &busybox, "busybox:latest"])?;
    client.ok(&["import", "--change", "CMD [\"/hello\"]", &hello, "hello-world:latest"])?;
    Ok(())
}

/// A /24 for the engine with this number that none of the host's routes covers.
fn free_subnet(number: u8) -> Result<Ipv4Addr> {
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    for (first, second) in [(10, 214), (10, 194), (172, 27), (10, 66)] {
        let address = Ipv4Addr::new(first, second, number, 1);
        let net = u32::from(address) & 0xffff_ff00;
        let taken = routes.lines().skip(1).any(|line| {
            let hex = |i: usize| {
                let field = line.split_whitespace().nth(i)?;
                u32::from_str_radix(field, 16).ok().map(u32::swap_bytes)
            };
            matches!((hex(1), hex(7)), (Some(dest), Some(mask)) if mask != 0 && net & mask & 0xffff_ff00 == dest & 0xffff_ff00)
        });
        if !taken {
            return Ok(address);
        }
    }
    bail!("no subnet is free")
}
