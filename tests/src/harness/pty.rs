//! A program on a pseudo-terminal, as a user has it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::{lock, process};

/// A program with a terminal of its own.
pub struct Pty {
    child: Child,
    master: File,
    screen: Arc<Mutex<Vec<u8>>>,
    /// How far [`Pty::expect`] has read.
    seen: usize,
}

impl Pty {
    /// Starts `command` as the session leader of a terminal with this many rows and columns.
    pub fn start(command: &Command, rows: u16, columns: u16) -> Result<Self> {
        let master =
            rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).context("no pseudo-terminal")?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        resize(&master, rows, columns)?;
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let slave = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;

        // Making a terminal the controlling one has to happen in the child; setsid(1) does it.
        let mut with_terminal = Command::new("setsid");
        with_terminal.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => with_terminal.env(name, value),
                None => with_terminal.env_remove(name),
            };
        }
        let end = |fd: &OwnedFd| fd.try_clone().map(Stdio::from);
        with_terminal.stdin(end(&slave)?).stdout(end(&slave)?).stderr(slave).env("TERM", "xterm");
        let child = with_terminal.spawn().context("cannot run setsid (util-linux)")?;

        let master = File::from(master);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut from, to) = (master.try_clone()?, screen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO says that the last program has closed the terminal.
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                lock(&to).extend_from_slice(&buffer[..length]);
            }
        });
        Ok(Self { child, master, screen, seen: 0 })
    }

    /// Types.
    pub fn send(&mut self, keys: &str) -> Result<()> {
        self.master.write_all(keys.as_bytes()).context("cannot type")
    }

    /// Changes the terminal's size.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        resize(&self.master, rows, columns)
    }

    /// Waits for a text after what was expected before; returns what stood in front of it.
    pub fn expect(&mut self, text: &str) -> Result<String> {
        self.expect_within(text, Duration::from_secs(20))
    }

    /// The same for what takes longer than twenty seconds.
    pub fn expect_within(&mut self, text: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let all = self.screen();
            let rest = all.get(self.seen..).unwrap_or_default();
            if let Some(at) = rest.find(text) {
                let before = rest[..at].to_owned();
                self.seen += at + text.len();
                return Ok(before);
            }
            if Instant::now() > deadline {
                bail!("the terminal does not show {text:?} but: {rest:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Everything shown so far.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&lock(&self.screen)).into_owned()
    }

    /// The exit code, which must come within 20 seconds.
    pub fn wait(&mut self) -> Result<i32> {
        self.wait_for(Duration::from_secs(20))
    }

    /// The exit code, which must come within `limit`.
    pub fn wait_for(&mut self, limit: Duration) -> Result<i32> {
        let status = process::wait(&mut self.child, limit)
            .with_context(|| format!("the terminal shows {:?}", self.screen()))?;
        Ok(process::code(status))
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn resize(terminal: impl std::os::fd::AsFd, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).context("cannot set the terminal's size")
}
