//! Mount namespaces (mount_namespaces(7)) of single threads.
//!
//! Root, working directory and mount namespace belong together, so a thread that leaves its process' namespace also gets
//! a root and a working directory of its own, for good. Only for threads that end soon after, never for one of a pool.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// The calling thread's mount namespace.
///
/// # Errors
/// openat(2) of `/proc/thread-self/ns/mnt`.
pub fn current() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, "/proc/thread-self/ns/mnt", flags, Mode::empty())?)
}

/// Moves the calling thread, and no other, into a copy of its mount namespace.
///
/// # Errors
/// unshare(2).
pub fn unshare() -> io::Result<()> {
    // SAFETY: CLONE_NEWNS (which implies CLONE_FS) changes how the thread resolves paths later; it neither unshares
    // memory nor descriptors, so no Rust value is affected.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)? };
    Ok(())
}

/// Moves the calling thread, and no other, into a mount namespace; its root and working directory become the
/// namespace's root.
///
/// # Errors
/// unshare(2), setns(2).
pub fn enter(mntns: impl AsFd) -> io::Result<()> {
    // setns(2) refuses a thread that shares its root directory with others.
    // SAFETY: CLONE_FS gives the thread its own root, working directory and umask; no Rust value is affected.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS)? };
    rustix::thread::move_into_link_name_space(mntns.as_fd(), Some(LinkNameSpaceType::Mount))?;
    Ok(())
}
