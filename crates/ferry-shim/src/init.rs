//! A container's init (`--init`): process 1 that runs one program as its child, passes every signal on to it, and collects
//! the zombies others leave. It is this program under the name [`NAME`], so that there is one static program to install.
//!
//! It behaves as tini, which Docker uses: the program gets a process group of its own and the terminal, its exit code
//! becomes init's (128 + signal when one killed it), and init ends as soon as the program has ended.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use ferry_sys::process::{Cloned, clone, exit_now, reset_signals};
use rustix::process::{WaitOptions, WaitStatus, getpid, setpgid, wait};

use crate::exit::exit_code;

/// The name it goes by in a container, Docker's.
pub const NAME: &str = "docker-init";

/// Runs a program to its end. `args` are those after init's own name: the program and its arguments, after an optional
/// `--`.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter().peekable();
    args.next_if(|first| first == "--");
    let Some(program) = args.next() else {
        tell(&format!("usage: {NAME} [--] PROGRAM [ARGUMENT...]"));
        return ExitCode::from(1);
    };
    match supervise(&program, args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tell(&format!("[FATAL tini ({})] {error}", getpid().as_raw_nonzero()));
            ExitCode::from(1)
        }
    }
}

fn supervise(program: &OsString, args: impl Iterator<Item = OsString>) -> std::io::Result<u8> {
    ferry_sys::supervisor::block_all_signals()?;
    let (pid, pidfd) = match clone(0, None)? {
        Cloned::Child => become_program(program, args),
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    loop {
        let signal = ferry_sys::init::next_signal()?;
        if signal == ferry_sys::signals::SIGCHLD {
            if let Some(code) = reap(pid) {
                return Ok(code);
            }
        } else {
            pass_on(&pidfd, signal);
        }
    }
}

/// The program may have ended while its end was not looked at yet; then there is nobody to tell.
fn pass_on(pidfd: &OwnedFd, signal: i32) {
    use std::os::fd::AsFd;
    let _ = ferry_sys::signals::send(pidfd.as_fd(), signal);
}

/// Collects all that have ended; the program's exit code when it is among them.
fn reap(program: i32) -> Option<u8> {
    let mut ended = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid.as_raw_nonzero().get() == program {
            ended = code_of(status);
        }
    }
    ended
}

fn code_of(status: WaitStatus) -> Option<u8> {
    exit_code(status).map(|code| u8::try_from(code).unwrap_or(u8::MAX))
}

/// The child's side. Never returns.
fn become_program(program: &OsString, args: impl Iterator<Item = OsString>) -> ! {
    // Both fail without a terminal, or where the program is the session's leader; it runs all the same.
    let _ = setpgid(None, None);
    let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), getpid());
    let error = match reset_signals() {
        Ok(()) => Command::new(program).args(args).exec(),
        Err(error) => error,
    };
    let text = match error.kind() {
        std::io::ErrorKind::NotFound => "No such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "Permission denied".to_owned(),
        _ => error.to_string(),
    };
    tell(&format!("[FATAL tini ({})] exec {} failed: {text}", getpid().as_raw_nonzero(), program.display()));
    exit_now(match error.kind() {
        std::io::ErrorKind::NotFound => 127,
        std::io::ErrorKind::PermissionDenied => 126,
        _ => 1,
    })
}

fn tell(text: &str) {
    // Nobody else is left to tell when this fails.
    let _ = writeln!(std::io::stderr(), "{text}");
}
