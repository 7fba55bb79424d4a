//! Tar archives and their compression: a streaming reader that keeps every byte accounted for, a
//! writer, and the detection of compressed input. Nothing here touches the file system.

pub mod compression;
pub mod header;
pub mod pax;
pub mod reader;
pub mod writer;

pub use header::{Entry, Kind};
pub use reader::{RawSink, TarReader};
pub use writer::TarWriter;

use std::io;

use ferry_types::{Classify, ErrorKind};

/// Size of a tar block, bytes.
pub const BLOCK: usize = 512;

/// Why a tar archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The input ends before the archive does.
    #[error("unexpected EOF: archive is truncated at byte {0}")]
    Truncated(u64),
    /// A header's checksum is wrong: not a tar archive, or a damaged one.
    #[error("invalid tar header at byte {0}")]
    Checksum(u64),
    /// A field of a header is no number, or one out of range.
    #[error("invalid tar header of {member:?}: bad {field}")]
    Field {
        /// Name of the member, as far as it is known.
        member: String,
        /// Which field.
        field: &'static str,
    },
    /// A PAX extended header is malformed.
    #[error("invalid PAX header at byte {0}")]
    Pax(u64),
    /// A long name or extended header is larger than any sane one.
    #[error("tar header at byte {offset} announces {size} bytes of metadata, at most {limit} are accepted")]
    MetadataTooLarge {
        /// Where.
        offset: u64,
        /// Announced.
        size: u64,
        /// Accepted.
        limit: u64,
    },
    /// A member of a type that is not a file-system object.
    #[error("unsupported tar member type {kind:?} of {member:?}")]
    Type {
        /// Name of the member.
        member: String,
        /// The type flag.
        kind: char,
    },
    /// The map of a sparse member contradicts itself.
    #[error("invalid sparse map of {0:?}")]
    Sparse(String),
    /// The input could not be read or decompressed.
    #[error("read archive: {0}")]
    Read(#[source] io::Error),
    /// The record kept of the archive could not be written.
    #[error("record archive: {0}")]
    Record(#[source] io::Error),
}

impl Classify for TarError {
    fn kind(&self) -> ErrorKind {
        match self {
            // An archive that ends early may be the fault of either side; Docker answers as for its own.
            Self::Read(_) | Self::Record(_) | Self::Truncated(_) => ErrorKind::System,
            _ => ErrorKind::InvalidParameter,
        }
    }
}
