//! Errors of the registry client; texts follow Docker's.

use std::error::Error as _;
use std::io;

use ferry_types::{Classify, Digest, ErrorKind};

/// Shorthand.
pub type Result<T, E = RegistryError> = std::result::Result<T, E>;

/// Why a registry did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A file cannot be had.
    #[error("failed to GET {url} with status {status}: {body}")]
    Download {
        /// Its URL.
        url: String,
        /// Code and reason.
        status: String,
        /// What the server says.
        body: String,
    },
    /// There is no such tag or digest.
    #[error("manifest for {reference} not found: {cause}")]
    ManifestNotFound {
        /// Familiar form.
        reference: String,
        /// The registry's words.
        cause: ApiError,
    },
    /// The registry knows no such repository.
    #[error("repository {repository} not found: {cause}")]
    RepositoryNotFound {
        /// Familiar form.
        repository: String,
        /// The registry's words.
        cause: ApiError,
    },
    /// The registry does not let us read, or does not say whether there is something to read.
    #[error(
        "pull access denied for {repository}, repository does not exist or may require 'docker login': {cause}"
    )]
    Denied {
        /// Familiar form.
        repository: String,
        /// The registry's words.
        cause: ApiError,
    },
    /// The credentials are wrong.
    #[error("Get {url:?}: unauthorized: {message}")]
    Unauthorized {
        /// What was asked.
        url: String,
        /// The registry's words.
        message: String,
    },
    /// Any other refusal.
    #[error("error from registry: {0}")]
    Api(ApiError),
    /// An answer that makes no sense.
    #[error("unexpected status from GET request to {url}: {status}")]
    Status {
        /// What was asked.
        url: String,
        /// Status line.
        status: String,
    },
    /// Too many requests.
    #[error("toomanyrequests: {0}")]
    TooManyRequests(String),
    /// The request did not get through.
    #[error("Get {url:?}: {reason}")]
    Transport {
        /// What was asked.
        url: String,
        /// As Go's net/http would put it.
        reason: String,
        /// Whether trying again may help.
        transient: bool,
    },
    /// A registry without the old API, which is the one with a search.
    #[error("invalid registry endpoint {url:?}. HTTPS attempt: {https}. HTTP attempt: {http}")]
    NoIndex {
        /// What was asked last.
        url: String,
        /// What came of HTTPS.
        https: String,
        /// What came of HTTP.
        http: String,
    },
    /// The HTTP client could not be set up.
    #[error("set up HTTPS: {0}")]
    Tls(String),
    /// A URL made of the reference or received from the registry is none.
    #[error("invalid URL {0:?}")]
    Url(String),
    /// The authentication challenge is malformed or of an unknown scheme.
    #[error("unsupported authentication challenge from {host}: {challenge:?}")]
    Challenge {
        /// Registry.
        host: String,
        /// Its header.
        challenge: String,
    },
    /// A document is malformed.
    #[error("invalid {what} from {host}: {reason}")]
    Document {
        /// Which one.
        what: &'static str,
        /// Registry.
        host: String,
        /// Why.
        reason: String,
    },
    /// A document of a type that is no image.
    #[error("unsupported media type {0}")]
    MediaType(String),
    /// Images of before 2015.
    #[error(
        "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. \
         Suggest the author of {0} to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2"
    )]
    Schema1(String),
    /// The index has nothing for the platform.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoPlatform(String),
    /// The content is not what its digest says.
    #[error("{what} verification failed for digest {expected}: got {actual}")]
    Digest {
        /// Which content.
        what: &'static str,
        /// Asked for.
        expected: Digest,
        /// Got.
        actual: Digest,
    },
}

/// One entry of a registry's `errors` list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.to_ascii_lowercase().replace('_', " "))]
pub struct ApiError {
    /// `MANIFEST_UNKNOWN` and the like.
    pub code: String,
    /// For people.
    pub message: String,
}

impl RegistryError {
    /// Whether the same request may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport { transient, .. } => *transient,
            Self::TooManyRequests(_) => true,
            Self::Status { status, .. } => status.starts_with('5'),
            _ => false,
        }
    }

    /// Puts a failed request into the words of Go's net/http, which users and scripts know.
    pub(crate) fn transport(url: &str, error: &reqwest::Error) -> Self {
        let url = url.to_owned();
        let host = || {
            let parsed = reqwest::Url::parse(&url).ok();
            let host = parsed.as_ref().and_then(|u| u.host_str()).unwrap_or_default().to_owned();
            let port = parsed.as_ref().and_then(reqwest::Url::port_or_known_default).unwrap_or(443);
            (host, port)
        };
        let mut chain = Vec::new();
        let mut next = error.source();
        let mut cause = None;
        while let Some(source) = next {
            cause = cause.or(source.downcast_ref::<io::Error>().map(io::Error::kind));
            chain.push(source.to_string());
            next = source.source();
        }
        let last = chain.last().cloned().unwrap_or_else(|| error.to_string());
        let lookup = chain.iter().any(|s| s.contains("dns error") || s.contains("lookup address"));
        let (reason, transient) = if lookup {
            (format!("dial tcp: lookup {}: no such host", host().0), false)
        } else if cause == Some(io::ErrorKind::ConnectionRefused) {
            let (host, port) = host();
            (format!("dial tcp {host}:{port}: connect: connection refused"), false)
        } else if error.is_timeout() {
            ("net/http: request canceled (Client.Timeout exceeded while awaiting headers)".to_owned(), true)
        } else if error.is_connect() {
            let (host, port) = host();
            (format!("dial tcp {host}:{port}: {last}"), cause.is_some())
        } else {
            (last, true)
        };
        Self::Transport { url, reason, transient }
    }
}

impl Classify for RegistryError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ManifestNotFound { .. }
            | Self::RepositoryNotFound { .. }
            | Self::Denied { .. }
            | Self::NoPlatform(_) => ErrorKind::NotFound,
            Self::Download { status, .. } if status.starts_with("404") => ErrorKind::NotFound,
            Self::Download { .. } => ErrorKind::System,
            Self::Unauthorized { .. } => ErrorKind::Unauthorized,
            Self::NoIndex { .. } | Self::Url(_) | Self::MediaType(_) | Self::Schema1(_) => {
                ErrorKind::InvalidParameter
            }
            Self::TooManyRequests(_) => ErrorKind::Unavailable,
            Self::Api(_)
            | Self::Status { .. }
            | Self::Transport { .. }
            | Self::Tls(_)
            | Self::Challenge { .. }
            | Self::Document { .. }
            | Self::Digest { .. } => ErrorKind::System,
        }
    }
}
