//! Paths inside a root file system whose contents are not trusted: no symlink, `..` or magic link leads
//! outside. openat2(2) with `RESOLVE_IN_ROOT` where the path exists already, otherwise a walk by
//! descriptors which also makes what is missing.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat,
};
use rustix::io::Errno;

const MAX_LINKS: usize = 40;

/// What to make when the path's last component is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Nothing: report `ENOENT`.
    Fail,
    /// A directory, with its ancestors (mode 0755).
    MakeDir,
    /// An empty file, with its ancestors.
    MakeFile,
}

/// Opens `path` below `root` with `O_PATH`, following symlinks inside the root only.
pub(crate) fn open_in_root(root: BorrowedFd<'_>, path: &Path, missing: Missing) -> Result<OwnedFd, Errno> {
    let relative = relative(path);
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..8 {
        match openat2(root, &relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT) if missing == Missing::Fail => return Err(Errno::NOENT),
            // Something was renamed meanwhile; the kernel asks to try again.
            Err(Errno::AGAIN) => {}
            Err(Errno::NOENT | Errno::NOSYS | Errno::PERM) => break,
            Err(errno) => return Err(errno),
        }
    }
    walk(root, &relative, missing)
}

/// The same without `openat2` and for paths to be made: one component after another, each opened
/// without following, links expanded by hand, `..` answered from the stack of directories passed.
fn walk(root: BorrowedFd<'_>, path: &Path, missing: Missing) -> Result<OwnedFd, Errno> {
    let mut stack: Vec<OwnedFd> = vec![root.try_clone_to_owned().map_err(|_| Errno::MFILE)?];
    let mut pending: Vec<OsString> = components(path);
    let mut links = 0;
    while let Some(name) = pending.pop() {
        if name == ".." {
            if stack.len() > 1 {
                stack.pop();
            }
            continue;
        }
        let Some(dir) = stack.last() else { return Err(Errno::NOENT) };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match openat(dir, &name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                match (missing, pending.is_empty()) {
                    (Missing::Fail, _) => return Err(Errno::NOENT),
                    (Missing::MakeFile, true) => {
                        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                        drop(openat(dir, &name, flags, Mode::from_raw_mode(0o644))?);
                    }
                    (Missing::MakeDir, _) | (Missing::MakeFile, false) => {
                        mkdirat(dir, &name, Mode::from_raw_mode(0o755))?;
                    }
                }
                openat(dir, &name, flags, Mode::empty())?
            }
            other => other?,
        };
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) == FileType::Symlink {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP);
            }
            let target = readlinkat(&fd, "", Vec::new())?;
            let target = Path::new(std::ffi::OsStr::from_bytes(target.as_bytes()));
            if target.is_absolute() {
                stack.truncate(1);
            }
            pending.extend(components(target));
        } else {
            stack.push(fd);
        }
    }
    stack.pop().ok_or(Errno::NOENT)
}

/// The components still to walk, the next one last.
fn components(path: &Path) -> Vec<OsString> {
    let mut names: Vec<OsString> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
        })
        .collect();
    names.reverse();
    names
}

fn relative(path: &Path) -> PathBuf {
    let relative = path.strip_prefix("/").unwrap_or(path);
    if relative.as_os_str().is_empty() { PathBuf::from(".") } else { relative.to_owned() }
}

/// Whether `fd` is a directory.
pub(crate) fn is_dir(fd: impl AsFd) -> Result<bool, Errno> {
    let stat = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}
