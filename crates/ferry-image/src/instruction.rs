//! Dockerfile instructions given to import and commit as `--change`.

use ferry_types::{Classify, ErrorKind};

/// Why a change is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstructionError {
    /// Not an instruction that changes a config.
    #[error("{0} is not a valid change command")]
    NotAllowed(String),
}

impl Classify for InstructionError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}
