//! A container's log files: the current one, the rotated ones before it, some of them compressed.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use ferry_shim_proto::log::LogFormat;
use flate2::read::GzDecoder;
use rustix::fs::{Mode, OFlags};

use super::record::ends_line;
use super::{Formatter, Step};

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

/// What [`LogFiles::read`] stopped at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadOutcome {
    /// The limit; call again.
    More,
    /// The present end of the log.
    AtEnd,
    /// A record after `until`.
    PastEnd,
}

/// One file of a log.
struct Part {
    /// As it is on disk.
    file: File,
    packed: bool,
    /// Device and inode of the file when it was written to; a compressed one remembers.
    id: (u64, u64),
    /// A compressed file's contents, in a file without a name, while it is being read.
    unpacked: Option<File>,
}

impl Part {
    fn plain(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { file, packed: false, id: (metadata.dev(), metadata.ino()), unpacked: None })
    }

    fn packed(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let inode = GzDecoder::new(&file).header().and_then(|h| inode_of(h.comment()?));
        let id = (metadata.dev(), inode.unwrap_or(metadata.ino()));
        Ok(Self { file, packed: true, id, unpacked: None })
    }

    /// The file to read from.
    fn contents(&mut self, directory: &Path) -> io::Result<&File> {
        if !self.packed {
            return Ok(&self.file);
        }
        let unpacked = match self.unpacked.take() {
            Some(file) => file,
            None => unpack(&mut self.file, directory)?,
        };
        Ok(self.unpacked.insert(unpacked))
    }
}

/// From the comment `inode=N last=NANOS` the shim leaves in the header.
fn inode_of(comment: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(comment).ok()?;
    text.split(' ').find_map(|word| word.strip_prefix("inode="))?.parse().ok()
}

/// Unpacks a file; of a damaged one as much as can be read.
fn unpack(file: &mut File, directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let target = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)
        .or_else(|_| rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC))?;
    let mut target = File::from(target);
    file.seek(SeekFrom::Start(0))?;
    if let Err(error) = io::copy(&mut GzDecoder::new(file), &mut target) {
        tracing::warn!(directory = %directory.display(), %error, "a compressed log file is damaged");
    }
    Ok(target)
}

/// A container's log: the current file and the rotated ones before it.
pub(crate) struct LogFiles {
    path: PathBuf,
    format: LogFormat,
    /// Oldest first; the last is the current one.
    parts: Vec<Part>,
    /// The one being read.
    index: usize,
    offset: u64,
    /// Bytes of an incomplete line.
    partial: Vec<u8>,
    chunk: Vec<u8>,
}

impl LogFiles {
    /// Opens the log at `path` and its rotated predecessors `path.1`, `path.2.gz`, …. A container that never ran
    /// has none, which is an empty log.
    pub fn open(path: &Path, format: LogFormat) -> io::Result<Self> {
        let mut parts: Vec<Part> = Vec::new();
        if let Some(file) = open_if_there(path)? {
            parts.push(Part::plain(file)?);
        }
        for number in 1.. {
            // The compressed one appears before the plain one goes.
            let part = match open_if_there(&suffixed(path, &format!(".{number}")))? {
                Some(file) => Part::plain(file)?,
                None => match open_if_there(&suffixed(path, &format!(".{number}.gz")))? {
                    Some(file) => Part::packed(file)?,
                    None => break,
                },
            };
            // A rotation meanwhile moves files away from us, so that one may be met twice but none be missed.
            if parts.iter().all(|p| p.id != part.id) {
                parts.push(part);
            }
        }
        parts.reverse();
        Ok(Self {
            path: path.to_owned(),
            format,
            parts,
            index: 0,
            offset: 0,
            partial: Vec::new(),
            chunk: Vec::new(),
        })
    }

