//! The recipe of a layer: what, besides the unpacked files, is needed to rebuild the layer's tar.
//!
//! A layer's identity is the digest of its tar, but two tars of one tree differ in a hundred ways
//! (order, header dialect, padding). Keeping the tar would double the disk space; instead the recipe
//! keeps all bytes that are not file data (they compress to about a hundredth) and, for data, which
//! piece of which file to insert. Everything is verified against the diff id when rebuilt.
//!
//! `recipe` is one zstd stream of records, numbers as LEB128:
//! ```text
//! 0                          end
//! 1 length bytes…            literal bytes
//! 2 file offset length       data of a file
//! ```
//! `files` is one zstd stream of NUL-terminated paths relative to the layer's directory; a file's
//! number is its position.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::LayerError;
use super::confined::Confined;
use crate::archive::RawSink;

const END: u8 = 0;
const LITERAL: u8 = 1;
const DATA: u8 = 2;
/// Headers and padding compress well even at the fastest level.
const LEVEL: i32 = 1;
/// Literals are collected up to this many bytes.
const LITERAL_MAX: usize = 64 * 1024;

/// Name of the record stream within a layer's directory.
pub const RECIPE: &str = "recipe";
/// Name of the file table.
pub const FILES: &str = "files";

/// Records a layer while it is unpacked.
pub struct RecipeWriter {
    out: zstd::stream::write::Encoder<'static, BufWriter<File>>,
    literal: Vec<u8>,
}

impl std::fmt::Debug for RecipeWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecipeWriter").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Recipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recipe").field("path", &self.path).finish_non_exhaustive()
    }
}

impl RecipeWriter {
    /// Starts the recipe of the layer in `dir`.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(dir: &Path) -> io::Result<Self> {
        let file = File::create_new(dir.join(RECIPE))?;
        let out = zstd::stream::write::Encoder::new(BufWriter::new(file), LEVEL)?;
        Ok(Self { out, literal: Vec::with_capacity(LITERAL_MAX) })
    }

    /// The next `length` bytes of the tar are bytes of a file.
    ///
    /// # Errors
    /// When writing fails.
    pub fn data(&mut self, file: u64, offset: u64, length: u64) -> io::Result<()> {
        self.flush_literal()?;
        self.out.write_all(&[DATA])?;
        for n in [file, offset, length] {
            leb128(&mut self.out, n)?;
        }
        Ok(())
    }

    fn flush_literal(&mut self) -> io::Result<()> {
        if self.literal.is_empty() {
            return Ok(());
        }
        self.out.write_all(&[LITERAL])?;
        leb128(&mut self.out, self.literal.len() as u64)?;
        self.out.write_all(&self.literal)?;
        self.literal.clear();
        Ok(())
    }

    /// Ends the recipe and writes the file table.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish<'a>(mut self, dir: &Path, files: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
        self.flush_literal()?;
        self.out.write_all(&[END])?;
        self.out.finish()?.flush()?;
        let table = File::create_new(dir.join(FILES))?;
        let mut table = zstd::stream::write::Encoder::new(BufWriter::new(table), LEVEL)?;
        for path in files {
            table.write_all(path)?;
            table.write_all(&[0])?;
        }
        table.finish()?.flush()
    }
}

impl RawSink for RecipeWriter {
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.literal.len() + bytes.len() > LITERAL_MAX {
            self.flush_literal()?;
        }
        if bytes.len() < LITERAL_MAX {
            self.literal.extend_from_slice(bytes);
            return Ok(());
        }
        self.out.write_all(&[LITERAL])?;
        leb128(&mut self.out, bytes.len() as u64)?;
        self.out.write_all(bytes)
    }
}

/// A layer's recipe, opened for rebuilding.
pub struct Recipe {
    path: PathBuf,
    records: BufReader<zstd::stream::read::Decoder<'static, BufReader<File>>>,
    files: Vec<Vec<u8>>,
    layer: Confined,
}

impl Recipe {
    /// Opens the recipe of the layer in `dir`.
    ///
    /// # Errors
    /// When it is not there or damaged.
    pub fn open(dir: &Path) -> Result<Self, LayerError> {
        let path = dir.join(RECIPE);
        let open = |path: &Path| File::open(path).and_then(zstd::stream::read::Decoder::new);
        let records = open(&path).map_err(LayerError::io("open layer recipe", &path))?;
        let table = dir.join(FILES);
        let mut text = Vec::new();
        open(&table)
            .and_then(|mut t| t.read_to_end(&mut text))
            .map_err(LayerError::io("read layer file table", &table))?;
        let mut files: Vec<Vec<u8>> = text.split(|b| *b == 0).map(<[u8]>::to_vec).collect();
        files.pop();
        let layer = Confined::open(dir).map_err(LayerError::io("open layer", dir))?;
        Ok(Self { path, records: BufReader::with_capacity(LITERAL_MAX, records), files, layer })
    }

