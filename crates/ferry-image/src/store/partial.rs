//! Downloads that may have to be taken up again: the bytes so far, by digest, across restarts.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;

use ferry_types::Digest;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::{ImageStore, io_error};
use crate::error::Result;

/// The part of a blob that has arrived. It stays on disk until [`Self::discard`].
#[derive(Debug)]
pub struct Partial {
    file: File,
    path: PathBuf,
    length: u64,
}

impl ImageStore {
    /// Takes up (or begins) the download of a blob. `None` when somebody else is downloading it: this
    /// one then goes without.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn partial(self: &Arc<Self>, digest: &Digest) -> Result<Option<Partial>> {
        let path = self.root.join("partial").join(digest.hex());
        let open = || -> io::Result<Option<Partial>> {
            let file = File::options().read(true).append(true).create(true).open(&path)?;
            // Dropped with the descriptor, even when the process dies.
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(e) => return Err(e.into()),
            }
            let length = file.metadata()?.len();
            Ok(Some(Partial { file, path: path.clone(), length }))
        };
        open().map_err(io_error("open partial download", &path))
    }
}

impl Partial {
    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Starts over.
    ///
    /// # Errors
    /// When the file cannot be cut.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(io_error("cut partial download", &self.path))?;
        self.length = 0;
        Ok(())
    }

    /// Copies the bytes so far into `out`.
    ///
    /// # Errors
    /// When the file cannot be read or `out` fails.
    pub fn replay(&mut self, out: &mut dyn Write) -> Result<()> {
        let mut copy = || {
            self.file.seek(io::SeekFrom::Start(0))?;
            io::copy(&mut (&mut self.file).take(self.length), out)
        };
        copy().map_err(io_error("read partial download", &self.path))?;
        Ok(())
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(io_error("write partial download", &self.path))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Forgets the bytes: the blob is complete, or not what its digest says.
    pub fn discard(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "partial download stays behind");
        }
    }
}
