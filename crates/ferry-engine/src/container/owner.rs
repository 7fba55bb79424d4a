//! The owner of one container: the only task that changes its state. Requests are short; whatever takes
//! long (stopping, waiting, copying) happens in the caller, who watches the snapshot.

use std::future::Future;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ferry_api::EndpointSettings;
use ferry_shim_proto::{AttachStreams, Event, ExitRecord, Reply};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::launch;
use super::links;
use super::monitor::{Ending, Monitor};
use super::record::{ContainerRecord, ExitInfo, Lifecycle};
use super::restart::{Backoff, RestartPolicy};
use super::state::{Live, Snapshot, State};
use super::teardown;
use crate::error::{EngineError, Result};
use crate::events::EventKind;
use crate::inner::Inner;
use crate::shim::{ShimClient, ShimNotice};
use crate::time::now_nanos;

/// Why a signal is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignalIntent {
    /// Just deliver it.
    Deliver,
    /// The user wants the container to end: no policy brings it back.
    Stop,
}

type ReplyTo<T> = oneshot::Sender<Result<T>>;

/// A change of a record.
type Edit = Box<dyn FnOnce(&mut ContainerRecord) -> Result<()> + Send>;

/// What an owner is asked to do.
pub(crate) enum OwnerRequest {
    /// Start the container, on behalf of a user.
    Start { reply: ReplyTo<()> },
    /// Signal its init process.
    Signal { signal: i32, intent: SignalIntent, reply: ReplyTo<()> },
    /// Do not restart it any more; ends a pending restart.
    CancelRestart { reply: ReplyTo<()> },
    /// Freeze or thaw it.
    Freeze { frozen: bool, reply: ReplyTo<()> },
    /// Connect a client, now or when it starts.
    Attach { streams: AttachStreams, socket: OwnedFd, reply: ReplyTo<()> },
    /// Change the record. Runs inside the owner, so it sees and leaves a consistent record.
    Edit { edit: Edit, reply: ReplyTo<()> },
    /// Put it on a network.
    Connect { network: String, settings: Box<EndpointSettings>, reply: ReplyTo<()> },
    /// Take it off a network.
    Disconnect { network: String, reply: ReplyTo<()> },
    /// Remove it; it must not run.
    Remove { volumes: bool, reply: ReplyTo<()> },
}

/// How the rest of the engine reaches a container.
pub(crate) struct ContainerHandle {
    requests: mpsc::Sender<OwnerRequest>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    attaching: watch::Sender<usize>,
}

/// Announces that a client is being attached, until it is dropped.
pub(crate) struct Attaching(Arc<ContainerHandle>);

impl Drop for Attaching {
    fn drop(&mut self) {
        self.0.attaching.send_modify(|clients| *clients -= 1);
    }
}

impl ContainerHandle {
    /// Announces that a client is being attached. A start waits for it, see [`Self::attached`].
    pub fn attaching(self: &Arc<Self>) -> Attaching {
        self.attaching.send_modify(|clients| *clients += 1);
        Attaching(Arc::clone(self))
    }

    /// Waits until no client is on its way. A client's connection is handed over a moment after the client is told that
    /// it is; its next request, to start the container, must not overtake this, or the first output would be lost.
    pub async fn attached(&self) {
        let mut clients = self.attaching.subscribe();
        // A client that hangs half-way must not keep the container from starting.
        let _ = tokio::time::timeout(Duration::from_secs(2), clients.wait_for(|clients| *clients == 0)).await;
    }

    /// The present snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// To wait for later snapshots.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// Asks the owner and waits for its answer.
    pub async fn ask<T>(&self, request: impl FnOnce(ReplyTo<T>) -> OwnerRequest) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let id = || self.snapshot().record.id.to_string();
        self.requests.send(request(reply)).await.map_err(|_| EngineError::NoSuchContainer(id()))?;
        answer.await.map_err(|_| EngineError::NoSuchContainer(id()))?
    }
}