    /// Writes the layer's tar. The caller verifies what comes out.
    ///
    /// # Errors
    /// When the recipe or a file of the layer cannot be read, or `out` fails.
    pub fn rebuild(mut self, out: &mut dyn Write) -> Result<(), LayerError> {
        let mut buffer = vec![0_u8; 256 * 1024];
        // Members in pieces (sparse files) name one file many times in a row.
        let mut open: Option<(u64, File)> = None;
        loop {
            let mut tag = [0_u8];
            self.exact(&mut tag)?;
            match tag[0] {
                END => return Ok(()),
                LITERAL => {
                    let mut left = self.number()?;
                    while left > 0 {
                        let n = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                        let mut piece = std::mem::take(&mut buffer);
                        let read = self.exact(&mut piece[..n]);
                        buffer = piece;
                        read?;
                        out.write_all(&buffer[..n]).map_err(LayerError::Write)?;
                        left -= n as u64;
                    }
                }
                DATA => {
                    let (number, offset, length) = (self.number()?, self.number()?, self.number()?);
                    if open.as_ref().is_none_or(|(n, _)| *n != number) {
                        open = Some((number, self.file(number)?));
                    }
                    if let Some((_, file)) = &open {
                        self.copy(file, number, offset, length, &mut buffer, out)?;
                    }
                }
                _ => return Err(self.damaged("unknown record")),
            }
        }
    }

    /// Goes through the recipe without reading files: whether it is whole, and every file is there and long
    /// enough.
    ///
    /// # Errors
    /// What is missing.
    pub fn skim(mut self) -> Result<(), LayerError> {
        let mut open: Option<(u64, u64)> = None;
        loop {
            let mut tag = [0_u8];
            self.exact(&mut tag)?;
            match tag[0] {
                END => return Ok(()),
                LITERAL => {
                    let length = self.number()?;
                    let skipped = io::copy(&mut (&mut self.records).take(length), &mut io::sink());
                    match skipped.map_err(LayerError::io("read layer recipe", &self.path))? {
                        n if n < length => return Err(self.damaged("cut off")),
                        _ => {}
                    }
                }
                DATA => {
                    let (number, offset, length) = (self.number()?, self.number()?, self.number()?);
                    let size = match open {
                        Some((n, size)) if n == number => size,
                        _ => self.size(number)?,
                    };
                    open = Some((number, size));
                    if offset.checked_add(length).is_none_or(|end| end > size) {
                        return Err(self.damaged("a file of the layer is shorter than it was"));
                    }
                }
                _ => return Err(self.damaged("unknown record")),
            }
        }
    }

    fn size(&self, number: u64) -> Result<u64, LayerError> {
        let file = self.file(number)?;
        Ok(file.metadata().map_err(LayerError::io("measure layer file", &self.path))?.len())
    }

    fn file(&self, number: u64) -> Result<File, LayerError> {
        let path = usize::try_from(number)
            .ok()
            .and_then(|n| self.files.get(n))
            .ok_or_else(|| self.damaged("unknown file number"))?;
        let flags = OFlags::RDONLY | OFlags::NOATIME;
        let fd = self
            .layer
            .open_strict(path, flags)
            .map_err(LayerError::io("open layer file", String::from_utf8_lossy(path).into_owned()))?;
        Ok(fd.into())
    }

    fn copy(
        &self,
        file: &File,
        number: u64,
        mut offset: u64,
        mut left: u64,
        buffer: &mut [u8],
        out: &mut dyn Write,
    ) -> Result<(), LayerError> {
        while left > 0 {
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let name = || {
                let path = usize::try_from(number).ok().and_then(|n| self.files.get(n));
                String::from_utf8_lossy(path.map_or(&[][..], Vec::as_slice)).into_owned()
            };
            file.read_exact_at(&mut buffer[..n], offset).map_err(|source| LayerError::Io {
                what: "read layer file",
                path: name().into(),
                source,
            })?;
            out.write_all(&buffer[..n]).map_err(LayerError::Write)?;
            offset += n as u64;
            left -= n as u64;
        }
        Ok(())
    }

    fn exact(&mut self, buffer: &mut [u8]) -> Result<(), LayerError> {
        self.records.read_exact(buffer).map_err(LayerError::io("read layer recipe", &self.path))
    }

    fn number(&mut self) -> Result<u64, LayerError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0_u8];
            self.exact(&mut byte)?;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.damaged("number too long"))
    }

    fn damaged(&self, reason: &'static str) -> LayerError {
        LayerError::Recipe { path: self.path.clone(), reason }
    }
}

fn leb128(out: &mut impl Write, mut value: u64) -> io::Result<()> {
    let mut bytes = [0_u8; 10];
    let mut n = 0;
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        bytes[n] = if value == 0 { low } else { low | 0x80 };
        n += 1;
        if value == 0 {
            return out.write_all(&bytes[..n]);
        }
    }
}
