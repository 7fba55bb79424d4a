//! Starting programs: in a new container and in a running one.

use std::io::Read;
use std::os::fd::AsFd;

use ferry_runtime::{Error, ExecProcess, ExecRequest, Stdio, exec};
use oci_spec::runtime::Process;
use serde_json::json;

use crate::support::{Fixture, Running, captured, null, wait};

pub const TESTS: &[(&str, fn())] = &[
    ("exec::failures_in_dockers_words", failures_in_dockers_words),
    ("exec::exit_codes", exit_codes),
    ("exec::in_a_running_container", in_a_running_container),
    ("exec::failures_in_a_running_container", failures_in_a_running_container),
    ("exec::terminal_in_a_running_container", terminal_in_a_running_container),
    ("exec::start_is_for_once", start_is_for_once),
    ("exec::the_working_directory_cannot_be_a_descriptor", the_working_directory_cannot_be_a_descriptor),
];

fn failure(args: &[&str]) -> Error {
    let mut fixture = Fixture::new("");
    fixture.args(args);
    let error = fixture.run().unwrap_err();
    fixture.assert_gone();
    error
}

fn failures_in_dockers_words() {
    let error = failure(&["foo"]);
    assert!(matches!(error, Error::CommandNotFound { .. }));
    assert_eq!(error.to_string(), "exec: \"foo\": executable file not found in $PATH");
    let error = failure(&["/foo"]);
    assert!(matches!(error, Error::CommandNotFound { .. }));
    assert_eq!(error.to_string(), "exec: \"/foo\": stat /foo: no such file or directory");
    let error = failure(&["/etc/passwd"]);
    assert!(matches!(error, Error::CommandNotExecutable { .. }));
    assert_eq!(error.to_string(), "exec: \"/etc/passwd\": permission denied");
    let error = failure(&["/etc"]);
    assert!(matches!(error, Error::CommandNotExecutable { .. }));
    assert_eq!(error.to_string(), "exec: \"/etc\": is a directory");

    // An executable file in no known format fails in execve itself, after the start.
    let mut fixture = Fixture::new("");
    std::fs::write(fixture.lower().join("bin/odd"), "no program").unwrap();
    std::fs::set_permissions(
        fixture.lower().join("bin/odd"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    fixture.args(&["odd"]);
    let error = fixture.run().unwrap_err();
    assert!(matches!(error, Error::CommandNotExecutable { .. }));
    assert_eq!(error.to_string(), "exec: \"odd\": exec format error");
    fixture.assert_gone();
}

fn exit_codes() {
    assert_eq!(Fixture::new("exit 42").run().unwrap().code, 42);
    // Init dies of a signal only when it comes from outside.
    let mut fixture = Fixture::new("sleep 100");
    let mut container = fixture.create(null()).unwrap();
    container.start().unwrap();
    rustix::process::pidfd_send_signal(&container.pidfd, rustix::process::Signal::KILL).unwrap();
    assert_eq!(wait(container.pid), 137);
    container.cgroup.remove().unwrap();
}

fn process(running: &mut Running, args: &[&str]) -> Process {
    let mut process = running.fixture.process().clone();
    process.set_args(Some(args.iter().map(|&a| a.to_owned()).collect()));
    process
}

fn run(running: &Running, process: &Process, stdio: Stdio) -> Result<ExecProcess, Error> {
    exec(ExecRequest {
        container_pid: running.container.pid,
        pidfd: running.container.pidfd.as_fd(),
        cgroup: &running.container.cgroup,
        group: None,
        spec: &running.fixture.spec,
        process,
        stdio,
    })
}

fn in_a_running_container() {
    let mut running = Running::start(Fixture::new(""));
    let script = "for n in mnt pid net ipc uts cgroup; do readlink /proc/1/ns/$n; readlink /proc/self/ns/$n; done; \
                  ls /proc/self/fd; cat /proc/self/cgroup; grep CapEff /proc/self/status; exit 3";
    let process = process(&mut running, &["sh", "-c", script]);
    let (stdio, mut output) = captured();
    let child = run(&running, &process, stdio).unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(wait(child.pid), 3, "{text}");
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines[..12].chunks(2) {
        assert_eq!(pair[0], pair[1]);
    }
    assert_eq!(lines[12..16], ["0", "1", "2", "3"]);
    assert!(lines[16..lines.len() - 1].iter().all(|l| l.ends_with(":/")), "{text}");
    assert_eq!(lines[lines.len() - 1], "CapEff:\t00000000a80425fb");
    // This process itself has stayed where it was.
    assert_eq!(
        std::fs::read_link("/proc/self/ns/pid").unwrap(),
        std::fs::read_link("/proc/self/ns/pid_for_children").unwrap()
    );
}

fn failures_in_a_running_container() {
    let mut running = Running::start(Fixture::new(""));
    let missing = process(&mut running, &["foo"]);
    let error = run(&running, &missing, null()).unwrap_err();
    assert_eq!(error.to_string(), "exec: \"foo\": executable file not found in $PATH");
    let mut nowhere = process(&mut running, &["true"]);
    nowhere.set_cwd("/x".into());
    let error = run(&running, &nowhere, null()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "chdir to cwd (\"/x\") set in config.json failed: no such file or directory"
    );
    // Failed ones are reaped, and the container is as before.
    assert_eq!(running.container.cgroup.pids().unwrap(), [running.container.pid]);
}

fn terminal_in_a_running_container() {
    let mut running = Running::start(Fixture::new(""));
    let process = process(&mut running, &["sh", "-c", "tty; stty size"]);
    let child = run(&running, &process, Stdio::Terminal { size: Some((10, 20)) }).unwrap();
    let console = child.console.unwrap();
    let mut output = Vec::new();
    let mut buffer = [0; 256];
    while let Ok(n @ 1..) = rustix::io::read(&console, &mut buffer) {
        output.extend_from_slice(&buffer[..n]);
    }
    assert_eq!(wait(child.pid), 0);
    assert_eq!(String::from_utf8(output).unwrap(), "/dev/pts/0\r\n10 20\r\n");
}

fn start_is_for_once() {
    let mut running = Running::start(Fixture::new(""));
    assert!(running.container.start().is_err());
    assert_eq!(running.container.cgroup.pids().unwrap(), [running.container.pid]);
}

/// The class of CVE-2024-21626.
fn the_working_directory_cannot_be_a_descriptor() {
    for number in 3..12 {
        let mut fixture = Fixture::new("pwd");
        fixture.set("/process/cwd", json!(format!("/proc/self/fd/{number}")));
        assert!(fixture.run().is_err(), "descriptor {number} was entered");
        fixture.assert_gone();
    }
}
