//! The engine's error type. Texts are what clients of Docker expect after `Error response from daemon: `.

use std::path::PathBuf;

use ferry_shim_proto::{ShimError, ShimErrorKind};
use ferry_types::{Classify, ErrorKind};

/// Anything an engine operation can fail with.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No container answers to this id or name.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// An id prefix fits several containers.
    #[error("multiple IDs found with provided prefix: {0}")]
    AmbiguousId(String),
    /// No exec instance has this id.
    #[error("No such exec instance: {0}")]
    NoSuchExec(String),
    /// No volume has this name.
    #[error("get {0}: no such volume")]
    NoSuchVolume(String),
    /// No volume driver has this name.
    #[error("create {volume}: error looking up volume plugin {driver}: plugin {driver:?} not found")]
    NoSuchVolumeDriver {
        /// The wanted volume.
        volume: String,
        /// Its driver.
        driver: String,
    },
    /// No network answers to this name or id.
    #[error("network {0} not found")]
    NoSuchNetwork(String),
    /// A path inside a container does not exist.
    #[error("Could not find the file {path} in container {container}")]
    NoSuchPath {
        /// The container as the client named it.
        container: String,
        /// The path as the client gave it.
        path: String,
    },
    /// The name belongs to another container.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameInUse {
        /// The wanted name.
        name: String,
        /// Full id of the container that has it.
        owner: String,
    },
    /// The request is malformed or asks for something impossible.
    #[error("{0}")]
    InvalidParameter(String),
    /// The object's state forbids the request.
    #[error("{0}")]
    Conflict(String),
    /// The object already is as requested.
    #[error("{0}")]
    NotModified(String),
    /// Something is not there.
    #[error("{0}")]
    NotFound(String),
    /// The engine's own rules forbid it, whatever the object's state.
    #[error("{0}")]
    Forbidden(String),
    /// Something the request needs is switched off.
    #[error("{0}")]
    Unavailable(String),
    /// Docker has it, ferry (yet) does not.
    #[error("{0}")]
    NotSupported(String),
    /// Starting the user's program failed; wording and kind come from the shim.
    #[error(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: {message}"
    )]
    Launch {
        /// The runtime's message.
        message: String,
        /// Whether the user's command was at fault (HTTP 400), as opposed to the host.
        user_fault: bool,
    },
    /// The connection to a container's shim broke.
    #[error("container {container}: lost the connection to its shim: {reason}")]
    ShimLost {
        /// Which container.
        container: String,
        /// What broke.
        reason: String,
    },
    /// A file of the engine could not be read, written or understood.
    #[error("{action} {path}: {source}")]
    File {
        /// What was tried, e.g. `read`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The image store failed.
    #[error(transparent)]
    Image(#[from] ferry_image::ImageError),
    /// Copying files in or out of a container failed.
    #[error(transparent)]
    Copy(#[from] ferry_image::copy::CopyError),
    /// The image is for another platform than was asked for.
    #[error(
        "image with reference {image} was found but its platform ({own}) does not match the specified platform ({wanted})"
    )]
    OtherPlatform {
        /// As it was named.
        image: String,
        /// Its platform.
        own: String,
        /// What was asked for.
        wanted: String,
    },
    /// The network failed.
    #[error("{0}")]
    Network(#[from] ferry_network::NetworkError),
    /// A pull failed.
    #[error(transparent)]
    Pull(#[from] crate::pull::PullError),
    /// The runtime library failed (cgroup reads, resource updates).
    #[error(transparent)]
    Runtime(#[from] ferry_runtime::Error),
    /// The engine is stopping.
    #[error("the engine is shutting down")]
    ShuttingDown,
    /// A broken invariant or a failure of the host that fits nowhere else.
    #[error("{0}")]
    System(String),
}

/// Result of engine operations.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

impl EngineError {
    /// A shim's refusal of a request about a container.
    pub(crate) fn from_shim(container: &ferry_types::ContainerId, error: ShimError) -> Self {
        match error.kind {
            ShimErrorKind::State => Self::Conflict(error.message),
            ShimErrorKind::Invalid | ShimErrorKind::CommandNotFound | ShimErrorKind::CommandNotExecutable => {
                Self::InvalidParameter(error.message)
            }
            ShimErrorKind::System | ShimErrorKind::Log => {
                Self::ShimLost { container: container.to_string(), reason: error.message }
            }
        }
    }

    /// A shim's report that a container could not be started; other runtimes than ferry's own say themselves who they are.
    pub(crate) fn from_launch(error: ShimError, own_runtime: bool) -> Self {
        let user_fault = error.kind != ShimErrorKind::System;
        if error.kind == ShimErrorKind::Log {
            return Self::from_log_driver(error.message);
        }
        let message = match own_runtime {
            true => format!("ferry-runtime: unable to start container process: {}", error.message),
            false => error.message,
        };
        Self::Launch { message, user_fault }
    }

    /// A log driver that cannot work; the words are the driver's.
    pub(crate) fn from_log_driver(reason: String) -> Self {
        Self::System(format!(
            "failed to create task for container: failed to initialize logging driver: {reason}"
        ))
    }

    /// A shim's report that an exec could not be started.
    pub(crate) fn from_exec(error: ShimError, own_runtime: bool) -> Self {
        let who = if own_runtime { "exec failed: unable to start container process: " } else { "" };
        let message = format!("OCI runtime exec failed: {who}{}", error.message);
        match error.kind {
            ShimErrorKind::State => Self::Conflict(error.message),
            ShimErrorKind::CommandNotFound | ShimErrorKind::CommandNotExecutable | ShimErrorKind::Invalid => {
                Self::InvalidParameter(message)
            }
            ShimErrorKind::System | ShimErrorKind::Log => Self::System(message),
        }
    }
}

impl Classify for EngineError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchContainer(_)
            | Self::NoSuchExec(_)
            | Self::NoSuchVolume(_)
            | Self::NoSuchVolumeDriver { .. }
            | Self::NoSuchNetwork(_)
            | Self::OtherPlatform { .. }
            | Self::NoSuchPath { .. } => ErrorKind::NotFound,
            Self::AmbiguousId(_) | Self::InvalidParameter(_) => ErrorKind::InvalidParameter,
            Self::NameInUse { .. } | Self::Conflict(_) => ErrorKind::Conflict,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Forbidden(_) => ErrorKind::Forbidden,
            Self::Unavailable(_) => ErrorKind::Unavailable,
            Self::NotModified(_) => ErrorKind::NotModified,
            Self::NotSupported(_) => ErrorKind::NotImplemented,
            Self::Launch { user_fault: true, .. } => ErrorKind::InvalidParameter,
            Self::Launch { user_fault: false, .. }
            | Self::ShimLost { .. }
            | Self::File { .. }
            | Self::System(_) => ErrorKind::System,
            Self::Image(e) => e.kind(),
            Self::Copy(e) => e.kind(),
            Self::Network(e) => e.kind(),
            Self::Pull(e) => e.kind(),
            Self::Runtime(e) => e.kind(),
            Self::ShuttingDown => ErrorKind::Unavailable,
        }
    }
}
