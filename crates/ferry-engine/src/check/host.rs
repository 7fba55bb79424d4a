//! What containers leave on the host when something went wrong: run directories and control groups.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use ferry_runtime::cgroup::Cgroup;
use ferry_types::ContainerId;

use super::{Check, Outcome, leave};
use crate::container::recover::shim_lives;

/// Whether a shim is among a process's ancestors (proc(5), `stat`).
fn is_supervised(mut pid: i32) -> bool {
    while pid > 1 {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
        let Some((before, after)) = stat.rsplit_once(')') else { return false };
        if before.split_once('(').is_some_and(|(_, name)| name == "ferry-shim") {
            return true;
        }
        let Some(parent) = after.split_whitespace().nth(1).and_then(|parent| parent.parse().ok()) else {
            return false;
        };
        pid = parent;
    }
    false
}

/// A container that ends or starts just now leaves nothing behind that is still there after this.
pub(super) const MOMENT: Duration = Duration::from_millis(300);

impl Check<'_> {
    /// Ids of every directory of a container, whatever its record says.
    fn known(&self) -> HashSet<ContainerId> {
        let entries = fs::read_dir(self.inner.paths.containers()).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).collect()
    }

    pub(super) fn run_directories(&mut self) {
        let strays = |check: &Self| -> HashSet<PathBuf> {
            let known: HashSet<OsString> = check
                .known()
                .iter()
                .filter_map(|id| check.inner.paths.bundle(id).path().file_name().map(OsString::from))
                .collect();
            let entries = fs::read_dir(check.inner.paths.run_containers()).into_iter().flatten().flatten();
            entries.filter(|entry| !known.contains(&entry.file_name())).map(|entry| entry.path()).collect()
        };
        let first = strays(self);
        if first.is_empty() {
            return;
        }
        std::thread::sleep(MOMENT);
        let mut still: Vec<PathBuf> = strays(self).intersection(&first).cloned().collect();
        still.sort();
        for dir in still {
            let problem = "run directory of a container that does not exist".to_owned();
            self.problem("run", &dir, problem, "remove it, unless its supervisor lives", |_| {
                if shim_lives(&crate::paths::BundleDir::at(&dir)) {
                    return leave("its supervisor lives: end it first");
                }
                fs::remove_dir_all(&dir).map_err(|e| e.to_string())?;
                Ok(Outcome::Repaired("removed".to_owned()))
            });
        }
    }

    pub(super) fn cgroups(&mut self) {
        let strays = |check: &Self| -> HashSet<ContainerId> {
            let known = check.known();
            let found = check.groups();
            found.into_iter().filter(|id| !known.contains(id)).collect()
        };
        let first = strays(self);
        if first.is_empty() {
            return;
        }
        std::thread::sleep(MOMENT);
        for id in strays(self).intersection(&first) {
            let path = self.group_path(id);
            let group = Cgroup::open(&path);
            let pids = group.as_ref().map_or_else(|_| Vec::new(), |group| group.pids().unwrap_or_default());
            // Another engine's, which has the same parent.
            if pids.iter().any(|pid| is_supervised(*pid)) {
                continue;
            }
            let pids = pids.len();
            let problem = match pids {
                0 => "control group of a container that does not exist".to_owned(),
                n => format!("control group of a container that does not exist, with {n} processes in it"),
            };
            let remedy = if pids == 0 { "remove it" } else { "leave it alone: it has processes" };
            self.problem("cgroup", &path, problem, remedy, |_| {
                if pids > 0 {
                    return leave("end its processes first");
                }
                group.and_then(|group| group.remove()).map_err(|e| e.to_string())?;
                Ok(Outcome::Repaired("removed".to_owned()))
            });
        }
    }

    fn group_path(&self, id: &ContainerId) -> PathBuf {
        PathBuf::from(format!("/{}/{id}", self.inner.config.cgroup_parent.trim_matches('/')))
    }

    /// Containers' control groups below the engine's parent, in any hierarchy.
    fn groups(&self) -> HashSet<ContainerId> {
        let parent = PathBuf::from(format!("/{}", self.inner.config.cgroup_parent.trim_matches('/')));
        let Ok(group) = Cgroup::open(&parent) else { return HashSet::new() };
        let entries = group.paths().into_iter().flat_map(|(_, dir)| fs::read_dir(dir).into_iter().flatten());
        entries.flatten().filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).collect()
    }

    /// Rules of others that are in containers' way. They are not ours to change.
    pub(super) fn firewall(&mut self) {
        let Some(config) = self.inner.bridge_config() else { return };
        let device = config.device.clone();
        for obstacle in self.inner.network.obstacles(&device) {
            let path = PathBuf::from("/sys/class/net").join(&device);
            let remedy = "allow forwarding from and to the bridge there, see docs/firewall.md";
            self.problem("firewall", &path, obstacle, remedy, |_| {
                leave("these are rules of somebody else's")
            });
        }
    }
}
