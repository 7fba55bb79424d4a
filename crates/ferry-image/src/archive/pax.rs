//! PAX extended headers (POSIX `pax`, "pax Header Block"; GNU tar's sparse keys).

use super::header::Sparse;

/// The records of one extended header that matter to a file system. `None` means "not given".
#[derive(Debug, Clone, Default)]
pub(super) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(String, Vec<u8>)>,
    pub sparse: PaxSparse,
}

/// GNU tar's three ways to write a sparse map.
#[derive(Debug, Clone, Default)]
pub(super) struct PaxSparse {
    /// 1.0: the map stands at the start of the data.
    pub in_data: bool,
    pub name: Option<Vec<u8>>,
    pub size: Option<u64>,
    /// 0.0 and 0.1: the map stands in the header.
    pub pieces: Vec<(u64, u64)>,
    major: Option<u64>,
    pending_offset: Option<u64>,
}

impl PaxSparse {
    /// The map, when the header has it in full.
    pub fn map(&self) -> Option<Sparse> {
        let size = self.size?;
        (!self.in_data).then(|| Sparse { size, pieces: self.pieces.clone() })
    }
}

/// Parses `length key=value\n` records; `None` when malformed.
pub(super) fn parse(mut data: &[u8]) -> Option<Pax> {
    let mut pax = Pax::default();
    while !data.is_empty() {
        // Some writers pad the data with NULs.
        if data.iter().all(|b| *b == 0) {
            break;
        }
        let space = data.iter().position(|b| *b == b' ')?;
        let length = usize::try_from(decimal(&data[..space])?).ok()?;
        let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|b| *b == b'=')?;
        pax.set(&record[..equals], &record[equals + 1..])?;
        data = &data[length..];
    }
    pax.sparse.in_data = pax.sparse.major == Some(1);
    Some(pax)
}

impl Pax {
    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link = text(value)?,
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(u32::try_from(decimal(value)?).ok()?),
            b"gid" => self.gid = Some(u32::try_from(decimal(value)?).ok()?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"GNU.sparse.major" => self.sparse.major = Some(decimal(value)?),
            b"GNU.sparse.name" => self.sparse.name = text(value)?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = Some(decimal(value)?),
            b"GNU.sparse.offset" => self.sparse.pending_offset = Some(decimal(value)?),
            b"GNU.sparse.numbytes" => {
                let offset = self.sparse.pending_offset.take()?;
                self.sparse.pieces.push((offset, decimal(value)?));
            }
            b"GNU.sparse.map" => {
                let numbers = value.split(|b| *b == b',').map(decimal).collect::<Option<Vec<_>>>()?;
                let (pairs, rest) = numbers.as_chunks::<2>();
                if !rest.is_empty() {
                    return None;
                }
                self.sparse.pieces = pairs.iter().map(|[offset, length]| (*offset, *length)).collect();
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    let name = String::from_utf8(name.to_vec()).ok()?;
                    self.xattrs.retain(|(n, _)| *n != name);
                    self.xattrs.push((name, value.to_vec()));
                }
            }
        }
        Some(())
    }

    /// These records over the global ones in force. A global header says nothing about one member's
    /// name or size, so those of it are not used.
    pub fn over(mut self, global: &Self) -> Self {
        self.uid = self.uid.or(global.uid);
        self.gid = self.gid.or(global.gid);
        self.mtime = self.mtime.or(global.mtime);
        for (name, value) in &global.xattrs {
            if !self.xattrs.iter().any(|(n, _)| n == name) {
                self.xattrs.push((name.clone(), value.clone()));
            }
        }
        self
    }
}

/// An empty value withdraws the record.
fn text(value: &[u8]) -> Option<Option<Vec<u8>>> {
    (!value.contains(&0)).then(|| (!value.is_empty()).then(|| value.to_vec()))
}

/// A decimal number, as sparse maps and records have them.
pub(super) fn decimal(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    if digits { std::str::from_utf8(value).ok()?.parse().ok() } else { None }
}

/// `[-]seconds[.fraction]`; digits beyond nanoseconds are cut off.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = &fraction[..fraction.len().min(9)];
    let nanos = if digits.is_empty() { 0 } else { format!("{digits:0<9}").parse::<u32>().ok()? };
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let pax = parse(b"30 mtime=1350244992.023960108\n13 path=abcd\n").unwrap();
        assert_eq!(pax.mtime, Some((1_350_244_992, 23_960_108)));
        assert_eq!(pax.path.unwrap(), b"abcd");
        for bad in ["5 a=b", "99 a=b\n", "x a=b\n", "5 ab\n\n", "0 a=b\n", " a=b\n", "11 size=-1\n"] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn times_before_the_epoch() {
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-0.5"), Some((-1, 500_000_000)));
        assert_eq!(time(b"7"), Some((7, 0)));
        assert_eq!(time(b"7.x"), None);
    }
}
