//! Options of the `local` driver: a volume that is a file system of its own (tmpfs, nfs, a block device, a bind). It is
//! mounted on the volume's directory while a container uses it, and not otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount, unmount,
};

use crate::error::{EngineError, Result};
use crate::mountinfo;

/// What `--opt` said.
pub(crate) type DriverOptions = BTreeMap<String, String>;

/// Refuses options the driver does not know or cannot do. Texts as Docker's.
pub(crate) fn check(volume: &str, options: &DriverOptions) -> Result<()> {
    let invalid = |why: String| Err(EngineError::InvalidParameter(format!("create {volume}: {why}")));
    if let Some(unknown) = options.keys().find(|k| !["type", "o", "device", "size"].contains(&k.as_str())) {
        return invalid(format!("invalid option: {unknown:?}"));
    }
    if let Some(size) = options.get("size") {
        if !is_size(size) {
            return invalid(format!("invalid size: '{size}'"));
        }
        return invalid("quota size requested but no quota support".to_owned());
    }
    match ["device", "type"].iter().find(|k| !options.is_empty() && !options.contains_key(**k)) {
        Some(missing) => invalid(format!("missing required option: {missing:?}")),
        None => Ok(()),
    }
}

/// A number and perhaps a unit, as in `10m`, `1.5GiB`.
fn is_size(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches('b').trim_end_matches('i');
    let number = number.strip_suffix(['k', 'm', 'g', 't', 'p']).unwrap_or(number).trim_end();
    number.parse::<f64>().is_ok_and(|n| n >= 0.0)
}

/// Which containers use which mounted volume, by name.
#[derive(Debug, Default)]
pub(crate) struct MountedVolumes(Mutex<BTreeMap<String, BTreeSet<String>>>);

impl MountedVolumes {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, BTreeSet<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mounts a volume on `dir`, unless it is already, on behalf of `user`.
    pub fn mount(&self, volume: &str, dir: &Path, options: &DriverOptions, user: &str) -> Result<()> {
        // Held while mounting: the second user must not go on before it is done.
        let mut users = self.lock();
        let of_volume = users.entry(volume.to_owned()).or_default();
        if of_volume.is_empty() && !is_mounted(dir)? {
            mount_local(dir, options).map_err(|why| {
                EngineError::System(format!(
                    "error while mounting volume '{}': failed to mount local volume: {why}",
                    dir.display()
                ))
            })?;
        }
        of_volume.insert(user.to_owned());
        Ok(())
    }

    /// Notes a user found when the engine started.
    pub fn adopt(&self, volume: &str, user: &str) {
        self.lock().entry(volume.to_owned()).or_default().insert(user.to_owned());
    }

    /// Ends a use; the last one unmounts.
    pub fn release(&self, volume: &str, dir: &Path, user: &str) -> Result<()> {
        let mut users = self.lock();
        let Some(of_volume) = users.get_mut(volume) else { return Ok(()) };
        of_volume.remove(user);
        if !of_volume.is_empty() {
            return Ok(());
        }
        users.remove(volume);
        unmount_if_mounted(dir)
    }

    /// Unmounts what an engine left that was killed, when nobody uses it.
    pub fn tidy(&self, volume: &str, dir: &Path) -> Result<()> {
        match self.lock().get(volume) {
            Some(users) if !users.is_empty() => Ok(()),
            _ => unmount_if_mounted(dir),
        }
    }
}

fn is_mounted(dir: &Path) -> Result<bool> {
    let read = |source| EngineError::File { action: "read", path: "/proc/self/mountinfo".into(), source };
    Ok(mountinfo::read().map_err(read)?.iter().any(|m| m.mount_point == dir))
}

fn unmount_if_mounted(dir: &Path) -> Result<()> {
    if !is_mounted(dir)? {
        return Ok(());
    }
    // Whoever still looks into it keeps it until he is done.
    unmount(dir, UnmountFlags::DETACH).map_err(|e| EngineError::File {
        action: "unmount",
        path: dir.to_owned(),
        source: e.into(),
    })
}

/// mount(8)'s options: flags, propagation, and the rest for the file system.
#[derive(Debug, PartialEq, Eq)]
struct Parsed {
    flags: MountFlags,
    propagation: MountPropagationFlags,
    data: String,
}

fn parse(options: &str) -> Parsed {
    let mut parsed = Parsed {
        flags: MountFlags::empty(),
        propagation: MountPropagationFlags::empty(),
        data: String::new(),
    };
    let recursive = MountPropagationFlags::REC;
    for option in options.split(',').filter(|o| !o.is_empty()) {
        let (flag, on) = match option {
            "defaults" => continue,
            "ro" => (MountFlags::RDONLY, true),
            "rw" => (MountFlags::RDONLY, false),
            "nosuid" => (MountFlags::NOSUID, true),
            "suid" => (MountFlags::NOSUID, false),
            "nodev" => (MountFlags::NODEV, true),
            "dev" => (MountFlags::NODEV, false),
            "noexec" => (MountFlags::NOEXEC, true),
            "exec" => (MountFlags::NOEXEC, false),
            "sync" => (MountFlags::SYNCHRONOUS, true),
            "async" => (MountFlags::SYNCHRONOUS, false),
            "dirsync" => (MountFlags::DIRSYNC, true),
            "mand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, true),
            "nomand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, false),
            "noatime" => (MountFlags::NOATIME, true),
            "atime" => (MountFlags::NOATIME, false),
            "nodiratime" => (MountFlags::NODIRATIME, true),
            "diratime" => (MountFlags::NODIRATIME, false),
            "relatime" => (MountFlags::RELATIME, true),
            "norelatime" => (MountFlags::RELATIME, false),
            "strictatime" => (MountFlags::STRICTATIME, true),
            "nostrictatime" => (MountFlags::STRICTATIME, false),
            "bind" => (MountFlags::BIND, true),
            "rbind" => (MountFlags::BIND | MountFlags::REC, true),
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" | "unbindable"
            | "runbindable" => {
                parsed.propagation |= match option.trim_start_matches('r') {
                    "private" => MountPropagationFlags::PRIVATE,
                    "shared" => MountPropagationFlags::SHARED,
                    "slave" => MountPropagationFlags::DOWNSTREAM,
                    _ => MountPropagationFlags::UNBINDABLE,
                };
                if option.starts_with('r') {
                    parsed.propagation |= recursive;
                }
                continue;
            }
            other => {
                if !parsed.data.is_empty() {
                    parsed.data.push(',');
                }
                parsed.data.push_str(other);
                continue;
            }
        };
        parsed.flags.set(flag, on);
    }
    parsed
}

