//! How a container's root file system is put together.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An overlayfs mount (kernel doc `filesystems/overlayfs.rst`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Read-only layers, topmost first. Never empty: an image without layers has one empty directory.
    pub lower: Vec<PathBuf>,
    /// The writable layer.
    pub upper: PathBuf,
    /// overlayfs' scratch directory, on the same file system as `upper`.
    pub work: PathBuf,
}
