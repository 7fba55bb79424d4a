//! Further processes in a running container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_sys::process::{Cloned, clone};
use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};
use rustix::fs::{Mode, OFlags, open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::cgroup::{Cgroup, Subgroup};
use crate::channel::{Channel, Message};
use crate::console::Console;
use crate::container::{Extras, PidNamespace, kill_and_reap, set_oom_score_adj, start_and_wait};
use crate::error::At;
use crate::init::{become_program, finish, prologue};
use crate::plan::ProcessPlan;
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
    /// The group below it that the process is to be in, when it shall be ended with all it starts.
    pub group: Option<&'a Subgroup>,
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
    exec_with(req, &Extras::default())
}

pub(crate) fn exec_with(req: ExecRequest<'_>, extras: &Extras) -> Result<ExecProcess, Error> {
    let plan = ProcessPlan::new(req.process, req.spec)?;
    let namespaces = namespaces_of(req.spec);
    let (ours, theirs) = Channel::pair()?;
    let group_fd = match req.group.map(Subgroup::dir_fd).transpose()?.flatten() {
        Some(fd) => Some(fd),
        None => req.cgroup.dir_fd()?,
    };
    let cloned = {
        let _entered = PidNamespace::enter_of(req.pidfd)?;
        clone(0, group_fd.as_ref().map(AsFd::as_fd))
    };
    let (pid, pidfd) = match cloned.at(Stage::Namespaces, || "clone".to_owned())? {
        Cloned::Child => run_exec(&req, &plan, namespaces, &theirs, extras),
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(theirs);
    match accompany(&plan, pid, &ours) {
        Ok(console) => Ok(ExecProcess { pid, pidfd, console }),
        Err(error) => {
            kill_and_reap(pid, pidfd.as_fd());
            Err(error)
        }
    }
}

fn accompany(plan: &ProcessPlan, pid: i32, channel: &Channel) -> Result<Option<OwnedFd>, Error> {
    if let Some(score) = plan.oom_score_adj {
        set_oom_score_adj(pid, score)?;
    }
    let fds = channel.expect(|m| matches!(m, Message::Ready))?;
    start_and_wait(channel)?;
    Ok(fds.into_iter().next())
}

/// The child's side. Never returns.
fn run_exec(
    req: &ExecRequest<'_>,
    plan: &ProcessPlan,
    namespaces: ThreadNameSpaceType,
    channel: &Channel,
    extras: &Extras,
) -> ! {
    let joined = || {
        prologue(plan, &req.container_pid.to_string())?;
        req.cgroup.enter_v1()?;
        req.group.map_or(Ok(()), Subgroup::enter_v1)?;
        move_into_thread_name_spaces(req.pidfd, namespaces)
            .at(Stage::Namespaces, || "join the container's namespaces".to_owned())?;
        rustix::process::umask(Mode::empty());
        match &req.stdio {
            Stdio::Terminal { size } => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let root = open("/", flags, Mode::empty()).at(Stage::Stdio, || "open /".to_owned())?;
                Console::open(root.as_fd(), *size).map(Some)
            }
            Stdio::Inherit | Stdio::Fds { .. } => Ok(None),
        }
    };
    match joined() {
        Ok(console) => finish(channel, become_program(plan, None, channel, &req.stdio, console, extras)),
        Err(error) => finish(channel, Err((error, None))),
    }
}

/// Every kind of namespace the container may have to itself; joining one that is shared with the
/// host changes nothing, except for user namespaces, where joining the own one is refused.
fn namespaces_of(spec: &Spec) -> ThreadNameSpaceType {
    let mut all = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP;
    for ns in spec.linux().iter().flat_map(|l| l.namespaces().iter().flatten()) {
        match ns.typ() {
            LinuxNamespaceType::User => all |= ThreadNameSpaceType::USER,
            LinuxNamespaceType::Time => all |= ThreadNameSpaceType::TIME,
            _ => {}
        }
    }
    all
}
