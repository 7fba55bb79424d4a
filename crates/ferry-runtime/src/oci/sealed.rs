//! Running from a sealed copy of the program's file, which no container can write to through
//! `/proc/PID/exe` (the class of CVE-2019-5736).

use std::ffi::CString;
use std::fs::File;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

use super::error::{Doing, OciError, OfFile};

/// Returns when the program already runs from a sealed file; otherwise executes such a copy with the
/// given arguments and environment, and returns only on failure.
pub fn ensure_sealed(args: Vec<CString>, env: Vec<CString>) -> Result<(), OciError> {
    let path = std::path::Path::new("/proc/self/exe");
    let mut own = File::open(path).of(path)?;
    if fcntl_get_seals(&own).is_ok_and(|seals| seals.contains(SealFlags::WRITE)) {
        return Ok(());
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(memfd_create("ferry-oci", flags).doing("memfd_create")?);
    std::io::copy(&mut own, &mut copy).doing("copy the program")?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&copy, seals).doing("seal the program's copy")?;
    let vectors = ferry_sys::process::ExecVectors::new(args, env);
    let error = ferry_sys::process::execve_fd(std::os::fd::AsFd::as_fd(&copy), &vectors);
    Err(error).doing("execute the program's sealed copy")
}
