//! Streaming tar reader. Every byte of the input is either handed out as member data or passed to a
//! [`RawSink`], so that the archive can be rebuilt exactly.

use std::io::{self, BufRead};

use super::header::{Header, Sparse, sparse_pieces, until_nul};
use super::pax::{self, Pax};
use super::{BLOCK, Entry, Kind, TarError};

/// Longest extended header or long name accepted, bytes (Go's limit).
const METADATA_MAX: u64 = 1 << 20;
/// Longest sparse map accepted, pieces.
const SPARSE_MAX: usize = 1 << 20;

/// Receives, in order, every byte that is not data handed out by [`TarReader::data`].
pub trait RawSink {
    /// Takes some bytes.
    ///
    /// # Errors
    /// When they cannot be kept; reading stops.
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// For readers that only want the members.
impl RawSink for () {
    fn raw(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Reads one archive from `source`.
#[derive(Debug)]
pub struct TarReader<R, S> {
    source: R,
    sink: S,
    /// Bytes taken from `source` so far.
    offset: u64,
    /// Data of the current member not yet handed out.
    remaining: u64,
    padding: u64,
    global: Pax,
    ended: bool,
}

impl<R: BufRead, S: RawSink> TarReader<R, S> {
    /// A reader at the start of an archive.
    pub fn new(source: R, sink: S) -> Self {
        Self { source, sink, offset: 0, remaining: 0, padding: 0, global: Pax::default(), ended: false }
    }

    /// The sink, to record what became of handed-out data.
    pub fn sink(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Gives the sink back.
    pub fn into_sink(self) -> S {
        self.sink
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the end-of-archive marker was seen.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The next member, skipping what is left of the current one. `None` at the end of the archive;
    /// an input that ends at a member's edge without the end marker also gives `None`, but then
    /// [`Self::ended`] is false.
    ///
    /// # Errors
    /// When the archive is malformed or truncated, or the input fails.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.finish_member()?;
        let mut pax: Option<Pax> = None;
        let (mut long_name, mut long_link) = (None, None);
        loop {
            let start = self.offset;
            let dangling = pax.is_some() || long_name.is_some() || long_link.is_some();
            let Some(block) = self.header_block(dangling)? else { return Ok(None) };
            let header = Header::checked(&block, start)?;
            match header.type_flag() {
                b'x' | b'X' => {
                    let data = self.metadata(header.field("size")?, start)?;
                    pax = Some(pax::parse(&data).ok_or(TarError::Pax(start))?);
                }
                b'g' => {
                    let data = self.metadata(header.field("size")?, start)?;
                    self.global = pax::parse(&data).ok_or(TarError::Pax(start))?.over(&self.global);
                }
                b'L' => long_name = Some(self.long_text(&header, start)?),
                b'K' => long_link = Some(self.long_text(&header, start)?),
                // A volume label describes the archive, not a file.
                b'V' => {
                    self.metadata(header.field("size")?, start)?;
                }
                _ => {
                    let pax = pax.unwrap_or_default().over(&self.global);
                    return self.member(&header, pax, long_name, long_link).map(Some);
                }
            }
        }
    }

    /// The next bytes of the current member's data, empty when there are no more. Call
    /// [`Self::consume`] for what was used.
    ///
    /// # Errors
    /// When the input fails or ends early.
    pub fn data(&mut self) -> Result<&[u8], TarError> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let offset = self.offset;
        let available = fill(&mut self.source)?;
        if available.is_empty() {
            return Err(TarError::Truncated(offset));
        }
        let limit = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(available.len());
        Ok(&available[..limit])
    }

    /// Marks `n` bytes of [`Self::data`] as used.
    pub fn consume(&mut self, n: usize) {
        self.source.consume(n);
        self.offset += n as u64;
        self.remaining = self.remaining.saturating_sub(n as u64);
    }

    /// Reads the current member's data into memory.
    ///
    /// # Errors
    /// When it is larger than `limit`, or the input fails.
    pub fn read_all(&mut self, limit: u64) -> Result<Vec<u8>, TarError> {
        if self.remaining > limit {
            return Err(TarError::MetadataTooLarge { offset: self.offset, size: self.remaining, limit });
        }
        let mut all = Vec::new();
        loop {
            let data = self.data()?;
            if data.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(data);
            let n = data.len();
            self.consume(n);
        }
    }

    fn finish_member(&mut self) -> Result<(), TarError> {
        self.pass_raw(self.remaining)?;
        self.remaining = 0;
        let padding = std::mem::take(&mut self.padding);
        self.pass_raw(padding)
    }

    fn pass_raw(&mut self, mut count: u64) -> Result<(), TarError> {
        while count > 0 {
            let available = fill(&mut self.source)?;
            if available.is_empty() {
                return Err(TarError::Truncated(self.offset));
            }
            let n = usize::try_from(count).unwrap_or(usize::MAX).min(available.len());
            self.sink.raw(&available[..n]).map_err(TarError::Record)?;
            self.source.consume(n);
            self.offset += n as u64;
            count -= n as u64;
        }
        Ok(())
    }

    fn raw_block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0_u8; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            let available = fill(&mut self.source)?;
            if available.is_empty() {
                if have == 0 {
                    return Ok(None);
                }
                return Err(TarError::Truncated(self.offset));
            }
            let n = available.len().min(BLOCK - have);
            block[have..have + n].copy_from_slice(&available[..n]);
            self.source.consume(n);
            self.offset += n as u64;
            have += n;
        }
        self.sink.raw(&block).map_err(TarError::Record)?;
        Ok(Some(block))
    }

