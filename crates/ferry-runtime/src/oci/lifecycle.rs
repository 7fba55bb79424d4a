//! The operations.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxResources, Process, Spec};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, bind, connect, listen, sendmsg, socket_with,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::error::{Doing, OciError, OfFile};
use super::foreground;
use super::store::{Entry, Record, START_SOCKET, State, Status, check_id, now, save, start_time};
use crate::channel::Channel;
use crate::container::{Extras, create_with, start_and_wait};
use crate::exec::exec_with;
use crate::hooks::HookPlan;
use crate::{CreateRequest, ExecRequest, Stdio};

/// All containers of one state directory.
#[derive(Debug)]
pub struct Runtime {
    root: PathBuf,
}

/// How to create a container.
#[derive(Debug, Default)]
pub struct CreateOptions {
    /// The directory with `config.json`, absolute.
    pub bundle: PathBuf,
    /// Listening unix socket that is sent the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// Where to write init's pid.
    pub pid_file: Option<PathBuf>,
    /// Descriptors from 3 on the program inherits.
    pub preserve_fds: u16,
}

/// How to run a further process.
#[derive(Debug, Default)]
pub struct ExecOptions {
    /// As for [`CreateOptions`].
    pub console_socket: Option<PathBuf>,
    /// As for [`CreateOptions`].
    pub pid_file: Option<PathBuf>,
    /// As for [`CreateOptions`].
    pub preserve_fds: u16,
    /// Return once it runs.
    pub detach: bool,
}

impl Runtime {
    /// Over a state directory, which is made when the first container is.
    pub fn new(root: PathBuf) -> Runtime {
        Runtime { root }
    }

    /// Creates a container; its init waits for [`Runtime::start`].
    pub fn create(&self, id: &str, options: &CreateOptions) -> Result<(), OciError> {
        self.build(id, options, true, false).map(drop)
    }

    /// Creates and starts a container. With `detach` returns 0 once it runs, else stays with it, deletes
    /// it at its end and returns its exit code.
    pub fn run(&self, id: &str, options: &CreateOptions, detach: bool) -> Result<i32, OciError> {
        let signals = if detach { None } else { Some(foreground::catch_signals()?) };
        let (mut container, console) = self.build(id, options, false, !detach)?;
        // This process created it and starts it itself.
        if let Err(error) = container.start() {
            drop(std::fs::remove_dir_all(self.root.join(id)));
            return Err(error.into());
        }
        let Some(signals) = signals else { return Ok(0) };
        let code = foreground::stay(&signals, container.pid, container.pidfd.as_fd(), console.as_ref());
        self.delete(id, true)?;
        code
    }

