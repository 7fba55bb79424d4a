//! Where a process' standard streams come from.

use std::os::fd::OwnedFd;

/// Standard streams of a new process.
#[derive(Debug)]
pub enum Stdio {
    /// The caller's own.
    Inherit,
    /// These three.
    Fds {
        /// Becomes descriptor 0.
        stdin: OwnedFd,
        /// Becomes descriptor 1.
        stdout: OwnedFd,
        /// Becomes descriptor 2.
        stderr: OwnedFd,
    },
    /// A new pseudo-terminal from the container's own devpts; the caller gets the master.
    Terminal {
        /// Initial `(rows, columns)`.
        size: Option<(u16, u16)>,
    },
}
