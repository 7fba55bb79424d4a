//! Layers.

use ferry_types::{Classify, ErrorKind};

/// Why a layer could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The archive ends early.
    #[error("archive is truncated")]
    Truncated,
}

impl Classify for LayerError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}
