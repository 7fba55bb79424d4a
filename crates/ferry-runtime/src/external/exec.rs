//! A further process in a container of another runtime. The runtime is not waited for: it may take tens of milliseconds, and
//! whoever supervises the container has output to pass on meanwhile.

use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::process::WaitStatus;
use serde_json::Value;

use super::call::{Call, Streams};
use super::console::ConsoleSocket;
use super::{External, adopted, config, write_json};
use crate::cgroup::{Cgroup, Subgroup};
use crate::container::kill_and_reap;
use crate::exec::ExecProcess;
use crate::{Error, Stdio};

/// What to run.
#[derive(Debug)]
pub struct ExternalExec<'a> {
    /// The OCI process object (runtime-spec `config.md`).
    pub process: Value,
    /// Its standard streams.
    pub stdio: Stdio,
    /// The group below the container's that the process is to be in.
    pub group: Option<&'a Subgroup>,
}

/// A runtime about to run a process.
#[derive(Debug)]
pub struct PendingExec {
    call: Call,
    runtime: String,
    process_file: PathBuf,
    pid_file: PathBuf,
    console: Option<ConsoleSocket>,
    size: Option<(u16, u16)>,
}

impl External {
    /// Has the runtime run a process. When the caller has reaped the runtime, [`PendingExec::finish`] tells how it went;
    /// it must be called before any process is reaped that is not known yet.
    pub fn begin_exec(&mut self, exec: ExternalExec<'_>, cgroup: &Cgroup) -> Result<PendingExec, Error> {
        let ExternalExec { mut process, stdio, group } = exec;
        let size = match stdio {
            Stdio::Terminal { size } => size,
            Stdio::Inherit | Stdio::Fds { .. } => None,
        };
        let console = match stdio {
            Stdio::Terminal { .. } => Some(self.console()?),
            Stdio::Inherit | Stdio::Fds { .. } => None,
        };
        config::set_size(&mut process, size);
        let (process_file, pid_file) = (self.file("process"), self.file("pid"));
        write_json(&process_file, &process)?;
        let mut line = self.line("exec");
        line.flag("--detach");
        line.option("--process", &process_file);
        line.option("--pid-file", &pid_file);
        if let Some(console) = &console {
            line.option("--console-socket", console.path());
        }
        line.argument(&self.id);
        // Born in the group, the process is there from the start where runtimes leave it be.
        let born_in = match group {
            Some(group) => group.hybrid_dir_fd()?,
            None => cgroup.hybrid_dir_fd()?,
        };
        let call = self.call(line, Streams::of(stdio)?, born_in.as_ref()).inspect_err(|_| {
            drop(std::fs::remove_file(&process_file));
        })?;
        let runtime = self.program.name.clone();
        Ok(PendingExec { call, runtime, process_file, pid_file, console, size })
    }
}

impl PendingExec {
    /// The runtime's process, a child of the caller, who reaps it.
    pub fn pid(&self) -> i32 {
        self.call.pid()
    }

    /// Ends the runtime, which is to be reaped all the same.
    pub fn kill(&self) {
        self.call.kill();
    }

    /// The process that runs now, given how the runtime ended.
    pub fn finish(self, status: WaitStatus, group: Option<&Subgroup>) -> Result<ExecProcess, Error> {
        let Self { call, runtime, process_file, pid_file, console, size } = self;
        drop(std::fs::remove_file(process_file));
        if let Err(error) = call.ended(status) {
            drop(std::fs::remove_file(pid_file));
            return Err(error);
        }
        let (pid, pidfd) = adopted(&runtime, &pid_file)?;
        let settled = group
            .map_or(Ok(()), |group| group.adopt(pid))
            .and_then(|()| console.map(|console| console.receive(size)).transpose());
        match settled {
            Ok(console) => Ok(ExecProcess { pid, pidfd, console }),
            Err(error) => {
                kill_and_reap(pid, pidfd.as_fd());
                Err(error)
            }
        }
    }
}
