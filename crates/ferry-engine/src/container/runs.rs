//! A container's runs, as its owner sees them: their start, for a user or by policy, and their end.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use ferry_shim_proto::ExitRecord;
use tokio::time::Instant;

use super::launch;
use super::links;
use super::monitor::Ending;
use super::owner::{Owner, Unsaved, restart_policy};
use super::record::{ExitInfo, Lifecycle};
use super::restart::Backoff;
use super::state::State;
use super::teardown;
use crate::error::{EngineError, Result};
use crate::events::EventKind;

/// How often to try to save the end of a run.
const SAVE_RETRY: Duration = Duration::from_millis(500);

impl Owner {
    pub(super) async fn start_for_user(&mut self) -> (Result<()>, ControlFlow<()>) {
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

    pub(super) async fn start(&mut self, by_policy: bool) -> Result<()> {
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

    pub(super) async fn on_exit(&mut self, exit: ExitRecord) -> ControlFlow<()> {
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

    pub(super) async fn save_again(&mut self) {
        let Some(unsaved) = &mut self.unsaved else { return };
        unsaved.retry_at = Instant::now() + SAVE_RETRY;
        if self.write_record().is_ok() {
            self.finish_run().await;
        }
    }

    /// Lets the shim of the last run go, if it is still kept.
    pub(super) async fn finish_run(&mut self) {
        if let Some(unsaved) = self.unsaved.take() {
            unsaved.release.await;
        }
    }

    pub(super) async fn on_restart_due(&mut self) -> ControlFlow<()> {
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
}

fn duration_seconds(exit: &ExitRecord) -> String {
    ((exit.finished_at - exit.started_at).max(0) / 1_000_000_000).to_string()
}
