//! An archive unpacked into a directory of the tree, by the rules of `docker cp`.

use std::io::{BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::CopyError;
use super::lookup::{directory, evaluate, make_dirs, open};
use crate::archive::compression::peek;
use crate::archive::{Entry, Kind, TarReader};
use crate::layer::confined::proc_path;

/// Times a name is cleared for a member before whoever keeps taking it is told to stop.
const ATTEMPTS: usize = 16;
/// Directories within directories that are removed to make room for a file.
const DEPTH_MAX: usize = 4096;

/// How to unpack.
#[derive(Debug, Clone, Default)]
pub struct Extract {
    /// A directory must not replace something else, nor the other way round.
    pub keep_kinds: bool,
    /// Who shall own everything; the archive says when `None`.
    pub owner: Option<(u32, u32)>,
    /// The destination, for messages.
    pub destination: String,
}

/// Unpacks `archive`, compressed or not, into the directory `path` of the tree, a symbolic link to which is followed.
///
/// # Errors
/// When there is no such directory, the archive is malformed, or a member cannot be made; the members before it
/// stay.
pub fn extract(
    root: BorrowedFd<'_>,
    path: &str,
    archive: &mut dyn Read,
    options: &Extract,
) -> Result<(), CopyError> {
    let dest = directory(root, path)?;
    let read = |e| CopyError::Tar(crate::archive::TarError::Read(e));
    let (compression, archive) = peek(archive).map_err(read)?;
    let archive = compression.decoder(BufReader::with_capacity(128 * 1024, archive)).map_err(read)?;
    let mut tar = TarReader::new(BufReader::with_capacity(128 * 1024, archive), ());
    let mut unpacker = Unpacker { dest, options, parent: None, directory_times: Vec::new() };
    while let Some(entry) = tar.next_entry()? {
        unpacker.member(&mut tar, &entry)?;
    }
    unpacker.set_directory_times();
    Ok(())
}

struct Unpacker<'a> {
    /// `/` for everything in the archive: links that lead out of it lead back in.
    dest: OwnedFd,
    options: &'a Extract,
    /// The directory the previous member went into, by its name in the archive.
    parent: Option<(Vec<u8>, OwnedFd)>,
    directory_times: Vec<(Vec<u8>, (i64, u32))>,
}

fn failed(what: &'static str, entry: &Entry) -> impl FnOnce(Errno) -> CopyError + use<> {
    CopyError::io(what, &entry.path)
}

