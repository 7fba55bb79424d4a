//! Where the container's output is kept: a file, a log service, or both. Nothing here blocks.

pub mod compress;
mod file;
pub mod json;
pub mod lines;
mod plain;
pub mod remote;
pub mod stamp;

use std::io;

use ferry_shim_proto::LogConfig;

use crate::poll::{EventFlags, Poller};

use file::LogFile;
use lines::{Line, Splitter, Stream};
use remote::Remote;

/// A container's log being written.
#[derive(Debug)]
pub struct Log {
    splitters: [Splitter; 2],
    file: Option<LogFile>,
    remote: Option<Box<Remote>>,
}

impl Log {
    /// Opens the file for appending, and connects to the service if the container shall not start without.
    ///
    /// # Errors
    /// When the file cannot be opened, or the service is needed and cannot be reached; the text is Docker's.
    pub fn open(config: LogConfig) -> io::Result<Self> {
        let buffer = usize::try_from(config.buffer).unwrap_or(usize::MAX);
        let remote = match config.remote {
            Some(remote) => Some(Box::new(Remote::open(*remote, buffer, config.non_blocking)?)),
            None => None,
        };
        Ok(Self {
            splitters: [Splitter::new(Stream::Stdout), Splitter::new(Stream::Stderr)],
            file: config.file.map(|file| LogFile::open(file, buffer)).transpose()?,
            remote,
        })
    }

    /// Entries lost because a destination did not take them.
    pub fn lost(&self) -> u64 {
        let file = self.file.as_ref().map_or(0, |file| file.lost);
        file + self.remote.as_ref().map_or(0, |remote| remote.lost())
    }

    /// Whether the last write to the file failed and [`Log::flush`] should be called again after a while.
    pub fn is_failing(&self) -> bool {
        self.file.as_ref().is_some_and(LogFile::is_failing)
    }

    /// Logs bytes a process wrote at `nanos` since the epoch. Never fails: see [`Log::lost`].
    pub fn append(&mut self, stream: Stream, mut data: &[u8], nanos: i64) {
        // Short lines grow thirtyfold, so a big read is encoded in steps.
        while !data.is_empty() {
            let (part, rest) = data.split_at(data.len().min(8 * 1024));
            let (file, remote) = (&mut self.file, &mut self.remote);
            self.splitters[stream.index()].feed(part, nanos, &mut |line| add(file, remote, line));
            data = rest;
            if let Some(file) = file
                && file.buffered() >= file::BATCH
            {
                file.flush_at(nanos);
            }
        }
        self.flush_at(nanos);
    }

    /// Logs an unfinished last line of a stream that ended.
    pub fn finish(&mut self, stream: Stream, nanos: i64) {
        let (file, remote) = (&mut self.file, &mut self.remote);
        self.splitters[stream.index()].finish(nanos, &mut |line| add(file, remote, line));
        self.flush(nanos);
    }

    fn flush_at(&mut self, nanos: i64) {
        if let Some(file) = &mut self.file {
            file.flush_at(nanos);
        }
        if let Some(remote) = &mut self.remote {
            remote.flush();
        }
    }

    /// Writes what is buffered. `nanos`: time since the epoch.
    pub fn flush(&mut self, nanos: i64) {
        if let Some(file) = &mut self.file {
            file.flush(nanos);
        }
        if let Some(remote) = &mut self.remote {
            remote.flush();
        }
    }

    /// Gives buffers back that a burst made grow.
    pub fn shrink(&mut self) {
        if let Some(file) = &mut self.file {
            file.shrink();
        }
    }

    #[cfg(test)]
    fn file_mut(&mut self) -> &mut LogFile {
        self.file.as_mut().expect("a log with a file")
    }

    /// A child of the shim ended. Returns whether it worked for the log.
    pub fn child_ended(&mut self, pid: i32, code: i32) -> bool {
        self.file.as_mut().is_some_and(|file| file.child_ended(pid, code))
    }

    /// Whether the container must not write more now.
    pub fn blocks(&self) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.blocks())
    }

    /// The service's socket is ready.
    pub fn on_event(&mut self, flags: EventFlags) {
        if let Some(remote) = &mut self.remote {
            remote.on_event(flags);
        }
    }

    /// Registers the service's socket for what it waits for, and does what is due.
    pub fn settle(&mut self, poller: &Poller, now: u64) {
        if let Some(remote) = &mut self.remote {
            remote.settle(poller, now);
        }
    }

    /// When [`Log::settle`] has something to do, on the monotonic clock.
    pub fn deadline(&self) -> Option<u64> {
        self.remote.as_ref().and_then(|remote| remote.deadline())
    }

    /// No more output comes. What the service does not take until then is dropped.
    pub fn close(&mut self, deadline: u64) {
        if let Some(remote) = &mut self.remote {
            remote.close(deadline);
        }
    }

    /// Whether entries are on their way to a service that takes them.
    pub fn is_delivering(&self) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.is_delivering())
    }
}

fn add(file: &mut Option<LogFile>, remote: &mut Option<Box<Remote>>, line: &Line<'_>) {
    if let Some(file) = file {
        file.add(line);
    }
    if let Some(remote) = remote {
        remote.add(line);
    }
}
