//! Running the probes of a container's health check, and acting on what they find. Part of the owner: a timer and at most
//! one request to the shim at a time, never awaited by the owner's other work. The shim ends a probe that takes too long and
//! reports its output together with its exit.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ferry_shim_proto::{Exec, Probe, ProbeOutcome, Request as ShimRequest};
use ferry_types::ExecId;
use tokio::time::Instant;

use super::handle::SignalIntent;
use super::health::{Action, Check, Health, OUTPUT_LIMIT, Outcome, Status, timeout_message};
use super::owner::Owner;
use super::record::ContainerRecord;
use super::state::State;
use crate::error::{EngineError, Result};
use crate::events::EventKind;
use crate::inner::Inner;
use crate::shim::ShimClient;
use crate::signal;
use crate::spec;
use crate::time::now_nanos;

/// How long a shim may take to start a probe, beyond the time the probe itself has.
const SHIM_PATIENCE: Duration = Duration::from_secs(10);

type Starting = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// The health check of a running container.
pub(super) struct Monitor {
    check: Check,
    /// When to probe next; none while a probe runs.
    due: Option<Instant>,
    /// The probe that runs, and when it began.
    probe: Option<(ExecId, i64)>,
    /// Its start, until the shim has answered.
    starting: Option<Starting>,
    /// It was found healthy since the container started.
    was_healthy: bool,
}

/// A container that is being ended because it is unhealthy.
pub(super) struct Ending {
    /// It is to be started again.
    pub restart: bool,
    /// It is stopped as by a user.
    pub stop: bool,
    /// It was healthy before: the back-off may begin anew.
    pub was_healthy: bool,
    /// When patience ends.
    pub kill_at: Option<Instant>,
}

impl Monitor {
    /// When to probe next.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Waits for the shim to have started a probe; for ever when none is being started.
    pub async fn started(monitor: &mut Option<Self>) -> Result<()> {
        let Some(starting) = monitor.as_mut().and_then(|m| m.starting.as_mut()) else {
            return std::future::pending().await;
        };
        let result = starting.await;
        if let Some(monitor) = monitor {
            monitor.starting = None;
        }
        result
    }
}

impl Owner {
    /// Begins to check the health of a container that has started.
    pub(super) fn watch_health(&mut self) {
        let snapshot = self.current();
        let Some(check) = Check::of(&snapshot.record.config) else {
            if snapshot.health.is_some() {
                self.change(|s| s.health = None);
            }
            return;
        };
        let health = Health::starting(snapshot.health.as_deref());
        self.publish_health(health);
        self.resume_health(check, false);
    }

    /// Goes on with the checks of a container taken over from another engine, from where that one was.
    pub(super) fn adopt_health(&mut self) {
        let snapshot = self.current();
        let Some(check) = Check::of(&snapshot.record.config) else { return };
        let path = self.inner.paths.bundle(&snapshot.record.id).health();
        let known: Option<Health> =
            std::fs::read(path).ok().and_then(|json| serde_json::from_slice(&json).ok());
        let health = known.unwrap_or_else(|| Health::starting(snapshot.health.as_deref()));
        let status = health.status;
        self.change(|s| s.health = Some(Arc::new(health)));
        if matches!(snapshot.state, State::Running(_)) {
            // The other engine may have ended between a finding and what follows from it.
            let act = status == Status::Unhealthy;
            self.resume_health(check, act);
        }
    }

    fn resume_health(&mut self, check: Check, act: bool) {
        let snapshot = self.current();
        let Some(health) = &snapshot.health else { return };
        let pause = check.pause(health.status, self.up_for(now_nanos()));
        // Containers taken over together keep the times at which they were probed.
        let spent = health.log.back().filter(|_| health.status != Status::Starting).map_or(0, |last| {
            now_nanos().saturating_sub(last.end).clamp(0, i64::try_from(pause.as_nanos()).unwrap_or(i64::MAX))
        });
        let left = pause.saturating_sub(Duration::from_nanos(u64::try_from(spent).unwrap_or(0)));
        let was_healthy = health.status == Status::Healthy;
        let action = check.action;
        self.monitor = Some(Monitor {
            check,
            due: Some(Instant::now() + left),
            probe: None,
            starting: None,
            was_healthy,
        });
        if act && action != Action::None {
            self.begin_ending();
        }
    }

