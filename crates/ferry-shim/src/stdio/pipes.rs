//! Making the descriptors between a process and its shim.

use std::io;
use std::os::fd::OwnedFd;

use ferry_runtime::Stdio;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

/// Size of a new pipe (pipe(7)).
pub const DEFAULT_SIZE: usize = 64 * 1024;

/// The shim's ends of a process' standard streams, all non-blocking.
#[derive(Debug, Default)]
pub struct Ends {
    /// Writes to the process.
    pub stdin: Option<OwnedFd>,
    /// Reads from the process; the terminal when there is one.
    pub stdout: Option<OwnedFd>,
    /// Reads from the process.
    pub stderr: Option<OwnedFd>,
    /// Whether `stdin` and `stdout` are a terminal.
    pub tty: bool,
}

/// Pipes for a process without a terminal: its ends and ours. Without `open_stdin` its stdin is
/// `/dev/null`.
pub fn pipes(open_stdin: bool) -> io::Result<(Stdio, Ends)> {
    // Only our ends are non-blocking: a pipe's two ends are different open files.
    let output = || -> io::Result<(OwnedFd, OwnedFd)> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        nonblocking(&ours)?;
        Ok((ours, theirs))
    };
    let (stdin, ours) = if open_stdin {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        nonblocking(&ours)?;
        (theirs, Some(ours))
    } else {
        let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        (null, None)
    };
    let (out, stdout) = output()?;
    let (err, stderr) = output()?;
    let ends = Ends { stdin: ours, stdout: Some(out), stderr: Some(err), tty: false };
    let stdio = Stdio::Fds { stdin, stdout, stderr };
    Ok((stdio, ends))
}

/// Our ends of a terminal. Input has a descriptor of its own, because epoll(7) knows a descriptor
/// once only.
pub fn terminal(master: OwnedFd, open_stdin: bool) -> io::Result<Ends> {
    nonblocking(&master)?;
    let stdin = if open_stdin { Some(rustix::io::fcntl_dupfd_cloexec(&master, 0)?) } else { None };
    Ok(Ends { stdin, stdout: Some(master), stderr: None, tty: true })
}

fn nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?;
    Ok(())
}
