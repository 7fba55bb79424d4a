//! Freezing, thawing and killing all processes of a group.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::{Cgroup, read, try_write, write};
use crate::error::At;
use crate::{Error, Stage};

/// How long the kernel may take to freeze a group.
const FREEZE_TIME: Duration = Duration::from_secs(2);

impl Cgroup {
    /// Freezes all processes; returns when they are.
    pub fn freeze(&self) -> Result<(), Error> {
        self.set_frozen(true)
    }

    /// Undoes [`Cgroup::freeze`].
    pub fn thaw(&self) -> Result<(), Error> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        let since = Instant::now();
        let mut pause = Duration::from_micros(50);
        if let Some(dir) = self.v1_dir("freezer") {
            let (file, wanted) = (dir.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" });
            loop {
                // A process forked meanwhile may have been missed: say it again until it holds.
                write(&file, wanted)?;
                if read(&file)?.trim() == wanted {
                    return Ok(());
                }
                if since.elapsed() > FREEZE_TIME {
                    let _ = try_write(&file, "THAWED");
                    return Err(Error::system(Stage::Cgroup, "freeze the container", Errno::TIMEDOUT));
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(10));
            }
        }
        let dir = self.v2_freezer()?;
        write(&dir.join("cgroup.freeze"), if frozen { "1" } else { "0" })?;
        while frozen_event(&dir)? != frozen {
            if since.elapsed() > FREEZE_TIME {
                let _ = try_write(&dir.join("cgroup.freeze"), "0");
                return Err(Error::system(Stage::Cgroup, "freeze the container", Errno::TIMEDOUT));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
        Ok(())
    }

    fn v2_freezer(&self) -> Result<std::path::PathBuf, Error> {
        self.v2_dir()
            .ok_or_else(|| Error::invalid(Stage::Cgroup, "the host has no freezer cgroup controller"))
    }

    /// Whether the group is frozen.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        if let Some(dir) = self.v1_dir("freezer") {
            return Ok(read(&dir.join("freezer.state"))?.trim() != "THAWED");
        }
        Ok(read(&self.v2_freezer()?.join("cgroup.freeze"))?.trim() == "1")
    }

    /// Kills all processes, frozen ones too.
    pub fn kill_all(&self) -> Result<(), Error> {
        if let Some(dir) = self.v2_dir() {
            match try_write(&dir.join("cgroup.kill"), "1") {
                Ok(()) => return self.thaw_if_v1(),
                // Linux before 5.14, or nothing there.
                Err(Errno::NOENT | Errno::NODEV) => {}
                Err(errno) => {
                    return Err(Error::system(Stage::Cgroup, "kill the container's processes", errno));
                }
            }
        }
        // Processes may fork while the list is read: until none is left.
        for _ in 0..100 {
            let pids = self.pids()?;
            if pids.is_empty() {
                return Ok(());
            }
            for pid in pids.into_iter().filter_map(Pid::from_raw) {
                match kill_process(pid, Signal::KILL) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(errno) => {
                        return Err(Error::system(Stage::Cgroup, "kill the container's processes", errno));
                    }
                }
            }
            self.thaw_if_v1()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// A process in v1's freezer does not die before it is thawed.
    fn thaw_if_v1(&self) -> Result<(), Error> {
        let Some(dir) = self.v1_dir("freezer") else { return Ok(()) };
        match try_write(&dir.join("freezer.state"), "THAWED") {
            Ok(()) | Err(Errno::NOENT | Errno::NODEV) => Ok(()),
            other => other.at(Stage::Cgroup, || "thaw the container".to_owned()),
        }
    }
}

fn frozen_event(dir: &Path) -> Result<bool, Error> {
    Ok(read(&dir.join("cgroup.events"))?.lines().any(|line| line == "frozen 1"))
}