impl Unpacker<'_> {
    fn member<R: std::io::BufRead>(
        &mut self,
        tar: &mut TarReader<R, ()>,
        entry: &Entry,
    ) -> Result<(), CopyError> {
        let path = clean(&entry.path).ok_or_else(|| CopyError::EntryName(entry.shown()))?;
        // The destination itself stays as it is.
        let Some((parent, name)) = split(&path) else { return Ok(()) };
        let dir = self.parent(parent, entry)?;
        self.make_room(dir.as_fd(), name, &path, entry)?;
        match entry.kind {
            Kind::File => self.file(tar, dir.as_fd(), name, entry),
            Kind::Dir => self.directory(dir.as_fd(), name, &path, entry),
            Kind::HardLink => self.hard_link(dir.as_fd(), name, entry),
            Kind::Symlink | Kind::Char | Kind::Block | Kind::Fifo => self.special(dir.as_fd(), name, entry),
        }
    }

    /// The directory a member lies in, made when it is missing.
    fn parent(&mut self, path: &[u8], entry: &Entry) -> Result<OwnedFd, CopyError> {
        if let Some((known, fd)) = &self.parent
            && known == path
        {
            return fd.try_clone().map_err(|e| CopyError::Io {
                what: "open",
                path: entry.shown(),
                source: e,
            });
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let fd = match open(self.dest.as_fd(), path, flags) {
            Err(Errno::NOENT) => {
                let real = evaluate(self.dest.as_fd(), path).map_err(failed("mkdir", entry))?;
                make_dirs(self.dest.as_fd(), &real, self.options.owner).map_err(failed("mkdir", entry))?
            }
            other => other.map_err(failed("open", entry))?,
        };
        let copy = fd.try_clone();
        self.parent = copy.ok().map(|copy| (path.to_vec(), copy));
        Ok(fd)
    }

    /// Removes what the member replaces; a directory stays when the member is one too.
    fn make_room(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), CopyError> {
        let there = match fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(failed("lstat", entry))?,
        };
        let is_dir = FileType::from_raw_mode(there.st_mode) == FileType::Directory;
        let shown = || String::from_utf8_lossy(path).into_owned();
        match (is_dir, entry.kind == Kind::Dir) {
            (true, true) => return Ok(()),
            (true, false) if self.options.keep_kinds => {
                let dir = self.options.destination.clone();
                return Err(CopyError::FileOverDirectory { name: shown(), dir });
            }
            (false, true) if self.options.keep_kinds => {
                let dir = self.options.destination.clone();
                return Err(CopyError::DirectoryOverFile { name: shown(), dir });
            }
            _ => {}
        }
        // A directory in use by the cache may be what goes.
        self.parent = None;
        remove_all(dir, name, 0).map_err(failed("remove", entry))
    }

    /// Makes something at `name`, which whoever uses the tree may take again and again.
    fn create<T>(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T, CopyError> {
        for _ in 0..ATTEMPTS {
            match make() {
                Err(Errno::EXIST) => {
                    remove_all(dir, name, 0).map_err(failed("remove", entry))?;
                }
                other => return other.map_err(failed("create", entry)),
            }
        }
        Err(failed("create", entry)(Errno::EXIST))
    }

    fn file<R: std::io::BufRead>(
        &mut self,
        tar: &mut TarReader<R, ()>,
        dir: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), CopyError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            self.create(dir, name, entry, || fs::openat(dir, name, flags, Mode::from_raw_mode(0o600)))?;
        let file = std::fs::File::from(fd);
        write_data(tar, &file, entry)?;
        self.attributes(file.as_fd(), entry)?;
        fs::futimens(&file, &times(entry.mtime)).map_err(failed("chtimes", entry))
    }

    fn directory(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), CopyError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = self.create(dir, name, entry, || {
            match fs::mkdirat(dir, name, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e),
            }
            // Whatever else is there by now goes.
            fs::openat(dir, name, flags, Mode::empty()).map_err(|e| match e {
                Errno::NOTDIR | Errno::LOOP => Errno::EXIST,
                e => e,
            })
        })?;
        self.attributes(made.as_fd(), entry)?;
        self.directory_times.push((path.to_vec(), entry.mtime));
        Ok(())
    }

    fn hard_link(&mut self, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), CopyError> {
        let bad = || CopyError::HardLink(String::from_utf8_lossy(&entry.link).into_owned());
        let target = clean(&entry.link).ok_or_else(bad)?;
        let (parent, target) = split(&target).ok_or_else(bad)?;
        let parent = open(self.dest.as_fd(), parent, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(failed("link", entry))?;
        let link = || fs::linkat(&parent, target, dir, name, AtFlags::empty());
        self.create(dir, name, entry, link)
    }

    fn special(&mut self, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), CopyError> {
        let kind = match entry.kind {
            Kind::Char => FileType::CharacterDevice,
            Kind::Block => FileType::BlockDevice,
            Kind::Fifo => FileType::Fifo,
            _ => FileType::Symlink,
        };
        let device = match kind {
            FileType::Fifo => 0,
            _ => fs::makedev(entry.device.0, entry.device.1),
        };
        self.create(dir, name, entry, || match kind {
            FileType::Symlink => fs::symlinkat(entry.link.as_slice(), dir, name),
            kind => fs::mknodat(dir, name, kind, Mode::from_raw_mode(0o600), device),
        })?;
        let (uid, gid) = self.owner(entry);
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        fs::chownat(dir, name, Some(uid), Some(gid), nofollow).map_err(failed("lchown", entry))?;
        if kind != FileType::Symlink {
            // Held by a descriptor: chmod(2) follows what may lie at the name by now.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let node = fs::openat(dir, name, flags, Mode::empty()).map_err(failed("open", entry))?;
            let stat = fs::statat(&node, "", AtFlags::EMPTY_PATH).map_err(failed("lstat", entry))?;
            if FileType::from_raw_mode(stat.st_mode) == kind {
                fs::chmod(crate::layer::confined::fd_path(node.as_fd()), Mode::from_raw_mode(entry.mode))
                    .map_err(failed("chmod", entry))?;
            }
        }
        let path = proc_path(dir, name);
        for (key, value) in usable_xattrs(entry) {
            xattr_result(fs::lsetxattr(&path, key, value, XattrFlags::empty()))
                .map_err(failed("set attribute of", entry))?;
        }
        fs::utimensat(dir, name, &times(entry.mtime), nofollow).map_err(failed("chtimes", entry))
    }

    fn owner(&self, entry: &Entry) -> (Uid, Gid) {
        let (uid, gid) = self.options.owner.unwrap_or((entry.uid, entry.gid));
        (Uid::from_raw(uid), Gid::from_raw(gid))
    }

    /// Owner first: chown(2) clears setuid bits and capabilities.
    fn attributes(&self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), CopyError> {
        let (uid, gid) = self.owner(entry);
        fs::fchown(fd, Some(uid), Some(gid)).map_err(failed("lchown", entry))?;
        fs::fchmod(fd, Mode::from_raw_mode(entry.mode)).map_err(failed("chmod", entry))?;
        for (key, value) in usable_xattrs(entry) {
            xattr_result(fs::fsetxattr(fd, key, value, XattrFlags::empty()))
                .map_err(failed("set attribute of", entry))?;
        }
        Ok(())
    }

    /// Last, because what is put into a directory changes its time. One that is gone again has none.
    fn set_directory_times(&mut self) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        for (path, time) in self.directory_times.drain(..) {
            if let Ok(dir) = open(self.dest.as_fd(), &path, flags) {
                let _ = fs::futimens(&dir, &times(time));
            }
        }
    }
}

