//! Vocabulary of ferry: ids, names, digests, image references and the error kinds every crate
//! maps its errors to. Plain data only: no I/O, no async, nothing platform-specific.

#![forbid(unsafe_code)]

pub mod digest;
pub mod error;
pub mod id;
pub mod image_ref;
pub mod name;
pub mod net;
pub mod platform;
pub mod rootfs;
pub mod runtime;

pub use digest::{Digest, DigestError};
pub use error::{Classify, ErrorKind, errno_in_gos_words};
pub use id::{ContainerId, EndpointId, ExecId, IdError, NetworkId};
pub use image_ref::{ImageRef, ImageRefError};
pub use name::{ContainerName, NameError};
pub use platform::{Platform, PlatformError};
pub use rootfs::Overlay;
pub use runtime::RuntimeProgram;