/// A shim found when the engine started.
pub(crate) struct Adopted {
    pub shim: ShimClient,
    pub notices: mpsc::UnboundedReceiver<ShimNotice>,
    pub state: ferry_shim_proto::ShimState,
}

/// Starts the owner of a container; `adopted` is its running shim, when it has one.
pub(crate) fn spawn(
    inner: Arc<Inner>,
    record: ContainerRecord,
    state: State,
    adopted: Option<Adopted>,
) -> Arc<ContainerHandle> {
    let (requests, inbox) = mpsc::channel(16);
    let (shim, notices, exited) = match adopted {
        Some(a) => {
            inner.log_losses.set(&record.id, a.state.log_lost);
            (Some(a.shim), Some(a.notices), a.state.exited)
        }
        None => (None, None, None),
    };
    let health = record.health.clone().map(Arc::new);
    let snapshot = Arc::new(Snapshot { record: Arc::new(record), state, shim, health, exits: 0 });
    let (publish, watch) = watch::channel(snapshot);
    let owner = Owner {
        inner,
        inbox,
        publish,
        notices,
        waiting_clients: Vec::new(),
        backoff: Backoff::default(),
        restart_at: None,
        monitor: None,
        ending: None,
        ending_signalled: false,
        unsaved: None,
    };
    tokio::spawn(owner.run(exited));
    Arc::new(ContainerHandle { requests, snapshot: watch, attaching: watch::Sender::new(0) })
}

pub(super) struct Owner {
    pub(super) inner: Arc<Inner>,
    inbox: mpsc::Receiver<OwnerRequest>,
    pub(super) publish: watch::Sender<Arc<Snapshot>>,
    /// Of the running shim.
    pub(super) notices: Option<mpsc::UnboundedReceiver<ShimNotice>>,
    /// Clients attached before the container runs.
    pub(super) waiting_clients: Vec<(AttachStreams, OwnedFd)>,
    backoff: Backoff,
    pub(super) restart_at: Option<Instant>,
    /// While the container runs and has a health check.
    pub(super) monitor: Option<Monitor>,
    /// While it is being ended for being unhealthy.
    pub(super) ending: Option<Ending>,
    /// Whether that has been tried gently.
    pub(super) ending_signalled: bool,
    /// The shim of a run whose end could not be saved, for want of space say: until it is, the shim knows it.
    unsaved: Option<Unsaved>,
}

/// What is left to do of the end of a run, and when to try again.
struct Unsaved {
    release: Pin<Box<dyn Future<Output = ()> + Send>>,
    retry_at: Instant,
}

/// How often to try to save the end of a run.
const SAVE_RETRY: Duration = Duration::from_millis(500);

impl Owner {
    async fn run(mut self, exited_before: Option<ExitRecord>) {
        if let Some(exit) = exited_before
            && self.on_exit(exit).await.is_break()
        {
            return;
        }
        let state = self.current().state.clone();
        if matches!(state, State::Restarting(_)) {
            self.restart_at = Some(Instant::now());
        }
        if state.live().is_some() {
            self.adopt_health();
        }
        loop {
            let restart_at = self.restart_at;
            let probe_at = self.monitor.as_ref().filter(|_| self.ending.is_none()).and_then(Monitor::due);
            let save_at = self.unsaved.as_ref().map(|u| u.retry_at);
            let kill_at = self.ending.as_ref().and_then(|e| e.kill_at);
            let flow = tokio::select! {
                biased;
                // Before the notices: a probe's start is answered before its end is told.
                result = Monitor::started(&mut self.monitor) => {
                    self.on_probe_started(result);
                    ControlFlow::Continue(())
                }
                notice = next_notice(&mut self.notices) => self.on_notice(notice).await,
                request = self.inbox.recv() => match request {
                    Some(request) => self.on_request(request).await,
                    None => ControlFlow::Break(()),
                },
                () = sleep_until(restart_at) => self.on_restart_due().await,
                () = sleep_until(save_at) => {
                    self.save_again().await;
                    ControlFlow::Continue(())
                }
                () = sleep_until(kill_at) => {
                    self.on_ending_due().await;
                    ControlFlow::Continue(())
                }
                () = sleep_until(probe_at) => {
                    self.on_probe_due();
                    ControlFlow::Continue(())
                }
            };
            if flow.is_break() {
                return;
            }
        }
    }

