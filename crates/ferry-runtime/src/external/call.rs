//! One call of a runtime's program.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ferry_sys::process::{Cloned, ExecVectors, clone, execve, reset_signals};
use ferry_types::RuntimeProgram;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, Mode, OFlags, Timespec, memfd_create, open};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, pidfd_send_signal, waitpid};

use super::message;
use crate::channel::{Channel, Message};
use crate::console::stdio_from;
use crate::container::kill_and_reap;
use crate::error::At;
use crate::{Error, Stage, Stdio};

/// The runtime's `--root`, below its directory.
pub(super) const STATE: &str = "state";

/// A command line in the making.
pub(super) struct Line {
    program: RuntimeProgram,
    verb: &'static str,
    log: PathBuf,
    args: Vec<CString>,
}

impl Line {
    /// `PATH [ARGS] --root DIR --log FILE --log-format json VERB`.
    pub fn new(program: &RuntimeProgram, dir: &Path, verb: &'static str, log: PathBuf) -> Self {
        let mut line = Self { program: program.clone(), verb, log, args: Vec::new() };
        line.argument(&program.path);
        for arg in &program.args {
            line.argument(arg);
        }
        line.option("--root", dir.join(STATE));
        let log = line.log.clone();
        line.option("--log", log);
        line.option("--log-format", "json");
        line.argument(verb);
        line
    }

    pub fn argument(&mut self, text: impl AsRef<OsStr>) {
        // Null bytes are refused when a runtime is registered.
        self.args.push(CString::new(text.as_ref().as_bytes()).unwrap_or_default());
    }

    pub fn flag(&mut self, name: &str) {
        self.argument(name);
    }

    pub fn option(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.argument(name);
        self.argument(value);
    }
}

/// The standard streams of a call, which become the container's.
pub(super) struct Streams {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Streams {
    /// For a call that gives its streams to nobody: what it complains about is kept.
    pub fn none() -> Result<Self, Error> {
        let at = || "open the standard streams of a runtime".to_owned();
        let null = || open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at(Stage::Stdio, at);
        let stderr = memfd_create("stderr", MemfdFlags::CLOEXEC).at(Stage::Stdio, at)?;
        Ok(Self { stdin: null()?, stdout: null()?, stderr })
    }

    /// For one whose container or exec inherits them; a terminal comes in another way.
    pub fn of(stdio: Stdio) -> Result<Self, Error> {
        let own = |fd: BorrowedFd<'_>| {
            rustix::io::fcntl_dupfd_cloexec(fd, 3)
                .at(Stage::Stdio, || "duplicate standard streams".to_owned())
        };
        match stdio {
            Stdio::Terminal { .. } => Self::none(),
            Stdio::Fds { stdin, stdout, stderr } => Ok(Self { stdin, stdout, stderr }),
            Stdio::Inherit => Ok(Self {
                stdin: own(rustix::stdio::stdin())?,
                stdout: own(rustix::stdio::stdout())?,
                stderr: own(rustix::stdio::stderr())?,
            }),
        }
    }
}

/// A running program, a child of this process, which reaps it.
#[derive(Debug)]
pub(super) struct Call {
    pid: i32,
    pidfd: OwnedFd,
    name: String,
    verb: &'static str,
    log: PathBuf,
    stderr: OwnedFd,
}

