//! Device nodes and the cgroup rules that go with them.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ferry_api::container::DeviceMapping;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType};

use super::document::Device;

/// Deepest directory nesting looked through for device nodes.
const MAX_DEPTH: usize = 8;

/// Nodes and rules of a container.
pub(crate) struct Devices {
    pub nodes: Vec<Device>,
    pub rules: Vec<LinuxDeviceCgroup>,
}

/// Docker's rules for an unprivileged container: nodes may be made but only harmless ones used.
const DEFAULT_RULES: [(LinuxDeviceType, Option<i64>, Option<i64>, &str); 10] = [
    (LinuxDeviceType::C, None, None, "m"),
    (LinuxDeviceType::B, None, None, "m"),
    (LinuxDeviceType::C, Some(1), Some(3), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(5), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(7), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(8), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(9), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(0), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(2), "rwm"),
    (LinuxDeviceType::C, Some(136), None, "rwm"),
];

/// One rule of the device controller.
pub(crate) fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> Result<LinuxDeviceCgroup, String> {
    let mut builder = LinuxDeviceCgroupBuilder::default().allow(allow).typ(kind).access(access);
    if let Some(major) = major {
        builder = builder.major(major);
    }
    if let Some(minor) = minor {
        builder = builder.minor(minor);
    }
    builder.build().map_err(|e| e.to_string())
}

/// Nodes and rules for `--device`, `--device-cgroup-rule` and `--privileged`.
pub(crate) fn resolve(
    mappings: &[DeviceMapping],
    rules: &[String],
    privileged: bool,
) -> Result<Devices, String> {
    if privileged {
        let mut nodes = Vec::new();
        collect(Path::new("/dev"), Path::new("/dev"), &mut nodes, 0);
        let all = rule(true, LinuxDeviceType::A, None, None, "rwm")?;
        return Ok(Devices { nodes, rules: vec![all] });
    }
    let mut found =
        Devices { nodes: Vec::new(), rules: vec![rule(false, LinuxDeviceType::A, None, None, "rwm")?] };
    for (kind, major, minor, access) in DEFAULT_RULES {
        found.rules.push(rule(true, kind, major, minor, access)?);
    }
    for mapping in mappings {
        add_mapping(mapping, &mut found)?;
    }
    for text in rules {
        found.rules.push(parse_rule(text)?);
    }
    Ok(found)
}

fn add_mapping(mapping: &DeviceMapping, found: &mut Devices) -> Result<(), String> {
    let host = Path::new(&mapping.path_on_host);
    let inside =
        if mapping.path_in_container.is_empty() { host } else { Path::new(&mapping.path_in_container) };
    let access = if mapping.cgroup_permissions.is_empty() { "rwm" } else { &mapping.cgroup_permissions };
    if !access.bytes().all(|b| b"rwm".contains(&b)) {
        return Err(format!("invalid device cgroup permissions {access:?} for {}", host.display()));
    }
    let metadata = std::fs::metadata(host).map_err(|e| {
        format!(
            "error gathering device information while adding custom device {:?}: {}",
            mapping.path_on_host,
            plain_reason(&e)
        )
    })?;
    let mut nodes = Vec::new();
    if metadata.is_dir() {
        collect(host, inside, &mut nodes, 0);
    } else if let Some(node) = node(&metadata, inside.to_owned()) {
        nodes.push(node);
    }
    if nodes.is_empty() {
        return Err(format!(
            "error gathering device information while adding custom device {:?}: not a device node",
            mapping.path_on_host
        ));
    }
    for node in nodes {
        let kind = if node.kind == "b" { LinuxDeviceType::B } else { LinuxDeviceType::C };
        found.rules.push(rule(true, kind, Some(node.major), Some(node.minor), access)?);
        found.nodes.push(node);
    }
    Ok(())
}

/// An error of the system in the kernel's plain words, which clients look for: `no such file or directory`.
pub(crate) fn plain_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut rest = text.chars();
    rest.next().map(|first| first.to_lowercase().chain(rest).collect()).unwrap_or_default()
}

/// The device node a host's file is; `None` for other files.
pub(crate) fn node(metadata: &std::fs::Metadata, path: PathBuf) -> Option<Device> {
    let kind = metadata.file_type();
    let kind = match (kind.is_block_device(), kind.is_char_device()) {
        (true, _) => "b",
        (_, true) => "c",
        _ => return None,
    };
    Some(Device {
        path,
        kind,
        major: i64::from(rustix::fs::major(metadata.rdev())),
        minor: i64::from(rustix::fs::minor(metadata.rdev())),
        file_mode: metadata.permissions().mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

/// All device nodes beneath a directory, less what every container has of its own.
fn collect(host: &Path, inside: &Path, nodes: &mut Vec<Device>, depth: usize) {
    let Ok(entries) = std::fs::read_dir(host) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let own = ["pts", "shm", "fd", "mqueue", "console", "ptmx", ".lxc", ".lxd-mounts", ".udev"];
        if depth == 0 && own.iter().any(|o| name == *o) {
            continue;
        }
        // Symbolic links (such as /dev/stdin) are not nodes.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            if depth < MAX_DEPTH {
                collect(&entry.path(), &inside.join(&name), nodes, depth + 1);
            }
        } else if let Some(node) = node(&metadata, inside.join(&name)) {
            nodes.push(node);
        }
    }
}

/// `--device-cgroup-rule`: `type major:minor access`, e.g. `c 1:* rmw`.
fn parse_rule(text: &str) -> Result<LinuxDeviceCgroup, String> {
    let invalid = || format!("invalid device cgroup rule format: '{text}'");
    let words: Vec<&str> = text.split_whitespace().collect();
    let [kind, numbers, access] = words[..] else { return Err(invalid()) };
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(invalid()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
    let number = |s: &str| {
        if s == "*" { Ok(None) } else { s.parse::<u32>().map(|n| Some(i64::from(n))).map_err(|_| invalid()) }
    };
    if access.is_empty() || access.len() > 3 || !access.bytes().all(|b| b"rwm".contains(&b)) {
        return Err(invalid());
    }
    rule(true, kind, number(major)?, number(minor)?, access)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_parsed_and_checked() {
        let rule = parse_rule("c 10:* rw").unwrap();
        assert_eq!((rule.major(), rule.minor(), rule.access().as_deref()), (Some(10), None, Some("rw")));
        for bad in ["", "c", "c 1:2", "x 1:2 r", "c 1 r", "c 1:2 q", "c 1:2 r r", "c -1:2 r"] {
            assert!(parse_rule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mapped_devices_get_a_node_and_a_rule() {
        let mapping = |path: &str| DeviceMapping {
            path_on_host: path.into(),
            path_in_container: "/dev/x".into(),
            cgroup_permissions: "r".into(),
        };
        let found = resolve(&[mapping("/dev/null")], &[], false).unwrap();
        assert_eq!(found.nodes[0].path, Path::new("/dev/x"));
        assert_eq!((found.nodes[0].major, found.nodes[0].minor), (1, 3));
        assert!(resolve(&[mapping("/no/such")], &[], false).is_err());
        assert!(resolve(&[mapping("/etc/hostname")], &[], false).is_err());
    }

    #[test]
    fn privileged_sees_the_hosts_nodes() {
        let found = resolve(&[], &[], true).unwrap();
        assert!(found.nodes.iter().any(|n| n.path == Path::new("/dev/null")));
        assert!(!found.nodes.iter().any(|n| n.path.starts_with("/dev/pts")));
    }
}
