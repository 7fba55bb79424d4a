//! What a shim does once, before the engine needs it: shims are started in advance and wait, so nothing
//! here costs a container time.

use std::os::fd::OwnedFd;

use ferry_shim_proto::ShimPid;
use ferry_sys::supervisor;
use rustix::fs::{Mode, OFlags};

use crate::error::Error;
use crate::poll::Poller;
use crate::record;

/// A shim that only waits for its container.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) engine: OwnedFd,
    pub(crate) poller: Poller,
    pub(crate) children: OwnedFd,
    pub(crate) identity: ShimPid,
}

/// Makes this process a supervisor: own session, adopter of orphaned descendants, deaf to signals,
/// holding no descriptor but the engine's connection, in no directory.
pub fn prepare() -> Result<Prepared, Error> {
    let engine = supervisor::inherited_fd(3).ok_or(Error::NoEngine)?;
    supervisor::close_from(4);
    // Executed through /proc/self/fd, the process would be named after a number.
    rustix::thread::set_name(c"ferry-shim").map_err(Error::system("set process name"))?;
    // Fails for a process group leader, which then has been given its session by its parent.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(Error::system("become subreaper"))?;
    supervisor::block_all_signals().map_err(Error::system("block signals"))?;
    rustix::process::chdir("/").map_err(Error::system("change directory"))?;
    standard_streams()?;
    Ok(Prepared {
        engine,
        poller: Poller::new().map_err(Error::system("create epoll instance"))?,
        children: supervisor::sigchld_fd().map_err(Error::system("create signal descriptor"))?,
        identity: record::own_identity().map_err(Error::file("read", "/proc/self/stat"))?,
    })
}

/// Descriptors 0 to 2 must be taken, lest a pipe of the container ends up there.
fn standard_streams() -> Result<(), Error> {
    loop {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())
            .map_err(Error::file("open", "/dev/null"))?;
        if std::os::fd::AsRawFd::as_raw_fd(&null) > 2 {
            return Ok(());
        }
        // Kept open on purpose.
        let _ = std::os::fd::IntoRawFd::into_raw_fd(null);
    }
}
