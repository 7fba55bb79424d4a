//! Detection of compressed streams by their first bytes.

use std::io::{self, BufRead, Chain, Cursor, Read};

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, possibly several members.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// The .xz format.
    Xz,
    /// bzip2.
    Bzip2,
}

/// Bytes needed to recognize any of them.
pub const MAGIC_MAX: usize = 6;

impl Compression {
    /// Recognizes a stream by its first bytes.
    pub fn detect(start: &[u8]) -> Self {
        // Skippable zstd frames (pzstd, estargz-like tools) may come first: 0x184D2A5?, little endian.
        let skippable = start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == [0x2a, 0x4d, 0x18];
        if start.starts_with(&[0x1f, 0x8b, 0x08]) {
            Self::Gzip
        } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || skippable {
            Self::Zstd
        } else if start.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
            Self::Xz
        } else if start.starts_with(b"BZh") {
            Self::Bzip2
        } else {
            Self::None
        }
    }

    /// A reader of the uncompressed bytes of `source`.
    ///
    /// # Errors
    /// When a decoder cannot be set up.
    pub fn decoder<'a, R: BufRead + 'a>(self, source: R) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::None => Box::new(source),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
                // Up to 2 GiB windows exist (zstd --ultra --long=31); the library's default refuses them,
                // 128 MiB is what registries' clients accept.
                decoder.window_log_max(27)?;
                Box::new(decoder)
            }
            Self::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(source)),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        })
    }
}

/// A stream with its first bytes put back in front.
pub type Peeked<R> = Chain<Cursor<Vec<u8>>, R>;

/// Reads up to [`MAGIC_MAX`] bytes and gives them back in front of the rest.
///
/// # Errors
/// When the source fails.
pub fn peek<R: Read>(mut source: R) -> io::Result<(Compression, Peeked<R>)> {
    let mut start = vec![0_u8; MAGIC_MAX];
    let mut have = 0;
    while have < MAGIC_MAX {
        match source.read(&mut start[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    start.truncate(have);
    Ok((Compression::detect(&start), Cursor::new(start).chain(source)))
}
