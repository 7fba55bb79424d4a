//! Control groups, v1, hybrid and v2 (kernel docs `admin-guide/cgroup-v1`, `cgroup-v2.rst`).
//!
//! A container has one directory on v2, and one in each hierarchy on v1. Nothing but the container's
//! own directories is changed, except that v2 ancestors hand the controllers down.

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use rustix::fs::{Mode as FileMode, OFlags, open};
use rustix::io::Errno;

use crate::error::At;
use crate::{Error, Stage};

mod devices;
mod freeze;
mod layout;
mod oom;
mod stats;
mod subgroup;
mod v1;
mod v2;
mod view;

pub use oom::OomWatch;
pub use stats::{Blkio, BlkioEntry, Cpu, Memory, Pids, Stats, Throttling};
pub use subgroup::Subgroup;
pub(crate) use view::mount_view;

use layout::Layout;

/// How the host arranges its control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Every controller in a v1 hierarchy, no v2 hierarchy.
    V1,
    /// Controllers in v1 hierarchies, beside a v2 hierarchy without any.
    Hybrid,
    /// One v2 hierarchy.
    V2,
}

/// Finds out how the host arranges its control groups.
pub fn detect() -> Result<Mode, Error> {
    Ok(Layout::host()?.mode())
}

/// Whether the host's kernel limits swap: some count it only when told to at boot (`swapaccount=1`).
pub fn limits_swap() -> bool {
    let Ok(layout) = Layout::host() else { return false };
    if let Some(memory) = layout.v1.iter().find(|h| h.controllers.iter().any(|c| c == "memory")) {
        return memory.mountpoint.join("memory.memsw.limit_in_bytes").exists();
    }
    // v2's root has no limits; the groups below it do. Without any of them nothing says no.
    let groups = layout.v2.as_deref().map(children).and_then(Result::ok).unwrap_or_default();
    let limited = groups.iter().find(|dir| dir.join("memory.max").exists());
    limited.is_none_or(|dir| dir.join("memory.swap.max").exists())
}

/// The control group of one container: one directory on v2, one per hierarchy on v1.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    layout: &'static Layout,
}

impl Cgroup {
    /// Refers to a group by its path below the hierarchies' mount points, e.g. `/ferry/ID`, without touching it.
    pub fn open(path: &Path) -> Result<Cgroup, Error> {
        let malformed = path.components().any(|c| !matches!(c, Component::Normal(_) | Component::RootDir));
        let named = path.file_name().is_some();
        if malformed || !named {
            return Err(Error::invalid(Stage::Cgroup, format!("malformed cgroup path {}", path.display())));
        }
        if path.to_string_lossy().contains(':') && !path.is_absolute() {
            return Err(Error::invalid(
                Stage::Cgroup,
                format!("cgroup path {} is in systemd's notation, which is not supported", path.display()),
            ));
        }
        let path = Path::new("/").join(path);
        Ok(Cgroup { path, layout: Layout::host()? })
    }

    /// Creates the group (and its ancestors) where it does not exist yet.
    pub fn create(path: &Path) -> Result<Cgroup, Error> {
        let group = Self::open(path)?;
        group.make()?;
        Ok(group)
    }

    /// Path below the hierarchies' mount points.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Host directories of the group, with the controllers each is for (empty for v2's).
    pub fn paths(&self) -> Vec<(String, PathBuf)> {
        let v1 = self.layout.v1.iter().map(|h| (h.controllers.join(","), self.below(&h.mountpoint)));
        v1.chain(self.layout.v2.iter().map(|mount| (String::new(), self.below(mount)))).collect()
    }

    pub(crate) fn is_v2(&self) -> bool {
        self.layout.mode() == Mode::V2
    }

