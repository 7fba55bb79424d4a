//! `cp`: files in and out of a container. Arrives with the rest of the single-host surface; until then it is refused.

use crate::Engine;
use crate::api::{BodyReader, ByteStream, PathStat};
use crate::error::{EngineError, Result};

fn later<T>() -> Result<T> {
    Err(EngineError::NotSupported(
        "copying files in and out of containers is not supported by ferry yet".to_owned(),
    ))
}

impl Engine {
    /// Facts about a path.
    pub async fn container_archive_stat(&self, id: &str, _path: &str) -> Result<PathStat> {
        self.inner.containers.find(id)?;
        later()
    }

    /// A path as a tar.
    pub async fn container_archive_get(&self, id: &str, _path: &str) -> Result<(PathStat, ByteStream)> {
        self.inner.containers.find(id)?;
        later()
    }

    /// Unpacks a tar at a path.
    pub async fn container_archive_put(
        &self,
        id: &str,
        _path: &str,
        _no_overwrite_dir_non_dir: bool,
        _copy_uid_gid: bool,
        _body: BodyReader,
    ) -> Result<()> {
        self.inner.containers.find(id)?;
        later()
    }
}
