//! What is at a path of the tree.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use super::CopyError;

/// Symbolic links followed in one look-up, as in Go.
const MAX_LINKS: usize = 255;

/// Facts about a path, not following a symbolic link at its end.
#[derive(Debug)]
pub struct Stat {
    /// Last component of the path; `.` for one that ends so, `/` for the root.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// `st_mode`.
    pub mode: u32,
    /// Seconds and nanoseconds since the epoch.
    pub mtime: (i64, u32),
    /// Where a symbolic link leads in the end, from the root; it need not exist.
    pub link_target: Option<String>,
}

/// A path as the client wrote it, made absolute: `.`, `..` and doubled slashes are resolved by their letters, as Go
/// does; a slash or `/.` at the end stays.
pub fn normalize(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut clean = format!("/{}", parts.join("/"));
    let bare = clean == "/";
    if path == "." || path.ends_with("/.") {
        clean.push_str(if bare { "." } else { "/." });
    } else if path.ends_with('/') && !bare {
        clean.push('/');
    }
    clean
}

/// openat2(2) below `root`, which is `/` for symbolic links and `..`. `path` may be absolute.
pub(super) fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let start = path.iter().position(|b| *b != b'/').unwrap_or(path.len());
    let relative = if path[start..].is_empty() { b"." } else { &path[start..] };
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // The kernel gives EAGAIN when a rename anywhere races with `..`.
    for _ in 0..256 {
        match fs::openat2(root, OsStr::from_bytes(relative), flags | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Facts about `path`, a [`normalize`]d one.
///
/// # Errors
/// When it does not exist, or leads through something that is no directory.
pub fn stat(root: BorrowedFd<'_>, path: &str) -> Result<Stat, CopyError> {
    let fd = open(root, path.as_bytes(), OFlags::PATH | OFlags::NOFOLLOW)
        .map_err(CopyError::io("lstat", path.as_bytes()))?;
    let stat = fs::statat(&fd, "", AtFlags::EMPTY_PATH).map_err(CopyError::io("lstat", path.as_bytes()))?;
    let link_target = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let loops = |_| CopyError::Links { what: "evalSymlinksInScope", place: Some(path.to_owned()) };
            Some(String::from_utf8_lossy(&evaluate(root, path.as_bytes()).map_err(loops)?).into_owned())
        }
        _ => None,
    };
    let name = path.trim_end_matches('/').rsplit('/').next().filter(|n| !n.is_empty()).unwrap_or("/");
    Ok(Stat {
        name: name.to_owned(),
        size: stat.st_size,
        mode: stat.st_mode,
        mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        link_target,
    })
}

