//! Containers of another OCI runtime (runc, crun, runsc, …), driven through the command line that runc has and the others share:
//! `create`, `start`, `exec`, `delete`.
//!
//! ```text
//! caller ── child in a mount namespace of its own: root file system, then the runtime's program ── create
//!    ▲                                                                       │ ends
//!    └────────── adopts the container's init, whose pid is in a file ────────┘
//! ```
//!
//! The caller must be a subreaper (prctl(2)), so that it becomes the parent of what the runtime leaves behind. Everything a
//! runtime keeps on disk is below the bundle, in [`DIRECTORY`].
//!
//! Not here: signals, freezing and limits, which need nothing but the pid and the control group.

mod call;
mod config;
mod console;
mod exec;
mod message;
mod root;

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferry_types::RuntimeProgram;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use serde_json::Value;

use crate::cgroup::Cgroup;
use crate::container::{Container, CreateRequest};
use crate::error::At;
use crate::{Error, Stage, Stdio};

use call::{Call, Line, Streams};
use console::ConsoleSocket;

pub use exec::{ExternalExec, PendingExec};

/// Where the files of a runtime are within the container's bundle.
pub const DIRECTORY: &str = "runtime";

/// How long a runtime may take. They need well below a second; only one that hangs takes longer.
const BUILD_LIMIT: Duration = Duration::from_secs(60);
const DELETE_LIMIT: Duration = Duration::from_secs(10);

/// A runtime's program, and the files of the one container it is used for.
#[derive(Debug)]
pub(crate) struct External {
    program: RuntimeProgram,
    id: String,
    dir: PathBuf,
    /// What its program must not see, see [`root::hide_unified`].
    unified: Option<&'static Path>,
    /// Of the next call, for the names of its files.
    serial: u32,
    started: bool,
}

/// Builds a container with another runtime, up to where its program can be started; on failure nothing is left of it.
///
/// `config` is the bundle's config as it is on disk, of which `req.spec` is the typed form.
pub fn create_external(
    program: &RuntimeProgram,
    config: Value,
    req: CreateRequest<'_>,
) -> Result<Container, Error> {
    let linux = req.spec.linux().as_ref();
    let group = linux
        .and_then(|l| l.cgroups_path().clone())
        .ok_or_else(|| Error::invalid(Stage::Config, "linux.cgroupsPath: missing in config"))?;
    let cgroup = Cgroup::open(&group)?;
    let mut external = External {
        program: program.clone(),
        id: req.id.to_owned(),
        dir: req.bundle.join(DIRECTORY),
        unified: cgroup.hybrid_mount(),
        serial: 0,
        started: false,
    };
    match external.create(config, req, &cgroup) {
        Ok((pid, pidfd, console)) => Ok(Container::external(pid, pidfd, console, cgroup, external)),
        Err(error) => {
            // The first error is the one to report.
            external.delete();
            drop(cgroup.kill_all());
            drop(cgroup.remove());
            Err(error)
        }
    }
}

