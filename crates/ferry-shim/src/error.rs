//! Failures of the shim itself, and how failures reach the engine.

use std::io;
use std::path::PathBuf;

use ferry_shim_proto::codec::CodecError;
use ferry_shim_proto::{ShimError, ShimErrorKind};
use ferry_types::{Classify, ErrorKind};

/// Why a shim could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call at start-up or in the event loop failed.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A file of the shim failed.
    #[error("{what} {path}: {source}", path = path.display())]
    File {
        /// What was attempted.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file's contents are not what they should be.
    #[error("parse {path}: {source}", path = path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The log cannot be opened; the text is its driver's.
    #[error("{0}")]
    Log(io::Error),
    /// Descriptor 3 is not open: not started by an engine.
    #[error("descriptor 3 is not a connection to an engine")]
    NoEngine,
    /// The engine does not keep the protocol.
    #[error(transparent)]
    Protocol(#[from] CodecError),
    /// A frame carried other descriptors than its message names.
    #[error("{got} file descriptors came with the request instead of {expected}")]
    Descriptors {
        /// How many the message names.
        expected: usize,
        /// How many came.
        got: usize,
    },
    /// The request does not fit the state.
    #[error("{0}")]
    State(&'static str),
    /// There is no such exec.
    #[error("no such exec: {0}")]
    NoExec(String),
    /// A relay's protocol cannot be relayed.
    #[error("sctp ports cannot be relayed")]
    Sctp,
    /// A number is not a signal.
    #[error("invalid signal: {0}")]
    Signal(i32),
    /// The runtime failed.
    #[error(transparent)]
    Runtime(#[from] ferry_runtime::Error),
}

impl Error {
    /// Makes an error of a failed system call.
    pub fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { what, source: source.into() }
    }

    /// Makes an error of a failed operation on a file.
    pub fn file<E: Into<io::Error>>(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(E) -> Self {
        move |source| Self::File { what, path: path.into(), source: source.into() }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::System { .. } | Self::File { .. } | Self::Log(_) | Self::NoEngine => ErrorKind::System,
            Self::Json { .. } | Self::Descriptors { .. } | Self::Sctp | Self::Signal(_) => {
                ErrorKind::InvalidParameter
            }
            Self::Protocol(e) => e.kind(),
            Self::State(_) | Self::NoExec(_) => ErrorKind::Conflict,
            Self::Runtime(e) => e.kind(),
        }
    }
}

impl From<Error> for ShimError {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Runtime(ferry_runtime::Error::CommandNotFound { .. }) => ShimErrorKind::CommandNotFound,
            Error::Runtime(ferry_runtime::Error::CommandNotExecutable { .. }) => {
                ShimErrorKind::CommandNotExecutable
            }
            Error::Runtime(ferry_runtime::Error::Invalid { .. })
            | Error::Json { .. }
            | Error::Descriptors { .. }
            | Error::Sctp
            | Error::Signal(_) => ShimErrorKind::Invalid,
            Error::Log(_) => ShimErrorKind::Log,
            Error::State(_) | Error::NoExec(_) => ShimErrorKind::State,
            Error::Runtime(ferry_runtime::Error::System { .. } | ferry_runtime::Error::External { .. })
            | Error::System { .. }
            | Error::File { .. }
            | Error::NoEngine
            | Error::Protocol(_) => ShimErrorKind::System,
        };
        Self { kind, message: error.to_string() }
    }
}