/// Network file systems take addresses, not names, from mount(2).
fn resolve_address(kind: &str, options: &str) -> std::result::Result<String, String> {
    if !matches!(kind, "nfs" | "nfs4" | "cifs") {
        return Ok(options.to_owned());
    }
    let resolved: std::result::Result<Vec<String>, String> = options
        .split(',')
        .map(|option| match option.strip_prefix("addr=") {
            Some(host) if host.parse::<IpAddr>().is_err() => {
                let failed = |e: String| format!("error resolving passed in network volume address: {e}");
                let mut found = (host, 0_u16).to_socket_addrs().map_err(|e| failed(e.to_string()))?;
                let address = found.next().ok_or_else(|| failed(format!("{host}: no address")))?;
                Ok(format!("addr={}", address.ip()))
            }
            _ => Ok(option.to_owned()),
        })
        .collect();
    Ok(resolved?.join(","))
}

fn mount_local(dir: &Path, options: &DriverOptions) -> std::result::Result<(), String> {
    let get = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
    let (kind, device) = (get("type"), get("device"));
    if kind.is_empty() && device.is_empty() {
        return Ok(());
    }
    let parsed = parse(&resolve_address(kind, get("o"))?);
    let what = || {
        let mut text = String::from("mount ");
        if !device.is_empty() {
            text.push_str(&format!("{device}:"));
        }
        text.push_str(&dir.display().to_string());
        if !parsed.flags.is_empty() {
            text.push_str(&format!(", flags: {:#x}", parsed.flags.bits()));
        }
        if !parsed.data.is_empty() {
            text.push_str(&format!(", data: {}", parsed.data));
        }
        text
    };
    let failed = |e: rustix::io::Errno| {
        format!("{}: {}", what(), ferry_types::errno_in_gos_words(&std::io::Error::from(e).to_string()))
    };
    let data = CString::new(parsed.data.as_str()).map_err(|_| format!("{}: invalid argument", what()))?;
    let data = (!parsed.data.is_empty()).then_some(data.as_c_str());
    mount(device, dir, kind, parsed.flags, data).map_err(failed)?;
    let settle = || {
        // A bind takes its flags only afterwards.
        if parsed.flags.contains(MountFlags::BIND | MountFlags::RDONLY) {
            mount_remount(dir, parsed.flags, c"")?;
        }
        if parsed.propagation.is_empty() { Ok(()) } else { mount_change(dir, parsed.propagation) }
    };
    settle().map_err(|e| {
        let _ = unmount(dir, UnmountFlags::DETACH);
        failed(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> DriverOptions {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn options_are_checked() {
        let text = |pairs: &[(&str, &str)]| check("v", &options(pairs)).map_err(|e| e.to_string());
        assert_eq!(text(&[]), Ok(()));
        assert_eq!(text(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")]), Ok(()));
        for (pairs, why) in [
            (&[("foo", "bar")][..], "invalid option: \"foo\""),
            (&[("type", "nfs")], "missing required option: \"device\""),
            (&[("device", "/x")], "missing required option: \"type\""),
            (&[("o", "bind")], "missing required option: \"device\""),
            (&[("size", "1.5GiB")], "quota size requested but no quota support"),
            (&[("size", "abc")], "invalid size: 'abc'"),
        ] {
            assert_eq!(text(pairs), Err(format!("create v: {why}")));
        }
    }

    #[test]
    fn mount_options_are_sorted() {
        let parsed = parse("ro,size=10m,nosuid,uid=5,rshared,rw,noatime,defaults");
        assert_eq!(parsed.flags, MountFlags::NOSUID | MountFlags::NOATIME);
        assert_eq!(parsed.propagation, MountPropagationFlags::SHARED | MountPropagationFlags::REC);
        assert_eq!(parsed.data, "size=10m,uid=5");
        assert_eq!(parse("rbind").flags, MountFlags::BIND | MountFlags::REC);
    }

    #[test]
    fn names_of_hosts_become_addresses() {
        assert_eq!(resolve_address("nfs", "addr=localhost,soft").unwrap().len(), "addr=127.0.0.1,soft".len());
        assert_eq!(resolve_address("nfs", "addr=10.0.0.1").unwrap(), "addr=10.0.0.1");
        assert_eq!(resolve_address("tmpfs", "addr=localhost").unwrap(), "addr=localhost");
        assert!(resolve_address("nfs", "addr=no.such.host.invalid").is_err());
    }
}
