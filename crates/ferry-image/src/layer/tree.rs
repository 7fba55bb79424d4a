//! Writes a directory tree as a tar: names sorted, hard links kept, times in whole seconds, sockets left
//! out; equal trees give equal archives.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Dir, FileType, OFlags, Stat};
use rustix::io::Errno;

use super::confined::{Confined, fd_path, is_opaque, is_whiteout, proc_path};
use super::{LayerError, WHITEOUT_OPAQUE, WHITEOUT_PREFIX};
use crate::archive::{Entry, Kind, TarWriter};

/// Whose conventions the tree follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeKind {
    /// Files as a container sees them.
    Plain,
    /// An overlayfs upper directory: its whiteouts become `.wh.` members.
    OverlayUpper,
}

/// Writes the tree at `root` to `out`. A file that changes meanwhile is cut or padded to the size it
/// had when it was met.
///
/// # Errors
/// When something cannot be read, or `out` fails.
pub fn write_tree(root: &Path, kind: TreeKind, out: &mut dyn Write) -> Result<(), LayerError> {
    let tree = Confined::open(root).map_err(LayerError::io("open", root))?;
    let mut walk = Walk::new(tree, kind, &[], out);
    walk.directory(&[])?;
    walk.end()
}

/// Writes the tree at an open directory as its users see it, each name behind `prefix`. With a prefix the directory itself
/// comes first, under that name.
///
/// # Errors
/// See [`write_tree`].
pub(crate) fn write_below(
    root: OwnedFd,
    prefix: Option<&[u8]>,
    out: &mut dyn Write,
) -> Result<(), LayerError> {
    let tree = Confined::from_fd(root).map_err(LayerError::io("open", shown(prefix.unwrap_or(b"/"))))?;
    let mut walk = Walk::new(tree, TreeKind::Plain, prefix.unwrap_or_default(), out);
    if prefix.is_some() {
        walk.top()?;
    }
    walk.directory(&[])?;
    walk.end()
}

/// Writes one member of a directory that is no directory itself.
///
/// # Errors
/// See [`write_tree`].
pub(crate) fn write_one(dir: OwnedFd, name: &[u8], out: &mut dyn Write) -> Result<(), LayerError> {
    let tree = Confined::from_fd(dir).map_err(LayerError::io("open", shown(name)))?;
    let dir = tree.open_strict(b"", OFlags::PATH | OFlags::DIRECTORY);
    let dir = dir.map_err(LayerError::io("open", shown(name)))?;
    let mut walk = Walk::new(tree, TreeKind::Plain, &[], out);
    if walk.child(dir.as_fd(), &[], name)? {
        // It has become a directory meanwhile.
        walk.directory(name)?;
    }
    walk.end()
}

struct Walk<'a> {
    tree: Confined,
    kind: TreeKind,
    /// Put in front of every name.
    prefix: Vec<u8>,
    out: TarWriter<&'a mut dyn Write>,
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

fn shown(path: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(path).into_owned())
}

fn os<'a>(what: &'static str, path: &'a [u8]) -> impl FnOnce(Errno) -> LayerError + 'a {
    move |e| LayerError::Io { what, path: shown(path), source: e.into() }
}

impl<'a> Walk<'a> {
    fn new(tree: Confined, kind: TreeKind, prefix: &[u8], out: &'a mut dyn Write) -> Self {
        Self {
            tree,
            kind,
            prefix: prefix.to_vec(),
            out: TarWriter::new(out),
            links: HashMap::new(),
            buffer: vec![0; 256 * 1024],
        }
    }

    fn end(self) -> Result<(), LayerError> {
        self.out.finish().map_err(LayerError::Write)?;
        Ok(())
    }

    fn named(&self, path: &[u8]) -> Vec<u8> {
        [self.prefix.as_slice(), path].concat()
    }

