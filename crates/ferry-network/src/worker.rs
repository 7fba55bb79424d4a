//! Work that may happen later: deleting veths that outlive their namespace, dropping UDP flows that
//! would stick to a former owner of an address, telling neighbours of an address again.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use ferry_sys::netlink::conntrack::{self, UdpFlow};
use ferry_sys::netlink::nft_expr::AddressFamily;
use ferry_sys::netlink::route::{self, LinkChange, LinkRef};
use ferry_sys::netlink::{Batch, Protocol, Socket};
use ferry_types::EndpointId;
use ferry_types::net::PublishedPort;
use rustix::io::Errno;

use crate::config::Announcements;
use crate::endpoint::EndpointRecord;
use crate::error::NetworkError;
use crate::{interface, sandbox};

/// A veth goes with its namespace, for which the kernel takes some 50 ms, many at once. Only one that
/// is still there after this time (somebody holds the namespace) is deleted by itself.
const GRACE: Duration = Duration::from_secs(2);

/// What may outlive its namespace's container.
#[derive(Debug)]
enum Doomed {
    Veth { index: u32, name: String },
    Child { netns_inode: u64, interface: String, kind: &'static str, mac: [u8; 6] },
}

/// An interface whose addresses are told of.
#[derive(Debug)]
pub(crate) struct Announcing {
    /// Whose it is.
    endpoint: EndpointId,
    /// Where it is.
    netns: OwnedFd,
    /// Its name there.
    interface: String,
    /// Its hardware address.
    mac: [u8; 6],
    /// How often still, and when.
    left: Announcements,
}

/// Something to do later.
#[derive(Debug)]
pub(crate) enum Job {
    /// Delete a host veth if it still exists after a while.
    ReapVeth {
        /// Interface index.
        index: u32,
        /// Name: an index may belong to another device by then.
        name: String,
    },
    /// Delete an interface on a parent if its namespace still exists after a while.
    ReapChild {
        /// Inode of the namespace in nsfs.
        netns_inode: u64,
        /// Its name there.
        interface: String,
        /// Its driver.
        kind: &'static str,
        /// Its hardware address: the namespace may be another by then.
        mac: [u8; 6],
    },
    /// Drop the UDP flows that a newly published port should get, or that an unpublished one had.
    DropUdpFlows {
        /// An address of the container.
        container: IpAddr,
        /// Its UDP ports.
        ports: Vec<PublishedPort>,
        /// Whether they are published now.
        published: bool,
    },
    /// Tell the neighbours again of a container's addresses.
    Announce(Announcing),
    /// Stop that: the endpoint is taken back. Its namespace is let go.
    BeQuiet(EndpointId),
    /// Do everything now, then answer.
    Flush(Sender<()>),
}

/// The thread that does it.
#[derive(Debug)]
pub(crate) struct Worker {
    jobs: Option<Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let (jobs, queue) = channel();
        let mut work = Work {
            route: Socket::open(Protocol::Route)?,
            netfilter: Socket::open(Protocol::Netfilter)?,
            doomed: Vec::new(),
            announcing: Vec::new(),
        };
        let thread =
            thread::Builder::new().name("ferry-net-work".to_owned()).spawn(move || work.run(&queue))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Queues a job.
    pub(crate) fn queue(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The thread ends only after the sender is gone.
            let _ = jobs.send(job);
        }
    }

    /// Queues the announcements of an endpoint's interface in `netns` that the kernel does not make by itself: it makes the
    /// first one.
    pub(crate) fn announce(
        &self,
        netns: BorrowedFd<'_>,
        record: &EndpointRecord,
        setting: Option<Announcements>,
    ) -> io::Result<()> {
        let Some(setting) = setting.filter(|setting| setting.times > 1) else { return Ok(()) };
        self.queue(Job::Announce(Announcing {
            endpoint: record.endpoint.clone(),
            netns: netns.try_clone_to_owned()?,
            interface: record.interface.clone(),
            mac: record.mac,
            left: Announcements { times: setting.times - 1, ..setting },
        }));
        Ok(())
    }

    /// Ends them, of an endpoint of a network with this setting.
    pub(crate) fn be_quiet(&self, endpoint: &EndpointId, setting: Option<Announcements>) {
        if setting.is_some_and(|setting| setting.times > 1) {
            self.queue(Job::BeQuiet(endpoint.clone()));
        }
    }

