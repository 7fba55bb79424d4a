//! Arguments and answers of the store's longer operations.

use std::path::PathBuf;

use ferry_types::{Digest, ImageRef};

use crate::config::ContainerConfig;
use crate::image::{ImageId, Platform};

/// Arguments of [`crate::ImageStore::import_rootfs`].
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Name for the new image.
    pub reference: Option<ImageRef>,
    /// History comment; `Imported from -` when `None`.
    pub message: Option<String>,
    /// Dockerfile instructions that set the config, one per element.
    pub changes: Vec<String>,
    /// The host's when `None`.
    pub platform: Option<Platform>,
}

/// Arguments of [`crate::ImageStore::commit`].
#[derive(Debug, Clone)]
pub struct CommitOptions {
    /// Image the container was made from.
    pub parent: ImageId,
    /// The container's overlay upper directory.
    pub upper: PathBuf,
    /// The container's config, as the base that `changes` are applied to.
    pub config: ContainerConfig,
    /// Recorded as history's `created_by`: the container's command line.
    pub created_by: String,
    /// Author.
    pub author: Option<String>,
    /// History comment.
    pub message: Option<String>,
    /// Dockerfile instructions, one per element.
    pub changes: Vec<String>,
    /// Name for the new image.
    pub reference: Option<ImageRef>,
}

/// How [`crate::ImageStore::remove`] goes about it.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Remove although a stopped container or several repositories refer to the image.
    pub force: bool,
    /// Remove parents without a name and without other children as well (Docker's default).
    pub prune: bool,
}

/// One image that an archive brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// Its id.
    pub id: ImageId,
    /// Names it got, in familiar form; empty for one without a name.
    pub references: Vec<String>,
}

/// Reported while an archive is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadProgress {
    /// Bytes of one layer member read so far.
    Layer {
        /// Name of the archive member.
        member: String,
        /// Bytes so far.
        current: u64,
        /// Size of the member.
        total: u64,
    },
}

/// Answer to `system df`, from counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Unpacked layers, each counted once, bytes.
    pub layers_size: u64,
    /// Number of layers.
    pub layers: usize,
    /// Number of images.
    pub images: usize,
}

/// What a layer is announced as by a manifest.
#[derive(Debug, Clone)]
pub struct LayerDescriptor {
    /// Digest of the bytes as transferred.
    pub digest: Digest,
    /// Size of these bytes.
    pub size: u64,
    /// Digest of the uncompressed tar, from the image config.
    pub diff_id: Digest,
}
