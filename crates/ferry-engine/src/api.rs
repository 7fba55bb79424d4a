//! What the engine takes and gives where Docker's wire types are not the payload: options of
//! operations, streams and hijacked connections. The operations themselves are the inherent methods
//! of [`crate::Engine`], in the module of their noun.

use std::os::fd::OwnedFd;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use tokio::io::AsyncRead;

use crate::error::Result;

/// Filters of a list or prune request.
pub use ferry_api::Filters;

/// A body that is produced while it is sent.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;
/// Messages produced while they are sent.
pub type ItemStream<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;
/// A body that is consumed while it arrives.
pub type BodyReader = Pin<Box<dyn AsyncRead + Send>>;

/// A client's connection after the protocol switch. The engine hands it to the container's shim.
#[derive(Debug)]
pub struct Hijacked {
    /// The client's socket (or our end of a relay, for TLS and HTTP/2 clients).
    pub socket: OwnedFd,
    /// Bytes of the client's input that were read together with the request.
    pub pending_input: Vec<u8>,
}

/// `GET /containers/json`.
#[derive(Debug, Default, Clone)]
pub struct ListContainers {
    /// Include stopped containers.
    pub all: bool,
    /// Only the newest n, running or not.
    pub limit: Option<usize>,
    /// Fill `SizeRw` and `SizeRootFs`.
    pub size: bool,
    /// Docker's filters.
    pub filters: Filters,
}

/// `DELETE /containers/{id}`.
#[derive(Debug, Default, Clone, Copy)]
pub struct RemoveContainer {
    /// Kill it first when it runs.
    pub force: bool,
    /// Remove its anonymous volumes too.
    pub volumes: bool,
    /// Remove the named link instead of the container.
    pub link: bool,
}

/// `POST /containers/{id}/wait`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum WaitCondition {
    /// Until it does not run; at once when it does not.
    #[default]
    NotRunning,
    /// Until it has exited once more.
    NextExit,
    /// Until it is removed.
    Removed,
}

/// `POST /containers/{id}/attach`.
#[derive(Debug, Default, Clone)]
pub struct AttachOptions {
    /// Replay the log first.
    pub logs: bool,
    /// Stay connected for what comes.
    pub stream: bool,
    /// Forward the client's bytes.
    pub stdin: bool,
    /// Send stdout.
    pub stdout: bool,
    /// Send stderr.
    pub stderr: bool,
    /// Docker's notation (`ctrl-p,ctrl-q`); `None` means the default.
    pub detach_keys: Option<String>,
}

/// `GET /containers/{id}/logs`.
#[derive(Debug, Default, Clone)]
pub struct LogOptions {
    /// Keep sending what is appended.
    pub follow: bool,
    /// Include stdout.
    pub stdout: bool,
    /// Include stderr.
    pub stderr: bool,
    /// Nothing before this instant (Docker's notation: unix seconds with fraction, or RFC 3339).
    pub since: Option<String>,
    /// Nothing after this instant.
    pub until: Option<String>,
    /// Prefix each line with its time.
    pub timestamps: bool,
    /// Prefix each line with the log driver's attributes.
    pub details: bool,
    /// Only the last n lines; all when absent.
    pub tail: Option<usize>,
    /// One JSON object per entry in place of the text.
    pub json: bool,
}

/// A log body and how it is framed.
pub struct LogStream {
    /// Raw bytes for a container with a terminal, 8-byte multiplexed frames otherwise.
    pub body: ByteStream,
    /// Whether the frames are there.
    pub multiplexed: bool,
}

/// `POST /exec/{id}/start`.
#[derive(Debug, Default, Clone)]
pub struct ExecStart {
    /// Do not attach.
    pub detach: bool,
    /// Must equal the exec's own setting.
    pub tty: bool,
    /// Initial `(height, width)`.
    pub console_size: Option<(u16, u16)>,
}

/// `GET /events`.
#[derive(Debug, Default, Clone)]
pub struct EventOptions {
    /// Start with events after this instant.
    pub since: Option<String>,
    /// End at this instant.
    pub until: Option<String>,
    /// Docker's filters.
    pub filters: Filters,
}

/// `POST /commit`.
#[derive(Debug, Default, Clone)]
pub struct CommitOptions {
    /// The container.
    pub container: String,
    /// Repository of the new image, when it shall have one.
    pub repo: Option<String>,
    /// Tag of the new image.
    pub tag: Option<String>,
    /// Commit message.
    pub comment: String,
    /// Author.
    pub author: String,
    /// Freeze the container meanwhile.
    pub pause: bool,
    /// Dockerfile instructions to apply to the image's config.
    pub changes: Vec<String>,
    /// Config to use instead of the container's, when the client sent one.
    pub config: Option<ferry_api::container::ContainerConfig>,
}

/// `POST /images/create?fromSrc=-`.
#[derive(Debug, Default, Clone)]
pub struct ImportOptions {
    /// Repository of the new image.
    pub repo: Option<String>,
    /// Tag of the new image.
    pub tag: Option<String>,
    /// Commit message.
    pub message: String,
    /// Dockerfile instructions to apply to the image's config.
    pub changes: Vec<String>,
    /// `os[/arch[/variant]]`.
    pub platform: Option<String>,
    /// Where the archive is; it comes with the request when empty.
    pub url: Option<String>,
}

/// `POST /images/create?fromImage=…`.
#[derive(Debug, Default, Clone)]
pub struct PullOptions {
    /// Repository or whole reference.
    pub image: String,
    /// Tag or digest, when not in `image`.
    pub tag: Option<String>,
    /// `os[/arch[/variant]]`.
    pub platform: Option<String>,
    /// Decoded `X-Registry-Auth`.
    pub auth: Option<ferry_api::auth::AuthConfig>,
}

/// `GET /images/search`.
#[derive(Debug, Default, Clone)]
pub struct SearchOptions {
    /// What to search for, after a registry's host and a slash when it is not Docker Hub's.
    pub term: String,
    /// Most results.
    pub limit: Option<i64>,
    /// `is-official`, `stars`.
    pub filters: Filters,
    /// Decoded `X-Registry-Auth`.
    pub auth: Option<ferry_api::auth::AuthConfig>,
}

/// `GET /images/json`.
#[derive(Debug, Default, Clone)]
pub struct ListImages {
    /// Include intermediate images.
    pub all: bool,
    /// Docker's filters.
    pub filters: Filters,
    /// Fill `SharedSize`.
    pub shared_size: bool,
    /// Fill `Manifests`.
    pub manifests: bool,
}

/// Facts about a path in a container, sent as `X-Docker-Container-Path-Stat`.
pub type PathStat = ferry_api::container::ContainerPathStat;
