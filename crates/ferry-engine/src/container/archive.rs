//! `cp`: files in and out of a container.

use ferry_api::Time;
use ferry_image::copy::{self, CopyError, Extract};
use futures_util::StreamExt as _;
use tokio_util::io::SyncIoBridge;

use super::files::Files;
use super::record::ContainerRecord;
use crate::Engine;
use crate::api::{BodyReader, ByteStream, PathStat};
use crate::error::{EngineError, Result};
use crate::events::EventKind;
use crate::spec::user;

/// What is not there is told in the client's own words.
fn in_clients_words<'a>(id: &'a str, path: &'a str) -> impl Fn(CopyError) -> EngineError + 'a {
    move |error| match error {
        e if e.is_not_found() => EngineError::NoSuchPath { container: id.to_owned(), path: path.to_owned() },
        other => EngineError::Copy(other),
    }
}

fn to_wire(stat: copy::Stat) -> PathStat {
    PathStat {
        name: stat.name,
        size: stat.size,
        mode: PathStat::go_mode(stat.mode),
        mtime: Time::from_unix_nanos(i128::from(stat.mtime.0) * 1_000_000_000 + i128::from(stat.mtime.1)),
        link_target: stat.link_target.unwrap_or_default(),
    }
}

impl Engine {
    /// Facts about a path.
    pub async fn container_archive_stat(&self, id: &str, path: &str) -> Result<PathStat> {
        let snapshot = self.inner.containers.find(id)?.snapshot();
        let (engine, id, path) = (self.clone(), id.to_owned(), path.to_owned());
        crate::blocking(move || {
            let files = Files::open(&engine.inner, &snapshot)?;
            let stat = copy::stat(files.root(), &copy::normalize(&path));
            Ok(to_wire(stat.map_err(in_clients_words(&id, &path))?))
        })
        .await
    }

    /// A path as a tar.
    pub async fn container_archive_get(&self, id: &str, path: &str) -> Result<(PathStat, ByteStream)> {
        let snapshot = self.inner.containers.find(id)?.snapshot();
        let record = snapshot.record.clone();
        let (engine, id, path) = (self.clone(), id.to_owned(), path.to_owned());
        let wanted = copy::normalize(&path);
        let (files, stat) = crate::blocking({
            let wanted = wanted.clone();
            move || {
                let files = Files::open(&engine.inner, &snapshot)?;
                let stat = copy::stat(files.root(), &wanted).map_err(in_clients_words(&id, &path))?;
                Ok((files, stat))
            }
        })
        .await?;
        let mut body = crate::stream::from_writer(move |out| Ok(copy::pack(files.root(), &wanted, out)?));
        // What is gone or became something else since the look at it is an answer of its own, not a broken body.
        let first = body.next().await.transpose()?;
        self.inner.events.container(EventKind::ArchivePath, &record, &[]);
        let body = futures_util::stream::iter(first.map(Ok)).chain(body);
        Ok((to_wire(stat), Box::pin(body)))
    }

    /// Unpacks a tar at a path.
    pub async fn container_archive_put(
        &self,
        id: &str,
        path: &str,
        no_overwrite_dir_non_dir: bool,
        copy_uid_gid: bool,
        body: BodyReader,
    ) -> Result<()> {
        let snapshot = self.inner.containers.find(id)?.snapshot();
        let record = snapshot.record.clone();
        let (engine, id, path) = (self.clone(), id.to_owned(), path.to_owned());
        let mut body = SyncIoBridge::new(body);
        crate::blocking(move || {
            let files = Files::open(&engine.inner, &snapshot)?;
            let wanted = copy::normalize(&path);
            check_writable(&snapshot.record, snapshot.state.live().is_some(), &files, &wanted)
                .map_err(|e| e.unwrap_or_else(|e| in_clients_words(&id, &path)(e)))?;
            let owner = match snapshot.record.config.user.as_str() {
                user if copy_uid_gid && !user.is_empty() => Some(owner(&engine, &snapshot.record)?),
                _ => None,
            };
            let options = Extract { keep_kinds: no_overwrite_dir_non_dir, owner, destination: path.clone() };
            copy::extract(files.root(), &wanted, &mut body, &options).map_err(in_clients_words(&id, &path))
        })
        .await?;
        self.inner.events.container(EventKind::ExtractToDir, &record, &[]);
        Ok(())
    }
}

/// Refuses what the mounts would refuse too, in Docker's words.
fn check_writable(
    record: &ContainerRecord,
    live: bool,
    files: &Files,
    path: &str,
) -> std::result::Result<(), std::result::Result<EngineError, CopyError>> {
    copy::is_directory(files.root(), path).map_err(Err)?;
    let links = |_| Err(CopyError::Links { what: "EvalSymlinks", place: None });
    let real = copy::evaluate(files.root(), path.as_bytes()).map_err(links)?;
    let real = String::from_utf8_lossy(&real).into_owned();
    let holds = |at: &str| {
        let at = at.trim_end_matches('/');
        real.strip_prefix(at).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // (destination, writable)
    let mut mounts: Vec<(String, bool)> =
        record.mounts.iter().filter(|m| m.kind != "tmpfs").map(|m| (m.destination.clone(), m.rw)).collect();
    if live {
        let h = &record.host_config;
        let read_only = |options: &str| options.split(',').any(|o| o == "ro");
        mounts.extend(h.tmpfs.iter().map(|(at, options)| (at.clone(), !read_only(options))));
        let long = h.mounts.iter().filter(|m| m.kind == "tmpfs");
        mounts.extend(long.map(|m| (m.target.clone(), !m.read_only)));
    }
    let nearest = mounts.iter().filter(|(at, _)| holds(at)).max_by_key(|(at, _)| at.len());
    let refused = match nearest {
        Some((_, true)) => return Ok(()),
        Some((_, false)) => "mounted volume is marked read-only",
        None if record.host_config.readonly_rootfs => "container rootfs is marked read-only",
        None => return Ok(()),
    };
    Err(Ok(EngineError::InvalidParameter(refused.to_owned())))
}

/// The ids of the user the container runs as.
fn owner(engine: &Engine, record: &ContainerRecord) -> Result<(u32, u32)> {
    let overlay = engine.inner.overlay(&record.id, &record.image_id)?;
    let layers = user::Layers::new(Some(&overlay.upper), &overlay.lower);
    let read = |path: &str| layers.read(path).map_err(|e| EngineError::System(format!("{path}: {e}")));
    let user = user::resolve(&record.config.user, &[], &read("etc/passwd")?, &read("etc/group")?)
        .map_err(EngineError::InvalidParameter)?;
    Ok((user.uid, user.gid))
}