    /// The member for the directory everything else is below.
    fn top(&mut self) -> Result<(), LayerError> {
        let name = self.prefix.clone();
        let stat = fs::fstat(self.tree.root()).map_err(os("look up", &name))?;
        let mut entry = plain_entry(name, Kind::Dir, &stat);
        entry.xattrs = xattrs(self.tree.root(), b".", &entry.path)?;
        self.out.entry(&entry).map_err(LayerError::Write)
    }

    /// Members of one directory, each followed by what is below it. It is opened by its path, again after each directory
    /// in it, so that no descriptor stays open per level: a container decides how deep its trees are.
    fn directory(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let Some(mut dir) = self.open_directory(path)? else { return Ok(()) };
        if self.kind == TreeKind::OverlayUpper && !path.is_empty() {
            self.overlay_marks(&dir, path)?;
        }
        let names = sorted_names(&dir).map_err(os("read directory", path))?;
        let last = names.len().saturating_sub(1);
        for (n, name) in names.iter().enumerate() {
            if self.child(dir.as_fd(), path, name)? {
                drop(dir);
                self.directory(&join(path, name))?;
                if n == last {
                    return Ok(());
                }
                let Some(again) = self.open_directory(path)? else { return Ok(()) };
                dir = again;
            }
        }
        Ok(())
    }

    /// `None` for a directory that is gone, or was replaced by something else, since its name was read.
    fn open_directory(&self, path: &[u8]) -> Result<Option<OwnedFd>, LayerError> {
        match self.tree.open_strict(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(dir) => Ok(Some(dir)),
            Err(e) if !path.is_empty() && is_gone(&e) => Ok(None),
            Err(e) => Err(LayerError::io("open", shown(path))(e)),
        }
    }

    fn overlay_marks(&mut self, dir: &OwnedFd, path: &[u8]) -> Result<(), LayerError> {
        let mut target = [0_u8; 1];
        // Only its being there matters; a value longer than the buffer is ERANGE.
        match fs::fgetxattr(dir, "trusted.overlay.redirect", &mut target[..]) {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(Errno::RANGE) | Ok(_) => return Err(os("redirected directory in", path)(Errno::OPNOTSUPP)),
            Err(e) => return Err(os("read attributes of", path)(e)),
        }
        if is_opaque(dir.as_fd()).map_err(LayerError::io("read attributes of", shown(path)))? {
            let stat = fs::fstat(dir).map_err(os("look up", path))?;
            let marker = marker(join(path, WHITEOUT_OPAQUE), &stat);
            self.out.entry(&marker).map_err(LayerError::Write)?;
        }
        Ok(())
    }

