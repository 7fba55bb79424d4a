//! One file or directory of the tree as a tar.

use std::io::Write;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, OFlags};

use super::CopyError;
use super::lookup::open;
use crate::layer::tree::write_below;

/// Writes what is at `path`, a normalized one, under its last component as name (`.` for one that ends so). A symbolic link
/// at the end is written as such, unless the path ends with a slash.
///
/// # Errors
/// When the path does not exist, something cannot be read, or `out` fails.
pub fn pack(root: BorrowedFd<'_>, path: &str, out: &mut dyn Write) -> Result<(), CopyError> {
    let failed = || CopyError::io("lstat", path.as_bytes());
    let trimmed = path.trim_end_matches('/');
    let name = trimmed.rsplit('/').next().unwrap_or_default();
    let there = open(root, path.as_bytes(), OFlags::PATH | OFlags::NOFOLLOW).map_err(failed())?;
    let stat = rustix::fs::statat(&there, "", AtFlags::EMPTY_PATH).map_err(failed())?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        // The root alone has no name: its members' names are absolute.
        let prefix = format!("{name}/");
        return Ok(write_below(there, Some(prefix.as_bytes()), out)?);
    }
    let parent = &trimmed[..trimmed.len() - name.len()];
    let parent = open(root, parent.as_bytes(), OFlags::PATH | OFlags::DIRECTORY).map_err(failed())?;
    Ok(crate::layer::tree::write_one(parent, name.as_bytes(), out)?)
}
