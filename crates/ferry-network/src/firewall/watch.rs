//! Notices when somebody changes our rules (a firewall reload flushes everything) and puts them back.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ferry_sys::netlink::{Protocol, Socket, nft};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use super::Firewall;

/// A reload flushes first and loads its own rules then, perhaps in several steps: we look again after it.
const SETTLE: Duration = Duration::from_millis(100);
/// The kernel tells nobody of changes to iptables.
const LOOK: Duration = Duration::from_millis(400);

/// How often rules are restored in a row before somebody who always removes them is left alone until something else changes.
const MOST: u32 = 50;

/// What a firewall consists of, for whoever watches over it.
#[derive(Debug)]
pub(crate) enum Watched {
    /// No rules.
    Nothing,
    /// A table of nf_tables.
    Table {
        /// Its name.
        name: String,
        /// Port id of the socket whose changes are our own.
        except_by: u32,
    },
    /// Chains of iptables.
    Iptables,
}

/// The watching thread; it sleeps until nf_tables changes.
#[derive(Debug)]
pub(crate) struct Watcher {
    stop: Arc<OwnedFd>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watcher {
    /// Watches over `firewall`, called `name`.
    pub(crate) fn start(name: &str, firewall: Arc<Mutex<Firewall>>) -> io::Result<Option<Self>> {
        let watched = lock(&firewall).watched()?;
        let socket = match &watched {
            Watched::Nothing => return Ok(None),
            Watched::Table { .. } => Some(notifications()?),
            // With iptables in its nft variant there are notifications, too.
            Watched::Iptables => notifications().ok(),
        };
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let stopped = Arc::clone(&stop);
        let name = name.to_owned();
        let thread = thread::Builder::new().name("ferry-net-watch".to_owned()).spawn(move || {
            Watch { socket, watched, name, firewall, seen: None, failing: false, restored: 0 }.run(&stopped);
        })?;
        Ok(Some(Self { stop, thread: Some(thread) }))
    }
}

fn notifications() -> io::Result<Socket> {
    let socket = Socket::open(Protocol::Netfilter)?;
    socket.join(nft::GROUP)?;
    Ok(socket)
}

fn lock(firewall: &Mutex<Firewall>) -> MutexGuard<'_, Firewall> {
    firewall.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Watch {
    socket: Option<Socket>,
    watched: Watched,
    name: String,
    firewall: Arc<Mutex<Firewall>>,
    /// Sizes of iptables' tables, when they were last looked at.
    seen: Option<Vec<(u32, u32)>>,
    /// The last attempt to restore the rules failed.
    failing: bool,
    /// Restored in a row.
    restored: u32,
}

enum Wake {
    Changed,
    Quiet,
    Stop,
}

impl Watch {
    fn run(&mut self, stop: &OwnedFd) {
        let mut damaged = false;
        loop {
            let timeout = match (damaged, &self.watched) {
                (true, _) if self.failing => Some(LOOK),
                (true, _) => Some(SETTLE),
                (false, Watched::Iptables) => Some(LOOK),
                (false, _) => None,
            };
            match self.wait(stop, timeout) {
                Wake::Stop => return,
                // At once, for the connections under way; and again when all is quiet.
                Wake::Changed if self.read() => {
                    if !damaged {
                        self.repair();
                    }
                    damaged = true;
                }
                Wake::Changed => {}
                Wake::Quiet => {
                    // What was restored is looked at once more: somebody may have been at it still.
                    damaged = (damaged || self.iptables_changed()) && !self.repair() && self.restored < MOST;
                    if !damaged {
                        self.restored = 0;
                    }
                }
            }
        }
    }

    /// Looks first: lost notifications are no damage, and restoring unharmed rules would cause as many again. Says whether
    /// nothing had to be done.
    fn repair(&mut self) -> bool {
        // Before it is looked at the rules: what changes from now on is told by other sizes.
        self.iptables_changed();
        let mut firewall = lock(&self.firewall);
        let repaired = firewall.is_intact().and_then(|intact| match intact {
            true => Ok(false),
            false => firewall.restore().map(|()| true),
        });
        drop(firewall);
        self.restored += 1;
        match &repaired {
            Ok(true) => tracing::info!(firewall = %self.name, "rules restored after somebody changed them"),
            Ok(false) => {}
            Err(error) if !self.failing => {
                tracing::error!(firewall = %self.name, %error, "rules not restored; trying again");
            }
            Err(_) => {}
        }
        self.failing = repaired.is_err();
        matches!(repaired, Ok(false))
    }

    /// Whether the tables of iptables have other sizes than at the last look.
    fn iptables_changed(&mut self) -> bool {
        if !matches!(self.watched, Watched::Iptables) {
            return false;
        }
        let now = super::iptables::sizes();
        let changed = self.seen.as_ref().is_some_and(|seen| *seen != now);
        self.seen = Some(now);
        changed
    }

    fn wait(&self, stop: &OwnedFd, timeout: Option<Duration>) -> Wake {
        let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
        fds.extend(self.socket.as_ref().map(|s| PollFd::from_borrowed_fd(s.as_fd(), PollFlags::IN)));
        let timeout = timeout.map(|t| Timespec { tv_sec: 0, tv_nsec: t.subsec_nanos().into() });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => Wake::Quiet,
            Err(Errno::INTR) => Wake::Changed,
            Err(_) => Wake::Stop,
            Ok(_) if !fds[0].revents().is_empty() => Wake::Stop,
            Ok(_) => Wake::Changed,
        }
    }

    /// Whether somebody else changed something of ours, or may have.
    fn read(&mut self) -> bool {
        let mut damaged = false;
        let Some(socket) = &mut self.socket else { return false };
        let watched = &self.watched;
        let received = socket.receive(|kind, port, payload| {
            damaged |= match watched {
                Watched::Table { name, except_by } => {
                    port != *except_by && nft::is_harmful(nft::Family::Inet, kind, payload, name)
                }
                Watched::Iptables => super::iptables::TABLES.iter().any(|table| {
                    nft::is_harmful(nft::Family::Ip, kind, payload, table)
                        || nft::is_harmful(nft::Family::Ip6, kind, payload, table)
                }),
                Watched::Nothing => false,
            };
        });
        match received {
            Ok(()) => damaged,
            // ENOBUFS: notifications were lost, some of them perhaps ours.
            Err(e) => e.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()),
        }
    }
}
