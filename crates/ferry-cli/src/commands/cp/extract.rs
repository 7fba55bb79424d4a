//! Unpacking what a container sent. The archive is not trusted: names may not leave the directory, and
//! no symlink is ever followed, whether it came with the archive or was there before.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self as sys, AtFlags, Mode, OFlags, Timespec, Timestamps};
use tar::{Archive, Entry, EntryType};

use super::plan::Target;
use crate::failure::Failure;
use crate::text;

/// Flags of every directory opened on the way.
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Unpacks `archive` into `target.dir`, its top component renamed to `target.name`.
///
/// # Errors
/// When the archive is malformed or tries to leave the directory, or a file cannot be made.
pub fn extract(archive: impl Read, target: &Target, keep_owner: bool) -> Result<(), Failure> {
    let fail =
        |path: &Path, e: io::Error| Failure::new(format!("{}: {}", path.display(), text::io_reason(&e)));
    let root_path = Path::new(&target.dir);
    // The directory the user named may itself be reached through symlinks.
    let root = sys::open(root_path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| fail(root_path, e.into()))?;
    let mut archive = Archive::new(archive);
    // Directories' times change while they are filled: they are set at the end, deepest first.
    let mut directories: Vec<(PathBuf, u32, u64)> = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let named = entry.path()?.into_owned();
        let Some(path) = rename(&named, &target.name)? else { continue };
        place(&root, &path, &mut entry, target, keep_owner).map_err(|e| fail(&path, e))?;
        if entry.header().entry_type() == EntryType::Directory {
            directories.push((path, entry.header().mode()?, entry.header().mtime()?));
        }
    }
    for (path, mode, mtime) in directories.into_iter().rev() {
        let dir = walk(&root, &path, false).map_err(|e| fail(&path, e))?;
        let _ = sys::fchmod(&dir, Mode::from_raw_mode(mode & 0o7777));
        let _ = sys::futimens(&dir, &times(mtime));
    }
    Ok(())
}

/// The entry's path below the root: plain components only. The first one is the source's name, which
/// becomes `name`. `None` for the root itself.
fn rename(path: &Path, name: &str) -> Result<Option<PathBuf>, Failure> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            _ => {
                let shown = text::quote(&path.to_string_lossy());
                return Err(Failure::new(format!(
                    "refusing to unpack {shown}: the path leaves the destination"
                )));
            }
        }
    }
    // An archive of a directory's contents has entries below `.`, which is no component of its own.
    let of_contents = path.as_os_str().as_bytes().starts_with(b"./") || path == Path::new(".");
    let mut renamed = PathBuf::new();
    if name != "." {
        renamed.push(name);
    }
    renamed.extend(if of_contents || parts.is_empty() { &parts[..] } else { &parts[1..] });
    Ok(Some(renamed).filter(|p| !p.as_os_str().is_empty()))
}

/// Opens the directory `path` below `root` component by component.
fn walk(root: &OwnedFd, path: &Path, create: bool) -> io::Result<OwnedFd> {
    let mut dir = root.try_clone()?;
    for part in path.iter() {
        dir = match sys::openat(&dir, part, DIRECTORY, Mode::empty()) {
            Ok(next) => next,
            Err(rustix::io::Errno::NOENT) if create => {
                sys::mkdirat(&dir, part, Mode::from_raw_mode(0o755))?;
                sys::openat(&dir, part, DIRECTORY, Mode::empty())?
            }
            Err(e) => return Err(e.into()),
        };
    }
    Ok(dir)
}

fn place<R: Read>(
    root: &OwnedFd,
    path: &Path,
    entry: &mut Entry<'_, R>,
    target: &Target,
    keep_owner: bool,
) -> io::Result<()> {
    let name = path.file_name().unwrap_or(OsStr::new("."));
    let dir = walk(root, path.parent().unwrap_or(Path::new("")), true)?;
    let header = entry.header().clone();
    let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
    let bad_link = || io::Error::new(io::ErrorKind::InvalidData, "link without a target");
    match header.entry_type() {
        EntryType::Directory => {
            match sys::mkdirat(&dir, name, Mode::from_raw_mode(0o700)) {
                Ok(()) => {}
                Err(rustix::io::Errno::EXIST) => {
                    // A directory is kept and filled; anything else in its place is an error.
                    sys::openat(&dir, name, DIRECTORY, Mode::empty())?;
                }
                Err(e) => return Err(e.into()),
            }
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            clear(&dir, name)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = sys::openat(&dir, name, flags, Mode::from_raw_mode(0o600))?;
            let mut file = File::from(fd);
            io::copy(entry, &mut file)?;
            own(&dir, name, &header, keep_owner)?;
            sys::fchmod(&file, mode)?;
            sys::futimens(&file, &times(header.mtime()?))?;
            return Ok(());
        }
        EntryType::Symlink => {
            clear(&dir, name)?;
            let to = entry.link_name()?.ok_or_else(bad_link)?;
            sys::symlinkat(to.as_ref(), &dir, name)?;
        }
        EntryType::Link => {
            let to = entry.link_name()?.ok_or_else(bad_link)?;
            let to =
                rename(&to, &target.name).map_err(|e| io::Error::other(e.message))?.ok_or_else(bad_link)?;
            let from = walk(root, to.parent().unwrap_or(Path::new("")), false)?;
            clear(&dir, name)?;
            sys::linkat(&from, to.file_name().unwrap_or(name), &dir, name, AtFlags::empty())?;
            return Ok(());
        }
        EntryType::Fifo => {
            clear(&dir, name)?;
            sys::mknodat(&dir, name, sys::FileType::Fifo, mode, 0)?;
        }
        EntryType::Char | EntryType::Block => {
            clear(&dir, name)?;
            let kind = if header.entry_type() == EntryType::Char {
                sys::FileType::CharacterDevice
            } else {
                sys::FileType::BlockDevice
            };
            let number =
                sys::makedev(header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0));
            sys::mknodat(&dir, name, kind, mode, number)?;
        }
        EntryType::XGlobalHeader => return Ok(()),
        other => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("unknown entry type {:?}", other.as_byte()),
            ));
        }
    }
    own(&dir, name, &header, keep_owner)
}

