//! Running further processes in the container.
//!
//! ferry's own runtime has done so when it returns. Another runtime is a program, and it takes its time: the request is answered
//! when it has ended, and the connection it came on is left alone until then, so that answers stay in order.

use std::fs::File;
use std::io::BufReader;
use std::os::fd::{AsFd, OwnedFd};

use ferry_runtime::cgroup::Subgroup;
use ferry_runtime::{ExecProcess as Started, ExecRequest, ExternalExec, PendingExec, Stdio, exec};
use ferry_shim_proto::{Exec, Reply, ShimError};
use ferry_types::ExecId;
use oci_spec::runtime::Process;
use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};
use serde::de::DeserializeOwned;

use crate::clock;
use crate::error::Error;
use crate::requests::{SIGKILL, send_signal};
use crate::shim::{ExecProcess, RunningProbe, Shim};
use crate::stdio::{Ends, Session, pipes, terminal};

/// How long another runtime may take to run a process.
const START_MS: u64 = 10_000;

/// An exec that another runtime is starting.
#[derive(Debug)]
pub struct Pending {
    call: PendingExec,
    /// The request's connection and number.
    conn: u32,
    seq: u64,
    order: Order,
    /// When to end the runtime; none once that was done.
    deadline: Option<u64>,
}

impl Pending {
    /// Ends the runtime. What it has begun ends with it.
    pub fn kill(&self) {
        self.call.kill();
    }

    /// When [`Shim::expire_execs`] has to look at it.
    pub fn deadline(&self) -> Option<u64> {
        self.deadline
    }
}

/// What is needed of a request once its process runs.
#[derive(Debug)]
struct Order {
    request: Exec,
    client: Option<OwnedFd>,
    /// Our ends of its pipes; a terminal comes from the runtime.
    ends: Option<Ends>,
    group: Option<Subgroup>,
}

impl Order {
    /// Undoes what was prepared.
    fn abandon(&self) {
        if let Some(group) = &self.group {
            let _ = group.dissolve();
        }
    }
}

impl Shim {
    /// Runs a process with ferry's own runtime.
    pub(crate) fn exec(&mut self, request: Exec, client: Option<OwnedFd>) -> Result<Reply, Error> {
        self.require_exec(&request.id)?;
        let process: Process = read_process(&request)?;
        let spec = self.files.config()?;
        let terminal = process.terminal().unwrap_or(false);
        let (stdio, order) = self.prepare(request, client, terminal)?;
        let started = exec(ExecRequest {
            container_pid: self.container.pid,
            pidfd: self.container.pidfd.as_fd(),
            cgroup: &self.container.cgroup,
            group: order.group.as_ref(),
            spec: &spec,
            process: &process,
            stdio,
        });
        let started = started.inspect_err(|_| order.abandon())?;
        self.admit(order, started)
    }

    /// Has another runtime run a process; [`Shim::finish_execs`] answers.
    pub(crate) fn begin_exec(
        &mut self,
        conn: u32,
        seq: u64,
        request: Exec,
        client: Option<OwnedFd>,
    ) -> Result<(), Error> {
        self.require_exec(&request.id)?;
        let process: serde_json::Value = read_process(&request)?;
        let terminal = process["terminal"].as_bool().unwrap_or(false);
        let (stdio, order) = self.prepare(request, client, terminal)?;
        let begun = self.container.begin_exec(ExternalExec { process, stdio, group: order.group.as_ref() });
        let call = begun.inspect_err(|_| order.abandon())?;
        let deadline = Some(clock::monotonic_ms() + START_MS);
        self.pending.push(Pending { call, conn, seq, order, deadline });
        Ok(())
    }

    /// Takes over the processes of those runtimes that have ended, and answers.
    pub(crate) fn finish_execs(&mut self) {
        let mut at = 0;
        while let Some(pending) = self.pending.get(at) {
            match ended(pending.call.pid()) {
                None => at += 1,
                Some(status) => {
                    let pending = self.pending.swap_remove(at);
                    self.finish_exec(pending, status);
                }
            }
        }
    }

