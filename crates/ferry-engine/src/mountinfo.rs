//! The mounts of the engine's namespace, from `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::io;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountEntry {
    pub mount_point: PathBuf,
    /// Member of a peer group: mounts below it propagate.
    pub shared: bool,
    /// Receives mounts from a peer group.
    pub slave: bool,
}

/// All mounts, in the order they were made.
pub(crate) fn read() -> io::Result<Vec<MountEntry>> {
    Ok(parse(&std::fs::read_to_string("/proc/self/mountinfo")?))
}

/// The mount a path lies on.
pub(crate) fn of<'a>(mounts: &'a [MountEntry], path: &Path) -> Option<&'a MountEntry> {
    // Of mounts on the same place, the last one is seen.
    mounts
        .iter()
        .enumerate()
        .filter(|(_, m)| path.starts_with(&m.mount_point))
        .max_by_key(|(n, m)| (m.mount_point.components().count(), *n))
        .map(|(_, m)| m)
}

fn parse(text: &str) -> Vec<MountEntry> {
    let entry = |line: &str| {
        let mut fields = line.split(' ');
        let mount_point = unescape(fields.nth(4)?);
        let optional: Vec<&str> = fields.skip(1).take_while(|f| *f != "-").collect();
        let has = |tag: &str| optional.iter().any(|f| f.starts_with(tag));
        Some(MountEntry { mount_point, shared: has("shared:"), slave: has("master:") })
    };
    text.lines().filter_map(entry).collect()
}

/// Blanks, tabs, line ends and backslashes are written as `\` and three octal digits.
fn unescape(field: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let bytes = field.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let code = code.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
        match code {
            Some(byte) => {
                plain.push(byte);
                at += 4;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let text = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /mnt/a\\040b rw - tmpfs tmpfs rw
31 22 0:27 / /mnt rw master:3 propagate_from:2 - tmpfs tmpfs rw
32 22 0:28 / /mnt rw - tmpfs tmpfs rw
nonsense
";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[1].mount_point, Path::new("/mnt/a b"));
        assert!(of(&mounts, Path::new("/etc")).unwrap().shared);
        assert!(mounts[2].slave && !mounts[2].shared);
        assert_eq!(of(&mounts, Path::new("/mnt/x")), Some(&mounts[3]));
        assert_eq!(of(&mounts, Path::new("/mnt/a b/c")), Some(&mounts[1]));
    }
}
