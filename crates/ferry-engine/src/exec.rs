//! Exec instances: what was asked, what runs, how it ended. They live as long as their container runs and are known only to
//! this engine, as in Docker.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ferry_api::exec::{ExecCreateRequest, ExecInspect, ExecProcess, IdResponse};
use ferry_shim_proto::{AttachStreams, Exec, Reply, Request as ShimRequest};
use ferry_types::{ContainerId, ExecId};

use crate::Engine;
use crate::api::{ExecStart, Hijacked};
use crate::container::attach::detach_keys;
use crate::container::owner::unexpected;
use crate::container::state::Snapshot;
use crate::error::{EngineError, Result};
use crate::spec;

/// How long a resize waits for its exec's start, as Docker's does, and how often it looks.
const RESIZE_PATIENCE: Duration = Duration::from_secs(10);
const RESIZE_INTERVAL: Duration = Duration::from_millis(5);

/// How far an exec is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExecState {
    Created,
    Starting,
    Running { pid: i32 },
    Exited { code: i32 },
}

#[derive(Clone)]
struct ExecInstance {
    container: ContainerId,
    request: Arc<ExecCreateRequest>,
    state: ExecState,
}

/// All exec instances.
#[derive(Default)]
pub(crate) struct ExecTable {
    table: Mutex<HashMap<ExecId, ExecInstance>>,
}

impl ExecTable {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ExecId, ExecInstance>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: &str) -> Result<(ExecId, ExecInstance)> {
        let missing = || EngineError::NoSuchExec(id.to_owned());
        let table = self.lock();
        if let Ok(full) = id.parse::<ExecId>() {
            return table.get(&full).map(|e| (full.clone(), e.clone())).ok_or_else(missing);
        }
        let mut found = table.iter().filter(|(full, _)| !id.is_empty() && full.as_str().starts_with(id));
        match (found.next(), found.next()) {
            (Some((full, exec)), None) => Ok((full.clone(), exec.clone())),
            _ => Err(missing()),
        }
    }

    fn set(&self, id: &ExecId, state: ExecState) {
        if let Some(exec) = self.lock().get_mut(id) {
            // An exit may be reported before the answer to the start is handled.
            if !matches!(exec.state, ExecState::Exited { .. }) {
                exec.state = state;
            }
        }
    }

    /// The shim reports an exec's end.
    pub fn exited(&self, id: &ExecId, code: i32) {
        self.set(id, ExecState::Exited { code });
    }

    /// The container ended, and with it all that ran in it.
    pub fn container_ended(&self, container: &ContainerId) {
        self.lock().retain(|_, e| e.container != *container || !matches!(e.state, ExecState::Created));
        for exec in self.lock().values_mut().filter(|e| e.container == *container) {
            if !matches!(exec.state, ExecState::Exited { .. }) {
                exec.state = ExecState::Exited { code: 137 };
            }
        }
        // Clients ask for the code of an exec right after its end; older ones are forgotten with the next end.
        let mut table = self.lock();
        if table.len() > 4096 {
            table.retain(|_, e| !matches!(e.state, ExecState::Exited { .. }));
        }
    }

    /// Full ids of the execs running in a container.
    pub fn running_in(&self, container: &ContainerId) -> Vec<String> {
        let table = self.lock();
        let running = table
            .iter()
            .filter(|(_, e)| e.container == *container && !matches!(e.state, ExecState::Exited { .. }));
        running.map(|(id, _)| id.to_string()).collect()
    }
}

/// An exec about to be started for a client.
pub struct ExecAttachment {
    engine: Engine,
    id: ExecId,
    instance: ExecInstance,
    snapshot: Arc<Snapshot>,
    console_size: Option<(u16, u16)>,
    /// As the start says, whatever the exec was created with: that is how clients tell which stream they get.
    multiplexed: bool,
}

