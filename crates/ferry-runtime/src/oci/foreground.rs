//! Staying with a process in the foreground: signals are passed on, a terminal is copied, the exit code
//! becomes one's own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::error::{Doing, OciError};

/// Receives this process' signals from now on; to be made before the child, whose end is a signal, too.
pub(super) fn catch_signals() -> Result<OwnedFd, OciError> {
    ferry_sys::signals::all_fd().doing("signalfd")
}

/// Waits for a child, passing on signals and, with `console`, terminal input and output.
/// Returns its code as a shell reports it.
pub(super) fn stay(
    signals: &OwnedFd,
    pid: i32,
    pidfd: BorrowedFd<'_>,
    console: Option<&OwnedFd>,
) -> Result<i32, OciError> {
    let _raw = console.and_then(|_| RawTerminal::new());
    let mut input_open = console.is_some();
    let mut console = console;
    loop {
        let (input, stdin) = (console.filter(|_| input_open), rustix::stdio::stdin());
        let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
        if let Some(console) = console {
            fds.push(PollFd::new(console, PollFlags::IN));
        }
        if input.is_some() {
            fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
        }
        match poll(&mut fds, None::<&Timespec>) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).doing("poll"),
        }
        let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        let (from_signals, from_console, from_input) = (ready(0), ready(1), ready(2));
        drop(fds);
        if let (Some(master), true) = (console, from_console)
            && !copy(master.as_fd(), rustix::stdio::stdout())
        {
            console = None;
        }
        if let (Some(master), true) = (input, from_input)
            && !copy(stdin, master.as_fd())
        {
            input_open = false;
        }
        if from_signals {
            while let Some(signal) = ferry_sys::signals::take(signals.as_fd()).doing("read a signal")? {
                if signal == ferry_sys::signals::SIGCHLD {
                    continue;
                }
                if signal == ferry_sys::signals::SIGWINCH
                    && let Some(master) = console
                {
                    copy_size(master);
                    continue;
                }
                // It may be gone already, which the wait below finds out.
                drop(ferry_sys::signals::send(pidfd, signal));
            }
            if let Some(code) = ended(pid)? {
                // What it wrote last is still to be shown.
                if let Some(master) = console {
                    while readable(master) && copy(master.as_fd(), rustix::stdio::stdout()) {}
                }
                return Ok(code);
            }
        }
    }
}

fn ended(pid: i32) -> Result<Option<i32>, OciError> {
    let Some((_, status)) = waitpid(Pid::from_raw(pid), WaitOptions::NOHANG).doing("wait")? else {
        return Ok(None);
    };
    Ok(status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)))
}

fn readable(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Copies what is there; false at the end.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0u8; 32 * 1024];
    let Ok(len @ 1..) = rustix::io::read(from, &mut buffer) else { return false };
    let mut rest = buffer.get(..len).unwrap_or_default();
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return false,
        }
    }
    true
}

/// The size of the caller's terminal, `(rows, columns)`.
pub(super) fn terminal_size() -> Option<(u16, u16)> {
    tcgetwinsize(rustix::stdio::stdin()).ok().map(|size| (size.ws_row, size.ws_col))
}

fn copy_size(master: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
        // A terminal without a size works as well.
        let _ = tcsetwinsize(master, size);
    }
}

/// Puts the caller's terminal into raw mode while it lives.
struct RawTerminal(Termios);

impl RawTerminal {
    fn new() -> Option<RawTerminal> {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) {
            return None;
        }
        let before = tcgetattr(stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw).ok()?;
        Some(RawTerminal(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}
