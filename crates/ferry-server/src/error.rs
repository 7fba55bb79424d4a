//! The one place where an error becomes an HTTP status.

use bytes::Bytes;
use ferry_api::ErrorResponse;
use ferry_types::{Classify, ErrorKind};
use http::StatusCode;

use crate::body::Body;

/// An error on its way to the client: a status and a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    /// Sent as text and not as JSON.
    pub(crate) plain: bool,
}

/// Result of handlers.
pub(crate) type Result<T> = std::result::Result<T, HttpError>;

fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidParameter => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::NotModified => StatusCode::NOT_MODIFIED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::System => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl<E: Classify + std::fmt::Display> From<E> for HttpError {
    fn from(error: E) -> Self {
        Self {
            status: status(error.kind()),
            message: ferry_types::errno_in_gos_words(&error.to_string()),
            plain: false,
        }
    }
}

impl HttpError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { status: status(kind), message: message.into(), plain: false }
    }

    /// The same as text, for clients of before JSON errors.
    pub(crate) fn into_plain_text(self) -> Self {
        Self { plain: true, ..self }
    }

    /// The request is wrong (400).
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidParameter, message)
    }

    /// Docker has it, ferry has not (501).
    pub(crate) fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotImplemented, message)
    }

    /// No such route (404).
    pub(crate) fn page_not_found() -> Self {
        Self::new(ErrorKind::NotFound, "page not found")
    }

    /// The body is larger than a request of its kind can need (413).
    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("request body is larger than {} MiB", limit >> 20);
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, message, plain: false }
    }

    /// The handler is at fault (500).
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::System, message)
    }

    /// The response: `{"message": …}`, nothing at all for 304.
    pub(crate) fn into_response(self) -> http::Response<Body> {
        let mut response = http::Response::new(Body::default());
        *response.status_mut() = self.status;
        if self.plain {
            *response.body_mut() = Body::full(Bytes::from(self.message + "\n"));
            crate::reply::content_type(&mut response, "text/plain; charset=utf-8");
        } else if self.status != StatusCode::NOT_MODIFIED {
            let text = ferry_api::json::to_vec(&ErrorResponse { message: self.message }).unwrap_or_default();
            *response.body_mut() = Body::full(Bytes::from(text));
            crate::reply::content_type(&mut response, "application/json");
        }
        response
    }
}