    pub(crate) fn layout(&self) -> &'static Layout {
        self.layout
    }

    fn below(&self, mountpoint: &Path) -> PathBuf {
        mountpoint.join(self.path.strip_prefix("/").unwrap_or(&self.path))
    }

    /// The directory in the hierarchy of a v1 controller.
    fn v1_dir(&self, controller: &str) -> Option<PathBuf> {
        let hierarchy = self.layout.v1.iter().find(|h| h.controllers.iter().any(|c| c == controller))?;
        Some(self.below(&hierarchy.mountpoint))
    }

    fn v2_dir(&self) -> Option<PathBuf> {
        self.layout.v2.as_ref().map(|mount| self.below(mount))
    }

    /// Creates what [`Cgroup::open`] refers to.
    pub(crate) fn make(&self) -> Result<(), Error> {
        self.make_unified()?;
        self.make_v1()
    }

    /// Creates the group in the v2 hierarchy, where there is one.
    pub(crate) fn make_unified(&self) -> Result<(), Error> {
        match &self.layout.v2 {
            Some(mount) if self.layout.v1.is_empty() => v2::make(mount, &self.below(mount)),
            Some(mount) => make_dirs(&self.below(mount)),
            None => Ok(()),
        }
    }

    /// Creates the group in the v1 hierarchies.
    pub(crate) fn make_v1(&self) -> Result<(), Error> {
        for hierarchy in &self.layout.v1 {
            v1::make(hierarchy, &self.below(&hierarchy.mountpoint))?;
        }
        Ok(())
    }

    /// The v2 directory, to be born in.
    pub(crate) fn dir_fd(&self) -> Result<Option<OwnedFd>, Error> {
        let Some(dir) = self.v2_dir() else { return Ok(None) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open(&dir, flags, FileMode::empty()).at(Stage::Cgroup, || format!("open {}", dir.display())).map(Some)
    }

    /// Where the v2 hierarchy beside v1 ones is mounted.
    pub(crate) fn hybrid_mount(&self) -> Option<&'static Path> {
        self.layout.v2.as_deref().filter(|_| self.layout.mode() == Mode::Hybrid)
    }

    /// The group's directory there, made when it is missing: what another runtime runs stays where it was born.
    pub(crate) fn hybrid_dir_fd(&self) -> Result<Option<OwnedFd>, Error> {
        if self.hybrid_mount().is_none() {
            return Ok(None);
        }
        self.make_unified()?;
        self.dir_fd()
    }

    /// Sets limits; also for a running container (`update`).
    pub fn apply(&self, resources: &LinuxResources) -> Result<(), Error> {
        if self.is_v2() {
            match self.v2_dir() {
                Some(dir) => v2::apply(&dir, resources),
                None => Ok(()),
            }
        } else {
            v1::apply(self, resources)
        }
    }

    /// Moves the calling thread, the only one of its process, into the group's v1 hierarchies.
    ///
    /// The kernel moves a thread that names itself (`0`) without stopping every other fork and exit on the host;
    /// naming a process by its pid costs an RCU grace period, some 10 ms (`cgroup_procs_write_start()`).
    pub(crate) fn enter_v1(&self) -> Result<(), Error> {
        for hierarchy in &self.layout.v1 {
            write(&self.below(&hierarchy.mountpoint).join("tasks"), "0")?;
        }
        Ok(())
    }

    /// Moves a process into the group.
    pub fn add(&self, pid: i32) -> Result<(), Error> {
        for (_, dir) in self.paths() {
            write(&dir.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Pids in the group and below it, in the caller's pid namespace.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        let Some(dir) = self.any_dir() else { return Ok(Vec::new()) };
        let mut pids = Vec::new();
        collect_pids(&dir, &mut pids)?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// A directory that has all the processes.
    fn any_dir(&self) -> Option<PathBuf> {
        self.v1_dir("freezer")
            .or_else(|| self.v2_dir())
            .or_else(|| self.layout.v1.first().map(|h| self.below(&h.mountpoint)))
    }

    /// Removes the group's directories; waits briefly for processes still exiting. Missing ones are fine.
    pub fn remove(&self) -> Result<(), Error> {
        let mut first = Ok(());
        for (_, dir) in self.paths() {
            let removed = remove_tree(&dir);
            if first.is_ok() {
                first = removed;
            }
        }
        first
    }
}

fn collect_pids(dir: &Path, pids: &mut Vec<i32>) -> Result<(), Error> {
    let at = || format!("read the processes of {}", dir.display());
    match std::fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
        Err(error) if gone(&error) => return Ok(()),
        Err(error) => return Err(Error::system(Stage::Cgroup, at(), error)),
    }
    for child in children(dir).at(Stage::Cgroup, at)? {
        collect_pids(&child, pids)?;
    }
    Ok(())
}

fn gone(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NODEV))
}

fn children(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut children = Vec::new();
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if gone(&error) => return Ok(children),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            children.push(entry.path());
        }
    }
    Ok(children)
}

/// Removes a group and those below it, which the container may have made.
fn remove_tree(dir: &Path) -> Result<(), Error> {
    // In steps of 1, 2, 4 … ms, about half a second in all.
    let mut wait = std::time::Duration::from_millis(1);
    loop {
        match rustix::fs::rmdir(dir) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) => {}
            Err(errno) => {
                return Err(Error::system(Stage::Cgroup, format!("remove {}", dir.display()), errno));
            }
        }
        for child in children(dir).at(Stage::Cgroup, || format!("list {}", dir.display()))? {
            remove_tree(&child)?;
        }
        match rustix::fs::rmdir(dir) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(errno) if errno != Errno::BUSY || wait.as_millis() > 256 => {
                return Err(Error::system(Stage::Cgroup, format!("remove {}", dir.display()), errno));
            }
            Err(_) => std::thread::sleep(wait),
        }
        wait *= 2;
    }
}

/// Makes a directory and what is missing above it.
fn make_dirs(dir: &Path) -> Result<(), Error> {
    let mode = FileMode::from_raw_mode(0o755);
    match rustix::fs::mkdir(dir, mode) {
        Ok(()) | Err(Errno::EXIST) => return Ok(()),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(Error::system(Stage::Cgroup, format!("create {}", dir.display()), errno)),
    }
    if let Some(parent) = dir.parent() {
        make_dirs(parent)?;
    }
    match rustix::fs::mkdir(dir, mode) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(Error::system(Stage::Cgroup, format!("create {}", dir.display()), errno)),
    }
}

/// Writes a control file with one write(2), as the kernel wants it.
fn write(path: &Path, value: &str) -> Result<(), Error> {
    try_write(path, value).at(Stage::Cgroup, || format!("write {value:?} to {}", path.display()))
}

fn try_write(path: &Path, value: &str) -> Result<(), Errno> {
    let fd = open(path, OFlags::WRONLY | OFlags::CLOEXEC, FileMode::empty())?;
    rustix::io::write(&fd, value.as_bytes()).map(drop)
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).at(Stage::Cgroup, || format!("read {}", path.display()))
}
