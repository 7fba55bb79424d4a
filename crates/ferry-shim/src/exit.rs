//! Ended processes: collecting them, delivering what they wrote, recording how the container ended.
//!
//! ```text
//! Running ── init ended ──► Ended ── output delivered, or 2 s ──► record on disk ──► Exited ── Release ──► Released
//!                                                   └── not writable ──► Recording ──┘        ▲
//!                                                                            └─── Release ────┘
//! ```

use std::io::ErrorKind;
use std::os::fd::AsFd;

use ferry_shim_proto::{Event, ExitRecord, ProbeOutcome};
use ferry_types::ExecId;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait, waitpid};

use crate::clock;
use crate::execs::Pending;
use crate::poll::{EventFlags, Kind, Token};
use crate::record;
use crate::shim::Shim;
use crate::stdio::Session;

/// How long an exit is kept back for clients that are slow to take the last output. They get it
/// nevertheless, later.
const DELIVERY_MS: u64 = 2000;
/// How long a log service is served on after the container's end.
const LOG_DELIVERY_MS: u64 = 10_000;
/// How often an exit record that cannot be written is tried again.
const RECORD_RETRY_MS: u64 = 500;
/// How long after the end of an exec its memory is given back.
const IDLE_MS: u64 = 1000;

/// Where the container is in its life.
#[derive(Debug)]
pub enum Life {
    /// Its init process runs.
    Running,
    /// Init is gone; output may be on its way to clients.
    Ended {
        /// How it ended.
        record: ExitRecord,
        /// When to stop waiting for clients.
        deadline: u64,
    },
    /// The subscribers know, but the record cannot be written.
    Recording {
        /// How it ended.
        record: ExitRecord,
        /// When to try again.
        retry_at: u64,
    },
    /// The record is on disk and the subscribers know.
    Exited(ExitRecord),
    /// The engine has taken note. Only clients' last bytes may be left to deliver.
    Released,
}

impl Life {
    /// When [`Shim::advance`] has to look at it again.
    pub fn deadline(&self) -> Option<u64> {
        match self {
            Self::Ended { deadline, .. } => Some(*deadline),
            Self::Recording { retry_at, .. } => Some(*retry_at),
            Self::Running | Self::Exited(_) | Self::Released => None,
        }
    }
}

/// An exec whose process is gone but whose exit is not announced yet.
#[derive(Debug)]
pub struct Ended {
    /// The exec.
    pub exec: ExecId,
    /// Its session.
    pub session: u32,
    /// As a shell would report it.
    pub code: i32,
    /// How it went, for a probe.
    pub probe: Option<ProbeOutcome>,
    /// When to stop waiting for clients.
    pub deadline: u64,
}

pub(crate) fn exit_code(status: WaitStatus) -> Option<i32> {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
}

impl Shim {
    /// Collects all ended children, those that were left to us by their dead parents too.
    pub(crate) fn reap(&mut self, now: u64) {
        let mut info = [0u8; 512];
        while matches!(rustix::io::read(&self.children, &mut info), Ok(n) if n > 0) {}
        let mut init = None;
        self.finish_execs();
        while let Some((pid, status)) = self.next_ended() {
            let Some(code) = exit_code(status) else {
                continue;
            };
            let pid = pid.as_raw_pid();
            if pid == self.container.pid {
                init = Some(code);
            } else if self
                .sessions
                .get_mut(&0)
                .and_then(Session::log_mut)
                .is_some_and(|l| l.child_ended(pid, code))
            {
                continue;
            } else if let Some(at) = self.execs.iter().position(|e| e.pid == pid) {
                let exec = self.execs.swap_remove(at);
                let session = self.sessions.get_mut(&exec.session);
                let captured = session.and_then(|session| {
                    session.end(&mut self.scratch, now + LOG_DELIVERY_MS);
                    session.take_capture()
                });
                let probe = exec.probe.map(|probe| {
                    // What a probe leaves behind of its own accord goes on; an empty group must not stay.
                    let _ = probe.group.dissolve();
                    let (output, truncated) = captured.unwrap_or_default();
                    ProbeOutcome { timed_out: probe.timed_out, output, truncated }
                });
                // What the start of the exec took of the heap is given back.
                self.idle_at.get_or_insert(now + IDLE_MS);
                self.ended.push(Ended {
                    exec: exec.id,
                    session: exec.session,
                    code,
                    probe,
                    deadline: now + DELIVERY_MS,
                });
            }
        }
        if let Some(code) = init
            && matches!(self.life, Life::Running)
        {
            self.init_ended(code, now);
        }
    }

    /// The next ended child. While another runtime is running an exec, the exec's process may be among them that is not known
    /// yet and must be found by its pid: then only those are collected that are known.
    fn next_ended(&self) -> Option<(Pid, WaitStatus)> {
        if self.pending.is_empty() {
            // ECHILD ends it as well.
            return wait(WaitOptions::NOHANG).ok().flatten();
        }
        let known = std::iter::once(self.container.pid).chain(self.execs.iter().map(|exec| exec.pid));
        known.filter_map(Pid::from_raw).find_map(|pid| waitpid(Some(pid), WaitOptions::NOHANG).ok().flatten())
    }

