//! The container's log file: batched writes, rotation, and what happens when the disk is full.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ferry_shim_proto::log::{LogFile as Config, LogFormat};
use memchr::{memchr, memrchr};

use super::json::JsonEncoder;
use super::lines::Line;
use super::{compress, plain};

/// Encoded bytes gathered before a write(2), at most one read's worth of records more.
pub const BATCH: usize = 256 * 1024;

/// Nanoseconds between attempts to write to a file that cannot be written.
const RETRY: i64 = 1_000_000_000;

/// How records look.
#[derive(Debug)]
enum Encoder {
    Json(JsonEncoder),
    Local,
}

/// A file being compressed.
#[derive(Debug)]
struct Job {
    pid: i32,
    /// Which of the rotated files it is by now.
    number: u32,
}

/// A log file being written.
#[derive(Debug)]
pub struct LogFile {
    config: Config,
    encoder: Encoder,
    pub(super) file: File,
    size: u64,
    /// Whole records not yet in the file.
    pub(super) buffer: Vec<u8>,
    /// Encoded bytes kept for a retry while the file cannot be written; older output waits, newer is lost.
    backlog: usize,
    /// When the last write was tried, in nanoseconds, if it failed.
    failed_at: Option<i64>,
    /// Records dropped.
    pub lost: u64,
    job: Option<Job>,
    /// Time of the last record.
    last: i64,
}

impl LogFile {
    /// Opens the log for appending. A record torn by the death of an earlier writer is closed with a
    /// newline, so that it spoils itself only.
    pub fn open(mut config: Config, backlog: usize) -> io::Result<Self> {
        let mut file = open(&config.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            // Renaming or removing a device would take it from the whole host.
            config.max_size = None;
        }
        let mut size = if metadata.is_file() { metadata.len() } else { 0 };
        if size > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != [b'\n'] {
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        if config.compress {
            // Left by a shim that ended meanwhile.
            let _ = std::fs::remove_file(unfinished(&config.path));
        }
        let encoder = match config.format {
            LogFormat::Json => Encoder::Json(JsonEncoder::new(&config.attributes)),
            LogFormat::Local => Encoder::Local,
        };
        Ok(Self {
            config,
            encoder,
            file,
            size,
            buffer: Vec::new(),
            backlog,
            failed_at: None,
            lost: 0,
            job: None,
            last: 0,
        })
    }

    /// Whether the last write failed and [`LogFile::flush`] should be called again after a while.
    pub fn is_failing(&self) -> bool {
        self.failed_at.is_some()
    }

    /// Puts a record into the buffer.
    pub fn add(&mut self, line: &Line<'_>) {
        self.last = line.nanos;
        match &mut self.encoder {
            Encoder::Json(json) => json.encode(line, &mut self.buffer),
            Encoder::Local => plain::encode(line, &mut self.buffer),
        }
    }

    /// Bytes waiting to be written.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Writes what is buffered, unless a failure is too fresh to try again.
    pub fn flush_at(&mut self, nanos: i64) {
        match self.failed_at {
            Some(at) if (at..at + RETRY).contains(&nanos) => self.limit_backlog(),
            _ => self.flush(nanos),
        }
    }

    /// Writes what is buffered. `nanos`: time since the epoch.
    pub fn flush(&mut self, nanos: i64) {
        let mut written = 0;
        while written < self.buffer.len() {
            if self.config.max_size.is_some_and(|max| self.size >= max) {
                self.rotate();
            }
            let end = self.piece_end(written);
            match self.file.write(&self.buffer[written..end]) {
                Ok(n) if n > 0 => {
                    self.size += n as u64;
                    written += n;
                    self.failed_at = None;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    self.failed_at = Some(nanos);
                    written = self.tear_off(written);
                    break;
                }
            }
        }
        self.buffer.drain(..written);
        self.limit_backlog();
    }

    /// Gives buffers back that a burst made grow.
    pub fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
    }

    /// End of the bytes that may go into the current file: the record that reaches the limit is the
    /// file's last.
    fn piece_end(&self, start: usize) -> usize {
        let Some(max) = self.config.max_size else {
            return self.buffer.len();
        };
        let room = usize::try_from(max.saturating_sub(self.size)).unwrap_or(usize::MAX);
        let from = start.saturating_add(room.max(1)) - 1;
        match self.buffer.get(from..).and_then(|rest| memchr(b'\n', rest)) {
            Some(at) => from + at + 1,
            None => self.buffer.len(),
        }
    }

