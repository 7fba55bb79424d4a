//! What a user does to a container: start, stop, kill, pause, rename, wait, remove.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ferry_api::container::{
    ContainerCreateRequest, ContainerCreateResponse, ContainerInspect, ContainerWaitResponse,
};
use ferry_shim_proto::Request as ShimRequest;
use ferry_types::ContainerName;
use tokio::sync::watch;

use super::handle::{ContainerHandle, OwnerRequest, SignalIntent};
use super::state::{Snapshot, State};
use super::{create, links, view};
use crate::Engine;
use crate::api::{RemoveContainer, WaitCondition};
use crate::error::{EngineError, Result};
use crate::events::EventKind;
use crate::inner::Inner;
use crate::signal;

/// Seconds between the stop signal and SIGKILL unless told otherwise.
const DEFAULT_STOP_TIMEOUT: i64 = 10;
/// What Docker puts before the reason why a new name is refused.
const NAME_REFUSED: &str = "Error when allocating new name";
/// How long SIGKILL may take before the engine says that something is wrong.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// How often a forced removal ends a container that somebody else keeps starting.
const REMOVE_ATTEMPTS: u32 = 10;

impl Engine {
    /// Creates a container.
    pub async fn container_create(
        &self,
        name: Option<&str>,
        platform: Option<&str>,
        body: ContainerCreateRequest,
    ) -> Result<ContainerCreateResponse> {
        create::create(&self.inner, name, platform, body).await
    }

    /// Everything about a container.
    pub async fn container_inspect(&self, id: &str, size: bool) -> Result<ContainerInspect> {
        let snapshot = self.inner.containers.find(id)?.settled().await;
        let mut inspect = view::inspect(&self.inner, &snapshot);
        if size {
            let (rw, root) = super::list::sizes(&self.inner, &snapshot.record)?;
            (inspect.size_rw, inspect.size_root_fs) = (Some(rw), Some(root));
        }
        Ok(inspect)
    }

    /// Starts a container; [`EngineError::NotModified`] when it runs.
    pub async fn container_start(&self, id: &str) -> Result<()> {
        let handle = self.inner.containers.find(id)?;
        handle.attached().await;
        handle.ask(|reply| OwnerRequest::Start { reply }).await
    }

    /// Sends the stop signal, and SIGKILL when the container does not end in time.
    pub async fn container_stop(&self, id: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let handle = self.inner.containers.find(id)?;
        let snapshot = handle.snapshot();
        if !snapshot.state.is_active() {
            return Err(EngineError::NotModified("container is already stopped".to_owned()));
        }
        stop(&self.inner, &handle, signal, timeout).await?;
        self.inner.events.container(EventKind::Stop, &handle.snapshot().record, &[]);
        Ok(())
    }

    /// Stops a container when it runs, and starts it.
    pub async fn container_restart(
        &self,
        id: &str,
        signal: Option<&str>,
        timeout: Option<i64>,
    ) -> Result<()> {
        let handle = self.inner.containers.find(id)?;
        if handle.snapshot().state.is_active() {
            // A container that removes itself would be gone before it could start again.
            handle.ask(|reply| OwnerRequest::Edit { edit: Box::new(keep_during_restart), reply }).await?;
            let stopped = stop(&self.inner, &handle, signal, timeout).await;
            let restore =
                handle.ask(|reply| OwnerRequest::Edit { edit: Box::new(restore_after_restart), reply }).await;
            stopped.and(restore)?;
            self.inner.events.container(EventKind::Stop, &handle.snapshot().record, &[]);
        }
        handle.ask(|reply| OwnerRequest::Start { reply }).await?;
        self.inner.events.container(EventKind::Restart, &handle.snapshot().record, &[]);
        Ok(())
    }

    /// Sends a signal, SIGKILL by default.
    pub async fn container_kill(&self, id: &str, name: Option<&str>) -> Result<()> {
        let number = match name.filter(|n| !n.is_empty()) {
            Some(name) => signal::parse(name).map_err(EngineError::InvalidParameter)?,
            None => signal::KILL,
        };
        let handle = self.inner.containers.find(id)?;
        let snapshot = handle.snapshot();
        let ends = number == signal::KILL || number == stop_signal(&snapshot);
        if ends && matches!(snapshot.state, State::Restarting(_)) {
            handle.ask(|reply| OwnerRequest::CancelRestart { reply }).await?;
            let attributes = [("signal", number.to_string())];
            self.inner.events.container(EventKind::Kill, &snapshot.record, &attributes);
            return Ok(());
        }
        if snapshot.state.live().is_none() {
            return Err(EngineError::Conflict(format!("container {} is not running", snapshot.record.id)));
        }
        let intent = if ends { SignalIntent::Stop } else { SignalIntent::Deliver };
        let mut watch = handle.watch();
        let exits = snapshot.exits;
        handle.ask(|reply| OwnerRequest::Signal { signal: number, intent, reply }).await?;
        self.inner.events.container(EventKind::Kill, &snapshot.record, &[("signal", number.to_string())]);
        if number == signal::KILL {
            let ended = watch.wait_for(|s| s.exits > exits || matches!(s.state, State::Removed(_)));
            // Docker answers after the container is dead; a process the kernel cannot end must not block the client.
            let _ = tokio::time::timeout(KILL_PATIENCE, ended).await;
        }
        Ok(())
    }

