//! A container from its creation to the execution of its program.

use std::os::fd::OwnedFd;
use std::path::Path;

use ferry_types::Overlay;
use oci_spec::runtime::Spec;

use crate::cgroup::Cgroup;
use crate::{Error, Stage, Stdio};

/// What a container is made from.
#[derive(Debug)]
pub struct CreateRequest<'a> {
    /// Its id; names the session keyring and, without `linux.cgroupsPath`, the cgroup.
    pub id: &'a str,
    /// The OCI bundle directory, absolute.
    pub bundle: &'a Path,
    /// The bundle's config.
    pub spec: &'a Spec,
    /// Root file system to mount in the container's own mount namespace, in place of `root.path`.
    pub overlay: Option<&'a Overlay>,
    /// Network namespace to join; wins over the config's.
    pub netns: Option<OwnedFd>,
    /// Standard streams of the init process.
    pub stdio: Stdio,
}

/// A created container. Dropping it does not stop anything.
#[derive(Debug)]
pub struct Container {
    /// The init process in the caller's pid namespace; a child of the caller, who reaps it.
    pub pid: i32,
    /// Refers to the init process (pidfd_open(2)).
    pub pidfd: OwnedFd,
    /// Master side of the terminal, for [`Stdio::Terminal`].
    pub console: Option<OwnedFd>,
    /// The container's control group; the caller removes it after the exit.
    pub cgroup: Cgroup,
}

/// Builds a container: on success its init process is set up and waits to call `execve`; on
/// failure nothing is left of it.
pub fn create(req: CreateRequest<'_>) -> Result<Container, Error> {
    let _ = req;
    Err(Error::invalid(Stage::Config, "not supported yet"))
}

impl Container {
    /// Lets init execute the user's program. Returns once `execve` succeeded, or with its error,
    /// after which init is reaped and everything undone.
    pub fn start(&mut self) -> Result<(), Error> {
        Err(Error::invalid(Stage::Exec, "not supported yet"))
    }
}
