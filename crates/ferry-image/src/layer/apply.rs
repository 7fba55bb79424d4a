//! Unpacks one layer tar into a staging directory `diff`, in overlayfs' form, recording its recipe.
//!
//! An archive is hostile until proven otherwise. Names are cleaned lexically (`..` above the top is
//! refused), parents are resolved by the kernel beneath `diff` only, symbolic links among them as if
//! `diff` were the root; the last component is only ever created, never opened through. What a later
//! member replaces is moved to `shadow/`, because the recipe still needs its data.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::confined::{Confined, Located, is_whiteout, open_child, proc_path};
use super::recipe::RecipeWriter;
use super::{LayerError, OPAQUE_XATTR, WHITEOUT_OPAQUE, WHITEOUT_PREFIX};
use crate::archive::{Entry, Kind, TarReader};

/// Name of the unpacked tree within a layer's directory.
pub const DIFF: &str = "diff";
/// Name of the directory for replaced files.
const SHADOW: &str = "shadow";
/// Directories replaced by something else within one archive; more is an attack on our patience.
const DISPLACED_DIRS_MAX: u32 = 1000;

/// What came of an archive.
#[derive(Debug)]
pub struct Applied {
    /// Sum of the regular files' sizes, bytes.
    pub size: u64,
    /// Bytes of the tar.
    pub tar_size: u64,
    /// Directories that had to be made although the archive has no member for them; they get their
    /// attributes from the layers below.
    pub implicit: Vec<Vec<u8>>,
}

/// Unpacks `source` into `stage`, which must hold an empty `diff` directory. `need_end` refuses an
/// archive without an end marker: for those no digest vouches for.
///
/// # Errors
/// When the archive is malformed or a member cannot be created; `stage` is then to be thrown away.
pub fn apply<R: BufRead>(source: R, stage: &Path, need_end: bool) -> Result<Applied, LayerError> {
    let recipe = RecipeWriter::create(stage).map_err(LayerError::io("create layer recipe", stage))?;
    let mut tar = TarReader::new(source, recipe);
    let mut layer = Unpacker::new(stage)?;
    while let Some(entry) = tar.next_entry()? {
        layer.member(&mut tar, &entry)?;
    }
    // Nothing at all is an archive of nothing, as for Docker.
    if need_end && !tar.ended() && tar.offset() > 0 {
        return Err(LayerError::NoEnd);
    }
    layer.set_directory_times()?;
    let tar_size = tar.offset();
    tar.into_sink()
        .finish(stage, layer.files.iter().map(Vec::as_slice))
        .map_err(LayerError::io("write layer recipe", stage))?;
    let mut implicit: Vec<_> = layer.implicit.into_iter().collect();
    implicit.sort();
    Ok(Applied { size: layer.size, tar_size, implicit })
}

/// The kernel takes no longer paths (path_resolution(7)), so nobody could use such a member.
const PATH_MAX: usize = 4096;

struct Unpacker {
    stage: PathBuf,
    diff: Confined,
    /// The directory the previous member went into.
    parent: Option<Located>,
    /// Path of each file whose data the recipe refers to, relative to the stage.
    files: Vec<Vec<u8>>,
    /// Inverse of `files`, made when the first file is replaced.
    numbers: Option<HashMap<Vec<u8>, usize>>,
    displaced: u32,
    displaced_dirs: u32,
    directory_times: Vec<(Vec<u8>, (i64, u32))>,
    implicit: HashSet<Vec<u8>>,
    size: u64,
}

/// Error constructor for one member.
fn failed(entry: &Entry, action: &'static str) -> impl FnOnce(io::Error) -> LayerError {
    move |source| LayerError::Unpack { member: entry.shown(), action, source }
}

fn os(entry: &Entry, action: &'static str) -> impl FnOnce(Errno) -> LayerError {
    move |e| failed(entry, action)(e.into())
}

impl Unpacker {
    fn new(stage: &Path) -> Result<Self, LayerError> {
        let path = stage.join(DIFF);
        let diff = Confined::open(&path).map_err(LayerError::io("open staging directory", &path))?;
        Ok(Self {
            stage: stage.to_owned(),
            diff,
            parent: None,
            files: Vec::new(),
            numbers: None,
            displaced: 0,
            displaced_dirs: 0,
            directory_times: Vec::new(),
            implicit: HashSet::new(),
            size: 0,
        })
    }

