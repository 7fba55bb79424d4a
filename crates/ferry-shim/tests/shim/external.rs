//! Containers of another OCI runtime: a script that does as much of runc's command line as the shim relies on, with plain
//! processes for containers. What a real one makes of them is the integration suite's affair.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ferry_shim_proto::{Client, ClientError, Event, Exec, Probe, Reply, Request, ShimErrorKind};
use ferry_types::{ExecId, RuntimeProgram};
use serde_json::json;

use crate::bed::{Bed, PATIENCE, await_that, demultiplex, read_all, streams};

/// Takes the options apart, notes the verb in `$calls`, and does what the test says for it.
const HEAD: &str = r#"#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
        --root) root=$2; shift 2;;
        --log) log=$2; shift 2;;
        --bundle) bundle=$2; shift 2;;
        --pid-file) pid_file=$2; shift 2;;
        --log-format|--process|--console-socket) shift 2;;
        --detach|--force) shift;;
        *) if [ -z "$verb" ]; then verb=$1; else id=$1; fi; shift;;
    esac
done
echo "$verb" >> "$calls"
"#;

/// A container whose program is `$program`.
const CREATE: &str = r#"mkdir -p "$root"; (while [ ! -e "$root/go" ]; do sleep 0.01; done; eval "$program") &
    echo $! > "$pid_file""#;

struct Fake {
    bed: Bed,
}