impl External {
    fn create(
        &mut self,
        mut config: Value,
        req: CreateRequest<'_>,
        cgroup: &Cgroup,
    ) -> Result<(i32, OwnedFd, Option<OwnedFd>), Error> {
        let at = |path: &Path| format!("create {}", path.display());
        let mounts = self.dir.join(root::MOUNTS);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&mounts)
            .at(Stage::Config, || at(&mounts))?;
        let netns = req.netns.as_ref().map(|fd| own_descriptor(fd.as_raw_fd()));
        let size = match req.stdio {
            Stdio::Terminal { size } => size,
            Stdio::Inherit | Stdio::Fds { .. } => None,
        };
        let prepared = config::adapt(&mut config, &mounts, netns.as_deref(), size)?;
        let rootfs = req.bundle.join(req.spec.root().as_ref().map_or(Path::new("rootfs"), |r| r.path()));
        let propagation = req.spec.linux().as_ref().and_then(|l| l.rootfs_propagation().clone());
        let root = root::Root {
            rootfs: &rootfs,
            overlay: req.overlay,
            mounts: &prepared,
            unified: self.unified,
            shared: propagation.as_deref().is_some_and(|p| p.contains("shared")),
        };
        let terminal = matches!(req.stdio, Stdio::Terminal { .. });
        let console = if terminal { Some(self.console()?) } else { None };
        let pid_file = self.file("pid");
        let mut line = self.line("create");
        line.option("--bundle", &self.dir);
        line.option("--pid-file", &pid_file);
        if let Some(console) = &console {
            line.option("--console-socket", console.path());
        }
        line.argument(&self.id);
        let streams = Streams::of(req.stdio)?;
        let group = cgroup.hybrid_dir_fd()?;
        let inside = || {
            root.set_up()?;
            config::recurse_into_directories_only(&mut config);
            write_json(&self.dir.join("config.json"), &config)
        };
        Call::spawn(line, streams, group.as_ref(), inside)?.wait(BUILD_LIMIT)?;
        let (pid, pidfd) = adopted(&self.program.name, &pid_file)?;
        let master = console.map(|console| console.receive(size)).transpose()?;
        Ok((pid, pidfd, master))
    }

    /// Whether [`External::start`] was called.
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// Lets a created container execute its program.
    pub fn start(&mut self) -> Result<(), Error> {
        self.started = true;
        let mut line = self.line("start");
        line.argument(&self.id);
        self.call(line, Streams::none()?, None)?.wait(BUILD_LIMIT)
    }

    /// Has the runtime forget the container, whatever its state, and removes what is on disk. What a runtime cannot do here it
    /// has told nobody: the caller removes the control group, too.
    pub fn delete(&mut self) {
        if self.dir.join(call::STATE).is_dir() {
            let mut line = self.line("delete");
            line.flag("--force");
            line.argument(&self.id);
            if let Ok(call) = Streams::none().and_then(|streams| self.call(line, streams, None)) {
                drop(call.wait(DELETE_LIMIT));
            }
        }
        // The bundle, which goes too, is the caller's.
        drop(std::fs::remove_dir_all(&self.dir));
    }

    /// Runs the program for anything but `create`.
    fn call(&self, line: Line, streams: Streams, group: Option<&OwnedFd>) -> Result<Call, Error> {
        Call::spawn(line, streams, group, || self.unified.map_or(Ok(()), root::hide_unified))
    }

    fn line(&mut self, verb: &'static str) -> Line {
        let log = self.file("log");
        Line::new(&self.program, &self.dir, verb, log)
    }

    /// A path no other call has.
    fn file(&mut self, what: &str) -> PathBuf {
        self.serial = self.serial.wrapping_add(1);
        self.dir.join(format!("{what}{}", self.serial))
    }

    fn console(&mut self) -> Result<ConsoleSocket, Error> {
        let path = self.file("tty");
        ConsoleSocket::listen(&self.dir, &path)
    }
}

/// A path by which another process reaches a descriptor of this one.
fn own_descriptor(fd: i32) -> String {
    format!("/proc/{}/fd/{fd}", rustix::process::getpid().as_raw_pid())
}

fn write_json(path: &Path, value: &Value) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value)
        .map_err(|e| Error::invalid(Stage::Config, format!("encode {}: {e}", path.display())))?;
    std::fs::write(path, bytes).at(Stage::Config, || format!("write {}", path.display()))
}

/// The process of a pid file, which must have become a child of this one.
fn adopted(name: &str, pid_file: &Path) -> Result<(i32, OwnedFd), Error> {
    let at = || format!("read {}", pid_file.display());
    let text = std::fs::read_to_string(pid_file).at(Stage::Exec, at)?;
    drop(std::fs::remove_file(pid_file));
    let raw = text.trim().parse().ok().filter(|&pid| pid > 1);
    let Some(pid) = raw.and_then(Pid::from_raw) else {
        return Err(Error::External { message: format!("runtime {name} wrote no pid but {text:?}") });
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if matches!(waitid(WaitId::Pid(pid), options), Err(Errno::CHILD)) {
        let message = format!("process {pid:?} of runtime {name} is not left to who called it");
        return Err(Error::External { message });
    }
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).at(Stage::Exec, || format!("open process {pid:?}"))?;
    Ok((pid.as_raw_pid(), pidfd))
}
