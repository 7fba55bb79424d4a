//! File-system access that cannot leave one directory, whatever names and symbolic links an archive
//! brings: every path is resolved by the kernel with openat2(2), relative to a descriptor.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Mode, OFlags, ResolveFlags, Stat};

/// A directory and everything below it.
#[derive(Debug)]
pub struct Confined {
    root: OwnedFd,
    /// Absolute path of `root` as the kernel names it.
    path: PathBuf,
}

/// A directory within a [`Confined`], with its path free of symbolic links and dots.
#[derive(Debug)]
pub struct Located {
    /// `O_PATH` descriptor.
    pub fd: OwnedFd,
    /// Relative to the confining directory, no leading slash; empty for that directory itself.
    pub path: Vec<u8>,
}

impl Confined {
    /// Confines to `path`, which is trusted.
    ///
    /// # Errors
    /// When it is no directory that can be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let path = path_of(root.as_fd())?;
        Ok(Self { root, path })
    }

    /// Confines to a directory that is open already.
    ///
    /// # Errors
    /// When its path cannot be found out.
    pub fn from_fd(root: OwnedFd) -> io::Result<Self> {
        let path = path_of(root.as_fd())?;
        Ok(Self { root, path })
    }

    /// The confining directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens `path` without following any symbolic link.
    ///
    /// # Errors
    /// `ELOOP` when there is one, `EXDEV` when the path leaves the directory, and the usual ones.
    pub fn open_strict(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(self.root.as_fd(), path, flags | OFlags::CLOEXEC, resolve)
    }

    /// Opens a directory, following symbolic links as if the confining directory were `/`.
    ///
    /// # Errors
    /// The usual ones of open(2).
    pub fn locate(&self, path: &[u8]) -> io::Result<Located> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd =
            openat2(self.root.as_fd(), path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?;
        let real = path_of(fd.as_fd())?;
        let inside = real.strip_prefix(&self.path).map_err(|_| io::Error::from(rustix::io::Errno::XDEV))?;
        Ok(Located { path: inside.as_os_str().as_bytes().to_vec(), fd })
    }
}

/// Opens a directory in a directory that is inside already; `name` is one component.
///
/// # Errors
/// `ELOOP` when it is a symbolic link, and the usual ones.
pub fn open_child(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(dir, name, flags, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

/// openat2(2) of a path; retried, since the kernel gives `EAGAIN` when a rename anywhere on the system
/// races with the resolution of `..`.
fn openat2(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags, resolve: ResolveFlags) -> io::Result<OwnedFd> {
    let path = OsStr::from_bytes(path);
    for _ in 0..128 {
        match fs::openat2(dir, path, flags, Mode::empty(), resolve) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
    Err(rustix::io::Errno::AGAIN.into())
}

fn path_of(fd: BorrowedFd<'_>) -> io::Result<PathBuf> {
    std::fs::read_link(fd_path(fd))
}

/// A path that names what `fd` refers to; opening it opens that very file again, with other flags.
pub fn fd_path(fd: BorrowedFd<'_>) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// The path under which a child of `dir` can be named to calls that have no `at` form; its last
/// component is what the call must not follow.
pub fn proc_path(dir: BorrowedFd<'_>, name: &[u8]) -> PathBuf {
    let mut path = fd_path(dir);
    path.push(OsStr::from_bytes(name));
    path
}

/// Whether this is an overlayfs whiteout: a character device 0/0.
pub fn is_whiteout(stat: &Stat) -> bool {
    fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether a directory's attribute says that lower layers do not show through.
///
/// # Errors
/// When the attribute cannot be read for a reason other than that it is not there.
pub fn is_opaque(dir: BorrowedFd<'_>) -> io::Result<bool> {
    let mut value = [0_u8; 4];
    match fs::fgetxattr(dir, super::OPAQUE_XATTR, &mut value[..]) {
        // "x" means "may contain xattr whiteouts", which is not opaque.
        Ok(n) => Ok(n == 1 && value[0] == b'y'),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