    fn finish_exec(&mut self, pending: Pending, status: WaitStatus) {
        let Pending { call, conn, seq, order, deadline } = pending;
        let result = match call.finish(status, order.group.as_ref()) {
            Ok(started) => self.admit(order, started),
            Err(error) => {
                order.abandon();
                match deadline {
                    None => Err(Error::State("the runtime took too long to run the process")),
                    Some(_) => Err(error.into()),
                }
            }
        };
        // An engine that is gone needs no answer.
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.waiting = false;
            conn.answer(seq, result.map_err(ShimError::from));
        }
    }

    /// Ends runtimes that take too long.
    pub(crate) fn expire_execs(&mut self, now: u64) {
        for pending in self.pending.iter_mut().filter(|p| p.deadline.is_some_and(|at| now >= at)) {
            pending.deadline = None;
            pending.kill();
        }
    }

    fn require_exec(&self, id: &ExecId) -> Result<(), Error> {
        self.require_running()?;
        if self.paused {
            return Err(Error::State("container is paused"));
        }
        if self.execs.iter().any(|exec| exec.id == *id)
            || self.pending.iter().any(|pending| pending.order.request.id == *id)
            || self.ended.iter().any(|ended| ended.exec == *id)
        {
            return Err(Error::State("exec is running already"));
        }
        Ok(())
    }

    fn prepare(
        &self,
        request: Exec,
        client: Option<OwnedFd>,
        terminal: bool,
    ) -> Result<(Stdio, Order), Error> {
        let (stdio, ends) = if terminal {
            let size = request.console_size;
            (Stdio::Terminal { size }, None)
        } else {
            let (stdio, ends) = pipes(request.open_stdin).map_err(Error::system("create pipes"))?;
            (stdio, Some(ends))
        };
        let group = match &request.probe {
            Some(_) => Some(self.container.cgroup.subgroup(&format!("probe-{}", request.id.short()))?),
            None => None,
        };
        Ok((stdio, Order { request, client, ends, group }))
    }

    /// Takes a process that runs among those supervised.
    fn admit(&mut self, order: Order, mut started: Started) -> Result<Reply, Error> {
        let Order { request, client, ends, group } = order;
        let ends = match (ends, started.console.take()) {
            (Some(ends), _) => Ok(ends),
            (None, Some(master)) => {
                terminal(master, request.open_stdin).map_err(Error::system("set up terminal"))
            }
            (None, None) => Err(Error::State("the runtime made no terminal")),
        };
        let ends = ends.inspect_err(|_| {
            // Reaped like any other child.
            let _ = send_signal(started.pidfd.as_fd(), SIGKILL);
        })?;
        let number = self.next_session;
        self.next_session += 1;
        let pid = started.pid;
        let mut session = Session::new(number, Some(request.id.clone()), ends, true, None);
        if let (Some(socket), Some(streams)) = (client, &request.attach) {
            // A client that is gone already does not keep the process from running.
            let _ = session.attach(socket, streams);
        }
        let probe = group.zip(request.probe).map(|(group, probe)| {
            session.capture(probe.output_limit);
            let deadline = Some(clock::monotonic_ms().saturating_add(probe.timeout_ms));
            RunningProbe { group, deadline, timed_out: false }
        });
        self.sessions.insert(number, session);
        self.execs.push(ExecProcess { id: request.id, session: number, pid, pidfd: started.pidfd, probe });
        Ok(Reply::ExecStarted { pid })
    }
}

/// The status of a child that has ended.
fn ended(pid: i32) -> Option<WaitStatus> {
    let (_, status) = waitpid(Pid::from_raw(pid), WaitOptions::NOHANG).ok().flatten()?;
    Some(status)
}

fn read_process<T: DeserializeOwned>(request: &Exec) -> Result<T, Error> {
    let file = File::open(&request.process).map_err(Error::file("open", &request.process))?;
    serde_json::from_reader(BufReader::new(file))
        .map_err(|source| Error::Json { path: request.process.clone(), source })
}