    pub(super) fn current(&self) -> Arc<Snapshot> {
        self.publish.borrow().clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut next = (*self.current()).clone();
        change(&mut next);
        self.publish.send_replace(Arc::new(next));
    }

    pub(super) fn event(&self, kind: EventKind, extra: &[(&str, String)]) {
        self.inner.events.container(kind, &self.current().record, extra);
    }

    /// Of every network the container is on.
    fn network_events(&self, kind: EventKind) {
        let record = &self.current().record;
        if !record.config.network_disabled {
            record.networks.keys().for_each(|name| self.network_event(kind, name));
        }
    }

    /// The container joined or left a network.
    pub(super) fn network_event(&self, kind: EventKind, name: &str) {
        let driver = match name {
            "none" => "null",
            "host" => "host",
            _ => "bridge",
        };
        let id = crate::network::id_of(&self.inner, name);
        self.inner.events.network(kind, &id, name, driver, Some(self.current().record.id.as_str()));
    }

    async fn on_request(&mut self, request: OwnerRequest) -> ControlFlow<()> {
        match request {
            OwnerRequest::Start { reply } => {
                let (result, flow) = self.start_for_user().await;
                let _ = reply.send(result);
                return flow;
            }
            OwnerRequest::Signal { signal, intent, reply } => {
                let _ = reply.send(self.signal(signal, intent).await);
            }
            OwnerRequest::CancelRestart { reply } => {
                let _ = reply.send(self.cancel_restart());
            }
            OwnerRequest::Freeze { frozen, reply } => {
                let _ = reply.send(self.freeze(frozen).await);
            }
            OwnerRequest::Attach { streams, socket, reply } => {
                let _ = reply.send(self.attach(streams, socket).await);
            }
            OwnerRequest::Edit { edit, reply } => {
                let _ = reply.send(self.edit(edit));
            }
            OwnerRequest::Connect { network, settings, reply } => {
                let _ = reply.send(self.connect(network, *settings).await);
            }
            OwnerRequest::Disconnect { network, reply } => {
                let _ = reply.send(self.disconnect(network).await);
            }
            OwnerRequest::Remove { volumes, reply } => return self.remove_for_user(volumes, reply).await,
        }
        ControlFlow::Continue(())
    }

    async fn on_notice(&mut self, notice: ShimNotice) -> ControlFlow<()> {
        match notice {
            ShimNotice::Event(Event::Exited(exit)) => self.on_exit(exit).await,
            ShimNotice::Event(Event::ExecExited { exec, code, probe }) => {
                self.event(
                    EventKind::ExecDie,
                    &[("execID", exec.to_string()), ("exitCode", code.to_string())],
                );
                self.on_exec_exited(&exec, code, probe);
                ControlFlow::Continue(())
            }
            ShimNotice::Event(Event::Oom) => {
                self.event(EventKind::Oom, &[]);
                ControlFlow::Continue(())
            }
            ShimNotice::Event(Event::LogLost { total }) => {
                let id = self.current().record.id.clone();
                tracing::warn!(container = %id, total, "log entries were lost: their destination does not take them");
                self.inner.log_losses.set(&id, total);
                ControlFlow::Continue(())
            }
            ShimNotice::Event(Event::Detached { exec: None }) => {
                self.event(EventKind::Detach, &[]);
                ControlFlow::Continue(())
            }
            ShimNotice::Event(Event::Detached { exec: Some(exec) }) => {
                self.event(EventKind::ExecDetach, &[("execID", exec.to_string())]);
                ControlFlow::Continue(())
            }
            ShimNotice::State(state) => self.on_late_state(state).await,
            ShimNotice::Closed => self.on_shim_lost().await,
        }
    }

