//! From the engine's order to a running container. Whatever fails, nothing is left behind.

use std::fs::File;
use std::io::{BufReader, Seek};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ferry_runtime::{Container, CreateRequest, Stdio, create, create_external};
use ferry_shim_proto::{Launch, ShimPid};
use ferry_types::net::Protocol;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use serde::de::DeserializeOwned;

use crate::clock;
use crate::error::Error;
use crate::log::Log;
use crate::record;
use crate::relay::Relays;
use crate::stdio::{Session, pipes, terminal};

/// Files that belong to this shim.
#[derive(Debug)]
pub struct Files {
    /// [`Launch::socket`].
    pub socket: PathBuf,
    /// [`Launch::pid_file`].
    pub pid_file: PathBuf,
    /// [`Launch::exit_record`].
    pub exit_record: PathBuf,
    /// The OCI config, kept open for execs: what is at its path may change.
    pub config: File,
    /// Its path, for messages.
    pub config_path: PathBuf,
}

impl Files {
    /// Reads the OCI config (again), as a [`Spec`] or as it is.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let mut file = &self.config;
        file.rewind().map_err(Error::file("read", &self.config_path))?;
        serde_json::from_reader(BufReader::new(file))
            .map_err(|source| Error::Json { path: self.config_path.clone(), source })
    }
}

/// A container that runs, with all that the shim needs to supervise it.
#[derive(Debug)]
pub struct Launched {
    pub files: Files,
    pub container: Container,
    pub own_pid_namespace: bool,
    pub memory_limited: bool,
    pub started_at: i64,
    pub listener: OwnedFd,
    pub session: Session,
    pub relays: Relays,
}

/// The descriptors of a launch request, told apart.
struct Descriptors {
    netns: Option<OwnedFd>,
    relays: Vec<OwnedFd>,
    attach: Vec<OwnedFd>,
}

impl Descriptors {
    fn new(launch: &Launch, fds: Vec<OwnedFd>) -> Result<Self, Error> {
        let expected = usize::from(launch.netns_fd) + launch.relays.len() + launch.attach.len();
        if fds.len() != expected {
            let got = fds.len();
            return Err(Error::Descriptors { expected, got });
        }
        let mut fds = fds.into_iter();
        let netns = if launch.netns_fd { fds.next() } else { None };
        let relays = fds.by_ref().take(launch.relays.len()).collect();
        Ok(Self { netns, relays, attach: fds.collect() })
    }
}

/// Launches the container. On failure the socket and the pid file are gone again.
pub fn launch(launch: Launch, fds: Vec<OwnedFd>, identity: &ShimPid) -> Result<Launched, Error> {
    let fds = Descriptors::new(&launch, fds)?;
    if launch.relays.iter().any(|r| r.protocol == Protocol::Sctp) {
        return Err(Error::Sctp);
    }
    let config_path = launch.bundle.join("config.json");
    let config = File::open(&config_path).map_err(Error::file("open", &config_path))?;
    let files = Files {
        socket: launch.socket.clone(),
        pid_file: launch.pid_file.clone(),
        exit_record: launch.exit_record.clone(),
        config,
        config_path,
    };
    let spec = files.config()?;
    // A record of an earlier run must be gone before there is a sign of this one.
    record::remove(&files.exit_record).map_err(Error::file("remove", &files.exit_record))?;
    record::write_pid(&files.pid_file, identity).map_err(Error::file("write", &files.pid_file))?;
    let (socket, pid_file) = (launch.socket.clone(), launch.pid_file.clone());
    build(launch, fds, files, &spec).inspect_err(|_| {
        // The first failure is the one to report.
        let _ = record::remove(&socket);
        let _ = record::remove(&pid_file);
    })
}

fn listen(path: &Path) -> Result<OwnedFd, Error> {
    record::remove(path).map_err(Error::file("remove", path))?;
    ferry_sys::socket::listen_unix(path).map_err(Error::file("listen on", path))
}

fn build(launch: Launch, fds: Descriptors, files: Files, spec: &Spec) -> Result<Launched, Error> {
    let listener = listen(&launch.socket)?;
    let log = match launch.log {
        Some(config) => Some(Log::open(config).map_err(Error::Log)?),
        None => None,
    };
    let relays = Relays::new(&launch.relays, fds.relays).map_err(Error::system("set up relay"))?;
    let tty = spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
    let (stdio, ends) = if tty {
        let size = launch.console_size;
        (Stdio::Terminal { size }, None)
    } else {
        let (stdio, ends) = pipes(launch.open_stdin).map_err(Error::system("create pipes"))?;
        (stdio, Some(ends))
    };
    let request = CreateRequest {
        id: launch.id.as_str(),
        bundle: &launch.bundle,
        spec,
        overlay: launch.overlay.as_ref(),
        netns: fds.netns,
        stdio,
    };
    let mut container = match &launch.runtime {
        None => create(request)?,
        Some(runtime) => create_external(runtime, files.config()?, request)?,
    };
    let ends = match (ends, container.console.take()) {
        (Some(ends), _) => Ok(ends),
        (None, Some(master)) => terminal(master, launch.open_stdin).map_err(Error::system("set up terminal")),
        (None, None) => Err(Error::State("the runtime made no terminal")),
    };
    let started = ends.and_then(|ends| {
        let mut session = Session::new(0, None, ends, launch.stdin_once, log);
        for (socket, streams) in fds.attach.into_iter().zip(&launch.attach) {
            // A client that is gone already, or no socket, does not keep the container from starting.
            let _ = session.attach(socket, streams);
        }
        container.start()?;
        Ok(session)
    });
    let started_at = clock::now();
    let session = started.inspect_err(|error| {
        // A failed start is undone by the runtime.
        if !matches!(error, Error::Runtime(_)) {
            container.undo();
        }
    })?;
    Ok(Launched {
        files,
        own_pid_namespace: has_own_pid_namespace(spec),
        memory_limited: has_memory_limit(spec),
        container,
        started_at,
        listener,
        session,
        relays,
    })
}

fn has_memory_limit(spec: &Spec) -> bool {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let memory = resources.and_then(|resources| resources.memory().as_ref());
    memory.and_then(|memory| memory.limit()).is_some_and(|limit| limit > 0)
}

/// Whether the container has a new pid namespace: the kernel then ends all its processes with init.
fn has_own_pid_namespace(spec: &Spec) -> bool {
    spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref()).is_some_and(|namespaces| {
        namespaces.iter().any(|ns| ns.typ() == LinuxNamespaceType::Pid && ns.path().is_none())
    })
}
