//! Seccomp: Docker's default profile and a compiler from OCI profiles to classic BPF.

use ferry_sys::seccomp::SockFilter;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};

use crate::{Error, Stage};

/// Compiles a profile to the program the kernel runs at every system call.
pub fn compile(profile: &LinuxSeccomp) -> Result<Vec<SockFilter>, Error> {
    let _ = profile;
    Err(Error::invalid(Stage::Config, "seccomp profiles are not supported yet"))
}

/// `SECCOMP_FILTER_FLAG_*` of a profile (linux/seccomp.h).
pub(crate) fn flags(profile: &LinuxSeccomp) -> u32 {
    profile.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 1,
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => 2,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 4,
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 32,
            }
    })
}
