//! Start, end, and engines that come and go.

use std::time::Duration;

use ferry_shim_proto::{Client, ClientError, Event, Reply, Request, ShimErrorKind, ShimPid, codec};
use serde_json::json;

use crate::bed::{Bed, Shim, await_that};

#[test]
fn an_unused_shim_ends_quietly() {
    let mut shim = Shim::spawn();
    shim.client = None;
    assert_eq!(shim.wait(), 0);
}

#[test]
fn a_shim_wants_a_launch_first() {
    let mut shim = Shim::spawn();
    let error = shim.client.as_mut().unwrap().call(Request::State, &[]).unwrap_err();
    assert!(matches!(error, ClientError::Refused(e) if e.kind == ShimErrorKind::State));
    assert_eq!(shim.wait(), 1);
}

#[test]
fn exit_codes_are_the_shell_s() {
    assert_eq!(Bed::sh("exit 7").start().finish().code, 7);
    assert_eq!(Bed::new(&["true"]).start().finish().code, 0);
    let mut bed = Bed::idle().start();
    bed.kill();
    assert_eq!(bed.finish().code, 137);
    // Init has no handler for SIGTERM unless it sets one.
    let mut bed = Bed::sh("trap 'exit 5' TERM; echo ready; while :; do usleep 10000; done").start();
    bed.await_log("ready");
    bed.call(Request::Signal { signal: 15 }).unwrap();
    let record = bed.finish();
    assert_eq!(record.code, 5);
    assert!(record.started_at < record.finished_at);
}

#[test]
fn the_process_inherits_no_signal_state_and_no_descriptors() {
    let mut bed = Bed::sh("grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd; echo done").start();
    bed.exited();
    let text: String = bed.log().into_iter().map(|(_, text)| text).collect();
    assert!(text.contains("SigBlk:\t0000000000000000\n"), "{text}");
    assert!(text.contains("SigIgn:\t0000000000000000\n"), "{text}");
    // ls itself has the directory open as descriptor 3.
    assert!(text.contains("\n0\n1\n2\n3\ndone\n"), "{text}");
    bed.finish();
}

#[test]
fn failed_launches_leave_nothing() {
    for (command, kind) in [
        (["/no/such/program"], ShimErrorKind::CommandNotFound),
        (["/tmp"], ShimErrorKind::CommandNotExecutable),
    ] {
        let mut bed = Bed::new(&command);
        let error = bed.try_start().unwrap_err();
        assert!(matches!(&error, ClientError::Refused(e) if e.kind == kind), "{error:?}");
        bed.shim.wait();
        assert!(!bed.launch.socket.exists());
        assert!(!bed.launch.pid_file.exists());
        assert!(!bed.launch.exit_record.exists());
        bed.assert_no_cgroup();
    }
    let mut bed = Bed::idle();
    bed.launch.netns_fd = true;
    let error = bed.try_start().unwrap_err();
    assert!(matches!(&error, ClientError::Refused(e) if e.kind == ShimErrorKind::Invalid), "{error:?}");
    bed.shim.wait();
}

#[test]
fn the_pid_file_names_the_shim_and_its_process_is_named() {
    let mut bed = Bed::idle().start();
    let file = std::fs::read(&bed.launch.pid_file).unwrap();
    let identity: ShimPid = serde_json::from_slice(&file).unwrap();
    assert_eq!(identity.pid, bed.shim.pid);
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", bed.shim.pid)).unwrap();
    assert!(stat.contains(&format!(" {} ", identity.start_time)));
    assert!(stat.contains("(ferry-shim)"));
    bed.kill();
    bed.finish();
}

#[test]
fn an_engine_that_comes_back_finds_the_container() {
    let mut bed = Bed::sh("echo ready; sleep 1000").start();
    let pid = bed.pid;
    bed.await_log("ready");
    bed.reconnect();
    let state = bed.subscribe();
    assert_eq!((state.pid, state.paused, state.exited, state.execs.len()), (pid, false, None, 0));
    assert!(state.started_at > 0);
    bed.kill();
    let Event::Exited(record) = bed.event() else { panic!("no exit") };
    assert_eq!(record.code, 137);
    // A third engine learns it from the state; without any engine the shim would end.
    bed.shim.client = Some(Client::connect(&bed.launch.socket).unwrap());
    assert_eq!(bed.subscribe().exited, Some(record));
    bed.finish();
}

#[test]
fn an_exit_while_nobody_is_connected_is_on_disk() {
    let mut bed = Bed::sh("usleep 200000; exit 3").start();
    bed.shim.client = None;
    assert_eq!(bed.shim.wait(), 0);
    assert_eq!(bed.record().unwrap().code, 3);
    // What tells the next engine that there was a shim stays; its socket leads nowhere.
    assert!(bed.launch.pid_file.exists());
    assert!(Client::connect(&bed.launch.socket).is_err());
    bed.assert_no_cgroup();
}

#[test]
fn a_container_whose_directory_was_deleted_does_not_keep_its_shim() {
    let mut bed = Bed::sh("usleep 300000; exit 3");
    let dir = bed.launch.exit_record.with_file_name("gone");
    std::fs::create_dir(&dir).unwrap();
    bed.launch.exit_record = dir.join("exit.json");
    let mut bed = bed.start();
    std::fs::remove_dir_all(&dir).unwrap();
    bed.shim.client = None;
    assert_eq!(bed.shim.wait(), 0);
    assert!(bed.record().is_none());
    bed.assert_no_cgroup();
}

