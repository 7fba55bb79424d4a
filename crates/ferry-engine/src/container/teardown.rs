//! What follows the end of a run, and removal.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferry_shim_proto::{ExitRecord, Request as ShimRequest};
use ferry_types::ContainerId;

use super::owner::unknown_exit;
use super::record::ContainerRecord;
use super::state::Live;
use crate::error::{EngineError, Result};
use crate::events::EventKind;
use crate::inner::Inner;
use crate::shim::ShimClient;
use crate::spec;

/// How long a shim may take to remove its container's cgroups and end.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);

/// Frees the address, the ports and the mounted volumes of a run, so that the next container can have them. Must be done before anybody is told of
/// the end.
pub(crate) async fn free_run(inner: &Arc<Inner>, record: &ContainerRecord) {
    let volumes = super::mount_sources::mounted_volumes(inner, record);
    if !volumes.is_empty() {
        release_volumes(inner, record.id.clone(), volumes).await;
    }
    if record.endpoints.is_empty() {
        return;
    }
    let (task_inner, task_record) = (Arc::clone(inner), record.clone());
    let left = crate::blocking_raw(move || crate::network::endpoints::leave_all(&task_inner, &task_record));
    if let Err(error) = left.await {
        tracing::warn!(container = %record.id, %error, "releasing the network endpoints failed");
    }
}

/// Ends a container's use of volumes that are file systems of their own; the last one unmounts them.
pub(crate) async fn release_volumes(inner: &Arc<Inner>, id: ContainerId, volumes: Vec<String>) {
    let inner = Arc::clone(inner);
    let release = move || {
        for volume in volumes {
            if let Err(error) = inner.volumes.release(&volume, id.as_str()) {
                tracing::warn!(container = %id, volume, %error, "cannot unmount the volume");
            }
        }
    };
    let _ = crate::blocking_raw(release).await;
}

/// Lets the shim go and removes the run directory. Must be done before the container is started again: the shim takes its
/// socket and pid file away, which have the same paths every time.
pub(crate) async fn release_run(inner: Arc<Inner>, id: ContainerId, shim: Option<ShimClient>) {
    if let Some(shim) = shim
        && shim.call_within(ShimRequest::Release, &[], RELEASE_PATIENCE).await.is_none()
    {
        // Later it would take away what belongs to its successor by then.
        tracing::error!(container = %id, "the container's shim does not answer; ending it");
        crate::shim::kill(&inner.paths.bundle(&id).pid_file());
    }
    let tidy = move || {
        let bundle = inner.paths.bundle(&id);
        match fs::remove_dir_all(bundle.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %bundle.path().display(), %error, "cannot remove the run directory");
            }
            _ => {}
        }
    };
    let _ = crate::blocking_raw(tidy).await;
}

/// Ends a container whose shim is gone. The shim's exit record is used when it left one.
pub(crate) async fn after_lost_shim(inner: &Arc<Inner>, record: &ContainerRecord, live: &Live) -> ExitRecord {
    let path = inner.paths.container(&record.id).exit_record();
    if let Some(exit) = read_exit_record(&path) {
        return exit;
    }
    kill_left_behind(inner, record).await;
    ExitRecord { code: 137, ..unknown_exit(live.started_at) }
}

/// Kills what a container without a shim left running and removes its cgroup. Tells whether there was one.
pub(crate) async fn kill_left_behind(inner: &Arc<Inner>, record: &ContainerRecord) -> bool {
    let cgroup = PathBuf::from(spec::cgroup_path(record, &inner.config.cgroup_parent));
    let kill = move || {
        let group = ferry_runtime::cgroup::Cgroup::open(&cgroup)?;
        if !group.paths().iter().any(|(_, dir)| dir.exists()) {
            return Ok(false);
        }
        group.kill_all()?;
        for _ in 0..50 {
            if group.pids()?.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        group.remove().map(|()| true)
    };
    let failed = |error: &dyn std::fmt::Display| {
        tracing::warn!(container = %record.id, %error, "cannot end the container's processes");
        true
    };
    match crate::blocking_raw(kill).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

/// The shim's record of how the last run ended, when it wrote one.
pub(crate) fn read_exit_record(path: &std::path::Path) -> Option<ExitRecord> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Bytes free on a disk below which whoever removes a container may need the room at once.
const TIGHT: u64 = 1 << 30;

/// Removes a container that does not run. It is gone for every observer when this returns; its files are deleted
/// in the background, from where the next start of the engine goes on if it is interrupted. On a disk that is nearly full
/// they are deleted, too.
pub(crate) async fn remove(inner: &Arc<Inner>, record: &ContainerRecord, volumes: bool) {
    let id = &record.id;
    if volumes {
        // First, so that an interruption leaves a container that can be removed again and no volume that nobody knows.
        for name in &record.anonymous_volumes {
            if volume_users(inner, name).iter().all(|user| user == id.as_str()) {
                match remove_volume(inner, name) {
                    Ok(()) | Err(EngineError::NoSuchVolume(_)) => {}
                    Err(error) => tracing::warn!(volume = name, %error, "cannot remove the anonymous volume"),
                }
            }
        }
    }
    let dir = inner.paths.container(id).path().to_owned();
    let trash = inner.paths.tmp().join(format!("removed-{id}"));
    let gone = match fs::rename(&dir, &trash) {
        Ok(()) => trash,
        Err(error) => {
            tracing::warn!(path = %dir.display(), %error, "cannot set the container's files aside");
            dir
        }
    };
    inner.containers.remove(id);
    inner.log_losses.set(id, 0);
    // Where that cannot be told there is room.
    let tight = rustix::fs::statvfs(&gone).is_ok_and(|fs| fs.f_bavail.saturating_mul(fs.f_frsize) < TIGHT);
    let deleted = tokio::task::spawn_blocking(move || {
        if let Err(error) = fs::remove_dir_all(&gone) {
            tracing::warn!(path = %gone.display(), %error, "cannot delete a removed container's files");
        }
    });
    if tight {
        let _ = deleted.await;
    }
}

/// Removes a volume nobody uses and tells.
pub(crate) fn remove_volume(inner: &Inner, name: &str) -> Result<()> {
    inner.volumes.remove(name)?;
    inner.events.volume(EventKind::Destroy, name);
    Ok(())
}

/// Ids of the containers that mount a volume.
pub(crate) fn volume_users(inner: &Inner, name: &str) -> Vec<String> {
    let uses = |r: &ContainerRecord| r.mounts.iter().any(|m| m.kind == "volume" && m.name == name);
    let all = inner.containers.all();
    all.iter().map(|h| h.snapshot()).filter(|s| uses(&s.record)).map(|s| s.record.id.to_string()).collect()
}
