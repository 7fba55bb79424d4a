//! Writes a directory tree as a tar: names sorted, hard links kept, times in whole seconds, sockets left
//! out; equal trees give equal archives.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Dir, FileType, OFlags, Stat};
use rustix::io::Errno;

use super::confined::{Confined, is_opaque, is_whiteout, proc_path};
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
    let mut walk =
        Walk { tree, kind, out: TarWriter::new(out), links: HashMap::new(), buffer: vec![0; 256 * 1024] };
    walk.directory(&[])?;
    walk.out.finish().map_err(LayerError::Write)?;
    Ok(())
}

struct Walk<'a> {
    tree: Confined,
    kind: TreeKind,
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

impl Walk<'_> {
    /// Members of one directory. It is opened by its path, so that no descriptor stays open per level:
    /// a container decides how deep its trees are.
    fn directory(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let dir = self
            .tree
            .open_strict(path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(LayerError::io("open", shown(path)))?;
        if self.kind == TreeKind::OverlayUpper && !path.is_empty() {
            self.overlay_marks(&dir, path)?;
        }
        let names = sorted_names(&dir).map_err(os("read directory", path))?;
        let mut below = Vec::new();
        for name in names {
            if self.child(dir.as_fd(), path, &name)? {
                below.push(name);
            }
        }
        drop(dir);
        for name in below {
            self.directory(&join(path, &name))?;
        }
        Ok(())
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
        let mut path = join(parent, name);
        let stat = match fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
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
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::Char,
            FileType::BlockDevice => Kind::Block,
            FileType::Fifo => Kind::Fifo,
            _ => return Ok(false),
        };
        let mut entry = plain_entry(path.clone(), kind, &stat);
        if kind != Kind::Dir && stat.st_nlink > 1 {
            let first = self.links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.clone());
            if *first != path {
                entry.kind = Kind::HardLink;
                entry.link = first.clone();
                self.out.entry(&entry).map_err(LayerError::Write)?;
                return Ok(false);
            }
        }
        match kind {
            Kind::Dir => {
                path.push(b'/');
                entry.path = path;
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
        if kind != Kind::File {
            self.out.entry(&entry).map_err(LayerError::Write)?;
            return Ok(false);
        }
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
        entry.xattrs = xattrs(dir, name, &path)?;
        // Non-blocking: should it have become a pipe, opening must not hang.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = fs::openat(dir, name, flags, fs::Mode::empty()).map_err(os("open", &path))?;
        self.out.entry(&entry).map_err(LayerError::Write)?;
        self.contents(&File::from(file), entry.size, &path)?;
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
