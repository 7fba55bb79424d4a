//! The shim's state and its event loop.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use ferry_runtime::Container;
use ferry_runtime::cgroup::{OomWatch, Subgroup};
use ferry_shim_proto::codec::{FrameReader, Incoming};
use ferry_shim_proto::{Event, Request, RequestFrame, ShimError};
use ferry_types::ExecId;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use crate::clock;
use crate::control::{Arrived, Conn};
use crate::error::Error;
use crate::execs::Pending;
use crate::exit::{Ended, Life};
use crate::launch::{Files, Launched};
use crate::log::Log;
use crate::poll::{EventFlags, Interest, Kind, Poller, Token};
use crate::relay::Relays;
use crate::setup::Prepared;
use crate::stdio::Session;

/// Bytes read at once.
const SCRATCH: usize = 64 * 1024;
/// How long to leave the listening socket alone when out of descriptors.
const ACCEPT_RETRY_MS: u64 = 200;
/// How long after the start the shim gives memory back and begins to watch for oom kills.
const SETTLE_MS: u64 = 50;
/// How long a buffer must be idle before it is freed, and how often a failing log is tried again.
const SECOND_MS: u64 = 1000;
/// Between two reports of lost log entries.
const LOST_REPORT_MS: u64 = 5000;

/// How a shim's life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The engine closed the connection before launching anything.
    Unused,
    /// The container could not be started; the engine knows.
    LaunchFailed,
    /// The container ended and its outcome is recorded.
    Finished,
}

/// A process run by an exec request.
#[derive(Debug)]
pub struct ExecProcess {
    /// The exec.
    pub id: ExecId,
    /// Number of its session.
    pub session: u32,
    /// In the host's pid namespace.
    pub pid: i32,
    /// Refers to the process.
    pub pidfd: OwnedFd,
    /// For a probe of the container's health.
    pub probe: Option<RunningProbe>,
}

/// What a probe has beyond an exec.
#[derive(Debug)]
pub struct RunningProbe {
    /// All it starts is in here.
    pub group: Subgroup,
    /// When to end it; none once that was done.
    pub deadline: Option<u64>,
    /// It was ended for taking too long.
    pub timed_out: bool,
}

impl ExecProcess {
    /// Ends a probe with all it started.
    pub(crate) fn kill_probe(&mut self) {
        let Some(probe) = &mut self.probe else { return };
        probe.deadline = None;
        // The kernel refuses neither; what is left all the same ends with the container.
        let _ = probe.group.kill();
        let _ = ferry_sys::supervisor::pidfd_send_signal(self.pidfd.as_fd(), 9);
    }
}

/// The listening socket.
#[derive(Debug)]
pub struct Listener {
    pub(crate) fd: OwnedFd,
    pub(crate) interest: Interest,
    pub(crate) rest_until: Option<u64>,
}

/// The supervisor of a running or ended container.
#[derive(Debug)]
pub struct Shim {
    pub(crate) poller: Poller,
    pub(crate) children: OwnedFd,
    pub(crate) children_interest: Interest,
    pub(crate) files: Files,
    pub(crate) container: Container,
    /// Whether the death of init takes all other processes with it.
    pub(crate) own_pid_namespace: bool,
    /// Whether the container may run out of memory by itself.
    pub(crate) memory_limited: bool,
    pub(crate) started_at: i64,
    pub(crate) paused: bool,
    pub(crate) oom: Option<OomWatch>,
    pub(crate) oom_interest: Interest,
    pub(crate) oom_killed: bool,
    pub(crate) life: Life,
    pub(crate) listener: Option<Listener>,
    pub(crate) conns: BTreeMap<u32, Conn>,
    pub(crate) next_conn: u32,
    pub(crate) sessions: BTreeMap<u32, Session>,
    pub(crate) next_session: u32,
    pub(crate) execs: Vec<ExecProcess>,
    pub(crate) pending: Vec<Pending>,
    pub(crate) ended: Vec<Ended>,
    pub(crate) relays: Relays,
    pub(crate) settle_at: Option<u64>,
    pub(crate) idle_at: Option<u64>,
    /// Lost log entries the subscribers know of, and when they may be told of more.
    pub(crate) lost_told: (u64, u64),
    pub(crate) scratch: Vec<u8>,
}

