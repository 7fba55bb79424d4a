//! What an engine does with the containers it finds: it takes over those that run, learns how the others ended, and tidies up
//! after whatever was interrupted. See `docs/shim.md` for why every order of events leads to the right answer.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ferry_shim_proto::{PROTOCOL, Reply, Request as ShimRequest, ShimState};
use tokio::sync::mpsc;

use super::owner::{self, Adopted, live_state, restart_policy};
use super::record::{ContainerRecord, ExitInfo, Lifecycle};
use super::state::State;
use super::teardown;
use crate::error::{EngineError, Result};
use crate::exec::ExecTable;
use crate::inner::Inner;
use crate::paths::BundleDir;
use crate::shim::{ShimClient, ShimNotice, child_of, named_in};
use crate::time::now_nanos;
use crate::volume::VolumeStore;

/// How often a live shim that does not listen yet is asked again, and how long between.
const CONNECT_ATTEMPTS: u32 = 100;
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
/// How long a shim that listens may take to say how things are before the engine goes on with what it knows.
const ANSWER_PATIENCE: Duration = Duration::from_millis(400);
/// How long the engine's start waits for shims. One that is stuck longer delays nobody but its own container, which
/// turns up when the shim answers.
const PATIENCE: Duration = Duration::from_secs(1);

/// What became of a container while no engine looked.
enum Found {
    /// Its shim runs.
    Alive(Adopted),
    /// It is not running; how the last run ended, as far as anybody knows.
    Ended(ExitInfo),
    /// It has not run.
    Idle(State),
}

/// Reads all records. One that cannot be read is set aside with a message; the others are not affected.
pub(crate) fn load_records(containers: &Path, volumes: &VolumeStore) -> Result<Vec<ContainerRecord>> {
    let entries = fs::read_dir(containers).map_err(|source| EngineError::File {
        action: "read",
        path: containers.to_owned(),
        source,
    })?;
    let mut records = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path().join("container.json");
        match ContainerRecord::load(&path) {
            Ok(record) => records.push(record),
            Err(EngineError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                // A create that was interrupted before it had a record: nobody was told of this container.
                tracing::info!(path = %entry.path().display(), "removing a half-created container");
                for volume in volumes.made_for(&entry.file_name().to_string_lossy()) {
                    if let Err(error) = volumes.remove(&volume) {
                        tracing::warn!(volume, %error, "cannot remove a half-created container's volume");
                    }
                }
                let _ = fs::remove_dir_all(entry.path());
            }
            Err(error) => {
                tracing::error!(%error, "a container's record is unreadable; the container is left alone");
            }
        }
    }
    Ok(records)
}

/// Finds out about every container and starts its owner.
pub(crate) async fn recover(inner: &Arc<Inner>, records: Vec<ContainerRecord>) {
    let mut tasks = tokio::task::JoinSet::new();
    for record in records.iter().filter(|r| r.lifecycle == Lifecycle::Running) {
        for volume in record.mounts.iter().filter(|m| m.kind == "volume") {
            inner.volumes.adopt(&volume.name, record.id.as_str());
        }
    }
    for record in records {
        if inner.containers.reserve_name(&record.name, &record.id).is_err() {
            tracing::error!(container = %record.id, name = %record.name, "two containers have this name");
        }
        let inner = Arc::clone(inner);
        tasks.spawn(async move { recover_one(&inner, record).await });
    }
    let mut to_remove = Vec::new();
    let all = async {
        while let Some(result) = tasks.join_next().await {
            match result {
                Ok(record) => to_remove.extend(record),
                Err(error) => tracing::error!(%error, "a container could not be taken over"),
            }
        }
    };
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        tracing::error!(count = tasks.len(), "shims do not answer; going on without their containers");
        tasks.detach_all();
    }
    let tidied = Arc::clone(inner);
    let _ = crate::blocking_raw(move || tidied.volumes.tidy_mounts()).await;
    // Now that the users of every volume are known.
    for record in to_remove {
        teardown::remove(inner, &record, true).await;
        inner.containers.release_name(&record.name, &record.id);
    }
}

/// Gives the record back when the container ended meanwhile and is to be removed.
async fn recover_one(inner: &Arc<Inner>, mut record: ContainerRecord) -> Option<ContainerRecord> {
    let id = record.id.clone();
    let found = look(inner, &record).await;
    let (state, adopted, start) = match found {
        Found::Alive(adopted) => (live_state(&adopted.state), Some(adopted), false),
        Found::Idle(state) => {
            let start = wants_start(&record, &state);
            (state, None, start)
        }
        Found::Ended(exit) => {
            teardown::free_run(inner, &record).await;
            teardown::release_run(Arc::clone(inner), id.clone(), None).await;
            record.endpoints.clear();
            record.lifecycle = Lifecycle::Exited(exit.clone());
            if record.host_config.auto_remove {
                return Some(record);
            }
            let state = State::Exited(exit);
            let start = wants_start(&record, &state);
            if let Err(error) = record.save(&inner.paths.container(&id).record()) {
                tracing::error!(container = %id, %error, "cannot save the container's record");
            }
            (state, None, start)
        }
    };
    // The owner starts a container whose policy asks for it at once.
    let state = match (start, &state) {
        (true, State::Exited(exit)) => State::Restarting(exit.clone()),
        _ => state,
    };
    let handle = owner::spawn(Arc::clone(inner), record, state, adopted);
    inner.containers.insert(id, handle);
    None
}