    fn member<R: BufRead>(
        &mut self,
        tar: &mut TarReader<R, RecipeWriter>,
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let path = clean(&entry.path).map_err(|reason| LayerError::Path { member: entry.shown(), reason })?;
        if path.len() >= PATH_MAX {
            return Err(LayerError::Path { member: entry.shown(), reason: "file name too long" });
        }
        let Some((parent, name)) = split(&path) else {
            return self.root_attributes(entry);
        };
        if name == WHITEOUT_OPAQUE {
            let dir = self.parent(parent, entry)?;
            return set_opaque(dir.fd.as_fd()).map_err(failed(entry, "mark directory opaque"));
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
            // AUFS' own bookkeeping in layers of old Docker versions.
            if hidden.starts_with(WHITEOUT_PREFIX) {
                return Ok(());
            }
            return self.whiteout(parent, hidden, entry);
        }
        match entry.kind {
            Kind::File => self.file(tar, parent, name, entry),
            Kind::Dir => self.directory(parent, name, entry),
            Kind::HardLink => self.hard_link(parent, name, entry),
            Kind::Symlink | Kind::Char | Kind::Block | Kind::Fifo => self.special(parent, name, entry),
        }
    }

    /// Opens (or makes) the directory a member lies in.
    fn parent(&mut self, path: &[u8], entry: &Entry) -> Result<&Located, LayerError> {
        // A path with symbolic links in it is never equal to a resolved one, so a hit is exact.
        let hit = self.parent.as_ref().is_some_and(|p| p.path == path);
        if !hit {
            let located = match self.diff.open_strict(path, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(fd) => Located { fd, path: path.to_vec() },
                Err(_) => self.make_parents(path, entry)?,
            };
            self.parent = Some(located);
        }
        self.parent.as_ref().ok_or_else(|| LayerError::Path { member: entry.shown(), reason: "no parent" })
    }

