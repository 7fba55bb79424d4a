//! One layer on its way in: bytes are pushed from any thread; hashing, decompression, hashing again and
//! unpacking each run in their own, over bounded channels, and nothing is kept but the unpacked tree.
//!
//! ```text
//! write ─┬─► hash (digest)
//!        └─► decompress ─┬─► hash (diff id)
//!                        └─► unpack
//! ```

use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use ferry_types::Digest;
use sha2::{Digest as _, Sha256};

use super::LayerError;
use super::apply::{Applied, DIFF, apply};
use super::chunk::{CHUNK, ChunkReader, ChunkSender, chunks};
use crate::archive::TarError;
use crate::archive::compression::{Compression, MAGIC_MAX};

/// A directory under `tmp` that disappears with its owner.
#[derive(Debug)]
pub struct Stage {
    path: Option<PathBuf>,
}

impl Stage {
    /// Makes a new, empty directory below `tmp`.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(tmp: &Path) -> io::Result<Self> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let path = tmp.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path: Some(path) }),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    /// Moves it to its final place; it stays then.
    ///
    /// # Errors
    /// When renaming fails; the directory is then removed as usual.
    pub fn keep_as(mut self, destination: &Path) -> io::Result<()> {
        std::fs::rename(self.path(), destination)?;
        self.path = None;
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = std::fs::remove_dir_all(path)
        {
            tracing::warn!(path = %path.display(), %error, "staging directory stays behind");
        }
    }
}

/// What is known about a layer before it arrives.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Digest of the bytes as transferred.
    pub digest: Option<Digest>,
    /// Digest of the uncompressed tar.
    pub diff_id: Option<Digest>,
}

/// A layer that was unpacked and verified but belongs to no image yet. Dropping it removes it.
#[derive(Debug)]
pub struct StagedLayer {
    pub(crate) stage: Stage,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Unpacked bytes.
    pub size: u64,
    /// Bytes of the uncompressed tar.
    pub tar_size: u64,
    pub(crate) implicit: Vec<Vec<u8>>,
}

/// Takes a layer's bytes through [`Write`]; then call [`Self::finish`]. Dropped before that, it leaves
/// nothing behind.
#[derive(Debug)]
pub struct LayerIngest {
    buffer: Vec<u8>,
    raw: Option<ChunkSender>,
    to_hash: Option<ChunkSender>,
    workers: Workers,
}

#[derive(Debug)]
struct Workers {
    stage: Option<Stage>,
    expected: Expected,
    digest: Option<JoinHandle<io::Result<Digest>>>,
    decompress: Option<JoinHandle<io::Result<()>>>,
    diff_id: Option<JoinHandle<io::Result<Digest>>>,
    unpack: Option<JoinHandle<Result<Applied, LayerError>>>,
}

/// A layer all of whose bytes were taken, while the last of them are still being unpacked.
#[derive(Debug)]
pub struct PendingLayer(Workers);

impl LayerIngest {
    /// Starts taking a layer into a new directory below `tmp`.
    ///
    /// # Errors
    /// When the directory or a thread cannot be created.
    pub fn start(tmp: &Path, expected: Expected) -> Result<Self, LayerError> {
        let stage = Stage::create(tmp).map_err(LayerError::io("create staging directory in", tmp))?;
        let path = stage.path().to_owned();
        let diff = path.join(DIFF);
        std::fs::create_dir(&diff).map_err(LayerError::io("create staging directory", &diff))?;
        set_mode_0755(&diff).map_err(LayerError::io("set mode of", &diff))?;
        let spawned = |e| LayerError::Io { what: "start worker thread for", path: path.clone(), source: e };

        let (raw, raw_reader) = chunks();
        let (plain_hash, plain_hash_reader) = chunks();
        let (plain, plain_reader) = chunks();
        // When they are equal the diff id proves it.
        let digest_wanted = expected.digest.is_some() && expected.digest != expected.diff_id;
        let mut ingest = Self {
            buffer: Vec::with_capacity(CHUNK),
            raw: Some(raw),
            to_hash: None,
            workers: Workers {
                stage: None,
                expected: expected.clone(),
                digest: None,
                decompress: None,
                diff_id: None,
                unpack: None,
            },
        };
        ingest.workers.stage = Some(stage);
        if digest_wanted {
            let (sender, reader) = chunks();
            ingest.to_hash = Some(sender);
            ingest.workers.digest = Some(thread("hash", move || hash(reader)).map_err(spawned)?);
        }
        let decompress = move || decompress(raw_reader, plain_hash, plain);
        ingest.workers.decompress = Some(thread("decompress", decompress).map_err(spawned)?);
        ingest.workers.diff_id = Some(thread("hash", move || hash(plain_hash_reader)).map_err(spawned)?);
        let need_end = expected.digest.is_none() && expected.diff_id.is_none();
        let stage = path.clone();
        let unpack = move || apply(plain_reader, &stage, need_end);
        ingest.workers.unpack = Some(thread("unpack", unpack).map_err(spawned)?);
        Ok(ingest)
    }

