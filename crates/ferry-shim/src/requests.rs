//! What the shim does for each request of an engine.

use std::os::fd::{AsFd, OwnedFd};

use ferry_shim_proto::{Event, PROTOCOL, Relay, Reply, Request, RequestFrame, ShimState};
use ferry_types::ExecId;
use ferry_types::net::Protocol;

use crate::control::Conn;
use crate::error::Error;
use crate::exit::Life;
use crate::record;
use crate::relay::Relays;
use crate::shim::{ExecProcess, Shim};
use crate::stdio::Session;

pub(crate) const SIGKILL: i32 = 9;
const NOT_RUNNING: Error = Error::State("container is not running");

impl Shim {
    /// Carries out one request. `conn` is the connection it came from, at the moment not among the
    /// shim's. Without a reply it is answered later.
    pub(crate) fn request(
        &mut self,
        conn: &mut Conn,
        frame: RequestFrame,
        fds: Vec<OwnedFd>,
    ) -> Result<Option<Reply>, Error> {
        let RequestFrame { seq, request } = frame;
        check_descriptors(&request, &fds)?;
        match request {
            Request::Exec(exec) if self.container.is_external() => {
                self.begin_exec(conn.id, seq, *exec, fds.into_iter().next())?;
                conn.waiting = true;
                Ok(None)
            }
            request => self.carry_out(conn, request, fds).map(Some),
        }
    }

    fn carry_out(&mut self, conn: &mut Conn, request: Request, fds: Vec<OwnedFd>) -> Result<Reply, Error> {
        if let Request::Relays { relays } = request {
            return self.replace_relays(&relays, fds);
        }
        let fd = fds.into_iter().next();
        match (request, fd) {
            (Request::Relays { .. }, _) => Err(Error::State("relays are replaced elsewhere")),
            (Request::Launch(_), _) => Err(Error::State("this shim has launched its container already")),
            (Request::Exec(exec), fd) => self.exec(*exec, fd),
            (Request::Attach { exec, streams }, Some(socket)) => {
                self.require_running()?;
                let session = self.session_of(exec.as_ref())?;
                let detached = session
                    .attach(socket, &streams)
                    .map_err(Error::system("set up the client's connection"))?;
                if detached {
                    let event = Event::Detached { exec };
                    conn.notify(&event);
                    self.notify(&event);
                }
                Ok(Reply::Done)
            }
            (Request::Attach { .. }, None) => Err(Error::Descriptors { expected: 1, got: 0 }),
            (Request::Signal { signal }, _) => self.signal(signal),
            (Request::SignalExec { exec, signal }, _) => self.signal_exec(&exec, signal),
            (Request::Resize { exec, height, width }, _) => {
                self.require_running()?;
                let session = self.session_of(exec.as_ref())?;
                match session.resize(height, width) {
                    Ok(true) => Ok(Reply::Done),
                    Ok(false) => Err(Error::State("process has no terminal")),
                    Err(e) => Err(Error::system("resize terminal")(e)),
                }
            }
            (Request::Pause, _) => self.pause(),
            (Request::Resume, _) => self.resume(),
            (Request::State, _) => Ok(Reply::State(self.state())),
            (Request::Subscribe, _) => {
                conn.subscribed = true;
                Ok(Reply::State(self.state()))
            }
            (Request::Release, _) => self.release(),
        }
    }

    fn replace_relays(&mut self, relays: &[Relay], sockets: Vec<OwnedFd>) -> Result<Reply, Error> {
        self.require_running()?;
        if relays.iter().any(|r| r.protocol == Protocol::Sctp) {
            return Err(Error::Sctp);
        }
        self.relays.close();
        self.relays = Relays::new(relays, sockets).map_err(Error::system("set up relay"))?;
        Ok(Reply::Done)
    }

    pub(crate) fn require_running(&self) -> Result<(), Error> {
        match self.life {
            Life::Running => Ok(()),
            Life::Ended { .. } | Life::Recording { .. } | Life::Exited(_) | Life::Released => {
                Err(NOT_RUNNING)
            }
        }
    }

    fn session_of(&mut self, exec: Option<&ExecId>) -> Result<&mut Session, Error> {
        let number = match exec {
            None => 0,
            Some(id) => self.exec_process(id)?.session,
        };
        self.sessions.get_mut(&number).ok_or(NOT_RUNNING)
    }

