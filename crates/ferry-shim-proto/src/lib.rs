//! The contract between the engine and `ferry-shim`, the supervisor process of one container.
//!
//! Transport: a unix stream socket. Each frame is a little-endian `u32` length, that many bytes of
//! JSON, and the file descriptors the message names, sent with the frame's first byte
//! (`SCM_RIGHTS`, unix(7)). See `docs/shim.md` for the rules both sides must keep.
//!
//! The first connection is descriptor 3 of a freshly executed shim; it must carry [`Request::Launch`]
//! first. Afterwards the shim also listens on [`Launch::socket`], where every connection speaks the
//! same protocol. Requests on a connection are answered in order, each with one [`Response`] that
//! repeats its `seq`; events are pushed to connections that sent [`Request::Subscribe`].

#![forbid(unsafe_code)]

pub mod client;
pub mod codec;
pub mod log;

pub use client::{Client, ClientError};
pub use log::LogConfig;

use std::net::SocketAddr;
use std::path::PathBuf;

use ferry_types::net::Protocol;
use ferry_types::{ContainerId, ExecId, Overlay, RuntimeProgram};
use serde::{Deserialize, Serialize};

/// Version of what is said here. Members and requests may be added under the same number as long as an engine and a shim that
/// do not know them get along; it is raised when they would not. An engine refuses what a shim of another number cannot do.
pub const PROTOCOL: u32 = 1;
/// Largest accepted frame body, in bytes. Bulky input (the OCI config) travels as a file.
pub const MAX_FRAME: usize = 1 << 20;
/// Most descriptors one frame may carry.
pub const MAX_FDS: usize = 128;

/// A request with its sequence number, as it is on the wire.
#[derive(Debug, Serialize, Deserialize)]
pub struct RequestFrame {
    /// Chosen by the sender, repeated in the answer.
    pub seq: u64,
    /// What is asked.
    #[serde(flatten)]
    pub request: Request,
}

/// What the engine asks of a shim.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Build the container and execute its init process. Answered by [`Reply::Started`] once execve
    /// of the user's program succeeded, or by an error, after which the shim cleans up and exits.
    /// Descriptors: the network namespace when `netns_fd`, then one listening or bound socket per
    /// entry of `relays`.
    Launch(Box<Launch>),
    /// Run a further process in the container. Answered by [`Reply::ExecStarted`].
    /// Descriptor: the client's connection when `attach` is set.
    Exec(Box<Exec>),
    /// Connect a client to the container's (or an exec's) stdio. Descriptor: the client's socket,
    /// already upgraded; the shim owns it from here on, also when the engine dies.
    Attach {
        /// The exec to attach to, the container's init process when absent.
        exec: Option<ExecId>,
        /// Which streams, and how they are framed.
        streams: AttachStreams,
    },
    /// Send a signal to the container's init process.
    Signal {
        /// Signal number (signal(7)).
        signal: i32,
    },
    /// Send a signal to an exec's process.
    SignalExec {
        /// Which exec.
        exec: ExecId,
        /// Signal number (signal(7)).
        signal: i32,
    },
    /// Set the size of a terminal.
    Resize {
        /// The exec whose terminal is meant, the container's own when absent.
        exec: Option<ExecId>,
        /// Rows.
        height: u16,
        /// Columns.
        width: u16,
    },
    /// Freeze every process of the container (cgroup freezer).
    Pause,
    /// Thaw them.
    Resume,
    /// Report what is running. Answered by [`Reply::State`].
    State,
    /// Push events to this connection from now on. Answered by [`Reply::State`]; the state and the
    /// subscription are taken at the same instant, so no exit can fall in between.
    Subscribe,
    /// Relay by these from now on; the sockets held so far are closed, and relayed connections with them. For shims with
    /// [`ShimState::replaces_relays`]. Descriptors: one listening or bound socket per entry.
    Relays {
        /// What each socket is for.
        relays: Vec<Relay>,
    },
    /// The engine has recorded the container's exit: the shim may end. Sent only after
    /// [`Event::Exited`]; a shim without any connection ends by itself once the exit record is on disk.
    Release,
}

/// Everything a shim needs to run its container.
#[derive(Debug, Serialize, Deserialize)]
pub struct Launch {
    /// The container.
    pub id: ContainerId,
    /// OCI bundle directory holding `config.json` (runtime-spec `bundle.md`).
    pub bundle: PathBuf,
    /// Root file system to mount in the container's own mount namespace; when absent,
    /// `root.path` of the OCI config is used as it is.
    pub overlay: Option<Overlay>,
    /// The OCI runtime that runs the container; ferry's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeProgram>,
    /// Whether the first descriptor of the frame is the network namespace to join.
    pub netns_fd: bool,
    /// Where the shim listens for later connections.
    pub socket: PathBuf,
    /// Where the exit record goes, see [`ExitRecord`].
    pub exit_record: PathBuf,
    /// Where the shim writes its own pid and start time (see [`ShimPid`]) before it builds anything.
    pub pid_file: PathBuf,
    /// The container's log; none when the log driver is `none`.
    pub log: Option<LogConfig>,
    /// Whether stdin stays open for attached clients (`OpenStdin`).
    pub open_stdin: bool,
    /// Whether the end of the first attached client's input closes stdin for good (`StdinOnce`).
    pub stdin_once: bool,
    /// Initial terminal size `(height, width)`, when known.
    pub console_size: Option<(u16, u16)>,
    /// Clients to connect before the process starts, so that they miss no output. Their sockets
    /// follow the relays' in the frame's descriptors.
    pub attach: Vec<AttachStreams>,
    /// Published ports the kernel cannot forward alone (IPv6 to an IPv4-only container, `::1`):
    /// the shim copies between its inherited socket and the target.
    pub relays: Vec<Relay>,
}

