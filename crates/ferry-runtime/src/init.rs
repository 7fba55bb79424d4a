//! What a new process does between `clone` and `execve`: the container's init, and an exec's process.
//! It runs on a copy of the caller's memory and leaves only through `execve` or `exit`.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_sys::process as sys;
use ferry_types::Overlay;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::DumpableBehavior;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::cgroup::Cgroup;
use crate::channel::{Channel, Message};
use crate::console::{Console, stdio_from};
use crate::container::Extras;
use crate::error::At;
use crate::hooks::HookPlan;
use crate::plan::{MountKind, Plan, ProcessPlan};
use crate::{Error, Stage, Stdio, command, credentials, devices, mounts, rootfs};

/// What the container's init needs besides the plan.
pub(crate) struct InitContext<'a> {
    pub plan: &'a Plan,
    pub overlay: Option<&'a Overlay>,
    pub cgroup: &'a Cgroup,
    pub stdio: &'a Stdio,
    pub channel: &'a Channel,
    pub extras: &'a Extras,
}

/// The container's init process. Never returns.
pub(crate) fn run_init(context: &InitContext<'_>) -> ! {
    finish(context.channel, set_up(context))
}

/// Reports the failure that kept a process from its `execve`, and ends.
pub(crate) fn finish(
    channel: &Channel,
    failed: Result<std::convert::Infallible, (Error, Option<Channel>)>,
) -> ! {
    let Err((error, moved)) = failed;
    // Nobody is left to hear about it when this fails, too.
    drop(moved.as_ref().unwrap_or(channel).send(&Message::Failed(error), &[]));
    sys::exit_now(1)
}

type Outcome = Result<std::convert::Infallible, (Error, Option<Channel>)>;

fn set_up(context: &InitContext<'_>) -> Outcome {
    let console = build(context).map_err(|error| (error, None))?;
    let InitContext { plan, channel, stdio, extras, .. } = *context;
    become_program(&plan.process, plan.hooks.as_ref(), channel, stdio, console, extras)
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_pid()
}

/// Everything up to the pivot and the container's settings.
fn build(context: &InitContext<'_>) -> Result<Option<Console>, Error> {
    let InitContext { plan, overlay, cgroup, stdio, channel, extras: _ } = *context;
    prologue(&plan.process, &plan.id)?;
    for (fd, kind) in &plan.join {
        join(fd.as_fd(), *kind)?;
    }
    if plan.bring_lo_up {
        ferry_sys::loopback::bring_up()
            .at(Stage::Namespaces, || "bring up the loopback interface".to_owned())?;
    }
    rustix::process::umask(Mode::empty());

    let root = rootfs::attach(plan, overlay)?;
    let mut grouped = false;
    for mount in &plan.mounts {
        if matches!(mount.kind, MountKind::Cgroup) && !grouped {
            enter_cgroup(plan, cgroup, channel)?;
            grouped = true;
        }
        mounts::make(root.as_fd(), mount, cgroup, plan.new_cgroupns)?;
    }
    let binds_dev = plan
        .mounts
        .iter()
        .any(|m| m.destination == std::path::Path::new("/dev") && matches!(m.kind, MountKind::Bind { .. }));
    if !binds_dev {
        devices::populate(root.as_fd(), plan)?;
    }
    let console = match stdio {
        Stdio::Terminal { size } => {
            let console = Console::open(root.as_fd(), *size)?;
            if !binds_dev {
                console.mount_on_dev_console(root.as_fd())?;
            }
            Some(console)
        }
        Stdio::Inherit | Stdio::Fds { .. } => None,
    };
    if !grouped {
        enter_cgroup(plan, cgroup, channel)?;
    }
    if let Some(hooks) = &plan.hooks {
        if hooks.has_create_runtime() {
            channel.send(&Message::Unshared, &[])?;
            channel.expect(|m| matches!(m, Message::HooksDone))?;
        }
        hooks.create_container(own_pid())?;
    }
    rootfs::pivot(plan, root.as_fd())?;
    drop(root);

    settings(plan)?;
    rootfs::finish(plan)?;
    // The image may lack its own working directory; runc makes it, too.
    drop(std::fs::create_dir_all(&plan.process.cwd));
    Ok(console)
}