    /// A shim that did not answer when the engine started says how things are.
    async fn on_late_state(&mut self, state: ferry_shim_proto::ShimState) -> ControlFlow<()> {
        if self.current().state.live().is_none() {
            return ControlFlow::Continue(());
        }
        self.change(|s| s.state = live_state(&state));
        match state.exited {
            Some(exit) => self.on_exit(exit).await,
            None => ControlFlow::Continue(()),
        }
    }

    /// The connection ended without an exit: the shim was killed. Nothing supervises the container now, so it is
    /// ended too; the shim's record says more when it managed to write one.
    async fn on_shim_lost(&mut self) -> ControlFlow<()> {
        self.notices = None;
        let snapshot = self.current();
        let Some(live) = snapshot.state.live() else { return ControlFlow::Continue(()) };
        tracing::error!(container = %snapshot.record.id, "the container's shim died; ending the container");
        let exit = teardown::after_lost_shim(&self.inner, &snapshot.record, live).await;
        self.on_exit(exit).await
    }

    async fn start_for_user(&mut self) -> (Result<()>, ControlFlow<()>) {
        let snapshot = self.current();
        match &snapshot.state {
            State::Running(_) => {
                return (
                    Err(EngineError::NotModified("container is already running".into())),
                    ControlFlow::Continue(()),
                );
            }
            State::Paused(_) => {
                let message = "cannot start a paused container, try unpause instead".to_owned();
                return (Err(EngineError::Conflict(message)), ControlFlow::Continue(()));
            }
            State::Removing(_) | State::Removed(_) | State::Starting { .. } => {
                let message = "container is marked for removal and cannot be started".to_owned();
                return (Err(EngineError::Conflict(message)), ControlFlow::Continue(()));
            }
            State::Created { .. } | State::Exited(_) | State::Restarting(_) => {}
        }
        self.restart_at = None;
        self.backoff = Backoff::default();
        self.change(|s| {
            let record = Arc::make_mut(&mut s.record);
            record.restart_count = 0;
            record.stopped_by_user = false;
        });
        let result = self.start(false).await;
        if result.is_err() && self.current().record.host_config.auto_remove {
            let flow = self.remove(true).await;
            return (result, flow);
        }
        (result, ControlFlow::Continue(()))
    }

    async fn start(&mut self, by_policy: bool) -> Result<()> {
        self.finish_run().await;
        let last = self.current().state.last_exit().cloned();
        self.change(|s| {
            s.state = State::Starting { last: last.clone(), by_policy };
            Arc::make_mut(&mut s.record).lifecycle = Lifecycle::Running;
        });
        let clients = std::mem::take(&mut self.waiting_clients);
        let record = (*self.current().record).clone();
        self.inner.log_losses.set(&record.id, 0);
        match launch::launch(&self.inner, record, clients).await {
            Ok(started) => {
                self.notices = Some(started.notices);
                self.change(|s| {
                    s.record = Arc::new(started.record);
                    s.shim = Some(started.shim);
                    s.state = State::Running(started.live);
                });
                self.watch_health();
                links::tell_linked(&self.inner, &self.current().record.id);
                self.inner.events.volumes_of(EventKind::Mount, &self.current().record);
                self.network_events(EventKind::Connect);
                self.event(EventKind::Start, &[]);
                Ok(())
            }
            Err(failure) => {
                self.change(|s| {
                    let record = Arc::make_mut(&mut s.record);
                    record.endpoints.clear();
                    let error = failure.error.to_string();
                    (s.state, record.lifecycle) = match last {
                        None => (
                            State::Created { code: failure.exit_code, error: error.clone() },
                            Lifecycle::Created { code: failure.exit_code, error },
                        ),
                        Some(exit) => {
                            let exit = ExitInfo { code: failure.exit_code, error, ..exit };
                            (State::Exited(exit.clone()), Lifecycle::Exited(exit))
                        }
                    };
                });
                self.save();
                Err(failure.error)
            }
        }
    }