impl Call {
    /// Executes the program, born in the control group `group`, after `inside` has run in the new process. What fails before the
    /// program runs is reported here.
    pub fn spawn(
        line: Line,
        streams: Streams,
        group: Option<&OwnedFd>,
        inside: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let Line { program, verb, log, args } = line;
        let path = find(&program)?;
        let path_variable = CString::new(format!("PATH={}", program.search_path)).unwrap_or_default();
        let vectors = ExecVectors::new(args, vec![path_variable]);
        let (ours, theirs) = Channel::pair()?;
        let cloned = clone(0, group.map(AsFd::as_fd));
        let (pid, pidfd) = match cloned.at(Stage::Exec, || format!("run runtime {}", program.name))? {
            Cloned::Child => {
                let failed = become_runtime(&program, &path, &vectors, &streams, inside);
                crate::init::finish(&theirs, failed.map_err(|error| (error, None)))
            }
            Cloned::Parent { pid, pidfd } => (pid, pidfd),
        };
        drop(theirs);
        match ours.recv() {
            Ok(None) => Ok(Self { pid, pidfd, name: program.name, verb, log, stderr: streams.stderr }),
            Ok(Some((Message::Failed(error), _))) | Err(error) => {
                kill_and_reap(pid, pidfd.as_fd());
                Err(error)
            }
            Ok(Some(_)) => {
                kill_and_reap(pid, pidfd.as_fd());
                Err(Error::system(Stage::Channel, "wait for a runtime's execve", Errno::BADMSG))
            }
        }
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    pub fn kill(&self) {
        // One that has ended needs no signal.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits for the end.
    pub fn wait(self, limit: Duration) -> Result<(), Error> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => {
                    kill_and_reap(self.pid, self.pidfd.as_fd());
                    return Err(self.took_too_long(limit));
                }
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::system(Stage::Exec, "wait for a runtime", errno)),
            }
        }
        let status = loop {
            match waitpid(Pid::from_raw(self.pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => break status,
                Ok(None) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::system(Stage::Exec, "wait for a runtime", errno)),
            }
        };
        self.ended(status)
    }

    /// What came of it, for who has reaped it.
    pub fn ended(self, status: WaitStatus) -> Result<(), Error> {
        let outcome = match status.exit_status() {
            Some(0) => Ok(()),
            _ => {
                let log = std::fs::read(&self.log).unwrap_or_default();
                let stderr = written(&self.stderr);
                Err(message::failure(&self.name, self.verb, &log, &stderr, &message::ending(status)))
            }
        };
        // It may have written none.
        drop(std::fs::remove_file(&self.log));
        outcome
    }

    fn took_too_long(&self, limit: Duration) -> Error {
        let (name, verb, seconds) = (&self.name, self.verb, limit.as_secs());
        Error::External { message: format!("runtime {name}: {verb} did not end within {seconds} s") }
    }
}

/// What has been written to a pipe or file that this process can only write to.
fn written(fd: &OwnedFd) -> Vec<u8> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut text = vec![0; 4096];
    let read = open(path, flags, Mode::empty()).and_then(|fd| rustix::io::read(&fd, &mut text));
    text.truncate(read.unwrap_or(0));
    text
}

/// The program's path, in the words of Go's `exec.LookPath` when there is none.
fn find(program: &RuntimeProgram) -> Result<CString, Error> {
    let path = program.path.as_os_str().as_bytes();
    let c_string = |path: &Path| {
        CString::new(path.as_os_str().as_bytes()).map_err(|_| {
            Error::invalid(Stage::Config, format!("runtime {}: null byte in path", program.name))
        })
    };
    if path.contains(&b'/') {
        return c_string(&program.path);
    }
    let executable =
        |path: &PathBuf| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    let directories = program.search_path.split(':').filter(|dir| !dir.is_empty());
    match directories.map(|dir| Path::new(dir).join(&program.path)).find(executable) {
        Some(found) => c_string(&found),
        None => Err(Error::CommandNotFound {
            message: format!(
                "runtime {}: exec: {:?}: executable file not found in $PATH",
                program.name,
                program.path.display().to_string()
            ),
        }),
    }
}

/// The child's side: returns only on failure.
fn become_runtime(
    program: &RuntimeProgram,
    path: &CString,
    vectors: &ExecVectors,
    streams: &Streams,
    inside: impl FnOnce() -> Result<(), Error>,
) -> Result<Infallible, Error> {
    reset_signals().at(Stage::Exec, || "reset signals".to_owned())?;
    inside()?;
    stdio_from([streams.stdin.as_fd(), streams.stdout.as_fd(), streams.stderr.as_fd()])?;
    let error = execve(path, vectors);
    let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
    Err(message::not_executed(program, errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_searched_for_in_order() {
        let program = |path: &str| RuntimeProgram {
            name: "x".to_owned(),
            path: path.into(),
            args: vec!["--first".to_owned()],
            search_path: "/no/such::/proc:/bin:/usr/bin".to_owned(),
        };
        assert_eq!(find(&program("sh")).unwrap().as_c_str(), c"/bin/sh");
        assert_eq!(find(&program("./sh")).unwrap().as_c_str(), c"./sh");
        // There, but not to be executed.
        let message = "runtime x: exec: \"cpuinfo\": executable file not found in $PATH".to_owned();
        assert_eq!(find(&program("cpuinfo")), Err(Error::CommandNotFound { message }));
        let line = Line::new(&program("sh"), Path::new("/d"), "create", "/d/log1".into());
        let args: Vec<_> = line.args.iter().map(|arg| arg.to_str().unwrap()).collect();
        assert_eq!(args.join(" "), "sh --first --root /d/state --log /d/log1 --log-format json create");
    }
}