fn wants_start(record: &ContainerRecord, state: &State) -> bool {
    let State::Exited(exit) = state else { return false };
    restart_policy(record).starts_with_engine(exit.code, record.stopped_by_user, record.restart_count)
}

async fn look(inner: &Arc<Inner>, record: &ContainerRecord) -> Found {
    match &record.lifecycle {
        Lifecycle::Created { code, error } => {
            return Found::Idle(State::Created { code: *code, error: error.clone() });
        }
        Lifecycle::Exited(exit) => return Found::Idle(State::Exited(exit.clone())),
        Lifecycle::Running => {}
    }
    let bundle = inner.paths.bundle(&record.id);
    if let Some(adopted) = connect(&bundle, &inner.execs).await {
        return Found::Alive(adopted);
    }
    let exit = teardown::read_exit_record(&inner.paths.container(&record.id).exit_record());
    let exit = match exit {
        Some(exit) => ExitInfo {
            code: exit.code,
            oom_killed: exit.oom_killed,
            started_at: exit.started_at,
            finished_at: exit.finished_at,
            error: String::new(),
        },
        // Its shim was killed and may have left processes behind, or the host went down under it.
        None => ExitInfo {
            code: if teardown::kill_left_behind(inner, record).await { 137 } else { 255 },
            finished_at: now_nanos(),
            started_at: record.created_at,
            ..ExitInfo::default()
        },
    };
    Found::Ended(exit)
}

/// Connects to the shim of a container, when there is one. A shim that lives but does not listen yet is building its
/// container: it is waited for. One that listens but does not answer is taken over all the same; it tells later.
async fn connect(bundle: &BundleDir, execs: &Arc<ExecTable>) -> Option<Adopted> {
    for _ in 0..CONNECT_ATTEMPTS {
        let (sender, notices) = mpsc::unbounded_channel();
        if let Ok(shim) = ShimClient::connect(&bundle.socket(), sender.clone(), Arc::clone(execs)).await {
            let (asked, mut answer) = (shim.clone(), Box::pin(subscribe(shim.clone())));
            match tokio::time::timeout(ANSWER_PATIENCE, &mut answer).await {
                Ok(Some(state)) if state.protocol > PROTOCOL => {
                    // It was started by a newer ferry. What both know works; what the newer one added does not.
                    let (theirs, ours) = (state.protocol, PROTOCOL);
                    tracing::warn!(path = %bundle.path().display(), theirs, ours, "a shim speaks a newer protocol");
                    return Some(Adopted { shim: asked, notices, state });
                }
                Ok(Some(state)) => return Some(Adopted { shim: asked, notices, state }),
                Ok(None) => {}
                Err(_) => {
                    if let Some(state) = guessed_state(bundle) {
                        tracing::error!(path = %bundle.path().display(), "a shim does not answer");
                        tokio::spawn(async move {
                            if let Some(state) = answer.await {
                                let _ = sender.send(ShimNotice::State(state));
                            }
                        });
                        return Some(Adopted { shim: asked, notices, state });
                    }
                }
            }
        }
        if !shim_lives(bundle) {
            return None;
        }
        tokio::time::sleep(CONNECT_PAUSE).await;
    }
    tracing::error!(path = %bundle.path().display(), "a shim lives but does not answer");
    None
}

async fn subscribe(shim: ShimClient) -> Option<ShimState> {
    match shim.call(ShimRequest::Subscribe, &[]).await {
        Ok(Reply::State(state)) => Some(state),
        _ => None,
    }
}

/// What can be told about a container without its shim.
fn guessed_state(bundle: &BundleDir) -> Option<ShimState> {
    let pid = child_of(&named_in(&bundle.pid_file())?)?;
    let modified = fs::metadata(bundle.pid_file()).and_then(|m| m.modified()).ok();
    let since = modified.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    let started_at = i64::try_from(since.as_nanos()).unwrap_or(0);
    Some(ShimState {
        pid,
        started_at,
        paused: false,
        exited: None,
        execs: Vec::new(),
        log_lost: 0,
        replaces_relays: false,
        protocol: PROTOCOL,
    })
}

/// Whether the process that wrote the pid file is still that process.
pub(crate) fn shim_lives(bundle: &BundleDir) -> bool {
    named_in(&bundle.pid_file()).is_some()
}

/// Run directories of containers that do not run or do not exist any more. Those of containers whose record is unreadable
/// stay: such a container may run, and its record may be repaired.
pub(crate) fn remove_stray_bundles(inner: &Inner, records: &[ContainerRecord]) {
    let file_name = |path: &Path| path.file_name().map(std::ffi::OsStr::to_owned);
    let bundle = |r: &ContainerRecord| file_name(inner.paths.bundle(&r.id).path());
    let idle: HashSet<_> =
        records.iter().filter(|r| r.lifecycle != Lifecycle::Running).filter_map(bundle).collect();
    let mut known: HashSet<_> = records.iter().filter_map(bundle).collect();
    for entry in fs::read_dir(inner.paths.containers()).into_iter().flatten().flatten() {
        if let Ok(id) = entry.file_name().to_string_lossy().parse() {
            known.extend(file_name(inner.paths.bundle(&id).path()));
        }
    }
    let Ok(entries) = fs::read_dir(inner.paths.run_containers()) else { return };
    for entry in entries.flatten() {
        if idle.contains(&entry.file_name()) || !known.contains(&entry.file_name()) {
            tracing::info!(path = %entry.path().display(), "removing a left-over run directory");
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