    async fn on_exit(&mut self, exit: ExitRecord) -> ControlFlow<()> {
        let snapshot = self.current();
        self.inner.log_losses.set(&snapshot.record.id, exit.log_lost);
        let info = ExitInfo {
            code: exit.code,
            oom_killed: exit.oom_killed,
            started_at: exit.started_at,
            finished_at: exit.finished_at,
            error: String::new(),
        };
        if exit.oom_killed {
            // The die event follows; clients that watch for oom expect this order.
            tracing::debug!(container = %snapshot.record.id, "ended after reaching its memory limit");
        }
        self.stop_health();
        let ending = self.ending.take();
        teardown::free_run(&self.inner, &snapshot.record).await;
        self.notices = None;
        let release =
            teardown::release_run(Arc::clone(&self.inner), snapshot.record.id.clone(), snapshot.shim.clone());
        self.network_events(EventKind::Disconnect);
        self.inner.events.volumes_of(EventKind::Unmount, &snapshot.record);
        self.event(
            EventKind::Die,
            &[("exitCode", exit.code.to_string()), ("execDuration", duration_seconds(&exit))],
        );
        self.inner.execs.container_ended(&snapshot.record.id);
        if snapshot.record.host_config.auto_remove {
            self.change(|s| {
                s.exits += 1;
                s.shim = None;
                s.state = State::Exited(info);
                Arc::make_mut(&mut s.record).endpoints.clear();
            });
            // Nothing of the run will be used again: it can go while the client is answered.
            tokio::spawn(release);
            return self.remove(true).await;
        }
        let restart = restart_policy(&snapshot.record).restarts(
            exit.code,
            snapshot.record.stopped_by_user,
            snapshot.record.restart_count,
        );
        let restart =
            restart || (ending.as_ref().is_some_and(|e| e.restart) && !snapshot.record.stopped_by_user);
        // A container that is ended again and again before it was ever healthy is in a loop, however long its rounds take.
        let ran_for = match &ending {
            Some(Ending { was_healthy: false, .. }) => Duration::ZERO,
            _ => Duration::from_nanos(u64::try_from(exit.finished_at - exit.started_at).unwrap_or(0)),
        };
        self.restart_at = restart.then(|| Instant::now() + self.backoff.next_delay(ran_for));
        self.change(|s| {
            let record = Arc::make_mut(&mut s.record);
            record.endpoints.clear();
            record.lifecycle = Lifecycle::Exited(info.clone());
            record.health = s.health.as_deref().cloned();
            s.exits += 1;
            s.shim = None;
            s.state = if restart { State::Restarting(info) } else { State::Exited(info) };
        });
        let saved = self.save();
        if ending.is_some_and(|e| e.stop) {
            self.event(EventKind::Stop, &[]);
        }
        if saved {
            release.await;
        } else {
            self.unsaved =
                Some(Unsaved { release: Box::pin(release), retry_at: Instant::now() + SAVE_RETRY });
        }
        ControlFlow::Continue(())
    }

    async fn save_again(&mut self) {
        let Some(unsaved) = &mut self.unsaved else { return };
        unsaved.retry_at = Instant::now() + SAVE_RETRY;
        if self.write_record().is_ok() {
            self.finish_run().await;
        }
    }

    /// Lets the shim of the last run go, if it is still kept.
    async fn finish_run(&mut self) {
        if let Some(unsaved) = self.unsaved.take() {
            unsaved.release.await;
        }
    }