    /// Freezes all processes of a container.
    pub async fn container_pause(&self, id: &str) -> Result<()> {
        self.inner.containers.find(id)?.ask(|reply| OwnerRequest::Freeze { frozen: true, reply }).await
    }

    /// Thaws them.
    pub async fn container_unpause(&self, id: &str) -> Result<()> {
        self.inner.containers.find(id)?.ask(|reply| OwnerRequest::Freeze { frozen: false, reply }).await
    }

    /// Gives a container another name.
    pub async fn container_rename(&self, id: &str, name: &str) -> Result<()> {
        let handle = self.inner.containers.find(id)?;
        if name.is_empty() {
            return Err(EngineError::InvalidParameter("Neither old nor new names may be empty".to_owned()));
        }
        let new: ContainerName = format!("/{}", name.strip_prefix('/').unwrap_or(name)).parse().map_err(
            |e: ferry_types::NameError| EngineError::InvalidParameter(format!("{NAME_REFUSED}: {e}")),
        )?;
        let snapshot = handle.snapshot();
        let old = snapshot.record.name.clone();
        if old == new {
            return Err(EngineError::InvalidParameter(
                "Renaming a container with the same name as its current name".to_owned(),
            ));
        }
        self.inner
            .containers
            .reserve_name(&new, &snapshot.record.id)
            .map_err(|e| EngineError::Conflict(format!("{NAME_REFUSED}: {e}")))?;
        let rename = {
            let new = new.clone();
            move |record: &mut super::record::ContainerRecord| {
                record.name = new;
                Ok(())
            }
        };
        let result = handle.ask(|reply| OwnerRequest::Edit { edit: Box::new(rename), reply }).await;
        let given_up = if result.is_ok() { &old } else { &new };
        self.inner.containers.release_name(given_up, &snapshot.record.id);
        result?;
        let (inner, renamed) = (Arc::clone(&self.inner), handle.snapshot());
        crate::blocking_raw(move || crate::network::endpoints::announce_again(&inner, &renamed.record))
            .await?;
        let attributes = [("oldName", format!("/{old}"))];
        self.inner.events.container(EventKind::Rename, &handle.snapshot().record, &attributes);
        Ok(())
    }

    /// Sets the size of the container's terminal.
    pub async fn container_resize(&self, id: &str, height: u16, width: u16) -> Result<()> {
        let snapshot = self.inner.containers.find(id)?.snapshot();
        let record_id = &snapshot.record.id;
        let Some(shim) = snapshot.shim.as_ref().filter(|_| snapshot.state.live().is_some()) else {
            return Err(EngineError::Conflict(format!("container {record_id} is not running")));
        };
        let request = ShimRequest::Resize { exec: None, height, width };
        // As Docker, which does nothing for a container without a terminal and says nothing either.
        if snapshot.record.tty() {
            shim.call(request, &[]).await.map_err(|e| EngineError::from_shim(record_id, e))?;
        }
        let attributes = [("height", height.to_string()), ("width", width.to_string())];
        self.inner.events.container(EventKind::Resize, &snapshot.record, &attributes);
        Ok(())
    }

    /// Removes a container.
    pub async fn container_remove(&self, id: &str, o: RemoveContainer) -> Result<()> {
        if o.link {
            return links::remove(&self.inner, id).await;
        }
        let handle = self.inner.containers.find(id)?;
        for _ in 0..REMOVE_ATTEMPTS {
            if o.force && !self.end_for_removal(&handle, id).await? {
                return Ok(());
            }
            match handle.ask(|reply| OwnerRequest::Remove { volumes: o.volumes, reply }).await {
                // With --rm, the container may have removed itself first.
                Err(EngineError::NoSuchContainer(_)) if o.force => return Ok(()),
                // Somebody started it between its end and our request.
                Err(EngineError::Conflict(_)) if o.force && handle.snapshot().state.is_active() => {}
                other => return other,
            }
        }
        Err(EngineError::Conflict(format!("cannot remove container {id}: it is started again and again")))
    }