/// Waits for the engine's order, launches the container and supervises it to its end.
pub fn run(prepared: Prepared) -> Result<Ending, Error> {
    let mut reader = FrameReader::new();
    let frame = match reader.read(&prepared.engine)? {
        Incoming::Frame(frame) => frame,
        Incoming::End | Incoming::Pending => return Ok(Ending::Unused),
    };
    let RequestFrame { seq, request } =
        serde_json::from_slice(&frame.body).map_err(|e| Error::Protocol(e.into()))?;
    let flags = rustix::fs::fcntl_getfl(&prepared.engine).map_err(Error::system("fcntl"))?;
    rustix::fs::fcntl_setfl(&prepared.engine, flags | rustix::fs::OFlags::NONBLOCK)
        .map_err(Error::system("fcntl"))?;
    let mut engine = Conn::new(0, prepared.engine);
    let Request::Launch(launch) = request else {
        let error = Error::State("the first request must launch a container");
        engine.answer(seq, Err(error.into()));
        return Ok(Ending::LaunchFailed);
    };
    match crate::launch::launch(*launch, frame.fds, &prepared.identity) {
        Ok(launched) => {
            let reply = ferry_shim_proto::Reply::Started { pid: launched.container.pid };
            engine.answer(seq, Ok(reply));
            Shim::new(prepared.poller, prepared.children, engine, launched).supervise()
        }
        Err(error) => {
            engine.answer(seq, Err(ShimError::from(error)));
            Ok(Ending::LaunchFailed)
        }
    }
}

impl Shim {
    fn new(poller: Poller, children: OwnedFd, engine: Conn, launched: Launched) -> Self {
        Self {
            poller,
            children,
            children_interest: Interest::default(),
            files: launched.files,
            container: launched.container,
            own_pid_namespace: launched.own_pid_namespace,
            memory_limited: launched.memory_limited,
            started_at: launched.started_at,
            paused: false,
            oom: None,
            oom_interest: Interest::default(),
            oom_killed: false,
            life: Life::Running,
            listener: Some(Listener {
                fd: launched.listener,
                interest: Interest::default(),
                rest_until: None,
            }),
            conns: BTreeMap::from([(engine.id, engine)]),
            next_conn: 1,
            sessions: BTreeMap::from([(0, launched.session)]),
            next_session: 1,
            execs: Vec::new(),
            pending: Vec::new(),
            ended: Vec::new(),
            relays: launched.relays,
            settle_at: Some(clock::monotonic_ms() + SETTLE_MS),
            idle_at: None,
            lost_told: (0, 0),
            scratch: vec![0; SCRATCH],
        }
    }

    fn supervise(mut self) -> Result<Ending, Error> {
        let token = Token::of(Kind::Child);
        self.children_interest
            .set(&self.poller, &self.children, token, Some(EventFlags::IN))
            .map_err(Error::system("watch for ended processes"))?;
        loop {
            let now = clock::monotonic_ms();
            self.housekeeping(now);
            self.report_lost(now);
            self.settle(now);
            if self.advance(now) {
                self.settle(now);
            }
            if self.is_finished() {
                return Ok(Ending::Finished);
            }
            let timeout = self.deadline().map(|at| at.saturating_sub(now));
            let events = self.poller.wait(timeout).map_err(Error::system("wait for events"))?;
            if events.is_empty() {
                continue;
            }
            let now = clock::monotonic_ms();
            for (token, flags) in events {
                self.dispatch(token, flags, now);
            }
        }
    }

    fn dispatch(&mut self, token: Token, flags: EventFlags, now: u64) {
        match token.kind {
            Kind::Child => self.reap(now),
            Kind::Oom => self.take_oom(),
            Kind::Listener => self.accept(now),
            Kind::Conn => self.on_conn(token.owner, flags),
            Kind::Output => {
                self.idle_at = Some(now + SECOND_MS);
                if let Some(session) = self.sessions.get_mut(&token.owner) {
                    session.on_output(token.index, &mut self.scratch);
                }
            }
            Kind::Input => {
                if let Some(session) = self.sessions.get_mut(&token.owner) {
                    session.on_input();
                }
            }
            Kind::Client => {
                if let Some(session) = self.sessions.get_mut(&token.owner)
                    && session.on_client(token.index, flags, &mut self.scratch)
                {
                    let exec = session.exec.clone();
                    self.notify(&Event::Detached { exec });
                }
            }
            Kind::Log => {
                if let Some(log) = self.sessions.get_mut(&0).and_then(Session::log_mut) {
                    log.on_event(flags);
                }
            }
            Kind::RelaySocket | Kind::RelayClient | Kind::RelayTarget => {
                self.idle_at = Some(now + SECOND_MS);
                self.relays.on_event(token, flags, now, &mut self.scratch);
            }
        }
    }

