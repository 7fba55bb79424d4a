//! Limits, labels, user, capabilities and seccomp of a process about to execute its program.

use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, fstatfs, open};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::error::At;
use crate::plan::{CapPlan, ProcessPlan, rlimit_number};
use crate::{Error, Stage};

/// Highest capability number of the kernels known, exclusive; unknown ones above answer `EINVAL`.
const MAX_CAPABILITY: u32 = 63;

/// `PROC_SUPER_MAGIC` (linux/magic.h).
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// Asks for the security labels to be set at the next `execve`. The host's /proc must still be visible.
pub(crate) fn label(process: &ProcessPlan) -> Result<(), Error> {
    if let Some(profile) = &process.apparmor {
        if !std::path::Path::new("/sys/module/apparmor").exists() {
            return Err(Error::invalid(
                Stage::Credentials,
                format!("apparmor profile {profile:?} is set but the host has no apparmor"),
            ));
        }
        let value = format!("exec {profile}");
        write_attr("/proc/self/attr/apparmor/exec", &value)
            .or_else(|_| write_attr("/proc/self/attr/exec", &value))
            .at(Stage::Credentials, || format!("apply apparmor profile {profile:?}"))?;
    }
    if let Some(label) = &process.selinux {
        if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
            return Err(Error::invalid(
                Stage::Credentials,
                format!("selinux label {label:?} is set but the host has no selinux"),
            ));
        }
        write_attr("/proc/self/attr/exec", label)
            .at(Stage::Credentials, || format!("apply selinux label {label:?}"))?;
    }
    Ok(())
}

fn write_attr(path: &str, value: &str) -> Result<(), Errno> {
    let fd = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    if fstatfs(&fd)?.f_type as u64 != PROC_SUPER_MAGIC {
        return Err(Errno::INVAL);
    }
    rustix::io::write(fd.as_fd(), value.as_bytes()).map(drop)
}

/// Sets the resource limits.
pub(crate) fn limits(process: &ProcessPlan) -> Result<(), Error> {
    for limit in &process.rlimits {
        match ferry_sys::process::set_rlimit(rlimit_number(limit.typ()), limit.soft(), limit.hard()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
                return Err(Error::invalid(
                    Stage::Credentials,
                    format!(
                        "error setting rlimit type {}: raising the hard limit to {} needs CAP_SYS_RESOURCE: operation not permitted",
                        limit.typ(),
                        limit.hard()
                    ),
                ));
            }
            Err(error) => {
                return Err(Error::system(
                    Stage::Credentials,
                    format!("error setting rlimit type {} to {}:{}", limit.typ(), limit.soft(), limit.hard()),
                    error,
                ));
            }
        }
    }
    Ok(())
}

/// Changes to the user, keeping the capabilities it still needs to go on.
pub(crate) fn become_user(process: &ProcessPlan) -> Result<(), Error> {
    let at = |what: &str| format!("{what} for user {}:{}", process.uid, process.gid);
    if let Some(caps) = &process.caps {
        drop_bounding(caps)?;
    }
    let groups: Vec<Gid> = process.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    let setgroups = set_thread_groups(&groups);
    // In a user namespace without setgroups an empty list is what one has anyway.
    if !(groups.is_empty() && setgroups == Err(Errno::PERM)) {
        setgroups.at(Stage::Credentials, || at("setgroups"))?;
    }
    if process.caps.is_some() {
        set_keep_capabilities(true).at(Stage::Credentials, || "keep capabilities".to_owned())?;
    }
    let gid = Gid::from_raw(process.gid);
    set_thread_res_gid(gid, gid, gid).at(Stage::Credentials, || at("setgid"))?;
    let uid = Uid::from_raw(process.uid);
    set_thread_res_uid(uid, uid, uid).at(Stage::Credentials, || at("setuid"))?;
    rustix::process::umask(Mode::from_raw_mode(process.umask));
    Ok(())
}

/// The last steps before `execve`: capabilities, and the seccomp filter as late as possible.
pub(crate) fn restrict(process: &ProcessPlan) -> Result<(), Error> {
    if process.no_new_privileges {
        set_no_new_privs(true).at(Stage::Credentials, || "set no_new_privs".to_owned())?;
        if let Some(caps) = &process.caps {
            set_caps(caps)?;
        }
        return load_filter(process);
    }
    // Without no_new_privs loading a filter takes CAP_SYS_ADMIN, so it comes before the capabilities go.
    if process.seccomp.is_some() && process.caps.is_some() {
        let now = capabilities(None).at(Stage::Credentials, || "read capabilities".to_owned())?;
        let raised = CapabilitySets { effective: now.permitted, ..now };
        set_capabilities(None, raised).at(Stage::Credentials, || "raise capabilities".to_owned())?;
    }
    load_filter(process)?;
    if let Some(caps) = &process.caps {
        set_caps(caps)?;
    }
    Ok(())
}

fn load_filter(process: &ProcessPlan) -> Result<(), Error> {
    if let Some((filter, flags)) = &process.seccomp {
        ferry_sys::seccomp::set_filter(filter, *flags)
            .at(Stage::Credentials, || "load the seccomp filter".to_owned())?;
    }
    Ok(())
}

fn drop_bounding(caps: &CapPlan) -> Result<(), Error> {
    for number in 0..MAX_CAPABILITY {
        let cap = CapabilitySet::from_bits_retain(1 << number);
        if caps.bounding.contains(cap) {
            continue;
        }
        match remove_capability_from_bounding_set(cap) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            Err(errno) => {
                return Err(Error::system(Stage::Credentials, "drop the bounding capabilities", errno));
            }
        }
    }
    Ok(())
}

fn set_caps(caps: &CapPlan) -> Result<(), Error> {
    // What the runtime does not have it cannot give; like runc it gives the rest.
    let have = capabilities(None).at(Stage::Credentials, || "read capabilities".to_owned())?.permitted;
    let sets = CapabilitySets {
        effective: caps.effective & have,
        permitted: caps.permitted & have,
        inheritable: caps.inheritable & have,
    };
    set_capabilities(None, sets).at(Stage::Credentials, || "set capabilities".to_owned())?;
    match clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(Error::system(Stage::Credentials, "clear ambient capabilities", errno)),
    }
    for cap in caps.ambient.iter() {
        match configure_capability_in_ambient_set(cap, true) {
            // Not permitted or not inheritable: it cannot be ambient either.
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err(Error::system(Stage::Credentials, "raise ambient capabilities", errno)),
        }
    }
    Ok(())
}