/// What every process does first.
pub(crate) fn prologue(process: &ProcessPlan, keyring: &str) -> Result<(), Error> {
    sys::reset_signals().at(Stage::Namespaces, || "reset signals".to_owned())?;
    // Until execve nothing in the container may trace this process or reach its descriptors.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .at(Stage::Namespaces, || "set not dumpable".to_owned())?;
    rustix::process::setsid().at(Stage::Namespaces, || "setsid".to_owned())?;
    credentials::label(process)?;
    if let Ok(name) = CString::new(format!("_ses.{keyring}")) {
        match sys::join_session_keyring(&name) {
            Ok(()) => {}
            // Without keyrings in the kernel, or with the user's quota used up, the container shares the caller's.
            Err(error)
                if matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::NOSYS | Errno::PERM | Errno::DQUOT | Errno::ACCESS)
                ) => {}
            Err(error) => return Err(Error::system(Stage::Namespaces, "join a session keyring", error)),
        }
    }
    Ok(())
}

fn join(fd: BorrowedFd<'_>, kind: u64) -> Result<(), Error> {
    let kind = match kind {
        sys::CLONE_NEWNET => LinkNameSpaceType::Network,
        sys::CLONE_NEWUTS => LinkNameSpaceType::HostNameAndNISDomainName,
        sys::CLONE_NEWIPC => LinkNameSpaceType::InterProcessCommunication,
        sys::CLONE_NEWCGROUP => LinkNameSpaceType::ControlGroup,
        sys::CLONE_NEWUSER => LinkNameSpaceType::User,
        sys::CLONE_NEWTIME => LinkNameSpaceType::Time,
        sys::CLONE_NEWPID => LinkNameSpaceType::ProcessID,
        _ => LinkNameSpaceType::Mount,
    };
    move_into_link_name_space(fd, Some(kind)).at(Stage::Namespaces, || format!("join the {kind:?} namespace"))
}

/// Waits until the caller has made the control group and enters it; it then is the root of this
/// process' control group namespace.
fn enter_cgroup(plan: &Plan, cgroup: &Cgroup, channel: &Channel) -> Result<(), Error> {
    channel.expect(|m| matches!(m, Message::Grouped))?;
    cgroup.enter_v1()?;
    if plan.new_cgroupns {
        sys::unshare(sys::CLONE_NEWCGROUP).at(Stage::Namespaces, || "new cgroup namespace".to_owned())?;
    }
    Ok(())
}

/// Host name and sysctls.
fn settings(plan: &Plan) -> Result<(), Error> {
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes())
            .at(Stage::Settings, || format!("sethostname {name:?}"))?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes())
            .at(Stage::Settings, || format!("setdomainname {name:?}"))?;
    }
    for (key, value) in &plan.sysctl {
        crate::sysctl::write(key, value)?;
    }
    Ok(())
}

/// From a set-up process to the user's program: standard streams, descriptors, user, then the wait for
/// the start, then the restrictions and `execve`.
pub(crate) fn become_program(
    process: &ProcessPlan,
    hooks: Option<&HookPlan>,
    channel: &Channel,
    stdio: &Stdio,
    console: Option<Console>,
    extras: &Extras,
) -> Outcome {
    let early = |error: Error| (error, None);
    match (&console, stdio) {
        (Some(console), _) => console.become_stdio(),
        (None, Stdio::Fds { stdin, stdout, stderr }) => {
            stdio_from([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])
        }
        (None, Stdio::Inherit | Stdio::Terminal { .. }) => Ok(()),
    }
    .map_err(early)?;

    // From here on only the channel, the terminal's master and the socket to be started by are open:
    // no directory of the host is when the working directory is entered.
    let Kept { channel, master, start } = keep_only(channel, console, extras).map_err(early)?;
    let ready = prepare(process, &channel, master).and_then(|program| {
        let starter = start.map(|listener| accept(&listener)).transpose()?;
        Ok((program, starter))
    });
    let (program, starter) = match ready {
        Ok(ready) => ready,
        Err(error) => return Err((error, Some(channel))),
    };
    let channel = starter.unwrap_or(channel);
    if let Err(error) = restrict(process, hooks, &channel) {
        return Err((error, Some(channel)));
    }
    let error = sys::execve(&program.path, &program.vectors);
    let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let name = process.args.first().map(|a| a.to_bytes()).unwrap_or_default();
    Err((command::failure(name, errno, false), Some(channel)))
}

struct Kept {
    channel: Channel,
    master: Option<OwnedFd>,
    start: Option<OwnedFd>,
}