    async fn on_restart_due(&mut self) -> ControlFlow<()> {
        self.restart_at = None;
        self.change(|s| Arc::make_mut(&mut s.record).restart_count += 1);
        if let Err(error) = self.start(true).await {
            let snapshot = self.current();
            tracing::warn!(container = %snapshot.record.id, %error, "restart failed");
            let restart = restart_policy(&snapshot.record).restarts(1, false, snapshot.record.restart_count);
            if restart && let Some(exit) = snapshot.state.last_exit().cloned() {
                self.restart_at = Some(Instant::now() + self.backoff.next_delay(Duration::ZERO));
                self.change(|s| s.state = State::Restarting(exit));
            }
        }
        ControlFlow::Continue(())
    }

    fn edit(&mut self, edit: Edit) -> Result<()> {
        let mut record = (*self.current().record).clone();
        edit(&mut record)?;
        record.save(&self.inner.paths.container(&record.id).record())?;
        self.change(|s| s.record = Arc::new(record));
        Ok(())
    }

    async fn remove_for_user(&mut self, volumes: bool, reply: ReplyTo<()>) -> ControlFlow<()> {
        let snapshot = self.current();
        if snapshot.state.live().is_some() || matches!(snapshot.state, State::Restarting(_)) {
            let advice = match snapshot.state {
                State::Paused(_) => " and must be unpaused first",
                _ => ": stop the container before removing or force remove",
            };
            let (name, state) = (&snapshot.record.name, snapshot.state.status());
            let message = format!("cannot remove container \"{name}\": container is {state}{advice}");
            let _ = reply.send(Err(EngineError::Conflict(message)));
            return ControlFlow::Continue(());
        }
        let flow = self.remove(volumes).await;
        let _ = reply.send(Ok(()));
        flow
    }

    async fn remove(&mut self, volumes: bool) -> ControlFlow<()> {
        self.restart_at = None;
        self.finish_run().await;
        let exit = self.current().state.last_exit().cloned().unwrap_or_default();
        self.change(|s| s.state = State::Removing(exit.clone()));
        self.inbox.close();
        let snapshot = self.current();
        teardown::remove(&self.inner, &snapshot.record, volumes).await;
        self.event(EventKind::Destroy, &[]);
        self.waiting_clients.clear();
        self.change(|s| s.state = State::Removed(exit));
        ControlFlow::Break(())
    }

    /// Saves the record. A failure is logged.
    pub(super) fn save(&self) -> bool {
        let result = self.write_record();
        if let Err(error) = &result {
            tracing::error!(container = %self.current().record.id, %error, "cannot save the container's record");
        }
        result.is_ok()
    }

    fn write_record(&self) -> Result<()> {
        let snapshot = self.current();
        snapshot.record.save(&self.inner.paths.container(&snapshot.record.id).record())
    }
}

fn duration_seconds(exit: &ExitRecord) -> String {
    ((exit.finished_at - exit.started_at).max(0) / 1_000_000_000).to_string()
}

/// The policy of a record. Its notation was checked when the container was created.
pub(crate) fn restart_policy(record: &ContainerRecord) -> RestartPolicy {
    let policy = &record.host_config.restart_policy;
    RestartPolicy::parse(&policy.name, policy.maximum_retry_count).unwrap_or(RestartPolicy::No)
}

async fn next_notice(notices: &mut Option<mpsc::UnboundedReceiver<ShimNotice>>) -> ShimNotice {
    match notices {
        Some(receiver) => receiver.recv().await.unwrap_or(ShimNotice::Closed),
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A live state as a shim reports it.
pub(crate) fn live_state(state: &ferry_shim_proto::ShimState) -> State {
    let live = Live { pid: state.pid, started_at: state.started_at };
    if state.paused { State::Paused(live) } else { State::Running(live) }
}

/// Reports a shim's answer that does not fit the question.
pub(crate) fn unexpected(reply: &Reply) -> EngineError {
    EngineError::System(format!("the shim answered {reply:?}, which does not fit the request"))
}

/// An exit that nobody recorded.
pub(crate) fn unknown_exit(started_at: i64) -> ExitRecord {
    ExitRecord { code: 255, oom_killed: false, started_at, finished_at: now_nanos(), log_lost: 0 }
}
