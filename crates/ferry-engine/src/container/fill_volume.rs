//! A new volume starts with what the image has at its mount point.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ferry_types::Overlay;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timestamps, Uid};

use crate::rootfs;

/// The directory `destination` of the image, when it has one.
pub(crate) fn find(overlay: &Overlay, destination: &str) -> io::Result<Option<OwnedFd>> {
    let root = rootfs::mount_read_only(&overlay.lower)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let relative = destination.trim_start_matches('/');
    match rustix::fs::openat2(root.as_fd(), relative, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        Ok(source) => Ok(Some(source)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether a volume has nothing in it.
pub(crate) fn is_empty(data: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(data)?.next().is_none())
}

/// Copies `source` into `data`, or into the directory `subpath` of it, and gives this its owner and mode. Does nothing when
/// there is something already, or no such directory: what is wrong with the path is said when the container starts.
pub(crate) fn fill(source: &OwnedFd, data: &Path, subpath: &str) -> io::Result<()> {
    let found = match ferry_image::copy::beneath(data, subpath) {
        Err(_) if !subpath.is_empty() => return Ok(()),
        found => found?,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = match rustix::fs::openat(&found, c".", flags, Mode::empty()) {
        Err(rustix::io::Errno::NOTDIR) => return Ok(()),
        opened => opened?,
    };
    let occupied = |entry: &rustix::fs::DirEntry| !matches!(entry.file_name().to_bytes(), b"." | b"..");
    for entry in rustix::fs::Dir::read_from(&target)? {
        if occupied(&entry?) {
            return Ok(());
        }
    }
    copy_directory(source.as_fd(), target.as_fd())
}

fn copy_directory(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let mut directory = rustix::fs::Dir::read_from(source)?;
    while let Some(entry) = directory.read() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(target, name, Mode::RWXU)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let from = rustix::fs::openat(source, name, flags, Mode::empty())?;
                let to = rustix::fs::openat(target, name, flags, Mode::empty())?;
                copy_directory(from.as_fd(), to.as_fd())?;
            }
            FileType::RegularFile => copy_file(source, target, name, mode)?,
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(source, name, Vec::new())?;
                rustix::fs::symlinkat(link, target, name)?;
                chown(target, name, &stat)?;
            }
            kind => {
                rustix::fs::mknodat(target, name, kind, mode, stat.st_rdev)?;
                chown(target, name, &stat)?;
            }
        }
    }
    let stat = rustix::fs::fstat(source)?;
    rustix::fs::fchown(target, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(target, Mode::from_raw_mode(stat.st_mode))?;
    copy_xattrs(source, target)?;
    set_times(target, &stat)
}

fn copy_file(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    mode: Mode,
) -> io::Result<()> {
    let from: OwnedFd =
        rustix::fs::openat(source, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let to: OwnedFd = rustix::fs::openat(target, name, flags, Mode::RUSR | Mode::WUSR)?;
    let stat = rustix::fs::fstat(&from)?;
    let (mut from, mut to) = (fs::File::from(from), fs::File::from(to));
    io::copy(&mut from, &mut to)?;
    rustix::fs::fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    // After chown, which clears setuid bits.
    rustix::fs::fchmod(&to, mode)?;
    copy_xattrs(from.as_fd(), to.as_fd())?;
    set_times(to.as_fd(), &stat)
}

fn chown(target: BorrowedFd<'_>, name: &std::ffi::CStr, stat: &rustix::fs::Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    Ok(rustix::fs::chownat(target, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn set_times(target: BorrowedFd<'_>, stat: &rustix::fs::Stat) -> io::Result<()> {
    let modified = rustix::fs::Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.cast_signed() };
    Ok(rustix::fs::futimens(target, &Timestamps { last_access: modified, last_modification: modified })?)
}

fn copy_xattrs(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let mut names = vec![0_u8; 4096];
    let length = match rustix::fs::flistxattr(source, names.as_mut_slice()) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let mut value = vec![0_u8; 65536];
    for name in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let length = rustix::fs::fgetxattr(source, name, value.as_mut_slice())?;
        match rustix::fs::fsetxattr(target, name, &value[..length], rustix::fs::XattrFlags::empty()) {
            // The volume's file system need not know every attribute of the image's.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
