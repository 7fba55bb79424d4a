//! Notices when links of the host are deleted. It sleeps until one is: other news of links never wake it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ferry_sys::netlink::{Protocol, Socket, route};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// A container that ends takes its links along. Whoever is told of them after this has had time to note its end.
const SETTLE: Duration = Duration::from_millis(300);

/// What the kernel tells of links. From its beginning on nothing is missed, even before somebody watches.
#[derive(Debug)]
pub struct LinkNews(Socket);

impl LinkNews {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Socket::open(Protocol::Route)?;
        socket.only(route::LINK_DELETED)?;
        socket.join(route::LINK_GROUP)?;
        Ok(Self(socket))
    }
}

/// The watching thread.
#[derive(Debug)]
pub(crate) struct LinkWatcher {
    stop: Arc<OwnedFd>,
    thread: Option<thread::JoinHandle<()>>,
}

impl LinkWatcher {
    /// Calls `deleted` with interface indices, some time after the links are gone.
    pub(crate) fn start(news: LinkNews, deleted: impl FnMut(&[u32]) + Send + 'static) -> io::Result<Self> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let stopped = Arc::clone(&stop);
        let run = move || watch(news.0, &stopped, deleted);
        let thread = thread::Builder::new().name("ferry-net-links".to_owned()).spawn(run)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for LinkWatcher {
    fn drop(&mut self) {
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take()
            // The last who lets go of the engine may be this thread itself.
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

fn watch(mut socket: Socket, stop: &OwnedFd, mut deleted: impl FnMut(&[u32])) {
    let mut gone = BTreeSet::new();
    loop {
        let mut fds =
            [PollFd::new(stop, PollFlags::IN), PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)];
        let timeout = Timespec { tv_sec: 0, tv_nsec: SETTLE.subsec_nanos().into() };
        match poll(&mut fds, (!gone.is_empty()).then_some(&timeout)) {
            Ok(0) => {
                let indices: Vec<u32> = std::mem::take(&mut gone).into_iter().collect();
                deleted(&indices);
            }
            Err(Errno::INTR) => {}
            Err(_) => return,
            Ok(_) if !fds[0].revents().is_empty() => return,
            Ok(_) => {
                let received = socket.receive(|kind, _, payload| {
                    gone.extend(route::deleted_link(kind, payload));
                });
                // ENOBUFS: some were lost; whoever needs to know finds out by the next check.
                if let Err(error) = received {
                    tracing::warn!(%error, "news of deleted links were lost");
                }
            }
        }
    }
}
