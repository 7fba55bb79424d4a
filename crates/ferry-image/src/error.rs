//! Errors of the image store; texts follow Docker's.

use std::io;
use std::path::PathBuf;

use ferry_types::{Classify, Digest, ErrorKind, ImageRefError};

use crate::instruction::InstructionError;
use crate::layer::LayerError;

/// Shorthand.
pub type Result<T, E = ImageError> = std::result::Result<T, E>;

/// Why a request to the image store failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No image of that name or id.
    #[error("No such image: {0}")]
    NotFound(String),
    /// Several images' ids start like this.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// The name is no reference.
    #[error(transparent)]
    Reference(#[from] ImageRefError),
    /// A reference with a digest where a tag is wanted.
    #[error("refusing to create a tag with a digest reference")]
    TagWithDigest,
    /// Removing by reference would leave a container's image without a name.
    #[error(
        "conflict: unable to remove repository reference {reference:?} (must force) - container \
         {container} is using its referenced image {image}"
    )]
    ReferenceInUse {
        /// What the caller named.
        reference: String,
        /// Short container id.
        container: String,
        /// Short image id.
        image: String,
    },
    /// The image cannot be deleted as things are.
    #[error("conflict: unable to delete {image} ({}) - {reason}", if *hard { "cannot be forced" } else { "must be forced" })]
    DeleteConflict {
        /// Short image id.
        image: String,
        /// Whether force does not help either.
        hard: bool,
        /// Why.
        reason: DeleteConflict,
    },
    /// A change given to import or commit is wrong.
    #[error(transparent)]
    Instruction(#[from] InstructionError),
    /// A layer's archive is wrong or could not be unpacked.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A document in an archive or from a registry is not what it has to be.
    #[error("invalid {what}: {source}")]
    Json {
        /// Which document.
        what: String,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// An archive given to load lacks something or contradicts itself.
    #[error("invalid archive: {0}")]
    Archive(String),
    /// Content is not what its digest says.
    #[error("{what}: digest mismatch: expected {expected}, got {actual}")]
    DigestMismatch {
        /// Which content.
        what: String,
        /// What was announced.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// The config names another number of layers than there are.
    #[error("image config has {config} layers but {given} were given")]
    LayerCount {
        /// In the config.
        config: usize,
        /// Given.
        given: usize,
    },
    /// overlayfs takes no more layers than this.
    #[error("max depth exceeded: image has {0} layers, at most 500 can be mounted")]
    TooManyLayers(usize),
    /// No image in the index fits.
    #[error("no matching manifest for {0} in the archive")]
    NoPlatform(String),
    /// The metadata store failed.
    #[error("image metadata: {0}")]
    Metadata(#[from] Box<redb::Error>),
    /// A record of the metadata store cannot be read.
    #[error("image metadata: record {key} is damaged: {source}")]
    Record {
        /// Its key.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file of the store could not be read or written.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The caller's reader or writer failed.
    #[error("{what}: {source}")]
    Stream {
        /// What was being read or written.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Why an image cannot be deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteConflict {
    /// Other images were made from it.
    #[error("image has dependent child images")]
    Children,
    /// A container runs on it.
    #[error("image is being used by running container {0}")]
    Running(String),
    /// A container was made from it.
    #[error("image is being used by stopped container {0}")]
    Stopped(String),
    /// Named by id, but it has names in several repositories.
    #[error("image is referenced in multiple repositories")]
    Referenced,
}

impl Classify for ImageError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) | Self::NoPlatform(_) => ErrorKind::NotFound,
            Self::ReferenceInUse { .. } | Self::DeleteConflict { .. } => ErrorKind::Conflict,
            Self::Ambiguous(_)
            | Self::Reference(_)
            | Self::TagWithDigest
            | Self::Json { .. }
            | Self::Archive(_)
            | Self::DigestMismatch { .. }
            | Self::LayerCount { .. }
            | Self::TooManyLayers(_) => ErrorKind::InvalidParameter,
            Self::Instruction(e) => e.kind(),
            Self::Layer(e) => e.kind(),
            Self::Metadata(_) | Self::Record { .. } | Self::Io { .. } | Self::Stream { .. } => {
                ErrorKind::System
            }
        }
    }
}
