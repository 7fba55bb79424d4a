//! The few kinds every error of ferry falls into. The server maps a kind to an HTTP status and the
//! runtime command to an exit code; nothing else may decide on a status.

/// What kind of failure an error is, seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself is wrong (HTTP 400).
    InvalidParameter,
    /// Credentials are missing or wrong (HTTP 401).
    Unauthorized,
    /// The caller may not do this (HTTP 403).
    Forbidden,
    /// The named object does not exist (HTTP 404).
    NotFound,
    /// The object's state does not allow the request (HTTP 409).
    Conflict,
    /// The object is already in the requested state (HTTP 304).
    NotModified,
    /// Something the engine depends on cannot be reached (HTTP 503).
    Unavailable,
    /// Known to Docker but not supported by this engine or host (HTTP 501).
    NotImplemented,
    /// The engine or the host failed (HTTP 500).
    System,
}

/// Implemented by every public error type of ferry's libraries.
pub trait Classify {
    /// The kind this error falls into.
    fn kind(&self) -> ErrorKind;
}