    fn init_ended(&mut self, code: i32, now: u64) {
        let finished_at = clock::now();
        // They run nothing any more.
        self.pending.iter().for_each(Pending::kill);
        if !self.own_pid_namespace {
            // Nothing else ends what init left behind; what cannot be killed holds up the removal
            // of the cgroup only.
            let _ = self.container.cgroup.kill_all();
        }
        if self.oom.is_some() {
            self.take_oom();
        } else if code == 137 || self.memory_limited {
            // Ended before the watch was set up.
            if self.container.cgroup.oom_kills() > 0 {
                self.oom_happened();
            }
        }
        if let Some(session) = self.sessions.get_mut(&0) {
            session.end(&mut self.scratch, now + LOG_DELIVERY_MS);
        }
        self.relays.close();
        self.life = Life::Ended {
            record: ExitRecord {
                code,
                oom_killed: self.oom_killed,
                started_at: self.started_at,
                finished_at,
                log_lost: self.log_lost(),
            },
            deadline: now + DELIVERY_MS,
        };
    }

    /// Announces what is ready to be announced. Returns whether anything changed.
    pub(crate) fn advance(&mut self, now: u64) -> bool {
        let mut changed = false;
        let mut at = 0;
        while at < self.ended.len() {
            let ended = &self.ended[at];
            if self.is_delivered(ended.session) || now >= ended.deadline {
                let Ended { exec, code, probe, .. } = self.ended.swap_remove(at);
                self.notify(&Event::ExecExited { exec, code, probe });
                changed = true;
            } else {
                at += 1;
            }
        }
        let (execs, ended) = (&self.execs, &self.ended);
        self.sessions.retain(|&id, session| {
            id == 0
                || session.is_delivering()
                || execs.iter().any(|e| e.session == id)
                || ended.iter().any(|e| e.session == id)
        });
        let record = match &self.life {
            Life::Ended { record, deadline }
                if now >= *deadline
                    || (self.is_delivered(0)
                        && self.execs.is_empty()
                        && self.pending.is_empty()
                        && self.ended.is_empty()) =>
            {
                record.clone()
            }
            Life::Recording { record, retry_at } if now >= *retry_at => record.clone(),
            Life::Running
            | Life::Ended { .. }
            | Life::Recording { .. }
            | Life::Exited(_)
            | Life::Released => return changed,
        };
        self.record(record, now);
        true
    }

    fn record(&mut self, record: ExitRecord, now: u64) {
        let written = match record::write_exit(&self.files.exit_record, &record) {
            Ok(()) => true,
            // Somebody deleted the container's directory, and no engine is there that could want to know.
            Err(error) => error.kind() == ErrorKind::NotFound && self.conns.is_empty(),
        };
        let announced = matches!(self.life, Life::Recording { .. });
        if !announced {
            // Even without a record: what fills the disk may be this very container, and go with it.
            self.notify(&Event::Exited(record.clone()));
        }
        self.life = if written {
            Life::Exited(record)
        } else {
            Life::Recording { record, retry_at: now + RECORD_RETRY_MS }
        };
        if announced {
            return;
        }
        // After the event, so that the engine works meanwhile; it cannot get an answer to Release,
        // and so start the container anew, before this is done.
        self.oom = None;
        self.container.destroy();
    }

    fn is_delivered(&self, session: u32) -> bool {
        self.sessions.get(&session).is_none_or(|session| !session.is_delivering())
    }

    /// Whether the shim has nothing left to do.
    pub(crate) fn is_finished(&self) -> bool {
        let delivered = self.sessions.values().all(|session| !session.is_delivering());
        match self.life {
            Life::Running | Life::Ended { .. } | Life::Recording { .. } => false,
            Life::Exited(_) => delivered && self.conns.is_empty(),
            Life::Released => delivered && self.conns.values().all(|conn| conn.is_flushed()),
        }
    }

    /// Begins to watch for processes killed for memory.
    pub(crate) fn watch_oom(&mut self) {
        if !matches!(self.life, Life::Running) {
            return;
        }
        // Without a memory controller there is nothing to watch.
        let Ok(watch) = self.container.cgroup.watch_oom() else {
            return;
        };
        let token = Token::of(Kind::Oom);
        let wanted = Some(EventFlags::IN | EventFlags::PRI);
        if self.oom_interest.set(&self.poller, watch.fd.as_fd(), token, wanted).is_ok() {
            self.oom = Some(watch);
            // What happened before has left no mark on the descriptor.
            self.take_oom();
        }
    }

    /// Takes note of processes killed for memory.
    pub(crate) fn take_oom(&mut self) {
        let Some(watch) = &mut self.oom else { return };
        match watch.take() {
            Ok(0) => {}
            Ok(_) => self.oom_happened(),
            // A descriptor that cannot be drained would be reported for ever.
            Err(_) => self.oom = None,
        }
    }

    fn oom_happened(&mut self) {
        self.oom_killed = true;
        self.notify(&Event::Oom);
    }
}