    fn build(
        &self,
        id: &str,
        options: &CreateOptions,
        start_later: bool,
        foreground: bool,
    ) -> Result<(crate::Container, Option<OwnedFd>), OciError> {
        check_id(id)?;
        let config = options.bundle.join("config.json");
        let spec: Spec = serde_json::from_slice(&std::fs::read(&config).of(&config)?).of(&config)?;
        let terminal = wants_terminal(spec.process().as_ref());
        check_console(terminal, options.console_socket.is_some(), foreground)?;
        std::fs::create_dir_all(&self.root).of(&self.root)?;
        let dir = self.root.join(id);
        match std::fs::create_dir(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(OciError::Exists(id.to_owned()));
            }
            Err(source) => return Err(OciError::File { path: dir, source }),
        }
        let built = build_in(&dir, id, options, &spec, start_later);
        if built.is_err() {
            // The first error is the one to report.
            drop(std::fs::remove_dir_all(&dir));
        }
        built
    }

    /// Lets a created container execute its program.
    pub fn start(&self, id: &str) -> Result<(), OciError> {
        let entry = Entry::load(&self.root, id)?;
        match entry.status()? {
            Status::Created => {}
            status => return Err(OciError::Status { action: "start", status }),
        }
        let socket = start_socket(&entry.dir, false)?;
        start_and_wait(&Channel::from_fd(socket))?;
        let path = entry.dir.join(START_SOCKET);
        std::fs::remove_file(&path).of(&path)?;
        if let Ok(Some(hooks)) = HookPlan::new(id, &entry.record.bundle, &entry.spec()?) {
            // The specification has the container go on when one of these fails.
            drop(hooks.poststart(entry.record.pid));
        }
        Ok(())
    }

    /// Reports on a container.
    pub fn state(&self, id: &str) -> Result<State, OciError> {
        Entry::load(&self.root, id)?.state()
    }

    /// Reports on all, sorted by id. One that is being made or deleted meanwhile is left out.
    pub fn list(&self) -> Result<Vec<State>, OciError> {
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(OciError::File { path: self.root.clone(), source }),
        };
        let mut states = Vec::new();
        for entry in entries {
            let name = entry.of(&self.root)?.file_name();
            let Some(id) = name.to_str() else { continue };
            match Entry::load(&self.root, id).and_then(|entry| entry.state()) {
                Ok(state) => states.push(state),
                Err(OciError::NotFound(_) | OciError::File { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        states.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(states)
    }

    /// Sends a signal to init, or to all processes.
    pub fn kill(&self, id: &str, signal: i32, all: bool) -> Result<(), OciError> {
        let entry = Entry::load(&self.root, id)?;
        if all {
            for pid in entry.cgroup()?.pids()? {
                if let Ok(pidfd) = open_pidfd(pid) {
                    // One that ended meanwhile needs no signal.
                    drop(ferry_sys::signals::send(pidfd.as_fd(), signal));
                }
            }
            return Ok(());
        }
        let pidfd = open_pidfd(entry.record.pid).map_err(|_| OciError::NotRunning)?;
        // The descriptor is taken first: from here on the pid cannot become another process.
        if entry.status()? == Status::Stopped {
            return Err(OciError::NotRunning);
        }
        ferry_sys::signals::send(pidfd.as_fd(), signal).doing("send the signal")
    }

    /// Removes what is left of a stopped (or never started) container; with `force` of a running one, too,
    /// and a missing one is fine.
    pub fn delete(&self, id: &str, force: bool) -> Result<(), OciError> {
        let entry = match Entry::load(&self.root, id) {
            Err(OciError::NotFound(_)) if force => {
                check_id(id)?;
                drop(std::fs::remove_dir_all(self.root.join(id)));
                return Ok(());
            }
            other => other?,
        };
        let status = entry.status()?;
        if matches!(status, Status::Running | Status::Paused) && !force {
            return Err(OciError::Status { action: "delete", status });
        }
        let cgroup = entry.cgroup()?;
        if status != Status::Stopped {
            cgroup.kill_all()?;
        }
        cgroup.remove()?;
        if let Ok(Some(hooks)) = entry.spec().and_then(|s| Ok(HookPlan::new(id, &entry.record.bundle, &s)?)) {
            // As with poststart: a failing hook does not keep the container from being deleted.
            drop(hooks.poststop());
        }
        std::fs::remove_dir_all(&entry.dir).of(&entry.dir)
    }

    /// Runs a further process. Returns its exit code, or 0 at once when detached.
    pub fn exec(&self, id: &str, process: &Process, options: &ExecOptions) -> Result<i32, OciError> {
        let entry = Entry::load(&self.root, id)?;
        match entry.status()? {
            Status::Running => {}
            status => return Err(OciError::Status { action: "exec in", status }),
        }
        let terminal = wants_terminal(Some(process));
        check_console(terminal, options.console_socket.is_some(), !options.detach)?;
        let spec = entry.spec()?;
        let signals = if options.detach { None } else { Some(foreground::catch_signals()?) };
        let pidfd = open_pidfd(entry.record.pid).map_err(|_| OciError::NotRunning)?;
        let request = ExecRequest {
            container_pid: entry.record.pid,
            pidfd: pidfd.as_fd(),
            cgroup: &entry.cgroup()?,
            group: None,
            spec: &spec,
            process,
            stdio: stdio(Some(process), terminal),
        };
        let extras = Extras { start: None, preserve_fds: options.preserve_fds };
        let mut child = exec_with(request, &extras)?;
        let console = child.console.take();
        if let (Some(socket), Some(master)) = (&options.console_socket, &console) {
            send_console(socket, master)?;
        }
        write_pid(options.pid_file.as_deref(), child.pid)?;
        match signals {
            Some(signals) => foreground::stay(&signals, child.pid, child.pidfd.as_fd(), console.as_ref()),
            None => Ok(0),
        }
    }

    /// The process of the container's config, as a pattern for others.
    pub fn process_of(&self, id: &str) -> Result<Process, OciError> {
        let spec = Entry::load(&self.root, id)?.spec()?;
        Ok(spec.process().clone().unwrap_or_default())
    }

    /// Pids in the container.
    pub fn ps(&self, id: &str) -> Result<Vec<i32>, OciError> {
        Ok(Entry::load(&self.root, id)?.cgroup()?.pids()?)
    }

    /// Freezes a running container.
    pub fn pause(&self, id: &str) -> Result<(), OciError> {
        let entry = Entry::load(&self.root, id)?;
        match entry.status()? {
            Status::Running | Status::Created => Ok(entry.cgroup()?.freeze()?),
            status => Err(OciError::Status { action: "pause", status }),
        }
    }

    /// Thaws a paused container.
    pub fn resume(&self, id: &str) -> Result<(), OciError> {
        let entry = Entry::load(&self.root, id)?;
        match entry.status()? {
            Status::Paused => Ok(entry.cgroup()?.thaw()?),
            status => Err(OciError::Status { action: "resume", status }),
        }
    }

    /// Changes limits.
    pub fn update(&self, id: &str, resources: &LinuxResources) -> Result<(), OciError> {
        let entry = Entry::load(&self.root, id)?;
        match entry.status()? {
            Status::Stopped => Err(OciError::NotRunning),
            Status::Created | Status::Running | Status::Paused => Ok(entry.cgroup()?.apply(resources)?),
        }
    }
}

fn build_in(
    dir: &Path,
    id: &str,
    options: &CreateOptions,
    spec: &Spec,
    start_later: bool,
) -> Result<(crate::Container, Option<OwnedFd>), OciError> {
    let start = if start_later { Some(start_socket(dir, true)?) } else { None };
    let extras = Extras { start, preserve_fds: options.preserve_fds };
    let stdio = stdio(spec.process().as_ref(), wants_terminal(spec.process().as_ref()));
    let request = CreateRequest { id, bundle: &options.bundle, spec, overlay: None, netns: None, stdio };
    let mut container = create_with(request, &extras)?;
    let record = Record {
        id: id.to_owned(),
        pid: container.pid,
        start_time: start_time(container.pid).unwrap_or(0),
        bundle: options.bundle.clone(),
        cgroup: container.cgroup.path().to_owned(),
        created: now(),
    };
    let console = container.console.take();
    let finish = || {
        if let (Some(socket), Some(master)) = (&options.console_socket, &console) {
            send_console(socket, master)?;
        }
        write_pid(options.pid_file.as_deref(), container.pid)?;
        save(dir, &record, spec)
    };
    if let Err(error) = finish() {
        container.undo();
        return Err(error);
    }
    Ok((container, console))
}

fn wants_terminal(process: Option<&Process>) -> bool {
    process.and_then(|process| process.terminal()).unwrap_or(false)
}

fn check_console(terminal: bool, socket: bool, foreground: bool) -> Result<(), OciError> {
    match (terminal, socket, foreground) {
        (true, false, false) => {
            Err(OciError::Options("cannot allocate tty if runc will detach without setting console socket"))
        }
        (false, true, _) => {
            Err(OciError::Options("cannot use console socket if runc will not detach or allocate tty"))
        }
        _ => Ok(()),
    }
}

fn stdio(process: Option<&Process>, terminal: bool) -> Stdio {
    if !terminal {
        return Stdio::Inherit;
    }
    let size = process
        .and_then(|process| process.console_size())
        .and_then(|size| Some((u16::try_from(size.height()).ok()?, u16::try_from(size.width()).ok()?)));
    Stdio::Terminal { size: size.or_else(foreground::terminal_size) }
}

fn open_pidfd(pid: i32) -> Result<OwnedFd, Errno> {
    pidfd_open(Pid::from_raw(pid).ok_or(Errno::SRCH)?, PidfdFlags::empty())
}

/// The socket init waits on, listening or connected. Its directory is named by descriptor, since a socket's
/// address has room for 107 bytes only.
fn start_socket(dir: &Path, listening: bool) -> Result<OwnedFd, OciError> {
    let path = dir.join(START_SOCKET);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = open(dir, flags, Mode::empty()).of(dir)?;
    let address =
        SocketAddrUnix::new(format!("/proc/self/fd/{}/{START_SOCKET}", parent.as_raw_fd())).of(&path)?;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).of(&path)?;
    if listening {
        bind(&socket, &address).of(&path)?;
        listen(&socket, 1).of(&path)?;
    } else {
        connect(&socket, &address).of(&path)?;
    }
    Ok(socket)
}

/// Hands a terminal's master to whoever listens there, as runc does: one message, one descriptor.
fn send_console(path: &Path, master: &OwnedFd) -> Result<(), OciError> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).of(path)?;
    let address = SocketAddrUnix::new(path).of(path)?;
    connect(&socket, &address).of(path)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [master.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::NOBUFS).of(path);
    }
    sendmsg(&socket, &[IoSlice::new(b"/dev/ptmx")], &mut control, SendFlags::NOSIGNAL).of(path)?;
    Ok(())
}

/// Written whole or not at all: callers poll for it.
fn write_pid(path: Option<&Path>, pid: i32) -> Result<(), OciError> {
    let Some(path) = path else { return Ok(()) };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    std::fs::write(&temporary, pid.to_string()).of(&temporary)?;
    std::fs::rename(&temporary, path).of(path)
}
