//! Files in and out of a directory tree that somebody hostile may be changing meanwhile: a container's root.
//!
//! Everything is relative to a descriptor of the tree's root, and every path is resolved by the kernel with openat2(2) as
//! if that descriptor were `/`: no symbolic link, `..` or magic link leads outside, whatever is swapped for what
//! while a copy is under way (the class of CVE-2018-15664). What is opened for its contents is first known to be a
//! regular file. Nothing of the tree is executed or loaded (the class of CVE-2019-14271).

pub mod extract;
pub mod lookup;
pub mod pack;

use std::io;

use ferry_types::{Classify, ErrorKind};

use crate::archive::TarError;
use crate::layer::LayerError;

pub use extract::{Extract, extract};
pub use lookup::{Stat, beneath, evaluate, is_directory, mount_point, normalize, stat};
pub use pack::pack;

/// Why something could not be copied. Texts as Docker's.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Symbolic links go round in circles.
    #[error("{what}: too many links{}", place.as_ref().map(|p| format!(" in {p}")).unwrap_or_default())]
    Links {
        /// What was being done.
        what: &'static str,
        /// With which path.
        place: Option<String>,
    },
    /// A file operation failed.
    #[error("{what} {path}: {}", reason(source))]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path, as seen in the tree.
        path: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The archive shall go to something else than a directory.
    #[error("extraction point is not a directory")]
    NotDirectory,
    /// A member's name leads out of the destination.
    #[error("invalid entry name {0:?}")]
    EntryName(String),
    /// A hard link's target is outside of the destination.
    #[error("invalid hardlink target {0:?}")]
    HardLink(String),
    /// A file would take a directory's place.
    #[error("cannot overwrite directory {name:?} with non-directory {dir:?}")]
    FileOverDirectory {
        /// The member.
        name: String,
        /// The destination.
        dir: String,
    },
    /// A directory would take a file's place.
    #[error("cannot overwrite non-directory {name:?} with directory {dir:?}")]
    DirectoryOverFile {
        /// The member.
        name: String,
        /// The destination.
        dir: String,
    },
    /// The archive is malformed, or could not be read or decompressed.
    #[error("{}", tar_text(.0))]
    Tar(#[from] TarError),
    /// Reading the tree failed.
    #[error(transparent)]
    Tree(#[from] LayerError),
}

impl CopyError {
    pub(crate) fn io(what: &'static str, path: &[u8]) -> impl FnOnce(rustix::io::Errno) -> Self + use<> {
        let path = String::from_utf8_lossy(path).into_owned();
        move |e| Self::Io { what, path, source: e.into() }
    }

    /// Whether something named in the request or the archive does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl Classify for CopyError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotDirectory => ErrorKind::InvalidParameter,
            _ if self.is_not_found() => ErrorKind::NotFound,
            // Docker's answer to a bad archive, too.
            _ => ErrorKind::System,
        }
    }
}

/// What the kernel says, without Rust's `(os error 2)`.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map(|c| c.to_lowercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}

/// Bad archives in the words of the library Docker uses.
fn tar_text(error: &TarError) -> String {
    match error {
        TarError::Truncated(_) => "unexpected EOF".to_owned(),
        TarError::Checksum(_) | TarError::Field { .. } | TarError::Pax(_) | TarError::Sparse(_) => {
            "archive/tar: invalid tar header".to_owned()
        }
        TarError::Read(e) if e.kind() == io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
        other => other.to_string(),
    }
}
