//! Tar writer: ustar headers, with PAX records only where ustar has no room, so that equal trees give
//! equal bytes.

use std::io::{self, Write};

use super::BLOCK;
use super::header::{Entry, Kind};

/// Writes one archive.
#[derive(Debug)]
pub struct TarWriter<W> {
    out: W,
    padding: usize,
}

impl<W: Write> TarWriter<W> {
    /// An empty archive into `out`.
    pub fn new(out: W) -> Self {
        Self { out, padding: 0 }
    }

    /// Writes a member's headers; exactly `entry.size` bytes of data have to follow through
    /// [`Self::data`].
    ///
    /// # Errors
    /// When the output fails.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.pad()?;
        let mut pax = Vec::new();
        let (prefix, name) = split_path(&entry.path).unwrap_or_else(|| {
            record(&mut pax, "path", &entry.path);
            (&[], &entry.path[..entry.path.len().min(100)])
        });
        let link = &entry.link[..entry.link.len().min(100)];
        if link.len() < entry.link.len() {
            record(&mut pax, "linkpath", &entry.link);
        }
        let size = self.number(&mut pax, "size", entry.size, 11);
        let uid = self.number(&mut pax, "uid", u64::from(entry.uid), 7);
        let gid = self.number(&mut pax, "gid", u64::from(entry.gid), 7);
        // Whole seconds, as Docker writes layers.
        let seconds = u64::try_from(entry.mtime.0).ok().filter(|s| *s < 1 << 33);
        if seconds.is_none() {
            record(&mut pax, "mtime", entry.mtime.0.to_string().as_bytes());
        }
        let mut xattrs: Vec<_> = entry.xattrs.iter().collect();
        xattrs.sort();
        for (name, value) in xattrs {
            record(&mut pax, &format!("SCHILY.xattr.{name}"), value);
        }
        if !pax.is_empty() {
            let mut header = blank(b"PaxHeaders.0/x", b'x');
            octal(&mut header[124..136], pax.len() as u64);
            octal(&mut header[100..108], 0o644);
            self.block(header)?;
            self.out.write_all(&pax)?;
            self.padding = pax.len().next_multiple_of(BLOCK) - pax.len();
            self.pad()?;
        }
        let mut header = blank(name, type_flag(entry.kind));
        header[345..345 + prefix.len()].copy_from_slice(prefix);
        header[157..157 + link.len()].copy_from_slice(link);
        octal(&mut header[100..108], u64::from(entry.mode));
        octal(&mut header[108..116], uid);
        octal(&mut header[116..124], gid);
        octal(&mut header[124..136], size);
        octal(&mut header[136..148], seconds.unwrap_or(0));
        octal(&mut header[329..337], u64::from(entry.device.0));
        octal(&mut header[337..345], u64::from(entry.device.1));
        self.block(header)?;
        let tail = entry.size % BLOCK as u64;
        self.padding = if tail == 0 { 0 } else { BLOCK - usize::try_from(tail).unwrap_or(0) };
        Ok(())
    }

    /// Data of the current member.
    ///
    /// # Errors
    /// When the output fails.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Writes the end marker and gives the output back.
    ///
    /// # Errors
    /// When the output fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.pad()?;
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn pad(&mut self) -> io::Result<()> {
        let padding = std::mem::take(&mut self.padding);
        self.out.write_all(&[0; BLOCK][..padding])
    }

    /// The value for an octal field of `digits`; too large a one goes into a record instead.
    fn number(&self, pax: &mut Vec<u8>, key: &str, value: u64, digits: u32) -> u64 {
        if value >> (3 * digits) == 0 {
            return value;
        }
        record(pax, key, value.to_string().as_bytes());
        0
    }

    fn block(&mut self, mut header: [u8; BLOCK]) -> io::Result<()> {
        header[148..156].fill(b' ');
        let sum: u64 = header.iter().map(|b| u64::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.out.write_all(&header)
    }
}

fn type_flag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::Char => b'3',
        Kind::Block => b'4',
        Kind::Dir => b'5',
        Kind::Fifo => b'6',
    }
}

fn blank(name: &[u8], flag: u8) -> [u8; BLOCK] {
    let mut header = [0_u8; BLOCK];
    header[..name.len()].copy_from_slice(name);
    for range in [100..108, 108..116, 116..124, 124..136, 136..148, 329..337, 337..345] {
        octal(&mut header[range], 0);
    }
    header[156] = flag;
    header[257..265].copy_from_slice(b"ustar\x0000");
    header
}

fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}");
    field[..digits].copy_from_slice(&text.as_bytes()[text.len() - digits..]);
}

/// Prefix and name of a path that fits the ustar fields.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((&[], path));
    }
    let cut = path
        .iter()
        .enumerate()
        .filter(|(i, b)| **b == b'/' && *i > 0 && *i <= 155 && *i + 1 < path.len())
        .map(|(i, _)| i)
        .rfind(|i| path.len() - i - 1 <= 100)?;
    Some((&path[..cut], &path[cut + 1..]))
}

/// `length key=value\n`, where length counts its own digits.
fn record(pax: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    pax.extend_from_slice(format!("{length} {key}=").as_bytes());
    pax.extend_from_slice(value);
    pax.push(b'\n');
}
