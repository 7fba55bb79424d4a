//! The only place that writes to stdout and stderr.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::failure::Failure;

/// Bytes a pipe that polls writable takes without blocking (`PIPE_BUF`, pipe(7)).
const PIPE_BUF: usize = 4096;

/// Which of the two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Stream {
    /// Writes all of `data`, blocking as long as the reader does not take it.
    pub fn write(self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(data)?;
                out.flush()
            }
            Self::Stderr => io::stderr().lock().write_all(data),
        }
    }

    /// Writes all of `data` without stalling the runtime: what may block is written on another thread,
    /// so that signals, resizes and stdin go on while nobody reads our output.
    pub async fn write_async(self, data: &[u8]) -> io::Result<()> {
        if data.len() <= PIPE_BUF && self.is_writable() {
            return self.write(data);
        }
        let owned = data.to_vec();
        tokio::task::spawn_blocking(move || self.write(&owned)).await.map_err(io::Error::other)?
    }

    fn is_writable(self) -> bool {
        let check = |fd: BorrowedFd<'_>| {
            let mut fds = [PollFd::new(&fd, PollFlags::OUT)];
            poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|n| n > 0)
        };
        match self {
            Self::Stdout => check(io::stdout().as_fd()),
            Self::Stderr => check(io::stderr().as_fd()),
        }
    }

    /// Whether the stream is a terminal.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Stdout => rustix::termios::isatty(io::stdout().as_fd()),
            Self::Stderr => rustix::termios::isatty(io::stderr().as_fd()),
        }
    }
}

/// Writes to stdout. A reader that went away ends the command quietly.
pub fn print(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    Ok(Stream::Stdout.write(text.as_ref())?)
}

/// Writes a line to stdout.
pub fn println(text: impl AsRef<str>) -> Result<(), Failure> {
    print(format!("{}\n", text.as_ref()))
}

/// Writes a line to stderr. Nobody can be told when that fails, so nothing is reported.
pub fn note(text: impl AsRef<str>) {
    let _ = Stream::Stderr.write(format!("{}\n", text.as_ref()).as_bytes());
}
