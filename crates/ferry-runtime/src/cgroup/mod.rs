//! Control groups, v1, hybrid and v2 (kernel docs `admin-guide/cgroup-v1`, `cgroup-v2.rst`).

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use crate::{Error, Stage};

mod stats;

pub use stats::{Blkio, BlkioEntry, Cpu, Memory, Pids, Stats, Throttling};

/// How the host arranges its control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Every controller in a v1 hierarchy, no v2 hierarchy.
    V1,
    /// Controllers in v1 hierarchies, beside an empty v2 hierarchy.
    Hybrid,
    /// One v2 hierarchy.
    V2,
}

/// Finds out how the host arranges its control groups.
pub fn detect() -> Result<Mode, Error> {
    Err(unsupported())
}

/// The control group of one container: one directory on v2, one per hierarchy on v1.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

fn unsupported() -> Error {
    Error::invalid(Stage::Cgroup, "not supported yet")
}

/// Tells when the memory limit killed a process of the group.
#[derive(Debug)]
pub struct OomWatch {
    /// Becomes readable (v1: an eventfd) or reports `POLLPRI`/`POLLIN` (v2: an inotify descriptor on
    /// `memory.events`) when something happened; then call [`OomWatch::take`].
    pub fd: OwnedFd,
}

impl OomWatch {
    /// Drains the descriptor and returns the number of processes killed since the last call.
    pub fn take(&mut self) -> Result<u64, Error> {
        Err(unsupported())
    }
}

impl Cgroup {
    /// Refers to a group by its path below the hierarchies' mount points, e.g. `/ferry/ID`, without touching it.
    pub fn open(path: &Path) -> Result<Cgroup, Error> {
        Ok(Cgroup { path: path.to_owned() })
    }
    /// Creates the group (and its ancestors) where it does not exist yet.
    pub fn create(path: &Path) -> Result<Cgroup, Error> {
        Self::open(path)
    }
    /// Path below the hierarchies' mount points.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Host directories of the group, with the controllers each is for (empty on v2).
    pub fn paths(&self) -> Vec<(String, PathBuf)> {
        Vec::new()
    }
    /// Sets limits; also for a running container (`update`).
    pub fn apply(&self, resources: &LinuxResources) -> Result<(), Error> {
        let _ = resources;
        Err(unsupported())
    }
    /// Moves a process into the group.
    pub fn add(&self, pid: i32) -> Result<(), Error> {
        let _ = pid;
        Err(unsupported())
    }
    /// Pids in the group and below it, in the caller's pid namespace.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        Err(unsupported())
    }
    /// Freezes all processes; returns when they are.
    pub fn freeze(&self) -> Result<(), Error> {
        Err(unsupported())
    }
    /// Undoes [`Cgroup::freeze`].
    pub fn thaw(&self) -> Result<(), Error> {
        Err(unsupported())
    }
    /// Whether the group is frozen.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        Err(unsupported())
    }
    /// Kills all processes, frozen ones too.
    pub fn kill_all(&self) -> Result<(), Error> {
        Err(unsupported())
    }
    /// Current usage and limits.
    pub fn stats(&self) -> Result<Stats, Error> {
        Err(unsupported())
    }
    /// Starts watching for processes killed for memory.
    pub fn watch_oom(&self) -> Result<OomWatch, Error> {
        Err(unsupported())
    }
    /// Removes the group's directories; waits briefly for processes still exiting. Missing ones are fine.
    pub fn remove(&self) -> Result<(), Error> {
        Err(unsupported())
    }
}
