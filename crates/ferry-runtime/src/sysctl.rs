//! Kernel parameters of the container's own namespaces (sysctl(8), runtime-spec `linux.sysctl`).

use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, fstatfs, open};

use crate::error::At;
use crate::{Error, Stage};

const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// Writes one parameter, from inside the container and before /proc/sys becomes read-only.
pub(crate) fn write(key: &str, value: &str) -> Result<(), Error> {
    let at = || format!("write sysctl key {key}");
    let path = path_of(key);
    let fd = open(&path, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
        .at(Stage::Settings, at)?;
    if fstatfs(&fd).at(Stage::Settings, at)?.f_type as u64 != PROC_SUPER_MAGIC {
        return Err(Error::invalid(Stage::Settings, format!("{path} is not on a proc file system")));
    }
    rustix::io::write(fd.as_fd(), value.as_bytes()).map(drop).at(Stage::Settings, at)
}

/// `net.ipv4.ip_forward` or, for interface names with dots, `net/ipv4/conf/eth0.1/forwarding`.
fn path_of(key: &str) -> String {
    let slash_first = key.find('/').is_some_and(|slash| key.find('.').is_none_or(|dot| slash < dot));
    if slash_first { format!("/proc/sys/{key}") } else { format!("/proc/sys/{}", key.replace('.', "/")) }
}

/// Refuses what is not namespaced, would change the host, or leads elsewhere.
pub(crate) fn check(key: &str, own_ipc: bool, own_net: bool, own_uts: bool) -> Result<(), Error> {
    let dotted = key.replace('/', ".");
    let refuse = |why: &str| Err(Error::invalid(Stage::Config, format!("sysctl {key:?} {why}")));
    if key.split('/').any(|part| part == ".." || part.is_empty()) || dotted.contains("..") {
        return refuse("is malformed");
    }
    const IPC: [&str; 7] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
    ];
    if IPC.contains(&dotted.as_str())
        || dotted == "kernel.shm_rmid_forced"
        || dotted.starts_with("fs.mqueue.")
    {
        return if own_ipc { Ok(()) } else { refuse("is not allowed in the hosts ipc namespace") };
    }
    if dotted.starts_with("net.") {
        return if own_net { Ok(()) } else { refuse("not allowed in host network namespace") };
    }
    if dotted == "kernel.domainname" {
        return if own_uts { Ok(()) } else { refuse("is not allowed in the hosts uts namespace") };
    }
    if dotted == "kernel.hostname" {
        return refuse("conflicts with the OCI hostname field; use that");
    }
    refuse("is not in a separate kernel namespace")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings() {
        assert_eq!(path_of("net.ipv4.ip_forward"), "/proc/sys/net/ipv4/ip_forward");
        assert_eq!(path_of("net/ipv4/conf/eth0.1/forwarding"), "/proc/sys/net/ipv4/conf/eth0.1/forwarding");
    }

    #[test]
    fn only_namespaced_parameters() {
        assert!(check("net.core.somaxconn", true, true, true).is_ok());
        assert!(check("net.core.somaxconn", true, false, true).is_err());
        assert!(check("kernel.shmmax", true, true, true).is_ok());
        assert!(check("kernel.panic", true, true, true).is_err());
        assert!(check("net/../kernel/panic", true, true, true).is_err());
        assert!(check("vm.swappiness", true, true, true).is_err());
    }
}