    /// The container is not checked any more. Docker calls it unhealthy from then on.
    pub(super) fn stop_health(&mut self) {
        if self.monitor.take().is_none() {
            return;
        }
        if let Some(health) = self.current().health.as_deref() {
            let mut health = health.clone();
            health.status = Status::Unhealthy;
            self.publish_health(health);
        }
    }

    /// Goes on after a pause.
    pub(super) fn continue_health(&mut self) {
        let snapshot = self.current();
        if let Some(check) = Check::of(&snapshot.record.config)
            && snapshot.health.is_some()
        {
            self.resume_health(check, false);
        }
    }

    fn publish_health(&mut self, health: Health) {
        let path = self.inner.paths.bundle(&self.current().record.id).health();
        // In the run directory, which usually is in memory. Without it the next engine begins with `starting`.
        if let Err(error) =
            serde_json::to_vec(&health).map_err(Into::into).and_then(|json| write(&path, &json))
        {
            tracing::debug!(path = %path.display(), %error, "cannot keep the container's health");
        }
        self.change(|s| s.health = Some(Arc::new(health)));
    }

    fn up_for(&self, now: i64) -> Duration {
        let started = self.current().state.live().map_or(now, |l| l.started_at);
        Duration::from_nanos(u64::try_from(now.saturating_sub(started)).unwrap_or(0))
    }

    /// The time for a probe has come.
    pub(super) fn on_probe_due(&mut self) {
        let snapshot = self.current();
        let (Some(monitor), Some(shim)) = (&mut self.monitor, &snapshot.shim) else { return };
        monitor.due = None;
        let exec = ExecId::random();
        let command = monitor.check.command.clone();
        monitor.probe = Some((exec.clone(), now_nanos()));
        monitor.starting = Some(Box::pin(start_probe(
            Arc::clone(&self.inner),
            Arc::clone(&snapshot.record),
            shim.clone(),
            exec.clone(),
            monitor.check.clone(),
        )));
        self.inner.events.exec("exec_create", &snapshot.record, exec.as_str(), &command);
        self.inner.events.exec("exec_start", &snapshot.record, exec.as_str(), &command);
    }

    /// The shim has answered the request to start a probe.
    pub(super) fn on_probe_started(&mut self, result: Result<()>) {
        if let Err(error) = result
            && let Some((_, start)) = self.monitor.as_mut().and_then(|m| m.probe.take())
        {
            self.on_probe_outcome(Outcome { start, end: now_nanos(), code: -1, output: error.to_string() });
        }
    }

    /// An exec has ended; it may be the probe.
    pub(super) fn on_exec_exited(&mut self, exec: &ExecId, code: i32, outcome: Option<ProbeOutcome>) {
        let Some(monitor) = &mut self.monitor else { return };
        let Some((_, start)) = monitor.probe.take_if(|(id, _)| id == exec) else { return };
        let ProbeOutcome { timed_out, mut output, truncated } = outcome.unwrap_or_default();
        if truncated {
            output.push_str("...");
        }
        let (code, output) = match timed_out {
            true => (-1, timeout_message(monitor.check.timeout, &output)),
            false => (code, output),
        };
        self.on_probe_outcome(Outcome { start, end: now_nanos(), code, output });
    }

    fn on_probe_outcome(&mut self, outcome: Outcome) {
        let snapshot = self.current();
        let since_start = self.up_for(outcome.start);
        let now = self.up_for(outcome.end);
        let (Some(monitor), Some(health)) = (&mut self.monitor, snapshot.health.as_deref()) else { return };
        let mut health = health.clone();
        let changed = health.note(&monitor.check, outcome, since_start);
        monitor.was_healthy |= health.status == Status::Healthy;
        monitor.due = Some(Instant::now() + monitor.check.pause(health.status, now));
        let act = changed == Some(Status::Unhealthy) && monitor.check.action != Action::None;
        self.publish_health(health);
        if let Some(status) = changed {
            self.inner.events.health(&snapshot.record, status.as_str());
        }
        if act {
            self.begin_ending();
        }
    }