    /// Takes a partly written record back out of the file, so that the retry can write it whole.
    /// Returns how many bytes of the buffer then are in the file.
    fn tear_off(&mut self, written: usize) -> usize {
        let whole = memrchr(b'\n', &self.buffer[..written]).map_or(0, |at| at + 1);
        let torn = (written - whole) as u64;
        if torn > 0 {
            // A failure leaves one torn line, which readers skip.
            if self.file.set_len(self.size.saturating_sub(torn)).is_ok() {
                self.size -= torn;
            } else {
                return written;
            }
        }
        whole
    }

    fn limit_backlog(&mut self) {
        if self.buffer.len() <= self.backlog {
            return;
        }
        let keep = memrchr(b'\n', &self.buffer[..self.backlog]).map_or(0, |at| at + 1);
        let records = self.buffer[keep..].iter().filter(|&&b| b == b'\n').count();
        self.lost = self.lost.saturating_add(records as u64);
        self.buffer.truncate(keep);
    }

    /// Shifts the files by one and starts a new one. The old inode is never truncated: a reader
    /// that holds it reads to its end. When anything fails, the current file goes on growing.
    fn rotate(&mut self) {
        let path = &self.config.path;
        let kept = self.config.max_files.max(1) - 1;
        // Not all numbers need exist yet, and each exists plain or compressed.
        for oldest in [numbered(path, kept), compressed(path, kept)].iter().filter(|_| kept > 0) {
            let _ = std::fs::remove_file(oldest);
        }
        for number in (1..kept).rev() {
            let _ = std::fs::rename(numbered(path, number), numbered(path, number + 1));
            let _ = std::fs::rename(compressed(path, number), compressed(path, number + 1));
        }
        let moved = match kept {
            0 => std::fs::remove_file(path),
            _ => std::fs::rename(path, numbered(path, 1)),
        };
        let fresh = match moved {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => open(path),
        };
        match fresh {
            Ok(file) => {
                self.file = file;
                self.size = 0;
                if let Some(job) = &mut self.job {
                    job.number += 1;
                }
                self.compress_next();
            }
            // Not tried again for every record, only after another max_size of output.
            Err(_) => self.size = 0,
        }
    }

    /// Starts compressing the newest rotated file that is not, one at a time.
    fn compress_next(&mut self) {
        if !self.config.compress || self.job.is_some() {
            return;
        }
        let path = &self.config.path;
        let started = (1..self.config.max_files).find_map(|number| {
            let from = File::open(numbered(path, number)).ok()?;
            let inode = from.metadata().ok()?.ino();
            let to = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o640)
                .open(unfinished(path))
                .ok()?;
            let pid = compress::spawn(from, to, inode, self.last).ok()?;
            Some(Job { pid: i32::try_from(pid).ok()?, number })
        });
        // Without a process the file stays as it is and is tried again after the next rotation.
        self.job = started;
    }

    /// A child of the shim ended. Returns whether it was the compression of a file.
    pub fn child_ended(&mut self, pid: i32, code: i32) -> bool {
        let Some(job) = self.job.take_if(|job| job.pid == pid) else { return false };
        let path = &self.config.path;
        let plain = numbered(path, job.number);
        let done = code == 0
            && job.number < self.config.max_files
            && plain.exists()
            && std::fs::rename(unfinished(path), compressed(path, job.number)).is_ok();
        if done {
            let _ = std::fs::remove_file(plain);
            self.compress_next();
        } else {
            let _ = std::fs::remove_file(unfinished(path));
        }
        true
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    suffixed(path, &format!(".{number}"))
}

fn compressed(path: &Path, number: u32) -> PathBuf {
    suffixed(path, &format!(".{number}.gz"))
}