/// Writes a member's data, in pieces for sparse files.
fn write_data<R: std::io::BufRead>(
    tar: &mut TarReader<R, ()>,
    mut file: &std::fs::File,
    entry: &Entry,
) -> Result<(), CopyError> {
    use std::io::{Seek, SeekFrom, Write};
    let io = |source| CopyError::Io { what: "write", path: entry.shown(), source };
    let whole = [(0, entry.size)];
    let pieces = entry.sparse.as_ref().map_or(&whole[..], |s| &s.pieces);
    for (offset, length) in pieces {
        if *offset > 0 {
            file.seek(SeekFrom::Start(*offset)).map_err(io)?;
        }
        let mut left = *length;
        while left > 0 {
            let data = tar.data()?;
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
            file.write_all(&data[..n]).map_err(io)?;
            tar.consume(n);
            left -= n as u64;
        }
    }
    match &entry.sparse {
        Some(sparse) => file.set_len(sparse.size).map_err(io),
        None => Ok(()),
    }
}

/// Removes whatever is at `name`, a directory with all it holds.
fn remove_all(dir: BorrowedFd<'_>, name: &[u8], depth: usize) -> rustix::io::Result<()> {
    match fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) if depth < DEPTH_MAX => {}
        Err(e) => return Err(e),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let below = match fs::openat(dir, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in Dir::read_from(&below)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    for name in names {
        remove_all(below.as_fd(), &name, depth + 1)?;
    }
    match fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e),
    }
}

/// overlayfs' own attributes are instructions to the kernel, not data.
fn usable_xattrs(entry: &Entry) -> impl Iterator<Item = (&str, &[u8])> {
    let own = |name: &str| name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.");
    entry.xattrs.iter().filter(move |(n, _)| !own(n)).map(|(n, v)| (n.as_str(), v.as_slice()))
}

/// Attributes the file system does not take are left out, as Docker does.
fn xattr_result(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
        other => other,
    }
}

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanos) };
    Timestamps { last_access: time, last_modification: time }
}

/// A member's name without dots, doubled and outer slashes; `None` when it leads out. An absolute one begins at the
/// destination.
fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let absolute = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if parts.pop().is_none() && !absolute {
                    return None;
                }
            }
            part if part.contains(&0) => return None,
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

