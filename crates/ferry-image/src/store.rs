//! The image store (signatures first; bodies follow).

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferry_types::{Digest, ImageRef};

use crate::error::{ImageError, Result};
use crate::image::{Image, ImageId, InUse, Removed};
pub use crate::options::*;

/// All images of one data root. Cheap to share; readers never wait for writers.
#[derive(Debug)]
pub struct ImageStore {}

fn not_yet<T>() -> Result<T> {
    Err(ImageError::Archive("this build has no image store yet".to_owned()))
}

#[allow(unused_variables)]
impl ImageStore {
    /// Opens the store under `root`, with its metadata in `db`; removes what a crash left behind.
    pub fn open(root: &Path, db: Arc<redb::Database>) -> Result<Self> {
        not_yet()
    }
    /// All images, newest first.
    pub fn list(&self) -> Vec<Arc<Image>> {
        Vec::new()
    }
    /// The image of that id.
    pub fn get(&self, id: &ImageId) -> Result<Arc<Image>> {
        not_yet()
    }
    /// The id meant by a reference, a full id or a unique prefix of one.
    pub fn resolve(&self, name: &str) -> Result<ImageId> {
        not_yet()
    }
    /// `diff` directories, topmost first; one empty directory for an image without layers.
    pub fn layer_dirs(&self, id: &ImageId) -> Result<Vec<PathBuf>> {
        not_yet()
    }
    /// Bytes of all layers of the image.
    pub fn rootfs_size(&self, id: &ImageId) -> Result<u64> {
        not_yet()
    }
    /// Puts a name on an image, taking it off another one.
    pub fn tag(&self, id: &ImageId, reference: &ImageRef) -> Result<()> {
        not_yet()
    }
    /// Removes a name, or the image when it was the last one.
    pub fn remove(
        &self,
        name: &str,
        options: RemoveOptions,
        in_use: &dyn Fn(&ImageId) -> Option<InUse>,
    ) -> Result<Vec<Removed>> {
        not_yet()
    }
    /// Makes an image of one layer from a root file system tar.
    pub fn import_rootfs(&self, reader: &mut dyn Read, options: ImportOptions) -> Result<ImageId> {
        not_yet()
    }
    /// Makes an image from a container's upper directory.
    pub fn commit(&self, options: CommitOptions) -> Result<ImageId> {
        not_yet()
    }
    /// Reads a docker-archive or an OCI layout tar.
    pub fn load(
        &self,
        reader: &mut dyn Read,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Vec<LoadedImage>> {
        not_yet()
    }
    /// Writes the archive Docker 28 writes.
    pub fn save(&self, names: &[String], writer: &mut dyn Write) -> Result<()> {
        not_yet()
    }
    /// Counters for `system df`.
    pub fn disk_usage(&self) -> DiskUsage {
        DiskUsage::default()
    }
    /// Whether a layer is there already.
    pub fn has_layer(&self, chain_id: &Digest) -> bool {
        false
    }
}
