//! A group inside a container's group, for processes that may have to be ended together.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode as FileMode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::{Cgroup, Mode, collect_pids, make_dirs, remove_tree, try_write, write};
use crate::error::At;
use crate::{Error, Stage};

/// How often the processes are listed again: each time those forked meanwhile are found.
const KILL_ROUNDS: usize = 8;

/// A group below a container's, in one hierarchy only: the v2 one, or the v1 freezer's where there is no other. Limits hold
/// for it as for the whole container; the container can neither leave it behind by forking nor by a session of its own.
#[derive(Debug)]
pub struct Subgroup {
    dir: PathBuf,
    v2: bool,
    hybrid: bool,
}

impl Cgroup {
    /// Makes a group below this one.
    ///
    /// # Errors
    /// When the host has neither hierarchy, or the directory cannot be made.
    pub fn subgroup(&self, name: &str) -> Result<Subgroup, Error> {
        let (parent, v2) = match (self.v2_dir(), self.v1_dir("freezer")) {
            (Some(dir), _) => (dir, true),
            (None, Some(dir)) => (dir, false),
            (None, None) => {
                return Err(Error::invalid(Stage::Cgroup, "the host has no freezer cgroup controller"));
            }
        };
        let dir = parent.join(name);
        make_dirs(&dir)?;
        Ok(Subgroup { dir, v2, hybrid: self.layout.mode() == Mode::Hybrid })
    }
}

impl Subgroup {
    /// The directory to be born in, on v2.
    pub(crate) fn dir_fd(&self) -> Result<Option<OwnedFd>, Error> {
        if !self.v2 {
            return Ok(None);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let at = || format!("open {}", self.dir.display());
        open(&self.dir, flags, FileMode::empty()).at(Stage::Cgroup, at).map(Some)
    }

    /// The directory to be born in where v1 hierarchies are beside it, see [`Cgroup::hybrid_dir_fd`].
    pub(crate) fn hybrid_dir_fd(&self) -> Result<Option<OwnedFd>, Error> {
        if self.hybrid { self.dir_fd() } else { Ok(None) }
    }

    /// Moves a process, and what it has started meanwhile, into the group.
    pub(crate) fn adopt(&self, pid: i32) -> Result<(), Error> {
        let procs = self.dir.join("cgroup.procs");
        for _ in 0..KILL_ROUNDS {
            let mut inside = Vec::new();
            collect_pids(&self.dir, &mut inside)?;
            let mut outside = family(pid);
            outside.retain(|pid| !inside.contains(pid));
            if outside.is_empty() {
                break;
            }
            for pid in outside {
                match try_write(&procs, &pid.to_string()) {
                    // One that has ended needs no group.
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(errno) => {
                        let what = format!("move process {pid} to {}", self.dir.display());
                        return Err(Error::system(Stage::Cgroup, what, errno));
                    }
                }
            }
        }
        Ok(())
    }

    /// Moves the calling thread, the only one of its process, into a v1 group.
    pub(crate) fn enter_v1(&self) -> Result<(), Error> {
        if self.v2 { Ok(()) } else { write(&self.dir.join("tasks"), "0") }
    }

    /// Kills all processes of the group.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&self) -> Result<(), Error> {
        if self.v2 && try_write(&self.dir.join("cgroup.kill"), "1").is_ok() {
            return Ok(());
        }
        // Linux before 5.14, or v1.
        for _ in 0..KILL_ROUNDS {
            let mut pids = Vec::new();
            collect_pids(&self.dir, &mut pids)?;
            if pids.is_empty() {
                break;
            }
            for pid in pids.into_iter().filter_map(Pid::from_raw) {
                // One that is gone needs no signal.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        Ok(())
    }

    /// Removes the group. What still runs in it goes on in the container's own.
    ///
    /// # Errors
    /// When a process cannot be moved or the directory not be removed; the container's end removes it then.
    pub fn dissolve(&self) -> Result<(), Error> {
        match rustix::fs::rmdir(&self.dir) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(_) => {}
        }
        if let Some(parent) = self.dir.parent() {
            let mut pids = Vec::new();
            collect_pids(&self.dir, &mut pids)?;
            for pid in pids {
                let _ = try_write(&parent.join("cgroup.procs"), &pid.to_string());
            }
        }
        remove_tree(&self.dir)
    }
}

/// A process and all its descendants.
fn family(pid: i32) -> Vec<i32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(&pid) = all.get(at) {
        at += 1;
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<i32>().ok()));
        }
    }
    all
}
