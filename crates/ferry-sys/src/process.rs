//! Making and becoming processes: clone3(2), execve(2), close_range(2), unshare(2), signals.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `CLONE_NEWTIME` (linux/sched.h).
pub const CLONE_NEWTIME: u64 = 0x80;
/// `CLONE_NEWNS`.
pub const CLONE_NEWNS: u64 = 0x0002_0000;
/// `CLONE_NEWCGROUP`.
pub const CLONE_NEWCGROUP: u64 = 0x0200_0000;
/// `CLONE_NEWUTS`.
pub const CLONE_NEWUTS: u64 = 0x0400_0000;
/// `CLONE_NEWIPC`.
pub const CLONE_NEWIPC: u64 = 0x0800_0000;
/// `CLONE_NEWUSER`.
pub const CLONE_NEWUSER: u64 = 0x1000_0000;
/// `CLONE_NEWPID`.
pub const CLONE_NEWPID: u64 = 0x2000_0000;
/// `CLONE_NEWNET`.
pub const CLONE_NEWNET: u64 = 0x4000_0000;

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a [`clone`] one is on.
#[derive(Debug)]
pub enum Cloned {
    /// The caller, with its new child.
    Parent {
        /// In the caller's pid namespace.
        pid: i32,
        /// Refers to the child.
        pidfd: OwnedFd,
    },
    /// The new process, with a copy of the caller's memory.
    Child,
}

/// `struct clone_args` of linux/sched.h, version 2 (Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Makes a child process in the new namespaces of `flags` (`CLONE_NEW*`), in the v2 control group
/// `cgroup` when given. Like fork(2) the child goes on with a copy of the memory, so the calling
/// process should have one thread only: locks other threads hold stay locked in the child for ever.
/// Falls back to clone(2) where clone3 is filtered, unless `cgroup` is given.
pub fn clone(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: flags | CLONE_PIDFD,
        pidfd: (&raw mut pidfd).addr() as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: args is a valid clone_args of the given size; no stack and no CLONE_VM, so the child
    // runs on its own copy of this stack, as after fork(2).
    let mut result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, std::mem::size_of::<CloneArgs>()) };
    if result < 0 && cgroup.is_none() && flags & CLONE_NEWTIME == 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ENOSYS) {
            let legacy = args.flags | libc::SIGCHLD as u64;
            // SAFETY: as above; the third argument is where the pidfd goes, on every architecture
            // supported, and the others are unused with these flags.
            result = unsafe { libc::syscall(libc::SYS_clone, legacy, 0, &raw mut pidfd, 0, 0) };
        }
    }
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: CLONE_PIDFD stored a new descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: pid as i32, pidfd })
        }
    }
}

/// Moves the calling thread into new namespaces (`CLONE_NEW*`).
pub fn unshare(flags: u64) -> io::Result<()> {
    // SAFETY: the CLONE_NEW* flags do not touch memory or descriptors.
    let result = unsafe { libc::unshare(flags as i32) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Ends the process at once, without running destructors or exit handlers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Null-terminated argument vectors for [`execve`], made beforehand.
#[derive(Debug)]
pub struct ExecVectors {
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    _strings: (Vec<CString>, Vec<CString>),
}

impl ExecVectors {
    /// From the arguments (the program's name first) and the environment (`NAME=value`).
    pub fn new(args: Vec<CString>, env: Vec<CString>) -> ExecVectors {
        let pointers = |strings: &[CString]| {
            strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
        };
        ExecVectors { argv: pointers(&args), envp: pointers(&env), _strings: (args, env) }
    }
}

/// Replaces the process' program; returns only on failure.
pub fn execve(path: &CStr, vectors: &ExecVectors) -> io::Error {
    // SAFETY: both vectors end with a null pointer and point to strings owned by `vectors`.
    unsafe { libc::execve(path.as_ptr(), vectors.argv.as_ptr(), vectors.envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the caller gives up all these descriptors; the numbers are not used afterwards by
    // contract, and a stale one yields EBADF.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Moves descriptors to `base`, `base + 1` and so on, close-on-exec, and closes all above. What the
/// calling process owned there is gone; only for a child about to execute a program. The
/// descriptors given must lie above their new places.
pub fn keep_only(fds: Vec<OwnedFd>, base: i32) -> io::Result<Vec<OwnedFd>> {
    let mut kept = Vec::with_capacity(fds.len());
    let mut at = base;
    for fd in fds {
        // SAFETY: dup3 replaces whatever is at `at`, which the caller gives up by contract.
        let result = unsafe { libc::dup3(fd.as_raw_fd(), at, libc::O_CLOEXEC) };
        // The original goes with all others below.
        std::mem::forget(fd);
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and has no other owner.
        kept.push(unsafe { OwnedFd::from_raw_fd(result) });
        at += 1;
    }
    close_from(at.cast_unsigned())?;
    Ok(kept)
}

/// Executes the file behind a descriptor (execveat(2), `AT_EMPTY_PATH`); returns only on failure.
pub fn execve_fd(fd: BorrowedFd<'_>, vectors: &ExecVectors) -> io::Error {
    // SAFETY: as in execve; the path is an empty C string.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            vectors.argv.as_ptr(),
            vectors.envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Puts every signal back to its default action and unblocks all.
pub fn reset_signals() -> io::Result<()> {
    // `struct kernel_sigaction`: the default handler, no flags, an empty mask, on every architecture.
    let default = [0u64; 4];
    for signal in 1..=64 {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            // Not through the C library, which keeps two signals to itself that were ignored before it.
            // SAFETY: default is at least as large as the kernel's struct; the old one is not asked for.
            unsafe {
                libc::syscall(
                    libc::SYS_rt_sigaction,
                    signal,
                    default.as_ptr(),
                    std::ptr::null_mut::<u64>(),
                    8,
                )
            };
        }
    }
    // SAFETY: an all-zero sigset_t is valid storage for sigemptyset, which initialises it.
    let result = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Joins a new session keyring of this name (keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`).
pub fn join_session_keyring(name: &CStr) -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: name is a valid C string; the call reads nothing else.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the execution domain (personality(2)).
pub fn set_personality(persona: u32) -> io::Result<()> {
    // SAFETY: personality takes a plain number.
    let result = unsafe { libc::personality(libc::c_ulong::from(persona)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets a resource limit of the calling process by its number (`RLIMIT_*`, setrlimit(2)).
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    // `struct rlimit64` of linux/resource.h.
    let limit = [soft, hard];
    // SAFETY: limit has the layout of rlimit64; the old value is not asked for.
    let result = unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, limit.as_ptr(), std::ptr::null_mut::<u64>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_execve_returns() {
        let vectors = ExecVectors::new(vec![c"x".to_owned()], Vec::new());
        let error = execve(c"/nonexistent", &vectors);
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn unknown_rlimits_are_refused() {
        assert_eq!(set_rlimit(99, 0, 0).map_err(|e| e.raw_os_error()), Err(Some(libc::EINVAL)));
    }
}
