//! What a supervising process needs at its start and while it is idle: signals as a descriptor,
//! unwanted descriptors closed, memory given back.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

/// Takes ownership of a descriptor this process inherited by number.
///
/// Returns `None` when it is not open. Sets close-on-exec. Must be called at most once per number,
/// before anything else in the process opens descriptors.
pub fn inherited_fd(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: fcntl(2) with F_SETFD takes no pointers; a closed number merely yields EBADF.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    // SAFETY: the number is open (checked above) and, by this function's contract, nobody else in
    // the process owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes every descriptor from `first` up: close_range(2), or one by one below the limit of open
/// files where the kernel lacks it.
///
/// Meant for the very start of a program: descriptors owned by objects of this process must be
/// below `first`.
pub fn close_from(first: u32) {
    // SAFETY: close_range(2) takes three integers; by this function's contract no object of the
    // process owns any of the descriptors.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if done == 0 {
        return;
    }
    // SAFETY: sysconf(3) takes an integer and returns one.
    let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    let limit = RawFd::try_from(limit).unwrap_or(1024).min(65_536);
    for number in RawFd::try_from(first).unwrap_or(RawFd::MAX)..limit {
        // SAFETY: as above; closing a number that is not open yields EBADF.
        unsafe { libc::close(number) };
    }
}

/// Blocks every signal that can be blocked in the calling thread.
pub fn block_all_signals() -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset(3) initialises the set it is given; sigprocmask(2) reads it and accepts a
    // null pointer for the old one.
    let result = unsafe {
        libc::sigfillset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A non-blocking descriptor (signalfd(2)) that is readable while SIGCHLD is pending. The signal
/// must be blocked. Read and discard what it holds, then wait for all ended children.
pub fn sigchld_fd() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset(3) initialises the set, sigaddset(3) changes it, signalfd(2) reads it;
    // -1 asks for a new descriptor.
    let fd = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        libc::signalfd(-1, set.as_ptr(), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: signalfd(2) just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal, real-time ones included, to the process a pidfd refers to
/// (pidfd_send_signal(2)). An unknown number yields `InvalidInput`.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: takes integers and a pointer that may be null.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Unmaps the resident pages of this program's code and constants; those used again are mapped again
/// from the page cache. Worth it before a long wait, after work that will not come back.
pub fn release_code() -> io::Result<()> {
    let program = std::fs::metadata("/proc/self/exe")?;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    for (start, length) in maps.lines().filter_map(|line| code_mapping(line, program.ino())) {
        // SAFETY: the range is a private, unwritten mapping of a file, as code_mapping() checked;
        // dropping its pages (madvise(2), MADV_DONTNEED) makes the next access read the file's
        // unchanged contents, so no value the program can see changes.
        let result = unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Address and length of a mapping of `inode` that was never written: the executable segment, or
/// the read-only one at the file's start. Other read-only ones hold relocated data, which exists
/// nowhere else. Format: proc_pid_maps(5).
fn code_mapping(line: &str, inode: u64) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
    let mapped: u64 = fields.nth(1)?.parse().ok()?;
    let code = permissions == "r-xp" || (permissions == "r--p" && offset == 0);
    if !code || mapped != inode || inode == 0 {
        return None;
    }
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    Some((start, end.checked_sub(start)?))
}

/// Gives free heap pages back to the kernel, where the C library can (malloc_trim(3)).
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes an integer and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_number_is_not_taken() {
        assert!(inherited_fd(1_000_000).is_none());
    }

    #[test]
    fn only_unwritten_mappings_of_the_program_are_code() {
        let map = |line| code_mapping(line, 42);
        assert_eq!(map("00400000-00452000 r-xp 00002000 08:02 42    /bin/x"), Some((0x400000, 0x52000)));
        assert_eq!(map("00300000-00301000 r--p 00000000 08:02 42 /bin/x"), Some((0x300000, 0x1000)));
        assert_eq!(map("00500000-00501000 r--p 00100000 08:02 42 /bin/x"), None);
        assert_eq!(map("00500000-00501000 rw-p 00100000 08:02 42 /bin/x"), None);
        assert_eq!(map("00500000-00501000 r-xp 00100000 08:02 43 /lib/y"), None);
        assert_eq!(map("00500000-00501000 r-xp 00000000 00:00 0"), None);
        release_code().unwrap();
    }

    #[test]
    fn sigchld_is_readable_while_pending() {
        std::thread::spawn(|| {
            block_all_signals().unwrap();
            let fd = sigchld_fd().unwrap();
            let mut info = [0; 128];
            let empty = rustix::io::read(&fd, &mut info).unwrap_err();
            assert_eq!(empty, rustix::io::Errno::AGAIN);
            // To this thread, since the others of a test do not block the signal.
            // SAFETY: takes an integer; the signal is blocked here.
            unsafe { libc::raise(libc::SIGCHLD) };
            assert_eq!(rustix::io::read(&fd, &mut info).unwrap(), 128);
        })
        .join()
        .unwrap();
    }
}