impl Engine {
    /// Prepares a command to be run in a running container.
    pub async fn exec_create(&self, container: &str, body: ExecCreateRequest) -> Result<IdResponse> {
        let handle = self.inner.containers.find(container)?;
        let snapshot = handle.snapshot();
        require_running(&snapshot, container)?;
        if body.cmd.is_empty() {
            return Err(EngineError::InvalidParameter("No exec command specified".to_owned()));
        }
        if !body.user.is_empty() {
            let (inner, record, user) =
                (Arc::clone(&self.inner), Arc::clone(&snapshot.record), body.user.clone());
            crate::blocking(move || {
                let overlay = inner.overlay(&record.id, &record.image_id)?;
                spec::check_user(&record, &overlay, &user).map_err(EngineError::InvalidParameter)
            })
            .await?;
        }
        if !body.detach_keys.is_empty() {
            detach_keys(Some(&body.detach_keys)).map_err(|_| {
                let keys = &body.detach_keys;
                EngineError::InvalidParameter(format!("Invalid escape keys ({keys}) provided"))
            })?;
        }
        let id = ExecId::random();
        self.inner.events.exec("exec_create", &snapshot.record, id.as_str(), &body.cmd);
        let instance = ExecInstance {
            container: snapshot.record.id.clone(),
            request: Arc::new(body),
            state: ExecState::Created,
        };
        self.inner.execs.lock().insert(id.clone(), instance);
        Ok(IdResponse { id: id.to_string() })
    }

    /// Checks that an exec can be started; the errors still fit into an HTTP answer.
    pub fn exec_start_prepare(&self, id: &str, o: &ExecStart) -> Result<ExecAttachment> {
        let (id, instance) = self.inner.execs.get(id)?;
        match instance.state {
            ExecState::Created => {}
            ExecState::Starting | ExecState::Running { .. } => {
                return Err(EngineError::Conflict(format!("exec command {id} is already running")));
            }
            ExecState::Exited { .. } => {
                return Err(EngineError::Conflict(format!("exec command {id} has already run")));
            }
        }
        let handle = self.inner.containers.find(instance.container.as_str())?;
        let snapshot = handle.snapshot();
        require_running(&snapshot, instance.container.as_str())?;
        let own_size = instance
            .request
            .console_size
            .map(|[h, w]| (u16::try_from(h).unwrap_or(u16::MAX), u16::try_from(w).unwrap_or(u16::MAX)));
        let console_size = o.console_size.or(own_size).filter(|(h, w)| *h > 0 && *w > 0);
        Ok(ExecAttachment { engine: self.clone(), id, instance, snapshot, console_size, multiplexed: !o.tty })
    }

    /// Sets the size of an exec's terminal.
    pub async fn exec_resize(&self, id: &str, height: u16, width: u16) -> Result<()> {
        let (id, mut instance) = self.inner.execs.get(id)?;
        // Clients resize when they have sent the start, which may not have got here yet.
        let patience = tokio::time::Instant::now() + RESIZE_PATIENCE;
        while matches!(instance.state, ExecState::Created | ExecState::Starting) {
            if tokio::time::Instant::now() > patience {
                return Err(EngineError::System("timeout waiting for exec session ready".to_owned()));
            }
            tokio::time::sleep(RESIZE_INTERVAL).await;
            instance = self.inner.execs.get(id.as_str())?.1;
        }
        if !matches!(instance.state, ExecState::Running { .. }) {
            return Err(EngineError::Conflict(format!("exec {id} is not running")));
        }
        let snapshot = self.inner.containers.find(instance.container.as_str())?.snapshot();
        let Some(shim) = &snapshot.shim else {
            return Err(EngineError::Conflict(format!("container {} is not running", instance.container)));
        };
        let request = ShimRequest::Resize { exec: Some(id), height, width };
        shim.call(request, &[]).await.map_err(|e| EngineError::from_shim(&instance.container, e))?;
        Ok(())
    }