    /// The next block that is a header; `None` at the end. `dangling` says that the previous header
    /// only makes sense with another one after it.
    fn header_block(&mut self, dangling: bool) -> Result<Option<[u8; BLOCK]>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let block = self.raw_block()?;
        match block {
            Some(block) if block.iter().any(|b| *b != 0) => return Ok(Some(block)),
            _ if dangling => return Err(TarError::Truncated(self.offset)),
            Some(_) => self.ended = true,
            None => return Ok(None),
        }
        // What follows the marker (a second zero block, blocking-factor padding) belongs to the
        // archive's bytes but has no meaning.
        loop {
            let available = fill(&mut self.source)?;
            if available.is_empty() {
                return Ok(None);
            }
            let n = available.len();
            self.sink.raw(available).map_err(TarError::Record)?;
            self.source.consume(n);
            self.offset += n as u64;
        }
    }

    fn metadata(&mut self, size: u64, offset: u64) -> Result<Vec<u8>, TarError> {
        if size > METADATA_MAX {
            return Err(TarError::MetadataTooLarge { offset, size, limit: METADATA_MAX });
        }
        let mut data = Vec::new();
        let blocks = size.div_ceil(BLOCK as u64);
        for _ in 0..blocks {
            let block = self.raw_block()?.ok_or(TarError::Truncated(self.offset))?;
            data.extend_from_slice(&block);
        }
        data.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(data)
    }

    fn long_text(&mut self, header: &Header<'_>, start: u64) -> Result<Vec<u8>, TarError> {
        let data = self.metadata(header.field("size")?, start)?;
        Ok(until_nul(&data).to_vec())
    }

    fn member(
        &mut self,
        header: &Header<'_>,
        pax: Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry, TarError> {
        let sparse_name = pax.sparse.name.clone();
        let path = sparse_name.or(pax.path.clone()).or(long_name).unwrap_or_else(|| header.path());
        let shown = || String::from_utf8_lossy(&path).into_owned();
        let bad = |field| TarError::Field { member: shown(), field };
        let flag = header.type_flag();
        let kind = match flag {
            // V7 marks directories by the name only.
            b'0' | 0 if path.ends_with(b"/") => Kind::Dir,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Char,
            b'4' => Kind::Block,
            b'5' => Kind::Dir,
            b'6' => Kind::Fifo,
            other => return Err(TarError::Type { member: shown(), kind: char::from(other) }),
        };
        let announced = match pax.size {
            Some(size) => size,
            None => header.field("size")?,
        };
        // Only files have data; other types may carry a size that means nothing.
        let size = if kind == Kind::File { announced } else { 0 };
        let narrow = |given: Option<u32>, field: &'static str| -> Result<u32, TarError> {
            let id = match given {
                Some(id) => id,
                None => u32::try_from(header.field(field)?).map_err(|_| bad(field))?,
            };
            // (uid_t) -1 means "leave it" to chown(2).
            if id == u32::MAX { Err(bad(field)) } else { Ok(id) }
        };
        let mode = u32::try_from(header.field("mode")? & 0o7777).map_err(|_| bad("mode"))?;
        let device = if matches!(kind, Kind::Char | Kind::Block) { header.device()? } else { (0, 0) };
        let mut entry = Entry {
            link: pax.link.clone().or(long_link).unwrap_or_else(|| header.link()),
            kind,
            mode,
            uid: narrow(pax.uid, "uid")?,
            gid: narrow(pax.gid, "gid")?,
            mtime: match pax.mtime {
                Some(time) => time,
                None => (header.mtime()?, 0),
            },
            size,
            device,
            xattrs: pax.xattrs,
            sparse: None,
            path: path.clone(),
        };
        self.remaining = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        entry.sparse = if flag == b'S' && header.is_gnu() {
            Some(self.gnu_sparse(header, &shown)?)
        } else if pax.sparse.in_data {
            Some(self.sparse_in_data(pax.sparse.size, &shown)?)
        } else {
            pax.sparse.map()
        };
        if let Some(sparse) = &entry.sparse {
            entry.size = self.remaining;
            check_sparse(sparse, entry.size).ok_or_else(|| TarError::Sparse(shown()))?;
        }
        Ok(entry)
    }

