//! Network namespaces (network_namespaces(7)) as file descriptors.
//!
//! A namespace lives as long as a process, a descriptor or a mount refers to it. Nothing here ever
//! mounts one, so what a killed process held is freed by the kernel, veth pairs included.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// The calling thread's network namespace.
///
/// # Errors
/// openat(2) of `/proc/thread-self/ns/net`.
pub fn current() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, "/proc/thread-self/ns/net", flags, Mode::empty())?)
}

/// Moves the calling thread, and no other, into a new network namespace.
///
/// # Errors
/// unshare(2).
pub fn unshare() -> io::Result<()> {
    // SAFETY: CLONE_NEWNET changes which sockets and /proc files the thread opens later; it neither
    // unshares memory nor descriptors, so no Rust value is affected.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)? };
    Ok(())
}

/// Moves the calling thread, and no other, into a network namespace.
///
/// # Errors
/// setns(2).
pub fn enter(netns: impl AsFd) -> io::Result<()> {
    rustix::thread::move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// Inode of a namespace in nsfs, its identity while it lives.
///
/// # Errors
/// fstat(2).
pub fn inode(netns: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(netns)?.st_ino)
}