    /// Walks down component by component, creating what is missing.
    fn make_parents(&mut self, path: &[u8], entry: &Entry) -> Result<Located, LayerError> {
        let mut at = self.diff.locate(b".").map_err(failed(entry, "open parent directory"))?;
        for name in path.split(|b| *b == b'/').filter(|c| !c.is_empty()) {
            let below = join(&at.path, name);
            // From the parent on: a deep path must not be walked again for each of its parts.
            match open_child(at.fd.as_fd(), name) {
                Ok(fd) => {
                    at = Located { fd, path: below };
                    continue;
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                    at = self.diff.locate(&below).map_err(failed(entry, "resolve symbolic link"))?;
                    continue;
                }
                Err(e) => {
                    // A whiteout of this archive in the way means: the lower directory is hidden.
                    let stat = fs::statat(&at.fd, name, AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(os(entry, "look up parent directory"))?;
                    if !is_whiteout(&stat) {
                        return Err(failed(entry, "open parent directory")(e));
                    }
                    fs::unlinkat(&at.fd, name, AtFlags::empty()).map_err(os(entry, "replace whiteout"))?;
                    let fd =
                        make_dir(at.fd.as_fd(), name).map_err(failed(entry, "create parent directory"))?;
                    set_opaque(fd.as_fd()).map_err(failed(entry, "mark directory opaque"))?;
                    at = Located { fd, path: below };
                    continue;
                }
            }
            let fd = make_dir(at.fd.as_fd(), name).map_err(failed(entry, "create parent directory"))?;
            self.implicit.insert(below.clone());
            at = Located { fd, path: below };
        }
        Ok(at)
    }

    fn root_attributes(&mut self, entry: &Entry) -> Result<(), LayerError> {
        if entry.kind != Kind::Dir {
            return Err(LayerError::Path { member: entry.shown(), reason: "empty name" });
        }
        let dir = self
            .diff
            .open_strict(b"", OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(failed(entry, "open directory"))?;
        self.directory_attributes(&dir, Vec::new(), entry)
    }

    fn directory_attributes(
        &mut self,
        dir: &OwnedFd,
        path: Vec<u8>,
        entry: &Entry,
    ) -> Result<(), LayerError> {
        set_attributes(dir.as_fd(), entry)?;
        self.implicit.remove(&path);
        // Entries made later would change it again.
        self.directory_times.push((path, entry.mtime));
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        tar: &mut TarReader<R, RecipeWriter>,
        parent: &[u8],
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = |dir: BorrowedFd<'_>| fs::openat(dir, name, flags, Mode::from_raw_mode(0o600));
        let (fd, path) = self.create(parent, name, entry, "create file", create)?;
        let file = File::from(fd);
        if entry.size > 0 {
            let number = self.files.len() as u64;
            let stored = [DIFF.as_bytes(), b"/", &path].concat();
            if let Some(numbers) = &mut self.numbers {
                numbers.insert(stored.clone(), self.files.len());
            }
            self.files.push(stored);
            write_data(tar, &file, number, entry)?;
        }
        if let Some(sparse) = &entry.sparse {
            file.set_len(sparse.size).map_err(failed(entry, "set file size"))?;
        }
        self.size = self.size.saturating_add(entry.file_size());
        set_attributes(file.as_fd(), entry)?;
        fs::futimens(&file, &times(entry.mtime)).map_err(os(entry, "set times"))
    }

    fn directory(&mut self, parent: &[u8], name: &[u8], entry: &Entry) -> Result<(), LayerError> {
        let dir = self.parent(parent, entry)?;
        let path = join(&dir.path, name);
        let mut opaque = false;
        match fs::mkdirat(&dir.fd, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat = fs::statat(&dir.fd, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(os(entry, "look up directory"))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    opaque = is_whiteout(&stat);
                    self.displace(parent, name, entry)?;
                    let dir = self.parent(parent, entry)?;
                    fs::mkdirat(&dir.fd, name, Mode::from_raw_mode(0o700))
                        .map_err(os(entry, "create directory"))?;
                }
            }
            Err(e) => return Err(os(entry, "create directory")(e)),
        }
        let dir = self.parent(parent, entry)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = fs::openat(&dir.fd, name, flags, Mode::empty()).map_err(os(entry, "open directory"))?;
        if opaque {
            set_opaque(made.as_fd()).map_err(failed(entry, "mark directory opaque"))?;
        }
        self.directory_attributes(&made, path, entry)
    }

    fn hard_link(&mut self, parent: &[u8], name: &[u8], entry: &Entry) -> Result<(), LayerError> {
        let bad = |reason| LayerError::Path { member: entry.shown(), reason };
        let target = clean(&entry.link).map_err(bad)?;
        let (target_parent, target_name) = split(&target).ok_or_else(|| bad("hard link to the top"))?;
        let target_dir = self.diff.locate(if target_parent.is_empty() { b"." } else { target_parent });
        let target_dir = target_dir.map_err(failed(entry, "find hard link target"))?;
        let dir = self.parent(parent, entry)?;
        if dir.path == target_dir.path && name == target_name {
            return Ok(());
        }
        // Checked first: replacing must not happen for a link that cannot be made.
        fs::statat(&target_dir.fd, target_name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(os(entry, "find hard link target"))?;
        let link = |dir: BorrowedFd<'_>| fs::linkat(&target_dir.fd, target_name, dir, name, AtFlags::empty());
        self.create(parent, name, entry, "create hard link", link).map(|_| ())
    }

    fn special(&mut self, parent: &[u8], name: &[u8], entry: &Entry) -> Result<(), LayerError> {
        let kind = match entry.kind {
            Kind::Char => FileType::CharacterDevice,
            Kind::Block => FileType::BlockDevice,
            Kind::Fifo => FileType::Fifo,
            _ => FileType::Symlink,
        };
        let make = |dir: BorrowedFd<'_>| match kind {
            FileType::Symlink => fs::symlinkat(entry.link.as_slice(), dir, name),
            kind => {
                let device = match kind {
                    FileType::Fifo => 0,
                    _ => fs::makedev(entry.device.0, entry.device.1),
                };
                fs::mknodat(dir, name, kind, Mode::from_raw_mode(0o600), device)
            }
        };
        self.create(parent, name, entry, "create special file", make)?;
        let dir = self.parent(parent, entry)?;
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        let (uid, gid) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
        fs::chownat(&dir.fd, name, uid, gid, nofollow).map_err(os(entry, "set owner"))?;
        if kind != FileType::Symlink {
            // Our own fresh node, not a link: following is no danger, and 5.10 has no other way.
            fs::chmodat(&dir.fd, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
                .map_err(os(entry, "set mode"))?;
        }
        let path = proc_path(dir.fd.as_fd(), name);
        for (key, value) in usable_xattrs(entry) {
            xattr_result(key, false, fs::lsetxattr(&path, key, value, XattrFlags::empty()))
                .map_err(os(entry, "set extended attribute"))?;
        }
        fs::utimensat(&dir.fd, name, &times(entry.mtime), nofollow).map_err(os(entry, "set times"))
    }

    fn whiteout(&mut self, parent: &[u8], name: &[u8], entry: &Entry) -> Result<(), LayerError> {
        if matches!(name, b"" | b"." | b"..") {
            return Err(LayerError::Path { member: entry.shown(), reason: "whiteout of nothing" });
        }
        let dir = self.parent(parent, entry)?;
        match fs::mknodat(&dir.fd, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                // A whiteout speaks about lower layers only, in whatever order the members come: a
                // directory of this layer stays and hides what was below; other things do so anyway.
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match fs::openat(&dir.fd, name, flags, Mode::empty()) {
                    Ok(fd) => set_opaque(fd.as_fd()).map_err(failed(entry, "mark directory opaque")),
                    Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                    Err(e) => Err(os(entry, "open directory")(e)),
                }
            }
            Err(e) => Err(os(entry, "create whiteout")(e)),
        }
    }

    /// Runs `make` in the member's directory, once more after moving aside what is in the way. Gives
    /// the resolved path too.
    fn create<T>(
        &mut self,
        parent: &[u8],
        name: &[u8],
        entry: &Entry,
        action: &'static str,
        make: impl Fn(BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> Result<(T, Vec<u8>), LayerError> {
        let dir = self.parent(parent, entry)?;
        let path = join(&dir.path, name);
        match make(dir.fd.as_fd()) {
            Ok(made) => return Ok((made, path)),
            Err(Errno::EXIST) => {}
            Err(e) => return Err(os(entry, action)(e)),
        }
        self.displace(parent, name, entry)?;
        let dir = self.parent(parent, entry)?;
        let made = make(dir.fd.as_fd()).map_err(os(entry, action))?;
        Ok((made, path))
    }

    /// Moves what an earlier member made out of the way.
    fn displace(&mut self, parent: &[u8], name: &[u8], entry: &Entry) -> Result<(), LayerError> {
        let dir = self.parent(parent, entry)?;
        let path = join(&dir.path, name);
        let stat = fs::statat(&dir.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(os(entry, "look up replaced file"))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            return fs::unlinkat(&dir.fd, name, AtFlags::empty()).map_err(os(entry, "replace file"));
        }
        let shadow = self.stage.join(SHADOW);
        if self.displaced == 0 {
            std::fs::create_dir(&shadow).map_err(failed(entry, "create shadow directory"))?;
        }
        let new = format!("{SHADOW}/{}", self.displaced);
        self.displaced += 1;
        let old = [DIFF.as_bytes(), b"/", &path].concat();
        let destination = self.stage.join(&new);
        let dir = self.parent(parent, entry)?;
        fs::renameat(&dir.fd, name, fs::CWD, destination).map_err(os(entry, "move replaced file away"))?;
        if kind == FileType::Directory {
            self.displaced_dirs += 1;
            if self.displaced_dirs > DISPLACED_DIRS_MAX {
                let reason = "too many directories are replaced within one archive";
                return Err(LayerError::Path { member: entry.shown(), reason });
            }
            let below = [&old[..], b"/"].concat();
            for file in &mut self.files {
                if let Some(rest) = file.strip_prefix(below.as_slice()) {
                    *file = [new.as_bytes(), b"/", rest].concat();
                }
            }
            self.numbers = None;
            let gone = |p: &[u8]| p == path || p.starts_with(&[&path[..], b"/"].concat());
            self.implicit.retain(|p| !gone(p));
            self.directory_times.retain(|(p, _)| !gone(p));
            // The cached directory may have been moved away.
            self.parent = None;
            return Ok(());
        }
        let numbers = self.numbers.get_or_insert_with(|| {
            self.files.iter().enumerate().map(|(n, path)| (path.clone(), n)).collect()
        });
        if let Some(number) = numbers.remove(&old) {
            self.files[number] = new.into_bytes();
        }
        Ok(())
    }

    fn set_directory_times(&mut self) -> Result<(), LayerError> {
        for (path, time) in self.directory_times.drain(..) {
            let shown = || PathBuf::from(String::from_utf8_lossy(&path).into_owned());
            match self.diff.open_strict(&path, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(dir) => fs::futimens(&dir, &times(time))
                    .map_err(|e| LayerError::io("set times of directory", shown())(e.into()))?,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(LayerError::io("open directory", shown())(e)),
            }
        }
        Ok(())
    }
}

/// Writes a member's data, in pieces for sparse files.
fn write_data<R: BufRead>(
    tar: &mut TarReader<R, RecipeWriter>,
    mut file: &File,
    number: u64,
    entry: &Entry,
) -> Result<(), LayerError> {
    use std::io::Seek;
    let whole = [(0, entry.size)];
    let pieces = entry.sparse.as_ref().map_or(&whole[..], |s| &s.pieces);
    for (offset, length) in pieces {
        if *offset > 0 {
            file.seek(io::SeekFrom::Start(*offset)).map_err(failed(entry, "seek"))?;
        }
        let mut left = *length;
        while left > 0 {
            let data = tar.data()?;
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
            file.write_all(&data[..n]).map_err(failed(entry, "write file"))?;
            tar.consume(n);
            left -= n as u64;
        }
        if *length > 0 {
            tar.sink().data(number, *offset, *length).map_err(failed(entry, "write layer recipe"))?;
        }
    }
    Ok(())
}

/// Owner first: chown(2) clears setuid bits and capabilities.
fn set_attributes(fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), LayerError> {
    fs::fchown(fd, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
        .map_err(os(entry, "set owner"))?;
    fs::fchmod(fd, Mode::from_raw_mode(entry.mode)).map_err(os(entry, "set mode"))?;
    for (key, value) in usable_xattrs(entry) {
        xattr_result(key, true, fs::fsetxattr(fd, key, value, XattrFlags::empty()))
            .map_err(os(entry, "set extended attribute"))?;
    }
    Ok(())
}

/// overlayfs' own attributes are instructions to the kernel about other files of the layer
/// (redirects, metadata-only copies): never taken from an archive, which has whiteouts for that.
fn usable_xattrs(entry: &Entry) -> impl Iterator<Item = (&str, &[u8])> {
    let own = |name: &str| name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.");
    entry.xattrs.iter().filter(move |(n, _)| !own(n)).map(|(n, v)| (n.as_str(), v.as_slice()))
}

/// A file system without such attributes is no reason to refuse an image, as in Docker; `user.`
/// attributes exist on files and directories only.
fn xattr_result(key: &str, regular: bool, result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::OPNOTSUPP) => Ok(()),
        Err(Errno::PERM) if !regular && key.starts_with("user.") => Ok(()),
        other => other,
    }
}

fn set_opaque(dir: BorrowedFd<'_>) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // By path: an O_PATH descriptor takes no fsetxattr(2).
    let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
    Ok(fs::setxattr(path, OPAQUE_XATTR, b"y", XattrFlags::empty())?)
}

fn make_dir(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = fs::openat(parent, name, flags, Mode::empty())?;
    // Not subject to the umask.
    fs::fchmod(&dir, Mode::from_raw_mode(0o755))?;
    Ok(dir)
}

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanos) };
    Timestamps { last_access: time, last_modification: time }
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// Parent and last component of a clean path, `None` for the top.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => Some((&path[..slash], &path[slash + 1..])),
        None if path.is_empty() => None,
        None => Some((&[], path)),
    }
}