impl Fake {
    /// `create` and `exec` are what the script does for these verbs.
    fn new(program: &str, create: &str, exec: &str) -> Self {
        let mut bed = Bed::new(&["true"]);
        let path = bed.dir.path().join("fake");
        let calls = bed.dir.path().join("calls");
        let quoted = program.replace('\'', "'\\''");
        let text = format!(
            "{head}program='{quoted}'\ncase $verb in\n  create) {create};;\n  start) : > \"$root/go\";;\n  \
             exec) {exec};;\n  delete) rm -rf \"$root\";;\nesac\n",
            head = HEAD.replacen('\n', &format!("\ncalls={}\n", calls.display()), 1),
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        bed.launch.runtime = Some(RuntimeProgram {
            name: "fake".to_owned(),
            path,
            args: Vec::new(),
            search_path: "/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        });
        Self { bed }
    }

    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.bed.dir.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn directory(&self) -> PathBuf {
        self.bed.dir.path().join("runtime")
    }

    /// The error of a launch, after which nothing may be left.
    fn refused(mut self) -> (ShimErrorKind, String) {
        let error = self.bed.try_start().unwrap_err();
        assert_eq!(self.bed.shim.wait(), 1);
        assert!(!self.directory().exists() && !self.bed.launch.pid_file.exists());
        self.bed.assert_no_cgroup();
        match error {
            ClientError::Refused(error) => (error.kind, error.message),
            other => panic!("{other}"),
        }
    }

    fn exec(&self) -> Exec {
        let id = ExecId::random();
        let process = self.bed.dir.path().join(id.as_str());
        std::fs::write(&process, json!({"args": ["x"], "cwd": "/", "terminal": false}).to_string()).unwrap();
        Exec { id, process, open_stdin: false, console_size: None, attach: None, probe: None }
    }
}

#[test]
fn created_started_supervised_deleted() {
    let mut fake = Fake::new("echo out; echo err >&2; exit 7", CREATE, "");
    fake.bed = fake.bed.start();
    assert_eq!(fake.bed.exited().code, 7);
    // An answer means that everything has been removed.
    fake.bed.subscribe();
    assert!(!fake.directory().exists());
    assert_eq!(fake.calls(), ["create", "start", "delete"]);
    let log = [("stdout".to_owned(), "out\n".to_owned()), ("stderr".to_owned(), "err\n".to_owned())];
    let mut written = fake.bed.log();
    written.sort_by(|a, b| b.0.cmp(&a.0));
    assert_eq!(written, log);
    assert_eq!(fake.bed.finish().code, 7);
}

#[test]
fn failures_are_told_in_the_runtimes_words() {
    let logged = r#"echo '{"level":"error","msg":"exec: \"x\": executable file not found in $PATH"}' > "$log"; exit 1"#;
    let message = "exec: \"x\": executable file not found in $PATH".to_owned();
    assert_eq!(Fake::new("", logged, "").refused(), (ShimErrorKind::CommandNotFound, message));
    let written = "echo first >&2; echo it broke >&2; exit 3";
    assert_eq!(Fake::new("", written, "").refused(), (ShimErrorKind::System, "it broke".to_owned()));
    let (kind, message) = Fake::new("", "kill -9 $$", "").refused();
    assert_eq!((kind, message.as_str()), (ShimErrorKind::System, "runtime fake: create: signal: 9"));
}

#[test]
fn a_pid_that_is_nobody_of_ours_is_refused() {
    let own = std::process::id();
    let (kind, message) = Fake::new("", &format!("echo {own} > \"$pid_file\""), "").refused();
    assert_eq!(kind, ShimErrorKind::System);
    assert!(message.ends_with("of runtime fake is not left to who called it"), "{message}");
    let (_, message) = Fake::new("", "echo nonsense > \"$pid_file\"", "").refused();
    assert_eq!(message, "runtime fake wrote no pid but \"nonsense\\n\"");
}

#[test]
fn a_failing_start_undoes_the_creation() {
    let fake = Fake::new("exec sleep 30", CREATE, "");
    let path = fake.bed.dir.path().join("fake");
    let text = std::fs::read_to_string(&path).unwrap().replace(": > \"$root/go\"", "echo no >&2; exit 1");
    std::fs::write(&path, text).unwrap();
    assert_eq!(fake.refused(), (ShimErrorKind::System, "no".to_owned()));
}

#[test]
fn execs_are_supervised() {
    // A shell may reap what ends before itself, unlike a runtime.
    let exec = "(while kill -0 $$; do sleep 0.01; done 2>/dev/null; echo from exec; exit 5) & \
                echo $! > \"$pid_file\"";
    let mut fake = Fake::new("exec sleep 30", CREATE, exec);
    fake.bed = fake.bed.start();
    fake.bed.subscribe();
    let mut request = fake.exec();
    request.attach = Some(streams(false, true));
    let id = request.id.clone();
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let reply = fake.bed.client().call(Request::Exec(Box::new(request)), &[theirs.as_fd()]).unwrap();
    assert!(matches!(reply, Reply::ExecStarted { .. }));
    drop(theirs);
    assert_eq!(fake.bed.event(), Event::ExecExited { exec: id, code: 5, probe: None });
    assert_eq!(demultiplex(&read_all(ours)).0, b"from exec\n");
    let left: Vec<_> = std::fs::read_dir(fake.directory()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
    fake.bed.kill();
    assert_eq!(fake.bed.finish().code, 137);
}

#[test]
fn a_failing_exec_leaves_the_container_alone() {
    let mut fake = Fake::new("exec sleep 30", CREATE, "echo permission denied >&2; exit 1");
    fake.bed = fake.bed.start();
    for probe in [None, Some(Probe { timeout_ms: 1000, output_limit: 10 })] {
        let request = Exec { probe, ..fake.exec() };
        let Err(ClientError::Refused(error)) = fake.bed.call(Request::Exec(Box::new(request))) else {
            panic!("it did not fail")
        };
        assert_eq!(error.kind, ShimErrorKind::CommandNotExecutable);
    }
    assert!(fake.bed.subscribe().execs.is_empty());
    fake.bed.kill();
    fake.bed.finish();
}

#[test]
fn an_exec_in_the_making_delays_nobody_else() {
    let exec = "sleep 2; sleep 30 & echo $! > \"$pid_file\"";
    let mut fake = Fake::new("while :; do echo tick; sleep 0.02; done", CREATE, exec);
    fake.bed = fake.bed.start();
    fake.bed.subscribe();
    let request = fake.exec();
    let mut other = Client::connect(&fake.bed.launch.socket).unwrap();
    let began = Instant::now();
    let starting = std::thread::spawn(move || other.call(Request::Exec(Box::new(request)), &[]));
    let calls = fake.bed.dir.path().join("calls");
    await_that(|| std::fs::read_to_string(&calls).is_ok_and(|calls| calls.contains("exec")));
    let before = fake.bed.log().len();
    await_that(|| fake.bed.log().len() > before + 5);
    let Err(ClientError::Refused(error)) = fake.bed.call(Request::Pause) else { panic!("it was paused") };
    assert_eq!(error.message, "an exec is being started");
    assert!(began.elapsed() < Duration::from_millis(1900), "{:?}", began.elapsed());
    let reply = starting.join().unwrap().unwrap();
    assert!(matches!(reply, Reply::ExecStarted { .. }));
    // With the exec's processes, although the container has no pid namespace here.
    fake.bed.kill();
    fake.bed.finish();
}

#[test]
fn the_containers_end_ends_an_exec_in_the_making() {
    let mut fake = Fake::new("exec sleep 30", CREATE, "exec sleep 30");
    fake.bed = fake.bed.start();
    let request = fake.exec();
    let mut other = Client::connect(&fake.bed.launch.socket).unwrap();
    let starting = std::thread::spawn(move || other.call(Request::Exec(Box::new(request)), &[]));
    let calls = fake.bed.dir.path().join("calls");
    await_that(|| std::fs::read_to_string(&calls).is_ok_and(|calls| calls.contains("exec")));
    let began = Instant::now();
    fake.bed.kill();
    assert!(matches!(starting.join().unwrap(), Err(ClientError::Refused(_))));
    fake.bed.finish();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