    /// Writes one member; true for a directory, to be descended into.
    fn child(&mut self, dir: BorrowedFd<'_>, parent: &[u8], name: &[u8]) -> Result<bool, LayerError> {
        let path = join(parent, name);
        let mut stat = match fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Removed meanwhile.
            Err(Errno::NOENT) => return Ok(false),
            Err(e) => return Err(os("look up", &path)(e)),
        };
        if self.kind == TreeKind::OverlayUpper && is_whiteout(&stat) {
            let hidden = join(parent, &[WHITEOUT_PREFIX, name].concat());
            self.out.entry(&marker(hidden, &stat)).map_err(LayerError::Write)?;
            return Ok(false);
        }
        // A file is held before it is described: what its name means may change at any moment, and opening the device
        // or pipe somebody puts in its place could do harm.
        let mut held = None;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match fs::openat(dir, name, flags, fs::Mode::empty()) {
                Ok(fd) => {
                    stat = fs::fstat(&fd).map_err(os("look up", &path))?;
                    held = Some(fd);
                }
                Err(Errno::NOENT) => return Ok(false),
                Err(e) => return Err(os("open", &path)(e)),
            }
        }
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::Char,
            FileType::BlockDevice => Kind::Block,
            FileType::Fifo => Kind::Fifo,
            _ => return Ok(false),
        };
        let mut entry = plain_entry(self.named(&path), kind, &stat);
        if kind != Kind::Dir && stat.st_nlink > 1 {
            let name = entry.path.clone();
            let first = self.links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| name.clone());
            if *first != name {
                entry.kind = Kind::HardLink;
                entry.link = first.clone();
                self.out.entry(&entry).map_err(LayerError::Write)?;
                return Ok(false);
            }
        }
        match kind {
            Kind::Dir => {
                entry.path.push(b'/');
                entry.xattrs = xattrs(dir, name, &entry.path)?;
                self.out.entry(&entry).map_err(LayerError::Write)?;
                return Ok(true);
            }
            Kind::Symlink => {
                entry.link = fs::readlinkat(dir, name, Vec::new())
                    .map_err(os("read symbolic link", &path))?
                    .into_bytes();
            }
            Kind::Char | Kind::Block => {
                entry.device = (fs::major(stat.st_rdev), fs::minor(stat.st_rdev));
            }
            _ => {}
        }
        let Some(held) = held.filter(|_| kind == Kind::File) else {
            self.out.entry(&entry).map_err(LayerError::Write)?;
            return Ok(false);
        };
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
        entry.xattrs = xattrs(dir, name, &path)?;
        let file = File::open(fd_path(held.as_fd())).map_err(LayerError::io("open", shown(&path)))?;
        self.out.entry(&entry).map_err(LayerError::Write)?;
        self.contents(&file, entry.size, &path)?;
        Ok(false)
    }

    fn contents(&mut self, mut file: &File, mut left: u64, path: &[u8]) -> Result<(), LayerError> {
        while left > 0 {
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let mut read = file.read(&mut self.buffer[..n]).map_err(LayerError::io("read", shown(path)))?;
            if read == 0 {
                self.buffer[..n].fill(0);
                read = n;
            }
            self.out.data(&self.buffer[..read]).map_err(LayerError::Write)?;
            left -= read as u64;
        }
        Ok(())
    }
}

/// Whether an open failed because the directory is not there any more.
fn is_gone(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

fn plain_entry(path: Vec<u8>, kind: Kind, stat: &Stat) -> Entry {
    Entry {
        path,
        link: Vec::new(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime, 0),
        size: 0,
        device: (0, 0),
        xattrs: Vec::new(),
        sparse: None,
    }
}

fn marker(path: Vec<u8>, stat: &Stat) -> Entry {
    Entry { mode: 0, uid: 0, gid: 0, ..plain_entry(path, Kind::File, stat) }
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// Names in a directory, sorted by bytes.
pub(super) fn sorted_names(dir: &OwnedFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The attributes that belong to a file rather than to this host's security set-up or to overlayfs.
fn xattrs(dir: BorrowedFd<'_>, name: &[u8], shown: &[u8]) -> Result<Vec<(String, Vec<u8>)>, LayerError> {
    let path = proc_path(dir, name);
    let mut list = vec![0_u8; 1024];
    let length = loop {
        match fs::llistxattr(&path, &mut list[..]) {
            Ok(n) => break n,
            Err(Errno::RANGE) if list.len() < 1 << 17 => list.resize(list.len() * 2, 0),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(e) => return Err(os("list attributes of", shown)(e)),
        }
    };
    let mut found = Vec::new();
    for key in list[..length].split(|b| *b == 0) {
        let Ok(key) = std::str::from_utf8(key) else { continue };
        let kept = key == "security.capability" || key.starts_with("user.");
        if !kept || key.starts_with("user.overlay.") {
            continue;
        }
        let mut value = vec![0_u8; 256];
        let length = loop {
            match fs::lgetxattr(&path, key, &mut value[..]) {
                Ok(n) => break Some(n),
                Err(Errno::RANGE) if value.len() < 1 << 17 => value.resize(value.len() * 2, 0),
                Err(Errno::NODATA) => break None,
                Err(e) => return Err(os("read attributes of", shown)(e)),
            }
        };
        if let Some(length) = length {
            value.truncate(length);
            found.push((key.to_owned(), value));
        }
    }
    Ok(found)
}
