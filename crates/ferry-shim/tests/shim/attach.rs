//! Attached clients.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use ferry_shim_proto::{Event, Request};

use crate::bed::{Bed, await_that, demultiplex, read_all, read_until, streams};

#[test]
fn early_clients_miss_nothing_in_either_framing() {
    let mut bed = Bed::sh("echo out; echo err >&2");
    let multiplexed = bed.early(streams(false, true));
    let raw = bed.early(streams(false, false));
    let mut only_err = streams(false, true);
    only_err.stdout = false;
    let only_err = bed.early(only_err);
    let bed = bed.start();
    assert_eq!(demultiplex(&read_all(multiplexed)), (b"out\n".to_vec(), b"err\n".to_vec()));
    let raw = read_all(raw);
    assert!(raw == b"out\nerr\n" || raw == b"err\nout\n", "{raw:?}");
    assert_eq!(read_all(only_err), b"\x02\0\0\0\0\0\0\x04err\n");
    bed.finish();
}

#[test]
fn stdin_ends_with_the_client_s_when_once() {
    let mut bed = Bed::new(&["cat"]).stdin(true);
    let mut input = streams(true, true);
    input.pending_input = b"first ".to_vec();
    let mut client = bed.early(input);
    let bed = bed.start();
    client.write_all(b"second").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(demultiplex(&read_all(client)).0, b"first second");
    assert_eq!(bed.finish().code, 0);
}

#[test]
fn stdin_stays_open_for_others_when_not_once() {
    let mut bed = Bed::new(&["cat"]).stdin(false).start();
    let mut first = bed.attach(streams(true, false));
    first.write_all(b"one\n").unwrap();
    assert_eq!(read_until(&mut first, "one\n"), "one\n");
    first.shutdown(Shutdown::Write).unwrap();
    // As in Docker, the end of its input detaches the client.
    assert_eq!(first.read(&mut [0; 8]).unwrap(), 0);
    let mut second = bed.attach(streams(true, false));
    second.write_all(b"two\n").unwrap();
    assert_eq!(read_until(&mut second, "two\n"), "two\n");
    bed.kill();
    bed.finish();
}

#[test]
fn without_open_stdin_the_process_reads_nothing() {
    let mut bed = Bed::sh("cat; echo end");
    let mut client = bed.early(streams(true, false));
    let bed = bed.start();
    let _ = client.write_all(b"ignored");
    assert_eq!(read_all(client), b"end\n");
    bed.finish();
}

#[test]
fn terminals_are_raw_resizable_and_left_by_keys() {
    let mut bed = Bed::sh("stty size; while read l; do echo got $l; stty size; done").tty().stdin(true);
    bed.launch.console_size = Some((24, 80));
    let mut client = bed.early(streams(true, false));
    let mut bed = bed.start();
    bed.subscribe();
    assert_eq!(read_until(&mut client, "24 80\r\n"), "24 80\r\n");
    bed.call(Request::Resize { exec: None, height: 50, width: 132 }).unwrap();
    client.write_all(b"a\x10b\n").unwrap();
    let text = read_until(&mut client, "50 132\r\n");
    assert!(text.contains("got a\u{10}b\r\n"), "{text:?}");
    client.write_all(b"c\x10").unwrap();
    client.write_all(b"\x11never").unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(bed.event(), Event::Detached { exec: None });
    // The container goes on and takes other clients.
    let mut client = bed.attach(streams(true, false));
    client.write_all(b"\n").unwrap();
    let text = read_until(&mut client, "got c\r\n");
    assert!(!text.contains("never"));
    assert!(bed.log().iter().all(|(stream, _)| stream == "stdout"));
    bed.kill();
    bed.finish();
}

#[test]
fn a_vanished_client_bothers_nobody() {
    let mut bed = Bed::sh("read x; echo one; read x; echo two").stdin(false).start();
    let gone = bed.attach(streams(false, true));
    let mut stays = bed.attach(streams(true, false));
    stays.write_all(b"\n").unwrap();
    read_until(&mut stays, "one\n");
    drop(gone);
    stays.write_all(b"\n").unwrap();
    assert_eq!(read_all(stays), b"two\n");
    bed.finish();
}

#[test]
fn much_input_passes_through_a_slow_reader() {
    let mut bed = Bed::sh("usleep 300000; wc -c").stdin(true);
    let mut client = bed.early(streams(true, false));
    let bed = bed.start();
    let block = vec![b'i'; 1 << 20];
    for _ in 0..5 {
        client.write_all(&block).unwrap();
    }
    // Gone as a sender and as a receiver at once would lose the answer, so only half.
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(client), b"5242880\n");
    bed.finish();
}

#[test]
fn input_of_a_client_that_left_at_once_is_not_lost() {
    let mut bed = Bed::sh("usleep 200000; wc -c").stdin(true);
    let mut client = bed.early(streams(true, false));
    let bed = bed.start();
    let sender = std::thread::spawn(move || client.write_all(&vec![b'i'; 600_000]).unwrap());
    sender.join().unwrap();
    let log = bed.log_path();
    let mut bed = bed;
    bed.exited();
    assert!(std::fs::read_to_string(log).unwrap().contains("600000"));
    bed.finish();
}

#[test]
fn a_process_that_does_not_read_stalls_only_its_client() {
    let mut bed = Bed::idle().stdin(true);
    let mut client = bed.early(streams(true, false));
    let mut bed = bed.start();
    client.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut sent = 0;
    while let Ok(n) = client.write(&[0; 65536]) {
        sent += n;
        assert!(sent < 4 << 20, "the shim swallows without bound");
    }
    // Its processor stays idle meanwhile.
    let busy = || crate::measure::cpu_ticks(bed.shim.pid);
    let before = busy();
    drop(client);
    std::thread::sleep(Duration::from_millis(300));
    assert!(busy() - before < 10, "the shim is spinning");
    await_that(|| bed.call(Request::State).is_ok());
    bed.kill();
    bed.finish();
}
