//! A container from its creation to the execution of its program.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ferry_sys::process::{Cloned, clone};
use ferry_types::Overlay;
use oci_spec::runtime::{LinuxResources, Spec};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, pidfd_send_signal, waitpid};
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};

use crate::cgroup::Cgroup;
use crate::channel::{Channel, Message};
use crate::error::At;
use crate::external::{External, ExternalExec, PendingExec};
use crate::hooks::HookPlan;
use crate::init::{InitContext, run_init};
use crate::plan::Plan;
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
    driver: Driver,
}

/// Who runs the container.
#[derive(Debug)]
enum Driver {
    /// This runtime.
    Own { channel: Option<Channel>, hooks: Option<HookPlan> },
    /// Another one.
    External(External),
}

/// Builds a container: on success its init process is set up and waits to call `execve`; on
/// failure nothing is left of it.
pub fn create(req: CreateRequest<'_>) -> Result<Container, Error> {
    create_with(req, &Extras::default())
}

/// What only the runtime command needs.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    /// Init waits for the start on this listening socket, since the creator will be gone by then.
    pub start: Option<OwnedFd>,
    /// Descriptors from 3 on that the program inherits.
    pub preserve_fds: u16,
}

pub(crate) fn create_with(req: CreateRequest<'_>, extras: &Extras) -> Result<Container, Error> {
    let plan = Plan::new(req.id, req.bundle, req.spec, req.netns)?;
    let linux = req.spec.linux().as_ref();
    let group = match linux.and_then(|l| l.cgroups_path().as_ref()) {
        Some(path) => path.clone(),
        None => Path::new("/").join(req.id),
    };
    let cgroup = Cgroup::open(&group)?;
    let resources = linux.and_then(|l| l.resources().as_ref());
    let (ours, theirs) = Channel::pair()?;

    // The process is born in its v2 group. v1 groups are made while it already mounts its root file
    // system; it enters them itself once they are there.
    cgroup.make_unified()?;
    let group_fd = cgroup.dir_fd()?;
    let cloned = {
        let _entered = plan.join_pid.as_ref().map(PidNamespace::enter).transpose()?;
        clone(plan.clone_flags, group_fd.as_ref().map(AsFd::as_fd))
    };
    let cloned = match cloned {
        Ok(cloned) => cloned,
        Err(error) => {
            drop(cgroup.remove());
            return Err(Error::system(Stage::Namespaces, "clone the container's init", error));
        }
    };
    let (pid, pidfd) = match cloned {
        Cloned::Child => {
            let channel = &theirs;
            let (plan, cgroup, stdio) = (&plan, &cgroup, &req.stdio);
            run_init(&InitContext { plan, overlay: req.overlay, cgroup, stdio, channel, extras })
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(theirs);
    let driver = Driver::Own { channel: Some(ours), hooks: plan.hooks.clone() };
    let mut container = Container { pid, pidfd, console: None, cgroup, driver };
    match container.accompany(&plan, resources) {
        Ok(()) => Ok(container),
        Err(error) => {
            container.undo();
            Err(error)
        }
    }
}

impl Container {
    /// One that another runtime has created.
    pub(crate) fn external(
        pid: i32,
        pidfd: OwnedFd,
        console: Option<OwnedFd>,
        cgroup: Cgroup,
        external: External,
    ) -> Self {
        Self { pid, pidfd, console, cgroup, driver: Driver::External(external) }
    }

    /// Whether another runtime runs it: [`exec()`](crate::exec()) is not for it then, but [`Container::begin_exec`].
    pub fn is_external(&self) -> bool {
        matches!(self.driver, Driver::External(_))
    }

    /// Has the other runtime run a further process.
    pub fn begin_exec(&mut self, exec: ExternalExec<'_>) -> Result<PendingExec, Error> {
        match &mut self.driver {
            Driver::External(external) => external.begin_exec(exec, &self.cgroup),
            Driver::Own { .. } => Err(Error::invalid(Stage::Exec, "the container has no other runtime")),
        }
    }

    /// Removes what is left of a container whose init was reaped: what another runtime keeps of it, and the control group with
    /// all that runs there. Then the `poststop` hooks run.
    pub fn destroy(&mut self) {
        if let Driver::External(external) = &mut self.driver {
            // Its hooks are run by the runtime.
            external.delete();
        }
        if self.cgroup.remove().is_err() {
            // What cannot be killed or removed stays; there is nobody to wait for it any more.
            let _ = self.cgroup.kill_all();
            let _ = self.cgroup.remove();
        }
        if let Driver::Own { hooks: Some(hooks), .. } = &self.driver {
            // The container is gone, whatever they do (runtime-spec `runtime.md`, "Lifecycle", step 13).
            let _ = hooks.poststop();
        }
    }

    fn hooks(&self) -> Option<&HookPlan> {
        match &self.driver {
            Driver::Own { hooks, .. } => hooks.as_ref(),
            Driver::External(_) => None,
        }
    }

    /// The caller's part while init sets itself up.
    fn accompany(&mut self, plan: &Plan, resources: Option<&LinuxResources>) -> Result<(), Error> {
        let channel = self.channel()?;
        if let Some(score) = plan.process.oom_score_adj {
            set_oom_score_adj(self.pid, score)?;
        }
        self.cgroup.make_v1()?;
        if let Some(resources) = resources {
            self.cgroup.apply(resources)?;
        }
        // A child that failed meanwhile has closed its end; its report is waiting to be read.
        drop(channel.send(&Message::Grouped, &[]));
        if let Some(hooks) = self.hooks().filter(|hooks| hooks.has_create_runtime()) {
            channel.expect(|m| matches!(m, Message::Unshared))?;
            hooks.create_runtime(self.pid)?;
            channel.send(&Message::HooksDone, &[])?;
        }
        let fds = channel.expect(|m| matches!(m, Message::Ready))?;
        self.console = fds.into_iter().next();
        Ok(())
    }

    fn channel(&self) -> Result<&Channel, Error> {
        match &self.driver {
            Driver::Own { channel: Some(channel), .. } => Ok(channel),
            Driver::Own { channel: None, .. } | Driver::External(_) => Err(started_before()),
        }
    }

    /// Lets init execute the user's program. Returns once `execve` succeeded, or with its error,
    /// after which init is reaped and everything undone. (Of another runtime's containers only what that
    /// runtime notices is an error.)
    pub fn start(&mut self) -> Result<(), Error> {
        let result = match &mut self.driver {
            Driver::External(external) if external.is_started() => return Err(started_before()),
            Driver::External(external) => external.start(),
            Driver::Own { .. } => start_and_wait(self.channel()?),
        };
        if let Driver::Own { channel, .. } = &mut self.driver {
            *channel = None;
        }
        match (&result, self.hooks()) {
            (Err(_), _) => self.undo(),
            // The specification has the container go on when one of these fails.
            (Ok(()), Some(hooks)) => drop(hooks.poststart(self.pid)),
            (Ok(()), None) => {}
        }
        result
    }

    /// Ends a container that was not started: kills and reaps init, and removes what there is of it.
    pub fn undo(&mut self) {
        kill_and_reap(self.pid, self.pidfd.as_fd());
        if let Driver::External(external) = &mut self.driver {
            external.delete();
        }
        // The first error is the one to report, and it is on its way already.
        drop(self.cgroup.kill_all());
        drop(self.cgroup.remove());
    }
}

fn started_before() -> Error {
    Error::invalid(Stage::Exec, "container was started before")
}

/// Sends the start and waits for the channel to close, which `execve` does.
pub(crate) fn start_and_wait(channel: &Channel) -> Result<(), Error> {
    channel.send(&Message::Start, &[])?;
    match channel.recv()? {
        None => Ok(()),
        Some((Message::Failed(error), _)) => Err(error),
        Some(_) => Err(Error::system(Stage::Channel, "wait for execve", Errno::BADMSG)),
    }
}

pub(crate) fn kill_and_reap(pid: i32, pidfd: BorrowedFd<'_>) {
    // A process that is gone already needs no signal, one that was reaped already no wait.
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
    while let Err(Errno::INTR) = waitpid(Pid::from_raw(pid), WaitOptions::empty()) {}
}

pub(crate) fn set_oom_score_adj(pid: i32, score: i32) -> Result<(), Error> {
    match std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(Error::invalid(
            Stage::Settings,
            format!("set oom_score_adj to {score}: lowering it needs CAP_SYS_RESOURCE: permission denied"),
        )),
        Err(error) => Err(Error::system(Stage::Settings, format!("set oom_score_adj to {score}"), error)),
    }
}

/// While it lives, children of this process are born in another pid namespace.
pub(crate) struct PidNamespace {
    own: OwnedFd,
}

impl PidNamespace {
    /// `target`: a pid namespace, or the pidfd of a process in it.
    pub fn enter(target: &OwnedFd) -> Result<PidNamespace, Error> {
        Self::enter_with(|| move_into_link_name_space(target.as_fd(), Some(LinkNameSpaceType::ProcessID)))
    }

    /// The pid namespace of a process.
    pub fn enter_of(pidfd: BorrowedFd<'_>) -> Result<PidNamespace, Error> {
        Self::enter_with(|| move_into_thread_name_spaces(pidfd, ThreadNameSpaceType::PROCESS_ID))
    }

    fn enter_with(join: impl FnOnce() -> Result<(), Errno>) -> Result<PidNamespace, Error> {
        let own = open("/proc/self/ns/pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .at(Stage::Namespaces, || "open the own pid namespace".to_owned())?;
        join().at(Stage::Namespaces, || "join the pid namespace".to_owned())?;
        Ok(PidNamespace { own })
    }
}

impl Drop for PidNamespace {
    fn drop(&mut self) {
        // Returning to the own namespace cannot be refused to one who was allowed to leave it.
        let _ = move_into_link_name_space(self.own.as_fd(), Some(LinkNameSpaceType::ProcessID));
    }
}
