//! What a container's init needs: waiting for whatever signal comes, without a descriptor and without an interval.

use std::io;
use std::mem::MaybeUninit;

/// Waits for the next signal; all must be blocked (see [`crate::supervisor::block_all_signals`]).
///
/// # Errors
/// Those of sigwaitinfo(2) but `EINTR`.
pub fn next_signal() -> io::Result<i32> {
    loop {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset initialises the set; sigwaitinfo reads it and accepts a null pointer for the details.
        let signal = unsafe {
            libc::sigfillset(set.as_mut_ptr());
            libc::sigwaitinfo(set.as_ptr(), std::ptr::null_mut())
        };
        if signal > 0 {
            return Ok(signal);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