    /// `GET /exec/{id}/json`.
    pub async fn exec_inspect(&self, id: &str) -> Result<ExecInspect> {
        let (id, mut instance) = self.inner.execs.get(id)?;
        if matches!(instance.state, ExecState::Starting | ExecState::Running { .. }) {
            // A client asks as soon as its stream has ended, which may be before the end of the process was heard of here. The
            // shim answers after it has told everything it knows.
            if let Ok(handle) = self.inner.containers.find(instance.container.as_str())
                && let Some(shim) = &handle.snapshot().shim
            {
                let _ = shim.call(ShimRequest::State, &[]).await;
            }
            instance = self.inner.execs.get(id.as_str())?.1;
        }
        let request = &instance.request;
        Ok(ExecInspect {
            id: id.to_string(),
            running: matches!(instance.state, ExecState::Running { .. }),
            exit_code: match instance.state {
                ExecState::Exited { code } => Some(code),
                ExecState::Created | ExecState::Starting | ExecState::Running { .. } => None,
            },
            process_config: ExecProcess {
                tty: request.tty,
                entrypoint: request.cmd.first().cloned().unwrap_or_default(),
                arguments: request.cmd.get(1..).unwrap_or_default().to_vec(),
                privileged: Some(request.privileged),
                user: request.user.clone(),
            },
            open_stdin: request.attach_stdin,
            open_stderr: request.attach_stderr,
            open_stdout: request.attach_stdout,
            can_remove: false,
            container_id: instance.container.to_string(),
            detach_keys: Some(String::new()),
            pid: match instance.state {
                ExecState::Running { pid } => pid,
                ExecState::Created | ExecState::Starting | ExecState::Exited { .. } => 0,
            },
        })
    }
}

fn require_running(snapshot: &Snapshot, shown: &str) -> Result<()> {
    use crate::container::state::State;
    match &snapshot.state {
        State::Running(_) => Ok(()),
        State::Paused(_) => Err(EngineError::Conflict(format!(
            "Container {shown} is paused, unpause the container before exec"
        ))),
        State::Restarting(_) => Err(EngineError::Conflict(format!(
            "Container {} is restarting, wait until the container is running",
            snapshot.record.id
        ))),
        State::Created { .. }
        | State::Starting { .. }
        | State::Exited(_)
        | State::Removing(_)
        | State::Removed(_) => {
            Err(EngineError::Conflict(format!("container {} is not running", snapshot.record.id)))
        }
    }
}

impl ExecAttachment {
    /// Whether output is framed.
    pub fn multiplexed(&self) -> bool {
        self.multiplexed
    }

    /// Runs the command, connected to the client when there is one.
    pub async fn start(self, client: Option<Hijacked>) -> Result<()> {
        let execs = &self.engine.inner.execs;
        {
            let mut table = execs.lock();
            match table.get_mut(&self.id) {
                Some(exec) if exec.state == ExecState::Created => exec.state = ExecState::Starting,
                Some(_) => {
                    return Err(EngineError::Conflict(format!(
                        "exec command {} is already running",
                        self.id
                    )));
                }
                None => return Err(EngineError::NoSuchExec(self.id.to_string())),
            }
        }
        // A copy of the socket stays here, to tell the client when the start fails.
        let copy = client.as_ref().and_then(|c| c.socket.try_clone().ok());
        match self.run(client).await {
            Ok(()) => Ok(()),
            Err((error, code)) => {
                execs.exited(&self.id, code);
                if let Some(socket) = copy {
                    tell_client(socket, &error, self.multiplexed).await;
                }
                Err(error)
            }
        }
    }

