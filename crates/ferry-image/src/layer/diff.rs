//! The archives made from directories: a container's changes as a layer tar, and a whole root file
//! system as a flat tar.

use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use super::LayerError;
use super::tree::{TreeKind, write_tree};

/// Writes an overlay upper directory as a layer tar with OCI whiteouts.
///
/// # Errors
/// When something cannot be read, or `out` fails.
pub fn diff_tar(upper: &Path, out: &mut dyn Write) -> Result<(), LayerError> {
    write_tree(upper, TreeKind::OverlayUpper, out)
}

/// Writes the tree at an open directory as a flat tar, as `docker export` does. What is mounted below it is
/// included, so `rootfs` had better be a mount by itself.
///
/// # Errors
/// When something cannot be read, or `out` fails.
pub fn export(rootfs: BorrowedFd<'_>, out: &mut dyn Write) -> Result<(), LayerError> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", rootfs.as_raw_fd()));
    write_tree(&path, TreeKind::Plain, out)
}
