//! A bed for tests: a busybox container under the real shim binary.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ferry_shim_proto::log::{LogFile, LogFormat};
use ferry_shim_proto::{
    AttachStreams, Client, ClientError, Event, ExitRecord, Launch, LogConfig, Relay, Reply, Request,
    ShimState,
};
use ferry_types::ContainerId;
use rustix::process::{Pid, WaitOptions, waitpid};
use serde_json::{Value, json};

/// Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A root file system with busybox and its applets, made once per test run in cargo's own directory.
fn rootfs() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shim-rootfs");
        let _ = std::fs::remove_dir_all(&root);
        for directory in ["bin", "proc", "dev", "sys", "tmp", "etc"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("tests need busybox-static");
        for applet in [
            "sh", "cat", "echo", "printf", "sleep", "yes", "head", "dd", "true", "false", "kill", "tr",
            "stty", "grep", "ls", "nc", "ps", "tail", "seq", "wc", "usleep", "od",
        ] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        root
    })
}

fn config(command: &[&str], id: &str) -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": command,
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
        },
        "root": { "path": rootfs(), "readonly": false },
        "hostname": "bed",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
        ],
        "linux": {
            "cgroupsPath": format!("/ferry-shim-test-{id}"),
            "namespaces": [
                { "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" },
            ],
        },
    })
}

/// A shim process that waits for its order.
pub struct Shim {
    pub pid: i32,
    pub client: Option<Client>,
}

impl Shim {
    pub fn spawn() -> Shim {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let program = std::env::var("FERRY_SHIM_BIN").unwrap_or(env!("CARGO_BIN_EXE_ferry-shim").to_owned());
        let pid = ferry_sys::spawn::spawn_with_socket(
            &program,
            &["ferry-shim"],
            std::io::stderr().as_fd(),
            theirs.as_fd(),
        )
        .unwrap();
        Shim { pid, client: Some(Client::new(ours)) }
    }

    /// Waits for the process to end and returns its exit code.
    pub fn wait(&mut self) -> i32 {
        let pid = Pid::from_raw(self.pid).unwrap();
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Some((_, status)) = waitpid(Some(pid), WaitOptions::NOHANG).unwrap() {
                self.pid = 0;
                return status.exit_status().unwrap_or(-1);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("the shim does not end");
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// One container in the making or running.
pub struct Bed {
    pub id: ContainerId,
    pub dir: tempfile::TempDir,
    pub config: Value,
    pub launch: Launch,
    pub fds: Vec<OwnedFd>,
    pub shim: Shim,
    pub pid: i32,
}

pub fn streams(stdin: bool, multiplexed: bool) -> AttachStreams {
    AttachStreams {
        stdin,
        stdout: true,
        stderr: true,
        multiplexed,
        pending_input: Vec::new(),
        detach_keys: vec![0x10, 0x11],
    }
}

impl Bed {
    pub fn new(command: &[&str]) -> Bed {
        let id = ContainerId::random();
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let launch = Launch {
            id: id.clone(),
            bundle: dir.path().to_owned(),
            overlay: None,
            runtime: None,
            netns_fd: false,
            socket: path("shim.sock"),
            exit_record: path("exit.json"),
            pid_file: path("shim.pid"),
            log: Some(LogConfig {
                file: Some(LogFile {
                    path: path("log.json"),
                    format: LogFormat::Json,
                    max_size: None,
                    max_files: 1,
                    compress: false,
                    attributes: String::new(),
                }),
                remote: None,
                buffer: 1 << 20,
                non_blocking: false,
            }),
            open_stdin: false,
            stdin_once: false,
            console_size: None,
            attach: Vec::new(),
            relays: Vec::new(),
        };
        Bed {
            config: config(command, id.as_str()),
            id,
            launch,
            fds: Vec::new(),
            shim: Shim::spawn(),
            pid: 0,
            dir,
        }
    }

    pub fn sh(script: &str) -> Bed {
        Bed::new(&["sh", "-c", script])
    }

    /// A container that runs until it is killed, at once.
    pub fn idle() -> Bed {
        Bed::new(&["sleep", "1000"])
    }

    pub fn tty(mut self) -> Bed {
        self.config["process"]["terminal"] = json!(true);
        self
    }

    pub fn stdin(mut self, once: bool) -> Bed {
        self.launch.open_stdin = true;
        self.launch.stdin_once = once;
        self
    }

    /// Attaches a client before the start.
    pub fn early(&mut self, streams: AttachStreams) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.launch.attach.push(streams);
        self.fds.push(theirs.into());
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        ours
    }

    pub fn relay(&mut self, relay: Relay, socket: OwnedFd) {
        self.fds.insert(self.launch.relays.len(), socket);
        self.launch.relays.push(relay);
    }

    pub fn try_start(&mut self) -> Result<i32, ClientError> {
        let config = self.dir.path().join("config.json");
        std::fs::write(config, serde_json::to_vec(&self.config).unwrap()).unwrap();
        let launch = Launch {
            id: self.id.clone(),
            bundle: self.launch.bundle.clone(),
            socket: self.launch.socket.clone(),
            exit_record: self.launch.exit_record.clone(),
            pid_file: self.launch.pid_file.clone(),
            overlay: None,
            runtime: self.launch.runtime.clone(),
            log: self.launch.log.clone(),
            attach: self.launch.attach.clone(),
            relays: self.launch.relays.clone(),
            ..self.launch
        };
        let fds = std::mem::take(&mut self.fds);
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let reply = self.client().call(Request::Launch(Box::new(launch)), &fds)?;
        let Reply::Started { pid } = reply else { panic!("unexpected {reply:?}") };
        Ok(pid)
    }

    pub fn start(mut self) -> Bed {
        self.pid = self.try_start().unwrap();
        self
    }

    pub fn client(&mut self) -> &mut Client {
        self.shim.client.as_mut().unwrap()
    }

    pub fn call(&mut self, request: Request) -> Result<Reply, ClientError> {
        self.client().call(request, &[])
    }

    pub fn subscribe(&mut self) -> ShimState {
        let Reply::State(state) = self.call(Request::Subscribe).unwrap() else { panic!("no state") };
        state
    }

    pub fn attach(&mut self, streams: AttachStreams) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let request = Request::Attach { exec: None, streams };
        assert_eq!(self.client().call(request, &[theirs.as_fd()]).unwrap(), Reply::Done);
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        ours
    }

    /// Loses the connection and makes another, as an engine that starts anew.
    pub fn reconnect(&mut self) {
        self.shim.client = None;
        self.shim.client = Some(Client::connect(&self.launch.socket).unwrap());
    }

    pub fn event(&mut self) -> Event {
        self.client().event(PATIENCE).unwrap().expect("no event")
    }

    /// Waits for the container's end.
    pub fn exited(&mut self) -> ExitRecord {
        if let Some(record) = self.subscribe().exited {
            return record;
        }
        loop {
            if let Event::Exited(record) = self.event() {
                return record;
            }
        }
    }

    /// Waits for the end, releases the shim, and checks that nothing of either is left.
    pub fn finish(mut self) -> ExitRecord {
        let record = self.exited();
        assert_eq!(self.record(), Some(record.clone()));
        assert_eq!(self.call(Request::Release).unwrap(), Reply::Done);
        assert!(!self.launch.socket.exists() && !self.launch.pid_file.exists());
        assert_eq!(self.shim.wait(), 0);
        self.assert_no_cgroup();
        record
    }

    pub fn assert_no_cgroup(&self) {
        let name = format!("ferry-shim-test-{}", self.id.as_str());
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
            let path = hierarchy.unwrap().path().join(&name);
            assert!(!path.exists(), "{} is left", path.display());
        }
    }

