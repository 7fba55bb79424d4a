//! Starting a program with exactly the descriptors it shall have, through posix_spawn(3), which does not
//! copy the caller's page tables.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Runs `program` with `argv` and an empty environment: descriptors 0 and 1 on `/dev/null`, 2 on `stderr`, 3 on
/// `fd3`; every signal at its default and unblocked. Returns the pid.
///
/// Other descriptors of the caller must be close-on-exec, as everything opened by Rust's std is.
///
/// # Errors
/// When a string contains a NUL byte or posix_spawn(3) fails.
pub fn spawn_with_socket(
    program: &str,
    argv: &[&str],
    stderr: BorrowedFd<'_>,
    fd3: BorrowedFd<'_>,
) -> io::Result<i32> {
    let c_string = |s: &str| CString::new(s).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let program = c_string(program)?;
    let arguments = argv.iter().map(|a| c_string(a)).collect::<io::Result<Vec<_>>>()?;
    let mut argv: Vec<*mut libc::c_char> = arguments.iter().map(|a| a.as_ptr().cast_mut()).collect();
    argv.push(ptr::null_mut());
    let envp: [*mut libc::c_char; 1] = [ptr::null_mut()];

    let check = |code: libc::c_int| if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) };
    let mut actions = MaybeUninit::<libc::posix_spawn_file_actions_t>::uninit();
    let mut attributes = MaybeUninit::<libc::posix_spawnattr_t>::uninit();
    let mut pid: libc::pid_t = 0;
    // SAFETY: both objects are initialised by their init functions before any other use and destroyed once;
    // all pointers passed outlive the calls; the vectors end with a null pointer as execve(2) requires.
    unsafe {
        check(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
        if let Err(e) = check(libc::posix_spawnattr_init(attributes.as_mut_ptr())) {
            libc::posix_spawn_file_actions_destroy(actions.as_mut_ptr());
            return Err(e);
        }
        let spawned = (|| {
            let actions = actions.as_mut_ptr();
            check(libc::posix_spawn_file_actions_addopen(
                actions,
                0,
                c"/dev/null".as_ptr(),
                libc::O_RDWR,
                0,
            ))?;
            check(libc::posix_spawn_file_actions_adddup2(actions, stderr.as_raw_fd(), 2))?;
            check(libc::posix_spawn_file_actions_addopen(
                actions,
                1,
                c"/dev/null".as_ptr(),
                libc::O_RDWR,
                0,
            ))?;
            // Last: the descriptor may itself be 0..=3, and dup2 onto itself clears close-on-exec
            // in posix_spawn's implementation.
            check(libc::posix_spawn_file_actions_adddup2(actions, fd3.as_raw_fd(), 3))?;
            let attributes = attributes.as_mut_ptr();
            let mut all = MaybeUninit::<libc::sigset_t>::uninit();
            let mut none = MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigfillset(all.as_mut_ptr());
            libc::sigemptyset(none.as_mut_ptr());
            check(libc::posix_spawnattr_setsigdefault(attributes, all.as_ptr()))?;
            check(libc::posix_spawnattr_setsigmask(attributes, none.as_ptr()))?;
            let flags = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
            #[allow(clippy::cast_possible_truncation)]
            check(libc::posix_spawnattr_setflags(attributes, flags as libc::c_short))?;
            check(libc::posix_spawn(
                &raw mut pid,
                program.as_ptr(),
                actions,
                attributes,
                argv.as_ptr(),
                envp.as_ptr(),
            ))
        })();
        libc::posix_spawnattr_destroy(attributes.as_mut_ptr());
        libc::posix_spawn_file_actions_destroy(actions.as_mut_ptr());
        spawned?;
    }
    Ok(pid)
}
