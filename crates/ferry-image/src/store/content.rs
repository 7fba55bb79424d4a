//! Small documents by digest: configs and manifests.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use ferry_types::Digest;
use sha2::{Digest as _, Sha256};

use super::io_error;
use crate::error::{ImageError, Result};

/// Digest of some bytes.
pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::sha256(Sha256::digest(bytes))
}

/// `content/sha256/`.
#[derive(Debug)]
pub(super) struct Content {
    dir: PathBuf,
    tmp: PathBuf,
}

impl Content {
    pub fn open(root: &Path) -> Result<Self> {
        let dir = root.join("content").join("sha256");
        std::fs::create_dir_all(&dir).map_err(io_error("create directory", &dir))?;
        Ok(Self { dir, tmp: root.join("tmp") })
    }

    /// Where a document is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    /// Every document, whatever its contents are by now.
    pub fn list(&self) -> Result<Vec<Digest>> {
        let names = super::names_in(&self.dir)?;
        Ok(names.iter().filter_map(|name| format!("sha256:{name}").parse().ok()).collect())
    }

    /// Reads and verifies.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.path(digest);
        let bytes = std::fs::read(&path).map_err(io_error("read", &path))?;
        let actual = digest_of(&bytes);
        if actual != *digest {
            let what = path.display().to_string();
            return Err(ImageError::DigestMismatch { what, expected: digest.clone(), actual });
        }
        Ok(bytes)
    }

    /// Stores bytes under their digest. Not synced: the caller does that for everything at once.
    pub fn write(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = digest_of(bytes);
        let path = self.path(&digest);
        if self.read(&digest).is_ok() {
            return Ok(digest);
        }
        let tmp = self.tmp.join(format!("content-{}", digest.hex()));
        let write = || File::create(&tmp)?.write_all(bytes);
        let stored = write().and_then(|()| std::fs::rename(&tmp, &path));
        if let Err(source) = stored {
            // Best effort; the directory is emptied on the next open as well.
            std::fs::remove_file(&tmp).ok();
            return Err(ImageError::Io { what: "write", path, source });
        }
        Ok(digest)
    }

    /// Forgets a document; it may be gone already.
    pub fn remove(&self, digest: &Digest) {
        let path = self.path(digest);
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "document stays behind");
        }
    }
}