    /// Does what the container's label asks for when it is unhealthy. The signal is sent at the owner's next turn.
    fn begin_ending(&mut self) {
        let Some(monitor) = &self.monitor else { return };
        let (action, was_healthy) = (monitor.check.action, monitor.was_healthy);
        let (restart, stop) = (action == Action::Restart, action == Action::Stop);
        tracing::warn!(container = %self.current().record.id, action = ?monitor.check.action, "the container is unhealthy");
        self.ending = Some(Ending { restart, stop, was_healthy, kill_at: Some(Instant::now()) });
        self.ending_signalled = false;
    }

    /// Sends the signal of an ending whose time has come: the container's stop signal first, SIGKILL when that was in vain.
    pub(super) async fn on_ending_due(&mut self) {
        let snapshot = self.current();
        let action = self.monitor.as_ref().map_or(Action::None, |m| m.check.action);
        let first = !std::mem::replace(&mut self.ending_signalled, true);
        let number =
            if first && action != Action::Kill { super::ops::stop_signal(&snapshot) } else { signal::KILL };
        let intent = if action == Action::Stop { SignalIntent::Stop } else { SignalIntent::Deliver };
        let wait = super::ops::stop_timeout(&snapshot.record);
        if let Some(ending) = &mut self.ending {
            ending.kill_at =
                if number == signal::KILL { None } else { wait.map(|wait| Instant::now() + wait) };
        }
        match self.signal(number, intent).await {
            Ok(()) => self.event(EventKind::Kill, &[("signal", number.to_string())]),
            Err(error) => {
                tracing::warn!(container = %snapshot.record.id, %error, "cannot end the unhealthy container");
            }
        }
    }
}

fn write(path: &std::path::Path, json: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, json)?;
    std::fs::rename(&temporary, path)
}

async fn start_probe(
    inner: Arc<Inner>,
    record: Arc<ContainerRecord>,
    shim: ShimClient,
    id: ExecId,
    check: Check,
) -> Result<()> {
    let process = {
        let (inner, record, command) = (Arc::clone(&inner), Arc::clone(&record), check.command.clone());
        crate::blocking(move || process_file(&inner, &record, &command)).await?
    };
    let timeout_ms = u64::try_from(check.timeout.as_millis()).unwrap_or(u64::MAX);
    let request = Exec {
        id,
        process,
        open_stdin: false,
        console_size: None,
        attach: None,
        probe: Some(Probe { timeout_ms, output_limit: OUTPUT_LIMIT }),
    };
    let call = shim.call(ShimRequest::Exec(Box::new(request)), &[]);
    match tokio::time::timeout(check.timeout + SHIM_PATIENCE, call).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => {
            let own = crate::runtimes::is_own(&record.host_config.runtime);
            Err(EngineError::from_exec(error, own))
        }
        Err(_) => Err(EngineError::System("the container's shim does not answer".to_owned())),
    }
}

/// Writes the probe's process object, once for each run of the container.
fn process_file(inner: &Inner, record: &ContainerRecord, command: &[String]) -> Result<PathBuf> {
    let path = inner.paths.bundle(&record.id).probe();
    if path.exists() {
        return Ok(path);
    }
    let overlay = inner.overlay(&record.id, &record.image_id)?;
    let input =
        spec::ExecInput { args: command, env: &[], user: "", working_dir: "", tty: false, privileged: false };
    let process =
        spec::exec_process(record, &overlay, &inner.host, &input).map_err(EngineError::InvalidParameter)?;
    write(&path, &process).map_err(|source| EngineError::File {
        action: "write",
        path: path.clone(),
        source,
    })?;
    Ok(path)
}