    /// Takes everything `reader` has.
    ///
    /// # Errors
    /// When the reader fails, or unpacking did; [`Self::finish`] then tells why.
    pub fn copy_from(&mut self, reader: &mut dyn Read) -> io::Result<u64> {
        let mut total = 0;
        loop {
            let have = self.buffer.len();
            self.buffer.resize(CHUNK, 0);
            let read = reader.read(&mut self.buffer[have..]);
            self.buffer.truncate(have + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Ok(total),
                Ok(n) => total += n as u64,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
            if self.buffer.len() == CHUNK {
                self.send()?;
            }
        }
    }

    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Arc::new(std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK)));
        let hashed = self.to_hash.as_ref().is_none_or(|s| s.send(chunk.clone()));
        let taken = self.raw.as_ref().is_some_and(|s| s.send(chunk));
        if hashed && taken { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }

    /// Announces the end of the bytes without waiting for the work on them.
    pub fn end(mut self) -> PendingLayer {
        // A worker that went away early has an error to report.
        if self.send().is_ok() {
            for sender in [self.to_hash.take(), self.raw.take()].into_iter().flatten() {
                sender.end();
            }
        }
        self.raw = None;
        self.to_hash = None;
        PendingLayer(self.workers)
    }

    /// Waits until the layer is unpacked and checks its digests.
    ///
    /// # Errors
    /// When the bytes are not what was announced, malformed, or cannot be unpacked.
    pub fn finish(self) -> Result<StagedLayer, LayerError> {
        self.end().join()
    }
}

impl Write for LayerIngest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..n]);
        if self.buffer.len() == CHUNK {
            self.send()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl PendingLayer {
    /// See [`LayerIngest::finish`].
    ///
    /// # Errors
    /// See [`LayerIngest::finish`].
    pub fn join(mut self) -> Result<StagedLayer, LayerError> {
        let workers = &mut self.0;
        let decompressed = wait(workers.decompress.take());
        let applied = wait(workers.unpack.take());
        let diff_id = wait(workers.diff_id.take());
        let digest = workers.digest.take().map(|h| wait(Some(h)));
        let aborted = |e: &io::Error| e.kind() == io::ErrorKind::ConnectionAborted;
        let read = |e: io::Error| if aborted(&e) { LayerError::Aborted } else { TarError::Read(e).into() };
        // The first failure makes the neighbours' channels break: those are not the cause.
        match applied.ok_or(LayerError::Aborted)? {
            Err(LayerError::Tar(TarError::Read(e))) if aborted(&e) => {
                decompressed.ok_or(LayerError::Aborted)?.map_err(read)?;
                Err(LayerError::Aborted)
            }
            Err(e) => Err(e),
            Ok(applied) => {
                decompressed.ok_or(LayerError::Aborted)?.map_err(read)?;
                let diff_id = diff_id.ok_or(LayerError::Aborted)?.map_err(read)?;
                if let Some(actual) = digest.flatten() {
                    let actual = actual.map_err(read)?;
                    check(workers.expected.digest.as_ref(), actual, |expected, actual| LayerError::Digest {
                        expected,
                        actual,
                    })?;
                }
                check(workers.expected.diff_id.as_ref(), diff_id.clone(), |expected, actual| {
                    LayerError::DiffId { expected, actual }
                })?;
                Ok(StagedLayer {
                    stage: workers.stage.take().ok_or(LayerError::Aborted)?,
                    diff_id,
                    size: applied.size,
                    tar_size: applied.tar_size,
                    implicit: applied.implicit,
                })
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // The stage goes last, when nobody writes into it any more. The senders are gone by now, so
        // every worker ends.
        wait(self.decompress.take());
        wait(self.digest.take());
        wait(self.diff_id.take());
        wait(self.unpack.take());
        self.stage.take();
    }
}

fn check(
    expected: Option<&Digest>,
    actual: Digest,
    error: impl FnOnce(Digest, Digest) -> LayerError,
) -> Result<(), LayerError> {
    match expected {
        Some(expected) if *expected != actual => Err(error(expected.clone(), actual)),
        _ => Ok(()),
    }
}

/// `None` when there was no such thread, or it panicked.
fn wait<T>(handle: Option<JoinHandle<T>>) -> Option<T> {
    handle.and_then(|h| h.join().ok())
}

fn thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(format!("layer-{name}")).stack_size(256 * 1024).spawn(work)
}

fn hash(mut input: ChunkReader) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    while let Some(chunk) = input.next_chunk()? {
        hasher.update(chunk.as_slice());
    }
    Ok(Digest::sha256(hasher.finalize()))
}

/// Stops without an error when a receiver is gone: it has the error to report.
fn decompress(mut raw: ChunkReader, hash: ChunkSender, unpack: ChunkSender) -> io::Result<()> {
    let start = raw.fill_buf()?;
    // The writer sends full chunks, so the first one is short only when it is the only one.
    let compression = Compression::detect(&start[..start.len().min(MAGIC_MAX)]);
    let pass = |chunk: Arc<Vec<u8>>| hash.send(chunk.clone()) && unpack.send(chunk);
    if compression == Compression::None {
        while let Some(chunk) = raw.next_chunk()? {
            if !pass(chunk) {
                return Ok(());
            }
        }
    } else {
        let mut decoder = compression.decoder(&mut raw)?;
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            (&mut decoder).take(CHUNK as u64).read_to_end(&mut chunk)?;
            if chunk.is_empty() {
                break;
            }
            if !pass(Arc::new(chunk)) {
                return Ok(());
            }
        }
        drop(decoder);
        raw.drain()?;
    }
    hash.end();
    unpack.end();
    Ok(())
}

fn set_mode_0755(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}
