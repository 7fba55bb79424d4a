//! Failures of the runtime command.

use std::path::PathBuf;

use ferry_types::{Classify, ErrorKind};

use super::Status;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// The container could not be built, started or entered.
    #[error("unable to start container process: {0}")]
    Runtime(#[from] crate::Error),
    /// A file of the bundle or the state directory.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not the JSON it should be.
    #[error("{path}: {source}")]
    Json {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// No such container.
    #[error("container {0:?} does not exist")]
    NotFound(String),
    /// There is one of that id already.
    #[error("container with given ID already exists: {0:?}")]
    Exists(String),
    /// The id has other characters than letters, digits, `_`, `+`, `-` and `.`.
    #[error("invalid container ID format: {0:?}")]
    InvalidId(String),
    /// The operation does not fit what the container is doing.
    #[error("cannot {action} a container that is {status}")]
    Status {
        /// What was asked.
        action: &'static str,
        /// What it is doing.
        status: Status,
    },
    /// The container is not running.
    #[error("container not running")]
    NotRunning,
    /// Options that do not go together.
    #[error("{0}")]
    Options(&'static str),
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Classify for OciError {
    fn kind(&self) -> ErrorKind {
        match self {
            OciError::Runtime(error) => error.kind(),
            OciError::NotFound(_) => ErrorKind::NotFound,
            OciError::Exists(_) | OciError::Status { .. } | OciError::NotRunning => ErrorKind::Conflict,
            OciError::InvalidId(_) | OciError::Options(_) | OciError::Json { .. } => {
                ErrorKind::InvalidParameter
            }
            OciError::File { .. } | OciError::System { .. } => ErrorKind::System,
        }
    }
}

/// Names the file of a failed operation.
pub(super) trait OfFile<T> {
    fn of(self, path: &std::path::Path) -> Result<T, OciError>;
}

impl<T> OfFile<T> for Result<T, std::io::Error> {
    fn of(self, path: &std::path::Path) -> Result<T, OciError> {
        self.map_err(|source| OciError::File { path: path.to_owned(), source })
    }
}

impl<T> OfFile<T> for Result<T, rustix::io::Errno> {
    fn of(self, path: &std::path::Path) -> Result<T, OciError> {
        self.map_err(std::io::Error::from).of(path)
    }
}

impl<T> OfFile<T> for Result<T, serde_json::Error> {
    fn of(self, path: &std::path::Path) -> Result<T, OciError> {
        self.map_err(|source| OciError::Json { path: path.to_owned(), source })
    }
}

/// Names a failed system call that concerns no file.
pub(super) trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T, OciError>;
}

impl<T, E: Into<std::io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: &'static str) -> Result<T, OciError> {
        self.map_err(|source| OciError::System { what, source: source.into() })
    }
}