#[test]
fn a_stale_record_is_removed_before_the_start() {
    let bed = Bed::idle();
    std::fs::write(&bed.launch.exit_record, b"old").unwrap();
    let mut bed = bed.start();
    assert!(!bed.launch.exit_record.exists());
    bed.kill();
    assert_eq!(bed.finish().code, 137);
}

#[test]
fn malformed_frames_cost_the_connection_only() {
    use std::io::{Read, Write};
    let mut bed = Bed::idle().start();
    let long = u32::MAX.to_le_bytes().to_vec();
    let garbage = [5u32.to_le_bytes().as_slice(), b"hello"].concat();
    let unknown = codec::encode(&json!({"seq": 1, "op": "explode"})).unwrap();
    for bytes in [long, garbage, unknown] {
        let socket = ferry_sys::socket::connect_unix(&bed.launch.socket).unwrap();
        let mut stream = std::os::unix::net::UnixStream::from(socket);
        stream.write_all(&bytes).unwrap();
        stream.set_read_timeout(Some(crate::bed::PATIENCE)).unwrap();
        let mut end = Vec::new();
        // A connection closed with unread bytes is reset.
        let _ = stream.read_to_end(&mut end);
        assert!(end.is_empty());
    }
    // Half a frame, then nothing.
    let socket = ferry_sys::socket::connect_unix(&bed.launch.socket).unwrap();
    rustix::io::write(&socket, &[9, 0]).unwrap();
    drop(socket);
    assert_eq!(bed.subscribe().pid, bed.pid);
    bed.kill();
    bed.finish();
}

#[test]
fn requests_are_refused_in_the_wrong_state() {
    let state = |result: Result<Reply, ClientError>| match result {
        Err(ClientError::Refused(e)) => assert_eq!(e.kind, ShimErrorKind::State, "{e}"),
        other => panic!("unexpected {other:?}"),
    };
    let mut bed = Bed::idle().start();
    state(bed.call(Request::Release));
    state(bed.call(Request::Resume));
    state(bed.call(Request::Resize { exec: None, height: 1, width: 1 }));
    let invalid = bed.call(Request::Signal { signal: 999 });
    assert!(matches!(invalid, Err(ClientError::Refused(e)) if e.kind == ShimErrorKind::Invalid));
    bed.kill();
    bed.exited();
    state(bed.call(Request::Signal { signal: 9 }));
    state(bed.call(Request::Pause));
    bed.finish();
}

#[test]
fn pausing_stops_the_container_and_a_kill_gets_through() {
    let mut bed = Bed::sh("while :; do echo x; usleep 5000; done").start();
    bed.await_log("x");
    assert_eq!(bed.call(Request::Pause).unwrap(), Reply::Done);
    assert!(bed.subscribe().paused);
    std::thread::sleep(Duration::from_millis(50));
    let before = bed.log().len();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(bed.log().len(), before);
    assert_eq!(bed.call(Request::Resume).unwrap(), Reply::Done);
    await_that(|| bed.log().len() > before);
    bed.call(Request::Pause).unwrap();
    bed.kill();
    assert_eq!(bed.finish().code, 137);
}

#[test]
fn orphans_in_the_host_s_pid_namespace_are_reaped_and_killed() {
    let mut bed = Bed::sh("(usleep 20000 & usleep 20000 & sleep 1000 &) ; sleep 1000");
    let namespaces = bed.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|ns| ns["type"] != "pid");
    let mut bed = bed.start();
    let shim = bed.shim.pid;
    let children = move || {
        std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children"))
            .unwrap()
            .split_ascii_whitespace()
            .map(|pid| pid.parse::<i32>().unwrap())
            .collect::<Vec<_>>()
    };
    // Init and the long sleeper, which the shim adopted; the short ones were reaped.
    await_that(|| children().len() == 2);
    let sleeper = children().into_iter().find(|&pid| pid != bed.pid).unwrap();
    bed.kill();
    assert_eq!(bed.finish().code, 137);
    assert!(!std::path::Path::new(&format!("/proc/{sleeper}")).exists());
}

#[test]
fn a_shim_holds_no_descriptor_too_many() {
    let mut bed = Bed::idle().start();
    bed.await_settled();
    let before = bed.open_files();
    for _ in 0..3 {
        bed.reconnect();
        bed.subscribe();
        drop(bed.attach(crate::bed::streams(false, true)));
        crate::exec::run(&mut bed, &["true"]);
    }
    await_that(|| bed.open_files().len() == before.len());
    bed.kill();
    bed.finish();
}

#[test]
fn running_out_of_memory_is_told() {
    let mut bed = Bed::sh("sleep 0.2; tail /dev/zero");
    bed.config["linux"]["resources"] = json!({ "memory": { "limit": 16 << 20, "swap": 16 << 20 } });
    let mut bed = bed.start();
    bed.subscribe();
    let mut oom = false;
    let record = loop {
        match bed.event() {
            Event::Oom => oom = true,
            Event::Exited(record) => break record,
            Event::ExecExited { .. } | Event::Detached { .. } | Event::LogLost { .. } => {}
        }
    };
    assert!(oom && record.oom_killed, "{record:?}");
    assert_eq!(record.code, 137);
    bed.finish();
}
