//! What readers get to see of an image.

pub use ferry_types::Platform;
use ferry_types::{Digest, ImageRef};
use jiff::Timestamp;

use crate::config::ImageConfig;

/// An image is named by the digest of its config, as in Docker.
pub type ImageId = Digest;

/// One image of the store, immutable; a change of its tags publishes a new value.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of `raw_config`.
    pub id: ImageId,
    /// The image config exactly as it was received.
    pub raw_config: Vec<u8>,
    /// The image config, typed; fields ferry does not know are kept in its `extra` maps.
    pub config: ImageConfig,
    /// Sum of the regular files' sizes over all layers, bytes.
    pub size: u64,
    /// References with a tag.
    pub repo_tags: Vec<ImageRef>,
    /// References with a manifest digest.
    pub repo_digests: Vec<ImageRef>,
    /// The image this one was committed or built from, when it is known.
    pub parent: Option<ImageId>,
    /// When a tag was last put on the image.
    pub last_tagged: Option<Timestamp>,
    /// Digest of the manifest the image came with, kept in the content store.
    pub manifest: Option<Digest>,
    /// Chain ids of the layers, bottom first.
    pub chain: Vec<Digest>,
}

impl Image {
    /// When the image was made; the epoch when its config does not say.
    pub fn created(&self) -> Timestamp {
        self.config.created.unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Answer to "does a container use this image?".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// Full or short id of the container.
    pub container: String,
    /// Whether it runs (or is paused); a running one is to be named before a stopped one.
    pub running: bool,
}

/// One thing a removal did, in order, as the API reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A reference, in familiar form.
    Untagged(String),
    /// An image or a layer (by chain id).
    Deleted(Digest),
}
