//! The owner of one container: the only task that changes its state. Requests are short; whatever takes
//! long (stopping, waiting, copying) happens in the caller, who watches the snapshot.

use std::future::Future;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;

use ferry_shim_proto::{AttachStreams, Event, ExitRecord, Reply};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::handle::{ContainerHandle, Edit, OwnerRequest, ReplyTo};
use super::monitor::{Ending, Monitor};
use super::record::ContainerRecord;
use super::restart::{Backoff, RestartPolicy};
use super::state::{Live, Snapshot, State};
use super::teardown;
use crate::error::{EngineError, Result};
use crate::events::EventKind;
use crate::inner::Inner;
use crate::shim::{ShimClient, ShimNotice};
use crate::time::now_nanos;

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
    Arc::new(ContainerHandle {
        requests,
        snapshot: watch,
        attaching: watch::Sender::new(0),
        had_clients: false.into(),
    })
}

pub(super) struct Owner {
    pub(super) inner: Arc<Inner>,
    inbox: mpsc::Receiver<OwnerRequest>,
    pub(super) publish: watch::Sender<Arc<Snapshot>>,
    /// Of the running shim.
    pub(super) notices: Option<mpsc::UnboundedReceiver<ShimNotice>>,
    /// Clients attached before the container runs.
    pub(super) waiting_clients: Vec<(AttachStreams, OwnedFd)>,
    pub(super) backoff: Backoff,
    pub(super) restart_at: Option<Instant>,
    /// While the container runs and has a health check.
    pub(super) monitor: Option<Monitor>,
    /// While it is being ended for being unhealthy.
    pub(super) ending: Option<Ending>,
    /// Whether that has been tried gently.
    pub(super) ending_signalled: bool,
    /// The shim of a run whose end could not be saved, for want of space say: until it is, the shim knows it.
    pub(super) unsaved: Option<Unsaved>,
}

/// What is left to do of the end of a run, and when to try again.
pub(super) struct Unsaved {
    pub(super) release: Pin<Box<dyn Future<Output = ()> + Send>>,
    pub(super) retry_at: Instant,
}

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
    pub(super) fn network_events(&self, kind: EventKind) {
        let record = &self.current().record;
        if !record.config.network_disabled {
            record.networks.keys().for_each(|name| self.network_event(kind, name));
        }
    }

    /// The container joined or left a network.
    pub(super) fn network_event(&self, kind: EventKind, name: &str) {
        let (id, driver) = crate::network::identity(&self.inner, name);
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
            OwnerRequest::MendNetworks { reply } => {
                let _ = reply.send(self.mend_networks().await);
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

    pub(super) async fn remove(&mut self, volumes: bool) -> ControlFlow<()> {
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

    pub(super) fn write_record(&self) -> Result<()> {
        let snapshot = self.current();
        snapshot.record.save(&self.inner.paths.container(&snapshot.record.id).record())
    }
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