    fn gnu_sparse(&mut self, header: &Header<'_>, shown: &dyn Fn() -> String) -> Result<Sparse, TarError> {
        let bad = || TarError::Sparse(shown());
        let (mut pieces, mut more, size) = header.gnu_sparse().ok_or_else(bad)?;
        while more {
            let block = self.raw_block()?.ok_or(TarError::Truncated(self.offset))?;
            pieces.extend(sparse_pieces(&block[..504]).ok_or_else(bad)?);
            more = block[504] != 0;
            if pieces.len() > SPARSE_MAX {
                return Err(bad());
            }
        }
        Ok(Sparse { size, pieces })
    }

    /// The map of GNU's PAX 1.0 format: decimal lines at the start of the data, padded to a block.
    fn sparse_in_data(&mut self, size: Option<u64>, shown: &dyn Fn() -> String) -> Result<Sparse, TarError> {
        let bad = || TarError::Sparse(shown());
        let mut text: Vec<u8> = Vec::new();
        let mut numbers = Vec::new();
        loop {
            let complete =
                numbers.first().is_some_and(|count: &u64| numbers.len() as u64 > count.saturating_mul(2));
            if complete {
                break;
            }
            if let Some(end) = text.iter().position(|b| *b == b'\n') {
                numbers.push(pax::decimal(&text[..end]).ok_or_else(bad)?);
                text.drain(..=end);
                if numbers[0] > SPARSE_MAX as u64 {
                    return Err(bad());
                }
                continue;
            }
            if self.remaining < BLOCK as u64 || text.len() > BLOCK {
                return Err(bad());
            }
            let block = self.raw_block()?.ok_or(TarError::Truncated(self.offset))?;
            self.remaining -= BLOCK as u64;
            text.extend_from_slice(&block);
        }
        let (pairs, _) = numbers[1..].as_chunks::<2>();
        Ok(Sparse {
            size: size.ok_or_else(bad)?,
            pieces: pairs.iter().map(|[offset, length]| (*offset, *length)).collect(),
        })
    }
}

/// Pieces ascend without overlap, end within the file, and add up to the data.
fn check_sparse(sparse: &Sparse, data: u64) -> Option<()> {
    let (mut end, mut total) = (0_u64, 0_u64);
    for (offset, length) in &sparse.pieces {
        if *offset < end {
            return None;
        }
        end = offset.checked_add(*length)?;
        total += length;
    }
    (end <= sparse.size && total == data).then_some(())
}

fn fill<R: BufRead>(source: &mut R) -> Result<&[u8], TarError> {
    // The borrow checker does not accept returning the slice out of a retry loop.
    loop {
        match source.fill_buf() {
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(TarError::Read(e)),
        }
    }
    source.fill_buf().map_err(TarError::Read)
}

/// Whether data that starts like this is a tar: a valid header, or the end marker of an empty one.
pub fn looks_like_tar(start: &[u8]) -> bool {
    match start.first_chunk::<BLOCK>() {
        Some(block) => block.iter().all(|b| *b == 0) || Header::checked(block, 0).is_ok(),
        None => false,
    }
}
