//! The way a runtime hands a terminal over: it connects to a socket and sends the master (runc's `docs/terminals.md`).

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::net::{SocketFlags, accept_with};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::error::At;
use crate::{Error, Stage};

/// A socket that waits for one terminal. Dropping it removes it.
#[derive(Debug)]
pub(super) struct ConsoleSocket {
    listener: OwnedFd,
    /// What the short path given to the runtime leads through.
    _dir: OwnedFd,
    path: PathBuf,
    short: String,
}

impl ConsoleSocket {
    /// `path` is in `dir`.
    pub fn listen(dir: &Path, path: &Path) -> Result<Self, Error> {
        let at = || format!("listen on {}", path.display());
        let listener = ferry_sys::socket::listen_unix(path).at(Stage::Stdio, at)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = open(dir, flags, Mode::empty()).at(Stage::Stdio, at)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Addresses have 107 bytes at most (unix(7)), which the directory's own path may exceed.
        let short = format!("{}/{name}", super::own_descriptor(dir.as_raw_fd()));
        Ok(Self { listener, _dir: dir, path: path.to_owned(), short })
    }

    /// A path for the runtime.
    pub fn path(&self) -> &str {
        &self.short
    }

    /// The terminal's master, for who knows that it was sent.
    pub fn receive(self, size: Option<(u16, u16)>) -> Result<OwnedFd, Error> {
        let at = || "receive the terminal from the runtime".to_owned();
        // Neither waits: a runtime that sent none must not be waited for.
        let socket =
            accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).at(Stage::Stdio, at)?;
        // The name of the terminal comes along.
        let (mut name, mut fds) = ([0; 4096], Vec::new());
        ferry_sys::socket::recv_with_fds(&socket, &mut name, &mut fds).at(Stage::Stdio, at)?;
        let master = fds
            .into_iter()
            .next()
            .ok_or_else(|| Error::External { message: "the runtime sent no terminal".to_owned() })?;
        if let Some((ws_row, ws_col)) = size {
            let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
            tcsetwinsize(&master, size).at(Stage::Stdio, || "set the terminal's size".to_owned())?;
        }
        Ok(master)
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        // It goes with its directory at last.
        drop(std::fs::remove_file(&self.path));
    }
}