/// A member's name without dots, doubled and outer slashes. An absolute name means the same below the
/// layer's top; a relative one that climbs above it is refused.
fn clean(path: &[u8]) -> Result<Vec<u8>, &'static str> {
    if path.is_empty() {
        return Err("empty name");
    }
    if path.contains(&0) {
        return Err("NUL in name");
    }
    let absolute = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if parts.pop().is_none() && !absolute {
                    return Err("leads outside of the layer");
                }
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}

/// Gives directories that the archive did not describe the attributes they have in the layers below
/// (`lowers`, topmost first); overlayfs would otherwise show the defaults.
///
/// # Errors
/// When a directory cannot be read or changed.
pub(crate) fn lookup_parent_attributes(
    diff: &Path,
    lowers: &[PathBuf],
    implicit: &[Vec<u8>],
) -> Result<(), LayerError> {
    if implicit.is_empty() || lowers.is_empty() {
        return Ok(());
    }
    let own = Confined::open(diff).map_err(LayerError::io("open layer", diff))?;
    let lowers = lowers
        .iter()
        .map(|l| Confined::open(l).map_err(LayerError::io("open layer", l)))
        .collect::<Result<Vec<_>, _>>()?;
    for path in implicit {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let Some(lower) = lowers.iter().find_map(|l| l.open_strict(path, flags).ok()) else { continue };
        let shown = || PathBuf::from(String::from_utf8_lossy(path).into_owned());
        let copy = || -> rustix::io::Result<()> {
            let stat = fs::fstat(&lower)?;
            let dir =
                own.open_strict(path, flags).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
            fs::fchown(&dir, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
            fs::fchmod(&dir, Mode::from_raw_mode(stat.st_mode & 0o7777))
        };
        copy().map_err(|e| LayerError::io("set attributes of directory", shown())(e.into()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned() {
        let ok = |s: &str| clean(s.as_bytes()).unwrap();
        assert_eq!(ok("./a//b/"), b"a/b");
        assert_eq!(ok("/etc/../x"), b"x");
        assert_eq!(ok("/../../x"), b"x");
        assert_eq!(ok("./"), b"");
        for bad in ["../x", "a/../../x", "", "a\0b", ".."] {
            assert!(clean(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
