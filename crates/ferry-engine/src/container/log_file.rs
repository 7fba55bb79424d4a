//! Reading json-file logs: finding where to start, decoding records, and laying them out as the client
//! asked. Writing is the shim's; nothing here blocks on a container.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;
/// What ends a record's text when the record ends a line.
const END_OF_LINE: &[u8] = b"\\n\",\"stream\"";

/// Which stream a record is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogStreamKind {
    Stdout,
    Stderr,
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    stream: LogStreamKind,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

/// How records become bytes for the client.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub stdout: bool,
    pub stderr: bool,
    pub timestamps: bool,
    pub details: bool,
    pub multiplexed: bool,
    /// Nanoseconds since the epoch.
    pub since: Option<i64>,
    /// Nanoseconds since the epoch.
    pub until: Option<i64>,
}

/// What came of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It was written or left out.
    Continue,
    /// It lies after `until`: nothing more is wanted.
    PastEnd,
}

/// Turns log lines into output; remembers whether a line longer than a record is being continued.
pub(crate) struct Formatter {
    layout: Layout,
    /// Whether the next record of (stdout, stderr) continues a line.
    continued: [bool; 2],
}

impl Formatter {
    pub fn new(layout: Layout) -> Self {
        Self { layout, continued: [false; 2] }
    }

    /// Appends one line of the log file to `out`. A line that is no record (torn by a crash) is left out.
    pub fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Step {
        let Ok(record) = serde_json::from_slice::<Record<'_>>(line) else { return Step::Continue };
        let layout = &self.layout;
        if layout.since.is_some() || layout.until.is_some() {
            let at = record.time.parse::<Timestamp>().map_or(0, |t| t.as_nanosecond());
            if layout.since.is_some_and(|since| at < i128::from(since)) {
                return Step::Continue;
            }
            if layout.until.is_some_and(|until| at > i128::from(until)) {
                return Step::PastEnd;
            }
        }
        let (wanted, number, slot) = match record.stream {
            LogStreamKind::Stdout => (layout.stdout, 1_u8, 0),
            LogStreamKind::Stderr => (layout.stderr, 2, 1),
        };
        if !wanted {
            return Step::Continue;
        }
        let start = out.len();
        if layout.multiplexed {
            out.extend_from_slice(&[number, 0, 0, 0, 0, 0, 0, 0]);
        }
        let body = out.len();
        if !self.continued[slot] {
            if layout.timestamps {
                push_fixed_time(&record.time, out);
                out.push(b' ');
            }
            if layout.details {
                // The json-file driver stores no attributes unless asked to, which ferry refuses so far.
                out.push(b' ');
            }
        }
        out.extend_from_slice(record.log.as_bytes());
        self.continued[slot] = !record.log.ends_with('\n');
        if layout.multiplexed {
            let length = u32::try_from(out.len() - body).unwrap_or(u32::MAX);
            out[start + 4..start + 8].copy_from_slice(&length.to_be_bytes());
        }
        Step::Continue
    }
}

/// `time` with exactly nine fraction digits, as Docker prints timestamps.
fn push_fixed_time(time: &str, out: &mut Vec<u8>) {
    let bare = time.strip_suffix('Z').unwrap_or(time);
    let (seconds, fraction) = bare.split_once('.').unwrap_or((bare, ""));
    out.extend_from_slice(seconds.as_bytes());
    out.push(b'.');
    out.extend_from_slice(fraction.as_bytes());
    out.extend(std::iter::repeat_n(b'0', 9_usize.saturating_sub(fraction.len())));
    out.push(b'Z');
}

/// A container's log: the current file and the rotated ones before it.
pub(crate) struct LogFiles {
    path: PathBuf,
    /// Oldest first; the last is the current one.
    files: Vec<File>,
    /// The file being read.
    index: usize,
    offset: u64,
    /// Bytes of an incomplete line.
    partial: Vec<u8>,
}

impl LogFiles {
    /// Opens the log at `path` and its rotated predecessors `path.1`, `path.2`, …. A container that never ran
    /// has none, which is an empty log.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        match File::open(path) {
            Ok(file) => files.push(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        for n in 1.. {
            let mut rotated = path.as_os_str().to_owned();
            rotated.push(format!(".{n}"));
            match File::open(&rotated) {
                Ok(file) => files.push(file),
                Err(_) => break,
            }
        }
        files.reverse();
        Ok(Self { path: path.to_owned(), files, index: 0, offset: 0, partial: Vec::new() })
    }

    /// Moves the reading position so that `lines` lines remain before the present end.
    pub fn seek_tail(&mut self, lines: usize) -> io::Result<()> {
        let mut wanted = lines;
        let mut at_end = true;
        for index in (0..self.files.len()).rev() {
            let file = &self.files[index];
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
                while let Some(newline) = memrchr(b'\n', &chunk[..line_end.saturating_sub(1)]) {
                    let line = &chunk[newline + 1..line_end];
                    if ends_a_line(line) || at_end {
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
            if !tail.is_empty() && (ends_a_line(&tail) || at_end) {
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
        let mut chunk = vec![0_u8; CHUNK];
        while out.len() < limit {
            let Some(file) = self.files.get(self.index) else { return Ok(ReadOutcome::AtEnd) };
            let n = file.read_at(&mut chunk, self.offset)?;
            if n == 0 {
                if self.index + 1 < self.files.len() {
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
        let Some(file) = self.files.last() else {
            *self = Self::open(&self.path)?;
            return Ok(true);
        };
        let read = file.metadata()?;
        if read.ino() == current.ino() && read.dev() == current.dev() {
            return Ok(false);
        }
        // What was appended between our last read and the rotation is still in the file we hold.
        if read.len() > self.offset {
            return Ok(true);
        }
        let seen = (read.dev(), read.ino());
        let mut newer = Self::open(&self.path)?;
        let position =
            newer.files.iter().position(|f| f.metadata().is_ok_and(|m| (m.dev(), m.ino()) == seen));
        newer.index = position.map_or(0, |p| p + 1);
        *self = newer;
        Ok(true)
    }
}

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

fn ends_a_line(record: &[u8]) -> bool {
    memchr::memmem::rfind(record, END_OF_LINE).is_some()
}

fn memrchr(needle: u8, haystack: &[u8]) -> Option<usize> {
    memchr::memrchr(needle, haystack)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    fn layout() -> Layout {
        Layout {
            stdout: true,
            stderr: true,
            timestamps: false,
            details: false,
            multiplexed: false,
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
        let mut files = LogFiles::open(path).unwrap();
        if let Some(n) = tail {
            files.seek_tail(n).unwrap();
        }
        let (mut formatter, mut out) = (Formatter::new(layout), Vec::new());
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
        let mut files = LogFiles::open(&path).unwrap();
        let (mut formatter, mut out) = (Formatter::new(layout()), Vec::new());
        assert_eq!(files.read(&mut formatter, &mut out, 1000).unwrap(), ReadOutcome::AtEnd);
        assert!(!files.reopen_if_rotated().unwrap());
        std::fs::rename(&path, dir.path().join("log.1")).unwrap();
        std::fs::write(&path, record("b\n", "stdout", 2)).unwrap();
        assert!(files.reopen_if_rotated().unwrap());
        assert_eq!(files.read(&mut formatter, &mut out, 1000).unwrap(), ReadOutcome::AtEnd);
        assert_eq!(String::from_utf8(out).unwrap(), "a\nb\n");
    }
}