    fn directory(&self) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("/")).to_owned()
    }

    /// Skips files whose last record is older than `since`, in nanoseconds since the epoch.
    pub fn skip_before(&mut self, since: i64) {
        while self.index + 1 < self.parts.len() {
            // A file is written to a moment after the time its records bear, never before.
            let metadata = self.parts[self.index].file.metadata();
            let written = metadata.map_or(i64::MAX, |m| m.mtime());
            if self.parts[self.index].packed || written >= since / 1_000_000_000 {
                break;
            }
            self.index += 1;
        }
    }

    /// Moves the reading position so that `lines` lines remain before the present end.
    pub fn seek_tail(&mut self, lines: usize) -> io::Result<()> {
        let (format, directory) = (self.format, self.directory());
        let mut wanted = lines;
        let mut at_end = true;
        for index in (0..self.parts.len()).rev() {
            let file = self.parts[index].contents(&directory)?;
            let mut end = file.metadata()?.len();
            // Lines end at a newline of a record that ends a line; `tail` holds what lies after `end`.
            let mut tail: Vec<u8> = Vec::new();
            while end > 0 {
                let begin = end.saturating_sub(CHUNK as u64);
                let mut chunk = vec![0_u8; usize::try_from(end - begin).unwrap_or(CHUNK)];
                file.read_exact_at(&mut chunk, begin)?;
                chunk.extend_from_slice(&tail);
                let mut line_end = chunk.len();
                // A position is decided only when the whole line before it is in the chunk.
                while let Some(newline) = memchr::memrchr(b'\n', &chunk[..line_end.saturating_sub(1)]) {
                    let line = &chunk[newline + 1..line_end];
                    if ends_line(line, format) || at_end {
                        if wanted == 0 {
                            (self.index, self.offset) = (index, begin + line_end as u64);
                            return Ok(());
                        }
                        wanted -= 1;
                        at_end = false;
                    }
                    line_end = newline + 1;
                }
                chunk.truncate(line_end);
                tail = chunk;
                end = begin;
            }
            if !tail.is_empty() && (ends_line(&tail, format) || at_end) {
                if wanted == 0 {
                    (self.index, self.offset) = (index, tail.len() as u64);
                    return Ok(());
                }
                wanted -= 1;
                at_end = false;
            }
        }
        (self.index, self.offset) = (0, 0);
        Ok(())
    }

    /// Formats up to about `limit` bytes into `out`. Returns whether more can be read right now.
    pub fn read(
        &mut self,
        formatter: &mut Formatter,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> io::Result<ReadOutcome> {
        let directory = self.directory();
        let mut chunk = std::mem::take(&mut self.chunk);
        if chunk.is_empty() {
            chunk = vec![0_u8; CHUNK];
        }
        let outcome = self.read_with(&directory, &mut chunk, formatter, out, limit);
        self.chunk = chunk;
        outcome
    }

    fn read_with(
        &mut self,
        directory: &Path,
        chunk: &mut [u8],
        formatter: &mut Formatter,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> io::Result<ReadOutcome> {
        while out.len() < limit {
            let is_last = self.index + 1 >= self.parts.len();
            let Some(part) = self.parts.get_mut(self.index) else { return Ok(ReadOutcome::AtEnd) };
            let n = part.contents(directory)?.read_at(chunk, self.offset)?;
            if n == 0 {
                if !is_last {
                    part.unpacked = None;
                    self.index += 1;
                    self.offset = 0;
                    self.partial.clear();
                    continue;
                }
                return Ok(ReadOutcome::AtEnd);
            }
            self.offset += n as u64;
            if self.format_chunk(&chunk[..n], formatter, out) == Step::PastEnd {
                return Ok(ReadOutcome::PastEnd);
            }
        }
        Ok(ReadOutcome::More)
    }

    /// Gives the reading buffer back until there is something to read again.
    pub fn rest(&mut self) {
        self.chunk = Vec::new();
    }

    fn format_chunk(&mut self, chunk: &[u8], formatter: &mut Formatter, out: &mut Vec<u8>) -> Step {
        let mut rest = chunk;
        while let Some(newline) = memchr::memchr(b'\n', rest) {
            let line = if self.partial.is_empty() {
                Cow::Borrowed(&rest[..newline])
            } else {
                self.partial.extend_from_slice(&rest[..newline]);
                Cow::Owned(std::mem::take(&mut self.partial))
            };
            rest = &rest[newline + 1..];
            if formatter.line(&line, out) == Step::PastEnd {
                return Step::PastEnd;
            }
        }
        self.partial.extend_from_slice(rest);
        Step::Continue
    }

    /// After [`ReadOutcome::AtEnd`]: notices that the log was rotated (or first made) since and goes on with the
    /// new files. Returns whether there is something new to read.
    pub fn reopen_if_rotated(&mut self) -> io::Result<bool> {
        let current = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        let Some(part) = self.parts.last() else {
            *self = Self::open(&self.path, self.format)?;
            return Ok(true);
        };
        if part.id == (current.dev(), current.ino()) {
            return Ok(false);
        }
        // What was appended between our last read and the rotation is still in the file we hold.
        if part.file.metadata()?.len() > self.offset {
            return Ok(true);
        }
        let seen = part.id;
        let mut newer = Self::open(&self.path, self.format)?;
        let position = newer.parts.iter().position(|p| p.id == seen);
        newer.index = position.map_or(0, |p| p + 1);
        *self = newer;
        Ok(true)
    }
}

fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::*;
    use std::fmt::Write as _;

    fn layout() -> Layout {
        Layout {
            stdout: true,
            stderr: true,
            timestamps: false,
            details: false,
            multiplexed: false,
            json: false,
            since: None,
            until: None,
        }
    }

    fn record(text: &str, stream: &str, second: u32) -> String {
        format!(
            "{{\"log\":{},\"stream\":\"{stream}\",\"time\":\"2026-01-01T00:00:{second:02}.5Z\"}}\n",
            serde_json::to_string(text).unwrap()
        )
    }

    fn read_all(path: &Path, layout: Layout, tail: Option<usize>) -> String {
        let mut files = LogFiles::open(path, LogFormat::Json).unwrap();
        if let Some(n) = tail {
            files.seek_tail(n).unwrap();
        }
        let (mut formatter, mut out) = (Formatter::new(layout, LogFormat::Json), Vec::new());
        loop {
            let mut block = Vec::new();
            let outcome = files.read(&mut formatter, &mut block, 1 << 16).unwrap();
            out.extend_from_slice(&block);
            if outcome != ReadOutcome::More {
                break;
            }
        }
        String::from_utf8(out).unwrap()
    }

    fn scratch() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn tail_counts_whole_lines_across_rotated_files() {
        let dir = scratch();
        let path = dir.path().join("log");
        let rotated = dir.path().join("log.1");
        std::fs::write(&rotated, record("1\n", "stdout", 1) + &record("2\n", "stdout", 2)).unwrap();
        let long = record("3 begins ", "stdout", 3) + &record("and ends\n", "stdout", 3);
        std::fs::write(&path, long + &record("4\n", "stderr", 4)).unwrap();
        assert_eq!(read_all(&path, layout(), None), "1\n2\n3 begins and ends\n4\n");
        assert_eq!(read_all(&path, layout(), Some(0)), "");
        assert_eq!(read_all(&path, layout(), Some(1)), "4\n");
        assert_eq!(read_all(&path, layout(), Some(2)), "3 begins and ends\n4\n");
        assert_eq!(read_all(&path, layout(), Some(3)), "2\n3 begins and ends\n4\n");
        assert_eq!(read_all(&path, layout(), Some(9)), "1\n2\n3 begins and ends\n4\n");
    }

    #[test]
    fn tail_of_a_log_larger_than_a_chunk() {
        let dir = scratch();
        let path = dir.path().join("log");
        let mut text = String::new();
        for n in 0..20_000 {
            text += &record(&format!("line {n}\n"), "stdout", n % 60);
        }
        std::fs::write(&path, text).unwrap();
        for wanted in [1, 2, 3000, 9999] {
            let mut expected = String::new();
            for n in 20_000 - wanted..20_000 {
                writeln!(expected, "line {n}").unwrap();
            }
            assert_eq!(read_all(&path, layout(), Some(wanted)), expected);
        }
    }

    #[test]
    fn streams_times_and_frames() {
        let dir = scratch();
        let path = dir.path().join("log");
        std::fs::write(&path, record("a\n", "stdout", 1) + &record("b\n", "stderr", 2)).unwrap();
        assert_eq!(read_all(&path, Layout { stdout: false, ..layout() }, None), "b\n");
        assert_eq!(
            read_all(&path, Layout { timestamps: true, stderr: false, ..layout() }, None),
            "2026-01-01T00:00:01.500000000Z a\n"
        );
        let framed = read_all(&path, Layout { multiplexed: true, ..layout() }, None);
        assert_eq!(framed.as_bytes()[..10], [1, 0, 0, 0, 0, 0, 0, 2, b'a', b'\n']);
        let second = 1_767_225_602_000_000_000;
        assert_eq!(read_all(&path, Layout { since: Some(second), ..layout() }, None), "b\n");
        assert_eq!(read_all(&path, Layout { until: Some(second), ..layout() }, None), "a\n");
    }

    #[test]
    fn torn_lines_are_left_out() {
        let dir = scratch();
        let path = dir.path().join("log");
        std::fs::write(&path, record("a\n", "stdout", 1) + "{\"log\":\"tor\n" + &record("b\n", "stdout", 2))
            .unwrap();
        assert_eq!(read_all(&path, layout(), None), "a\nb\n");
    }

    #[test]
    fn rotation_is_followed() {
        let dir = scratch();
        let path = dir.path().join("log");
        std::fs::write(&path, record("a\n", "stdout", 1)).unwrap();
        let mut files = LogFiles::open(&path, LogFormat::Json).unwrap();
        let (mut formatter, mut out) = (Formatter::new(layout(), LogFormat::Json), Vec::new());
        assert_eq!(files.read(&mut formatter, &mut out, 1000).unwrap(), ReadOutcome::AtEnd);
        assert!(!files.reopen_if_rotated().unwrap());
        std::fs::rename(&path, dir.path().join("log.1")).unwrap();
        std::fs::write(&path, record("b\n", "stdout", 2)).unwrap();
        assert!(files.reopen_if_rotated().unwrap());
        assert_eq!(files.read(&mut formatter, &mut out, 1000).unwrap(), ReadOutcome::AtEnd);
        assert_eq!(String::from_utf8(out).unwrap(), "a\nb\n");
    }

    fn pack(path: &Path, inode: u64, text: &str) {
        use std::io::Write as _;
        let header = flate2::GzBuilder::new().comment(format!("inode={inode} last=0"));
        let mut encoder = header.write(File::create(path).unwrap(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap();
    }

    #[test]
    fn compressed_files_are_part_of_the_log() {
        let dir = scratch();
        let path = dir.path().join("log");
        pack(&dir.path().join("log.2.gz"), 1, &(record("1\n", "stdout", 1) + &record("2\n", "stdout", 2)));
        std::fs::write(dir.path().join("log.1"), record("3\n", "stdout", 3)).unwrap();
        std::fs::write(&path, record("4\n", "stdout", 4)).unwrap();
        assert_eq!(read_all(&path, layout(), None), "1\n2\n3\n4\n");
        assert_eq!(read_all(&path, layout(), Some(3)), "2\n3\n4\n");
    }

    #[test]
    fn a_damaged_compressed_file_gives_what_it_has() {
        let dir = scratch();
        let path = dir.path().join("log");
        let text: String = (0..5000).map(|n| record(&format!("{n}\n"), "stdout", 1)).collect();
        pack(&dir.path().join("log.1.gz"), 1, &text);
        let whole = std::fs::read(dir.path().join("log.1.gz")).unwrap();
        std::fs::write(dir.path().join("log.1.gz"), &whole[..whole.len() / 2]).unwrap();
        std::fs::write(&path, record("end\n", "stdout", 4)).unwrap();
        let read = read_all(&path, layout(), None);
        assert!(read.starts_with("0\n1\n") && read.ends_with("end\n"), "{read}");
    }

    #[test]
    fn a_follower_knows_a_file_it_read_that_was_compressed_since() {
        let dir = scratch();
        let path = dir.path().join("log");
        std::fs::write(&path, record("a\n", "stdout", 1)).unwrap();
        let inode = std::fs::metadata(&path).unwrap().ino();
        let mut files = LogFiles::open(&path, LogFormat::Json).unwrap();
        let (mut formatter, mut out) = (Formatter::new(layout(), LogFormat::Json), Vec::new());
        files.read(&mut formatter, &mut out, 1000).unwrap();
        pack(&dir.path().join("log.2.gz"), inode, &record("a\n", "stdout", 1));
        std::fs::write(dir.path().join("log.1"), record("b\n", "stdout", 2)).unwrap();
        std::fs::rename(&path, dir.path().join("gone")).unwrap();
        std::fs::write(&path, record("c\n", "stdout", 3)).unwrap();
        assert!(files.reopen_if_rotated().unwrap());
        files.read(&mut formatter, &mut out, 1000).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a\nb\nc\n");
    }
}