/// Where a file is compressed to until it is whole.
fn unfinished(path: &Path) -> PathBuf {
    suffixed(path, ".gz.unfinished")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Log;
    use crate::log::lines::Stream;
    use ferry_shim_proto::LogConfig;

    const BACKLOG: usize = 1024 * 1024;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ferry-shim-log-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn config(&self, max_size: Option<u64>, max_files: u32) -> LogConfig {
            let file = Config {
                path: self.0.join("log"),
                format: LogFormat::Json,
                max_size,
                max_files,
                compress: false,
                attributes: String::new(),
            };
            LogConfig { file: Some(file), remote: None, buffer: BACKLOG as u64, non_blocking: false }
        }

        fn read(&self, name: &str) -> String {
            std::fs::read_to_string(self.0.join(name)).unwrap()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_rotate_at_record_boundaries_and_the_oldest_goes() {
        let dir = Dir::new("rotate");
        let mut log = Log::open(dir.config(Some(1000), 3)).unwrap();
        let mut reader = File::open(dir.0.join("log")).unwrap();
        let text: String = (0..100).map(|i| format!("line {i:04}\n")).collect();
        log.append(Stream::Stdout, text.as_bytes(), 1);
        let mut names: Vec<_> = std::fs::read_dir(&dir.0)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["log", "log.1", "log.2"]);
        let all = dir.read("log.2") + &dir.read("log.1") + &dir.read("log");
        let kept: Vec<&str> = all.lines().collect();
        assert!(kept.last().unwrap().contains("line 0099"));
        for (i, line) in kept.iter().rev().enumerate() {
            assert!(line.contains(&format!("line {:04}\\n", 99 - i)), "{line}");
        }
        for name in ["log.1", "log.2"] {
            let size = dir.read(name).len();
            assert!((1000..1100).contains(&size), "{name} has {size} bytes");
        }
        let mut first = String::new();
        reader.read_to_string(&mut first).unwrap();
        assert!(first.starts_with("{\"log\":\"line 0000"), "{first}");
    }

    #[test]
    fn one_file_starts_over_with_a_new_inode() {
        let dir = Dir::new("single");
        let mut log = Log::open(dir.config(Some(100), 1)).unwrap();
        let mut reader = File::open(dir.0.join("log")).unwrap();
        for i in 0..9 {
            log.append(Stream::Stderr, format!("{i}\n").as_bytes(), 1);
        }
        assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 1);
        assert!(dir.read("log").contains("\"8\\n\""));
        let mut old = String::new();
        reader.read_to_string(&mut old).unwrap();
        assert!(old.contains("\"0\\n\""), "{old}");
    }

    #[test]
    fn only_regular_files_are_rotated() {
        let dir = Dir::new("device");
        let path = dir.0.join("log");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let mut log = Log::open(dir.config(Some(10), 1)).unwrap();
        for _ in 0..3 {
            log.append(Stream::Stdout, b"x\n", 1);
        }
        use std::os::unix::fs::FileTypeExt;
        assert!(std::fs::metadata(&path).unwrap().file_type().is_fifo());
    }

    #[test]
    fn a_torn_record_is_closed_on_open() {
        let dir = Dir::new("torn");
        std::fs::write(dir.0.join("log"), "{\"log\":\"ha").unwrap();
        let mut log = Log::open(dir.config(None, 1)).unwrap();
        log.append(Stream::Stdout, b"whole\n", 1);
        let text = dir.read("log");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "{\"log\":\"ha");
        assert!(lines[1].starts_with("{\"log\":\"whole\\n\""));
    }

    #[test]
    fn a_full_disk_loses_counted_records_and_nothing_else() {
        let dir = Dir::new("full");
        let mut log = Log::open(dir.config(None, 1)).unwrap();
        log.append(Stream::Stdout, b"before\n", 1);
        let good = std::mem::replace(
            &mut log.file_mut().file,
            OpenOptions::new().write(true).open("/dev/full").unwrap(),
        );
        log.append(Stream::Stdout, b"meanwhile\n", 1);
        assert!(log.is_failing());
        let line = [&[b'z'; 9_999][..], b"\n"].concat();
        for _ in 0..200 {
            log.append(Stream::Stdout, &line, 1);
        }
        assert!(log.lost() > 90, "{}", log.lost());
        assert!(log.file_mut().buffer.len() <= BACKLOG);
        log.file_mut().file = good;
        log.flush(2);
        assert!(!log.is_failing());
        log.append(Stream::Stdout, b"after\n", 1);
        let text = dir.read("log");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len() as u64, 203 - log.lost());
        assert!(lines[1].contains("meanwhile"));
        assert!(lines.last().unwrap().contains("after"));
    }
}