fn keep_only(channel: &Channel, console: Option<Console>, extras: &Extras) -> Result<Kept, Error> {
    let at = || "keep the channel's descriptor".to_owned();
    let base = 3 + i32::from(extras.preserve_fds);
    // Copies above all the new places, so that none lands on one another needs.
    let high = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, base + 8).at(Stage::Stdio, at);
    let mut fds = vec![high(channel.as_fd())?];
    let has_master = console.is_some();
    if let Some(console) = console {
        fds.push(high(console.master.as_fd())?);
        std::mem::forget(console);
    }
    if let Some(start) = &extras.start {
        fds.push(high(start.as_fd())?);
    }
    let mut kept = sys::keep_only(fds, base).at(Stage::Stdio, at)?.into_iter();
    let lost = || Error::system(Stage::Stdio, at(), Errno::BADF);
    let channel = Channel::from_fd(kept.next().ok_or_else(lost)?);
    let master = if has_master { kept.next() } else { None };
    Ok(Kept { channel, master, start: kept.next() })
}

fn accept(listener: &OwnedFd) -> Result<Channel, Error> {
    loop {
        match rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC) {
            Ok(fd) => return Ok(Channel::from_fd(fd)),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(errno) => return Err(Error::system(Stage::Channel, "wait for the start", errno)),
        }
    }
}

/// What to execute.
struct Program {
    path: CString,
    vectors: sys::ExecVectors,
}

/// Everything that can be done before the start, and the report that it is done.
fn prepare(process: &ProcessPlan, channel: &Channel, master: Option<OwnedFd>) -> Result<Program, Error> {
    own_stdio(process);
    let cwd_failed = |errno: Errno| {
        Error::system(
            Stage::Exec,
            format!("chdir to cwd ({:?}) set in config.json failed", process.cwd),
            errno,
        )
    };
    let mut entered = rustix::process::chdir(&process.cwd);
    credentials::limits(process)?;
    if let Some(persona) = process.personality {
        sys::set_personality(persona).at(Stage::Credentials, || "set personality".to_owned())?;
    }
    let env = with_home(process);
    credentials::become_user(process)?;
    if entered == Err(Errno::ACCESS) {
        // A directory only the user may enter, e.g. on a network file system.
        entered = rustix::process::chdir(&process.cwd);
    }
    entered.map_err(cwd_failed)?;
    // A directory outside the root has a path the kernel marks as unreachable.
    let cwd = rustix::process::getcwd(Vec::new()).map_err(cwd_failed)?;
    if !cwd.as_bytes().starts_with(b"/") {
        return Err(Error::invalid(
            Stage::Exec,
            "current working directory is outside of container mount namespace root",
        ));
    }
    let program =
        process.args.first().ok_or_else(|| Error::invalid(Stage::Config, "args must not be empty"))?;
    let path = command::lookup(program, &env)?;
    let vectors = sys::ExecVectors::new(process.args.clone(), env);
    match master {
        Some(master) => channel.send(&Message::Ready, &[master.as_fd()])?,
        None => channel.send(&Message::Ready, &[])?,
    }
    Ok(Program { path, vectors })
}

/// The environment, completed by the user's home directory.
fn with_home(process: &ProcessPlan) -> Vec<CString> {
    const HOME: &[u8] = b"HOME=";
    let mut env = process.env.clone();
    if !env.iter().any(|e| e.as_bytes().len() > HOME.len() && e.as_bytes().starts_with(HOME)) {
        env.retain(|e| !e.as_bytes().starts_with(HOME));
        env.extend(CString::new([HOME, command::home_of(process.uid).as_bytes()].concat()));
    }
    env
}

/// Waits for the start, then gives up everything the program shall not have.
fn restrict(process: &ProcessPlan, hooks: Option<&HookPlan>, channel: &Channel) -> Result<(), Error> {
    channel.expect(|m| matches!(m, Message::Start))?;
    if let Some(hooks) = hooks {
        hooks.start_container(own_pid())?;
    }
    credentials::restrict(process)
}

/// The user must be able to reopen its standard streams (`/dev/stdout`).
fn own_stdio(process: &ProcessPlan) {
    if process.uid == 0 {
        return;
    }
    let uid = rustix::fs::Uid::from_raw(process.uid);
    for fd in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        // Not on /dev/null, which is everybody's; elsewhere failing is harmless, the stream works as it is.
        if rustix::fs::fstat(fd).is_ok_and(|s| s.st_rdev != rustix::fs::makedev(1, 3)) {
            let _ = rustix::fs::fchown(fd, Some(uid), None);
        }
    }
}
