//! Layers: taking a layer tar apart into a directory, putting it together again bit for bit, and
//! making new ones from a container's changes.

pub mod apply;
pub mod changes;
pub mod chunk;
pub mod confined;
pub mod diff;
pub mod ingest;
pub mod recipe;
pub mod tree;

use std::io;
use std::path::PathBuf;

use ferry_types::{Classify, Digest, ErrorKind};

use crate::archive::TarError;

/// Why a layer could not be unpacked, rebuilt or made.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The archive is malformed.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The archive has no end marker, and no digest to prove it complete.
    #[error("unexpected EOF: archive has no end marker and is probably truncated")]
    NoEnd,
    /// A member's name leads out of the layer or is no name.
    #[error("invalid path {member:?} in archive: {reason}")]
    Path {
        /// The member.
        member: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A member could not be created.
    #[error("unpack {member:?}: {action}: {source}")]
    Unpack {
        /// The member.
        member: String,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The stream's bytes are not those announced.
    #[error("layer digest mismatch: expected {expected}, got {actual}")]
    Digest {
        /// Announced.
        expected: Digest,
        /// What they are.
        actual: Digest,
    },
    /// The uncompressed bytes are not those the image config names.
    #[error("layer diff id mismatch: expected {expected}, got {actual}")]
    DiffId {
        /// In the config.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// The sender went away in the middle of the layer.
    #[error("layer transfer aborted")]
    Aborted,
    /// A layer's recipe is damaged.
    #[error("layer recipe {}: {reason}", path.display())]
    Recipe {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// A file of the layer or of the staging area could not be read or written.
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
    /// The output failed.
    #[error("write archive: {0}")]
    Write(#[source] io::Error),
}

impl LayerError {
    /// For `map_err` on file operations.
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

impl Classify for LayerError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Tar(e) => e.kind(),
            Self::NoEnd | Self::Path { .. } | Self::Digest { .. } | Self::DiffId { .. } => {
                ErrorKind::InvalidParameter
            }
            Self::Unpack { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::System,
                _ => ErrorKind::InvalidParameter,
            },
            Self::Aborted | Self::Recipe { .. } | Self::Io { .. } | Self::Write(_) => ErrorKind::System,
        }
    }
}

/// Prefix of a whiteout's name in a layer tar (OCI image-spec, `layer.md`).
pub const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// Name of the opaque marker.
pub const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";
/// overlayfs' attribute of an opaque directory.
pub const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
