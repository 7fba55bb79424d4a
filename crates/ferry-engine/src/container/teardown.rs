//! What follows the end of a run, and removal.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferry_shim_proto::{ExitRecord, Request as ShimRequest};

use super::owner::unknown_exit;
use super::record::ContainerRecord;
use super::state::Live;
use crate::error::{EngineError, Result};
use crate::events::EventKind;
use crate::inner::Inner;
use crate::shim::ShimClient;
use crate::spec;

/// Frees what a run held: its endpoint, its run directory, its shim. Goes on after errors.
pub(crate) async fn after_exit(inner: &Arc<Inner>, record: &ContainerRecord, shim: Option<&ShimClient>) {
    if let Some(shim) = shim {
        let shim = shim.clone();
        tokio::spawn(async move {
            // The shim ends on this; that the connection breaks is no news.
            let _ = shim.call(ShimRequest::Release, &[]).await;
        });
    }
    let task_inner = Arc::clone(inner);
    let endpoint = record.endpoint.clone();
    let id = record.id.clone();
    let tidy = move || {
        if let Some(endpoint) = endpoint
            && let Err(error) = task_inner.bridge.release(&endpoint)
        {
            tracing::warn!(container = %id, %error, "releasing the network endpoint failed");
        }
        let bundle = task_inner.paths.bundle(&id);
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
    let cgroup = PathBuf::from(spec::cgroup_path(record, &inner.config.cgroup_parent));
    let kill = move || {
        let group = ferry_runtime::cgroup::Cgroup::open(&cgroup)?;
        group.kill_all()?;
        for _ in 0..50 {
            if group.pids()?.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        group.remove()
    };
    match crate::blocking_raw(kill).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(container = %record.id, %error, "cannot end the container's processes")
        }
        Err(error) => tracing::warn!(container = %record.id, %error, "cannot end the container's processes"),
    }
    ExitRecord { code: 137, ..unknown_exit(live.started_at) }
}

/// The shim's record of how the last run ended, when it wrote one.
pub(crate) fn read_exit_record(path: &std::path::Path) -> Option<ExitRecord> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Removes a container that does not run. It is gone for every observer when this returns; its files are deleted
/// in the background, from where the next start of the engine goes on if it is interrupted.
pub(crate) async fn remove(inner: &Arc<Inner>, record: &ContainerRecord, volumes: bool) {
    let id = &record.id;
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
    if volumes {
        for name in &record.anonymous_volumes {
            if volume_users(inner, name).is_empty() {
                match remove_volume(inner, name) {
                    Ok(()) | Err(EngineError::NoSuchVolume(_)) => {}
                    Err(error) => tracing::warn!(volume = name, %error, "cannot remove the anonymous volume"),
                }
            }
        }
    }
    tokio::task::spawn_blocking(move || {
        if let Err(error) = fs::remove_dir_all(&gone) {
            tracing::warn!(path = %gone.display(), %error, "cannot delete a removed container's files");
        }
    });
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