    fn exec_process(&self, id: &ExecId) -> Result<&ExecProcess, Error> {
        self.execs.iter().find(|exec| exec.id == *id).ok_or_else(|| Error::NoExec(id.as_str().to_owned()))
    }

    fn signal(&mut self, signal: i32) -> Result<Reply, Error> {
        self.require_running()?;
        send_signal(self.container.pidfd.as_fd(), signal)?;
        if signal == SIGKILL && self.paused {
            // A v1 freezer keeps even a killed process frozen.
            self.resume()?;
        }
        Ok(Reply::Done)
    }

    fn signal_exec(&self, exec: &ExecId, signal: i32) -> Result<Reply, Error> {
        let exec = self.exec_process(exec)?;
        send_signal(exec.pidfd.as_fd(), signal)?;
        Ok(Reply::Done)
    }

    fn pause(&mut self) -> Result<Reply, Error> {
        self.require_running()?;
        if self.paused {
            return Err(Error::State("container is already paused"));
        }
        if !self.pending.is_empty() {
            // Its runtime would hang, half in the container.
            return Err(Error::State("an exec is being started"));
        }
        // A frozen probe could not be ended in time, and would tell nothing about the container afterwards.
        self.execs.iter_mut().for_each(ExecProcess::kill_probe);
        if let Err(error) = self.container.cgroup.freeze() {
            // Half frozen is worse than not frozen.
            let _ = self.container.cgroup.thaw();
            return Err(error.into());
        }
        self.paused = true;
        Ok(Reply::Done)
    }

    fn resume(&mut self) -> Result<Reply, Error> {
        self.require_running()?;
        if !self.paused {
            return Err(Error::State("container is not paused"));
        }
        self.container.cgroup.thaw()?;
        self.paused = false;
        Ok(Reply::Done)
    }

    fn state(&self) -> ShimState {
        ShimState {
            pid: self.container.pid,
            started_at: self.started_at,
            paused: self.paused,
            exited: match &self.life {
                Life::Exited(record) | Life::Recording { record, .. } => Some(record.clone()),
                // Subscribers are told by the event.
                Life::Running | Life::Ended { .. } | Life::Released => None,
            },
            log_lost: self.log_lost(),
            replaces_relays: true,
            protocol: PROTOCOL,
            execs: self.execs.iter().map(|exec| (exec.id.clone(), exec.pid)).collect(),
        }
    }

    fn release(&mut self) -> Result<Reply, Error> {
        match self.life {
            Life::Exited(_) | Life::Recording { .. } => {}
            Life::Released => return Ok(Reply::Done),
            Life::Running | Life::Ended { .. } => {
                return Err(Error::State("the container's exit has not been announced"));
            }
        }
        // Before the answer: from then on the paths belong to the container's next shim.
        let files = &self.files;
        record::remove(&files.socket).map_err(Error::file("remove", &files.socket))?;
        record::remove(&files.pid_file).map_err(Error::file("remove", &files.pid_file))?;
        self.listener = None;
        self.life = Life::Released;
        Ok(Reply::Done)
    }
}

/// Whether a request came with those descriptors that it names.
fn check_descriptors(request: &Request, fds: &[OwnedFd]) -> Result<(), Error> {
    let expected = match request {
        Request::Attach { .. } => 1,
        Request::Exec(exec) => usize::from(exec.attach.is_some()),
        Request::Relays { relays } => relays.len(),
        // Refused whatever comes with it.
        Request::Launch(_) => fds.len(),
        Request::Signal { .. }
        | Request::SignalExec { .. }
        | Request::Resize { .. }
        | Request::Pause
        | Request::Resume
        | Request::State
        | Request::Subscribe
        | Request::Release => 0,
    };
    let got = fds.len();
    if got == expected { Ok(()) } else { Err(Error::Descriptors { expected, got }) }
}

/// Sends a signal, in the words clients know when that is not possible.
pub(crate) fn send_signal(pidfd: std::os::fd::BorrowedFd<'_>, signal: i32) -> Result<(), Error> {
    match ferry_sys::supervisor::pidfd_send_signal(pidfd, signal) {
        Err(e) if e.kind() == std::io::ErrorKind::InvalidInput => Err(Error::Signal(signal)),
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Err(NOT_RUNNING),
        other => other.map_err(Error::system("send signal")),
    }
}
