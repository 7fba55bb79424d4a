//! What can go wrong between a caller and the engine.

use std::io;

use ferry_types::{Classify, ErrorKind};

/// Failure of one request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers at the engine's address.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// The address as given by the user, such as `unix:///run/ferry/ferry.sock`.
        endpoint: String,
        /// What connect(2) or the TLS handshake said.
        source: io::Error,
    },
    /// The engine answered with an error status.
    #[error("{message}")]
    Api {
        /// HTTP status, 400 or above.
        status: u16,
        /// The `message` of the error body, or the status text when there is none.
        message: String,
    },
    /// The connection broke or the peer does not speak HTTP.
    #[error("error during connect: {method} {path}: {source}")]
    Transport {
        /// Method of the request.
        method: String,
        /// Path of the request with its version prefix.
        path: String,
        /// hyper's account of it.
        source: hyper::Error,
    },
    /// The engine refused to hand the connection over.
    #[error("unable to upgrade to a raw stream, received {0}")]
    NotHijacked(u16),
    /// A body that should be JSON is not, or not of the expected shape.
    #[error("invalid JSON from the engine: {0}")]
    Json(#[from] serde_json::Error),
    /// Reading a body or a stream failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The address of the engine is malformed.
    #[error("unable to parse docker host `{0}`")]
    Endpoint(String),
    /// The address names a transport ferry has no client for.
    #[error("unsupported protocol in docker host `{0}`: use unix://, tcp:// or ssh://")]
    Protocol(String),
    /// A certificate or key file is unusable.
    #[error("could not load TLS material from {path}: {reason}")]
    Tls {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The request could not be built (a path or header with forbidden bytes).
    #[error("invalid request: {0}")]
    Request(#[from] http::Error),
    /// The API version to use is not `MAJOR.MINOR`.
    #[error("invalid API version {0:?}")]
    Version(String),
}

impl Error {
    /// HTTP status of an [`Error::Api`].
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Api { status, .. } => match status {
                304 => ErrorKind::NotModified,
                401 => ErrorKind::Unauthorized,
                403 => ErrorKind::Forbidden,
                404 => ErrorKind::NotFound,
                409 => ErrorKind::Conflict,
                501 => ErrorKind::NotImplemented,
                503 => ErrorKind::Unavailable,
                400..=499 => ErrorKind::InvalidParameter,
                _ => ErrorKind::System,
            },
            Self::Connect { .. } | Self::Transport { .. } => ErrorKind::Unavailable,
            Self::Endpoint(_)
            | Self::Protocol(_)
            | Self::Tls { .. }
            | Self::Request(_)
            | Self::Version(_) => ErrorKind::InvalidParameter,
            Self::NotHijacked(_) | Self::Json(_) | Self::Io(_) => ErrorKind::System,
        }
    }
}
