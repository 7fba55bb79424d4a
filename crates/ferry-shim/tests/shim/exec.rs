//! Further processes.

use std::io::Write;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use ferry_shim_proto::{AttachStreams, ClientError, Event, Exec, Reply, Request, ShimErrorKind};
use ferry_types::ExecId;
use serde_json::json;

use crate::bed::{Bed, PATIENCE, await_that, demultiplex, read_all, read_until, streams};

fn request(bed: &Bed, command: &[&str], tty: bool, attach: Option<AttachStreams>) -> (Exec, ExecId) {
    let id = ExecId::random();
    let process = bed.dir.path().join(id.as_str());
    let value = json!({
        "terminal": tty, "user": { "uid": 0, "gid": 0 }, "args": command, "cwd": "/tmp",
        "env": ["PATH=/bin", "COLOUR=green"],
    });
    std::fs::write(&process, serde_json::to_vec(&value).unwrap()).unwrap();
    let open_stdin = attach.as_ref().is_some_and(|a| a.stdin);
    (Exec { id: id.clone(), process, open_stdin, console_size: Some((30, 90)), attach, probe: None }, id)
}

/// Starts an exec with a client.
fn start(bed: &mut Bed, command: &[&str], tty: bool, stdin: bool) -> (ExecId, UnixStream) {
    let (exec, id) = request(bed, command, tty, Some(streams(stdin, !tty)));
    let (ours, theirs) = UnixStream::pair().unwrap();
    let reply = bed.client().call(Request::Exec(Box::new(exec)), &[theirs.as_fd()]).unwrap();
    assert!(matches!(reply, Reply::ExecStarted { pid } if pid > 0));
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    (id, ours)
}

/// Runs a command to its end without a client.
pub fn run(bed: &mut Bed, command: &[&str]) -> i32 {
    let (exec, id) = request(bed, command, false, None);
    bed.call(Request::Exec(Box::new(exec))).unwrap();
    exited(bed, &id)
}

fn exited(bed: &mut Bed, id: &ExecId) -> i32 {
    loop {
        if let Event::ExecExited { exec, code, .. } = bed.event()
            && exec == *id
        {
            return code;
        }
    }
}

#[test]
fn output_arrives_before_the_exit_and_not_in_the_log() {
    let mut bed = Bed::idle().start();
    bed.subscribe();
    let (id, client) = start(&mut bed, &["sh", "-c", "echo $COLOUR; pwd >&2; exit 9"], false, false);
    assert_eq!(exited(&mut bed, &id), 9);
    assert_eq!(demultiplex(&read_all(client)), (b"green\n".to_vec(), b"/tmp\n".to_vec()));
    assert!(bed.log().is_empty());
    bed.kill();
    bed.finish();
}

#[test]
fn stdin_and_terminals_work() {
    let mut bed = Bed::idle().start();
    bed.subscribe();
    let (id, mut client) = start(&mut bed, &["cat"], false, true);
    client.write_all(b"through").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(demultiplex(&read_all(client)).0, b"through");
    assert_eq!(exited(&mut bed, &id), 0);
    let (id, mut client) = start(&mut bed, &["sh", "-c", "stty size; read x; stty size; cat"], true, true);
    assert_eq!(read_until(&mut client, "30 90\r\n"), "30 90\r\n");
    let resize = Request::Resize { exec: Some(id.clone()), height: 3, width: 4 };
    assert_eq!(bed.call(resize).unwrap(), Reply::Done);
    client.write_all(b"\n").unwrap();
    read_until(&mut client, "3 4\r\n");
    client.write_all(b"\x10\x11").unwrap();
    assert_eq!(bed.event(), Event::Detached { exec: Some(id.clone()) });
    assert_eq!(bed.call(Request::SignalExec { exec: id.clone(), signal: 9 }).unwrap(), Reply::Done);
    assert_eq!(exited(&mut bed, &id), 137);
    bed.kill();
    bed.finish();
}

