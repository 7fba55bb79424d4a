//! Notices when somebody flushes the nft ruleset (a firewall reload does) and puts our table back.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ferry_sys::netlink::{Protocol, Socket, nft};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use super::table::Table;

/// A reload flushes first and loads its own rules then; we come after it.
const SETTLE: Duration = Duration::from_millis(100);

/// The watching thread; it sleeps until nf_tables changes.
#[derive(Debug)]
pub(crate) struct Watcher {
    stop: Arc<OwnedFd>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watcher {
    /// Watches over `table`, called `name`.
    pub(crate) fn start(name: String, table: Arc<Mutex<Table>>) -> io::Result<Self> {
        let ours = table.lock().unwrap_or_else(PoisonError::into_inner).port()?;
        let socket = Socket::open(Protocol::Netfilter)?;
        socket.join(nft::GROUP)?;
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("ferry-net-watch".to_owned()).spawn(move || {
            let mut watch = Watch { socket, ours, name, table };
            watch.run(&stopped);
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
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
    socket: Socket,
    /// Port id of the engine's own socket.
    ours: u32,
    name: String,
    table: Arc<Mutex<Table>>,
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
            match self.wait(stop, damaged.then_some(SETTLE)) {
                Wake::Stop => return,
                Wake::Changed => damaged |= self.read(),
                Wake::Quiet => {
                    damaged = false;
                    self.repair();
                }
            }
        }
    }

    /// Looks first: lost notifications are no damage, and restoring unharmed rules would cause as many again.
    fn repair(&self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let repaired = table.is_intact().and_then(|intact| match intact {
            true => Ok(false),
            false => table.restore().map(|()| true),
        });
        match repaired {
            Ok(true) => tracing::info!(table = %self.name, "nft table restored after a flush"),
            Ok(false) => {}
            Err(error) => tracing::error!(table = %self.name, %error, "nft table not restored"),
        }
    }

    fn wait(&self, stop: &OwnedFd, timeout: Option<Duration>) -> Wake {
        let mut fds =
            [PollFd::new(stop, PollFlags::IN), PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)];
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
        let (ours, name) = (self.ours, &self.name);
        let received = self.socket.receive(|kind, port, payload| {
            damaged |= port != ours && nft::is_harmful(kind, payload, name);
        });
        match received {
            Ok(()) => damaged,
            // ENOBUFS: notifications were lost, some of them perhaps ours.
            Err(e) => e.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()),
        }
    }
}
