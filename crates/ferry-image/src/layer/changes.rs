//! What a container changed, path by path, for `docker diff`.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, OFlags};
use rustix::io::Errno;

use super::LayerError;
use super::confined::{Confined, is_opaque, is_whiteout};
use super::tree::sorted_names;

/// How a path differs from the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// `C`, 0 in the API.
    Changed,
    /// `A`, 1 in the API.
    Added,
    /// `D`, 2 in the API.
    Deleted,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute within the container; not necessarily UTF-8.
    pub path: PathBuf,
    /// How it changed.
    pub kind: ChangeKind,
}

/// Changes of `upper` against the merged `lowers` (topmost first), sorted by path.
///
/// # Errors
/// When a directory cannot be read.
pub fn changes(upper: &Path, lowers: &[PathBuf]) -> Result<Vec<Change>, LayerError> {
    let open = |path: &Path| Confined::open(path).map_err(LayerError::io("open", path));
    let upper = open(upper)?;
    let lowers = lowers.iter().map(|l| open(l)).collect::<Result<Vec<_>, _>>()?;
    let mut comparison = Comparison { upper, found: Vec::new() };
    let all: Vec<_> = lowers.iter().collect();
    comparison.directory(&[], &all)?;
    let mut found = comparison.found;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

struct Comparison {
    upper: Confined,
    found: Vec<Change>,
}

fn failed(what: &'static str, path: &[u8]) -> impl FnOnce(std::io::Error) -> LayerError {
    LayerError::io(what, PathBuf::from(String::from_utf8_lossy(path).into_owned()))
}

impl Comparison {
    /// `merged` are the lower layers whose directory of this path shows through, topmost first.
    fn directory(&mut self, path: &[u8], merged: &[&Confined]) -> Result<(), LayerError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = self.upper.open_strict(path, flags).map_err(failed("open", path))?;
        let names = sorted_names(&dir).map_err(|e| failed("read directory", path)(e.into()))?;
        if !path.is_empty() && is_opaque(dir.as_fd()).map_err(failed("read attributes of", path))? {
            self.hidden(path, merged, &names)?;
        }
        let mut below = Vec::new();
        for name in names {
            let child = join(path, &name);
            let stat = match fs::statat(&dir, &*name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(failed("look up", &child)(e.into())),
            };
            let (exists, lower_dirs) = lookup(&child, merged)?;
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let kind = match (is_whiteout(&stat), exists) {
                // Made and removed again: nothing to report.
                (true, false) => continue,
                (true, true) => ChangeKind::Deleted,
                (false, true) => ChangeKind::Changed,
                (false, false) => ChangeKind::Added,
            };
            self.push(&child, kind);
            if is_dir {
                below.push((child, lower_dirs));
            }
        }
        drop(dir);
        for (child, lower_dirs) in below {
            self.directory(&child, &lower_dirs)?;
        }
        Ok(())
    }

    /// Entries of the lower directories that an opaque directory hides and does not have itself.
    fn hidden(&mut self, path: &[u8], merged: &[&Confined], own: &[Vec<u8>]) -> Result<(), LayerError> {
        let mut gone = std::collections::BTreeSet::new();
        for lower in merged {
            let dir =
                lower.open_strict(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", path))?;
            gone.extend(sorted_names(&dir).map_err(|e| failed("read directory", path)(e.into()))?);
        }
        for name in gone {
            let child = join(path, &name);
            if own.binary_search(&name).is_err() && lookup(&child, merged)?.0 {
                self.push(&child, ChangeKind::Deleted);
            }
        }
        Ok(())
    }

    fn push(&mut self, path: &[u8], kind: ChangeKind) {
        use std::os::unix::ffi::OsStrExt;
        let absolute = [b"/", path].concat();
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&absolute));
        self.found.push(Change { path, kind });
    }
}

/// Whether a path exists in the merged layers, and the layers whose directories make it up.
fn lookup<'a>(path: &[u8], merged: &[&'a Confined]) -> Result<(bool, Vec<&'a Confined>), LayerError> {
    let mut dirs = Vec::new();
    for lower in merged {
        let node = match lower.open_strict(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(node) => node,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                return Ok((true, dirs));
            }
            Err(e) => return Err(failed("look up", path)(e)),
        };
        let stat = fs::fstat(&node).map_err(|e| failed("look up", path)(e.into()))?;
        if is_whiteout(&stat) {
            break;
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok((true, dirs));
        }
        dirs.push(*lower);
        let dir =
            lower.open_strict(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", path))?;
        if is_opaque(dir.as_fd()).map_err(failed("read attributes of", path))? {
            break;
        }
    }
    Ok((!dirs.is_empty(), dirs))
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}