    fn accept(&mut self, now: u64) {
        let Some(listener) = &mut self.listener else {
            return;
        };
        match accept_with(&listener.fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => {
                let id = self.next_conn;
                self.next_conn += 1;
                self.conns.insert(id, Conn::new(id, socket));
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(_) => listener.rest_until = Some(now + ACCEPT_RETRY_MS),
        }
    }

    fn on_conn(&mut self, id: u32, flags: EventFlags) {
        // Taken out while its request is carried out, which may change anything else.
        let Some(mut conn) = self.conns.remove(&id) else {
            return;
        };
        if flags.contains(EventFlags::OUT) {
            conn.flush();
        }
        while let Arrived::Request(frame, fds) = conn.receive() {
            let seq = frame.seq;
            match self.request(&mut conn, frame, fds).transpose() {
                Some(result) => conn.answer(seq, result.map_err(ShimError::from)),
                None => break,
            }
        }
        self.conns.insert(id, conn);
    }

    /// Pushes an event to all subscribers.
    pub(crate) fn notify(&mut self, event: &Event) {
        for conn in self.conns.values_mut() {
            conn.notify(event);
        }
    }

    /// Log entries lost so far.
    pub(crate) fn log_lost(&self) -> u64 {
        self.sessions.get(&0).and_then(Session::log).map_or(0, Log::lost)
    }

    /// Tells the subscribers of lost log entries, not too often.
    fn report_lost(&mut self, now: u64) {
        let total = self.log_lost();
        let (told, next) = self.lost_told;
        if total != told && now >= next {
            self.lost_told = (total, now + LOST_REPORT_MS);
            self.notify(&Event::LogLost { total });
        }
    }

    /// What can wait until the container has had its first moments, or until output pauses.
    fn housekeeping(&mut self, now: u64) {
        if self.settle_at.is_some_and(|at| now >= at) {
            self.settle_at = None;
            self.watch_oom();
            ferry_sys::supervisor::trim_heap();
            // Building a container takes most of the program, waiting for its end little. Only
            // memory is at stake.
            let _ = ferry_sys::supervisor::release_code();
        }
        self.expire_execs(now);
        if !self.paused {
            for exec in &mut self.execs {
                if let Some(probe) = exec.probe.as_mut().filter(|p| p.deadline.is_some_and(|at| now >= at)) {
                    probe.timed_out = true;
                    exec.kill_probe();
                }
            }
        }
        if self.idle_at.is_some_and(|at| now >= at) {
            self.idle_at = None;
            self.scratch = vec![0; SCRATCH];
            for session in self.sessions.values_mut() {
                if let Some(log) = session.log_mut() {
                    log.flush(clock::now());
                    log.shrink();
                    if log.is_failing() {
                        self.idle_at = Some(now + SECOND_MS);
                    }
                }
            }
            ferry_sys::supervisor::trim_heap();
        }
    }

    /// Closes what is finished and registers everything for what it waits for.
    fn settle(&mut self, now: u64) {
        self.conns.retain(|_, conn| !conn.is_broken());
        for conn in self.conns.values_mut() {
            conn.settle(&self.poller);
        }
        for session in self.sessions.values_mut() {
            session.settle(&self.poller, &mut self.scratch, now);
        }
        self.relays.settle(&self.poller, now);
        if let Some(listener) = &mut self.listener {
            listener.rest_until = listener.rest_until.filter(|&until| until > now);
            let wanted = listener.rest_until.is_none().then_some(EventFlags::IN);
            let token = Token::of(Kind::Listener);
            let _ = listener.interest.set(&self.poller, &listener.fd, token, wanted);
        }
    }

    fn deadline(&self) -> Option<u64> {
        [
            self.settle_at,
            self.idle_at,
            self.life.deadline(),
            self.ended.iter().map(|e| e.deadline).min(),
            self.execs.iter().filter_map(|e| e.probe.as_ref()?.deadline).min(),
            self.pending.iter().filter_map(Pending::deadline).min(),
            self.relays.deadline(),
            self.sessions.get(&0).and_then(Session::log).and_then(Log::deadline),
            self.listener.as_ref().and_then(|l| l.rest_until),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