    /// Kills a container that is to be removed. Tells whether it is still there.
    async fn end_for_removal(&self, handle: &ContainerHandle, id: &str) -> Result<bool> {
        let mut watch = handle.watch();
        let state = handle.snapshot().state.clone();
        if matches!(state, State::Restarting(_)) {
            handle.ask(|reply| OwnerRequest::CancelRestart { reply }).await?;
            return Ok(true);
        }
        if state.live().is_none() {
            return Ok(true);
        }
        let ask = |reply| OwnerRequest::Signal { signal: signal::KILL, intent: SignalIntent::Stop, reply };
        match handle.ask(ask).await {
            Ok(()) | Err(EngineError::Conflict(_)) => {}
            // It removed itself meanwhile.
            Err(EngineError::NoSuchContainer(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
        let ended = watch.wait_for(|s| s.state.live().is_none());
        if tokio::time::timeout(KILL_PATIENCE, ended).await.is_err() {
            return Err(EngineError::System(format!(
                "cannot remove container {id}: its process has not ended {} s after SIGKILL",
                KILL_PATIENCE.as_secs()
            )));
        }
        Ok(true)
    }

    /// Waits for a container. What is waited for counts from the moment this returns.
    pub fn container_wait(
        &self,
        id: &str,
        condition: WaitCondition,
    ) -> Result<impl Future<Output = Result<ContainerWaitResponse>> + Send + 'static> {
        let handle = self.inner.containers.find(id)?;
        let watch = handle.watch();
        let exits = handle.snapshot().exits;
        Ok(wait(watch, exits, condition))
    }
}

async fn wait(
    mut watch: watch::Receiver<Arc<Snapshot>>,
    exits: u64,
    condition: WaitCondition,
) -> Result<ContainerWaitResponse> {
    let done = |s: &Arc<Snapshot>| {
        let removed = matches!(s.state, State::Removed(_));
        removed
            || match condition {
                // Its next end counts even when its restart policy brings it back at once.
                WaitCondition::NotRunning => {
                    s.exits > exits || (!s.state.is_active() && !matches!(s.state, State::Starting { .. }))
                }
                WaitCondition::NextExit => s.exits > exits,
                WaitCondition::Removed => false,
            }
    };
    let snapshot = match watch.wait_for(done).await {
        Ok(snapshot) => snapshot.clone(),
        // The owner publishes Removed before it ends, so this is an engine that stops.
        Err(_) => return Err(EngineError::ShuttingDown),
    };
    Ok(ContainerWaitResponse { error: None, status_code: i64::from(snapshot.state.exit_code()) })
}

/// The signal `stop` sends.
pub(crate) fn stop_signal(snapshot: &Snapshot) -> i32 {
    let name = &snapshot.record.config.stop_signal;
    if name.is_empty() { signal::TERM } else { signal::parse(name).unwrap_or(signal::TERM) }
}

/// How long it has after its stop signal; none for ever.
pub(crate) fn stop_timeout(record: &super::record::ContainerRecord) -> Option<Duration> {
    let seconds = record.config.stop_timeout.unwrap_or(DEFAULT_STOP_TIMEOUT);
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

async fn stop(
    inner: &Inner,
    handle: &ContainerHandle,
    signal_name: Option<&str>,
    timeout: Option<i64>,
) -> Result<()> {
    let snapshot = handle.snapshot();
    let first = match signal_name.filter(|s| !s.is_empty()) {
        Some(name) => signal::parse(name).map_err(EngineError::InvalidParameter)?,
        None => stop_signal(&snapshot),
    };
    let seconds = timeout.or(snapshot.record.config.stop_timeout).unwrap_or(DEFAULT_STOP_TIMEOUT);
    if matches!(snapshot.state, State::Restarting(_)) {
        return handle.ask(|reply| OwnerRequest::CancelRestart { reply }).await;
    }
    let mut watch = handle.watch();
    let exits = snapshot.exits;
    let ended = |s: &Arc<Snapshot>| s.exits > exits || s.state.live().is_none();
    for (number, patience) in [
        // A negative timeout waits for ever.
        (first, u64::try_from(seconds).ok().map(Duration::from_secs)),
        (signal::KILL, Some(KILL_PATIENCE)),
    ] {
        match handle
            .ask(|reply| OwnerRequest::Signal { signal: number, intent: SignalIntent::Stop, reply })
            .await
        {
            Ok(()) => {
                let record = &handle.snapshot().record;
                inner.events.container(EventKind::Kill, record, &[("signal", number.to_string())]);
            }
            // It ended between our look and the signal.
            Err(EngineError::Conflict(_) | EngineError::NoSuchContainer(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        match patience {
            None => {
                let _ = watch.wait_for(ended).await;
                return Ok(());
            }
            Some(patience) => {
                if tokio::time::timeout(patience, watch.wait_for(ended)).await.is_ok() {
                    return Ok(());
                }
            }
        }
    }
    Err(EngineError::System(format!(
        "cannot stop container: {}: its process has not ended {} s after SIGKILL",
        snapshot.record.id,
        KILL_PATIENCE.as_secs()
    )))
}

/// Marks a record whose `--rm` is suspended while the container restarts.
const SUSPENDED: &str = "ferry.restart.auto-remove";

fn keep_during_restart(record: &mut super::record::ContainerRecord) -> Result<()> {
    if record.host_config.auto_remove {
        record.host_config.auto_remove = false;
        record.host_config.annotations.get_mut().insert(SUSPENDED.to_owned(), String::new());
    }
    Ok(())
}

fn restore_after_restart(record: &mut super::record::ContainerRecord) -> Result<()> {
    if record.host_config.annotations.contains_key(SUSPENDED) {
        record.host_config.annotations.get_mut().remove(SUSPENDED);
        record.host_config.auto_remove = true;
    }
    Ok(())
}
