//! Resolving `--user` against the image's own `/etc/passwd` and `/etc/group`, read straight from the layers
//! so that nothing has to be mounted first.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Files larger than this are not user databases.
const MAX_DATABASE: u64 = 16 << 20;

/// A root file system as its layers, topmost first (the writable layer included).
pub(crate) struct Layers<'a> {
    dirs: Vec<&'a Path>,
}

impl<'a> Layers<'a> {
    /// Layers in lookup order.
    pub fn new(upper: Option<&'a Path>, lower: &'a [PathBuf]) -> Self {
        Self { dirs: upper.into_iter().chain(lower.iter().map(PathBuf::as_path)).collect() }
    }

    /// Contents of the regular file at `path` (relative to the root); empty when there is none. Symbolic links are
    /// followed within the layer that has them.
    pub fn read(&self, path: &str) -> io::Result<String> {
        for dir in &self.dirs {
            let root =
                rustix::fs::open(*dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            match rustix::fs::openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
                Ok(fd) => {
                    let file = File::from(fd);
                    let metadata = file.metadata()?;
                    // A character device 0/0 is overlayfs' whiteout.
                    if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
                        return Ok(String::new());
                    }
                    if !metadata.is_file() {
                        return Ok(String::new());
                    }
                    let mut text = Vec::new();
                    file.take(MAX_DATABASE).read_to_end(&mut text)?;
                    return Ok(String::from_utf8_lossy(&text).into_owned());
                }
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::NXIO) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(String::new())
    }
}

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolvedUser {
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
    pub home: String,
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn passwd_entries(text: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|n| !n.is_empty() && !n.starts_with('#'))?;
        let _password = fields.next()?;
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let _gecos = fields.next();
        Some(PasswdEntry { name, uid, gid, home: fields.next().unwrap_or_default() })
    })
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn group_entries(text: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|n| !n.is_empty() && !n.starts_with('#'))?;
        let _password = fields.next()?;
        let gid = fields.next()?.parse().ok()?;
        Some(GroupEntry { name, gid, members: fields.next().unwrap_or_default() })
    })
}

/// Resolves `user[:group]` plus `--group-add`. The error texts are Docker's.
pub(crate) fn resolve(
    spec: &str,
    group_add: &[String],
    passwd: &str,
    group: &str,
) -> Result<ResolvedUser, String> {
    let (user_part, group_part) = match spec.split_once(':') {
        Some((u, g)) => (u, Some(g).filter(|g| !g.is_empty())),
        None => (spec, None),
    };
    let wanted = if user_part.is_empty() { "0" } else { user_part };
    let by_number = parse_id(wanted);
    if by_number.is_none() && wanted.parse::<i64>().is_ok() {
        return Err("uids and gids must be in range 0-2147483647".to_owned());
    }
    let entry = passwd_entries(passwd).find(|e| e.name == wanted || Some(e.uid) == by_number);
    let (uid, mut gid, home, name) = match (&entry, by_number) {
        (Some(e), _) => (e.uid, e.gid, e.home, Some(e.name)),
        (None, Some(uid)) => (uid, 0, "", None),
        (None, None) => {
            return Err(format!("unable to find user {user_part}: no matching entries in passwd file"));
        }
    };
    let find_group = |wanted: &str| {
        let number = parse_id(wanted);
        group_entries(group).find(|e| e.name == wanted).map(|e| e.gid).or(number)
    };
    let mut additional_gids = Vec::new();
    match group_part {
        Some(wanted) => {
            gid = find_group(wanted)
                .ok_or_else(|| format!("unable to find group {wanted}: no matching entries in group file"))?;
        }
        // The groups the user is a member of count only when no group was named.
        None => {
            if let Some(name) = name {
                let member = |e: &GroupEntry<'_>| e.members.split(',').any(|m| m == name);
                additional_gids.extend(group_entries(group).filter(member).map(|e| e.gid));
            }
        }
    }
    for wanted in group_add {
        let found = find_group(wanted)
            .ok_or_else(|| format!("unable to find group {wanted}: no matching entries in group file"))?;
        additional_gids.push(found);
    }
    // The primary group is shown among the supplementary ones, as runc and login(1) do.
    additional_gids.insert(0, gid);
    let mut seen = std::collections::BTreeSet::new();
    additional_gids.retain(|g| seen.insert(*g));
    let home = if home.is_empty() { "/" } else { home };
    let home = if entry.is_none() && uid == 0 { "/root" } else { home };
    Ok(ResolvedUser { uid, gid, additional_gids, home: home.to_owned() })
}

fn parse_id(s: &str) -> Option<u32> {
    // 2^31-1 is the largest id Docker accepts.
    s.parse::<u32>().ok().filter(|n| i32::try_from(*n).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\n# comment\nwww:x:33:33:www:/var/www:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:\nadm:x:4:www,other\ndisk:x:6:root\n";

    fn ok(spec: &str, add: &[&str]) -> ResolvedUser {
        let add: Vec<String> = add.iter().map(|s| (*s).to_owned()).collect();
        resolve(spec, &add, PASSWD, GROUP).unwrap()
    }

    #[test]
    fn names_and_numbers() {
        let root = ok("", &[]);
        assert_eq!((root.uid, root.gid, root.home.as_str()), (0, 0, "/root"));
        assert_eq!(root.additional_gids, [0, 6]);
        let www = ok("www", &["disk", "77"]);
        assert_eq!((www.uid, www.gid, www.home.as_str()), (33, 33, "/var/www"));
        assert_eq!(www.additional_gids, [33, 4, 6, 77]);
        assert_eq!(ok("33", &[]), ok("www", &[]));
        let unknown = ok("1234:5", &[]);
        assert_eq!((unknown.uid, unknown.gid, unknown.home.as_str()), (1234, 5, "/"));
        assert_eq!(ok("www:adm", &[]).gid, 4);
    }

    #[test]
    fn unknown_names_are_errors() {
        let error = |spec: &str| resolve(spec, &[], PASSWD, GROUP).unwrap_err();
        assert_eq!(error("nobody"), "unable to find user nobody: no matching entries in passwd file");
        assert_eq!(error("www:none"), "unable to find group none: no matching entries in group file");
        assert!(resolve("", &["x".into()], PASSWD, GROUP).is_err());
        assert!(resolve("4294967295", &[], PASSWD, GROUP).is_err());
    }

    #[test]
    fn files_come_from_the_topmost_layer_and_never_from_outside() {
        let dir = tempfile::tempdir().unwrap();
        let layer = |n: &str| {
            let path = dir.path().join(n);
            std::fs::create_dir_all(path.join("etc")).unwrap();
            path
        };
        let (top, bottom) = (layer("top"), layer("bottom"));
        std::fs::write(bottom.join("etc/passwd"), "below").unwrap();
        std::fs::write(dir.path().join("secret"), "outside").unwrap();
        let lower = [bottom.clone()];
        assert_eq!(Layers::new(Some(&top), &lower).read("etc/passwd").unwrap(), "below");
        std::os::unix::fs::symlink("../../secret", top.join("etc/passwd")).unwrap();
        assert_eq!(Layers::new(Some(&top), &[]).read("etc/passwd").unwrap(), "");
        std::fs::remove_file(top.join("etc/passwd")).unwrap();
        std::fs::write(top.join("etc/passwd"), "above").unwrap();
        assert_eq!(Layers::new(Some(&top), &lower).read("etc/passwd").unwrap(), "above");
    }
}
