//! Ready-made shims. Executing a program costs more than all else the engine does for a start, so a few
//! shims wait, already executed, for their container.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ferry_shim_proto::ShimPid;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use tokio::sync::Notify;

/// How long after a shim was taken the next one is made ready.
const REFILL_DELAY: Duration = Duration::from_millis(8);

/// An executed shim that has not been told its container yet. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct WarmShim {
    /// Our end of the shim's descriptor 3.
    pub socket: UnixStream,
    /// Which process it is.
    pub process: ShimPid,
}

/// The shim's program, sealed, and the shims waiting.
pub(crate) struct ShimPool {
    /// A sealed copy: what runs cannot be changed by anything that gets hold of `/proc/PID/exe`.
    program: OwnedFd,
    log: File,
    target: usize,
    idle: Mutex<VecDeque<WarmShim>>,
    taken: Notify,
}

impl ShimPool {
    /// Copies `program` into a sealed memfd. `log` receives the shims' stderr.
    ///
    /// # Errors
    /// When the program cannot be read or the kernel has no memfd.
    pub fn open(program: &Path, log: File, target: usize) -> io::Result<Arc<Self>> {
        let memfd = rustix::fs::memfd_create("ferry-shim", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut copy = File::from(memfd);
        io::copy(&mut File::open(program)?, &mut copy)?;
        let program = OwnedFd::from(copy);
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&program, seals)?;
        Ok(Arc::new(Self { program, log, target, idle: Mutex::default(), taken: Notify::new() }))
    }

    /// The program, to be read from its beginning.
    ///
    /// # Errors
    /// When procfs is not there.
    pub fn open_program(&self) -> io::Result<File> {
        File::open(format!("/proc/self/fd/{}", self.program.as_raw_fd()))
    }

    /// A ready shim, or a freshly executed one when none waits.
    ///
    /// # Errors
    /// When no process can be made.
    pub fn take(&self) -> io::Result<WarmShim> {
        let waiting = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        self.taken.notify_one();
        match waiting {
            Some(shim) => Ok(shim),
            None => self.spawn(),
        }
    }

    /// Keeps the pool filled until the engine ends.
    pub async fn keep_filled(self: Arc<Self>) {
        loop {
            while self.idle.lock().unwrap_or_else(PoisonError::into_inner).len() < self.target {
                match self.spawn() {
                    Ok(shim) => self.idle.lock().unwrap_or_else(PoisonError::into_inner).push_back(shim),
                    Err(error) => {
                        tracing::warn!(%error, "cannot start a spare shim");
                        break;
                    }
                }
                tokio::task::yield_now().await;
            }
            self.taken.notified().await;
            // Let the start that took a shim have the processor first; it is done after some milliseconds.
            tokio::time::sleep(REFILL_DELAY).await;
        }
    }

    fn spawn(&self) -> io::Result<WarmShim> {
        let (ours, theirs) = UnixStream::pair()?;
        let program = format!("/proc/self/fd/{}", self.program.as_raw_fd());
        let pid =
            ferry_sys::spawn::spawn_with_socket(&program, &["ferry-shim"], self.log.as_fd(), theirs.as_fd())?;
        ours.set_nonblocking(true)?;
        reap_in_background(pid)?;
        let start_time = live_since(pid).ok_or_else(|| io::Error::other("the shim ended at once"))?;
        Ok(WarmShim { socket: ours, process: ShimPid { pid, start_time } })
    }
}

/// When a process started, in clock ticks after boot; `None` when it is not or no longer alive.
pub(crate) fn live_since(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Fields are counted after the command name, which may contain anything but is closed by the last parenthesis
    // (proc_pid_stat(5)); start time is the 22nd field, the state the 3rd.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    match fields.next() {
        None | Some("Z" | "X") => None,
        Some(_) => fields.nth(18)?.parse().ok(),
    }
}

/// The process a pid file names, when it still is that process.
pub(crate) fn named_in(pid_file: &Path) -> Option<ShimPid> {
    let shim: ShimPid = serde_json::from_slice(&std::fs::read(pid_file).ok()?).ok()?;
    (live_since(shim.pid) == Some(shim.start_time)).then_some(shim)
}

/// Kills the shim of a container, which works for a stopped one too. Tells whether there was one. What it leaves behind is
/// ended by whoever sees its connection close.
pub(crate) fn kill(pid_file: &Path) -> bool {
    let Some(shim) = named_in(pid_file) else { return false };
    let Some(pid) = Pid::from_raw(shim.pid) else { return false };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return false };
    // Now that it cannot become another process: is it the one?
    live_since(shim.pid) == Some(shim.start_time)
        && rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL).is_ok()
}

/// The first child of a shim that builds or runs a container: its init.
pub(crate) fn child_of(shim: &ShimPid) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", shim.pid)).ok()?;
    children.split_ascii_whitespace().next()?.parse().ok()
}

/// Collects the shim's exit status when it ends, so that no zombie stays while this engine lives.
fn reap_in_background(pid: i32) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(pid) else { return Ok(()) };
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
    let ended = crate::readiness::readable(pidfd)?;
    tokio::spawn(async move {
        if ended.readable().await.is_ok() {
            let _ = rustix::process::waitid(WaitId::PidFd(ended.get_ref().as_fd()), WaitIdOptions::EXITED);
        }
    });
    Ok(())
}