    /// Waits until everything queued so far is done.
    pub(crate) fn flush(&self) {
        let (done, wait) = channel();
        self.queue(Job::Flush(done));
        let _ = wait.recv();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Work {
    route: Socket,
    netfilter: Socket,
    /// In the order of their times.
    doomed: Vec<(Instant, Doomed)>,
    /// In no order.
    announcing: Vec<(Instant, Announcing)>,
}

impl Work {
    fn run(&mut self, queue: &Receiver<Job>) {
        loop {
            let announcements = self.announcing.iter().map(|(due, _)| *due);
            let job = match self.doomed.first().map(|(due, _)| *due).into_iter().chain(announcements).min() {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => queue.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match job {
                Ok(Job::ReapVeth { index, name }) => self.later(Doomed::Veth { index, name }),
                Ok(Job::ReapChild { netns_inode, interface, kind, mac }) => {
                    self.later(Doomed::Child { netns_inode, interface, kind, mac });
                }
                Ok(Job::DropUdpFlows { container, ports, published }) => {
                    self.drop_flows(container, &ports, published);
                }
                Ok(Job::Announce(this)) => self.announcing.push((Instant::now() + this.left.interval, this)),
                Ok(Job::BeQuiet(endpoint)) => self.announcing.retain(|(_, this)| this.endpoint != endpoint),
                Ok(Job::Flush(done)) => {
                    self.reap(true);
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.reap(false);
                    self.announce();
                }
                // What is left is gone with its namespace, or found by the next daemon.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn later(&mut self, doomed: Doomed) {
        self.doomed.push((Instant::now() + GRACE, doomed));
    }

    fn reap(&mut self, all: bool) {
        let now = Instant::now();
        let due = if all { self.doomed.len() } else { self.doomed.iter().take_while(|d| d.0 <= now).count() };
        let mut batch = Batch::new();
        let mut children = Vec::new();
        for (_, doomed) in self.doomed.drain(..due) {
            match doomed {
                Doomed::Veth { index, name } => {
                    let link = route::link(&mut self.route, LinkRef::Index(index));
                    if matches!(link, Ok(Some(link)) if link.name == name) {
                        route::delete_link(&mut batch, index);
                    }
                }
                child @ Doomed::Child { .. } => children.push(child),
            }
        }
        let gone = |_, errno| errno == Errno::NODEV.raw_os_error();
        if let Err(error) = self.route.execute_lenient(batch, &gone) {
            tracing::warn!(%error, "host veths not deleted");
        }
        reap_children(&children);
    }

    /// Makes the announcements that are due.
    fn announce(&mut self) {
        let now = Instant::now();
        for (_, mut this) in self.announcing.extract_if(.., |(due, _)| *due <= now).collect::<Vec<_>>() {
            if let Err(error) = announce_again(&this) {
                // Whoever lives in there may have renamed or removed it.
                tracing::debug!(%error, interface = this.interface, "addresses are not told of again");
                continue;
            }
            this.left.times -= 1;
            if this.left.times > 0 {
                self.announcing.push((now + this.left.interval, this));
            }
        }
    }

    fn drop_flows(&mut self, container: IpAddr, ports: &[PublishedPort], published: bool) {
        let doomed = |flow: &UdpFlow| {
            let to_host = |p: &PublishedPort| {
                let any_or = |ip: IpAddr| ip.is_unspecified() || ip == flow.original_address;
                let same_family = p.host_ip.is_ipv4() == container.is_ipv4();
                same_family && p.host_port == flow.original_port && any_or(p.host_ip)
            };
            let ours = flow.reply_address == container;
            if published { !ours && ports.iter().any(to_host) } else { ours }
        };
        let family = if container.is_ipv4() { AddressFamily::Ipv4 } else { AddressFamily::Ipv6 };
        if let Err(error) = conntrack::delete_udp(&mut self.netfilter, family, doomed) {
            tracing::debug!(%error, "udp flows not dropped");
        }
    }
}

/// The kernel announces an interface's addresses whenever its hardware address is set (`arp_notify` and `ndisc_notify`,
/// Documentation/networking/ip-sysctl.rst), even to what it was.
fn announce_again(this: &Announcing) -> Result<(), NetworkError> {
    sandbox::in_namespace(this.netns.as_fd(), || {
        let failed = |source| NetworkError::Kernel {
            action: "announce addresses of",
            object: this.interface.clone(),
            source,
        };
        let mut inside = Socket::open(Protocol::Route).map_err(failed)?;
        let mut batch = Batch::new();
        let same = LinkChange { mac: Some(this.mac), ..LinkChange::default() };
        route::set_link(&mut batch, LinkRef::Name(&this.interface), &same);
        inside.execute(batch).map_err(|e| failed(e.into()))
    })
}

/// Removes interfaces on parents from namespaces that are still there, because somebody else lives in them.
fn reap_children(children: &[Doomed]) {
    if children.is_empty() {
        return;
    }
    let mut namespaces = HashMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = process.path().join("ns/net");
        if let Ok(metadata) = fs::metadata(&path) {
            namespaces.entry(metadata.ino()).or_insert(path);
        }
    }
    for child in children {
        let Doomed::Child { netns_inode, interface, kind, mac } = child else { continue };
        let Some(netns) = namespaces.get(netns_inode).and_then(|path| fs::File::open(path).ok()) else {
            continue;
        };
        if let Err(error) = interface::remove_if(netns.as_fd(), interface, kind, Some(*mac)) {
            tracing::warn!(%error, interface, "an interface of a container that ended is left");
        }
    }
}
