//! One 512-byte tar header: POSIX ustar, GNU and the old V7 layout (`tar(5)`).

use super::{BLOCK, TarError};

/// What a member is in a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Regular file.
    File,
    /// Another name of an earlier member.
    HardLink,
    /// Symbolic link.
    Symlink,
    /// Character device.
    Char,
    /// Block device.
    Block,
    /// Directory.
    Dir,
    /// Named pipe.
    Fifo,
}

/// A file-system object as an archive describes it, all extensions resolved.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Path as in the archive, not normalized.
    pub path: Vec<u8>,
    /// Link target of hard and symbolic links.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits including setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds and nanoseconds since the epoch.
    pub mtime: (i64, u32),
    /// Bytes of data in the archive.
    pub size: u64,
    /// Device number of devices.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(String, Vec<u8>)>,
    /// Of a sparse file: its full size and where its data goes (offset, length), ascending.
    pub sparse: Option<Sparse>,
}

/// Offset and length of each piece of data of a sparse file.
pub type Pieces = Vec<(u64, u64)>;

/// Data map of a sparse file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sparse {
    /// Size of the file, bytes.
    pub size: u64,
    /// Offset and length of each piece of data.
    pub pieces: Pieces,
}

impl Entry {
    /// The path for messages.
    pub fn shown(&self) -> String {
        const LONGEST: usize = 1024;
        match self.path.get(..LONGEST) {
            Some(start) => format!("{}…", String::from_utf8_lossy(start)),
            None => String::from_utf8_lossy(&self.path).into_owned(),
        }
    }

    /// Size of the file once unpacked.
    pub fn file_size(&self) -> u64 {
        self.sparse.as_ref().map_or(self.size, |s| s.size)
    }
}

/// A header block with a valid checksum.
pub(super) struct Header<'a>(pub &'a [u8; BLOCK]);

impl<'a> Header<'a> {
    /// Checks the sum: of unsigned bytes, or of signed ones as some old implementations did.
    pub fn checked(block: &'a [u8; BLOCK], offset: u64) -> Result<Self, TarError> {
        let announced = number(&block[148..156]).ok_or(TarError::Checksum(offset))?;
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (i, byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&i) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        if announced == unsigned || announced == signed {
            Ok(Self(block))
        } else {
            Err(TarError::Checksum(offset))
        }
    }

    pub fn type_flag(&self) -> u8 {
        self.0[156]
    }

    fn is_ustar(&self) -> bool {
        &self.0[257..263] == b"ustar\0"
    }

    pub fn is_gnu(&self) -> bool {
        &self.0[257..265] == b"ustar  \0"
    }

    pub fn path(&self) -> Vec<u8> {
        let name = until_nul(&self.0[..100]);
        let prefix = until_nul(&self.0[345..500]);
        if !self.is_ustar() || prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub fn link(&self) -> Vec<u8> {
        until_nul(&self.0[157..257]).to_vec()
    }

    pub fn field(&self, which: &'static str) -> Result<u64, TarError> {
        let range = match which {
            "mode" => 100..108,
            "uid" => 108..116,
            "gid" => 116..124,
            "size" => 124..136,
            "devmajor" => 329..337,
            _ => 337..345,
        };
        let bad =
            || TarError::Field { member: String::from_utf8_lossy(&self.path()).into_owned(), field: which };
        number(&self.0[range]).and_then(|n| u64::try_from(n).ok()).ok_or_else(bad)
    }

    /// Modification time; may lie before the epoch.
    pub fn mtime(&self) -> Result<i64, TarError> {
        number(&self.0[136..148]).ok_or_else(|| TarError::Field {
            member: String::from_utf8_lossy(&self.path()).into_owned(),
            field: "mtime",
        })
    }

    pub fn device(&self) -> Result<(u32, u32), TarError> {
        let narrow = |n: u64, field| {
            u32::try_from(n).map_err(|_| TarError::Field {
                member: String::from_utf8_lossy(&self.path()).into_owned(),
                field,
            })
        };
        Ok((narrow(self.field("devmajor")?, "devmajor")?, narrow(self.field("devminor")?, "devminor")?))
    }

    /// The part of a GNU sparse map that the header itself holds: pieces, whether more blocks of the
    /// map follow, and the file's full size.
    pub fn gnu_sparse(&self) -> Option<(Pieces, bool, u64)> {
        let size = u64::try_from(number(&self.0[483..495])?).ok()?;
        Some((sparse_pieces(&self.0[386..482])?, self.0[482] != 0, size))
    }
}

/// Pieces of one GNU sparse map array: 24 bytes each, ended by an empty field.
pub(super) fn sparse_pieces(bytes: &[u8]) -> Option<Pieces> {
    let mut pieces = Vec::new();
    for piece in bytes.chunks_exact(24) {
        if piece[0] == 0 {
            break;
        }
        let offset = u64::try_from(number(&piece[..12])?).ok()?;
        pieces.push((offset, u64::try_from(number(&piece[12..])?).ok()?));
    }
    Some(pieces)
}

pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

/// A numeric field: octal digits among spaces and NULs (empty is 0), or, with the top bit set,
/// a big-endian two's complement number (GNU).
fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (i, byte) in field.iter().enumerate() {
            // The top bit of the first byte is the mark, not part of the number.
            let byte = if i == 0 && !negative { byte & 0x7f } else { *byte };
            value = (value << 8) | i128::from(byte);
        }
        return i64::try_from(value).ok();
    }
    let text = until_nul(field).trim_ascii();
    text.iter().try_fold(0_i64, |n, b| match b {
        b'0'..=b'7' => n.checked_mul(8)?.checked_add(i64::from(b - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(&[0; 8]), Some(0));
        assert_eq!(number(b"12x\0"), None);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(&[0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0]), None);
    }
}
