//! What is mounted in a container besides its root: the kernel's file systems, generated files, binds, volumes
//! and tmpfs.

use std::path::PathBuf;

use ferry_api::MountPoint;
use ferry_types::Digest;

use super::document::Mount;
use super::{NamespaceChoice, Namespaces};
use crate::container::record::{ContainerRecord, MountDetail, ReadOnly};

/// Bytes of `/dev/shm` unless `--shm-size` says otherwise.
const DEFAULT_SHM: i64 = 64 << 20;

/// The runtime's option for mounting only a part of the source, see `ferry-runtime`.
const SUBPATH: &str = "x-ferry.subpath=";

/// The layers of an image, topmost first.
pub(crate) type ImageLayers<'a> = dyn Fn(&Digest) -> Result<Vec<PathBuf>, String> + 'a;

fn mount(destination: &str, kind: &'static str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: PathBuf::from(destination),
        kind,
        source: PathBuf::from(source),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
    }
}

/// Every mount of a container, in the order they are made: a mount point comes before what lies beneath it.
pub(crate) fn all(
    record: &ContainerRecord,
    generated: &[(PathBuf, &'static str)],
    namespaces: &Namespaces,
    images: &ImageLayers<'_>,
    writable_cgroups: bool,
) -> Result<Vec<Mount>, String> {
    let host_config = &record.host_config;
    let mut mounts = kernel_mounts(record, namespaces, writable_cgroups);
    let mut own: Vec<Mount> = Vec::new();
    for (source, destination) in generated {
        if record.mounts.iter().any(|m| m.destination == *destination) {
            continue;
        }
        let mut options = vec!["rbind".to_owned(), "rprivate".to_owned()];
        if host_config.readonly_rootfs {
            options.push("ro".to_owned());
        }
        own.push(Mount {
            destination: PathBuf::from(destination),
            kind: "bind",
            source: source.clone(),
            options,
        });
    }
    for point in record.mounts.iter().filter(|m| m.kind != "tmpfs") {
        let detail = record.mount_details.get(&point.destination).cloned().unwrap_or_default();
        own.push(user_mount(point, &detail, images)?);
    }
    for (destination, options) in &host_config.tmpfs {
        own.push(tmpfs(destination, options)?);
    }
    for point in host_config.mounts.iter().filter(|m| m.kind == "tmpfs") {
        own.push(tmpfs_mount(point));
    }
    // A mount of the user's replaces the default one at the same place.
    mounts.retain(|m| !own.iter().any(|o| o.destination == m.destination));
    own.sort_by_key(|m| m.destination.components().count());
    mounts.extend(own);
    Ok(mounts)
}

/// A bind, volume or image.
fn user_mount(point: &MountPoint, detail: &MountDetail, images: &ImageLayers<'_>) -> Result<Mount, String> {
    let read_only = match detail.read_only {
        _ if point.rw => None,
        ReadOnly::Recursive if recursive_read_only() => Some("rro"),
        ReadOnly::Recursive | ReadOnly::Top => Some("ro"),
        ReadOnly::Forced if recursive_read_only() => Some("rro"),
        ReadOnly::Forced => {
            return Err(format!(
                "{}: this kernel cannot make mounts recursively read-only",
                point.destination
            ));
        }
    };
    let propagation = if point.propagation.is_empty() { "rprivate" } else { &point.propagation };
    let mut options = vec![propagation.to_owned()];
    options.extend(read_only.map(str::to_owned));
    if !detail.subpath.is_empty() {
        options.push(format!("{SUBPATH}{}", detail.subpath));
    }
    let mut kind = "bind";
    let mut source = PathBuf::from(&point.source);
    if let Some(image) = &detail.image {
        let layers = images(image)?;
        match layers.as_slice() {
            // overlayfs wants two layers at least.
            [only] => source.clone_from(only),
            _ => {
                kind = "overlay";
                source = PathBuf::from("overlay");
                options.extend(layers.iter().map(|l| format!("lowerdir+={}", l.display())));
            }
        }
    }
    if kind == "bind" {
        options.insert(0, if detail.non_recursive { "bind" } else { "rbind" }.to_owned());
    }
    Ok(Mount { destination: PathBuf::from(&point.destination), kind, source, options })
}

/// Whether mount_setattr(2) is there (Linux 5.12), without which only one mount at a time can be made read-only.
fn recursive_read_only() -> bool {
    static CAN: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *CAN.get_or_init(|| {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 12)
    })
}

/// The program a container with an init begins with.
pub(super) fn init(program: &std::path::Path) -> Mount {
    let options = ["bind", "ro", "nosuid", "nodev", "rprivate"];
    mount(crate::init_program::IN_CONTAINER, "bind", &program.to_string_lossy(), &options)
}

fn kernel_mounts(record: &ContainerRecord, namespaces: &Namespaces, writable_cgroups: bool) -> Vec<Mount> {
    let host_config = &record.host_config;
    let privileged = host_config.privileged;
    let read_only = if privileged { "rw" } else { "ro" };
    let shm = if host_config.shm_size > 0 { host_config.shm_size } else { DEFAULT_SHM };
    let shm_size = format!("size={shm}");
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
    ];
    // sysfs shows the network namespace it is mounted from; without an own one the kernel may refuse a new mount.
    mounts.push(mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", read_only]));
    mounts.push(mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "relatime", if writable_cgroups { "rw" } else { "ro" }],
    ));
    mounts.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
    match &namespaces.ipc {
        // `/proc/PID/ns/ipc`: shared memory is shared, too.
        NamespaceChoice::Join(ns) => {
            let process = ns.parent().and_then(|ns| ns.parent()).unwrap_or(ns);
            let source = process.join("root/dev/shm");
            let options = ["bind", "nosuid", "noexec", "nodev", "rprivate"];
            mounts.push(mount("/dev/shm", "bind", &source.to_string_lossy(), &options));
        }
        NamespaceChoice::Host => mounts.push(mount("/dev/shm", "bind", "/dev/shm", &["rbind", "rprivate"])),
        NamespaceChoice::New if host_config.ipc_mode != "none" => {
            let options = ["nosuid", "noexec", "nodev", "mode=1777", shm_size.as_str()];
            mounts.push(mount("/dev/shm", "tmpfs", "shm", &options));
        }
        NamespaceChoice::New => {}
    }
    mounts
}

