//! Noticing processes killed because the memory limit was reached.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::{Cgroup, read, write};
use crate::error::At;
use crate::{Error, Stage};

/// Tells when the memory limit killed a process of the group.
#[derive(Debug)]
pub struct OomWatch {
    /// Readable (`POLLIN`) when something happened; then call [`OomWatch::take`].
    /// An eventfd on v1, an inotify descriptor on v2.
    pub fd: OwnedFd,
    file: PathBuf,
    seen: u64,
}

impl Cgroup {
    /// Number of processes of the group killed for memory; 0 where the host does not count them.
    pub fn oom_kills(&self) -> u64 {
        let file = match self.v1_dir("memory") {
            Some(dir) => dir.join("memory.oom_control"),
            None => match self.v2_dir() {
                Some(dir) => dir.join("memory.events"),
                None => return 0,
            },
        };
        std::fs::read_to_string(file).map_or(0, |text| kills(&text))
    }

    /// Starts watching for processes killed for memory. The first [`OomWatch::take`] tells of those killed before, too.
    pub fn watch_oom(&self) -> Result<OomWatch, Error> {
        let at = || "watch for processes killed for memory".to_owned();
        if let Some(dir) = self.v1_dir("memory") {
            let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).at(Stage::Cgroup, at)?;
            let file = dir.join("memory.oom_control");
            let control =
                open(&file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at(Stage::Cgroup, at)?;
            let line = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
            write(&dir.join("cgroup.event_control"), &line)?;
            read(&file)?;
            return Ok(OomWatch { fd, file, seen: 0 });
        }
        let dir =
            self.v2_dir().ok_or_else(|| Error::invalid(Stage::Cgroup, "the host accounts no memory"))?;
        let file = dir.join("memory.events");
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .at(Stage::Cgroup, at)?;
        inotify::add_watch(&fd, &file, inotify::WatchFlags::MODIFY).at(Stage::Cgroup, at)?;
        read(&file)?;
        Ok(OomWatch { fd, file, seen: 0 })
    }
}

impl OomWatch {
    /// Drains the descriptor and returns the number of processes killed since the last call, at
    /// first since the group was made. After
    /// the group was removed it is 0.
    pub fn take(&mut self) -> Result<u64, Error> {
        let mut buffer = [0u8; 4096];
        loop {
            match rustix::io::read(self.fd.as_fd(), &mut buffer) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(8) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::system(Stage::Cgroup, "read the memory events", errno)),
            }
        }
        let Ok(text) = std::fs::read_to_string(&self.file) else { return Ok(0) };
        let now = kills(&text);
        let new = now.saturating_sub(self.seen);
        self.seen = now;
        Ok(new)
    }
}

/// The `oom_kill` line, in v1's `memory.oom_control` and v2's `memory.events` alike.
fn kills(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn both_formats() {
        assert_eq!(super::kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), 3);
        assert_eq!(super::kills("low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n"), 1);
    }
}
