//! The engine's side of name resolution: what the name server is told, and seeing to it that there is one.
//!
//! The name server is a process of its own, so that containers find each other while no engine runs. It is started with
//! the first container on a user-defined network, outlives the engine, and ends when it serves nobody.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ferry_dns::control::{Connection, ControlError, Reply, Request};
use ferry_dns::table::{Host, Network, View};
use ferry_types::ContainerId;

use super::record::NetworkRecord;
use crate::error::{EngineError, Result};
use crate::inner::Inner;

/// How long a new name server may take to listen.
const STARTING: Duration = Duration::from_secs(3);

/// How often a request is tried when name servers end.
const ATTEMPTS: u32 = 5;

/// What the name server should know.
#[derive(Default)]
struct State {
    connection: Option<Connection>,
    networks: BTreeMap<String, Names>,
    clients: BTreeMap<String, View>,
}

/// The hosts of one network, by container.
#[derive(Default)]
struct Names {
    name: String,
    hosts: BTreeMap<String, Host>,
}

impl Names {
    fn request(&self, id: &str) -> Request {
        let network = Network { name: self.name.clone(), hosts: self.hosts.values().cloned().collect() };
        Request::SetNetwork { id: id.to_owned(), network }
    }
}

/// How the engine reaches the name server.
pub(crate) struct NameService {
    /// The program and its first arguments; the socket's path is added.
    program: Vec<PathBuf>,
    socket: PathBuf,
    state: Mutex<State>,
    /// To find containers' namespaces again when the name server was lost.
    inner: Mutex<Weak<Inner>>,
}

impl NameService {
    /// Does nothing yet.
    pub fn new(program: Vec<PathBuf>, socket: PathBuf) -> Self {
        Self { program, socket, state: Mutex::default(), inner: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A container is on a network now, or is known by other names there.
    pub fn join(&self, network: &NetworkRecord, container: &ContainerId, host: Host) -> Result<()> {
        let mut state = self.state();
        let names = state.networks.entry(network.id.to_string()).or_default();
        names.name.clone_from(&network.name);
        names.hosts.insert(container.to_string(), host);
        let request = names.request(network.id.as_str());
        // Without a connection there is nobody to tell; a new one is told everything.
        match &mut state.connection {
            Some(_) => self.tell(&mut state, &request, &[]).map(drop),
            None => Ok(()),
        }
    }

    /// A container left a network.
    pub fn part(&self, network: &NetworkRecord, container: &ContainerId) {
        let mut state = self.state();
        let Some(names) = state.networks.get_mut(network.id.as_str()) else { return };
        names.hosts.remove(container.as_str());
        let request = names.request(network.id.as_str());
        self.mention(&mut state, &request);
    }

    /// A container ended.
    pub fn leave(&self, container: &ContainerId) {
        let mut state = self.state();
        let known = state.clients.remove(container.as_str()).is_some();
        let mut requests = Vec::new();
        for (id, names) in &mut state.networks {
            if names.hosts.remove(container.as_str()).is_some() {
                requests.push(names.request(id));
            }
        }
        if known {
            requests.push(Request::Remove { id: container.to_string() });
        }
        requests.iter().for_each(|request| self.mention(&mut state, request));
    }

    /// A network is gone.
    pub fn forget(&self, network: &NetworkRecord) {
        let mut state = self.state();
        if state.networks.remove(network.id.as_str()).is_some() {
            self.mention(&mut state, &Request::RemoveNetwork { id: network.id.to_string() });
        }
    }

    /// A container sees something else now; nothing happens when its queries are not served.
    pub fn look(&self, container: &ContainerId, view: View) {
        let mut state = self.state();
        let Some(known) = state.clients.get_mut(container.as_str()) else { return };
        known.clone_from(&view);
        self.mention(&mut state, &Request::SetView { id: container.to_string(), view });
    }

    /// Serves the queries of the container whose namespace this is.
    pub fn serve(&self, container: &ContainerId, view: View, netns: BorrowedFd<'_>) -> Result<()> {
        let mut state = self.state();
        if state.clients.contains_key(container.as_str()) {
            drop(state);
            self.look(container, view);
            return Ok(());
        }
        let sockets = ferry_network::name_sockets(netns)?;
        state.clients.insert(container.to_string(), view.clone());
        let request = Request::Add { id: container.to_string(), view };
        let told = self.tell(&mut state, &request, &[sockets.udp.as_fd(), sockets.tcp.as_fd()]);
        if told.is_err() {
            state.clients.remove(container.as_str());
        }
        told.map(drop)
    }

    /// Has a container served no more when its first process ends, even if no engine is there to say so.
    pub fn watch_process(&self, container: &ContainerId, pid: i32) {
        let mut state = self.state();
        if !state.clients.contains_key(container.as_str()) {
            return;
        }
        // What has ended already is about to be left.
        let Some(pidfd) = pidfd(pid) else { return };
        let request = Request::Watch { id: container.to_string() };
        if let Err(error) = self.tell(&mut state, &request, &[pidfd.as_fd()]) {
            tracing::debug!(%container, %error, "the name server does not watch it");
        }
    }

    /// Tells what can wait: when the name server is lost, the next one is told everything.
    fn mention(&self, state: &mut State, request: &Request) {
        if state.connection.is_some()
            && let Err(error) = self.tell(state, request, &[])
        {
            tracing::warn!(%error, "the name server is not up to date");
        }
    }

    /// Sends a request, to a new name server if need be.
    fn tell(&self, state: &mut State, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Reply> {
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            let connection = match &mut state.connection {
                Some(connection) => connection,
                // What ends just now may still accept a connection.
                None => match self.connect(state) {
                    Ok(connection) => connection,
                    Err(error @ EngineError::NotSupported(_)) => return Err(error),
                    Err(error) => {
                        last = Some(error);
                        std::thread::sleep(Duration::from_millis(5 << attempt));
                        continue;
                    }
                },
            };
            match connection.call(request, fds) {
                Ok(reply) => return Ok(reply),
                Err(error @ ControlError::Refused(_)) => return Err(failed(&error)),
                Err(error) => {
                    tracing::warn!(%error, "lost the name server");
                    state.connection = None;
                }
            }
        }
        Err(last.unwrap_or_else(|| EngineError::System("the name server does not answer".to_owned())))
    }

    /// Connects to the name server there is, or starts one, and tells it all networks. Which containers it serves is put
    /// right by whoever watches the connection.
    fn connect<'a>(&self, state: &'a mut State) -> Result<&'a mut Connection> {
        let mut connection = match Connection::open(&self.socket) {
            Ok(connection) => connection,
            Err(_) => self.start()?,
        };
        for (id, names) in &state.networks {
            connection.call(&names.request(id), &[]).map_err(|e| failed(&e))?;
        }
        self.watch();
        Ok(state.connection.insert(connection))
    }