/// Removes what the entry replaces; directories stay, and are an error for the caller.
fn clear(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match sys::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::ISDIR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// In archive mode the owner goes with the file; otherwise it belongs to whoever copies.
fn own(dir: &OwnedFd, name: &OsStr, header: &tar::Header, keep: bool) -> io::Result<()> {
    if !keep {
        return Ok(());
    }
    let id = |n: u64| u32::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    let (uid, gid) = (sys::Uid::from_raw(id(header.uid()?)?), sys::Gid::from_raw(id(header.gid()?)?));
    sys::chownat(dir.as_fd(), name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn times(mtime: u64) -> Timestamps {
    let stamp = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: stamp, last_modification: stamp }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(if *kind == EntryType::Directory { 0o755 } else { 0o640 });
            header.set_mtime(1_000_000);
            let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
            if is_link {
                header.set_link_name(content).unwrap();
            }
            let data = if is_link { "" } else { content };
            header.set_size(data.len() as u64);
            header.set_cksum();
            builder.append(&header, data.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn unpack(dir: &Path, name: &str, entries: &[(&str, EntryType, &str)]) -> Result<(), Failure> {
        let target = Target { dir: dir.to_string_lossy().into_owned(), name: name.to_owned() };
        extract(&tar_of(entries)[..], &target, false)
    }

    #[test]
    fn tree_is_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let entries = [
            ("src/", EntryType::Directory, ""),
            ("src/f", EntryType::Regular, "data"),
            ("src/l", EntryType::Symlink, "f"),
            ("src/h", EntryType::Link, "src/f"),
        ];
        unpack(dir.path(), "dst", &entries).unwrap();
        assert_eq!(std::fs::read(dir.path().join("dst/l")).unwrap(), b"data");
        assert_eq!(std::fs::read(dir.path().join("dst/h")).unwrap(), b"data");
        let modified = std::fs::metadata(dir.path().join("dst")).unwrap().modified().unwrap();
        assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), 1_000_000);
    }

    #[test]
    fn contents_go_into_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        unpack(dir.path(), ".", &[("./", EntryType::Directory, ""), ("./a/b", EntryType::Regular, "x")])
            .unwrap();
        assert_eq!(std::fs::read(dir.path().join("a/b")).unwrap(), b"x");
    }

    #[test]
    fn nothing_leaves_the_destination() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("in");
        std::fs::create_dir(&dir).unwrap();
        std::fs::create_dir(outer.path().join("victim")).unwrap();
        let regular = EntryType::Regular;
        for entries in [
            &[("x/../../victim/f", regular, "bad")][..],
            &[("/victim/f", regular, "bad")],
            &[
                ("x/", EntryType::Directory, ""),
                ("x/l", EntryType::Symlink, "../../victim"),
                ("x/l/f", regular, "bad"),
            ],
            &[("x", EntryType::Symlink, "../victim"), ("x/f", regular, "bad")],
            &[("x/h", EntryType::Link, "../victim/f")],
        ] {
            assert!(unpack(&dir, "x", entries).is_err(), "{entries:?}");
            assert_eq!(std::fs::read_dir(outer.path().join("victim")).unwrap().count(), 0);
            let _ = std::fs::remove_dir_all(dir.join("x"));
            let _ = std::fs::remove_file(dir.join("x"));
        }
    }

    #[test]
    fn a_symlink_in_the_way_is_replaced_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("victim"), "old").unwrap();
        std::os::unix::fs::symlink("victim", dir.path().join("f")).unwrap();
        unpack(dir.path(), "f", &[("f", EntryType::Regular, "new")]).unwrap();
        assert_eq!(std::fs::read(dir.path().join("victim")).unwrap(), b"old");
        assert_eq!(std::fs::read(dir.path().join("f")).unwrap(), b"new");
    }
}