/// The path without symbolic links that `path` means; components that do not exist stay as they are. What is there
/// may change at any moment: good for showing and comparing, never for opening.
///
/// # Errors
/// `ELOOP` when links go round in circles.
pub fn evaluate(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<Vec<u8>> {
    let split = |path: &[u8]| -> Vec<Vec<u8>> {
        path.split(|b| *b == b'/').rev().filter(|c| !c.is_empty() && *c != b".").map(<[u8]>::to_vec).collect()
    };
    let mut pending = split(path);
    let mut done: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    while let Some(part) = pending.pop() {
        if part == b".." {
            done.pop();
            continue;
        }
        done.push(part);
        let here = done.join(&b'/');
        let Ok(fd) = open(root, &here, OFlags::PATH | OFlags::NOFOLLOW) else { continue };
        // EINVAL or ENOENT: it is no link.
        let Ok(target) = fs::readlinkat(fd.as_fd(), "", Vec::new()) else { continue };
        links += 1;
        if links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        let target = target.into_bytes();
        if target.starts_with(b"/") {
            done.clear();
        } else {
            done.pop();
        }
        pending.extend(split(&target));
    }
    Ok([b"/", done.join(&b'/').as_slice()].concat())
}

/// Opens, with `O_PATH`, what lies at `path` within `source`; `source` itself when it is empty. A path that leads out is refused.
///
/// # Errors
/// Those of openat2(2).
pub fn beneath(source: &std::path::Path, path: &str) -> std::io::Result<OwnedFd> {
    let whole = fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if path.is_empty() {
        return Ok(whole);
    }
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..256 {
        match fs::openat2(&whole, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// Opens the directory at `path`, following links.
pub(super) fn directory(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, CopyError> {
    let dir = open(root, path.as_bytes(), OFlags::PATH).map_err(|e| match e {
        Errno::LOOP => CopyError::Links { what: "EvalSymlinks", place: None },
        e => CopyError::io("lstat", path.as_bytes())(e),
    })?;
    let stat = fs::statat(&dir, "", AtFlags::EMPTY_PATH).map_err(CopyError::io("lstat", path.as_bytes()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(dir),
        _ => Err(CopyError::NotDirectory),
    }
}

/// Makes sure that `path` is a directory or leads to one.
///
/// # Errors
/// When it is none, or does not exist.
pub fn is_directory(root: BorrowedFd<'_>, path: &str) -> Result<(), CopyError> {
    directory(root, path).map(drop)
}

/// Opens what something is to be mounted on, and makes it, with the directories above it, when it is missing.
///
/// # Errors
/// Those of openat2(2), mkdirat(2).
pub fn mount_point(root: BorrowedFd<'_>, path: &str, directory: bool) -> std::io::Result<OwnedFd> {
    match open(root, path.as_bytes(), OFlags::PATH) {
        Err(Errno::NOENT) => {}
        other => return Ok(other?),
    }
    let real = evaluate(root, path.as_bytes())?;
    if directory {
        return Ok(make_dirs(root, &real, None)?);
    }
    let cut = real.iter().rposition(|b| *b == b'/').unwrap_or(0);
    let parent = make_dirs(root, &real[..cut], None)?;
    let name = OsStr::from_bytes(&real[cut + 1..]);
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat(parent, name, flags, Mode::from_raw_mode(0o644))?)
}

/// Opens the directory at a path without links, making what is missing of it.
pub(super) fn make_dirs(
    root: BorrowedFd<'_>,
    path: &[u8],
    owner: Option<(u32, u32)>,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = fs::openat(root, ".", flags, Mode::empty())?;
    for name in path.split(|b| *b == b'/').filter(|p| !p.is_empty()) {
        let made = match fs::mkdirat(&at, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(e) => return Err(e),
        };
        let dir = fs::openat(&at, name, flags, Mode::empty())?;
        if made {
            // Not subject to the umask.
            fs::fchmod(&dir, Mode::from_raw_mode(0o755))?;
            if let Some((uid, gid)) = owner {
                fs::fchown(&dir, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            }
        }
        at = dir;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_keep_what_their_ends_mean() {
        for (given, expected) in [
            ("", "/"),
            (".", "/."),
            ("/", "/"),
            ("//a//b/../c", "/a/c"),
            ("a/", "/a/"),
            ("a/.", "/a/."),
            ("../../x", "/x"),
            ("/..", "/"),
            ("/x/..", "/"),
        ] {
            assert_eq!(normalize(given), expected, "{given}");
        }
    }

    #[test]
    fn links_are_followed_within_the_tree_only() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        for (link, target) in [
            ("up", "../../../etc/passwd"),
            ("abs", "/a/b"),
            ("dangling", "nowhere/x"),
            ("loop", "pool"),
            ("pool", "loop"),
        ] {
            std::os::unix::fs::symlink(target, dir.path().join(link)).unwrap();
        }
        let root = std::fs::File::open(dir.path()).unwrap();
        let at = |path: &str| stat(root.as_fd(), path);
        assert_eq!(at("/up").unwrap().link_target.unwrap(), "/etc/passwd");
        assert!(at("/up/").unwrap_err().is_not_found());
        assert_eq!(at("/abs").unwrap().link_target.unwrap(), "/a/b");
        assert_eq!(at("/abs/").unwrap().name, "abs");
        assert_eq!(at("/abs/.").unwrap().name, ".");
        assert_eq!(at("/dangling").unwrap().link_target.unwrap(), "/nowhere/x");
        assert_eq!(at("/loop").unwrap_err().to_string(), "evalSymlinksInScope: too many links in /loop");
        assert_eq!(
            at("/loop/x").unwrap_err().to_string(),
            "lstat /loop/x: too many levels of symbolic links"
        );
    }
}
