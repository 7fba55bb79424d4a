//! What an owner has its container's shim do: signals, freezing, clients. The owner waits for the shim, but not for ever: a shim
//! that does not answer must not keep its container from being ended.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ferry_shim_proto::{AttachStreams, Reply, Request as ShimRequest};

use super::handle::SignalIntent;
use super::owner::Owner;
use super::state::State;
use crate::error::{EngineError, Result};
use crate::events::EventKind;
use crate::shim::ShimClient;
use crate::signal;

/// How long a shim may take to answer. It answers within milliseconds unless it is stopped or its disk hangs.
const SHIM_PATIENCE: Duration = Duration::from_secs(3);

impl Owner {
    pub(super) async fn signal(&mut self, signal: i32, intent: SignalIntent) -> Result<()> {
        let snapshot = self.current();
        let id = &snapshot.record.id;
        let Some(shim) = snapshot.shim.as_ref().filter(|_| snapshot.state.live().is_some()) else {
            return Err(EngineError::Conflict(format!("container {id} is not running")));
        };
        if intent == SignalIntent::Stop && !snapshot.record.stopped_by_user {
            self.change(|s| Arc::make_mut(&mut s.record).stopped_by_user = true);
            self.save();
        }
        match shim.call_within(ShimRequest::Signal { signal }, &[], SHIM_PATIENCE).await {
            Some(answer) => answer.map_err(shim_error(id)).map(drop)?,
            None => return self.signal_past_shim(signal),
        }
        // A frozen process receives nothing but SIGKILL; Docker thaws so that the signal arrives.
        let thaws = intent == SignalIntent::Stop || snapshot.record.config.stop_signal.is_empty();
        if thaws && matches!(snapshot.state, State::Paused(_)) {
            if signal != signal::KILL {
                // For SIGKILL the shim has done it.
                ask(shim, ShimRequest::Resume, &[], id).await?;
            }
            self.change(|s| s.state = unfrozen(&s.state));
            self.continue_health();
        }
        Ok(())
    }

    /// Signals a container whose shim does not answer. Its init cannot have been replaced by another process of that pid: only
    /// the shim, its parent, could collect it.
    fn signal_past_shim(&mut self, number: i32) -> Result<()> {
        let snapshot = self.current();
        let id = &snapshot.record.id;
        let pid_file = self.inner.paths.bundle(id).pid_file();
        let lost =
            |reason: &str| EngineError::ShimLost { container: id.to_string(), reason: reason.to_owned() };
        tracing::error!(container = %id, signal = number, "the container's shim does not answer");
        if number == signal::KILL {
            // Nothing can be learned from it any more. Its end is noticed, and with it the container is ended.
            return match crate::shim::kill(&pid_file) {
                true => Ok(()),
                false => Err(lost("it does not answer and cannot be found")),
            };
        }
        let shim = crate::shim::named_in(&pid_file).ok_or_else(|| lost("it does not answer"))?;
        let init =
            snapshot.state.live().map(|l| l.pid).filter(|pid| crate::shim::child_of(&shim) == Some(*pid));
        let pid = init.and_then(rustix::process::Pid::from_raw).ok_or_else(|| lost("it does not answer"))?;
        let number =
            rustix::process::Signal::from_named_raw(number).ok_or_else(|| lost("it does not answer"))?;
        rustix::process::kill_process(pid, number).map_err(|e| lost(&e.to_string()))
    }

    pub(super) fn cancel_restart(&mut self) -> Result<()> {
        self.restart_at = None;
        self.change(|s| {
            Arc::make_mut(&mut s.record).stopped_by_user = true;
            if let State::Restarting(exit) = &s.state {
                s.state = State::Exited(exit.clone());
            }
        });
        self.save();
        Ok(())
    }

    pub(super) async fn freeze(&mut self, frozen: bool) -> Result<()> {
        let snapshot = self.current();
        let id = &snapshot.record.id;
        let next = match (&snapshot.state, frozen) {
            (State::Running(live), true) => State::Paused(live.clone()),
            (State::Paused(live), false) => State::Running(live.clone()),
            (State::Paused(_), true) => {
                return Err(EngineError::Conflict(format!("Container {id} is already paused")));
            }
            // Not a conflict to Docker, which answers 500.
            (_, false) => {
                return Err(EngineError::System(format!("Container {id} is not paused")));
            }
            (State::Restarting(_), true) => {
                return Err(EngineError::Conflict(format!(
                    "Container {id} is restarting, wait until the container is running"
                )));
            }
            _ => return Err(EngineError::Conflict(format!("container {id} is not running"))),
        };
        let Some(shim) = &snapshot.shim else {
            return Err(EngineError::Conflict(format!("container {id} is not running")));
        };
        let request = if frozen { ShimRequest::Pause } else { ShimRequest::Resume };
        ask(shim, request, &[], id).await?;
        self.change(|s| s.state = next);
        if frozen {
            self.stop_health();
        } else {
            self.continue_health();
        }
        self.event(if frozen { EventKind::Pause } else { EventKind::Unpause }, &[]);
        Ok(())
    }

    pub(super) async fn attach(&mut self, streams: AttachStreams, socket: OwnedFd) -> Result<()> {
        let snapshot = self.current();
        match (&snapshot.shim, snapshot.state.live()) {
            (Some(shim), Some(_)) => {
                let request = ShimRequest::Attach { exec: None, streams };
                ask(shim, request, &[socket], &snapshot.record.id).await?;
            }
            _ => self.waiting_clients.push((streams, socket)),
        }
        self.event(EventKind::Attach, &[]);
        Ok(())
    }
}

fn unfrozen(state: &State) -> State {
    match state {
        State::Paused(live) => State::Running(live.clone()),
        other => other.clone(),
    }
}

fn shim_error(id: &ferry_types::ContainerId) -> impl Fn(ferry_shim_proto::ShimError) -> EngineError + '_ {
    move |e| EngineError::from_shim(id, e)
}

/// A request that the owner waits for, but not for ever.
pub(super) async fn ask(
    shim: &ShimClient,
    request: ShimRequest,
    fds: &[OwnedFd],
    id: &ferry_types::ContainerId,
) -> Result<Reply> {
    match shim.call_within(request, fds, SHIM_PATIENCE).await {
        Some(answer) => answer.map_err(shim_error(id)),
        None => Err(EngineError::ShimLost {
            container: id.to_string(),
            reason: format!("it does not answer for {} s", SHIM_PATIENCE.as_secs()),
        }),
    }
}
