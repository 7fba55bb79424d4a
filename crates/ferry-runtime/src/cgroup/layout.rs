//! Where the host's control group hierarchies are mounted.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::statfs;

use crate::error::At;
use crate::{Error, Stage};

use super::Mode;

/// `CGROUP2_SUPER_MAGIC` (linux/magic.h).
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// One mounted v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Its controllers, or `name=systemd`.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
}

/// The hierarchies of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub v1: Vec<Hierarchy>,
    /// The v2 hierarchy: alone on v2, beside the others on a hybrid host.
    pub v2: Option<PathBuf>,
}

impl Layout {
    pub fn mode(&self) -> Mode {
        match (self.v1.is_empty(), &self.v2) {
            (true, _) => Mode::V2,
            (false, Some(_)) => Mode::Hybrid,
            (false, None) => Mode::V1,
        }
    }

    /// The host's, found out once.
    pub fn host() -> Result<&'static Layout, Error> {
        static HOST: OnceLock<Layout> = OnceLock::new();
        if let Some(layout) = HOST.get() {
            return Ok(layout);
        }
        let layout = Layout::detect()?;
        Ok(HOST.get_or_init(|| layout))
    }

    fn detect() -> Result<Layout, Error> {
        let default = Path::new("/sys/fs/cgroup");
        if statfs(default).is_ok_and(|s| s.f_type as u64 == CGROUP2_SUPER_MAGIC) {
            return Ok(Layout { v1: Vec::new(), v2: Some(default.to_owned()) });
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")
            .at(Stage::Cgroup, || "read /proc/self/mountinfo".to_owned())?;
        let layout = parse(&mounts);
        if layout.v1.is_empty() && layout.v2.is_none() {
            return Err(Error::invalid(Stage::Cgroup, "no cgroup hierarchy is mounted"));
        }
        Ok(layout)
    }
}

/// Reads `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
fn parse(mountinfo: &str) -> Layout {
    let mut layout = Layout { v1: Vec::new(), v2: None };
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(mountpoint) = left.split(' ').nth(4) else { continue };
        let mountpoint = PathBuf::from(unescape(mountpoint));
        let mut right = right.split(' ');
        match (right.next(), right.nth(1)) {
            (Some("cgroup2"), _) if layout.v2.is_none() => layout.v2 = Some(mountpoint),
            (Some("cgroup"), Some(options)) => {
                let controllers: Vec<String> = options
                    .split(',')
                    .filter(|o| {
                        !matches!(
                            *o,
                            "rw" | "ro"
                                | "xattr"
                                | "clone_children"
                                | "noprefix"
                                | "cpuset_v2_mode"
                                | "favordynmods"
                                | "nofavordynmods"
                        ) && !o.starts_with("release_agent=")
                    })
                    .map(str::to_owned)
                    .collect();
                // The same hierarchy may be mounted more than once.
                let known = layout.v1.iter().any(|h| h.controllers == controllers);
                // Other named hierarchies belong to somebody else.
                let ours = controllers.iter().all(|c| !c.starts_with("name=") || c == "name=systemd");
                if !known && ours && !controllers.is_empty() {
                    layout.v1.push(Hierarchy { controllers, mountpoint });
                }
            }
            _ => {}
        }
    }
    layout
}

/// Undoes the kernel's octal escapes of blanks and backslashes.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_host() {
        let layout = parse(
            "25 21 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
             26 25 0:23 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
             27 25 0:24 / /sys/fs/cgroup/systemd rw shared:5 - cgroup cgroup rw,xattr,name=systemd\n\
             28 25 0:25 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             29 25 0:26 / /mnt/a\\040b rw - cgroup cgroup rw,memory\n\
             30 25 0:27 / /other rw - cgroup cgroup rw,name=other\n",
        );
        assert_eq!(layout.mode(), Mode::Hybrid);
        assert_eq!(layout.v2, Some("/sys/fs/cgroup/unified".into()));
        let names: Vec<_> = layout.v1.iter().map(|h| h.controllers.join(",")).collect();
        assert_eq!(names, ["name=systemd", "cpu,cpuacct", "memory"]);
        assert_eq!(layout.v1.last().unwrap().mountpoint, Path::new("/mnt/a b"));
    }

    #[test]
    fn pure_hosts() {
        assert_eq!(parse("1 2 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n").mode(), Mode::V2);
        assert_eq!(parse("1 2 0:3 / /c/memory rw - cgroup cgroup rw,memory\n").mode(), Mode::V1);
    }
}