#[test]
fn several_run_at_once_and_outlive_their_connection_but_not_the_container() {
    let mut bed = Bed::idle().start();
    let (first, _a) = start(&mut bed, &["sleep", "1000"], false, false);
    let (second, _b) = start(&mut bed, &["sleep", "1000"], false, false);
    bed.reconnect();
    let execs: Vec<ExecId> = bed.subscribe().execs.into_iter().map(|(id, _)| id).collect();
    assert_eq!(execs, [first.clone(), second.clone()]);
    bed.kill();
    let mut codes = Vec::new();
    let record = loop {
        match bed.event() {
            Event::ExecExited { code, .. } => codes.push(code),
            Event::Exited(record) => break record,
            other => panic!("unexpected {other:?}"),
        }
    };
    assert_eq!((record.code, codes), (137, vec![137, 137]));
    bed.finish();
}

#[test]
fn a_daemon_started_by_an_exec_does_not_hold_it_up() {
    let mut bed = Bed::idle().start();
    bed.subscribe();
    let (id, client) = start(&mut bed, &["sh", "-c", "sleep 1000 & echo started"], false, false);
    assert_eq!(exited(&mut bed, &id), 0);
    assert_eq!(demultiplex(&read_all(client)).0, b"started\n");
    bed.kill();
    bed.finish();
}

#[test]
fn failures_are_told_apart() {
    let mut bed = Bed::idle().start();
    bed.subscribe();
    for (command, kind) in
        [("nonesuch", ShimErrorKind::CommandNotFound), ("/tmp", ShimErrorKind::CommandNotExecutable)]
    {
        let (exec, _) = request(&bed, &[command], false, None);
        let error = bed.call(Request::Exec(Box::new(exec))).unwrap_err();
        assert!(matches!(&error, ClientError::Refused(e) if e.kind == kind), "{error:?}");
    }
    bed.call(Request::Pause).unwrap();
    let (exec, _) = request(&bed, &["true"], false, None);
    let error = bed.call(Request::Exec(Box::new(exec))).unwrap_err();
    assert!(matches!(&error, ClientError::Refused(e) if e.kind == ShimErrorKind::State), "{error:?}");
    bed.call(Request::Resume).unwrap();
    assert_eq!(run(&mut bed, &["sh", "-c", "kill -TERM $$"]), 143);
    let shim = bed.shim.pid;
    await_that(|| {
        let children = std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap();
        children.split_ascii_whitespace().count() == 1
    });
    bed.kill();
    bed.finish();
}

/// Runs a probe to its end.
fn probe(bed: &mut Bed, command: &[&str], timeout_ms: u64) -> (i32, ferry_shim_proto::ProbeOutcome) {
    let (mut exec, id) = request(bed, command, false, None);
    exec.probe = Some(ferry_shim_proto::Probe { timeout_ms, output_limit: 16 });
    bed.call(Request::Exec(Box::new(exec))).unwrap();
    loop {
        if let Event::ExecExited { exec, code, probe } = bed.event()
            && exec == id
        {
            return (code, probe.unwrap());
        }
    }
}

#[test]
fn a_probe_brings_the_beginning_of_its_output() {
    let mut bed = Bed::idle().start();
    bed.subscribe();
    let (code, outcome) = probe(&mut bed, &["sh", "-c", "echo fine; exit 3"], 5000);
    assert_eq!((code, outcome.output.as_str(), outcome.truncated), (3, "fine\n", false));
    let (code, outcome) = probe(&mut bed, &["sh", "-c", "echo 0123456789abcdefg"], 5000);
    assert_eq!((code, outcome.output.as_str()), (0, "0123456789abcdef"));
    assert!(outcome.truncated && !outcome.timed_out);
}

#[test]
fn a_probe_that_takes_too_long_ends_with_all_its_children() {
    let mut bed = Bed::idle().start();
    bed.subscribe();
    // A child in a session of its own whose parent is gone: neither its group nor its parentage leads to it.
    let script = "echo before; (setsid sleep 4711 &) ; sleep 4712";
    let (code, outcome) = probe(&mut bed, &["sh", "-c", script], 300);
    assert_eq!((code, outcome.timed_out, outcome.output.as_str()), (137, true, "before\n"));
    let left = "! ps | grep -q 'sleep 471[12]'";
    await_that(|| run(&mut bed, &["sh", "-c", left]) == 0);
}