    pub fn kill(&mut self) {
        assert_eq!(self.call(Request::Signal { signal: 9 }).unwrap(), Reply::Done);
    }

    pub fn record(&self) -> Option<ExitRecord> {
        let bytes = std::fs::read(&self.launch.exit_record).ok()?;
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    /// Where the log is.
    pub fn log_path(&self) -> PathBuf {
        self.launch.log.as_ref().unwrap().file.as_ref().unwrap().path.clone()
    }

    /// The log's records: stream and text.
    pub fn log(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.log_path()).unwrap();
        text.lines()
            .map(|line| {
                let value: Value = serde_json::from_str(line).unwrap();
                let field = |name: &str| value[name].as_str().unwrap().to_owned();
                (field("stream"), field("log"))
            })
            .collect()
    }

    pub fn await_log(&self, text: &str) {
        await_that(|| self.log().iter().any(|(_, log)| log.contains(text)));
    }

    /// Waits until the shim has opened all it needs; the watch for oom kills comes last.
    pub fn await_settled(&self) {
        await_that(|| self.open_files().iter().any(|f| f.contains("[eventfd]") || f.contains("inotify")));
    }

    /// Descriptors the shim holds, as their targets.
    pub fn open_files(&self) -> BTreeSet<String> {
        std::fs::read_dir(format!("/proc/{}/fd", self.shim.pid))
            .unwrap()
            .map(|entry| entry.unwrap())
            // One that is closed between the two calls is not open.
            .filter_map(|entry| {
                let target = std::fs::read_link(entry.path()).ok()?;
                Some(format!("{} {}", entry.file_name().display(), target.display()))
            })
            .collect()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // Not every test waits for the end, and a container outlives its shim.
        let shim = self.shim.pid;
        let children =
            std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap_or_default();
        let runs = children.split_ascii_whitespace().any(|pid| pid.parse() == Ok(self.pid));
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| shim > 0 && runs) {
            // The container goes first, so that its cgroup is removed.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

pub fn await_that(mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "timed out");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn read_all(mut stream: UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Reads until `needle` was seen; returns all.
pub fn read_until(stream: &mut UnixStream, needle: &str) -> String {
    let mut bytes = Vec::new();
    let mut buf = [0; 1024];
    while !String::from_utf8_lossy(&bytes).contains(needle) {
        let n = stream.read(&mut buf).unwrap();
        assert!(n > 0, "ended after {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&buf[..n]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Undoes Docker's multiplexed framing: bytes of stdout and of stderr.
pub fn demultiplex(mut bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut out = (Vec::new(), Vec::new());
    while !bytes.is_empty() {
        let length = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
        assert_eq!(&bytes[1..4], [0, 0, 0]);
        let target = if bytes[0] == 1 { &mut out.0 } else { &mut out.1 };
        assert!(matches!(bytes[0], 1 | 2));
        target.extend_from_slice(&bytes[8..8 + length]);
        bytes = &bytes[8 + length..];
    }
    out
}