/// `--tmpfs PATH[:OPTIONS]`.
fn tmpfs(destination: &str, options: &str) -> Result<Mount, String> {
    let given: Vec<&str> = options.split(',').filter(|o| !o.is_empty()).collect();
    for option in &given {
        let key = option.split('=').next().unwrap_or_default();
        let known = [
            "size",
            "mode",
            "uid",
            "gid",
            "nr_inodes",
            "nr_blocks",
            "mpol",
            "huge",
            "ro",
            "rw",
            "exec",
            "noexec",
            "suid",
            "nosuid",
            "dev",
            "nodev",
            "sync",
            "async",
            "atime",
            "noatime",
            "diratime",
            "nodiratime",
            "relatime",
            "norelatime",
            "strictatime",
            "nostrictatime",
            "defaults",
            "remount",
            "bind",
            "rbind",
            "private",
            "rprivate",
            "shared",
            "rshared",
            "slave",
            "rslave",
            "unbindable",
            "runbindable",
        ];
        if !known.contains(&key) {
            return Err(format!("invalid tmpfs option {key:?}"));
        }
    }
    let mut all: Vec<String> = vec!["noexec".into(), "nosuid".into(), "nodev".into()];
    for option in given {
        if let Some(opposite) = option.strip_prefix("no") {
            all.retain(|o| o != opposite);
        } else {
            all.retain(|o| o.strip_prefix("no") != Some(option));
        }
        if !all.iter().any(|o| o == option) {
            all.push(option.to_owned());
        }
    }
    Ok(Mount {
        destination: PathBuf::from(destination),
        kind: "tmpfs",
        source: PathBuf::from("tmpfs"),
        options: all,
    })
}

/// Checks a `--tmpfs` without making anything of it.
pub(crate) fn check_tmpfs(destination: &str, options: &str) -> Result<(), String> {
    if !super::is_clean_absolute(destination) {
        return Err(format!("invalid mount path: '{destination}' mount path must be absolute"));
    }
    if destination.trim_matches('/').is_empty() {
        return Err("invalid specification: destination can't be '/'".to_owned());
    }
    tmpfs(destination, options).map(|_| ())
}

/// `--mount type=tmpfs`.
fn tmpfs_mount(point: &ferry_api::Mount) -> Mount {
    let mut options: Vec<String> = vec!["noexec".into(), "nosuid".into(), "nodev".into()];
    if point.read_only {
        options.push("ro".into());
    }
    if let Some(extra) = &point.tmpfs_options {
        if extra.size_bytes > 0 {
            options.push(format!("size={}", extra.size_bytes));
        }
        if extra.mode != 0 {
            options.push(format!("mode={:o}", extra.mode));
        }
        for option in &extra.options {
            options.push(option.join("="));
        }
    }
    Mount {
        destination: PathBuf::from(&point.target),
        kind: "tmpfs",
        source: PathBuf::from("tmpfs"),
        options,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_options_replace_their_opposites() {
        let mount = tmpfs("/run", "exec,size=64m,mode=1770").unwrap();
        assert_eq!(mount.options, ["nosuid", "nodev", "exec", "size=64m", "mode=1770"]);
        assert_eq!(tmpfs("/x", "").unwrap().options, ["noexec", "nosuid", "nodev"]);
        assert!(tmpfs("/x", "upperdir=/etc").is_err());
    }
}