    async fn run(&self, client: Option<Hijacked>) -> std::result::Result<(), (EngineError, i32)> {
        let record = &self.snapshot.record;
        let request = &self.instance.request;
        let failed = |e: EngineError| (e, 126);
        if !request.working_dir.is_empty() && !request.working_dir.starts_with('/') {
            let text = "OCI runtime exec failed: exec failed: Cwd must be an absolute path";
            return Err((EngineError::InvalidParameter(text.to_owned()), 128));
        }
        let process = self.write_process().await.map_err(failed)?;
        let mut fds = Vec::new();
        let mut streams = None;
        if let Some(client) = client {
            streams = Some(AttachStreams {
                stdin: request.attach_stdin,
                stdout: request.attach_stdout,
                stderr: request.attach_stderr,
                multiplexed: self.multiplexed,
                pending_input: client.pending_input,
                detach_keys: detach_keys(Some(&request.detach_keys)).map_err(failed)?,
            });
            fds.push(client.socket);
        }
        let exec = Exec {
            id: self.id.clone(),
            process: process.clone(),
            open_stdin: request.attach_stdin && streams.is_some(),
            console_size: self.console_size,
            attach: streams,
            probe: None,
        };
        let Some(shim) = &self.snapshot.shim else {
            return Err(failed(EngineError::Conflict(format!("container {} is not running", record.id))));
        };
        self.engine.inner.events.exec("exec_start", record, self.id.as_str(), &request.cmd);
        let answer = shim.call(ShimRequest::Exec(Box::new(exec)), &fds).await;
        drop(fds);
        let _ = std::fs::remove_file(&process);
        match answer {
            Ok(Reply::ExecStarted { pid }) => {
                self.engine.inner.execs.set(&self.id, ExecState::Running { pid });
                Ok(())
            }
            Ok(other) => Err(failed(unexpected(&other))),
            Err(error) => {
                let code = exit_code(&error);
                let own = crate::runtimes::is_own(&record.host_config.runtime);
                Err((EngineError::from_exec(error, own), code))
            }
        }
    }

    async fn write_process(&self) -> Result<PathBuf> {
        let inner = Arc::clone(&self.engine.inner);
        let record = Arc::clone(&self.snapshot.record);
        let request = Arc::clone(&self.instance.request);
        let path = inner.paths.bundle(&record.id).exec_process(&self.id);
        let write = move || {
            let overlay = inner.overlay(&record.id, &record.image_id)?;
            let input = spec::ExecInput {
                args: &request.cmd,
                env: &request.env,
                user: &request.user,
                working_dir: &request.working_dir,
                tty: request.tty,
                privileged: request.privileged,
            };
            let process = spec::exec_process(&record, &overlay, &inner.host, &input)
                .map_err(EngineError::InvalidParameter)?;
            std::fs::write(&path, process).map_err(|source| EngineError::File {
                action: "write",
                path: path.clone(),
                source,
            })?;
            Ok(path)
        };
        crate::blocking(write).await
    }
}

/// Docker's exit code for an exec that could not be started; where the cause has no kind of its own, its text decides, as
/// there.
fn exit_code(error: &ferry_shim_proto::ShimError) -> i32 {
    use ferry_shim_proto::ShimErrorKind as Kind;
    match error.kind {
        Kind::CommandNotFound => 127,
        Kind::CommandNotExecutable => 126,
        Kind::State | Kind::Invalid | Kind::System | Kind::Log => {
            let text = error.message.to_ascii_lowercase();
            match () {
                () if text.contains("no such file or directory") => 127,
                () if text.contains("permission denied") => 126,
                () => 128,
            }
        }
    }
}

/// Writes a failed start into the client's stream, as Docker does: the HTTP answer has gone out already.
async fn tell_client(socket: std::os::fd::OwnedFd, error: &EngineError, multiplexed: bool) {
    let text = format!("{error}\r\n");
    let mut bytes = Vec::with_capacity(text.len() + 8);
    if multiplexed {
        // On standard output, where Docker writes it.
        bytes.extend_from_slice(&[1, 0, 0, 0]);
        bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    }
    bytes.extend_from_slice(text.as_bytes());
    let write = move || {
        // The text is short; a client that does not read it loses nothing else.
        let _ = rustix::net::send(
            &socket,
            &bytes,
            rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL,
        );
        let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Both);
    };
    let _ = crate::blocking_raw(write).await;
}