/// One inherited socket and where its traffic goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Relay {
    /// Tcp: the descriptor is a listening socket. Udp: a bound socket.
    pub protocol: Protocol,
    /// Address inside the container's network.
    pub target: SocketAddr,
}

/// Which streams a client is attached to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttachStreams {
    /// Forward the client's bytes to stdin.
    pub stdin: bool,
    /// Send stdout to the client.
    pub stdout: bool,
    /// Send stderr to the client.
    pub stderr: bool,
    /// Use Docker's 8-byte multiplexed framing, where a terminal's output is all stdout; raw bytes otherwise.
    pub multiplexed: bool,
    /// Bytes of the client's input that were read together with the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending_input: Vec<u8>,
    /// Key sequence that detaches (only looked for on terminals); empty disables it.
    #[serde(default)]
    pub detach_keys: Vec<u8>,
}

/// A further process in a running container.
#[derive(Debug, Serialize, Deserialize)]
pub struct Exec {
    /// Its id.
    pub id: ExecId,
    /// File holding the OCI `process` object (runtime-spec `config.md`), environment and all.
    pub process: PathBuf,
    /// Whether stdin is a pipe fed by attached clients; `/dev/null` otherwise.
    pub open_stdin: bool,
    /// Initial terminal size `(height, width)`.
    pub console_size: Option<(u16, u16)>,
    /// The client to connect before the process starts; its socket is the frame's descriptor.
    pub attach: Option<AttachStreams>,
    /// Set for a probe of the container's health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// What makes an exec a probe: it has a group of its own, is ended with all it started when it takes too long, and the
/// beginning of its output comes with its exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// How long it may take.
    pub timeout_ms: u64,
    /// Bytes of output kept, standard output and error together.
    pub output_limit: usize,
}

/// How a probe went, beside its exit code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeOutcome {
    /// It was ended for taking too long.
    pub timed_out: bool,
    /// The beginning of its output; what is not UTF-8 is replaced.
    pub output: String,
    /// There was more.
    pub truncated: bool,
}

/// An answer with the sequence number of its request, or an event.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Response {
    /// The request succeeded.
    Ok {
        /// Of the request.
        seq: u64,
        /// What it yields.
        reply: Reply,
    },
    /// The request failed.
    Error {
        /// Of the request.
        seq: u64,
        /// Why.
        error: ShimError,
    },
    /// Something happened.
    Event {
        /// What.
        event: Event,
    },
}

/// What a successful request yields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// Nothing to say.
    Done,
    /// The container's init process runs.
    Started {
        /// Its pid in the host's pid namespace.
        pid: i32,
    },
    /// An exec's process runs.
    ExecStarted {
        /// Its pid in the host's pid namespace.
        pid: i32,
    },
    /// What is running.
    State(ShimState),
}

/// A snapshot of a shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimState {
    /// The container's init process, in the host's pid namespace.
    pub pid: i32,
    /// When it was executed, in nanoseconds since the epoch.
    pub started_at: i64,
    /// Whether the container is frozen.
    pub paused: bool,
    /// Set once the init process has ended.
    pub exited: Option<ExitRecord>,
    /// Pids of the execs still running.
    pub execs: Vec<(ExecId, i32)>,
    /// Log entries that were lost, see [`Event::LogLost`].
    #[serde(default)]
    pub log_lost: u64,
    /// Whether it understands [`Request::Relays`].
    #[serde(default)]
    pub replaces_relays: bool,
    /// [`PROTOCOL`] of the shim, which may be older than the engine, or newer; 0 before there was this member.
    #[serde(default)]
    pub protocol: u32,
}

/// What a shim tells its subscribers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The init process ended, all its output is in the log and with the attached clients, and the
    /// exit record is on disk. Sent once.
    Exited(ExitRecord),
    /// An exec's process ended and its output is delivered.
    ExecExited {
        /// Which.
        exec: ExecId,
        /// As a shell would report it: 0–255, 128 + signal.
        code: i32,
        /// For a probe.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        probe: Option<ProbeOutcome>,
    },
    /// A process of the container was killed because its memory limit was reached.
    Oom,
    /// Log entries were lost because their destination did not take them. Sent at most every few seconds.
    LogLost {
        /// How many since the container started.
        total: u64,
    },
    /// An attached client left by the detach keys.
    Detached {
        /// The exec it was attached to, the container when absent.
        exec: Option<ExecId>,
    },
}

/// How a container ended; the JSON contents of [`Launch::exit_record`], replaced atomically.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// As a shell would report it: 0–255, 128 + signal.
    pub code: i32,
    /// Whether the memory limit killed a process.
    pub oom_killed: bool,
    /// Nanoseconds since the epoch at which the process was executed.
    pub started_at: i64,
    /// Nanoseconds since the epoch.
    pub finished_at: i64,
    /// Log entries that were lost in this run.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub log_lost: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Contents of [`Launch::pid_file`]: tells a shim of this container from a process that got its pid later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimPid {
    /// The shim.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat` (proc_pid_stat(5)), in clock ticks after boot.
    pub start_time: u64,
}

/// A failed request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ShimError {
    /// Coarse cause.
    pub kind: ShimErrorKind,
    /// For people; for a failed exec(2) Docker's wording, e.g.
    /// `exec: "foo": executable file not found in $PATH`.
    pub message: String,
}

/// Coarse causes the engine tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimErrorKind {
    /// The program does not exist (exit code 127).
    CommandNotFound,
    /// The program exists but cannot be executed (exit code 126).
    CommandNotExecutable,
    /// The request does not fit the container's state.
    State,
    /// The user asked for something the host or the OCI config does not allow.
    Invalid,
    /// The log's destination could not be opened; the message is the driver's.
    Log,
    /// Anything else.
    System,
}
