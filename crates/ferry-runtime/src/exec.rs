//! Further processes in a running container.

use std::os::fd::{BorrowedFd, OwnedFd};

use oci_spec::runtime::{Process, Spec};

use crate::cgroup::Cgroup;
use crate::{Error, Stage, Stdio};

/// What to run, and where.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// The container's init process in the caller's pid namespace.
    pub container_pid: i32,
    /// Refers to that process.
    pub pidfd: BorrowedFd<'a>,
    /// The container's control group.
    pub cgroup: &'a Cgroup,
    /// The container's config: namespaces and seccomp.
    pub spec: &'a Spec,
    /// The process to run.
    pub process: &'a Process,
    /// Its standard streams.
    pub stdio: Stdio,
}

/// A process run by [`exec`], a child of the caller, who reaps it.
#[derive(Debug)]
pub struct ExecProcess {
    /// In the caller's pid namespace.
    pub pid: i32,
    /// Refers to the process.
    pub pidfd: OwnedFd,
    /// Master side of the terminal, for [`Stdio::Terminal`].
    pub console: Option<OwnedFd>,
}

/// Runs a process in all namespaces and the control group of a container. Returns once its
/// `execve` succeeded; on failure the process is reaped.
pub fn exec(req: ExecRequest<'_>) -> Result<ExecProcess, Error> {
    let _ = req;
    Err(Error::invalid(Stage::Exec, "not supported yet"))
}