/// Parent and last component of a clean path, `None` for the top.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => Some((&path[..slash], &path[slash + 1..])),
        None if path.is_empty() => None,
        None => Some((&[], path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::TarWriter;

    fn member(path: &str, kind: Kind, link: &str, data: &str) -> (Entry, Vec<u8>) {
        let entry = Entry {
            path: path.into(),
            link: link.into(),
            kind,
            mode: 0o640,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            mtime: (1_000_000, 0),
            size: data.len() as u64,
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        };
        (entry, data.into())
    }

    fn file(path: &str) -> (Entry, Vec<u8>) {
        member(path, Kind::File, "", "new")
    }

    fn unpack(
        root: &std::path::Path,
        members: &[(Entry, Vec<u8>)],
        keep_kinds: bool,
    ) -> Result<(), CopyError> {
        let mut tar = TarWriter::new(Vec::new());
        for (entry, data) in members {
            tar.entry(entry).unwrap();
            tar.data(data).unwrap();
        }
        let tar = tar.finish().unwrap();
        let options = Extract { keep_kinds, owner: None, destination: "/in".to_owned() };
        let root = std::fs::File::open(root).unwrap();
        extract(root.as_fd(), "/in", &mut tar.as_slice(), &options)
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("in/sub")).unwrap();
        std::fs::write(dir.path().join("victim"), "old").unwrap();
        std::fs::write(dir.path().join("in/f"), "old").unwrap();
        std::os::unix::fs::symlink("../victim", dir.path().join("in/link")).unwrap();
        std::os::unix::fs::symlink("..", dir.path().join("in/up")).unwrap();
        dir
    }

    #[test]
    fn nothing_leaves_the_destination() {
        let dir = tree();
        for bad in ["../x", "sub/../../x"] {
            assert!(matches!(unpack(dir.path(), &[file(bad)], false), Err(CopyError::EntryName(_))), "{bad}");
        }
        let link = member("h", Kind::HardLink, "../victim", "");
        assert!(matches!(unpack(dir.path(), &[link], false), Err(CopyError::HardLink(_))));
        let members = [file("link"), file("up/made"), file("/absolute"), file("a/b/c")];
        unpack(dir.path(), &members, false).unwrap();
        assert_eq!(std::fs::read(dir.path().join("victim")).unwrap(), b"old");
        assert!(!dir.path().join("in/link").is_symlink());
        // What leads out leads back in.
        for made in ["in/made", "in/absolute", "in/a/b/c"] {
            assert_eq!(std::fs::read(dir.path().join(made)).unwrap(), b"new", "{made}");
        }
    }

    #[test]
    fn kinds_are_kept_when_asked_for() {
        let dir = tree();
        let over_directory = unpack(dir.path(), &[file("sub")], true).unwrap_err();
        assert_eq!(
            over_directory.to_string(),
            "cannot overwrite directory \"sub\" with non-directory \"/in\""
        );
        let directory = || member("f", Kind::Dir, "", "");
        let over_file = unpack(dir.path(), &[directory()], true).unwrap_err();
        assert_eq!(over_file.to_string(), "cannot overwrite non-directory \"f\" with directory \"/in\"");
        std::fs::write(dir.path().join("in/sub/deep"), "x").unwrap();
        unpack(dir.path(), &[file("sub"), directory()], false).unwrap();
        assert!(dir.path().join("in/sub").is_file() && dir.path().join("in/f").is_dir());
    }

    #[test]
    fn broken_archives_are_errors() {
        let dir = tree();
        let root = std::fs::File::open(dir.path()).unwrap();
        let put = |bytes: &[u8]| {
            extract(root.as_fd(), "/in", &mut &bytes[..], &Extract::default()).map_err(|e| e.to_string())
        };
        assert_eq!(put(b""), Ok(()));
        assert_eq!(put(b"garbage"), Err("unexpected EOF".to_owned()));
        assert_eq!(put(&[7; 1024]), Err("archive/tar: invalid tar header".to_owned()));
        let nowhere = extract(root.as_fd(), "/no", &mut &b""[..], &Extract::default()).unwrap_err();
        assert!(nowhere.is_not_found());
        let no_dir = extract(root.as_fd(), "/victim", &mut &b""[..], &Extract::default()).unwrap_err();
        assert!(matches!(no_dir, CopyError::NotDirectory));
    }
}