    fn start(&self) -> Result<Connection> {
        let Some((program, arguments)) = self.program.split_first() else {
            return Err(EngineError::NotSupported("this engine was opened without a name server".to_owned()));
        };
        let fail = |source| EngineError::File { action: "start", path: program.clone(), source };
        let mut command = Command::new(program);
        command.args(arguments).arg(&self.socket).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(fail)?;
        // Reaped whenever it ends, if this engine is still there.
        let reaper = std::thread::Builder::new().name("ferry-names".to_owned());
        reaper.spawn(move || child.wait()).map_err(fail)?;
        let begin = std::time::Instant::now();
        loop {
            match Connection::open(&self.socket) {
                Ok(connection) => return Ok(connection),
                Err(_) if begin.elapsed() < STARTING => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => {
                    return Err(EngineError::System(format!("the name server does not start: {error}")));
                }
            }
        }
    }

    /// Waits on a connection of its own for the name server's end, then has all containers served anew.
    fn watch(&self) {
        let weak = self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Ok(stream) = ferry_sys::socket::connect_unix(&self.socket) else { return };
        let watch = move || {
            let _ = UnixStream::from(stream).read(&mut [0]);
            if let Some(inner) = weak.upgrade() {
                inner.names.state().connection = None;
                restore(&inner);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("ferry-names".to_owned()).spawn(watch) {
            tracing::warn!(%error, "the name server is not watched");
        }
    }
}

fn failed(error: &ControlError) -> EngineError {
    EngineError::System(error.to_string())
}

/// After the start of an engine: what runs is known now.
pub(crate) fn take_over(inner: &Arc<Inner>) {
    *inner.names.inner.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(inner);
    for handle in inner.containers.all() {
        let snapshot = handle.snapshot();
        if snapshot.state.live().is_some()
            && snapshot.record.endpoints.keys().any(|n| n != super::endpoints::BRIDGE)
        {
            let id = snapshot.record.id.to_string();
            inner.names.state().clients.insert(id, View::default());
            super::endpoints::announce_again(inner, &snapshot.record);
        }
    }
    // A name server of the engine before this one, with containers that ended meanwhile, is put right, too.
    if inner.paths.name_socket().exists() || !inner.names.state().clients.is_empty() {
        restore(inner);
    }
}

/// Has exactly the containers served that should be.
fn restore(inner: &Arc<Inner>) {
    let names = &inner.names;
    let mut state = names.state();
    if state.clients.is_empty() && Connection::open(&names.socket).is_err() {
        return;
    }
    let clients: Vec<String> = state.clients.keys().cloned().collect();
    let networks = state.networks.keys().cloned().collect();
    let result = (|| -> Result<()> {
        names.tell(&mut state, &Request::Retain { clients: clients.clone(), networks }, &[])?;
        let Reply::Served { clients: served } = names.tell(&mut state, &Request::Served, &[])? else {
            return Ok(());
        };
        for id in clients {
            let Some(view) = state.clients.get(&id).cloned() else { continue };
            let Some(pid) = pid_of(inner, &id) else { continue };
            if served.contains(&id) {
                names.tell(&mut state, &Request::SetView { id: id.clone(), view }, &[])?;
            } else {
                let Some(netns) = namespace_of(pid) else { continue };
                let sockets = ferry_network::name_sockets(netns.as_fd())?;
                let request = Request::Add { id: id.clone(), view };
                names.tell(&mut state, &request, &[sockets.udp.as_fd(), sockets.tcp.as_fd()])?;
            }
            if let Some(pidfd) = pidfd(pid)
                && let Err(error) = names.tell(&mut state, &Request::Watch { id }, &[pidfd.as_fd()])
            {
                tracing::debug!(%error, "the name server does not watch a container");
            }
        }
        Ok(())
    })();
    if let Err(error) = result {
        tracing::error!(%error, "containers' names are not resolved");
    }
}

fn pid_of(inner: &Inner, id: &str) -> Option<i32> {
    Some(inner.containers.find(id).ok()?.snapshot().state.live()?.pid)
}

fn pidfd(pid: i32) -> Option<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

fn namespace_of(pid: i32) -> Option<OwnedFd> {
    std::fs::File::open(format!("/proc/{pid}/ns/net")).ok().map(OwnedFd::from)
}
