//! Waiting for descriptors that are neither sockets nor pipes.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a non-blocking descriptor for readability.
#[expect(
    deprecated,
    reason = "unsound only for types that close or change their descriptor; an OwnedFd does neither"
)]
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}
