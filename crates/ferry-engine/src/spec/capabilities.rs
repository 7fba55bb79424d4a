//! `--cap-add`, `--cap-drop` and `--privileged` against Docker's default set.

/// Every capability the kernel headers name (`linux/capability.h`), by number.
const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What a container gets unless told otherwise: Docker's set.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The host's bounding set: a mask of capability numbers, from `CapBnd` of `/proc/self/status` (proc_pid_status(5)).
/// A container cannot be given more than that.
pub(crate) fn host_bounding_set(status: &str) -> u64 {
    status
        .lines()
        .find_map(|l| l.strip_prefix("CapBnd:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(u64::MAX)
}

/// The capability set of a container. `host` limits what `ALL` and privileged mean; a capability the host lacks that is
/// asked for by name is an error, as it would fail later with less explanation.
pub(crate) fn resolve(
    add: &[String],
    drop: &[String],
    privileged: bool,
    host: u64,
) -> Result<Vec<&'static str>, String> {
    let available =
        |name: &&'static str| ALL.iter().position(|c| c == name).is_some_and(|n| host & (1 << n) != 0);
    if privileged {
        return Ok(ALL.into_iter().filter(|c| available(c)).collect());
    }
    let add = named("CapAdd", add)?;
    let drop = named("CapDrop", drop)?;
    if let Some(Named::One(missing)) = add.iter().find(|c| matches!(c, Named::One(name) if !available(name)))
    {
        return Err(format!("capability not supported by this host: {missing}"));
    }
    let all_added = add.contains(&Named::All);
    let all_dropped = drop.contains(&Named::All);
    let kept = ALL.into_iter().filter(|name| {
        let added = add.contains(&Named::One(name));
        let dropped = drop.contains(&Named::One(name));
        match (all_added, all_dropped) {
            (true, _) => !dropped,
            (false, true) => added,
            (false, false) => added || (DEFAULT.contains(name) && !dropped),
        }
    });
    Ok(kept.filter(available).collect())
}

#[derive(PartialEq, Eq)]
enum Named {
    All,
    One(&'static str),
}

fn named(list: &str, names: &[String]) -> Result<Vec<Named>, String> {
    names.iter().map(|n| normalize(n).map_err(|why| format!("invalid {list}: {why}"))).collect()
}

fn normalize(name: &str) -> Result<Named, String> {
    let upper = name.to_ascii_uppercase();
    if upper == "ALL" || upper == "CAP_ALL" {
        return Ok(Named::All);
    }
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    match ALL.into_iter().find(|c| *c == full) {
        Some(known) => Ok(Named::One(known)),
        None => Err(format!("unknown capability: {full:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str]) -> Vec<&'static str> {
        let own = |v: &[&str]| v.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        resolve(&own(add), &own(drop), false, u64::MAX).unwrap()
    }

    #[test]
    fn defaults_plus_and_minus() {
        assert_eq!(set(&[], &[]).len(), 14);
        assert!(set(&["net_admin"], &[]).contains(&"CAP_NET_ADMIN"));
        assert!(!set(&[], &["CAP_KILL"]).contains(&"CAP_KILL"));
        assert_eq!(set(&["CHOWN"], &["ALL"]), ["CAP_CHOWN"]);
        assert_eq!(set(&["ALL"], &["SYS_ADMIN"]).len(), 40);
        assert_eq!(set(&[], &["all"]), [""; 0]);
    }

    #[test]
    fn unknown_and_unavailable_ones_are_refused() {
        let refuse = |name: &str, host| resolve(&[name.to_owned()], &[], false, host).unwrap_err();
        assert_eq!(refuse("FLY", u64::MAX), "invalid CapAdd: unknown capability: \"CAP_FLY\"");
        assert!(refuse("SYS_RESOURCE", !(1 << 24)).contains("CAP_SYS_RESOURCE"));
        let privileged = resolve(&[], &[], true, !(1 << 24)).unwrap();
        assert!(privileged.len() == 40 && !privileged.contains(&"CAP_SYS_RESOURCE"));
    }

    #[test]
    fn bounding_set_is_read() {
        assert_eq!(host_bounding_set("Name:\tx\nCapBnd:\t000000000000000f\n"), 15);
    }
}
